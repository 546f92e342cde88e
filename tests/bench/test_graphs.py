"""Graph algorithms against enumeration of every DAG on few variables, against causal-learn, and on planted examples."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from bench import graphs
from bench.errors import InputError

# --- definitions by enumeration, without the code under test ------------------------------------------------------------


@functools.cache
def all_dags(d: int) -> list[np.ndarray]:
    """Every DAG on d variables: 1, 3, 25, 543, ..."""
    pairs = list(itertools.combinations(range(d), 2))
    found = []
    for states in itertools.product(range(3), repeat=len(pairs)):
        graph = np.zeros((d, d), dtype=bool)
        for (i, j), state in zip(pairs, states, strict=True):
            graph[i, j], graph[j, i] = state == 1, state == 2
        if not np.linalg.matrix_power(graph.astype(int), d).any():  # nilpotent
            found.append(graph)
    return found


def all_pdags(d: int) -> list[np.ndarray]:
    pairs = list(itertools.combinations(range(d), 2))
    found = []
    for states in itertools.product(range(4), repeat=len(pairs)):
        graph = np.zeros((d, d), dtype=bool)
        for (i, j), state in zip(pairs, states, strict=True):
            graph[i, j], graph[j, i] = state & 1, state & 2
        found.append(graph)
    return found


def skeleton_of(graph: np.ndarray) -> frozenset:
    return frozenset(frozenset((int(i), int(j))) for i, j in zip(*np.nonzero(graph), strict=True))


def colliders(graph: np.ndarray) -> frozenset:
    """Triples {a, b}, c with a -> c <- b, directed, and a, b not adjacent."""
    directed = graph & ~graph.T
    found = set()
    for c in range(len(graph)):
        for a, b in itertools.combinations(np.flatnonzero(directed[:, c]).tolist(), 2):
            if not graph[a, b] and not graph[b, a]:
                found.add((frozenset((a, b)), c))
    return frozenset(found)


def hauser_buhlmann_class(dag: np.ndarray, family: list[tuple[int, ...]]) -> tuple:
    """Theorem 10: equal skeleton, v-structures, and skeleton after cutting the edges into each target set."""
    cut = []
    for targets in family:
        mutilated = dag.copy()
        mutilated[:, list(targets)] = False
        cut.append(skeleton_of(mutilated))
    return skeleton_of(dag), colliders(dag), tuple(cut)


def difference_class(dag: np.ndarray, family: list[tuple[int, ...]]) -> tuple:
    """Jaber et al. (2020): v-structures of the graph with a node per pair of environments, into the targets that differ."""
    d = len(dag)
    pairs = list(itertools.combinations(family, 2))
    augmented = np.zeros((d + len(pairs),) * 2, dtype=bool)
    augmented[:d, :d] = dag
    for k, (first, second) in enumerate(pairs):
        augmented[d + k, list(set(first) ^ set(second))] = True
    # Two of the added nodes are never asked about together.
    unshielded = frozenset((ends, c) for ends, c in colliders(augmented) if min(ends) < d)
    return skeleton_of(dag), unshielded


def essential_graphs(classes: Iterable[tuple], dags: list[np.ndarray]) -> list[np.ndarray]:
    """For each DAG the union of its class: an edge is directed where all members agree."""
    keys = list(classes)
    union: dict[tuple, np.ndarray] = {}
    for key, dag in zip(keys, dags, strict=True):
        union[key] = union.get(key, np.zeros_like(dag)) | dag
    return [union[key] for key in keys]


FAMILIES_WITH_OBSERVATIONAL = [
    [()],
    [(), (0,)],
    [(), (3,)],
    [(), (1, 2)],
    [(), (0, 1, 3)],
    [(), (0, 1, 2, 3)],
    [(), (0,), (2,)],
    [(), (0, 1), (1, 2)],
    [(2, 3), (), (0, 2)],
]

FAMILIES_WITHOUT = [
    [(0,)],
    [(0,), (0,)],
    [(0,), (1,)],
    [(0,), (1,), (2,)],
    [(0,), (0, 1)],
    [(0, 1), (2, 3)],
    [(0, 1), (1, 2), (3,)],
]


@pytest.mark.parametrize("d", [2, 3, 4])
@pytest.mark.parametrize("family", FAMILIES_WITH_OBSERVATIONAL, ids=str)
def test_interventional_essential_graph_is_the_union_of_its_hauser_buhlmann_class(d, family):
    family = [tuple(t for t in targets if t < d) for targets in family]
    dags = all_dags(d)
    expected = essential_graphs((hauser_buhlmann_class(dag, family) for dag in dags), dags)
    for dag, essential in zip(dags, expected, strict=True):
        np.testing.assert_array_equal(graphs.interventional_essential_graph(dag, family), essential)


@pytest.mark.parametrize("family", FAMILIES_WITH_OBSERVATIONAL + FAMILIES_WITHOUT, ids=str)
def test_interventional_essential_graph_is_the_union_of_its_class_by_differences_of_targets(family):
    dags = all_dags(4)
    expected = essential_graphs((difference_class(dag, family) for dag in dags), dags)
    for dag, essential in zip(dags, expected, strict=True):
        np.testing.assert_array_equal(graphs.interventional_essential_graph(dag, family), essential)


def test_cpdag_is_the_union_of_the_markov_equivalence_class():
    dags = all_dags(4)
    assert len(dags) == 543
    expected = essential_graphs(((skeleton_of(dag), colliders(dag)) for dag in dags), dags)
    for dag, essential in zip(dags, expected, strict=True):
        np.testing.assert_array_equal(graphs.cpdag(dag), essential)


def test_meek_rules_find_all_that_background_knowledge_forces():
    """Every CPDAG on four variables with every single edge, and two random sets of edges, told (R4 needs such knowledge)."""
    dags = all_dags(4)
    rng = np.random.default_rng(0)
    by_class: dict[tuple, list[np.ndarray]] = {}
    for dag in dags:
        by_class.setdefault((skeleton_of(dag), colliders(dag)), []).append(dag)
    for members in by_class.values():
        pattern = np.logical_or.reduce(members)
        for dag in members:
            edges = np.argwhere(dag)
            told = [[edge] for edge in edges] + [edges[rng.random(len(edges)) < 0.5] for _ in range(2)]
            for knowledge in told:
                start = pattern.copy()
                for i, j in knowledge:
                    start[j, i] = False
                consistent = [m for m in members if all(m[i, j] for i, j in knowledge)]
                np.testing.assert_array_equal(graphs.apply_meek_rules(start), np.logical_or.reduce(consistent))


def test_meek_rule_4_is_needed_and_applied():
    # 0 - 3 - ... : 3 -> 2 -> 1, 0 adjacent to all, 3 and 1 apart: 0 -> 1 is forced by rule 4 alone.
    graph = np.zeros((4, 4), dtype=bool)
    graph[3, 2] = graph[2, 1] = True
    for other in (1, 2, 3):
        graph[0, other] = graph[other, 0] = True
    found = graphs.apply_meek_rules(graph)
    assert found[0, 1]
    assert not found[1, 0]
    assert found[0, 3]
    assert found[3, 0]


def test_meek_rules_leave_an_edge_that_is_forced_both_ways_undirected():
    # 0 -> 1 - 2 <- 3 with all others apart: rule 1 forces 1 - 2 both ways; no DAG fits.
    graph = np.zeros((4, 4), dtype=bool)
    graph[0, 1] = graph[1, 2] = graph[2, 1] = graph[3, 2] = True
    np.testing.assert_array_equal(graphs.apply_meek_rules(graph), graph)
    assert graphs.consistent_extension(graph) is None


def test_consistent_extension_exists_exactly_where_some_dag_fits():
    dags_of: dict[frozenset, list[np.ndarray]] = {}
    for dag in all_dags(4):
        dags_of.setdefault(skeleton_of(dag), []).append(dag)
    n_extendable = 0
    for pdag in all_pdags(4):
        directed = pdag & ~pdag.T
        fitting = [
            dag for dag in dags_of[skeleton_of(pdag)] if not (directed & ~dag).any() and colliders(dag) == colliders(pdag)
        ]
        found = graphs.consistent_extension(pdag)
        assert (found is not None) == bool(fitting)
        if found is not None:
            n_extendable += 1
            assert any(np.array_equal(found, dag) for dag in fitting)
    assert 543 < n_extendable < 4**6  # both outcomes are met


def random_dag(rng: np.random.Generator, d: int, p: float) -> np.ndarray:
    order = rng.permutation(d)
    return np.triu(rng.random((d, d)) < p, 1)[np.ix_(order, order)]


def causal_learn_graph(graph: np.ndarray, cls: type):
    """causal-learn writes -1 at the tail and 1 at the head: M[j, i] = 1 and M[i, j] = -1 is i -> j."""
    from causallearn.graph.Edge import Edge
    from causallearn.graph.Endpoint import Endpoint
    from causallearn.graph.GraphNode import GraphNode

    nodes = [GraphNode(f"X{i}") for i in range(len(graph))]
    result = cls(nodes)
    for i, j in zip(*np.nonzero(graph), strict=True):
        if graph[j, i] and i > j:
            continue
        tail = Endpoint.TAIL
        result.add_edge(Edge(nodes[i], nodes[j], tail, tail if graph[j, i] else Endpoint.ARROW))
    return result


def test_cpdag_and_shd_agree_with_causal_learn():
    from causallearn.graph.Dag import Dag
    from causallearn.graph.GeneralGraph import GeneralGraph
    from causallearn.graph.SHD import SHD
    from causallearn.utils.DAG2CPDAG import dag2cpdag

    rng = np.random.default_rng(1)
    n_reversible = 0
    for _ in range(25):
        dags = [random_dag(rng, 8, p) for p in rng.uniform(0.1, 0.6, 2)]
        ours = [graphs.cpdag(dag) for dag in dags]
        for dag, essential in zip(dags, ours, strict=True):
            marks = dag2cpdag(causal_learn_graph(dag, Dag)).graph
            theirs = (marks.T == 1) | ((marks == -1) & (marks.T == -1))
            np.testing.assert_array_equal(essential, theirs)
        n_reversible += int((ours[0] & ours[0].T).any())
        for a, b in (dags, ours):
            theirs = SHD(causal_learn_graph(a, GeneralGraph), causal_learn_graph(b, GeneralGraph)).get_shd()
            assert graphs.shd(a, b) == theirs
    assert n_reversible > 5  # the comparison of undirected marks is not empty


# --- planted examples ---------------------------------------------------------------------------------------------------

CHAIN = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
COLLIDER = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=bool)


def test_v_structures_are_the_edges_into_unshielded_colliders():
    np.testing.assert_array_equal(graphs.v_structures(COLLIDER), COLLIDER)
    assert not graphs.v_structures(CHAIN).any()
    shielded = COLLIDER.copy()
    shielded[0, 1] = True
    assert not graphs.v_structures(shielded).any()


def test_reachability_and_ancestors_follow_directed_paths():
    np.testing.assert_array_equal(graphs.reachability(CHAIN), [[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    assert graphs.reachability(np.roll(np.eye(4, dtype=bool), 1, axis=1)).all()  # a cycle reaches itself
    assert graphs.ancestors(CHAIN, [2]).all()
    assert graphs.ancestors(COLLIDER, [1]).tolist() == [False, True, False]
    assert not graphs.ancestors(CHAIN, []).any()


def test_are_acyclic_answers_each_graph_of_a_stack():
    two_cycle = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    three_cycle = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=bool)
    assert graphs.are_acyclic(np.array([CHAIN, two_cycle, COLLIDER, three_cycle])).tolist() == [True, False, True, False]


def test_break_cycles_drops_tied_weakest_edges_together():
    both = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=bool)
    weights = np.where(both, 0.7, 0.0)
    np.testing.assert_array_equal(graphs.break_cycles(both, weights), [[0, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_point_graph_of_a_half_is_empty():
    assert not graphs.point_graph(np.full((3, 3), 0.5) * ~np.eye(3, dtype=bool)).any()


def test_shd_counts_a_pair_once_and_only_where_scored():
    reversed_chain = CHAIN.T
    assert graphs.shd(CHAIN, reversed_chain) == 2
    assert graphs.shd(CHAIN, CHAIN | CHAIN.T) == 2
    only_first_pair = np.zeros((3, 3), dtype=bool)
    only_first_pair[0, 1] = only_first_pair[1, 0] = True
    assert graphs.shd(CHAIN, reversed_chain, only_first_pair) == 1


@pytest.mark.parametrize("call", [graphs.cpdag, graphs.topological_order])
def test_a_cycle_is_refused_where_a_dag_is_needed(call):
    with pytest.raises(InputError, match="acyclic"):
        call(CHAIN | CHAIN.T)


def test_wrong_input_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"shape \(d, d\), got \(2, 3\)"):
        graphs.skeleton(np.zeros((2, 3)))
    with pytest.raises(InputError, match="self-loop at 1"):
        graphs.is_acyclic(np.diag([0, 1]))
    with pytest.raises(InputError, match="targets must be variables 0 to 2, got 3"):
        graphs.interventional_essential_graph(CHAIN, [(3,)])
    with pytest.raises(InputError, match="one shape"):
        graphs.shd(CHAIN, np.zeros((2, 2)))
    with pytest.raises(InputError, match="weights must have shape"):
        graphs.break_cycles(CHAIN, np.zeros((2, 2)))
