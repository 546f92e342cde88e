"""Targets given graphs: where somebody is known to have intervened, something is a target.

The local evidence takes variables one by one, and a target is as likely a priori wherever it looks. All variables together know
more: an environment that is known to be interventional has a target, however little any one of them shows of it. That makes
environments comparable, those of weak effects and few samples most of all, and says how rare targets are beyond the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from bench.types import BoolArray, FloatArray
from methods.metacadi.model import IntArray

_LEAST, _LEAST_SHARE = 1e-300, 1e-15


@dataclass(frozen=True, slots=True, eq=False)
class OfParentSets:
    """A number for each environment that one variable has given each of its parent sets.

    Parameters
    ----------
    values : float64 (m, E)
    of_sample : int (S,)
        Which of the m distinct parent sets each graph sample has.
    """

    values: FloatArray
    of_sample: IntArray

    def of_samples(self) -> FloatArray:
        """float64 (S, E), or (1, E) where all samples agree."""
        return self.values if len(self.values) == 1 else self.values[self.of_sample]


def averaged_targets(probability: Sequence[OfParentSets], weights: FloatArray, interventional: BoolArray) -> FloatArray:
    """Probability of each variable to be a target, averaged over graph samples, float64 (E, d).

    Parameters
    ----------
    probability : sequence of OfParentSets
        Of each of d variables to be a target, a priori independent of all others.
    weights : float64 (S,)
        Of graph samples, normalised.
    interventional : bool (E,)
        Environments that have at least one target.

    Notes
    -----
    Given a graph, P(i is a target | there is one) = p_i / (1 − Π_j (1 − p_j)).
    """
    log_none = np.zeros((len(weights), len(interventional)))
    for p in probability:
        log_none += OfParentSets(np.log1p(-np.minimum(p.values, 1.0 - _LEAST_SHARE)), p.of_sample).of_samples()
    some = np.where(interventional, np.maximum(-np.expm1(log_none), _LEAST), 1.0)
    shares = weights[:, None] / some
    averaged = np.empty((len(interventional), len(probability)))
    for i, p in enumerate(probability):
        of_set = shares.sum(axis=0)[None]
        if len(p.values) > 1:
            of_set = np.stack([shares[p.of_sample == k].sum(axis=0) for k in range(len(p.values))])
        averaged[:, i] = (p.values * of_set).sum(axis=0)
    return np.clip(averaged, 0.0, 1.0)


def chosen_rate(
    log_odds: Sequence[OfParentSets], weights: FloatArray, interventional: BoolArray, rates: Sequence[float]
) -> float:
    """The prior probability of a target under which the environments are most likely.

    Parameters
    ----------
    log_odds : sequence of OfParentSets
        Log density of each environment with the variable as a target, less that without.
    weights, interventional
        As in :func:`averaged_targets`.
    rates : sequence of float
        To choose from.
    """

    def log_evidence(rate: float) -> float:
        total = np.zeros((len(weights), len(interventional)))
        for odds in log_odds:
            total += OfParentSets(np.logaddexp(np.log1p(-rate), np.log(rate) + odds.values), odds.of_sample).of_samples()
        total[:, interventional] = given_a_target(total[:, interventional], rate, len(log_odds))
        return float(weights @ total.sum(axis=1))

    return max(rates, key=log_evidence)


def given_a_target(log_density: FloatArray, rate: float, n_variables: int) -> FloatArray:
    """Log density of environments that have at least one target, of the same shape as that without the condition.

    Both are relative to the density without a target: ``log_density`` is Σ_i log(1 − π + π exp(l_i)), with l_i the log odds
    of the data, and the answer log(exp(log_density) − (1 − π)^d) − log(1 − (1 − π)^d).
    """
    share, prior_share = share_with_a_target(log_density, rate, n_variables), -np.expm1(n_variables * np.log1p(-rate))
    return np.asarray(log_density + np.log(share) - np.log(prior_share))


def share_with_a_target(log_density: FloatArray, rate: float, n_variables: int) -> FloatArray:
    """Posterior probability that environments have a target, arguments and shape as of :func:`given_a_target`."""
    # Rounding may leave nothing above the density without a target.
    return np.asarray(-np.expm1(np.minimum(n_variables * np.log1p(-rate) - log_density, -_LEAST_SHARE)))


def log_odds_of(keep: FloatArray, rate: float) -> FloatArray:
    """What the data say of a target, whose prior probability was ``rate``: log odds from the probability that it is none.

    Of the same shape; −inf for 1.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.log1p(-keep) - np.log(np.maximum(keep, _LEAST)) - special.logit(rate))
