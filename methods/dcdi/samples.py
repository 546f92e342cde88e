"""What the conditionals learn from: all samples in one table, and what is known of the targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.types import BoolArray, FloatArray, Observed

FOLDS = 5
"""One sample of as many is held out: a fifth, as published."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """All samples, standardised on the pooled ones.

    Parameters
    ----------
    X : float64 (n, d)
    environment : int (n,)
        Row of ``told`` that each sample belongs to.
    told : bool (E, d)
        Known targets.
    estimated : bool (E, d)
        Entries that are not known.
    held_out : bool (n,)
        Every fifth sample of an environment, to judge what networks have learned from the others.
    """

    X: FloatArray
    environment: npt.NDArray[np.intp]
    told: BoolArray
    estimated: BoolArray
    held_out: BoolArray

    @classmethod
    def of(cls, observed: Observed) -> Samples:
        """An environment known to be observational has no targets; a single one of unknown kind has nothing to differ from."""
        X = observed.pooled()
        spread = X.std(axis=0)
        environments = observed.environments
        told = np.zeros((len(environments), observed.n_variables), dtype=bool)
        estimated = np.zeros_like(told)
        for e, environment in enumerate(environments):
            if environment.targets is not None:
                told[e, list(environment.targets)] = True
            else:
                estimated[e] = len(environments) > 1 and not environment.is_observational
        sizes = [environment.n_samples for environment in environments]
        return cls(
            X=(X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0),
            environment=np.repeat(np.arange(len(sizes)), sizes),
            told=told,
            estimated=estimated,
            held_out=np.concatenate([np.arange(size) % FOLDS == FOLDS - 1 for size in sizes]),
        )

    @property
    def n_environments(self) -> int:
        return len(self.told)

    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Share of all samples, float64 (E,), and second moments of (1, X), float64 (E, d + 1, d + 1), of each environment."""
        rows = np.column_stack([np.ones(len(self.X)), self.X])
        parts = [rows[self.environment == e] for e in range(self.n_environments)]
        sizes = np.array([len(part) for part in parts], dtype=float)
        return sizes / sizes.sum(), np.stack([part.T @ part / len(part) for part in parts])
