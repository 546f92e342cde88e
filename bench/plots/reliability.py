"""Reliability diagrams: do edges, or targets, that are given a probability of .7 turn out true seven times in ten?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.plots.data import drawn
from bench.plots.style import (
    GREY,
    NothingToPlot,
    Style,
    framed_figure,
    look,
    method_styles,
    n_columns_of,
    track_title,
    wrapped,
)
from bench.texts import counted


def expected_calibration_error(bins: pd.DataFrame) -> tuple[float, int]:
    """Return the expected calibration error over the central bins of one method, and the number of probabilities it is over.

    Σ_b |truths in b - probabilities in b| / Σ_b n_b, on probabilities in (.05, .95) only; NaN where there are none.
    """
    central = bins[bins["central"].eq(True)].groupby("bin")[["count", "sum_probability", "sum_truth"]].sum()
    n = int(central["count"].sum())
    gap = float((central["sum_truth"] - central["sum_probability"]).abs().sum())
    return (gap / n if n else math.nan), n


def plot_reliability(
    reliability: pd.DataFrame,
    quantity: str,
    *,
    track: str,
    order: Sequence[str] = (),
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """Reliability diagrams pooled over the problems of a track, a panel per method, with the counts below.

    Parameters
    ----------
    reliability : DataFrame
        ``track``, ``dataset``, ``problem``, ``method``, ``quantity``, ``bin``, ``central`` (probabilities in (.05, .95)),
        ``count``, ``sum_probability``, ``sum_truth``.
    quantity : {"edge", "target"}
        Whose probabilities.
    track, order, styles
        As in :func:`plot_scores`.

    Raises
    ------
    NothingToPlot
        If there is no bin.
    """
    styles = styles or method_styles(reliability["method"])
    bins = reliability[(reliability["track"] == track) & (reliability["quantity"] == quantity) & (reliability["count"] > 0)]
    if bins.empty:
        raise NothingToPlot(f"no method gives {quantity} probabilities with a known truth")
    methods = drawn(order, bins)
    n_columns = n_columns_of(len(methods))
    n_rows = math.ceil(len(methods) / n_columns)
    n_problems = len(bins[["dataset", "problem"]].drop_duplicates())
    with look():
        figure = framed_figure(
            max(4.6, 0.7 + 2.5 * n_columns),
            n_rows * 3.3,
            f"Reliability of {quantity} probabilities · {track_title(track)}",
            f"Pooled over n = {counted(n_problems, 'problem')}. Filled: probabilities in (.05, .95), over which "
            "the expected calibration error (ECE) is taken; hollow: the rest. Dashed: perfect calibration. Below: number of "
            "probabilities per bin (log scale).",
        )
        grid = figure.add_gridspec(2 * n_rows, n_columns, height_ratios=[3, 1] * n_rows)
        for i, method in enumerate(methods):
            r, c = divmod(i, n_columns)
            upper = figure.add_subplot(grid[2 * r, c])
            lower = figure.add_subplot(grid[2 * r + 1, c], sharex=upper)
            _draw_reliability(upper, lower, bins[bins["method"] == method], method, styles[method])
            if c == 0:
                upper.set_ylabel("observed share")
                lower.set_ylabel("count")
            lower.set_xlabel(f"predicted {quantity} probability")
    return figure


def _draw_reliability(upper: Axes, lower: Axes, bins: pd.DataFrame, method: str, style: Style) -> None:
    upper.plot([0, 1], [0, 1], linestyle="--", color=GREY, linewidth=1.0, gid="diagonal")
    for central in (False, True):
        chosen = bins[bins["central"].eq(central)].groupby("bin")[["count", "sum_probability", "sum_truth"]].sum()
        if chosen.empty:
            continue
        predicted, observed = chosen["sum_probability"] / chosen["count"], chosen["sum_truth"] / chosen["count"]
        face = style.colour if central else "white"
        upper.plot(
            predicted,
            observed,
            marker=style.marker,
            linestyle="-" if central else "none",
            color=style.colour,
            markerfacecolor=face,
            markersize=5,
            linewidth=1.3,
            clip_on=False,
            zorder=3,
            gid="central" if central else "outside",
        )
        lower.bar(predicted, chosen["count"], width=0.035, facecolor=face, edgecolor=style.colour, linewidth=0.8)
    error, n = expected_calibration_error(bins)
    said = f"ECE {error:.3f}, n = {n:,}" if n else "no probability in (.05, .95)"
    upper.set_title(f"{wrapped(method, 30)}\n{said}")
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.25, 0.5, 0.75, 1], yticks=[0, 0.25, 0.5, 0.75, 1])
    upper.tick_params(labelbottom=False)
    lower.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    lower.set_yscale("log")
    lower.set_ylim(bottom=0.5)
    lower.grid(False, axis="x")
