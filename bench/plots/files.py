"""Which plots a run gets, and their files: PNG and SVG, the same bytes for the same frame and versions."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from bench.columns import scores_the_graph
from bench.files import write_atomic
from bench.labels import SORT_BY, base_of, slug, track_order, was_told
from bench.plots.critical_difference import plot_critical_difference
from bench.plots.curves import plot_curves
from bench.plots.data import few_shot_sizes, method_order
from bench.plots.few_shot import plot_few_shot
from bench.plots.forest import plot_differences
from bench.plots.heat_map import plot_edges
from bench.plots.reliability import plot_reliability
from bench.plots.run_time import plot_run_time
from bench.plots.scores import plot_scores
from bench.plots.style import NothingToPlot, caption_of, look, method_styles, title_of
from bench.statistics import check_rows

SCORE_METRICS = (SORT_BY, "edge_average_precision", "target_f1", "target_average_precision")
FEW_SHOT_METRICS = ("target_average_precision", "target_f1")

Plan = Iterator[tuple[str, Callable[[], Figure]]]
"""Stem of the files and how to draw the figure."""


@dataclass(frozen=True, slots=True)
class Plots:
    """What :func:`write_plots` made: the files, a line for each plot that was left out, titles and captions by file stem."""

    written: tuple[Path, ...]
    left_out: tuple[str, ...]
    captions: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def write_plots(
    rows: pd.DataFrame,
    directory: Path,
    *,
    edges: pd.DataFrame | None = None,
    reliability: pd.DataFrame | None = None,
    sort_by: str = SORT_BY,
) -> Plots:
    """Write the plots of a run: few enough to look at, whatever else the functions of this package can draw.

    Panels are datasets, or the families into which a suite sorts all of them. Of the first track (targets unknown, where there
    is one) the main scores (of curves also against strength), few-shot curves, run time, the edges of one problem per dataset,
    and reliability. Of a further track, the scores and run time that the methods which were told something add to it; nothing
    where nobody was told. Where that is the graph, no score of the graph is drawn, and the few-shot curves stand beside those
    of the first track.

    Parameters
    ----------
    rows : DataFrame
        The rows frame.
    directory : Path
        Where the files go.
    edges, reliability : DataFrame, optional
        Side frames of the run.
    sort_by : str
        Metric that orders the methods, and the first to be shown.

    Returns
    -------
    Plots
        Files written, and a line for each plot left out with its reason.
    """
    rows = check_rows(rows)
    written: list[Path] = []
    left_out: list[str] = []
    captions: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    for stem, draw in _plan(rows, edges, reliability, sort_by):
        while stem in seen:  # labels that differ in punctuation only
            stem += "-2"
        seen.add(stem)
        try:
            figure = draw()
            written += save(figure, directory, stem)
            captions[stem] = title_of(figure), caption_of(figure)
        except NothingToPlot as reason:
            left_out.append(f"{stem}: {reason}")
    return Plots(tuple(written), tuple(left_out), captions)


def _plan(rows: pd.DataFrame, edges: pd.DataFrame | None, reliability: pd.DataFrame | None, sort_by: str) -> Plan:
    order, styles = method_order(rows, sort_by), method_styles(rows["method"])
    first, *others = track_order(rows)
    panels = _by_family(rows)
    scores = list(dict.fromkeys([sort_by, *SCORE_METRICS]))
    for track in (first, *others):
        look_of: dict[str, Any] = {"track": track, "order": order, "styles": styles}
        shown = scores if track == first else _told(rows[rows["track"] == track], scores)
        if track == "graph":
            shown = [m for m in shown if not scores_the_graph(m)]
        for metric in shown:
            yield f"scores-{track}-{metric}", partial(plot_scores, panels, metric, **look_of)
        if "curve" in rows and rows["curve"].fillna("").ne("").any():
            for metric in shown:
                yield f"curves-{track}-{metric}", partial(plot_curves, rows, metric, **look_of)
        base = base_of(rows[rows["track"] == track])
        if base and shown:
            yield f"differences-{track}", partial(plot_differences, rows, base, track=track, order=order)
        if track == first:
            for metric in FEW_SHOT_METRICS:
                if few_shot_sizes(rows, metric):
                    with_new = panels[panels["n_held_out"] > 0] if "n_held_out" in panels else panels
                    yield f"few-shot-{track}-{metric}", partial(plot_few_shot, with_new, metric, **look_of)
        if sort_by in shown:
            yield f"ranks-{track}-{sort_by}", partial(plot_critical_difference, rows, sort_by, track=track, styles=styles)
            yield f"run-time-{track}-{sort_by}", partial(plot_run_time, panels, sort_by, **look_of)
        if track == first != "graph" and edges is not None:
            for dataset, of_problem in _first_problems(edges[edges["track"] == track]):
                yield f"edges-{track}-{slug(dataset)}", partial(plot_edges, of_problem, track=track, order=order)
        if track == first and reliability is not None:
            for quantity in sorted(map(str, reliability["quantity"].unique())):
                yield f"reliability-{track}-{quantity}", partial(plot_reliability, reliability, quantity, **look_of)


def _by_family(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose panels are families, where a suite sorts all of its datasets into several."""
    families = set(rows["family"].fillna("")) if "family" in rows else {""}
    return rows if "" in families or len(families) == 1 else rows.assign(panel=rows["family"])


def _told(rows: pd.DataFrame, metrics: list[str]) -> list[str]:
    """The metrics of which a method that was told something has a value."""
    told = rows[was_told(rows) & (rows["status"] == "ok")]
    return [m for m in metrics if m in told and told[m].notna().any()]


def _first_problems(edges: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The edges of the first repetition of each dataset."""
    for dataset, of_dataset in edges.groupby("dataset", sort=True):
        first = of_dataset.sort_values(["repetition", "problem"], kind="stable")["problem"].iloc[0]
        yield str(dataset), of_dataset[of_dataset["problem"] == first]


def save(figure: Figure, directory: Path, stem: str) -> list[Path]:
    """Write a figure as PNG (150 dots per inch) and SVG, whole or not at all, the same bytes for the same figure."""
    paths = []
    with look():
        _fix_layout(figure)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata)
            paths.append(write_atomic(directory / f"{stem}.{kind}", buffer.getvalue()))
    return paths


def _fix_layout(figure: Figure) -> None:
    """Lay the figure out once and round the places: the solver of the constraints differs from call to call by rounding."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    # No engine at all, not one that does nothing: with any, saving draws the figure twice.
    with matplotlib.rc_context({"figure.constrained_layout.use": False, "figure.autolayout": False}):
        figure.set_layout_engine(None)
    for axes in figure.axes:
        left, bottom, width, height = (round(x, 5) for x in axes.get_position(original=True).bounds)
        axes.set_position((left, bottom, width, height))
