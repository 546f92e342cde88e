"""The simulator against closed forms of its equations, and what perturbations and technologies may and may not change."""

import numpy as np
import pytest
from scipy import stats

from bench import registry
from bench.errors import InputError
from bench.graphs import reachability
from bench.random_graphs import draw_graph
from datasets.gene_expression import simulator
from datasets.gene_expression.network import Network, Perturbations, draw_network
from datasets.gene_expression.simulator import Dynamics
from datasets.gene_expression.technical_noise import PROFILES, Measurement

DECAY = 0.8


def rng(seed=0):
    return np.random.default_rng(seed)


def network_of(edges, basal_rate, d):
    strength = np.zeros((d, d))
    for (i, j), k in edges.items():
        strength[i, j] = k
    return Network(strength, np.asarray(basal_rate, dtype=float), DECAY)


def hill(x, half, m=2):
    return x**m / (half**m + x**m)


def test_two_genes_without_noise_rest_at_the_closed_form():
    network = network_of({(0, 1): 3.0}, [[1.0, 0.0], [3.0, 0.0]], 2)
    still = Dynamics.of(network, rng(), amplitude=0.0)
    regulator = np.array([1.0, 3.0]) / DECAY
    expected = np.column_stack([regulator, 3.0 * hill(regulator, regulator.mean()) / DECAY])
    types = np.array([0, 1])
    np.testing.assert_allclose(still.half_response, expected.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(still.expression(types, np.ones(2), rng()), expected, rtol=1e-5)
    np.testing.assert_allclose(still.steady_state(types, np.ones(2)), expected, rtol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_three_layers_rest_at_the_closed_form_with_the_half_responses_of_the_unperturbed_system(factor):
    """Gene 0 activates 1 and represses 2, which 1 activates, in two cell types."""
    network = network_of({(0, 1): 2.0, (0, 2): -4.0, (1, 2): 1.5}, [[1.0, 0, 0], [2.0, 0, 0]], 3)
    still = Dynamics.of(network, rng(), amplitude=0.0)

    def states(factor, half=None):
        first = factor * np.array([1.0, 2.0]) / DECAY
        h0 = first.mean() if half is None else half[0]
        second = 2.0 * hill(first, h0) / DECAY
        h1 = second.mean() if half is None else half[1]
        third = (4.0 * (1 - hill(first, h0)) + 1.5 * hill(second, h1)) / DECAY
        return np.column_stack([first, second, third])

    half = states(1.0).mean(axis=0)
    np.testing.assert_allclose(still.half_response, half, rtol=1e-5)
    found = still.expression(np.array([0, 1]), np.array([factor, 1.0, 1.0]), rng())
    np.testing.assert_allclose(found, states(factor, half), rtol=1e-5)


@pytest.mark.parametrize(("noise", "share"), [("dpd", 1.0), ("sp", 0.5), ("spd", 2.0)])
def test_a_master_regulator_has_the_stationary_moments_of_its_langevin_equation(noise, share):
    """Mean b/λ; variance q²b/λ where production and decay shake it apart. Margins of four standard errors at 4,000 cells."""
    b, q, n = 2.0, 0.3, 4000
    dynamics = Dynamics.of(Network(np.zeros((1, 1)), np.full((1, 1), b), DECAY), rng(), amplitude=q, noise=noise)
    X = dynamics.expression(np.zeros(n, dtype=int), np.ones(1), rng(1))
    variance = share * q**2 * b / DECAY
    assert X.mean() == pytest.approx(b / DECAY, abs=4 * np.sqrt(variance / n))
    assert X.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / n))


def test_deep_layers_have_forgotten_their_start():
    """A cascade of eight genes: means and variances as after five times as many steps, within four standard errors."""
    edges = {(i, i + 1): 4.0 * (-1) ** i for i in range(7)}
    dynamics = Dynamics.of(network_of(edges, np.full((1, 8), 2.0), 8), rng())
    n, types = 1500, np.zeros(1500, dtype=int)
    usual = dynamics.expression(types, np.ones(8), rng(1))
    long = _with_steps(dynamics, 5 * dynamics.n_steps).expression(types, np.ones(8), rng(2))
    error = np.sqrt((usual.var(axis=0) + long.var(axis=0)) / n)
    assert (np.abs(usual.mean(axis=0) - long.mean(axis=0)) < 4 * error).all()
    ratio = usual.var(axis=0) / long.var(axis=0)
    assert (np.abs(np.log(ratio)) < 4 * np.sqrt(2 * (2 / n + (stats.kurtosis(long) / n).clip(0)))).all()


def _with_steps(dynamics, n_steps):
    class Longer(Dynamics):
        n_steps = property(lambda self: n_steps_)

    n_steps_ = n_steps
    return Longer(dynamics.network, dynamics.half_response, dynamics.amplitude, dynamics.noise)


def test_what_a_knockout_does_not_reach_keeps_its_distribution_and_what_it_reaches_moves():
    """Kolmogorov-Smirnov at level .001 on 600 cells for each gene that is no descendant; every child moves."""
    graph = draw_graph("scale_free_out", 12, 2.0, rng(3))
    dynamics = Dynamics.of(draw_network(graph, rng(4)), rng(5))
    types = np.tile(np.arange(10), 60)
    target = int(graph.sum(axis=1).argmax())
    factors = np.ones(12)
    factors[target] = 0.0
    before, after = dynamics.expression(types, np.ones(12), rng(6)), dynamics.expression(types, factors, rng(7))
    assert not after[:, target].any()
    p = np.array([stats.ks_2samp(before[:, j], after[:, j]).pvalue for j in range(12)])
    descendants = reachability(graph)[target]
    assert descendants.sum() >= 5
    assert (p[~descendants & (np.arange(12) != target)] > 0.001).all()
    assert (p[graph[target]] < 1e-6).all()


def test_knockouts_are_seen_beyond_their_children():
    """Mean shift of indirect descendants in unperturbed standard deviations, over 10 networks; and what noise alone makes."""
    shifts, floor = [], []
    for seed in range(10):
        graph = draw_graph("scale_free_out", 20, 2.0, rng(seed))
        dynamics = Dynamics.of(draw_network(graph, rng(100 + seed)), rng(200 + seed))
        types = np.tile(np.arange(10), 10)
        before, again = (dynamics.expression(types, np.ones(20), rng(s + seed)) for s in (300, 400))
        target = int(graph.sum(axis=1).argmax())
        factors = np.ones(20)
        factors[target] = 0.0
        after = dynamics.expression(types, factors, rng(500 + seed))
        indirect = reachability(graph)[target] & ~graph[target]
        indirect[target] = False
        shifts += list(np.abs(after.mean(axis=0) - before.mean(axis=0))[indirect] / before.std(axis=0)[indirect])
        floor += list(np.abs(again.mean(axis=0) - before.mean(axis=0)) / before.std(axis=0))
    assert np.mean(shifts) > 0.4
    assert np.mean(floor) < 0.15


def test_statistics_do_not_depend_on_how_many_cells_are_asked_for(monkeypatch):
    """Few cells and many, in one go and in small chunks: Kolmogorov-Smirnov at level .001 for each of six genes."""
    dynamics = Dynamics.of(draw_network(draw_graph("chain", 6, 1.0, rng()), rng(1)), rng(2))
    types = np.tile(np.arange(10), 100)
    many = dynamics.expression(types, np.ones(6), rng(3))
    few = np.concatenate([dynamics.expression(types[:10], np.ones(6), rng(10 + k)) for k in range(100)])
    monkeypatch.setattr(simulator, "_CHUNK_MEMORY", 4 * 7 * dynamics.n_steps * 6)
    chunks = dynamics.expression(types, np.ones(6), rng(4))
    for other in (few, chunks):
        assert min(stats.ks_2samp(many[:, j], other[:, j]).pvalue for j in range(6)) > 0.001


def test_rows_of_factors_perturb_their_own_cells():
    dynamics = Dynamics.of(network_of({(0, 1): 3.0}, np.full((2, 2), 2.0), 2), rng(), amplitude=0.0)
    X = dynamics.expression(np.array([0, 0, 1]), np.array([[1.0, 1.0], [0.0, 1.0], [0.5, 0.0]]), rng())
    np.testing.assert_allclose(X[:, 0], [2.0 / DECAY, 0.0, 1.0 / DECAY], rtol=1e-5)
    assert X[0, 1] > X[1, 1] == X[2, 1] == 0.0


def test_regulators_act_as_the_hill_function_says_at_its_ends():
    """Where a regulator is absent, an activator produces nothing and a repressor everything."""
    for strength, expected in ((3.0, 0.0), (-3.0, 3.0 / DECAY)):
        dynamics = Dynamics.of(network_of({(0, 1): strength}, [[2.0, 0.0]], 2), rng(), amplitude=0.0)
        assert dynamics.steady_state(np.array([0]), np.array([0.0, 1.0]))[0, 1] == pytest.approx(expected)


def test_signs_and_sizes_are_drawn_as_asked():
    graph = np.triu(np.ones((60, 60), dtype=bool), 1)
    network = draw_network(graph, rng(), activation=(0.2588, 0.2499), strength=(1.0, 5.0), basal_rate=(1.0, 3.0))
    assert (network.adjacency() == graph).all()
    assert 1 <= np.abs(network.strength[graph]).min() < np.abs(network.strength[graph]).max() <= 5
    share = np.array([(row[row != 0] > 0).mean() for row in network.strength[:40]])
    assert (np.minimum(share, 1 - share) < 0.1).mean() > 0.4  # most regulators nearly always do the same
    assert 0.25 < share.mean() < 0.75
    always = draw_network(graph, rng(), activation=(1e6, 1e-3))
    assert (always.strength[graph] > 0).all()


def test_one_kind_of_perturbation_is_drawn_for_all_targets_of_an_environment():
    drawn = [
        Perturbations({"knockout": 1.0, "knockdown": 1.0, "overexpression": 2.0}).draw(None, np.array([1, 4]), rng(seed))
        for seed in range(400)
    ]
    assert all(set(changes) == {1, 4} and len(set(changes.values())) == 1 for changes in drawn)
    share = {factor: np.mean([changes[1] == factor for changes in drawn]) for factor in (0.0, 0.5, 2.0)}
    assert share == pytest.approx({0.0: 0.25, 0.5: 0.25, 2.0: 0.5}, abs=0.09)  # 3.5 standard errors


@pytest.mark.parametrize("technology", PROFILES)
def test_every_technology_counts_molecules_and_leaves_a_knockout_at_zero(technology):
    expression = rng().gamma(2.0, 1.0, (300, 20))
    measure = Measurement.of(technology, expression, rng(1))
    perturbed = expression.copy()
    perturbed[:, 3] = 0.0
    counts = measure(perturbed, rng(2))
    assert counts.shape == (300, 20)
    assert (counts == np.rint(counts)).all()
    assert (counts >= 0).all()
    assert not counts[:, 3].any()
    assert counts.any()
    again = measure(perturbed, rng(2))
    assert (again == counts).all()
    assert not measure(np.zeros((2, 20)), rng(3)).any()


def test_technical_noise_has_the_library_sizes_and_dropouts_of_its_profile():
    """Without dropout the log library size is normal, within four standard errors; the share of zeros is its percentile."""
    expression = rng().gamma(2.0, 1.0, (4000, 30))
    profile = PROFILES["10x-1"]
    whole = Measurement(profile, np.ones(30), dropout_middle=-100.0)
    logs = np.log(whole(expression, rng(1)).sum(axis=1))
    assert logs.mean() == pytest.approx(profile.library_mean, abs=4 * profile.library_deviation / np.sqrt(4000) + 0.002)
    assert logs.std() == pytest.approx(profile.library_deviation, rel=0.06)
    measure = Measurement.of("10x-1", expression, rng(2))
    zeros = (measure(expression, rng(3)) == 0).mean()
    assert zeros == pytest.approx(0.74, abs=0.03)


def test_outlier_genes_are_rare_and_keep_their_factor():
    factors = np.concatenate([Measurement.of("10x-1", np.ones((5, 2000)), rng(s)).gene_factor for s in range(5)])
    assert (factors != 1).mean() == pytest.approx(0.01, abs=0.004)  # four standard errors
    assert np.log(factors[factors != 1]).mean() == pytest.approx(3.0, abs=0.4)


def test_cell_types_are_mixed_alike_in_every_environment():
    """Two basal rates far apart and no noise: any two cells in a row are one of each type."""
    problem = registry.make_problem(
        "gene_expression[n_variables=2,edges=[],n_cell_types=2,amplitude=0.0,n_observational=40,n_per_environment=40]", seed=0
    )
    for environment in problem.observed.environments:
        kinds = environment.X[:, 0].round(3) if environment.X[:, 0].any() else environment.X[:, 1].round(3)
        pairs = kinds.reshape(-1, 2)
        assert len(set(map(tuple, np.sort(pairs, axis=1)))) == 1
        assert len(set(pairs[:, 0])) == 2


def test_a_given_graph_is_the_truth():
    problem = registry.make_problem("gene_expression[n_variables=4,edges=[[2,0],[0,3]]]", seed=1)
    assert np.argwhere(problem.truth.adjacency).tolist() == [[0, 3], [2, 0]]
    assert problem.observed.n_environments == 11


def test_unseen_genes_alone_are_held_out():
    problem = registry.make_problem("gene_expression[n_held_out=6,held_out_genes=unseen,n_environments=8]", seed=2)
    hit = problem.truth.targets.any(axis=0)
    assert not any((h.targets & hit).any() for h in problem.held_out)
    assert all(h.targets.sum() == 1 for h in problem.held_out)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("edges=[[0,9]],n_variables=3", r"pairs of different genes from 0 to 2, got \[0, 9\]"),
        ("edges=[[0,1],[1,0]],n_variables=3", "acyclic graph, got a cycle"),
        ("edges=[[1,1]],n_variables=3", "pairs of different genes"),
        ("n_variables=3,edges_per_node=1.0,n_targets=3,n_held_out=1,held_out_genes=unseen", "training leaves 0 variables"),
        ("technical_noise=10x-9", "technical_noise"),
        ("interventions=knockin", "interventions"),
        ("knockdown=0.0", "knockdown"),
    ],
)
def test_what_cannot_be_says_so_in_one_line(parameters, message):
    with pytest.raises(InputError, match=message) as caught:
        registry.make_problem(f"gene_expression[{parameters}]", seed=0)
    assert "\n" not in str(caught.value)
