"""A DAG together with what every single change of it would gain.

Row i of gains prices adding or deleting j -> i exactly, and reversing an edge gains the sum of its two halves, because scores
decompose over nodes. A change costs one row of scores for each node whose parents changed, and one update of the descendants.

Operations on a state are compiled and stop where a row is missing: ``GraphState.run`` asks for it and calls them again. Every
change is logged, so that a failed attempt is undone, and a chain's path replayed, without copies of the graph.

Not here: which change to make (``local_search``, ``jump_process``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bench.types import BoolArray, Budget, FloatArray
from methods.metacadi.compiled import compiled
from methods.metacadi.evidence import LocalScores
from methods.metacadi.search.rows import Int64Array, RowTable, Screening, find, key_of

DONE, MISSING, FULL, VAGUE = 0, 1, 2, 3
"""How an operation ends: finished; waits for the row of ``wanted``; for a longer log; for a gain that is only estimated."""

N_EDGES, N_LOGGED, N_SETTLED, WANTED, WANTED_PARENT = range(5)
"""Places of ``Arrays.counts``: edges, changes logged, those of them up to which all rows were known, node of a missing row or
gain, and the parent whose gain it is."""

NEW_GAINS, MORE_DESCENDANTS, FEWER_DESCENDANTS = 1, 2, 4
"""Bits of ``Arrays.stale``."""

_FIRST_LOG = 1024


class Arrays(NamedTuple):
    """A state as compiled code sees it.

    Parameters
    ----------
    graph, parents : bool (d, d)
        Row i holds the children and the parents of i.
    descendants : bool (d, d)
        Row i holds the proper descendants of i, just the nodes that may not become its parents.
    n_descendants : int64 (d,)
    keys, places : int64 (d,)
        Of the row of scores of each node; place -1 where it was not looked up since the parents changed.
    stale : uint8 (d,)
        What changed for each node, as bits; who summarises rows clears what it has seen.
    edges : int32 (d (d - 1) / 2, 2)
        Sources and targets, in no order that means anything.
    log : int32 (n, 2)
        Edges toggled since the log was cleared.
    wanted : bool (d,)
        Parents of the missing row, or of the row of the estimated gain.
    barred : bool (d,)
        What is no parent that matters with that row or gain.
    counts : int64 (5,)
    """

    graph: BoolArray
    parents: BoolArray
    descendants: BoolArray
    n_descendants: Int64Array
    keys: Int64Array
    places: Int64Array
    stale: Any
    edges: Any
    log: Any
    wanted: BoolArray
    barred: BoolArray
    counts: Int64Array


class GraphState:
    """A DAG over the variables of ``scores``, empty at first.

    Parameters
    ----------
    scores : LocalScores
    screening : Screening, optional
        Of its table of rows.

    Attributes
    ----------
    scores : LocalScores
    arrays : Arrays
    table : RowTable
    """

    def __init__(self, scores: LocalScores, screening: Screening | None = None) -> None:
        d = scores.n_variables
        self.scores = scores
        self.table = RowTable(scores, screening)
        nothing = np.zeros(d, dtype=np.bool_)
        self.arrays = Arrays(
            np.zeros((d, d), dtype=np.bool_),
            np.zeros((d, d), dtype=np.bool_),
            np.zeros((d, d), dtype=np.bool_),
            np.zeros(d, dtype=np.int64),
            np.array([key_of(self.table.rows.salts, i, nothing) for i in range(d)]),
            np.full(d, -1),
            np.full(d, NEW_GAINS, dtype=np.uint8),
            np.empty((d * (d - 1) // 2, 2), dtype=np.int32),
            np.empty((max(_FIRST_LOG, 2 * d), 2), dtype=np.int32),
            nothing,
            nothing.copy(),
            np.zeros(5, dtype=np.int64),
        )
        self.run(settle)

    @property
    def graph(self) -> BoolArray:
        """Row i holds the children of i, bool (d, d). Read it, or copy it; change it by operations."""
        return self.arrays.graph

    @property
    def n_edges(self) -> int:
        return int(self.arrays.counts[N_EDGES])

    @property
    def gains(self) -> FloatArray:
        """Entry (i, j) is what toggling j -> i gains, -inf on the diagonal, float64 (d, d)."""
        self.run(settle)
        return self.table.rows.gains[self.arrays.places]

    @property
    def score(self) -> float:
        self.run(settle)
        return float(self.table.rows.own[self.arrays.places].sum())

    def run(self, operation: Callable[..., int], *arguments: Any, budget: Budget | None = None) -> bool:
        """Call an operation until it is done; False where the budget expired before.

        Parameters
        ----------
        operation : compiled function of (Arrays, Rows, *arguments)
            Returns ``DONE``, or why it has to be called again.
        budget : Budget, optional
            Asked before each missing row or gain.
        """
        counts = self.arrays.counts
        while (status := operation(self.arrays, self.table.rows, *arguments)) != DONE:
            if status == FULL:
                self.arrays = self.arrays._replace(log=np.concatenate([self.arrays.log, np.empty_like(self.arrays.log)]))
            elif budget is not None and budget.expired:
                return False
            elif status == VAGUE:
                node = int(counts[WANTED])
                self.table.refine(node, self.arrays.wanted, int(counts[WANTED_PARENT]), self.arrays.barred)
                self.arrays.stale[node] |= NEW_GAINS
            elif self.table.add(int(counts[WANTED]), self.arrays.wanted, self.arrays.barred):
                self.arrays.places[:] = -1
                self.arrays.stale[:] |= NEW_GAINS
        return True

    def consult(self, table: RowTable) -> None:
        """Take rows from another table from now on."""
        self.table = table
        self.arrays.places[:] = -1
        self.arrays.stale[:] = NEW_GAINS

    def become(self, graph: BoolArray) -> None:
        """Change to another DAG, bool (d, d)."""
        places = np.flatnonzero(self.graph != graph)  # many times faster than pairs of indices where edges are few among many
        different = np.stack(np.divmod(places, len(graph)), axis=1)
        removed = self.graph[different[:, 0], different[:, 1]]
        # Deletions first, so that every graph on the way is acyclic.
        for edges in (different[removed], different[~removed]):
            for start in range(0, len(edges), _FIRST_LOG // 2):
                self.run(toggle_all, edges[start : start + _FIRST_LOG // 2].astype(np.int32))

    def undo(self, *, to_settled: bool = False) -> None:
        """Go back to where the log was cleared, or only to where all rows were known."""
        undo(self.arrays, self.table.rows, self.arrays.counts[N_SETTLED] if to_settled else 0)

    def changed_nodes(self) -> Int64Array:
        """Ends of the edges toggled since the log was cleared, int64 (n,)."""
        return np.unique(self.arrays.log[: self.arrays.counts[N_LOGGED]]).astype(np.int64)

    def clear_log(self) -> None:
        self.arrays.counts[N_LOGGED] = self.arrays.counts[N_SETTLED] = 0


# Compiled: operations ---------------------------------------------------------------------------------------------------------


@compiled
def settle(state: Any, rows: Any) -> Any:
    """Look up the row of each node whose parents changed."""
    for i in range(len(state.places)):
        if state.places[i] < 0:
            place = find(rows, state.keys[i], i, state.parents[i])
            if place < 0:
                state.counts[WANTED] = i
                state.wanted[:] = state.parents[i]
                state.barred[:] = state.descendants[i]
                return MISSING
            state.places[i] = place
    state.counts[N_SETTLED] = state.counts[N_LOGGED]
    if state.counts[N_LOGGED] + 2 * len(state.places) > len(state.log):
        return FULL
    return DONE


@compiled
def toggle_all(state: Any, rows: Any, edges: Any) -> Any:
    """Toggle each of ``edges``, int32 (m, 2), where the graph stays acyclic all the way."""
    if state.counts[N_LOGGED] + len(edges) > len(state.log):
        return FULL
    for e in range(len(edges)):
        toggle(state, rows, edges[e, 0], edges[e, 1])
    return DONE


@compiled
def undo(state: Any, rows: Any, n_kept: Any) -> None:
    """Take back all logged changes but the first ``n_kept``."""
    counts = state.counts
    while counts[N_LOGGED] > n_kept:
        a, b = state.log[counts[N_LOGGED] - 1]
        toggle(state, rows, a, b)
        counts[N_LOGGED] -= 2
    counts[N_SETTLED] = min(counts[N_SETTLED], n_kept)


@compiled
def toggle(state: Any, rows: Any, a: Any, b: Any) -> None:
    """Add or delete a -> b, which closes no cycle, and log it."""
    if state.graph[a, b]:
        _remove_edge(state, a, b)
    else:
        _add_edge(state, a, b)
    state.keys[b] ^= rows.salts[a]
    state.places[b] = -1
    state.stale[b] |= NEW_GAINS
    n_logged = state.counts[N_LOGGED]
    state.log[n_logged, 0], state.log[n_logged, 1] = a, b
    state.counts[N_LOGGED] += 1


@compiled
def _add_edge(state: Any, a: Any, b: Any) -> None:
    state.graph[a, b] = state.parents[b, a] = True
    n_edges = state.counts[N_EDGES]
    state.edges[n_edges, 0], state.edges[n_edges, 1] = a, b
    state.counts[N_EDGES] += 1
    for x in range(len(state.graph)):
        if (x == a or state.descendants[x, a]) and not state.descendants[x, b]:
            state.descendants[x, b] = True
            state.descendants[x] |= state.descendants[b]
            state.n_descendants[x] = state.descendants[x].sum()
            state.stale[x] |= MORE_DESCENDANTS


@compiled
def _remove_edge(state: Any, a: Any, b: Any) -> None:
    state.graph[a, b] = state.parents[b, a] = False
    e = 0
    while state.edges[e, 0] != a or state.edges[e, 1] != b:
        e += 1
    state.counts[N_EDGES] -= 1
    state.edges[e] = state.edges[state.counts[N_EDGES]]
    # Descendants shrink for a and its ancestors only. Whoever had fewer is settled first: children before their parents.
    affected = state.descendants[:, a].copy()
    affected[a] = True
    nodes = np.flatnonzero(affected)
    for x in nodes[np.argsort(state.n_descendants[nodes])]:
        state.descendants[x] = state.graph[x]
        for child in np.flatnonzero(state.graph[x]):
            state.descendants[x] |= state.descendants[child]
        state.n_descendants[x] = state.descendants[x].sum()
        state.stale[x] |= FEWER_DESCENDANTS


@compiled
def reversal_closes_cycle(state: Any, a: Any, b: Any) -> Any:
    """Would b -> a in place of a -> b close a cycle: does a lead to another parent of b?"""
    closes = False
    for x in range(len(state.parents)):
        closes |= state.parents[b, x] and x != a and state.descendants[a, x]
    return closes
