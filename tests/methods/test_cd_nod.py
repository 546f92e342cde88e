"""CD-NOD: one column for the environment finds changing mechanisms; tests given the parents find where they change."""

from __future__ import annotations

import numpy as np
import pytest

from bench import registry
from bench.graphs import cpdag
from bench.types import Budget, Environment, Observed

# 0 -> 1 -> 2 <- 3 -> 4
WEIGHTS = np.zeros((5, 5))
WEIGHTS[[0, 1, 3, 3], [1, 2, 2, 4]] = [1.0, -1.2, 0.9, 1.1]
DAG = WEIGHTS != 0


def problem(
    targets: list[set[int]], n: int = 400, seed: int = 0, *, known: bool = True, scale: float = 3.0, shift: float = 0.0
) -> Observed:
    """The noise of a target is three times as large, where not told otherwise: no mean moves."""
    rng = np.random.default_rng(seed)
    environments = []
    for t in targets:
        noise = rng.normal(size=(n, 5))
        noise[:, list(t)] = scale * noise[:, list(t)] + shift
        environments.append(Environment(noise @ np.linalg.inv(np.eye(5) - WEIGHTS), is_observational=not t if known else None))
    return Observed(tuple(environments))


def fit(observed: Observed, spec: str = "cd_nod[alpha=0.001]", budget: Budget | None = None):
    return registry.make_method(spec).fit(observed, rng=np.random.default_rng(0), budget=budget)


def as_targets(targets: list[set[int]]) -> np.ndarray:
    return np.array([[j in t for j in range(5)] for t in targets])


@pytest.mark.parametrize(
    ("spec", "change"),
    [("cd_nod[alpha=0.001]", {"scale": 3.0}), ("cd_nod[test=random_features,alpha=0.001]", {"scale": 1.0, "shift": 2.0})],
    ids=["linear, spread", "random features, shift"],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_change_gives_graph_and_targets(spec: str, change: dict, known: bool) -> None:
    targets = [set(), {0}, {3}, set(), set()]
    estimate = fit(problem(targets, known=known, seed=1, **change), spec).estimate
    np.testing.assert_array_equal(estimate.point_graph, DAG)
    np.testing.assert_array_equal(estimate.target_probability > 0.5, as_targets(targets))


def test_a_downstream_change_is_no_target() -> None:
    observed = problem([set(), {0}], n=1000)
    assert registry.make_method("marginal").fit(observed, rng=np.random.default_rng(0)).estimate.targets[1].sum() >= 3
    assert fit(observed).estimate.target_probability[1].tolist() == [1, 0, 0, 0, 0]


def test_two_changing_neighbours_stay_undirected_and_neither_takes_the_targets_of_the_other() -> None:
    """0 and 1 change, in different environments, and nothing else directs the edge between them."""
    rng = np.random.default_rng(0)
    environments = []
    for target in (None, 0, 1):
        noise = rng.normal(size=(800, 2))
        if target is not None:
            noise[:, target] *= 3
        environments.append(Environment(np.column_stack([noise[:, 0], noise[:, 0] + noise[:, 1]]), target is None))
    estimate = fit(Observed(tuple(environments))).estimate
    np.testing.assert_array_equal(estimate.point_graph, [[False, True], [True, False]])
    # Variable 1 changes in environment 2 whichever way the edge points; so does 0 in environment 1.
    assert estimate.target_probability[2, 1] == 1
    assert estimate.target_probability[1, 0] == 1
    assert estimate.target_probability[0].sum() == 0


def test_the_number_of_an_environment_is_no_quantity() -> None:
    """Environments in another order give the same graph, though their numbers change."""
    observed = problem([set(), {0}, {1}, {3}], n=60, seed=3)
    order = [2, 0, 3, 1]
    again = Observed(tuple(observed.environments[e] for e in order))
    a, b = (fit(o, "cd_nod[alpha=0.05]").estimate for o in (observed, again))
    np.testing.assert_array_equal(a.point_graph, b.point_graph)
    np.testing.assert_array_equal(a.target_probability[order], b.target_probability)


@pytest.mark.parametrize("is_observational", [True, False, None])
def test_a_single_environment_is_pc_without_targets(is_observational: bool | None) -> None:
    X = problem([set()]).environments[0].X
    estimate = fit(Observed((Environment(X, is_observational),)), "cd_nod[alpha=0.0001]").estimate
    np.testing.assert_array_equal(estimate.point_graph, cpdag(DAG))
    assert not estimate.target_probability.any()


def test_only_observational_environments_have_no_target() -> None:
    assert not fit(problem([set(), set()])).estimate.target_probability.any()


def test_a_budget_that_ends_before_the_targets_keeps_the_graph() -> None:
    class Clock(Budget):
        """Runs out once the search is over: it asks before each test, the targets are asked about last."""

        def __init__(self, looks: int) -> None:
            super().__init__()
            self.looks = looks

        @property
        def expired(self) -> bool:
            self.looks -= 1
            return self.looks < 0

    observed = problem([set(), {0}, {3}])
    counting = Clock(10**9)
    whole = fit(observed, budget=counting)
    asked = 10**9 - counting.looks
    cut = fit(observed, budget=Clock(asked - 1))
    assert (whole.cut_short, cut.cut_short) == (False, True)
    np.testing.assert_array_equal(cut.estimate.point_graph, whole.estimate.point_graph)
    assert cut.estimate.target_probability.sum() < whole.estimate.target_probability.sum()


@pytest.mark.parametrize("test", ["linear", "random_features"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_more_variables_than_samples_copies_and_constants_end_without_warning(n: int, test: str) -> None:
    X = np.random.default_rng(n).normal(size=(n, 8))
    X[:, 1], X[:, 2] = X[:, 0], 1.0
    observed = Observed((Environment(X), Environment(X[:1] + 1), Environment(X + 2)))
    assert not fit(observed, f"cd_nod[test={test}]").estimate.point_graph[2].any()
