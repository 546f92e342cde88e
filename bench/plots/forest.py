"""What every method gains or loses against a base: a forest of paired differences, a panel for each metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bench.columns import info
from bench.differences import COMPARED_FIRST, FEW_SHOT_METRIC, compared_metrics
from bench.labels import ARROWS, short_label
from bench.paired_tests import LEVEL
from bench.plots.data import remarks, rows_of_track
from bench.plots.style import GREY, NothingToPlot, framed_figure, look, track_title, wrapped
from bench.statistics import differences_to, entries
from bench.texts import counted

_DARK = "#332288"
_WORD = {"lower": "\N{LEFTWARDS ARROW} better", "higher": "better \N{RIGHTWARDS ARROW}", "neither": ""}


def plot_differences(rows: pd.DataFrame, base: str, *, track: str, order: Sequence[str] = ()) -> Figure:
    """Paired differences to a base with their intervals; filled where a test of the whole table finds them.

    Parameters
    ----------
    rows : DataFrame
        The rows frame.
    base : str
        Label of the method to compare with.
    track : str
    order : sequence of str
        Methods from top to bottom; others follow by name.

    Raises
    ------
    NothingToPlot
        If nothing ran beside the base.
    """
    rows = rows_of_track(rows, track)
    ran = rows[rows["status"] != "skipped"]
    if base not in set(ran["method"]) or ran["method"].nunique() < 2:
        raise NothingToPlot(f"no method ran beside the base {base}")
    # All that the table compares, so that marks here and there agree; shown is what matters most.
    found = differences_to(rows, base, compared_metrics(ran, track))
    found = found[(found["method"] != base) & (found["n_paired"] > 0)]
    few_shot = [m for m in found["metric"].unique() if m.startswith(f"few_shot_{FEW_SHOT_METRIC}")][:1]
    metrics = [m for m in (*COMPARED_FIRST, *few_shot, "fit_seconds") if m in set(found["metric"])]
    if not metrics:
        raise NothingToPlot(f"nothing was answered by {base} and another method alike")
    methods = [m for m in dict.fromkeys([*order, *found["method"]]) if m in set(found["method"])]
    n = ran.groupby(["dataset", "problem"]).ngroups
    title = f"Difference to {base} · {track_title(track)} · {counted(n, 'problem')}"
    caption = (
        "Mean over the problems that both answered, with 95\N{NO-BREAK SPACE}% bootstrap intervals over problems; "
        f"times as ratios of geometric means. Filled: p ≤ {LEVEL:g} by sign flips after Holm's correction for the table of "
        "differences." + remarks(rows[rows["method"] != base], methods)
    )
    labels = [wrapped(m, 30) for m in methods]
    lines = sum(label.count("\n") + 1 for label in labels)
    with look():
        figure = framed_figure(2.0 + 2.1 * len(metrics), 0.9 + 0.17 * lines + 0.12 * len(methods), title, caption)
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            _draw(axis, found[found["metric"] == metric], metric, methods)
        axes[0].set_yticks(range(len(methods)), labels)
        axes[0].set_ylim(len(methods) - 0.4, -0.6)
    return figure


def _draw(axes: Axes, found: pd.DataFrame, metric: str, methods: Sequence[str]) -> None:
    is_ratio = found["scale"].iloc[0] == "ratio"
    axes.axvline(1 if is_ratio else 0, color=GREY, linewidth=1.0, zorder=1)
    for e in entries(found):
        place = methods.index(e.method)
        if pd.notna(e.low):
            axes.add_line(
                Line2D([e.low, e.high], [place, place], color=_DARK, linewidth=1.4, zorder=2, gid=f"interval {e.method}")
            )
        face: Any = _DARK if e.p_holm <= LEVEL else "white"
        axes.plot(e.effect, place, "o", color=_DARK, markerfacecolor=face, markersize=5, zorder=3, gid=f"point {e.method}")
    if is_ratio:
        axes.set_xscale("log")
        wide = found["high"].max() > 5 * found["low"].min()
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)) if wide else MaxNLocator(4))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"×{x:g}"))
    axes.autoscale_view()
    axes.set_title(short_label(metric) + ARROWS[info(metric).better])
    axes.set_xlabel(("ratio, " if is_ratio else "difference, ") + _WORD[info(metric).better])
    axes.grid(axis="y", visible=False)
