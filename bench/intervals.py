"""Bootstrap intervals over problems: bias-corrected and accelerated (BCa), stratified, at the level that few problems need.

Resampling is within datasets, so every dataset keeps its weight, and seeded from the ids of the problems: the same frame gives
the same table, and every method is resampled alike.

The BCa interval of Efron corrects for bias and skewness, and is too narrow for few problems, as the percentile interval is.
Here its normal quantile is the expanded one of Hesterberg. Coverage of nominal .95 intervals of a mean, 1,500 simulated runs
each (standard error .006 to .008; ``results/comparisons/interval_coverage.py``):

======================  ===========  ========  ==================
scores                  percentile,  BCa       BCa, expanded
                        expanded               (this module)
======================  ===========  ========  ==================
10, normal              .94          .90       .94
10, exponential         .92          .90       .94
10, near one like AP    .89          .87       .91
20, exponential         .93          .92       .94
4 x 5, near one         .92          .89       .94
4 x 3, exponential      .92          .84       .92
50, log-normal          .90          .90       .91
======================  ===========  ========  ==================

References
----------
Efron, "Better Bootstrap Confidence Intervals", JASA 82 (1987): BCa; acceleration from influence values, here centred within
each stratum. Hesterberg, "What Teachers Should Know about the Bootstrap", The American Statistician 69 (2015), section 4.3:
the expanded quantile. Deviation: with several strata its sample size n and degrees of freedom n - 1 become the number of
resampled problems and that number less one per stratum, and it enters BCa in place of the percentile interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from bench.seeds import generator

FloatArray = npt.NDArray[np.float64]
Strata = list[npt.NDArray[np.int64]]

CONFIDENCE = 0.95
RESAMPLES = 10_000


def bootstrap_intervals(
    values: npt.ArrayLike,
    strata: Sequence[Any] | None = None,
    keys: Sequence[str] | None = None,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> tuple[FloatArray, FloatArray]:
    """Return bootstrap intervals of the mean of each column, resampling rows within strata.

    Parameters
    ----------
    values : array_like (n, k)
        One row per problem, one column per quantity; a NaN leaves that problem out of that column.
    strata : sequence of n labels, optional
        The dataset of each problem; one stratum by default. A dataset with a single problem is resampled together with the
        others of that kind, and is held fixed where it is the only one.
    keys : sequence of n str, optional
        Ids of the problems, from which the resampling is seeded; their positions by default. Rows of equal keys are resampled
        together, in a stratum of those that have the same labels.
    confidence : float
        Nominal coverage.
    resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    low, high : float64 (k,)
        NaN where nothing can be resampled: a single problem says nothing of the spread between problems.

    Examples
    --------
    >>> low, high = bootstrap_intervals([[1.0, 5.0], [2.0, np.nan], [3.0, np.nan]])
    >>> low, high
    (array([ 1., nan]), array([ 3., nan]))
    """
    table = np.asarray(values, dtype=np.float64)
    labels = np.zeros(len(table), dtype=int) if strata is None else np.asarray(strata, dtype=object)
    names = [str(i) for i in range(len(table))] if keys is None else [str(k) for k in keys]
    low, high = np.full(table.shape[1], np.nan), np.full(table.shape[1], np.nan)
    patterns, which = np.unique(np.isfinite(table), axis=1, return_inverse=True)
    for p, pattern in enumerate(patterns.T):
        chosen, columns = np.flatnonzero(pattern), np.flatnonzero(which.ravel() == p)
        if not len(chosen):
            continue
        own = labels[chosen].tolist(), [names[i] for i in chosen]
        # In blocks, to bound memory; each block starts from the same seed, so the grouping of columns changes nothing.
        for block in np.array_split(columns, -(-len(columns) // 100)):
            values_of_block = table[np.ix_(chosen, block)]
            low[block], high[block] = _intervals(values_of_block, np.ones(len(chosen)), *own, confidence, resamples)
    return low, high


def ratio_interval(
    upper: FloatArray,
    lower: FloatArray,
    strata: Sequence[Any],
    keys: Sequence[str],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Interval of the ratio of two means over the same resampled problems; NaN where nothing can be resampled.

    Parameters
    ----------
    upper, lower : float64 (n,)
        What is averaged above and below the line, without NaN; the mean of ``lower`` is above 0.
    strata, keys, confidence, resamples
        As for :func:`bootstrap_intervals`.
    """
    (low,), (high,) = _intervals(upper[:, None], lower, strata, keys, confidence, resamples)
    return float(low), float(high)


def _intervals(
    upper: FloatArray, lower: FloatArray, labels: Sequence[Any], keys: Sequence[str], confidence: float, resamples: int
) -> tuple[FloatArray, FloatArray]:
    """Of the means of ``upper`` (n, k) over that of ``lower`` (n,), each float64 (k,); the rows of one key are a unit."""
    own, first, unit = np.unique(list(keys), return_index=True, return_inverse=True)
    order = np.argsort(first)  # units as they come
    belongs = (unit == order[:, None]).astype(np.float64)
    of_unit = [" | ".join(sorted({str(labels[int(i)]) for i in np.flatnonzero(rows)})) for rows in belongs]
    groups = _groups(of_unit)
    if not groups:
        return np.full(upper.shape[1], np.nan), np.full(upper.shape[1], np.nan)
    totals = belongs @ np.column_stack([upper, lower])
    rng = generator("bootstrap", own[order].tolist(), resamples)
    means = _bootstrap_means(totals, groups, rng, resamples)
    estimate = totals[:, :-1].sum(axis=0) / totals[:, -1].sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        replicates = means[:, :-1] / means[:, -1:]
    influence = (totals[:, :-1] - estimate * totals[:, -1:]) / totals[:, -1].mean()
    return _bca(replicates, estimate, influence, groups, confidence)


def expanded_quantile(n: int, n_strata: int = 1, confidence: float = CONFIDENCE) -> float:
    """Normal quantile at which to cut a bootstrap distribution so that an interval is about as wide as a t interval.

    The bootstrap is too narrow for few problems: by the factor √((n - 1)/n), and by normal instead of t quantiles. At five or
    fewer problems of one dataset the interval is all but the whole range of the bootstrap means.

    Examples
    --------
    >>> round(expanded_quantile(10), 3), round(expanded_quantile(1000), 3)
    (2.385, 1.963)
    """
    freedom = n - n_strata
    return float(np.sqrt(n / freedom) * stats.t.ppf((1 + confidence) / 2, freedom))


def _groups(labels: Sequence[str]) -> Strata:
    """Positions to resample among each other: one group per label; labels that occur once share a group.

    Collapsing single problems into one group is the survey sampler's rule for strata of one: it errs towards wide
    intervals. A group that still has one member stays out: it is held fixed.
    """
    _, code, count = np.unique(np.asarray(labels, dtype=str), return_inverse=True, return_counts=True)
    code = np.where(count[code] == 1, -1, code)
    groups = [np.flatnonzero(code == c) for c in np.unique(code)]
    return [g for g in groups if len(g) > 1]


def _bootstrap_means(values: FloatArray, groups: Strata, rng: np.random.Generator, resamples: int) -> FloatArray:
    """Means of stratified resamples of the rows of ``values`` (n, k), float64 (resamples, k)."""
    n = len(values)
    chunk = 1000  # bounds the memory of the counts at 8 n kB; part of the definition, since it orders the draws
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        counts = np.ones((size, n))
        for group in groups:
            m = len(group)
            drawn = rng.integers(0, m, size=(size, m)) + m * np.arange(size)[:, None]
            counts[:, group] = np.bincount(drawn.ravel(), minlength=size * m).reshape(size, m)
        means[start : start + size] = counts @ values / n
    return means


def _bca(
    replicates: FloatArray, estimate: FloatArray, influence: FloatArray, groups: Strata, confidence: float
) -> tuple[FloatArray, FloatArray]:
    """BCa bounds of each column at the expanded quantile, each float64 (k,); they always enclose the estimate.

    Parameters
    ----------
    replicates : float64 (resamples, k)
    estimate : float64 (k,)
    influence : float64 (n, k)
        What each problem contributes, up to a constant within each stratum.
    groups : list of int arrays
        The strata that were resampled.
    confidence : float
    """
    resamples = len(replicates)
    quantile = expanded_quantile(sum(map(len, groups)), len(groups), confidence)
    # Ties count half: scores are often whole numbers, and rounding must not decide on which side they fall.
    close = 1e-12 * (1 + np.abs(estimate))
    below = ((replicates < estimate - close).mean(axis=0) + (replicates <= estimate + close).mean(axis=0)) / 2
    bias = stats.norm.ppf(np.clip(below, 1 / (resamples + 1), resamples / (resamples + 1)))
    centred = np.concatenate([influence[g] - influence[g].mean(axis=0) for g in groups])
    length = np.sqrt((centred**2).sum(axis=0))
    acceleration = ((centred / np.where(length > close, length, np.inf)) ** 3).sum(axis=0) / 6

    def level(z: float) -> FloatArray:
        shifted = bias + z
        remaining = 1 - acceleration * shifted
        # Beyond the pole the correction has no meaning; the whole range is what it tends to.
        corrected = bias + shifted / np.maximum(remaining, 1e-9)
        return np.asarray(stats.norm.cdf(np.where(remaining > 0, corrected, np.copysign(np.inf, z))))

    ordered = np.sort(replicates, axis=0)
    low, high = _quantiles(ordered, level(-quantile)), _quantiles(ordered, level(quantile))
    # Rounding in the resampled means must not move an interval of equal values off their mean.
    return np.minimum(low, estimate), np.maximum(high, estimate)


def _quantiles(ordered: FloatArray, level: FloatArray) -> FloatArray:
    """Linear quantile of each sorted column at a level of its own."""
    place = level * (len(ordered) - 1)
    lower = np.floor(place).astype(int)
    upper = np.minimum(lower + 1, len(ordered) - 1)
    columns = np.arange(ordered.shape[1])
    share = np.where(ordered[lower, columns] == ordered[upper, columns], 0.0, place - lower)
    with np.errstate(invalid="ignore"):  # between a number and an infinite ratio
        return np.asarray(
            ordered[lower, columns] + np.where(share > 0, share * (ordered[upper, columns] - ordered[lower, columns]), 0)
        )
