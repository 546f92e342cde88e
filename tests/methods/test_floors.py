"""Floors: the empty and the random graph, vanished variances, and sort-and-regress."""

from __future__ import annotations

import numpy as np
import pytest

from bench import registry
from bench.graphs import is_acyclic
from bench.metrics import average_precision
from bench.types import Environment, Observed
from methods.sort_regress import sparse_weights

SORTERS = ("var_sort_regress", "r2_sort_regress")


def nothing(d: int, n_environments: int = 1) -> Observed:
    """Constant samples; the first environment is observational."""
    return Observed(tuple(Environment(np.zeros((1, d)), is_observational=e == 0) for e in range(n_environments)))


def chain(n: int, d: int = 5, rescale: bool = False) -> np.ndarray:
    """x_i = 1.5 x_{i-1} + N(0, 1): variances rise along the chain; ``rescale`` takes them away."""
    X = np.random.default_rng(0).normal(size=(n, d))
    for i in range(1, d):
        X[:, i] += 1.5 * X[:, i - 1]
    return X / X.std(axis=0) if rescale else X


def fit(name: str, observed: Observed, seed: int = 0):
    return registry.make_method(name).fit(observed, rng=np.random.default_rng(seed)).estimate


def test_the_empty_graph_says_nothing_of_targets() -> None:
    estimate = fit("empty", nothing(3))
    assert not estimate.edge_probability.any()
    assert estimate.target_probability is None


def test_random_graphs_have_the_asked_for_density_and_no_favourite_direction() -> None:
    method, rng = registry.make_method("random[edges_per_node=1.5]"), np.random.default_rng(0)
    graphs = np.array([method.fit(nothing(8), rng=rng).estimate.point_graph for _ in range(2000)])
    assert all(is_acyclic(graph) for graph in graphs)
    # 12 expected edges, variance below 12 per graph: five standard errors of the mean of 2000 are below .39.
    assert abs(graphs.sum(axis=(1, 2)).mean() - 12) < 0.39
    # Every ordered pair has 12 / 56 = .214: five standard errors are .046.
    frequency = graphs.mean(axis=0)[~np.eye(8, dtype=bool)]
    assert np.abs(frequency - 12 / 56).max() < 0.046


def test_random_targets_have_the_asked_for_number_and_spare_observational_data() -> None:
    method, rng = registry.make_method("random[targets_per_environment=1.25]"), np.random.default_rng(0)
    targets = np.array([method.fit(nothing(5, 3), rng=rng).estimate.target_probability for _ in range(2000)])
    assert not targets[:, 0].any()
    assert set(targets[:, 1:].sum(axis=2).ravel()) == {1.0, 2.0}
    # A share of .25 has two targets: five standard errors over 4000 environments are .034.
    assert abs(targets[:, 1:].sum(axis=2).mean() - 1.25) < 0.034
    # Each variable is hit with probability .25: five standard errors are .034.
    assert np.abs(targets[:, 1:].mean(axis=(0, 1)) - 0.25).max() < 0.035


@pytest.mark.parametrize(("edges_per_node", "targets_per_environment"), [(0, 0), (100, 100)])
def test_a_random_graph_is_never_denser_than_complete(edges_per_node: float, targets_per_environment: float) -> None:
    method = registry.make_method("random", edges_per_node=edges_per_node, targets_per_environment=targets_per_environment)
    estimate = method.fit(nothing(4, 2), rng=np.random.default_rng(0)).estimate
    assert estimate.edge_probability.sum() == (6 if edges_per_node else 0)
    assert estimate.target_probability[1].sum() == (4 if targets_per_environment else 0)


def test_a_vanished_variance_is_a_target_and_one_that_only_shrank_is_none() -> None:
    """Normal samples; shares of the pooled variance: none, about a fifth, and one that is far below the limit of .01."""
    rng = np.random.default_rng(0)
    observational, knocked_out, knocked_down, stilled = rng.normal(size=(4, 50, 3))
    knocked_out[:, 1] = -2.5
    knocked_down[:, 1] *= 0.5
    stilled[:, 2] *= 0.01
    environments = [Environment(observational, is_observational=True)]
    environments += [Environment(X, is_observational=False) for X in (knocked_out, knocked_down, stilled)]
    estimate = fit("low_variance", Observed(tuple(environments)))
    assert (estimate.target_probability > 0.5).tolist() == [
        [False] * 3,
        [False, True, False],
        [False] * 3,
        [False, False, True],
    ]
    assert estimate.target_probability[1, 1] == 1
    assert not estimate.point_graph.any()


def test_three_cells_of_a_clean_knockout_are_enough_for_the_floor_and_one_says_nothing() -> None:
    problem = registry.make_problem("gene_expression[n_held_out=8,held_out_genes=unseen]", seed=0)
    rng, targets = np.random.default_rng(0), np.array([held_out.targets for held_out in problem.held_out])
    fitted = registry.make_method("low_variance").fit(problem.observed, rng=rng)
    three, one = (
        np.concatenate([fitted.adapt(Observed((h.environment(n),)), rng=rng).target_probability for h in problem.held_out])
        for n in (3, 1)
    )
    assert (three[targets] == 1).all()
    assert average_precision(targets, three) > 0.75  # what only activators reach may vanish with them
    assert not one.any()


def test_what_is_constant_everywhere_is_no_target_of_the_floor() -> None:
    assert not fit(
        "low_variance", Observed((Environment(np.zeros((5, 2))), Environment(np.zeros((5, 2)))))
    ).target_probability.any()


def test_sorting_by_variance_finds_a_chain_in_raw_units() -> None:
    estimate = fit("var_sort_regress", Observed((Environment(chain(1000)),)))
    assert np.array_equal(estimate.point_graph, np.eye(5, k=1, dtype=bool))


def test_sorting_by_variance_loses_the_order_when_the_scales_are_reversed_and_r2_does_not_look() -> None:
    X = chain(1000, rescale=True)
    reversed_scales = X * np.arange(5, 0, -1)
    by_variance = fit("var_sort_regress", Observed((Environment(reversed_scales),)))
    assert not np.triu(by_variance.point_graph).any()  # every edge points backwards
    plain, rescaled = (fit("r2_sort_regress", Observed((Environment(A),))) for A in (X, reversed_scales))
    np.testing.assert_array_equal(plain.point_graph, rescaled.point_graph)
    np.testing.assert_allclose(plain.edge_probability, rescaled.edge_probability, rtol=1e-9)


def test_sorting_by_r2_orders_parents_before_their_common_child() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(1000, 4))
    X[:, 0] += X[:, 1:].sum(axis=1)  # R² of the child .75, of each parent .5
    estimate = fit("r2_sort_regress", Observed((Environment(X / X.std(axis=0)),)))
    assert estimate.point_graph[1:, 0].all()


def test_edge_scores_rank_strong_edges_above_weak_ones_and_selected_above_the_rest() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(2000, 3))
    X[:, 2] += 2.0 * X[:, 0] + 0.5 * X[:, 1]
    estimate = fit("var_sort_regress", Observed((Environment(X),)))
    assert estimate.edge_probability[0, 2] > estimate.edge_probability[1, 2] > 0.5
    assert not estimate.edge_probability[~estimate.point_graph].any()


@pytest.mark.parametrize("name", SORTERS)
def test_only_observational_samples_count_where_there_are_any(name: str) -> None:
    observational = Environment(chain(200), is_observational=True)
    other = Environment(np.random.default_rng(3).normal(size=(300, 5)) * [9, 7, 5, 3, 1], is_observational=False)
    alone, both = fit(name, Observed((observational,))), fit(name, Observed((observational, other)))
    np.testing.assert_array_equal(alone.edge_probability, both.edge_probability)


@pytest.mark.parametrize("name", SORTERS)
def test_sorting_renames_its_answer_with_the_variables(name: str) -> None:
    X, order = chain(300, d=7), np.random.default_rng(4).permutation(7)
    answer, renamed = (fit(name, Observed((Environment(A),))) for A in (X, X[:, order]))
    np.testing.assert_allclose(renamed.edge_probability, answer.edge_probability[np.ix_(order, order)], atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 12, 13])
def test_few_samples_give_a_dag_without_warning(n: int) -> None:
    for name in SORTERS:
        assert is_acyclic(fit(name, Observed((Environment(chain(n, d=10)),))).point_graph)


def test_constant_and_duplicated_columns_give_no_edge_to_themselves_or_warning() -> None:
    X = chain(100)
    X[:, 0] = 3.0
    X[:, 4] = X[:, 3]
    for name in SORTERS:
        graph = fit(name, Observed((Environment(X),))).point_graph
        assert not graph[0].any()
        assert not graph[:, 0].any()
        assert is_acyclic(graph)


def test_weights_are_those_of_least_squares_where_every_parent_is_clear() -> None:
    # With 100,000 samples BIC's shrinkage of weights above .5 is below 1 %.
    X = chain(100_000, d=3)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    W = sparse_weights(X, np.arange(3))
    expected = np.linalg.lstsq(Z[:, :1], Z[:, 1], rcond=None)[0][0]
    assert W[0, 1] == pytest.approx(expected, rel=0.01)
    assert W[1, 2] == pytest.approx((Z[:, 1] @ Z[:, 2]) / len(Z), rel=0.02)


def test_a_bootstrap_turns_the_answer_into_frequencies() -> None:
    method = registry.make_method("var_sort_regress[bootstrap=5]")
    estimate = method.fit(Observed((Environment(chain(200)),)), rng=np.random.default_rng(0)).estimate
    assert method.effective_capabilities().edge_output == "posterior"
    assert set(np.unique(estimate.edge_probability * 5)) <= set(range(6))
    assert estimate.graph_samples.shape == (5, 5, 5)
