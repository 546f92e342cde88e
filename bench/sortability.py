"""Var-sortability and R²-sortability: how much of the causal order the marginal scales give away.

Near 1, sorting the variables by variance (or by how well the others predict them) recovers the order; near .5, it tells
nothing. Computed on the observational samples where some environment is known to be observational, else on all samples
pooled, as a method would that ignores environments.

References
----------
Reisach, Seiler, Weichwald, "Beware of the Simulated DAG!", NeurIPS 2021 (var-sortability, eq. 3.1 and its algorithm);
Reisach et al., "A Scale-Invariant Sorting Criterion to Find a Causal Order in Additive Noise Models", NeurIPS 2023.
"""

from __future__ import annotations

import numpy as np

from bench.types import BoolArray, FloatArray, Observed


def r_squared(X: FloatArray) -> FloatArray:
    """Share of each variable's variance that a linear regression on all others explains, float64 (d,).

    From the diagonal of the inverse correlation matrix (pseudo-inverse where it is singular): R² = 1 - 1/(C⁻¹)ᵢᵢ.
    A constant column gets 0.
    """
    scale = X.std(axis=0)
    varies = scale > 0
    result = np.zeros(X.shape[1])
    if varies.sum() < 2:
        return result
    Z = (X[:, varies] - X[:, varies].mean(axis=0)) / scale[varies]
    precision = np.linalg.pinv(Z.T @ Z / len(Z), hermitian=True)
    result[varies] = np.clip(1 - 1 / np.maximum(precision.diagonal(), 1.0), 0, 1)
    return result


def path_sortability(values: FloatArray, adjacency: BoolArray) -> float:
    """Share of directed paths along which ``values`` rise from start to end; ties count half, over every path length.

    Paths of length k are counted once per ordered pair that k steps connect, as in the reference algorithm of Reisach et al.
    NaN where the graph has no edge.
    """
    d = len(values)
    rising = values[:, None] < values[None, :]
    tied = np.isclose(values[:, None], values[None, :], rtol=1e-9, atol=0)
    score = np.where(tied, 0.5, rising.astype(float))
    total = sorted_paths = 0.0
    reach = np.eye(d, dtype=bool)
    for _ in range(d - 1):
        reach = (reach.astype(np.int64) @ adjacency.astype(np.int64)) > 0
        if not reach.any():
            break
        total += reach.sum()
        sorted_paths += score[reach].sum()
    return float(sorted_paths / total) if total else float("nan")


def sortability(observed: Observed, adjacency: BoolArray) -> dict[str, float]:
    """Return ``varsortability`` and ``r2_sortability`` of the data under the true graph, each in [0, 1] or NaN."""
    X = observed.observational()
    X = observed.pooled() if X is None else X
    return {
        "varsortability": path_sortability(X.var(axis=0), adjacency),
        "r2_sortability": path_sortability(r_squared(X), adjacency),
    }
