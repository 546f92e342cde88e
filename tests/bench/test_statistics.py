"""Statistics of the rows frame: numbers by hand, against scipy, and the rules about failures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from frames import row, rows_frame, table
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import InputError, UnknownName
from bench.intervals import bootstrap_intervals
from bench.statistics import (
    MINIMUM_PAIRS,
    check_rows,
    compare,
    differences_to,
    metrics_of,
    rank,
    shares,
)

SHD = "shd_interventional"


def shd_entry(scores: dict, method: str, metric: str = SHD) -> pd.Series:
    return compare(table(scores, metric), [metric], sort_by=metric).entry(method, metric)


# --- means, counts, differences ---------------------------------------------------------------------------------------


def test_mean_and_counts_by_hand():
    scores = {"a": [1.0, 3.0, np.nan, "timeout"], "b": [2.0, 2.0, 2.0, "error"]}
    a = shd_entry(scores, "a")
    assert (a["mean"], a["n"], a["failures"], a["undefined"]) == (2.0, 2, 1, 1)


def test_values_of_failed_cells_do_not_count():
    rows = table({"a": [1.0, "timeout"], "b": [1.0, 1.0]})
    rows.loc[rows["status"] == "timeout", SHD] = 0.0
    entry = compare(rows, [SHD], sort_by=SHD).entry("a", SHD)
    assert (entry["mean"], entry["n"], entry["failures"]) == (1.0, 1, 1)


def test_paired_difference_is_over_the_problems_that_both_answered():
    scores = {"best": [1.0, 2.0, 3.0, 4.0, "timeout"], "other": [2.0, 5.0, 3.0, "error", 100.0]}
    other = shd_entry(scores, "other")
    assert other["difference"] == pytest.approx((1 + 3 + 0) / 3)
    assert other["n_paired"] == 3


def test_paired_interval_is_the_interval_of_the_differences():
    rng = np.random.default_rng(0)
    hardness = rng.normal(0, 50, 30)
    best, other = hardness + rng.normal(size=30), hardness + 1 + rng.normal(size=30)
    entry = shd_entry({"best": list(best), "other": list(other)}, "other")
    keys = [f"er/p{i}" for i in range(30)]
    order = sorted(range(30), key=lambda i: keys[i])
    low, high = bootstrap_intervals((other - best)[order][:, None], keys=[keys[i] for i in order])
    assert entry["difference_low"] == pytest.approx(low[0])
    assert entry["difference_high"] == pytest.approx(high[0])
    # Pairing removes the hardness of the problems, which the interval of the mean keeps.
    assert entry["difference_high"] - entry["difference_low"] < 0.1 * (entry["high"] - entry["low"])


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        ([2.0, 3.1, 4.0, 5.2, 6.0, 7.1], "worse"),
        ([1.0, 2.0, 3.0, 5.0, 4.5, 6.0], "level"),
        ([1.1, 2.0, 3.0, 4.5, 4.9, "timeout"], "too_few"),
        ([0.9, 2.2, 2.9, 4.4, 4.9, 6.4, "timeout"], "level_where_answered"),
    ],
)
def test_verdicts(other, verdict):
    best = [float(i) for i in range(1, len(other) + 1)]
    assert shd_entry({"best": best, "other": other}, "other")["verdict"] == verdict
    assert shd_entry({"best": best, "other": other}, "best")["verdict"] == "first"


def test_five_pairs_never_tell_methods_apart():
    best = [1.0] * (MINIMUM_PAIRS - 1)
    assert shd_entry({"best": best, "other": [50.0] * (MINIMUM_PAIRS - 1)}, "other")["verdict"] == "too_few"


def test_a_method_behind_by_rank_can_be_ahead_by_mean_and_the_verdict_says_so():
    first, other = [0.0, 0.0, 0.0, 0.0, 0.0, 90.0, 90.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    comparison = compare(table({"first": first, "other": other}), [SHD], sort_by=SHD)
    assert comparison.first == "first"
    assert comparison.entry("other", SHD)["difference"] < 0


def test_a_higher_is_better_metric_is_ordered_by_its_better_side():
    comparison = compare(table({"a": [0.1] * 7, "b": [0.9] * 7}, "edge_f1"), ["edge_f1"], sort_by="edge_f1")
    assert comparison.order == ["b", "a"]
    assert comparison.entry("a", "edge_f1")["verdict"] == "worse"


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_failures_rank_last_so_failing_on_hard_problems_does_not_pay():
    # By its mean "quitter" would win: it answers the easy problems only.
    scores = {
        "steady": [2.0, 2.0, 30.0, 30.0],
        "quitter": [1.0, 1.0, "timeout", "out_of_memory"],
        "poor": [9.0, 9.0, 40.0, 40.0],
    }
    ranking = rank(table(scores), SHD)
    assert ranking.mean_rank == {"poor": (3 + 3 + 2 + 2) / 4, "quitter": (1 + 1 + 3 + 3) / 4, "steady": (2 + 2 + 1 + 1) / 4}
    comparison = compare(table(scores), [SHD], sort_by=SHD)
    assert comparison.order == ["steady", "quitter", "poor"]
    assert comparison.entry("quitter", SHD)["mean"] < comparison.entry("steady", SHD)["mean"]


def test_ties_and_joint_failures_share_their_ranks():
    ranking = rank(table({"a": [1.0, "error"], "b": [1.0, "timeout"], "c": [0.0, 5.0]}), SHD)
    assert ranking.mean_rank == {"a": 2.5, "b": 2.5, "c": 1.0}


def test_a_score_undefined_for_one_method_ranks_last_and_one_undefined_for_all_is_left_out():
    ranking = rank(table({"a": [1.0, np.nan, np.nan], "b": [2.0, 2.0, np.nan]}), SHD)
    assert ranking.n_problems == 2
    assert ranking.mean_rank == {"a": 1.5, "b": 1.5}


def test_ranks_are_over_the_problems_that_every_ranked_method_met():
    rows = table({"a": [1.0, 5.0, 5.0], "b": [2.0, 1.0, 1.0]})
    rows = rows[~((rows["method"] == "b") & (rows["problem"] != "p0"))]
    ranking = rank(rows, SHD)
    assert (ranking.n_problems, ranking.mean_rank) == (1, {"a": 1.0, "b": 2.0})


def test_a_skipped_method_is_not_ranked_and_one_that_never_ran_is_not_listed():
    scores = {"a": [2.0, 2.0], "partly": [1.0, "skipped"], "never": ["skipped", "skipped"]}
    comparison = compare(table(scores), [SHD], sort_by=SHD)
    assert comparison.order == ["a", "partly"]
    assert comparison.ranking.mean_rank == {"a": 1.0}
    assert comparison.ranking.unranked == {"partly": "skipped on 1 of 2 problems"}
    assert comparison.entry("partly", SHD)["failures"] == 0
    assert comparison.n_problems == 2


def test_a_problem_on_which_every_method_was_skipped_costs_nobody_its_rank():
    comparison = compare(table({"a": [2.0, "skipped"], "b": [3.0, "skipped"]}), [SHD], sort_by=SHD)
    assert comparison.ranking.mean_rank == {"a": 1.0, "b": 2.0}
    assert (comparison.n_problems, comparison.ranking.n_problems) == (1, 1)


def test_a_method_that_offers_no_targets_is_not_ranked_on_them_but_one_that_always_fails_is_ranked_last():
    scores = {"graph_only": [np.nan, np.nan], "broken": ["error", "error"], "good": [0.9, 0.8]}
    ranking = rank(table(scores, "target_f1"), "target_f1")
    assert list(ranking.unranked) == ["graph_only"]
    assert ranking.mean_rank == {"broken": 2.0, "good": 1.0}


def test_everything_failed_is_a_table_without_ranks_not_an_error():
    comparison = compare(table({"a": ["error"] * 3, "b": ["timeout"] * 3}), [SHD], sort_by=SHD)
    assert comparison.first is None
    assert comparison.summary["failures"].tolist() == [3, 3]
    assert comparison.summary["mean"].isna().all()


def test_ranking_on_a_prevalence_is_refused():
    with pytest.raises(InputError, match="better side"):
        rank(table({"a": [1.0]}, "edge_prevalence"), "edge_prevalence")
    with pytest.raises(InputError, match="better side"):
        compare(table({"a": [1.0]}), [SHD], sort_by="edge_prevalence")


# --- the frame --------------------------------------------------------------------------------------------------------


def test_row_order_changes_nothing():
    rows = rows_frame(failures={"gies": 0.3}, repetitions=6)
    metrics = metrics_of(rows)[:12]
    reference = compare(rows, metrics, sort_by=SHD).summary
    for seed in range(2):
        shuffled = rows.sample(frac=1, random_state=seed)
        pd.testing.assert_frame_equal(compare(shuffled, metrics, sort_by=SHD).summary, reference, check_exact=True)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(
            st.one_of(st.integers(0, 5).map(float), st.sampled_from(["timeout", "skipped", float("nan")])),
            min_size=4,
            max_size=4,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_ranks_average_to_the_middle_and_counts_add_up(columns):
    scores = {f"m{i}": column for i, column in enumerate(columns)}
    comparison = compare(table(scores), [SHD], sort_by=SHD, resamples=200)
    summary, ranking = comparison.summary, comparison.ranking
    if ranking.mean_rank:
        assert np.mean(list(ranking.mean_rank.values())) == pytest.approx((len(ranking.mean_rank) + 1) / 2)
    nobody_ran = sum(all(entry == "skipped" for entry in problem) for problem in zip(*columns, strict=True))
    total = summary["n"] + summary["failures"] + summary["undefined"] + summary["skipped"]
    assert (total == 4 - nobody_ran).all()
    known = summary.dropna(subset=["low"])
    rounding = 1e-12
    assert ((known["low"] <= known["mean"] + rounding) & (known["mean"] <= known["high"] + rounding)).all()


def test_absent_metric_columns_read_as_undefined():
    comparison = compare(table({"a": [1.0, 2.0]}), [SHD, "sid"], sort_by=SHD)
    assert comparison.entry("a", "sid")["undefined"] == 2


def test_a_frame_without_its_columns_a_double_row_and_an_unknown_status_are_refused():
    rows = table({"a": [1.0, 2.0]})
    with pytest.raises(InputError, match="problem missing"):
        check_rows(rows.drop(columns="problem"))
    with pytest.raises(InputError, match="two rows"):
        check_rows(pd.concat([rows, rows]))
    with pytest.raises(UnknownName, match="did you mean 'timeout'"):
        check_rows(pd.DataFrame([row("a", "p0", status="timeot")]))
    with pytest.raises(UnknownName, match="did you mean 'shd'"):
        compare(rows, ["shdd"], sort_by=SHD)
    with pytest.raises(InputError, match="one track"):
        compare(pd.concat([rows, rows.assign(track="oracle")]), [SHD], sort_by=SHD)


# --- comparison with one method, and of two tracks --------------------------------------------------------------------


def test_differences_to_a_base_are_those_of_the_comparison_where_the_base_is_first():
    rows = rows_frame(("a", "b", "c"), repetitions=8, failures={"a": 0.3})
    metrics = [SHD, "target_f1", "edge_average_precision"]
    compared = compare(rows, metrics, sort_by=SHD)
    found = differences_to(rows.sample(frac=1, random_state=0), compared.first, metrics).set_index(["method", "metric"])
    for e in compared.summary.itertuples(index=False):
        mine = found.loc[(e.method, e.metric)]
        expected = [e.difference, e.difference_low, e.difference_high, e.n_paired, e.mean, e.failures]
        columns = ["effect", "low", "high", "n_paired", "mean", "failures"]
        np.testing.assert_allclose(mine[columns].astype(float), expected, rtol=1e-12)  # sums in blocks of other columns
        assert mine["verdict"] == e.verdict


def test_costs_are_compared_as_geometric_mean_ratios_over_what_both_answered():
    seconds = {"base": [1.0, 2.0, 4.0, "timeout"], "slow": [2.0, 8.0, "timeout", 1.0]}
    found = differences_to(table(seconds, "fit_seconds"), "base", ["fit_seconds"]).set_index("method")
    assert found.loc["slow", ["scale", "n_paired", "verdict"]].tolist() == ["ratio", 2, "too_few"]
    assert found.loc["slow", "effect"] == pytest.approx(np.sqrt(2 * 4))
    assert found.loc["slow", "low"] == pytest.approx(2)  # two problems: the whole range of the bootstrap means
    assert found.loc["slow", "high"] == pytest.approx(4)
    assert found.loc["base", "effect"] == 1


def test_the_interval_of_a_share_is_that_of_the_delta_method_with_many_problems():
    rng = np.random.default_rng(0)
    lower = rng.uniform(0.5, 1.0, 400)
    upper = 0.9 * lower + rng.normal(0, 0.05, 400)
    metric = "target_f1"
    rows = pd.concat([table({"m": upper}, metric), table({"m": lower}, metric, track="graph")])
    found = shares(rows.sample(frac=1, random_state=0), "unknown", "graph", [metric]).iloc[0]
    share = upper.mean() / lower.mean()
    error = (upper - share * lower).std() / lower.mean() / np.sqrt(400)
    assert found["share"] == pytest.approx(share)
    assert found["n"] == 400
    # Monte-Carlo error of a tail quantile from 10,000 resamples: about 0.03 standard errors; five times that.
    assert abs(found["low"] - (share - 1.96 * error)) < 0.15 * error
    assert abs(found["high"] - (share + 1.96 * error)) < 0.15 * error


def test_a_share_is_over_the_problems_answered_on_both_tracks():
    metric = "target_f1"
    here = table({"m": [0.5, "timeout", 0.9], "only_here": [1.0] * 3}, metric)
    there = table({"m": [1.0, 1.0, np.nan]}, metric, track="graph")
    found = shares(pd.concat([here, there]), "unknown", "graph", [metric])
    assert found[["method", "share", "n"]].to_numpy().tolist() == [["m", 0.5, 1]]
    assert found[["low", "high"]].isna().all(axis=None)  # one problem says nothing of the spread
