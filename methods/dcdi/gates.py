"""Bernoulli gates: one for each edge, and one for each target whose environment does not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.types import BoolArray

if TYPE_CHECKING:
    from torch import Generator, Tensor

EDGE_START, TARGET_START = 5.0, -3.0
"""First logits, as published: nearly every edge is there, and few variables are targets."""

LARGEST_LOGIT, SMALLEST_EDGE_LOGIT = 5.0, -14.0
"""Logits stay between these, those of targets between plus and minus the first: a gate further out takes long to come back.
Edges may be less likely than targets, or closed gates together would be more cyclic than is tolerated."""


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
        self.diagonal = torch.eye(d, dtype=torch.bool)
        self.edge_logits = torch.full((d, d), EDGE_START, dtype=dtype, requires_grad=True)
        self.target_logits = torch.full((n_environments, d), TARGET_START, dtype=dtype, requires_grad=True)

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

    def clamp(self) -> None:
        """Bring the logits back between their bounds."""
        self.edge_logits.data.clamp_(SMALLEST_EDGE_LOGIT, LARGEST_LOGIT)
        self.target_logits.data.clamp_(-LARGEST_LOGIT, LARGEST_LOGIT)

    def fix_edges(self, graph: BoolArray) -> None:
        """From now on every edge is there for sure, or is not."""
        import torch

        certain = torch.where(torch.tensor(graph), torch.inf, -torch.inf).to(self.edge_logits.dtype)
        self.edge_logits = certain

    def _edge_logits(self) -> Tensor:
        import torch

        return self.edge_logits.masked_fill(self.diagonal, -torch.inf)
