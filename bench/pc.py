"""The PC algorithm with exogenous columns beside the variables, on any test of conditional independence.

The skeleton search is that of the package causal-learn. Colliders are oriented here and Meek's rules are those of
``bench.graphs``, because the package's answers hang on the order of the variables.

Not here: the tests (``bench.gaussian``, ``bench.kernel_tests``), and what the columns stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import combinations
from typing import Any

import numpy as np

from bench.graphs import apply_meek_rules
from bench.types import BoolArray, Budget, FloatArray

IndependenceTest = Callable[[int, int, Collection[int]], float]
"""p-value of "columns i and j are independent given some others"; i < j, and the others in increasing order."""


class OutOfTime(Exception):
    """The budget ran out before PC had an answer; it has none on the way."""


class _Asked:
    """What the package's search calls for a p-value: each triple is tested once, whatever the order of its parts."""

    method = "any"  # the package asks for a name

    def __init__(self, test: IndependenceTest, budget: Budget | None) -> None:
        self._test, self._budget = test, budget
        self._known: dict[tuple[int, ...], float] = {}

    def __call__(self, i: int, j: int, given: Collection[int] = ()) -> float:
        if self._budget is not None and self._budget.expired:
            raise OutOfTime
        key = (*sorted((int(i), int(j))), *sorted(int(k) for k in given))
        if key not in self._known:
            self._known[key] = self._test(key[0], key[1], key[2:])
        return self._known[key]


def pc(
    test: IndependenceTest,
    n_variables: int,
    n_exogenous: int,
    alpha: float,
    max_conditioning: int | None = None,
    budget: Budget | None = None,
    *,
    exogenous_first: bool = False,
) -> BoolArray:
    """PC-stable on d variables, followed by k exogenous columns that are not looked for edges between.

    Parameters
    ----------
    test : callable (i, j, given) -> float
        Asked once for each triple.
    n_variables, n_exogenous : int
        d and k.
    alpha : float
        Level of each test.
    max_conditioning : int or None
        Size of the largest conditioning set; None for no limit.
    budget : Budget or None
    exogenous_first : bool
        What an exogenous column says of a direction outweighs colliders among variables: a variable j that is not next to the
        column, but to a variable m that is, is the effect of m where m is in the separating set of j and the column, else its
        cause.

    Returns
    -------
    bool (d + k, d + k)
        Edges from exogenous columns are directed. As PC can contradict itself, where two colliders want an edge in opposite
        directions, the one whose ends are more clearly independent (larger p-value) has it; what Meek's rules force both
        ways stays undirected.

    Raises
    ------
    OutOfTime
        If the budget ran out.

    References
    ----------
    Colombo, Maathuis, "Order-independent constraint-based causal structure learning", JMLR 15 (2014), PC-stable. Deviations: in
    causal-learn, *all* separating sets of the size at which an edge falls are joined, and a collider is in none of them;
    contradicting colliders are settled as above.
    """
    asked = _Asked(test, budget)
    skeleton, separating = _skeleton(asked, n_variables + n_exogenous, n_variables, alpha, max_conditioning)
    arrows = _arrow_strength(skeleton, separating, asked, n_variables, exogenous_first)
    graph = skeleton & (arrows >= arrows.T)
    graph[n_variables:, :n_variables] = skeleton[n_variables:, :n_variables]
    graph[:n_variables, n_variables:] = False
    return apply_meek_rules(graph)


def _skeleton(
    test: _Asked, n_columns: int, n_variables: int, alpha: float, max_conditioning: int | None
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


def _arrow_strength(skeleton: BoolArray, separating: Any, test: _Asked, n_variables: int, exogenous_first: bool) -> FloatArray:
    """Largest p-value of "the ends are independent" over the triples that ask for the arrow i -> j, float64 (d + k, d + k).

    -1 where none does. A collider is an unshielded triple whose middle is in none of the separating sets of its ends; two
    exogenous columns are never its ends, as they count as related. With ``exogenous_first``, triples that end in an exogenous
    column count one more, colliders or not.
    """
    strength = np.full(skeleton.shape, -1.0)
    for middle in range(n_variables):
        for i, j in combinations(np.flatnonzero(skeleton[middle]).tolist(), 2):
            if skeleton[i, j] or i >= n_variables:
                continue
            is_collider = not any(middle in s for s in separating[i, j])
            outweighs = exogenous_first and j >= n_variables
            if is_collider or outweighs:
                p_value = max(test(i, j, s) for s in separating[i, j]) + outweighs
                arrows = ([i, j], middle) if is_collider else (middle, i)
                strength[arrows] = np.maximum(strength[arrows], p_value)
    return strength
