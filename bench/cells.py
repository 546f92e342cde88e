"""What runs inside the isolated child: make the method, warm it up, fit, adapt, evaluate the density.

The parent calls these by name through ``bench.isolation``; nothing here ever receives the truth. ``context`` is the
child's side of the call: ``state`` lives from one call to the next within a cell, ``timed()`` marks what the clock and the
time limit count, ``progress`` reaches the runner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench import registry
from bench.errors import InvalidEstimate
from bench.types import Budget, Estimate, FloatArray, Observed

_warmed_up: set[str] = set()
"""Methods (with parameters) that this process has warmed up; once each, before the clock."""


def fit(
    context: Any, name: str, parameters: Mapping[str, Any], observed: Observed, seed: int, budget_seconds: float | None
) -> tuple[Estimate, bool, bool | None]:
    """Fit and keep the fitted object for the calls that follow.

    Returns its estimate, whether it was cut short, and whether it converged.
    """
    method = registry.make_method(name, **parameters)
    if repr(method) not in _warmed_up:
        method.warm_up()
        _warmed_up.add(repr(method))
    rng = np.random.default_rng(seed)
    with context.timed():
        fitted = method.fit(observed, rng=rng, budget=Budget(budget_seconds, context.progress))
    estimate = _checked(getattr(fitted, "estimate", None), "fit", observed)
    context.state["fitted"] = fitted
    converged = getattr(fitted, "converged", None)
    return estimate, bool(getattr(fitted, "cut_short", False)), None if converged is None else bool(converged)


def adapt(context: Any, new: Observed, seed: int) -> Estimate:
    """Adapt the fitted object to environments it has never seen."""
    rng = np.random.default_rng(seed)
    with context.timed():
        estimate = context.state["fitted"].adapt(new, rng=rng)
    return _checked(estimate, "adapt", new)


def log_density(context: Any, X: FloatArray) -> FloatArray:
    """Log density of each variable given its parents, float64 (S, n, d); S is 1 for a method without graph samples."""
    fitted = context.state["fitted"]
    with context.timed():
        value = np.asarray(fitted.log_density(X), dtype=np.float64)
    samples = fitted.estimate.graph_samples
    expected = (1 if samples is None else len(samples), *X.shape)
    if value.shape != expected:
        raise InvalidEstimate(f"log_density must have shape {expected} (graph samples, n, d), got {value.shape}")
    if np.isnan(value).any():
        raise InvalidEstimate("log_density must be without NaN")
    return value


def _checked(estimate: Any, call: str, observed: Observed) -> Estimate:
    if not isinstance(estimate, Estimate):
        raise InvalidEstimate(f"{call} must give an Estimate, got {type(estimate).__name__}")
    estimate.check(observed.n_environments, observed.n_variables)
    return estimate
