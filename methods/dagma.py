"""DAGMA: continuous optimisation of a linear model over weighted graphs, acyclic by a log-determinant.

The baseline of its kind that everybody knows, and purely observational: it knows of environments only that their means are
taken away. Least squares on data of equal noise variances find the causal order by the marginal variances alone
(*var-sortability*), and these are what standardised data hide: what the method scores there is what it is worth where scale
carries no information, and its published figures are another matter.

Not here: nonlinear and logistic DAGMA, and targets.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt

from bench.bootstrap import PointMethod, Replicates
from bench.compiled import compiled
from bench.gaussian import environment_moments, merge_centred
from bench.graphs import break_cycles
from bench.registry import register_method
from bench.types import Budget, Capabilities, Estimate, Fitted, FloatArray, Meta, Observed

MU = (1.0, 0.1, 0.01, 0.001, 0.0001)
"""Weight of the score against acyclicity along the central path."""

S = (1.0, 0.9, 0.8, 0.7, 0.6)
"""Of the log-determinant, one for each stage of the path."""

WARM_STEPS, LAST_STEPS = 30_000, 60_000
"""Most steps of each stage but the last, and of the last."""

CHECKED_EVERY, TOLERANCE = 1000, 1e-6
"""A stage ends where the objective moved by less than this share between two checks."""

BETA_1, BETA_2, EPSILON = 0.99, 0.999, 1e-8
"""Of Adam."""

_SMALLEST_RATE = 1e-16


@register_method("dagma")
class Dagma(PointMethod):
    """Linear DAGMA on pooled data, each environment centred on its own mean.

    Along a path of falling mu it minimises

        mu·(tr((I - W)ᵀ C (I - W)) / 2 + sparsity·‖W‖₁) + h(W),   h(W) = d·log s - log det(s·I - W∘W),

    with C the covariance, by Adam from the last solution (at first, 0), and keeps edges with absolute weight above the
    threshold. h is zero exactly at acyclic W.

    Parameters
    ----------
    sparsity : float
        Weight of the L1 norm.
    threshold : float
        Absolute weight above which an edge stays, in units of the data.
    learning_rate : float
        Of Adam.
    bootstrap : int
        Replicates of the within-environment bootstrap; 0 for none.

    Notes
    -----
    ``edge_probability`` is a score, w / (w + threshold) of the absolute weight w: above .5 where the edge stays (but for the
    weakest edge of a cycle that the threshold leaves, which goes). Parameters are the published ones, for data in their own
    scale; ``results/comparisons`` holds a comparison with the authors' package, on both scales.

    References
    ----------
    K. Bello, B. Aragam, P. Ravikumar, "DAGMA: Learning DAGs via M-matrices and a log-determinant acyclicity characterization",
    NeurIPS 2022, algorithm 1, with the path, Adam and the stopping rule of the authors' software. A. Reisach, C. Seiler, S.
    Weichwald, "Beware of the Simulated DAG!", NeurIPS 2021: var-sortability.
    """

    capabilities = Capabilities(edge_output="score", deterministic=True)
    meta = Meta(
        "Linear DAGMA: continuous optimisation with log-determinant acyclicity, observational (own implementation).",
        "Bello, Aragam, Ravikumar, NeurIPS 2022, arXiv:2209.08037",
        mechanisms="linear",
        noise="of equal variances",
        interventions=(),
        complexity="up to 180,000 steps of d³; n and E in the covariance alone",
        n_variables=(2, 100),
    )
    search_space: ClassVar = {"sparsity": [0.01, 0.03, 0.1], "threshold": [0.1, 0.2, 0.3]}
    expected_failures: ClassVar = {"edges_beat_chance": "least squares finds no order where all variables have one scale"}

    def __init__(
        self,
        sparsity: Annotated[float, Ge(0)] = 0.03,
        threshold: Annotated[float, Gt(0)] = 0.3,
        learning_rate: Annotated[float, Gt(0)] = 3e-4,
        bootstrap: Replicates = 0,
    ) -> None:
        self.sparsity = sparsity
        self.threshold = threshold
        self.learning_rate = learning_rate
        self.bootstrap = bootstrap

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        data = merge_centred(environment_moments(observed))
        problem = CentralPath(data.scatter / data.n_samples, self.sparsity, self.learning_rate, budget or Budget())
        size = np.abs(problem.solve())
        estimate = Estimate(
            size / (size + self.threshold),
            point_graph=break_cycles(size > self.threshold, size),
            graph_kind="dag",
        )
        return Fitted(estimate, cut_short=problem.cut_short, converged=problem.converged)

    def warm_up(self) -> None:
        """Compile the steps of Adam."""
        CentralPath(np.eye(2), self.sparsity, self.learning_rate, Budget()).solve()


class CentralPath:
    """The optimisation of :class:`Dagma`.

    Parameters
    ----------
    covariance : float64 (d, d)
    sparsity, learning_rate : float
    budget : Budget
        Looked at every ``CHECKED_EVERY`` steps.

    Attributes
    ----------
    cut_short : bool
        The budget ran out.
    converged : bool
        Every stage ended because its objective had settled.
    """

    def __init__(self, covariance: FloatArray, sparsity: float, learning_rate: float, budget: Budget) -> None:
        self._covariance = np.ascontiguousarray(covariance)
        self._sparsity, self._learning_rate = sparsity, learning_rate
        self._budget = budget
        self.cut_short, self.converged = False, True

    def solve(self) -> FloatArray:
        """Weights at the end of the path, float64 (d, d); entry (i, j) is that of i -> j."""
        W = np.zeros_like(self._covariance)
        for stage, (mu, s) in enumerate(zip(MU, S, strict=True)):
            self._budget.progress(stage / len(MU), f"stage {stage + 1} of {len(MU)}")
            n_steps, rate, found = LAST_STEPS if mu == MU[-1] else WARM_STEPS, self._learning_rate, None
            while found is None and not self.cut_short and rate > _SMALLEST_RATE:
                found = self.descend(W, mu, s, n_steps, rate)
                # Out of the domain of the log-determinant: shorter steps in a larger domain.
                rate, s = rate / 2, s + 0.1
            W = W if found is None else found
        np.fill_diagonal(W, 0.0)  # what is left of it along the path, in which a variable may explain itself
        return W

    def objective(self, W: FloatArray, mu: float, s: float) -> float:
        """What a stage minimises."""
        rest = np.eye(len(W)) - W
        least_squares = 0.5 * np.trace(rest.T @ self._covariance @ rest)
        acyclicity = len(W) * np.log(s) - np.linalg.slogdet(s * np.eye(len(W)) - W * W)[1]
        return float(mu * (least_squares + self._sparsity * np.abs(W).sum()) + acyclicity)

    def descend(self, start: FloatArray, mu: float, s: float, n_steps: int, rate: float) -> FloatArray | None:
        """Minimise one stage by Adam; None where the first step leaves the domain, or any does at a small s."""
        W, moments, before = start.copy(), np.zeros((2, *start.shape)), 0.0
        for n_done in range(0, n_steps, CHECKED_EVERY):
            if self._budget.expired:
                self.cut_short, self.converged = True, False
                return W
            rate = _adam(W, moments, n_done, self._covariance, mu, s, self._sparsity, rate)
            if rate < 0:
                return None
            now = self.objective(W, mu, s)
            settled = n_done > 0 and abs(before - now) <= TOLERANCE * abs(before)
            if settled or rate <= _SMALLEST_RATE:
                return W
            before = now
        self.converged = False
        return W


@compiled
def _adam(W: Any, moments: Any, n_done: Any, covariance: Any, mu: Any, s: Any, sparsity: Any, rate: Any) -> Any:
    """``CHECKED_EVERY`` steps in place; return the learning rate, -1 where the domain was left for good.

    The domain is that of M-matrices, s·I - W∘W with a non-negative inverse. A step out of it is taken back and halved.
    """
    d = W.shape[0]
    step, inverse = np.zeros((d, d)), np.empty((d, d))
    for n in range(n_done + 1, n_done + CHECKED_EVERY + 1):
        while not _invert(W, s, inverse):
            if n == 1 or s <= 0.9:
                return -1.0
            W += rate * step
            rate *= 0.5
            if rate <= _SMALLEST_RATE:
                return rate
            W -= rate * step
        unbias_1, unbias_2 = 1 - BETA_1**n, 1 - BETA_2**n
        least_squares = np.dot(covariance, W)
        for i in range(d):
            for j in range(d):
                gradient = mu * (least_squares[i, j] - covariance[i, j] + sparsity * np.sign(W[i, j]))
                gradient += 2 * W[i, j] * inverse[j, i]
                moments[0, i, j] = BETA_1 * moments[0, i, j] + (1 - BETA_1) * gradient
                moments[1, i, j] = BETA_2 * moments[1, i, j] + (1 - BETA_2) * gradient**2
                step[i, j] = moments[0, i, j] / unbias_1 / (np.sqrt(moments[1, i, j] / unbias_2) + EPSILON)
        W -= rate * step
    return rate


@compiled
def _invert(W: Any, s: Any, inverse: Any) -> Any:
    """Inverse of s·I - W∘W; whether it is non-negative, up to rounding."""
    d = W.shape[0]
    for i in range(d):
        for j in range(d):
            inverse[i, j] = s * (i == j) - W[i, j] ** 2
    inverse[:] = np.linalg.inv(inverse)
    return inverse.min() >= -1e-16
