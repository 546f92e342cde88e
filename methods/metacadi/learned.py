"""Hidden units learned from all environments together, by gradients of the closed form of the evidence (torch, for its GPUs).

The paper's road: one network, shared by all environments, whose last layer is never trained, since it has a closed form. What
is climbed is the log evidence of the shared mechanisms, summed over variables, for the parent sets of sampled graphs and for
single changes of them: units that only ever saw the parents at hand would flatter them against all others.

Which environments a mechanism is shared by comes from the local evidence itself (``joint``) and is renewed every few steps; in
between it stays as it is, and so does the share of the alternatives in the score.

The evidence of learned units has no Occam factor for their weights, only a prior: it compares graphs under the same units, and
would flatter them against fixed features. Steps are few for the same reason: four times as many raise the evidence further,
and find no more edges.

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
from methods.metacadi.differentiable import Adam
from methods.metacadi.evidence import MixtureEvidence
from methods.metacadi.joint import SMALLEST_SPREAD, HiddenUnits, JointEvidence, JointFeatures, Samples, random_units
from methods.metacadi.model import Priors
from methods.metacadi.parent_sets import distinct_parent_sets
from methods.metacadi.search import GraphPosterior

if TYPE_CHECKING:
    from torch import Tensor, dtype

STEPS_BETWEEN_TARGETS = 20
"""Steps for which the probabilities of targets stay as they are."""

WEIGHT_DEVIATION = 1.3
"""Prior standard deviation of a weight, about that of random units."""

MOST_SAMPLES = 1000
"""That a step looks at; each step draws them anew."""

ROUGHLY = 0.35
"""Standard error of edges' frequencies that is enough to learn for."""


@dataclass(frozen=True, slots=True)
class Amplitude:
    """One prior of mechanisms.

    Parameters
    ----------
    slope_factor : float
        Precision of the parents themselves, as a multiple of that of the priors.
    relative_precision : float
        Of a hidden unit, as a multiple of that.
    """

    slope_factor: float
    relative_precision: float


@dataclass(frozen=True, slots=True, eq=False)
class WeightedSets:
    """Parent sets of one variable, bool (m, d), and how much each counts, float64 (m,)."""

    parents: BoolArray
    weights: FloatArray


def parent_sets(posterior: GraphPosterior, most: int = 4) -> list[WeightedSets]:
    """Parent sets of every variable among sampled graphs by their shares, at most so many of the heaviest."""
    weights = special.softmax(posterior.log_weights)
    sets = []
    for of_variable in distinct_parent_sets(posterior.graph_samples):
        shares = of_variable.shares(weights)
        heaviest = np.argsort(-shares, kind="stable")[:most]
        sets.append(WeightedSets(of_variable.sets[heaviest], shares[heaviest] / shares[heaviest].sum()))
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
                priors,
                features,
                relative_precision=a.relative_precision,
                amplitude=a.slope_factor,
                annealing=annealing,
            )
            for a in amplitudes
        ]
    )


def fit_learned(
    observed: Observed,
    priors: Priors,
    amplitudes: Sequence[Amplitude],
    sample: Callable[[MixtureEvidence, float | None], GraphPosterior],
    posterior: GraphPosterior,
    *,
    rng: np.random.Generator,
    n_units: int = 16,
    n_rounds: int = 3,
    n_steps: int = 40,
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
    sample : callable (MixtureEvidence, tolerance) -> GraphPosterior
        The standard error of edges' frequencies may be ``ROUGHLY`` so before the last round, and is None in the last.
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
        sampled = sample(learned, ROUGHLY if k < n_rounds - 1 else None) if not budget.expired else None
        if sampled is None or sampled.cut_short:
            return evidence, replace(posterior, cut_short=True)
        evidence, posterior = learned, sampled
    return evidence, posterior


def learn_units(
    observed: Observed,
    priors: Priors,
    amplitudes: Sequence[Amplitude],
    sets: Sequence[WeightedSets],
    start: HiddenUnits,
    *,
    rng: np.random.Generator,
    n_steps: int = 40,
    n_toggles: int = 2,
    learning_rate: float = 0.15,
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
    sets : sequence of WeightedSets
        Of each variable.
    start : HiddenUnits
    rng : numpy.random.Generator
        Draws parent sets for each step; nothing else is random.
    n_steps : int
    n_toggles : int
        Single changes of each drawn parent set, in every step.
    learning_rate : float
        Of the first step; it falls to zero along a cosine.
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
    best, best_value = start, -math.inf
    objective = ClosedForm(observed, priors, amplitudes, device=device)
    n_networks = 1 if tied else observed.n_variables
    weights, biases = start.weights[:n_networks].copy(), start.biases[:n_networks].copy()
    ascents = Adam(weights), Adam(biases)
    for step in range(n_steps + 1):
        if step % STEPS_BETWEEN_TARGETS == 0 or step == n_steps:
            units = HiddenUnits(*(p.repeat(len(sets) // n_networks, axis=0) for p in (weights, biases)))
            value, keep = _local_evidence(joint_mixture(observed, priors, units, amplitudes), sets)
            value -= 0.5 * (weights**2).sum() / WEIGHT_DEVIATION**2
            best, best_value = (units, value) if value > best_value else (best, best_value)
            budget.progress(step / max(1, n_steps), "learning features")
            if step == n_steps or budget.expired:
                break
        draws = _draw(sets, keep, n_toggles, rng)
        all_weights, all_biases = (np.broadcast_to(p, (len(sets), *p.shape[1:])) for p in (weights, biases))
        too_many = objective.n_samples > MOST_SAMPLES
        some = rng.choice(objective.n_samples, MOST_SAMPLES, replace=False) if too_many else None
        _, *gradients = objective(all_weights, all_biases, *draws, samples=some)
        share = len(np.unique(draws[0])) / len(draws[0])
        of_weights, of_biases = (share * (g.sum(axis=0, keepdims=True) if tied else g) for g in gradients)
        rate = 0.5 * learning_rate * (1.0 + math.cos(math.pi * step / n_steps))
        for ascent, gradient in zip(ascents, (of_weights - weights / WEIGHT_DEVIATION**2, of_biases), strict=True):
            ascent.ascend(gradient, rate)
    return best


class ClosedForm:
    """Log evidence of shared mechanisms under hidden units, and its gradient in their weights, both in closed form.

    With features Φ, one row a sample, K the weights of samples, A = ΦᵀKΦ + Λ, the posterior mean w and r the residuals at it,
    and (a, b) the posterior of the noise variance, the gradient of the log evidence in Φ is K [(a / b) r wᵀ − Φ A⁻¹].

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

        self._options: dict[str, Any] = {"dtype": torch.float32 if dtype is None else dtype, "device": device}
        samples = Samples.of(observed)
        self._X = torch.tensor(samples.X.T, **self._options)
        self._environment = samples.environment
        self.n_samples = len(samples.X)
        self._deviation = samples.deviation
        self._priors, self._amplitudes = priors, amplitudes

    def __call__(
        self,
        weights: FloatArray,
        biases: FloatArray,
        variables: Any,
        parents: BoolArray,
        keep: FloatArray,
        *,
        samples: Any = None,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Log evidence of B regressions, float64 (B,), and the gradients of its sum in weights and biases.

        Parameters
        ----------
        weights, biases : float64 (d, M, d), (d, M)
        variables : int (B,)
        parents : bool (B, d)
        keep : float64 (B, E)
            Probability that an environment follows the shared mechanism.
        samples : int (k,), optional
            Which to take, each for as many as it stands for; all where None.

        Returns
        -------
        log_evidence : float64 (B,)
        of_weights, of_biases : float64 (d, M, d), (d, M)
        """
        import torch

        n_units, sizes = biases.shape[1], parents.sum(axis=1)
        all_X, environment, stands_for = self._X, self._environment, 1.0
        if samples is not None:
            all_X, environment = all_X[:, samples], environment[samples]
            stands_for = self.n_samples / len(samples)
        # Parents in front; a place without one is zero throughout, which changes nothing.
        order = np.argsort(~parents, axis=1, kind="stable")[:, : sizes.max()]
        first, last = 1 + order.shape[1], 1 + order.shape[1] + n_units
        present = self._tensor(np.take_along_axis(parents, order, axis=1))[..., None]
        # Hidden units of |pa|^(-1/4) W x + b, x in units of its deviation.
        shares = np.take_along_axis(parents, order, axis=1) * (np.maximum(sizes, 1) ** -0.25)[:, None] / self._deviation[order]
        scaled = np.take_along_axis(weights[variables], order[:, None], axis=2) * shares[:, None]
        columns = torch.empty((len(variables), last + 1, all_X.shape[1]), **self._options)
        columns[:, 0], columns[:, -1] = 1.0, all_X[variables]
        X, units = columns[:, 1:first], columns[:, first:last]
        torch.mul(all_X[order], present, out=X)
        tanh = torch.baddbmm(self._tensor(biases[variables])[..., None], self._tensor(scaled), X).tanh_()
        torch.sub(tanh, tanh.mean(dim=2, keepdim=True), out=units)
        spread = (units.square().mean(dim=2, keepdim=True) + SMALLEST_SPREAD**2).sqrt()
        inverse = self._tensor(sizes > 0)[:, None, None] / spread
        units.mul_(inverse)

        weighted = columns * self._tensor(stands_for * keep[:, environment])[:, None]
        gram = (weighted @ columns.mT).double()
        n_samples = weighted[:, 0].double().sum(dim=1)
        evidence, of_columns = self._log_evidence(gram, n_samples, sizes, first)
        # Back through the standardisation and the hyperbolic tangent.
        change = of_columns.to(columns.dtype).mT @ weighted
        along = (change * units).mean(dim=2, keepdim=True)
        change = change.sub_(change.mean(dim=2, keepdim=True)).addcmul_(units, along, value=-1.0).mul_(inverse)
        change.mul_(tanh.square_().neg_().add_(1.0))
        of_weights, of_biases = np.zeros_like(weights), np.zeros_like(biases)
        each = np.zeros((len(variables), *weights.shape[1:]))
        np.put_along_axis(each, order[:, None], _array(change @ X.mT) * shares[:, None], axis=2)
        np.add.at(of_weights, variables, each)
        np.add.at(of_biases, variables, _array(change.sum(dim=2)))
        return _array(evidence), of_weights, of_biases

    def _tensor(self, values: Any) -> Tensor:
        import torch

        return torch.tensor(values, **self._options)

    def _log_evidence(self, gram: Tensor, n_samples: Tensor, sizes: Any, first: int) -> tuple[Tensor, Tensor]:
        """Log evidence, (B,), and a matrix (B, m + 1, M) that takes columns by weight to its gradient in the units.

        ``first`` is the place of the first unit among the m features.
        """
        import torch

        priors, m = self._priors, gram.shape[1] - 1
        shape = priors.shape + 0.5 * torch.tensor(sizes, dtype=gram.dtype, device=gram.device)
        shape_n = shape + 0.5 * n_samples
        evidence, gradients = [], []
        for amplitude in self._amplitudes:
            slope = amplitude.slope_factor * priors.slope_precision
            precision = [priors.intercept_precision] + [slope] * (first - 1)
            precision += [slope * amplitude.relative_precision] * (m - first) + [2.0 * priors.rate]
            diagonal = torch.tensor(precision, dtype=gram.dtype, device=gram.device)
            factor, info = torch.linalg.cholesky_ex(gram + torch.diag(diagonal))
            # Single precision may leave a matrix of huge values indefinite; such a regression sits the step out.
            failed = (info > 0)[:, None, None]
            factor = torch.where(failed, torch.diag(diagonal.sqrt()), factor)
            pivots = factor.diagonal(dim1=1, dim2=2)
            rate_n = 0.5 * pivots[:, -1] ** 2
            evidence.append(
                -0.5 * math.log(2.0 * math.pi) * n_samples
                + 0.5 * diagonal[:-1].log().sum()
                - pivots[:, :-1].log().sum(dim=1)
                + shape * math.log(priors.rate)
                - shape_n * rate_n.log()
                + torch.lgamma(shape_n)
                - torch.lgamma(shape)
            )
            of_features = factor[:, :-1, :-1]
            mean = torch.linalg.solve_triangular(of_features.mT, factor[:, -1, :-1, None], upper=True)
            pull = (shape_n / rate_n)[:, None, None] * mean.mT
            gradient = torch.cat([-mean @ pull - torch.cholesky_inverse(of_features), pull], dim=1)
            gradients.append(torch.where(failed, 0.0, gradient)[:, :, first:])
        shares = torch.softmax(torch.stack(evidence), dim=0)
        of_columns = (shares[..., None, None] * torch.stack(gradients)).sum(dim=0)
        return torch.logsumexp(torch.stack(evidence), dim=0) - math.log(len(evidence)), of_columns


def _array(values: Tensor) -> FloatArray:
    return np.asarray(values.double().cpu().numpy())


def _local_evidence(evidence: MixtureEvidence, sets: Sequence[WeightedSets]) -> tuple[float, list[list[FloatArray]]]:
    """Weighted local evidence of all rows of toggles, and keep probabilities, one (d, 1 + E) for each parent set."""
    total = 0.0
    keep: list[list[FloatArray]] = []
    for i, of_variable in enumerate(sets):
        keep.append([])
        for parents, weight in zip(of_variable.parents, of_variable.weights, strict=True):
            rows = [c.row(i, parents) for c in evidence.components if isinstance(c, JointEvidence)]
            scores = np.stack([scores for scores, _ in rows])
            total += weight * special.logsumexp(scores, axis=0).mean()
            keep[i].append(np.einsum("cj,cje->je", special.softmax(scores, axis=0), np.stack([k for _, k in rows])))
    return total, keep


def _draw(
    sets: Sequence[WeightedSets], keep: list[list[FloatArray]], n_toggles: int, rng: np.random.Generator
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
