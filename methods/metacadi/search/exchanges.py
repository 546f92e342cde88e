"""What sets optima apart, as moves: sets of edges that are added and deleted together.

A walk by single changes takes long from one mode to another where every graph between them is unlikely. The search, on its
way, does meet the optima on both sides. What it has to change between two of them is kept here, and is as good a move at any
other graph where these edges stand as at one of the two: ambiguities far apart in the graph are so resolved one by one.

Not here: when such a move is made (``jump_process``).
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np

from bench.types import BoolArray
from methods.metacadi.evidence import LocalScores
from methods.metacadi.search.rows import Int64Array, Screening
from methods.metacadi.search.state import N_LOGGED, N_SETTLED, GraphState, settle

MAX_LOSS = 10.0
"""Nats between two optima, beyond which the move between them is not kept."""

MAX_OPTIMA = 4
"""Best ones of different score, that are kept as graphs."""

SAME_SCORE = 1e-3
"""Nats. Score-equivalent graphs count as one optimum."""

MAX_EXCHANGES = 200
"""Of least loss."""


class Exchanges(NamedTuple):
    """Sets of edges as compiled code sees them; n sets, m edges in all.

    Parameters
    ----------
    edges : int32 (m, 2)
        Sources and targets, those that are present on one side first.
    present : bool (m,)
        On that side.
    bounds : int64 (n + 1,)
        Set k takes the places from ``bounds[k]`` to ``bounds[k + 1]``.
    """

    edges: Any
    present: BoolArray
    bounds: Int64Array


NO_EXCHANGES = Exchanges(np.empty((0, 2), dtype=np.int32), np.empty(0, dtype=np.bool_), np.zeros(1, dtype=np.int64))


class RememberingState(GraphState):
    """A state that keeps the best optima of a search, and what sets graphs apart at which its log began and ended.

    Parameters
    ----------
    scores : LocalScores
    screening : Screening, optional
        Of its table of rows.

    Attributes
    ----------
    optima : list of (float, bool (d, d))
        Scores and graphs, best first, of different scores within ``MAX_LOSS`` of the best.
    n_met : int
        Optima of different scores that were within ``MAX_LOSS`` of the best when they were met.
    """

    def __init__(self, scores: LocalScores, screening: Screening | None = None) -> None:
        super().__init__(scores, screening)
        self.optima: list[tuple[float, BoolArray]] = []
        self._met: set[float] = set()
        self._loss_of: dict[tuple[bytes, bytes], float] = {}
        self._base = self.score

    @property
    def n_met(self) -> int:
        return len(self._met)

    def undo(self, *, to_settled: bool = False) -> None:
        if not to_settled:
            self._remember()
        super().undo(to_settled=to_settled)

    def clear_log(self) -> None:
        self._remember()
        super().clear_log()
        self._base = self.score

    def at(self, graph: BoolArray) -> GraphState:
        """A state of another DAG, bool (d, d), with the same table of rows; what sets it apart from this one is kept."""
        self.clear_log()
        other = copy.copy(self)
        other.arrays = type(self.arrays)(**{name: array.copy() for name, array in self.arrays._asdict().items()})
        other.become(graph)
        other.run(settle)
        other.clear_log()
        return other

    def exchanges(self) -> Exchanges:
        """All that were kept."""
        kept = sorted(self._loss_of, key=lambda sides: (self._loss_of[sides], sides))[:MAX_EXCHANGES]
        if not kept:
            return NO_EXCHANGES
        sides = [np.frombuffer(side, dtype=np.int32).reshape(-1, 2) for pair in kept for side in pair]
        lengths = np.array([len(side) for side in sides])
        return Exchanges(
            np.concatenate(sides),
            np.repeat(np.arange(len(sides)) % 2 == 0, lengths),
            np.concatenate([[0], np.cumsum(lengths.reshape(-1, 2).sum(axis=1))]),
        )

    def _remember(self) -> None:
        counts, d = self.arrays.counts, len(self.graph)
        if counts[N_LOGGED] != counts[N_SETTLED]:  # the budget ran out on the way
            return
        score = self.score
        self._remember_optimum(score)
        loss = abs(score - self._base)
        if loss > MAX_LOSS:
            return
        edges, n_toggled = np.unique(self.arrays.log[: counts[N_LOGGED]] @ np.array([d, 1]), return_counts=True)
        edges = np.stack(np.divmod(edges[n_toggled % 2 == 1], d), axis=1).astype(np.int32)
        single = len(edges) < 2 or (len(edges) == 2 and (edges[0] == edges[1, ::-1]).all())
        if single or len(edges) > 2 * d:  # a jump by itself, or too many for the log
            return
        present = self.graph[edges[:, 0], edges[:, 1]]
        one, other = sorted([edges[present].tobytes(), edges[~present].tobytes()])
        self._loss_of[one, other] = min(loss, self._loss_of.get((one, other), np.inf))

    def _remember_optimum(self, score: float) -> None:
        best = self.optima[0][0] if self.optima else -np.inf
        if score < best - MAX_LOSS:
            return
        self._met.add(round(score, 3))
        if any(abs(score - known) < SAME_SCORE for known, _ in self.optima):
            return
        if len(self.optima) < MAX_OPTIMA or score > self.optima[-1][0]:
            ranked = sorted([*self.optima, (score, self.graph.copy())], key=lambda optimum: -optimum[0])
            self.optima = [optimum for optimum in ranked[:MAX_OPTIMA] if optimum[0] > max(best, score) - MAX_LOSS]
