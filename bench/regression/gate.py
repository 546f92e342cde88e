"""The comparison with a baseline, cell by cell on the same problems, and what of it counts as a regression.

The same code on the same machine gives the same numbers, and every difference is exactly zero. A changed numerical path, other
seeds or another processor give differences of either sign. So that neither fails a build, a metric of a method counts as worse

- *on the whole* where its mean over all problems is worse by more than the margin, and the hypothesis that it is not (sign
  flips of the paired worsening less the margin) is rejected after Holm's correction for all metrics of all methods; or
- *on a dataset* where its mean there is worse by more than ``OUTRIGHT`` margins plus ``STANDARD_ERRORS`` standard errors of
  what other seeds of the method do there, as the baseline measured it. No test of a few problems could tell that a whole
  family of them broke, and with few problems in all this rule is the only one.

A cell that was answered and now fails, is skipped, or lacks a score is a regression without any statistics. Time and memory are
ratios to a reference method of the same run, so that a slower machine changes nothing; they warn and never fail.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.columns import FAILURES, info
from bench.errors import InputError
from bench.fingerprints import problems_of, unlike
from bench.labels import format_value, short_label
from bench.paired_tests import LEVEL, holm, sign_flip_p, smallest_p
from bench.regression.baseline import CELL, SCATTER, Baseline, cells_of, distinct
from bench.statistics import entries
from bench.texts import counted

OUTRIGHT = 4.0
STANDARD_ERRORS = 3.0
SLOWER = 1.5
"""Ratio of relative times from which on a method is called slower; runs of the same code on busy machines stay below."""
LARGER = 1.5
LEAST_SECONDS = 0.02
"""Time per fit below which a ratio says nothing."""

Kind = Literal["accuracy", "failure", "score lost", "slower", "more memory"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that got worse; ``fails`` where it is a regression, and else a warning."""

    kind: Kind
    fails: bool
    track: str
    method: str
    metric: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of a comparison.

    Parameters
    ----------
    compared : DataFrame
        One row per track, method and metric: ``baseline`` and ``now`` (means over the ``n`` problems that both answered),
        ``worsening`` (positive is worse), ``margin``, ``p`` and ``p_holm`` (NaN without a test), ``worst_dataset`` with its
        ``worst_worsening`` and ``allowance``, and ``regressed``.
    costs : DataFrame
        One row per track and method: ``seconds`` and ``memory_mb`` now, ``time_ratio`` and ``memory_ratio`` (relative to the
        reference, now over then).
    findings : tuple of Finding
        Regressions first.
    notes : tuple of str
    """

    compared: pd.DataFrame
    costs: pd.DataFrame
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.fails)


def check(rows: pd.DataFrame, baseline: Baseline) -> Outcome:
    """Compare scored rows with a baseline of the same suite.

    Raises
    ------
    InputError
        If the problems or methods are not those of the baseline; one line names what differs.
    """
    now = cells_of(rows, list(baseline.margins))
    _refuse_unlike(rows, now, baseline)
    both = baseline.cells.merge(now, on=CELL, suffixes=("_then", "_now"), how="inner")
    answered = both[(both["status_then"] == "ok") & (both["status_now"] == "ok")]
    compared = _compared(answered, baseline)
    costs = _costs(answered, baseline.reference)
    reasons = rows.set_index(CELL)["reason"]
    regressions = [*_failures(both, reasons), *_lost(answered, baseline), *_accuracy(compared)]
    findings = (*regressions, *_expensive(costs, baseline.reference))
    return Outcome(compared, costs, findings, tuple(_notes(distinct(rows), both, compared, baseline)))


# --- like with like ---------------------------------------------------------------------------------------------------


def refuse_other_suite(suite: str, baseline: Baseline) -> None:
    """Raise :class:`~bench.errors.InputError` unless the baseline is of the suite of this name."""
    if suite != baseline.suite:
        raise InputError(f"the baseline is of the suite '{baseline.suite}', got '{suite}'")


def _refuse_unlike(rows: pd.DataFrame, now: pd.DataFrame, baseline: Baseline) -> None:
    refuse_other_suite(str(rows["suite"].iloc[0]), baseline)
    lines = unlike(problems_of(rows), baseline.problems, us="this run", them="the baseline")
    keyed = baseline.cells.merge(now, on=CELL, how="left", suffixes=("", "_now"), indicator=True)
    for cell in keyed[keyed["_merge"] == "left_only"].to_dict("records"):
        lines.append(f"'{cell['dataset']}' #{cell['repetition']} with {cell['method']} ({cell['track']}): not in this run")
    met = keyed[keyed["_merge"] == "both"]
    for cell in met[met["method_spec"] != met["method_spec_now"]].drop_duplicates("method").to_dict("records"):
        lines.append(
            f"method '{cell['method']}' is {cell['method_spec_now']} in this run, {cell['method_spec']} in the baseline"
        )
    if lines:
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise InputError(f"this run is not comparable with the baseline: {lines[0]}{more}; --update writes a new baseline")


# --- accuracy ---------------------------------------------------------------------------------------------------------


def _compared(answered: pd.DataFrame, baseline: Baseline) -> pd.DataFrame:
    parts = [_of_metric(answered, metric, margin, baseline.scatter) for metric, margin in baseline.margins.items()]
    frame = pd.concat(parts, ignore_index=True)
    possible = frame["n"].map(lambda n: smallest_p(n, alternative="greater") * len(frame) <= LEVEL).astype(bool)
    frame["p"] = frame["p"].where(possible)
    frame["p_holm"] = holm(frame["p"])
    frame["on_the_whole"] = (frame["worsening"] > frame["margin"]) & (frame["p_holm"] <= LEVEL)
    frame["on_a_dataset"] = frame["worst_worsening"] > frame["allowance"]
    frame["regressed"] = frame["on_the_whole"] | frame["on_a_dataset"]
    return frame.sort_values(["track", "method"], kind="stable").reset_index(drop=True)


def _of_metric(answered: pd.DataFrame, metric: str, margin: float, scatter: pd.DataFrame) -> pd.DataFrame:
    """Every method on one metric: means, the test on the whole, and the dataset that got worst by its own measure."""
    sign = -1.0 if info(metric).better == "higher" else 1.0
    cells = answered[[*SCATTER]].assign(baseline=answered[f"{metric}_then"], now=answered[f"{metric}_now"])
    cells["worsening"] = sign * (cells["now"] - cells["baseline"])
    of_method = cells.dropna().groupby(["track", "method"])
    found = of_method[["baseline", "now", "worsening"]].mean().assign(metric=metric, margin=margin, n=of_method.size())
    found["p"] = of_method["worsening"].agg(lambda w: sign_flip_p(w - margin, alternative="greater")).astype(float)

    by_dataset = cells.dropna().groupby(SCATTER)["worsening"].agg(["mean", "size"])
    known = scatter.set_index(SCATTER)[metric] if metric in scatter else pd.Series(dtype=float)
    deviation = known.astype(float).reindex(by_dataset.index).fillna(0.0) if len(known) else 0.0
    # Both runs scatter, hence twice the variance.
    by_dataset["allowance"] = OUTRIGHT * margin + STANDARD_ERRORS * deviation * np.sqrt(2 / by_dataset["size"])
    by_dataset["excess"] = by_dataset["mean"] / by_dataset["allowance"]
    worst = by_dataset.reset_index().sort_values("excess", kind="stable").groupby(["track", "method"]).last()
    names = {"dataset": "worst_dataset", "mean": "worst_worsening"}
    return found.join(worst[["dataset", "mean", "allowance"]].rename(columns=names)).reset_index()


def _accuracy(compared: pd.DataFrame) -> Iterator[Finding]:
    for e in entries(compared[compared["regressed"]]):
        then, now = (format_value(x, e.metric, more_digits=1) for x in (e.baseline, e.now))
        if e.on_the_whole:
            text = (
                f"{then} → {now} over {counted(e.n, 'problem')}, worse by {format_value(e.worsening, e.metric, more_digits=1)} "
                f"(margin {e.margin:g}, p = {e.p_holm:.2g} after Holm)"
            )
        else:
            text = (
                f"worse by {format_value(e.worst_worsening, e.metric, more_digits=1)} on '{e.worst_dataset}' "
                f"(allowed {format_value(e.allowance, e.metric, more_digits=1)}); {then} → {now} over {counted(e.n, 'problem')}"
            )
        yield Finding("accuracy", True, e.track, e.method, e.metric, f"{short_label(e.metric)} {text}")


# --- cells that no longer answer --------------------------------------------------------------------------------------


def _methods(cells: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for (track, method), of_method in cells.groupby(["track", "method"]):
        yield str(track), str(method), of_method


def _failures(both: pd.DataFrame, reasons: pd.Series[Any]) -> Iterator[Finding]:
    broken = both[(both["status_then"] == "ok") & (both["status_now"] != "ok")]
    for track, method, cells in _methods(broken):
        first = cells.iloc[0]
        reason = reasons.loc[tuple(first[CELL])]
        text = (
            f"{counted(len(cells), 'cell')} answered then, not now; first '{first['dataset']}' "
            f"#{first['repetition']}: {first['status_now']} ({reason})"
        )
        yield Finding("failure", True, track, method, "", text)


def _lost(answered: pd.DataFrame, baseline: Baseline) -> Iterator[Finding]:
    for track, method, cells in _methods(answered):
        for metric in baseline.margins:
            lost = cells[cells[f"{metric}_then"].notna() & cells[f"{metric}_now"].isna()]
            if len(lost):
                text = f"{short_label(metric)} was defined on {counted(len(lost), 'cell')} where it is not any more"
                yield Finding("score lost", True, track, method, metric, text)


# --- time and memory --------------------------------------------------------------------------------------------------


def _costs(answered: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Ratios now over then of each method's cost relative to the reference; that of the reference is against all others."""
    sums = answered.copy()
    for when in ("then", "now"):
        sums[f"seconds_{when}"] = sums[f"fit_seconds_{when}"].fillna(0) + sums[f"adapt_seconds_{when}"].fillna(0)
    of_method = sums.groupby(["track", "method"])
    costs = of_method[["seconds_then", "seconds_now"]].mean()
    costs = costs.join(of_method[["peak_rss_mb_then", "peak_rss_mb_now"]].max())
    costs["time_ratio"] = _relative(costs["seconds_now"] / costs["seconds_then"], reference)
    costs["memory_ratio"] = _relative(costs["peak_rss_mb_now"] / costs["peak_rss_mb_then"], reference)
    return costs.rename(columns={"seconds_now": "seconds", "peak_rss_mb_now": "memory_mb"}).reset_index()


def _relative(ratio: pd.Series[float], reference: str) -> pd.Series[float]:
    """Ratios over that of the reference, whose own is over their median: were it to change, all others would seem to."""
    is_reference = ratio.index.get_level_values("method") == reference
    own = float(ratio[is_reference].mean())
    others = float(ratio[~is_reference].replace([np.inf, 0], np.nan).median())
    return pd.Series(np.where(is_reference, own / others, ratio / own), ratio.index)


def _expensive(costs: pd.DataFrame, reference: str) -> Iterator[Finding]:
    for e in entries(costs):
        against = "the median of the others" if e.method == reference else reference
        if e.time_ratio > SLOWER and e.seconds > LEAST_SECONDS:
            text = f"{e.time_ratio:.2g} times as slow as then, relative to {against} ({e.seconds:.2g} s per problem now)"
            yield Finding("slower", False, e.track, e.method, "fit_seconds", text)
        if e.memory_ratio > LARGER:
            text = f"{e.memory_ratio:.2g} times the memory of then, relative to {against} ({e.memory_mb:.0f} MiB now)"
            yield Finding("more memory", False, e.track, e.method, "peak_rss_mb", text)


# --- what else to say -------------------------------------------------------------------------------------------------


def _notes(rows: pd.DataFrame, both: pd.DataFrame, compared: pd.DataFrame, baseline: Baseline) -> Iterator[str]:
    new = rows[CELL].merge(baseline.cells[CELL], on=CELL, how="left", indicator=True)
    new = new[new["_merge"] == "left_only"]
    if len(new):
        yield f"Not in the baseline, so not compared: {', '.join(sorted(set(new['method'])))} ({counted(len(new), 'cell')})."
    mended = int((both["status_then"].isin(FAILURES) & (both["status_now"] == "ok")).sum())
    if mended:
        yield f"Failed in the baseline and answered now: {counted(mended, 'cell')}."
    untested = compared[compared["p"].isna()]
    if len(untested):
        needed = math.ceil(-math.log2(LEVEL / len(compared)))
        yield (
            f"{len(untested)} of {len(compared)} comparisons have too few problems for a test ({needed} would do); only a "
            f"dataset worse by more than {OUTRIGHT:g} margins fails them."
        )
