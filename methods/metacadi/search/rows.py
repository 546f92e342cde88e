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

    def estimated_gains(self, i: int, parents: BoolArray) -> FloatArray:
        """Estimates of the gains of additions, float64 (d,), many times cheaper; inf where there is none."""


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

    def add(self, node: int, parents: BoolArray) -> bool:
        """Ask for a row and keep it; True where all others had to be forgotten for it."""
        forgets = self._n_rows == self._max_rows
        if forgets:
            self._n_rows = 0
            self.rows.slots[:] = 0
        elif self._n_rows == len(self.rows.own):
            self._grow()
        self.n_requests += 1
        place, rows = self._n_rows, self.rows
        if self._screening is None:
            rows.own[place], rows.gains[place] = self._scores.toggles(node, parents)
            rows.exact[place] = True
        else:
            self._add_screened(place, node, parents, self._screening)
        rows.nodes[place], rows.parents[place], rows.keys[place] = node, parents, key_of(rows.salts, node, parents)
        _enter(rows, place)
        self._n_rows += 1
        return forgets

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

    def _add_screened(self, place: int, node: int, parents: BoolArray, screening: Screening) -> None:
        scores, rows = cast(ScreenedScores, self._scores), self.rows
        nothing = np.zeros(len(parents), dtype=np.bool_)
        # Estimates rest on the targets that the first computation finds.
        rows.own[place], known = scores.toggles_among(node, parents, nothing)
        estimates = scores.estimated_gains(node, parents)
        rows.exact[place] = parents
        rows.exact[place, node] = True
        rows.gains[place] = np.where(rows.exact[place], known, estimates)
        estimated = ~rows.exact[place] & np.isfinite(estimates)
        rows.gains[place, estimated] += screening.optimism + screening.relative_optimism * np.abs(estimates[estimated])
        of_interest = (estimates >= screening.least_gain) & ~rows.exact[place]
        if of_interest.any():
            self._compute(place, node, parents, of_interest)

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
            _enter(self.rows, place)


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
def _enter(rows: Any, place: Any) -> None:
    mask = len(rows.slots) - 1
    slot = rows.keys[place] & mask
    while rows.slots[slot] != 0:
        slot = (slot + 1) & mask
    rows.slots[slot] = place + 1
