"""Graph algorithms that methods and scoring share: order, reachability, equivalence classes, Meek's rules, distances.

Graphs are bool ``(d, d)`` arrays with a zero diagonal; ``A[i, j] = 1`` means i -> j and both set means undirected. All
work is done on whole matrices, so that graphs of a few hundred variables take milliseconds to a fraction of a second.
Where an answer depends on ties, tied edges are treated alike, so renaming the variables renames the answer and nothing
else; the two functions that must choose (:func:`topological_order`, :func:`consistent_extension`) say so.

Not here: learning a graph from data (``methods``) and scores against a truth (``bench.metrics``).

References
----------
Hauser, Bühlmann, "Characterization and greedy learning of interventional Markov equivalence classes of directed acyclic
graphs", JMLR 13 (2012); Meek, "Causal inference and causal explanation with background knowledge", UAI 1995;
Dor, Tarsi, "A simple algorithm to construct a consistent extension of a partially oriented graph", UCLA R-185 (1992).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import InputError
from bench.types import BoolArray, FloatArray

IntArray = npt.NDArray[np.intp]


def _as_graph(graph: Any) -> BoolArray:
    array = np.asarray(graph, dtype=bool)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise InputError(f"a graph must have shape (d, d), got {array.shape}")
    if array.diagonal().any():
        raise InputError(f"a graph must have a zero diagonal, got a self-loop at {int(array.diagonal().argmax())}")
    return array


def _count(*factors: BoolArray) -> npt.NDArray[np.float32]:
    """Product of bool matrices as counts. Float32, because integer matrix products bypass BLAS; exact below 2**24."""
    product = factors[0].astype(np.float32)
    for factor in factors[1:]:
        product = product @ factor.astype(np.float32)
    return product


# --- order and reachability ---------------------------------------------------------------------------------------------


def is_acyclic(graph: BoolArray) -> bool:
    """True where no directed cycle exists; an undirected edge is a cycle of two.

    Parameters
    ----------
    graph : bool (d, d)

    Examples
    --------
    >>> is_acyclic(np.array([[0, 1], [0, 0]])), is_acyclic(np.array([[0, 1], [1, 0]]))
    (True, False)
    """
    return bool(are_acyclic(_as_graph(graph)[None])[0])


def are_acyclic(graphs: BoolArray) -> BoolArray:
    """:func:`is_acyclic` of many graphs at once, e.g. posterior samples.

    Parameters
    ----------
    graphs : bool (S, d, d)

    Returns
    -------
    bool (S,)
    """
    graphs = np.asarray(graphs, dtype=bool)
    acyclic = np.zeros(len(graphs), dtype=bool)
    # Strip sources from all graphs that still have some (Kahn); one that runs out of sources with nodes left has a cycle.
    open_ = np.arange(len(graphs))
    n_parents = graphs.sum(axis=1, dtype=np.int64)
    alive = np.ones(n_parents.shape, dtype=bool)
    while open_.size:
        sources = alive & (n_parents == 0)
        alive &= ~sources
        n_parents -= np.einsum("sij,si->sj", graphs[open_], sources, dtype=np.int64)
        acyclic[open_] = ~alive.any(axis=1)
        going_on = alive.any(axis=1) & sources.any(axis=1)
        open_, n_parents, alive = open_[going_on], n_parents[going_on], alive[going_on]
    return acyclic


def topological_order(dag: BoolArray) -> IntArray:
    """Variables sorted so that every edge points forward, int (d,); the smallest index first among those that may come.

    Parameters
    ----------
    dag : bool (d, d)

    Raises
    ------
    InputError
        If the graph has a cycle.

    Examples
    --------
    >>> topological_order(np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0]])).tolist()
    [1, 2, 0]
    >>> topological_order(np.array([[0, 1], [1, 0]]))
    Traceback (most recent call last):
    bench.errors.InputError: a topological order needs an acyclic graph, got a cycle among the variables [0, 1]
    """
    dag = _as_graph(dag)
    n_parents = dag.sum(axis=0)
    order = np.empty(len(dag), dtype=np.intp)
    for position in range(len(dag)):
        source = int(n_parents.argmin())
        if n_parents[source] > 0:
            on_cycle = np.flatnonzero(reachability(dag).diagonal())
            raise InputError(
                f"a topological order needs an acyclic graph, got a cycle among the variables {on_cycle[:10].tolist()}"
            )
        order[position] = source
        n_parents -= dag[source]
        n_parents[source] = len(dag) + 1  # taken
    return order


def reachability(graph: BoolArray) -> BoolArray:
    """Which variable a directed path leads to from which, bool (d, d).

    Entry (i, j) is true where a path of at least one edge leads from i to j: i is a proper ancestor of j. The diagonal
    marks the variables on a cycle. An undirected edge is passable both ways.

    Parameters
    ----------
    graph : bool (d, d)
    """
    reach = np.asarray(graph, dtype=bool).copy()
    while True:
        longer = reach | (_count(reach, reach) > 0)
        if (longer == reach).all():
            return reach
        reach = longer


def ancestors(graph: BoolArray, nodes: Iterable[int]) -> BoolArray:
    """Ancestors of a set of variables, bool (d,), the set itself included.

    Parameters
    ----------
    graph : bool (d, d)
    nodes : iterable of int

    Examples
    --------
    >>> chain = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> ancestors(chain, [1]).tolist()
    [True, True, False]
    """
    graph = np.asarray(graph, dtype=bool)
    found = np.zeros(len(graph), dtype=bool)
    new = found.copy()
    new[list(nodes)] = True
    while new.any():
        found |= new
        new = graph[:, new].any(axis=1) & ~found
    return found


# --- parts of a graph ---------------------------------------------------------------------------------------------------


def skeleton(graph: BoolArray) -> BoolArray:
    """Adjacent pairs, bool (d, d), symmetric."""
    graph = _as_graph(graph)
    return np.asarray(graph | graph.T)


def _parts(graph: BoolArray) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Directed edges, undirected edges (symmetric), and non-adjacent pairs without the diagonal (symmetric)."""
    apart = ~(graph | graph.T)
    np.fill_diagonal(apart, False)
    return graph & ~graph.T, graph & graph.T, apart


def v_structures(graph: BoolArray) -> BoolArray:
    """Directed edges that take part in a v-structure, bool (d, d).

    Entry (i, j) is true where i -> j <- k for some k not adjacent to i. Of two graphs with one skeleton, equal matrices
    mean equal v-structures.

    Parameters
    ----------
    graph : bool (d, d)
        A DAG, or a partially directed graph, whose undirected edges take no part.
    """
    directed, _, apart = _parts(_as_graph(graph))
    return np.asarray(directed & (_count(apart, directed) > 0))


# --- equivalence classes ------------------------------------------------------------------------------------------------


def apply_meek_rules(pdag: BoolArray) -> BoolArray:
    """Direct every undirected edge that Meek's rules R1 to R4 force, until none is left to force; bool (d, d).

    Sound and complete for a pattern (skeleton with v-structures) and background knowledge that is consistent with it.

    Parameters
    ----------
    pdag : bool (d, d)

    References
    ----------
    Meek (1995), section 2.1. Deviation: all forced edges of one pass are directed together, and an edge that the rules
    force both ways, which only an inconsistent input can bring about, stays undirected.

    Examples
    --------
    >>> apply_meek_rules(np.array([[0, 1, 0], [0, 0, 1], [0, 1, 0]])).astype(int).tolist()  # 0 -> 1 - 2
    [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    """
    graph = _as_graph(pdag).copy()
    while True:
        directed, undirected, apart = _parts(graph)
        if not undirected.any():
            return graph
        # The costly rules only where the cheap ones are exhausted.
        forced = undirected & (_rules_1_and_2(directed, apart))
        forced &= ~forced.T
        if not forced.any():
            forced = _rules_3_and_4(directed, undirected, apart)
            forced &= ~forced.T
        if not forced.any():
            return graph
        graph &= ~forced.T


def _rules_1_and_2(directed: BoolArray, apart: BoolArray) -> BoolArray:
    """Ordered pairs b, c with a -> b and a, c apart (a v-structure else: R1), or b -> a -> c (a cycle else: R2)."""
    return np.asarray((_count(directed.T, apart) > 0) | (_count(directed, directed) > 0))


def _rules_3_and_4(directed: BoolArray, undirected: BoolArray, apart: BoolArray) -> BoolArray:
    """Undirected a - b that must be a -> b.

    R3: a - c -> b and a - d -> b with c, d apart. R4: a - d -> c -> b with d, b apart and a, c adjacent.
    """
    forced = np.zeros_like(undirected)
    a, b = np.nonzero(undirected & (directed.any(axis=0)))  # both rules need some parent of b
    if not a.size:
        return forced
    adjacent = ~apart
    np.fill_diagonal(adjacent, False)
    between = undirected[a] & directed.T[b]
    rule_3 = (_count(between, apart) * between).any(axis=1)
    start = undirected[a] & apart[b]
    rule_4 = (_count(start, directed) * (adjacent[a] & directed.T[b])).any(axis=1)
    forced[a, b] = rule_3 | rule_4
    return forced


def cpdag(dag: BoolArray) -> BoolArray:
    """Essential graph of a DAG's Markov equivalence class, bool (d, d); reversible edges are undirected.

    Parameters
    ----------
    dag : bool (d, d)

    Raises
    ------
    InputError
        If ``dag`` has a cycle.

    Examples
    --------
    >>> cpdag(np.array([[0, 1], [0, 0]])).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    return interventional_essential_graph(dag, [()])


def interventional_essential_graph(dag: BoolArray, targets: Iterable[Iterable[int]]) -> BoolArray:
    """Essential graph of a DAG's interventional Markov equivalence class, bool (d, d).

    An edge is directed where it is in a v-structure, where the targets of two environments differ in exactly one of its
    ends, or where Meek's rules force it.

    Parameters
    ----------
    dag : bool (d, d)
    targets : iterable of iterable of int
        Intervened variables of each environment. Pass the empty set for observational data: it is an environment too.

    Raises
    ------
    InputError
        If ``dag`` has a cycle or a target is no variable.

    References
    ----------
    Hauser & Bühlmann (2012), theorems 10 and 18: with observational data, the case that they and nearly all problems
    here are in, the edge a - b is directed by a target set that holds exactly one of a and b. Deviation: without
    observational data their conservative families rest on known, perfect interventions. Here it takes a *difference
    between two environments* (the symmetric differences of Jaber, Kocaoglu, Shanmugam, Bareinboim, "Causal discovery
    from soft interventions with unknown targets", NeurIPS 2020; a variable targeted in both counts as unchanged), all
    that interventions of unknown kind and place give: {a} and {b} alone do not direct a - b, and a single environment
    directs nothing by its targets. With the empty set in the family both criteria are the same.

    Examples
    --------
    >>> chain = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> interventional_essential_graph(chain, [(), (2,)]).astype(int).tolist()
    [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    >>> interventional_essential_graph(chain, [(2,)]).astype(int).tolist()
    [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    """
    dag = _as_graph(dag)
    if not is_acyclic(dag):
        raise InputError("an essential graph needs an acyclic graph, got one with a cycle or an undirected edge")
    directed = v_structures(dag) | (dag & _separated(targets, len(dag)))
    return apply_meek_rules(directed | ((dag | dag.T) & ~(directed | directed.T)))


def _separated(targets: Iterable[Iterable[int]], d: int) -> BoolArray:
    """Pairs of which some two environments' targets differ in exactly one, bool (d, d).

    Environments e and f do so where exactly one of them splits the pair: (a in e) xor (a in f) xor (b in e) xor (b in f).
    """
    rows = []
    for of_one in targets:
        row = np.zeros(d, dtype=bool)
        for target in of_one:
            if not 0 <= target < d:
                raise InputError(f"targets must be variables 0 to {d - 1}, got {target}")
            row[target] = True
        rows.append(row)
    if not rows:
        return np.zeros((d, d), dtype=bool)
    distinct = np.unique(np.array(rows), axis=0)
    n_splitting = _count(distinct.T, ~distinct)
    n_splitting = n_splitting + n_splitting.T
    return np.asarray((n_splitting > 0) & (n_splitting < len(distinct)))


def consistent_extension(pdag: BoolArray) -> BoolArray | None:
    """A DAG with the skeleton, the directed edges and exactly the v-structures of ``pdag``, bool (d, d), or None.

    Of several, which one depends on the order of the variables; they are Markov equivalent.

    Parameters
    ----------
    pdag : bool (d, d)

    References
    ----------
    Dor & Tarsi (1992): take away, one after another, a node without outgoing edge whose undirected neighbours are
    adjacent to all its other neighbours, and direct its edges into it.

    Examples
    --------
    >>> consistent_extension(np.array([[0, 1], [1, 0]])).astype(int).tolist()
    [[0, 0], [1, 0]]
    >>> cycle_of_four = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
    >>> consistent_extension(cycle_of_four) is None
    True
    """
    pdag = _as_graph(pdag)
    dag = np.zeros_like(pdag)
    nodes = np.arange(len(pdag))
    while nodes.size:
        rest = pdag[np.ix_(nodes, nodes)]
        directed, undirected, apart = _parts(rest)
        is_sink = ~directed.any(axis=1)
        fits = ~(_count(undirected, apart) * (rest | rest.T)).any(axis=1)
        removable = np.flatnonzero(is_sink & fits)
        if not removable.size:
            return None
        sink = removable[0]
        dag[nodes, nodes[sink]] = rest[:, sink]
        nodes = np.delete(nodes, sink)
    return dag


def edge_scores_of_class(pdag: BoolArray) -> FloatArray:
    """Edge scores of a class, float64 (d, d): 1 for a directed edge, .5 in both directions for an undirected one.

    Examples
    --------
    >>> edge_scores_of_class(np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0]])).tolist()
    [[0.0, 0.5, 1.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    graph = _as_graph(pdag)
    return np.where(graph & graph.T, 0.5, graph.astype(np.float64))


# --- from probabilities to a graph --------------------------------------------------------------------------------------


def break_cycles(adjacency: BoolArray, weights: FloatArray) -> BoolArray:
    """Take away the weakest edge of a cycle until no cycle is left; bool (d, d), acyclic.

    Edges that tie as the weakest of their cycles go together, so that the answer does not hang on the order of the
    variables: i -> j and j -> i of equal weight both go.

    Parameters
    ----------
    adjacency : bool (d, d)
    weights : float64 (d, d)
        Read at the edges of ``adjacency``.

    Notes
    -----
    The edge i -> j goes exactly where some path leads back from j to i over edges none of which is weaker: at its turn
    all stronger edges are still there, and a weaker one that is left lies on no cycle. So one widest-path closure
    (Floyd-Warshall with max and min) answers for all edges.

    Examples
    --------
    >>> cycle = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    >>> break_cycles(cycle, np.array([[0, 0.9, 0], [0, 0, 0.6], [0.8, 0, 0]])).astype(int).tolist()
    [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    """
    adjacency = _as_graph(adjacency)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != adjacency.shape:
        raise InputError(f"weights must have shape {adjacency.shape}, got {weights.shape}")
    widest = np.where(adjacency, weights, -np.inf)
    for via in range(len(widest)):
        np.maximum(widest, np.minimum(widest[:, via, None], widest[via]), out=widest)
    return np.asarray(adjacency & (weights > widest.T))


def point_graph(edge_probability: FloatArray) -> BoolArray:
    """The DAG of the edges above .5, weakest edges of cycles removed (:func:`break_cycles`); bool (d, d).

    Parameters
    ----------
    edge_probability : float64 (d, d)

    Examples
    --------
    >>> point_graph(np.array([[0, 0.9], [0.6, 0]])).astype(int).tolist()
    [[0, 1], [0, 0]]
    """
    edge_probability = np.asarray(edge_probability, dtype=np.float64)
    return break_cycles(edge_probability > 0.5, edge_probability)


# --- distance -----------------------------------------------------------------------------------------------------------


def marks(graph: BoolArray) -> npt.NDArray[np.int8]:
    """Mark of each unordered pair i < j, int8 (..., d (d - 1) / 2): 0 none, 1 i -> j, 2 j -> i, 3 undirected.

    Parameters
    ----------
    graph : bool (..., d, d)
        One graph or a stack of them. Pairs are ordered as ``numpy.triu_indices(d, 1)``.

    Examples
    --------
    >>> marks(np.array([[0, 1, 0], [1, 0, 0], [1, 0, 0]])).tolist()
    [3, 2, 0]
    """
    graph = np.asarray(graph, dtype=bool)
    i, j = np.triu_indices(graph.shape[-1], 1)
    return np.asarray(graph[..., i, j] + 2 * graph[..., j, i].astype(np.int8), dtype=np.int8)


def shd(a: BoolArray, b: BoolArray, scored: BoolArray | None = None) -> int:
    """Structural Hamming distance: unordered pairs whose mark differs. A reversed edge counts 1.

    Parameters
    ----------
    a, b : bool (d, d)
        DAGs or partially directed graphs; directed against undirected differs.
    scored : bool (d, d), optional
        Pairs that count, symmetric; all by default.

    Raises
    ------
    InputError
        If the shapes differ.

    Examples
    --------
    >>> shd(np.array([[0, 1], [0, 0]]), np.array([[0, 0], [1, 0]]))
    1
    """
    a, b = _as_graph(a), _as_graph(b)
    if a.shape != b.shape:
        raise InputError(f"graphs to compare must have one shape, got {a.shape} and {b.shape}")
    differs = marks(a) != marks(b)
    if scored is not None:
        differs &= np.asarray(scored, dtype=bool)[np.triu_indices(len(a), 1)]
    return int(differs.sum())
