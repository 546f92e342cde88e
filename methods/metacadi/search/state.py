"""A DAG together with what every single change of it would gain.

``gains[i, j]`` prices adding or deleting j -> i exactly, and reversing an edge gains the sum of its two halves, because scores
decompose over nodes. A change costs one row of scores for each node whose parents changed, and one update of the descendants.

Not here: which change to make (``local_search``, ``structure_mcmc``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.types import BoolArray, FloatArray
from methods.metacadi.compiled import compiled
from methods.metacadi.evidence import LocalScores

IntArray = npt.NDArray[np.intp]


class Move(NamedTuple):
    """One change of a DAG: toggle the edge source -> target, or reverse it where it stands."""

    source: int
    target: int
    reverses: bool = False

    @property
    def inverse(self) -> Move:
        return Move(self.target, self.source, True) if self.reverses else self


class GraphState:
    """A DAG over the variables of ``scores``, its total score, and the gain of every single change.

    Parameters
    ----------
    scores : LocalScores
    graph : bool (d, d), optional
        Acyclic; empty by default.

    Attributes
    ----------
    graph : bool (d, d)
        Row i holds the children of i. Read it, or copy it; change it by :meth:`apply` and :meth:`become`.
    descendants : bool (d, d)
        Row i holds the proper descendants of i, just the nodes that may not become its parents.
    gains : float64 (d, d)
        Entry (i, j) is what toggling j -> i gains; -inf on the diagonal.
    stale : bool (d,)
        Rows of which ``gains`` or ``descendants`` changed; who summarises rows clears what it has seen.
    n_requests : int
        Rows of scores asked for so far.
    """

    def __init__(self, scores: LocalScores, graph: BoolArray | None = None) -> None:
        d = scores.n_variables
        self.graph = np.zeros((d, d), dtype=np.bool_)
        self.descendants = np.zeros((d, d), dtype=np.bool_)
        self.gains = np.empty((d, d))
        self.stale = np.ones(d, dtype=np.bool_)
        self.n_requests = 0
        self._scores = scores
        self._parents = np.zeros((d, d), dtype=np.bool_)
        self._own = np.empty(d)
        if graph is not None:
            self._rewire(graph)
        for i in range(d):
            self._refresh(i)

    @property
    def score(self) -> float:
        return float(self._own.sum())

    def apply(self, move: Move) -> None:
        """Make a legal move."""
        a, b, reverses = move
        if self.graph[a, b]:
            _remove_edge(self.graph, self._parents, self.descendants, self.stale, a, b)
        else:
            _add_edge(self.graph, self._parents, self.descendants, self.stale, a, b)
        self._refresh(b)
        if reverses:
            _add_edge(self.graph, self._parents, self.descendants, self.stale, b, a)
            self._refresh(a)

    def become(self, graph: BoolArray) -> None:
        """Change to another DAG, bool (d, d); only nodes with other parents ask for scores."""
        for i in self._rewire(graph):
            self._refresh(i)

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """Scores of any parent set of i and its single changes; see :class:`LocalScores`."""
        self.n_requests += 1
        return self._scores.toggles(i, parents)

    def topological_order(self, rng: np.random.Generator) -> IntArray:
        """A random order in which every edge points forward, int (d,).

        An ancestor has at least one descendant more than each of its descendants, which noise below one keeps.
        """
        return np.argsort(-(self.descendants.sum(axis=1) + rng.random(len(self.graph))))

    def edges(self) -> IntArray:
        """Edges as source * d + target, sorted, int (m,)."""
        return np.flatnonzero(self.graph)

    def _rewire(self, graph: BoolArray) -> list[int]:
        """Change the edges, deletions first so that every graph on the way is acyclic; the nodes with other parents."""
        different = self.graph != graph
        arrays = self.graph, self._parents, self.descendants, self.stale
        places = np.flatnonzero(different)  # many times faster than pairs of indices where edges are few among many
        sources, targets = np.divmod(places, len(graph))
        removed = self.graph[sources, targets]
        for a, b in zip(sources[removed], targets[removed], strict=True):
            _remove_edge(*arrays, a, b)
        for a, b in zip(sources[~removed], targets[~removed], strict=True):
            _add_edge(*arrays, a, b)
        return [int(i) for i in np.unique(targets)]

    def _refresh(self, i: int) -> None:
        self._own[i], self.gains[i] = self.toggles(i, self._parents[i])
        self.stale[i] = True


@compiled
def _add_edge(graph: Any, parents: Any, descendants: Any, stale: Any, a: Any, b: Any) -> None:
    graph[a, b] = parents[b, a] = True
    for x in range(len(graph)):
        if x == a or descendants[x, a]:
            descendants[x, b] = True
            descendants[x] |= descendants[b]
            stale[x] = True


@compiled
def _remove_edge(graph: Any, parents: Any, descendants: Any, stale: Any, a: Any, b: Any) -> None:
    graph[a, b] = parents[b, a] = False
    # Descendants shrink for a and its ancestors only. Whoever had fewer is settled first: children before their parents.
    affected = descendants[:, a].copy()
    affected[a] = True
    nodes = np.flatnonzero(affected)
    n_descendants = np.array([descendants[x].sum() for x in nodes])
    for x in nodes[np.argsort(n_descendants)]:
        descendants[x] = graph[x]
        for child in np.flatnonzero(graph[x]):
            descendants[x] |= descendants[child]
        stale[x] = True


@compiled
def reversal_gains(edges: Any, gains: Any, descendants: Any) -> Any:
    """Gain of reversing each of ``edges`` (sorted), float64 (m,); -inf where that would close a cycle.

    Reversing a -> b closes one where another child of a leads to b.
    """
    d = len(gains)
    reversal = np.empty(len(edges))
    first = 0  # of the edges out of the same source
    for e in range(len(edges)):
        a, b = edges[e] // d, edges[e] % d
        if a != edges[first] // d:
            first = e
        reversal[e] = gains[b, a] + gains[a, b]
        sibling = first
        while sibling < len(edges) and edges[sibling] // d == a:
            if descendants[edges[sibling] % d, b]:
                reversal[e] = -np.inf
                break
            sibling += 1
    return reversal
