"""Joint causal inference with the PC algorithm: environments become indicator variables, targets their children.

The skeleton search is that of the package causal-learn, on the tests of ``bench.gaussian``. Colliders are oriented here and
Meek's rules are those of ``bench.graphs``, because the package's answers hang on the order of the variables.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Lt

from bench.bootstrap import PointMethod, Replicates
from bench.gaussian import Moments, independence_p_value, moments
from bench.graphs import apply_meek_rules, edge_scores_of_class
from bench.registry import register_method
from bench.types import BoolArray, Budget, Capabilities, Estimate, Fitted, FloatArray, Meta, Observed


@register_method("jci_pc")
class JciPc(PointMethod):
    """PC on the samples of all environments, joined with one indicator for each that is not known to be observational.

    The indicators enter under the three assumptions of JCI: no variable causes an indicator (1), none has a hidden common
    cause with one (2), and the indicators are all related among themselves in a way that needs no testing (3). So edges
    between indicators are not looked for, edges from them are directed, and the children of an indicator are the targets of
    its environment. With a single environment this is PC, and no target is called.

    Fisher's z sees linear dependence only, hence of interventions those that move the mean.

    Parameters
    ----------
    alpha : float
        Level of each test of conditional independence.
    max_conditioning : int or None
        Size of the largest conditioning set, so that dense graphs stay affordable; None for no limit.
    bootstrap : int
        Replicates of the within-environment bootstrap; 0 for none.

    Notes
    -----
    Leaving the edges between indicators out of the skeleton is sound for PC: an indicator is separated from a variable that it
    does not target by that variable's parents, which are neighbours of the variable. Without observational data the
    indicators sum to one; each then says how its environment differs from all others together. Conditioning on all but one of
    them leaves the last no residual, and the test says "independent".

    The answer is meant as a CPDAG under background knowledge. With finite samples PC can contradict itself: where two
    colliders want an edge in opposite directions, the one whose ends are more clearly independent (larger p-value) has
    it; an edge that Meek's rules force both ways stays undirected; and the graph need not be the class of any DAG.

    References
    ----------
    Mooij, Magliacane, Claassen, "Joint causal inference from multiple contexts", JMLR 21 (2020), section 4.2.4 (JCI-PC is one
    implementation of assumptions 1 to 3). Colombo, Maathuis, "Order-independent constraint-based causal structure learning",
    JMLR 15 (2014), PC-stable. Deviations: in causal-learn, *all* separating sets of the size at which an edge falls are joined,
    and a collider is in none of them; contradicting colliders are settled as in the notes.
    """

    capabilities = Capabilities(estimates_targets=True, edge_output="binary", target_output="binary", deterministic=True)
    meta = Meta(
        "PC on data joined with environment indicators (package causal-learn).",
        "Mooij, Magliacane, Claassen, Joint causal inference from multiple contexts, JMLR 21, 2020",
        wraps="causal-learn (MIT)",
        mechanisms="linear",
        noise="Gaussian",
        interventions=("hard", "hard_constant", "shift"),
        complexity="(d + E)² tests for each conditioning set tried: up to d^(max_conditioning + 2) on dense graphs",
        n_variables=(2, 100),
    )
    search_space: ClassVar = {"alpha": [0.001, 0.003, 0.01, 0.03, 0.1], "max_conditioning": [1, 2, 3]}

    def __init__(
        self,
        alpha: Annotated[float, Gt(0), Lt(1)] = 0.01,
        max_conditioning: Annotated[int, Ge(0)] | None = 3,
        bootstrap: Replicates = 0,
    ) -> None:
        self.alpha = alpha
        self.max_conditioning = max_conditioning
        self.bootstrap = bootstrap

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        d = observed.n_variables
        joined, environments = join_indicators(observed)
        targets = np.zeros((observed.n_environments, d), dtype=bool)
        try:
            graph = pc(moments(joined), d, self.alpha, self.max_conditioning, budget)
        except OutOfTime:
            nothing = np.zeros((d, d), dtype=bool)
            return Fitted(_answer(nothing, targets), cut_short=True)
        targets[environments] = graph[d:, :d]
        return Fitted(_answer(graph[:d, :d], targets))

    def warm_up(self) -> None:
        pc(moments(np.random.default_rng(0).normal(size=(20, 4))), 3, self.alpha)


def _answer(graph: BoolArray, targets: BoolArray) -> Estimate:
    return Estimate(edge_scores_of_class(graph), targets.astype(float), point_graph=graph, graph_kind="cpdag")


def join_indicators(observed: Observed) -> tuple[FloatArray, list[int]]:
    """Pooled samples with a column for each environment that is not known to be observational.

    Returns
    -------
    joined : float64 (n, d + k)
        The last k columns are 1 in their own environment and 0 in all others. With a single environment k is 0.
    environments : list of int
        The environments of the k columns.
    """
    environments = [e for e, environment in enumerate(observed.environments) if not environment.is_observational]
    if observed.n_environments == 1:
        environments = []
    label = np.repeat(np.arange(observed.n_environments), [e.n_samples for e in observed.environments])
    indicators = label[:, None] == np.array(environments, dtype=int)
    return np.hstack([observed.pooled(), indicators]), environments


class OutOfTime(Exception):
    """The budget ran out before PC had an answer; it has none on the way."""


class PartialCorrelationTest:
    """What the package's search calls for a p-value: Fisher's z on moments, each triple tested once."""

    method = "fisherz"  # the package asks for the name

    def __init__(self, data: Moments, budget: Budget | None) -> None:
        self._data, self._budget = data, budget
        self._known: dict[tuple[int, ...], float] = {}

    def __call__(self, i: int, j: int, given: Collection[int] = ()) -> float:
        if self._budget is not None and self._budget.expired:
            raise OutOfTime
        key = (*sorted((int(i), int(j))), *sorted(int(k) for k in given))
        if key not in self._known:
            self._known[key] = independence_p_value(self._data, key[0], key[1], key[2:])
        return self._known[key]


def pc(
    data: Moments,
    n_variables: int,
    alpha: float,
    max_conditioning: int | None = None,
    budget: Budget | None = None,
) -> BoolArray:
    """PC-stable with the columns after the first ``n_variables`` exogenous and not connected among each other.

    Parameters
    ----------
    data : Moments
        Of d system variables followed by k indicators.
    n_variables : int
        d.
    alpha : float
        Level of each test.
    max_conditioning : int or None
    budget : Budget or None

    Returns
    -------
    bool (d + k, d + k)

    Raises
    ------
    OutOfTime
        If the budget ran out.
    """
    test = PartialCorrelationTest(data, budget)
    skeleton, separating = _skeleton(test, data.n_variables, n_variables, alpha, max_conditioning)
    arrows = _collider_strength(skeleton, separating, test, n_variables)
    graph = skeleton & (arrows >= arrows.T)
    graph[n_variables:, :n_variables] = skeleton[n_variables:, :n_variables]
    graph[:n_variables, n_variables:] = False
    return apply_meek_rules(graph)


def _skeleton(
    test: PartialCorrelationTest, n_columns: int, n_variables: int, alpha: float, max_conditioning: int | None
) -> tuple[BoolArray, Any]:
    """Adjacent pairs, bool (d + k, d + k), and for each other pair a list of separating sets, object (d + k, d + k)."""
    # At first use: listing the methods stays fast.
    from causallearn.graph.GraphNode import GraphNode
    from causallearn.utils.PCUtils.BackgroundKnowledge import BackgroundKnowledge
    from causallearn.utils.PCUtils.SkeletonDiscovery import skeleton_discovery

    names = [f"X{i}" for i in range(n_columns)]
    tiers = BackgroundKnowledge()
    for i, name in enumerate(names):
        tiers.add_node_to_tier(GraphNode(name), 1 if i < n_variables else 0)
    tiers.forbid_within_tier(0)
    found = skeleton_discovery(
        np.empty((0, n_columns)),  # only its width is read: the test has the moments
        alpha,
        test,
        background_knowledge=tiers,
        show_progress=False,
        node_names=names,
        max_k=max_conditioning,
    )
    return np.asarray(found.G.graph != 0), found.sepset


def _collider_strength(skeleton: BoolArray, separating: Any, test: PartialCorrelationTest, n_variables: int) -> FloatArray:
    """Largest p-value of "the ends are independent" over the colliders that hold the arrow i -> j, float64 (d + k, d + k).

    -1 where no collider does. A collider is an unshielded triple whose middle is in none of the separating sets of its ends;
    two indicators are never its ends, as they count as related.
    """
    strength = np.full(skeleton.shape, -1.0)
    for middle in range(n_variables):
        for i, j in combinations(np.flatnonzero(skeleton[middle]).tolist(), 2):
            if skeleton[i, j] or min(i, j) >= n_variables or any(middle in s for s in separating[i, j]):
                continue
            p_value = max(test(i, j, s) for s in separating[i, j])
            strength[[i, j], middle] = np.maximum(strength[[i, j], middle], p_value)
    return strength
