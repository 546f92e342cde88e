"""The core types: arrays are read-only also after pickling, and what breaks a contract is refused in one line."""

import dataclasses
import pickle

import numpy as np
import pytest

from bench.errors import InputError, InvalidEstimate
from bench.types import Budget, Environment, Estimate, HeldOut, Meta, Observed, Problem, Result, Truth


def _problem(scale=1.0):
    rng = np.random.default_rng(0)
    observed = Observed((Environment(scale * rng.normal(size=(5, 3)), True), Environment(rng.normal(size=(2, 3)), False)))
    adjacency = np.triu(np.ones((3, 3), dtype=bool), 1)
    targets = np.array([[0, 0, 0], [0, 1, 0]], dtype=bool)
    held_out = HeldOut(rng.normal(size=(10, 3)), (3, 10), rng.normal(size=(4, 3)), np.array([True, False, False]))
    return Problem(observed, Truth(adjacency, targets), (held_out,), ("a", "b", "c"), {"x": 1.0})


def _two_below_one():
    """0 -> 1 <-> 2 -> 3."""
    return [[0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]]


def _told():
    problem = _problem()
    environments = tuple(dataclasses.replace(e, targets=frozenset({2})) for e in problem.observed.environments)
    return Observed(environments, problem.truth.adjacency)


def _half_known(*, graph):
    problem = _problem()
    truth = Truth(problem.truth.adjacency, None) if graph else Truth(None, problem.truth.targets)
    return dataclasses.replace(problem, truth=truth)


def _arrays(value):
    if isinstance(value, np.ndarray):
        yield value
    elif dataclasses.is_dataclass(value):
        for f in dataclasses.fields(value):
            yield from _arrays(getattr(value, f.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _arrays(item)
    elif hasattr(value, "values"):
        for item in value.values():
            yield from _arrays(item)


def _examples():
    estimate = Estimate(np.zeros((3, 3)), np.zeros((2, 3)), np.zeros((4, 3, 3), dtype=bool), np.zeros(4))
    known = [_problem(), _half_known(graph=True), _half_known(graph=False), _told()]
    return [*known, estimate, Result(estimate, {3: estimate}, (np.zeros((4, 2, 3)),), 1.0, 2.0, 3.0)]


@pytest.mark.parametrize("value", _examples(), ids=lambda v: type(v).__name__)
def test_arrays_are_read_only_also_after_pickling(value):
    for copy in (value, pickle.loads(pickle.dumps(value))):
        arrays = list(_arrays(copy))
        assert arrays
        for array in arrays:
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0


@pytest.mark.parametrize("value", _examples(), ids=lambda v: type(v).__name__)
def test_pickling_keeps_every_number(value):
    copy = pickle.loads(pickle.dumps(value))
    for before, after in zip(_arrays(value), _arrays(copy), strict=True):
        np.testing.assert_array_equal(before, after)


def test_types_keep_their_own_copy():
    X = np.zeros((2, 2))
    environment = Environment(X)
    X[0, 0] = 1
    assert environment.X[0, 0] == 0
    assert X.flags.writeable


def test_the_fingerprint_follows_every_array_and_nothing_else():
    problem = _problem()
    assert pickle.loads(pickle.dumps(problem)).fingerprint == problem.fingerprint
    assert _problem(scale=1 + 1e-15).fingerprint != problem.fingerprint
    renamed = dataclasses.replace(problem, variable_names=("x", "y", "z"))
    assert renamed.fingerprint == problem.fingerprint
    other_truth = Truth(problem.truth.adjacency, ~problem.truth.targets)
    assert dataclasses.replace(problem, truth=other_truth).fingerprint != problem.fingerprint


def test_the_graph_or_the_targets_may_be_unknown_and_then_no_pair_is_scored_or_no_target_is_there():
    for copy in (lambda truth: truth, lambda truth: pickle.loads(pickle.dumps(truth)), lambda truth: truth.permuted([2, 0, 1])):
        graph, targets = copy(_half_known(graph=True).truth), copy(_half_known(graph=False).truth)
        assert graph.targets is None
        assert graph.adjacency.sum() == 3
        assert graph.scored.sum() == 6
        assert targets.adjacency is None
        assert targets.targets.sum() == 1
        assert targets.scored.shape == (3, 3)
        assert not targets.scored.any()


def test_permuted_truth_moves_every_array_alike():
    adjacency = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
    truth = Truth(adjacency, [[True, False, False]], np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])).permuted([1, 2, 0])
    assert np.argwhere(truth.adjacency).tolist() == [[0, 1], [2, 0]]
    assert truth.targets.tolist() == [[False, False, True]]
    assert np.argwhere(truth.scored).tolist() == [[0, 2], [2, 0]]


def test_what_is_told_moves_with_the_columns_and_can_be_taken_back():
    told = _told()
    moved = told.permuted([1, 2, 0])
    assert np.argwhere(moved.graph).tolist() == [[0, 1], [2, 0], [2, 1]]
    assert [e.targets for e in moved.environments] == [{1}, {1}]
    np.testing.assert_array_equal(moved.pooled(), told.pooled()[:, [1, 2, 0]])
    assert told.without_graph().graph is None
    assert told.without_graph().targets_given
    assert not told.without_targets().targets_given
    np.testing.assert_array_equal(told.without_targets().graph, told.graph)


def test_a_told_graph_is_in_the_fingerprint_and_none_leaves_it_as_it_was():
    problem = _problem()
    graph = problem.truth.adjacency
    prints = {
        dataclasses.replace(problem, observed=Observed(problem.observed.environments, g)).fingerprint for g in (graph, graph.T)
    }
    assert len(prints | {problem.fingerprint}) == 3
    assert problem.fingerprint == "4449ca22f6676d09e3c6e40c4cb10c75"  # written before a graph could be told


def test_the_fingerprint_tells_unknown_from_absent():
    problem = _problem()
    adjacency, targets = problem.truth.adjacency, problem.truth.targets
    truths = [
        None,
        problem.truth,
        Truth(adjacency, None),
        Truth(adjacency, np.zeros_like(targets)),
        Truth(None, targets),
        Truth(np.zeros_like(adjacency), targets),
        Truth(np.zeros_like(adjacency), targets, np.zeros_like(adjacency)),
    ]
    assert len({dataclasses.replace(problem, truth=truth).fingerprint for truth in truths}) == len(truths)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Environment(np.zeros((0, 2))), "at least one sample"),
        (lambda: Environment(np.array([[1.0, np.nan]])), "column.* 1"),
        (lambda: Environment(np.zeros((2, 2)), targets=frozenset({2})), "0 to 1"),
        (lambda: Environment(np.zeros((2, 2)), targets=np.array([False, True])), "np.flatnonzero gives them, got .*False"),
        (lambda: Environment(np.zeros((2, 2)), targets=[0.5]), "numbers of variables, .* got 0.5"),
        (lambda: Environment([["a"]]), "float64"),
        (lambda: Observed(()), "at least one environment"),
        (lambda: Observed((Environment(np.zeros((1, 2))),), np.zeros((3, 3))), r"graph must have shape \(2, 2\), got \(3, 3\)"),
        (lambda: Observed((Environment(np.zeros((1, 2))),), np.eye(2)), "zero diagonal, got a self-loop at 0"),
        (lambda: Observed((Environment(np.zeros((1, 4))),), _two_below_one()), "cycle through the variables 1, 2$"),
        (lambda: Observed((Environment(np.zeros((1, 2))), Environment(np.zeros((1, 3))))), r"\[2, 3\]"),
        (lambda: Truth(np.eye(2, dtype=bool), np.zeros((1, 2), dtype=bool)), "self-loop at 0"),
        (lambda: Truth(np.zeros((2, 2)), np.zeros((1, 3))), r"\(any, 2\), got \(1, 3\)"),
        (lambda: Truth(None, None), "the graph or the targets, got neither"),
        (lambda: Truth(None, np.zeros((1, 2)), np.ones((2, 2))), "scored pairs need an adjacency"),
        (lambda: Truth(np.zeros((2, 2)), None, np.ones((3, 3))), r"scored must have shape \(2, 2\), got \(3, 3\)"),
        (lambda: Problem(_problem().observed, Truth(np.zeros((2, 2)), None)), "truth must have 3 variables, got 2"),
        (lambda: Problem(_problem().observed, Truth(None, np.zeros((2, 4)))), "truth must have 3 variables, got 4"),
        (lambda: Problem(_problem().observed, Truth(None, np.zeros((1, 3)))), r"\(2, 3\), got \(1, 3\)"),
        (lambda: Meta("A method.", interventions="hard"), "tuple of kinds, got the text 'hard'"),
        (lambda: Meta("A method.", n_variables=(0, None)), r"1 <= least <= most.* got \(0, None\)"),
        (lambda: HeldOut(np.zeros((3, 2)), (4,), np.zeros((0, 2)), np.zeros(2)), "between 1 and 3"),
        (lambda: Problem(_problem().observed, None, variable_names=("a",)), "variable_names must have 3 entries, got 1"),
        (lambda: Problem(_problem().observed, None, environment_names=("a",)), "environment_names must have 2 entries, got 1"),
    ],
)
def test_wrong_input_is_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


CYCLE = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=bool)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"edge_probability": np.eye(2)}, "zero diagonal"),
        ({"edge_probability": np.full((2, 2), np.nan)}, "NaN"),
        ({"edge_probability": np.zeros((2, 3))}, r"\(2, 2\), got \(2, 3\)"),
        ({"edge_probability": None}, "None"),
        ({"edge_probability": np.zeros((2, 2)), "target_probability": np.full((1, 2), -0.1)}, "from -0.1"),
        ({"edge_probability": np.zeros((2, 2)), "graph_samples": np.ones((1, 2, 2))}, "zero diagonal"),
        ({"edge_probability": np.zeros((2, 2)), "log_weights": np.zeros(2)}, "log_weights"),
        ({"edge_probability": np.zeros((2, 2)), "point_graph": np.zeros((2, 2))}, "together"),
        ({"edge_probability": np.zeros((3, 3)), "point_graph": CYCLE, "graph_kind": "dag"}, "acyclic"),
        ({"edge_probability": np.zeros((3, 3)), "point_graph": CYCLE | CYCLE.T, "graph_kind": "dag"}, "acyclic"),
        ({"edge_probability": np.zeros((3, 3)), "point_graph": CYCLE, "graph_kind": "tree"}, "'tree'"),
    ],
)
def test_an_estimate_that_breaks_its_contract_is_invalid(values, message):
    with pytest.raises(InvalidEstimate, match=message):
        Estimate(**values)


def test_an_equivalence_class_may_have_undirected_edges():
    both = np.array([[0, 1], [1, 0]], dtype=bool)
    assert Estimate(both * 0.5, point_graph=both, graph_kind="cpdag").point_graph.sum() == 2


def test_check_compares_with_the_data_that_were_given():
    estimate = Estimate(np.zeros((2, 2)), target_probability=np.zeros((3, 2)))
    estimate.check(3, 2)
    with pytest.raises(InvalidEstimate, match=r"\(4, 2\), got \(3, 2\)"):
        estimate.check(4, 2)
    with pytest.raises(InvalidEstimate, match=r"\(3, 3\), got \(2, 2\)"):
        estimate.check(3, 3)


def test_permuted_moves_every_array_alike_and_back():
    rng = np.random.default_rng(1)
    samples = rng.random((4, 3, 3)) < 0.3
    samples[:, range(3), range(3)] = False
    edges = rng.random((3, 3)) * (1 - np.eye(3))
    graph = np.triu(np.ones((3, 3), dtype=bool), 1)
    estimate = Estimate(edges, rng.random((2, 3)), samples, np.arange(4.0), graph, "dag", rng.random((2, 3)) < 0.5)
    order = np.array([2, 0, 1])
    moved = estimate.permuted(order)
    assert moved.edge_probability[0, 1] == edges[2, 0]
    assert moved.target_probability[1, 0] == estimate.target_probability[1, 2]
    back = moved.permuted(np.argsort(order))
    for before, after in zip(_arrays(estimate), _arrays(back), strict=True):
        np.testing.assert_array_equal(before, after)


def test_weights_are_normalised_and_survive_huge_logs():
    samples = np.zeros((2, 2, 2), dtype=bool)
    weights = Estimate(np.zeros((2, 2)), graph_samples=samples, log_weights=np.array([1e4, 1e4 + np.log(3)])).weights()
    np.testing.assert_allclose(weights, [0.25, 0.75])
    np.testing.assert_allclose(Estimate(np.zeros((2, 2)), graph_samples=samples).weights(), [0.5, 0.5])


def test_a_budget_runs_out_and_reports_progress_within_bounds():
    seen = []
    budget = Budget(seconds=0.0, progress=lambda fraction, note: seen.append((fraction, note)))
    assert budget.expired
    budget.progress(3.0, "late")
    assert seen == [(1.0, "late")]
    assert not Budget(seconds=1e6).expired


@pytest.mark.parametrize("value", [1 + 2**-52, 1.0000001, -1e-9])
def test_rounding_errors_of_probabilities_are_seen_in_the_message(value):
    with pytest.raises(InvalidEstimate, match=r"got values from -?[\de.-]+ to 1?0?, [\de.-]+ outside: rounding\?"):
        Estimate(np.array([[0.0, value], [0.0, 0.0]]))
