"""Linear Gaussian conditionals on second moments: given the gates, all regressions are solved at once.

For a Gaussian the expectation over Bernoulli gates needs no sampling. With gates of probability p the expected squared residual
of a regression with effective coefficients b (those of an open gate times p) is

    E(x_j - sum_i b_i x_i)^2 + sum_i b_i^2 (1 - p_i) / p_i E x_i^2,

a ridge regression whose penalty on each parent is the inverse odds of its gate. Coefficients and variance that minimise the
negative log-likelihood are therefore in closed form; at them its gradient in the gates is the partial one, and only gates are
left to be learned.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np

from methods.dcdi.densities import SMALLEST_LOG_SCALE
from methods.dcdi.gates import CLOSED_ODDS
from methods.dcdi.samples import Samples

if TYPE_CHECKING:
    from torch import Tensor

    from bench.graphs import IntArray
    from bench.types import BoolArray
    from methods.dcdi.gates import Gates, GivenParents

_RIDGE = 1e-6
"""Added to every second moment: duplicated variables have no unique coefficients."""

_SMALLEST_VARIANCE = math.exp(2.0 * SMALLEST_LOG_SCALE)
_LOG_2_PI = math.log(2.0 * math.pi)


class LinearConditionals:
    """Regressions of variables on the others behind gates; at first one of each variable.

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
        self.itself = torch.eye(moments.shape[-1], dtype=torch.float64)[1:]

    def copied(self, rows: IntArray) -> LinearConditionals:
        """Some of these regressions, each as often as named."""
        chosen = copy.copy(self)
        chosen.itself, chosen.root = self.itself[rows], self.root[:, rows]
        return chosen

    def replace(self, rows: IntArray, other: LinearConditionals, other_rows: IntArray) -> None:
        """Nothing: the coefficients follow from the gates."""

    def restart(self, parents: BoolArray) -> None:
        """Nothing, likewise."""

    def parameters(self) -> list[Tensor]:
        """None, likewise."""
        return []

    def negative_log_likelihood(self, gates: Gates | GivenParents) -> Tensor:
        """Expected over gates, nats per sample, summed over variables."""
        target = gates.target_probability()
        shared, own = self._expected(gates.inverse_odds(), target)
        return ((1.0 - target) * shared + target * own).sum()

    def by_environment(self, gates: Gates | GivenParents) -> tuple[Tensor, Tensor]:
        """Of all samples, with the gates above one half open and the others closed; tensors (E, K)."""
        return self._expected((1.0 - gates.likely_parents()) * CLOSED_ODDS, gates.likely_targets())

    def _expected(self, ridge: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """As no target and as a target, from inverse odds of parents (K, d) and probabilities of targets (E, K)."""
        import torch

        shares = self.shares[:, None]
        kept = (1.0 - target) * shares
        with torch.no_grad():
            pooled = torch.einsum("ej,eab->jab", kept, self.moments)
            residual, variance = self._solved(pooled, ridge)
            variance = (variance / kept.sum(dim=0).clamp_min(1e-12)).clamp_min(_SMALLEST_VARIANCE)
        squares = self._expected_squares(residual, ridge)
        shared = 0.5 * (variance.log() + _LOG_2_PI + squares / variance)
        return shares * shared, shares * (self._own(ridge) if self.imperfect else self.root)

    def _own(self, ridge: Tensor) -> Tensor:
        """Of each variable as a target of each environment, tensor (E, K)."""
        import torch

        with torch.no_grad():
            residual, variance = self._solved(self.moments[:, None].expand(-1, len(ridge), -1, -1), ridge)
            variance = variance.clamp_min(_SMALLEST_VARIANCE)
        return 0.5 * (variance.log() + _LOG_2_PI + self._expected_squares(residual, ridge) / variance)

    def _solved(self, moments: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals as combinations of (1, X), tensor (..., K, d + 1), and their expected squares, (..., K)."""
        import torch

        penalty = torch.cat([ridge.new_zeros(len(ridge), 1), ridge], dim=1)
        diagonal = moments.diagonal(dim1=-2, dim2=-1)
        gram = moments + torch.diag_embed(penalty * diagonal + _RIDGE)
        with_itself = (moments @ self.itself[..., None])[..., 0]
        right = with_itself * (1.0 - self.itself)
        coefficients = torch.linalg.solve(gram, right)
        total = (with_itself * self.itself).sum(dim=-1)
        return self.itself - coefficients * (1.0 - self.itself), total - (coefficients * right).sum(dim=-1)

    def _expected_squares(self, residual: Tensor, ridge: Tensor) -> Tensor:
        """Mean squared residual in each environment, the spread of the gates included, tensor (E, K).

        ``residual`` is (K, d + 1), or (E, K, d + 1) where each environment has its own.
        """
        squares = ((residual @ self.moments) * residual).sum(dim=-1)
        spread = self.moments.diagonal(dim1=-2, dim2=-1)[:, None, 1:]
        coefficients = (residual * (1.0 - self.itself))[..., 1:]
        return squares + (coefficients.square() * spread * ridge).sum(dim=-1)
