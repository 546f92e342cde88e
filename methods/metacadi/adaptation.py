"""What follows from a posterior over graphs in closed form: targets, few-shot adaptation, density.

Every answer averages over the parent sets that the sampled graphs give a variable, and over kinds of features. A new
environment needs no optimisation: its evidence under the shared mechanism, and under the alternatives, are closed forms, from
one sample up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from bench.logistic import logistic
from bench.types import BoolArray, Environment, FloatArray
from methods.metacadi.evidence import Features, MixtureEvidence
from methods.metacadi.model import IntArray, Posterior, Priors, log_of_target, log_sum, updated_log_evidence
from methods.metacadi.parent_sets import ParentSets, distinct_parent_sets
from methods.metacadi.targets import OfParentSets, averaged_targets

NEGLIGIBLE = 1e-4
"""Posterior probability of a kind of features below which a mechanism does without it."""


@dataclass(frozen=True, slots=True, eq=False)
class SharedMechanism:
    """One variable given one parent set and one kind of features.

    Parameters
    ----------
    parents : int (p,)
    component : int
        Which kind of features.
    weight : float
        Its probability given the parent set.
    posterior : Posterior
    """

    parents: IntArray
    component: int
    weight: float
    posterior: Posterior


@dataclass(frozen=True, slots=True, eq=False)
class Mechanisms:
    """Shared mechanisms of one variable, for each distinct parent set among S graph samples.

    Parameters
    ----------
    variable : int
    of_parent_set : tuple of tuple of SharedMechanism
        One or several, of different features, for each of m parent sets.
    of_sample : int (S,)
        Which parent set each sample has.
    keep_probability : float64 (m, E)
        That the variable is no target in the environments of the fit, given each parent set and averaged over features.
    """

    variable: int
    of_parent_set: tuple[tuple[SharedMechanism, ...], ...]
    of_sample: IntArray
    keep_probability: FloatArray


def sampled_mechanisms(evidence: MixtureEvidence, graph_samples: BoolArray) -> tuple[Mechanisms, ...]:
    """Collect what the sampled graphs say of each variable.

    Parameters
    ----------
    evidence : MixtureEvidence
    graph_samples : bool (S, d, d)
    """
    of_variable = distinct_parent_sets(graph_samples)
    variables = np.repeat(np.arange(len(of_variable)), [len(p.sets) for p in of_variable])
    evidence.scores(variables, np.concatenate([p.sets for p in of_variable]))  # all together, for a fraction of the price
    return tuple(_mechanisms(evidence, i, parents) for i, parents in enumerate(of_variable))


def _mechanisms(evidence: MixtureEvidence, i: int, parents: ParentSets) -> Mechanisms:
    of_parent_set = []
    for p in parents.sets:
        probability = evidence.weights(i, p)
        kept = np.flatnonzero(probability > NEGLIGIBLE)
        probability = probability / probability[kept].sum()
        components = [(int(c), evidence.components[c], float(probability[c])) for c in kept]
        of_parent_set.append(
            tuple(SharedMechanism(np.flatnonzero(p), c, weight, e.shared_mechanism(i, p)) for c, e, weight in components)
        )
    keep = np.stack([evidence.keep_probability(i, p) for p in parents.sets])
    return Mechanisms(i, tuple(of_parent_set), parents.of_sample, keep)


LogOdds = Callable[[FloatArray, FloatArray, Posterior, Priors], FloatArray]
"""Of environments as targets, the prior left out: of (Gram matrices, samples, shared mechanism, priors), float64 (E,)."""


def log_odds_in_closed_form(grams: FloatArray, n_samples: FloatArray, shared: Posterior, priors: Priors) -> FloatArray:
    """With S what the shared mechanism has seen: log p(new | a target, S) − log p(new | S)."""
    unchanged = updated_log_evidence(grams, n_samples, shared, priors)
    return log_of_target(grams, n_samples, shared, priors) - unchanged


def adapted_targets(
    mechanisms: Sequence[Mechanisms],
    features: Sequence[Features],
    environments: Sequence[Environment],
    priors: Priors,
    weights: FloatArray,
    log_odds: LogOdds = log_odds_in_closed_form,
) -> FloatArray:
    """Target probabilities in new environments, averaged over graph samples and kinds of features, float64 (E, d).

    Parameters
    ----------
    mechanisms, features
        Of the fit.
    environments : sequence of Environment
        Those known to be interventional have at least one target.
    priors : Priors
    weights : float64 (S,)
        Of graph samples, normalised.
    log_odds : callable
        How an environment is judged.
    """
    summaries = [f.summary(environments) for f in features]
    probability = []
    for m in mechanisms:
        values = np.zeros((len(m.of_parent_set), len(environments)))
        for of_set, value in zip(m.of_parent_set, values, strict=True):
            for mechanism in of_set:
                summary = summaries[mechanism.component]
                grams = summary.regression(m.variable, mechanism.parents)
                odds = log_odds(grams, summary.n_samples, mechanism.posterior, priors)
                value += mechanism.weight * logistic(odds + special.logit(priors.target))
        probability.append(OfParentSets(values, m.of_sample))
    return averaged_targets(probability, weights, known_interventional(environments))


def known_interventional(environments: Sequence[Environment]) -> BoolArray:
    """Environments with at least one target, bool (E,)."""
    return np.array([e.is_observational is False for e in environments])


def log_density(mechanisms: Sequence[Mechanisms], features: Sequence[Features], X: FloatArray) -> FloatArray:
    """Posterior predictive log density of each variable given its parents under the shared mechanism, float64 (S, n, d).

    A Student t with 2 · shape degrees of freedom for every sample alone, or a mixture of them over kinds of features.
    """
    density = np.empty((len(mechanisms[0].of_sample), *X.shape))
    for m in mechanisms:
        of_set = [_mixture_of_student_t(m.variable, mechanisms_of_set, features, X) for mechanisms_of_set in m.of_parent_set]
        density[:, :, m.variable] = np.stack(of_set)[m.of_sample]
    return density


def _mixture_of_student_t(
    i: int, mechanisms: Sequence[SharedMechanism], features: Sequence[Features], X: FloatArray
) -> FloatArray:
    of_component = [
        np.log(m.weight) + _student_t(features[m.component].design(i, m.parents, X), X[:, i], m.posterior) for m in mechanisms
    ]
    return log_sum(of_component)


def _student_t(features: FloatArray, response: FloatArray, shared: Posterior) -> FloatArray:
    freedom = 2.0 * shared.shape
    spread = 1.0 + np.einsum("na,ab,nb->n", features, shared.covariance, features)
    variance = shared.rate / shared.shape * spread
    z = (response - features @ shared.mean) ** 2 / (freedom * variance)
    constant = special.gammaln(shared.shape + 0.5) - special.gammaln(shared.shape) - 0.5 * np.log(np.pi * freedom)
    return np.asarray(constant - 0.5 * np.log(variance) - (shared.shape + 0.5) * np.log1p(z))
