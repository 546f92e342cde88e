"""Curves over the strength of a factor: tables, the plot, and what is paired."""

import numpy as np
import pandas as pd
import pytest
from frames import row, rows_frame
from matplotlib.container import ErrorbarContainer

from bench.curves import curve_board, curve_boards, curve_numbers
from bench.plots import NothingToPlot, plot_curves, title_of, write_plots
from bench.table_files import to_csv

REPETITIONS = 8
LOSS = {"robust": 0.0, "fragile": 10.0, "steady": 5.0}
"""SHD per unit of strength, beside a hardness that all points of a repetition share."""


def curve_rows(curve="hidden cause", factor="confounding", values=(0.0, 0.5, 1.0), track="unknown", **columns):
    rng = np.random.default_rng(0)
    hardness = rng.normal(0, 30, REPETITIONS).round()
    return pd.DataFrame(
        [
            row(
                method,
                f"{curve}{value}#{r}",
                dataset=f"{curve}, {factor}={value:g}",
                track=track,
                repetition=r,
                curve=curve,
                factor=factor,
                factor_value=value,
                base="robust",
                shd=100 + hardness[r] + loss * value + rng.normal(0, 0.1),
                target_average_precision=1 - 0.05 * loss * value if method != "steady" else np.nan,
                **columns,
            )
            for value in values
            for r in range(REPETITIONS)
            for method, loss in LOSS.items()
        ]
    )


def test_changes_are_paired_by_repetition_and_beyond_those_of_the_base():
    """Repetitions differ by 30, changes by .2: only pairing has intervals below 1."""
    numbers = curve_numbers(curve_rows(), "shd", "robust").set_index(["method", "quantity"])
    for method, loss in LOSS.items():
        change = numbers.loc[(method, "change")]
        assert change["mean"] == pytest.approx(loss, abs=0.2)
        assert change["low"] <= change["mean"] <= change["high"] < change["low"] + 1
        assert numbers.loc[(method, "at 0")]["high"] - numbers.loc[(method, "at 0")]["low"] > 10
        assert change["n"] == REPETITIONS
    beyond = "change beyond that of robust"
    assert numbers.loc[("fragile", beyond)]["mean"] == pytest.approx(10, abs=0.3)
    assert ("robust", beyond) not in numbers.index


def test_means_are_those_of_what_was_answered_and_a_failure_leaves_its_pair_out():
    rows = curve_rows()
    lost = (rows["method"] == "fragile") & (rows["factor_value"] == 1.0) & (rows["repetition"] == 0)
    rows.loc[lost, ["status", "shd"]] = ["timeout", np.nan]
    numbers = curve_numbers(rows, "shd").set_index(["method", "quantity"])
    assert numbers.loc[("fragile", "change")]["n"] == REPETITIONS - 1
    expected = rows[(rows["method"] == "fragile") & (rows["factor_value"] == 1.0)]["shd"].mean()
    assert numbers.loc[("fragile", "at 1")]["mean"] == pytest.approx(expected)


def test_a_board_has_a_column_per_strength_and_marks_clear_changes():
    board = curve_board(curve_rows(), "hidden cause", "shd", track="unknown", order=["steady", "robust"], base="robust")
    heads = [column.head for column in board.columns()]
    assert heads == ["method", "0", "0.5", "1", "change", "change beyond that of robust"]
    assert [cell.text for cell in board.columns()[0].cells] == ["steady", "robust", "fragile"]
    assert [cell.mark for cell in board.columns()[5].cells] == ["*", "", "*"]
    assert "8 repetitions" in board.title
    assert "hidden cause" in board.title
    assert to_csv(board).startswith("track,dataset,method,metric,quantity,mean,low,high,n,n_differing,p,p_holm\n")


def test_so_few_repetitions_that_no_test_could_reject_get_no_star():
    """Of three, one in four without any change would leave zero in its interval out."""
    rows = curve_rows()
    board = curve_board(rows[rows["repetition"] < 3], "hidden cause", "shd", track="unknown", base="robust")
    assert {cell.mark for column in board.columns()[4:] for cell in column.cells} == {""}
    assert "No test:" in " ".join(board.notes)


def test_each_curve_of_each_track_has_its_tables_and_who_was_told_is_marked():
    rows = pd.concat(
        [
            curve_rows(),
            curve_rows("drift", "drift"),
            curve_rows(track="oracle").assign(targets_given=lambda f: f["method"] == "fragile"),
        ],
        ignore_index=True,
    )
    boards = list(curve_boards(rows, base="robust"))
    assert [(b.scope["track"], b.scope["dataset"]) for b in boards] == [
        *[("unknown", "drift")] * 2,
        *[("unknown", "hidden cause")] * 2,
        *[("oracle", "hidden cause")] * 2,
    ]
    silent = rows.assign(targets_given=(rows["track"] == "oracle") & (rows["method"] == "steady"))
    assert [b.name for b in curve_boards(silent) if b.scope["track"] == "oracle"] == ["curve-oracle-hidden-cause-shd"]
    marks = {cell.text: cell.mark for cell in boards[-1].columns()[0].cells}
    assert marks == {"fragile": " †", "robust": ""}
    assert len({b.name for b in boards}) == 6


def test_a_run_without_curves_has_no_table_and_no_plot_of_them(tmp_path):
    rows = rows_frame(("empty",), ("er",), repetitions=2, sizes=())
    assert not list(curve_boards(rows))
    assert not list(curve_boards(rows.iloc[:0]))
    with pytest.raises(NothingToPlot, match="no dataset of the suite is a point of a curve"):
        plot_curves(rows, "shd", track="unknown")


def test_the_plot_shows_the_means_against_the_values_in_a_panel_per_curve():
    rows = pd.concat([curve_rows(), curve_rows("drift", "drift", values=(0.0, 2.0))], ignore_index=True)
    figure = plot_curves(rows, "shd", track="unknown")
    assert title_of(figure).startswith("SHD (pairs) against the strength")
    drift, hidden = figure.axes
    assert [a.get_title().split(" (")[0] for a in (drift, hidden)] == ["drift", "hidden cause"]
    assert [a.get_xlabel() for a in (drift, hidden)] == ["drift", "confounding"]
    assert hidden.get_ylim() == drift.get_ylim()
    bars = [c for axes in (drift, hidden) for c in axes.containers if isinstance(c, ErrorbarContainer)]
    top = max(end[:, 1].max() for bar in bars for line in bar.lines[2] for end in line.get_segments())
    assert top < hidden.get_ylim()[1] < 1.15 * top
    drawn = {c.get_label(): c.lines[0] for c in hidden.containers if isinstance(c, ErrorbarContainer)}
    assert set(drawn) == set(LOSS)
    for method, line in drawn.items():
        of_method = rows[(rows["method"] == method) & (rows["curve"] == "hidden cause")]
        assert line.get_ydata() == pytest.approx(of_method.groupby("factor_value")["shd"].mean().to_numpy())
        assert line.get_xdata() == pytest.approx([0, 0.5, 1], abs=0.03)


def test_a_run_with_curves_gets_their_plots(tmp_path):
    rows = curve_rows().drop(columns="target_average_precision")
    names = {p.name for p in write_plots(rows, tmp_path, sort_by="shd").written}
    assert {"curves-unknown-shd.png", "curves-unknown-shd.svg"} <= names
