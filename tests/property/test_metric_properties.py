"""Laws of the scores: names of variables and order of environments do not matter, nor do monotone maps of a ranking."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import bool_arrays, cases, dags, permutations, probabilities

from bench import graphs, metrics
from bench.columns import METRICS, WRONG_PAIRS
from bench.types import Environment, Estimate, HeldOut, Observed, Problem, Result, Truth


def rows_permuted(estimate: Estimate, order: np.ndarray) -> Estimate:
    rows = {name: getattr(estimate, name) for name in ("target_probability", "targets")}
    return dataclasses.replace(estimate, **{name: None if value is None else value[order] for name, value in rows.items()})


def renamed(problem: Problem, result: Result, variables, environments, held_out) -> tuple[Problem, Result]:
    """The same case with its variables, environments and held-out environments in another order."""
    truth = problem.truth.permuted(variables)
    if truth.targets is not None:
        truth = dataclasses.replace(truth, targets=truth.targets[environments])
    new_problem = Problem(
        Observed(tuple(problem.observed.environments[e] for e in environments)),
        truth,
        tuple(
            HeldOut(h.support, h.sizes, h.query, h.targets[variables]) for h in (problem.held_out[index] for index in held_out)
        ),
    )
    density = result.held_out_log_density
    new_result = Result(
        rows_permuted(result.estimate.permuted(variables), environments),
        {size: rows_permuted(adapted.permuted(variables), held_out) for size, adapted in result.adapted.items()},
        None if density is None else tuple(density[index][:, :, variables] for index in held_out),
        result.fit_seconds,
    )
    return new_problem, new_result


@settings(max_examples=60)  # drawing a case costs more than scoring it
@given(cases(partial=True), st.data())
def test_renaming_variables_and_reordering_environments_changes_no_metric(case, data):
    problem, result = case
    orders = [
        data.draw(permutations(n))
        for n in (problem.observed.n_variables, problem.observed.n_environments, len(problem.held_out))
    ]
    values, reasons = metrics.score_with_reasons(problem, result)
    new_values, new_reasons = metrics.score_with_reasons(*renamed(problem, result, *orders))
    assert new_reasons == reasons
    # Sums in another order: 1e-9 is far above rounding and far below any change of a count.
    assert new_values == pytest.approx(values, rel=1e-9, abs=1e-12, nan_ok=True)


@settings(max_examples=60)
@given(cases(partial=True))
def test_every_metric_is_a_number_or_nan_with_a_reason_and_within_its_bounds(case):
    problem, result = case
    values, reasons = metrics.score_with_reasons(problem, result)
    assert set(METRICS) <= set(values)
    assert {column for column, value in values.items() if math.isnan(value)} == set(reasons)
    d = problem.observed.n_variables
    for column, value in values.items():
        if math.isnan(value):
            continue
        if "shd" in column or column in WRONG_PAIRS or column == "errors_at_targets":
            assert 0 <= value <= d * (d - 1) / 2
        elif column in ("sid", "ancestor_aid"):
            assert 0 <= value <= d * (d - 1)
        elif "skill" in column:
            assert value <= 1
        elif any(part in column for part in ("auroc", "precision", "recall", "f1", "accuracy", "match", "prevalence")):
            assert -1e-12 <= value <= 1 + 1e-12


@settings(max_examples=60)
@given(cases(partial=True))
def test_wrong_pairs_of_all_kinds_add_up_to_the_distance_and_those_at_targets_are_among_them(case):
    values = metrics.score(*case)
    assert sum(values[kind] for kind in WRONG_PAIRS) == pytest.approx(values["shd"], nan_ok=True)
    assert math.isnan(values["errors_at_targets"]) or values["errors_at_targets"] <= values["shd"]


@st.composite
def rankings(draw):
    n = draw(st.integers(2, 12))
    return draw(bool_arrays(n)), draw(probabilities(n))


@given(rankings(), st.data())
def test_auroc_and_average_precision_survive_strictly_monotone_maps(ranking, data):
    truth, score = ranking
    assume(truth.any() and not truth.all())
    levels = np.unique(score)
    images = data.draw(st.lists(st.floats(-1e6, 1e6), min_size=len(levels), max_size=len(levels), unique=True))
    mapped = np.sort(images)[np.searchsorted(levels, score)]
    assert metrics.auroc(truth, mapped) == metrics.auroc(truth, score)
    assert metrics.average_precision(truth, mapped) == metrics.average_precision(truth, score)


@given(rankings())
def test_auroc_of_the_reversed_ranking_is_its_complement(ranking):
    truth, score = ranking
    assume(truth.any() and not truth.all())
    assert metrics.auroc(truth, -score) == pytest.approx(1 - metrics.auroc(truth, score))


@given(dags(2, 6), st.data())
def test_the_truth_itself_is_the_best_answer(dag, data):
    d = len(dag)
    targets = data.draw(bool_arrays(2, d))
    observed = Observed(tuple(Environment(np.zeros((1, d)), flag) for flag in (True, None, None)))
    problem = Problem(observed, Truth(dag, np.vstack([np.zeros((1, d), dtype=bool), targets])))
    answer = Estimate(dag.astype(float), problem.truth.targets.astype(float), dag[None], None, dag, "dag")
    values = metrics.score(problem, Result(answer))
    for column, info in METRICS.items():
        if math.isnan(values[column]) or info.group == "calibration":
            continue
        if info.better == "lower":
            assert values[column] == 0
        elif info.better == "higher":
            assert values[column] == 1
    assert math.isnan(values["edge_auroc"]) == (not dag.any())


@given(dags(2, 6), st.data())
def test_any_member_of_the_true_interventional_class_has_no_shd_interventional(dag, data):
    d = len(dag)
    targets = np.vstack([np.zeros((1, d), dtype=bool), data.draw(bool_arrays(2, d))])
    essential = graphs.interventional_essential_graph(dag, [np.flatnonzero(row).tolist() for row in targets])
    member = graphs.consistent_extension(essential)
    observed = Observed(tuple(Environment(np.zeros((1, d))) for _ in targets))
    values = metrics.score(
        Problem(observed, Truth(dag, targets)),
        Result(Estimate(member.astype(float), point_graph=member, graph_kind="dag")),
    )
    assert values["shd_interventional"] == 0
    assert values["shd_cpdag"] == 0


@settings(max_examples=60)
@given(cases())
def test_reliability_bins_hold_every_scored_probability_once(case):
    problem, result = case
    rows = metrics.reliability_bins(problem, result)
    scored = problem.truth.scored
    p = result.estimate.edge_probability[scored]
    edge = [row for row in rows if row["quantity"] == "edge"]
    assert sum(row["count"] for row in edge) == p.size
    assert sum(row["sum_probability"] for row in edge) == pytest.approx(p.sum())
    assert sum(row["sum_truth"] for row in edge) == problem.truth.adjacency[scored].sum()
    central = (p > 0.05) & (p < 0.95)
    assert sum(row["count"] for row in edge if row["central"]) == central.sum()
    for row in edge:
        assert row["bin"] / 10 <= row["sum_probability"] / row["count"] + 1e-12 <= (row["bin"] + 1) / 10 + 2e-12
