"""A Markov jump process on DAGs whose time in each graph is in proportion to exp(score).

From x it jumps to each neighbour y, one addition, deletion or reversal away, at rate g(p(y) / p(x)), g(t) = t / (1 + t): p(x)
times the rate is symmetric in x and y, so the posterior is invariant. No such jump is ever rejected. A graph counts for its
expected holding time, the inverse of its total rate, so a clear posterior is sampled by few jumps and few rows of scores.

Sets of edges that lead from mode to mode (``exchanges``) are further neighbours where they fit, which is as much so on the way
back: the balance stays. What they gain is looked up when one comes up, at a constant rate, and it may then be turned down.

Not here: where to start (``local_search``).

References
----------
Power and Goldman, "Accelerated sampling on discrete spaces with non-reversible Markov processes" (2019), section 3; Zanella,
"Informed proposals for local MCMC in discrete spaces", JASA 115 (2020), for balancing functions (Barker's here, bounded and so
safe for any score). Deviation: expected in place of random holding times.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bench.types import BoolArray, Budget, FloatArray
from methods.metacadi.compiled import compiled
from methods.metacadi.search.exchanges import NO_EXCHANGES, Exchanges
from methods.metacadi.search.rows import Int64Array, find
from methods.metacadi.search.state import (
    DONE,
    MISSING,
    N_EDGES,
    N_LOGGED,
    NEW_GAINS,
    WANTED,
    GraphState,
    reversal_closes_cycle,
    settle,
    toggle,
    undo,
)

N_BATCHES = 20
"""Pieces of the path, equal in time, that tell how well it knows a frequency."""

BATCHES_EACH = (5, 10, 20)
"""A path that mixes slowly shows it in few long batches before it does in many short ones."""

EXCHANGE_RATE = 0.5
"""At most, of each set of edges that fits: as much as a jump between two graphs alike in score."""

JUMPS_AT_ONCE = 200
"""Between two looks at the budget."""

FOREVER = 1e100
"""Holding time where no neighbour is within the range of floats."""


class Rates(NamedTuple):
    """Rates of the jumps out of the present graph.

    Parameters
    ----------
    toggle : float64 (d, d)
        Of adding or deleting j -> i at (i, j), legal or not.
    row_total : float64 (d,)
        Of the legal ones.
    reversal : float64 (d (d - 1) / 2,)
        Of each edge in the order of ``Arrays.edges``.
    """

    toggle: FloatArray
    row_total: FloatArray
    reversal: FloatArray


class JumpProcess:
    """The process from the present graph of ``state`` on, which it takes over.

    Parameters
    ----------
    state : GraphState
    exchanges : Exchanges, optional
        Sets of edges to be toggled together; they must not depend on where the process goes.
    """

    def __init__(self, state: GraphState, exchanges: Exchanges = NO_EXCHANGES) -> None:
        d = len(state.graph)
        self._exchanges, self._fitting = exchanges, np.empty(len(exchanges.bounds) - 1, dtype=np.int64)
        self.n_jumps = 0
        self._state = state
        self._start = state.graph.copy()
        self._rates = Rates(np.empty((d, d)), np.empty(d), np.empty(d * (d - 1) // 2))
        self._holding: list[FloatArray] = []
        self._scores: list[FloatArray] = []
        self._ends: list[Int64Array] = []
        state.clear_log()
        state.arrays.stale[:] = NEW_GAINS

    def advance(self, n_jumps: int, *, rng: np.random.Generator, budget: Budget) -> bool:
        """Add ``n_jumps`` to the path; False where the budget expired before."""
        self._state.consult(self._state.table)  # which may have forgotten rows for another process
        for done in range(0, n_jumps, JUMPS_AT_ONCE):
            n = min(JUMPS_AT_ONCE, n_jumps - done)
            holding, scores = np.empty(n), np.empty(n)
            ends, n_done = np.empty(n, dtype=np.int64), np.zeros(1, dtype=np.int64)
            moves, path = (self._rates, self._exchanges, self._fitting), (holding, scores, ends, n_done)
            completed = not budget.expired and self._state.run(_jump, *moves, rng.random(n), *path, budget=budget)
            self._holding.append(holding[: n_done[0]])
            self._scores.append(scores[: n_done[0]])
            self._ends.append(ends[: n_done[0]])
            self.n_jumps += int(n_done[0])
            if not completed:
                return False
        return True

    def path(self) -> Path:
        """All graphs met so far, at least one."""
        holding, scores, ends = np.concatenate(self._holding), np.concatenate(self._scores), np.concatenate(self._ends)
        return Path(self._start, self._state.arrays.log, holding, scores, ends)


class Path(NamedTuple):
    """Graphs met one after the other.

    Parameters
    ----------
    start : bool (d, d)
    log : int32 (m, 2)
        Edges toggled on the way.
    holding, scores : float64 (n,)
        Expected time in each graph, and its score.
    ends : int64 (n,)
        Toggles until the process leaves each graph.
    """

    start: BoolArray
    log: Any
    holding: FloatArray
    scores: FloatArray
    ends: Int64Array

    def graphs_at(self, shares: FloatArray) -> BoolArray:
        """Graphs at increasing shares of the whole time, bool (len(shares), d, d)."""
        times = np.cumsum(self.holding)
        places = np.searchsorted(times, shares * times[-1], side="right")
        return self.graphs(np.minimum(places, len(times) - 1))

    def graphs(self, places: Int64Array) -> BoolArray:
        """Graphs by their places on the path, increasing, bool (len(places), d, d)."""
        found = np.empty((len(places), *self.start.shape), dtype=np.bool_)
        _replay(self.start, self.log, self.ends, places, found)
        return found

    def changed(self) -> Int64Array:
        """Every toggle, as d times its source plus its target, int64 (n,)."""
        return np.asarray(self.log[: self.ends[-1]].astype(np.int64) @ np.array([len(self.start), 1]))

    def batches(self, edges: Int64Array, burn_in: float) -> FloatArray:
        """Frequency of each of ``edges``, sorted, among which are all that changed, in each of ``N_BATCHES`` batches."""
        index = np.searchsorted(edges, self.changed())
        present = self.start.ravel()[edges].copy()
        shares = np.zeros((N_BATCHES, len(edges)))
        times = np.cumsum(self.holding)
        _batch_shares(index, self.ends, times, burn_in * times[-1], present, shares)
        return shares


def standard_errors(paths: list[Path], burn_in: float) -> FloatArray:
    """Of the mean frequency over several paths of each edge that ever changed, or differs between them.

    The largest by means over batches of several lengths and, of several paths, over each as a whole: paths from different modes
    that do not mix stay apart, as in the diagnostic of Gelman and Rubin (1992). The first share ``burn_in`` is left out.
    """
    first = paths[0].start
    different = [np.flatnonzero(path.start != first) for path in paths[1:]]
    edges = np.unique(np.concatenate([path.changed() for path in paths] + different))
    batches = np.stack([path.batches(edges, burn_in) for path in paths])  # (paths, N_BATCHES, edges)
    error = np.zeros(len(edges))
    for n in BATCHES_EACH:
        longer = batches.reshape(len(paths), n, N_BATCHES // n, -1).mean(axis=2)
        error = np.maximum(error, np.sqrt(longer.var(axis=1, ddof=1).mean(axis=0) / (n * len(paths))))
    if len(paths) > 1:
        error = np.maximum(error, batches.mean(axis=1).std(axis=0, ddof=1) / np.sqrt(len(paths)))
    return np.asarray(error)


@compiled
def _jump(
    state: Any,
    rows: Any,
    rates: Any,
    exchanges: Any,
    fitting: Any,
    uniforms: Any,
    holding: Any,
    scores: Any,
    ends: Any,
    n_done: Any,
) -> Any:
    """A jump for each of ``uniforms``; times held, scores and ends of the toggles go into the last arguments."""
    while n_done[0] < len(uniforms):
        status = settle(state, rows)
        if status != DONE:
            return status
        k = n_done[0]
        total = weigh(state, rows, rates)
        scores[k] = 0.0
        for place in state.places:
            scores[k] += rows.own[place]
        n_fitting = find_fitting(state, exchanges, fitting)
        at = uniforms[k] * (total + EXCHANGE_RATE * n_fitting)
        holding[k] = 1.0 / max(total + EXCHANGE_RATE * n_fitting, 1.0 / FOREVER)
        if n_fitting > 0 and at >= total:
            at = min((at - total) / EXCHANGE_RATE, n_fitting - 1e-9)
            status = exchange(state, rows, exchanges, fitting[int(at)], at - int(at), scores[k])
            if status != DONE:
                return status
        else:
            a, b, reverses = choose(state, rates, at)
            if a < 0:
                holding[k] = FOREVER
            else:
                toggle(state, rows, a, b)
                if reverses:
                    toggle(state, rows, b, a)
        ends[k] = state.counts[N_LOGGED]
        n_done[0] += 1
    return DONE


@compiled
def rate(gain: Any) -> Any:
    """g(exp(gain)), g(t) = t / (1 + t)."""
    return 1.0 / (1.0 + np.exp(-gain))


@compiled
def weigh(state: Any, rows: Any, rates: Any) -> Any:
    """Total rate of the legal jumps; ``rates`` follow what is stale."""
    d = len(state.places)
    for i in range(d):
        if state.stale[i]:
            if state.stale[i] & NEW_GAINS:
                gains = rows.gains[state.places[i]]
                for j in range(d):
                    rates.toggle[i, j] = rate(gains[j])
                rates.toggle[i, i] = 0.0
            row_total = 0.0
            for j in range(d):
                if not state.descendants[i, j]:
                    row_total += rates.toggle[i, j]
            rates.row_total[i] = row_total
            state.stale[i] = 0
    total = rates.row_total.sum()
    for e in range(state.counts[N_EDGES]):
        a, b = state.edges[e, 0], state.edges[e, 1]
        value = rate(rows.gains[state.places[b], a] + rows.gains[state.places[a], b])
        # What is lost in rounding anyhow need not be legal.
        if value < 1e-17 or reversal_closes_cycle(state, a, b):
            value = 0.0
        rates.reversal[e] = value
        total += value
    return total


@compiled
def choose(state: Any, rates: Any, at: Any) -> Any:
    """Source, target and kind of the jump whose stretch of the summed rates covers ``at``.

    Rounding may put ``at`` just beyond a stretch's end: the last jump of positive rate then stands in, or none (source -1).
    """
    d = len(rates.row_total)
    source, target, reverses = np.int64(-1), np.int64(-1), False
    for i in range(d):
        if at < rates.row_total[i]:
            for j in range(d):
                if not state.descendants[i, j] and rates.toggle[i, j] > 0.0:
                    source, target = np.int64(j), np.int64(i)
                    at -= rates.toggle[i, j]
                    if at < 0.0:
                        break
            return source, target, reverses
        at -= rates.row_total[i]
    for e in range(state.counts[N_EDGES]):
        if rates.reversal[e] > 0.0:
            source, target, reverses = np.int64(state.edges[e, 0]), np.int64(state.edges[e, 1]), True
            at -= rates.reversal[e]
            if at < 0.0:
                break
    return source, target, reverses


@compiled
def find_fitting(state: Any, exchanges: Any, fitting: Any) -> Any:
    """Put those sets into ``fitting`` whose edges stand as on one of their sides; how many."""
    n = 0
    for k in range(len(exchanges.bounds) - 1):
        start, end = exchanges.bounds[k], exchanges.bounds[k + 1]
        reversed_ = state.graph[exchanges.edges[start, 0], exchanges.edges[start, 1]] != exchanges.present[start]
        fits = True
        for e in range(start + 1, end):
            if (state.graph[exchanges.edges[e, 0], exchanges.edges[e, 1]] != exchanges.present[e]) != reversed_:
                fits = False
                break
        if fits:
            fitting[n] = k
            n += 1
    return n


@compiled
def exchange(state: Any, rows: Any, exchanges: Any, k: Any, uniform: Any, score: Any) -> Any:
    """Toggle all edges of a set that fits, with probability g, where no cycle closes."""
    start, end = exchanges.bounds[k], exchanges.bounds[k + 1]
    reversed_ = state.graph[exchanges.edges[start, 0], exchanges.edges[start, 1]] != exchanges.present[start]
    n_logged = state.counts[N_LOGGED]
    for adds in (False, True):  # deletions first
        for e in range(start, end):
            a, b = exchanges.edges[e]
            if (exchanges.present[e] == reversed_) == adds:
                if adds and state.descendants[b, a]:
                    undo(state, rows, n_logged)
                    return DONE
                toggle(state, rows, a, b)
    other = 0.0
    for i in range(len(state.places)):
        place = state.places[i]
        if place < 0:
            place = find(rows, state.keys[i], i, state.parents[i])
            if place < 0:
                state.counts[WANTED] = i
                state.wanted[:] = state.parents[i]
                state.barred[:] = state.descendants[i]
                undo(state, rows, n_logged)
                return MISSING
        other += rows.own[place]
    if uniform >= rate(other - score):
        undo(state, rows, n_logged)
    return DONE


@compiled
def _replay(start: Any, log: Any, ends: Any, places: Any, found: Any) -> None:
    graph, n_toggled = start.copy(), 0
    for s in range(len(places)):
        n = ends[places[s] - 1] if places[s] > 0 else 0
        while n_toggled < n:
            a, b = log[n_toggled]
            graph[a, b] = not graph[a, b]
            n_toggled += 1
        found[s] = graph


@compiled
def _batch_shares(index: Any, ends: Any, times: Any, start: Any, present: Any, shares: Any) -> None:
    """Share of each batch of the time from ``start`` on in which an edge is present, into ``shares`` (n_batches, n_edges)."""
    n_batches = len(shares)
    length = (times[-1] - start) / n_batches
    since = np.full(len(present), start)
    n_toggled = 0
    for k in range(len(ends)):
        while n_toggled < ends[k]:
            e = index[n_toggled]
            if present[e]:
                _add_interval(since[e], times[k], start, length, shares[:, e])
            present[e] = not present[e]
            since[e] = max(times[k], start)
            n_toggled += 1
    for e in range(len(present)):
        if present[e]:
            _add_interval(since[e], times[-1], start, length, shares[:, e])


@compiled
def _add_interval(begin: Any, end: Any, start: Any, length: Any, shares: Any) -> None:
    first = max(0, int((begin - start) / length))
    for batch in range(first, len(shares)):
        low, high = start + batch * length, start + (batch + 1) * length
        if low >= end:
            break
        shares[batch] += max(0.0, min(end, high) - max(begin, low)) / length
