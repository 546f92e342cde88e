"""Learned hidden units: the differentiable closed form, and what learning does to the evidence."""

import sys

import numpy as np
import pytest
import torch

from bench.errors import MissingDependency
from bench.types import Budget, Environment, Observed
from methods.metacadi.joint import JointFeatures, random_units
from methods.metacadi.learned import (
    ROUGHLY,
    Amplitude,
    ClosedForm,
    WeightedSets,
    fit_learned,
    joint_mixture,
    learn_units,
    parent_sets,
)
from methods.metacadi.model import Priors, shared_posterior
from methods.metacadi.search import sample_graphs

PRIORS = Priors()
AMPLITUDES = (Amplitude(1.0, 2.0), Amplitude(0.1, 2.0))
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def draw(seed, sizes=(120, 30, 30, 30), d=4):
    """Two causes, two effects with kinks at the same slanted lines; targets shift."""
    rng = np.random.default_rng(seed)
    environments = []
    for e, n in enumerate(sizes):
        X = 0.3 * rng.normal(size=(n, d))
        X[:, :2] *= 4.0
        for j in range(2, d):
            X[:, j] += np.abs(X[:, 0] + X[:, 1] - 0.5) - np.abs(X[:, 0] - X[:, 1]) * (j - 1) / 2
        if e:
            X[:, e % d] += 3.0
        environments.append(Environment(X, is_observational=e == 0))
    return Observed(tuple(environments))


def sets_of(*parents, d=4):
    """One parent set for each variable, from lists."""
    return [WeightedSets(np.isin(np.arange(d), p)[None], np.ones(1)) for p in parents]


TRUE_SETS = sets_of([], [], [0, 1], [0, 1])


def test_closed_form_is_the_log_evidence_of_the_model():
    """To 1e-8, with fixed weights of environments, parent sets of several sizes side by side, averaged over amplitudes."""
    observed, rng = draw(0), np.random.default_rng(1)
    units = random_units(4, 5, rng)
    variables, parents = np.array([2, 3, 0]), np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    keep = np.column_stack([np.ones(3), rng.random((3, 3))])
    closed = ClosedForm(observed, PRIORS, AMPLITUDES, dtype=torch.float64)
    got, *_ = closed(units.weights, units.biases, variables, parents, keep)
    features = JointFeatures(observed, units, precision=np.float64)
    for b, (i, p) in enumerate(zip(variables, parents, strict=True)):
        gram = np.einsum("e,eab->ab", keep[b], features.summary(observed.environments).regression(i, np.flatnonzero(p)))
        n = keep[b] @ [e.n_samples for e in observed.environments]
        each = []
        for amplitude in AMPLITUDES:
            relative = np.array([1.0] * (1 + p.sum()) + [amplitude.relative_precision] * (len(gram) - 2 - p.sum()))
            priors = Priors(slope_precision=0.1 * amplitude.slope_factor)
            each.append(shared_posterior(gram, n, priors, relative=relative, n_parents=int(p.sum())).log_evidence)
        assert got[b] == pytest.approx(np.logaddexp(*each) - np.log(2), abs=1e-8)


def test_gradient_of_the_closed_form_is_that_of_finite_differences():
    """Central differences of step 1e-5: relative error below 1e-6."""
    observed, rng = draw(0), np.random.default_rng(1)
    units = random_units(4, 3, rng)
    closed = ClosedForm(observed, PRIORS, AMPLITUDES, dtype=torch.float64)
    batch = (
        np.array([2, 3]),
        np.array([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=bool),
        np.column_stack([np.ones(2), rng.random((2, 3))]),
    )
    _, of_weights, of_biases = closed(units.weights, units.biases, *batch)
    for gradient, place in ((of_weights, (2, 0, 1)), (of_weights, (3, 2, 0)), (of_biases, (2, 1))):
        ends = []
        for step in (1e-5, -1e-5):
            weights, biases = units.weights.copy(), units.biases.copy()
            (weights if gradient is of_weights else biases)[place] += step
            ends.append(closed(weights, biases, *batch)[0].sum())
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
    assert (of_weights[2, :, 3] == 0).all(), "of variables that are no parents"


def test_some_samples_stand_for_all():
    """Whichever order they come in; twice as many as there are, each twice, weigh half."""
    observed, rng = draw(0), np.random.default_rng(1)
    units, n = random_units(4, 3, rng), sum(e.n_samples for e in observed.environments)
    closed = ClosedForm(observed, PRIORS, AMPLITUDES, dtype=torch.float64)
    batch = units.weights, units.biases, np.array([2]), np.array([[1, 1, 0, 0]], dtype=bool), np.ones((1, 4))
    for got in (closed(*batch, samples=rng.permutation(n)), closed(*batch, samples=np.repeat(rng.permutation(n), 2))):
        for one, other in zip(got, closed(*batch), strict=True):
            assert one == pytest.approx(other, rel=1e-8, abs=1e-8)


def learn(observed, sets, n_units=4, seed=0, **options):
    start = random_units(observed.n_variables, n_units, np.random.default_rng(5))
    options = {"n_steps": 60, **options}
    return start, learn_units(observed, PRIORS, AMPLITUDES, sets, start, rng=np.random.default_rng(seed), **options)


def value(observed, units, i, parents):
    return joint_mixture(observed, PRIORS, units, AMPLITUDES).score(i, np.isin(np.arange(4), parents))


def test_learning_raises_the_evidence_of_what_it_has_not_seen():
    """The parents of a variable that took no part, and those of fresh samples, gain 20 nats and more."""
    observed, fresh = draw(0), draw(1)
    sets = [*TRUE_SETS[:3], WeightedSets(np.zeros((0, 4), dtype=bool), np.zeros(0))]
    start, units = learn(observed, sets, n_steps=50)
    for data, i in ((observed, 2), (observed, 3), (fresh, 2), (fresh, 3)):
        assert value(data, units, i, [0, 1]) > value(data, start, i, [0, 1]) + 20


def test_learning_is_fair_to_other_parent_sets():
    """Units learned for a wrong graph raise the evidence of the right parents more: single changes take part."""
    observed = draw(0)
    start, units = learn(observed, sets_of([], [], [0], [1]), n_steps=50, n_toggles=3)
    for i, wrong in ((2, [0]), (3, [1])):
        gained = {tuple(p): value(observed, units, i, p) - value(observed, start, i, p) for p in (wrong, [0, 1])}
        assert gained[0, 1] > gained[tuple(wrong)]


@pytest.mark.parametrize("device", DEVICES)
def test_learning_depends_on_its_generator_alone(device):
    """Twice the same, bit for bit on one device, to 1 nat across devices; torch's own random state stays as it was."""
    observed = draw(0)
    before = torch.random.get_rng_state()
    (_, one), (_, other) = (learn(observed, TRUE_SETS, device=device) for _ in range(2))
    assert np.array_equal(one.weights, other.weights)
    assert np.array_equal(one.biases, other.biases)
    assert torch.equal(before, torch.random.get_rng_state())
    _, on_cpu = learn(observed, TRUE_SETS, device="cpu")
    assert value(observed, one, 2, [0, 1]) == pytest.approx(value(observed, on_cpu, 2, [0, 1]), abs=1.0)
    _, another = learn(observed, TRUE_SETS, seed=1, device=device)
    assert not np.array_equal(one.weights, another.weights)


def test_one_network_serves_all_variables_or_each_has_its_own():
    observed = draw(0)
    start, one = learn(observed, TRUE_SETS, tied=True)
    assert np.array_equal(one.weights[0], one.weights[3])
    _, own = learn(observed, TRUE_SETS, tied=False)
    assert not np.array_equal(own.weights[2], own.weights[3])
    assert value(observed, own, 2, [0, 1]) > value(observed, start, 2, [0, 1])


def test_an_expired_budget_leaves_the_units_as_they_were():
    start, units = learn(draw(0), TRUE_SETS, budget=Budget(0.0))
    assert np.array_equal(start.weights, units.weights)


def test_alternating_returns_the_evidence_of_its_own_graphs():
    observed, rng = draw(0), np.random.default_rng(2)
    budget_notes, tolerances = [], []

    def sample(evidence, tolerance):
        tolerances.append(tolerance)
        return sample_graphs(evidence, rng=rng, n_samples=20, tolerance=tolerance)

    first = sample(joint_mixture(observed, PRIORS, random_units(4, 4, rng), AMPLITUDES), None)
    evidence, posterior = fit_learned(
        observed,
        PRIORS,
        AMPLITUDES,
        sample,
        first,
        rng=rng,
        n_units=4,
        n_rounds=2,
        n_steps=50,
        budget=Budget(progress=lambda share, note: budget_notes.append(note)),
    )
    score = sum(evidence.score(i, posterior.best[:, i]) for i in range(4))
    assert score == pytest.approx(posterior.best_score, abs=1e-6)
    assert "learning features" in budget_notes
    assert tolerances[1:] == [ROUGHLY, None], "only the answer needs precision"


def test_a_round_that_the_budget_ends_leaves_what_was_found_before():
    """An unfinished search would answer with hardly an edge."""
    observed, rng = draw(0), np.random.default_rng(2)
    first = sample_graphs(joint_mixture(observed, PRIORS, random_units(4, 4, rng), AMPLITUDES), rng=rng, n_samples=20)
    evidence, posterior = fit_learned(
        observed, PRIORS, AMPLITUDES, lambda *_: pytest.fail("no time to sample"), first, rng=rng, n_units=4, budget=Budget(0.0)
    )
    assert evidence is None
    assert posterior.cut_short
    assert np.array_equal(posterior.graph_samples, first.graph_samples)


def test_parent_sets_of_a_posterior_are_weighted_by_their_samples():
    observed = draw(0)
    posterior = sample_graphs(
        joint_mixture(observed, PRIORS, random_units(4, 4, np.random.default_rng(0)), AMPLITUDES),
        rng=np.random.default_rng(0),
        n_samples=30,
    )
    for i, of_variable in enumerate(parent_sets(posterior, most=30)):
        assert of_variable.weights.sum() == pytest.approx(1.0)
        expected = posterior.graph_samples[:, :, i].mean(axis=0)
        assert np.allclose(of_variable.weights @ of_variable.parents, expected)
    for all_sets, few in zip(parent_sets(posterior, most=30), parent_sets(posterior, most=1), strict=True):
        assert np.array_equal(few.parents[0], all_sets.parents[all_sets.weights.argmax()])
        assert few.weights == [1.0]


def test_huge_values_and_a_lonely_variable_do_not_stop_learning():
    """Columns that repeat each other a hundred thousand times as large leave Gram matrices of single precision indefinite."""
    observed = draw(0)
    repeated = np.array([[1e5, 1.1e5, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    huge = Observed(tuple(Environment(e.X @ repeated, is_observational=e.is_observational) for e in observed.environments))
    _, units = learn(huge, TRUE_SETS)
    assert np.isfinite(units.weights).all()
    alone = Observed(tuple(Environment(e.X[:, :1], is_observational=e.is_observational) for e in observed.environments))
    start, units = learn(alone, sets_of([], d=1))
    assert np.isfinite(units.weights).all()
    assert units.weights.shape == start.weights.shape


def test_without_torch_there_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="torch"):
        learn(draw(0), TRUE_SETS)
