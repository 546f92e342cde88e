"""Meta-learning: what all environments share beyond the graph, which alternatives occur among their interventions.

Learned from the environments of the fit, it makes a new one of few samples easier to judge. Only the weights of the
alternatives are learned, or that most targets are shifted by about a unit, down, up or both: log densities stay what they are
then, whatever the features, and the rest is a little optimisation. A graph is not learned here, nor a target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize, special

from bench.errors import UnknownName
from bench.types import BoolArray, Environment, FloatArray, Observed
from methods.metacadi.adaptation import Mechanisms, known_interventional, log_odds_in_closed_form
from methods.metacadi.evidence import MixtureEvidence, Summary
from methods.metacadi.model import (
    ALTERNATIVES,
    IntArray,
    Posterior,
    Priors,
    log_alternatives,
    log_sum,
    log_unit_shift,
    log_with_shifts,
    shared_posterior,
    split_by_knowledge,
    updated_log_evidence,
)
from methods.metacadi.parent_sets import distinct_parent_sets
from methods.metacadi.targets import OfParentSets, given_a_target, share_with_a_target

Mode = Literal["evidence", "episodic"]
MODES: tuple[Mode, ...] = ("evidence", "episodic")

UNIT_SHIFTS = ((0.8, 0.0), (0.0, 0.8), (0.4, 0.4))
"""Shares of targets that are shifted by one unit of the typical environment, down and up, where most are; or neither."""

LIKELY_UNIT_SHIFTS = 0.1
"""Prior probability of them, all together."""

MECHANISM_DRIFTS = (0.01, 0.03, 0.1, 0.3)
"""From hardly any to half of the noise's deviation."""

PRIOR_SPREAD = 1.0
"""Standard deviation of the logarithm of a learned weight about its default: the say of about one intervention."""

MOST_PARENT_SETS = 100
"""That count, of all variables together; each variable's heaviest in any case."""

SUPPORT_SIZES = (3, 10)
"""Samples that an episode adapts to, at most half of an environment."""

_EPISODES_PER_SIZE = 2
_NEGLIGIBLE = 0.01
"""Probability below which a kind of features has no say."""


def learn_alternatives(
    evidence: MixtureEvidence,
    observed: Observed,
    graph_samples: BoolArray,
    weights: FloatArray,
    priors: Priors,
    *,
    mode: Mode,
    rng: np.random.Generator,
) -> Priors:
    """Priors with what the environments suggest of their interventions, given the graphs.

    Parameters
    ----------
    evidence : MixtureEvidence
        Under ``priors``, or others that differ in the probability of a target, of ``observed``.
    observed : Observed
        Environments known to be interventional have at least one target.
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
        With other weights of the alternatives; or with ``UNIT_SHIFTS``; or as given. Weights must raise the density of all
        environments by what Schwarz's criterion asks for: ½ log(E d) for each free weight, with E environments that may have
        targets; unit shifts by what they are less likely a priori, and by more than weights do. A mixture of all kinds stays at
        its default so.

    Raises
    ------
    UnknownName
        If there is no such mode.

    Notes
    -----
    Every environment is a mixture of no target and of a target under each alternative, against the shared mechanism of all
    other environments, which they join with the keep probabilities of the given evidence. Logarithms of the weights have normal
    priors about the given ones (``PRIOR_SPREAD``).
    """
    if mode not in MODES:
        raise UnknownName("mode of meta-learning", mode, MODES)
    _, possible, places = split_by_knowledge(observed)
    allowed = priors.log_weights > np.log(1e-100)
    if not possible or allowed.sum() < 2:
        return priors
    supports = draw_supports(possible, rng) if mode == "episodic" else []
    densities = _log_densities(evidence, [possible, *supports], places, *heaviest_parent_sets(graph_samples, weights), priors)
    default = priors.log_weights
    of_default = float(densities.under_weights(default)[0][0])
    learned = densities.best_weights(default, allowed)
    n_choices = len(possible) * observed.n_variables
    gains = {priors: 0.0}
    gains[priors.with_weights(np.where(allowed, special.softmax(learned), 0.0))] = (
        float(densities.under_weights(learned)[0][0]) - of_default - 0.5 * (allowed.sum() - 1) * np.log(n_choices)
    )
    if priors.shift_weight > 0.0:
        for down, up in UNIT_SHIFTS:
            gain = densities.under_unit_shifts(default, down, up) - of_default
            gains[dataclasses.replace(priors, down=down, up=up)] = gain + np.log(LIKELY_UNIT_SHIFTS / len(UNIT_SHIFTS))
    return max(gains, key=lambda candidate: gains[candidate])


def with_chosen_drift(
    evidence: MixtureEvidence, observed: Observed, graph: BoolArray, priors: Priors, rates: Sequence[float]
) -> Priors:
    """Priors with the drift of mechanisms under which the environments are most likely, given a graph, bool (d, d).

    Real mechanisms differ a little in every environment, and with hundreds of samples an exact test calls everything a target.
    A drift has to gain log(E d), for E environments of d mechanisms that might drift.

    Parameters
    ----------
    evidence, observed, priors
        As in :func:`learn_alternatives`.
    graph : bool (d, d)
    rates : sequence of float
        Of targets, the best of which counts for each drift.
    """
    _, possible, places = split_by_knowledge(observed)
    if not possible:
        return priors
    d = observed.n_variables
    # Those of least noise stand for all, where there are many.
    judged = np.argsort(-evidence.scores(np.arange(d), graph.T), kind="stable")[:MOST_PARENT_SETS]
    parent_sets, shares = [(int(i), np.flatnonzero(graph[:, i])) for i in judged], np.full(len(judged), d / len(judged))

    def log_density(drift: float) -> float:
        drifting = dataclasses.replace(priors, mechanism_drift=drift)
        densities = _log_densities(evidence, [possible], places, parent_sets, shares, drifting, unit_shifts=False)
        return densities.of_all(rates)

    best, value = 0.0, log_density(0.0) + np.log(len(possible) * d)
    for drift in MECHANISM_DRIFTS:
        if (drifting := log_density(drift)) <= value:
            break
        best, value = drift, drifting
    return dataclasses.replace(priors, mechanism_drift=best)


def heaviest_parent_sets(graph_samples: BoolArray, weights: FloatArray) -> tuple[list[tuple[int, IntArray]], FloatArray]:
    """(variable, parents) that count, and their shares among those, which add up to one for each variable."""
    first, others = [], []
    for i, of_variable in enumerate(distinct_parent_sets(graph_samples)):
        shares = of_variable.shares(weights)
        by_share = np.argsort(-shares, kind="stable")
        heaviest, *rest = ((float(shares[k]), i, np.flatnonzero(of_variable.sets[k])) for k in by_share)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Densities:
    """Log densities of T versions of E environments for B variables given parent sets and features.

    Parameters
    ----------
    unchanged : float64 (T, B, E)
        Without a target.
    changed : float64 (T, B, E, 5)
        Relative to that: under each alternative.
    by_units : float64 (T, B, E, 2)
        Relative to that: shifted by a unit down and up; empty if it was not asked for.
    shares : float64 (B,)
        Of parent sets and features; they add up to one for each variable.
    interventional : bool (E,)
        Environments with at least one target.
    priors : Priors
    n_variables : int
    """

    unchanged: FloatArray
    changed: FloatArray
    by_units: FloatArray
    shares: FloatArray
    interventional: BoolArray
    priors: Priors
    n_variables: int

    def of_all(self, rates: Sequence[float]) -> float:
        """Log density of the first version, absolute, with targets at the best of other rates."""
        odds = _log_sum_of_last(self.changed[:1] + self.priors.log_weights)
        best = max(float(self._of_odds(odds, rate)[0][0]) for rate in rates)
        return float(self.shares @ self.unchanged[0].sum(axis=1)) + best

    def under_weights(self, log_weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log density of each version, float64 (T,), and its gradient, float64 (T, 5)."""
        normalised = special.log_softmax(log_weights)
        of_kinds = self.changed + normalised
        odds = _log_sum_of_last(of_kinds)
        value, slope = self._of_odds(odds, self.priors.target)
        of_target = np.einsum("tbe,tbea->ta", slope, np.exp(of_kinds - odds[..., None]))
        return value, of_target - of_target.sum(axis=1, keepdims=True) * np.exp(normalised)

    def under_unit_shifts(self, log_weights: FloatArray, down: float, up: float) -> float:
        """Log density of the first version with such shares of unit shifts."""
        of_any_kind = _log_sum_of_last(self.changed[:1] + log_weights)
        by_down, by_up = self.by_units[:1, ..., 0], self.by_units[:1, ..., 1]
        odds = log_with_shifts(of_any_kind, by_down, by_up, down, up)
        return float(self._of_odds(odds, self.priors.target)[0][0])

    def best_weights(self, default: FloatArray, free: BoolArray) -> FloatArray:
        """Log weights that maximise the density, or the mean density of query samples given supports."""
        signs = np.append(1.0, np.full(len(self.changed) - 1, -1.0 / max(1, len(self.changed) - 1)))

        def loss(change: FloatArray) -> tuple[float, FloatArray]:
            values, gradients = self.under_weights(default + change)
            penalty = 0.5 * float(change @ change) / PRIOR_SPREAD**2
            return penalty - float(signs @ values), change / PRIOR_SPREAD**2 - signs @ gradients

        bounds = [(None, None) if f else (0.0, 0.0) for f in free]
        change = optimize.minimize(loss, np.zeros(len(default)), jac=True, method="L-BFGS-B", bounds=bounds).x
        return np.asarray(default + change)

    def _of_odds(self, odds: FloatArray, rate: float) -> tuple[FloatArray, FloatArray]:
        """Log density given log odds of targets, float64 (T, B, E); float64 (T,), and its gradient (T, B, E)."""
        mixed = np.logaddexp(np.log1p(-rate), np.log(rate) + odds)
        total = np.einsum("b,tbe->te", self.shares, mixed)
        slope = self.shares[:, None] * special.expit(odds + special.logit(rate))
        known = self.interventional
        slope[..., known] /= share_with_a_target(total[:, None, known], rate, self.n_variables)
        total[:, known] = given_a_target(total[:, known], rate, self.n_variables)
        return total.sum(axis=1), slope


def _log_densities(
    evidence: MixtureEvidence,
    parts: Sequence[Sequence[Environment]],
    places: IntArray,
    parent_sets: Sequence[tuple[int, IntArray]],
    shares: FloatArray,
    priors: Priors,
    *,
    unit_shifts: bool = True,
) -> _Densities:
    """Of parts of environments, all their samples first, which stand at ``places`` (E,) among all environments."""
    summaries = [[component.features.summary(part) for part in parts] for component in evidence.components]
    # Mechanisms of equal priors are judged side by side: each of them alone is too little work for arrays.
    alike: dict[tuple[int, int, bytes], list[_Mechanism]] = {}
    for (i, members), share in zip(parent_sets, shares, strict=True):
        parents = np.isin(np.arange(evidence.n_variables), members)
        probability = evidence.weights(i, parents)
        counting = probability > _NEGLIGIBLE
        for c in np.flatnonzero(counting):
            component = evidence.components[c]
            shared = component.shared_mechanism(i, parents)
            keep = component.keep_probability(i, parents)[places]
            mechanism = _Mechanism(i, members, shared, keep, share * probability[c] / probability[counting].sum())
            alike.setdefault((int(c), len(members), shared.prior.precision.tobytes()), []).append(mechanism)
    of_groups = [
        _of_group(group, summaries[c], evidence.components[c].priors, priors, unit_shifts=unit_shifts)
        for (c, *_), group in alike.items()
    ]
    tables, interventional = np.concatenate(of_groups, axis=1), known_interventional(parts[0])
    unchanged, changed = tables[..., 0], tables[..., 1:] - tables[..., :1]
    found_shares = np.array([mechanism.share for group in alike.values() for mechanism in group])
    n_kinds = len(ALTERNATIVES)
    of_kinds, by_units = changed[..., :n_kinds], changed[..., n_kinds:]
    return _Densities(unchanged, of_kinds, by_units, found_shares, interventional, priors, evidence.n_variables)


def _log_sum_of_last(terms: FloatArray) -> FloatArray:
    """log Σ exp over the last axis, where some term is finite."""
    top = terms.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(terms - top).sum(axis=-1)) + top[..., 0])


class _Mechanism(NamedTuple):
    """A variable given parents under one kind of features: its shared mechanism, who joined it, (E,), and what it counts."""

    variable: int
    parents: IntArray
    shared: Posterior
    keep: FloatArray
    share: float


def _of_group(
    group: Sequence[_Mechanism], summaries: Sequence[Summary], own: Priors, priors: Priors, *, unit_shifts: bool
) -> FloatArray:
    """Of B mechanisms that have one prior, float64 (T, B, E, 1 + 5 + 2): without a target, under each alternative, shifted.

    The last two only if they are asked for.
    """
    grams = np.stack([[summary.regression(m.variable, m.parents) for m in group] for summary in summaries])
    n_samples = np.stack([summary.n_samples for summary in summaries])
    keep = np.stack([m.keep for m in group])
    first = group[0].shared
    shared = dataclasses.replace(
        first,
        gram=np.stack([m.shared.gram for m in group])[:, None],
        n_samples=np.array([[m.shared.n_samples] for m in group]),
    )
    rest = all_others(shared, keep, grams[0], n_samples[0], own)
    directions, n_first = (-1.0, 1.0) if unit_shifts else (), 1 + len(ALTERNATIVES)
    table = np.empty((*grams.shape[:3], n_first + len(directions)))
    for of_part, part, n in zip(table, grams, n_samples, strict=True):
        of_part[..., 0] = updated_log_evidence(part, n, rest, priors)
        of_part[..., 1:n_first] = np.moveaxis(log_alternatives(part, n, rest, priors), 0, -1)
        for k, direction in enumerate(directions, n_first):
            of_part[..., k] = log_unit_shift(part, n, rest, priors, direction)
    return table


def all_others(shared: Posterior, keep: FloatArray, grams: FloatArray, n_samples: FloatArray, priors: Priors) -> Posterior:
    """The shared mechanism without each environment in turn, which joined with ``keep`` probability, (..., E)."""
    return shared_posterior(
        shared.gram - keep[..., None, None] * grams,
        shared.n_samples - keep * n_samples,
        priors,
        relative=shared.prior.precision / priors.slope_precision,
        n_parents=round(2.0 * (shared.prior.shape - priors.shape)),
    )


def log_odds_in_fit(
    evidence: MixtureEvidence, observed: Observed, mechanisms: Sequence[Mechanisms], priors: Priors
) -> list[OfParentSets]:
    """Log odds of every variable as a target in the environments of the fit, −inf where it cannot be one.

    Compiled code gives them where nothing drifts and there are no unit shifts.
    """
    _, possible, places = split_by_knowledge(observed)
    summaries = [component.features.summary(possible) for component in evidence.components]
    found = []
    for m in mechanisms:
        log_odds = np.full((len(m.of_parent_set), observed.n_environments), -np.inf)
        for of_set, row in zip(m.of_parent_set, log_odds, strict=True):
            of_features = []
            for mechanism in of_set:
                component, summary = evidence.components[mechanism.component], summaries[mechanism.component]
                parents = np.isin(np.arange(observed.n_variables), mechanism.parents)
                grams = summary.regression(m.variable, mechanism.parents)
                keep = component.keep_probability(m.variable, parents)[places]
                rest = all_others(mechanism.posterior, keep, grams, summary.n_samples, component.priors)
                odds = log_odds_in_closed_form(grams, summary.n_samples, rest, priors)
                of_features.append(np.log(mechanism.weight) + odds)
            row[places] = log_sum(of_features)
        found.append(OfParentSets(log_odds, m.of_sample))
    return found
