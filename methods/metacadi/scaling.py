"""Variables of mean 0 and variance 1 over all samples of the fit, since the priors are absolute numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.types import BoolArray, Environment, FloatArray, Observed

_ROUNDING = 1e-12
"""Spread of a variable relative to its largest value that is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Centre and unit of each variable.

    Parameters
    ----------
    centre, unit : float64 (d,)
        Mean and standard deviation; the unit of a constant variable is 1.
    constant : bool (d,)
        Variables that never change.
    """

    centre: FloatArray
    unit: FloatArray
    constant: BoolArray

    @classmethod
    def of(cls, observed: Observed) -> Scaling:
        """Moments of all environments pooled."""
        X = observed.pooled()
        largest = np.abs(X).max(axis=0)
        safe = np.where(largest > 0, largest, 1.0)
        scaled = X / safe  # no sum or square of it is too large or too small, and a constant is 1
        deviation = scaled.std(axis=0)
        constant = deviation <= _ROUNDING
        return cls(scaled.mean(axis=0) * safe, np.where(constant, 1.0, deviation * safe), constant)

    def apply(self, X: FloatArray) -> FloatArray:
        """Samples in these units, float64 (n, d)."""
        return (X - self.centre) / self.unit

    def of_environment(self, environment: Environment) -> Environment:
        """The same environment in these units."""
        return Environment(self.apply(environment.X), environment.is_observational, environment.targets)
