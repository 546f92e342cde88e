"""JCI-PC: graph and targets from one search over variables and environment indicators."""

from __future__ import annotations

import numpy as np
import pytest

from bench import registry
from bench.graphs import cpdag
from bench.types import Budget, Environment, Observed
from methods.jci_pc import join_indicators

# 0 -> 1 -> 2 <- 3 -> 4
WEIGHTS = np.zeros((5, 5))
WEIGHTS[[0, 1, 3, 3], [1, 2, 2, 4]] = [1.0, -1.2, 0.9, 1.1]
DAG = WEIGHTS != 0


def problem(targets: list[set[int]], n: int = 500, seed: int = 0, shift: float = 3.0) -> Observed:
    rng = np.random.default_rng(seed)
    environments = []
    for t in targets:
        noise = rng.normal(size=(n, 5))
        noise[:, list(t)] += shift
        environments.append(Environment(noise @ np.linalg.inv(np.eye(5) - WEIGHTS), is_observational=not t))
    return Observed(tuple(environments))


def fit(observed: Observed, spec: str = "jci_pc", budget: Budget | None = None):
    return registry.make_method(spec).fit(observed, rng=np.random.default_rng(0), budget=budget)


def as_targets(targets: list[set[int]]) -> np.ndarray:
    return np.array([[j in t for j in range(5)] for t in targets])


@pytest.mark.parametrize(
    "targets",
    [[set(), {0}, {3}], [set(), {0}, {1}, {2}, {3}, {4}], [{0}, {2}, {4}]],
    ids=["two", "all", "no observational data"],
)
@pytest.mark.parametrize("seed", range(3))
def test_shifts_with_large_samples_give_graph_and_targets(targets: list[set[int]], seed: int) -> None:
    # Shifts of 3 noise deviations in 500 samples. Measured over ten other seeds: no mistake; every edge is directed by some
    # target or collider.
    estimate = fit(problem(targets, seed=100 + seed), "jci_pc[alpha=0.001]").estimate
    np.testing.assert_array_equal(estimate.point_graph, DAG)
    np.testing.assert_array_equal(estimate.target_probability > 0.5, as_targets(targets))


def test_a_downstream_change_is_no_target() -> None:
    # The marginal floor calls 1 and 2 as well; that the graph explains them is what JCI adds.
    observed = problem([set(), {0}], n=1000)
    assert registry.make_method("marginal").fit(observed, rng=np.random.default_rng(0)).estimate.targets[1].sum() >= 3
    assert fit(observed, "jci_pc[alpha=0.001]").estimate.target_probability[1].tolist() == [1, 0, 0, 0, 0]


def test_indicators_mark_their_own_rows() -> None:
    observed = Observed(
        (Environment(np.zeros((1, 2))), Environment(np.ones((2, 2)), is_observational=True), Environment(np.ones((1, 2))))
    )
    joined, environments = join_indicators(observed)
    assert environments == [0, 2]
    assert joined[:, 2:].tolist() == [[1, 0], [0, 0], [0, 0], [0, 1]]


@pytest.mark.parametrize("is_observational", [True, False, None])
def test_a_single_environment_has_no_target(is_observational: bool | None) -> None:
    X = problem([set()]).environments[0].X
    estimate = fit(Observed((Environment(X, is_observational),)), "jci_pc[alpha=0.0001]").estimate
    np.testing.assert_array_equal(estimate.point_graph, cpdag(DAG))
    assert not estimate.target_probability.any()


def test_only_observational_environments_have_no_target() -> None:
    assert not fit(problem([set(), set()])).estimate.target_probability.any()


@pytest.mark.parametrize("seed", range(5))
def test_the_answer_is_renamed_with_variables_and_environments(seed: int) -> None:
    # Few samples and a loose level, so that tests contradict each other and colliders compete.
    rng = np.random.default_rng(seed)
    observed = problem([set(), {0}, {3}, {1, 4}], n=25, seed=seed)
    mixed = [e.X @ rng.normal(size=(5, 8)) + rng.normal(size=(25, 8)) for e in observed.environments]
    order = rng.permutation(8)
    plain = Observed(tuple(Environment(X, e == 0) for e, X in enumerate(mixed)))
    renamed = Observed(tuple(Environment(X[:, order], e == 3) for e, X in enumerate(mixed[::-1])))
    a, b = (fit(o, "jci_pc[alpha=0.2]").estimate for o in (plain, renamed))
    assert a.point_graph.any()
    np.testing.assert_array_equal(b.point_graph, a.point_graph[np.ix_(order, order)])
    np.testing.assert_array_equal(b.target_probability, a.target_probability[::-1, order])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_more_variables_than_samples_and_copies_end_without_warning(n: int) -> None:
    X = np.random.default_rng(n).normal(size=(n, 8))
    X[:, 1], X[:, 2] = X[:, 0], 1.0
    estimate = fit(Observed((Environment(X), Environment(X[:1] + 1), Environment(X + 2)))).estimate
    assert not estimate.point_graph[2].any()


def test_copies_of_a_variable_are_connected_with_each_other() -> None:
    X = problem([set()]).environments[0].X
    graph = fit(Observed((Environment(np.hstack([X, X[:, :1]])),)), "jci_pc[alpha=0.0001]").estimate.point_graph
    assert graph[0, 5]
    assert graph[5, 0]


def test_a_spent_budget_gives_the_empty_graph_and_says_so() -> None:
    fitted = fit(problem([set(), {0}], n=50), budget=Budget(seconds=0.0))
    assert fitted.cut_short
    assert not fitted.estimate.point_graph.any()


def test_bootstrap_gives_targets_between_zero_and_one() -> None:
    estimate = fit(problem([set(), {0}, {3}], n=40, shift=0.5), "jci_pc[bootstrap=10]").estimate
    inner = estimate.target_probability[(estimate.target_probability > 0) & (estimate.target_probability < 1)]
    assert inner.size
    np.testing.assert_allclose(inner * 10, np.round(inner * 10))


def test_nothing_is_printed_and_global_random_state_stays(capfd: pytest.CaptureFixture[str]) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002  (that it is not touched is the point)
    fit(problem([set(), {0}], n=50))
    assert capfd.readouterr() == ("", "")
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def curved(n: int = 500, seed: int = 0) -> Observed:
    """0 -> 1 by a square, so that they are not correlated; in the second environment the noise of 1 is three times as large."""
    rng = np.random.default_rng(seed)
    environments = []
    for scale in (1.0, 3.0):
        x = rng.normal(size=n)
        environments.append(Environment(np.column_stack([x, x**2 + scale * 0.5 * rng.normal(size=n)]), scale == 1))
    return Observed(tuple(environments))


@pytest.mark.parametrize("spec", ["jci_pc_kernel", "jci_pc_kernel[test=kernel,max_samples=300]"])
def test_nonlinear_tests_see_what_correlation_does_not(spec: str) -> None:
    linear = fit(curved()).estimate
    assert not linear.point_graph.any()
    assert not linear.target_probability.any()
    estimate = fit(curved(), spec).estimate
    assert (estimate.point_graph | estimate.point_graph.T)[0, 1]
    assert estimate.target_probability[1].tolist() == [0, 1]


def test_nonlinear_tests_find_graph_and_targets_of_a_linear_problem_as_well() -> None:
    # Shifts of 3 noise deviations. Measured over ten other seeds: no mistake.
    targets = [set(), {0}, {3}]
    estimate = fit(problem(targets, seed=1), "jci_pc_kernel[alpha=0.001]").estimate
    np.testing.assert_array_equal(estimate.point_graph, DAG)
    np.testing.assert_array_equal(estimate.target_probability > 0.5, as_targets(targets))


@pytest.mark.parametrize("test", ["random_features", "kernel"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_nonlinear_tests_end_on_few_samples_copies_and_constants(n: int, test: str) -> None:
    X = np.random.default_rng(n).normal(size=(n, 5))
    X[:, 1], X[:, 2] = X[:, 0], 1.0
    observed = Observed((Environment(X), Environment(X[:1] + 1), Environment(X + 2)))
    assert not fit(observed, f"jci_pc_kernel[test={test}]").estimate.point_graph[2].any()
