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
    salts : int64 (2 d,)
        A parent set's key is the exclusive or of its members' salts, from place 0, and of the node's, from place d.
    """

    slots: Int64Array
    keys: Int64Array
    nodes: Int64Array
    parents: BoolArray
    own: FloatArray
    gains: FloatArray
    salts: Int64Array


@runtime_checkable
class ScreenedScores(LocalScores, Protocol):
    """Scores that can leave changes out where they are not of interest."""

    def toggles_among(self, i: int, parents: BoolArray, candidates: BoolArray) -> tuple[float, FloatArray]:
        """As ``toggles`` for j among the parents or ``candidates``, bool (d,), alone; −inf for others."""


class RowTable:
    """Rows of ``scores`` by node and parent set, each asked for once as long as memory lasts.

    Parameters
    ----------
    scores : LocalScores
    candidates : bool (d, d), optional
        Row i holds what may become a parent of i; of the rest ``scores`` are not asked. Takes :class:`ScreenedScores`.

    Attributes
    ----------
    rows : Rows
        Replaced when the table grows.
    n_requests : int
        Rows asked of ``scores`` so far.
    """

    def __init__(self, scores: LocalScores, candidates: BoolArray | None = None) -> None:
        d = scores.n_variables
        self.n_requests = 0
        self._scores = scores
        self._candidates = candidates
        self._n_rows = 0
        self._max_rows = max(MIN_ROWS_PER_VARIABLE * d, MAX_BYTES // (9 * d + 24))
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
        if self._candidates is None:
            own, gains = self._scores.toggles(node, parents)
        else:
            own, gains = cast(ScreenedScores, self._scores).toggles_among(node, parents, self._candidates[node])
        self.n_requests += 1
        place, rows = self._n_rows, self.rows
        rows.own[place], rows.gains[place] = own, gains
        rows.nodes[place], rows.parents[place], rows.keys[place] = node, parents, key_of(rows.salts, node, parents)
        _enter(rows, place)
        self._n_rows += 1
        return forgets

    def gains(self, node: int, parents: BoolArray) -> FloatArray:
        """Gains of a node with its parents, asked for where they are missing, float64 (d,)."""
        key = key_of(self.rows.salts, node, parents)
        if find(self.rows, key, node, parents) < 0:
            self.add(node, parents)
        return np.asarray(self.rows.gains[find(self.rows, key, node, parents)])

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
