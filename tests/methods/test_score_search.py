"""Score search plus tests: the score against least squares, orientation by targets, and the package behind ``search=flop``."""

from __future__ import annotations

import sys
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from awkward_data import degenerate
from hypothesis import given
from strategies import dags

from bench.errors import InputError, MissingDependency
from bench.gaussian import environment_moments, merge_centred, moments
from bench.graphs import are_acyclic, cpdag, interventional_essential_graph, shd
from bench.orders import Memoised, OrderSearch, adjacency, mask_of, members
from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
from bench.types import Budget, Environment, Observed
from methods.score_search import CentredBIC, Changes, edge_scores, fewest_changes

# 0 -> 1 -> 2 <- 3, 3 -> 4
DAG = np.zeros((5, 5), dtype=bool)
DAG[[0, 1, 3, 3], [1, 2, 2, 4]] = True
TARGETS = [set(), {0}, {1}, {2}, {3}, {4}, {1, 3}]


def sample(rng: np.random.Generator, n: int, targets: set[int], kind: str = "shift") -> np.ndarray:
    """Weights 1.2, noise N(0, 1); a target is set to, or shifted by, 3."""
    X = np.zeros((n, 5))
    for j in (0, 1, 3, 2, 4):
        X[:, j] = X @ (1.2 * DAG[:, j] * (kind == "shift" or j not in targets))
        X[:, j] += rng.normal(size=n) + 3.0 * (j in targets)
    return X


def problem(targets: list[set[int]], n: int = 100, seed: int = 0, kind: str = "shift", known: bool = True) -> Observed:
    rng = np.random.default_rng(seed)
    return Observed(tuple(Environment(sample(rng, n, t, kind), (not t) if known else None) for t in targets))


def fit(observed: Observed, spec: str = "score_search", seed: int = 0, budget: Budget | None = None):
    return make_method(spec).fit(observed, rng=np.random.default_rng(seed), budget=budget)


def prepared(spec: str, seed: int):
    """Standardised, shuffled data as the runner gives them, with the true graph and targets in the same order."""
    found = prepare(make_problem(spec, seed=seed), seed=seed).problem
    return found.observed, found.truth.adjacency, found.truth.targets


def shifted_samples(seed: int, d: int = 4) -> Observed:
    rng = np.random.default_rng(seed)
    W = np.triu(rng.uniform(0.5, 1.5, (d, d)) * (rng.random((d, d)) < 0.6), 1)
    total = np.linalg.inv(np.eye(d) - W)
    return Observed(tuple(Environment((rng.normal(size=(30, d)) + 3 * rng.normal(size=d)) @ total) for _ in range(3)))


# The graph


@pytest.mark.parametrize("parents", [[], [1], [0, 1, 2]])
def test_the_score_is_that_of_least_squares_with_an_intercept_for_each_environment(parents):
    observed = shifted_samples(0)
    X = observed.pooled()
    intercepts = np.kron(np.eye(3), np.ones((30, 1)))
    design = np.column_stack([X[:, parents], intercepts])
    residual = X[:, 3] - design @ np.linalg.lstsq(design, X[:, 3], rcond=None)[0]
    variance = residual @ residual / 90
    expected = -45 * (np.log(2 * np.pi * variance) + 1) - 0.5 * 2.0 * np.log(90) * (len(parents) + 3 + 1)
    score = CentredBIC(merge_centred(environment_moments(observed)), penalty=2.0)
    assert score(3, sum(1 << i for i in parents)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n", [12, 40, 300])
def test_the_kernel_chooses_the_parents_that_one_score_after_another_would_choose(n):
    """Also among constants and copies, where another choice is as good."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        W = np.triu(rng.uniform(0.3, 1.5, (8, 8)) * (rng.random((8, 8)) < 0.5), 1)
        X = rng.normal(size=(n, 8)) @ np.linalg.inv(np.eye(8) - W)
        if seed % 2:
            X[:, 1], X[:, 2], X[:, 3] = X[:, 0], 1.0, X[:, 4] - 2 * X[:, 5]
        score = CentredBIC(moments(X), penalty=1.0)
        for _ in range(20):
            j = int(rng.integers(8))
            allowed = mask_of(rng.random(8) < 0.7) & ~(1 << j)
            mask = allowed & mask_of(rng.random(8) < 0.4)
            fast, slow = score.choose_parents(j, mask, allowed), Memoised.choose_parents(score, j, mask, allowed)
            assert fast == slow or (seed % 2 and score(j, fast) == pytest.approx(score(j, slow), abs=1e-8))
            assert not fast & ~allowed


def test_the_search_finds_the_best_of_all_graphs_on_nearly_all_draws():
    """543 graphs over four variables. Measured over 30 draws: all."""
    pairs = ~np.eye(4, dtype=bool)
    graphs = np.zeros((2**12, 4, 4), dtype=bool)
    graphs[:, pairs] = list(product([False, True], repeat=12))
    graphs = graphs[are_acyclic(graphs)]
    hits = 0
    for seed in range(30):
        score = CentredBIC(merge_centred(environment_moments(shifted_samples(seed))), penalty=1.0)
        search = OrderSearch(score, 4, np.random.default_rng(seed))
        found = search.run(10).score
        optimum = max(sum(search.local_score(j, mask_of(g[:, j])) for j in range(4)) for g in graphs)
        assert found <= optimum + 1e-8
        hits += found >= optimum - 1e-8
    assert hits >= 28


def test_shifts_alone_make_no_edge():
    rng = np.random.default_rng(0)
    observed = Observed(tuple(Environment(rng.normal(size=(50, 3)) + 10 * e, e == 0) for e in range(4)))
    assert not fit(observed).estimate.point_graph.any()


def test_without_orientation_the_answer_is_a_class():
    observed = problem(TARGETS, n=200)
    estimate = fit(observed, "score_search[orientation=none]").estimate
    assert estimate.graph_kind == "cpdag"
    assert (estimate.point_graph == cpdag(DAG)).all()
    np.testing.assert_allclose(estimate.edge_probability[[0, 1, 3, 4], [1, 0, 4, 3]], 0.5, atol=0.01)


# Orientation and targets


@given(dags(min_variables=2, max_variables=6))
def test_orientation_stays_in_the_class_and_never_ends_with_more_changes(graph):
    d = len(graph)
    rng = np.random.default_rng(int(graph.sum()))
    observed = Observed(
        tuple(Environment(rng.normal(size=(30, d)) + 2 * (rng.random(d) < 0.3), is_observational=e == 0) for e in range(4))
    )
    changes = Changes(observed, alpha=0.05)
    before = [mask_of(column) for column in graph.T]
    after = fewest_changes(before, changes, np.random.default_rng(0))
    assert (cpdag(adjacency(after)) == cpdag(graph)).all()
    n_changes = [sum(changes.amount(j, mask)[0] for j, mask in enumerate(parents)) for parents in (before, after)]
    assert n_changes[1] <= n_changes[0]


@pytest.mark.parametrize("kind", ["hard", "shift"])
@pytest.mark.parametrize("known", [True, False])
def test_graph_and_targets_of_a_clear_model_are_recovered(kind, known):
    """Errors over 5 draws of 200 samples per environment. Measured: 1 under hard
    interventions where none is known to be observational, else none."""
    wrong = 0
    for seed in range(5):
        estimate = fit(problem(TARGETS, n=200, seed=seed, kind=kind, known=known)).estimate
        wrong += shd(estimate.point_graph, DAG) + sum(
            len(set(np.flatnonzero(row)) ^ t) for row, t in zip(estimate.targets, TARGETS, strict=True)
        )
    assert wrong <= 5


def test_orientation_brings_the_answer_nearer_to_what_the_targets_identify():
    """Mean distance over 8 draws, to the I-essential graph. Measured: .5 with and 3.5 without."""
    spec = "synthetic[n_variables=8,edges_per_node=1.5,n_targets=[1,2],interventions=shift]"
    distance = {"targets": 0.0, "none": 0.0}
    for seed in range(8):
        observed, graph, targets = prepared(spec, seed)
        family = [np.flatnonzero(row).tolist() for row in targets]
        for orientation in distance:
            found = fit(observed, f"score_search[orientation={orientation}]").estimate.point_graph
            if orientation == "targets":
                found = interventional_essential_graph(found, family)
            distance[orientation] += shd(found, interventional_essential_graph(graph, family)) / 8
    assert distance["targets"] < 1 < distance["none"]


def test_no_change_is_called_more_often_than_the_level():
    """40 draws of 6 environments without any target: at most alpha of the environments on average, .05 here."""
    n_called = 0
    for seed in range(40):
        estimate = fit(problem([set()] * 6, n=40, seed=seed, known=False), "score_search[alpha=0.05]").estimate
        n_called += estimate.targets.any(axis=1).sum()
    assert n_called <= 0.05 * 240 + 3 * np.sqrt(240 * 0.05 * 0.95)


def test_observational_environments_and_a_single_one_have_no_targets():
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(50, 2)) + 5 * e for e in range(3)]
    observed = Observed(tuple(Environment(X, is_observational=e < 2) for e, X in enumerate(samples)))
    assert fit(observed).estimate.targets.any(axis=1).tolist() == [False, False, True]
    assert not fit(Observed((Environment(samples[0]),))).estimate.targets.any()


def test_edge_scores_give_the_sureness_of_an_adjacency_to_its_direction():
    probability = np.array([[0, 0.5, 0.01], [0.4, 0, 0.3], [0.02, 0.6, 0]])
    graph = np.array([[0, 1, 0], [0, 0, 1], [0, 1, 0]], dtype=bool)
    np.testing.assert_allclose(edge_scores(probability, graph), [[0, 0.9, 0.01], [0, 0, 0.45], [0.02, 0.45, 0]])


def test_the_answer_is_renamed_with_variables_and_environments():
    observed = problem(TARGETS, n=150)
    order, environments = np.array([3, 0, 4, 2, 1]), [2, 6, 0, 1, 5, 4, 3]
    renamed = observed.permuted(order)
    renamed = Observed(tuple(renamed.environments[e] for e in environments))
    plain, other = fit(observed).estimate, fit(renamed).estimate
    np.testing.assert_array_equal(other.point_graph, plain.point_graph[np.ix_(order, order)])
    np.testing.assert_allclose(other.edge_probability, plain.edge_probability[np.ix_(order, order)], atol=1e-6)
    np.testing.assert_allclose(other.target_probability, plain.target_probability[np.ix_(environments, order)], atol=1e-6)


def test_a_spent_budget_gives_a_graph_and_says_so():
    fitted = fit(problem(TARGETS, n=50), budget=Budget(seconds=0.0))
    assert fitted.cut_short
    fitted.estimate.check(len(TARGETS), 5)


# Hard input


@pytest.mark.parametrize("sizes", [(1,), (1, 1), (3, 1, 2), (8, 5, 5), (60, 3, 30)])
@pytest.mark.parametrize("known", [True, None])
def test_duplicates_constants_and_more_variables_than_samples_give_a_valid_answer(sizes, known):
    """Warnings are errors here."""
    estimate = fit(degenerate(sizes, known)).estimate
    estimate.check(len(sizes), 8)
    assert not estimate.point_graph[2].any()
    assert not estimate.point_graph[:, 2].any()
    assert not estimate.targets[:, 2].any()


@pytest.mark.parametrize("d", [1, 2])
def test_one_or_two_variables(d):
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(50, d)) + 4 * (e == 2) for e in range(4)]
    estimate = fit(Observed(tuple(Environment(X) for X in samples))).estimate
    assert estimate.targets.any(axis=1).tolist() == [False, False, True, False]
    assert not estimate.point_graph.any()


# search=flop: what the package gets, and what is made of its answer, by a stand-in of the same form


@pytest.fixture
def package(monkeypatch):
    calls = []

    def flop(data, lambda_bic, *, restarts):
        calls.append((data, lambda_bic, restarts))
        if not np.isfinite(data).all():
            raise RuntimeError("FLOP error:\nCholesky decomposition failed")
        undirected = cpdag(DAG) & cpdag(DAG).T
        return cpdag(DAG) + undirected.astype(int)

    monkeypatch.setitem(sys.modules, "flopsearch", SimpleNamespace(flop=flop))
    return calls


def test_the_package_gets_centred_standardised_samples_and_its_class_is_oriented_by_targets(package):
    estimate = fit(problem(TARGETS, n=200), "score_search[search=flop,penalty=1.5,patience=7]").estimate
    ((data, penalty, restarts),) = package
    assert (penalty, restarts) == (1.5, 7)
    np.testing.assert_allclose(data.reshape(7, 200, 5).mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(data.std(axis=0), 1)
    assert (estimate.point_graph == DAG).all()
    assert all(set(np.flatnonzero(row)) == t for row, t in zip(estimate.targets, TARGETS, strict=True))


def test_data_that_the_package_refuses_are_an_input_error_of_one_line(package):
    X = np.random.default_rng(0).normal(size=(30, 5))
    X[:, 2] = 1.0
    with pytest.raises(InputError, match="flopsearch needs variables that vary, got a constant one"):
        fit(Observed((Environment(X),)), "score_search[search=flop]")
    assert not package


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flopsearch", None)
    with pytest.raises(MissingDependency, match=r"cadibench\[flop\]"):
        fit(problem([set()], n=20), "score_search[search=flop]")


def test_what_is_installed_does_not_change_the_default(package):
    assert list(members(mask_of(DAG[:, 2]))) == [1, 3]
    fit(problem(TARGETS, n=50))
    assert not package


def test_wrong_parameters_are_refused_before_any_work():
    for wrong in ("search=ges", "penalty=0", "alpha=1", "patience=-1"):
        with pytest.raises(InputError, match=wrong.partition("=")[0]):
            make_method(f"score_search[{wrong}]")
