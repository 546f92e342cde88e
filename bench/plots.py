"""Plots of a run, PNG and SVG, each readable on its own.

Every plot says in its title what it shows, in its caption how many problems it is over and what bars and marks mean. A method
has the same place, colour, marker and line in all plots of a run; the colours are seaborn's colour-blind palette, and markers
and lines tell methods apart without colour. Figures are made without pyplot and inside a style context, so no global state is
changed; the files are the same, byte by byte, for the same frame and versions.

Nothing is computed here: means and intervals come from ``bench.statistics``.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.columns import FAILURES, FEW_SHOT, few_shot_column, info, parse_few_shot
from bench.errors import BenchError, InputError
from bench.files import write_atomic
from bench.statistics import check_rows, compare
from bench.tables import SORT_BY, TRACK_TITLES, slug

SCORE_METRICS = (SORT_BY, "shd", "edge_average_precision", "target_f1", "target_average_precision")
RUN_TIME_METRICS = (SORT_BY, "target_f1")
MAX_HEAT_MAPS = 11
"""Methods in one heat map beside the truth; further ones are named in the caption."""

_GREY = "0.45"
_PANEL_COLUMNS = 4
_CHARACTERS_PER_INCH = 15  # of caption text at its size, with room to spare


class NothingToPlot(BenchError):
    """There is no value to draw; the message says why."""


@dataclass(frozen=True, slots=True)
class Plots:
    """What :func:`write_plots` made: the files, and a line for each plot that was left out."""

    written: tuple[Path, ...]
    left_out: tuple[str, ...]


# --- the look ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Style:
    """How one method is drawn, in every plot."""

    colour: tuple[float, float, float]
    marker: str
    line: Any


def method_styles(methods: Iterable[str]) -> dict[str, Style]:
    """Give each method its colour, marker and line; they depend on the set of names, not on their order.

    Examples
    --------
    >>> method_styles(["b", "a"]) == method_styles(["a", "b", "a"])
    True
    """
    names = sorted(set(methods))
    colours = sns.color_palette("colorblind", 10)
    colours = [colours[i] for i in (0, 1, 2, 3, 4, 5, 9)]  # without grey, which is for what is no method, and the two palest
    markers, lines = "osD^vPX<>", ("-", "--", "-.", ":")  # as many as make pairs with the colours unique up to 63 methods
    return {
        name: Style(tuple(colours[i % len(colours)]), markers[i % len(markers)], lines[i // len(colours) % len(lines)])
        for i, name in enumerate(names)
    }


@contextmanager
def _look() -> Iterator[None]:
    """Style of all plots, for the time of drawing and saving only."""
    style = {
        **sns.axes_style("whitegrid"),
        **sns.plotting_context("paper"),
        "font.family": ["DejaVu Sans"],  # comes with matplotlib, so every machine has it
        "svg.hashsalt": "cadibench",
        "svg.fonttype": "path",
        "axes.titlesize": 9,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "text.usetex": False,
        "axes.formatter.use_locale": False,
    }
    with matplotlib.rc_context(style):
        yield


def _figure(width: float, height: float, title: str, caption: str) -> Figure:
    """A figure with its title on top and its caption at the foot; ``height`` (inches) is that of the panels."""
    title_lines = textwrap.wrap(title, max(20, int(width * 10)))
    caption_lines = textwrap.wrap(caption, int(width * _CHARACTERS_PER_INCH))
    foot, top = 0.15 * len(caption_lines) + 0.15, 0.2 * len(title_lines) + 0.1
    total = height + foot + top
    figure = Figure(figsize=(width, total), dpi=150)
    FigureCanvasAgg(figure)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0.005, foot / total, 0.99, height / total), w_pad=0.06, h_pad=0.05))
    edge = 0.08 / width
    figure.text(
        edge, 1 - 0.08 / total, "\n".join(title_lines), ha="left", va="top", fontsize=11, fontweight="bold", gid="title"
    )
    figure.text(edge, 0.08 / total, "\n".join(caption_lines), ha="left", va="bottom", fontsize=7.5, color="0.25", gid="caption")
    return figure


def title_of(figure: Figure) -> str:
    """The title of a figure, on one line."""
    return _text_of(figure, "title")


def caption_of(figure: Figure) -> str:
    """The caption of a figure, on one line."""
    return _text_of(figure, "caption")


def _text_of(figure: Figure, kind: str) -> str:
    return " ".join(next(t.get_text() for t in figure.texts if t.get_gid() == kind).split())


def _columns(n: int) -> int:
    """Columns of a grid of ``n`` panels: at most four, and rows as even as can be (5 is 3 + 2, not 4 + 1)."""
    return math.ceil(n / math.ceil(n / _PANEL_COLUMNS))


def _panels(figure: Figure, n: int, **options: Any) -> list[Axes]:
    """``n`` axes in a grid; the last row may be short."""
    n_columns = _columns(n)
    grid = figure.subplots(math.ceil(n / n_columns), n_columns, squeeze=False, **options)
    axes = list(grid.ravel())
    for unused in axes[n:]:
        unused.remove()
    return axes[:n]


def _panel_title(axes: Axes, dataset: str, n: int, width: float) -> None:
    room, count = max(18, int(width * 14)), f"n = {n} problem{'s' * (n != 1)}"
    label = f"{dataset} ({count})"
    axes.set_title(label if len(label) <= room else f"{_wrapped(dataset, room)}\n{count}")


def _wrapped(label: str, width: int = 26) -> str:
    """A long label on several lines; breaks after commas, underscores and brackets where it can."""
    pieces, lines = re.split(r"(?<=[,_\[ ])", label), [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line for whole in lines for line in textwrap.wrap(whole, width) or [""])


def _limits(axes: Axes, metric: str, axis: str) -> None:
    """Bounded scores show their whole range, distances start at 0."""
    kind = info(metric)
    set_limits = axes.set_xlim if axis == "x" else axes.set_ylim
    _, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    if kind.group in ("edge", "target") and kind.better == "higher":
        set_limits(-0.03, 1.03)
    elif kind.group == "graph":
        set_limits(-0.04 * max(high, 1.0), 1.04 * max(high, 1.0))
        (axes.xaxis if axis == "x" else axes.yaxis).set_major_locator(MaxNLocator(6, integer=True))


def _axis_label(metric: str) -> str:
    """Label with unit, and an arrow to the better side; on two lines where it is long."""
    arrow = {"lower": " ↓", "higher": " ↑", "neither": ""}[info(metric).better]
    return "\n".join(textwrap.wrap(info(metric).label + arrow, 30))


_INTERVALS = (
    "bars are 95\N{NO-BREAK SPACE}% bootstrap intervals over problems (none where n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}1)"
)


# --- data of the plots ------------------------------------------------------------------------------------------------


def method_order(rows: pd.DataFrame, sort_by: str = SORT_BY) -> list[str]:
    """One order of all methods for all plots of a run: by their rank on the first track, then those of the next ones."""
    order: list[str] = []
    tracks = sorted(map(str, rows["track"].unique()), key=lambda t: (t != "unknown", t))
    for track in tracks:
        order += compare(rows[rows["track"] == track], [sort_by], sort_by=sort_by, resamples=1).order
    return list(dict.fromkeys(order))


def _track_rows(rows: pd.DataFrame, track: str) -> pd.DataFrame:
    rows = check_rows(rows)
    rows = rows[(rows["track"] == track) & (rows["status"] != "skipped")]
    if rows.empty:
        raise NothingToPlot(f"no method ran on the track '{track}'")
    return rows


def _drawn(order: Sequence[str], rows: pd.DataFrame) -> list[str]:
    """The methods of some rows, in the given order."""
    present = set(rows["method"])
    return [*(m for m in order if m in present), *sorted(present - set(order))]


def _need_values(rows: pd.DataFrame, metrics: Sequence[str]) -> None:
    ok = rows[rows["status"] == "ok"]
    if not any(m in ok and np.isfinite(ok[m].astype(float)).any() for m in metrics):
        raise NothingToPlot(f"{info(metrics[0]).label} has no value on any problem")


def _with_values(rows: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Datasets where some method has a value or failed trying."""
    present = [m for m in metrics if m in rows]
    known = rows[present].astype(float).notna().any(axis=1) & (rows["status"] == "ok")
    scored = set(rows.loc[known, "dataset"])
    return sorted(str(d) for d in scored)


def _summaries(rows: pd.DataFrame, metrics: Sequence[str]) -> dict[tuple[str, str], Any]:
    """Mean, interval and counts of each method and metric on one dataset."""
    summary = compare(rows, metrics, sort_by=metrics[0]).summary
    return {(str(entry.method), str(entry.metric)): entry for entry in summary.itertuples(index=False)}


def _n_problems(rows: pd.DataFrame, dataset: str) -> int:
    return int(rows.loc[rows["dataset"] == dataset, "problem"].nunique())


def _errors(entries: Sequence[Any]) -> list[list[float]]:
    """Lengths of the error bars below and above the means; 0 where there is no interval."""
    below = [0.0 if math.isnan(e.low) else max(0.0, e.mean - e.low) for e in entries]
    above = [0.0 if math.isnan(e.high) else max(0.0, e.high - e.mean) for e in entries]
    return [below, above]


def _track_title(track: str) -> str:
    return TRACK_TITLES.get(track, track).replace(" ", "\N{NO-BREAK SPACE}")  # kept together where the title wraps


# --- (1) scores by method and dataset ---------------------------------------------------------------------------------


def plot_scores(
    rows: pd.DataFrame, metric: str, *, track: str, order: Sequence[str] = (), styles: Mapping[str, Style] | None = None
) -> Figure:
    """A metric by method and dataset: a point per problem, mean and interval, failures in words.

    Parameters
    ----------
    rows : DataFrame
        The rows frame.
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
    rows = _track_rows(rows, track)
    _need_values(rows, [metric])
    datasets, methods = _with_values(rows, [metric]), _drawn(order, rows)
    n_columns = _columns(len(datasets))
    n_rows = math.ceil(len(datasets) / n_columns)
    labels = [_wrapped(m) for m in methods]
    n_lines = [max(1.0, 0.75 * (1 + label.count("\n"))) for label in labels]
    panel_width = 3.4 if n_columns > 1 else 5.0
    with _look():
        figure = _figure(
            1.9 + panel_width * n_columns,
            n_rows * (0.27 * sum(n_lines) + 0.85),
            f"{info(metric).label} by method and dataset · {_track_title(track)}",
            f"Small points: one problem each, at the same height within a band for all methods. Large marker: mean; "
            f"{_INTERVALS}. n counts the problems; failures and undefined scores have no point and stand beside the panel.",
        )
        for i, (axes, dataset) in enumerate(zip(_panels(figure, len(datasets), sharey=True), datasets, strict=True)):
            _draw_scores(axes, rows[rows["dataset"] == dataset], metric, methods, styles)
            _panel_title(axes, dataset, _n_problems(rows, dataset), panel_width)
            axes.set_xlabel(_axis_label(metric))
            axes.set_yticks(range(len(methods)), labels)
            axes.set_ylim(len(methods) - 0.5, -0.5)
            axes.tick_params(axis="y", labelleft=i % n_columns == 0)
            axes.grid(False, axis="y")
    return figure


def _draw_scores(axes: Axes, rows: pd.DataFrame, metric: str, methods: Sequence[str], styles: Mapping[str, Style]) -> None:
    summary = _summaries(rows, [metric])
    problems = {p: i for i, p in enumerate(sorted(rows["problem"].unique()))}
    golden = (math.sqrt(5) - 1) / 2  # spreads any number of problems evenly, without drawing random numbers
    for y, method in enumerate(methods):
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="0.96", zorder=0, linewidth=0)
        entry = summary.get((method, metric))
        if entry is None:
            continue
        style = styles[method]
        points = rows[(rows["method"] == method) & (rows["status"] == "ok")]
        points = points[np.isfinite(points[metric].astype(float))]
        spread = [((problems[p] + 1) * golden) % 1 - 0.5 for p in points["problem"]]
        axes.scatter(points[metric], y + 0.6 * np.array(spread), s=9, color=style.colour, alpha=0.45, linewidths=0, zorder=2)
        if entry.n:
            axes.errorbar(
                entry.mean,
                y,
                xerr=_errors([entry]),
                color=style.colour,
                marker=style.marker,
                markersize=6,
                markeredgecolor="black",
                markeredgewidth=0.7,
                ecolor="black",
                elinewidth=1.4,
                capsize=3,
                zorder=4,
                label=method,
            )
    _limits(axes, metric, "x")
    for y, method in enumerate(methods):
        remark = _remark(summary.get((method, metric)))
        if remark:
            axes.annotate(
                remark,
                (1, y),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                ha="left",
                va="center",
                fontsize=7,
                color="0.25",
                annotation_clip=False,
            )


def _remark(entry: Any) -> str:
    """What has no point, in words."""
    if entry is None:
        return "not run"
    counts = {"failed": entry.failures, "undef.": entry.undefined}
    return "\n".join(f"{count} {word}" for word, count in counts.items() if count)


# --- (2) few-shot curves ----------------------------------------------------------------------------------------------


def few_shot_sizes(rows: pd.DataFrame, metric: str) -> list[int]:
    """Sizes at which a target metric is scored on held-out environments, increasing."""
    parsed = [parse_few_shot(str(c)) for c in rows.columns]
    return sorted({p[1] for p in parsed if p is not None and p[0] == metric})


def plot_few_shot(
    rows: pd.DataFrame, metric: str, *, track: str, order: Sequence[str] = (), styles: Mapping[str, Style] | None = None
) -> Figure:
    """A target metric on held-out environments against the samples per environment, a panel per dataset.

    Average precision has its chance level, the prevalence, as a dashed line; AUROC has .5.

    Raises
    ------
    NothingToPlot
        If no method has a few-shot value.
    """
    styles = styles or method_styles(rows["method"])
    rows = _track_rows(rows, track)
    sizes = few_shot_sizes(rows, metric)
    names = [few_shot_column(metric, size) for size in sizes]
    if not names:
        raise NothingToPlot(f"no few-shot {info(metric).label}: the suite has no held-out environments")
    _need_values(rows, names)
    datasets = _with_values(rows, names)
    values = rows[names].astype(float).notna().any(axis=1)
    methods = _drawn(order, rows[values])
    silent = sorted(set(rows["method"]) - set(methods))
    n_columns = _columns(len(datasets))
    chance = {"target_average_precision": "the prevalence, which is the average precision of chance", "target_auroc": "chance"}
    caption = (
        f"Mean over problems; {_INTERVALS}; curves are moved sideways a little to keep bars apart. "
        + (f"Dashed grey line: {chance[metric]}. " if metric in chance else "")
        + "Held-out environments were never seen by fit; a method that cannot adapt was fitted anew on training and all "
        "held-out environments of a size together." + (f" No value: {', '.join(silent)}." if silent else "")
    )
    with _look():
        figure = _figure(
            1.2 + 3.2 * n_columns + _legend_width(methods),
            max(3.0 * math.ceil(len(datasets) / n_columns), _legend_height(methods, 1)),
            f"Few-shot {info(metric).label} on unseen environments · {_track_title(track)}",
            caption,
        )
        for i, (axes, dataset) in enumerate(zip(_panels(figure, len(datasets), sharey=True), datasets, strict=True)):
            _draw_few_shot(axes, rows, metric, sizes, dataset, methods, styles)
            _panel_title(axes, dataset, _n_problems(rows, dataset), 3.2)
            axes.set_xlabel("samples per new environment")
            if i % n_columns == 0:
                axes.set_ylabel(_axis_label(metric))
        dashes = [Line2D([], [], color=_GREY, linestyle="--", linewidth=1.2, label="chance")] if metric in chance else []
        _legend(figure, methods, styles, lines=True, more=dashes)
    return figure


def _draw_few_shot(
    axes: Axes,
    rows: pd.DataFrame,
    metric: str,
    sizes: Sequence[int],
    dataset: str,
    methods: Sequence[str],
    styles: Mapping[str, Style],
) -> None:
    names = [few_shot_column(metric, size) for size in sizes]
    rows = rows[rows["dataset"] == dataset]
    summary = _summaries(rows, names)
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
            yerr=_errors(curve),
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            markersize=5,
            linewidth=1.4,
            elinewidth=1.0,
            label=method,
            zorder=3,
        )
    _draw_chance(axes, rows, metric, sizes)
    axes.xaxis.set_major_locator(FixedLocator(list(map(float, sizes))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    _limits(axes, metric, "y")


def _draw_chance(axes: Axes, rows: pd.DataFrame, metric: str, sizes: Sequence[int]) -> None:
    if metric == "target_auroc":
        axes.axhline(0.5, color=_GREY, linestyle="--", linewidth=1.2, label="chance", gid="chance")
    if metric == "target_average_precision":
        names = [few_shot_column("target_prevalence", size) for size in sizes]
        if not all(n in rows for n in names):
            return
        level = rows.groupby("problem")[names].first().astype(float).mean().to_numpy()
        if len(sizes) == 1:  # a line needs two ends
            axes.axhline(level[0], color=_GREY, linestyle="--", linewidth=1.2, label="chance", gid="chance")
        else:
            axes.plot(sizes, level, color=_GREY, linestyle="--", linewidth=1.2, label="chance", gid="chance")


def _legend_width(methods: Sequence[str]) -> float:
    """Inches that the legend at the right takes."""
    longest = max((len(line) for m in methods for line in _wrapped(m).split("\n")), default=0)
    return 0.6 + 0.075 * longest


def _legend_height(methods: Sequence[str], n_more: int) -> float:
    """Inches that the legend at the right takes, with ``n_more`` entries besides the methods."""
    n_lines = n_more + sum(1 + _wrapped(m).count("\n") for m in methods)
    return 0.135 * n_lines + 0.055 * (len(methods) + n_more) + 0.2


def _legend(
    figure: Figure, methods: Sequence[str], styles: Mapping[str, Style], *, lines: bool, more: Sequence[Line2D] = ()
) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=styles[m].colour,
            marker=styles[m].marker,
            linestyle=styles[m].line if lines else "none",
            markersize=5,
            label=_wrapped(m),
        )
        for m in methods
    ]
    figure.legend(handles=[*handles, *more], loc="outside right center", frameon=False, handlelength=2.6 if lines else 1.2)


# --- (3) accuracy against run time ------------------------------------------------------------------------------------


def plot_run_time(
    rows: pd.DataFrame, metric: str, *, track: str, order: Sequence[str] = (), styles: Mapping[str, Style] | None = None
) -> Figure:
    """A metric against the time of a fit, a panel per dataset; failures on a strip at the worse side.

    A timeout stands at its time limit, another failure at the time it took; failures without a known time are counted in the
    caption only.

    Raises
    ------
    NothingToPlot
        If no problem has both a score and a time.
    """
    styles = styles or method_styles(rows["method"])
    rows = _track_rows(rows, track)
    _need_values(rows, [metric])
    _need_values(rows, ["fit_seconds"])
    rows = rows.assign(seconds=[_seconds(r) for r in rows.to_dict("records")], failed=rows["status"].isin(FAILURES))
    has_value = rows[metric].notna() & (rows["status"] == "ok")
    datasets, methods = _with_values(rows, [metric]), _drawn(order, rows[has_value | rows["failed"]])
    silent = sorted(set(rows["method"]) - set(methods))
    unplaced = Counter(rows.loc[rows["failed"] & rows["seconds"].isna(), "method"])
    n_columns = _columns(len(datasets))
    any_failed = bool(rows["failed"].any())
    caption = f"Small points: one problem each. Large marker: means of time and score; {_INTERVALS}. "
    if any_failed:
        caption += (
            "Grey strip at the worse edge, without a score: × timeout at its limit (dotted line), "
            "+ other failure at the time it took. "
        )
    if unplaced:
        caption += f"Failures of unknown time, not drawn: {', '.join(f'{m} ({k})' for m, k in sorted(unplaced.items()))}. "
    caption += "The time is that of the fit alone, one thread."
    caption += f" No value: {', '.join(silent)}." if silent else ""
    with _look():
        figure = _figure(
            1.2 + 3.4 * n_columns + _legend_width(methods),
            max(3.2 * math.ceil(len(datasets) / n_columns), _legend_height(methods, 2)),
            f"{info(metric).label} against run time · {_track_title(track)}",
            caption,
        )
        for i, (axes, dataset) in enumerate(zip(_panels(figure, len(datasets), sharex=True), datasets, strict=True)):
            _draw_run_time(axes, rows[rows["dataset"] == dataset], metric, methods, styles)
            _panel_title(axes, dataset, _n_problems(rows, dataset), 3.4)
            axes.set_xlabel("fit time (s, log scale)")
            axes.tick_params(axis="x", labelbottom=True)
            if i % n_columns == 0:
                axes.set_ylabel(_axis_label(metric))
        failed = set(rows.loc[rows["failed"] & rows["seconds"].notna(), "status"])
        marks = [
            Line2D([], [], color="0.2", marker=marker, linestyle="none", markersize=6, label=label)
            for marker, label, seen in (("x", "timeout", "timeout" in failed), ("+", "other failure", failed - {"timeout"}))
            if seen
        ]
        _legend(figure, methods, styles, lines=False, more=marks)
    return figure


def _seconds(row: Mapping[Any, Any]) -> float:
    """Time of a cell; a timeout took its limit, whatever was measured."""
    limit, taken = (float(row.get(c, math.nan) or math.nan) for c in ("time_limit", "fit_seconds"))
    if row["status"] == "timeout" and math.isfinite(limit):
        return limit
    return taken if math.isfinite(taken) and taken > 0 else math.nan


def _draw_run_time(axes: Axes, rows: pd.DataFrame, metric: str, methods: Sequence[str], styles: Mapping[str, Style]) -> None:
    axes.set_xscale("log")
    summary = _summaries(rows, [metric, "fit_seconds"])
    for method in methods:
        if (method, metric) not in summary:
            continue
        style = styles[method]
        points = rows[(rows["method"] == method) & (rows["status"] == "ok")].dropna(subset=[metric, "seconds"])
        axes.scatter(points["seconds"], points[metric], s=8, color=style.colour, alpha=0.35, linewidths=0, zorder=2)
        score, time = summary[method, metric], summary[method, "fit_seconds"]
        if score.n and time.n and time.mean > 0:
            axes.errorbar(
                time.mean,
                score.mean,
                xerr=_errors([time]),
                yerr=_errors([score]),
                color=style.colour,
                marker=style.marker,
                markersize=7,
                markeredgecolor="black",
                markeredgewidth=0.7,
                elinewidth=1.2,
                zorder=4,
                label=method,
            )
    _limits(axes, metric, "y")
    _draw_failures(axes, rows[rows["failed"] & rows["seconds"].notna()], metric, methods, styles)


def _draw_failures(axes: Axes, failed: pd.DataFrame, metric: str, methods: Sequence[str], styles: Mapping[str, Style]) -> None:
    """Marks on a strip beyond the worst score."""
    if failed.empty:
        return
    low, high = axes.get_ylim()
    present = [m for m in methods if m in set(failed["method"])]
    strip = (0.08 + 0.01 * len(present)) * (high - low)
    axes.set_yticks([t for t in axes.get_yticks() if low <= t <= high])  # none on the strip, which has no scale
    worse_is_up = info(metric).better == "lower"
    axes.set_ylim(low if worse_is_up else low - strip, high + strip if worse_is_up else high)
    bottom = high if worse_is_up else low - strip
    axes.axhspan(bottom, bottom + strip, color="0.9", zorder=0, linewidth=0, gid="failures")
    for i, method in enumerate(present):
        y = bottom + strip * (i + 0.5) / len(present)
        for mark, chosen in (("x", failed["status"] == "timeout"), ("+", failed["status"] != "timeout")):
            x = failed.loc[chosen & (failed["method"] == method), "seconds"]
            if len(x):
                axes.scatter(x, np.full(len(x), y), marker=mark, s=34, color=styles[method].colour, linewidths=1.4, zorder=5)
    for limit in sorted(set(failed.loc[failed["status"] == "timeout", "seconds"])):
        axes.axvline(limit, color=_GREY, linestyle=":", linewidth=1.0, zorder=1, gid="limit")


# --- (4) edge probabilities beside the truth --------------------------------------------------------------------------


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
    methods = _drawn(order, edges)
    shown, cut = methods[:max_methods], methods[max_methods:]
    truth = _matrix(edges.drop_duplicates(["source", "target"]), "truth", _variables(edges))
    variables = _causal_order(truth)
    truth = truth.loc[variables, variables]
    known = bool(truth.notna().any(axis=None))
    d, n_panels = len(variables), len(shown) + known
    n_columns = _columns(n_panels)
    n_rows = math.ceil(n_panels / n_columns)
    side = float(np.clip(0.14 * d + 0.9, 2.4, 4.2))
    titles = ["truth"] * known + [_wrapped(m, 30) for m in shown]
    names = 0.009 * _tick_size(d) * max(len(str(v)) for v in variables)  # inches that the longest name of a variable takes
    above = 0.2 + 0.15 * max(1 + title.count("\n") for title in titles)
    first = edges.iloc[0]
    caption = f"One problem: {first['dataset']}, repetition {first['repetition']}, {d} variables. Row: cause; column: effect. "
    if known:
        acyclic = _is_ordered(truth)
        caption += f"Frames: the {int((truth == 1).sum().sum())} true edges. "
        caption += "Variables in a causal order of the truth, so edges below the diagonal point backwards. " if acyclic else ""
        unscored = int(truth.isna().to_numpy().sum()) - d
        caption += f"Grey in the truth: {unscored} ordered pairs that are not known. " if unscored else ""
    caption += f"Not shown, for want of room: {', '.join(cut)}." if cut else ""
    with _look(), matplotlib.rc_context(sns.axes_style("white")):
        figure = _figure(
            1.3 + names + (side + 0.15) * n_columns,
            (side + above + names) * n_rows + 0.25,
            f"Edge probabilities{' beside the truth' if known else ''} · {first['dataset']} · {_track_title(track)}",
            caption.strip(),
        )
        panels = _panels(figure, n_panels)
        for i, (axes, title) in enumerate(zip(panels, titles, strict=True)):
            is_truth = known and i == 0
            of_method = edges[edges["method"] == shown[i - known]]
            matrix = truth if is_truth else _matrix(of_method, "probability", variables)
            _draw_matrix(axes, matrix, truth, names_rows=i % n_columns == 0)
            axes.set_title(title)
            axes.set_xlabel("effect" if i + n_columns >= n_panels else "")
        image = panels[-1].images[0]
        figure.colorbar(image, ax=panels, shrink=0.6, aspect=30, pad=0.01, label="probability (or score) of the edge")
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


# --- (5) reliability --------------------------------------------------------------------------------------------------


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
    methods = _drawn(order, bins)
    n_columns = _columns(len(methods))
    n_rows = math.ceil(len(methods) / n_columns)
    n_problems = len(bins[["dataset", "problem"]].drop_duplicates())
    with _look():
        figure = _figure(
            max(4.6, 0.7 + 2.5 * n_columns),
            n_rows * 3.3,
            f"Reliability of {quantity} probabilities · {_track_title(track)}",
            f"Pooled over n = {n_problems} problem{'s' * (n_problems != 1)}. Filled: probabilities in (.05, .95), over which "
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
    upper.plot([0, 1], [0, 1], linestyle="--", color=_GREY, linewidth=1.0, gid="diagonal")
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
    upper.set_title(f"{_wrapped(method, 30)}\n{said}")
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.25, 0.5, 0.75, 1], yticks=[0, 0.25, 0.5, 0.75, 1])
    upper.tick_params(labelbottom=False)
    lower.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    lower.set_yscale("log")
    lower.set_ylim(bottom=0.5)
    lower.grid(False, axis="x")


# --- files ------------------------------------------------------------------------------------------------------------


def save(figure: Figure, directory: Path, stem: str) -> list[Path]:
    """Write a figure as PNG (150 dots per inch) and SVG, whole or not at all, the same bytes for the same figure."""
    paths = []
    with _look():
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
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position([round(x, 5) for x in axes.get_position(original=True).bounds])  # type: ignore[arg-type]


def write_plots(
    rows: pd.DataFrame,
    directory: Path,
    *,
    edges: pd.DataFrame | None = None,
    reliability: pd.DataFrame | None = None,
    sort_by: str = SORT_BY,
) -> Plots:
    """Write every plot that the frames of a run allow.

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
    styles, order = method_styles(rows["method"]), method_order(rows, sort_by)
    look: dict[str, Any] = {"order": order, "styles": styles}
    planned: dict[str, Callable[[], Figure]] = {}

    def plan(stem: str, function: Callable[..., Figure], *arguments: Any, **options: Any) -> None:
        while stem in planned:  # labels that differ in punctuation only
            stem += "-2"
        planned[stem] = lambda: function(*arguments, **options)

    for track in sorted(map(str, rows["track"].unique())):
        for metric in dict.fromkeys([sort_by, *SCORE_METRICS]):
            plan(f"scores-{track}-{metric}", plot_scores, rows, metric, track=track, **look)
        for metric in FEW_SHOT:
            if metric != "target_prevalence" and few_shot_sizes(rows, metric):
                plan(f"few-shot-{track}-{metric}", plot_few_shot, rows, metric, track=track, **look)
        for metric in dict.fromkeys([sort_by, *RUN_TIME_METRICS]):
            plan(f"run-time-{track}-{metric}", plot_run_time, rows, metric, track=track, **look)
        for dataset, of_problem in _first_problems(edges, track):
            plan(f"edges-{track}-{slug(dataset)}", plot_edges, of_problem, track=track, order=order)
        if reliability is not None:
            for quantity in sorted(map(str, reliability["quantity"].unique())):
                plan(f"reliability-{track}-{quantity}", plot_reliability, reliability, quantity, track=track, **look)
    written: list[Path] = []
    left_out: list[str] = []
    for stem, draw in planned.items():
        try:
            written += save(draw(), directory, stem)
        except NothingToPlot as reason:
            left_out.append(f"{stem}: {reason}")
    return Plots(tuple(written), tuple(left_out))


def _first_problems(edges: pd.DataFrame | None, track: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The edges of the first repetition of each dataset on a track."""
    if edges is None or edges.empty:
        return
    for dataset, of_dataset in edges[edges["track"] == track].groupby("dataset", sort=True):
        first = of_dataset.sort_values(["repetition", "problem"], kind="stable")["problem"].iloc[0]
        yield str(dataset), of_dataset[of_dataset["problem"] == first]
