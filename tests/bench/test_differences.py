"""Boards of paired comparisons: the numbers are those of the statistics, and marks are those of the intervals."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from frames import row, rows_frame
from rich.console import Console

from bench.columns import few_shot_column
from bench.differences import difference_board, share_board
from bench.errors import UnknownName
from bench.statistics import differences_to
from bench.table_files import escape_latex, to_csv, to_latex, to_markdown

AP3, AP10 = (few_shot_column("target_average_precision", n) for n in (3, 10))


def text(renderable: object, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


def texts(board, method: str) -> dict[str, str]:
    """Head to number, interval and mark of one row."""
    columns = board.columns()
    i = [cell.text for cell in columns[0].cells].index(method)
    return {c.head: f"{c.cells[i].text}{c.cells[i].mark} {c.cells[i].interval}".strip() for c in columns[1:]}


def ablation(n: int = 8) -> pd.DataFrame:
    """``whole`` is better than ``cut`` by .1 of F1 in every problem, equal in SHD on average, and twice as fast."""
    rows = []
    for i in range(n):
        whole = {"shd": 2.0, "target_f1": 0.9, "fit_seconds": 0.5 * (1 + i % 2)}
        cut = {"shd": 2.0 + (-1) ** i, "target_f1": 0.8, "fit_seconds": 1.0 * (1 + i % 2)}
        rows += [row("whole", f"p{i}", repetition=i, **whole), row("cut", f"p{i}", repetition=i, **cut)]
    return pd.DataFrame(rows)


def both_tracks(share: float = 0.9, n: int = 6) -> pd.DataFrame:
    """``able`` reaches ``share`` of what it does with the graph told, in every problem; ``unable`` is not told."""
    rows = []
    for dataset in ("er", "sf"):
        for i in range(n):
            with_graph = 0.5 + 0.05 * i
            about = {"dataset": dataset, "repetition": i}
            rows.append(row("able", f"{dataset}{i}", **about, **{AP3: share * with_graph, AP10: with_graph}))
            rows.append(row("unable", f"{dataset}{i}", **about, **{AP3: 0.2, AP10: 0.2}))
            about |= {"track": "graph"}
            rows.append(row("able", f"{dataset}{i}", **about, graph_given=True, **{AP3: with_graph, AP10: with_graph}))
            rows.append(row("unable", f"{dataset}{i}", **about, graph_given=False, status="skipped"))
    return pd.DataFrame(rows)


# --- every method against one -----------------------------------------------------------------------------------------


def test_differences_are_marked_where_the_interval_excludes_zero_and_times_are_ratios():
    board = difference_board(ablation(), "whole", track="unknown")
    assert texts(board, "whole") == {"SHD ↓": "2.0", "target F1 ↑": "0.90", "fit time, ratio ↓": "0.75"}
    cut = texts(board, "cut")
    assert cut["target F1 ↑"] == "-0.100* [-0.100, -0.100]"
    assert cut["fit time, ratio ↓"] == "×2* [2, 2]"
    assert cut["SHD ↓"].startswith("0.00 [-")
    assert "difference to whole · er · 8 problems" in board.title
    assert board.strong() == 0


def test_a_family_of_one_dataset_is_called_one():
    board = difference_board(ablation().assign(family="small"), "whole", track="unknown", family="small")
    assert board.title.endswith("small · 1 dataset · 8 problems")


def test_under_six_pairs_nothing_is_marked():
    assert "*" not in "".join(texts(difference_board(ablation(5), "whole", track="unknown"), "cut").values())


def test_marks_are_corrected_for_the_whole_table_and_tests_without_a_chance_are_not_run():
    rows = ablation()
    found = differences_to(rows, "whole", ["shd", "target_f1", "fit_seconds"]).query("method == 'cut'").set_index("metric")
    # Eight differences of one sign have a two-sided p of 2/2^8; Holm over the three comparisons of the table.
    assert found.loc["target_f1", "p"] == 2 / 2**8
    assert found.loc["target_f1", "p_holm"] == pytest.approx(3 * 2 / 2**8)
    assert found.loc["shd", "p_holm"] == 1
    board = difference_board(rows, "whole", track="unknown")
    assert "Holm's correction for the 3 comparisons of this table." in " ".join(board.notes)
    # Seven pairs: p >= 1/64, three times that is no longer at most .05 ... .0469; six: .094.
    seven, six = (difference_board(ablation(n), "whole", track="unknown") for n in (7, 6))
    assert "*" in texts(seven, "cut")["target F1 ↑"]
    assert "*" not in "".join(texts(six, "cut").values())
    assert "leaves no chance to 6 independent pairs that differ, which allow no p below 0.031" in " ".join(six.notes)


def test_points_of_a_curve_that_share_their_draws_are_one_pair_to_the_test():
    rows = ablation(8).assign(curve="along n", factor_value=1.0)
    rows["data_seed"] = rows["repetition"] // 2
    found = differences_to(rows, "whole", ["target_f1"]).query("method == 'cut'").iloc[0]
    assert (found["n_paired"], found["n_independent"]) == (8, 4)
    assert found["p"] == 2 / 2**4
    assert np.isnan(found["p_holm"])


def test_every_format_shows_the_numbers_of_the_statistics():
    rows = rows_frame(("empty", "ut_igsp", "gies"), repetitions=6)
    board = difference_board(rows, "ut_igsp", track="unknown", dataset="sf")
    metrics = [column.metric for column in board.columns() if column.metric]
    found = differences_to(rows[rows["dataset"] == "sf"], "ut_igsp", metrics)
    csv = pd.read_csv(io.StringIO(to_csv(board)))
    pd.testing.assert_frame_equal(csv[found.columns], found, check_dtype=False)
    assert set(csv["dataset"]) == {"sf"}
    for method in ("empty", "gies"):
        for cell in texts(board, method).values():
            number = cell.split(" ")[0].rstrip("*")
            assert number in to_markdown(board)
            assert escape_latex(number, minus=True) in to_latex(board)
            assert number in text(board)


def test_methods_follow_the_base_in_the_order_that_is_asked_for():
    rows = rows_frame(("a", "b", "c", "d"), repetitions=2)
    board = difference_board(rows, "b", track="unknown", order=["d", "b", "a"])
    assert [cell.text for cell in board.columns()[0].cells] == ["b", "d", "a", "c"]


def test_failures_and_fewer_pairs_are_said_under_the_table():
    rows = ablation()
    rows.loc[(rows["method"] == "cut") & (rows["repetition"] < 3), ["status", "reason"]] = ["timeout", "made-up timeout"]
    rows.loc[(rows["method"] == "cut") & (rows["repetition"] == 3), "target_f1"] = np.nan
    notes = " ".join(difference_board(rows, "whole", track="unknown").notes)
    assert "Fewer pairs than problems: SHD (5), target F1 (4), fit time, ratio (5)." in notes
    assert "Failed: cut 3 × timeout" in notes


def test_a_base_that_did_not_run_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'whole'"):
        difference_board(ablation(), "whol", track="unknown")


def test_scores_of_the_graph_are_not_compared_where_it_was_told():
    rows = ablation().assign(track="graph", graph_given=True, edge_brier=0.1, target_brier=0.2)
    heads = texts(difference_board(rows, "whole", track="graph"), "cut")
    assert set(heads) == {"target F1 ↑", "fit time, ratio ↓", "target Brier ↓"}


# --- one track as a share of another ----------------------------------------------------------------------------------


def test_few_shot_scores_are_a_share_of_those_with_the_graph_told():
    board = share_board(both_tracks(0.97))
    shown = text(board)
    assert shown.count("97.0%") == 3  # two datasets, and both together
    assert shown.count("100.0%") == 3
    assert "unable" not in shown
    assert set(board.numbers()["dataset"]) == {"er", "sf", ""}
    np.testing.assert_allclose(board.numbers().query("metric == @AP3")[["share", "low", "high"]], 0.97)
    assert r"97.0\%" in to_latex(board)


def test_without_a_method_on_both_tracks_there_is_no_share():
    rows = both_tracks()
    assert share_board(rows[rows["track"] == "unknown"]) is None
    assert share_board(rows[rows["track"] == "graph"]) is None
    assert share_board(rows[rows["method"] == "unable"]) is None
    assert share_board(rows.drop(columns=[AP3, AP10])) is None
