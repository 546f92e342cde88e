"""What linear mechanisms miss: asked before hidden units, which are dear, are searched with."""

from __future__ import annotations

import numpy as np

from bench.types import BoolArray, FloatArray, Observed
from methods.metacadi.evidence import MixtureEvidence

MOST_VARIABLES = 50
"""With more, the graph as it is counts alone, since a score of hidden units takes a millisecond."""

MOST_CANDIDATES = 3
"""Further parents of each variable that are tried."""

_LARGEST_RESIDUAL = 3.0
"""Robust standard deviations, beyond which it may be an intervention's."""


def promise(evidence: MixtureEvidence, graph: BoolArray, candidates: BoolArray) -> float:
    """Score of a graph if every variable could change one parent, since a parabola leaves no trace among linear mechanisms.

    Parameters
    ----------
    evidence : MixtureEvidence
    graph : bool (d, d)
    candidates : bool (d, d)
        Row i holds further parents that i might have. A descendant must not be among them: a cycle may gain thousands of nats,
        and more so the richer the features.
    """
    rows = [evidence.toggles_among(i, graph[:, i], of_one) for i, of_one in enumerate(candidates)]
    return sum(own + max(0.0, float(gains.max(initial=0.0))) for own, gains in rows)


def curved_candidates(observed: Observed, graph: BoolArray) -> BoolArray:
    """Further parents that a variable may depend on by a curve, row i those of i, bool (d, d).

    The residuals of i given its parents, linearly, correlate with an even or a saturating function of them most, of all that
    are no descendants. None with more than ``MOST_VARIABLES``.

    Parameters
    ----------
    observed : Observed
        In units of the typical environment.
    graph : bool (d, d)
    """
    d = len(graph)
    candidates = np.zeros((d, d), dtype=np.bool_)
    if d > MOST_VARIABLES:
        return candidates
    X = observed.pooled()
    residuals = np.column_stack([_clipped(_without_lines(X[:, i], X[:, graph[:, i]])) for i in range(d)])
    strength = np.zeros((d, d))
    for curve in (X**2 / (1.0 + X**2), np.tanh(X)):
        curves = np.column_stack([_without_lines(curve[:, j], X[:, [j]]) for j in range(d)])
        strength = np.maximum(strength, np.abs(_correlations(residuals, curves)))
    allowed = ~(graph.T | _descendants(graph) | np.eye(d, dtype=np.bool_))
    strength[~allowed] = -1.0
    strongest = np.argsort(-strength, axis=1, kind="stable")[:, :MOST_CANDIDATES]
    np.put_along_axis(candidates, strongest, True, axis=1)
    return candidates & allowed


def _without_lines(y: FloatArray, X: FloatArray) -> FloatArray:
    """Residuals of the least squares of y, (n,), on an intercept and X, (n, p)."""
    design = np.column_stack([np.ones(len(y)), X])
    return np.asarray(y - design @ np.linalg.lstsq(design, y, rcond=None)[0])


def _clipped(residuals: FloatArray) -> FloatArray:
    centred = residuals - np.median(residuals)
    largest = _LARGEST_RESIDUAL * 1.4826 * np.median(np.abs(centred))
    return np.clip(centred, -largest, largest) if largest > 0.0 else centred


def _correlations(A: FloatArray, B: FloatArray) -> FloatArray:
    """Of each column of A with each of B; 0 where one is constant."""
    A, B = (Y - Y.mean(axis=0) for Y in (A, B))
    lengths = np.multiply.outer(np.linalg.norm(A, axis=0), np.linalg.norm(B, axis=0))
    return np.asarray(A.T @ B / np.where(lengths > 0.0, lengths, 1.0))


def _descendants(graph: BoolArray) -> BoolArray:
    """Row i holds the proper descendants of i, bool (d, d)."""
    reached = graph.copy()
    for j in range(len(graph)):  # Warshall
        reached |= np.outer(reached[:, j], reached[j])
    return reached
