"""Hypothesis strategies that several test modules share.

Arrays are drawn through explicit draws of their entries, so that a failing example shrinks to few edges and few variables.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bench import graphs
from bench.types import BoolArray, Environment, Estimate, FloatArray, HeldOut, Observed, Problem, Result, Truth


def permutations(n: int) -> st.SearchStrategy[np.ndarray]:
    """Orders of n things, int (n,)."""
    return st.permutations(range(n)).map(lambda order: np.array(order, dtype=np.intp))


def bool_arrays(*shape: int) -> st.SearchStrategy[BoolArray]:
    return arrays.arrays(np.bool_, shape)


@st.composite
def dags(draw: st.DrawFn, min_variables: int = 1, max_variables: int = 7) -> BoolArray:
    """Acyclic graphs in any order of their variables, bool (d, d)."""
    d = draw(st.integers(min_variables, max_variables))
    order = draw(permutations(d))
    return np.triu(draw(bool_arrays(d, d)), 1)[np.ix_(order, order)]


@st.composite
def digraphs(draw: st.DrawFn, min_variables: int = 1, max_variables: int = 7) -> BoolArray:
    """Any graph without self-loops, bool (d, d): cycles and undirected edges included."""
    d = draw(st.integers(min_variables, max_variables))
    return draw(bool_arrays(d, d)) & ~np.eye(d, dtype=bool)


def target_families(d: int, max_environments: int = 4) -> st.SearchStrategy[list[list[int]]]:
    """Targets of some environments, empty ones included."""
    some = st.lists(st.integers(0, d - 1), unique=True, max_size=d)
    return st.lists(some, max_size=max_environments)


def probabilities(*shape: int, steps: int = 8) -> st.SearchStrategy[FloatArray]:
    """Probabilities on a coarse grid, so that ties, 0, 1 and .5 are common."""
    return arrays.arrays(np.float64, shape, elements=st.integers(0, steps).map(lambda k: k / steps))


@st.composite
def estimates(draw: st.DrawFn, n_environments: int, d: int) -> Estimate:
    """Answers of every kind: with and without a graph (also of a class, valid or not), samples, weights, targets."""
    kind = draw(st.sampled_from([None, "dag", "cpdag", "i-essential"]))
    graph = None
    if kind == "dag":
        graph = draw(dags(d, d))
    elif kind is not None and draw(st.booleans()):
        targets = draw(target_families(d)) if kind == "i-essential" else []
        graph = graphs.interventional_essential_graph(draw(dags(d, d)), [[], *targets])
    elif kind is not None:
        graph = draw(digraphs(d, d))
    n_samples = draw(st.integers(0, 3))
    samples = np.array([draw(digraphs(d, d)) for _ in range(n_samples)]) if n_samples else None
    weighted = n_samples > 0 and draw(st.booleans())
    return Estimate(
        draw(probabilities(d, d)) * ~np.eye(d, dtype=bool),
        draw(st.none() | probabilities(n_environments, d)),
        samples,
        np.array([draw(st.integers(-3, 0)) for _ in range(n_samples)], dtype=float) if weighted else None,
        graph,
        kind,
        draw(st.none() | bool_arrays(n_environments, d)),
    )


@st.composite
def cases(draw: st.DrawFn, min_variables: int = 2, max_variables: int = 5, partial: bool = False) -> tuple[Problem, Result]:
    """A problem with truth and held-out environments, and an answer that fits it; samples are zeros, scoring ignores them.

    ``partial`` lets the graph or the targets be unknown.
    """
    d = draw(st.integers(min_variables, max_variables))
    n_environments, n_held_out = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    flags = [draw(st.sampled_from([None, True, False])) for _ in range(n_environments)]
    observed = Observed(tuple(Environment(np.zeros((1, d)), flag) for flag in flags))
    adjacency = draw(st.one_of(dags(d, d), dags(d, d), digraphs(d, d)))
    scored = draw(st.one_of(st.just(()), st.just(()), st.tuples(bool_arrays(d, d))))
    targets = draw(bool_arrays(n_environments, d))
    known = draw(st.sampled_from(["both", "both", "graph", "targets"])) if partial else "both"
    truth = Truth(None, targets) if known == "targets" else Truth(adjacency, None if known == "graph" else targets, *scored)
    held_out = tuple(
        HeldOut(np.zeros((3, d)), draw(st.sampled_from([(1,), (1, 3)])), np.zeros((2, d)), draw(bool_arrays(d)))
        for _ in range(n_held_out)
    )
    estimate = draw(estimates(n_environments, d))
    adapted = {size: draw(estimates(n_held_out, d)) for size in (1, 3)} if n_held_out else {}
    n_graphs = 1 if estimate.graph_samples is None else len(estimate.graph_samples)
    density = arrays.arrays(np.float64, (n_graphs, 2, d), elements=st.integers(-5, 1).map(float))
    log_density = tuple(draw(density) for _ in held_out) if draw(st.booleans()) else None
    return Problem(observed, truth, held_out), Result(estimate, adapted, log_density, 1.0)
