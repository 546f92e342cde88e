"""The model: its priors and the closed forms, one formula a function.

Variable i follows a mechanism, linear in features of its parents, that all environments share, except where it is a target;
there it follows one of five alternatives. Mechanisms have Normal-Inverse-Gamma priors, so every evidence is a closed form in
the Gram matrices of the features.

Written for reading, and for few parent sets at a time: adaptation and prediction use it. The search needs millions of scores,
which ``evidence`` computes from the same formulas in compiled code.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.types import Environment, FloatArray, Observed

IntArray = npt.NDArray[np.intp]

ALTERNATIVES = ("shift", "scale", "shift and scale", "hard", "relearned mechanism")
"""What may happen to a target."""

WEIGHTS = ("shift_weight", "scale_weight", "shift_and_scale_weight", "hard_weight", "relearned_weight")
"""Their names among the priors."""

LEARNED_AFTER_THE_SEARCH = ("mechanism_drift", "down", "up")
"""Priors that the local evidence, and so the search for graphs, does not know."""

SLOPE_DRIFT = 3.0
"""Variance of a slope's drift relative to that of an intercept's."""

HARD_REACHES = (1.0, 10.0, 100.0, 1000.0)
"""Divisors of ``hard_strength``, a priori alike. A variable held at a constant far off has no variance to excuse its mean:
under a narrow prior whatever else is unusual there, as another target at its own constant, explains it better than the
intervention does, and becomes a parent."""

UNIT_SHIFT_STRENGTH = 4.0
"""Prior precision of a shift about one unit up or down, relative to the noise variance."""

_LOG_2_PI = float(np.log(2.0 * np.pi))
_SMALLEST_WEIGHT = 1e-200
"""Its logarithm stands for that of zero, which compiled code could not add."""


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
    variance_drift : float
        Variance of an environment's own noise precision, relative to the shared one squared; 0 where it is the same in all. It
        also stands for what sample variances vary more than those of Gaussian noise.
    shift_strength : float
        Precision of the shift of a target's mean, for "shift" and "shift and scale".
    scale_strength : float
        The same for "scale", where the mean hardly moves.
    fresh_shape : float
        Of a target's own variance, whose rate is the mean of the shared variance, rate_N / shape_N.
    hard_strength, hard_shape, hard_rate : float
        A target's own mean (zero a priori, and as far off as ``HARD_REACHES`` say) and variance, without parents.
    relearned_precision, relearned_shape, relearned_rate : float
        A target's own mechanism, intercept included.
    mechanism_drift : float
        Variance, relative to that of the noise, by which the intercept of every mechanism differs between environments; slopes
        differ by ``SLOPE_DRIFT`` times as much, and noise by ``variance_drift`` or as much. The search for graphs does not
        know it (``meta`` learns it after).
    down, up : float
        Shares of targets that are shifted down or up by about one unit, as in a knockdown screen; all others follow the
        alternatives. The search for graphs does not know them (``meta`` learns them after).
    shift_weight, scale_weight, shift_and_scale_weight, hard_weight, relearned_weight : float
        Of the alternatives, up to a common factor.
    """

    target: float = 0.1
    slope_precision: float = 0.1
    intercept_precision: float = 0.1
    shape: float = 1.5
    rate: float = 0.05
    variance_drift: float = 0.0
    shift_strength: float = 0.1
    scale_strength: float = 30.0
    fresh_shape: float = 1.0
    hard_strength: float = 0.2
    hard_shape: float = 1.0
    hard_rate: float = 0.3
    relearned_precision: float = 0.5
    relearned_shape: float = 1.0
    relearned_rate: float = 0.5
    mechanism_drift: float = 0.0
    down: float = 0.0
    up: float = 0.0
    shift_weight: float = 1.0
    scale_weight: float = 1.0
    shift_and_scale_weight: float = 1.0
    hard_weight: float = 1.0
    relearned_weight: float = 1.0

    def record(self) -> Any:
        """The same numbers as a named tuple, which compiled code can take."""
        return _Record(*dataclasses.astuple(self))

    def with_effects(self, slope_precision: float) -> Priors:
        """With effects of another strength, so that equivalent graphs still score the same."""
        return dataclasses.replace(self, slope_precision=slope_precision, rate=0.5 * slope_precision)

    @property
    def log_weights(self) -> FloatArray:
        """Log prior probabilities of ``ALTERNATIVES``, float64 (5,); one of weight zero is left out."""
        weights = np.array([getattr(self, name) for name in WEIGHTS])
        return np.asarray(np.log(np.maximum(weights / weights.sum(), _SMALLEST_WEIGHT)))

    def with_weights(self, weights: FloatArray) -> Priors:
        """With other weights of ``ALTERNATIVES``, float64 (5,)."""
        return dataclasses.replace(self, **dict(zip(WEIGHTS, map(float, weights), strict=True)))

    def shared(self, relative: FloatArray, n_parents: int) -> MechanismPrior:
        """Prior of a shared mechanism with features of ``relative`` precision, float64 (m,), the intercept first."""
        precision = self.slope_precision * relative
        precision[0] = self.intercept_precision
        return MechanismPrior(precision, self.shape + 0.5 * n_parents, self.rate)

    def relearned(self, relative: FloatArray, n_parents: int) -> MechanismPrior:
        """Prior of a target's own mechanism."""
        precision = self.relearned_precision * relative
        precision[0] = self.relearned_precision
        return MechanismPrior(precision, self.relearned_shape + 0.5 * n_parents, self.relearned_rate)


@dataclass(frozen=True, slots=True, eq=False)
class MechanismPrior:
    """Normal-Inverse-Gamma: w ~ N(0, variance / precision), variance ~ IG(shape, rate).

    Parameters
    ----------
    precision : float64 (m,)
        Of intercept and features.
    shape, rate : float
    """

    precision: FloatArray
    shape: float
    rate: float


_named_tuple: Any = collections.namedtuple  # of names that are no literals, which no type checker reads
_Record: Any = _named_tuple("_Record", [f.name for f in dataclasses.fields(Priors)])


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

    Or one for each of E environments: every array then has a first axis more, and every float is an array (E,).

    Parameters
    ----------
    gram : float64 (m + 1, m + 1)
        What it has seen: of (intercept, features, variable).
    n_samples : float
        Sum of weights.
    mean : float64 (m,)
        Of intercept and slopes.
    covariance : float64 (m, m)
        Relative to the noise variance.
    shape, rate : float
        Of the noise variance.
    log_evidence : float
    prior, relearned_prior : MechanismPrior
        Where it started, and where a mechanism of a target's own starts.
    """

    gram: FloatArray
    n_samples: float | FloatArray
    mean: FloatArray
    covariance: FloatArray
    shape: float | FloatArray
    rate: float | FloatArray
    log_evidence: float | FloatArray
    prior: MechanismPrior
    relearned_prior: MechanismPrior


def shared_posterior(
    gram: FloatArray,
    n_samples: float | FloatArray,
    priors: Priors,
    *,
    relative: FloatArray | None = None,
    n_parents: int | None = None,
) -> Posterior:
    """Posterior of a shared mechanism given the weighted sum of Gram matrices.

    Parameters
    ----------
    gram : float64 (..., m + 1, m + 1)
        Of (intercept, features, variable).
    n_samples : float or float64 (...)
        Sum of weights.
    priors : Priors
    relative : float64 (m,), optional
        Prior precision of the features as multiples of a slope's; the features are the parents themselves where None.
    n_parents : int, optional
        m - 1 where None.
    """
    relative = np.ones(gram.shape[-1] - 1) if relative is None else relative
    n_parents = gram.shape[-1] - 2 if n_parents is None else n_parents
    prior = priors.shared(relative, n_parents)
    covariance: FloatArray = np.asarray(np.linalg.inv(gram[..., :-1, :-1] + np.diag(prior.precision)), dtype=np.float64)
    evidence, rate = log_evidence(gram, np.asarray(n_samples), prior)
    return Posterior(
        gram=gram,
        n_samples=n_samples,
        mean=(covariance @ gram[..., :-1, -1:])[..., 0],
        covariance=covariance,
        shape=prior.shape + 0.5 * n_samples,
        rate=rate,
        log_evidence=evidence,
        prior=prior,
        relearned_prior=priors.relearned(relative, n_parents),
    )


def log_evidence(grams: FloatArray, n_samples: FloatArray, prior: MechanismPrior) -> tuple[FloatArray, FloatArray]:
    """Log evidence of regressions under one Normal-Inverse-Gamma prior, and the posterior rates.

    Parameters
    ----------
    grams : float64 (..., m + 1, m + 1)
        Of features and response.
    n_samples : float64 (...)
    prior : MechanismPrior

    Returns
    -------
    log_evidence, rate : float64 (...)
    """
    joint = grams.copy()
    precision, shape, rate = prior.precision, prior.shape, prior.rate
    diagonal = np.arange(len(precision))
    joint[..., diagonal, diagonal] += precision
    joint[..., -1, -1] += 2.0 * rate
    # The last pivot is twice the posterior rate, and the others give the determinant.
    places = np.arange(len(precision) + 1)
    pivots: FloatArray = np.asarray(np.linalg.cholesky(joint)[..., places, places] ** 2, dtype=np.float64)
    posterior_rate, posterior_shape = 0.5 * pivots[..., -1], shape + 0.5 * n_samples
    evidence: FloatArray = (
        -0.5 * n_samples * _LOG_2_PI
        + 0.5 * (np.log(precision).sum() - np.log(pivots[..., :-1]).sum(axis=-1))
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
    grams : float64 (..., E, m + 1, m + 1)
        Of (intercept, features, variable), one for each environment, of one mechanism or of several.
    n_samples : float64 (E,)
    shared : Posterior
        One for all, or for each.
    priors : Priors

    Returns
    -------
    float64 (5, ..., E)
        Rows follow ``ALTERNATIVES``. "shift" is exact; "scale" and "shift and scale" take the residuals at the posterior mean
        of the shared mechanism; "hard" and "relearned mechanism" do not depend on it.
    """
    contrast = np.concatenate([-shared.mean, np.ones((*shared.mean.shape[:-1], 1))], axis=-1)
    products = (grams @ contrast[..., None])[..., 0]
    squares, sums = np.maximum((products * contrast).sum(axis=-1), 0.0), products[..., 0]
    fresh = priors.fresh_shape, shared.rate / shared.shape
    return np.stack(
        [
            log_shift(grams, n_samples, shared, priors),
            log_mean_and_variance(squares, sums, n_samples, priors.scale_strength, *fresh),
            log_mean_and_variance(squares, sums, n_samples, priors.shift_strength, *fresh),
            log_hard(grams[..., -1, -1], grams[..., 0, -1], n_samples, priors),
            log_evidence(grams, n_samples, shared.relearned_prior)[0],
        ]
    )


def log_shift(grams: FloatArray, n_samples: FloatArray, shared: Posterior, priors: Priors) -> FloatArray:
    """The shared mechanism with its mean moved by N(0, variance / strength): log Z(S + S̃) − log Z(S) + ½ log(κ / (κ + n)).

    Drift as in :func:`updated_log_evidence`. S̃ are the Gram matrices with the shift integrated out, which takes g gᵀ / (κ + n)
    off them, g the sums of the columns.
    """
    strength = priors.shift_strength
    sums = grams[..., 0, :]
    deflated = grams - sums[..., :, None] * sums[..., None, :] / (strength + n_samples)[..., None, None]
    return updated_log_evidence(deflated, n_samples, shared, priors) + 0.5 * np.log(strength / (strength + n_samples))


def log_unit_shift(grams: FloatArray, n_samples: FloatArray, shared: Posterior, priors: Priors, direction: float) -> FloatArray:
    """As :func:`log_shift`, for a shift that is N(direction, variance / strength)."""
    moved = grams.copy()
    moved[..., -1, -1] += direction * (direction * grams[..., 0, 0] - 2.0 * grams[..., 0, -1])
    moved[..., -1, :-1] -= direction * grams[..., 0, :-1]
    moved[..., :-1, -1] = moved[..., -1, :-1]
    return log_shift(moved, n_samples, shared, dataclasses.replace(priors, shift_strength=UNIT_SHIFT_STRENGTH))


def updated_log_evidence(grams: FloatArray, n_samples: FloatArray, shared: Posterior, priors: Priors) -> FloatArray:
    """Log density of each environment under the shared mechanism, float64 (..., E).

    log Z(S + S_new) − log Z(S), but that an environment's own noise variance follows IG(a', b a' / a), 1 / a' = 1 / a + drift,
    where IG(a, b) is the posterior of the shared one, and its own coefficients may differ from the shared ones.
    """
    log_determinant: FloatArray | float = 0.0
    if priors.mechanism_drift:
        grams, log_determinant = _without_drift(grams, shared, priors)
    joined, rate = log_evidence(shared.gram + grams, shared.n_samples + n_samples, shared.prior)
    drift = max(priors.variance_drift, priors.mechanism_drift)
    half_n, share = 0.5 * n_samples, 1.0 / (1.0 + drift * shared.shape)

    def of_variance(shape: float | FloatArray, before: float | FloatArray) -> FloatArray:
        after, new_shape = before + (rate - shared.rate), shape + half_n
        return np.asarray(
            shape * np.log(before) - new_shape * np.log(after) + special.gammaln(new_shape) - special.gammaln(shape)
        )

    drifting = of_variance(share * shared.shape, share * shared.rate) - of_variance(shared.shape, shared.rate)
    return np.asarray(joined - shared.log_evidence + drifting + log_determinant)


def _without_drift(grams: FloatArray, shared: Posterior, priors: Priors) -> tuple[FloatArray, FloatArray]:
    """Gram matrices as they count for the shared coefficients, and ½ log(|D| / |D + G|), float64 (E,).

    With coefficients that differ by N(0, variance D⁻¹) from the shared ones, Gram matrices of features and variable lose what
    lies within (D + G)⁻¹ of the features.
    """
    m = grams.shape[-1] - 1
    precision = np.full(m, 1.0 / priors.mechanism_drift)
    # Features that vary less a priori than a parent drift less.
    precision[1:] *= shared.prior.precision[1:] / (shared.prior.precision[1:2] * SLOPE_DRIFT)
    drifting = grams[..., :m, :m] + np.diag(precision)
    explained = np.linalg.solve(drifting, grams[..., :m, :])
    log_determinant = 0.5 * (np.log(precision).sum() - np.linalg.slogdet(drifting)[1])
    return grams - np.swapaxes(grams[..., :m, :], -1, -2) @ explained, log_determinant


def log_mean_and_variance(
    squares: FloatArray, sums: FloatArray, n_samples: FloatArray, strength: float, shape: float, rate: float | FloatArray
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


def log_hard(squares: FloatArray, sums: FloatArray, n_samples: FloatArray, priors: Priors) -> FloatArray:
    """Log density of a variable with a mean and a variance of its own; arguments as of :func:`log_mean_and_variance`."""
    strengths = [priors.hard_strength / reach for reach in HARD_REACHES]
    of_strengths = [log_mean_and_variance(squares, sums, n_samples, s, priors.hard_shape, priors.hard_rate) for s in strengths]
    return log_sum(of_strengths) - math.log(len(of_strengths))


def log_of_target(grams: FloatArray, n_samples: FloatArray, shared: Posterior, priors: Priors) -> FloatArray:
    """Log density of each environment if the variable is a target, float64 (E,); arguments as of :func:`log_alternatives`."""
    of_any_kind = log_mixture(log_alternatives(grams, n_samples, shared, priors), priors)
    if not (priors.down or priors.up):
        return of_any_kind
    down, up = (log_unit_shift(grams, n_samples, shared, priors, direction) for direction in (-1.0, 1.0))
    return log_with_shifts(of_any_kind, down, up, priors.down, priors.up)


def log_with_shifts(of_any_kind: FloatArray, by_down: FloatArray, by_up: FloatArray, down: float, up: float) -> FloatArray:
    """Log density of a target where such shares are shifted by a unit down and up; all arrays have one shape."""
    with np.errstate(divide="ignore"):
        shares = np.log([1.0 - down - up, down, up])
    return log_sum([s + x for s, x in zip(shares, (of_any_kind, by_down, by_up), strict=True)])


def log_sum(terms: npt.ArrayLike) -> FloatArray:
    """log Σ exp over the first axis; without the overhead of scipy's, which a search of short sums would feel."""
    return np.asarray(np.logaddexp.reduce(np.asarray(terms), axis=0))


def log_mixture(alternatives: FloatArray, priors: Priors) -> FloatArray:
    """Log density under the mixture of the alternatives, float64 (5, E), as their weights say, float64 (E,)."""
    return log_sum(alternatives + priors.log_weights[:, None])
