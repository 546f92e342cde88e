"""The acyclicity constraint of a matrix of edge probabilities, and the order that such a matrix stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.graphs import IntArray
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
    result: Tensor = value + linear - linear.detach()
    return result


def strongest_order(edge_probability: FloatArray) -> IntArray:
    """Order of the variables whose strongest gate against it is as weak as that of any order can be; int (d,).

    Next is always the variable whose strongest gate from those that are left is the weakest, which is optimal (Lawler's rule).
    Where the edges above a threshold are acyclic, they follow the order.
    """
    order, left = [], list(range(len(edge_probability)))
    while left:
        strongest = edge_probability[np.ix_(left, left)].max(axis=0)
        order.append(left.pop(int(np.argmin(strongest))))
    return np.array(order)


def follows(order: IntArray) -> BoolArray:
    """Which edges lead from an earlier variable to a later one; bool (d, d)."""
    rank = np.argsort(order)
    return np.asarray(rank[:, None] < rank)
