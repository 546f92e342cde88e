"""Every metric on one planted case worked out by hand, against gadjid and scikit-learn, and each reason for a NaN."""

from __future__ import annotations

import dataclasses
import math
from math import exp, log

import gadjid
import numpy as np
import pytest
import sklearn.metrics

from bench import graphs, metrics
from bench.columns import EXTRA_METRICS, FEW_SHOT, METRICS, few_shot_column
from bench.errors import InvalidEstimate
from bench.types import Environment, Estimate, HeldOut, Observed, Problem, Result, Truth

NAN = float("nan")
ALMOST_ONE = log(1 - 1e-6)  # log score of a certain and right answer under the clip


def matrix(d: int, entries: dict[tuple[int, int], float]) -> np.ndarray:
    result = np.zeros((d, d))
    for (i, j), value in entries.items():
        result[i, j] = value
    return result


def edges(d: int, *pairs: tuple[int, int]) -> np.ndarray:
    return matrix(d, dict.fromkeys(pairs, 1.0)).astype(bool)


# --- the planted case: 0 -> 1 -> 2 <- 3 against 0 <- 1 -> 2 -> 3 --------------------------------------------------------

TRUE_DAG = edges(4, (0, 1), (1, 2), (3, 2))
GUESS = edges(4, (1, 0), (1, 2), (2, 3))
CYCLIC = edges(4, (0, 1), (1, 2), (2, 0))
# Observational; {1}; {2, 3}; nothing, but not known to be observational.
TRUE_TARGETS = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=bool)
FLAGS = (True, False, False, None)
EDGE_PROBABILITY = matrix(4, {(1, 0): 0.6, (0, 1): 0.3, (1, 2): 0.9, (2, 3): 0.7, (3, 2): 0.2})
TARGET_PROBABILITY = np.array([[0.6, 0.1, 0.1, 0.8], [0.1, 0.9, 0.2, 0.0], [0.55, 0.1, 0.7, 0.4], [0.0, 0.0, 0.3, 0.0]])
HELD_OUT = (
    HeldOut(np.zeros((10, 4)), (3, 10), np.zeros((2, 4)), np.array([1, 0, 0, 0])),
    HeldOut(np.zeros((3, 4)), (3,), np.zeros((1, 4)), np.array([0, 1, 1, 0])),
)
# Three graph samples; the last is cyclic and must not enter the density. NaN where a true target must be left out.
LOG_DENSITY = (
    np.array(
        [
            [[NAN, -1, -1, -1], [NAN, 0, 0, -1]],
            [[NAN, -2, -2, -2], [NAN, -1, 0, 0]],
            [[NAN, 9, 9, 9], [NAN, 9, 9, 9]],
        ]
    ),
    np.array([[[-1, NAN, NAN, -2]], [[-3, NAN, NAN, -1]], [[9, NAN, NAN, 9]]]),
)
NO_EDGES = np.zeros((4, 4))
ADAPTED = {
    3: Estimate(NO_EDGES, np.array([[0.9, 0.6, 0.0, 0.0], [0.2, 0.8, 0.4, 0.1]])),
    10: Estimate(NO_EDGES, np.array([[0.7, 0.1, 0.1, 0.1], [0.9, 0.0, 0.0, 0.9]])),  # row 1 has no ten samples: any value
}


def observed(flags: tuple[bool | None, ...] = FLAGS, d: int = 4) -> Observed:
    return Observed(tuple(Environment(np.zeros((5, d)), flag) for flag in flags))


def planted_problem(**changes) -> Problem:
    problem = Problem(observed(), Truth(TRUE_DAG, TRUE_TARGETS), HELD_OUT)
    return dataclasses.replace(problem, **changes)


def planted_estimate(**changes) -> Estimate:
    estimate = Estimate(
        EDGE_PROBABILITY,
        TARGET_PROBABILITY,
        np.array([TRUE_DAG, GUESS, CYCLIC]),
        np.log([5.0, 3.0, 2.0]),
    )
    return dataclasses.replace(estimate, **changes)


def planted_result(**changes) -> Result:
    result = Result(planted_estimate(), ADAPTED, LOG_DENSITY, fit_seconds=1.5, adapt_seconds=0.25, peak_rss_mb=100.0)
    return dataclasses.replace(result, **changes)


EXPECTED = {
    # Pairs 01 and 23 are reversed.
    "shd": 2,
    # True CPDAG: 0 - 1, 1 -> 2 <- 3. The guess has no v-structure: 0 - 1 - 2 - 3; pairs 12 and 23 differ.
    "shd_cpdag": 2,
    # {1} splits 01 and 12, so the truth is all directed; 2 - 3 of the guess then follows from 1 -> 2: 01 and 23 differ.
    "shd_interventional": 2,
    # Distances 0, 2, 2 (2 -> 0 too much, 3 -> 2 missing) with weights .5, .3, .2.
    "expected_shd": 1.0,
    "fraction_cyclic": 0.2,
    # Parents of the guess as adjustment sets are wrong for (0,1) (0,2) (1,0) (2,3) (3,0) (3,1) (3,2).
    "sid": 7,
    # Ancestors as adjustment sets: no effect of 3 on 0 and 1 is claimed now, rightly: (0,1) (0,2) (1,0) (2,3) (3,2).
    "ancestor_aid": 5,
    "n_edges": 3,
    # Both reversed pairs have a target: 0 and 2 are hit in environment 2, 1 in environment 1.
    "missing_edges": 0,
    "extra_edges": 0,
    "reversed_edges": 2,
    "undirected_edges": 0,
    "errors_at_targets": 2,
    # .9 beats all nine negatives; .3 and .2 lose to .6 and .7.
    "edge_auroc": 23 / 27,
    "edge_average_precision": (1 + 2 / 4 + 3 / 5) / 3,
    "edge_prevalence": 3 / 12,
    "edge_f1": 1 / 3,
    "edge_precision": 1 / 3,
    "edge_recall": 1 / 3,
    "orientation_accuracy": 1 / 3,
    "edge_brier": 1.99 / 12,
    "edge_brier_skill_base_rate": 1 - (1.99 / 12) / (0.25 * 0.75),
    "edge_brier_skill_thresholded": 1 - 1.99 / 4,
    "edge_log_score": -(log(0.3) + log(0.9) + log(0.2) + log(0.4) + log(0.3) + 7 * ALMOST_ONE) / 12,
    "edge_log_skill_base_rate": 1
    - (log(0.3) + log(0.9) + log(0.2) + log(0.4) + log(0.3) + 7 * ALMOST_ONE) / (3 * log(0.25) + 9 * log(0.75)),
    "edge_log_skill_thresholded": 1
    - (log(0.3) + log(0.9) + log(0.2) + log(0.4) + log(0.3) + 7 * ALMOST_ONE) / (4 * log(1e-6) + 8 * ALMOST_ONE),
    # Called: {1} in environment 1, {0, 2} in 2, nothing in 3; the first environment is left out.
    "target_f1": 2 / 3,
    "target_precision": 2 / 3,
    "target_recall": 2 / 3,
    "target_f1_macro": (1 + 1 / 2) / 2,
    # .9 and .7 beat all nine, .4 loses to .55.
    "target_auroc": 26 / 27,
    "target_average_precision": (1 + 1 + 3 / 4) / 3,
    "target_exact_match": 2 / 3,
    "target_prevalence": 3 / 12,
    "observational_false_alarms": 2,
    "target_brier": 0.9125 / 12,
    "target_brier_skill_base_rate": 1 - (0.9125 / 12) / (0.25 * 0.75),
    "target_brier_skill_thresholded": 1 - 0.9125 / 2,
    "target_log_score": -(2 * log(0.7) + log(0.4) + 3 * log(0.9) + log(0.8) + log(0.45) + 4 * ALMOST_ONE) / 12,
    "target_log_skill_base_rate": 1
    - (2 * log(0.7) + log(0.4) + 3 * log(0.9) + log(0.8) + log(0.45) + 4 * ALMOST_ONE) / (3 * log(0.25) + 9 * log(0.75)),
    "target_log_skill_thresholded": 1
    - (2 * log(0.7) + log(0.4) + 3 * log(0.9) + log(0.8) + log(0.45) + 4 * ALMOST_ONE) / (2 * log(1e-6) + 10 * ALMOST_ONE),
    # Weights 5/8 and 3/8 once the cyclic sample is out; 2 samples x 3 variables + 1 sample x 2 variables are counted.
    "interventional_nll": -(
        log(5 / 8 * exp(-3) + 3 / 8 * exp(-6)) + log(5 / 8 * exp(-1) + 3 / 8 * exp(-1)) + log(5 / 8 * exp(-3) + 3 / 8 * exp(-4))
    )
    / 8,
    "fit_seconds": 1.5,
    "adapt_seconds": 0.25,
    "peak_rss_mb": 100.0,
    # Three samples: {0, 1} called for {0}, {1} for {1, 2}.
    "few_shot_target_f1_n3": 2 / 3,
    "few_shot_target_auroc_n3": 14 / 15,
    "few_shot_target_average_precision_n3": (1 + 1 + 3 / 4) / 3,
    "few_shot_target_exact_match_n3": 0.0,
    "few_shot_target_prevalence_n3": 3 / 8,
    # Ten samples: the first held-out environment alone.
    "few_shot_target_f1_n10": 1.0,
    "few_shot_target_auroc_n10": 1.0,
    "few_shot_target_average_precision_n10": 1.0,
    "few_shot_target_exact_match_n10": 1.0,
    "few_shot_target_prevalence_n10": 1 / 4,
}


def test_the_planted_case_covers_every_column():
    few_shot = {few_shot_column(metric, size) for metric in FEW_SHOT for size in ADAPTED}
    assert set(EXPECTED) == set(METRICS) | few_shot
    assert set(metrics.score(planted_problem(), planted_result())) == set(EXPECTED)


@pytest.mark.parametrize("column", EXPECTED)
def test_planted_value(column):
    assert metrics.score(planted_problem(), planted_result())[column] == pytest.approx(EXPECTED[column], rel=1e-12)


def test_the_trapezoid_of_bacadi_is_that_of_scikit_learn_and_an_extra_column_alone():
    """Over all entries, the diagonal among them; of targets over environments with interventions."""
    case, result = planted_problem(), planted_result()
    values, reasons = metrics.score_with_reasons(case, result, extra=tuple(EXTRA_METRICS))
    assert set(values) - set(EXPECTED) == set(EXTRA_METRICS)
    assert not reasons
    hit = ~np.array([bool(e.is_observational) for e in case.observed.environments])
    pairs = {
        "trapezoid_auprc_bacadi": (case.truth.adjacency, result.estimate.edge_probability),
        "trapezoid_target_auprc_bacadi": (case.truth.targets[hit], result.estimate.target_probability[hit]),
    }
    for column, (truth, score) in pairs.items():
        precision, recall, _ = sklearn.metrics.precision_recall_curve(truth.ravel(), score.ravel())
        assert values[column] == pytest.approx(sklearn.metrics.auc(recall, precision), rel=1e-12)


def test_the_trapezoid_gives_an_empty_graph_of_twenty_variables_and_forty_edges_more_than_half():
    truth = np.zeros((20, 20), dtype=bool)
    truth[np.triu_indices(20, 1)] = np.arange(190) < 40
    assert metrics.trapezoid_auprc(truth, np.zeros((20, 20))) == pytest.approx((1 + 40 / 400) / 2)


def test_defined_metrics_have_no_reason():
    assert metrics.score_with_reasons(planted_problem(), planted_result())[1] == {}


# --- what the definitions turn on ---------------------------------------------------------------------------------------


def scores_of(estimate: Estimate, problem: Problem | None = None, **options) -> dict[str, float]:
    return metrics.score(problem or planted_problem(), Result(estimate), **options)


def test_the_methods_own_graph_and_targets_go_before_thresholds():
    own = np.zeros((4, 4), dtype=bool)
    own[2, 3] = True  # environment 2: {3}; environment 1: nothing
    scores = scores_of(planted_estimate(point_graph=TRUE_DAG, graph_kind="dag", targets=own))
    assert scores["shd"] == 0
    assert scores["target_recall"] == pytest.approx(1 / 3)
    assert scores["observational_false_alarms"] == 0
    assert scores["edge_auroc"] == EXPECTED["edge_auroc"]  # still the probabilities


def test_an_undirected_edge_is_a_mark_of_its_own_and_half_a_hit_both_ways():
    essential = graphs.cpdag(TRUE_DAG)  # 0 - 1, 1 -> 2 <- 3
    estimate = Estimate(graphs.edge_scores_of_class(essential), point_graph=essential, graph_kind="cpdag")
    scores = scores_of(estimate, edge_output="binary")
    assert scores["shd"] == 1
    assert scores["shd_cpdag"] == 0
    assert scores["shd_interventional"] == 1  # the true class directs 0 -> 1; the method claims no such thing
    assert scores["n_edges"] == 3
    assert scores["edge_precision"] == scores["edge_recall"] == scores["edge_f1"] == pytest.approx(2.5 / 3)
    assert scores["orientation_accuracy"] == pytest.approx(2.5 / 3)
    assert scores["edge_average_precision"] == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_an_interventional_class_is_reduced_to_its_cpdag_for_shd_cpdag_only():
    essential = graphs.interventional_essential_graph(TRUE_DAG, [[], [1]])
    np.testing.assert_array_equal(essential, TRUE_DAG)  # all directed by this target
    estimate = Estimate(TRUE_DAG.astype(float), point_graph=essential, graph_kind="i-essential")
    scores = scores_of(estimate)
    assert (scores["shd_cpdag"], scores["shd_interventional"]) == (0, 0)
    as_cpdag = dataclasses.replace(estimate, graph_kind="cpdag")
    assert scores_of(as_cpdag)["shd_cpdag"] == 1  # a claim that no CPDAG can make of 0 - 1


def test_an_arbitrary_member_of_the_true_class_costs_nothing_under_shd_interventional():
    chain = edges(3, (0, 1), (1, 2))
    problem = Problem(observed((True, False), 3), Truth(chain, np.array([[0, 0, 0], [1, 1, 1]])))
    backwards = Estimate(chain.T.astype(float), point_graph=chain.T, graph_kind="dag")
    scores = scores_of(backwards, problem)
    assert (scores["shd"], scores["shd_cpdag"], scores["shd_interventional"]) == (2, 0, 0)


def test_a_class_is_taken_as_it_is_under_shd_interventional():
    edge = edges(2, (0, 1))
    problem = Problem(observed((True,), 2), Truth(edge, np.zeros((1, 2))))
    claimed = Estimate(edge.astype(float), point_graph=edge, graph_kind="cpdag")  # the true class is undirected
    assert scores_of(claimed, problem)["shd_interventional"] == 1
    assert scores_of(dataclasses.replace(claimed, graph_kind="dag"), problem)["shd_interventional"] == 0


def test_without_observational_data_only_differences_of_targets_identify():
    chain = edges(2, (0, 1))
    backwards = Estimate(chain.T.astype(float), point_graph=chain.T, graph_kind="dag")
    for flags, targets, expected in (
        ((True, False), [[0, 0], [1, 0]], 1),
        ((False, False), [[1, 0], [1, 0]], 0),
        ((False, False), [[1, 0], [0, 1]], 0),
        ((False, False), [[1, 0], [1, 1]], 1),
    ):
        problem = Problem(observed(flags, 2), Truth(chain, np.array(targets)))
        assert scores_of(backwards, problem)["shd_interventional"] == expected


def test_only_scored_pairs_count():
    scored = np.ones((4, 4), dtype=bool)
    scored[2, 3] = scored[3, 2] = False
    problem = planted_problem(truth=Truth(TRUE_DAG, TRUE_TARGETS, scored))
    values, reasons = metrics.score_with_reasons(problem, planted_result())
    assert values["shd"] == 1
    assert values["n_edges"] == 2
    assert values["edge_prevalence"] == 2 / 10
    assert values["expected_shd"] == pytest.approx(0.3 * 1 + 0.2 * 1)
    assert values["edge_auroc"] == (8 + 7) / 16
    assert values["orientation_accuracy"] == 1 / 2
    assert reasons["sid"] == reasons["ancestor_aid"] == "some pairs are not scored"


def test_ties_give_the_prevalence_and_never_the_trapezoid():
    empty = Estimate(NO_EDGES, np.zeros((4, 4)))
    scores = scores_of(empty)
    assert scores["edge_average_precision"] == 0.25
    assert scores["edge_auroc"] == 0.5
    assert scores["edge_f1"] == scores["edge_recall"] == scores["target_f1"] == 0.0
    assert scores["shd"] == 3


def test_a_target_is_called_above_a_half_and_not_at_it():
    probability = np.full((4, 4), 0.5)
    probability[1, 1] = 0.5 + 1e-9
    scores = scores_of(Estimate(NO_EDGES, probability))
    assert scores["target_precision"] == 1.0
    assert scores["target_recall"] == pytest.approx(1 / 3)
    assert scores["observational_false_alarms"] == 0


def test_a_set_without_probabilities_is_scored_as_a_binary_output():
    estimate = Estimate(NO_EDGES, targets=TRUE_TARGETS)
    values, reasons = metrics.score_with_reasons(planted_problem(), Result(estimate))
    assert values["target_f1"] == values["target_auroc"] == values["target_average_precision"] == 1.0
    assert reasons["target_brier"] == "binary output"


def test_a_density_without_graph_samples_has_weight_one():
    log_density = tuple(values[:1] for values in LOG_DENSITY)
    estimate = planted_estimate(graph_samples=None, log_weights=None)
    value = metrics.score(planted_problem(), planted_result(estimate=estimate, held_out_log_density=log_density))
    assert value["interventional_nll"] == pytest.approx((3 + 1 + 3) / 8)


def test_a_sample_of_density_zero_costs_infinity():
    log_density = (LOG_DENSITY[0] - np.inf, LOG_DENSITY[1])
    value = metrics.score(planted_problem(), planted_result(held_out_log_density=log_density))["interventional_nll"]
    assert value == math.inf


def test_a_forecast_of_the_base_rate_has_no_skill():
    rate = np.full((4, 4), 0.25) * ~np.eye(4, dtype=bool)
    scores = scores_of(Estimate(rate, np.full((4, 4), 0.25)))
    for column in METRICS:
        if column.endswith("skill_base_rate"):
            assert scores[column] == pytest.approx(0, abs=1e-12)


# --- reasons ------------------------------------------------------------------------------------------------------------

NO_CPDAG = edges(4, (0, 1), (1, 0), (2, 3))  # has extensions, but nothing directs 2 -> 3
PDAG_WITHOUT_EXTENSION = edges(4, (0, 1), (1, 2), (2, 1), (3, 2))
THREE_CYCLE_TRUTH = Truth(CYCLIC, TRUE_TARGETS)
BARE = Estimate(EDGE_PROBABILITY)

REASONS = [
    ("shd_cpdag", "truth is cyclic", planted_problem(truth=THREE_CYCLE_TRUTH), planted_result()),
    ("shd_interventional", "truth is cyclic", planted_problem(truth=THREE_CYCLE_TRUTH), planted_result()),
    ("sid", "truth is cyclic", planted_problem(truth=THREE_CYCLE_TRUTH), planted_result()),
    ("expected_shd", "no posterior samples", planted_problem(), Result(BARE)),
    ("fraction_cyclic", "no posterior samples", planted_problem(), Result(BARE)),
    *[
        (
            column,
            reason,
            planted_problem(),
            Result(planted_estimate(point_graph=PDAG_WITHOUT_EXTENSION, graph_kind="i-essential")),
        )
        for column, reason in [
            ("shd_cpdag", "point graph has no consistent extension"),
            ("sid", "point graph is neither a DAG nor a CPDAG"),
            ("ancestor_aid", "point graph is neither a DAG nor a CPDAG"),
        ]
    ],
    (
        "sid",
        "point graph is neither a DAG nor a CPDAG",
        planted_problem(),
        Result(planted_estimate(point_graph=NO_CPDAG, graph_kind="cpdag")),
    ),
    ("edge_auroc", "no positives", planted_problem(truth=Truth(NO_EDGES, TRUE_TARGETS)), planted_result()),
    ("edge_f1", "no positives", planted_problem(truth=Truth(NO_EDGES, TRUE_TARGETS)), planted_result()),
    (
        "orientation_accuracy",
        "no true edge in the estimated skeleton",
        planted_problem(truth=Truth(NO_EDGES, TRUE_TARGETS)),
        planted_result(),
    ),
    ("edge_precision", "nothing called", planted_problem(), Result(Estimate(NO_EDGES))),
    (
        "edge_prevalence",
        "no scored pairs",
        planted_problem(truth=Truth(TRUE_DAG, TRUE_TARGETS, np.eye(4, dtype=bool))),
        planted_result(),
    ),
    ("edge_log_skill_thresholded", "own thresholded output is exact", planted_problem(), Result(Estimate(TRUE_DAG * 0.9))),
    ("target_f1", "no targets estimated", planted_problem(), Result(BARE)),
    ("observational_false_alarms", "no targets estimated", planted_problem(), Result(BARE)),
    ("target_f1_macro", "no positives", planted_problem(truth=Truth(TRUE_DAG, np.zeros((4, 4)))), planted_result()),
    ("target_auroc", "no negatives", planted_problem(truth=Truth(TRUE_DAG, np.ones((4, 4)))), planted_result()),
    ("target_prevalence", "no interventional environments", planted_problem(observed=observed((True,) * 4)), planted_result()),
    (
        "observational_false_alarms",
        "no observational environments",
        planted_problem(observed=observed((None,) * 4)),
        planted_result(),
    ),
    (
        "target_brier",
        "binary output",
        planted_problem(),
        Result(Estimate(NO_EDGES, (TARGET_PROBABILITY > 0.5).astype(float))),
    ),
    ("interventional_nll", "no held-out density", planted_problem(), planted_result(held_out_log_density=None)),
    (
        "interventional_nll",
        "no held-out environments",
        planted_problem(held_out=()),
        Result(planted_estimate()),
    ),
    (
        "interventional_nll",
        "no acyclic graph samples",
        planted_problem(),
        planted_result(estimate=planted_estimate(graph_samples=np.array([CYCLIC] * 3))),
    ),
    (
        "interventional_nll",
        "held-out density is NaN",
        planted_problem(),
        planted_result(held_out_log_density=(LOG_DENSITY[0] * NAN, LOG_DENSITY[1])),
    ),
    (
        "interventional_nll",
        "no held-out samples to score",
        planted_problem(held_out=tuple(dataclasses.replace(h, query=np.zeros((0, 4))) for h in HELD_OUT)),
        planted_result(held_out_log_density=tuple(values[:, :0] for values in LOG_DENSITY)),
    ),
    (
        "few_shot_target_f1_n30",
        "no held-out environments of this size",
        planted_problem(),
        planted_result(adapted={30: ADAPTED[3]}),
    ),
    (
        "few_shot_target_auroc_n3",
        "no targets estimated",
        planted_problem(),
        planted_result(adapted={3: Estimate(NO_EDGES)}),
    ),
    ("adapt_seconds", "nothing to adapt to", planted_problem(), Result(BARE)),
    ("fit_seconds", "not measured", planted_problem(), Result(BARE)),
]


@pytest.mark.parametrize(("column", "reason", "problem", "result"), REASONS, ids=[f"{c}: {r}" for c, r, *_ in REASONS])
def test_an_undefined_metric_is_nan_with_its_reason(column, reason, problem, result):
    values, reasons = metrics.score_with_reasons(problem, result)
    assert math.isnan(values[column])
    assert reasons[column] == reason
    assert {c for c, value in values.items() if math.isnan(value)} == set(reasons)


def test_without_truth_only_the_costs_are_known():
    values, reasons = metrics.score_with_reasons(planted_problem(truth=None), planted_result())
    assert {c for c, value in values.items() if not math.isnan(value)} == COSTS
    assert reasons == dict.fromkeys(set(EXPECTED) - COSTS, "no truth")


COSTS = {"fit_seconds", "adapt_seconds", "peak_rss_mb"}
OF_THE_GRAPH = {c for c in METRICS if METRICS[c].group in ("graph", "edge") or c.startswith("edge_")}
OF_THE_TARGETS = set(EXPECTED) - OF_THE_GRAPH - COSTS


def test_every_metric_is_of_the_graph_or_of_the_targets_or_a_cost():
    assert {"shd", "n_edges", "fraction_cyclic", "sid", "edge_f1", "orientation_accuracy", "edge_brier"} < OF_THE_GRAPH
    assert {"target_f1", "target_brier", "interventional_nll", "few_shot_target_f1_n3"} < OF_THE_TARGETS


@pytest.mark.parametrize(
    ("truth", "reason"),
    [
        (Truth(None, TRUE_TARGETS), "the true graph is unknown"),
        (Truth(TRUE_DAG, TRUE_TARGETS, np.zeros((4, 4))), "no scored pairs"),
        (Truth(CYCLIC, TRUE_TARGETS, np.zeros((4, 4))), "no scored pairs"),
    ],
)
def test_without_a_known_pair_no_metric_of_the_graph_has_a_value(truth, reason):
    values, reasons = metrics.score_with_reasons(planted_problem(truth=truth), planted_result())
    assert reasons == dict.fromkeys(OF_THE_GRAPH, reason)
    assert {c: v for c, v in values.items() if c not in OF_THE_GRAPH} == pytest.approx(
        {c: v for c, v in EXPECTED.items() if c not in OF_THE_GRAPH}, rel=1e-12
    )


def test_without_known_targets_no_metric_of_them_has_a_value_but_the_calls_in_observational_data():
    values, reasons = metrics.score_with_reasons(planted_problem(truth=Truth(TRUE_DAG, None)), planted_result())
    unknown = OF_THE_TARGETS - {"observational_false_alarms"} | {"shd_interventional", "errors_at_targets"}
    assert reasons == dict.fromkeys(unknown, "the true targets are unknown")
    assert {c: v for c, v in values.items() if c not in unknown} == pytest.approx(
        {c: v for c, v in EXPECTED.items() if c not in unknown}, rel=1e-12
    )


@pytest.mark.parametrize("output", ["score", "binary"])
@pytest.mark.parametrize("quantity", ["edge", "target"])
def test_calibration_is_for_posteriors_only(quantity, output):
    values, reasons = metrics.score_with_reasons(planted_problem(), planted_result(), **{f"{quantity}_output": output})
    undefined = {column for column, info in METRICS.items() if column.startswith(quantity) and info.group == "calibration"}
    assert reasons == dict.fromkeys(undefined, f"{output} output")
    for column in ("edge_auroc", "target_auroc"):
        assert values[column] == EXPECTED[column]


def test_few_shot_prevalence_needs_no_estimate():
    values = metrics.score(planted_problem(), planted_result(adapted={3: Estimate(NO_EDGES)}))
    assert values["few_shot_target_prevalence_n3"] == 3 / 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimate": Estimate(np.zeros((3, 3)))}, "edge_probability"),
        ({"estimate": planted_estimate(target_probability=np.zeros((2, 4)))}, "target_probability"),
        ({"adapted": {3: Estimate(NO_EDGES, np.zeros((5, 4)))}}, "target_probability"),
        ({"held_out_log_density": LOG_DENSITY[:1]}, "held_out_log_density"),
        ({"held_out_log_density": tuple(values[:2] for values in LOG_DENSITY)}, "held_out_log_density"),
    ],
)
def test_a_result_that_does_not_fit_its_problem_is_refused(changes, message):
    with pytest.raises(InvalidEstimate, match=message):
        metrics.score(planted_problem(), planted_result(**changes))


# --- other implementations ----------------------------------------------------------------------------------------------


def random_dag(rng: np.random.Generator, d: int, p: float) -> np.ndarray:
    order = rng.permutation(d)
    return np.triu(rng.random((d, d)) < p, 1)[np.ix_(order, order)]


def test_edge_and_target_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(2)
    off = ~np.eye(7, dtype=bool)
    for steps in (3, 10, 1000):  # many ties, some, few
        truth = Truth(random_dag(rng, 7, 0.4), rng.random((3, 7)) < 0.3)
        problem = Problem(observed((True, False, None), 7), truth)
        p = np.round(rng.random((7, 7)) * steps) / steps * off
        q = np.round(rng.random((3, 7)) * steps) / steps
        ours = scores_of(Estimate(p, q), problem)
        graph = graphs.point_graph(p)
        pairs = {
            "edge": (truth.adjacency[off], p[off], graph[off]),
            "target": (truth.targets[1:].ravel(), q[1:].ravel(), q[1:].ravel() > 0.5),
        }
        for what, (true, probability, called) in pairs.items():
            assert ours[f"{what}_auroc"] == pytest.approx(sklearn.metrics.roc_auc_score(true, probability))
            assert ours[f"{what}_average_precision"] == pytest.approx(
                sklearn.metrics.average_precision_score(true, probability)
            )
            assert ours[f"{what}_brier"] == pytest.approx(sklearn.metrics.brier_score_loss(true, probability))
            clipped = np.clip(probability, 1e-6, 1 - 1e-6)
            assert ours[f"{what}_log_score"] == pytest.approx(sklearn.metrics.log_loss(true, clipped))
            assert ours[f"{what}_f1"] == pytest.approx(sklearn.metrics.f1_score(true, called))
            assert ours[f"{what}_precision"] == pytest.approx(sklearn.metrics.precision_score(true, called))
            assert ours[f"{what}_recall"] == pytest.approx(sklearn.metrics.recall_score(true, called))


def gadjid_code(graph: np.ndarray) -> np.ndarray:
    return (graph * np.where(graph & graph.T, 2, 1)).astype(np.int8)


@pytest.mark.parametrize("kind", ["dag", "cpdag"])
def test_graph_distances_agree_with_gadjid(kind):
    rng = np.random.default_rng(3)
    for _ in range(20):
        true, guess = (random_dag(rng, 8, p) for p in rng.uniform(0.1, 0.6, 2))
        problem = Problem(observed((True,), 8), Truth(true, np.zeros((1, 8))))
        answer = guess if kind == "dag" else graphs.cpdag(guess)
        ours = scores_of(Estimate(guess.astype(float), point_graph=answer, graph_kind=kind), problem)
        a, b = gadjid_code(true), gadjid_code(answer)
        direction = {"edge_direction": "from row to column"}
        assert ours["ancestor_aid"] == gadjid.ancestor_aid(a, b, **direction)[1]
        assert ours["sid"] == gadjid.parent_aid(a, b, **direction)[1]
        if kind == "dag":
            assert ours["sid"] == gadjid.sid(a, b, **direction)[1]
        assert ours["shd"] == gadjid.shd(a, b)[1]
        assert ours["shd_cpdag"] == gadjid.shd(gadjid_code(graphs.cpdag(true)), gadjid_code(graphs.cpdag(guess)))[1]


# --- rows for reports ---------------------------------------------------------------------------------------------------


def test_reliability_bins_of_the_planted_case():
    rows = metrics.reliability_bins(planted_problem(), planted_result())
    edge = {
        (r["bin"], r["central"]): (r["count"], r["sum_probability"], r["sum_truth"]) for r in rows if r["quantity"] == "edge"
    }
    assert edge == {
        (0, False): (7, 0.0, 0.0),
        (2, True): (1, 0.2, 1.0),
        (3, True): (1, 0.3, 1.0),
        (6, True): (1, 0.6, 0.0),
        (7, True): (1, 0.7, 0.0),
        (9, True): (1, 0.9, 1.0),
    }
    assert sum(r["count"] for r in rows if r["quantity"] == "target") == 12


def test_reliability_bins_split_at_the_ends_of_the_central_interval():
    p = matrix(3, {(0, 1): 0.05, (0, 2): 0.0501, (1, 2): 0.95, (1, 0): 0.9499, (2, 0): 1.0})
    problem = Problem(observed((True,), 3), Truth(edges(3, (0, 1)), np.zeros((1, 3))))
    rows = metrics.reliability_bins(problem, Result(Estimate(p)))
    counts = {(r["bin"], r["central"]): r["count"] for r in rows}
    assert counts == {(0, False): 2, (0, True): 1, (9, True): 1, (9, False): 2}


def test_reliability_bins_are_empty_where_calibration_is_not_scored():
    assert metrics.reliability_bins(planted_problem(truth=None), planted_result()) == []
    rows = metrics.reliability_bins(planted_problem(), planted_result(), edge_output="score")
    assert {r["quantity"] for r in rows} == {"target"}
    rows = metrics.reliability_bins(planted_problem(), planted_result(), target_output="score")
    assert {r["quantity"] for r in rows} == {"edge"}


@pytest.mark.parametrize(("truth", "known"), [(Truth(TRUE_DAG, None), "edge"), (Truth(None, TRUE_TARGETS), "target")])
def test_half_a_truth_gives_reliability_bins_and_true_marks_of_that_half(truth, known):
    whole, half = planted_problem(), planted_problem(truth=truth)
    bins = metrics.reliability_bins(whole, planted_result())
    assert metrics.reliability_bins(half, planted_result()) == [r for r in bins if r["quantity"] == known]
    for quantity, rows_of in (("edge", metrics.edge_rows), ("target", metrics.target_rows)):
        expected = rows_of(whole, planted_result())
        unknown = [{**row, "truth": None} for row in expected]
        assert rows_of(half, planted_result()) == (expected if quantity == known else unknown)


def test_edge_rows_list_every_ordered_pair_with_its_truth():
    scored = np.ones((4, 4), dtype=bool)
    scored[0, 3] = scored[3, 0] = False
    problem = planted_problem(truth=Truth(TRUE_DAG, TRUE_TARGETS, scored), variable_names=("a", "b", "c", "d"))
    rows = {(r["source"], r["target"]): r for r in metrics.edge_rows(problem, planted_result())}
    assert len(rows) == 12
    assert rows["b", "c"] == {"source": "b", "target": "c", "probability": 0.9, "in_point_graph": True, "truth": True}
    assert rows["d", "c"]["truth"] is True
    assert rows["d", "c"]["in_point_graph"] is False
    assert rows["c", "b"]["truth"] is False
    assert rows["a", "d"]["truth"] is None
    unknown = metrics.edge_rows(planted_problem(truth=None), planted_result())
    assert {r["truth"] for r in unknown} == {None}


def test_target_rows_list_every_environment_and_variable():
    rows = metrics.target_rows(planted_problem(), planted_result())
    assert len(rows) == 16
    first = {"environment": 2, "environment_name": "2", "variable": "X0", "probability": 0.55, "called": True, "truth": False}
    assert rows[8] == first
    assert {r["truth"] for r in metrics.target_rows(planted_problem(truth=None), planted_result())} == {None}
    assert metrics.target_rows(planted_problem(), Result(BARE)) == []
    only_set = metrics.target_rows(planted_problem(), Result(Estimate(NO_EDGES, targets=TRUE_TARGETS)))
    assert all(math.isnan(r["probability"]) for r in only_set)
    assert sum(r["called"] for r in only_set) == 3
