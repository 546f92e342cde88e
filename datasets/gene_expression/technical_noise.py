"""What a sequencing technology makes of expression: outlier genes, library size, dropout and counts, in this order.

References
----------
P. Dibaeinia, S. Sinha, "SERGIO", Cell Systems 11 (2020), section "technical noise" and the parameters of its data sets.
Deviation: the middle of the dropout curve is a percentile over unperturbed cells, the same in all environments; taken over each
data set, a knockout would change how the genes that it does not reach are measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from bench.types import FloatArray

Technology = Literal["10x-1", "10x-2", "10x-3", "illumina", "drop-seq", "smart-seq"]

OUTLIER_PROBABILITY = 0.01


class Profile(NamedTuple):
    """Parameters of one technology: of the log of an outlier's factor, of the log library size, and of the dropout curve."""

    outlier_mean: float
    outlier_deviation: float
    library_mean: float
    library_deviation: float
    dropout_shape: float
    dropout_percentile: float


PROFILES: dict[Technology, Profile] = {
    "10x-1": Profile(3.0, 1.0, 6.0, 0.3, 8.0, 74.0),
    "10x-2": Profile(3.0, 1.0, 6.0, 0.4, 8.0, 82.0),
    "10x-3": Profile(5.0, 1.0, 4.5, 0.7, 8.0, 45.0),
    "illumina": Profile(0.8, 1.0, 7.0, 0.4, 8.0, 80.0),
    "drop-seq": Profile(3.0, 1.0, 4.4, 0.8, 8.0, 85.0),
    "smart-seq": Profile(4.5, 1.0, 10.8, 0.55, 2.0, 92.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """A technology applied to one set of genes.

    Parameters
    ----------
    profile : Profile
    gene_factor : float64 (d,)
        Of outlier genes; 1 of the others.
    dropout_middle : float
        ln(x + 1) at which half of the values are dropped.
    """

    profile: Profile
    gene_factor: FloatArray
    dropout_middle: float

    @classmethod
    def of(cls, technology: Technology, unperturbed: FloatArray, rng: np.random.Generator) -> Measurement:
        """Draw outlier genes, and place the dropout curve by unperturbed cells, float64 (n, d)."""
        profile, d = PROFILES[technology], unperturbed.shape[1]
        is_outlier = rng.random(d) < OUTLIER_PROBABILITY
        factor = np.where(is_outlier, rng.lognormal(profile.outlier_mean, profile.outlier_deviation, d), 1.0)
        scaled = _with_library_size(unperturbed * factor, profile, rng)
        return cls(profile, factor, float(np.percentile(np.log1p(scaled), profile.dropout_percentile)))

    def __call__(self, X: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Counts of cells with expression X, float64 (n, d)."""
        scaled = _with_library_size(X * self.gene_factor, self.profile, rng)
        kept = 1.0 / (1.0 + np.exp(-self.profile.dropout_shape * (np.log1p(scaled) - self.dropout_middle)))
        return rng.poisson(scaled * (rng.random(X.shape) < kept)).astype(np.float64)


def _with_library_size(X: FloatArray, profile: Profile, rng: np.random.Generator) -> FloatArray:
    """Rescale every cell to a random sum; an empty cell stays empty."""
    size = rng.lognormal(profile.library_mean, profile.library_deviation, (len(X), 1))
    total = X.sum(axis=1, keepdims=True)
    return np.asarray(X / np.where(total > 0, total, 1.0) * size)
