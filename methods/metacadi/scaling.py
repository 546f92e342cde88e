"""Variables in units of the typical environment, since the priors are absolute numbers.

Interventions may throw a variable, and all below it, hundreds of standard deviations off. Moments of all samples together would
then be those of the interventions, and the noise of the shared mechanism, small beside them, would vanish in its prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.types import BoolArray, Environment, FloatArray, Observed

_ROUNDING = 1e-12
"""Spread of a variable relative to its largest value that is rounding."""

_LEAST_SHARE = 1e-6
"""Of the standard deviation of all samples. A variable whose typical environment has less spread is constant there."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Centre and unit of each variable.

    Parameters
    ----------
    centre, unit : float64 (d,)
        Medians over environments, each weighted by its samples, of the mean, and of the root mean square distance from the
        centre. The unit of a variable that is constant in most environments is its standard deviation over all samples, and
        that of a constant variable is 1.
    constant : bool (d,)
        Variables that never change.
    """

    centre: FloatArray
    unit: FloatArray
    constant: BoolArray

    @classmethod
    def of(cls, observed: Observed) -> Scaling:
        """Moments of the typical environment."""
        X = observed.pooled()
        largest = np.abs(X).max(axis=0)
        safe = np.where(largest > 0, largest, 1.0)
        scaled = [e.X / safe for e in observed.environments]  # no sum or square is too large or too small, and a constant is 1
        deviation = (X / safe).std(axis=0)
        constant = deviation <= _ROUNDING
        n_samples = np.array([len(Y) for Y in scaled])
        centre = _median(np.stack([Y.mean(axis=0) for Y in scaled]), n_samples)
        typical = np.sqrt(_median(np.stack([np.square(Y - centre).mean(axis=0) for Y in scaled]), n_samples))
        unit = np.where(typical > _LEAST_SHARE * deviation, typical, deviation)
        return cls(centre * safe, np.where(constant, 1.0, unit * safe), constant)

    def apply(self, X: FloatArray) -> FloatArray:
        """Samples in these units, float64 (n, d)."""
        return (X - self.centre) / self.unit

    def of_environment(self, environment: Environment) -> Environment:
        """The same environment in these units."""
        return Environment(self.apply(environment.X), environment.is_observational, environment.targets)


def _median(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Smallest value of each column, float64 (E, d), up to which half of the weight, (E,), lies; float64 (d,)."""
    order = np.argsort(values, axis=0, kind="stable")
    place = (2 * np.cumsum(weights[order], axis=0) < weights.sum()).sum(axis=0)
    middle = np.take_along_axis(order, place[None], axis=0)
    return np.asarray(np.take_along_axis(values, middle, axis=0)[0])
