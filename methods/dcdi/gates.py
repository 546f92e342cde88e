"""Bernoulli gates: one for each edge, and one for each target whose environment does not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.graphs import IntArray
from bench.types import BoolArray
from methods.dcdi.acyclicity import follows

if TYPE_CHECKING:
    from torch import Generator, Tensor

EDGE_RESTART, TARGET_RESTART = 2.0, -3.0
"""Logits given an order: all predecessors are likely parents, with which a mechanism is invariant, and few variables are
targets."""

LARGEST_EDGE_LOGIT, SMALLEST_EDGE_LOGIT = 14.0, -14.0
"""Edges are drawn for every sample: at a logit of 5 one sample in 150 would lose a parent, and where noise is small that costs
more than ancestors in its place, which then look like parents. Below, closed gates together must not be more cyclic than is
tolerated."""

LARGEST_TARGET_LOGIT = 5.0
"""Those of targets stay between plus and minus this: a gate further out takes long to come back."""


class Gates:
    """Gates of edges and of targets.

    Parameters
    ----------
    told : bool (E, d)
        Targets, where they are told.
    estimated : bool (E, d)
        Which targets are not, so that they have a gate.
    precision : {"float32", "float64"}
    """

    def __init__(self, told: BoolArray, estimated: BoolArray, precision: str) -> None:
        import torch

        dtype = getattr(torch, precision)
        n_environments, d = told.shape
        self.told = torch.tensor(told, dtype=dtype)
        self.estimated = torch.tensor(estimated)
        self.closed = torch.eye(d, dtype=torch.bool)
        self.edge_logits = torch.zeros((d, d), dtype=dtype, requires_grad=True)
        self.target_logits = torch.zeros((n_environments, d), dtype=dtype, requires_grad=True)

    def edge_probability(self) -> Tensor:
        """Tensor (d, d); entry (i, j) is the gate of i -> j."""
        return self._edge_logits().sigmoid()

    def target_probability(self) -> Tensor:
        """Tensor (E, d)."""
        import torch

        return torch.where(self.estimated, self.target_logits.sigmoid(), self.told)

    def sample_parents(self, n_samples: int, generator: Generator) -> Tensor:
        """Draw each gate once for every sample: 0 or 1, with the gradient of the Gumbel sigmoid (straight through).

        Returns
        -------
        tensor (d, n, d)
            Entry (j, s, i) says whether i is a parent of j in sample s.
        """
        import torch

        logits = self._edge_logits().T
        uniform = torch.rand((len(logits), n_samples, len(logits)), generator=generator, dtype=logits.dtype)
        soft = (logits[:, None, :] + uniform.logit()).sigmoid()
        return (soft > 0.5).to(soft.dtype) + soft - soft.detach()

    def likely_parents(self) -> Tensor:
        """Gates above one half, tensor (d, d), as 0 or 1; entry (j, i) says whether i is a parent of j."""
        return (self.edge_probability().T > 0.5).to(self.edge_logits.dtype)

    def clamp(self) -> None:
        """Bring the logits back between their bounds."""
        self.edge_logits.data.clamp_(SMALLEST_EDGE_LOGIT, LARGEST_EDGE_LOGIT)
        self.target_logits.data.clamp_(-LARGEST_TARGET_LOGIT, LARGEST_TARGET_LOGIT)

    def start(self, edge_logit: float, target_logit: float) -> None:
        """Give all gates of a kind the same logit; they have 0 when they are made."""
        self.edge_logits.data.fill_(edge_logit)
        self.target_logits.data.fill_(target_logit)

    def keep_to(self, order: IntArray) -> None:
        """Close every gate against the order for good."""
        import torch

        self.closed = torch.tensor(~follows(order))

    def _edge_logits(self) -> Tensor:
        import torch

        return self.edge_logits.masked_fill(self.closed, -torch.inf)
