"""Tests of methods against the first and of all pairs: size and power on simulated tables, and what footnotes say of them."""

import re

import numpy as np
import pandas as pd
import pytest
from frames import row, table
from scipy import stats

from bench.plots import NothingToPlot, caption_of, plot_critical_difference
from bench.significance import against_first, friedman
from bench.statistics import compare, rank, rank_table
from bench.tables import leaderboard

SHD = "shd_interventional"


def _differences(rng, shift=0.0, *, n=15, methods=6):
    return pd.DataFrame(rng.laplace(size=(n, methods)) + shift, columns=list("abcdef")[:methods])


def test_in_a_table_of_equals_some_method_is_told_apart_in_one_of_twenty():
    rng = np.random.default_rng(0)
    found = [against_first(_differences(rng)) for _ in range(150)]
    for name in ("p_holm", "p_wilcoxon_holm"):
        share = np.mean([(t[name] <= 0.05).any() for t in found])
        assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)  # three standard errors


def test_what_the_table_says_it_could_find_it_finds():
    rng = np.random.default_rng(1)
    size = against_first(pd.DataFrame(rng.normal(size=(15, 6)), columns=list("abcdef")))["detectable"].median()
    shifted = rng.normal(size, 1, size=(150, 15, 6))
    power = np.mean([(against_first(pd.DataFrame(x, columns=list("abcdef")))["p_holm"] <= 0.05).mean() for x in shifted])
    assert power > 0.75  # .8 at Bonferroni's level; Holm is a little better, sign flips a little worse than t


def test_without_a_chance_there_is_no_test():
    few = against_first(_differences(np.random.default_rng(0), 9.0, n=7))
    assert few[["p", "p_holm", "p_wilcoxon"]].isna().all(axis=None)  # 2/2^7 times six is above .05
    enough = against_first(_differences(np.random.default_rng(0), 9.0, n=8))
    assert (enough["p_holm"] <= 0.05).all()


def test_pairs_without_a_difference_give_no_test_a_chance():
    """Three differences of 23 allow no p below .25; yet with 23 pairs a difference could have been found."""
    few = pd.DataFrame({"a": [1.0, 2.0, 3.0] + [0.0] * 20, "b": np.arange(23.0) + 1.0})
    found = against_first(few)
    assert found.loc["a", ["p", "p_wilcoxon", "p_holm"]].isna().all()
    assert found["detectable"].notna().all()
    assert found.loc["b", "p_holm"] <= 0.05
    assert against_first(few.head(5))["detectable"].isna().all()


def test_what_no_test_could_tell_apart_is_marked_as_level():
    """Seven problems, eight methods, each worse by ten everywhere: 2/2^7 times seven is above .05."""
    rng = np.random.default_rng(4)
    scores = {"best": list(rng.normal(size=7))} | {f"m{k}": list(10.0 * (k + 1) + rng.normal(size=7)) for k in range(7)}
    board = leaderboard(table(scores), track="unknown")
    assert set(board.comparison.verdicts().values()) == {"first", "level"}
    notes = " ".join(board.notes)
    assert "no test of m0, m1, m2, m3, m4, m5, m6: too few differences for 7 comparisons" in notes
    assert "power" not in notes


def test_a_method_that_failed_where_the_first_answered_is_level_only_where_both_answered():
    rng = np.random.default_rng(5)
    hard = rng.normal(10, 1, size=7)
    scores = {"best": list(hard), "frail": [*(hard[:6] + rng.uniform(0.5, 1.0, size=6)), "timeout"]}
    scores |= {f"bad{k}": list(hard + 9) for k in range(3)}
    assert compare(table(scores), [SHD], sort_by=SHD).verdicts()["frail"] == "level_where_answered"


def test_the_numbers_of_a_board_hold_its_tests():
    rng = np.random.default_rng(6)
    board = leaderboard(table({"a": list(rng.normal(size=9)), "b": list(rng.normal(9, 1, size=9))}), track="unknown")
    numbers = board.numbers().set_index(["method", "metric"])
    assert numbers.loc[("b", SHD), "p_holm"] == board.comparison.tests.loc["b", "p_holm"] <= 0.05


def test_points_of_a_curve_rank_as_the_one_draw_that_they_are():
    scores = {m: [float(10 * k + r) for r in range(4) for _ in range(3)] for k, m in enumerate("abc")}
    rows = table(scores)
    draw = rows["problem"].str.removeprefix("p").astype(int) // 3
    on_curve = rows.assign(curve="drift", data_seed=draw.astype(str))
    assert (len(rank_table(rows, SHD)), len(rank_table(on_curve, SHD))) == (12, 4)


def test_friedman_and_nemenyi_agree_with_scipy_and_with_the_critical_difference():
    ranks = pd.DataFrame(np.random.default_rng(0).normal([0, 0, 1, 2], 1, size=(20, 4)), columns=list("abcd")).rank(axis=1)
    p, pairs = friedman(ranks)
    assert p == pytest.approx(stats.friedmanchisquare(*ranks.to_numpy().T).pvalue)
    # Demsar (2006), equation 3 with the table's q of 2.569 for four methods.
    critical = 2.569 * np.sqrt(4 * 5 / (6 * 20))
    apart = np.abs(ranks.mean().to_numpy()[:, None] - ranks.mean().to_numpy()) > critical
    assert ((pairs.to_numpy() <= 0.05) == apart).all()
    assert friedman(pd.DataFrame(2.0, range(5), list("abc")))[0] == 1.0


def test_the_rank_table_has_the_mean_ranks_of_the_ranking():
    rows = table({"a": [1.0, 2.0, "timeout"], "b": [2.0, 1.0, 5.0], "c": [3.0, 3.0, 1.0]})
    assert rank_table(rows, SHD).mean().to_dict() == pytest.approx(rank(rows, SHD).mean_rank)


def test_ranks_that_hang_on_how_failures_count_are_flagged():
    scores = {"frail": [1.0] * 6 + ["timeout"] * 4, "steady": [2.0] * 10, "worse": [3.0] * 10, "empty": [2.5] * 10}
    ranking = rank(table(scores), SHD)
    assert ranking.mean_rank["frail"] == pytest.approx((6 * 1 + 4 * 4) / 10)
    assert ranking.imputed["frail"] == pytest.approx((6 * 1 + 4 * 2.5) / 10)
    assert ranking.floor == "empty"
    assert ranking.depends_on_failures
    notes = " ".join(leaderboard(table(scores), track="unknown").notes)
    assert "given the score of empty instead of the last rank, the order would be another one: frail 1.60, steady 1.60" in notes
    assert not rank(table({"a": [1.0] * 3, "empty": [2.0] * 3}), SHD).imputed


def test_notes_name_who_is_not_told_from_the_first_and_what_it_would_take():
    rng = np.random.default_rng(3)
    hard = rng.normal(10, 3, size=16)
    scores = {"best": list(hard), "alike": list(hard + 0.1 + rng.normal(size=16)), "bad": list(hard + 4 + rng.normal(size=16))}
    rows = table(scores)
    notes = " ".join(leaderboard(rows, track="unknown").notes)
    assert "not told from" in notes
    assert "sign flips, of which 16 pairs allow p ≥ 5e-05, and Wilcoxon; Holm for 2" in notes
    assert "bad (" not in notes
    assert re.search(r"Δ of (alike|best) found with 80% power: 0\.\d+", notes)  # of the next best, whatever the others scatter
    found = compare(rows, [SHD], sort_by=SHD)
    assert found.tests["needed"].drop("bad").iloc[0] > 16
    assert found.tests.loc["bad", "p_holm"] <= 0.05


def test_the_critical_difference_diagram_names_every_method_and_its_test():
    rows = pd.DataFrame(
        [
            row(m, f"p{i}", repetition=i, shd_interventional=float(10 * k + (i + k) % 3))
            for i in range(12)
            for k, m in enumerate(("good", "middle", "bad"))
        ]
    )
    figure = plot_critical_difference(rows, SHD, track="unknown")
    said = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(f"{m}" in said for m in ("good", "middle", "bad"))
    assert "12 problems" in caption_of(figure)
    with pytest.raises(NothingToPlot, match="ranked are 3 methods on 4 problems"):
        plot_critical_difference(rows[rows["repetition"] < 4], SHD, track="unknown")
