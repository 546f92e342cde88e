"""Tables of paired comparisons: every method against one, and one track as a share of another.

The first answers what a change is worth (an ablation), the second how much of what is possible with the true graph is reached
without it. The numbers are those of ``bench.statistics``; nothing is ranked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.columns import info, is_cost, parse_few_shot, scores_the_graph
from bench.footnotes import failure_notes
from bench.labels import ARROWS, NOTHING, TRACK_TITLES, format_interval, format_value, short_label, slug
from bench.paired_tests import LEVEL, smallest_p
from bench.statistics import check_rows, differences_to, metrics_of, shares
from bench.tables import Board, Cell, Column
from bench.texts import counted

COMPARED_FIRST = ("shd", "edge_average_precision", "target_f1")
COMPARED_LAST = (
    "fit_seconds",
    "edge_brier",
    "target_brier",
    "edge_log_skill_base_rate",
    "target_log_skill_base_rate",
    "adapt_seconds",
)
"""What is compared before and after the few-shot scores; a narrow terminal loses the last ones."""

FEW_SHOT_METRIC = "target_average_precision"

_HEADS = {
    "target_f1": "target F1",
    "edge_brier": "edge Brier",
    "target_brier": "target Brier",
    "edge_log_skill_base_rate": "edge log skill",
    "target_log_skill_base_rate": "target log skill",
    "fit_seconds": "fit time, ratio",
    "adapt_seconds": "adaptation time, ratio",
}


@dataclass(frozen=True, slots=True, eq=False)
class PairedBoard(Board):
    """A table of paired comparisons; ``shown`` are its columns as texts, ``data`` the unrounded numbers."""

    name: str
    title: str
    shown: tuple[Column, ...]
    data: pd.DataFrame
    notes: tuple[str, ...]
    scope: dict[str, str]
    strong_row: int | None = None

    def columns(self) -> list[Column]:
        return list(self.shown)

    def numbers(self) -> pd.DataFrame:
        frame = self.data.copy()
        for name, value in reversed(self.scope.items()):
            if name not in frame:
                frame.insert(0, name, value)
        return frame

    def strong(self) -> int | None:
        return self.strong_row


def few_shot_columns(rows: pd.DataFrame) -> list[str]:
    """The few-shot columns of average precision that some row has a value of, by size."""
    return [c for c in metrics_of(rows) if (parsed := parse_few_shot(c)) is not None and parsed[0] == FEW_SHOT_METRIC]


# --- every method against one -----------------------------------------------------------------------------------------


def difference_board(
    rows: pd.DataFrame,
    base: str,
    *,
    track: str,
    dataset: str | None = None,
    family: str | None = None,
    order: Sequence[str] = (),
) -> PairedBoard:
    """Paired differences of all methods of a track to one of them, on one dataset, on a family of them or on all.

    Parameters
    ----------
    rows : DataFrame
        The rows frame (see ``bench.columns``).
    base : str
        Label of the method to compare with.
    track : str
    dataset : str, optional
        Label of one dataset; all are pooled by default, each problem with the same weight.
    family : str, optional
        A family of datasets that the suite names.
    order : sequence of str
        Methods as they are to follow the base; others follow by name.

    Raises
    ------
    UnknownName
        If the base did not run there.
    """
    rows = check_rows(rows)
    rows = rows[(rows["track"] == track) & ((dataset is None) | (rows["dataset"].astype(str) == dataset))]
    rows = rows if family is None else rows[rows["family"].astype(str) == family]
    ran = rows[rows["status"] != "skipped"]
    metrics = compared_metrics(ran, track)
    found = differences_to(rows, base, metrics)
    keyed = {(e.method, e.metric): e for e in found.itertuples(index=False)}
    present = list(dict.fromkeys(found["method"]))
    methods = [base, *(m for m in dict.fromkeys([*order, *present]) if m in present and m != base)]
    n_problems = ran.groupby(["dataset", "problem"]).ngroups
    columns = [Column("method", tuple(map(Cell, methods)), left=True)]
    columns += [
        Column(difference_head(m), tuple(effect_cell(keyed[method, m]) for method in methods), metric=m, by_factors=is_cost(m))
        for m in metrics
    ]
    datasets = sorted(map(str, ran["dataset"].unique()))
    where = "; ".join(datasets) if len(datasets) <= 3 and not family else counted(len(datasets), "dataset")
    title = (TRACK_TITLES.get(track, track), f"difference to {base}", family, where, counted(n_problems, "problem"))
    return PairedBoard(
        name="-".join(slug(part) for part in ("difference", track, family and f"family-{family}", dataset) if part),
        title=" · ".join(part for part in title if part),
        shown=tuple(columns),
        data=found,
        notes=tuple(_difference_notes(ran, found, base, n_problems)),
        scope={"track": track, "dataset": dataset or ""},
        strong_row=0,
    )


def compared_metrics(rows: pd.DataFrame, track: str) -> list[str]:
    """What methods are compared in, of what some row has a value of."""
    known = metrics_of(rows)
    wanted = [*COMPARED_FIRST, *few_shot_columns(rows), *COMPARED_LAST]
    return [m for m in wanted if m in known and not (track == "graph" and scores_the_graph(m))]


def difference_head(metric: str) -> str:
    return _HEADS.get(metric, short_label(metric)) + ARROWS[info(metric).better]


def effect_cell(entry: Any) -> Cell:
    """The mean of the base itself; of another method its difference, or its ratio."""
    if entry.verdict == "first":
        return Cell(format_value(entry.mean, entry.metric))
    if not entry.n_paired:
        return Cell(NOTHING)
    mark = "*" if entry.p_holm <= LEVEL else ""
    if entry.scale == "ratio":
        interval = f"[{entry.low:.3g}, {entry.high:.3g}]" if pd.notna(entry.low) else ""
        return Cell(f"×{entry.effect:.3g}", interval, mark, (entry.low, entry.effect, entry.high))
    digits: dict[str, Any] = {"signed": True, "more_digits": 1 if info(entry.metric).decimals < 3 else 0}
    interval = format_interval(entry.low, entry.high, entry.metric, **digits)
    return Cell(format_value(entry.effect, entry.metric, **digits), interval, mark, (entry.low, entry.effect, entry.high))


def _difference_notes(rows: pd.DataFrame, found: pd.DataFrame, base: str, n_problems: int) -> list[str]:
    notes = [
        f"First row: means of {base}. Below: method minus {base}, mean over the problems that both answered, with 95 % "
        "bootstrap intervals over problems within datasets; times as ratios to it (geometric means).",
        tested(found),
    ]
    others = found[(found["method"] != base) & (found["n_paired"] > 0) & (found["n_paired"] < n_problems)]
    by_metric = {str(metric): of["n_paired"] for metric, of in others.groupby("metric", sort=False)}
    fewer = [f"{_HEADS.get(metric, short_label(metric))} {_span(counts)}" for metric, counts in by_metric.items()]
    notes += [f"Fewer pairs than problems: {', '.join(fewer)}."] if fewer else []
    return notes + failure_notes(rows)


def tested(found: pd.DataFrame) -> str:
    """What the star means, for how many comparisons, and which were not tested."""
    return how_tested(found[(found["verdict"] != "first") & (found["n_paired"] > 0)])


def how_tested(compared: pd.DataFrame) -> str:
    """The same of a table's comparisons, which have ``n_differing`` and ``p_holm``."""
    family = f"Holm's correction for the {counted(len(compared), 'comparison')} of this table"
    tested = compared["p_holm"].notna()
    few = compared.loc[~tested, "n_differing"]
    pairs = f"{_span(few).strip('()')} independent pairs that differ" if len(few) else ""
    pairs += f", which allow no p below {smallest_p(int(few.max())):.2g}" if pairs else ""
    if not tested.any():
        return f"No test: {family} leaves no chance to {pairs}."
    untested = f"; no test of {len(few)} with {pairs}" if pairs else ""
    return f"* p ≤ {LEVEL:g} of random sign flips of the differences, after {family}{untested}."


def _span(counts: pd.Series[int]) -> str:
    return f"({counts.min()})" if counts.min() == counts.max() else f"({counts.min()} to {counts.max()})"


# --- one track as a share of another ----------------------------------------------------------------------------------


def share_board(rows: pd.DataFrame, *, track: str = "unknown", of_track: str = "graph") -> PairedBoard | None:
    """Few-shot average precision of each method as a share of its own with the true graph told, by dataset and over all.

    Parameters
    ----------
    rows : DataFrame
        The rows frame.
    track, of_track : str
        Tracks of the numerator and the denominator.

    Returns
    -------
    PairedBoard or None
        None where no method has few-shot scores on both tracks.
    """
    rows = check_rows(rows)
    metrics = few_shot_columns(rows[rows["track"] == of_track])
    if not metrics:
        return None
    datasets = sorted(map(str, rows["dataset"].unique()))
    parts = [shares(rows[rows["dataset"].astype(str) == d], track, of_track, metrics).assign(dataset=d) for d in datasets]
    if len(datasets) > 1:
        parts.append(shares(rows, track, of_track, metrics).assign(dataset=""))
    found = pd.concat(parts, ignore_index=True)
    if found.empty:
        return None
    keyed = {(e.dataset, e.method, e.metric): e for e in found.itertuples(index=False)}
    places = list(dict.fromkeys(zip(found["dataset"], found["method"], strict=True)))
    n_of = found.groupby(["dataset", "method"])["n"].max()
    columns = [
        Column("dataset", tuple(Cell(dataset or "all") for dataset, _ in places), left=True),
        Column("method", tuple(Cell(method) for _, method in places), left=True),
        *(Column(f"n={_size(m)}", tuple(_share(keyed.get((*place, m))) for place in places), metric=m) for m in metrics),
        Column("problems", tuple(Cell(str(n_of[place])) for place in places)),
    ]
    return PairedBoard(
        name="few-shot-share-of-true-graph",
        title="few-shot target AP on unseen environments, graph learned, as a share of the same with the true graph told",
        shown=tuple(columns),
        data=found[["dataset", *found.columns.drop("dataset")]],
        notes=(
            "Ratio of the two means over the problems answered on both tracks, each of equal weight, by samples per new "
            "environment, with 95 % bootstrap intervals (both means over the same resampled problems).",
        ),
        scope={"track": track, "dataset": ""},
    )


def _size(column: str) -> int:
    parsed = parse_few_shot(column)
    assert parsed is not None
    return parsed[1]


def _share(entry: Any) -> Cell:
    if entry is None:
        return Cell(NOTHING)
    interval = f"[{100 * entry.low:.1f}, {100 * entry.high:.1f}]" if pd.notna(entry.low) else ""
    return Cell(f"{100 * entry.share:.1f}%", interval, span=(entry.low, entry.share, entry.high))
