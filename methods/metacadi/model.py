"""The model: its priors, the sufficient statistics, and the closed forms, one formula a function.

Variable i follows a linear mechanism of its parents that all environments share, except where it is a target; there it follows
one of five alternatives, a priori equally likely. Mechanisms have Normal-Inverse-Gamma priors, so every evidence is a closed
form in the Gram matrices.

Written for reading, and for few parent sets at a time: adaptation and prediction use it. The search needs millions of scores,
which ``evidence`` computes from the same formulas in compiled code.
"""

from __future__ import annotations

import collections
import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.types import Environment, FloatArray, Observed

IntArray = npt.NDArray[np.intp]

ALTERNATIVES = ("shift", "scale", "shift and scale", "hard", "relearned mechanism")
"""What may happen to a target."""

_LOG_2_PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, slots=True)
class Priors:
    """Every number of the model. A precision is relative to the noise variance; variances are Inverse-Gamma (shape, rate).

    The score of a graph without interventions is the same for all Markov equivalent graphs, because ``slope_precision`` is
    twice ``rate`` and the shape grows by a half with each parent. Both must be small against the noise: where a variable owes
    nearly all of its variance to its causes, scaling leaves it noise of variance .001 and less, and a prior that holds it to
    be larger sees interventions everywhere.

    Parameters
    ----------
    target : float
        Probability that a variable is a target in an environment.
    slope_precision, intercept_precision, shape, rate : float
        Shared mechanism.
    shift_strength : float
        Precision of the shift of a target's mean, for "shift" and "shift and scale".
    scale_strength : float
        The same for "scale", where the mean hardly moves.
    fresh_shape : float
        Of a target's own variance, whose rate is the mean of the shared variance, rate_N / shape_N.
    hard_strength, hard_shape, hard_rate : float
        A target's own mean (zero a priori) and variance, without parents.
    relearned_precision, relearned_shape, relearned_rate : float
        A target's own mechanism, intercept included.
    """

    target: float = 0.15
    slope_precision: float = 0.1
    intercept_precision: float = 0.1
    shape: float = 1.5
    rate: float = 0.05
    shift_strength: float = 0.1
    scale_strength: float = 30.0
    fresh_shape: float = 1.0
    hard_strength: float = 0.2
    hard_shape: float = 1.0
    hard_rate: float = 0.3
    relearned_precision: float = 0.5
    relearned_shape: float = 1.0
    relearned_rate: float = 0.5

    def record(self) -> Any:
        """The same numbers as a named tuple, which compiled code can take."""
        return _Record(*dataclasses.astuple(self))


_Record = collections.namedtuple("_Record", [f.name for f in dataclasses.fields(Priors)])


# Sufficient statistics --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """All that the linear model needs of E environments over d variables.

    Parameters
    ----------
    gram : float64 (d + 1, d + 1, E)
        Sums over samples of products of two variables; the last row and column stand for the intercept. Environments are
        contiguous, since a score reads all of them for few pairs of variables.
    n_samples : float64 (E,)
    """

    gram: FloatArray
    n_samples: FloatArray

    @classmethod
    def of(cls, environments: tuple[Environment, ...], n_variables: int) -> Statistics:
        """One pass over the samples."""
        gram = np.empty((n_variables + 1, n_variables + 1, len(environments)))
        for e, environment in enumerate(environments):
            X = np.column_stack([environment.X, np.ones(environment.n_samples)])
            gram[:, :, e] = X.T @ X
        return cls(gram, np.array([e.n_samples for e in environments], dtype=np.float64))

    @property
    def n_variables(self) -> int:
        return self.gram.shape[0] - 1

    @property
    def n_environments(self) -> int:
        return self.gram.shape[2]

    def regression(self, i: int, parents: IntArray) -> FloatArray:
        """Gram matrices of (intercept, parents, variable i), float64 (E, p + 2, p + 2)."""
        columns = np.concatenate([[self.n_variables], parents, [i]])
        return np.ascontiguousarray(self.gram[np.ix_(columns, columns)].transpose(2, 0, 1))


def split_by_knowledge(observed: Observed) -> tuple[tuple[Environment, ...], tuple[Environment, ...], IntArray]:
    """Environments known to be observational, all others, and where the others stand in ``observed``."""
    known = np.array([bool(e.is_observational) for e in observed.environments])
    fixed = tuple(e for e in observed.environments if e.is_observational)
    possible = tuple(e for e in observed.environments if not e.is_observational)
    return fixed, possible, np.flatnonzero(~known)


# Closed forms -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Normal-Inverse-Gamma posterior of one mechanism, and the evidence of what it has seen.

    Parameters
    ----------
    gram : float64 (p + 2, p + 2)
        What it has seen: of (intercept, parents, variable).
    n_samples : float
        Sum of weights.
    mean : float64 (p + 1,)
        Of intercept and slopes.
    covariance : float64 (p + 1, p + 1)
        Relative to the noise variance.
    shape, rate : float
        Of the noise variance.
    log_evidence : float
    """

    gram: FloatArray
    n_samples: float
    mean: FloatArray
    covariance: FloatArray
    shape: float
    rate: float
    log_evidence: float


def shared_posterior(gram: FloatArray, n_samples: float, priors: Priors) -> Posterior:
    """Posterior of a shared mechanism given the weighted sum of Gram matrices, float64 (p + 2, p + 2)."""
    precision, shape = _shared_prior(len(gram) - 2, priors)
    A = gram[:-1, :-1] + np.diag(precision)
    covariance = np.linalg.inv(A)
    mean = covariance @ gram[:-1, -1]
    evidence, rate = log_evidence(gram[None], np.array([n_samples]), precision, shape, priors.rate)
    return Posterior(gram, n_samples, mean, covariance, shape + 0.5 * n_samples, float(rate[0]), float(evidence[0]))


def _shared_prior(n_parents: int, priors: Priors) -> tuple[FloatArray, float]:
    precision = np.full(n_parents + 1, priors.slope_precision)
    precision[0] = priors.intercept_precision
    return precision, priors.shape + 0.5 * n_parents


def log_evidence(
    grams: FloatArray, n_samples: FloatArray, precision: FloatArray, shape: float, rate: float
) -> tuple[FloatArray, FloatArray]:
    """Log evidence of E regressions under one Normal-Inverse-Gamma prior, and the posterior rates.

    Parameters
    ----------
    grams : float64 (E, m + 1, m + 1)
        Of features and response.
    n_samples : float64 (E,)
    precision : float64 (m,)
        Diagonal prior precision of the coefficients.
    shape, rate : float
        Prior of the noise variance.

    Returns
    -------
    log_evidence, rate : float64 (E,)
    """
    joint = grams.copy()
    diagonal = np.arange(len(precision))
    joint[:, diagonal, diagonal] += precision
    joint[:, -1, -1] += 2.0 * rate
    # The last pivot is twice the posterior rate, and the others give the determinant.
    pivots = np.linalg.cholesky(joint)[:, np.arange(len(precision) + 1), np.arange(len(precision) + 1)] ** 2
    posterior_rate, posterior_shape = 0.5 * pivots[:, -1], shape + 0.5 * n_samples
    evidence = (
        -0.5 * n_samples * _LOG_2_PI
        + 0.5 * (np.log(precision).sum() - np.log(pivots[:, :-1]).sum(axis=1))
        + shape * np.log(rate)
        - posterior_shape * np.log(posterior_rate)
        + special.gammaln(posterior_shape)
        - special.gammaln(shape)
    )
    return evidence, posterior_rate


def log_alternatives(grams: FloatArray, n_samples: FloatArray, shared: Posterior, priors: Priors) -> FloatArray:
    """Log density of each environment under each alternative, given the shared posterior.

    Parameters
    ----------
    grams : float64 (E, p + 2, p + 2)
        Of (intercept, parents, variable), one for each environment.
    n_samples : float64 (E,)

    Returns
    -------
    float64 (5, E)
        Rows follow ``ALTERNATIVES``. "shift" is exact; "scale" and "shift and scale" take the residuals at the posterior mean
        of the shared mechanism; "hard" and "relearned mechanism" do not depend on it.
    """
    n_parents = grams.shape[1] - 2
    contrast = np.append(-shared.mean, 1.0)
    squares = np.maximum(np.einsum("a,eab,b->e", contrast, grams, contrast), 0.0)
    sums = grams[:, 0, :] @ contrast
    fresh = priors.fresh_shape, shared.rate / shared.shape
    relearned = np.full(n_parents + 1, priors.relearned_precision), priors.relearned_shape + 0.5 * n_parents
    return np.stack(
        [
            log_shift(grams, n_samples, shared, priors),
            log_mean_and_variance(squares, sums, n_samples, priors.scale_strength, *fresh),
            log_mean_and_variance(squares, sums, n_samples, priors.shift_strength, *fresh),
            log_mean_and_variance(
                grams[:, -1, -1], grams[:, 0, -1], n_samples, priors.hard_strength, priors.hard_shape, priors.hard_rate
            ),
            log_evidence(grams, n_samples, *relearned, priors.relearned_rate)[0],
        ]
    )


def log_shift(grams: FloatArray, n_samples: FloatArray, shared: Posterior, priors: Priors) -> FloatArray:
    """The shared mechanism with its mean moved by N(0, variance / strength): log Z(S + S̃) − log Z(S) + ½ log(κ / (κ + n)).

    S̃ are the Gram matrices with the shift integrated out, which takes g gᵀ / (κ + n) off them, g the sums of the columns.
    """
    strength = priors.shift_strength
    sums = grams[:, 0, :]
    deflated = grams - sums[:, :, None] * sums[:, None, :] / (strength + n_samples)[:, None, None]
    return updated_log_evidence(deflated, n_samples, shared, priors) + 0.5 * np.log(strength / (strength + n_samples))


def updated_log_evidence(grams: FloatArray, n_samples: FloatArray, shared: Posterior, priors: Priors) -> FloatArray:
    """Log density of each environment under the shared mechanism, log Z(S + S_new) − log Z(S), float64 (E,)."""
    precision, shape = _shared_prior(grams.shape[1] - 2, priors)
    joined, _ = log_evidence(shared.gram + grams, shared.n_samples + n_samples, precision, shape, priors.rate)
    return joined - shared.log_evidence


def log_mean_and_variance(
    squares: FloatArray, sums: FloatArray, n_samples: FloatArray, strength: float, shape: float, rate: float
) -> FloatArray:
    """Log evidence of N(mean, variance) samples, mean ~ N(0, variance / strength), from their sums and sums of squares."""
    posterior_rate = rate + 0.5 * np.maximum(squares - sums**2 / (strength + n_samples), 0.0)
    posterior_shape = shape + 0.5 * n_samples
    return np.asarray(
        -0.5 * n_samples * _LOG_2_PI
        + 0.5 * np.log(strength / (strength + n_samples))
        + shape * np.log(rate)
        - posterior_shape * np.log(posterior_rate)
        + special.gammaln(posterior_shape)
        - special.gammaln(shape)
    )


def log_mixture(alternatives: FloatArray) -> FloatArray:
    """Log density under the uniform mixture of alternatives, the first axis."""
    return np.asarray(special.logsumexp(alternatives, axis=0) - np.log(len(alternatives)))
