"""What stands under a ranked table: what a reader must know to judge this table, each in a line or two.

How much of the order the data give away, on what problems the ranks are, who failed how, what is undefined. What holds for
every table is said once, by ``bench.tables.legend``.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from bench.columns import FAILURES, few_shot_column, info, parse_few_shot
from bench.labels import format_value, short_label, was_cut_short
from bench.paired_tests import LEVEL, POWER, smallest_p
from bench.statistics import FLOORS, MINIMUM_PAIRS, Comparison
from bench.texts import counted

_STATUS_WORDS = {"timeout": "timeout", "out_of_memory": "out of memory", "error": "error", "invalid": "invalid estimate"}


def footnotes(rows: pd.DataFrame, comparison: Comparison, metrics: Sequence[str], silent: Sequence[str]) -> list[str]:
    """The footnotes of a table.

    Parameters
    ----------
    rows : DataFrame
        What the table is of.
    comparison : Comparison
        Of those rows.
    metrics : sequence of str
        Columns of the table.
    silent : sequence of str
        Methods without any score in it, which are not shown.
    """
    return [
        *_data(rows, comparison.sort_by),
        *_shared_draws(rows),
        *_ranks(comparison, silent),
        *_tests(comparison),
        *failure_notes(rows),
        *_skipped(rows),
        *([f"Without any score here: {', '.join(silent)}."] if silent else []),
        *_undefined(rows, metrics),
        *_cut_short(rows),
        *_not_converged(rows),
    ]


def _shared_draws(rows: pd.DataFrame) -> list[str]:
    """How points of a curve count, where a table pools several."""
    if "curve" not in rows or not rows["curve"].fillna("").ne("").any() or rows["dataset"].nunique() < 2:
        return []
    return ["Points of a curve share their draws: intervals resample them together, and tests take their mean."]


def _data(rows: pd.DataFrame, sort_by: str) -> list[str]:
    """How much of the order the data give away, and the chance level of average precision."""
    few_shot = parse_few_shot(sort_by)
    if few_shot is not None:
        chance = _per_problem(rows, few_shot_column("target_prevalence", few_shot[1]))
        return [f"Data: chance has target AP {chance:.3f}."] if math.isfinite(chance) else []
    var, raw, r2 = (_per_problem(rows, c) for c in ("varsortability", "varsortability_raw", "r2_sortability"))
    told = rows["track"].eq("graph").all()
    chances = {"target AP": "target_prevalence"} if told else {"edge AP": "edge_prevalence", "target AP": "target_prevalence"}
    prevalence = {name: _per_problem(rows, column) for name, column in chances.items()}
    parts = []
    if math.isfinite(var):
        in_raw_units = f" ({raw:.2f} in raw units)" if math.isfinite(raw) else ""
        parts.append(f"var-sortability {var:.2f}{in_raw_units}, R²-sortability {r2:.2f}")
    levels = [f"{name} {value:.3f}" for name, value in prevalence.items() if math.isfinite(value)]
    if levels:
        parts.append(f"chance has {', '.join(levels)}")
    return [f"Data: {'; '.join(parts)}."] if parts else []


def _per_problem(rows: pd.DataFrame, column: str) -> float:
    """Mean over problems of a quantity that belongs to the problem (whichever method's row tells it)."""
    if column not in rows:
        return math.nan
    values = rows.assign(value=pd.to_numeric(rows[column])).groupby(["dataset", "problem"])["value"].first()
    return float(values.mean())


def _ranks(comparison: Comparison, silent: Sequence[str]) -> list[str]:
    """On what problems the ranks are, whom too few of them tell apart, and who has none."""
    sort_by, ranked = comparison.sort_by, comparison.ranking.n_problems
    notes = []
    if not ranked:
        notes.append(f"No method is ranked: {info(sort_by).label} has no value on a problem that every method met.")
    elif ranked < comparison.n_problems:
        notes.append(f"Ranks are over the {counted(ranked, 'problem')} that every ranked method met and at least one answered.")
    sorted_by = comparison.summary[comparison.summary["metric"] == sort_by]
    few = sorted_by[(sorted_by["verdict"] == "too_few") & (sorted_by["n_paired"] > 0)]
    if len(few):
        whom = "any method" if len(few) == len(comparison.order) - len(silent) - 1 else ", ".join(few["method"])
        notes.append(f"Too few paired problems (under {MINIMUM_PAIRS}) to tell from the first: {whom}.")
    unranked = [m for m, why in comparison.ranking.unranked.items() if not why.startswith("skipped") and m not in silent]
    if ranked and unranked:
        notes.append(f"Not ranked, for want of {info(sort_by).label}: {', '.join(sorted(unranked))}.")
    return notes


def _tests(comparison: Comparison) -> list[str]:
    """Who is not told from the first, what the table could have found, and whether the order hangs on failures."""
    tests, ranking = comparison.tests, comparison.ranking
    notes = []
    tested = tests[tests["p_holm"].notna()]
    parts = []
    if len(tested):
        alike = tested[tested["p_holm"] > LEVEL]
        said = ", ".join(f"{m} ({e['p_holm']:.2g}, {e['p_wilcoxon_holm']:.2g})" for m, e in alike.iterrows()) or "none"
        least = smallest_p(int(tested["n"].max()))
        how = f"sign flips, of which {tested['n'].max()} pairs allow p ≥ {least:.1g}, and Wilcoxon; Holm for {len(tested)}"
        parts.append(f"not told from {comparison.first} ({how}): {said}")
    untested = tests[tests["p_holm"].isna() & tests["n"].ge(MINIMUM_PAIRS)]
    if len(untested):
        parts.append(f"no test of {', '.join(map(str, untested.index))}: too few differences for {len(tests)} comparisons")
    measured = tests["detectable"].reindex([m for m in comparison.order if m in tests.index]).dropna()
    if len(measured):
        unsettled = tested.loc[tested["p_holm"] > LEVEL, "needed"]
        needed = [f"{m} {n:.0f}" for m, n in unsettled.items() if math.isfinite(n)]
        more = f"; problems, in all, to find the one seen: {', '.join(needed)}" if needed else ""
        size = format_value(float(measured.iloc[0]), comparison.sort_by, more_digits=1)
        parts.append(f"Δ of {measured.index[0]} found with {POWER:.0%} power: {size}{more}")
    if parts:
        notes.append(f"Tests: {'; '.join(parts)}.")
    if ranking.imputed:
        order = ", ".join(f"{m} {r:.2f}" for m, r in sorted(ranking.imputed.items(), key=lambda x: (x[1], x[0])))
        how = "would be another one" if ranking.depends_on_failures else "would be the same"
        notes.append(f"Were failures given the score of {ranking.floor} instead of the last rank, the order {how}: {order}.")
    elif comparison.summary.loc[comparison.summary["metric"] == comparison.sort_by, "failures"].any() and ranking.mean_rank:
        notes.append(f"No floor ({', '.join(FLOORS)}) answered every problem: what failures cost in rank is not known.")
    return notes


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
        on = "" if len(of_method) == n_problems else f" on {len(of_method)} of {counted(n_problems, 'problem')}"
        fates.setdefault(f"{on}{_why(of_method)}", set()).add(str(method))
    parts = [f"{'every method' if who == methods else ', '.join(sorted(who))}{fate}" for fate, who in fates.items()]
    return [f"Skipped: {'; '.join(parts)}."] if parts else []


def _why(rows: pd.DataFrame) -> str:
    """The commonest reason of some rows, in parentheses and cut to a line."""
    reasons = [str(r).strip() for r in rows["reason"].dropna() if str(r).strip()] if "reason" in rows else []
    if not reasons:
        return ""
    more = "; and other reasons" if len(set(reasons)) > 1 else ""
    return f" ({textwrap.shorten(_commonest(reasons), 80, placeholder=' …')}{more})"


def _commonest(reasons: Sequence[str]) -> str:
    counts = Counter(reasons)
    return min(counts, key=lambda reason: (-counts[reason], reason))


def _undefined(rows: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """On how many problems who has no defined score though it answered, and the commonest reason.

    Problems where nobody has a score are told apart: they say something of the problem, not of a method. A method without
    any value of a metric is not named: the dash in its row says it.
    """
    answered = rows[rows["status"] == "ok"]
    problem = pd.Series(list(zip(answered["dataset"], answered["problem"], strict=True)), index=answered.index, dtype=object)
    nobody: dict[str, list[str]] = {}
    somebody: dict[str, list[str]] = {}
    for metric in metrics:
        value = answered[metric] if metric in answered else pd.Series(float("nan"), index=answered.index)
        scored, able = set(problem[value.notna()]), set(answered.loc[value.notna(), "method"])
        without = problem.nunique() - len(scored)
        if without and scored:
            nobody.setdefault(f"on {without} of {counted(problem.nunique(), 'problem')}", []).append(short_label(metric))
        here = answered[value.isna() & problem.isin(scored) & answered["method"].isin(able)]
        if len(here):
            who = f"of {_counted(Counter(here['method']))}{_undefined_reason(here, metric)}"
            somebody.setdefault(who, []).append(short_label(metric))
    notes = [f"No method has a score {where}: {', '.join(labels)}." for where, labels in nobody.items()]
    if somebody:
        parts = (f"{', '.join(labels)} {who}" for who, labels in somebody.items())
        notes.append(f"Undefined though answered (problems): {'; '.join(parts)}.")
    return notes


def _undefined_reason(rows: pd.DataFrame, metric: str) -> str:
    reasons = [json.loads(text).get(metric) for text in rows["undefined"].dropna()] if "undefined" in rows else []
    reasons = [str(reason) for reason in reasons if reason]
    return f" – {_commonest(reasons)}" if reasons else ""


def _cut_short(rows: pd.DataFrame) -> list[str]:
    cut = Counter(rows.loc[was_cut_short(rows), "method"])
    return [f"Answered with the best so far as the budget ran out: {_counted(cut)}."] if cut else []


def _not_converged(rows: pd.DataFrame) -> list[str]:
    """Whose fits did not converge, on how many of the problems that they answered."""
    if "converged" not in rows:
        return []
    answered = rows[rows["status"] == "ok"]
    n_answered = Counter(answered["method"])
    failed = Counter(answered.loc[answered["converged"].eq(False).fillna(False), "method"])
    parts = [f"{name} ({failed[name]} of {n_answered[name]})" for name in sorted(failed)]
    return [f"Did not converge: {', '.join(parts)}."] if parts else []


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({counts[name]})" for name in sorted(counts))
