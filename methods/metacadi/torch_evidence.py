"""The local evidence in torch, batched over parent sets: differentiable in the logarithm of every prior.

The formulas are those of ``model`` and the numbers those of ``kernel``, which is many times faster and has no gradient. The
method itself needs no gradient in its priors; this is for whoever studies them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from methods.metacadi.evidence import COOLING
from methods.metacadi.features import Statistics
from methods.metacadi.model import HARD_REACHES, LEARNED_AFTER_THE_SEARCH, WEIGHTS, IntArray, Priors

if TYPE_CHECKING:
    from torch import Tensor

_LOG_2_PI = float(np.log(2.0 * np.pi))
_LOG_2 = float(np.log(2.0))
_SMALLEST_WEIGHT = 1e-200
_SMALLEST_PROBABILITY = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Regressions:
    """B regressions in E environments that may have targets; float64 tensors.

    One with fewer features than others is filled up with features that are zero in every sample: they keep their prior and
    change nothing.

    Parameters
    ----------
    grams : tensor (B, E, m + 1, m + 1)
        Of (intercept, features, variable).
    n_samples : tensor (E,)
    fixed_gram : tensor (B, m + 1, m + 1)
        Of all environments known to be observational together.
    fixed_n : float
        Samples known to be observational.
    n_parents : tensor (B,)
    relative : tensor (B, m)
        Prior precision of intercept and features as multiples of a slope's; the intercept's is not read.
    """

    grams: Tensor
    n_samples: Tensor
    fixed_gram: Tensor
    fixed_n: float
    n_parents: Tensor
    relative: Tensor

    @classmethod
    def of(cls, statistics: Statistics, fixed: Statistics, parent_sets: Sequence[tuple[int, IntArray]]) -> Regressions:
        """Regressions of variables on their parents, for each (variable, parents)."""
        import torch

        grams = _gram_tensor(statistics, parent_sets)
        relative = np.ones((len(parent_sets), grams.shape[-1] - 1))
        for row, (_, parents) in zip(relative, parent_sets, strict=True):
            own = statistics.relative_precision(parents)
            row[: len(own)] = own
        return cls(
            grams=grams,
            n_samples=torch.from_numpy(statistics.n_samples),
            fixed_gram=_gram_tensor(fixed, parent_sets).sum(dim=1),
            fixed_n=float(fixed.n_samples.sum()),
            n_parents=torch.tensor([float(len(parents)) for _, parents in parent_sets], dtype=torch.float64),
            relative=torch.from_numpy(relative),
        )


def _gram_tensor(statistics: Statistics, parent_sets: Sequence[tuple[int, IntArray]]) -> Tensor:
    """Gram matrices of (intercept, features, variable), filled up to the largest, float64 (B, E, m + 1, m + 1)."""
    import torch

    each = [statistics.regression(i, parents) for i, parents in parent_sets]
    size = max(g.shape[1] for g in each)
    grams = np.zeros((len(each), statistics.n_environments, size, size))
    for filled_up, gram in zip(grams, each, strict=True):
        places = np.append(np.arange(gram.shape[1] - 1), size - 1)
        filled_up[:, places[:, None], places] = gram
    return torch.from_numpy(grams)


def log_priors(priors: Priors) -> dict[str, Tensor]:
    """Logarithm of every prior of the local evidence, scalar float64 tensors; of zero, that of the smallest that counts."""
    import torch

    values = {name: x for name, x in dataclasses.asdict(priors).items() if name not in LEARNED_AFTER_THE_SEARCH}
    return {name: torch.tensor(max(value, _SMALLEST_WEIGHT), dtype=torch.float64).log() for name, value in values.items()}


def local_evidence(
    log_priors: Mapping[str, Tensor],
    regressions: Regressions,
    n_variables: int,
    starts: Tensor,
    *,
    cooling: Sequence[float] = COOLING,
) -> tuple[Tensor, Tensor]:
    """Local evidence of B regressions, differentiable through the coordinate updates.

    Parameters
    ----------
    log_priors : mapping of str to tensor
        Logarithm of every number of ``Priors``; float64 scalars.
    regressions : Regressions
    n_variables : int
    starts : tensor (S, E)
        First guesses that an environment follows the shared mechanism; the best score counts.
    cooling : sequence of float
        Inverse temperatures of the coordinate updates.

    Returns
    -------
    score : tensor (B,)
    keep : tensor (B, E)
        Probability that an environment follows the shared mechanism.
    """
    import torch

    forms = ClosedForms(log_priors, regressions)
    scores, keeps = [], []
    for start in starts:
        keep = start.expand(regressions.grams.shape[:2])
        for inverse_temperature in cooling:
            keep = forms.updated_keep(keep, inverse_temperature)
        scores.append(forms.score(keep, n_variables))
        keeps.append(keep)
    all_scores, all_keeps = torch.stack(scores), torch.stack(keeps)
    best = all_scores.detach().argmax(dim=0)
    regression = torch.arange(len(best))
    return all_scores[best, regression], all_keeps[best, regression]


class ClosedForms:
    """The closed forms of ``model`` for a batch of regressions, as functions of the logarithms of the priors."""

    def __init__(self, log_priors: Mapping[str, Tensor], regressions: Regressions) -> None:
        import torch

        self.data, self.log = regressions, log_priors
        self.prior = {name: value.exp() for name, value in log_priors.items()}
        self.log_weights = torch.stack([log_priors[name] for name in WEIGHTS]).log_softmax(dim=0)
        self.log_target, self.log_no_target = log_priors["target"], torch.log1p(-self.prior["target"])
        half_parents = 0.5 * regressions.n_parents
        self.shape = self.prior["shape"] + half_parents
        self.relearned_shape = self.prior["relearned_shape"] + half_parents
        is_intercept = torch.zeros_like(regressions.relative)
        is_intercept[:, 0] = 1.0
        slopes = regressions.relative * (1.0 - is_intercept)
        self.precision = self.prior["slope_precision"] * slopes + self.prior["intercept_precision"] * is_intercept
        self.relearned_precision = self.prior["relearned_precision"] * (slopes + is_intercept)

    def updated_keep(self, keep: Tensor, inverse_temperature: float) -> Tensor:
        """One coordinate update of all environments, each against the shared mechanism of all others, (B, E)."""
        unchanged, changed = self.log_densities(keep)
        odds = unchanged - changed + self.log_no_target - self.log_target
        return (odds * inverse_temperature).sigmoid()

    def score(self, keep: Tensor, n_variables: int) -> Tensor:
        """The local evidence at given keep probabilities, (B,)."""
        data, log_rate = self.data, self.log["rate"]
        unchanged, changed = self.log_densities(keep)
        of_environments = keep * (unchanged + self.log_no_target) + (1.0 - keep) * (changed + self.log_target) + _entropy(keep)
        n_shared = data.fixed_n + keep @ data.n_samples
        shared = _log_evidence(self._shared_gram(keep), n_shared, self.precision, self.shape, log_rate)
        n_rest, rest = self._rest(keep)
        of_rest = _log_evidence(rest, n_rest, self.precision[:, None], self.shape[:, None], log_rate)
        # What an environment adds to the evidence, in place of what its share adds to the shared posterior.
        gains = of_environments - (shared[:, None] - of_rest)
        return shared + gains.sum(dim=1) - data.n_parents * float(np.log(n_variables))

    def log_densities(self, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Log densities of each environment: as no target, under the shared mechanism of all other environments at their keep
        probabilities; and as a target, under the mixture of alternatives.

        Parameters
        ----------
        keep : tensor (B, E)

        Returns
        -------
        unchanged, changed : tensor (B, E)
        """
        import torch

        grams, n = self.data.grams, self.data.n_samples
        n_rest, rest = self._rest(keep)
        shape_rest = self.shape[:, None] + 0.5 * n_rest
        rest = rest + _prior_gram(self.precision, self.prior["rate"])[:, None]
        of_rest, of_joined = _cholesky(rest), _cholesky(rest + grams)
        log_rate_rest, log_rate_joined = _log_rate(of_rest), _log_rate(of_joined)

        # No target: log Z(S + S_new) − log Z(S), the variance free to drift.
        share = 1.0 / (1.0 + self.prior["variance_drift"] * shape_rest)
        shape_own, log_rate_own = share * shape_rest, share.log() + log_rate_rest
        shape_joined, rate_gone = shape_own + 0.5 * n, (1.0 - share) * log_rate_rest.exp()
        gain = -0.5 * n * _LOG_2_PI + _half_log_det(of_rest) - _half_log_det(of_joined)
        gain = gain + shape_own * log_rate_own + shape_joined.lgamma() - shape_own.lgamma()
        unchanged = gain - shape_joined * (log_rate_joined.exp() - rate_gone).log()

        # A shift takes g gᵀ / (κ + n) off the Gram matrix, g the sums of its columns, and leaves a share of each determinant.
        squares = torch.linalg.solve_triangular(of_joined, grams[..., :1], upper=False)[..., 0].square()
        shift_share = 1.0 / (self.prior["shift_strength"] + n)
        log_left_of_features = torch.log1p(-shift_share * squares[..., :-1].sum(dim=-1))
        log_left_of_all = torch.log1p(-shift_share * squares.sum(dim=-1))
        rate_shifted = (log_rate_joined + log_left_of_all - log_left_of_features).exp() - rate_gone
        shift = (
            gain - 0.5 * log_left_of_features - shape_joined * rate_shifted.log() + _mean_term(self.log["shift_strength"], n)
        )

        # Residuals at the mean of the shared mechanism, with a variance of their own.
        mean = torch.linalg.solve_triangular(of_rest[..., :-1, :-1].mT, of_rest[..., -1, :-1, None], upper=True)[..., 0]
        contrast = torch.cat([-mean, torch.ones_like(mean[..., :1])], dim=-1)
        products = (grams @ contrast[..., None])[..., 0]
        residuals = (products * contrast).sum(dim=-1), products[..., 0], n
        fresh = self.prior["fresh_shape"], log_rate_rest - shape_rest.log()

        # Without the shared mechanism.
        variable = grams[..., -1, -1], grams[..., 0, -1], n
        relearned = self.relearned_precision[:, None], self.relearned_shape[:, None]
        alternatives = [
            shift,
            _log_mean_and_variance(*residuals, self.log["scale_strength"], *fresh),
            _log_mean_and_variance(*residuals, self.log["shift_strength"], *fresh),
            torch.stack([self._log_hard(*variable, reach) for reach in HARD_REACHES]).logsumexp(dim=0)
            - math.log(len(HARD_REACHES)),
            _log_evidence(grams, n, *relearned, self.log["relearned_rate"]),
        ]
        return unchanged, torch.logsumexp(torch.stack(alternatives, dim=-1) + self.log_weights, dim=-1)

    def _log_hard(self, squares: Tensor, sums: Tensor, n: Tensor, reach: float) -> Tensor:
        log_strength = self.log["hard_strength"] - math.log(reach)
        return _log_mean_and_variance(squares, sums, n, log_strength, self.prior["hard_shape"], self.log["hard_rate"])

    def _shared_gram(self, keep: Tensor) -> Tensor:
        return self.data.fixed_gram + (keep[..., None, None] * self.data.grams).sum(dim=1)

    def _rest(self, keep: Tensor) -> tuple[Tensor, Tensor]:
        """What the shared mechanism sees without each environment: samples, (B, E), and Gram matrices."""
        n = (keep @ self.data.n_samples)[:, None] - keep * self.data.n_samples
        return self.data.fixed_n + n, self._shared_gram(keep)[:, None] - keep[..., None, None] * self.data.grams


def _log_evidence(grams: Tensor, n: Tensor, precision: Tensor, shape: Tensor, log_rate: Tensor) -> Tensor:
    """Log evidence of regressions under Normal-Inverse-Gamma priors."""
    factor = _cholesky(grams + _prior_gram(precision, log_rate.exp()))
    posterior_shape = shape + 0.5 * n
    return (
        -0.5 * n * _LOG_2_PI
        + 0.5 * precision.log().sum(dim=-1)
        - _half_log_det(factor)
        + shape * log_rate
        - posterior_shape * _log_rate(factor)
        + posterior_shape.lgamma()
        - shape.lgamma()
    )


def _log_mean_and_variance(
    squares: Tensor, sums: Tensor, n: Tensor, log_strength: Tensor, shape: Tensor, log_rate: Tensor
) -> Tensor:
    """Log evidence of N(mean, variance) samples, mean ~ N(0, variance / strength), from their sums and sums of squares."""
    posterior_rate = log_rate.exp() + 0.5 * (squares - sums.square() / (log_strength.exp() + n)).clamp(min=0.0)
    posterior_shape = shape + 0.5 * n
    return (
        -0.5 * n * _LOG_2_PI
        + _mean_term(log_strength, n)
        + shape * log_rate
        - posterior_shape * posterior_rate.log()
        + posterior_shape.lgamma()
        - shape.lgamma()
    )


def _mean_term(log_strength: Tensor, n: Tensor) -> Tensor:
    """½ log(κ / (κ + n)): what a free mean costs."""
    return 0.5 * (log_strength - (log_strength.exp() + n).log())


def _prior_gram(precision: Tensor, rate: Tensor) -> Tensor:
    """What a prior adds to a Gram matrix: precisions, and twice the rate."""
    import torch

    return torch.diag_embed(torch.cat([precision, (2.0 * rate).expand(*precision.shape[:-1], 1)], dim=-1))


def _cholesky(joint: Tensor) -> Tensor:
    """Lower factors; NaN where rounding made a matrix indefinite."""
    import torch

    factor, failed = torch.linalg.cholesky_ex(joint)
    return torch.where(failed[..., None, None] == 0, factor, torch.nan) if failed.any() else factor


def _half_log_det(factor: Tensor) -> Tensor:
    """Of the precision of intercept and features."""
    return factor.diagonal(dim1=-2, dim2=-1)[..., :-1].log().sum(dim=-1)


def _log_rate(factor: Tensor) -> Tensor:
    """Of the noise variance: half the last pivot."""
    return 2.0 * factor[..., -1, -1].log() - _LOG_2


def _entropy(probability: Tensor) -> Tensor:
    of_one, of_other = (-p * p.clamp(min=_SMALLEST_PROBABILITY).log() for p in (probability, 1.0 - probability))
    return of_one + of_other
