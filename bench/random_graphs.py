"""Random directed acyclic graphs, each a function of (d, edges per node, generator).

Row and column order is a causal order: ``A[i, j] = 1`` only for i < j. Whoever uses them permutes the variables (as
:func:`draw_graph` does), so that the order carries no information.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.errors import InputError
from bench.types import BoolArray

Graph = Literal["erdos_renyi", "scale_free_in", "scale_free_out", "chain", "random_tree"]


def erdos_renyi(d: int, edges_per_node: float, rng: np.random.Generator) -> BoolArray:
    """Every pair is an edge with the same probability, edges_per_node * d in expectation, bool (d, d).

    Raises
    ------
    InputError
        If there are not that many pairs.

    Examples
    --------
    >>> erdos_renyi(4, 2.0, np.random.default_rng(0))
    Traceback (most recent call last):
    bench.errors.InputError: edges_per_node must be at most (d - 1) / 2 = 1.5 for d = 4, got 2.0
    """
    if edges_per_node > (d - 1) / 2:
        raise InputError(f"edges_per_node must be at most (d - 1) / 2 = {(d - 1) / 2:g} for d = {d}, got {edges_per_node}")
    probability = edges_per_node / ((d - 1) / 2) if d > 1 else 0.0
    return np.asarray(np.triu(rng.random((d, d)) < probability, 1))


def scale_free_out(d: int, edges_per_node: float, rng: np.random.Generator) -> BoolArray:
    """Preferential attachment with a power law of the out-degree: old nodes are parents of new ones, bool (d, d).

    Each new node takes edges_per_node distinct older parents (all of them while there are fewer; a fraction is drawn), each
    with probability proportional to 1 + its number of children so far. BaCaDI's "SF" (Barabási-Albert, transposed) is
    edges_per_node = 2; the first nodes have fewer parents, so that d = 20 gives 37 edges.
    """
    graph = np.zeros((d, d), dtype=bool)
    attraction = np.ones(d)
    for new in range(1, d):
        n_parents = int(edges_per_node) + int(rng.random() < edges_per_node % 1)
        share = attraction[:new] / attraction[:new].sum()
        parents = rng.choice(new, size=min(n_parents, new), replace=False, p=share)
        graph[parents, new] = True
        attraction[parents] += 1
    return graph


def scale_free_in(d: int, edges_per_node: float, rng: np.random.Generator) -> BoolArray:
    """Preferential attachment with a power law of the in-degree: new nodes are parents of old ones, bool (d, d)."""
    return scale_free_out(d, edges_per_node, rng).T[::-1, ::-1]  # turned round, so that parents come first again


def chain(d: int, edges_per_node: float, rng: np.random.Generator) -> BoolArray:
    """One path through all variables, bool (d, d); ``edges_per_node`` has no say."""
    return np.eye(d, k=1, dtype=bool)


def random_tree(d: int, edges_per_node: float, rng: np.random.Generator) -> BoolArray:
    """Random recursive tree: each node but the first has one parent, alike among the earlier ones, bool (d, d).

    ``edges_per_node`` has no say.
    """
    graph = np.zeros((d, d), dtype=bool)
    children = np.arange(1, d)
    graph[rng.integers(0, children), children] = True
    return graph


GRAPHS = {
    "erdos_renyi": erdos_renyi,
    "scale_free_in": scale_free_in,
    "scale_free_out": scale_free_out,
    "chain": chain,
    "random_tree": random_tree,
}


def draw_graph(name: Graph, d: int, edges_per_node: float, rng: np.random.Generator) -> BoolArray:
    """One of ``GRAPHS`` over variables in random order, bool (d, d)."""
    graph, order = GRAPHS[name](d, edges_per_node, rng), rng.permutation(d)
    return graph[np.ix_(order, order)]
