"""Ranked tables for the terminal, CSV, Markdown and LaTeX, all from one :class:`Leaderboard`.

Every format shows the same numbers: the texts of the cells are made once, and the CSV holds them unrounded. The footnotes say
what a reader must know to judge the table: on what problems the ranks are, who failed how, what is undefined, who was told
the targets, and how much of the order the marginal scales of the data give away. How the numbers come about is the business
of ``bench.statistics``; where the files go, that of ``bench.report``.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from bench.columns import FAILURES, info, parse_few_shot
from bench.errors import InputError, UnknownName
from bench.files import write_atomic
from bench.statistics import MINIMUM_PAIRS, Comparison, check_rows, compare

SORT_BY = "shd_interventional"
DEFAULT_METRICS = (
    "shd_interventional",
    "edge_average_precision",
    "target_f1",
    "target_average_precision",
    "fit_seconds",
    "shd",
)
"""Shown by default; a terminal too narrow for all of them loses the last ones first."""

NOTHING = "–"

_HEADS = {
    "shd": "SHD",
    "shd_interventional": "SHD I-essential",
    "fit_seconds": "fit time (s)",
    "adapt_seconds": "adaptation time (s)",
}
_ARROWS = {"lower": " ↓", "higher": " ↑", "neither": ""}
TRACK_TITLES = {"unknown": "targets unknown", "oracle": "oracle track (targets told)"}
_EDGE_MARKS = {"binary": "ᵇ", "score": "ˢ", "posterior": "ᵖ"}
_EDGE_WORDS = {"binary": "a binary graph", "score": "scores", "posterior": "posterior probabilities"}
_LEVEL_MARKS = {"level": " ≈", "level_where_answered": " (≈)"}
_STATUS_WORDS = {"timeout": "timeout", "out_of_memory": "out of memory", "error": "error", "invalid": "invalid estimate"}


# --- the table before it has a format ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Leaderboard:
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
        Indexed by method: ``targets_given`` (bool) and ``edge_output``.
    reading : tuple of str
        How to read it: the same for every board that is sorted alike.
    notes : tuple of str
        What is particular to this board: failures, skipped methods, undefined scores.
    scope : dict
        ``track`` and ``dataset`` (empty where pooled).
    """

    name: str
    title: str
    comparison: Comparison
    metrics: tuple[str, ...]
    methods: pd.DataFrame
    reading: tuple[str, ...]
    notes: tuple[str, ...]
    scope: dict[str, str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _render(self, options)


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry: the number, and what stands under or behind it (an interval)."""

    text: str
    interval: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of texts; ``metric`` where a narrow terminal may drop it."""

    head: str
    cells: tuple[Cell, ...]
    metric: str | None = None
    left: bool = False


def leaderboard(
    rows: pd.DataFrame,
    *,
    track: str,
    dataset: str | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    sort_by: str = SORT_BY,
    subject: str = "",
) -> Leaderboard:
    """Rank the methods of a track, on one dataset or on all of them.

    Parameters
    ----------
    rows : DataFrame
        The rows frame (see ``bench.columns``); metric columns may be absent.
    track : str
        E.g. ``"unknown"``.
    dataset : str, optional
        Label of one dataset; all are pooled by default, each problem with the same weight.
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
        If there is no such track or dataset, or the rows break their contract.
    """
    rows = check_rows(rows)
    rows = _only(rows, "track", track)
    if dataset is not None:
        rows = _only(rows, "dataset", dataset)
    comparison = compare(rows, metrics, sort_by=sort_by)
    wanted = list(dict.fromkeys([sort_by, *metrics]))
    valued = comparison.summary.groupby("metric")["n"].sum().gt(0)
    shown = tuple(m for m in wanted if m == sort_by or bool(valued.get(m, False)))
    ran = rows[rows["status"] != "skipped"]
    methods = pd.DataFrame(
        {
            "targets_given": [bool(_column(ran, "targets_given", m).eq(True).any()) for m in comparison.order],
            "edge_output": [next(iter(_column(ran, "edge_output", m).dropna().astype(str)), "") for m in comparison.order],
        },
        index=pd.Index(comparison.order, name="method"),
    )
    where = dataset if dataset is not None else _named("dataset", sorted(map(str, rows["dataset"].unique())), limit=3)
    n = comparison.n_problems
    parts = [TRACK_TITLES.get(track, track), where, subject, f"{n} problem{'s' * (n != 1)}"]
    notes = [*_notes(rows, comparison, shown), *_left_out(m for m in wanted if m not in shown)]
    name = "-".join(slug(part) for part in ("leaderboard", track, dataset, subject) if part)
    title = " · ".join(p for p in parts if p)
    reading = _reading(comparison, methods, shown)
    return Leaderboard(
        name, title, comparison, shown, methods, reading, tuple(notes), {"track": track, "dataset": dataset or ""}
    )


def _only(rows: pd.DataFrame, column: str, value: str) -> pd.DataFrame:
    known = sorted(map(str, rows[column].unique()))
    if value not in known:
        raise UnknownName(column, value, known)
    return rows[rows[column].astype(str) == value]


def _column(rows: pd.DataFrame, column: str, method: str) -> pd.Series[Any]:
    return rows.loc[rows["method"] == method, column] if column in rows else pd.Series(dtype=object)


def _named(kind: str, names: Sequence[str], limit: int) -> str:
    """``"dataset er"``, ``"datasets er, sf"``, or only their number where they are many."""
    if len(names) > limit:
        return f"{len(names)} {kind}s"
    return f"{kind}{'s' * (len(names) != 1)} {', '.join(names)}"


def slug(text: str) -> str:
    """A file name part from a label.

    Examples
    --------
    >>> slug("er[d=10, hard]")
    'er-d-10-hard'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "unnamed"


def format_value(value: float, metric: str, *, signed: bool = False) -> str:
    """A number with the digits of its metric; costs get two significant digits or more, whatever their size.

    Examples
    --------
    >>> format_value(3.14159, "shd"), format_value(-0.001, "edge_auroc", signed=True), format_value(0.00123, "fit_seconds")
    ('3.1', '0.00', '0.0012')
    """
    if not math.isfinite(value):
        return NOTHING
    decimals = info(metric).decimals
    if info(metric).group == "cost" and value != 0:
        decimals = max(0, 1 - math.floor(math.log10(abs(value)))) if abs(value) < 100 else 0
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return f"+{text}" if signed and value > 0 else text


def _interval(low: float, high: float, metric: str, *, signed: bool = False) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return NOTHING
    return f"[{format_value(low, metric, signed=signed)}, {format_value(high, metric, signed=signed)}]"


def head(metric: str) -> str:
    """Short column head of a metric, with an arrow to its better side."""
    few_shot = parse_few_shot(metric)
    if few_shot is not None:
        return f"{info(few_shot[0]).label} n={few_shot[1]}{_ARROWS[info(metric).better]}"
    return _HEADS.get(metric, info(metric).label) + _ARROWS[info(metric).better]


def columns(board: Leaderboard) -> list[Column]:
    """The columns of a board as texts, the same for every format."""
    comparison, order = board.comparison, board.comparison.order
    sort_by = comparison.sort_by
    keyed = comparison.summary.set_index(["method", "metric"])

    def entry(method: str, metric: str) -> Any:
        return keyed.loc[(method, metric)]

    def mean(method: str, metric: str) -> Cell:
        e = entry(method, metric)
        if not e["n"]:
            return Cell(NOTHING)
        # Average precision of a binary graph and of a posterior are not alike, so the number says which it is.
        is_precision = metric == "edge_average_precision"
        mark = _EDGE_MARKS.get(str(board.methods.loc[method, "edge_output"]), "") if is_precision else ""
        return Cell(format_value(e["mean"], metric), _interval(e["low"], e["high"], metric), mark)

    def difference(method: str) -> Cell:
        e = entry(method, sort_by)
        if e["verdict"] == "first" or not e["n_paired"]:
            return Cell(NOTHING)
        text = format_value(e["difference"], sort_by, signed=True)
        interval = _interval(e["difference_low"], e["difference_high"], sort_by, signed=True)
        return Cell(text, interval, _LEVEL_MARKS.get(e["verdict"], ""))

    def mean_rank(method: str) -> Cell:
        value = entry(method, sort_by)["mean_rank"]
        return Cell(NOTHING if math.isnan(value) else f"{value:.2f}")

    def named(method: str) -> Cell:
        return Cell(method, mark=" †" if board.methods.loc[method, "targets_given"] else "")

    def each(function: Any) -> tuple[Cell, ...]:
        return tuple(function(m) for m in order)

    return [
        Column("method", each(named), left=True),
        Column("mean rank", each(mean_rank)),
        Column(head(sort_by), each(lambda m: mean(m, sort_by))),
        Column("Δ to first", each(difference)),
        *(Column(head(x), each(lambda m, x=x: mean(m, x)), metric=x) for x in board.metrics if x != sort_by),
        Column("n", each(lambda m: Cell(f"{entry(m, sort_by)['n']}/{comparison.n_problems}"))),
        Column("failed", each(lambda m: Cell(str(entry(m, sort_by)["failures"])))),
    ]


# --- footnotes --------------------------------------------------------------------------------------------------------


def _reading(comparison: Comparison, methods: pd.DataFrame, metrics: Sequence[str]) -> tuple[str, ...]:
    lines = [
        f"Ordered by mean rank on {info(comparison.sort_by).label}: 1 is best; ties share their ranks; failures rank last, and "
        "so does a score undefined for one method alone.",
        "Means over the n problems answered with a defined score, each of equal weight; [95 % bootstrap interval over problems "
        "within datasets], – where a single problem leaves it unknown. Δ: method minus the first, mean over the problems that "
        "both answered.",
        *_marks(comparison, methods, metrics),
    ]
    if any(m.startswith("few_shot") for m in metrics):
        lines.append(
            "Few-shot: held-out environments with n samples each; a method that cannot adapt was fitted anew on the training "
            "and all held-out environments of that size together, which is an advantage."
        )
    return tuple(lines)


def _notes(rows: pd.DataFrame, comparison: Comparison, metrics: Sequence[str]) -> list[str]:
    sort_by, ranked = comparison.sort_by, comparison.ranking.n_problems
    data = _diagnostics(rows, few_shot=parse_few_shot(sort_by) is not None)
    notes = [data] if data else []
    if not ranked:
        notes.append(f"No method is ranked: {info(sort_by).label} has no value on a problem that every method met.")
    elif ranked < comparison.n_problems:
        notes.append(
            f"Ranks are over {ranked} of {comparison.n_problems} problems: those that every ranked method met and at least one "
            "answered."
        )
    few = comparison.summary[(comparison.summary["metric"] == sort_by) & (comparison.summary["verdict"] == "too_few")]
    few = few[few["n_paired"] > 0]
    if len(few):
        whom = "any method" if len(few) == len(comparison.order) - 1 else ", ".join(few["method"])
        notes.append(f"Too few paired problems (under {MINIMUM_PAIRS}) to tell from the first: {whom}.")
    notes += failure_notes(rows)
    notes += _skipped(rows)
    unranked = {m: why for m, why in comparison.ranking.unranked.items() if not why.startswith("skipped")}
    notes += [f"Not ranked: {_grouped(unranked)}."] if unranked else []
    notes += _undefined(rows, metrics)
    if "cut_short" in rows:
        cut = Counter(rows.loc[rows["cut_short"].eq(True) & (rows["status"] == "ok"), "method"])
        notes += [f"Answered with the best so far as the budget ran out: {_counted(cut)}."] if cut else []
    return notes


def _per_problem(rows: pd.DataFrame, column: str) -> float:
    """Mean over problems of a quantity that belongs to the problem (whichever method's row tells it)."""
    if column not in rows:
        return math.nan
    values = rows.assign(value=pd.to_numeric(rows[column])).groupby(["dataset", "problem"])["value"].first()
    return float(values.mean())


def _diagnostics(rows: pd.DataFrame, *, few_shot: bool) -> str:
    """How much of the order the data give away, and the chance level of average precision."""
    var, raw, r2 = (_per_problem(rows, c) for c in ("varsortability", "varsortability_raw", "r2_sortability"))
    if few_shot:
        new = [c for c in map(str, rows.columns) if (parse_few_shot(c) or ("", 0))[0] == "target_prevalence"]
        prevalence = {"new targets": _per_problem(rows, min(new)) if new else math.nan}
    else:
        prevalence = {"edges": _per_problem(rows, "edge_prevalence"), "targets": _per_problem(rows, "target_prevalence")}
    parts = []
    if math.isfinite(var):
        in_raw_units = f" ({raw:.2f} in raw units)" if math.isfinite(raw) else ""
        parts.append(f"var-sortability {var:.2f}{in_raw_units}, R²-sortability {r2:.2f} (.5 gives no order away, 1 all of it)")
    shares = [f"{name} {value:.3f}" for name, value in prevalence.items() if math.isfinite(value)]
    if shares:
        parts.append(f"prevalence of {', '.join(shares)} (the average precision of chance)")
    return f"Data: {'; '.join(parts)}." if parts else ""


def _marks(comparison: Comparison, methods: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    verdicts = set(comparison.summary.loc[comparison.summary["metric"] == comparison.sort_by, "verdict"])
    marks = []
    if "level" in verdicts:
        marks.append("≈ not distinguishable from the first (the interval of Δ contains 0)")
    if "level_where_answered" in verdicts:
        marks.append("(≈) so too on what both answered, but it failed on problems that the first answered")
    if methods["targets_given"].any():
        marks.append("† was told the targets")
    if "edge_average_precision" in metrics:
        kinds = [k for k in _EDGE_MARKS if k in set(methods["edge_output"])]
        marks += [f"{_EDGE_MARKS[k]} average precision of {_EDGE_WORDS[k]}" for k in kinds]
    return [f"{'; '.join(marks)}."] if marks else []


def failure_notes(rows: pd.DataFrame) -> list[str]:
    """One line on who failed how often and why; none where nobody did."""
    failed = rows[rows["status"].isin(FAILURES)]
    parts = []
    for method, of_method in failed.groupby("method", sort=True):
        by_status = [f"{k} × {_STATUS_WORDS[s]}" for s, k in sorted(Counter(of_method["status"]).items())]
        parts.append(f"{method} {', '.join(by_status)}{_why(of_method)}")
    return [f"Failed: {'; '.join(parts)}."] if parts else []


def _skipped(rows: pd.DataFrame) -> list[str]:
    """Who was skipped where and why; methods with the same fate share an entry."""
    skipped = rows[rows["status"] == "skipped"]
    n_problems, methods = rows.groupby(["dataset", "problem"]).ngroups, set(rows["method"])
    fates: dict[str, set[str]] = {}
    for method, of_method in skipped.groupby("method", sort=True):
        on = "" if len(of_method) == n_problems else f" on {len(of_method)} of {n_problems} problems"
        fates.setdefault(f"{on}{_why(of_method)}", set()).add(str(method))
    parts = [f"{'every method' if who == methods else ', '.join(sorted(who))}{fate}" for fate, who in fates.items()]
    return [f"Skipped: {'; '.join(parts)}."] if parts else []


def _why(rows: pd.DataFrame) -> str:
    """The commonest reason of some rows, in parentheses and cut to a line."""
    reasons = [str(r).strip() for r in rows["reason"].dropna() if str(r).strip()] if "reason" in rows else []
    if not reasons:
        return ""
    counts = Counter(reasons)
    reason = min(counts, key=lambda r: (-counts[r], r))
    more = "; and other reasons" if len(counts) > 1 else ""
    return f" ({textwrap.shorten(reason, 100, placeholder=' …')}{more})"


def _undefined(rows: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """On how many problems who has no defined score though it answered, and the commonest reason.

    Problems where nobody has a score are told apart: they say something of the problem, not of a method.
    """
    answered = rows[rows["status"] == "ok"]
    problem = pd.Series(list(zip(answered["dataset"], answered["problem"], strict=True)), index=answered.index, dtype=object)
    nobody: dict[str, list[str]] = {}
    somebody: dict[str, list[str]] = {}
    for metric in metrics:
        missing = answered[metric].isna() if metric in answered else pd.Series(True, index=answered.index)
        scored = set(problem[~missing])
        label = _HEADS.get(metric, info(metric).label)
        without = problem.nunique() - len(scored)
        if without and scored:
            nobody.setdefault(f"on {without} of {problem.nunique()} problems", []).append(label)
        who = Counter(answered.loc[missing & problem.isin(scored), "method"])
        if who:
            somebody.setdefault(f"of {_counted(who)}{_undefined_reason(answered, metric)}", []).append(label)
    notes = [f"No method has a score {where}: {', '.join(labels)}." for where, labels in nobody.items()]
    if somebody:
        parts = (f"{', '.join(labels)} {who}" for who, labels in somebody.items())
        notes.append(f"Undefined though answered (problems): {'; '.join(parts)}.")
    return notes


def _undefined_reason(rows: pd.DataFrame, metric: str) -> str:
    if "undefined" not in rows:
        return ""
    reasons: Counter[str] = Counter()
    for text in rows["undefined"].dropna():
        try:
            said = json.loads(text)
        except (TypeError, ValueError):
            continue
        if isinstance(said, dict) and said.get(metric):
            reasons[str(said[metric])] += 1
    return f" – {min(reasons, key=lambda r: (-reasons[r], r))}" if reasons else ""


def _left_out(metrics: Iterable[str]) -> list[str]:
    labels = [_HEADS.get(m, info(m).label) for m in metrics]
    return [f"Left out, as no method has a value: {', '.join(labels)}."] if labels else []


def _counted(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{name} ({counts[name]})" for name in sorted(counts))


def _grouped(reasons: dict[str, str]) -> str:
    by_reason: dict[str, list[str]] = {}
    for method in sorted(reasons):
        by_reason.setdefault(reasons[method], []).append(method)
    return "; ".join(f"{', '.join(methods)} ({reason})" for reason, methods in by_reason.items())


# --- the terminal -----------------------------------------------------------------------------------------------------

_METHOD_WIDTH = (16, 28)
"""Narrowest and widest column of method labels; longer labels fold, since every entry has two lines anyway."""


def _render(board: Leaderboard, options: ConsoleOptions) -> RenderResult:
    shown, dropped = columns(board), list[str]()
    widths = [_width(column) for column in shown]
    gaps = 2 * len(shown)
    while sum(widths) - widths[0] + _METHOD_WIDTH[0] + gaps > options.max_width and any(c.metric for c in shown):
        last = max(i for i, c in enumerate(shown) if c.metric)
        dropped.insert(0, shown.pop(last).head.rstrip(" ↑↓"))
        del widths[last]
        gaps -= 2
    room = options.max_width - gaps - sum(widths[1:])
    widths[0] = min(widths[0], _METHOD_WIDTH[1], max(room, _METHOD_WIDTH[0]))
    table = Table(title=board.title, title_justify="left", title_style="bold", header_style="bold")
    table.box, table.show_edge, table.padding = box.SIMPLE_HEAD, False, (0, 1, 0, 0)  # two spaces between columns
    for column, width in zip(shown, widths, strict=True):
        table.add_column(column.head, justify="left" if column.left else "right", width=width, overflow="fold")
    for i, method in enumerate(board.comparison.order):
        first = method == board.comparison.first
        table.add_row(*(_terminal_cell(c.cells[i]) for c in shown), style="bold" if first else None)
    yield table
    notes = [*board.notes, *board.reading, *([f"Not shown at this width: {', '.join(dropped)}."] if dropped else [])]
    yield from (Text(note, style="dim") for note in ["", *notes])


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


# --- files ------------------------------------------------------------------------------------------------------------


def to_csv(board: Leaderboard) -> str:
    """The numbers of a board, tidy and unrounded: a line per method and metric."""
    frame = board.comparison.summary.copy()
    for name, value in reversed(board.scope.items()):
        frame.insert(0, name, value)
    for column in ("targets_given", "edge_output"):
        frame[column] = frame["method"].map(board.methods[column])
    return str(frame.to_csv(index=False, lineterminator="\n"))


_MARKDOWN = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined).from_string(
    """\
### {{ title }}

| {{ heads | join(" | ") }} |
| {{ rules | join(" | ") }} |
{% for row in rows -%}
| {{ row | join(" | ") }} |
{% endfor %}
{% for note in notes -%}
- {{ note }}
{% endfor -%}
"""
)

_LATEX = jinja2.Environment(
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    comment_start_string="<#",
    comment_end_string="#>",
).from_string(
    r"""% needs the package booktabs
\begin{table}
\centering
\caption{<< title >>}
\begin{tabular}{<< rules | join("") >>}
\toprule
<< heads | join(" & ") >> \\
\midrule
<% for numbers, intervals in rows -%>
<< numbers | join(" & ") >> \\
<< intervals | join(" & ") >> \\
<% endfor -%>
\bottomrule
\end{tabular}
\par\smallskip\footnotesize
<% for note in notes -%>
<< note >>\par
<% endfor -%>
\end{table}
"""
)


def to_markdown(board: Leaderboard) -> str:
    """A board as a GitHub-flavoured table with its footnotes."""
    shown = columns(board)

    def text(cell: Cell, column: Column) -> str:
        if column.left:
            name = cell.text.replace("|", r"\|")
            return f"`{name}`{cell.mark}"
        return f"{cell.text}{cell.mark} {cell.interval}".strip()

    return _MARKDOWN.render(
        title=board.title,
        heads=[c.head for c in shown],
        rules=["---" if c.left else "---:" for c in shown],
        rows=[[text(c.cells[i], c) for c in shown] for i in range(len(board.comparison.order))],
        notes=[*board.notes, *board.reading],
    )


def to_latex(board: Leaderboard) -> str:
    """A board as a LaTeX table (booktabs), intervals in small type under the means."""
    shown = columns(board)

    def number(cell: Cell, column: Column) -> str:
        return escape_latex(cell.text + cell.mark, minus=not column.left)

    def interval(cell: Cell) -> str:
        return rf"{{\scriptsize {escape_latex(cell.interval, minus=True)}}}" if cell.interval else ""

    return _LATEX.render(
        title=escape_latex(board.title),
        heads=[escape_latex(c.head) for c in shown],
        rules=["l" if c.left else "r" for c in shown],
        rows=[
            ([number(c.cells[i], c) for c in shown], [interval(c.cells[i]) for c in shown])
            for i in range(len(board.comparison.order))
        ],
        notes=[escape_latex(note) for note in [*board.notes, *board.reading]],
    )


_LATEX_CHARACTERS = {
    **{c: rf"\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "…": r"\dots{}",
    "·": r"$\cdot$",
    "†": r"$^{\dagger}$",
    "≈": r"$\approx$",
    "Δ": r"$\Delta$",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "×": r"$\times$",
    "²": r"$^{2}$",
    "ᵇ": r"$^{\mathrm{b}}$",
    "ˢ": r"$^{\mathrm{s}}$",
    "ᵖ": r"$^{\mathrm{p}}$",
}


def escape_latex(text: str, *, minus: bool = False) -> str:
    r"""Text that LaTeX prints as it stands; ``minus`` turns hyphens into minus signs.

    Examples
    --------
    >>> print(escape_latex("ut_igsp ≈ 5 %"))
    ut\_igsp $\approx$ 5 \%
    >>> print(escape_latex("-0.4", minus=True))
    $-$0.4
    """
    escaped = "".join(_LATEX_CHARACTERS.get(c, c) for c in text)
    return escaped.replace("-", "$-$") if minus and NOTHING not in text else escaped


Format = Literal["csv", "md", "tex"]
_WRITERS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


def write_tables(
    boards: Iterable[Leaderboard], directory: Path, formats: Sequence[Format] = ("csv", "md", "tex")
) -> list[Path]:
    """Write each board in each format, whole or not at all; return the paths.

    Boards whose names coincide (labels that differ in punctuation only) are numbered.
    """
    paths, seen = [], Counter[str]()
    for board in boards:
        seen[board.name] += 1
        stem = board.name if seen[board.name] == 1 else f"{board.name}-{seen[board.name]}"
        paths += [write_atomic(directory / f"{stem}.{f}", _WRITERS[f](board)) for f in formats]
    return paths


# --- estimates of problems without truth ------------------------------------------------------------------------------


def strongest_edges(edges: pd.DataFrame, *, top: int = 10) -> pd.DataFrame:
    """The most probable edges that each method gives for one problem.

    Parameters
    ----------
    edges : DataFrame
        ``method``, ``source``, ``target``, ``probability`` and ``in_point_graph`` of one problem.
    top : int
        At most so many per method.

    Returns
    -------
    DataFrame
        ``method``, ``edge`` (``"a → b"``; ``"a – b"`` where the point graph has both directions, named once), ``probability``,
        ``in_point_graph``, most probable first; edges of probability 0 are left out.
    """
    needed = ["method", "source", "target", "probability", "in_point_graph"]
    _need(edges, needed, "edges")
    edges = edges[needed].copy()
    edges["in_point_graph"] = edges["in_point_graph"].eq(True)
    back = edges.rename(columns={"source": "target", "target": "source", "in_point_graph": "back"}).drop(columns="probability")
    edges = edges.merge(back, on=["method", "source", "target"], how="left")
    undirected = edges["in_point_graph"] & edges["back"].eq(True)
    edges = edges[(edges["probability"] > 0) & ~(undirected & (edges["source"].astype(str) > edges["target"].astype(str)))]
    arrow = np.where(undirected.loc[edges.index], " – ", " → ")
    edges = edges.assign(edge=edges["source"].astype(str) + arrow + edges["target"].astype(str))
    edges = edges.sort_values(["method", "probability", "in_point_graph", "edge"], ascending=[True, False, False, True])
    return edges.groupby("method").head(top)[["method", "edge", "probability", "in_point_graph"]].reset_index(drop=True)


def likeliest_targets(targets: pd.DataFrame, *, top: int = 5) -> pd.DataFrame:
    """The most probable targets that each method gives for each environment of one problem.

    Parameters
    ----------
    targets : DataFrame
        ``method``, ``environment``, ``variable``, ``probability`` and ``called`` of one problem.
    top : int
        At most so many per method and environment.

    Returns
    -------
    DataFrame
        ``method``, ``environment``, ``variable``, ``probability`` (NaN where the method states only a set), ``called``; those
        that are called come first, then by probability; what is neither called nor probable is left out.
    """
    needed = ["method", "environment", "variable", "probability", "called"]
    _need(targets, needed, "targets")
    called = targets["called"].eq(True)
    targets = targets.loc[called | (targets["probability"] > 0), needed].assign(called=called)
    order = ["method", "environment", "called", "probability", "variable"]
    targets = targets.sort_values(order, ascending=[True, True, False, False, True])
    return targets.groupby(["method", "environment"]).head(top).reset_index(drop=True)


def estimate_tables(edges: pd.DataFrame, targets: pd.DataFrame | None, *, title: str) -> list[Table]:
    """What the methods say about one problem without truth, for the terminal: strongest edges, likeliest targets."""
    bold = "bold: in the method's point graph"
    table = Table(title=f"{title} · strongest edges ({bold})", title_justify="left", title_style="bold", show_lines=True)
    table.add_column("method", overflow="fold", max_width=26)
    table.add_column("edges in its graph", justify="right")
    table.add_column("most probable edges, with probability")
    strong = strongest_edges(edges)
    for method, of_method in edges.groupby("method", sort=True):
        said = _listing(strong[strong["method"] == method], "edge", "in_point_graph")
        table.add_row(str(method), str(_n_adjacent(of_method)), said)
    tables = [table]
    if targets is not None and len(targets):
        bold = "bold: called a target"
        table = Table(title=f"{title} · likeliest targets ({bold})", title_justify="left", title_style="bold")
        table.add_column("method", overflow="fold", max_width=26)
        table.add_column("environment", justify="right")
        table.add_column("most probable targets, with probability")
        likely = likeliest_targets(targets)
        for method, of_method in targets.groupby("method", sort=True):
            for e, environment in enumerate(sorted(of_method["environment"].unique())):
                chosen = likely[(likely["method"] == method) & (likely["environment"] == environment)]
                table.add_row(str(method) if e == 0 else "", str(environment), _listing(chosen, "variable", "called"))
            table.add_section()
        tables.append(table)
    return tables


def _need(frame: pd.DataFrame, names: Sequence[str], kind: str) -> None:
    missing = [n for n in names if n not in frame]
    if missing:
        raise InputError(f"the {kind} frame must have the columns {', '.join(names)}; {', '.join(missing)} missing")


def _n_adjacent(edges: pd.DataFrame) -> int:
    """Edges of the point graph, an undirected one counted once."""
    chosen = edges.loc[edges["in_point_graph"].eq(True), ["source", "target"]]
    return len({frozenset(pair) for pair in chosen.itertuples(index=False, name=None)})


def _listing(frame: pd.DataFrame, name: str, strong: str) -> Text:
    text = Text()
    for item in _items(frame):
        text.append(", " if text else "")
        probability = "" if math.isnan(item.probability) else f" {item.probability:.2f}"
        text.append(f"{getattr(item, name)}{probability}", style="bold" if getattr(item, strong) else "")
    return text if text else Text(NOTHING)


def _items(frame: pd.DataFrame) -> Iterator[Any]:
    return frame.itertuples(index=False)
