"""Tables: every format shows the same numbers, fits its terminal, and says what a reader must know."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from frames import edges_frame, row, rows_frame, table, targets_frame
from rich.console import Console

from bench.columns import few_shot_column
from bench.errors import InputError, UnknownName
from bench.estimates import estimate_tables, likeliest_targets, strongest_edges
from bench.labels import format_value
from bench.statistics import compare
from bench.table_files import escape_latex, to_csv, to_latex, to_markdown, write_tables
from bench.tables import DEFAULT_METRICS, NOTHING, Leaderboard, columns, leaderboard, left_out, legend

SHD = "shd_interventional"
METHODS = ("empty", "marginal", "ut_igsp[alpha=0.001,bootstrap=20]", "gies")


def test_a_table_over_the_points_of_a_curve_says_that_they_share_their_draws():
    def notes(dataset=None, **columns):
        rows = pd.concat([table({"a": [1.0, 2.0]}, dataset=d, **columns) for d in ("drift=0", "drift=1")])
        return " ".join(leaderboard(rows, track="unknown", dataset=dataset).notes)

    assert "share their draws: intervals resample them together" in notes(curve="drift")
    assert "share their draws" not in notes("drift=1", curve="drift")
    assert "share their draws" not in notes(curve="")


def text(renderable: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


def body(board: Leaderboard, width: int) -> list[str]:
    """The lines of the table itself, between its rule and its first footnote."""
    return text(board, width).split("─\n")[1].split("\nData: ")[0].splitlines()


def numbers(line: str) -> list[float]:
    """All numbers of a text, in order; no digits inside words."""
    return [float(x) for x in re.findall(r"(?<![\w.])[+-]?\d*\.?\d+(?![\w])", line)]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return rows_frame(METHODS, tracks=("unknown", "oracle"), failures={"marginal": 0.2})


@pytest.fixture(scope="module")
def board(rows) -> Leaderboard:
    return leaderboard(rows, track="unknown")


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_csv_holds_the_unrounded_numbers_of_the_comparison(rows, board):
    lines = list(csv.DictReader(io.StringIO(to_csv(board))))
    reference = compare(rows[rows["track"] == "unknown"], DEFAULT_METRICS, sort_by=SHD).summary
    for column in ("mean", "low", "high", "n", "failures", "mean_rank", "difference", "difference_low", "difference_high"):
        np.testing.assert_array_equal([float(line[column] or "nan") for line in lines], reference[column])
    assert {line["track"] for line in lines} == {"unknown"}


def test_markdown_latex_and_csv_agree_on_every_number(board):
    frame = pd.read_csv(io.StringIO(to_csv(board))).set_index(["method", "metric"])
    markdown = [line for line in to_markdown(board).splitlines() if line.startswith("| `")]
    body = to_latex(board).split(r"\midrule")[1].split(r"\bottomrule")[0].replace("$-$", "-")
    body = re.sub(r"\$\^\{\\mathrm\{.\}\}\$|\\scriptsize|[{}]|\\\\", " ", body)
    latex = [line for line in body.splitlines() if line.strip()]
    assert len(markdown) == len(METHODS)
    assert len(latex) == 2 * len(METHODS)
    for i, method in enumerate(board.comparison.order):
        shown = [c.strip() for c in markdown[i].strip("|").split(" | ")]
        upper, lower = ([c.strip() for c in line.split(" & ")] for line in latex[2 * i : 2 * i + 2])
        assert len(shown) == len(upper) == len(lower) == len(columns(board))
        for md, tex, interval in zip(shown[1:], upper[1:], lower[1:], strict=True):
            assert numbers(re.sub("[ᵇˢᵖ]", "", md)) == numbers(tex) + numbers(interval)
        sort_entry = frame.loc[(method, SHD)]
        assert numbers(shown[2]) == [float(f"{sort_entry[c]:.1f}") for c in ("mean", "low", "high")]
        assert shown[-2] == f"{sort_entry['n']}/20"
        assert shown[-1] == str(sort_entry["failures"])
        precision = frame.loc[(method, "edge_average_precision")]
        assert numbers(re.sub("[ᵇˢᵖ]", "", shown[4])) == [float(f"{precision[c]:.2f}") for c in ("mean", "low", "high")]


def test_terminal_shows_the_numbers_of_the_markdown(board):
    def bare(line: str) -> list[float]:
        return [abs(x) for x in numbers(re.sub("[ᵇˢᵖ]", "", line))]

    shown = body(board, 200)
    markdown = [line.replace("`", " ") for line in to_markdown(board).splitlines() if line.startswith("| `")]
    assert len(shown) == 2 * len(METHODS)
    for i, method in enumerate(board.comparison.order):
        assert sorted(bare(" ".join(shown[2 * i : 2 * i + 2]))) == sorted(bare(markdown[i])), method


def test_values_are_rounded_by_their_metric():
    assert format_value(2.25, "edge_f1") == "2.25"
    assert format_value(-0.04, "shd", signed=True) == "0.0"
    assert format_value(0.26, "shd", signed=True) == "+0.3"
    assert [format_value(s, "fit_seconds") for s in (0.000123, 0.0123, 0.5, 12.34, 1234.5)] == [
        "0.000",
        "0.012",
        "0.50",
        "12",
        "1234",
    ]
    assert format_value(float("nan"), "shd") == "–"


# --- layout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_broken(board, width):
    shown = text(board, width)
    assert max(map(len, shown.splitlines())) <= width
    lines = body(board, width)
    whole = re.findall(r"\[-?[\d.]+,-?[\d.]+\]", "\n".join(lines))
    assert len(whole) == "".join(lines).count("[") - 1  # one label has a bracket
    assert len(lines) >= 2 * len(METHODS)


def test_a_narrow_terminal_drops_the_last_metrics_and_says_which(board):
    assert left_out(board, 80) == ["target F1", "target AP", "fit time (s)", "SHD"]
    assert left_out(board, 160) == []
    narrow = text(board, 80)
    assert "SHD " in narrow
    assert "F1" not in narrow
    for must in ("mean", "Δ to first", "failed", "I-essential"):
        assert must in narrow


def test_labels_are_whole_where_there_is_room(board):
    for width in (100, 120, 160):
        assert "ut_igsp[alpha=0.001,bootstrap=20] " in text(board, width)
    assert len(left_out(board, 120)) <= 2


def test_long_labels_fold_and_are_not_cut(rows):
    label = "method_with_a_very_long_name[parameter_one=0.00001,parameter_two=something]"
    shown = text(leaderboard(rows.replace({"method": {"gies": label}}), track="unknown"), 100)
    first_column = next(line.index("rank") for line in shown.splitlines() if "rank" in line)  # the next column's head
    assert label in "".join(line[: first_column - 1].strip() for line in shown.splitlines())


def test_twenty_methods_fit():
    many = rows_frame([f"method_{i:02d}" for i in range(20)], repetitions=3)
    shown = text(leaderboard(many, track="unknown"), 120)
    assert all(f"method_{i:02d}" in shown for i in range(20))
    assert max(map(len, shown.splitlines())) <= 120


# --- what the footnotes must say --------------------------------------------------------------------------------------


def said(board: Leaderboard) -> str:
    return " ".join([*board.notes, *legend([board])])


def test_methods_that_were_told_the_targets_carry_a_dagger(rows):
    board = leaderboard(rows, track="oracle")
    marked = {line.split("`")[1] for line in to_markdown(board).splitlines() if line.startswith("| `") and "†" in line}
    assert marked == {"marginal", "gies"}
    assert "† was told the targets" in said(board)
    assert "†" not in said(leaderboard(rows, track="unknown"))
    assert "†" in text(board, 80)


def test_average_precision_says_what_the_edge_probabilities_are(board):
    marks = {line.split("`")[1]: line.split(" | ")[4] for line in to_markdown(board).splitlines() if line.startswith("| `")}
    for method, kind in board.methods["edge_output"].items():
        assert {"binary": "ᵇ", "score": "ˢ", "posterior": "ᵖ"}[kind] in marks[method]
    assert "average precision (AP) of ᵇ a binary answer, ˢ scores, ᵖ posterior probabilities" in said(board)


def test_average_precision_says_what_the_target_probabilities_are(rows):
    board = leaderboard(rows, track="unknown", metrics=["target_average_precision"])
    (column,) = (c for c in columns(board) if c.metric == "target_average_precision")
    for method, cell in zip(board.methods.index, column.cells, strict=True):
        output = board.methods["target_output"][method]
        assert cell.mark == ("" if cell.text == NOTHING else {"binary": "ᵇ", "score": "ˢ", "": ""}[output])
    assert "average precision (AP) of ᵇ a binary answer, ˢ scores." in said(board)


def test_runs_of_before_targets_said_what_they_are_are_read_without_marks(rows):
    board = leaderboard(rows.drop(columns="target_output"), track="unknown", metrics=["target_average_precision"])
    assert {c.mark for column in columns(board) if column.metric == "target_average_precision" for c in column.cells} == {""}


def test_methods_level_with_the_first_are_marked():
    rng = np.random.default_rng(0)
    base = rng.integers(3, 9, 20).astype(float)
    scores = {"a": list(base), "b": list(base + rng.choice([-1, 1], 20)), "c": list(base + 5)}
    board = leaderboard(table(scores), track="unknown")
    delta = {line.split("`")[1]: line.split(" | ")[3] for line in to_markdown(board).splitlines() if line.startswith("| `")}
    level = set(board.comparison.order[:2])
    assert level == {"a", "b"}
    assert "≈" in delta[board.comparison.order[1]]
    assert "≈" not in delta["c"]
    assert "≈ not told from it" in said(board)


def test_failures_are_counted_by_kind_with_their_reason():
    notes = said(leaderboard(table({"a": [1.0, 2.0, 3.0], "b": ["timeout", "timeout", "error"]}), track="unknown"))
    assert "b 1 × error, 2 × timeout (made-up timeout; and other reasons)" in notes


def test_skipped_methods_stand_under_the_table_with_their_reason():
    board = leaderboard(table({"a": [1.0, 2.0], "never": ["skipped"] * 2, "partly": [1.0, "skipped"]}), track="unknown")
    assert "never" not in board.comparison.order
    assert "Skipped: never (made-up skipped); partly on 1 of 2 problems (made-up skipped)." in board.notes
    partly = next(line for line in to_markdown(board).splitlines() if line.startswith("| `partly`"))
    assert partly.split(" | ")[1] == "–"


def test_methods_skipped_alike_share_an_entry():
    scores = {"a": [1.0, "skipped"], "b": [2.0, "skipped"], "never": ["skipped"] * 2}
    assert "Skipped: a, b on 1 of 2 problems (made-up skipped); never (made-up skipped)." in said(
        leaderboard(table(scores), track="unknown")
    )
    del scores["never"]
    board = leaderboard(table(scores), track="unknown")
    assert "Skipped: every method on 1 of 2 problems (made-up skipped)." in board.notes
    assert board.title.endswith("1 problem")


def test_a_dataset_that_nobody_met_is_not_counted_in_the_title():
    met = table({"a": [1.0, 2.0], "b": [2.0, 3.0]}, dataset="here")
    skipped = table({"a": ["skipped"], "b": ["skipped"]}, dataset="absent")
    board = leaderboard(pd.concat([met, skipped]), track="unknown")
    assert "here" in board.title
    assert "absent" not in board.title


def test_problems_on_which_nobody_has_a_score_are_told_apart_from_undefined_scores():
    board = leaderboard(table({"a": [1.0, np.nan, np.nan], "b": [1.0, 2.0, np.nan]}), track="unknown")
    assert "No method has a score on 1 of 3 problems: SHD I-essential." in board.notes
    assert "Undefined though answered (problems): SHD I-essential of a (1)." in board.notes


def test_what_a_method_never_estimates_is_a_dash_and_no_footnote(rows):
    board = leaderboard(rows, track="unknown")  # "empty" estimates no targets
    empty = next(line for line in to_markdown(board).splitlines() if line.startswith("| `empty`"))
    assert empty.split(" | ")[5] == "–"
    assert "Undefined" not in said(board)
    assert "–: not estimated" in said(board)


def test_methods_without_any_score_are_named_below_and_have_no_row():
    scores = table({"a": [0.5, 0.6], "b": [0.4, 0.3], "silent": [np.nan] * 2, "broken": ["error"] * 2}, "target_f1")
    board = leaderboard(scores, track="unknown", metrics=["target_f1"], sort_by="target_f1")
    assert list(board.methods.index) == ["a", "b", "broken"]
    assert "Without any score here: silent." in board.notes
    assert "silent" in to_csv(board)
    assert "`silent`" not in to_markdown(board)


def test_a_method_without_the_sorting_score_keeps_its_row_and_has_no_rank():
    rows = pd.concat([table({"a": [0.5, 0.6]}, "target_f1"), table({"b": [4.0, 5.0]})])
    board = leaderboard(rows, track="unknown", metrics=["target_f1", SHD], sort_by="target_f1")
    assert "Not ranked, for want of target F1: b." in board.notes
    assert list(board.methods.index) == ["a", "b"]


def test_the_legend_of_several_boards_says_each_thing_once(rows):
    boards = [leaderboard(rows, track=track) for track in ("unknown", "oracle")]
    lines = legend(boards)
    assert len(lines) == len(set(lines))
    assert [line.split(":")[0] for line in lines] == ["Order", "Scores", "Δ", "Marks", "Data"]
    assert "† was told the targets" in " ".join(lines)
    assert "†" not in " ".join(legend(boards[:1]))
    assert legend([]) == []


def test_undefined_scores_are_counted_with_their_reason():
    rows = table({"a": [1.0, 2.0], "b": [1.0, np.nan]})
    rows.loc[rows[SHD].isna(), "undefined"] = json.dumps({SHD: "the point graph is cyclic"})
    assert "SHD I-essential of b (1) – the point graph is cyclic" in said(leaderboard(rows, track="unknown"))


def test_budgets_that_ran_out_and_columns_without_values_are_named():
    rows = table({"a": [1.0, 2.0], "b": [1.0, 2.0]})
    rows.loc[0, "cut_short"] = True
    board = leaderboard(rows, track="unknown")
    assert "Answered with the best so far as the budget ran out: a (1)." in board.notes
    assert [cell.mark for cell in board.columns()[0].cells if cell.text == "a"] == [" ‡"]
    assert not [cell.mark for cell in board.columns()[0].cells if cell.text != "a" and cell.mark]
    assert "‡ some answers are the best so far" in " ".join(legend([board]))
    assert any(note.startswith("Left out, as no method has a value: edge AP") for note in board.notes)
    assert board.metrics == (SHD,)


@pytest.mark.parametrize("dtype", [object, "boolean"])
def test_fits_that_did_not_converge_are_counted_among_those_that_answered(dtype):
    rows = table({"a": [1.0, 2.0, 3.0, "timeout"], "b": [1.0, 2.0, 3.0, 4.0], "c": [1.0, 2.0, 3.0, 4.0]})
    said = {"a": [False, True, False, None], "b": [True] * 4, "c": [None] * 4}
    rows["converged"] = pd.array([said[m][i] for m, i in zip(rows["method"], rows["repetition"], strict=True)], dtype=dtype)
    notes = leaderboard(rows, track="unknown").notes
    assert "Did not converge: a (2 of 3)." in notes
    assert not any("converge" in note for note in leaderboard(rows[rows["method"] != "a"], track="unknown").notes)


def test_sortability_and_prevalence_are_means_over_problems_not_rows():
    rows = pd.DataFrame(
        [
            row("a", "p0", shd_interventional=1.0, varsortability=0.2, edge_prevalence=0.1),
            row("b", "p0", shd_interventional=1.0, varsortability=0.2, edge_prevalence=0.1),
            row("a", "p1", shd_interventional=1.0, varsortability=0.8, edge_prevalence=np.nan),
            row("b", "p1", shd_interventional=1.0, varsortability=0.8, edge_prevalence=0.3),
            row("a", "p2", shd_interventional=1.0, varsortability=0.8, edge_prevalence=0.3),
        ]
    )
    note = leaderboard(rows, track="unknown").notes[0]
    assert "var-sortability 0.60 (0.90 in raw units)" in note
    assert "chance has edge AP 0.233" in note


def test_one_problem_shows_no_intervals():
    board = leaderboard(table({"a": [1.0], "b": [4.0]}), track="unknown")
    line = next(line for line in to_markdown(board).splitlines() if line.startswith("| `b`"))
    assert line.split(" | ")[2:4] == ["4.0", "+3.0"]
    assert "Too few paired problems (under 6) to tell from the first: any method." in said(board)
    assert "1 problem" in board.title


def test_a_family_of_one_dataset_is_called_one():
    rows = table({"a": [1.0, 2.0], "b": [4.0, 3.0]}).assign(family="small")
    board = leaderboard(rows, track="unknown", family="small")
    assert board.title.endswith("small · 1 dataset · 2 problems")


def test_a_table_of_failures_only_is_shown():
    board = leaderboard(table({"a": ["error"] * 2, "b": ["timeout"] * 2}), track="unknown")
    assert "No method is ranked" in said(board)
    assert "0/2" in text(board, 80)
    assert to_latex(board).count(r"\\") == 1 + 2 * 2


def test_few_shot_tables_say_how_methods_without_adaptation_were_treated(rows):
    few_shot = [few_shot_column("target_average_precision", n) for n in (3, 10, 30)]
    board = leaderboard(rows, track="unknown", metrics=few_shot, sort_by=few_shot[0], subject="few-shot")
    assert board.name == "leaderboard-unknown-few-shot"
    assert all(f"n={n} ↑" in text(board, 120) for n in (3, 10, 30))
    assert "is fitted anew" in said(board)
    assert "chance has target AP 0.100" in said(board)


# --- refusals and files -----------------------------------------------------------------------------------------------


def test_unknown_names_are_answered_with_the_nearest(rows):
    with pytest.raises(UnknownName, match="did you mean 'unknown'"):
        leaderboard(rows, track="unknwon")
    with pytest.raises(UnknownName, match="unknown dataset 'erd'"):
        leaderboard(rows, track="unknown", dataset="erd")
    with pytest.raises(UnknownName, match="unknown metric"):
        leaderboard(rows, track="unknown", metrics=["sdh"])


def test_row_order_changes_no_byte(rows):
    shuffled = rows.sample(frac=1, random_state=0)
    for dataset in (None, "sf"):
        before = leaderboard(rows, track="unknown", dataset=dataset)
        after = leaderboard(shuffled, track="unknown", dataset=dataset)
        for write in (to_csv, to_markdown, to_latex):
            assert write(before) == write(after)


def test_a_table_of_one_dataset_uses_only_its_rows(rows):
    alone = leaderboard(rows[rows["dataset"] == "sf"], track="unknown", dataset="sf")
    assert to_csv(leaderboard(rows, track="unknown", dataset="sf")) == to_csv(alone)


def test_files_are_written_in_every_format_and_like_names_do_not_collide(rows, tmp_path):
    boards = [leaderboard(rows.replace({"dataset": {"er": d}}), track="unknown", dataset=d) for d in ("er[d=10]", "er(d=10)")]
    paths = write_tables(boards, tmp_path / "tables")
    assert sorted(p.name for p in paths) == sorted(
        f"leaderboard-unknown-er-d-10{n}.{f}" for n in ("", "-2") for f in ("csv", "md", "tex")
    )
    assert sorted(p.name for p in (tmp_path / "tables").iterdir()) == sorted(p.name for p in paths)  # no leftovers
    assert pd.read_csv(paths[0])["dataset"].unique() == ["er[d=10]"]


def test_latex_escapes_what_latex_reads():
    assert escape_latex("a_b & 5% #1 {x} ~ ^ \\") == (
        r"a\_b \& 5\% \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    tex = to_latex(leaderboard(table({"a_b&c": [1.0, 2.0], "d|e": [2.0, 3.0]}), track="unknown"))
    assert r"a\_b\&c" in tex
    assert tex.count("{") - tex.count(r"\{") == tex.count("}") - tex.count(r"\}")
    assert not re.search(r"[^\x00-\x7f]", tex)


def test_markdown_escapes_the_bar():
    markdown = to_markdown(leaderboard(table({"d|e": [2.0, 3.0]}), track="unknown"))
    assert r"`d\|e`" in markdown


# --- estimates without truth ------------------------------------------------------------------------------------------


def test_strongest_edges_are_the_most_probable_ones_and_an_undirected_one_is_named_once():
    edges = pd.DataFrame(
        [
            ("m", "a", "b", 0.5, True),
            ("m", "b", "a", 0.5, True),
            ("m", "a", "c", 0.9, True),
            ("m", "c", "a", 0.1, False),
            ("m", "b", "c", 0.0, False),
        ],
        columns=["method", "source", "target", "probability", "in_point_graph"],
    )
    strong = strongest_edges(edges)
    assert strong["edge"].tolist() == ["a → c", "a – b", "c → a"]
    assert strongest_edges(edges, top=1)["edge"].tolist() == ["a → c"]
    shown = text(estimate_tables(edges, None, title="my data")[0], 80)
    assert re.search(r"m\s+│\s+2\s+│ a → c 0.90, a – b 0.50, c → a 0.10", shown)


def test_likeliest_targets_are_listed_by_environment():
    targets = targets_frame(["m"], truth=False)
    likely = likeliest_targets(targets, top=2)
    assert (likely.groupby("environment").size() == 2).all()
    for environment, chosen in likely.groupby("environment"):
        everything = targets.loc[targets["environment"] == environment, "probability"].nlargest(2)
        assert chosen["probability"].tolist() == everything.tolist()
    only_a_set = targets.assign(probability=np.nan)
    assert likeliest_targets(only_a_set)["called"].all()
    assert len(likeliest_targets(only_a_set)) == targets["called"].sum()
    tables = estimate_tables(edges_frame(["m"], truth=False), targets, title="my data")
    assert len(tables) == 2
    assert "likeliest targets" in text(tables[1], 100)
    assert re.search(r"condition 3\b", text(tables[1], 100))


def test_a_frame_without_its_columns_is_refused():
    with pytest.raises(InputError, match="in_point_graph missing"):
        strongest_edges(edges_frame().drop(columns="in_point_graph"))
