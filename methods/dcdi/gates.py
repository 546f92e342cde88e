"""Bernoulli gates: one for each target whose environment does not tell, and one for each edge, unless parents are given."""

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

CLOSED_ODDS = 1e9
"""Inverse odds of a gate that is closed for good."""


class TargetGates:
    """Gates of the targets of K conditionals.

    Parameters
    ----------
    told : bool (E, K)
        Targets, where they are told.
    estimated : bool (E, K)
        Which targets are not, so that they have a gate.
    precision : {"float32", "float64"}
    """

    def __init__(self, told: BoolArray, estimated: BoolArray, precision: str) -> None:
        import torch

        self.dtype = getattr(torch, precision)
        self.told = torch.tensor(told, dtype=self.dtype)
        self.estimated = torch.tensor(estimated)
        self.target_logits = torch.zeros(told.shape, dtype=self.dtype, requires_grad=True)

    def target_probability(self) -> Tensor:
        """Tensor (E, K)."""
        import torch

        return torch.where(self.estimated, self.target_logits.sigmoid(), self.told)

    def likely_targets(self) -> Tensor:
        """Targets whose gate is above one half, tensor (E, K), as 0 or 1."""
        return (self.target_probability().detach() > 0.5).to(self.dtype)

    def clamp(self) -> None:
        """Bring the logits back between their bounds."""
        self.target_logits.data.clamp_(-LARGEST_TARGET_LOGIT, LARGEST_TARGET_LOGIT)


class GivenParents(TargetGates):
    """Parents that are given, of K conditionals, whose targets alone have gates.

    Parameters
    ----------
    parents : bool (K, d)
    told, estimated, precision
        As for :class:`TargetGates`.
    """

    def __init__(self, parents: BoolArray, told: BoolArray, estimated: BoolArray, precision: str) -> None:
        import torch

        super().__init__(told, estimated, precision)
        self.parents = torch.tensor(parents, dtype=self.dtype)

    def sample_parents(self, n_samples: int, generator: Generator) -> Tensor:
        """The same for every sample, tensor (K, n, d)."""
        return self.parents[:, None, :].expand(-1, n_samples, -1)

    def likely_parents(self) -> Tensor:
        """Tensor (K, d), 0 or 1."""
        return self.parents

    def inverse_odds(self) -> Tensor:
        """None for a parent; that of a gate that is closed for any other."""
        return (1.0 - self.parents) * CLOSED_ODDS


class Gates(TargetGates):
    """Gates of the edges and of the targets of all variables.

    Parameters
    ----------
    told, estimated : bool (E, d)
    precision : {"float32", "float64"}
        As for :class:`TargetGates`.
    """

    def __init__(self, told: BoolArray, estimated: BoolArray, precision: str) -> None:
        import torch

        super().__init__(told, estimated, precision)
        d = told.shape[1]
        self.closed = torch.eye(d, dtype=torch.bool)
        self.edge_logits = torch.zeros((d, d), dtype=self.dtype, requires_grad=True)

    def edge_probability(self) -> Tensor:
        """Tensor (d, d); entry (i, j) is the gate of i -> j."""
        return self._edge_logits().sigmoid()

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

    def inverse_odds(self) -> Tensor:
        """Of the gate of each parent (last axis) of each variable, tensor (d, d)."""
        import torch

        odds = (-self.edge_logits.T).exp().clamp(0.0, CLOSED_ODDS)
        return torch.where(self.closed.T, CLOSED_ODDS, odds)

    def clamp(self) -> None:
        """Bring the logits back between their bounds."""
        super().clamp()
        self.edge_logits.data.clamp_(SMALLEST_EDGE_LOGIT, LARGEST_EDGE_LOGIT)

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
