"""Floor for targets: which variables' marginal distributions differ from the reference, by two-sample tests.

It knows nothing of a graph (its own is empty), so it also calls what lies downstream of a target: its recall is high where
interventions are strong, and its precision is what the graph has to add.
"""

from __future__ import annotations

import warnings
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Gt, Lt
from scipy import special

from bench.invariance import holm_evidence
from bench.registry import register_method
from bench.types import Budget, Capabilities, Environment, Estimate, Fitted, FloatArray, Meta, Method, Observed

_FEWEST_FOR_WELCH = 5
"""Samples on each side below which Welch's approximate degrees of freedom are off: at 2 against 2000 Gaussian samples, p-values
below .001 come 25 times too often, at 3 about 5 times, from 5 on less than twice."""


@register_method("marginal")
class Marginal(Method):
    """Welch's t, Brown-Forsythe and Kolmogorov-Smirnov tests of every variable in every environment.

    An environment is tested against the samples known to be observational; where there are none, against all other
    environments pooled. The family of one environment is its 3·d tests (those that are defined), and a variable is a target
    where any of its tests is rejected by Holm's procedure at ``alpha``. Known observational environments, and a single
    environment with nothing to compare it with, have no target.

    A new environment is tested in the same way against the observational samples of ``fit``, or all its samples where
    none were observational.

    Parameters
    ----------
    alpha : float
        Family-wise level in each environment.

    Notes
    -----
    Within one environment Holm's procedure comes down to one threshold t on the raw p-values
    (:func:`bench.invariance.holm_evidence`). With p the smallest p-value of a variable and u = log(t / p),
    ``target_probability`` is (1 + u / (1 + |u|)) / 2: strictly decreasing in p down to 2e-308, and above .5 exactly where the
    variable is called. It is a score for ranking, not a calibrated probability.

    References
    ----------
    B. L. Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34 (1947). M. B. Brown, A. B. Forsythe, "Robust tests for the equality of variances", JASA 69 (1974). S. Holm,
    "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979). Deviations: with
    fewer than five samples on a side, the t test is Student's with pooled variance, which is exact where nothing changed and
    needs but one sample; Brown-Forsythe needs three samples on each side, and else is left out of the family.
    """

    capabilities = Capabilities(
        estimates_targets=True, edge_output="binary", target_output="score", adapts=True, deterministic=True
    )
    meta = Meta(
        "Marginal two-sample tests against the reference, Holm-adjusted; no edge (floor for targets).",
        "Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979",
        wraps="scipy (Kolmogorov-Smirnov test; BSD-3-Clause)",
        mechanisms="any",
        noise="any",
        interventions=("any",),
        complexity="E d n log n",
        n_variables=(1, None),
    )
    search_space: ClassVar = {"alpha": [1e-5, 1e-4, 0.001, 0.01, 0.05]}
    expected_failures: ClassVar = {"edges_beat_chance": "it answers for targets only"}

    def __init__(self, alpha: Annotated[float, Gt(0), Lt(1)] = 1e-5) -> None:
        self.alpha = alpha

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        reference = observed.observational()
        environments = observed.environments
        references = [reference] * len(environments)
        if reference is None:
            references = [_pooled(environments[:e] + environments[e + 1 :]) for e in range(len(environments))]
        kept = observed.pooled() if reference is None else reference
        return FittedMarginal(_estimate(environments, references, self.alpha), kept, self.alpha)

    def warm_up(self) -> None:
        two_sample_p_values(np.zeros((3, 1)), np.zeros((3, 1)))


class FittedMarginal(Fitted):
    """Keeps the reference samples, float64 (n, d), for environments to come."""

    def __init__(self, estimate: Estimate, reference: FloatArray, alpha: float) -> None:
        super().__init__(estimate)
        self.reference = reference
        self.alpha = alpha

    def adapt(self, new: Observed, *, rng: np.random.Generator) -> Estimate:
        return _estimate(new.environments, [self.reference] * new.n_environments, self.alpha)


def _pooled(environments: tuple[Environment, ...]) -> FloatArray | None:
    return np.concatenate([e.X for e in environments]) if environments else None


def _estimate(environments: tuple[Environment, ...], references: list[FloatArray | None], alpha: float) -> Estimate:
    d = environments[0].X.shape[1]
    probability = np.zeros((len(environments), d))
    for row, (environment, reference) in enumerate(zip(environments, references, strict=True)):
        if reference is not None and not environment.is_observational:
            evidence = holm_evidence(two_sample_p_values(environment.X, reference), alpha)
            probability[row] = 0.5 + 0.5 * evidence / (1 + np.abs(evidence))
    no_edge = np.zeros((d, d), dtype=bool)
    return Estimate(no_edge, probability, point_graph=no_edge, graph_kind="dag", targets=probability > 0.5)


def two_sample_p_values(X: FloatArray, reference: FloatArray) -> FloatArray:
    """Two-sided p-values of equal means, spreads and distributions of each variable.

    Parameters
    ----------
    X : float64 (n, d)
    reference : float64 (m, d)

    Returns
    -------
    float64 (3, d)
        Rows: t, Brown-Forsythe, Kolmogorov-Smirnov. NaN where undefined. Two equal constants give 1, two different
        ones 0 in the t test.
    """
    # Relative to one reference value, so that what is constant becomes exactly zero and large offsets cost no precision.
    X, reference = X - reference[0], reference - reference[0]
    return np.stack([_t_test(X, reference), _brown_forsythe(X, reference), _kolmogorov_smirnov(X, reference)])


def _t_test(X: FloatArray, Y: FloatArray) -> FloatArray:
    n, m = len(X), len(Y)
    if n + m < 3:
        return np.full(X.shape[1], np.nan)
    if min(n, m) < _FEWEST_FOR_WELCH:
        pooled = (n * X.var(axis=0) + m * Y.var(axis=0)) / (n + m - 2)
        spread, degrees = pooled * (1 / n + 1 / m), np.full(X.shape[1], n + m - 2.0)
    else:
        a, b = X.var(axis=0, ddof=1) / n, Y.var(axis=0, ddof=1) / m
        spread = a + b
        degrees = _ratio(spread**2, a**2 / (n - 1) + b**2 / (m - 1))
    return _two_sided_t(np.abs(X.mean(axis=0) - Y.mean(axis=0)), np.sqrt(spread), degrees)


def _brown_forsythe(X: FloatArray, Y: FloatArray) -> FloatArray:
    n, m = len(X), len(Y)
    if min(n, m) < 3:
        return np.full(X.shape[1], np.nan)
    U, V = np.abs(X - np.median(X, axis=0)), np.abs(Y - np.median(Y, axis=0))
    within = (n * U.var(axis=0) + m * V.var(axis=0)) / (n + m - 2)
    # Between two groups, the F test of the analysis of variance is the square of this t test.
    spread = np.sqrt(within * (1 / n + 1 / m))
    return _two_sided_t(np.abs(U.mean(axis=0) - V.mean(axis=0)), spread, np.full(X.shape[1], n + m - 2.0))


def _kolmogorov_smirnov(X: FloatArray, Y: FloatArray) -> FloatArray:
    from scipy.stats import ks_2samp  # at first use: listing the methods stays fast

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # exact counts that overflow fall back to the asymptotic ones
        return np.array([ks_2samp(x, y).pvalue for x, y in zip(X.T, Y.T, strict=True)])


def _two_sided_t(difference: FloatArray, spread: FloatArray, degrees: FloatArray) -> FloatArray:
    statistic = _ratio(difference, spread)
    return np.asarray(np.minimum(1.0, 2 * special.stdtr(np.maximum(degrees, 1.0), -statistic)))


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """numerator / denominator, with 0 / 0 = 0 and x / 0 = infinity."""
    without = np.where(numerator > 0, np.inf, 0.0)
    return np.divide(numerator, denominator, out=without, where=denominator > 0)
