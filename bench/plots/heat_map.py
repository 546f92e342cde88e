"""Edge probabilities of one problem beside the truth, a heat map per method."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.errors import InputError
from bench.plots.data import drawn
from bench.plots.style import NothingToPlot, framed_figure, look, n_columns_of, track_title, wrapped
from bench.texts import counted

MAX_HEAT_MAPS = 7
"""Methods in one figure beside the truth; further ones are named in the caption."""

_GAP, _COLOUR_BAR = 0.15, 1.0  # inches between panels, and beside them


def plot_edges(edges: pd.DataFrame, *, track: str, order: Sequence[str] = (), max_methods: int = MAX_HEAT_MAPS) -> Figure:
    """Heat maps of the edge probabilities of one problem, a panel per method, beside the truth where there is one.

    Variables stand in a causal order of the true graph where it is acyclic, so true edges lie above the diagonal; else in
    the natural order of their names. True edges are framed in every panel.

    Parameters
    ----------
    edges : DataFrame
        ``dataset``, ``repetition``, ``method``, ``source``, ``target``, ``probability``, ``truth`` of one problem on one track.
    track : str
        For the title.
    order : sequence of str
        Methods from left to right; others follow by name.
    max_methods : int
        At most so many panels beside the truth; the caption names the others.

    Raises
    ------
    NothingToPlot
        If there are no edges.
    InputError
        If the frame holds more than one problem.
    """
    if edges.empty:
        raise NothingToPlot("no edge probabilities were stored")
    if len(edges[["dataset", "problem"]].drop_duplicates()) > 1:
        raise InputError("a heat map shows one problem, got edges of several")
    methods = drawn(order, edges)
    truth = _matrix(edges.drop_duplicates(["source", "target"]), "truth", _variables(edges))
    variables = _causal_order(truth)
    truth = truth.loc[variables, variables]
    known = bool(truth.notna().any(axis=None))
    matrices = {"truth": truth} if known else {}
    for method in methods[:max_methods]:
        matrices[wrapped(method, 30)] = _matrix(edges[edges["method"] == method], "probability", variables)
    title = f"Edge probabilities{' beside the truth' if known else ''} · {edges.iloc[0]['dataset']} · {track_title(track)}"
    with look(), matplotlib.rc_context(sns.axes_style("white")):
        return _figure(matrices, truth, title, _caption(edges, truth, known, methods[max_methods:]))


def _caption(edges: pd.DataFrame, truth: pd.DataFrame, known: bool, cut: Sequence[str]) -> str:
    first, d = edges.iloc[0], len(truth)
    drawn = f"{first['dataset']}, repetition {first['repetition']}, {counted(d, 'variable')}"
    parts = [f"One problem: {drawn}. Row: cause; column: effect."]
    if known:
        parts.append(f"Frames: {counted(int((truth == 1).sum().sum()), 'true edge')}.")
        if _is_ordered(truth):
            parts.append("Variables in a causal order of the truth, so edges below the diagonal point backwards.")
        unscored = int(truth.isna().to_numpy().sum()) - d
        if unscored:
            parts.append(f"Grey in the truth: {unscored} ordered pairs that are not known.")
    if cut:
        parts.append(f"Not shown, for want of room: {', '.join(cut)}.")
    return " ".join(parts)


def _figure(matrices: dict[str, pd.DataFrame], truth: pd.DataFrame, title: str, caption: str) -> Figure:
    """The panels at places in inches, not by matplotlib's solver, which lets titles touch names where panels are square."""
    d, n = len(truth), len(matrices)
    n_columns = n_columns_of(n)
    n_rows = math.ceil(n / n_columns)
    side = float(np.clip(0.14 * d + 0.9, 2.4, 4.2))
    names = 0.1 + 0.0095 * _tick_size(d) * max(len(str(v)) for v in truth.index)  # what the longest name takes
    left, below = 0.35 + names, 0.05 + names
    above = 0.15 + 0.15 * max(1 + label.count("\n") for label in matrices)
    width = left + n_columns * side + (n_columns - 1) * _GAP + _COLOUR_BAR
    figure = framed_figure(width, n_rows * (above + side + below) + 0.2, title, caption)
    figure.set_layout_engine("none")
    inches = figure.get_figheight()
    top = figure.subplotpars.top * inches - above
    for i, (label, matrix) in enumerate(matrices.items()):
        r, c = divmod(i, n_columns)
        bottom = top - side - r * (above + side + below)
        place = ((left + c * (side + _GAP)) / width, bottom / inches, side / width, side / inches)
        axes = figure.add_axes(place)
        _draw_matrix(axes, matrix, truth, names_rows=c == 0)
        axes.set_title(label)
        axes.set_xlabel("effect" if i + n_columns >= n else "")
    bar = figure.add_axes(((width - 0.75) / width, (top - side) / inches, 0.12 / width, side / inches))
    figure.colorbar(figure.axes[0].images[0], cax=bar, label="probability (or score) of the edge")
    return figure


def _natural(name: object) -> list[tuple[int, str]]:
    """Sort key under which X2 comes before X10."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", str(name)) if p]


def _variables(edges: pd.DataFrame) -> list[Any]:
    return sorted(set(edges["source"]) | set(edges["target"]), key=_natural)


def _matrix(edges: pd.DataFrame, column: str, variables: Sequence[Any]) -> pd.DataFrame:
    """Sources by targets, float; NaN where a pair is missing, and on the diagonal."""
    wide = edges.pivot(index="source", columns="target", values=column)
    return wide.reindex(index=list(variables), columns=list(variables)).astype(float)


def _causal_order(truth: pd.DataFrame) -> list[Any]:
    """A topological order of the true graph, by natural names among equals; the given order where there is none."""
    adjacency = truth.fillna(0).to_numpy() > 0
    left, order = list(range(len(adjacency))), list[int]()
    while left:
        free = next((v for v in left if not adjacency[left, v].any()), None)
        if free is None:
            return list(truth.index)
        order.append(free)
        left.remove(free)
    return [truth.index[v] for v in order]


def _is_ordered(truth: pd.DataFrame) -> bool:
    return not np.tril(truth.fillna(0).to_numpy()).any()


def _tick_size(d: int) -> float:
    """Points of the names of d variables beside a heat map."""
    return float(np.clip(150 / d, 5, 8))


def _draw_matrix(axes: Axes, matrix: pd.DataFrame, truth: pd.DataFrame, *, names_rows: bool) -> None:
    d = len(matrix)
    # Not seaborn's heatmap: it draws the whole figure once per panel, which was half the time of a report.
    shades = np.ma.masked_invalid(matrix.to_numpy())
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1, extent=(0, d, d, 0), interpolation="nearest")
    step = math.ceil(d / 25)  # more names than that cannot be read
    where, names = np.arange(0, d, step) + 0.5, [str(v) for v in matrix.index[::step]]
    axes.set_xticks(where, names, rotation=90, fontsize=_tick_size(d))
    axes.set_yticks(where if names_rows else [], names if names_rows else [], fontsize=_tick_size(d))
    axes.set_ylabel("cause" if names_rows else "")
    axes.set_facecolor("0.85")  # the diagonal, pairs that were not stored, and pairs whose truth is unknown
    for i, j in np.argwhere(truth.to_numpy() == 1):
        axes.add_patch(Rectangle((j, i), 1, 1, fill=False, edgecolor="#D55E00", linewidth=float(np.clip(24 / d, 0.4, 1.4))))
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("0.6")
