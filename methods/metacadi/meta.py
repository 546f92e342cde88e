"""Meta-learning: what all environments share beyond the graph, which alternatives occur among their interventions.

Learned from the environments of the fit, it makes a new one of few samples easier to judge. Only the weights of the
alternatives are learned: their log densities stay what they are then, whatever the features, and the rest is a little convex
optimisation. That targets are rare, and the shared mechanism's own prior, are not learned: they would explain drift and misfit
as interventions. Nor is a graph, or a target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import optimize, special

from bench.errors import UnknownName
from bench.types import BoolArray, Environment, FloatArray, Observed
from methods.metacadi.evidence import MixtureEvidence
from methods.metacadi.model import (
    WEIGHTS,
    IntArray,
    Priors,
    log_alternatives,
    shared_posterior,
    split_by_knowledge,
    updated_log_evidence,
)

Mode = Literal["evidence", "episodic"]
MODES: tuple[Mode, ...] = ("evidence", "episodic")

PRIOR_SPREAD = 1.0
"""Standard deviation of the logarithm of a learned weight about its default: the say of about one intervention."""

MOST_PARENT_SETS = 100
"""That count, of all variables together; each variable's heaviest in any case."""

SUPPORT_SIZES = (3, 10)
"""Samples that an episode adapts to, at most half of an environment."""

_EPISODES_PER_SIZE = 2
_NEGLIGIBLE = 0.01
"""Probability below which a kind of features has no say."""


def learn_weights(
    evidence: MixtureEvidence,
    observed: Observed,
    graph_samples: BoolArray,
    weights: FloatArray,
    priors: Priors,
    *,
    mode: Mode,
    rng: np.random.Generator,
) -> Priors:
    """Priors with the weights of the alternatives that the environments suggest, given the graphs.

    Parameters
    ----------
    evidence : MixtureEvidence
        Under ``priors``, of ``observed``.
    observed : Observed
    graph_samples : bool (S, d, d)
    weights : float64 (S,)
        Normalised. Each variable's heaviest parent set counts, and the heaviest of all others up to ``MOST_PARENT_SETS``.
    priors : Priors
        Where learning starts, and to where a weak prior draws back.
    mode : {"evidence", "episodic"}
        Maximise the density of all environments (empirical Bayes); or that of each environment's query samples after
        adaptation, in closed form, to its support.
    rng : numpy.random.Generator
        Splits environments into support and query; "evidence" draws nothing.

    Returns
    -------
    Priors
        As given where the density of all environments gains less than Schwarz's criterion asks for: ½ log(E d) for each free
        weight, with E environments that may have targets. A mixture of all kinds stays at its default so.

    Raises
    ------
    UnknownName
        If there is no such mode.

    Notes
    -----
    Every environment is a mixture of no target and of a target under each alternative, against the shared mechanism of all
    other environments, which they join with the keep probabilities of the given priors. Logarithms of the weights have normal
    priors about the given ones (``PRIOR_SPREAD``).
    """
    if mode not in MODES:
        raise UnknownName("mode of meta-learning", mode, MODES)
    _, possible, places = split_by_knowledge(observed)
    allowed = priors.log_weights > np.log(1e-100)
    if not possible or allowed.sum() < 2:
        return priors
    supports = draw_supports(possible, rng) if mode == "episodic" else []
    shares, tables = _log_densities(evidence, [possible, *supports], places, *heaviest_parent_sets(graph_samples, weights))
    tables[:, :, 0] += np.log1p(-priors.target)
    tables[:, :, 1:] += np.log(priors.target)
    default = priors.log_weights

    def gain_of(log_weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log density of each table, shares summed, float64 (T,), and gradients, float64 (T, 5)."""
        normalised = special.log_softmax(log_weights)
        terms = tables + np.append(0.0, normalised)
        total = special.logsumexp(terms, axis=2)
        responsibility = np.exp(terms - total[:, :, None])
        of_target = responsibility[:, :, 1:]
        gradient = of_target - of_target.sum(axis=2, keepdims=True) * np.exp(normalised)
        return np.asarray(total @ shares), np.einsum("k,tka->ta", shares, gradient)

    def loss(change: FloatArray) -> tuple[float, FloatArray]:
        values, gradients = gain_of(default + change)
        signs = np.append(1.0, np.full(len(supports), -1.0 / max(1, len(supports))))
        penalty = 0.5 * float(change @ change) / PRIOR_SPREAD**2
        return penalty - float(signs @ values), change / PRIOR_SPREAD**2 - signs @ gradients

    start = np.zeros(len(default))
    bounds = [(None, None) if free else (0.0, 0.0) for free in allowed]
    log_weights = default + optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    gain = float(gain_of(log_weights)[0][0] - gain_of(default)[0][0])
    if gain <= 0.5 * (allowed.sum() - 1) * np.log(len(possible) * observed.n_variables):
        return priors
    learned = np.where(allowed, special.softmax(log_weights), 0.0)
    return dataclasses.replace(priors, **dict(zip(WEIGHTS, map(float, learned), strict=True)))


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


def _log_densities(
    evidence: MixtureEvidence,
    parts: Sequence[Sequence[Environment]],
    places: IntArray,
    parent_sets: Sequence[tuple[int, IntArray]],
    shares: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Log densities of parts of environments: as no target, and under each alternative.

    Parameters
    ----------
    parts : sequence of sequence of Environment
        T versions of the E environments that may have targets: all their samples, then some of them.
    places : int (E,)
        Where those stand among all environments.

    Returns
    -------
    shares : float64 (K,)
        Of environments, given parent sets and features; one for each of them that has a say.
    log_densities : float64 (T, K, 6)
    """
    summaries = [[component.features.summary(part) for part in parts] for component in evidence.components]
    found_shares, found = [], []
    for (i, members), share in zip(parent_sets, shares, strict=True):
        parents = np.isin(np.arange(evidence.n_variables), members)
        probability = evidence.weights(i, parents)
        for c in np.flatnonzero(probability > _NEGLIGIBLE):
            component = evidence.components[c]
            keep = 1.0 - component.target_probability(i, parents)[places]
            grams = np.stack([summary.regression(i, members) for summary in summaries[c]])
            n_samples = np.stack([summary.n_samples for summary in summaries[c]])
            shared = component.shared_mechanism(i, parents)
            # The shared mechanism of all other environments, for each.
            rest = shared_posterior(
                shared.gram - keep[:, None, None] * grams[0],
                shared.n_samples - keep * n_samples[0],
                component.priors,
                relative=shared.prior.precision / component.priors.slope_precision,
                n_parents=len(members),
            )
            table = np.empty((*n_samples.shape, 6))
            for of_part, part, n in zip(table, grams, n_samples, strict=True):
                of_part[:, 0] = updated_log_evidence(part, n, rest, component.priors)
                of_part[:, 1:] = log_alternatives(part, n, rest, component.priors).T
            found.append(table)
            found_shares.append(np.full(len(keep), share * probability[c] / probability[probability > _NEGLIGIBLE].sum()))
    return np.concatenate(found_shares), np.concatenate(found, axis=1)
