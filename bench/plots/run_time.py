"""Accuracy against the time of a fit and the front of the best trades, with what failed, and when, on a strip of its own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.columns import FAILURES, info
from bench.labels import was_cut_short
from bench.plots.data import (
    drawn,
    error_lengths,
    labels_of,
    n_problems,
    need_values,
    panels_with_values,
    remarks,
    rows_of_track,
    summaries,
)
from bench.plots.style import (
    GREY,
    INTERVALS,
    NothingToPlot,
    Style,
    add_legend,
    axis_label,
    framed_figure,
    legend_size,
    look,
    method_styles,
    n_columns_of,
    panel_title,
    panels,
    set_limits,
    track_title,
)


def plot_run_time(
    rows: pd.DataFrame, metric: str, *, track: str, order: Sequence[str] = (), styles: Mapping[str, Style] | None = None
) -> Figure:
    """A metric against the time of a fit, a panel per dataset or family; failures on a strip at the worse side.

    A step line is the Pareto front (:func:`pareto_front`) of the means, through methods that answered every problem of the
    panel that any method answered: who fails on the hard ones is not rewarded. Answers that were cut short are hollow. A
    timeout stands at its time limit, another failure at the time it took; failures without a known time are counted in the
    caption only. Parameters as in :func:`plot_scores`.

    Raises
    ------
    NothingToPlot
        If no problem has both a score and a time.
    """
    styles = styles or method_styles(rows["method"])
    rows = rows_of_track(rows, track)
    need_values(rows, [metric])
    rows = rows.assign(seconds=[_seconds(r) for r in rows.to_dict("records")], failed=rows["status"].isin(FAILURES))
    if rows["seconds"].isna().all():
        raise NothingToPlot(f"{info('fit_seconds').label} has no value on any problem")
    has_value = rows[metric].notna() & (rows["status"] == "ok")
    shown, methods = panels_with_values(rows, [metric]), drawn(order, rows[has_value | rows["failed"]])
    n_columns = n_columns_of(len(shown))
    labels = labels_of(rows, methods)
    legend_width, legend_height = legend_size(labels, 4)
    width = 1.2 + 3.4 * n_columns + legend_width
    height = max(3.2 * math.ceil(len(shown) / n_columns), legend_height)
    title = f"{info(metric).label} against run time · {track_title(track)}"
    with look():
        figure = framed_figure(width, height, title, _caption(rows) + remarks(rows, methods))
        for i, (axes, name) in enumerate(zip(panels(figure, len(shown), sharex=True), shown, strict=True)):
            axes.set_xscale("log")
            axes.set_xlim(*_time_range(rows["seconds"]))
            of_panel = rows[rows["panel"] == name]
            _draw_scores(axes, of_panel, metric, methods, styles)
            set_limits(axes, metric, "y")
            _draw_failures(axes, of_panel[of_panel["failed"] & of_panel["seconds"].notna()], metric, methods, styles)
            panel_title(axes, name, n_problems(rows, name), 3.4)
            axes.set_xlabel("fit time (s, log scale)" if i + n_columns >= len(shown) else "")
            axes.tick_params(axis="x", labelbottom=True)
            axes.set_ylabel(axis_label(metric) if i % n_columns == 0 else "")
        add_legend(
            figure, labels, styles, lines=False, more=[_front_line([], []), *_cut_short_mark(rows), *_failure_marks(rows)]
        )
    return figure


def _caption(rows: pd.DataFrame) -> str:
    unplaced = Counter(rows.loc[rows["failed"] & rows["seconds"].isna(), "method"])
    caption = f"Small points: one problem each. Large marker: means of time and score; {INTERVALS}. "
    caption += "Line: Pareto front, methods that none beats in both means, of those that answered all that any did. "
    if was_cut_short(rows).any():
        caption += "Hollow points: cut short, the best so far as the budget ran out. "
    if rows["failed"].any():
        caption += (
            "Grey strip at the worse edge, without a score: × timeout at its limit (dotted line), "
            "+ other failure at the time it took. "
        )
    if unplaced:
        caption += f"Failures of unknown time, not drawn: {', '.join(f'{m} ({k})' for m, k in sorted(unplaced.items()))}. "
    return caption + "The time is that of the fit alone, one thread."


def _cut_short_mark(rows: pd.DataFrame) -> list[Line2D]:
    """Entry of the legend for answers that were cut short, where there are any."""
    look_of: dict[str, Any] = {"color": "0.2", "marker": "o", "markerfacecolor": "none", "linestyle": "none", "markersize": 4}
    return [Line2D([], [], label="answer cut short", **look_of)] if was_cut_short(rows).any() else []


def _failure_marks(rows: pd.DataFrame) -> list[Line2D]:
    """Entries of the legend for the kinds of failure that are drawn."""
    kinds = set(rows.loc[rows["failed"] & rows["seconds"].notna(), "status"])
    seen = {("x", "timeout"): "timeout" in kinds, ("+", "other failure"): bool(kinds - {"timeout"})}
    return [
        Line2D([], [], color="0.2", marker=marker, linestyle="none", markersize=6, label=label)
        for (marker, label), there in seen.items()
        if there
    ]


def _seconds(row: Mapping[Any, Any]) -> float:
    """Time of a cell; a timeout took its limit, whatever was measured."""
    limit, taken = (float(row.get(c, math.nan) or math.nan) for c in ("time_limit", "fit_seconds"))
    if row["status"] == "timeout" and math.isfinite(limit):
        return limit
    return taken if math.isfinite(taken) and taken > 0 else math.nan


def _time_range(seconds: pd.Series[float]) -> tuple[float, float]:
    """Limits about all times, a decade at least: a single time spans no range of its own."""
    low, high = seconds.min(), seconds.max()
    margin = max(1.6, math.sqrt(10 * low / high))
    return low / margin, high * margin


def _draw_scores(axes: Axes, rows: pd.DataFrame, metric: str, methods: Sequence[str], styles: Mapping[str, Style]) -> None:
    summary = summaries(rows, [metric, "fit_seconds"])
    for method in methods:
        if (method, metric) not in summary:
            continue
        style = styles[method]
        points = rows[(rows["method"] == method) & (rows["status"] == "ok")].dropna(subset=[metric, "seconds"])
        cut = was_cut_short(points)
        whole, short = points[~cut], points[cut]
        axes.scatter(whole["seconds"], whole[metric], s=8, color=style.colour, alpha=0.35, linewidths=0, zorder=2)
        if len(short):
            hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": [style.colour], "gid": "cut short"}
            axes.scatter(short["seconds"], short[metric], s=12, linewidths=0.7, zorder=2, **hollow)
        score, time = summary[method, metric], summary[method, "fit_seconds"]
        if score.n and time.n and time.mean > 0:
            axes.errorbar(
                time.mean,
                score.mean,
                xerr=error_lengths([time]),
                yerr=error_lengths([score]),
                color=style.colour,
                marker=style.marker,
                markersize=7,
                markeredgecolor="black",
                markeredgewidth=0.7,
                elinewidth=1.2,
                zorder=4,
                label=method,
            )
    _draw_front(axes, [(summary[m, metric], summary[m, "fit_seconds"]) for m in methods if (m, metric) in summary], metric)


def pareto_front(seconds: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Positions, fastest first, than which no other one is at least as fast and at least as good; of equals one.

    Examples
    --------
    >>> pareto_front([1.0, 2.0, 3.0, 4.0], [9.0, 5.0, 6.0, 1.0])
    [0, 1, 3]
    """
    front: list[int] = []
    for i in sorted(range(len(seconds)), key=lambda i: (seconds[i], losses[i])):
        if not front or losses[i] < losses[front[-1]]:
            front.append(i)
    return front


def _draw_front(axes: Axes, points: Sequence[tuple[Any, Any]], metric: str) -> None:
    """The best mean score that so much time buys, as steps; past its last method it goes on to the edge."""
    most = max((score.n for score, _ in points), default=0)
    able = [(time.mean, score.mean) for score, time in points if score.n == most > 0 and time.mean > 0]
    sign = -1.0 if info(metric).better == "higher" else 1.0
    front = [able[i] for i in pareto_front([x for x, _ in able], [sign * y for _, y in able])]
    if front:
        front.append((axes.get_xlim()[1], front[-1][1]))
        axes.add_line(_front_line([x for x, _ in front], [y for _, y in front]))


def _front_line(x: Sequence[float], y: Sequence[float]) -> Line2D:
    steps: dict[str, Any] = {"drawstyle": "steps-post", "linewidth": 1.1, "zorder": 3}
    return Line2D(x, y, color="0.2", label="Pareto front", gid="front", **steps)


def _draw_failures(axes: Axes, failed: pd.DataFrame, metric: str, methods: Sequence[str], styles: Mapping[str, Style]) -> None:
    """Marks on a strip beyond the worst score."""
    if failed.empty:
        return
    low, high = axes.get_ylim()
    present = [m for m in methods if m in set(failed["method"])]
    strip = (0.08 + 0.01 * len(present)) * (high - low)
    axes.set_yticks([t for t in axes.get_yticks() if low <= t <= high])  # none on the strip, which has no scale
    worse_is_up = info(metric).better == "lower"
    axes.set_ylim(low if worse_is_up else low - strip, high + strip if worse_is_up else high)
    bottom = high if worse_is_up else low - strip
    axes.axhspan(bottom, bottom + strip, color="0.9", zorder=0, linewidth=0, gid="failures")
    for i, method in enumerate(present):
        y = bottom + strip * (i + 0.5) / len(present)
        for mark, chosen in (("x", failed["status"] == "timeout"), ("+", failed["status"] != "timeout")):
            x = failed.loc[chosen & (failed["method"] == method), "seconds"]
            if len(x):
                axes.scatter(x, np.full(len(x), y), marker=mark, s=34, color=styles[method].colour, linewidths=1.4, zorder=5)
    for limit in sorted(set(failed.loc[failed["status"] == "timeout", "seconds"])):
        axes.axvline(limit, color=GREY, linestyle=":", linewidth=1.0, zorder=1, gid="limit")
