"""Floors for edges: sort the variables by one number each, then regress every variable on those before it.

They use no conditional independence and no environment. Where they do well, the data give the causal order away by their
marginal scales (see the columns ``varsortability`` and ``r2_sortability``), and a good score of others means little.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from bench.bootstrap import PointMethod, Replicates
from bench.gaussian import moments, regress
from bench.registry import register_method
from bench.sortability import r_squared
from bench.types import Budget, Capabilities, Estimate, FloatArray, Meta, Observed


class SortAndRegress(PointMethod):
    """Sort by :meth:`criterion`, then select the parents of each variable among its predecessors by an adaptive lasso.

    The samples are those known to be observational where there are any, else all of them pooled, as in the sortability
    diagnostics. Each predecessor is weighted by its least-squares coefficient and the lasso's penalty is chosen by BIC.

    Parameters
    ----------
    bootstrap : int
        Replicates of the within-environment bootstrap; 0 for none.

    Notes
    -----
    The edge score of a selected parent is .5 + .5·b/(1 + b), with b the absolute standardised weight (units of standard
    deviations of child per parent); all others score 0.

    References
    ----------
    Reisach, Seiler, Weichwald, "Beware of the Simulated DAG!", NeurIPS 2021, section 5 (sortnregress: least-squares weights,
    then LassoLarsIC with BIC). Deviations: with too few samples for least squares on all predecessors, only the
    max(1, n // 2 - 2) of them most correlated with the variable enter; predecessors that are constant, or linear functions of
    those before them, do not enter; below 4 samples there is no edge.
    """

    capabilities = Capabilities(edge_output="score", deterministic=True)

    def __init__(self, bootstrap: Replicates = 0) -> None:
        self.bootstrap = bootstrap

    @abstractmethod
    def criterion(self, X: FloatArray) -> FloatArray:
        """What the variables are sorted by, small to large, float64 (d,)."""

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Estimate:
        observational = observed.observational()
        X = observed.pooled() if observational is None else observational
        weights = np.abs(sparse_weights(X, np.argsort(self.criterion(X), kind="stable")))
        score = np.where(weights > 0, 0.5 + 0.5 * weights / (1 + weights), 0.0)
        return Estimate(score, point_graph=weights > 0, graph_kind="dag")

    def warm_up(self) -> None:
        sparse_weights(np.random.default_rng(0).normal(size=(20, 3)), np.arange(3))


_MODEL: dict[str, Any] = {
    "mechanisms": "linear",
    "noise": "any",
    "interventions": (),
    "complexity": "n d³ (d sparse regressions on up to d predecessors)",
    "n_variables": (2, 200),
}


@register_method("var_sort_regress")
class VarianceSortAndRegress(SortAndRegress):
    """Sort by marginal variance; see :class:`SortAndRegress`."""

    meta = Meta(
        "Sort by marginal variance, regress on predecessors (floor).",
        "Reisach, Seiler, Weichwald, Beware of the Simulated DAG!, NeurIPS 2021",
        wraps="scikit-learn (LassoLarsIC; BSD-3-Clause)",
        **_MODEL,
    )

    def criterion(self, X: FloatArray) -> FloatArray:
        return np.asarray(X.var(axis=0))


@register_method("r2_sort_regress")
class RSquaredSortAndRegress(SortAndRegress):
    """Sort by the R² of each variable on all others, which no change of scale alters; see :class:`SortAndRegress`."""

    meta = Meta(
        "Sort by R² on all other variables, regress on predecessors (floor).",
        "Reisach et al., A Scale-Invariant Sorting Criterion to Find a Causal Order in Additive Noise Models, NeurIPS 2023",
        wraps="scikit-learn (LassoLarsIC; BSD-3-Clause)",
        **_MODEL,
    )
    expected_failures: ClassVar = {"edges_beat_chance": "R² gives no order away where weights are balanced and effects few"}

    def criterion(self, X: FloatArray) -> FloatArray:
        return r_squared(X)


def sparse_weights(X: FloatArray, order: np.ndarray) -> FloatArray:
    """Standardised weights of sparse regressions of each variable on those before it in ``order``.

    Parameters
    ----------
    X : float64 (n, d)
    order : int (d,)
        Variables, first to last.

    Returns
    -------
    float64 (d, d)
        ``W[i, j]`` is the weight of i in the regression of j; zero unless i precedes j.
    """
    n, d = X.shape
    weights = np.zeros((d, d))
    data = moments(X)
    correlation = np.abs(data.correlation())
    scale = np.sqrt(data.scatter.diagonal())
    if n < 4:
        return weights
    Z = np.divide(X - data.mean, scale, out=np.zeros_like(X), where=scale > 0) * np.sqrt(n)
    standardised = moments(Z)
    for position, child in enumerate(order):
        before = order[:position]
        if len(before) > n - 3:  # no residual degree of freedom would be left
            strongest = np.argsort(-correlation[before, child], kind="stable")
            before = before[strongest[: max(1, n // 2 - 2)]]
        fit = regress(standardised, int(child), before.tolist())
        enters = fit.coefficients != 0
        if scale[child] > 0 and enters.any():
            weights[before[enters], child] = _adaptive_lasso(Z[:, before[enters]], Z[:, child], fit.coefficients[enters])
    return weights


def _adaptive_lasso(predictors: FloatArray, response: FloatArray, coefficients: FloatArray) -> FloatArray:
    """Lasso by LARS with BIC on predictors weighted by their least-squares coefficients, float64 (k,)."""
    from sklearn.linear_model import LassoLarsIC  # heavy: not at import

    weight = np.abs(coefficients)
    residual = response - predictors @ coefficients
    # An exact fit has no noise to weigh the penalty against; a tiny variance keeps BIC finite.
    noise_variance = max(residual @ residual / (len(response) - len(weight) - 1), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly collinear predictors: LARS drops one and says so
        found = LassoLarsIC(criterion="bic", noise_variance=noise_variance).fit(predictors * weight, response)
    return np.asarray(found.coef_ * weight)
