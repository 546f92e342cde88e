"""Locally balanced structure MCMC with parallel tempering: samples of DAGs in proportion to exp(score).

A proposal is one addition, deletion or reversal, chosen in proportion to g(p(new) / p(old)), g(t) = t / (1 + t), so that moves
are informed by all of their neighbourhood. Because p(x) g(p(y) / p(x)) is symmetric in x and y, the chance to accept is the
ratio of the two neighbourhoods' total weights.

Not here: where to start (``local_search``).

References
----------
Zanella, "Informed proposals for local MCMC in discrete spaces", JASA 115 (2020), sections 2 and 3 (the Barker balancing
function, bounded and so safe for any score); Geyer, "Markov chain Monte Carlo maximum likelihood" (1991), for the swaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.types import BoolArray, Budget
from methods.metacadi.compiled import compiled
from methods.metacadi.evidence import LocalScores
from methods.metacadi.search.state import GraphState, Move, reversal_gains


class Chain:
    """Metropolis-Hastings chain on DAGs whose invariant distribution is exp(score / temperature), normalised.

    Parameters
    ----------
    state : GraphState
        Where it starts; the chain takes it over.
    temperature : float
    """

    def __init__(self, state: GraphState, temperature: float) -> None:
        d = len(state.graph)
        self.state = state
        self.temperature = temperature
        self.n_steps = 0
        self.n_accepted = 0
        self._weights = np.empty((d, d))
        self._row_total = np.empty(d)
        self.retemper(temperature)

    def retemper(self, temperature: float) -> None:
        """Go on from the same graph at another temperature."""
        self.temperature = temperature
        self.state.stale[:] = True
        self.total_weight = self._weigh()

    def step(self, rng: np.random.Generator) -> None:
        """Propose one move and accept or reject it."""
        self.n_steps += 1
        before = self.total_weight
        move = self.choose(rng.random())
        if move.source < 0:  # no neighbour within the range of floats
            return
        self._move(move)
        if rng.random() < acceptance_probability(before, self.total_weight):
            self.n_accepted += 1
        else:
            self._move(move.inverse)

    def choose(self, uniform: float) -> Move:
        """The move at a fraction ``uniform`` of the total weight; source -1 where there is none."""
        at = uniform * self.total_weight
        return Move(*_choose(at, self._weights, self.state.descendants, self._row_total, self._edges, self._reversal_weights))

    def _move(self, move: Move) -> None:
        self.state.apply(move)
        self.total_weight = self._weigh()

    def _weigh(self) -> float:
        """Total weight of all legal moves."""
        s = self.state
        self._edges = s.edges()
        total, self._reversal_weights = _weigh(
            s.gains, s.descendants, s.stale, self._weights, self._row_total, self._edges, 1.0 / self.temperature
        )
        return float(total)


class TemperedChains:
    """Chains at several temperatures that now and then swap their graphs.

    The invariant distribution is the product over chains of exp(score / temperature); ``chains[0]`` is the coldest.

    Parameters
    ----------
    scores : LocalScores
    start : bool (d, d)
        Acyclic.
    temperatures : sequence of float
        Increasing from 1.
    """

    def __init__(self, scores: LocalScores, start: BoolArray, temperatures: Sequence[float]) -> None:
        self.chains = [Chain(GraphState(scores, start), temperature) for temperature in temperatures]
        self.n_swaps = np.zeros(len(temperatures) - 1, dtype=np.int64)
        self.n_proposed_swaps = np.zeros(len(temperatures) - 1, dtype=np.int64)

    def advance(self, n_steps: int, *, rng: np.random.Generator, budget: Budget) -> bool:
        """Take ``n_steps`` steps with each chain and propose one swap; False where the budget expired on the way."""
        for chain in self.chains:
            for _ in range(n_steps):
                if budget.expired:
                    return False
                chain.step(rng)
        if len(self.chains) > 1:
            self._propose_swap(int(rng.integers(len(self.chains) - 1)), rng)
        return True

    def _propose_swap(self, pair: int, rng: np.random.Generator) -> None:
        cold, hot = self.chains[pair : pair + 2]
        self.n_proposed_swaps[pair] += 1
        if rng.random() < swap_probability(cold.state.score, hot.state.score, cold.temperature, hot.temperature):
            self.n_swaps[pair] += 1
            # The graphs stay and the temperatures move: only weights depend on them.
            temperatures = cold.temperature, hot.temperature
            self.chains[pair : pair + 2] = hot, cold
            hot.retemper(temperatures[0])
            cold.retemper(temperatures[1])


def acceptance_probability(total_before: float, total_after: float) -> float:
    """Metropolis-Hastings chance to accept a locally balanced proposal: the ratio of the two normalisers."""
    return min(1.0, total_before / total_after)


def swap_probability(cold_score: float, hot_score: float, cold_temperature: float, hot_temperature: float) -> float:
    """Metropolis chance to swap the graphs of two chains."""
    exponent = (hot_score - cold_score) * (1.0 / cold_temperature - 1.0 / hot_temperature)
    return math.exp(min(0.0, exponent))


@compiled
def _weigh(gains: Any, descendants: Any, stale: Any, weights: Any, row_total: Any, edges: Any, inverse_temperature: Any) -> Any:
    """Total weight of the legal moves, and the weight of reversing each edge; ``weights`` and ``row_total`` follow suit."""
    d = len(gains)
    for i in range(d):
        if stale[i]:
            row_total[i] = 0.0
            for j in range(d):
                weights[i, j] = 1.0 / (1.0 + np.exp(-gains[i, j] * inverse_temperature))
                if not descendants[i, j]:
                    row_total[i] += weights[i, j]
            stale[i] = False
    reversal = reversal_gains(edges, gains, descendants)
    for e in range(len(edges)):
        reversal[e] = 1.0 / (1.0 + np.exp(-reversal[e] * inverse_temperature))
    return row_total.sum() + reversal.sum(), reversal


@compiled
def _choose(at: Any, weights: Any, descendants: Any, row_total: Any, edges: Any, reversal: Any) -> Any:
    """Source, target and kind of the move whose stretch of the summed weights covers ``at``.

    Rounding may put ``at`` just beyond a stretch's end: the last move of positive weight then stands in, or none (source -1).
    """
    d = len(weights)
    source, target, reverses = -1, -1, False
    for i in range(d):
        if at < row_total[i]:
            for j in range(d):
                if not descendants[i, j] and weights[i, j] > 0.0:
                    source, target = j, i
                    at -= weights[i, j]
                    if at < 0.0:
                        break
            return source, target, reverses
        at -= row_total[i]
    for e in range(len(edges)):
        if reversal[e] > 0.0:
            source, target, reverses = edges[e] // d, edges[e] % d, True
            at -= reversal[e]
            if at < 0.0:
                break
    return source, target, reverses
