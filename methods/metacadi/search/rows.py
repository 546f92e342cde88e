"""A table of score rows, read by compiled code: whole climbs and chains then run without Python until a row is missing.

Not here: how rows come about (``evidence``), who asks for them (``state``).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from bench.types import BoolArray, FloatArray
from methods.metacadi.compiled import compiled
from methods.metacadi.evidence import LocalScores
from methods.metacadi.model import IntArray

Int64Array = npt.NDArray[np.int64]

MAX_BYTES = 1 << 29
"""Of all rows; a full table forgets them. It holds at least ``MIN_ROWS_PER_VARIABLE`` rows a variable in any case."""

MIN_ROWS_PER_VARIABLE = 8

SIDE_BY_SIDE = 8
"""Parent sets that cost as much as one."""


class Rows(NamedTuple):
    """The table as compiled code sees it; n is the capacity.

    Parameters
    ----------
    slots : int64 (power of two,)
        Open addressing by key: place of a row plus one, 0 where empty.
    keys, nodes : int64 (n,)
    parents : bool (n, d)
    own : float64 (n,)
        Score of the parent set.
    gains : float64 (n, d)
        Of single changes.
    exact : bool (n, d)
        Which gains are known, and not estimated.
    salts : int64 (2 d,)
        A parent set's key is the exclusive or of its members' salts, from place 0, and of the node's, from place d.
    """

    slots: Int64Array
    keys: Int64Array
    nodes: Int64Array
    parents: BoolArray
    own: FloatArray
    gains: FloatArray
    exact: BoolArray
    salts: Int64Array


@runtime_checkable
class ScreenedScores(LocalScores, Protocol):
    """Scores that can estimate what they need not know exactly."""

    def toggles_among(self, i: int, parents: BoolArray, candidates: BoolArray) -> tuple[float, FloatArray]:
        """As ``toggles`` for j among the parents or ``candidates``, bool (d,), alone; −inf for others."""

    def screened_row(
        self, i: int, parents: BoolArray, likely: IntArray, least_gain: float, *, optimistic: bool
    ) -> tuple[float, FloatArray, BoolArray]:
        """As ``toggles``, and where gains are exact, bool (d,), and not estimates, which are many times cheaper.

        Exact are at least those of removals and of additions that are estimated to gain ``least_gain`` or more. Of ``likely``,
        int (n,), which are no parents, as many as cost little. Infinite estimates are none; optimistic ones are seldom far too
        low.
        """


class Screening(NamedTuple):
    """What of a row need not be exact.

    Parameters
    ----------
    least_gain : float
        Nats. Additions that are estimated to gain as much are computed with the row; the others wait until they are asked for.
    optimism, relative_optimism : float
        Nats, and share of an estimate's absolute value, added to it. Who takes the largest gain, and asks for it to be computed
        where it is estimated, finds the largest of all exact gains as long as estimates are not further below them.
    """

    least_gain: float
    optimism: float
    relative_optimism: float


class RowTable:
    """Rows of ``scores`` by node and parent set, each asked for once as long as memory lasts.

    Parameters
    ----------
    scores : LocalScores
    screening : Screening, optional
        Estimates stand in for gains that are of no interest. Takes :class:`ScreenedScores`. All gains are exact where None.

    Attributes
    ----------
    rows : Rows
        Replaced when the table grows.
    n_requests : int
        Rows asked of ``scores`` so far.
    """

    def __init__(self, scores: LocalScores, screening: Screening | None = None) -> None:
        d = scores.n_variables
        self.n_requests = 0
        self._scores = scores
        self._screening = screening
        self._n_rows = 0
        self._max_rows = max(MIN_ROWS_PER_VARIABLE * d, MAX_BYTES // (10 * d + 24))
        # The salts only spread rows over slots, and a key is no proof, so they need be neither new nor secret.
        salts = np.random.default_rng(0).integers(np.iinfo(np.int64).min, np.iinfo(np.int64).max, size=2 * d)
        self.rows = _with_capacity(min(self._max_rows, 4 * d + 64), d, salts)
        self._latest = np.full(d, -1)

    def add(self, node: int, parents: BoolArray, barred: BoolArray | None = None) -> bool:
        """Ask for a row and keep it; True where all others had to be forgotten for it.

        Of no interest, but computed where it costs nothing, is what additions of ``barred``, bool (d,), gain.
        """
        forgets = self._n_rows == self._max_rows
        if forgets:
            self._n_rows = 0
            self.rows.slots[:] = 0
            self._latest[:] = -1
        elif self._n_rows == len(self.rows.own):
            self._grow()
        self.n_requests += 1
        place, rows = self._n_rows, self.rows
        if self._screening is None:
            rows.own[place], rows.gains[place] = self._scores.toggles(node, parents)
            rows.exact[place] = True
        else:
            scores, (least_gain, optimism, relative) = cast(ScreenedScores, self._scores), self._screening
            barred = parents if barred is None else parents | barred
            likely = _most_promising(rows, self._latest[node], node, barred)
            rows.own[place], rows.gains[place], rows.exact[place] = scores.screened_row(
                node, parents, likely, least_gain, optimistic=optimism > 0.0
            )
            _be_optimistic(rows, place, optimism, relative)
        _enter(rows, place, node, parents)
        self._latest[node] = place
        self._n_rows += 1
        return forgets

    @property
    def is_screened(self) -> bool:
        return self._screening is not None

    def renew(self, node: int) -> int:
        """Forget the rows of a node; by how much, as exclusive or, its keys change."""
        salts, place = self.rows.salts, len(self._latest) + node
        before, salts[place] = salts[place], _next_salt(salts[place])
        self._latest[node] = -1
        return int(before ^ salts[place])

    def refine(self, node: int, parents: BoolArray, wanted: int, barred: BoolArray) -> None:
        """Compute an estimated gain of a row that there is, and those of the best others that are not ``barred``, bool (d,).

        As many as are computed side by side.
        """
        place = find(self.rows, key_of(self.rows.salts, node, parents), node, parents)
        estimates = np.where(barred | self.rows.exact[place], -np.inf, self.rows.gains[place])
        estimates[wanted] = np.inf
        n = SIDE_BY_SIDE - (1 + int(parents.sum())) % SIDE_BY_SIDE
        best = np.argpartition(-estimates, min(n, len(estimates)) - 1)[:n]
        chosen = np.zeros(len(estimates), dtype=np.bool_)
        chosen[best[estimates[best] > -np.inf]] = True
        self._compute(place, node, parents, chosen)

    def _compute(self, place: int, node: int, parents: BoolArray, chosen: BoolArray) -> None:
        _, gains = cast(ScreenedScores, self._scores).toggles_among(node, parents, chosen)
        self.rows.gains[place, chosen] = gains[chosen]
        self.rows.exact[place] |= chosen

    def _grow(self) -> None:
        old, n = self.rows, self._n_rows
        self.rows = _with_capacity(min(self._max_rows, 2 * n), self._scores.n_variables, old.salts)
        for before, after in zip(old[1:-1], self.rows[1:-1], strict=True):
            after[:n] = before
        for place in range(n):
            _link(self.rows, place)


def _with_capacity(n: int, d: int, salts: Int64Array) -> Rows:
    n_slots = 2 << int(n).bit_length()  # at most half of them taken
    return Rows(
        np.zeros(n_slots, dtype=np.int64),
        np.empty(n, dtype=np.int64),
        np.empty(n, dtype=np.int64),
        np.empty((n, d), dtype=np.bool_),
        np.empty(n),
        np.empty((n, d)),
        np.empty((n, d), dtype=np.bool_),
        salts,
    )


def _next_salt(salt: np.int64) -> np.int64:
    """A number that has nothing to do with it: a step of a linear congruential generator."""
    return np.int64((int(salt) * 6364136223846793005 + 1442695040888963407 + 2**63) % 2**64 - 2**63)


@compiled
def key_of(salts: Any, node: Any, parents: Any) -> Any:
    """Hash of a node with its parents, bool (d,)."""
    d = len(parents)
    key = salts[d + node]
    for j in range(d):
        if parents[j]:
            key ^= salts[j]
    return key


@compiled
def find(rows: Any, key: Any, node: Any, parents: Any) -> Any:
    """Place of the row of a node with its parents, -1 where it is missing."""
    mask = len(rows.slots) - 1
    slot = key & mask
    while rows.slots[slot] != 0:
        place = rows.slots[slot] - 1
        if rows.keys[place] == key and rows.nodes[place] == node:
            same = True
            for j in range(len(parents)):
                same &= rows.parents[place, j] == parents[j]
            if same:
                return place
        slot = (slot + 1) & mask
    return -1


@compiled
def _most_promising(rows: Any, place: Any, node: Any, barred: Any) -> Any:
    """Additions of greatest gain in the row at ``place``, one fewer than stand side by side; none where there is no row."""
    n, chosen, gains = 0, np.empty(SIDE_BY_SIDE - 1, dtype=np.intp), np.empty(SIDE_BY_SIDE - 1)
    if place < 0:
        return chosen[:0]
    for j in range(len(barred)):
        if j == node or barred[j]:
            continue
        gain = -rows.gains[place, j] if rows.parents[place, j] else rows.gains[place, j]
        if n == len(chosen):
            if gain <= gains[n - 1]:
                continue
            n -= 1
        k = n
        while k > 0 and gains[k - 1] < gain:
            chosen[k], gains[k] = chosen[k - 1], gains[k - 1]
            k -= 1
        chosen[k], gains[k] = j, gain
        n += 1
    return chosen[:n]


@compiled
def _be_optimistic(rows: Any, place: Any, optimism: Any, relative: Any) -> None:
    for j in range(rows.gains.shape[1]):
        gain = rows.gains[place, j]
        if not rows.exact[place, j] and abs(gain) < np.inf:
            rows.gains[place, j] = gain + optimism + relative * abs(gain)


@compiled
def _enter(rows: Any, place: Any, node: Any, parents: Any) -> None:
    rows.nodes[place], rows.parents[place], rows.keys[place] = node, parents, key_of(rows.salts, node, parents)
    _link(rows, place)


@compiled
def _link(rows: Any, place: Any) -> None:
    mask = len(rows.slots) - 1
    slot = rows.keys[place] & mask
    while rows.slots[slot] != 0:
        slot = (slot + 1) & mask
    rows.slots[slot] = place + 1
