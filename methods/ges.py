"""Greedy equivalence search on the samples of all environments, each centred on its own mean: no interventions at all.

What a score search makes of several environments without knowing that somebody intervened. The search is our own, over bit
masks, and asks for each local score once; ``results/comparisons`` holds it against that of the package causal-learn.

Sets of variables are bit masks in Python integers: bit i stands for variable i.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from annotated_types import Gt

from bench.bootstrap import PointMethod, Replicates
from bench.gaussian import Moments, bic_local_score, environment_moments, merge_centred, moments
from bench.graphs import consistent_extension, cpdag, edge_scores_of_class
from bench.registry import register_method
from bench.types import BoolArray, Budget, Capabilities, Estimate, Fitted, Meta, Observed

_SMALLEST_GAIN = 1e-6
"""Nats below which a step is no gain; less can be rounding between equivalent graphs."""

_SATURATED = -1e100
"""Score of a parent set that leaves no residual degree of freedom; finite, since the search subtracts scores."""


@register_method("ges")
class Ges(PointMethod):
    """GES with the Gaussian BIC on environment-centred data.

    Centring takes shifts out, but not what else an intervention changes: a hard intervention cuts its target from its parents
    in that environment, and pooled data then follow a mixture. The answer is a CPDAG; interventions direct no edge.

    Greedy search ends in local optima: on dense graphs with strong edges, its BIC is often some twenty nats below that of the
    true graph, and the graph then has edges too many.

    Parameters
    ----------
    penalty : float
        Factor of the BIC's penalty; 1 is the BIC.
    bootstrap : int
        Replicates of the within-environment bootstrap; 0 for none.

    Notes
    -----
    Where the budget runs out, the answer is the class reached so far.

    References
    ----------
    D. M. Chickering, "Optimal structure identification with greedy search", JMLR 3 (2002): the operators Insert (theorem 15)
    and Delete (theorem 17), first all insertions, then all deletions. Deviations: none in the search; the means of the
    environments count as fitted parameters, and an exact copy of a variable has a finite score.
    """

    capabilities = Capabilities(edge_output="binary", deterministic=True)
    meta = Meta(
        "GES on pooled, environment-centred data: BIC, equivalence class, no interventions (own implementation).",
        "Chickering, Optimal structure identification with greedy search, JMLR 3, 2002",
        mechanisms="linear",
        noise="Gaussian",
        interventions=(),
        complexity="d² insertions for each edge found, times 2^k subsets of k neighbours; each new score in its parents cubed",
        n_variables=(2, 100),
    )
    search_space: ClassVar = {"penalty": [0.5, 1.0, 2.0, 4.0]}

    def __init__(self, penalty: Annotated[float, Gt(0)] = 2.0, bootstrap: Replicates = 0) -> None:
        self.penalty = penalty
        self.bootstrap = bootstrap

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        graph, cut_short = search(merge_centred(environment_moments(observed)), self.penalty, budget)
        return Fitted(Estimate(edge_scores_of_class(graph), point_graph=graph, graph_kind="cpdag"), cut_short=cut_short)

    def warm_up(self) -> None:
        """Compile the kernel of the score."""
        search(moments(np.random.default_rng(0).normal(size=(20, 3))))


class _OutOfTime(Exception):
    """The budget ran out in the middle of a step."""


class _Score:
    """BIC of a variable given a mask of parents, each asked for once."""

    def __init__(self, data: Moments, penalty: float, budget: Budget | None) -> None:
        self._data, self._penalty, self._budget = data, penalty, budget
        self._known: dict[tuple[int, int], float] = {}

    def __call__(self, variable: int, parents: int) -> float:
        key = (variable, parents)
        if key not in self._known:
            if self._budget is not None and self._budget.expired:
                raise _OutOfTime
            self._known[key] = self._score(variable, _members(parents))
        return self._known[key]

    def _score(self, variable: int, parents: list[int]) -> float:
        if parents and len(parents) >= self._data.degrees:
            return _SATURATED
        return bic_local_score(self._data, variable, parents, penalty=self._penalty)


class _Class(NamedTuple):
    """A CPDAG by masks, one of each kind per variable."""

    parents: list[int]
    children: list[int]
    neighbours: list[int]

    @classmethod
    def of(cls, graph: BoolArray) -> _Class:
        directed, undirected = graph & ~graph.T, graph & graph.T
        return cls(_masks(directed.T), _masks(directed), _masks(undirected))

    def adjacent(self, i: int) -> int:
        return self.parents[i] | self.children[i] | self.neighbours[i]

    def is_clique(self, mask: int) -> bool:
        return all(not mask & ~(1 << i) & ~self.adjacent(i) for i in _members(mask))

    def leads(self, start: int, end: int, blocked: int) -> bool:
        """Whether a semi-directed path runs from ``start`` to ``end`` outside ``blocked``."""
        seen = waiting = 1 << start
        while waiting:
            i = waiting.bit_length() - 1
            waiting &= ~(1 << i)
            fresh = (self.children[i] | self.neighbours[i]) & ~blocked & ~seen
            if fresh >> end & 1:
                return True
            seen |= fresh
            waiting |= fresh
        return False


def search(data: Moments, penalty: float = 1.0, budget: Budget | None = None) -> tuple[BoolArray, bool]:
    """Greedy equivalence search from the empty graph.

    Returns
    -------
    graph : bool (d, d)
        CPDAG.
    cut_short : bool
        The budget ran out; the graph is that of the last complete step.
    """
    score = _Score(data, penalty, budget)
    graph = np.zeros((data.n_variables, data.n_variables), dtype=bool)
    try:
        for best_step in (_best_insertion, _best_deletion):
            while (pdag := best_step(graph, score)) is not None:
                dag = consistent_extension(pdag)
                assert dag is not None, "a valid operator leaves a graph that can be extended"
                graph = cpdag(dag)
    except _OutOfTime:
        return graph, True
    return graph, False


def _best_insertion(graph: BoolArray, score: _Score) -> BoolArray | None:
    """The graph after the best Insert(x, y, T), not yet completed; None where none gains."""
    among = _Class.of(graph)
    best_gain, best = _SMALLEST_GAIN, None
    for x, y in zip(*np.nonzero(~(graph | graph.T | np.eye(len(graph), dtype=bool))), strict=True):
        x, y = int(x), int(y)
        shared = among.neighbours[y] & among.adjacent(x)
        for extra in _subsets(among.neighbours[y] & ~among.adjacent(x)):
            before = shared | extra | among.parents[y]
            gain = score(y, before | 1 << x) - score(y, before)
            if gain > best_gain and among.is_clique(shared | extra) and not among.leads(y, x, shared | extra):
                best_gain, best = gain, (x, y, extra)
    if best is None:
        return None
    x, y, extra = best
    after = graph.copy()
    after[x, y] = True
    after[y, _members(extra)] = False  # T - y becomes T -> y
    return after


def _best_deletion(graph: BoolArray, score: _Score) -> BoolArray | None:
    """The graph after the best Delete(x, y, H), not yet completed; None where none gains."""
    among = _Class.of(graph)
    best_gain, best = _SMALLEST_GAIN, None
    for x, y in zip(*np.nonzero(graph), strict=True):
        x, y = int(x), int(y)
        shared = among.neighbours[y] & among.adjacent(x)
        for removed in _subsets(shared):
            after = (shared & ~removed | among.parents[y]) & ~(1 << x)
            gain = score(y, after) - score(y, after | 1 << x)
            if gain > best_gain and among.is_clique(shared & ~removed):
                best_gain, best = gain, (x, y, removed)
    if best is None:
        return None
    x, y, removed = best
    after_it = graph.copy()
    after_it[x, y] = after_it[y, x] = False
    heads = _members(removed)
    after_it[heads, y] = False  # H - y becomes y -> H
    after_it[[h for h in heads if graph[x, h]], x] = False  # and x - H becomes x -> H
    return after_it


def _subsets(mask: int) -> Iterator[int]:
    """All subsets of a mask, the empty one first."""
    subset = 0
    while True:
        yield subset
        subset = (subset - mask) & mask
        if not subset:
            return


def _members(mask: int) -> list[int]:
    return [i for i in range(mask.bit_length()) if mask >> i & 1]


def _masks(rows: BoolArray) -> list[int]:
    """Each row of a bool (d, d) array as a mask."""
    return [sum(1 << int(i) for i in np.flatnonzero(row)) for row in rows]
