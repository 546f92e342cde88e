"""What the page shows, as plain values: tables with their bars, pictures, errors by kind, failures, problems, cards, cells."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.columns import FAILURES, WRONG_PAIRS, info
from bench.labels import TRACK_TITLES, format_value, short_label, track_order, was_cut_short
from bench.plots import Plots
from bench.tables import DEFAULT_METRICS, Board, Column, Leaderboard, legend
from bench.texts import counted

MOST_FAILURES = 200
"""Failures that are listed one by one; the table of all rows has the others."""

MOST_SINGLE_PROBLEMS = 6
"""Pictures of one problem each that the page holds; they are large, and a page of all of them would be too."""

CELL_COLUMNS = ("track", "dataset", "repetition", "method", "status")
"""Of the table of all rows, before the metrics; ``reason`` and ``cell`` follow them."""

_BARS = "Bars: interval and value within the range of their column, on a logarithmic scale of times and their ratios."

_PLOT_KINDS = {
    "scores": "Scores",
    "ranks": "Critical differences of mean ranks",
    "differences": "Differences to the base",
    "curves": "Curves over a factor",
    "few-shot": "Few-shot curves",
    "run-time": "Accuracy against run time",
    "reliability": "Calibration",
    "edges": "Edge probabilities beside the truth",
}
"""By the first words of a plot's file name; any other kind comes under "Further plots"."""


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval and its value on the scale of a column (logarithmic if ``by_factors``), in per cent of its width."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell of a table: texts, the key that sorts it, and its bar where it has an interval."""

    text: str
    interval: str
    mark: str
    key: float | None
    bar: Bar | None


@dataclass(frozen=True, slots=True)
class Table:
    """One board; ``rows`` are pairs of the first cell's text and all cells."""

    title: str
    track: str
    dataset: str
    heads: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]
    strong: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """One plot, inside the page."""

    title: str
    caption: str
    source: str


def page(rows: pd.DataFrame, boards: Sequence[Board], plots: Plots, about: dict[str, Any], suite: str) -> dict[str, Any]:
    """Everything that the template needs; see :func:`bench.page.write_page`."""
    name = str(rows["suite"].iloc[0]) if "suite" in rows else ""
    ran = rows[rows["status"] != "skipped"]
    return {
        "title": name or "Report",
        "facts": _facts(rows),
        "tracks": [(track, TRACK_TITLES.get(track, track)) for track in track_order(rows)],
        "datasets": sorted(map(str, rows["dataset"].unique())),
        "tables": [table(board) for board in boards],
        "legend": [*legend([board for board in boards if isinstance(board, Leaderboard)]), *([_BARS] if boards else [])],
        "pictures": pictures(plots),
        "left_out": [*plots.left_out, *_not_held(plots)],
        "errors": list(errors(ran)),
        "failures": failures(rows),
        "n_failures": int(rows["status"].isin(FAILURES).sum()),
        "problems": problems(rows),
        "cards": [(what, list(about.get(what, {}).items())) for what in ("datasets", "methods")],
        "versions": about.get("versions", {}),
        "suite": suite,
        "cells": cells(rows),
    }


def _facts(rows: pd.DataFrame) -> list[tuple[str, str]]:
    n_failed, n_skipped = int(rows["status"].isin(FAILURES).sum()), int((rows["status"] == "skipped").sum())
    counts = {
        "methods": rows["method"].nunique(),
        "datasets": rows["dataset"].nunique(),
        "problems": rows.groupby(["dataset", "problem"]).ngroups,
        "tracks": rows["track"].nunique(),
        "rows": len(rows),
        "failed": n_failed,
        "skipped": n_skipped,
    }
    return [(what, f"{count:,}") for what, count in counts.items()]


# --- tables -----------------------------------------------------------------------------------------------------------


def table(board: Board) -> Table:
    """A board with its bars and sort keys."""
    columns = board.columns()
    entries = [_entries(column) for column in columns]
    names = [cell.text for cell in columns[0].cells]
    return Table(
        title=board.title,
        track=board.scope["track"],
        dataset=board.scope["dataset"],
        heads=tuple((column.head, column.left) for column in columns),
        rows=tuple((name, tuple(of_column[i] for of_column in entries)) for i, name in enumerate(names)),
        strong=board.strong(),
        notes=tuple(board.notes),
    )


def _entries(column: Column) -> list[Entry]:
    spans = [cell.span if cell.interval else None for cell in column.cells]
    if column.by_factors and all(min(span) > 0 for span in spans if span is not None):
        spans = [None if span is None else (math.log(span[0]), math.log(span[1]), math.log(span[2])) for span in spans]
    low = min((span[0] for span in spans if span is not None), default=math.nan)
    high = max((span[2] for span in spans if span is not None), default=math.nan)
    return [
        Entry(c.text, c.interval, c.mark, None if c.span is None else c.span[1], _bar(span, low, high))
        for c, span in zip(column.cells, spans, strict=True)
    ]


def _bar(span: tuple[float, float, float] | None, low: float, high: float) -> Bar | None:
    if span is None or not high > low:
        return None
    first, value, last = (round(100 * (min(max(x, low), high) - low) / (high - low), 1) for x in span)
    return Bar(first, value, last)


# --- plots ------------------------------------------------------------------------------------------------------------


def pictures(plots: Plots) -> list[tuple[str, list[Picture]]]:
    """The SVG files of a run by kind, those that say least of a run last, and of those only some."""
    groups: dict[str, list[Picture]] = {kind: [] for kind in (*_PLOT_KINDS.values(), "Further plots")}
    skipped = set(_of_single_problems(plots)[MOST_SINGLE_PROBLEMS:])
    for path in plots.written:
        if path.suffix == ".svg" and path not in skipped:
            kind = next((title for stem, title in _PLOT_KINDS.items() if path.stem.startswith(stem)), "Further plots")
            title, caption = plots.captions.get(path.stem, (path.stem, ""))
            groups[kind].append(Picture(title, caption, _inside(path)))
    return [(kind, found) for kind, found in groups.items() if found]


def _of_single_problems(plots: Plots) -> list[Path]:
    return [path for path in plots.written if path.suffix == ".svg" and path.stem.startswith("edges")]


def _not_held(plots: Plots) -> list[str]:
    """Pictures that are not part of the page. Where they are it does not say: a published one has none beside it."""
    n = len(_of_single_problems(plots)) - MOST_SINGLE_PROBLEMS
    return [f"edge probabilities of {counted(n, 'further problem')} (too many for one page)"] if n > 0 else []


def _inside(path: Path) -> str:
    """The file as an address that holds it whole: as an image it runs no script and shares no ids with others."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


# --- errors, failures, problems ---------------------------------------------------------------------------------------


def errors(ran: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Of each track but that which tells the graph, wrong pairs per problem by kind and place, a line per method."""
    if not set(WRONG_PAIRS) <= set(ran.columns):
        return
    for track in track_order(ran):
        answered = ran[(ran["track"] == track) & (ran["status"] == "ok")].dropna(subset=list(WRONG_PAIRS))
        if track == "graph" or answered.empty:
            continue
        means = answered.groupby("method")[[*WRONG_PAIRS, "errors_at_targets", "shd"]].mean()
        means["n"] = answered.groupby("method").size()
        means = means.sort_values(["shd", "n"], kind="stable")
        most = max(1e-9, float(means["shd"].max()))
        yield {
            "track": track,
            "title": TRACK_TITLES.get(track, track),
            "heads": [_ERROR_HEADS[kind] for kind in WRONG_PAIRS],
            "rows": [_error_row(str(method), of_method, most) for method, of_method in means.iterrows()],
        }


_ERROR_HEADS = {
    "missing_edges": "missing",
    "extra_edges": "extra",
    "reversed_edges": "reversed",
    "undirected_edges": "left undirected",
}


def _error_row(method: str, means: pd.Series[float], most: float) -> dict[str, Any]:
    """Texts of the means, and each kind as (start, length) in per cent of the longest bar."""
    sizes = [float(means[kind]) for kind in WRONG_PAIRS]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    at_targets = float(means["errors_at_targets"])
    elsewhere = float(means["shd"]) - at_targets
    return {
        "method": method,
        "sizes": [format_value(size, "shd") for size in sizes],
        "bars": [
            (round(100 * start / most, 2), round(100 * size / most, 2)) for start, size in zip(starts, sizes, strict=True)
        ],
        "total": format_value(float(means["shd"]), "shd"),
        "at_targets": format_value(at_targets, "shd"),
        "elsewhere": format_value(elsewhere, "shd"),
        "n": int(means["n"]),
    }


def failures(rows: pd.DataFrame) -> list[dict[str, str]]:
    """Rows that failed, with their messages, at most ``MOST_FAILURES``."""
    failed = rows[rows["status"].isin(FAILURES)].head(MOST_FAILURES)
    shown = ("track", "dataset", "repetition", "method", "status", "reason", "cell")
    return [{name: str(row.get(name, "")) for name in shown} for row in failed.to_dict("records")]


def problems(rows: pd.DataFrame) -> list[dict[str, str]]:
    """Of each dataset what its problems are like: sizes, what the scales give away, chance levels; means over problems."""
    columns = {
        "n_variables": "variables",
        "n_environments": "environments",
        "n_samples": "samples",
        "n_held_out": "held out",
        "varsortability_raw": "var-sortability, raw units",
        "varsortability": "var-sortability, as seen",
        "r2_sortability": "R²-sortability",
        "edge_prevalence": "chance level of edge AP",
        "target_prevalence": "chance level of target AP",
    }
    present = [name for name in columns if name in rows]
    found = []
    for dataset, of_dataset in rows.groupby("dataset", sort=True):
        per_problem = of_dataset.groupby("problem")[present].first().astype(float)
        means = per_problem.mean()
        spec = str(of_dataset["dataset_spec"].iloc[0]) if "dataset_spec" in of_dataset else ""
        texts = {columns[name]: _number(float(means[name])) for name in present}
        found.append({"dataset": str(dataset), "made by": spec, "problems": str(len(per_problem)), **texts})
    return found


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value == round(value) and abs(value) >= 2 else f"{value:,.3g}"


# --- all rows ---------------------------------------------------------------------------------------------------------


def cells(rows: pd.DataFrame) -> dict[str, Any]:
    """All rows, column by column, for the script: texts as numbers into a list of them, metrics rounded as in tables."""
    metrics = [m for m in (*DEFAULT_METRICS, "adapt_seconds") if m in rows and rows[m].notna().any()]
    columns: list[dict[str, Any]] = []
    for name in (*CELL_COLUMNS, "reason", "cell"):
        if name not in rows:
            continue
        codes, texts = pd.factorize(rows[name].fillna("").astype(str))
        columns.append({"head": name, "texts": [text[:300] for text in texts], "codes": codes.tolist()})
    cut = was_cut_short(rows)
    if cut.any():
        columns.append({"head": "cut short", "texts": ["", "best so far"], "codes": cut.astype(int).tolist()})
    for name in metrics:
        digits = max(info(name).decimals, 3)
        values = [None if pd.isna(value) else round(float(value), digits) for value in rows[name]]
        columns.append({"head": short_label(name), "values": values})
    last = [c for c in columns if c["head"] in ("reason", "cell")]
    return {"n": len(rows), "columns": [c for c in columns if c not in last] + last}
