"""Mean ranks on one line, joined where Nemenyi's test does not tell methods apart."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import pandas as pd
import scikit_posthocs
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from bench.columns import info
from bench.paired_tests import LEVEL
from bench.plots.style import NothingToPlot, Style, framed_figure, look, method_styles, track_title
from bench.significance import friedman
from bench.statistics import MINIMUM_PAIRS, rank_table
from bench.texts import counted


def plot_critical_difference(
    rows: pd.DataFrame, metric: str, *, track: str, styles: Mapping[str, Style] | None = None
) -> Figure:
    """The critical-difference diagram of the methods of a track.

    Parameters
    ----------
    rows : DataFrame
        The rows frame.
    metric : str
        What ranks them; failures rank last.
    track : str
    styles : mapping of str to Style, optional
        Look of each method; by default from the methods of the frame.

    Raises
    ------
    NothingToPlot
        If fewer than three methods are ranked, or on fewer than ``MINIMUM_PAIRS`` problems.
    """
    ranks = rank_table(rows[(rows["track"] == track)], metric)
    if len(ranks) < MINIMUM_PAIRS or ranks.shape[1] < 3:
        raise NothingToPlot(f"ranked are {counted(ranks.shape[1], 'method')} on {counted(len(ranks), 'problem')}")
    looks = styles or method_styles(rows["method"])
    p, pairs = friedman(ranks)
    caption = (
        f"Mean ranks over {counted(len(ranks), 'problem')} that all met; 1 is best, failures rank last. Friedman's test "
        f"of equal ranks: p = {p:.2g}. Bars join methods that Nemenyi's test of all pairs does not tell apart (p > {LEVEL:g})."
    )
    title = f"Critical differences of {info(metric).label} · {track_title(track)}"
    with look(), matplotlib.rc_context({"axes.grid": False}):
        figure = framed_figure(8.5, 0.9 + 0.17 * ranks.shape[1], title, caption)
        axes = figure.subplots()
        scikit_posthocs.critical_difference_diagram(
            ranks.mean(),
            pairs,
            alpha=LEVEL,
            ax=axes,
            color_palette={str(m): to_hex(looks[str(m)].colour) for m in ranks.columns},
            label_fmt_left="{label} ({rank:.2f})",
            label_fmt_right="({rank:.2f}) {label}",
            label_props={"fontsize": 8},
        )
    return figure
