"""What the plots need of the frames: methods in order, panels with a value, means and intervals.

A panel is a dataset, or what the column ``panel`` names in its place. The datasets stay what they are beside it: they are the
strata of the intervals, in a plot as in a table.

Nothing is computed here: means and intervals come from ``bench.statistics``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.columns import info, parse_few_shot
from bench.labels import SORT_BY, track_order
from bench.plots.style import NothingToPlot, wrapped
from bench.statistics import check_rows, compare


def method_order(rows: pd.DataFrame, sort_by: str = SORT_BY) -> list[str]:
    """One order of all methods for all plots of a run: by their rank on the first track, then those of the next ones."""
    order: list[str] = []
    for track in track_order(rows):
        order += compare(rows[rows["track"] == track], [sort_by], sort_by=sort_by, resamples=1).order
    return list(dict.fromkeys(order))


def few_shot_sizes(rows: pd.DataFrame, metric: str) -> list[int]:
    """Sizes at which a target metric is scored on held-out environments, increasing."""
    parsed = [parse_few_shot(str(c)) for c in rows.columns]
    return sorted({p[1] for p in parsed if p is not None and p[0] == metric})


def rows_of_track(rows: pd.DataFrame, track: str) -> pd.DataFrame:
    """The rows of a track that were not skipped, in an order of their own, each with its panel."""
    rows = _with_panels(check_rows(rows))
    rows = rows[(rows["track"] == track) & (rows["status"] != "skipped")]
    if rows.empty:
        raise NothingToPlot(f"no method ran on the track '{track}'")
    return rows


def _with_panels(rows: pd.DataFrame) -> pd.DataFrame:
    return rows if "panel" in rows else rows.assign(panel=rows["dataset"])


GRAPH_TOLD = ", true graph told"
"""After the name of a method where it stands for its rows of the graph track beside those of another one."""


def rows_with_graph_told(rows: pd.DataFrame, track: str) -> pd.DataFrame:
    """The rows of the graph track as if they were of ``track``, each method under a name of its own; none for that track."""
    if "graph_given" not in rows:
        return rows.iloc[:0]
    told = _with_panels(rows[rows["graph_given"].eq(True) & (rows["track"] != track)])
    return told.assign(track=track, method=told["method"].astype(str) + GRAPH_TOLD)


def drawn(order: Sequence[str], rows: pd.DataFrame) -> list[str]:
    """The methods of some rows, in the given order; others follow by name."""
    present = set(rows["method"])
    return [*(m for m in order if m in present), *sorted(present - set(order))]


def labels_of(rows: pd.DataFrame, methods: Sequence[str]) -> dict[str, str]:
    """Method to its label on several lines, with a dagger where it was told the targets."""
    given = rows.loc[rows["targets_given"].eq(True), "method"] if "targets_given" in rows else ()
    told = set(given)
    return {m: wrapped(f"{m} †" if m in told else m) for m in methods}


def remarks(rows: pd.DataFrame, methods: Sequence[str]) -> str:
    """What a caption says of the methods of some rows: which of them are not drawn, and what the dagger means."""
    silent = sorted(set(rows["method"]) - set(methods))
    dagger = " †: was told the targets." if any("†" in label for label in labels_of(rows, methods).values()) else ""
    return dagger + (f" No value: {', '.join(silent)}." if silent else "")


def need_values(rows: pd.DataFrame, metrics: Sequence[str]) -> None:
    """Raise :class:`~bench.plots.NothingToPlot` unless one of the metrics has a value."""
    ok = rows[rows["status"] == "ok"]
    if not any(m in ok and np.isfinite(ok[m].astype(float)).any() for m in metrics):
        raise NothingToPlot(f"{info(metrics[0]).label} has no value on any problem")


def panels_with_values(rows: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Panels where some method has a value."""
    present = [m for m in metrics if m in rows]
    known = rows[present].astype(float).notna().any(axis=1) & (rows["status"] == "ok")
    return sorted({str(panel) for panel in rows.loc[known, "panel"]})


def summaries(rows: pd.DataFrame, metrics: Sequence[str]) -> dict[tuple[str, str], Any]:
    """Mean, interval and counts of each method and metric on some rows of one track."""
    summary = compare(rows, metrics, sort_by=metrics[0]).summary
    return {(str(entry.method), str(entry.metric)): entry for entry in summary.itertuples(index=False)}


def n_problems(rows: pd.DataFrame, panel: str) -> int:
    """Problems of a panel."""
    return int(rows[rows["panel"] == panel].groupby(["dataset", "problem"]).ngroups)


def error_lengths(entries: Sequence[Any]) -> list[list[float]]:
    """Lengths of the error bars below and above the means; 0 where there is no interval."""
    below = [0.0 if math.isnan(e.low) else max(0.0, e.mean - e.low) for e in entries]
    above = [0.0 if math.isnan(e.high) else max(0.0, e.high - e.mean) for e in entries]
    return [below, above]
