"""The local evidence s(i, parents): how well the parents explain variable i over all environments, targets unknown.

Whether i is a target is found by closed-form coordinate updates, environment by environment, against a shared mechanism that
each environment joins with its probability of not being a target. The score approximates the log evidence; because the
alternatives lean on the shared posterior, it is no bound.

A score costs the same for ten and for ten thousand samples. The formulas are those of ``model``, compiled in ``kernel``.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy import special

from bench.types import BoolArray, FloatArray, Observed
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.kernel import Data, one_score, toggle_scores
from methods.metacadi.lanes import HALF
from methods.metacadi.model import Posterior, Priors, log_mean_and_variance, shared_posterior, split_by_knowledge

COOLING = (1 / 8, 1 / 4, 1 / 2, 1.0, 1.0, 1.0, 1.0)
"""Inverse temperatures of the coordinate updates."""

_START_WITH_OBSERVATIONAL, _START_WITHOUT = 0.7, 0.9
_LOG_2_PI = float(np.log(2.0 * np.pi))


class LocalScores(Protocol):
    """What a search over graphs asks for."""

    n_variables: int

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """s(i, parents), and s(i, parents xor j) − s(i, parents) for each j, float64 (d,); −inf for j = i."""


class Evidence:
    """Local scores of one data set, memoised by variable and parent set.

    Parameters
    ----------
    observed : Observed
        Environments known to be observational have no targets; all others may have.
    priors : Priors
    basis : Basis, optional
        Features of the parents; the parents themselves where None.
    annealing : bool
        Start the coordinate updates hot.

    Notes
    -----
    Without an environment known to be observational the updates have local optima, so they start five times: from all
    environments, and from each quarter of them alone, which no intervention on the variable may have met; the best score
    counts. Quarters are every fourth by rank of the environments' mean squared length of a sample, which depends on no order
    of environments or variables.
    """

    def __init__(self, observed: Observed, priors: Priors, basis: Basis | None = None, *, annealing: bool = True) -> None:
        self.n_variables = observed.n_variables
        self.n_environments = observed.n_environments
        self.priors = priors
        self.basis = Basis(self.n_variables) if basis is None else basis
        fixed, possible, places = split_by_knowledge(observed)
        # By size, since terms that depend on it alone are then computed once for neighbours of one size.
        by_size = np.argsort([e.n_samples for e in possible], kind="stable")
        self._places = places[by_size]
        self._statistics = Statistics.of([possible[e] for e in by_size], self.basis)
        self._fixed = Statistics.of(fixed, self.basis)
        cooling = COOLING if annealing else (1.0,) * len(COOLING)
        self._data = _data(self._statistics, self._fixed, priors, np.array(cooling), self.n_variables)
        self._record = priors.record()
        self._rows: dict[tuple[int, bytes], tuple[float, FloatArray]] = {}
        self._kept: dict[tuple[int, bytes], FloatArray] = {}

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """Score and toggle gains; see :class:`LocalScores`."""
        key = i, parents.tobytes()
        row = self._rows.get(key)
        if row is None:
            scores = toggle_scores(self._data, self._record, i, np.flatnonzero(parents))
            own = float(scores[i])
            gains = scores - own
            gains[i] = -np.inf
            gains.setflags(write=False)
            row = self._rows[key] = own, gains
        return row

    def score(self, i: int, parents: BoolArray) -> float:
        """s(i, parents)."""
        return float(one_score(self._data, self._record, i, np.flatnonzero(parents))[0])

    def target_probability(self, i: int, parents: BoolArray) -> FloatArray:
        """Probability that i is a target in each environment given its parents, float64 (E,)."""
        probability = np.zeros(self.n_environments)
        probability[self._places] = 1.0 - self._keep_probability(i, parents)
        return probability

    def shared_mechanism(self, i: int, parents: BoolArray) -> Posterior:
        """Posterior of the shared mechanism of i given its parents, each environment weighted as the score weighs it."""
        members = np.flatnonzero(parents)
        keep = self._keep_probability(i, parents)
        gram = self._fixed.regression(i, members).sum(axis=0)
        gram = gram + np.einsum("e,eab->ab", keep, self._statistics.regression(i, members))
        n_samples = float(self._fixed.n_samples.sum() + keep @ self._statistics.n_samples)
        relative = self._fixed.relative_precision(members)
        return shared_posterior(gram, n_samples, self.priors, relative=relative, n_parents=len(members))

    def _keep_probability(self, i: int, parents: BoolArray) -> FloatArray:
        key = i, parents.tobytes()
        if key not in self._kept:
            keep = one_score(self._data, self._record, i, np.flatnonzero(parents))[1]
            self._kept[key] = keep[len(keep) - self._statistics.n_environments :]
        return self._kept[key]


def _data(statistics: Statistics, fixed: Statistics, priors: Priors, cooling: FloatArray, n_variables: int) -> Data:
    """What the compiled code reads; environments in pairs, the first of an odd number beside one without samples: no effect."""
    n_environments = statistics.n_environments
    padding = n_environments % 2
    gram = np.concatenate([np.zeros((*statistics.gram.shape[:2], padding)), statistics.gram], axis=2)
    n = np.append(np.zeros(padding), statistics.n_samples)
    half_n = 0.5 * n
    shift_share, scale_share = 1.0 / (priors.shift_strength + n), 1.0 / (priors.scale_strength + n)
    of_size = [
        half_n,
        shift_share,
        0.5 * np.log(priors.shift_strength * shift_share),
        scale_share,
        0.5 * np.log(priors.scale_strength * scale_share),
        special.gammaln(priors.fresh_shape + half_n) - special.gammaln(priors.fresh_shape),
    ]
    variables = np.arange(n_variables)
    hard = log_mean_and_variance(
        gram[variables, variables],
        gram[variables, -1],
        n,
        priors.hard_strength,
        priors.hard_shape,
        priors.hard_rate,
    )
    fixed_n = float(fixed.n_samples.sum())
    starts = _starts(statistics, n_variables, with_observational=fixed_n > 0)
    return Data(
        gram=gram,
        fixed_gram=fixed.gram.sum(axis=2),
        relative=statistics.basis.relative,
        own=statistics.basis.own,
        pairs=statistics.basis.pairs,
        fixed_n=fixed_n,
        constant=-0.5 * _LOG_2_PI * (fixed_n + float(n.sum())),
        of_size=np.stack([_as_lanes(x) for x in of_size]),
        hard=_as_lanes(hard + half_n * _LOG_2_PI),
        starts=_as_lanes(np.pad(starts, ((0, 0), (padding, 0)))),
        cooling=cooling,
        log_weights=tuple(map(float, priors.log_weights)),
    )


def _as_lanes(values: FloatArray) -> FloatArray:
    """Values of environments, float64 (..., E), each eight times: pair k of environments is value k of lanes."""
    return np.repeat(values, HALF, axis=-1)


def _starts(statistics: Statistics, n_variables: int, *, with_observational: bool) -> FloatArray:
    """First guesses that an environment follows the shared mechanism, float64 (n_starts, E)."""
    n_environments = statistics.n_environments
    if with_observational:
        return np.full((1, n_environments), _START_WITH_OBSERVATIONAL)
    squared_length = np.einsum("aae->e", statistics.gram[:n_variables, :n_variables]) / statistics.n_samples
    rank = np.argsort(np.argsort(squared_length, kind="stable"), kind="stable")
    quarters = [rank % 4 == k for k in range(min(4, n_environments))]
    return np.array([np.full(n_environments, _START_WITHOUT), *(np.where(q, _START_WITHOUT, 0.0) for q in quarters)])
