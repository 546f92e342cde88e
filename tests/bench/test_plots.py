"""Plots: the artists of each figure show the numbers that they claim to show."""

from __future__ import annotations

import math
import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from frames import edges_frame, reliability_frame, row, rows_frame, table
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.differences import compared_metrics
from bench.errors import InputError
from bench.plots import (
    SCORE_METRICS,
    NothingToPlot,
    caption_of,
    expected_calibration_error,
    few_shot_sizes,
    method_order,
    method_styles,
    plot_differences,
    plot_edges,
    plot_few_shot,
    plot_reliability,
    plot_run_time,
    plot_scores,
    save,
    title_of,
    write_plots,
)
from bench.plots.files import _plan
from bench.statistics import compare, differences_to
from bench.tables import leaderboard

SHD = "shd_interventional"
METHODS = ("empty", "marginal", "ut_igsp[alpha=0.001,bootstrap=20]", "gies")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return rows_frame(METHODS, failures={"marginal": 0.3}, sizes=(3, 10, 30))


def panels(figure: Figure) -> dict[str, Axes]:
    """Axes by the dataset or method that their title names."""
    return {axes.get_title().split(" (n =")[0].split("\n")[0]: axes for axes in figure.axes if axes.get_title()}


def bars(axes: Axes) -> dict[str, ErrorbarContainer]:
    return {c.get_label(): c for c in axes.containers if isinstance(c, ErrorbarContainer)}


def ends(container: ErrorbarContainer, axis: int) -> np.ndarray:
    """Coordinates of the two ends of each error bar, along x (0) or y (1), float (points, 2)."""
    lines = [c for c in container.lines[2] if np.ptp([s[:, axis] for s in c.get_segments()]) > 0]
    return np.array([segment[:, axis] for segment in lines[-1].get_segments()])


def points(axes: Axes) -> list[PathCollection]:
    """The scattered points, a collection per method."""
    return [c for c in axes.collections if isinstance(c, PathCollection)]


# --- styles and order -------------------------------------------------------------------------------------------------


def test_a_method_looks_the_same_whatever_the_order_and_ninety_look_different():
    names = [f"m{i}" for i in range(90)]
    styles = method_styles(names)
    assert styles == method_styles(reversed(names))
    assert len({(s.colour, s.marker) for s in styles.values()}) == 90


def test_ten_methods_differ_in_colour_and_further_ones_of_a_colour_in_marker_and_line():
    styles = list(method_styles(f"m{i:02d}" for i in range(20)).values())
    assert len({s.colour for s in styles[:10]}) == 10
    for one, other in zip(styles[:10], styles[10:], strict=True):
        assert one.colour == other.colour
        assert one.marker != other.marker
        assert one.line != other.line


def test_a_method_has_one_colour_in_all_plots(rows):
    look = {"track": "unknown", "order": method_order(rows), "styles": method_styles(rows["method"])}
    figures = [
        plot_scores(rows, SHD, **look),
        plot_few_shot(rows, "target_average_precision", **look),
        plot_run_time(rows, SHD, **look),
    ]
    for figure in figures:
        for method, container in bars(panels(figure)["er"]).items():
            assert matplotlib.colors.to_rgb(container.lines[0].get_color()) == look["styles"][method].colour


def test_the_order_is_that_of_the_ranking_and_the_same_in_every_panel(rows):
    order = method_order(rows)
    assert order == compare(rows, [SHD], sort_by=SHD).order
    figure = plot_scores(rows, "target_f1", track="unknown", order=order)
    first, second = panels(figure).values()
    assert [t.get_text().replace("\n", "") for t in first.get_yticklabels()] == [m for m in order if m != "empty"]
    assert first.get_ylim() == second.get_ylim() == (len(order) - 1.5, -0.5)
    order.remove("empty")  # it estimates no targets
    for axes in (first, second):
        heights = {method: container.lines[0].get_ydata()[0] for method, container in bars(axes).items()}
        assert heights == {method: order.index(method) for method in heights}


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_show_each_problem_the_mean_and_its_interval(rows):
    figure = plot_scores(rows, SHD, track="unknown")
    for dataset, axes in panels(figure).items():
        of_dataset = rows[rows["dataset"] == dataset]
        summary = compare(of_dataset, [SHD], sort_by=SHD)
        for method, container in bars(axes).items():
            entry = summary.entry(method, SHD)
            assert container.lines[0].get_xdata()[0] == pytest.approx(entry["mean"])
            assert ends(container, 0)[0] == pytest.approx([entry["low"], entry["high"]])
        drawn = np.sort(np.concatenate([c.get_offsets()[:, 0] for c in points(axes)]))
        np.testing.assert_allclose(drawn, np.sort(of_dataset[SHD].dropna()))


def test_scores_name_metric_track_unit_and_n(rows):
    figure = plot_scores(rows, SHD, track="unknown")
    assert title_of(figure) == "SHD between I-essential graphs (pairs) by method · targets unknown"
    assert "95 % bootstrap intervals over problems" in caption_of(figure)
    axes = panels(figure)["er"]
    assert axes.get_title() == "er (n = 10 problems)"
    assert "(pairs) ↓" in axes.get_xlabel().replace("\n", " ")
    five = plot_scores(pd.concat([table({"a": [1.0]}, dataset=f"d{i}") for i in range(5)]), SHD, track="unknown")
    assert [bool(axes.get_xlabel()) for axes in five.axes] == [False, False, True, True, True]  # at the foot of a column


def test_failures_and_undefined_scores_are_counted_in_words(rows):
    rows = rows.copy()
    rows.loc[rows.index[(rows["dataset"] == "er") & (rows["method"] == "gies")][0], "target_f1"] = np.nan
    figure = plot_scores(rows, "target_f1", track="unknown")
    axes = panels(figure)["er"]
    said = {t.get_text(): t.xy[1] for t in axes.texts}
    labels = [t.get_text().replace("\n", "") for t in axes.get_yticklabels()]
    failed = int((rows[(rows["dataset"] == "er") & (rows["method"] == "marginal")]["status"] == "timeout").sum())
    assert failed > 0
    assert labels[int(said[f"{failed} failed"])] == "marginal"
    assert labels[int(said["1 undef."])] == "gies"
    assert "empty" not in labels
    assert "No value: empty." in caption_of(figure)


def test_methods_that_were_told_the_targets_carry_a_dagger(rows):
    rows = rows.assign(targets_given=rows["method"] == "gies")
    for figure in (plot_scores(rows, SHD, track="unknown"), plot_run_time(rows, SHD, track="unknown")):
        texts = [t for axes in figure.axes[:1] for t in axes.get_yticklabels()]
        texts += [t for legend in figure.legends for t in legend.get_texts()]
        assert [t.get_text() for t in texts if "†" in t.get_text()] == ["gies †"]
        assert "†: was told the targets." in caption_of(figure)
    assert "†" not in caption_of(plot_scores(rows.assign(targets_given=False), SHD, track="unknown"))


def test_bounded_scores_show_their_whole_range_and_distances_start_at_zero(rows):
    for axes in panels(plot_scores(rows, "target_f1", track="unknown")).values():
        assert axes.get_xlim()[0] <= 0 < 1 <= axes.get_xlim()[1]
    for axes in panels(plot_scores(rows, SHD, track="unknown")).values():
        assert axes.get_xlim()[0] <= 0


def test_a_method_with_one_problem_has_a_point_and_no_bar():
    axes = panels(plot_scores(table({"a": [3.0]}), SHD, track="unknown"))["er"]
    (container,) = bars(axes).values()
    assert container.lines[0].get_xdata() == [3.0]
    assert all(np.ptp(c.get_segments()[0][:, 0]) == 0 for c in container.lines[2])


def test_points_do_not_depend_on_row_order_or_on_global_random_state(rows):
    def places(frame: pd.DataFrame) -> list:
        figure = plot_scores(frame, SHD, track="unknown")
        return [c.get_offsets().tolist() for axes in figure.axes for c in points(axes)]

    reference = places(rows)
    np.random.seed(3)  # noqa: NPY002  (the point of the test)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert places(rows.sample(frac=1, random_state=1)) == reference
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


# --- few-shot ---------------------------------------------------------------------------------------------------------


def test_few_shot_curves_show_the_means_against_log_samples(rows):
    metric = "target_average_precision"
    assert few_shot_sizes(rows, metric) == [3, 10, 30]
    figure = plot_few_shot(rows, metric, track="unknown")
    axes = panels(figure)["sf"]
    assert axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["3", "10", "30"]
    columns = [f"few_shot_{metric}_n{n}" for n in (3, 10, 30)]
    of_dataset = rows[rows["dataset"] == "sf"]
    summary = compare(of_dataset, columns, sort_by=columns[0])
    for method, container in bars(axes).items():
        means = of_dataset[of_dataset["method"] == method][columns].mean()
        np.testing.assert_allclose(container.lines[0].get_ydata().astype(float), means)
        # Moved aside by 8 % at most, so that the bars of one size stay together and apart from the next.
        np.testing.assert_allclose(container.lines[0].get_xdata(), [3, 10, 30], rtol=0.081)
        expected = [[summary.entry(method, c)["low"], summary.entry(method, c)["high"]] for c in columns]
        np.testing.assert_allclose(ends(container, 1), expected)
    assert set(bars(axes)) == set(METHODS)


def test_few_shot_average_precision_has_the_prevalence_as_its_chance_line_and_auroc_one_half(rows):
    rows = rows.assign(few_shot_target_prevalence_n3=0.2)
    for metric, expected in (("target_average_precision", [0.2, 0.1, 0.1]), ("target_auroc", [0.5, 0.5, 0.5])):
        axes = panels(plot_few_shot(rows, metric, track="unknown"))["er"]
        (chance,) = [line for line in axes.lines if line.get_gid() == "chance"]
        assert list(chance.get_ydata()) == pytest.approx(expected)
        assert chance.get_linestyle() == "--"
    axes = panels(plot_few_shot(rows, "target_f1", track="unknown"))["er"]
    assert not [line for line in axes.lines if line.get_gid() == "chance"]


def test_few_shot_legend_names_every_method_in_order(rows):
    order = method_order(rows)
    figure = plot_few_shot(rows, "target_auroc", track="unknown", order=order)
    (legend,) = figure.legends
    assert [t.get_text().replace("\n", "") for t in legend.get_texts()] == [*order, "chance"]


def test_few_shot_curves_with_the_graph_told_are_curves_of_their_own():
    rows = rows_frame(("gies", "ut_igsp"), ("er",), tracks=("unknown", "graph"), repetitions=4, sizes=(3, 10))
    rows["graph_given"] = (rows["track"] == "graph") & (rows["method"] == "gies")
    rows.loc[rows["track"] == "graph", "status"] = np.where(rows.loc[rows["track"] == "graph", "graph_given"], "ok", "skipped")
    columns = [f"few_shot_target_f1_n{n}" for n in (3, 10)]
    figure = plot_few_shot(rows, "target_f1", track="unknown", order=["ut_igsp", "gies"])
    curves = bars(panels(figure)["er"])
    assert list(curves) == ["ut_igsp", "gies", "gies, true graph told"]
    for method, track in (("gies", "unknown"), ("gies, true graph told", "graph")):
        of_track = rows[(rows["track"] == track) & (rows["method"] == "gies")]
        np.testing.assert_allclose(curves[method].lines[0].get_ydata().astype(float), of_track[columns].mean())
    learned, told = (curves[m].lines[0] for m in ("gies", "gies, true graph told"))
    assert learned.get_color() == told.get_color()
    assert (told.get_linestyle(), told.get_markerfacecolor()) == (":", "white")
    assert "with the true graph told" in caption_of(figure)
    alone = plot_few_shot(rows[rows["track"] == "graph"], "target_f1", track="graph")
    assert list(bars(panels(alone)["er"])) == ["gies"]
    assert "Dotted" not in caption_of(alone)


def test_without_held_out_environments_there_is_no_curve():
    with pytest.raises(NothingToPlot, match="no held-out environments"):
        plot_few_shot(rows_frame(sizes=(), repetitions=1), "target_f1", track="unknown")


# --- run time ---------------------------------------------------------------------------------------------------------


def test_run_time_shows_mean_time_and_score_on_a_log_axis(rows):
    axes = panels(plot_run_time(rows, SHD, track="unknown"))["er"]
    assert axes.get_xscale() == "log"
    for method, container in bars(axes).items():
        chosen = rows[(rows["dataset"] == "er") & (rows["method"] == method) & (rows["status"] == "ok")]
        assert container.lines[0].get_xdata()[0] == pytest.approx(chosen["fit_seconds"].mean())
        assert container.lines[0].get_ydata()[0] == pytest.approx(chosen[SHD].mean())


def test_a_single_problem_stands_inside_its_axes_with_ticks_about_it():
    for metric in (SHD, "target_f1"):
        rows = rows_frame(("a", "only"), ("er",), repetitions=1)
        figure = plot_run_time(rows[rows["method"] == "only"], metric, track="unknown")
        figure.draw_without_rendering()
        (axes,) = figure.axes
        (container,) = bars(axes).values()
        (x,), (y,) = container.lines[0].get_data()
        low, high = axes.get_xlim()
        assert low < x < high
        assert high / low > 9.9  # a decade has a tick in it
        assert axes.get_ylim()[0] < y < axes.get_ylim()[1]


@pytest.mark.parametrize(("metric", "worse_is_up"), [(SHD, True), ("target_f1", False)])
def test_failures_stand_on_a_strip_at_the_worse_edge_timeouts_at_their_limit(metric, worse_is_up):
    rows = rows_frame(("a", "b", "c"), ("er",), repetitions=6)
    rows.loc[rows.index[rows["method"] == "b"][:2], ["status", "time_limit"]] = ["timeout", 50.0]
    rows.loc[rows.index[rows["method"] == "c"][0], ["status", "fit_seconds"]] = ["error", 7.0]
    rows.loc[rows.index[rows["method"] == "c"][1], ["status", "fit_seconds"]] = ["error", np.nan]
    figure = plot_run_time(rows, metric, track="unknown")
    axes = panels(figure)["er"]
    (strip,) = [p for p in axes.patches if p.get_gid() == "failures"]
    (_, low), (_, high) = strip.get_extents().transformed(axes.transData.inverted()).get_points()
    on_strip = [
        xy for c in axes.collections if hasattr(c, "get_offsets") for xy in np.asarray(c.get_offsets()) if low <= xy[1] <= high
    ]
    assert sorted(x for x, _ in on_strip) == pytest.approx([7.0, 50.0, 50.0])
    scores = rows.loc[rows["status"] == "ok", metric].dropna()
    assert (low >= scores.max()) if worse_is_up else (high <= scores.min())
    assert [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "limit"] == [50.0]
    assert "not drawn: c (1)" in caption_of(figure)
    assert {"timeout", "other failure"} <= {t.get_text() for t in figure.legends[0].get_texts()}


def front(axes: Axes) -> list[tuple[float, float]]:
    """Corners of the Pareto front, without the end at the edge of the panel."""
    (line,) = [line for line in axes.lines if line.get_gid() == "front"]
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xdata()[-1] == axes.get_xlim()[1]
    return list(zip(line.get_xdata(), line.get_ydata(), strict=True))[:-1]


@pytest.mark.parametrize(("metric", "worse_is"), [(SHD, 1.0), ("target_f1", -0.1)])
def test_the_front_goes_through_the_methods_that_none_beats_in_both(metric, worse_is):
    answers = {"fast": (0.1, 9.0), "slow": (1.0, 4.0), "beaten": (2.0, 5.0), "slowest": (10.0, 1.0)}
    rows = pd.concat(
        [table({m: [1 + worse_is * score] * 2}, metric, fit_seconds=seconds) for m, (seconds, score) in answers.items()]
    )
    axes = panels(plot_run_time(rows, metric, track="unknown"))["er"]
    expected = [(answers[m][0], 1 + worse_is * answers[m][1]) for m in ("fast", "slow", "slowest")]
    np.testing.assert_allclose(front(axes), expected)


def test_a_method_that_failed_is_not_on_the_front():
    rows = pd.concat(
        [table({"whole": [5.0, 9.0]}, fit_seconds=1.0), table({"easy": [1.0, "error"]}, fit_seconds=0.1)], ignore_index=True
    )
    np.testing.assert_allclose(front(panels(plot_run_time(rows, SHD, track="unknown"))["er"]), [(1.0, 7.0)])


def test_answers_that_were_cut_short_are_hollow_and_the_legend_and_the_caption_say_so():
    rows = table({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]}, fit_seconds=1.0)
    whole = plot_run_time(rows, SHD, track="unknown")
    rows.loc[(rows["method"] == "a") & (rows["repetition"] > 0), "cut_short"] = True
    some = plot_run_time(rows, SHD, track="unknown")
    marked = {figure: [c for c in points(figure.axes[0]) if c.get_gid() == "cut short"] for figure in (whole, some)}
    assert not marked[whole]
    (hollow,) = marked[some]
    assert hollow.get_offsets()[:, 1].tolist() == [2.0, 3.0]
    assert not len(hollow.get_facecolors())
    for figure, said in ((whole, False), (some, True)):
        assert ("cut short" in caption_of(figure)) == said
        assert ("answer cut short" in [t.get_text() for t in figure.legends[0].get_texts()]) == said


def test_methods_without_a_score_are_named_in_the_caption_and_not_in_the_legend():
    figure = plot_run_time(rows_frame(("empty", "b"), ("er",), repetitions=3), "target_f1", track="unknown")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["b", "Pareto front"]
    assert "No value: empty." in caption_of(figure)


def test_without_failures_there_is_no_strip():
    figure = plot_run_time(rows_frame(("a", "b"), ("er",), repetitions=3), SHD, track="unknown")
    assert not [p for p in figure.axes[0].patches if p.get_gid() == "failures"]
    assert "strip" not in caption_of(figure)


# --- heat maps --------------------------------------------------------------------------------------------------------


def shown_matrix(axes: Axes) -> np.ma.MaskedArray:
    return axes.images[0].get_array()


def test_heat_maps_show_the_probabilities_and_frame_the_true_edges():
    edges = edges_frame(("empty", "gies"), n_variables=7)
    figure = plot_edges(edges, track="unknown")
    panel = panels(figure)
    assert list(panel) == ["truth", "empty", "gies"]
    names = [t.get_text() for t in panel["truth"].get_yticklabels()]
    for method in ("empty", "gies"):
        values = edges[edges["method"] == method].set_index(["source", "target"])
        shown, framed = shown_matrix(panel[method]), set()
        for patch in panel[method].patches:
            assert isinstance(patch, Rectangle)
            framed.add((names[int(patch.get_y())], names[int(patch.get_x())]))
        for i, source in enumerate(names):
            for j, target in enumerate(names):
                if i == j:
                    assert shown.mask[i, j]
                else:
                    assert shown[i, j] == values.loc[(source, target), "probability"]
        assert framed == set(values.index[values["truth"] == 1])
    assert f"{len(framed)} true edges" in caption_of(figure)


def test_variables_stand_in_a_causal_order_so_true_edges_lie_above_the_diagonal():
    for seed in range(5):
        figure = plot_edges(edges_frame(("gies",), n_variables=8, seed=seed), track="unknown")
        truth = shown_matrix(panels(figure)["truth"]).filled(0)
        assert truth.any()
        assert not np.tril(truth).any()


def test_a_cyclic_reference_graph_keeps_the_natural_order_of_names():
    edges = edges_frame(("gies",), n_variables=11)
    back = {("X2", "X10"), ("X10", "X2")}
    edges["truth"] = [float((s, t) in back) for s, t in zip(edges["source"], edges["target"], strict=True)]
    figure = plot_edges(edges, track="unknown")
    names = [t.get_text() for t in panels(figure)["truth"].get_yticklabels()]
    assert names == [f"X{i}" for i in range(11)]
    assert "causal order" not in caption_of(figure)


def test_unknown_pairs_are_grey_in_the_truth_and_counted():
    edges = edges_frame(("gies",), n_variables=5)
    edges.loc[edges["source"].isin(["X0", "X1"]) & edges["target"].isin(["X0", "X1"]), "truth"] = np.nan
    figure = plot_edges(edges, track="unknown")
    assert shown_matrix(panels(figure)["truth"]).mask.sum() == 5 + 2
    assert "Grey in the truth: 2 ordered pairs" in caption_of(figure)


def test_without_truth_there_is_no_truth_panel():
    figure = plot_edges(edges_frame(("gies",), truth=False), track="unknown")
    assert list(panels(figure)) == ["gies"]
    assert title_of(figure).startswith("Edge probabilities · er")


def test_too_many_methods_are_cut_and_the_caption_says_which():
    methods = [f"m{i}" for i in range(5)]
    figure = plot_edges(edges_frame(methods, n_variables=4), track="unknown", max_methods=3, order=methods)
    assert list(panels(figure)) == ["truth", "m0", "m1", "m2"]
    assert "Not shown, for want of room: m3, m4." in caption_of(figure)


def test_edges_of_several_problems_are_refused():
    with pytest.raises(InputError, match="one problem"):
        plot_edges(pd.concat([edges_frame(), edges_frame(problem="er-1")]), track="unknown")


# --- reliability ------------------------------------------------------------------------------------------------------


def test_calibration_error_by_hand_counts_central_probabilities_only():
    bins = pd.DataFrame(
        {
            "bin": [0, 2, 2, 7],
            "central": [False, True, True, True],
            "count": [1000, 10, 10, 20],
            "sum_probability": [10.0, 2.5, 2.5, 15.0],
            "sum_truth": [500.0, 4.0, 3.0, 10.0],
        }
    )
    # Bin 2 pools two problems: |7 - 5| = 2; bin 7: |10 - 15| = 5; over 40 probabilities.
    assert expected_calibration_error(bins) == (pytest.approx(7 / 40), 40)
    error, n = expected_calibration_error(bins.assign(central=False))
    assert math.isnan(error)
    assert n == 0


def test_reliability_shows_pooled_shares_and_counts():
    frame = reliability_frame(("bayes", "over"), problems=4)
    figure = plot_reliability(frame, "edge", track="unknown")
    panel = panels(figure)
    for method in ("bayes", "over"):
        chosen = frame[frame["method"] == method]
        pooled = chosen.groupby(["central", "bin"])[["count", "sum_probability", "sum_truth"]].sum()
        for central, gid in ((True, "central"), (False, "outside")):
            (line,) = [line for line in panel[method].lines if line.get_gid() == gid]
            part = pooled.loc[central]
            np.testing.assert_allclose(line.get_xdata(), part["sum_probability"] / part["count"])
            np.testing.assert_allclose(line.get_ydata(), part["sum_truth"] / part["count"])
        error, n = expected_calibration_error(chosen)
        assert panel[method].get_title() == f"{method}\nECE {error:.3f}, n = {n:,}"
    heights = [patch.get_height() for axes in figure.axes if axes.get_yscale() == "log" for patch in axes.patches]
    assert sum(heights) == frame["count"].sum()
    assert "n = 4 problems" in caption_of(figure)


def test_a_calibrated_method_lies_nearer_the_diagonal_than_an_overconfident_one():
    frame = reliability_frame(("bayes", "over"), problems=20)
    errors = {m: expected_calibration_error(frame[frame["method"] == m])[0] for m in ("bayes", "over")}
    # About 5,500 probabilities in 10 bins: the error of a calibrated method is near √(.2/550) ≈ .02.
    assert errors["bayes"] < 0.04 < errors["over"]


def test_no_probabilities_is_nothing_to_plot():
    with pytest.raises(NothingToPlot, match="no method gives target probabilities"):
        plot_reliability(reliability_frame(), "target", track="unknown")


# --- legibility and state ---------------------------------------------------------------------------------------------


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts of a figure that overlap, and texts that leave the canvas."""
    figure.draw_without_rendering()
    texts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    ticks = []
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis, shown in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            major = [t for t in axis.get_major_ticks() if min(shown) <= t.get_loc() <= max(shown)]
            ticks += [t.label1 for t in major if t.label1.get_visible()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in [*texts, *ticks] if t.get_text() and t.get_visible()]
    canvas = figure.bbox.padded(1)
    found = [
        (a, "canvas")
        for a, box in boxes
        if not (canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1)
    ]
    for i, (a, one) in enumerate(boxes):
        found += [(a, b) for b, other in boxes[i + 1 :] if one.padded(-1).overlaps(other.padded(-1))]
    return found


@pytest.mark.parametrize("case", ["one", "ten", "many"])
def test_no_text_overlaps_another_or_leaves_the_canvas(case):
    if case == "one":
        frame, edges = rows_frame(("only",), ("one",), repetitions=1, sizes=(10,)), edges_frame(("only",))
    elif case == "ten":
        methods = [f"method_{i}" for i in range(10)]
        frame = rows_frame(methods, [f"dataset {i}" for i in range(5)], repetitions=2)
        edges = edges_frame(methods, n_variables=11)
        edges[["source", "target"]] = edges[["source", "target"]].replace({"X1": "PIP2", "X2": "PLCg"})
    else:
        methods = [f"method_{i:02d}[alpha=0.001,bootstrap=20,conditional_independence=pooled]" for i in range(20)]
        datasets = [f"dataset_{i}[n_variables=20,edges_per_node=2]" for i in range(2)]
        frame = rows_frame(methods, datasets, repetitions=2, failures=dict.fromkeys(methods, 0.3))
        edges = edges_frame(methods, n_variables=10)
        edges[["source", "target"]] = edges[["source", "target"]] + "_with_a_long_name"
    figures = [
        plot_scores(frame, SHD, track="unknown"),
        plot_few_shot(frame, "target_average_precision", track="unknown"),
        plot_run_time(frame, SHD, track="unknown"),
        plot_edges(edges, track="unknown"),
        plot_reliability(reliability_frame(sorted(set(frame["method"]))[:6], problems=2), "edge", track="unknown"),
    ]
    for figure in figures:
        assert overlaps(figure) == []


def test_a_long_name_over_few_methods_leaves_room_for_the_axes(tmp_path):
    name = "table[environment_column=batch,observational=control,path=measurements/mine.csv,truth=edges.yaml]"
    save(plot_scores(rows_frame(("only",), (name,), repetitions=1), SHD, track="unknown"), tmp_path, "scores")  # no warning


def test_neither_pyplot_figures_nor_settings_are_left_behind(rows, tmp_path):
    before = dict(matplotlib.rcParams)
    save(plot_scores(rows, SHD, track="unknown"), tmp_path, "scores")
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []


def test_files_are_the_same_for_the_same_frame_and_carry_no_date(tmp_path):
    for name in ("a", "b"):
        save(plot_edges(edges_frame(), track="unknown"), tmp_path / name, "edges")
    for suffix in ("png", "svg"):
        assert (tmp_path / "a" / f"edges.{suffix}").read_bytes() == (tmp_path / "b" / f"edges.{suffix}").read_bytes()
    assert not re.search(r"<dc:date>", (tmp_path / "a" / "edges.svg").read_text())


# --- all plots of a run -----------------------------------------------------------------------------------------------


def test_what_cannot_be_drawn_is_left_out_and_said(tmp_path):
    rows = pd.DataFrame([row(m, f"p{i}", shd_interventional=float(i), target_f1=np.nan) for m in ("a", "b") for i in range(3)])
    rows["fit_seconds"] = np.nan
    plots = write_plots(rows, tmp_path)
    assert sorted(p.name for p in plots.written) == [f"scores-unknown-{SHD}.png", f"scores-unknown-{SHD}.svg"]
    assert "scores-unknown-target_f1: target F1 has no value on any problem" in plots.left_out
    assert f"run-time-unknown-{SHD}: fit time (s) has no value on any problem" in plots.left_out


def test_heat_maps_show_the_first_repetition_of_each_dataset(tmp_path):
    rows = pd.DataFrame([row("gies", "er-0", shd_interventional=1.0)])
    later = edges_frame(("gies",), problem="er-1", repetition=1, seed=1)
    alone = write_plots(rows, tmp_path / "alone", edges=edges_frame(("gies",))).written
    both = write_plots(rows, tmp_path / "both", edges=pd.concat([later, edges_frame(("gies",))])).written
    names = [p.name for p in both if p.name.startswith("edges")]
    assert names == ["edges-unknown-er.png", "edges-unknown-er.svg"]
    for one, other in zip(alone, both, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_further_track_shows_only_what_the_methods_that_were_told_the_targets_add(tmp_path):
    rows = pd.DataFrame(
        [
            row(m, f"p{i}", track=track, shd_interventional=1.0, target_f1=0.5 if m == "free" else np.nan, fit_seconds=1.0)
            for track in ("unknown", "oracle")
            for m in ("free", "told")
            for i in range(2)
        ]
    )
    frames = {
        "edges": pd.concat([edges_frame(("told",), track=track, n_variables=3) for track in ("unknown", "oracle")]),
        "reliability": pd.concat([reliability_frame(("told",)).assign(track=track) for track in ("unknown", "oracle")]),
    }
    nobody = {p.stem for p in write_plots(rows, tmp_path, **frames).written}
    of_first = {f"scores-unknown-{SHD}", "scores-unknown-target_f1", f"run-time-unknown-{SHD}"}
    assert nobody == of_first | {"edges-unknown-er", "reliability-unknown-edge"}
    rows["targets_given"] = (rows["track"] == "oracle") & (rows["method"] == "told")
    somebody = {p.stem for p in write_plots(rows, tmp_path, **frames).written}
    assert somebody - nobody == {f"scores-oracle-{SHD}", f"run-time-oracle-{SHD}"}


def test_on_the_graph_track_no_score_of_the_graph_is_drawn(tmp_path):
    scores = {SHD: 1.0, "target_f1": 0.5, "fit_seconds": 1.0}
    rows = pd.DataFrame(
        [row("a", f"p{i}", track=t, graph_given=t == "graph", **scores) for t in ("unknown", "graph") for i in "01"]
    )
    frames = {"edges": edges_frame(("a",), track="graph", n_variables=3)}
    assert {p.stem for p in write_plots(rows, tmp_path, **frames).written} == {
        *(f"scores-unknown-{metric}" for metric in (SHD, "target_f1")),
        f"run-time-unknown-{SHD}",
        "scores-graph-target_f1",
    }
    alone = write_plots(rows[rows["track"] == "graph"], tmp_path, **frames).written
    assert {p.stem for p in alone} == {"scores-graph-target_f1"}


def test_a_run_of_the_oracle_track_alone_has_its_plots(tmp_path):
    rows = table({"a": [1.0, 2.0]}, track="oracle")
    assert [p.name for p in write_plots(rows, tmp_path).written] == [f"scores-oracle-{SHD}.png", f"scores-oracle-{SHD}.svg"]


def test_datasets_without_a_score_have_no_panel():
    rows = pd.concat([table({"a": [1.0, 2.0]}), table({"a": [np.nan]}, dataset="own")])
    assert list(panels(plot_scores(rows, SHD, track="unknown"))) == ["er"]


# --- differences ------------------------------------------------------------------------------------------------------


def test_the_forest_shows_the_differences_of_the_table_filled_where_it_has_a_star():
    rows = rows_frame(METHODS, repetitions=8).assign(base="marginal")
    figure = plot_differences(rows, "marginal", track="unknown", order=["gies"])
    found = differences_to(rows, "marginal", compared_metrics(rows, "unknown")).set_index(["method", "metric"])
    heads = {"SHD ↓": "shd", "edge AP ↑": "edge_average_precision", "fit time (s) ↓": "fit_seconds"}
    axes_by_head = {axes.get_title(): axes for axes in figure.axes}
    for head, metric in heads.items():
        artists = {line.get_gid(): line for line in axes_by_head[head].lines if line.get_gid()}
        for method in set(METHODS) - {"marginal"}:
            entry = found.loc[(method, metric)]
            assert artists[f"point {method}"].get_xdata()[0] == pytest.approx(entry["effect"])
            assert list(artists[f"interval {method}"].get_xdata()) == pytest.approx([entry["low"], entry["high"]])
            assert (artists[f"point {method}"].get_markerfacecolor() != "white") == (entry["p_holm"] <= 0.05)
    assert figure.axes[0].get_yticklabels()[0].get_text() == "gies"
    assert "16 problems" in title_of(figure)


def test_only_a_run_with_a_base_has_a_forest(tmp_path):
    rows = rows_frame(METHODS[:2], ["er"], repetitions=2, sizes=())
    for base, expected in (("", False), ("marginal", True)):
        names = {p.name for p in write_plots(rows.assign(base=base), tmp_path / f"plots{base}").written}
        assert ("differences-unknown.png" in names) == expected
    with pytest.raises(NothingToPlot, match="no method ran beside the base"):
        plot_differences(rows[rows["method"] == "empty"], "empty", track="unknown")


def test_panels_are_families_where_all_datasets_have_one(tmp_path):
    rows = rows_frame(("empty", "ut_igsp"), ("er", "sf", "sachs"), repetitions=2, sizes=())
    rows = rows.drop(columns=[metric for metric in SCORE_METRICS if metric != SHD])
    families = rows.assign(family=rows["dataset"].map({"er": "made", "sf": "made", "sachs": "proteins"}))
    svg = {}
    for name, frame in (
        ("datasets", rows),
        ("families", families),
        ("some", families.assign(family=families["family"].str[:0])),
    ):
        write_plots(frame, tmp_path / name)
        svg[name] = (tmp_path / name / "scores-unknown-shd_interventional.svg").read_bytes()
    assert svg["some"] == svg["datasets"]
    # Texts are drawn as paths; what each path says stands in a comment before it.
    assert b"<!-- made (n = 4 problems) -->" in svg["families"].replace(b"\n", b" ")
    assert b"sf" not in b"".join(line for line in svg["families"].splitlines() if line.strip().startswith(b"<!--"))


def test_intervals_by_family_are_those_of_the_table_of_the_family():
    """Datasets differ a lot, so that intervals which forget that they are strata would be far wider."""
    rows = rows_frame(("empty", "ut_igsp"), ("er", "sf", "sachs"), repetitions=4, sizes=(3, 10))
    rows["family"] = rows["dataset"].map({"er": "made", "sf": "made", "sachs": "proteins"})
    rows.loc[rows["dataset"] == "sf", [SHD, "fit_seconds"]] *= 5
    rows.loc[rows["dataset"] == "sf", "few_shot_target_f1_n3"] /= 5
    figures = dict(_plan(rows, None, None, SHD))
    drawn = {  # plot: metric and axis of the interval, and which point of a curve it is
        f"scores-unknown-{SHD}": (SHD, 0),
        f"run-time-unknown-{SHD}": (SHD, 1),
        "few-shot-unknown-target_f1": ("few_shot_target_f1_n3", 1),
    }
    for family in ("made", "proteins"):
        for stem, (metric, axis) in drawn.items():
            table_of_family = leaderboard(rows, track="unknown", family=family, metrics=[metric], sort_by=metric).comparison
            containers = bars(panels(figures[stem]())[family])
            assert len(containers) == 2
            for method, container in containers.items():
                entry = table_of_family.entry(method, metric)
                assert ends(container, axis)[0] == pytest.approx([entry["low"], entry["high"]])
