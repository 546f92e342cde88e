"""Laws that hold for every graph: metric axioms, idempotence, equivalence, and indifference to the variables' names."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import dags, digraphs, permutations, probabilities, target_families

from bench import graphs


@st.composite
def three_graphs(draw):
    d = draw(st.integers(1, 6))
    return [draw(digraphs(d, d)) for _ in range(3)]


@given(three_graphs())
def test_shd_is_a_metric(abc):
    a, b, c = abc
    assert graphs.shd(a, a) == 0
    assert graphs.shd(a, b) == graphs.shd(b, a)
    assert (graphs.shd(a, b) == 0) == np.array_equal(a, b)
    assert graphs.shd(a, c) <= graphs.shd(a, b) + graphs.shd(b, c)


@given(dags())
def test_cpdag_of_any_extension_of_a_cpdag_is_that_cpdag(dag):
    essential = graphs.cpdag(dag)
    extension = graphs.consistent_extension(essential)
    assert graphs.is_acyclic(extension)
    np.testing.assert_array_equal(graphs.cpdag(extension), essential)


@given(dags(2), st.data())
def test_reversing_a_covered_edge_changes_no_cpdag(dag, data):
    """Chickering (1995): covered edges, whose ends share their other parents, are the steps between equivalent DAGs."""
    essential = graphs.cpdag(dag)
    for _ in range(4):
        covered = [(i, j) for i, j in np.argwhere(dag) if set(np.flatnonzero(dag[:, j])) == {*np.flatnonzero(dag[:, i]), i}]
        if not covered:
            break
        i, j = data.draw(st.sampled_from(covered))
        dag = dag.copy()
        dag[i, j], dag[j, i] = False, True
        np.testing.assert_array_equal(graphs.cpdag(dag), essential)


@given(dags(1), st.data())
def test_interventional_essential_graph_lies_between_dag_and_cpdag_and_shrinks_with_more_environments(dag, data):
    family = data.draw(target_families(len(dag)))
    more = family + data.draw(target_families(len(dag)))
    fewer, finer = (graphs.interventional_essential_graph(dag, targets) for targets in (family, more))
    for smaller, larger in ((dag, finer), (finer, fewer), (fewer, graphs.cpdag(dag))):
        assert not (smaller & ~larger).any()


@given(dags(1), st.data())
def test_observational_data_and_repeated_environments_add_nothing_that_order_could_change(dag, data):
    family = data.draw(target_families(len(dag)))
    expected = graphs.interventional_essential_graph(dag, [[], *family])
    np.testing.assert_array_equal(graphs.interventional_essential_graph(dag, [*family[::-1], *family, []]), expected)


@given(digraphs())
def test_acyclic_is_what_reaches_nothing_from_itself(graph):
    reach = graphs.reachability(graph)
    assert graphs.is_acyclic(graph) == (not reach.diagonal().any())
    for node in range(len(graph)):
        np.testing.assert_array_equal(graphs.ancestors(graph, [node]), reach[:, node] | (np.arange(len(graph)) == node))


@given(dags())
def test_every_edge_points_forward_in_a_topological_order(dag):
    order = graphs.topological_order(dag)
    assert sorted(order) == list(range(len(dag)))
    assert not np.tril(dag[np.ix_(order, order)]).any()


def break_cycles_one_at_a_time(graph, weights):
    """The definition: while some edge lies on a cycle, drop the weakest of those (all that tie)."""
    graph = graph.copy()
    while True:
        on_cycle = graph & graphs.reachability(graph).T
        if not on_cycle.any():
            return graph
        graph &= ~(on_cycle & (weights == weights[on_cycle].min()))


@given(digraphs(2), st.data())
def test_break_cycles_drops_the_weakest_edges_of_cycles_and_no_other(graph, data):
    weights = data.draw(probabilities(*graph.shape))
    found = graphs.break_cycles(graph, weights)
    assert graphs.is_acyclic(found)
    np.testing.assert_array_equal(found, break_cycles_one_at_a_time(graph, weights))


@given(digraphs(2), st.data())
def test_renaming_the_variables_renames_every_answer(graph, data):
    order = data.draw(permutations(len(graph)))
    weights = data.draw(probabilities(*graph.shape))

    def renamed(matrix):
        return matrix[np.ix_(order, order)]

    for answer in (graphs.skeleton, graphs.v_structures, graphs.reachability, graphs.apply_meek_rules):
        np.testing.assert_array_equal(answer(renamed(graph)), renamed(answer(graph)))
    np.testing.assert_array_equal(
        graphs.break_cycles(renamed(graph), renamed(weights)), renamed(graphs.break_cycles(graph, weights))
    )
    dag = graphs.break_cycles(graph, weights)
    np.testing.assert_array_equal(graphs.cpdag(renamed(dag)), renamed(graphs.cpdag(dag)))


@given(digraphs())
def test_edge_scores_of_a_class_give_each_adjacent_pair_one(graph):
    scores = graphs.edge_scores_of_class(graph)
    np.testing.assert_array_equal(scores + scores.T, graphs.skeleton(graph).astype(float))
    np.testing.assert_array_equal(scores > 0, graph)
