"""Tests of conditional independence that see more than linear dependence, for searches that ask very often.

Columns come as blocks: a variable is one continuous column, a context (an indicator, or one column per environment) a block of
0 and 1 that has no other values. Both tests answer ``test(i, j, given)`` with a p-value; what they learn of a conditioning set
is kept while it is likely to be asked for again.

Not here: linear tests (``bench.gaussian``), and who asks.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg, special
from scipy.spatial.distance import pdist

from bench.types import FloatArray, Observed

_SETS_KEPT = 128
"""Conditioning sets whose residuals are kept; a search asks for one set with many pairs in a row."""

_DISTANCES_FROM = 500
"""Samples that the median distance, hence the width of a kernel, is taken from."""

_RIDGE = 1e-6
"""Relative to the mean square of a feature: keeps the regression on nearly collinear features from failing, and no more."""


def thinned_rows(observed: Observed, max_samples: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Rows of the pooled samples, at most ``max_samples``, the largest environments thinned first.

    No environment keeps more than c of its samples, with the largest c that fits (at least one sample each stays), so that
    small environments, which say what an intervention did, stay whole as long as possible.

    Examples
    --------
    >>> from bench.types import Environment
    >>> observed = Observed(tuple(Environment(np.zeros((n, 1))) for n in (100, 5, 8)))
    >>> rows = thinned_rows(observed, 30, np.random.default_rng(0))
    >>> [int(((rows >= a) & (rows < b)).sum()) for a, b in ((0, 100), (100, 105), (105, 113))]
    [17, 5, 8]
    """
    sizes = np.array([e.n_samples for e in observed.environments])
    caps = np.arange(1, sizes.max() + 1)
    fits = np.minimum(sizes, caps[:, None]).sum(axis=1) <= max_samples
    cap = int(caps[fits].max()) if fits.any() else 1
    starts = np.cumsum(sizes) - sizes
    chosen = [start + np.sort(rng.permutation(n)[:cap]) for start, n in zip(starts, sizes, strict=True)]
    return np.concatenate(chosen)


class RandomFeatureTest:
    """The randomised conditional correlation test (RCoT): are nonlinear residuals of i and j, given S, correlated?

    Parameters
    ----------
    blocks : sequence of float64 (n, k)
        One for each variable or context.
    is_context : sequence of bool
        Which blocks are contexts: they enter as they are, everything else through random Fourier features.
    rng : Generator
        Features are functions of one number drawn from it, and of the block or set that they belong to.
    n_features : int
        Of each variable.
    n_features_given : int
        Of a conditioning set; fewer where there are fewer than five samples for each.

    Notes
    -----
    Given S, a variable is first replaced by its residual in a regression on the features of S, which keeps independence given S
    as it is, and leaves less for the features to explain. With φ_i the standardised features cos(wx/σ + b) of that residual, σ
    its median distance between samples, w standard normal, b uniform, and r_i the residuals of φ_i given S, the statistic is
    T = ν ‖Σ r_i r_jᵀ / n‖², with ν the degrees of freedom of the residuals; under independence it is a weighted sum of χ²
    variables, the weights being the eigenvalues of the covariance of the products r_i ⊗ r_j. Its distribution is that of a
    shifted χ² with the same first three cumulants.

    References
    ----------
    Strobl, Zhang, Visweswaran, "Approximate kernel-based conditional independence tests for fast non-parametric causal
    discovery", Journal of Causal Inference 7 (2019), RCoT. P. Hall, "Chi squared approximations to the distribution of a sum
    of independent random variables", Annals of Probability 11 (1983), and Buckley & Eagleson (1988). Deviations: variables
    are replaced by their residuals first: without it, a set of three variables had independence rejected at 1 % in a third of
    the cases and more; S has features of each variable and linear terms besides the joint ones; contexts enter linearly; ν in
    place of n, which the regression on a hundred features needs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> y, z = x**2 + 0.1 * rng.normal(size=500), np.abs(x) + 0.1 * rng.normal(size=500)
    >>> test = RandomFeatureTest([x[:, None], y[:, None], z[:, None]], [False] * 3, rng)
    >>> bool(test(1, 2) < 1e-6), bool(test(1, 2, [0]) > 0.01)
    (True, True)
    """

    def __init__(
        self,
        blocks: Sequence[FloatArray],
        is_context: Sequence[bool],
        rng: np.random.Generator,
        n_features: int = 5,
        n_features_given: int = 100,
    ) -> None:
        self._blocks = [_standardised(block) for block in blocks]
        self._is_context = list(is_context)
        self._seed = int(rng.integers(2**63))
        self._n_samples = len(blocks[0])
        self._n_features = n_features
        self._n_features_given = max(2, min(n_features_given, self._n_samples // 5))
        self._residuals = functools.lru_cache(maxsize=_SETS_KEPT)(self._residuals_given)

    def __call__(self, i: int, j: int, given: Collection[int] = ()) -> float:
        residuals, degrees = self._residuals(tuple(sorted(given)))
        return _product_p_value(residuals[i], residuals[j], degrees)

    def _residuals_given(self, given: tuple[int, ...]) -> tuple[list[FloatArray], float]:
        """For each block its features less what a set tells of them, (n, k) each, and the degrees of freedom left."""
        unexplained = _Regression(self._predictors(given))
        features = [
            block if context else self._fourier(_standardised(unexplained(block)), self._n_features, (0, i))
            for i, (block, context) in enumerate(zip(self._blocks, self._is_context, strict=True))
        ]
        ends = np.cumsum([f.shape[1] for f in features])[:-1]
        return np.split(unexplained(np.hstack(features)), ends, axis=1), unexplained.degrees

    def _predictors(self, given: tuple[int, ...]) -> FloatArray:
        """What a set is regressed on: its blocks as they are, features of each variable, and features of all together."""
        blocks = [self._blocks[k] for k in given]
        variables = [k for k in given if not self._is_context[k]]
        n_alone = self._n_features_given // (2 * max(1, len(variables)))
        alone = [self._fourier(self._blocks[k], n_alone, (1, k), width=0.5) for k in variables]
        joint = []
        if len(variables) > 1:
            together = np.hstack([self._blocks[k] for k in variables])
            joint = [self._fourier(together, self._n_features_given // 2, (1, *variables))]
        return np.hstack([np.empty((self._n_samples, 0)), *blocks, *alone, *joint])

    def _fourier(self, X: FloatArray, n_features: int, key: tuple[int, ...], width: float = 1.0) -> FloatArray:
        rng = np.random.default_rng([self._seed, *key])
        W, b = rng.normal(size=(X.shape[1], n_features)), rng.uniform(0, 2 * np.pi, n_features)
        return _standardised(np.cos(X @ W / (width * _median_distance(X)) + b))


class _Regression:
    """Least squares on some columns (n, k), with a ridge that only keeps it from failing; calling it gives residuals."""

    def __init__(self, predictors: FloatArray) -> None:
        self._predictors = predictors
        self.degrees = len(predictors) - 1.0
        if predictors.shape[1]:
            gram = predictors.T @ predictors
            self._factor = linalg.cho_factor(gram + _RIDGE * len(predictors) * np.eye(len(gram)))
            # The trace of the hat matrix is what the regression takes of the degrees of freedom.
            self.degrees = max(1.0, self.degrees - float(np.trace(linalg.cho_solve(self._factor, gram))))

    def __call__(self, Y: FloatArray) -> FloatArray:
        if not self._predictors.shape[1]:
            return Y
        return np.asarray(Y - self._predictors @ linalg.cho_solve(self._factor, self._predictors.T @ Y))


class KernelTest:
    """KCI of the package causal-learn with its gamma approximation: time and memory grow with n³ and n².

    Parameters
    ----------
    blocks : sequence of float64 (n, k)
        One for each variable or context; keep n to a few hundred.

    References
    ----------
    Zhang, Peters, Janzing, Schölkopf, "Kernel-based conditional independence test and application in causal discovery",
    UAI 2011.
    """

    def __init__(self, blocks: Sequence[FloatArray]) -> None:
        self._blocks = [_standardised(block) for block in blocks]

    def __call__(self, i: int, j: int, given: Collection[int] = ()) -> float:
        from causallearn.utils.KCI.KCI import KCI_CInd, KCI_UInd  # heavy: at first use

        x, y = self._blocks[min(i, j)], self._blocks[max(i, j)]
        if not x.any() or not y.any():  # constant: the kernels would be, too
            return 1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is constant is divided by its deviation, and mended afterwards
            if not given:
                return float(KCI_UInd().compute_pvalue(x, y)[0])
            return float(KCI_CInd().compute_pvalue(x, y, np.hstack([self._blocks[k] for k in sorted(given)]))[0])


def _product_p_value(x: FloatArray, y: FloatArray, degrees: float) -> float:
    """p-value of "no column of x is correlated with one of y": a quadratic form against its first three cumulants."""
    n = len(x)
    products = (x[:, :, None] * y[:, None, :]).reshape(n, -1)
    mean = products.mean(axis=0)
    covariance = products.T @ products / n - np.outer(mean, mean)
    squared = covariance @ covariance
    first, second, third = np.trace(covariance), 2 * np.trace(squared), 8 * np.sum(squared * covariance)
    if second <= 1e-24 or third <= 1e-36:  # one side is constant, or a function of what is given
        return 1.0
    freedom = 8 * second**3 / third**2
    statistic = degrees * float(mean @ mean)
    return float(special.chdtrc(freedom, max(0.0, freedom + np.sqrt(2 * freedom / second) * (statistic - first))))


def _median_distance(X: FloatArray) -> float:
    """Median distance between samples that differ; evenly spaced samples where there are many. 1 where none differ."""
    step = -(-len(X) // _DISTANCES_FROM)
    distances = pdist(X[::step])
    distances = distances[distances > 0]
    return float(np.median(distances)) if distances.size else 1.0


def _standardised(X: FloatArray) -> FloatArray:
    """Mean 0 and variance 1 in each column; 0 where a column is constant."""
    centred = X - X.mean(axis=0)
    deviation = centred.std(axis=0)
    varies = deviation > 1e-12 * np.maximum(1.0, np.abs(X).max(axis=0))
    return np.asarray(np.divide(centred, deviation, out=np.zeros_like(centred), where=varies))
