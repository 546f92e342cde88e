"""Preprocessing: fitted on training alone, blind to raw units and order, and undone exactly."""

import dataclasses
from math import erf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError, InvalidEstimate
from bench.preprocessing import prepare
from bench.registry import with_sortability
from bench.sortability import sortability
from bench.types import Environment, Estimate, HeldOut, Observed, Problem, Result, Truth

D = 4
SCALINGS = ["none", "observational", "pooled"]


def make(seed=0, d=D, n=20, low=0.1, observational=True, diagnostics=None):
    """Three environments and two held-out ones of positive values in unlike units."""
    rng = np.random.default_rng(seed)
    unit = 10.0 ** np.arange(d)

    def sample(n):
        return unit * (low + rng.gamma(2.0, size=(n, d)))

    environments = (
        Environment(sample(n), is_observational=True if observational else None, targets=frozenset()),
        Environment(sample(n), is_observational=False, targets=frozenset({0, 2})),
        Environment(sample(n), is_observational=False, targets=frozenset({1})),
    )
    targets = np.zeros((3, d), dtype=bool)
    targets[1, [0, 2]] = targets[2, 1] = True
    truth = Truth(np.triu(rng.random((d, d)) < 0.6, 1), targets, np.ones((d, d)))
    held_out = tuple(HeldOut(sample(5), (2, 5), sample(6), rng.random(d) < 0.5) for _ in range(2))
    return Problem(Observed(environments), truth, held_out, tuple("abcdefgh"[:d]), diagnostics or {})


def rescaled(problem, factor):
    observed = Observed(tuple(dataclasses.replace(e, X=e.X * factor) for e in problem.observed.environments))
    held_out = tuple(dataclasses.replace(h, support=h.support * factor, query=h.query * factor) for h in problem.held_out)
    return Problem(observed, problem.truth, held_out, problem.variable_names)


def test_pooled_scaling_gives_mean_zero_and_variance_one():
    X = prepare(make(), seed=0).problem.observed.pooled()
    assert np.allclose(X.mean(axis=0), 0, atol=1e-12)
    assert np.allclose(X.std(axis=0), 1, rtol=1e-12)


def test_observational_scaling_standardises_the_observational_samples_alone():
    problem = prepare(make(), scaling="observational", seed=0).problem
    X = problem.observed.observational()
    assert np.allclose(X.mean(axis=0), 0, atol=1e-12)
    assert np.allclose(X.std(axis=0), 1, rtol=1e-12)
    assert not np.allclose(problem.observed.pooled().std(axis=0), 1, rtol=1e-3)


def test_no_scaling_and_no_transform_only_shuffles():
    problem = make()
    prepared = prepare(problem, scaling="none", seed=3)
    for before, after in zip(problem.observed.environments, prepared.problem.observed.environments, strict=True):
        assert np.array_equal(after.X, before.X[:, prepared.order])
        assert after.is_observational == before.is_observational


@pytest.mark.parametrize("scaling", ["observational", "pooled"])
@pytest.mark.parametrize("transform", ["none", "sqrt"])
@given(exponents=st.lists(st.integers(-12, 12), min_size=D, max_size=D))
def test_prepared_data_do_not_depend_on_raw_units(transform, scaling, exponents):
    """To rounding: the data have about 1e-15 relative error, blown up by at most the ratio of mean to deviation."""
    problem = make()
    factor = 10.0 ** np.array(exponents)
    first = prepare(problem, transform=transform, scaling=scaling, seed=1).problem
    second = prepare(rescaled(problem, factor), transform=transform, scaling=scaling, seed=1).problem
    assert np.allclose(first.observed.pooled(), second.observed.pooled(), rtol=0, atol=1e-10)
    for a, b in zip(first.held_out, second.held_out, strict=True):
        assert np.allclose(a.support, b.support, rtol=0, atol=1e-10)
        assert np.allclose(a.query, b.query, rtol=0, atol=1e-10)


def test_held_out_environments_decide_nothing():
    problem = make()
    extreme = tuple(dataclasses.replace(h, support=h.support * 1e6, query=h.query * 1e6) for h in problem.held_out)
    other = Problem(problem.observed, problem.truth, extreme, problem.variable_names)
    for scaling in SCALINGS:
        first = prepare(problem, transform="auto", scaling=scaling, seed=0)
        second = prepare(other, transform="auto", scaling=scaling, seed=0)
        assert np.array_equal(first.problem.observed.pooled(), second.problem.observed.pooled())


def test_held_out_samples_go_through_the_same_map():
    """A held-out environment with the samples of a training environment becomes that environment."""
    problem = make()
    X = problem.observed.environments[1].X
    copy = HeldOut(X, (5,), X, problem.truth.targets[1])
    prepared = prepare(Problem(problem.observed, problem.truth, (copy,)), transform="log1p", seed=5).problem
    assert np.array_equal(prepared.held_out[0].support, prepared.observed.environments[1].X)
    assert np.array_equal(prepared.held_out[0].query, prepared.observed.environments[1].X)
    assert np.array_equal(prepared.held_out[0].targets, prepared.truth.targets[1])


@given(st.integers(0, 2**32))
def test_everything_is_shuffled_alike(seed):
    problem = make()
    prepared = prepare(problem, scaling="none", seed=seed)
    order, seen = prepared.order, prepared.problem
    assert sorted(order) == list(range(D))
    for i in range(D):
        assert np.array_equal(seen.truth.targets[:, i], problem.truth.targets[:, order[i]])
        assert [i in e.targets for e in seen.observed.environments] == [
            order[i] in e.targets for e in problem.observed.environments
        ]
        for j in range(D):
            assert seen.truth.adjacency[i, j] == problem.truth.adjacency[order[i], order[j]]
            assert seen.truth.scored[i, j] == problem.truth.scored[order[i], order[j]]


def test_a_half_known_truth_is_shuffled_alike():
    problem = make()
    whole = prepare(problem, seed=3).problem
    adjacency, targets = problem.truth.adjacency, problem.truth.targets
    graph = prepare(dataclasses.replace(problem, truth=Truth(adjacency, None)), seed=3).problem
    assert graph.truth.targets is None
    assert np.array_equal(graph.truth.adjacency, whole.truth.adjacency)
    assert graph.diagnostics["varsortability_raw"] == whole.diagnostics["varsortability_raw"]
    rest = prepare(dataclasses.replace(problem, truth=Truth(None, targets)), seed=3).problem
    assert rest.truth.adjacency is None
    assert np.array_equal(rest.truth.targets, whole.truth.targets)
    assert not rest.diagnostics  # no graph, no sortability


def test_shuffle_depends_on_the_seed_alone():
    orders = {seed: prepare(make(d=8), seed=seed).order.tolist() for seed in range(10)}
    assert len({tuple(order) for order in orders.values()}) == 10
    assert prepare(make(seed=1, d=8), transform="sqrt", seed=3).order.tolist() == orders[3]


def test_method_sees_no_names():
    assert prepare(make(), seed=0).problem.variable_names == ("X0", "X1", "X2", "X3")


@given(st.integers(0, 2**32))
def test_restoring_the_truth_as_an_answer_gives_the_truth(seed):
    problem = make()
    prepared = prepare(problem, seed=seed)
    seen = prepared.problem.truth
    answer = Estimate(
        seen.adjacency.astype(float),
        target_probability=seen.targets.astype(float),
        graph_samples=seen.adjacency[None],
        point_graph=seen.adjacency,
        graph_kind="dag",
        targets=seen.targets,
    )
    adapted = Estimate(answer.edge_probability, target_probability=[h.targets for h in prepared.problem.held_out])
    result = prepared.restore(Result(answer, {5: adapted}, fit_seconds=1.5, cut_short=True))
    assert np.array_equal(result.estimate.edge_probability, problem.truth.adjacency)
    assert np.array_equal(result.estimate.target_probability, problem.truth.targets)
    assert np.array_equal(result.estimate.targets, problem.truth.targets)
    assert np.array_equal(result.estimate.point_graph, problem.truth.adjacency)
    assert np.array_equal(result.estimate.graph_samples[0], problem.truth.adjacency)
    assert np.array_equal(result.adapted[5].target_probability, [h.targets for h in problem.held_out])
    assert (result.fit_seconds, result.cut_short) == (1.5, True)


@pytest.mark.parametrize("transform", ["none", "sqrt", "log1p"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_restored_density_integrates_to_one_in_raw_units(transform, scaling):
    """A density of prepared values over a fine grid of raw ones, dense near 0 where a square root is steep; the trapezoid
    rule's error at 20,000 points is below 1e-5."""
    training = make(low=1.0)
    mean = training.observed.pooled().mean(axis=0)
    grid = mean * np.geomspace(1e-3, 40.0, 20_000)[:, None]
    held_out = HeldOut(grid[:2], (1,), grid, np.zeros(D, dtype=bool))
    prepared = prepare(Problem(training.observed, None, (held_out,)), transform=transform, scaling=scaling, seed=2)
    z = prepared.problem.held_out[0].query
    middle, width = z[:10_000].mean(axis=0), z[:10_000].std(axis=0)
    log_density = -0.5 * ((z - middle) / width) ** 2 - np.log(width) - 0.5 * np.log(2 * np.pi)
    # What the normal law of z leaves beyond the grid's ends is no part of the integral.
    result = prepared.restore(Result(Estimate(np.zeros((D, D))), held_out_log_density=(log_density[None],)))
    raw = np.exp(result.held_out_log_density[0][0])
    integral = (0.5 * (raw[1:] + raw[:-1]) * np.diff(grid, axis=0)).sum(axis=0)
    inside = np.array([_normal_mass((z[[0, -1], i] - middle[i]) / width[i]) for i in np.argsort(prepared.order)])
    assert np.allclose(integral, inside, atol=1e-5)


def _normal_mass(ends):
    return 0.5 * (erf(ends[1] / sqrt(2)) - erf(ends[0] / sqrt(2)))


def test_jacobian_is_finite_where_the_square_root_has_no_derivative():
    X = np.array([[0.0, 0.0], [4.0, 0.0], [9.0, 0.0]])
    problem = Problem(Observed((Environment(X),)), None, (HeldOut(X, (1,), X, np.zeros(2, dtype=bool)),))
    (jacobian,) = prepare(problem, transform="sqrt", scaling="none", seed=0).log_jacobian
    assert np.allclose(jacobian[:, 0], -np.log(2 * np.sqrt([4.0, 4.0, 9.0])))
    assert np.isfinite(jacobian).all()


def test_densities_of_the_wrong_shape_are_an_invalid_estimate():
    prepared = prepare(make(), seed=0)
    good, bad = np.zeros((2, 6, D)), np.zeros((2, 5, D))
    with pytest.raises(InvalidEstimate, match=r"held-out environment 1 must be \(S, 6, 4\), got \(2, 5, 4\)"):
        prepared.restore(Result(Estimate(np.zeros((D, D))), held_out_log_density=(good, bad)))
    with pytest.raises(InvalidEstimate, match="of 2 held-out environments, got 1"):
        prepared.restore(Result(Estimate(np.zeros((D, D))), held_out_log_density=(good,)))


def test_constant_columns_are_centred_and_keep_their_unit():
    X = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]])
    prepared = prepare(Problem(Observed((Environment(X),)), None), seed=0)
    column = prepared.problem.observed.pooled()[:, prepared.order.tolist().index(0)]
    assert np.array_equal(column, np.zeros(3))


def test_a_column_constant_only_without_intervention_takes_its_unit_from_all_samples():
    quiet, loud = np.array([[5.0], [5.0]]), np.array([[5.0], [105.0]])
    problem = Problem(Observed((Environment(quiet, is_observational=True), Environment(loud))), None)
    X = prepare(problem, scaling="observational", seed=0).problem.observed.pooled()
    assert X[0, 0] == 0.0
    assert X[-1, 0] == pytest.approx(100.0 / np.concatenate([quiet, loud]).std())


@pytest.mark.parametrize("transform", ["sqrt", "log1p"])
def test_negative_values_are_refused_with_the_variables_name(transform):
    problem = Problem(Observed((Environment(np.array([[1.0, -2.0], [1.0, 3.0]])),)), None, variable_names=("a", "b"))
    with pytest.raises(InputError, match=f"'{transform}' needs values of at least 0, got -2 in variable 'b'"):
        prepare(problem, transform=transform, seed=0)


def test_negative_held_out_values_are_refused_too():
    X = np.ones((2, 1))
    held_out = HeldOut(X, (1,), -X, np.zeros(1, dtype=bool))
    with pytest.raises(InputError, match="got -1 in variable 'X0'"):
        prepare(Problem(Observed((Environment(X),)), None, (held_out,)), transform="sqrt", seed=0)


def test_auto_is_a_square_root_of_what_is_never_negative_and_nothing_else():
    positive = make()
    assert prepare(positive, transform="auto", seed=0).transform == "sqrt"
    mixed = Problem(Observed((*positive.observed.environments, Environment(-np.ones((2, D))))), None)
    assert prepare(mixed, transform="auto", seed=0).transform == "none"
    X = np.ones((2, D))
    late = HeldOut(X, (1,), -X, np.zeros(D, dtype=bool))
    assert prepare(Problem(positive.observed, None, (late,)), transform="auto", seed=0).transform == "none"


def test_observational_scaling_without_observational_samples_is_refused():
    with pytest.raises(InputError, match="needs an observational environment"):
        prepare(make(observational=False), scaling="observational", seed=0)


@pytest.mark.parametrize(("key", "value", "hint"), [("scaling", "poled", "pooled"), ("transform", "sqr", "sqrt")])
def test_misspelt_options_are_answered_with_the_nearest(key, value, hint):
    with pytest.raises(InputError, match=f"unknown {key} '{value}'; did you mean '{hint}'"):
        prepare(make(), seed=0, **{key: value})


def test_diagnostics_are_those_of_the_data_that_methods_see():
    problem = make(diagnostics={"n_scaled_down": 2.0})
    prepared = with_sortability(prepare(problem, seed=4).problem)
    raw = sortability(problem.observed, problem.truth.adjacency)
    assert dict(prepared.diagnostics) == {
        "n_scaled_down": 2.0,
        "varsortability_raw": raw["varsortability"],
        **sortability(prepared.observed, prepared.truth.adjacency),
    }


def test_a_problem_without_truth_has_no_sortability():
    problem = Problem(make().observed, None)
    assert dict(prepare(problem, seed=0).problem.diagnostics) == {}


def test_preparing_changes_nothing_in_the_problem():
    problem = make()
    before = problem.fingerprint
    prepare(problem, transform="sqrt", seed=0)
    assert Problem(problem.observed, problem.truth, problem.held_out).fingerprint == before


def test_what_is_told_is_shuffled_with_the_columns():
    problem = make()
    environments = tuple(dataclasses.replace(e, targets=frozenset({0})) for e in problem.observed.environments)
    told = Observed(environments, problem.truth.adjacency)
    prepared = prepare(Problem(told, problem.truth), seed=4)
    assert prepared.order.tolist() != sorted(prepared.order)
    np.testing.assert_array_equal(prepared.problem.observed.graph, prepared.problem.truth.adjacency)
    place = prepared.order.tolist().index(0)
    assert [e.targets for e in prepared.problem.observed.environments] == [{place}] * len(environments)
