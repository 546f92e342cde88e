"""Means, intervals, ranks and paired differences of the rows frame: the numbers behind the tables.

The rules, in one place:

- A *mean* is over the problems that a method answered with a defined score, each problem with the same weight, whichever
  dataset it comes from (tables per dataset stand beside the pooled one). ``n`` counts those problems; failures and
  undefined scores are counted beside it and never dropped in silence.
- An *interval* is a bootstrap over problems within each dataset, so every dataset keeps its weight (``bench.intervals``). The
  points of a curve share their draws and are resampled together.
- *Ranks* compare methods on the same problems: those that every ranked method met. On each problem a failure, or a score
  that is undefined for this method alone, ranks last (such methods share the last rank), so failing on hard problems is
  never rewarded as it would be by the mean. Methods are ordered by their mean rank.
- A *paired difference* is method minus the first-ranked method, or minus a base that a suite names, on the problems that
  both answered. Costs are compared with a base as ratios (geometric means), since they differ by factors.

- A method is *level* with the first where the interval of its paired difference contains 0, or, on the metric that orders
  the table, a test of all methods against the first does not tell them apart, or cannot (``bench.significance``).

It knows nothing of layout (``bench.tables``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from bench.columns import EXTRA_METRICS, FAILURES, METRICS, STATUSES, info, is_cost, parse_few_shot
from bench.errors import InputError, UnknownName
from bench.intervals import CONFIDENCE, RESAMPLES, FloatArray, bootstrap_intervals, ratio_interval
from bench.paired_tests import LEVEL, corrected, sign_flip_p
from bench.significance import against_first
from bench.texts import counted

MINIMUM_PAIRS = 6
"""Fewer paired problems cannot tell two methods apart at the 5 % level: with 5, all differences share a sign with
probability 2/2⁵ > .05 even where the methods are alike."""

FLOORS = ("empty", "random")
"""Methods whose score a failure may be given, the first that answered every problem."""

KEYS = ["track", "dataset", "problem", "method"]

Verdict = Literal["first", "level", "level_where_answered", "better", "worse", "differs", "too_few"]
"""How a method's paired difference to the first reads. ``level``: the interval contains 0, or no test tells them apart.
``level_where_answered``: the same, but the method failed on problems that the first answered. ``too_few``: fewer than
``MINIMUM_PAIRS`` pairs."""


def check_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in an order of their own, so that nothing depends on how they came.

    Raises
    ------
    InputError
        If a column is missing, a status is unknown, or a method met a problem twice.
    """
    missing = [c for c in (*KEYS, "status") if c not in rows]
    if missing:
        raise InputError(f"the rows frame must have the columns {', '.join((*KEYS, 'status'))}; {', '.join(missing)} missing")
    unknown = sorted(set(rows["status"].astype(str)) - set(STATUSES))
    if unknown:
        raise UnknownName("status", unknown[0], STATUSES)
    rows = rows.sort_values(KEYS, kind="stable").reset_index(drop=True)
    twice = rows[rows.duplicated(KEYS)]
    if len(twice):
        where = ", ".join(f"{key} {twice.iloc[0][key]}" for key in KEYS)
        raise InputError(f"a method must meet a problem once, got two rows for {where}")
    return rows


def check_metric(metric: str) -> None:
    """Raise :class:`~bench.errors.UnknownName` unless ``metric`` is a metric or a few-shot column."""
    few_shot = parse_few_shot(metric)
    known = METRICS if few_shot else METRICS | EXTRA_METRICS
    if (few_shot[0] if few_shot else metric) not in known:
        raise UnknownName("metric", metric, known)


def _check_sortable(metric: str) -> None:
    check_metric(metric)
    if info(metric).better == "neither":
        raise InputError(f"ranking needs a metric with a better side, got '{metric}', which only gives context")


def metrics_of(rows: pd.DataFrame) -> list[str]:
    """Metric columns with at least one value: ``METRICS`` in their order, extra ones, then few-shot ones by metric and size."""
    order = list(METRICS)
    parsed = {c: metric_and_size for c in map(str, rows.columns) if (metric_and_size := parse_few_shot(c)) is not None}
    places = {c: (order.index(metric), size) for c, (metric, size) in parsed.items() if metric in METRICS}
    return [
        c
        for c in (*order, *EXTRA_METRICS, *sorted(places, key=places.__getitem__))
        if c in rows and bool(rows[c].notna().any())
    ]


# --- ranks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ranking:
    """Mean ranks of methods on one metric.

    Parameters
    ----------
    mean_rank : dict of str to float
        Only the methods that are ranked; 1 is best.
    unranked : dict of str to str
        Method to the reason.
    n_problems : int
        Problems that the ranks are over: those that every ranked method met and at least one answered.
    imputed : dict of str to float
        The same where a failure has the score of ``floor`` on that problem instead of the last rank; empty where nothing
        failed, or no floor answered everything.
    floor : str
    """

    mean_rank: dict[str, float]
    unranked: dict[str, str]
    n_problems: int
    imputed: dict[str, float] = field(default_factory=dict)
    floor: str = ""

    @property
    def depends_on_failures(self) -> bool:
        """Whether the order of the methods is another one where failures have the score of the floor."""
        orders = [sorted(ranks, key=lambda m: (ranks[m], m)) for ranks in (self.mean_rank, self.imputed)]
        return bool(self.imputed) and orders[0] != orders[1]


def _pivot(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per (dataset, problem), one column per method, both sorted; missing where a method has not met a problem."""
    return rows.pivot(index=["dataset", "problem"], columns="method", values=column).sort_index(axis=0).sort_index(axis=1)


def _values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Scores of a metric, float (problem, method): NaN unless the method answered and the score is defined."""
    column = rows[metric].astype(float) if metric in rows else pd.Series(np.nan, index=rows.index)
    column = column.where(np.isfinite(column) & (rows["status"] == "ok"))
    return _pivot(rows.assign(value=column), "value").astype(float)


def rank(rows: pd.DataFrame, metric: str) -> Ranking:
    """Rank the methods of one track on the problems that all of them met; failures rank last and share that rank.

    Not ranked, with the reason: a method that was skipped on a problem where another one has a score, and one whose score is
    undefined wherever it answered (it does not offer the quantity). Ties share the mean of their ranks.

    Parameters
    ----------
    rows : DataFrame
        Rows of one track.
    metric : str
        A metric with a better side.

    Raises
    ------
    InputError
        If the metric has no better side, or the rows are not as :func:`check_rows` wants them.
    """
    _check_sortable(metric)
    rows = check_rows(rows)
    return _rank(_values(rows, metric), _pivot(rows, "status"), metric)


def _rank(value: pd.DataFrame, status: pd.DataFrame, metric: str) -> Ranking:
    """:func:`rank` on one row per problem and one column per method."""
    answered, scored = status == "ok", value.notna().any(axis=1)
    skipped = (status == "skipped") & np.asarray(scored)[:, None]
    silent = answered.any() & ~value.notna().any()
    unranked = {
        str(m): f"skipped on {int(skipped[m].sum())} of {counted(int(scored.sum()), 'problem')}"
        if skipped[m].any()
        else f"{info(metric).label} undefined wherever it answered"
        for m in status.columns
        if skipped[m].any() or silent[m]
    }
    ranked = [m for m in status.columns if m not in unranked]
    met = status[ranked].notna().all(axis=1) & value[ranked].notna().any(axis=1)
    loss = value.loc[met, ranked].to_numpy() * (-1.0 if info(metric).better == "higher" else 1.0)
    if not loss.size:
        return Ranking({}, unranked | {str(m): "no problem that every method met has a score" for m in ranked}, 0)
    means = _mean_ranks(ranked, loss)
    failed = status.loc[met, ranked].isin(FAILURES).to_numpy()
    floor = next((m for m in FLOORS if m in ranked and not np.isnan(loss[:, ranked.index(m)]).any()), "")
    if not failed.any() or not floor:
        return Ranking(means, unranked, len(loss))
    imputed = np.where(failed, loss[:, [ranked.index(floor)]], loss)
    return Ranking(means, unranked, len(loss), _mean_ranks(ranked, imputed), floor)


def _mean_ranks(methods: Sequence[str], loss: FloatArray) -> dict[str, float]:
    ranks = stats.rankdata(np.where(np.isnan(loss), np.inf, loss), axis=1)
    return {str(m): float(r) for m, r in zip(methods, ranks.mean(axis=0), strict=True)}


def rank_table(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Ranks of the methods of one track on each problem that all of them met, without those that :func:`rank` leaves out.

    A row for what was drawn on its own: the points of a curve share one, of their mean ranks.
    """
    ranking, rows = rank(rows, metric), check_rows(rows)
    value, status = _values(rows, metric), _pivot(rows, "status")
    ranked = [m for m in value.columns if str(m) in ranking.mean_rank]
    met = status[ranked].notna().all(axis=1) & value[ranked].notna().any(axis=1)
    loss = value.loc[met, ranked] * (-1.0 if info(metric).better == "higher" else 1.0)
    ranks = loss.fillna(np.inf).rank(axis=1)
    return ranks.groupby(_independent(rows).reindex(ranks.index)).mean()


# --- the comparison of all methods ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Every method of one track, in order.

    Parameters
    ----------
    sort_by : str
        The metric that orders the methods.
    summary : DataFrame
        One row per method and metric, methods best first: ``method``, ``metric``, ``position`` (1 is first; missing where
        the method is not ranked), ``mean``, ``low``, ``high``, ``n``, ``failures``, ``undefined``, ``skipped``, ``mean_rank``
        (on this metric), ``difference`` to the first method with ``difference_low``, ``difference_high`` and ``n_paired``,
        and ``verdict``.
    ranking : Ranking
        On ``sort_by``.
    n_problems : int
        Problems that at least one method met and was not skipped on.
    tests : DataFrame
        Of the differences to the first on ``sort_by``, by method: see :func:`bench.significance.against_first`.
    """

    sort_by: str
    summary: pd.DataFrame
    ranking: Ranking
    n_problems: int
    tests: pd.DataFrame

    @property
    def order(self) -> list[str]:
        """Methods, best first; those without a rank come last, by their mean."""
        return list(dict.fromkeys(self.summary["method"]))

    @property
    def first(self) -> str | None:
        """The method that the differences refer to, None where nobody is ranked."""
        return self.order[0] if self.ranking.mean_rank else None

    def verdicts(self) -> dict[str, str]:
        """Method to the verdict on ``sort_by``."""
        chosen = self.summary[self.summary["metric"] == self.sort_by]
        return dict(zip(chosen["method"], chosen["verdict"], strict=True))

    def entry(self, method: str, metric: str) -> pd.Series[Any]:
        """The row of ``summary`` of one method and one metric."""
        found = self.summary[(self.summary["method"] == method) & (self.summary["metric"] == metric)]
        return found.iloc[0]


def compare(
    rows: pd.DataFrame,
    metrics: Sequence[str],
    *,
    sort_by: str,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Summarise and order the methods of one track.

    Parameters
    ----------
    rows : DataFrame
        Rows of one track; metric columns may be absent.
    metrics : sequence of str
        What to summarise; ``sort_by`` is added where it is not among them.
    sort_by : str
        Metric whose mean rank orders the methods; ties are broken by its mean, then by name.
    confidence, resamples
        Of the bootstrap intervals.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If the rows hold several tracks, a metric is unknown, or the rows break :func:`check_rows`.
    """
    rows = check_rows(rows)
    if rows["track"].nunique() > 1:
        raise InputError(f"methods are compared within one track, got {', '.join(sorted(map(str, rows['track'].unique())))}")
    metrics = list(dict.fromkeys([*metrics, sort_by]))
    for metric in metrics:
        check_metric(metric)
    _check_sortable(sort_by)
    status = _pivot(rows, "status")
    ran = status.notna() & (status != "skipped")
    status = status.loc[ran.any(axis=1), ran.any()]
    rows = rows[rows["method"].isin(status.columns) & pd.MultiIndex.from_frame(rows[["dataset", "problem"]]).isin(status.index)]
    values = {metric: _values(rows, metric) for metric in metrics}
    rankings = {
        metric: Ranking({}, {}, 0) if info(metric).better == "neither" else _rank(value, status, metric)
        for metric, value in values.items()
    }
    ranking = rankings[sort_by]
    order = _order(ranking, values[sort_by], sort_by)
    first = order[0] if ranking.mean_rank else None

    draws = _independent(rows)
    tests = _tests(values[sort_by], first, draws)
    untold = {sort_by: frozenset(map(str, tests.index[~(tests["p_holm"] <= LEVEL)]))}
    parts = [
        _summary(status, values[m], m, rankings[m], first, draws, confidence, resamples, untold.get(m, frozenset()))
        for m in metrics
    ]
    summary = pd.concat(parts, ignore_index=True)
    summary["method"] = pd.Categorical(summary["method"], order)
    summary["metric"] = pd.Categorical(summary["metric"], metrics)
    summary = summary.sort_values(["method", "metric"]).reset_index(drop=True).astype({"method": "str", "metric": "str"})
    positions = {m: i for i, m in enumerate(order, start=1) if m in ranking.mean_rank}
    summary.insert(2, "position", summary["method"].map(positions).astype("Int64"))
    return Comparison(sort_by, summary, ranking, len(status), tests)


def _tests(value: pd.DataFrame, first: str | None, draws: pd.Series[str]) -> pd.DataFrame:
    others = value.drop(columns=[first] if first is not None else list(value.columns))
    difference = others if first is None else others.sub(value[first], axis=0)
    return against_first(difference.groupby(draws.reindex(difference.index)).mean())


def _order(ranking: Ranking, values: pd.DataFrame, metric: str) -> list[str]:
    sign = -1.0 if info(metric).better == "higher" else 1.0
    loss = (sign * values.mean()).fillna(np.inf)
    return sorted(map(str, values.columns), key=lambda m: (ranking.mean_rank.get(m, np.inf), loss[m], m))


def _summary(
    status: pd.DataFrame,
    value: pd.DataFrame,
    metric: str,
    ranking: Ranking,
    first: str | None,
    draws: pd.Series[str],
    confidence: float,
    resamples: int,
    untold: frozenset[str],
) -> pd.DataFrame:
    """The part of ``Comparison.summary`` that is about one metric, methods in alphabetical order."""
    strata, keys = _strata_and_keys(value, draws)
    difference = value.sub(value[first], axis=0) if first is not None else value * np.nan
    methods = [str(m) for m in value.columns]
    both = np.hstack([value.to_numpy(), difference.to_numpy()])
    low, high = bootstrap_intervals(both, strata, keys, confidence=confidence, resamples=resamples)
    k = len(methods)
    failed = status.isin(FAILURES)
    missed = failed & value[[first]].notna().to_numpy() if first is not None else failed
    frame = pd.DataFrame(
        {
            "method": methods,
            "metric": metric,
            "mean": value.mean().to_numpy(),
            "low": low[:k],
            "high": high[:k],
            "n": value.notna().sum().to_numpy(),
            "failures": failed.sum().to_numpy(),
            "undefined": ((status == "ok") & value.isna()).sum().to_numpy(),
            "skipped": (status == "skipped").sum().to_numpy(),
            "mean_rank": [ranking.mean_rank.get(m, np.nan) for m in methods],
            "difference": difference.mean().to_numpy(),
            "difference_low": low[k:],
            "difference_high": high[k:],
            "n_paired": difference.notna().sum().to_numpy(),
        }
    )
    better = info(metric).better
    frame["verdict"] = [
        _verdict(e, better, e.method == first, bool(missed[e.method].any()), untold=e.method in untold) for e in entries(frame)
    ]
    return frame


def entries(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows of a frame, columns as attributes."""
    return frame.itertuples(index=False)


def _verdict(entry: Any, better: str, is_first: bool, failed_where_first_answered: bool, *, untold: bool = False) -> Verdict:
    if is_first:
        return "first"
    if entry.n_paired < MINIMUM_PAIRS or np.isnan(entry.difference_low):
        return "too_few"
    if untold or entry.difference_low <= 0 <= entry.difference_high:
        return "level_where_answered" if failed_where_first_answered else "level"
    if better == "neither":
        return "differs"
    return "better" if (entry.difference < 0) == (better == "lower") else "worse"


# --- comparison with one method, and of two tracks --------------------------------------------------------------------


def differences_to(
    rows: pd.DataFrame,
    base: str,
    metrics: Sequence[str],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Every method of one track against one of them, on the problems that both answered.

    Parameters
    ----------
    rows : DataFrame
        Rows of one track; metric columns may be absent.
    base : str
        Label of the method to compare with.
    metrics : sequence of str
        What to compare.
    confidence, resamples
        Of the bootstrap intervals.

    Returns
    -------
    DataFrame
        One row per method (the base first) and metric: ``method``, ``metric``, ``mean`` and ``base_mean`` (over all that each
        answered), ``scale`` ("difference", or "ratio" for costs), ``effect`` (mean of method minus base; for a ratio the
        geometric mean of method / base) with ``low`` and ``high``, ``n_paired``, ``failures``, ``n_independent`` (pairs that
        were drawn on their own: the points of a curve are not), ``n_differing`` (those that differ), ``p`` of a two-sided
        test by flips of their signs, ``p_holm`` (corrected for all methods and metrics of this frame; NaN without a test), and
        ``verdict``: "first" for the base itself, the rest as for :func:`compare`.

    Raises
    ------
    UnknownName
        If there is no such method or metric.
    InputError
        If the rows hold several tracks or break :func:`check_rows`.

    Notes
    -----
    The interval of a ratio is that of the mean difference of logarithms, exponentiated.
    """
    rows = check_rows(rows)
    if rows["track"].nunique() > 1:
        raise InputError(f"methods are compared within one track, got {', '.join(sorted(map(str, rows['track'].unique())))}")
    ran = rows[rows["status"] != "skipped"]
    if base not in set(ran["method"]):
        raise UnknownName("base", base, sorted(set(map(str, ran["method"]))))
    for metric in metrics:
        check_metric(metric)
    failed = _pivot(ran, "status").isin(FAILURES)
    draws = _independent(ran)
    parts = [_differences(_values(ran, m), failed, base, m, draws, confidence, resamples) for m in metrics]
    order = [base, *sorted(set(map(str, ran["method"])) - {base})]
    found = pd.concat(parts, ignore_index=True)
    found["p_holm"] = corrected_table(found)
    found["method"] = pd.Categorical(found["method"], order)
    found["metric"] = pd.Categorical(found["metric"], list(metrics))
    return found.sort_values(["method", "metric"]).reset_index(drop=True).astype({"method": "str", "metric": "str"})


def corrected_table(found: pd.DataFrame) -> FloatArray:
    """P-values after Holm, of a whole table of :func:`differences_to`."""
    compared = (found["verdict"] != "first") & (found["n_paired"] > 0)
    return corrected(found["p"].where(compared), found["n_differing"])


def _independent(rows: pd.DataFrame) -> pd.Series[str]:
    """What was drawn on its own, by (dataset, problem): the points of a curve share their draws, and so one entry."""
    problems = rows.drop_duplicates(["dataset", "problem"]).set_index(["dataset", "problem"]).sort_index()
    own = pd.Series([f"{d}/{p}" for d, p in problems.index], problems.index)
    if not {"curve", "data_seed"} <= set(problems):
        return own
    on_curve = problems["curve"].fillna("").ne("")
    return own.where(~on_curve, problems["data_seed"].astype(str))


def _differences(
    value: pd.DataFrame,
    failed: pd.DataFrame,
    base: str,
    metric: str,
    draws: pd.Series[str],
    confidence: float,
    resamples: int,
) -> pd.DataFrame:
    """The part of :func:`differences_to` that is about one metric."""
    is_ratio = is_cost(metric)
    compared = value.where(value > 0).map(np.log) if is_ratio else value
    difference = compared.sub(compared[base], axis=0)
    of_draws = difference.groupby(draws.reindex(difference.index)).sum(min_count=1)
    low, high = bootstrap_intervals(difference, *_strata_and_keys(value, draws), confidence=confidence, resamples=resamples)
    frame = pd.DataFrame(
        {
            "method": list(map(str, value.columns)),
            "metric": metric,
            "mean": value.mean().to_numpy(),
            "base_mean": float(value[base].mean()),
            "scale": "ratio" if is_ratio else "difference",
            "difference": difference.mean().to_numpy(),
            "difference_low": low,
            "difference_high": high,
            "n_paired": difference.notna().sum().to_numpy(),
            "failures": failed.sum().to_numpy(),
            "n_independent": of_draws.notna().sum().to_numpy(),
            "n_differing": (of_draws.notna() & (of_draws != 0.0)).sum().to_numpy(),
            "p": [sign_flip_p(column) for column in of_draws.to_numpy().T],
        }
    )
    missed = (failed & value[[base]].notna().to_numpy()).any()
    better = info(metric).better
    frame["verdict"] = [_verdict(e, better, e.method == base, bool(missed[e.method])) for e in entries(frame)]
    frame = frame.rename(columns={"difference": "effect", "difference_low": "low", "difference_high": "high"})
    if is_ratio:
        frame[["effect", "low", "high"]] = np.exp(frame[["effect", "low", "high"]])
    return frame


def _strata_and_keys(values: pd.DataFrame, draws: pd.Series[str]) -> tuple[list[str], list[str]]:
    """Dataset of each problem, and what it is resampled with, for the bootstrap."""
    return values.index.get_level_values("dataset").astype(str).tolist(), draws.reindex(values.index).tolist()


def shares(
    rows: pd.DataFrame,
    track: str,
    of_track: str,
    metrics: Sequence[str],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """What each method reaches on one track as a share of what it reaches on another, on the problems it answered on both.

    Parameters
    ----------
    rows : DataFrame
        Rows of both tracks.
    track, of_track : str
        Tracks of the numerator and the denominator.
    metrics : sequence of str
        Scores of which more is better and 0 is nothing.
    confidence, resamples
        Of the bootstrap intervals.

    Returns
    -------
    DataFrame
        One row per method that has a value on both tracks, and metric: ``method``, ``metric``, ``mean`` and ``of_mean`` (of the
        two tracks), ``share`` (their ratio) with ``low`` and ``high`` (both means over the same resampled problems), and ``n``.
    """
    rows = check_rows(rows)
    here, there = (rows[rows["track"] == name] for name in (track, of_track))
    parts = []
    for metric in metrics:
        check_metric(metric)
        if here.empty or there.empty:
            continue
        upper, lower = _values(here, metric).align(_values(there, metric), join="inner")
        for method in upper.columns:
            both = pd.DataFrame({"upper": upper[method], "lower": lower[method]}).dropna()
            if both.empty or not both["lower"].mean() > 0:
                continue
            low, high = ratio_interval(
                both["upper"].to_numpy(),
                both["lower"].to_numpy(),
                *_strata_and_keys(both, _independent(here)),
                confidence=confidence,
                resamples=resamples,
            )
            mean, of_mean = both.mean()
            entry = {"method": str(method), "metric": metric, "mean": mean, "of_mean": of_mean, "share": mean / of_mean}
            parts.append(entry | {"low": low, "high": high, "n": len(both)})
    columns = ["method", "metric", "mean", "of_mean", "share", "low", "high", "n"]
    return pd.DataFrame(parts, columns=columns).sort_values("method", kind="stable", ignore_index=True)
