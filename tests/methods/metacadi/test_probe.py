"""Whom a variable may depend on by a curve, and what that promises."""

import numpy as np
import pytest

from bench.types import Environment, Observed
from methods.metacadi import probe
from methods.metacadi.evidence import Evidence, MixtureEvidence
from methods.metacadi.model import Priors
from methods.metacadi.probe import MOST_CANDIDATES, curved_candidates, promise

D = 8


def samples(curve, seed=0, n=300):
    """The last variable follows a curve of the first; the others have no causes."""
    X = np.random.default_rng(seed).normal(size=(n, D))
    X[:, -1] = curve(X[:, 0]) + 0.5 * X[:, -1]
    return X


def observed(X):
    return Observed((Environment(X[:200], is_observational=True), Environment(X[200:])))


NOTHING = np.zeros((D, D), dtype=bool)


@pytest.mark.parametrize("curve", [np.square, np.abs, np.cos, lambda x: np.tanh(3 * x) - x, lambda x: np.maximum(x, 1.0)])
def test_the_cause_of_a_curve_is_a_candidate(curve):
    for seed in range(5):
        assert curved_candidates(observed(samples(curve, seed)), NOTHING)[-1, 0]


def test_interventions_far_off_hide_no_curve():
    X = samples(np.square)
    X[200:, -1] += 1e3
    assert curved_candidates(observed(X), NOTHING)[-1, 0]


def test_candidates_are_few_and_neither_the_variable_nor_its_parents_nor_descendants():
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(D)
        graph = np.triu(rng.random((D, D)) < 0.3, 1)[np.ix_(order, order)]
        found = curved_candidates(observed(rng.normal(size=(300, D))), graph)
        below = np.linalg.matrix_power(np.eye(D) + graph, D) > 0  # itself and its descendants
        assert not (found & (below | graph.T)).any()
        assert (found.sum(axis=1) == np.minimum(MOST_CANDIDATES, (~(below | graph.T)).sum(axis=1))).all()


def test_a_constant_breaks_nothing():
    X = samples(np.square)
    X[:, 3] = 0.0
    found = curved_candidates(observed(X), NOTHING)
    assert found[-1, 0]


def test_many_variables_have_no_candidates(monkeypatch):
    monkeypatch.setattr(probe, "MOST_VARIABLES", D - 1)
    assert not curved_candidates(observed(samples(np.square)), NOTHING).any()


def test_a_promise_is_the_score_and_the_best_change_of_each_variable():
    X = np.random.default_rng(0).normal(size=(300, D))
    X[:, 1] += X[:, 0]
    evidence = MixtureEvidence([Evidence(observed(X), Priors())])
    own = sum(evidence.score(i, NOTHING[:, i]) for i in range(D))
    assert promise(evidence, NOTHING, NOTHING) == pytest.approx(own)
    candidates = NOTHING.copy()
    candidates[1, [0, 2]] = True
    gains = evidence.toggles(1, NOTHING[:, 1])[1]
    assert promise(evidence, NOTHING, candidates) == pytest.approx(own + gains[0])
    assert gains[0] > 10.0
    graph = NOTHING.copy()
    graph[3, 2] = True  # of which removal is the best change
    assert promise(evidence, graph, NOTHING) == pytest.approx(own)
