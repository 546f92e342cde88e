"""Plots of one problem: edges point down, nothing overlaps, and whatever is not known is left out and said."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import registry
from bench.effects import effects
from bench.plots.layered import layered
from bench.plots.problem import plot_graph, plot_marginals, plot_shifts, write_problem_plots
from bench.plots.style import NothingToPlot, caption_of
from bench.types import Environment, Observed, Problem, Truth

STEMS = ("graph", "marginals", "shifts", "effect-sizes")


@st.composite
def graphs(draw):
    d = draw(st.integers(1, 9))
    bits = draw(st.lists(st.booleans(), min_size=d * d, max_size=d * d))
    graph = np.array(bits).reshape(d, d)
    np.fill_diagonal(graph, False)
    return graph


@settings(deadline=None, max_examples=60)
@given(graphs(), st.booleans())
def test_variables_never_overlap_and_edges_of_a_dag_point_down(graph, acyclic):
    graph = np.triu(graph) if acyclic else graph
    layout = layered(graph)
    assert set(layout.courses) == {(int(i), int(j)) for i, j in np.argwhere(graph)}
    for row in np.unique(layout.places[:, 1]):
        across = np.sort(layout.places[layout.places[:, 1] == row, 0])
        assert (np.diff(across) > 1 - 1e-9).all()
    for (i, j), course in layout.courses.items():
        assert (course[0] == layout.places[i]).all()
        assert (course[-1] == layout.places[j]).all()
        steps = np.diff(course[:, 1])
        assert (np.abs(steps) == 1).all()
        assert (steps == steps[0]).all()
        assert not acyclic or steps[0] == 1


def test_a_tree_is_drawn_without_crossings():
    tree = registry.make_problem("synthetic[graph=random_tree,n_variables=12]", seed=0).truth.adjacency
    courses = list(layered(tree).courses.values())
    for i, first in enumerate(courses):
        for second in courses[:i]:
            for a, b in itertools.pairwise(first):
                for c, e in itertools.pairwise(second):
                    if a[1] == c[1]:
                        assert (a[0] - c[0]) * (b[0] - e[0]) > -1e-9


def test_variables_without_edges_stand_below_in_rows():
    layout = layered(np.zeros((25, 25), dtype=bool))
    assert layout.n_layers == 3
    assert layout.width == 10


def test_the_caption_of_the_graph_says_what_is_seen():
    cyclic = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=bool)
    environments = (Environment(np.eye(3), is_observational=True), Environment(np.eye(3)))
    problem = Problem(Observed(environments), Truth(cyclic, [[0, 0, 0], [1, 0, 0]]))
    caption = caption_of(plot_graph(problem, "a title"))
    assert "3 variables, 3 edges" in caption
    assert "close a cycle" in caption
    unscored = np.ones((3, 3), dtype=bool)
    unscored[0, 1] = unscored[1, 0] = False
    known_in_part = dataclasses.replace(problem, truth=Truth(np.triu(cyclic), None, unscored))
    caption = caption_of(plot_graph(known_in_part, "a title"))
    assert "1 pair of which nothing is known" in caption
    assert "Filled" not in caption


def test_targets_are_framed_and_coloured():
    problem = registry.make_problem("synthetic[n_variables=5,n_environments=4]", seed=0)
    figure = plot_shifts(effects(problem), "a title")
    assert len(figure.axes[0].patches) == problem.truth.targets.sum()
    figure = plot_marginals(problem, "a title")
    assert len(figure.axes) == 5


def test_more_variables_and_environments_than_can_be_seen_are_counted_in_the_caption():
    observed = Observed(tuple(Environment(np.eye(2, 64) + e) for e in range(62)))
    assert "Not drawn: 4 further variables and 2 further environments" in caption_of(
        plot_marginals(Problem(observed, None), "")
    )


@pytest.mark.parametrize("truth", ["known", "graph", "targets", "nothing"])
def test_whatever_is_known_of_a_problem_is_drawn_and_the_rest_is_named(truth, tmp_path):
    problem = registry.make_problem("synthetic[n_variables=5,n_environments=3,n_per_environment=20]", seed=0)
    known = {
        "known": problem.truth,
        "graph": Truth(problem.truth.adjacency, None),
        "targets": Truth(None, problem.truth.targets),
        "nothing": None,
    }[truth]
    problem = dataclasses.replace(problem, truth=known)
    plots = write_problem_plots(problem, effects(problem), tmp_path, "a title")
    drawn = STEMS if truth in ("known", "graph") else STEMS[1:]
    assert sorted(p.name for p in plots.written) == sorted(f"{stem}.{kind}" for stem in drawn for kind in ("png", "svg"))
    assert len(plots.left_out) == 4 - len(drawn)


def test_observational_data_alone_have_a_graph_and_marginals():
    with pytest.raises(NothingToPlot, match="every environment is observational"):
        plot_shifts(effects(registry.make_problem("synthetic[n_environments=0]", seed=0)), "a title")
