"""Hypothesis tests on paired differences: what a permutation of signs says, and one correction for a whole table.

Differences are of two methods, or of two versions of one, on the same problems. Which problems, which metric and what follows
from it is the business of the callers.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bench.seeds import generator

LEVEL = 0.05
"""Of every test, after correction."""

EXACT_UP_TO = 14
"""Problems up to which all 2ⁿ signs are gone through; beyond, ``FLIPS`` random ones."""

FLIPS = 20_000

NORMAL_FROM = 50
"""Differences, among zeros or ties, above which sums of signed ranks are normal."""

POWER = 0.8
"""Probability of finding a difference, where it is asked how small or with how many pairs."""

_LEAST_EFFECT = 0.01
"""Standard deviations below which a difference would take tens of thousands of pairs."""

Alternative = Literal["greater", "two-sided"]


def sign_flip_p(differences: npt.ArrayLike, *, alternative: Alternative = "two-sided") -> float:
    """P-value of the hypothesis that paired differences are symmetric around zero (``greater``: around zero or less).

    Under it each difference could as well have the other sign, so the mean is compared with those under all signs, or under
    random ones where there are too many; a difference of zero has none. Signs are flipped within problems, so the test is
    stratified by whatever groups them: no problem family can take another's place.

    Parameters
    ----------
    differences : array_like (n,)
        One per problem; NaN are left out.
    alternative : {"two-sided", "greater"}

    Returns
    -------
    float
        1 where there is no difference at all.

    References
    ----------
    Ernst, "Permutation Methods: A Basis for Exact Inference", Statistical Science 19 (2004), section 4. Random signs count the
    observed ones as one of them (Phipson and Smyth, 2010), so that no p-value is zero.

    Examples
    --------
    >>> sign_flip_p([1.0, 2.0, 0.5, 1.5, 1.0], alternative="greater")
    0.03125
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[np.isfinite(values) & (values != 0.0)]
    n, scale = len(values), float(np.abs(values).sum())
    if not n:
        return 1.0
    signs, extra = _signs(n), int(n > EXACT_UP_TO)
    sums, observed = signs @ values, values.sum()
    if alternative == "two-sided":
        sums, observed = np.abs(sums), abs(observed)
    as_large = int((sums >= observed - 1e-12 * scale).sum())
    return (as_large + extra) / (len(signs) + extra)


@functools.lru_cache(maxsize=32)
def _signs(n: int) -> npt.NDArray[np.float64]:
    """All 2ⁿ signs of n differences, or ``FLIPS`` random ones, float64 (flips, n)."""
    if n <= EXACT_UP_TO:
        negative = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        negative = generator("sign flips", n, FLIPS).integers(0, 2, size=(FLIPS, n))
    return np.where(negative, -1.0, 1.0)


def smallest_p(n: int, *, alternative: Alternative = "two-sided") -> float:
    """The smallest p-value that signs of n differences, none of them zero, can give.

    Examples
    --------
    >>> smallest_p(5), smallest_p(6)
    (0.0625, 0.03125)
    """
    sides = 2 if alternative == "two-sided" else 1
    return min(1.0, max(sides * 0.5**n, 0.0 if n <= EXACT_UP_TO else 1 / (FLIPS + 1)))


def holm(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P-values adjusted by Holm's procedure for all of them together; NaN (no test) stay and do not count.

    Examples
    --------
    >>> holm([0.01, float("nan"), 0.04])
    array([0.02,  nan, 0.04])
    """
    # statsmodels gives the same, but collects garbage at each call, which took most of the time of a table.
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    rising = tested[np.argsort(p[tested], kind="stable")]
    adjusted[rising] = np.minimum(np.maximum.accumulate(p[rising] * np.arange(len(rising), 0, -1)), 1.0)
    return adjusted


def can_reject(n: int, family: int) -> bool:
    """Whether n differences, none of them zero, could be told from none among ``family`` comparisons."""
    return smallest_p(n) * family <= LEVEL


def corrected(p_values: npt.ArrayLike, n_differing: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P-values of a table after :func:`holm`; NaN as well where so few differences could never reach the level.

    What could not be rejected whatever the signs need not be corrected for (Tarone, Biometrics 46, 1990).

    Parameters
    ----------
    p_values : array_like (k,)
        By flips of signs; NaN where nothing is compared.
    n_differing : array_like of int (k,)
        Differences other than zero.

    Examples
    --------
    >>> corrected([0.004, 0.5, float("nan")], [9, 2, 0])
    array([0.004,   nan,   nan])
    """
    p = np.asarray(p_values, dtype=np.float64)
    family = int(np.isfinite(p).sum())
    possible = [can_reject(int(n), family) for n in np.asarray(n_differing)]
    return holm(np.where(possible, p, np.nan))


def wilcoxon_p(differences: npt.ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed ranks, zeros ranked and then left out (Pratt); 1 where there is no difference.

    Among ties or zeros and with few differences, signs of the ranks are flipped: the normal approximation would find four
    differences of one sign among thirty significant.

    Examples
    --------
    >>> wilcoxon_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    0.03125
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[np.isfinite(values)]
    magnitudes = np.abs(values)
    plain = len(np.unique(magnitudes)) == np.count_nonzero(values) == len(values)
    if not plain and np.count_nonzero(values) <= NORMAL_FROM:
        return sign_flip_p(stats.rankdata(magnitudes) * np.sign(values))
    return float(stats.wilcoxon(values, zero_method="pratt").pvalue) if values.any() else 1.0


def detectable_difference(differences: npt.ArrayLike, *, level: float = LEVEL) -> float:
    """The smallest mean difference that a t test of so many pairs, with their scatter, finds with probability ``POWER``.

    The sum of the two quantiles of t, times the standard error: the power of the noncentral t to within a few percent.

    Examples
    --------
    >>> round(detectable_difference([-1.0, 1.0] * 10), 2)
    0.68
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[np.isfinite(values)]
    n = len(values)
    if n < 3 or not values.std() > 0:
        return float("nan")
    return float(values.std(ddof=1) / np.sqrt(n) * _quantiles(n, level))


def pairs_needed(differences: npt.ArrayLike, *, level: float = LEVEL) -> float:
    """How many pairs it takes to find the observed mean difference with probability ``POWER``; infinite where it is zero.

    Never fewer than those whose signs could reach the level.

    Examples
    --------
    >>> pairs_needed([0.5, 1.5, -0.5, 1.0, 0.0] * 4)
    19.0
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 3 or not values.std() > 0:
        return float("nan")
    effect = abs(float(values.mean())) / float(values.std(ddof=1))
    if effect < _LEAST_EFFECT:
        return float("inf")
    n = max(3.0, np.ceil(np.log2(2.0 / level)), np.floor((_quantiles(np.inf, level) / effect) ** 2))
    while effect * np.sqrt(n) < _quantiles(n, level):
        n += 1
    return float(n)


def _quantiles(n: float, level: float) -> float:
    """Standard errors between zero and a mean that n pairs find with probability ``POWER``."""
    probabilities = np.array([1 - level / 2, POWER])
    return float((special.stdtrit(n - 1, probabilities) if np.isfinite(n) else special.ndtri(probabilities)).sum())
