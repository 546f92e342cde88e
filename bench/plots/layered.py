"""Where the variables of a graph are drawn: in layers of a causal order, edges downwards, few crossings.

The steps of Sugiyama, Tagawa, Toda, "Methods for Visual Understanding of Hierarchical System Structures", IEEE Transactions on
Systems, Man, and Cybernetics 11:109, 1981: layers by longest path, an invisible node on every layer that an edge passes, and
sweeps that sort each layer by the median of its neighbours. Deviation: places within a layer come from averaging with the
neighbours and pushing apart, not from integer programming. A cyclic graph is laid out with the edges that point back turned.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

SWEEPS = 12
SHORTEST_ROW = 10
"""Variables without edges in one row, or as many as the widest layer has."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Places of the variables and the courses of the edges.

    Parameters
    ----------
    places : float64 (d, 2)
        Across, in units of one variable's room, and down, in layers from 0.
    courses : dict of (int, int) to float64 (k, 2)
        Points that an edge passes, from its cause to its effect.
    """

    places: FloatArray
    courses: dict[tuple[int, int], FloatArray]

    @property
    def n_layers(self) -> int:
        return int(self.places[:, 1].max()) + 1

    @property
    def width(self) -> float:
        """Room that all points take across, at least that of one variable."""
        across = np.concatenate([self.places, *self.courses.values()])[:, 0]
        return float(np.ptp(across)) + 1


def layered(adjacency: BoolArray) -> Layout:
    """Lay a directed graph out.

    Parameters
    ----------
    adjacency : bool (d, d)

    Examples
    --------
    >>> layered(np.eye(3, k=1, dtype=bool)).places[:, 1].tolist()
    [0.0, 1.0, 2.0]
    """
    adjacency = np.asarray(adjacency, dtype=bool)
    layer = _layers(_returns_turned(adjacency))
    courses = {(int(i), int(j)): [int(i), int(j)] for i, j in np.argwhere(adjacency)}
    layers = list(layer)
    links: list[tuple[int, int]] = []
    for (i, j), course in courses.items():
        step = 1 if layer[j] > layer[i] else -1
        between = range(int(layer[i]) + step, int(layer[j]), step)
        course[1:1] = range(len(layers), len(layers) + len(between))
        layers += between
        links += itertools.pairwise(course)
    across = _across(np.array(layers), links, n_variables=len(adjacency))
    points = np.column_stack([across, np.array(layers, dtype=float)])
    return Layout(points[: len(adjacency)], {edge: points[course] for edge, course in courses.items()})


def _returns_turned(adjacency: BoolArray) -> BoolArray:
    """The graph with those edges turned that point back in an order that takes the variable of fewest remaining causes next."""
    left, order = list(range(len(adjacency))), list[int]()
    while left:
        chosen = min(left, key=lambda v: (adjacency[left, v].sum(), -adjacency[v, left].sum(), v))
        order.append(chosen)
        left.remove(chosen)
    rank = np.argsort(order)
    forward = rank[:, None] < rank[None, :]
    return np.asarray((adjacency | adjacency.T) & forward)


def _layers(dag: BoolArray) -> npt.NDArray[np.int64]:
    """Length of the longest path that ends in each variable.

    Sources move down next to their first effect. Variables without any edge stand below all others, in rows of their own.
    """
    layer = np.zeros(len(dag), dtype=np.int64)
    for _ in range(len(dag)):
        layer = np.where(dag.any(axis=0), np.where(dag, layer[:, None] + 1, 0).max(axis=0), 0)
    for v in np.flatnonzero(~dag.any(axis=0) & dag.any(axis=1)):
        layer[v] = layer[dag[v]].min() - 1
    joined = dag.any(axis=0) | dag.any(axis=1)
    per_row = max(SHORTEST_ROW, *np.bincount(layer[joined], minlength=1))
    first = layer[joined].max() + 1 if joined.any() else 0
    layer[~joined] = first + np.arange((~joined).sum()) // per_row
    return layer


def _across(layers: npt.NDArray[np.int64], links: Sequence[tuple[int, int]], n_variables: int) -> FloatArray:
    """Places across of all nodes, invisible ones included, which take less room."""
    neighbours: list[list[int]] = [[] for _ in layers]
    for a, b in links:
        neighbours[a].append(b)
        neighbours[b].append(a)
    room = np.where(np.arange(len(layers)) < n_variables, 1.0, 0.35)
    rows = [np.flatnonzero(layers == k).tolist() for k in range(int(layers.max()) + 1)]
    across = np.zeros(len(layers))
    for row in rows:
        across[row] = _apart(np.arange(len(row), dtype=float), room[row])
    for sweep in range(SWEEPS):
        above = sweep % 2 == 0
        for row in rows if above else reversed(rows):
            wish = np.array([_wish(across, layers, neighbours[v], layers[v], v, above) for v in row])
            order = np.argsort(wish, kind="stable")
            row[:] = [row[i] for i in order]
            across[row] = _apart(wish[order], room[row])
    for _ in range(SWEEPS):
        for row in rows:
            wish = np.array([np.mean(across[neighbours[v]]) if neighbours[v] else across[v] for v in row])
            across[row] = _apart(np.maximum.accumulate(wish), room[row])
    return np.asarray(across - across.min())


def _wish(across: FloatArray, layers: npt.NDArray[np.int64], near: list[int], layer: int, v: int, above: bool) -> float:
    """Median place of the neighbours on one side; the node's own where there are none."""
    side = [n for n in near if (layers[n] < layer) == above]
    return float(np.median(across[side])) if side else float(across[v])


def _apart(wish: FloatArray, room: FloatArray) -> FloatArray:
    """The places nearest to the wishes, in their order, that leave each node its room.

    Least squares under the gaps is isotonic regression of the wishes less the gaps before them.
    """
    gaps = np.concatenate([[0.0], np.cumsum((room[1:] + room[:-1]) / 2)])
    return np.asarray(isotonic_regression(wish - gaps).x + gaps)
