"""Tables of curves: a metric of every method against the strength of a factor, and who loses more as it grows.

A suite makes curves with ``vary``; the draws of a repetition are shared by all points of a curve, so that changes along it are
paired. The numbers are means and intervals of ``bench.statistics``; the picture is ``bench.plots.plot_curves``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.columns import info, scores_the_graph
from bench.differences import PairedBoard, how_tested
from bench.intervals import bootstrap_intervals
from bench.labels import NOTHING, TRACK_TITLES, format_interval, format_value, short_label, slug, track_order, was_told
from bench.paired_tests import LEVEL, corrected, sign_flip_p
from bench.statistics import check_metric, check_rows
from bench.tables import Cell, Column
from bench.texts import counted

METRICS_OF_CURVES = ("shd", "target_average_precision")


def curves_of(rows: pd.DataFrame, track: str) -> dict[str, pd.DataFrame]:
    """The rows of each curve of a track, whatever has run, by its label."""
    if "curve" not in rows:
        return {}
    rows = rows[(rows["track"] == track) & (rows["status"] != "skipped") & rows["factor_value"].notna()]
    return {str(curve): of_curve for curve, of_curve in rows.groupby("curve", sort=True)}


def curve_boards(rows: pd.DataFrame, *, order: Sequence[str] = (), base: str = "") -> Iterator[PairedBoard]:
    """A table per track, curve and metric (SHD and the average precision of targets), where some method has a value.

    After the first track, where some method has one that was told something: the rest is the same again.
    """
    rows = check_rows(rows)
    tracks = track_order(rows)
    for track in tracks:
        for curve, of_curve in curves_of(rows, track).items():
            new = of_curve if track == tracks[0] else of_curve[was_told(of_curve)]
            for metric in METRICS_OF_CURVES:
                known = metric in new and new[metric].notna().any()
                if known and not (track == "graph" and scores_the_graph(metric)):
                    yield curve_board(of_curve, curve, metric, track=track, order=order, base=base)


def curve_board(
    rows: pd.DataFrame, curve: str, metric: str, *, track: str, order: Sequence[str] = (), base: str = ""
) -> PairedBoard:
    """One curve as a table: means by strength, the change from the first to the last, and that beyond the change of the base.

    Parameters
    ----------
    rows : DataFrame
        Rows of one curve and track.
    curve : str
        Its label.
    metric : str
    track : str
    order : sequence of str
        Methods as they are to stand; others follow by name.
    base : str
        Method to whose change the others are compared; none where it is empty or has no value.
    """
    numbers = curve_numbers(rows, metric, base)
    present = set(numbers["method"])
    methods = [*(m for m in order if m in present), *sorted(present - set(order))]
    keyed = {(e.method, e.quantity): e for e in numbers.itertuples(index=False)}
    quantities = list(dict.fromkeys(numbers["quantity"]))
    told = set(rows.loc[was_told(rows), "method"]) & set(methods)
    columns = [Column("method", tuple(Cell(m, mark=" †" if m in told else "") for m in methods), left=True)]
    for quantity in quantities:
        signed = not quantity.startswith(_AT)
        head = quantity.removeprefix(_AT)
        columns.append(Column(head, tuple(_entry(keyed.get((m, quantity)), metric, signed=signed) for m in methods)))
    n = int(rows["repetition"].nunique())
    where = f"{short_label(metric)} along {rows['factor'].iloc[0]}"
    return PairedBoard(
        name="-".join(slug(part) for part in ("curve", track, curve, metric)),
        title=f"{TRACK_TITLES.get(track, track)} · {curve} · {where} · {counted(n, 'repetition')}",
        shown=tuple(columns),
        data=numbers,
        notes=(
            "Means over the problems answered at each strength, with 95 % bootstrap intervals. Change: last strength minus "
            "first over the repetitions answered at both, whose draws are the same but for the factor.",
            how_tested(numbers[_changes(numbers) & (numbers["n"] > 0)]),
            *(["† was told the targets."] if told else []),
        ),
        scope={"track": track, "dataset": curve},
    )


_AT = "at "


def curve_numbers(rows: pd.DataFrame, metric: str, base: str = "") -> pd.DataFrame:
    """Means at each strength and paired changes, tidy.

    Returns
    -------
    DataFrame
        One row per method and quantity: ``quantity`` is "at VALUE", "change", or "change beyond that of BASE" (a method's
        change minus the base's on the same repetitions); ``mean``, ``low``, ``high`` and ``n``. Of changes also ``n_differing``
        (other than zero), ``p`` of a two-sided test by flips of their signs, and ``p_holm``, corrected for all changes of the
        frame; NaN where so few of them could never reach the level.
    """
    check_metric(metric)
    answered = rows[(rows["status"] == "ok") & rows[metric].notna()]
    table = answered.pivot(index="repetition", columns=["method", "factor_value"], values=metric).astype(float)
    strengths = sorted(set(rows["factor_value"]))
    first, last = strengths[0], strengths[-1]
    methods = sorted(set(map(str, answered["method"])))
    wanted = {(m, f"{_AT}{s:g}"): table[m, s] for m in methods for s in strengths if (m, s) in table}
    changes = {m: table[m, last] - table[m, first] for m in methods if (m, first) in table and (m, last) in table}
    wanted |= {(m, "change"): change for m, change in changes.items()}
    if base in changes:
        beyond = f"change beyond that of {base}"
        wanted |= {(m, beyond): change - changes[base] for m, change in changes.items() if m != base}
    values = np.column_stack(list(wanted.values()))
    low, high = bootstrap_intervals(values, keys=[f"{rows['curve'].iloc[0]}/{r}" for r in table.index])
    frame = pd.DataFrame(
        [
            {"method": m, "metric": metric, "quantity": quantity}
            | {"mean": float(np.nanmean(v)) if np.isfinite(v).any() else math.nan, "low": a, "high": b}
            | {"n": int(np.isfinite(v).sum()), "n_differing": int((np.isfinite(v) & (v != 0.0)).sum()), "p": sign_flip_p(v)}
            for (m, quantity), v, a, b in zip(wanted, values.T, low, high, strict=True)
        ]
    )
    frame["p"] = frame["p"].where(_changes(frame) & (frame["n"] > 0))
    return frame.assign(p_holm=corrected(frame["p"], frame["n_differing"]))


def _changes(numbers: pd.DataFrame) -> pd.Series[bool]:
    return ~numbers["quantity"].str.startswith(_AT)


def _entry(entry: Any, metric: str, *, signed: bool) -> Cell:
    if entry is None or not entry.n:
        return Cell(NOTHING)
    clear = signed and info(metric).better != "neither" and entry.p_holm <= LEVEL
    interval = format_interval(entry.low, entry.high, metric, signed=signed)
    return Cell(format_value(entry.mean, metric, signed=signed), interval, "*" if clear else "")
