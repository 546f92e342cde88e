"""GES on environment-centred data: the greedy steps are the best ones, and means of environments do not matter."""

from __future__ import annotations

import numpy as np
import pytest

from bench import registry
from bench.gaussian import Moments, bic_local_score, environment_moments, merge_centred
from bench.graphs import consistent_extension, cpdag
from bench.types import Budget, Environment, Observed
from methods.ges import search


def random_dag(d: int, n_edges: int, rng: np.random.Generator) -> np.ndarray:
    weights = np.zeros((d, d))
    pairs = rng.permutation([(i, j) for i in range(d) for j in range(i + 1, d)])[:n_edges]
    weights[pairs[:, 0], pairs[:, 1]] = rng.uniform(0.5, 1.0, n_edges) * rng.choice([-1, 1], n_edges)
    order = rng.permutation(d)
    return weights[np.ix_(order, order)]


def population(weights: np.ndarray, n: int) -> Moments:
    """Exact moments of the linear model with unit noise, as if n samples had shown them."""
    total = np.linalg.inv(np.eye(len(weights)) - weights)
    return Moments(n, np.zeros(len(weights)), n * total.T @ total)


def problem(weights: np.ndarray, n_environments: int, n: int, rng: np.random.Generator, shift: float = 0.0) -> Observed:
    d = len(weights)
    through = np.linalg.inv(np.eye(d) - weights)
    return Observed(
        tuple(Environment((rng.normal(size=(n, d)) + shift * rng.normal(size=d)) @ through) for _ in range(n_environments))
    )


def bic(data: Moments, graph: np.ndarray) -> float:
    dag = consistent_extension(graph)
    return sum(bic_local_score(data, i, np.flatnonzero(dag[:, i]).tolist()) for i in range(len(dag)))


@pytest.mark.parametrize("seed", range(12))
def test_exact_moments_give_the_class(seed: int) -> None:
    # Sparse graphs: GES finds the class in the limit of many samples, and reaches it here at ten million.
    rng = np.random.default_rng(seed)
    weights = random_dag(6, 6, rng)
    graph, cut_short = search(population(weights, 10_000_000))
    assert not cut_short
    np.testing.assert_array_equal(graph, cpdag(weights != 0))


@pytest.mark.parametrize("seed", range(5))
def test_no_class_next_to_the_answer_scores_better(seed: int) -> None:
    """Adding or removing an edge of any member of the class is what one further step would do."""
    rng = np.random.default_rng(seed)
    data = merge_centred(environment_moments(problem(random_dag(5, 5, rng), 3, 60, rng)))
    graph, _ = search(data)
    best, found = bic(data, graph), 0
    for code in range(3**10):  # every graph on five variables, by the mark of each pair
        marks = np.array([code // 3**k % 3 for k in range(10)])
        dag = np.zeros((5, 5), dtype=bool)
        i, j = np.triu_indices(5, 1)
        dag[i, j], dag[j, i] = marks == 1, marks == 2
        differs = (dag | dag.T) ^ (graph | graph.T)
        if differs.sum() != 2:
            continue
        pair = np.argwhere(differs)[0]
        rest = dag.copy()
        rest[pair[0], pair[1]] = rest[pair[1], pair[0]] = (graph | graph.T)[pair[0], pair[1]]
        candidates = [rest]
        if (graph | graph.T)[pair[0], pair[1]]:
            one_way = rest.copy()
            one_way[pair[0], pair[1]] = False
            other_way = rest.copy()
            other_way[pair[1], pair[0]] = False
            candidates = [one_way, other_way]
        members = [m for m in candidates if _is_dag(m) and _is_dag(dag) and np.array_equal(cpdag(m), graph)]
        if members:
            found += 1
            assert sum(bic_local_score(data, k, np.flatnonzero(dag[:, k]).tolist()) for k in range(5)) <= best + 1e-6
    assert found


def _is_dag(graph: np.ndarray) -> bool:
    return not np.linalg.matrix_power(graph.astype(float), len(graph)).any()


def test_shifted_means_change_nothing() -> None:
    weights = random_dag(6, 7, np.random.default_rng(0))
    plain, shifted = (problem(weights, 3, 100, np.random.default_rng(1), 0.0) for _ in range(2))
    rng = np.random.default_rng(2)
    shifted = Observed(tuple(Environment(e.X + 5 * rng.normal(size=6)) for e in shifted.environments))
    fits = [registry.make_method("ges").fit(o, rng=rng).estimate.point_graph for o in (plain, shifted)]
    assert fits[0].any()
    np.testing.assert_array_equal(*fits)


def test_a_larger_penalty_gives_fewer_edges() -> None:
    rng = np.random.default_rng(3)
    data = merge_centred(environment_moments(problem(random_dag(8, 14, rng), 2, 100, rng)))
    n_edges = [int((g | g.T).sum()) // 2 for g in (search(data, penalty)[0] for penalty in (0.5, 2.0, 50.0))]
    assert n_edges[0] > n_edges[1] > n_edges[2]


def test_a_budget_that_runs_out_leaves_the_steps_done() -> None:
    class Clock(Budget):
        looks = 120

        @property
        def expired(self) -> bool:
            self.looks -= 1
            return self.looks < 0

    rng = np.random.default_rng(0)
    data = merge_centred(environment_moments(problem(random_dag(8, 10, rng), 2, 200, rng)))
    graph, cut_short = search(data, budget=Clock())
    whole, _ = search(data)
    assert cut_short
    assert 0 < (graph | graph.T).sum() < (whole | whole.T).sum()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_more_variables_than_samples_copies_and_constants_end(n: int) -> None:
    X = np.random.default_rng(n).normal(size=(n, 8))
    X[:, 1], X[:, 2] = X[:, 0], 1.0
    observed = Observed((Environment(X), Environment(X[:1] + 1)))
    graph = registry.make_method("ges").fit(observed, rng=np.random.default_rng(0)).estimate.point_graph
    assert not graph[2].any()
    assert not graph[:, 2].any()
