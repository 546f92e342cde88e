"""A metric by method and dataset or family: every problem, the mean and its interval, and failures in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.columns import FAILURES, info
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
    INTERVALS,
    Style,
    axis_label,
    framed_figure,
    look,
    method_styles,
    n_columns_of,
    panel_heading,
    panel_title,
    panels,
    set_limits,
    track_title,
)

_CAPTION = (
    "Small points: one problem each, at the same height within a band for all methods. Large marker: mean; "
    f"{INTERVALS}. n counts the problems; failures and undefined scores have no point and stand beside the panel."
)


def plot_scores(
    rows: pd.DataFrame, metric: str, *, track: str, order: Sequence[str] = (), styles: Mapping[str, Style] | None = None
) -> Figure:
    """A metric by method and panel: a point per problem, mean and interval, failures in words.

    Parameters
    ----------
    rows : DataFrame
        The rows frame; a column ``panel`` names the panel of each row, by default its dataset.
    metric : str
        What to show.
    track : str
        Whose rows.
    order : sequence of str
        Methods from top to bottom; others follow by name.
    styles : mapping, optional
        From :func:`method_styles`; by default of the methods of the rows.

    Raises
    ------
    NothingToPlot
        If the metric has no value on the track.
    """
    styles = styles or method_styles(rows["method"])
    rows = rows_of_track(rows, track)
    need_values(rows, [metric])
    shown = (rows[metric].notna() & (rows["status"] == "ok")) | rows["status"].isin(FAILURES)
    names, methods = panels_with_values(rows, [metric]), drawn(order, rows[shown])
    n_columns = n_columns_of(len(names))
    n_rows = math.ceil(len(names) / n_columns)
    labels = list(labels_of(rows, methods).values())
    height = sum(0.27 * max(1.0, 0.75 * (1 + label.count("\n"))) for label in labels)
    panel_width = 3.4 if n_columns > 1 else 5.0
    headings = [panel_heading(name, n_problems(rows, name), panel_width) for name in names]
    height += 0.19 * max(heading.count("\n") for heading in headings)
    title = f"{info(metric).label} by method · {track_title(track)}"
    with look():
        figure = framed_figure(
            1.9 + panel_width * n_columns, n_rows * (height + 0.65) + 0.25, title, _CAPTION + remarks(rows, methods)
        )
        for i, (axes, name) in enumerate(zip(panels(figure, len(names), sharey=True), names, strict=True)):
            _draw_scores(axes, rows[rows["panel"] == name], metric, methods, styles)
            panel_title(axes, name, n_problems(rows, name), panel_width)
            axes.set_xlabel(axis_label(metric) if i + n_columns >= len(names) else "")
            axes.set_yticks(range(len(methods)), labels)
            axes.set_ylim(len(methods) - 0.5, -0.5)
            axes.tick_params(axis="y", labelleft=i % n_columns == 0)
            axes.grid(False, axis="y")
    return figure


def _draw_scores(axes: Axes, rows: pd.DataFrame, metric: str, methods: Sequence[str], styles: Mapping[str, Style]) -> None:
    summary = summaries(rows, [metric])
    problems = {p: i for i, p in enumerate(sorted(rows["problem"].unique()))}
    golden = (math.sqrt(5) - 1) / 2  # spreads any number of problems evenly, without drawing random numbers
    for y, method in enumerate(methods):
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="0.96", zorder=0, linewidth=0)
        entry = summary.get((method, metric))
        if entry is None:
            continue
        points = rows[(rows["method"] == method) & (rows["status"] == "ok")]
        points = points[np.isfinite(points[metric].astype(float))]
        spread = [((problems[p] + 1) * golden) % 1 - 0.5 for p in points["problem"]]
        colour = styles[method].colour
        axes.scatter(points[metric], y + 0.6 * np.array(spread), s=9, color=colour, alpha=0.45, linewidths=0, zorder=2)
        if entry.n:
            _draw_mean(axes, entry, y, styles[method])
    set_limits(axes, metric, "x")
    for y, method in enumerate(methods):
        _say_beside(axes, y, _remark(summary.get((method, metric))))


def _draw_mean(axes: Axes, entry: Any, y: float, style: Style) -> None:
    axes.errorbar(
        entry.mean,
        y,
        xerr=error_lengths([entry]),
        color=style.colour,
        marker=style.marker,
        markersize=6,
        markeredgecolor="black",
        markeredgewidth=0.7,
        ecolor="black",
        elinewidth=1.4,
        capsize=3,
        zorder=4,
        label=entry.method,
    )


def _remark(entry: Any) -> str:
    """What has no point, in words."""
    if entry is None:
        return "not run"
    counts = {"failed": entry.failures, "undef.": entry.undefined}
    return "\n".join(f"{count} {word}" for word, count in counts.items() if count)


def _say_beside(axes: Axes, y: float, remark: str) -> None:
    if remark:
        where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (3, 0), "textcoords": "offset points"}
        axes.annotate(remark, (1, y), ha="left", va="center", fontsize=7, color="0.25", annotation_clip=False, **where)
