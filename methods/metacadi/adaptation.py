"""What follows from a posterior over graphs in closed form: targets, few-shot adaptation, density.

Every answer averages over the parent sets that the sampled graphs give a variable. A new environment needs no optimisation: its
evidence under the shared mechanism, and under the alternatives, are closed forms, from one sample up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from bench.types import BoolArray, FloatArray
from methods.metacadi.evidence import Evidence
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.model import (
    IntArray,
    Posterior,
    Priors,
    log_alternatives,
    log_mixture,
    updated_log_evidence,
)


@dataclass(frozen=True, slots=True, eq=False)
class Mechanisms:
    """Shared mechanisms of one variable, one for each distinct parent set among S graph samples.

    Parameters
    ----------
    variable : int
    parents : tuple of int (p,)
        Of each of m parent sets.
    weights : float64 (m,)
        Their shares of the samples.
    of_sample : int (S,)
        Which of them each sample has.
    posteriors : tuple of Posterior
    target_probability : float64 (E,)
        In the environments of the fit, averaged.
    """

    variable: int
    parents: tuple[IntArray, ...]
    weights: FloatArray
    of_sample: IntArray
    posteriors: tuple[Posterior, ...]
    target_probability: FloatArray


def sampled_mechanisms(evidence: Evidence, graph_samples: BoolArray, weights: FloatArray) -> tuple[Mechanisms, ...]:
    """Collect what the sampled graphs say of each variable.

    Parameters
    ----------
    evidence : Evidence
    graph_samples : bool (S, d, d)
    weights : float64 (S,)
        Normalised.
    """
    return tuple(_mechanisms(evidence, i, graph_samples[:, :, i], weights) for i in range(evidence.n_variables))


def _mechanisms(evidence: Evidence, i: int, parents: BoolArray, weights: FloatArray) -> Mechanisms:
    distinct, of_sample = np.unique(parents, axis=0, return_inverse=True)
    of_sample = of_sample.reshape(-1)
    shares = np.bincount(of_sample, weights, len(distinct))
    targets = shares @ np.stack([evidence.target_probability(i, p) for p in distinct])
    return Mechanisms(
        variable=i,
        parents=tuple(np.flatnonzero(p) for p in distinct),
        weights=shares,
        of_sample=of_sample,
        posteriors=tuple(evidence.shared_mechanism(i, p) for p in distinct),
        target_probability=np.clip(targets, 0.0, 1.0),
    )


def adapted_targets(mechanisms: Sequence[Mechanisms], new: Statistics, priors: Priors) -> FloatArray:
    """Target probabilities in new environments, float64 (E, d).

    With S what the shared mechanism has seen: sigmoid(log p(new | alternatives, S) − log p(new | S) + logit π), averaged over
    parent sets.
    """
    probability = np.zeros((new.n_environments, len(mechanisms)))
    for m in mechanisms:
        for parents, weight, shared in zip(m.parents, m.weights, m.posteriors, strict=True):
            grams = new.regression(m.variable, parents)
            unchanged = updated_log_evidence(grams, new.n_samples, shared)
            changed = log_mixture(log_alternatives(grams, new.n_samples, shared, priors), priors)
            probability[:, m.variable] += weight * special.expit(changed - unchanged + special.logit(priors.target))
    return np.clip(probability, 0.0, 1.0)


def log_density(mechanisms: Sequence[Mechanisms], X: FloatArray, basis: Basis) -> FloatArray:
    """Posterior predictive log density of each variable given its parents under the shared mechanism, float64 (S, n, d).

    A Student t with 2 · shape degrees of freedom for every sample alone.
    """
    density = np.empty((len(mechanisms[0].of_sample), *X.shape))
    columns = basis.expand(X)
    for m in mechanisms:
        of_set = [
            _student_t(columns[:, np.append(columns.shape[1] - 1, basis.columns(parents))], X[:, m.variable], shared)
            for parents, shared in zip(m.parents, m.posteriors, strict=True)
        ]
        density[:, :, m.variable] = np.stack(of_set)[m.of_sample]
    return density


def _student_t(features: FloatArray, response: FloatArray, shared: Posterior) -> FloatArray:
    freedom = 2.0 * shared.shape
    spread = 1.0 + np.einsum("na,ab,nb->n", features, shared.covariance, features)
    variance = shared.rate / shared.shape * spread
    z = (response - features @ shared.mean) ** 2 / (freedom * variance)
    constant = special.gammaln(shared.shape + 0.5) - special.gammaln(shared.shape) - 0.5 * np.log(np.pi * freedom)
    return np.asarray(constant - 0.5 * np.log(variance) - (shared.shape + 0.5) * np.log1p(z))
