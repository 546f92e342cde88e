"""Linear Gaussian conditionals on second moments: given the gates, all regressions are solved at once.

For a Gaussian the expectation over Bernoulli gates needs no sampling. With gates of probability p the expected squared residual
of a regression with effective coefficients b (those of an open gate times p) is

    E(x_j - sum_i b_i x_i)^2 + sum_i b_i^2 (1 - p_i) / p_i E x_i^2,

a ridge regression whose penalty on each parent is the inverse odds of its gate. Coefficients and variance that minimise the
negative log-likelihood are therefore in closed form; at them its gradient in the gates is the partial one, and only gates are
left to be learned.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from methods.dcdi.densities import SMALLEST_LOG_SCALE
from methods.dcdi.samples import Samples

if TYPE_CHECKING:
    from torch import Tensor

    from methods.dcdi.gates import Gates

_RIDGE = 1e-6
"""Added to every second moment: duplicated variables have no unique coefficients."""

_SMALLEST_VARIANCE = math.exp(2.0 * SMALLEST_LOG_SCALE)
_LOG_2_PI = math.log(2.0 * math.pi)


class LinearConditionals:
    """Regressions of each variable on the others behind gates.

    Parameters
    ----------
    samples : Samples
    imperfect : bool
        A target has a regression of its own on its parents; else a Gaussian density without parents.
    """

    precision = "float64"

    def __init__(self, samples: Samples, *, imperfect: bool) -> None:
        import torch

        shares, moments = samples.moments()
        self.shares, self.moments, self.imperfect = torch.tensor(shares), torch.tensor(moments), imperfect
        variance = np.einsum("eii->ei", moments)[:, 1:] - moments[:, 0, 1:] ** 2
        self.root = 0.5 * (torch.tensor(variance).clamp_min(_SMALLEST_VARIANCE).log() + _LOG_2_PI + 1.0)

    def parameters(self) -> list[Tensor]:
        """None: the coefficients follow from the gates."""
        return []

    def negative_log_likelihood(self, gates: Gates) -> Tensor:
        """Expected over gates, nats per sample, summed over variables."""
        import torch

        ridge = self._ridge(gates)
        target = gates.target_probability()
        kept = (1.0 - target) * self.shares[:, None]
        with torch.no_grad():
            pooled = torch.einsum("ej,eab->jab", kept, self.moments)
            residual, variance = self._solved(pooled, ridge)
            variance = (variance / kept.sum(dim=0).clamp_min(1e-12)).clamp_min(_SMALLEST_VARIANCE)
        squares = self._expected_squares(self.moments[:, None], residual, ridge)
        shared = 0.5 * (variance.log() + _LOG_2_PI + squares / variance)
        own = self._own(ridge) if self.imperfect else self.root
        return (kept * shared + target * self.shares[:, None] * own).sum()

    def at_rest(self, gates: Gates) -> Tensor:
        """As it is: no gate is drawn."""
        return self.negative_log_likelihood(gates)

    def _own(self, ridge: Tensor) -> Tensor:
        """Of each variable as a target of each environment, tensor (E, d)."""
        import torch

        moments = self.moments[:, None].expand(-1, len(ridge), -1, -1)
        with torch.no_grad():
            residual, variance = self._solved(moments, ridge)
            variance = variance.clamp_min(_SMALLEST_VARIANCE)
        return 0.5 * (variance.log() + _LOG_2_PI + self._expected_squares(moments, residual, ridge) / variance)

    @staticmethod
    def _ridge(gates: Gates) -> Tensor:
        """Inverse odds of the gate of each parent of each variable, tensor (d, d); large where it is closed for good."""
        import torch

        odds = (-gates.edge_logits.T).exp().clamp(0.0, 1e9)
        return torch.where(gates.closed.T, 1e9, odds)

    @staticmethod
    def _solved(moments: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals as combinations of (1, X), tensor (..., d, d + 1), and their expected squares, (..., d)."""
        import torch

        penalty = torch.cat([ridge.new_zeros(len(ridge), 1), ridge], dim=1)
        diagonal = moments.diagonal(dim1=-2, dim2=-1)
        gram = moments + torch.diag_embed(penalty * diagonal + _RIDGE)
        itself = torch.cat([ridge.new_zeros(len(ridge), 1), torch.eye(len(ridge), dtype=ridge.dtype)], dim=1)
        with_itself = (moments @ itself[..., None])[..., 0]
        right = with_itself * (1.0 - itself)
        coefficients = torch.linalg.solve(gram, right)
        total = (with_itself * itself).sum(dim=-1)
        return itself - coefficients * (1.0 - itself), total - (coefficients * right).sum(dim=-1)

    @staticmethod
    def _expected_squares(moments: Tensor, residual: Tensor, ridge: Tensor) -> Tensor:
        """Mean squared residual, the spread of the gates included, tensor (E, d)."""
        import torch

        squares = ((moments @ residual[..., None])[..., 0] * residual).sum(dim=-1)
        spread = moments.diagonal(dim1=-2, dim2=-1)[..., 1:]
        coefficients = torch.where(torch.eye(len(ridge), dtype=torch.bool), 0.0, residual[..., 1:])
        return squares + (coefficients.square() * spread * ridge).sum(dim=-1)
