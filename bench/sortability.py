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
import scipy.sparse

from bench.types import BoolArray, FloatArray, Observed


def r_squared(X: FloatArray) -> FloatArray:
    """Share of each variable's variance that a linear regression on all others explains, float64 (d,).

    From the diagonal of the inverse correlation matrix: R² = 1 - 1/(C⁻¹)ᵢᵢ. A variable that takes part in an exact linear
    relation, as all do where there are fewer samples than variables, has R² = 1; a constant one has 0.

    Examples
    --------
    >>> r_squared(np.array([[0.0, 0.0, 1.0], [1.0, 2.0, -1.0], [2.0, 4.0, 1.0], [3.0, 6.0, -1.0]])).round(3).tolist()
    [1.0, 1.0, 0.2]
    """
    result = np.zeros(X.shape[1])
    varies = np.ptp(X, axis=0) > 0
    if varies.sum() < 2:
        return result
    Z = X[:, varies] - X[:, varies].mean(axis=0)
    Z = Z / Z.std(axis=0)
    eigenvalues, vectors = np.linalg.eigh(Z.T @ Z / len(Z))
    null = eigenvalues <= eigenvalues[-1] * len(eigenvalues) * np.finfo(float).eps * 10
    precision = (vectors[:, ~null] ** 2 / eigenvalues[~null]).sum(axis=1)
    dependent = (vectors[:, null] ** 2).sum(axis=1) > 1e-8  # the variable has a weight in some relation
    result[varies] = np.where(dependent, 1.0, np.clip(1.0 - 1.0 / np.maximum(precision, 1.0), 0.0, 1.0))
    return result


def path_sortability(values: FloatArray, adjacency: BoolArray) -> float:
    """Share of directed paths along which ``values`` rise from start to end; ties count half, over every path length.

    An ordered pair counts once for every length k in 1..d-1 at which a directed path joins it, however many such paths there
    are (the k-th power of the adjacency matrix, made binary). NaN where the graph has no edge.

    Examples
    --------
    >>> chain = np.eye(3, k=1, dtype=bool)
    >>> round(path_sortability(np.array([1.0, 3.0, 2.0]), chain), 3)  # rises along 0->1 and 0->1->2, falls along 1->2
    0.667
    """
    edges = scipy.sparse.csr_array(adjacency, dtype=np.int32)
    reach = edges
    total = rising = 0.0
    for _ in range(len(values) - 1):
        if reach.nnz == 0:
            break
        start, end = reach.nonzero()
        low, high = values[start], values[end]
        tied = np.isclose(high, low, rtol=1e-9, atol=0)
        total += len(start)
        rising += 0.5 * tied.sum() + (~tied & (high > low)).sum()
        reach = reach @ edges
        reach.data[:] = 1  # whether a path of this length exists, not how many: counts would overflow
    return float(rising / total) if total else float("nan")


def sortability(observed: Observed, adjacency: BoolArray) -> dict[str, float]:
    """Return ``varsortability`` and ``r2_sortability`` of the data under the true graph, each in [0, 1] or NaN."""
    X = observed.observational()
    X = observed.pooled() if X is None else X
    return {
        "varsortability": path_sortability(X.var(axis=0), adjacency),
        "r2_sortability": path_sortability(r_squared(X), adjacency),
    }
