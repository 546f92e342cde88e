"""Sortability against a count of paths by hand and the definition's own recursion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dags

from bench.sortability import path_sortability, r_squared, sortability
from bench.types import Environment, Observed


def edges(d, *pairs):
    graph = np.zeros((d, d), dtype=bool)
    for i, j in pairs:
        graph[i, j] = True
    return graph


def by_definition(values, graph):
    """Sum over k = 1..d-1 of the pairs that a path of length k joins, by enumeration of walks (Reisach et al. 2021)."""
    d = len(values)
    total = rising = 0.0
    ends = {i: {i} for i in range(d)}
    for _ in range(d - 1):
        ends = {i: {c for m in ends[i] for c in range(d) if graph[m, c]} for i in range(d)}
        for i in range(d):
            for j in ends[i]:
                total += 1
                rising += 1.0 if values[j] > values[i] else 0.5 if values[j] == values[i] else 0.0
    return rising / total if total else float("nan")


def test_rising_falling_and_equal_values():
    chain = edges(3, (0, 1), (1, 2))
    assert path_sortability(np.array([1.0, 2.0, 3.0]), chain) == 1.0
    assert path_sortability(np.array([3.0, 2.0, 1.0]), chain) == 0.0
    assert path_sortability(np.array([2.0, 2.0, 2.0]), chain) == 0.5


def test_a_pair_counts_once_per_path_length_and_not_once_per_path():
    """Two paths of length 2 from 0 to 3 are one; the direct edge and the longer path are two."""
    diamond = edges(4, (0, 1), (0, 2), (1, 3), (2, 3), (0, 3))
    values = np.array([1.0, 0.5, 2.0, 3.0])
    # Length 1: 0->1 falls, 0->2, 1->3, 2->3, 0->3 rise; length 2: 0->3 rises, once.
    assert path_sortability(values, diamond) == pytest.approx(5 / 6)


def test_graph_without_edges_has_no_sortability():
    assert np.isnan(path_sortability(np.ones(3), edges(3)))


@given(st.data(), dags(2, 6))
def test_path_sortability_is_that_of_the_definition(data, graph):
    values = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(graph), max_size=len(graph))), dtype=float)
    assert path_sortability(values, graph) == pytest.approx(by_definition(values, graph), nan_ok=True)


@given(st.data(), dags(2, 6))
def test_turning_the_values_round_turns_sortability_round(data, graph):
    values = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(graph), max_size=len(graph))), dtype=float)
    assert path_sortability(-values, graph) == pytest.approx(1 - path_sortability(values, graph), nan_ok=True)


def test_numbers_of_paths_beyond_any_integer_type_do_no_harm():
    """A hundred layers of two, fully joined: 2^98 paths from first to last. Only the pairs that end in the last fall."""
    n_layers = 100
    layer = np.repeat(np.arange(n_layers), 2)
    graph = layer[:, None] + 1 == layer[None, :]
    values = np.where(layer == n_layers - 1, -1.0, layer)
    assert path_sortability(values, graph) == pytest.approx(1 - 2 / n_layers)


def test_r_squared_is_that_of_least_squares():
    X = np.random.default_rng(0).normal(size=(50, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
    for j in range(4):
        others = np.column_stack([np.ones(50), np.delete(X, j, axis=1)])
        residual = X[:, j] - others @ np.linalg.lstsq(others, X[:, j], rcond=None)[0]
        assert r_squared(X)[j] == pytest.approx(1 - residual.var() / X[:, j].var(), abs=1e-9)


def test_r_squared_of_exact_relations_is_one_and_of_constants_zero():
    a, b, noise = np.random.default_rng(2).normal(size=(3, 100))
    found = r_squared(np.column_stack([a, b, a + b, np.full(100, 0.1), noise]))
    assert found[:3].tolist() == [1.0, 1.0, 1.0]
    assert found[3] == 0.0
    assert found[4] < 0.2


def test_fewer_samples_than_variables_say_nothing_about_the_order():
    X = np.random.default_rng(3).normal(size=(5, 10))
    assert np.all(r_squared(X) == 1.0)
    assert path_sortability(r_squared(X), np.triu(np.ones((10, 10), dtype=bool), 1)) == 0.5


def test_observational_samples_decide_where_there_are_any():
    low_first, high_first = np.array([[0.0, 0.0], [1.0, 9.0]]), np.array([[0.0, 0.0], [99.0, 1.0]])
    graph = edges(2, (0, 1))
    known = Observed((Environment(low_first, is_observational=True), Environment(high_first)))
    unknown = Observed((Environment(low_first), Environment(high_first)))
    assert sortability(known, graph)["varsortability"] == 1.0
    assert sortability(unknown, graph)["varsortability"] == 0.0
