"""What goes wrong in an experiment whatever its model: samples that an intervention misses, measurement error, wrong labels.

Each flaw has a strength, 0 for none, and draws from a stream of its own: at strength 0 nothing is drawn, and what else there is
to draw (the graph, the targets, the samples) is the same at every strength. The truth that is scored stays the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from annotated_types import Ge, Le, Lt

from bench.types import BoolArray, FloatArray

Share = Annotated[float, Ge(0), Le(1)]
ProperShare = Annotated[float, Ge(0), Lt(1)]
Strength = Annotated[float, Ge(0)]

N_PILOT = 1000
"""Samples without intervention that give each variable's standard deviation, the unit of the measurement error."""


class _Sampled(Protocol):
    def sample(self, n: int, rng: np.random.Generator, /) -> FloatArray: ...


@dataclass(frozen=True, slots=True)
class Flaws:
    """Strengths of what goes wrong.

    Parameters
    ----------
    escape : float
        Probability of each sample, in every environment with an intervention, that the intervention missed it: it then
        follows the model without intervention.
    measurement_error : float
        Standard deviation of the Gaussian noise on every measured value, in standard deviations of the variable without
        intervention. Causes act by their true values.
    mislabelled : float
        Share of the environments with targets, rounded to a whole number of them, of which the oracle track tells as many
        wrong variables in place of the true ones (fewer where there are not that many others).
    """

    escape: float = 0.0
    measurement_error: float = 0.0
    mislabelled: float = 0.0

    def sampler(self, model: _Sampled, rng: np.random.Generator) -> Callable[[Any, int], FloatArray]:
        """How environments of a model are sampled: a function of the (changed) model and n that returns float64 (n, d)."""
        if not (self.escape or self.measurement_error):
            return lambda changed, n: np.asarray(changed.sample(n, rng))
        own = rng.spawn(1)[0]
        error = self.measurement_error * model.sample(N_PILOT, own).std(axis=0)

        def sample(changed: Any, n: int) -> FloatArray:
            X = changed.sample(n, rng)
            if self.escape and changed is not model:
                missed = own.random((n, 1)) < self.escape
                X = np.where(missed, model.sample(n, own), X)
            return np.asarray(X + error * own.standard_normal(X.shape) if self.measurement_error else X)

        return sample

    def told_targets(self, targets: BoolArray, rng: np.random.Generator) -> BoolArray | None:
        """What the oracle track tells in place of the true targets, bool (E, d); None for the true ones."""
        if not self.mislabelled:
            return None
        own = rng.spawn(1)[0]
        told = targets.copy()
        hit = own.permutation(np.flatnonzero(targets.any(axis=1)))
        for row, truth in ((told[e], targets[e]) for e in hit[: round(self.mislabelled * len(hit))]):
            row[:] = False
            row[own.permutation(np.flatnonzero(~truth))[: truth.sum()]] = True
        return told
