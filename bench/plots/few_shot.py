"""Targets of environments that the fit never saw, against the samples that a method is given of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.columns import few_shot_column, info
from bench.plots.data import (
    GRAPH_TOLD,
    drawn,
    error_lengths,
    few_shot_sizes,
    labels_of,
    n_problems,
    need_values,
    panels_with_values,
    remarks,
    rows_of_track,
    rows_with_graph_told,
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

_CHANCE = {"target_average_precision": "the prevalence, which is the average precision of chance", "target_auroc": "chance"}


def plot_few_shot(
    rows: pd.DataFrame, metric: str, *, track: str, order: Sequence[str] = (), styles: Mapping[str, Style] | None = None
) -> Figure:
    """A target metric on held-out environments against the samples per environment, a panel per dataset or family.

    Average precision has its chance level, the prevalence, as a dashed line; AUROC has .5. What a method reaches on the same
    problems with the true graph told (graph track) is a dotted curve with hollow markers of its own. Parameters as in
    :func:`plot_scores`.

    Raises
    ------
    NothingToPlot
        If no method has a few-shot value.
    """
    styles = dict(styles or method_styles(rows["method"]))
    graph_told = rows_with_graph_told(rows, track)
    rows = pd.concat([rows_of_track(rows, track), graph_told], ignore_index=True)
    told = set(graph_told["method"])
    styles |= {name: replace(styles[name.removesuffix(GRAPH_TOLD)], line=":", hollow=True) for name in told}
    order = [name for method in order for name in (method, method + GRAPH_TOLD) if name == method or name in told]
    sizes = few_shot_sizes(rows, metric)
    names = [few_shot_column(metric, size) for size in sizes]
    if not names:
        raise NothingToPlot(f"no few-shot {info(metric).label}: the suite has no held-out environments")
    need_values(rows, names)
    shown = panels_with_values(rows, names)
    methods = drawn(order, rows[rows[names].astype(float).notna().any(axis=1)])
    n_columns = n_columns_of(len(shown))
    labels = labels_of(rows, methods)
    legend_width, legend_height = legend_size(labels, 1)
    width = 1.2 + 3.2 * n_columns + legend_width
    height = max(3.0 * math.ceil(len(shown) / n_columns), legend_height)
    title = f"Few-shot {info(metric).label} on unseen environments · {track_title(track)}"
    with look():
        caption = _caption(metric, graph_told=bool(told & set(methods))) + remarks(rows, methods)
        figure = framed_figure(width, height, title, caption)
        for i, (axes, name) in enumerate(zip(panels(figure, len(shown), sharey=True), shown, strict=True)):
            of_panel = rows[rows["panel"] == name]
            _draw_curves(axes, of_panel, names, sizes, methods, styles)
            _draw_chance(axes, of_panel, metric, sizes)
            set_limits(axes, metric, "y")
            panel_title(axes, name, n_problems(rows, name), 3.2)
            axes.set_xlabel("samples per new environment")
            axes.set_ylabel(axis_label(metric) if i % n_columns == 0 else "")
        dashes = [Line2D([], [], color=GREY, linestyle="--", linewidth=1.2, label="chance")] if metric in _CHANCE else []
        add_legend(figure, labels, styles, lines=True, more=dashes)
    return figure


def _caption(metric: str, *, graph_told: bool) -> str:
    return (
        f"Mean over problems; {INTERVALS}; curves are moved sideways a little to keep bars apart. "
        + ("Dotted, hollow: the same method on the same problems with the true graph told. " if graph_told else "")
        + (f"Dashed grey line: {_CHANCE[metric]}. " if metric in _CHANCE else "")
        + "Held-out environments were never seen by fit; a method that cannot adapt was fitted anew on training and all "
        "held-out environments of a size together."
    )


def _draw_curves(
    axes: Axes,
    rows: pd.DataFrame,
    names: Sequence[str],
    sizes: Sequence[int],
    methods: Sequence[str],
    styles: Mapping[str, Style],
) -> None:
    summary = summaries(rows, names)
    axes.set_xscale("log")
    axes.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)  # first of all: one size alone spans no range of its own
    for i, method in enumerate(methods):
        curve = [summary[method, name] for name in names if (method, name) in summary]
        if not any(point.n for point in curve):
            continue
        aside = 1.0 + 0.16 * ((i + 0.5) / len(methods) - 0.5)
        style = styles[method]
        axes.errorbar(
            np.array(sizes) * aside,
            [point.mean for point in curve],
            yerr=error_lengths(curve),
            color=style.colour,
            marker=style.marker,
            markerfacecolor=style.face,
            linestyle=style.line,
            markersize=5,
            linewidth=1.4,
            elinewidth=1.0,
            label=method,
            zorder=3,
        )
    axes.xaxis.set_major_locator(FixedLocator(list(map(float, sizes))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _draw_chance(axes: Axes, rows: pd.DataFrame, metric: str, sizes: Sequence[int]) -> None:
    names = [few_shot_column("target_prevalence", size) for size in sizes]
    if metric == "target_auroc":
        level = np.full(len(sizes), 0.5)
    elif metric == "target_average_precision" and all(n in rows for n in names):
        level = rows.groupby(["dataset", "problem"])[names].first().astype(float).mean().to_numpy()
    else:
        return
    x, level = (list(sizes), level) if len(sizes) > 1 else (list(axes.get_xlim()), np.repeat(level, 2))
    axes.plot(x, level, color=GREY, linestyle="--", linewidth=1.2, label="chance", gid="chance")
