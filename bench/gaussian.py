"""Linear-Gaussian statistics from sufficient statistics: what several methods share.

A data set is its :class:`Moments` (sample size, mean, scatter); regressions, partial correlations, tests of conditional
independence and of invariance, and the BIC are read off them, so that no method touches the samples twice.

One rule covers duplicated columns, constant columns and more variables than samples. Predictors are swept out of the scatter
matrix one after the other, and a residual that holds at most ``RESIDUAL_TOLERANCE`` of its variable's scatter counts as zero:
a predictor without residual is skipped (it adds nothing to those before it), a variable without residual has partial
correlation 0 (p-value 1) with everything, and two regressions without residual do not differ (p-value 1). No case raises
or warns.

Not here: anything about graphs (``bench.graphs``), and tests that are not linear-Gaussian.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from bench.compiled import compiled
from bench.errors import InputError
from bench.types import FloatArray, Observed

IntArray = npt.NDArray[np.intp]

RESIDUAL_TOLERANCE = 1e-10
"""Share of a variable's scatter below which its residual counts as zero: rounding leaves about 1e-15 of it."""

_CONSTANT_TOLERANCE = 1e-12
"""Standard deviation, relative to the largest absolute value, below which a column counts as constant."""

_LARGEST_RATIO = 1e100
"""Stands for an infinite F statistic, for which scipy gives NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sufficient statistics of Gaussian samples.

    Parameters
    ----------
    n_samples : int
        Rows.
    mean : float64 (d,)
        Mean of the rows.
    scatter : float64 (d, d)
        Sum over rows of (x - mean)(x - mean)ᵀ; exactly zero in the row and column of a constant variable.
    n_means : int
        Means that were fitted: 1, or the number of environments where each was centred on its own.
    """

    n_samples: int
    mean: FloatArray
    scatter: FloatArray
    n_means: int = 1

    @property
    def n_variables(self) -> int:
        return int(self.mean.shape[0])

    @property
    def degrees(self) -> int:
        """Degrees of freedom left after the means."""
        return self.n_samples - self.n_means

    def covariance(self) -> FloatArray:
        """Unbiased covariance, float64 (d, d); zero where no degree of freedom is left."""
        return self.scatter / max(self.degrees, 1)

    def correlation(self) -> FloatArray:
        """Correlation, float64 (d, d) with unit diagonal; a constant variable has correlation 0 with every other."""
        scale = np.sqrt(self.scatter.diagonal())
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        correlation = np.clip(self.scatter * inverse[:, None] * inverse[None, :], -1.0, 1.0)
        np.fill_diagonal(correlation, 1.0)
        return correlation


def moments(X: npt.ArrayLike) -> Moments:
    """Sufficient statistics of samples.

    Parameters
    ----------
    X : float64 (n, d)
        Samples, n >= 1.

    Raises
    ------
    InputError
        If X is not (n, d) with n >= 1.

    Examples
    --------
    >>> moments([[0.0, 1.0], [2.0, 1.0]]).scatter.tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    >>> moments([1.0, 2.0])
    Traceback (most recent call last):
    bench.errors.InputError: X must have shape (n, d) with n >= 1, got (2,)
    """
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or X.shape[0] < 1:
        raise InputError(f"X must have shape (n, d) with n >= 1, got {X.shape}")
    n = X.shape[0]
    mean = X.mean(axis=0)
    centred = X - mean
    constant = centred.std(axis=0) <= _CONSTANT_TOLERANCE * np.abs(X).max(axis=0)
    centred[:, constant] = 0.0
    return Moments(n, mean, centred.T @ centred)


def environment_moments(observed: Observed) -> tuple[Moments, ...]:
    """Sufficient statistics of every environment, in their order."""
    return tuple(moments(e.X) for e in observed.environments)


def merge(parts: Iterable[Moments]) -> Moments:
    """Moments of the samples of all parts below each other, around their common mean.

    Examples
    --------
    >>> merge([moments([[0.0]]), moments([[2.0]])]).scatter.tolist()
    [[2.0]]
    """
    parts = _not_empty(parts)
    counts = np.array([p.n_samples for p in parts], dtype=np.float64)
    means = np.stack([p.mean for p in parts])
    mean = counts @ means / counts.sum()
    between = mean_difference(means, mean)
    scatter = sum((p.scatter for p in parts), np.zeros_like(parts[0].scatter)) + (between.T * counts) @ between
    return Moments(sum(p.n_samples for p in parts), mean, scatter, n_means=parts[0].n_means if len(parts) == 1 else 1)


def mean_difference(a: FloatArray, b: FloatArray) -> FloatArray:
    """a - b, where a difference within rounding is none: a constant variable stays exactly constant when merged."""
    difference = a - b
    return np.where(np.abs(difference) <= _CONSTANT_TOLERANCE * np.maximum(np.abs(a), np.abs(b)), 0.0, difference)


def merge_centred(parts: Iterable[Moments]) -> Moments:
    """Moments of all samples, each part centred on its own mean: the pooled within-environment scatter.

    The mean is zero and one degree of freedom is lost per part, so that the differences between environments that shifts
    make do not pass for dependence.

    Examples
    --------
    >>> merge_centred([moments([[0.0], [1.0]]), moments([[5.0], [6.0]])]).covariance().tolist()
    [[0.5]]
    """
    parts = _not_empty(parts)
    scatter = sum((p.scatter for p in parts), np.zeros_like(parts[0].scatter))
    n_samples, n_means = sum(p.n_samples for p in parts), sum(p.n_means for p in parts)
    return Moments(n_samples, np.zeros_like(parts[0].mean), scatter, n_means)


def _not_empty(parts: Iterable[Moments]) -> list[Moments]:
    found = list(parts)
    if not found:
        raise InputError("expected the moments of at least one data set, got none")
    return found


# Elimination and regression --------------------------------------------------------------------------------------------


@compiled
def eliminate(A: Any, n_pivots: Any) -> Any:
    """Eliminate the first variables from the upper triangle of a scatter matrix, in place; return the rank of the pivots.

    Gaussian elimination without exchange, which is stable on a scatter matrix. Afterwards the rows and columns after the
    pivots hold the scatter of residuals, and the rows of the pivots the triangular system of the regression. The row of a
    skipped pivot is zero.
    """
    m = A.shape[0]
    total = np.empty(m)
    for t in range(m):
        total[t] = A[t, t]
    rank = 0
    for p in range(n_pivots):
        if A[p, p] <= RESIDUAL_TOLERANCE * total[p]:
            A[p, :] = 0.0
            continue
        rank += 1
        for t in range(p + 1, m):
            ratio = A[p, t] / A[p, p]
            for s in range(t, m):
                A[t, s] -= ratio * A[p, s]
    for t in range(n_pivots, m):
        if A[t, t] <= RESIDUAL_TOLERANCE * total[t]:
            A[t, t:] = 0.0
            A[n_pivots:t, t] = 0.0
    return rank


@compiled
def _residual_scatters(scatters: Any, target: Any, predictors: Any) -> Any:
    """Residual sum of squares (m,) and rank (m,) of one regression in m scatter matrices (m, d, d)."""
    m, k = scatters.shape[0], predictors.shape[0]
    residual, rank = np.empty(m), np.empty(m, dtype=np.intp)
    A = np.empty((k + 1, k + 1))
    for e in range(m):
        for s in range(k):
            for t in range(s, k):
                A[s, t] = scatters[e, predictors[s], predictors[t]]
            A[s, k] = scatters[e, predictors[s], target]
        A[k, k] = scatters[e, target, target]
        rank[e] = eliminate(A, k)
        residual[e] = A[k, k]
    return residual, rank


@compiled
def _joined_residual_scatters(scatters: Any, pairs: Any, between: Any, target: Any, predictors: Any) -> Any:
    """As :func:`_residual_scatters`, of two data sets as one; ``between`` (m, d) is what their means add to the scatter.

    Joined here and not before, so that all pairs of many environments need no more memory than the environments.
    """
    m, k = pairs.shape[0], predictors.shape[0]
    residual, rank = np.empty(m), np.empty(m, dtype=np.intp)
    A = np.empty((k + 1, k + 1))
    for e in range(m):
        a, b = pairs[e]
        for s in range(k + 1):
            row = predictors[s] if s < k else target
            for t in range(s, k + 1):
                column = predictors[t] if t < k else target
                A[s, t] = scatters[a, row, column] + scatters[b, row, column] + between[e, row] * between[e, column]
        rank[e] = eliminate(A, k)
        residual[e] = A[k, k]
    return residual, rank


@compiled
def _partial_correlation(scatter: Any, i: Any, j: Any, given: Any) -> Any:
    k = given.shape[0]
    A = np.empty((k + 2, k + 2))
    for s in range(k):
        for t in range(s, k):
            A[s, t] = scatter[given[s], given[t]]
        A[s, k] = scatter[given[s], i]
        A[s, k + 1] = scatter[given[s], j]
    A[k, k] = scatter[i, i]
    A[k, k + 1] = scatter[i, j]
    A[k + 1, k + 1] = scatter[j, j]
    eliminate(A, k)
    scale = A[k, k] * A[k + 1, k + 1]
    if scale <= 0.0:
        return 0.0
    return min(1.0, max(-1.0, A[k, k + 1] / np.sqrt(scale)))


@compiled
def _partial_correlations(scatter: Any, i: Any, j: Any, given: Any) -> Any:
    found = np.empty(i.shape[0])
    for m in range(i.shape[0]):
        found[m] = _partial_correlation(scatter, i[m], j[m], given[m])
    return found


def _indices(variables: Iterable[int]) -> IntArray:
    return np.fromiter(variables, dtype=np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """Least squares of one variable on others.

    Parameters
    ----------
    coefficients : float64 (k,)
        In the order of the predictors; 0 for a predictor that adds nothing to those before it.
    intercept : float
        Relative to the means of the moments.
    residual_scatter : float
        Residual sum of squares.
    rank : int
        Predictors that were not skipped.
    degrees : int
        Residual degrees of freedom, n - means - rank; can be zero or negative.
    """

    coefficients: FloatArray
    intercept: float
    residual_scatter: float
    rank: int
    degrees: int


def regress(data: Moments, target: int, predictors: Sequence[int]) -> Regression:
    """Regress ``target`` on ``predictors`` with an intercept.

    Examples
    --------
    >>> data = moments([[0.0, 1.0], [1.0, 3.0], [2.0, 5.0]])
    >>> found = regress(data, 1, [0])
    >>> found.coefficients.tolist(), found.intercept, found.residual_scatter
    ([2.0], 1.0, 0.0)
    """
    chosen = np.append(_indices(predictors), target)
    k = len(chosen) - 1
    A = np.triu(data.scatter[np.ix_(chosen, chosen)])
    rank = int(eliminate(A, k))
    coefficients = np.zeros(k)
    for p in reversed(range(k)):
        if A[p, p] > 0:
            coefficients[p] = (A[p, k] - A[p, p + 1 : k] @ coefficients[p + 1 :]) / A[p, p]
    intercept = float(data.mean[target] - coefficients @ data.mean[chosen[:k]])
    return Regression(coefficients, intercept, float(A[k, k]), rank, data.degrees - rank)


# Conditional independence ----------------------------------------------------------------------------------------------


def partial_correlation(data: Moments, i: int, j: int, given: Iterable[int] = ()) -> float:
    """Partial correlation of i and j given other variables; 0 where i or j has no residual.

    Examples
    --------
    A chain, 0 -> 1 -> 2, whose population correlation factorises:

    >>> chain = Moments(10, np.zeros(3), np.array([[1, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 1]]))
    >>> partial_correlation(chain, 0, 2), partial_correlation(chain, 0, 2, [1])
    (0.25, 0.0)
    """
    return float(_partial_correlation(data.scatter, i, j, _indices(given)))


def partial_correlations(data: Moments, i: npt.ArrayLike, j: npt.ArrayLike, given: npt.ArrayLike) -> FloatArray:
    """Many partial correlations at once.

    Parameters
    ----------
    data : Moments
    i, j : int (m,)
        Pairs.
    given : int (m, k)
        Conditioning set of each pair; one size k for all.

    Returns
    -------
    float64 (m,)

    Raises
    ------
    InputError
        If the shapes disagree.
    """
    i, j, given = (np.ascontiguousarray(a, dtype=np.intp) for a in (i, j, given))
    if i.ndim != 1 or i.shape != j.shape or given.ndim != 2 or given.shape[0] != i.shape[0]:
        raise InputError(f"expected i (m,), j (m,) and given (m, k), got {i.shape}, {j.shape} and {given.shape}")
    return np.asarray(_partial_correlations(data.scatter, i, j, given))


def partial_correlations_given_rest(data: Moments, target: int, others: Sequence[int]) -> FloatArray:
    """Partial correlation of ``target`` with each of ``others``, given the rest of them.

    Returns
    -------
    float64 (m,)
        In the order of ``others``.

    Examples
    --------
    >>> chain = Moments(10, np.zeros(3), np.array([[1, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 1]]))
    >>> abs(partial_correlations_given_rest(chain, 0, [1, 2])).round(3).tolist()
    [0.447, 0.0]
    """
    chosen = np.append(_indices(others), target)
    scale = np.sqrt(data.scatter.diagonal()[chosen])
    if (scale > 0).all():
        correlation = data.scatter[np.ix_(chosen, chosen)] / (scale[:, None] * scale)
        try:
            factor = np.linalg.cholesky(correlation)
        except np.linalg.LinAlgError:
            factor = np.zeros((1, 1))
        if factor.diagonal().min() ** 2 > RESIDUAL_TOLERANCE:
            # With target last, the last row of the precision matrix is a row of the inverse factor, up to scale.
            inverse = linalg.solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
            row = inverse[-1] / np.sqrt((inverse**2).sum(axis=0))
            return np.asarray(np.clip(-row[:-1], -1.0, 1.0))
    # No precision matrix: pair by pair, under the rule of this module.
    rest = [np.delete(chosen[:-1], k) for k in range(len(chosen) - 1)]
    return np.array([_partial_correlation(data.scatter, target, j, s) for j, s in zip(chosen[:-1], rest, strict=True)])


def fisher_z_p_value(correlation: npt.ArrayLike, n_samples: int, n_given: int = 0) -> FloatArray:
    """Two-sided p-value of a (partial) correlation by Fisher's z-transform.

    Parameters
    ----------
    correlation : float64, any shape
        In [-1, 1].
    n_samples : int
        Samples, less the means fitted beyond the first (``data.degrees + 1``).
    n_given : int
        Size of the conditioning set.

    Returns
    -------
    float64, the shape of ``correlation``
        1 wherever n - |S| - 3 <= 0, since the approximation then knows no variance; 0 at correlation ±1 otherwise.

    Notes
    -----
    sqrt(n - |S| - 3) · artanh(r) is standard normal under independence, to order 1/n.

    References
    ----------
    R. A. Fisher, "On the probable error of a coefficient of correlation", Metron 1 (1921); with the degrees of freedom of
    Fisher, "The distribution of the partial correlation coefficient", Metron 3 (1924).

    Examples
    --------
    >>> float(fisher_z_p_value(0.5, 103).round(9))
    4e-08
    >>> float(fisher_z_p_value(0.9, 5, n_given=2))
    1.0
    """
    correlation = np.asarray(correlation, dtype=np.float64)
    freedom = n_samples - n_given - 3
    if freedom <= 0:
        return np.ones_like(correlation)
    size = np.abs(correlation)
    certain = size >= 1.0
    z = np.sqrt(freedom) * np.arctanh(np.where(certain, 0.0, size))
    return np.where(certain, 0.0, 2.0 * special.ndtr(-z))


def critical_correlation(alpha: float, n_samples: int, n_given: int = 0) -> float:
    """Size of a partial correlation at which Fisher's z test just rejects at level ``alpha``; infinite where it never does.

    The same decision as ``fisher_z_p_value(...) < alpha``, for those who test very often.

    Examples
    --------
    >>> critical = critical_correlation(0.01, 50, n_given=3)
    >>> float(fisher_z_p_value(critical, 50, n_given=3).round(9))
    0.01
    """
    freedom = n_samples - n_given - 3
    return float(np.tanh(-special.ndtri(alpha / 2) / np.sqrt(freedom))) if freedom > 0 else float("inf")


def independence_p_value(data: Moments, i: int, j: int, given: Iterable[int] = ()) -> float:
    """p-value of "i and j are independent given S" by Fisher's z; see :func:`fisher_z_p_value`."""
    given = _indices(given)
    return float(fisher_z_p_value(_partial_correlation(data.scatter, i, j, given), data.degrees + 1, len(given)))


# Invariance ------------------------------------------------------------------------------------------------------------


class InvarianceTest:
    """Is the regression of a variable on a parent set the same in a reference data set and in each of several others?

    Two tests, each exact for Gaussian noise where the other's null holds, joined by Bonferroni:

    - *variance*: the ratio of the residual variances is F distributed (two-sided);
    - *coefficients* (intercept included): Chow's F test of one regression against two.

    Parameters
    ----------
    references : Moments, or sequence of Moments
        E.g. of the observational samples; a sequence gives each other data set a reference of its own.
    others : sequence of Moments
        One for each of E environments.

    Raises
    ------
    InputError
        If the numbers of variables or of references differ, or moments are centred per environment (their means are gone).

    Notes
    -----
    An environment without residual degrees of freedom (n <= |S| + 1) has no variance test; its coefficient test is
    Chow's predictive test: do its few samples lie where the reference predicts them? A reference without residual degrees
    of freedom tells nothing: all p-values are 1.

    References
    ----------
    G. C. Chow, "Tests of equality between sets of coefficients in two linear regressions", Econometrica 28 (1960).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(200, 2)), rng.normal(size=(50, 2)) + [0.0, 3.0]
    >>> test = InvarianceTest(moments(X), [moments(Y)])
    >>> test.p_values(0, []).round(2).tolist(), test.p_values(1, [0]).round(2).tolist()
    ([0.47], [0.0])
    """

    def __init__(self, references: Moments | Sequence[Moments], others: Sequence[Moments]) -> None:
        references, others = [references] if isinstance(references, Moments) else list(references), list(others)
        if len(references) not in (1, len(others)):
            raise InputError(f"expected one reference or one for each of {len(others)} data sets, got {len(references)}")
        widths = {m.n_variables for m in [*references, *others]}
        if len(widths) > 1:
            raise InputError(f"expected moments of the same variables, got {sorted(widths)} variables")
        if any(m.n_means != 1 for m in [*references, *others]):
            raise InputError("expected moments around one mean, got moments centred per environment")
        if len(references) != len(others):
            references = references * len(others)
        distinct = list({id(m): m for m in [*references, *others]}.values())
        position = {id(m): k for k, m in enumerate(distinct)}
        self._pairs = np.array(
            [[position[id(m)] for m in pair] for pair in zip(references, others, strict=True)], dtype=np.intp
        )
        self._pairs = self._pairs.reshape(-1, 2)
        d = max(widths, default=0)
        self._scatters = np.array([m.scatter for m in distinct]).reshape(len(distinct), d, d)
        means = np.array([m.mean for m in distinct]).reshape(len(distinct), d)
        n_samples = np.array([m.n_samples for m in distinct], dtype=np.intp)
        self._degrees = n_samples - 1
        n, other_n = n_samples[self._pairs].T
        self._joined_degrees = n + other_n - 1
        weight = np.sqrt(n * other_n / (n + other_n))
        self._between = weight[:, None] * mean_difference(means[self._pairs[:, 0]], means[self._pairs[:, 1]])

    def p_values(self, target: int, predictors: Iterable[int]) -> FloatArray:
        """p-value of invariance in each environment, float64 (E,): twice the smaller one of the two tests, at most 1."""
        variance, coefficients = self.variance_and_coefficient_p_values(target, predictors)
        return np.minimum(1.0, 2.0 * np.minimum(variance, coefficients))

    def variance_and_coefficient_p_values(self, target: int, predictors: Iterable[int]) -> tuple[FloatArray, FloatArray]:
        """p-values of the two tests apart, float64 (E,) each."""
        predictors = _indices(predictors)
        residuals, ranks = _residual_scatters(self._scatters, target, predictors)
        joined, joined_ranks = _joined_residual_scatters(self._scatters, self._pairs, self._between, target, predictors)
        reference, own = residuals[self._pairs].T
        reference_degrees, own_degrees = (self._degrees - ranks)[self._pairs].T
        joined_degrees = self._joined_degrees - joined_ranks
        informative = reference_degrees > 0
        reference_degrees = np.maximum(reference_degrees, 1)

        comparable = informative & (own_degrees > 0) & ((own > 0) | (reference > 0))
        ratio = _ratio(own * reference_degrees, reference * own_degrees)
        tails = [tail(np.maximum(own_degrees, 1), reference_degrees, ratio) for tail in (special.fdtr, special.fdtrc)]
        variance = np.where(comparable, np.minimum(1.0, 2.0 * np.minimum(*tails)), 1.0)
        # Where the environment has no residual this is Chow's predictive test, degrees of freedom included.
        separate, separate_degrees = reference + own, reference_degrees + own_degrees
        extra, extra_degrees = joined - separate, joined_degrees - separate_degrees
        ratio = _ratio(extra * separate_degrees, separate * extra_degrees)
        upper_tail = special.fdtrc(np.maximum(extra_degrees, 1), separate_degrees, ratio)
        return variance, np.where(informative & (extra_degrees > 0), upper_tail, 1.0)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient with a non-negative denominator; 0 where the numerator is not positive, x / 0 is ``_LARGEST_RATIO``."""
    floored = np.maximum(denominator, numerator / _LARGEST_RATIO)
    return np.divide(numerator, floored, out=np.zeros_like(floored), where=numerator > 0)


# Score -----------------------------------------------------------------------------------------------------------------


def bic_local_score(data: Moments, target: int, parents: Sequence[int], *, penalty: float = 1.0) -> float:
    """Gaussian BIC of one variable given its parents: maximised log-likelihood less the penalty, larger is better.

    Parameters
    ----------
    data : Moments
    target : int
    parents : sequence of int
    penalty : float
        1 is the BIC: ½ log n for each parent, each fitted mean and the variance.

    Returns
    -------
    float
        In nats. The residual variance is taken as at least ``RESIDUAL_TOLERANCE`` of the variable's own, so that an exact
        copy has a finite score; a constant variable has likelihood 0 and pays the penalty alone.

    References
    ----------
    G. Schwarz, "Estimating the dimension of a model", Annals of Statistics 6 (1978).

    Examples
    --------
    >>> data = moments(np.random.default_rng(0).normal(size=(100, 2)))
    >>> bic_local_score(data, 0, []) > bic_local_score(data, 0, [1])
    True
    """
    n = data.n_samples
    complexity = 0.5 * penalty * np.log(n) * (len(parents) + data.n_means + 1)
    own = float(data.scatter[target, target])
    if own <= 0:
        return -float(complexity)
    residual, _ = _residual_scatters(data.scatter[None], target, _indices(parents))
    variance = max(float(residual[0]), RESIDUAL_TOLERANCE * own) / n
    return float(-0.5 * n * (np.log(2 * np.pi * variance) + 1.0) - complexity)
