"""What breaks everyone's assumptions: each factor against its closed form, and that it changes itself alone."""

import numpy as np
import pytest

from bench import registry
from bench.errors import InputError
from bench.interventions import Interventions
from bench.scm import SOURCE, Linear, LinearModel, Node, StructuralModel
from datasets.synthetic.stress import Drifting, with_heteroscedastic_noise, with_hidden_cause

N = 40_000
SMALL = "synthetic[n_variables=6,n_observational=200,n_environments=4,n_per_environment=30,n_held_out=2,n_query=20"
STRENGTHS = ["confounding=0.5", "heteroscedasticity=0.5", "drift=0.3", "escape=0.5", "measurement_error=0.5", "mislabelled=0.5"]


def rng(seed=0):
    return np.random.default_rng(seed)


def chain(d=5):
    nodes = [Node(np.array([], dtype=int), SOURCE, noise_variance=2.0)]
    nodes += [Node(np.array([j - 1]), Linear(np.array([0.8]), 1.0), noise_variance=1.0 + j) for j in range(1, d)]
    return LinearModel(tuple(nodes), np.arange(d))


def test_a_hidden_cause_correlates_the_noises_of_half_of_the_variables_and_keeps_their_variances():
    """Against the exact covariance: five standard errors of each product of deviations."""
    model = with_hidden_cause(chain(), 0.6, rng(1))
    loading = np.array([node.hidden_loading for node in model.nodes])
    assert (loading != 0).sum() == 3
    assert np.abs(loading[loading != 0]) == pytest.approx(np.sqrt(0.6))
    X = model.sample(N, rng(2))
    noise = X - X @ model.weights()
    correlation = np.corrcoef(noise.T)
    expected = np.outer(loading, loading)
    np.fill_diagonal(expected, 1.0)
    assert np.abs(correlation - expected).max() < 5 / np.sqrt(N)
    assert noise.var(axis=0) == pytest.approx([2.0, 2, 3, 4, 5], rel=5 * np.sqrt(2 / N))
    mean, covariance = model.population()
    products = X[:, :, None] * X[:, None, :]
    assert np.all(np.abs(products.mean(axis=0) - covariance) < 5 * products.std(axis=0) / np.sqrt(N))
    assert not mean.any()


def test_a_hard_intervention_cuts_the_hidden_cause_and_a_shift_does_not():
    model = with_hidden_cause(chain(), 0.9, rng(1))
    hit = int(np.flatnonzero([node.hidden_loading for node in model.nodes])[0])
    for kind, kept in (("hard", False), ("shift", True)):
        changed = model.intervened(Interventions(kind).draw(model, [hit], rng()))
        assert bool(changed.nodes[hit].hidden_loading) == kept


def test_two_variables_are_enough_for_a_hidden_cause():
    model = with_hidden_cause(chain(2), 0.5, rng())
    assert all(node.hidden_loading for node in model.nodes)
    assert with_hidden_cause(chain(1), 0.5, rng()).sample(3, rng()).shape == (3, 1)


def test_heteroscedastic_noise_keeps_its_mean_variance_and_grows_with_the_signal():
    """x1 = .8 x0 + e: Var(e | x0) = 2 (1 - s + s x0²/2); slope and mean of e² on x0² within five standard errors.

    The pilot knows the variance of x0 to sqrt(2 / 1000), which the margins contain."""
    share = 0.6
    model = with_heteroscedastic_noise(chain(2), share, rng(4))
    assert not isinstance(model, LinearModel)
    X = model.sample(N, rng(5))
    squared, signal = (X[:, 1] - 0.8 * X[:, 0]) ** 2 / 2.0, X[:, 0] ** 2 / 2.0
    design = np.column_stack([np.ones(N), signal])
    slope = np.linalg.lstsq(design, squared, rcond=None)[0]
    assert slope == pytest.approx([1 - share, share], abs=0.15)
    assert squared.mean() == pytest.approx(1.0, abs=5 * squared.std() / np.sqrt(N) + share * np.sqrt(2 / 1000) * 3)
    assert X[:, 0].var() == pytest.approx(2.0, rel=5 * np.sqrt(2 / N))  # a source stays


def test_heteroscedastic_mechanisms_change_as_those_that_they_wrap():
    model = with_heteroscedastic_noise(chain(2), 0.5, rng())
    wrapped = model.nodes[1].mechanism
    assert wrapped.default_perturbation == chain(2).nodes[1].mechanism.default_perturbation
    moved = wrapped.perturbed(1.0, rng())
    assert moved.mechanism.weights == pytest.approx([1.8])
    assert (moved.share, moved.centre, moved.spread) == (wrapped.share, wrapped.centre, wrapped.spread)
    assert type(wrapped.redrawn(rng())) is type(wrapped)


def test_drift_moves_mean_and_spread_of_every_non_target_by_its_size_and_leaves_the_targets():
    """Over 2000 environments, shift and log spread are N(0, size²): five standard errors of mean and deviation."""
    model, size, draws = chain(), 0.3, 2000
    generator, plain = rng(6), Interventions("shift", {"shift": 1.0})
    shifts, growths = [], []
    for _ in range(draws):
        changes = Drifting(plain, size).draw(model, np.array([2]), generator)
        assert set(changes) == {0, 1, 2, 3, 4}
        assert (changes[2].offset, changes[2].noise_variance) == (1.0, model.nodes[2].noise_variance)
        others = [(model.nodes[j], changes[j]) for j in (0, 1, 3, 4)]
        assert all(after.mechanism is before.mechanism for before, after in others)
        shifts += [after.offset / np.sqrt(before.noise_variance) for before, after in others]
        growths += [0.5 * np.log(after.noise_variance / before.noise_variance) for before, after in others]
    n = 4 * draws
    for values in (shifts, growths):
        assert abs(np.mean(values)) < 5 * size / np.sqrt(n)
        assert np.std(values) == pytest.approx(size, rel=5 / np.sqrt(2 * n))
    assert abs(np.corrcoef(shifts, growths)[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("mechanism", ["linear", "mlp_bacadi", "dcdi_nonadditive"])
def test_a_factor_changes_neither_graph_nor_targets_nor_sizes(strength, mechanism):
    spec = f"{SMALL},mechanism={mechanism},interventions=mixture,n_targets=2"
    plain, changed = (registry.make_problem(s, seed=5) for s in (f"{spec}]", f"{spec},{strength}]"))
    assert np.array_equal(plain.truth.adjacency, changed.truth.adjacency)
    assert np.array_equal(plain.truth.targets, changed.truth.targets)
    assert [e.n_samples for e in plain.observed.environments] == [e.n_samples for e in changed.observed.environments]
    assert all(np.array_equal(a.targets, b.targets) for a, b in zip(plain.held_out, changed.held_out, strict=True))
    assert plain.fingerprint != changed.fingerprint


@pytest.mark.parametrize("strength", [s.split("=")[0] + "=0" for s in STRENGTHS])
def test_strength_zero_is_the_very_same_problem(strength):
    assert (
        registry.make_problem(f"{SMALL}]", seed=5).fingerprint
        == registry.make_problem(f"{SMALL},{strength}]", seed=5).fingerprint
    )


def test_drift_spares_the_observational_environment_and_wrong_labels_spare_the_samples():
    plain, drifted, wrong = (registry.make_problem(f"{SMALL}{s}]", seed=5) for s in ("", ",drift=1", ",mislabelled=1"))
    assert np.array_equal(plain.observed.environments[0].X, drifted.observed.environments[0].X)
    assert not np.array_equal(plain.observed.environments[1].X, drifted.observed.environments[1].X)
    assert np.array_equal(plain.observed.pooled(), wrong.observed.pooled())
    assert not (wrong.truth.told_targets & wrong.truth.targets).any()


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("confounding=1", "less than 1"),
        ("confounding=-0.1", "greater than or equal to 0"),
        ("heteroscedasticity=1.5", "less than or equal to 1"),
        ("drift=-1", "greater than or equal to 0"),
        ("escape=2", "less than or equal to 1"),
        ("measurement_error=-1", "greater than or equal to 0"),
        ("mislabelled=1.1", "less than or equal to 1"),
    ],
)
def test_impossible_strengths_are_one_line(parameter, message):
    with pytest.raises(InputError, match=message) as caught:
        registry.make_problem(f"synthetic[{parameter}]", seed=0)
    assert "\n" not in str(caught.value)


# Gene expression ------------------------------------------------------------------------------------------------------

CELLS = "n_variables=3,edges=[],n_cell_types=2,amplitude=0.0,n_observational=100,n_environments=6,n_per_environment=2000"


def test_the_mix_of_cell_types_moves_by_its_strength_in_environments_and_not_without_intervention():
    """No noise and two types: the share of the prevailing type is (1 + s) / 2, within five binomial standard errors."""
    problem = registry.make_problem(f"gene_expression[{CELLS},cell_type_shift=0.6]", seed=2)
    shares = []
    for environment, targets in zip(problem.observed.environments, problem.truth.targets, strict=True):
        values = environment.X[:, ~targets][:, 0].round(3)
        kinds, counts = np.unique(values, return_counts=True)
        assert len(kinds) == 2
        shares.append(counts.max() / counts.sum())
    assert shares[0] == 0.5
    assert shares[1:] == pytest.approx([0.8] * 6, abs=5 * np.sqrt(0.25 / 2000))


def test_a_shift_of_cell_types_keeps_network_perturbations_and_unperturbed_cells():
    plain, shifted = (registry.make_problem(f"gene_expression[{CELLS}{s}]", seed=2) for s in ("", ",cell_type_shift=1"))
    assert np.array_equal(plain.truth.targets, shifted.truth.targets)
    assert np.array_equal(plain.observed.environments[0].X, shifted.observed.environments[0].X)
    whole = [np.ptp(e.X.round(3), axis=0).max() for e in shifted.observed.environments[1:]]
    assert whole == [0.0] * 6  # one type alone


def test_cells_that_escape_keep_their_gene():
    """A knocked-out gene is absent but in cells that escaped: five binomial standard errors."""
    problem = registry.make_problem(f"gene_expression[{CELLS},escape=0.25]", seed=2)
    for environment, targets in list(zip(problem.observed.environments, problem.truth.targets, strict=True))[1:]:
        assert (environment.X[:, targets] > 0).mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / 2000))


def test_a_model_with_stress_is_still_a_model():
    assert isinstance(with_heteroscedastic_noise(chain(), 0.5, rng()), StructuralModel)
    assert isinstance(with_hidden_cause(chain(), 0.5, rng()), LinearModel)
