"""Iterated local search for the DAG of highest score.

Climb by the best legal addition, deletion or reversal; at a local optimum move a few neighbouring nodes within the order and
climb again; keep what is not worse. Not here: the posterior around the optimum (``structure_mcmc``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.types import BoolArray, Budget
from methods.metacadi.compiled import compiled
from methods.metacadi.evidence import LocalScores
from methods.metacadi.search.state import GraphState, IntArray, Move, reversal_gains

MAX_REINSERTED = 4
"""Nodes moved by one perturbation. With at most two, twice as many dense graphs of nine variables stay short of the optimum;
at fifty variables it pays to take them from one neighbourhood."""

TOLERANCE = 1e-6
"""Nats. Below it a gain is rounding (score-equivalent graphs tie), and climbing on it could go in circles."""


def search(scores: LocalScores, *, rng: np.random.Generator, budget: Budget, max_failures: int) -> tuple[GraphState, int]:
    """The best DAG found, and the number of climbs.

    Parameters
    ----------
    scores : LocalScores
    rng : numpy.random.Generator
    budget : Budget
        When it expires the best so far is returned.
    max_failures : int
        Perturbations in a row that may fail to improve the score before the search stops.
    """
    state = GraphState(scores)
    climb(state, rng=rng, budget=budget)
    n_climbs, n_failures = 1, 0
    best, best_score = state.graph.copy(), state.score
    while n_failures < max_failures and not budget.expired:
        state.become(perturb(state, rng))
        climb(state, rng=rng, budget=budget)
        n_climbs += 1
        n_failures = 0 if state.score > best_score + TOLERANCE else n_failures + 1
        if state.score >= best_score - TOLERANCE:
            best, best_score = state.graph.copy(), state.score
        else:
            state.become(best)
    return state, n_climbs


def climb(state: GraphState, *, rng: np.random.Generator, budget: Budget) -> None:
    """Make the best legal change until none improves the score. Ties, as between a -> b and b -> a, are broken by ``rng``."""
    order = rng.permutation(len(state.graph))
    best_gain, best_parent = np.empty(len(order)), np.empty(len(order), dtype=np.intp)
    state.stale[:] = True
    while not budget.expired:
        gain, *move = _best_move(
            state.gains, state.descendants, state.stale, best_gain, best_parent, state.edges(), order, TOLERANCE
        )
        if gain <= TOLERANCE:
            return
        state.apply(Move(*move))


def perturb(state: GraphState, rng: np.random.Generator) -> BoolArray:
    """The graph with a node and up to three of its neighbours elsewhere in a topological order, parents chosen anew."""
    graph = state.graph.copy()
    order = state.topological_order(rng)
    node = int(rng.integers(len(graph)))
    neighbours = rng.permutation(np.flatnonzero(graph[node] | graph[:, node]))
    for moved in (node, *neighbours[: rng.integers(MAX_REINSERTED)]):
        order = _reinserted(order, moved, graph, rng)
        before = np.zeros(len(graph), dtype=np.bool_)
        before[order[: np.flatnonzero(order == moved)[0]]] = True
        graph[moved, before] = False
        graph[:, moved] = _greedy_parents(state, moved, before)
    return graph


def _reinserted(order: IntArray, node: int, graph: BoolArray, rng: np.random.Generator) -> IntArray:
    """Move a node within an order: just across one of its neighbours, or, as often, to any place."""
    rest = order[order != node]
    neighbours = np.flatnonzero(graph[node, rest] | graph[rest, node])
    if neighbours.size and rng.random() < 0.5:
        neighbour = rng.choice(neighbours)
        return np.insert(rest, neighbour + int(graph[node, rest[neighbour]]), node)
    return np.insert(rest, rng.integers(len(order)), node)


def _greedy_parents(state: GraphState, node: int, allowed: BoolArray) -> BoolArray:
    """Parents chosen among ``allowed`` by the best single change, from none, bool (d,)."""
    parents = np.zeros(len(allowed), dtype=np.bool_)
    while True:
        gains = np.where(allowed, state.toggles(node, parents)[1], -np.inf)
        change = int(gains.argmax())
        if gains[change] <= TOLERANCE:
            return parents
        parents[change] = not parents[change]


@compiled
def _best_move(
    gains: Any, descendants: Any, stale: Any, best_gain: Any, best_parent: Any, edges: Any, order: Any, tolerance: Any
) -> Any:
    """Gain, source, target and kind of the best legal change; the first in ``order`` of the targets among ties.

    ``best_gain`` and ``best_parent`` keep the best toggle of each row, looked up again where the row is stale.
    """
    d = len(gains)
    best, source, target, reverses = -np.inf, 0, 0, False
    for i in order:
        if stale[i]:
            best_gain[i] = -np.inf
            for j in range(d):
                if gains[i, j] > best_gain[i] and not descendants[i, j]:
                    best_gain[i], best_parent[i] = gains[i, j], j
            stale[i] = False
        if best_gain[i] > best + tolerance:
            best, source, target = best_gain[i], best_parent[i], i
    reversal = reversal_gains(edges, gains, descendants)
    for e in range(len(edges)):
        if reversal[e] > best + tolerance:
            best, source, target, reverses = reversal[e], edges[e] // d, edges[e] % d, True
    return best, source, target, reverses
