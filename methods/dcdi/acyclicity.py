"""The acyclicity constraint of a matrix of edge probabilities, and the DAG that such a matrix stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.graphs import is_acyclic
from bench.types import BoolArray, FloatArray

if TYPE_CHECKING:
    from torch import Tensor


def cyclicity(edge_probability: Tensor) -> Tensor:
    """Trace of exp(P) less d: the expected number of closed walks, each of length k weighted by 1/k!; 0 only for a DAG.

    Parameters
    ----------
    edge_probability : tensor (d, d)

    Returns
    -------
    tensor ()
        With the gradient exp(P) transposed, taken from the exponential that the value needs anyway.
    """
    import torch

    exponential = torch.linalg.matrix_exp(edge_probability.detach())
    value = exponential.trace() - len(exponential)
    linear: Tensor = (exponential.T * edge_probability).sum()
    return value + linear - linear.detach()


def strongest_dag(edge_probability: FloatArray, threshold: float = 0.5) -> BoolArray:
    """Edges above the threshold; where they have a cycle, above the smallest higher one that leaves none."""
    levels = np.unique(edge_probability[edge_probability > threshold])
    thresholds = np.concatenate([[threshold], levels])
    # Fewer edges never close a cycle, so the first threshold without one is found by bisection; the last has no edge.
    low, high = 0, len(thresholds) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_acyclic(edge_probability > thresholds[middle]) else (middle + 1, high)
    return np.asarray(edge_probability > thresholds[low])
