"""PC with exogenous columns: exact tests give the class, and what an exogenous column says directs edges."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from bench.gaussian import Moments, independence_p_value
from bench.graphs import cpdag
from bench.pc import OutOfTime, pc
from bench.types import BoolArray, Budget

# 0 -> 1 -> 2 <- 3 -> 4
WEIGHTS = np.zeros((5, 5))
WEIGHTS[[0, 1, 3, 3], [1, 2, 2, 4]] = [1.0, -1.2, 0.9, 1.1]
DAG = WEIGHTS != 0


def population(weights: np.ndarray, n: int) -> Moments:
    """Exact moments of the linear model with unit noise, as if n samples had shown them."""
    total = np.linalg.inv(np.eye(len(weights)) - weights)
    return Moments(n, np.zeros(len(weights)), n * total.T @ total)


def search(weights: np.ndarray, n_exogenous: int, max_conditioning: int | None = None) -> BoolArray:
    test = partial(independence_p_value, population(weights, 10_000))
    return pc(test, len(weights) - n_exogenous, n_exogenous, 0.01, max_conditioning)


def test_exact_moments_give_the_cpdag() -> None:
    np.testing.assert_array_equal(search(WEIGHTS, 0), cpdag(DAG))


def test_an_exact_indicator_directs_what_it_points_at() -> None:
    # A sixth column that causes variable 0: 0 - 1, undirected in the CPDAG, becomes 0 -> 1; 3 - 4 gains nothing.
    joined = np.zeros((6, 6))
    joined[:5, :5] = WEIGHTS
    joined[5, 0] = 1.0
    expected = np.zeros((6, 6), dtype=bool)
    expected[:5, :5] = cpdag(DAG)
    expected[5, 0] = True
    assert cpdag(DAG)[1, 0]
    expected[1, 0] = False
    np.testing.assert_array_equal(search(joined, 1), expected)


def test_indicators_are_never_connected_nor_caused() -> None:
    # Two indicators that depend on each other, and one that an (impossible) system variable drives.
    joined = np.zeros((7, 7))
    joined[:5, :5] = WEIGHTS
    joined[5, 6], joined[4, 5] = 2.0, 1.0
    graph = search(joined, 2)
    assert not graph[:, 5:].any()
    assert graph[5, 4]


def test_the_limit_on_conditioning_sets_is_kept() -> None:
    # Variables 0 and 2 of the chain 0 -> 1 -> 2 are separated by 1 alone.
    chain = np.zeros((3, 3))
    chain[[0, 1], [1, 2]] = 1.0
    marginal_only = search(chain, 0, max_conditioning=0)
    assert marginal_only[0, 2]
    assert not search(chain, 0, max_conditioning=1)[0, 2]


def test_every_triple_is_asked_once() -> None:
    asked: list[tuple] = []

    def test(i, j, given):
        asked.append((i, j, tuple(given)))
        return independence_p_value(population(WEIGHTS, 10_000), i, j, given)

    pc(test, 5, 0, 0.01)
    assert len(asked) == len(set(asked))
    assert all(i < j and list(given) == sorted(given) for i, j, given in asked)


@pytest.mark.parametrize("exogenous_first", [False, True])
def test_an_exogenous_column_outweighs_a_collider_where_it_is_asked_to(exogenous_first: bool) -> None:
    """0 -> 1, 0 -> 2 and 3 -> 0, where a weak test takes 1 and 2 for independent: a collider at 0, against what 3 says."""
    edges = {(0, 1), (0, 2), (0, 3)}

    def test(i: int, j: int, given) -> float:
        if (i, j) in edges:
            return 0.0
        separated = 0 not in given if (i, j) == (1, 2) else 0 in given
        return 0.5 if separated else 0.0

    graph = pc(test, 3, 1, 0.01, exogenous_first=exogenous_first)
    out_of_0, into_0 = graph[0, [1, 2]], graph[[1, 2], 0]
    assert out_of_0.tolist() == [exogenous_first] * 2
    assert into_0.tolist() == [not exogenous_first] * 2


def test_a_spent_budget_ends_the_search() -> None:
    with pytest.raises(OutOfTime):
        pc(lambda *_: 1.0, 3, 0, 0.01, budget=Budget(seconds=0.0))
