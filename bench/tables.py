"""Tables: what every :class:`Board` offers, ranked ones (:class:`Leaderboard`), and how a board is laid out in a terminal.

The texts of the cells are made once, the same for every format. How the numbers come about is the business of
``bench.statistics``, what stands under a table that of ``bench.footnotes``; boards that compare with one method or of two
tracks are made by ``bench.differences``, files by ``bench.table_files``.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from bench.columns import is_cost, parse_few_shot, scores_the_graph
from bench.errors import UnknownName
from bench.footnotes import footnotes
from bench.labels import (
    NOTHING,
    SORT_BY,
    TRACK_TITLES,
    format_interval,
    format_value,
    head,
    short_label,
    slug,
    was_cut_short,
)
from bench.statistics import Comparison, check_rows, compare
from bench.texts import counted

DEFAULT_METRICS = (
    "shd_interventional",
    "edge_average_precision",
    "target_f1",
    "target_average_precision",
    "fit_seconds",
    "shd",
)
"""Shown by default; a terminal too narrow for all of them loses the last ones first."""

UNTOLD_SORT_BY = "target_f1"
"""Orders the methods where the graph was told."""

_OUTPUTS = ("edge_output", "target_output")
_OUTPUT_MARKS = {"binary": "ᵇ", "score": "ˢ", "posterior": "ᵖ"}
_OUTPUT_WORDS = {"binary": "a binary answer", "score": "scores", "posterior": "posterior probabilities"}
_METHOD_MARKS = {"targets_given": "†", "cut_short": "‡"}
_METHOD_WORDS = {"targets_given": "was told the targets", "cut_short": "some answers are the best so far as the budget ran out"}
_LEVEL_MARKS = {"level": " ≈", "level_where_answered": " (≈)"}


# --- the table before it has a format ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry: the number, and what stands under or behind it (an interval).

    ``span`` holds the numbers behind the texts, (low, value, high), for those who sort or draw; None where there is no number.
    """

    text: str
    interval: str = ""
    mark: str = ""
    span: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of texts; ``metric`` where a narrow terminal may drop it, ``by_factors`` where numbers differ by factors."""

    head: str
    cells: tuple[Cell, ...]
    metric: str | None = None
    left: bool = False
    by_factors: bool = False


class Board(ABC):
    """A table before it has a format: texts for those who read it, numbers for those who compute.

    ``name`` is the stem of its files, ``title`` says what, where and over how many problems, ``notes`` are its footnotes,
    ``scope`` its ``track`` and ``dataset`` (empty where pooled).
    """

    __slots__ = ()

    name: str
    title: str
    notes: tuple[str, ...]
    scope: dict[str, str]

    @abstractmethod
    def columns(self) -> list[Column]:
        """The columns as texts."""

    @abstractmethod
    def numbers(self) -> pd.DataFrame:
        """The same, tidy and unrounded."""

    def how_to_read(self) -> list[str]:
        """What a board that stands alone says besides its notes."""
        return []

    def strong(self) -> int | None:
        """The row that stands out, None for none."""
        return None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, style="bold")  # not the table's own title, which folds at the width of the table
        yield terminal_table(self, options.max_width)
        yield from (Text(note, style="dim") for note in self.notes)


@dataclass(frozen=True, slots=True, eq=False)
class Leaderboard(Board):
    """A ranked table of one track.

    Parameters
    ----------
    name : str
        Stem of its files.
    title : str
        What, where, how many problems.
    comparison : Comparison
        All numbers, in order of the ranking.
    metrics : tuple of str
        Columns; the sorting metric comes first.
    methods : DataFrame
        The methods shown, best first: ``targets_given`` and ``cut_short`` (bool; on any problem), ``edge_output`` and
        ``target_output``, indexed by ``method``.
    notes : tuple of str
        Footnotes of this table; :func:`legend` says what holds for all.
    scope : dict
        ``track``, ``family`` and ``dataset`` (empty where pooled).
    """

    name: str
    title: str
    comparison: Comparison
    metrics: tuple[str, ...]
    methods: pd.DataFrame
    notes: tuple[str, ...]
    scope: dict[str, str]

    def columns(self) -> list[Column]:
        return columns(self)

    def numbers(self) -> pd.DataFrame:
        """A line per method and metric."""
        comparison = self.comparison
        tests = comparison.tests.drop(columns="n").rename_axis("method").reset_index().assign(metric=comparison.sort_by)
        frame = comparison.summary.merge(tests, how="left", on=["method", "metric"])
        for name, value in reversed(self.scope.items()):
            frame.insert(0, name, value)
        for column in ("targets_given", "edge_output", "target_output"):
            frame[column] = frame["method"].map(self.methods[column])
        return frame

    def how_to_read(self) -> list[str]:
        return legend([self])

    def strong(self) -> int | None:
        return None if self.comparison.first is None else list(self.methods.index).index(self.comparison.first)


def leaderboard(
    rows: pd.DataFrame,
    *,
    track: str,
    dataset: str | None = None,
    family: str | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    sort_by: str = SORT_BY,
    subject: str = "",
) -> Leaderboard:
    """Rank the methods of a track, on one dataset, on a family of datasets or on all of them.

    Where the true graph was told, its scores say nothing: they are left out, and ``target_f1`` takes the place of one that
    was to order the methods.

    Methods without a value in any column, which have not failed either, are named under the table and have no row.

    Parameters
    ----------
    rows : DataFrame
        The rows frame (see ``bench.columns``); metric columns may be absent.
    track : str
        E.g. ``"unknown"``.
    dataset : str, optional
        Label of one dataset; all are pooled by default, each problem with the same weight.
    family : str, optional
        A family of datasets that the suite names.
    metrics : sequence of str
        Columns to show; those without any value are left out, and the notes say so.
    sort_by : str
        Metric whose mean rank orders the methods.
    subject : str
        Added to the title and the name, where a track has several tables.

    Returns
    -------
    Leaderboard

    Raises
    ------
    InputError
        If there is no such track, dataset or family, or the rows break their contract.
    """
    rows = _only(check_rows(rows), "track", track)
    if dataset is not None:
        rows = _only(rows, "dataset", dataset)
    if family is not None:
        rows = _only(rows, "family", family)
    told = [] if track != "graph" else [m for m in dict.fromkeys([sort_by, *metrics]) if scores_the_graph(m)]
    metrics = [m for m in metrics if m not in told]
    sort_by = UNTOLD_SORT_BY if sort_by in told else sort_by
    comparison = compare(rows, metrics, sort_by=sort_by)
    wanted = list(dict.fromkeys([sort_by, *metrics]))
    valued = comparison.summary.groupby("metric")["n"].sum().gt(0)
    shown = tuple(m for m in wanted if m == sort_by or bool(valued.get(m, False)))
    unvalued = [short_label(m) for m in wanted if m not in shown]
    silent = _silent(comparison, shown)
    notes = footnotes(rows, comparison, shown, silent)
    notes += ["Scores of the graph are left out: every method was told it."] if told else []
    notes += [f"Left out, as no method has a value: {', '.join(unvalued)}."] if unvalued else []
    met = rows[rows["status"] != "skipped"]
    datasets = sorted(map(str, (rows if met.empty else met)["dataset"].unique()))
    where = "; ".join(datasets) if len(datasets) <= 3 and not family else counted(len(datasets), "dataset")
    count = counted(comparison.n_problems, "problem")
    return Leaderboard(
        name="-".join(slug(part) for part in ("leaderboard", track, family and f"family-{family}", dataset, subject) if part),
        title=" · ".join(part for part in (TRACK_TITLES.get(track, track), subject, family, where, count) if part),
        comparison=comparison,
        metrics=shown,
        methods=_methods(rows, [m for m in comparison.order if m not in silent]),
        notes=tuple(notes),
        scope={"track": track, "family": family or "", "dataset": dataset or ""},
    )


def _only(rows: pd.DataFrame, column: str, value: str) -> pd.DataFrame:
    known = sorted(map(str, rows[column].unique()))
    if value not in known:
        raise UnknownName(column, value, known)
    return rows[rows[column].astype(str) == value]


def _silent(comparison: Comparison, metrics: Sequence[str]) -> list[str]:
    """Methods that have not failed and yet have no value of any of the metrics."""
    summary = comparison.summary[comparison.summary["metric"].isin(metrics)]
    counts = summary.groupby("method")[["n", "failures"]].sum().sum(axis=1)
    return [m for m in comparison.order if not counts[m]]


def _methods(rows: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Whether each method was told the targets, whether it was ever cut short, and what its edge probabilities are."""
    rows = rows[rows["status"] != "skipped"]
    cut = was_cut_short(rows).groupby(rows["method"]).any()
    ran = rows.reindex(columns=["method", "targets_given", *_OUTPUTS])
    given = ran["targets_given"].eq(True).groupby(ran["method"]).any()
    outputs = ran.groupby("method")[[*_OUTPUTS]].first().astype(object).fillna("")  # runs of earlier versions lack some
    return outputs.assign(targets_given=given, cut_short=cut).reindex(pd.Index(order, name="method"))


def _output_ranked(metric: str) -> str | None:
    """The column that says what kind of answer an average precision ranked; None for other metrics."""
    if not metric.startswith(("edge_average_precision", "target_average_precision", "few_shot_target_average_precision")):
        return None
    return "edge_output" if metric.startswith("edge") else "target_output"


def columns(board: Leaderboard) -> list[Column]:
    """The columns of a board as texts, the same for every format."""
    comparison, sort_by = board.comparison, board.comparison.sort_by
    keyed = comparison.summary.set_index(["method", "metric"])

    def entry(method: str, metric: str = sort_by) -> Any:
        return keyed.loc[(method, metric)]

    def mean(method: str, metric: str) -> Cell:
        e = entry(method, metric)
        if not e["n"]:
            return Cell(NOTHING)
        # Average precision of a binary answer and of a posterior are not alike, so the number says which it is.
        output = _output_ranked(metric)
        mark = _OUTPUT_MARKS.get(str(board.methods[output][method]), "") if output else ""
        return Cell(
            format_value(e["mean"], metric),
            format_interval(e["low"], e["high"], metric),
            mark,
            (e["low"], e["mean"], e["high"]),
        )

    def difference(method: str) -> Cell:
        e = entry(method)
        if e["verdict"] == "first" or not e["n_paired"]:
            return Cell(NOTHING)
        text = format_value(e["difference"], sort_by, signed=True)
        interval = format_interval(e["difference_low"], e["difference_high"], sort_by, signed=True)
        span = (e["difference_low"], e["difference"], e["difference_high"])
        return Cell(text, interval, _LEVEL_MARKS.get(e["verdict"], ""), span)

    def mean_rank(method: str) -> Cell:
        value = entry(method)["mean_rank"]
        return Cell(NOTHING if math.isnan(value) else f"{value:.2f}")

    def named(method: str) -> Cell:
        marks = "".join(mark for column, mark in _METHOD_MARKS.items() if board.methods[column][method])
        return Cell(method, mark=f" {marks}" if marks else "")

    def each(function: Callable[[str], Cell]) -> tuple[Cell, ...]:
        return tuple(map(function, board.methods.index))

    return [
        Column("method", each(named), left=True),
        Column("mean rank", each(mean_rank)),
        Column(head(sort_by), each(lambda m: mean(m, sort_by)), by_factors=is_cost(sort_by)),
        Column("Δ to first", each(difference)),
        *(
            Column(head(x), each(partial(mean, metric=x)), metric=x, by_factors=is_cost(x))
            for x in board.metrics
            if x != sort_by
        ),
        Column("n", each(lambda m: Cell(f"{entry(m)['n']}/{comparison.n_problems}"))),
        Column("failed", each(lambda m: Cell(str(entry(m)["failures"])))),
    ]


def legend(boards: Sequence[Leaderboard]) -> list[str]:
    """How to read some boards: what holds for all of them, and the marks that occur in any."""
    if not boards:
        return []
    verdicts = {v for b in boards for v in b.comparison.verdicts().values()}
    metrics = {m for b in boards for m in b.metrics}
    level = "; ≈ not told from it (the interval contains 0, or no test tells them apart)" if "level" in verdicts else ""
    if "level_where_answered" in verdicts:
        level += "; (≈) so too on what both answered, but failed where the first answered"
    marked = {column for column in _METHOD_MARKS for b in boards if b.methods[column].any()}
    marks = [f"{mark} {_METHOD_WORDS[column]}" for column, mark in _METHOD_MARKS.items() if column in marked]
    ranked = {output for m in metrics if (output := _output_ranked(m))}
    kinds = {kind for b in boards for output in ranked for kind in b.methods[output]}
    words = [f"{_OUTPUT_MARKS[kind]} {word}" for kind, word in _OUTPUT_WORDS.items() if kind in kinds]
    marks += [f"average precision (AP) of {', '.join(words)}"] if words else []
    lines = [
        "Order: mean rank on the first score; 1 is best, ties share, failures and scores undefined for one method rank last.",
        "Scores: means over the n problems answered, each of equal weight, with 95 % bootstrap intervals over problems within "
        "datasets (none for a single problem). –: not estimated, or undefined wherever it answered.",
        f"Δ: method minus the first, mean over the problems that both answered{level}.",
        *([f"Marks: {'; '.join(marks)}."] if marks else []),
        "Data: a sortability of .5 gives no causal order away, 1 all of it; the chance level of AP is the prevalence.",
    ]
    if any(parse_few_shot(m) for m in metrics):
        lines.append(
            "Few-shot: targets of held-out environments with n samples each; a method that cannot adapt is fitted anew on "
            "training and held-out environments together, which is an advantage."
        )
    return lines


# --- the terminal -----------------------------------------------------------------------------------------------------


def terminal_table(board: Board, width: int) -> Table:
    """The table for a terminal of so many characters; :func:`left_out` names the columns for which there is no room."""
    shown, widths = _fitted(board, width)
    table = Table(header_style="bold")
    table.box, table.show_edge, table.padding = box.SIMPLE_HEAD, False, (0, 1, 0, 0)  # two spaces between columns
    for column, room in zip(shown, widths, strict=True):
        table.add_column(column.head, justify="left" if column.left else "right", width=room, overflow="fold")
    for i in range(len(shown[0].cells)):
        table.add_row(*(_terminal_cell(column.cells[i]) for column in shown), style="bold" if i == board.strong() else None)
    return table


def left_out(board: Board, width: int) -> list[str]:
    """Metrics for which a terminal of so many characters has no room."""
    shown = {column.metric for column in _fitted(board, width)[0]}
    return [short_label(c.metric) for c in board.columns() if c.metric is not None and c.metric not in shown]


def _fitted(board: Board, width: int) -> tuple[list[Column], list[int]]:
    """Columns that fit and their widths: long labels fold and the last metrics go, but what room is left is the labels'."""
    shown = board.columns()
    widths = [_width(column) for column in shown]
    whole = widths[0]
    widths[0] = min(whole, width // 3 if width >= 100 else 16)
    while sum(widths) + 2 * len(shown) - 1 > width and any(column.metric for column in shown):
        last = max(i for i, column in enumerate(shown) if column.metric)
        del shown[last], widths[last]
    widths[0] = min(whole, max(widths[0], width - sum(widths[1:]) - 2 * len(shown) + 1))
    return shown, widths


def _width(column: Column) -> int:
    lines = [line for cell in column.cells for line in _terminal_cell(cell).plain.split("\n")]
    return max(map(len, [*lines, *column.head.split()]))


def _terminal_cell(cell: Cell) -> Text:
    """Interval under the number, without what would only cost width: spaces, zeros before the point, signs of a bound."""
    text = Text(cell.text + cell.mark)
    if cell.interval:
        short = re.sub(r"(?<!\d)0\.", ".", cell.interval).replace(", ", ",").replace("+", "")
        text.append("\n" + short, style="dim")
    return text
