"""Hidden units learned from all environments together, by gradients through the closed form of the evidence (torch).

The paper's road: one network, shared by all environments, whose last layer is never trained, since it has a closed form. What
is climbed is the log evidence of the shared mechanisms, summed over variables, for the parent sets of sampled graphs and for
single changes of them: units that only ever saw the parents at hand would flatter them against all others.

Which environments a mechanism is shared by comes from the local evidence itself (``joint``) and is renewed every few steps; in
between it stays as it is, and so does the share of the alternatives in the score.

The evidence of learned units has no Occam factor for their weights, only a prior: it compares graphs under the same units, and
would flatter them against fixed features.

Not here: graphs. They come from the caller's search, with which ``fit_learned`` alternates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from bench.errors import MissingDependency
from bench.types import BoolArray, Budget, FloatArray, Observed
from methods.metacadi.evidence import MixtureEvidence
from methods.metacadi.joint import SMALLEST_SPREAD, HiddenUnits, JointEvidence, JointFeatures, Samples, random_units
from methods.metacadi.model import Priors
from methods.metacadi.search import GraphPosterior

if TYPE_CHECKING:
    from torch import Tensor, dtype

STEPS_BETWEEN_TARGETS = 50
"""Steps for which the probabilities of targets stay as they are."""

PATIENCE = 2
"""Renewals of the targets in a row that may fail to raise the evidence before learning stops."""

WEIGHT_DEVIATION = 1.3
"""Prior standard deviation of a weight, about that of random units."""


@dataclass(frozen=True, slots=True)
class Amplitude:
    """One prior of mechanisms.

    Parameters
    ----------
    slope_precision : float
        Of the parents themselves.
    relative_precision : float
        Of a hidden unit, as a multiple of that.
    """

    slope_precision: float
    relative_precision: float


@dataclass(frozen=True, slots=True, eq=False)
class ParentSets:
    """Parent sets of one variable, bool (m, d), and how much each counts, float64 (m,)."""

    parents: BoolArray
    weights: FloatArray


def parent_sets(posterior: GraphPosterior, most: int = 4) -> list[ParentSets]:
    """Parent sets of every variable among sampled graphs by their shares, at most so many of the heaviest."""
    weights = special.softmax(posterior.log_weights)
    sets = []
    for i in range(posterior.graph_samples.shape[2]):
        distinct, which = np.unique(posterior.graph_samples[:, :, i], axis=0, return_inverse=True)
        shares = np.bincount(which.reshape(-1), weights, len(distinct))
        heaviest = np.argsort(-shares, kind="stable")[:most]
        sets.append(ParentSets(distinct[heaviest], shares[heaviest] / shares[heaviest].sum()))
    return sets


def joint_mixture(
    observed: Observed, priors: Priors, units: HiddenUnits, amplitudes: Sequence[Amplitude], *, annealing: bool = True
) -> MixtureEvidence:
    """The local evidence under one set of units at several amplitudes, a priori alike."""
    features = JointFeatures(observed, units)
    return MixtureEvidence(
        [
            JointEvidence(
                observed,
                replace(priors, slope_precision=a.slope_precision),
                features,
                relative_precision=a.relative_precision,
                annealing=annealing,
            )
            for a in amplitudes
        ]
    )


def fit_learned(
    observed: Observed,
    priors: Priors,
    amplitudes: Sequence[Amplitude],
    sample: Callable[[MixtureEvidence], GraphPosterior],
    posterior: GraphPosterior,
    *,
    rng: np.random.Generator,
    n_units: int = 16,
    n_rounds: int = 3,
    n_steps: int = 150,
    annealing: bool = True,
    budget: Budget | None = None,
) -> tuple[MixtureEvidence | None, GraphPosterior]:
    """Alternate: learn units for the graphs at hand, sample graphs under them.

    All variables share one network in the first round, so that it bends to no wrong parent set; then each has its own.

    Parameters
    ----------
    observed : Observed
    priors : Priors
    amplitudes : sequence of Amplitude
    sample : callable (MixtureEvidence) -> GraphPosterior
    posterior : GraphPosterior
        Where to start: graphs from cheaper features.
    rng : numpy.random.Generator
    n_units, n_rounds, n_steps : int
    annealing : bool
        As ``Evidence`` has it.
    budget : Budget, optional
        When it expires, what the last finished round found is returned, marked as cut short.

    Returns
    -------
    evidence : MixtureEvidence or None
        Under the units of the last finished round; None where there was none.
    posterior : GraphPosterior
        Under this evidence.
    """
    budget = Budget() if budget is None else budget
    units, evidence = random_units(observed.n_variables, n_units, rng), None
    for k in range(n_rounds):
        sets = parent_sets(posterior)
        units = learn_units(observed, priors, amplitudes, sets, units, rng=rng, n_steps=n_steps, tied=k == 0, budget=budget)
        learned = joint_mixture(observed, priors, units, amplitudes, annealing=annealing)
        sampled = sample(learned) if not budget.expired else None
        if sampled is None or sampled.cut_short:
            return evidence, replace(posterior, cut_short=True)
        evidence, posterior = learned, sampled
    return evidence, posterior


def learn_units(
    observed: Observed,
    priors: Priors,
    amplitudes: Sequence[Amplitude],
    sets: Sequence[ParentSets],
    start: HiddenUnits,
    *,
    rng: np.random.Generator,
    n_steps: int = 150,
    n_toggles: int = 2,
    learning_rate: float = 0.05,
    tied: bool = True,
    budget: Budget | None = None,
    device: str | None = None,
) -> HiddenUnits:
    """Raise the evidence of parent sets and of their single changes by gradients on the weights of hidden units.

    Parameters
    ----------
    observed : Observed
    priors : Priors
    amplitudes : sequence of Amplitude
        The evidence is averaged over them.
    sets : sequence of ParentSets
        Of each variable.
    start : HiddenUnits
    rng : numpy.random.Generator
        Draws parent sets for each step; nothing else is random.
    n_steps : int
        At most; learning stops where the local evidence does not rise any more.
    n_toggles : int
        Single changes of each drawn parent set, in every step.
    learning_rate : float
    tied : bool
        One network for all variables, or one for each.
    budget : Budget, optional
    device : str, optional
        Of torch; by default a GPU where one is there. The tests hold its answers to those of the CPU within 1 nat of evidence.

    Returns
    -------
    HiddenUnits
        Those of highest local evidence, prior of the weights included.

    Raises
    ------
    MissingDependency
        If torch is not installed.

    References
    ----------
    Kingma, Ba, "Adam", ICLR 2015. MacKay, "Bayesian interpolation", 1992, for evidence as an objective.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependency("learned features need torch: pip install 'cadibench[torch]'") from error

    budget = Budget() if budget is None else budget
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    units = best = start
    best_value, n_failures = -math.inf, 0
    objective = ClosedForm(observed, priors, amplitudes, device=device)
    n_networks = 1 if tied else observed.n_variables
    parameters = [torch.tensor(x[:n_networks], device=device, requires_grad=True) for x in (start.weights, start.biases)]
    adam = torch.optim.Adam(parameters, lr=learning_rate)
    for step in range(n_steps + 1):
        if step % STEPS_BETWEEN_TARGETS == 0 or step == n_steps:
            arrays = (p.detach().cpu().numpy().repeat(len(sets) // n_networks, axis=0) for p in parameters)
            units = HiddenUnits(*arrays)
            value, keep = _local_evidence(joint_mixture(observed, priors, units, amplitudes), sets)
            value += _log_prior(parameters[0]).item()
            best, best_value, n_failures = (units, value, 0) if value > best_value else (best, best_value, n_failures + 1)
            budget.progress(step / max(1, n_steps), "learning features")
            if step == n_steps or n_failures >= PATIENCE or budget.expired:
                break
        draws = _draw(sets, keep, n_toggles, rng)
        adam.zero_grad()
        evidence = objective(*(p.expand(len(sets), *p.shape[1:]) for p in parameters), *draws)
        of_each_variable = evidence.sum() * (len(np.unique(draws[0])) / len(evidence))
        (-of_each_variable - _log_prior(parameters[0])).backward()
        adam.step()
    return best


class ClosedForm:
    """Log evidence of shared mechanisms under hidden units, a differentiable function of their weights.

    Parameters
    ----------
    observed : Observed
    priors : Priors
    amplitudes : sequence of Amplitude
    device : str
        Of torch. Samples are in single precision there by default, what comes of their Gram matrices in double.
    dtype : torch.dtype, optional
    """

    def __init__(
        self,
        observed: Observed,
        priors: Priors,
        amplitudes: Sequence[Amplitude],
        *,
        device: str = "cpu",
        dtype: dtype | None = None,
    ) -> None:
        import torch

        self._dtype, self._device = torch.float32 if dtype is None else dtype, device
        samples = Samples.of(observed)
        self._X = torch.tensor(samples.X.T, dtype=self._dtype, device=device)
        self._environment = samples.environment
        self._priors, self._amplitudes = priors, amplitudes

    def __call__(self, weights: Tensor, biases: Tensor, variables: Any, parents: BoolArray, keep: FloatArray) -> Tensor:
        """Log evidence of B regressions, float64 (B,).

        Parameters
        ----------
        weights, biases : Tensor (d, M, d), (d, M)
        variables : int (B,)
        parents : bool (B, d)
        keep : float64 (B, E)
            Probability that an environment follows the shared mechanism.
        """
        import torch

        options = {"dtype": self._dtype, "device": self._device}
        mask = torch.tensor(parents, **options)
        per_sample = torch.tensor(keep[:, self._environment], **options)
        size, X = mask.sum(dim=1), self._X
        inputs = (weights.to(self._dtype)[variables] * mask[:, None]) @ X * size.clamp(min=1.0)[
            :, None, None
        ] ** -0.25 + biases.to(self._dtype)[variables][..., None]
        units = torch.tanh(inputs)
        units = units - units.mean(dim=2, keepdim=True)
        units = units / (units.square().mean(dim=2, keepdim=True) + SMALLEST_SPREAD**2).sqrt()
        units = units * (size > 0)[:, None, None]
        # Variables that are parents anywhere in front; one that is no parent is zero throughout, which changes nothing.
        order = torch.tensor(np.argsort(~parents, axis=1, kind="stable")[:, : parents.sum(axis=1).max()], device=self._device)
        linear = X[order] * torch.gather(mask, 1, order)[..., None]
        ones = torch.ones_like(per_sample)[:, None]
        columns = torch.cat([ones, linear, units, X[variables][:, None]], dim=1)
        gram = ((columns * per_sample[:, None]) @ columns.transpose(1, 2)).double()
        n_samples, n_parents = per_sample.double().sum(dim=1), size.double()
        of_amplitude = [
            self._log_evidence(gram, n_samples, n_parents, amplitude, linear.shape[1]) for amplitude in self._amplitudes
        ]
        return torch.logsumexp(torch.stack(of_amplitude), dim=0) - math.log(len(of_amplitude))

    def _log_evidence(self, gram: Tensor, n_samples: Tensor, n_parents: Tensor, amplitude: Amplitude, n_linear: int) -> Tensor:
        import torch

        priors = self._priors
        slope, n_units = amplitude.slope_precision, gram.shape[1] - 2 - n_linear
        precision = [priors.intercept_precision] + [slope] * n_linear + [slope * amplitude.relative_precision] * n_units
        diagonal = torch.tensor([*precision, 2.0 * priors.rate], dtype=gram.dtype, device=gram.device)
        joint = gram + torch.diag(diagonal)
        # Single precision may leave a matrix of huge values indefinite; such a regression sits the step out.
        failed = torch.linalg.cholesky_ex(joint.detach()).info > 0
        joint = torch.where(failed[:, None, None], torch.diag(diagonal), joint)
        pivots = torch.linalg.cholesky(joint).diagonal(dim1=1, dim2=2)
        shape = priors.shape + 0.5 * n_parents
        shape_n, rate_n = shape + 0.5 * n_samples, 0.5 * pivots[:, -1] ** 2
        return (
            -0.5 * math.log(2.0 * math.pi) * n_samples
            + 0.5 * diagonal[:-1].log().sum()
            - pivots[:, :-1].log().sum(dim=1)
            + shape * math.log(priors.rate)
            - shape_n * rate_n.log()
            + torch.lgamma(shape_n)
            - torch.lgamma(shape)
        )


def _local_evidence(evidence: MixtureEvidence, sets: Sequence[ParentSets]) -> tuple[float, list[list[FloatArray]]]:
    """Weighted local evidence of all rows of toggles, and keep probabilities, one (d, 1 + E) for each parent set."""
    total, keep = 0.0, []
    for i, of_variable in enumerate(sets):
        keep.append([])
        for parents, weight in zip(of_variable.parents, of_variable.weights, strict=True):
            rows = [c.row(i, parents) for c in evidence.components]
            scores = np.stack([scores for scores, _ in rows])
            total += weight * special.logsumexp(scores, axis=0).mean()
            keep[i].append(np.einsum("cj,cje->je", special.softmax(scores, axis=0), np.stack([k for _, k in rows])))
    return total, keep


def _log_prior(weights: Tensor) -> Tensor:
    return -0.5 * weights.square().sum() / WEIGHT_DEVIATION**2


def _draw(
    sets: Sequence[ParentSets], keep: list[list[FloatArray]], n_toggles: int, rng: np.random.Generator
) -> tuple[Any, BoolArray, FloatArray]:
    """For each variable a parent set by weight and some of its single changes: variables, parents and keep probabilities."""
    d = len(sets)
    variables, parents, kept = [], [], []
    for i, of_variable in enumerate(sets):
        if not len(of_variable.weights):
            continue
        k = rng.choice(len(of_variable.weights), p=of_variable.weights / of_variable.weights.sum())
        others = np.delete(np.arange(d), i)
        changed = np.append(i, rng.choice(others, min(n_toggles, len(others)), replace=False))
        for j in changed:
            toggled = of_variable.parents[k].copy()
            toggled[j] ^= j != i
            variables.append(i)
            parents.append(toggled)
            kept.append(keep[i][k][j])
    return np.array(variables), np.array(parents), np.array(kept)
