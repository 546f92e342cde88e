"""Two runs of the same problems side by side: what the second does better or worse, problem by problem.

The numbers are those of ``bench.statistics``, which compares methods; here the two are one method in two runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.differences import PairedBoard, compared_metrics, difference_head, effect_cell, tested
from bench.errors import InputError
from bench.fingerprints import PROBLEM, problems_of, unlike
from bench.labels import TRACK_TITLES, slug, track_order
from bench.regression.baseline import CELL, distinct
from bench.statistics import check_metric, corrected_table, differences_to
from bench.tables import Cell, Column
from bench.texts import counted


@dataclass(frozen=True, slots=True, eq=False)
class TwoRuns:
    """What came of a comparison.

    Parameters
    ----------
    boards : tuple of PairedBoard
        Per track the paired differences, run B minus run A, of every method that both have.
    changed : DataFrame
        Cells whose status is another one: ``track``, ``dataset``, ``repetition``, ``method``, ``status_a``, ``status_b`` and
        the ``reason`` of the one that did not end ok (that of B where neither did).
    notes : tuple of str
    """

    boards: tuple[PairedBoard, ...]
    changed: pd.DataFrame
    notes: tuple[str, ...]


def compare_runs(a: pd.DataFrame, b: pd.DataFrame, *, metrics: Sequence[str] = (), causes: Sequence[str] = ()) -> TwoRuns:
    """Compare the rows of two runs on the problems that both have.

    Parameters
    ----------
    a, b : DataFrame
        Rows frames (see ``bench.columns``).
    metrics : sequence of str
        What to compare; by default what reports compare methods in.
    causes : sequence of str
        What else is known to differ between the runs, said where they are not comparable.

    Raises
    ------
    InputError
        If the two share no problem or no method, or a problem or method of the same name is another one; one line says which.
    """
    for metric in metrics:
        check_metric(metric)
    _refuse_unlike(a, b, causes)
    both = a.merge(b, on=CELL, suffixes=("_a", "_b"))
    return TwoRuns(tuple(_boards(a, b, metrics)), _changed(both), tuple(_notes(a, b, both)))


def _refuse_unlike(a: pd.DataFrame, b: pd.DataFrame, causes: Sequence[str]) -> None:
    lines = unlike(problems_of(a), problems_of(b), us="A", them="B")
    specs = (
        a[["method", "method_spec"]].merge(b[["method", "method_spec"]], on="method", suffixes=("_a", "_b")).drop_duplicates()
    )
    for other in specs[specs["method_spec_a"] != specs["method_spec_b"]].to_dict("records"):
        lines.append(f"method '{other['method']}' is {other['method_spec_a']} in A, {other['method_spec_b']} in B")
    if not lines:
        lines += [
            f"they share no {what}: {', '.join(sorted(set(a[what])))} in A, {', '.join(sorted(set(b[what])))} in B"
            for what in ("dataset", "method")
            if not set(a[what]) & set(b[what])
        ]
    if lines:
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        also = f"; what else differs: {'; '.join(causes)}" if causes else ""
        raise InputError(f"the runs are not comparable: {lines[0]}{more}{also}")


def _boards(a: pd.DataFrame, b: pd.DataFrame, metrics: Sequence[str]) -> Iterator[PairedBoard]:
    """A board for each track on which some method has answers of its own in both runs."""
    a, b = distinct(a), distinct(b)
    for track in track_order(a) if len(a) else ():
        # Ids of problems change with the source of the dataset; that a problem is the same, the fingerprints have said.
        ours, theirs = (rows[rows["track"] == track].assign(problem=rows["repetition"].astype(str)) for rows in (a, b))
        methods = [m for m in dict.fromkeys(ours["method"]) if m in set(theirs["method"])]
        chosen = list(metrics) or compared_metrics(pd.concat([ours, theirs]), track)
        if methods and chosen:
            yield _board(ours, theirs, track, methods, chosen)


def _board(a: pd.DataFrame, b: pd.DataFrame, track: str, methods: list[str], metrics: list[str]) -> PairedBoard:
    parts = []
    for method in methods:
        runs = [rows[rows["method"] == method].assign(method=run) for run, rows in (("A", a), ("B", b))]
        found = differences_to(pd.concat(runs, ignore_index=True), "A", metrics)
        parts.append(found[found["method"] == "B"].assign(method=method))
    data = pd.concat(parts, ignore_index=True)
    data["p_holm"] = corrected_table(data)
    keyed = {(e.method, e.metric): e for e in data.itertuples(index=False)}
    columns = [Column("method", tuple(map(Cell, methods)), left=True)]
    columns += [Column(difference_head(m), tuple(effect_cell(keyed[name, m]) for name in methods), metric=m) for m in metrics]
    n = len(a[PROBLEM].drop_duplicates().merge(b[PROBLEM].drop_duplicates()))
    return PairedBoard(
        name=f"runs-{slug(track)}",
        title=f"{TRACK_TITLES.get(track, track)} · B minus A · {counted(n, 'problem')}",
        shown=tuple(columns),
        data=data,
        notes=(
            "Mean over the problems that a method answered in both runs, with 95 % bootstrap intervals over problems within "
            "datasets; times as ratios of B to A (geometric means).",
            tested(data),
        ),
        scope={"track": track, "dataset": ""},
    )


def _changed(both: pd.DataFrame) -> pd.DataFrame:
    other = both[both["status_a"] != both["status_b"]]
    reason = other["reason_b"].where(other["status_b"] != "ok", other["reason_a"])
    return other[[*CELL, "status_a", "status_b"]].assign(reason=reason).reset_index(drop=True)


def _notes(a: pd.DataFrame, b: pd.DataFrame, both: pd.DataFrame) -> Iterator[str]:
    ran = both[(both["cell_a"] != "") & (both["cell_b"] != "")]
    same = int((ran["cell_a"] == ran["cell_b"]).sum())
    yield f"The same hash in both, so that nothing they depend on has changed: {same} of {counted(len(ran), 'cell')}."
    for run, mine, other in (("A", a, b), ("B", b, a)):
        alone = mine[CELL].merge(other[CELL], how="left", indicator=True)
        alone = alone[alone["_merge"] == "left_only"]
        names = [
            f"{what} {', '.join(only)}"
            for what in ("dataset", "method")
            if (only := sorted(set(mine[what].astype(str)) - set(other[what].astype(str))))
        ]
        if len(alone):
            yield f"In {run} alone and not compared: {'; '.join([counted(len(alone), 'row'), *names])}."
