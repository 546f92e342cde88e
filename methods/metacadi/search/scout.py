"""A second state that goes ahead on cheaper scores, so that few of the graphs a perturbation leads to are priced exactly.

Not here: where it goes (``local_search``).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from bench.types import BoolArray
from methods.metacadi.evidence import LocalScores
from methods.metacadi.search.rows import Screening
from methods.metacadi.search.state import NEW_GAINS, GraphState

SCREENING = Screening(least_gain=np.inf, optimism=6.0, relative_optimism=0.2)
"""Wrong estimates cost at most an improvement that another perturbation will find."""


class NearbyScores(LocalScores, Protocol):
    """Scores that are good around some parent sets."""

    def start_from(self, i: int, parents: BoolArray) -> None:
        """From now on be good for variable i around ``parents``, bool (d,)."""


@runtime_checkable
class Approximable(LocalScores, Protocol):
    """Scores that have cheaper ones beside them."""

    def nearby(self, graph: BoolArray) -> NearbyScores | None:
        """Those that are good around a DAG, bool (d, d), if there are any."""


class Scout:
    """A state of its own, on cheaper scores around the best graph so far.

    Parameters
    ----------
    scores : NearbyScores
        Around ``graph``.
    graph : bool (d, d)
        Where it stands.
    screening : Screening, optional
    """

    def __init__(self, scores: NearbyScores, graph: BoolArray, screening: Screening | None) -> None:
        self._scores = scores
        self.state = GraphState(scores, screening)
        self.state.become(graph)
        self.state.clear_log()

    @classmethod
    def of(cls, state: GraphState) -> Scout | None:
        """Beside another state, if its scores have cheaper ones beside them."""
        scores = state.scores.nearby(state.graph) if isinstance(state.scores, Approximable) else None
        return None if scores is None else cls(scores, state.graph, SCREENING if state.table.is_screened else None)

    def follow(self, graph: BoolArray) -> None:
        """Go to a graph, whose targets count from now on."""
        arrays = self.state.arrays
        moved = np.flatnonzero((arrays.graph != graph).any(axis=0))
        self.state.become(graph)
        for node in moved:
            self._scores.start_from(int(node), arrays.parents[node])
            # Rows of before are found no more.
            arrays.keys[node] ^= self.state.table.renew(int(node))
            arrays.places[node] = -1
            arrays.stale[node] |= NEW_GAINS
        self.state.clear_log()
