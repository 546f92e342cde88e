"""A metric of every method against the strength of a factor, a panel for each curve of a suite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.columns import info
from bench.plots.data import drawn, error_lengths, labels_of, need_values, remarks, rows_of_track, summaries
from bench.plots.style import (
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


def plot_curves(
    rows: pd.DataFrame, metric: str, *, track: str, order: Sequence[str] = (), styles: Mapping[str, Style] | None = None
) -> Figure:
    """A metric against the value of the factor that each curve varies; parameters as of :func:`plot_scores`.

    Raises
    ------
    NothingToPlot
        If the suite has no curve, or the metric no value on any.
    """
    styles = styles or method_styles(rows["method"])
    rows = rows_of_track(rows, track)
    rows = rows[rows["factor_value"].notna()] if "factor_value" in rows else rows.iloc[:0]
    if rows.empty:
        raise NothingToPlot("no dataset of the suite is a point of a curve")
    need_values(rows, [metric])
    known = rows[metric].notna() & (rows["status"] == "ok")
    curves, methods = sorted(set(map(str, rows.loc[known, "curve"]))), drawn(order, rows[known])
    n_columns = n_columns_of(len(curves))
    labels = labels_of(rows, methods)
    legend_width, legend_height = legend_size(labels, 0)
    height = max(3.0 * math.ceil(len(curves) / n_columns), legend_height)
    title = f"{info(metric).label} against the strength of what is varied · {track_title(track)}"
    with look():
        caption = f"Mean over problems; {INTERVALS}; curves are moved sideways a little to keep bars apart." + remarks(
            rows, methods
        )
        figure = framed_figure(1.2 + 3.2 * n_columns + legend_width, height, title, caption)
        for i, (axes, curve) in enumerate(zip(panels(figure, len(curves), sharey=True), curves, strict=True)):
            of_curve = rows[rows["curve"] == curve]
            _draw_curves(axes, of_curve, metric, methods, styles)
            panel_title(axes, curve, int(of_curve["repetition"].nunique()), 3.2)
            axes.set_xlabel(str(of_curve["factor"].iloc[0]))
            axes.set_ylabel(axis_label(metric) if i % n_columns == 0 else "")
        set_limits(figure.axes[0], metric, "y")  # once and at last: the panels share their scale
        add_legend(figure, labels, styles, lines=True)
    return figure


def _draw_curves(axes: Axes, rows: pd.DataFrame, metric: str, methods: Sequence[str], styles: Mapping[str, Style]) -> None:
    values = sorted(set(rows["factor_value"]))
    summary = {value: summaries(rows[rows["factor_value"] == value], [metric]) for value in values}
    step = 0.02 * (values[-1] - values[0]) if len(values) > 1 else 0.0
    for i, method in enumerate(methods):
        points = [(v, summary[v][method, metric]) for v in values if (method, metric) in summary[v]]
        points = [(v, entry) for v, entry in points if entry.n]
        if not points:
            continue
        style, aside = styles[method], step * ((i + 0.5) / len(methods) - 0.5)
        axes.errorbar(
            [v + aside for v, _ in points],
            [entry.mean for _, entry in points],
            yerr=error_lengths([entry for _, entry in points]),
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            markersize=5,
            linewidth=1.4,
            elinewidth=1.0,
            label=method,
            zorder=3,
        )
    axes.set_xticks(values, [f"{v:g}" for v in values])
