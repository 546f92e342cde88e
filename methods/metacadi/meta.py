"""Meta-learning: what all environments share beyond the graph, learned by gradients through the closed forms.

Which alternatives occur, and how strong they are, is the same in all environments: learned from the environments of the fit,
it makes a new one of few samples easier to judge. No graph is learned here, and no target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import optimize

from bench.errors import MissingDependency, UnknownName
from bench.types import BoolArray, Budget, Environment, FloatArray, Observed
from methods.metacadi.evidence import _starts
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.model import IntArray, Priors, split_by_knowledge
from methods.metacadi.torch_evidence import (
    WEIGHTS,
    ClosedForms,
    Regressions,
    gram_tensor,
    local_evidence,
    log_priors,
    one_thread,
)

if TYPE_CHECKING:
    from torch import Tensor

Mode = Literal["evidence", "episodic"]
MODES: tuple[Mode, ...] = ("evidence", "episodic")

STRENGTHS = (
    *("shift_strength", "scale_strength", "fresh_shape"),
    *("hard_strength", "hard_shape", "hard_rate"),
    *("relearned_precision", "relearned_shape", "relearned_rate"),
)
"""Of the alternatives, among the priors. That targets are rare, and the shared mechanism's own prior, are not learned: they
would explain drift and misfit as interventions."""

PRIOR_SPREAD = 1.0
"""Standard deviation of the logarithm of a learned prior about its default: the say of about one intervention."""

LARGEST_CHANGE = float(np.log(100.0))
"""Of the logarithm of a prior."""

MOST_PARENT_SETS = 100
"""That count, of all variables together; each variable's heaviest in any case."""

SUPPORT_SIZES = (3, 10)
"""Samples that an episode adapts to, at most half of an environment."""

_EPISODES_PER_SIZE = 2
_MOST_STEPS = 30
_SMALLEST_GAIN = 1e-6
"""Relative to the loss, below which a step is the last."""


def learn_priors(
    observed: Observed,
    graph_samples: BoolArray,
    weights: FloatArray,
    priors: Priors,
    *,
    mode: Mode,
    rng: np.random.Generator,
    names: Sequence[str] = WEIGHTS,
    basis: Basis | None = None,
    budget: Budget | None = None,
) -> Priors:
    """Priors of the alternatives as the environments suggest them, given the graphs.

    Parameters
    ----------
    observed : Observed
    graph_samples : bool (S, d, d)
    weights : float64 (S,)
        Normalised. Each variable's heaviest parent set counts, and the heaviest of all others up to ``MOST_PARENT_SETS``.
    priors : Priors
        Where learning starts, and to where a weak prior draws back.
    mode : {"evidence", "episodic"}
        Maximise the sum of local evidences (empirical Bayes); or the predictive density of each environment's query samples
        after adaptation, in closed form, to its support.
    rng : numpy.random.Generator
        Splits environments into support and query; "evidence" draws nothing.
    names : sequence of str
        Priors that are learned: ``WEIGHTS`` of the alternatives, or also their ``STRENGTHS``.
    basis : Basis, optional
        Features of the parents; the parents themselves where None.
    budget : Budget, optional
        When it expires, the priors learned so far are returned.

    Returns
    -------
    Priors
        Weights add up to one where they are learned. As given where the evidence gains less than Schwarz's criterion asks for:
        ½ log(E d) for each free number, with E environments that may have targets.

    Raises
    ------
    UnknownName
        If there is no such mode or prior.
    MissingDependency
        If torch is not installed.

    Notes
    -----
    L-BFGS on logarithms, with normal priors about the given ones (``PRIOR_SPREAD``), none further from it than
    ``LARGEST_CHANGE``. Gradients of the evidence pass through the last coordinate update alone; the other updates add less than
    one part in a thousand. An episode judges an environment as adaptation does, but against the shared mechanism of all other
    environments, each with the keep probability that it has under the given priors.
    """
    if mode not in MODES:
        raise UnknownName("mode of meta-learning", mode, MODES)
    for name in names:
        if name not in Priors.__slots__:
            raise UnknownName("prior", name, Priors.__slots__)
    try:
        import torch
    except ImportError as error:
        raise MissingDependency("meta-learning needs torch: pip install 'cadibench[torch]'") from error

    fixed, possible, _ = split_by_knowledge(observed)
    if not possible:
        return priors
    basis = Basis(observed.n_variables) if basis is None else basis
    parent_sets, shares = heaviest_parent_sets(graph_samples, weights)
    statistics = Statistics.of(possible, basis)
    regressions = Regressions.of(statistics, Statistics.of(fixed, basis), parent_sets)
    starts = torch.from_numpy(_starts(statistics, observed.n_variables, with_observational=regressions.fixed_n > 0))
    defaults = log_priors(priors)

    if mode == "evidence":

        def goal(values: Mapping[str, Tensor]) -> Tensor:
            return local_evidence(values, regressions, observed.n_variables, starts, n_differentiated=1)[0]
    else:
        with torch.no_grad(), one_thread():
            _, keep = local_evidence(defaults, regressions, observed.n_variables, starts)
        supports = [Statistics.of(environments, basis) for environments in draw_supports(possible, rng)]
        episodes = [(gram_tensor(s, parent_sets), torch.from_numpy(s.n_samples)) for s in supports]

        def goal(values: Mapping[str, Tensor]) -> Tensor:
            return _query_log_density(ClosedForms(values, regressions), episodes, keep)

    with one_thread():
        learned = _maximise(goal, torch.from_numpy(shares), defaults, names, Budget() if budget is None else budget)
        proposed = dataclasses.replace(priors, **learned)
        with torch.no_grad():
            before, after = (
                local_evidence(log_priors(p), regressions, observed.n_variables, starts)[0] for p in (priors, proposed)
            )
    gain = float(torch.from_numpy(shares) @ (after - before))
    n_free = len(names) - all(name in names for name in WEIGHTS)
    return proposed if gain > 0.5 * n_free * np.log(len(possible) * observed.n_variables) else priors


def heaviest_parent_sets(graph_samples: BoolArray, weights: FloatArray) -> tuple[list[tuple[int, IntArray]], FloatArray]:
    """(variable, parents) that count, and their shares among those, which add up to one for each variable."""
    first, others = [], []
    for i in range(graph_samples.shape[1]):
        distinct, of_sample = np.unique(graph_samples[:, :, i], axis=0, return_inverse=True)
        shares = np.bincount(of_sample.reshape(-1), weights, len(distinct))
        heaviest, *rest = ((float(shares[k]), i, np.flatnonzero(distinct[k])) for k in np.argsort(-shares, kind="stable"))
        first.append(heaviest)
        others.extend(rest)
    others.sort(key=lambda x: -x[0])
    chosen = first + others[: max(0, MOST_PARENT_SETS - len(first))]
    share, variable = np.array([x[0] for x in chosen]), np.array([x[1] for x in chosen])
    return [(i, parents) for _, i, parents in chosen], share / np.bincount(variable, share)[variable]


def draw_supports(environments: Sequence[Environment], rng: np.random.Generator) -> list[list[Environment]]:
    """Random supports of each environment, a list for each episode; one sample of it at least, none left for query then."""
    shuffled = [[rng.permutation(e.X) for e in environments] for _ in range(_EPISODES_PER_SIZE)]
    return [[Environment(X[: min(size, max(1, len(X) // 2))]) for X in of_all] for of_all in shuffled for size in SUPPORT_SIZES]


def _query_log_density(forms: ClosedForms, episodes: Sequence[tuple[Tensor, Tensor]], keep: Tensor) -> Tensor:
    """Sum over environments of log p(query | support), the mean over episodes, (B,).

    The mixture of target and no target has a closed form for any number of samples, and the predictive density is the ratio
    of two: log p(support and query) − log p(support).
    """
    import torch

    def log_density(grams: Tensor, n_samples: Tensor) -> Tensor:
        unchanged, changed = forms.log_densities(grams, n_samples, keep)
        return torch.logaddexp(unchanged + forms.log_no_target, changed + forms.log_target)

    of_all = log_density(forms.data.grams, forms.data.n_samples)
    of_supports = torch.stack([log_density(grams, n_samples) for grams, n_samples in episodes]).mean(dim=0)
    return (of_all - of_supports).sum(dim=1)


def _maximise(
    goal: Callable[[Mapping[str, Tensor]], Tensor],
    shares: Tensor,
    defaults: Mapping[str, Tensor],
    names: Sequence[str],
    budget: Budget,
) -> dict[str, float]:
    """Values of the named priors where shares · goal is largest, their own log prior added; the best met."""
    import torch

    best_loss, best = np.inf, np.zeros(len(names))
    n_steps = 0

    def priors(change: Tensor) -> dict[str, Tensor]:
        return {**defaults, **{name: defaults[name] + x for name, x in zip(names, change, strict=True)}}

    def loss(x: FloatArray) -> tuple[float, FloatArray]:
        nonlocal best_loss, best
        change = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        value = 0.5 * (change / PRIOR_SPREAD).square().sum() - shares @ goal(priors(change))
        (gradient,) = torch.autograd.grad(value, change)
        if not (value.isfinite() and gradient.isfinite().all()):
            return np.inf, np.zeros(len(names))
        if value.item() < best_loss:
            best_loss, best = value.item(), x.copy()
        return value.item(), gradient.numpy()

    def after_step(_: FloatArray) -> None:
        nonlocal n_steps
        n_steps += 1
        budget.progress(n_steps / _MOST_STEPS, "learning priors")
        if budget.expired:
            raise StopIteration

    optimize.minimize(
        loss,
        best,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-LARGEST_CHANGE, LARGEST_CHANGE)] * len(names),
        callback=after_step,
        options={"maxiter": _MOST_STEPS, "ftol": _SMALLEST_GAIN},
    )
    learned = priors(torch.from_numpy(best))
    values = {name: learned[name].exp().item() for name in names}
    if all(name in names for name in WEIGHTS):
        total = sum(values[name] for name in WEIGHTS)
        values.update({name: values[name] / total for name in WEIGHTS})
    return values
