"""Adaptation by a gradient inner loop: what the closed form replaces, here to be compared with it.

A new environment gets a mechanism of its own for each variable, which starts at the shared one and takes gradient steps on its
few samples; the more likelihood it gains, the more the variable looks like a target. Nothing else in the method depends on it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.errors import UnknownName
from bench.types import FloatArray
from methods.metacadi.model import Posterior, Priors

Optimiser = Literal["sgd", "adam"]
OPTIMISERS: tuple[Optimiser, ...] = ("sgd", "adam")

LARGEST_GRADIENT = 10.0
"""Norm at which a gradient is clipped: a value far from the shared mechanism must not throw the first step away."""

_ADAM_MEAN, _ADAM_SQUARE, _ADAM_EPSILON = 0.9, 0.999, 1e-8


def log_odds_by_gradient(
    grams: FloatArray,
    n_samples: FloatArray,
    shared: Posterior,
    priors: Priors,
    *,
    n_steps: int = 10,
    optimiser: Optimiser = "sgd",
    learning_rate: float = 0.3,
) -> FloatArray:
    """Log odds of new environments as targets, float64 (E,), by gradient steps in place of the closed form.

    Parameters
    ----------
    grams, n_samples, shared, priors
        As in :func:`methods.metacadi.adaptation.log_odds_in_closed_form`; of the priors it uses none.
    n_steps : int
    optimiser : {"sgd", "adam"}
    learning_rate : float
        Of steps on the penalised mean negative log likelihood, in units of the shared noise.

    Raises
    ------
    UnknownName
        If the optimiser is neither.

    Notes
    -----
    A gain in log likelihood becomes log odds as by Schwarz's criterion: the adapted mechanism has k = m + 1 parameters
    (intercept, slopes and variance) that the shared one has not, so that they are gain − k/2 · log(1 + n).

    The defaults were the best of 1, 10 and 200 steps and of learning rates .01 to 1 on six linear problems drawn for this
    purpose alone; best for one step is .3, for 200 steps of Adam .03.
    """
    if optimiser not in OPTIMISERS:
        raise UnknownName("optimiser", optimiser, OPTIMISERS)
    gain = likelihood_gain(grams, n_samples, shared, n_steps=n_steps, optimiser=optimiser, learning_rate=learning_rate)
    return np.asarray(gain - 0.5 * grams.shape[1] * np.log1p(n_samples))


def likelihood_gain(
    grams: FloatArray, n_samples: FloatArray, shared: Posterior, *, n_steps: int, optimiser: Optimiser, learning_rate: float
) -> FloatArray:
    """Log likelihood of each environment under its adapted mechanism less that under the shared one, float64 (E,).

    Parameters
    ----------
    grams : float64 (E, m + 1, m + 1)
        Of (intercept, features, variable).
    n_samples : float64 (E,)
    shared : Posterior
        Its mean and the mean of its variance are where adaptation starts.
    n_steps : int
    optimiser : {"sgd", "adam"}
    learning_rate : float
    """
    loss = Loss(grams, n_samples, shared)
    parameters = np.zeros((len(grams), grams.shape[1]))
    mean, square = np.zeros_like(parameters), np.zeros_like(parameters)
    start = loss.log_likelihood(parameters)
    for step in range(1, n_steps + 1):
        gradient = loss.gradient(parameters)
        norm = np.sqrt(np.square(gradient).sum(axis=1, keepdims=True))
        gradient *= np.minimum(1.0, LARGEST_GRADIENT / np.maximum(norm, LARGEST_GRADIENT))
        if optimiser == "adam":
            mean += (1.0 - _ADAM_MEAN) * (gradient - mean)
            square += (1.0 - _ADAM_SQUARE) * (gradient**2 - square)
            spread = np.sqrt(square / (1.0 - _ADAM_SQUARE**step)) + _ADAM_EPSILON
            gradient = mean / (1.0 - _ADAM_MEAN**step) / spread
        parameters -= learning_rate * gradient
    return loss.log_likelihood(parameters) - start


class Loss:
    """Penalised mean negative log likelihood of mechanisms that have left the shared one, in units of its noise.

    With residuals r of the shared mechanism divided by its noise: r ~ N(φᵀδ, exp(λ)), and the shared mechanism at zero. The
    penalty is that of a target's own mechanism, its ``relearned_prior`` about the shared mechanism instead of zero: a precision
    for each δ, and a normal law of λ with the precision that an Inverse-Gamma of its shape has at its mode.

    Parameters
    ----------
    grams : float64 (E, m + 1, m + 1)
    n_samples : float64 (E,)
    shared : Posterior
    """

    def __init__(self, grams: FloatArray, n_samples: FloatArray, shared: Posterior) -> None:
        variance = shared.rate / shared.shape
        contrast = np.append(-shared.mean, 1.0)
        products = grams @ contrast
        self.features = grams[:, :-1, :-1]
        self.products = products[:, :-1] / np.sqrt(variance)
        self.squares = np.maximum(products @ contrast, 0.0) / variance
        self.n_samples = n_samples
        self.precision = np.append(shared.relearned_prior.precision, shared.relearned_prior.shape)
        self._constant = -0.5 * n_samples * np.log(2.0 * np.pi * variance)

    def log_likelihood(self, parameters: FloatArray) -> FloatArray:
        """Of (δ, λ), float64 (E, m + 1); float64 (E,)."""
        log_variance = parameters[:, -1]
        squares, _ = self._residuals(parameters[:, :-1])
        return np.asarray(self._constant - 0.5 * self.n_samples * log_variance - 0.5 * np.exp(-log_variance) * squares)

    def value(self, parameters: FloatArray) -> FloatArray:
        """Of (δ, λ), float64 (E,)."""
        penalty = 0.5 * parameters**2 @ self.precision
        return np.asarray((penalty - self.log_likelihood(parameters)) / self.n_samples)

    def gradient(self, parameters: FloatArray) -> FloatArray:
        """Of :meth:`value`, float64 (E, m + 1)."""
        log_variance = parameters[:, -1]
        squares, slope = self._residuals(parameters[:, :-1])
        precision = np.exp(-log_variance)
        of_likelihood = np.column_stack([precision[:, None] * slope, 0.5 * (self.n_samples - precision * squares)])
        return np.asarray((of_likelihood + self.precision * parameters) / self.n_samples[:, None])

    def _residuals(self, change: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sum of squares, float64 (E,), and half its gradient in the change of coefficients, float64 (E, m)."""
        predicted = (self.features @ change[:, :, None])[:, :, 0]
        squares = self.squares + ((predicted - 2.0 * self.products) * change).sum(axis=1)
        return np.maximum(squares, 0.0), predicted - self.products
