"""The local evidence s(i, parents): how well the parents explain variable i over all environments, targets unknown.

Whether i is a target is found by closed-form coordinate updates, environment by environment, against the shared mechanism of
all others, which each joins with its probability r of not being a target. The score is what expectation propagation makes of
these weights as log evidence:

    log Z(S) − |pa| log d + Σ_k {r_k log[(1 − π) Z(S₋ₖ + S_k) / Z(S₋ₖ)] + (1 − r_k) log[π p(x_k | alternatives, S₋ₖ)] + H(r_k)
                                 − log Z(S) + log Z(S₋ₖ)}

with S = Σ_k r_k S_k the weighted statistics, S₋ₖ = S − r_k S_k and H the entropy. Where the updates have settled, the first
three terms of the sum are log[(1 − π) Z(S₋ₖ + S_k) / Z(S₋ₖ) + π p(x_k | alternatives, S₋ₖ)]; where they have not, they are
less, and so is the score. It is exact where all r are 0 or 1 and right, and no bound.

A score costs the same for ten and for ten thousand samples. The formulas are those of ``model``, compiled in ``kernel``.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

import numpy as np
from scipy import special

from bench.types import BoolArray, Environment, FloatArray, Observed
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.kernel import Data, estimated_gains, scores_of, screened_row, toggle_scores
from methods.metacadi.lanes import HALF
from methods.metacadi.model import (
    IntArray,
    Posterior,
    Priors,
    log_hard,
    log_sum,
    shared_posterior,
    split_by_knowledge,
)

_EDGE_OF_A_CONSTANT = 1e6
"""Nats that it costs: more than any edge gains, and finite, so that scores of graphs can be subtracted from each other."""

COOLING = (1 / 8, 1 / 4, 1 / 2, 1.0, 1.0, 1.0, 1.0)
"""Inverse temperatures of the coordinate updates."""

_START_WITH_OBSERVATIONAL, _START_WITHOUT = 0.7, 0.9
_N_UPDATES_NEARBY = 2
"""Coordinate updates of rough scores. With one, a quarter of the parent sets are more than a nat too low."""
_LOG_2_PI = float(np.log(2.0 * np.pi))
_MAX_BYTES_KEPT = 1 << 27
"""Of probabilities of parent sets that were asked for."""

_MOST_MECHANISMS = 4096
"""That are remembered."""


class LocalScores(Protocol):
    """What a search over graphs asks for."""

    n_variables: int

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """s(i, parents), and s(i, parents xor j) − s(i, parents) for each j, float64 (d,); −inf for j = i."""


@runtime_checkable
class PreparedScores(LocalScores, Protocol):
    """Local scores that cost less when many are asked for at once."""

    def prepare(self, i: int, parent_sets: BoolArray) -> None:
        """Compute what ``toggles`` will be asked for parent sets of i, bool (n, d)."""


class Features(Protocol):
    """What mechanisms are linear in, for samples that the fit has not seen."""

    def summary(self, environments: Sequence[Environment]) -> Summary:
        """What the model needs of environments."""

    def design(self, i: int, parents: IntArray, X: FloatArray) -> FloatArray:
        """Samples of (intercept, features) of the parents of variable i, float64 (n, m)."""


class Summary(Protocol):
    """Gram matrices of environments, however they are had."""

    @property
    def n_samples(self) -> FloatArray:
        """Of each environment, float64 (E,)."""

    def regression(self, i: int, parents: IntArray) -> FloatArray:
        """Of (intercept, features, variable i), float64 (E, m + 1, m + 1)."""


class LocalEvidence(LocalScores, Protocol):
    """Local scores that say what they rest on."""

    n_environments: int
    priors: Priors

    @property
    def features(self) -> Features:
        """What its mechanisms are linear in."""

    def toggles_among(self, i: int, parents: BoolArray, candidates: BoolArray) -> tuple[float, FloatArray]:
        """As ``toggles`` for the parents and ``candidates``, bool (d,), alone; −inf for others."""

    def scores(self, variables: IntArray, parent_sets: BoolArray) -> FloatArray:
        """s of n variables, int (n,), given parents each, bool (n, d): float64 (n,), eight for the price of one."""

    def score(self, i: int, parents: BoolArray) -> float:
        """s(i, parents)."""

    def estimated_gains(self, i: int, parents: BoolArray) -> FloatArray:
        """What each further parent would gain if it changed no target, float64 (d,); inf where that is not known."""

    def under(self, priors: Priors) -> LocalEvidence:
        """The same under the alternatives of other priors."""

    def keep_probability(self, i: int, parents: BoolArray) -> FloatArray:
        """Probability that i follows its shared mechanism in each environment given its parents, float64 (E,)."""

    def shared_mechanism(self, i: int, parents: BoolArray) -> Posterior:
        """Posterior of the shared mechanism of i given its parents, each environment weighted by its r."""


class Evidence:
    """Local scores of one data set.

    Parameters
    ----------
    observed : Observed
        Environments known to be observational have no targets; all others may have.
    priors : Priors
    basis : Basis, optional
        Features of the parents; the parents themselves where None.
    amplitude : float
        Of mechanisms: their slope precision as a multiple of that of the priors.
    annealing : bool
        Start the coordinate updates hot.

    Notes
    -----
    Without an environment known to be observational the updates have local optima, so they start five times: from all
    environments, and from each quarter of them alone, which no intervention on the variable may have met; the best score
    counts. Quarters are every fourth by rank of the environments' mean squared length of a sample, which depends on no order
    of environments or variables.
    """

    def __init__(
        self,
        observed: Observed,
        priors: Priors,
        basis: Basis | None = None,
        *,
        amplitude: float = 1.0,
        annealing: bool = True,
    ) -> None:
        self.n_variables = observed.n_variables
        self.n_environments = observed.n_environments
        self._amplitude = amplitude
        self.priors = priors = self._at_amplitude(priors)
        basis = Basis(self.n_variables) if basis is None else basis
        self.features: Features = basis
        fixed, possible, places = split_by_knowledge(observed)
        # By size, since terms that depend on it alone are then computed once for neighbours of one size.
        by_size = np.argsort([e.n_samples for e in possible], kind="stable")
        self._places = places[by_size]
        self._statistics = Statistics.of([possible[e] for e in by_size], basis)
        self._fixed = Statistics.of(fixed, basis)
        cooling = COOLING if annealing else (1.0,) * len(COOLING)
        self._pooled_gram = (self._statistics.paired_gram.sum(axis=1) + self._fixed.paired_gram.sum(axis=1))[:, None]
        self._data = self._data_under(priors, np.array(cooling))
        self._record = priors.record()
        self._forget()

    def under(self, priors: Priors) -> Self:
        """The same under other priors."""
        other = copy.copy(self)
        other.priors = self._at_amplitude(priors)
        other._data = other._data_under(other.priors, self._data.cooling)
        other._record = other.priors.record()
        other._forget()
        return other

    def at(self, amplitude: float) -> Self:
        """The same with slopes of the shared mechanism that are as many times as precise a priori."""
        other = copy.copy(self)
        other._amplitude = self._amplitude * amplitude
        other.priors = dataclasses.replace(self.priors, slope_precision=self.priors.slope_precision * amplitude)
        other._record = other.priors.record()
        other._forget()
        return other

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """Score and toggle gains; see :class:`LocalScores`."""
        return self.toggles_among(i, parents, np.ones(self.n_variables, dtype=np.bool_))

    def toggles_among(self, i: int, parents: BoolArray, candidates: BoolArray) -> tuple[float, FloatArray]:
        """As :meth:`toggles` for the parents and ``candidates``, bool (d,), alone; −inf for others."""
        scores, keep = toggle_scores(self._data, self._record, i, np.flatnonzero(parents), candidates)
        own = float(scores[i])
        self._remember(i, parents, own, keep)
        gains = scores - own
        gains[i] = -np.inf
        return own, gains

    def screened_row(
        self, i: int, parents: BoolArray, likely: IntArray, least_gain: float, *, optimistic: bool
    ) -> tuple[float, FloatArray, BoolArray]:
        """As ``toggles``, exact where it may matter; see :class:`~methods.metacadi.search.rows.ScreenedScores`."""
        own, gains, exact, keep = screened_row(
            self._data, self._record, i, np.flatnonzero(parents), likely, least_gain, optimistic
        )
        self._remember(i, parents, own, keep)
        return own, gains, exact

    def estimated_gains(self, i: int, parents: BoolArray) -> FloatArray:
        """What each further parent would gain if it changed no target, float64 (d,); −inf for i and parents there are."""
        keep = self._all_keep_probabilities(i, parents)
        return np.asarray(estimated_gains(self._data, self._record, i, np.flatnonzero(parents), keep))

    def scores(self, variables: IntArray, parent_sets: BoolArray) -> FloatArray:
        """s of n variables, int (n,), given parents each, bool (n, d): float64 (n,), eight for the price of one."""
        known = [self._known_of.get((int(i), p.tobytes())) for i, p in zip(variables, parent_sets, strict=True)]
        unknown = np.array([k for k, entry in enumerate(known) if entry is None], dtype=np.intp)
        if len(unknown):
            new = self._scored(variables[unknown], parent_sets[unknown])
            for k, score, keep in zip(unknown, *new, strict=True):
                self._remember(int(variables[k]), parent_sets[k], float(score), keep)
                known[k] = float(score), keep
        return np.array([entry[0] for entry in known if entry is not None])

    def score(self, i: int, parents: BoolArray) -> float:
        """s(i, parents)."""
        return self._of(i, parents)[0]

    def keep_probability(self, i: int, parents: BoolArray) -> FloatArray:
        """Probability that i follows its shared mechanism in each environment given its parents, float64 (E,).

        Above 0, however sure a target is.
        """
        probability = np.ones(self.n_environments)
        probability[self._places] = self._keep_probability(i, parents)
        return probability

    def target_probability(self, i: int, parents: BoolArray) -> FloatArray:
        """Probability that i is a target in each environment given its parents, float64 (E,)."""
        return 1.0 - self.keep_probability(i, parents)

    def shared_mechanism(self, i: int, parents: BoolArray) -> Posterior:
        """Posterior of the shared mechanism of i given its parents, each environment weighted by its r."""
        key = i, parents.tobytes()
        if key not in self._mechanisms:
            keep = self._keep_probability(i, parents)
            fixed_gram, grams, relative = self._regression(i, parents)
            gram = fixed_gram + np.einsum("e,eab->ab", keep, grams)
            n_samples = float(self._fixed.n_samples.sum() + keep @ self._statistics.n_samples)
            if len(self._mechanisms) >= _MOST_MECHANISMS:
                self._mechanisms.clear()
            self._mechanisms[key] = shared_posterior(
                gram, n_samples, self.priors, relative=relative, n_parents=int(parents.sum())
            )
        return self._mechanisms[key]

    def _scored(self, variables: IntArray, parent_sets: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Scores, float64 (n,), and keep probabilities of environments by size, the last E of each row, float64 (n, E+)."""
        order = np.argsort(parent_sets.sum(axis=1), kind="stable")
        scores, keep = np.empty(len(order)), np.empty((len(order), self._data.gram.shape[1]))
        scores[order], keep[order] = scores_of(self._data, self._record, variables[order], parent_sets[order])
        return scores, keep

    def _at_amplitude(self, priors: Priors) -> Priors:
        return dataclasses.replace(priors, slope_precision=self._amplitude * priors.slope_precision)

    def _data_under(self, priors: Priors, cooling: FloatArray) -> Data:
        return _data(self._statistics, self._fixed, self._pooled_gram, priors, cooling, self.n_variables)

    def _forget(self) -> None:
        """Start with nothing remembered."""
        self._known_of: dict[tuple[int, bytes], tuple[float, FloatArray]] = {}
        self._mechanisms: dict[tuple[int, bytes], Posterior] = {}

    def _remember(self, i: int, parents: BoolArray, score: float, keep: FloatArray) -> None:
        if len(self._known_of) * len(keep) * 8 > _MAX_BYTES_KEPT:
            self._known_of.clear()
        self._known_of[i, parents.tobytes()] = score, keep

    def _regression(self, i: int, parents: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Gram matrices of what is observational together and of each other environment, and relative precisions."""
        members = np.flatnonzero(parents)
        fixed_gram = self._fixed.regression(i, members).sum(axis=0)
        return fixed_gram, self._statistics.regression(i, members), self._fixed.relative_precision(members)

    def _keep_probability(self, i: int, parents: BoolArray) -> FloatArray:
        keep = self._all_keep_probabilities(i, parents)
        return keep[len(keep) - self._statistics.n_environments :]

    def _all_keep_probabilities(self, i: int, parents: BoolArray) -> FloatArray:
        return self._of(i, parents)[1]

    def _of(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """s(i, parents), and keep probabilities of environments by size, the last E of those."""
        if (i, parents.tobytes()) not in self._known_of:
            self.scores(np.array([i]), parents[None])
        return self._known_of[i, parents.tobytes()]


class NearbyEvidence(Evidence):
    """Scores for a third of the price of another evidence's, close to them where targets are those of given parent sets.

    The coordinate updates of a variable start from what they found at one parent set, and end after two. Of the parent sets
    that a search meets near an optimum, half differ by less than 1e-4 nats from the other evidence, nine in ten by less than
    .1, and those that differ by more are nearly all lower: targets that they would need were not found.

    Parameters
    ----------
    exact : Evidence
    graph : bool (d, d)
        Whose targets to start from.
    """

    def __init__(self, exact: Evidence, graph: BoolArray) -> None:
        vars(self).update(vars(exact))
        self._exact = exact
        self._forget()
        starts = np.empty((self.n_variables, 1, exact._data.gram.shape[1]))
        self._data = exact._data._replace(starts=starts, cooling=np.ones(_N_UPDATES_NEARBY))
        for i in range(self.n_variables):
            self.start_from(i, graph[:, i])

    def start_from(self, i: int, parents: BoolArray) -> None:
        """From now on let variable i start from its targets given ``parents``, bool (d,)."""
        self._data.starts[i, 0] = self._exact._all_keep_probabilities(i, parents)
        self._forget()


class MixtureEvidence:
    """Each mechanism has one of several kinds of features, a priori alike: s = log Σ_c exp(s_c) − log C.

    Parameters
    ----------
    components : sequence of LocalEvidence
        Of one data set.
    constant : bool (d,), optional
        Variables that never change: they have no edges and are no targets.
    """

    def __init__(self, components: Sequence[LocalEvidence], constant: BoolArray | None = None) -> None:
        self.components = tuple(components)
        self.n_variables, self.n_environments = components[0].n_variables, components[0].n_environments
        self._constant = np.zeros(self.n_variables, dtype=np.bool_) if constant is None else constant
        # What a mixture of one is; searches ask it many thousand times.
        only = components[0] if len(components) == 1 and not self._constant.any() else None
        self._only = only if isinstance(only, Evidence) and isinstance(only.features, Basis) else None

    def under(self, priors: Priors) -> MixtureEvidence:
        """The same under other priors; each component keeps its amplitude."""
        return MixtureEvidence([c.under(priors) for c in self.components], self._constant)

    def and_also(self, components: Sequence[LocalEvidence]) -> MixtureEvidence:
        """The same with more kinds of features."""
        return MixtureEvidence([*self.components, *components], self._constant)

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """Score and toggle gains; see :class:`LocalScores`."""
        return self.toggles_among(i, parents, np.ones(self.n_variables, dtype=np.bool_))

    def toggles_among(self, i: int, parents: BoolArray, candidates: BoolArray) -> tuple[float, FloatArray]:
        """As :meth:`toggles` for the parents and ``candidates``, bool (d,), alone; −inf for others."""
        if self._only is not None:
            return self._only.toggles_among(i, parents, candidates)
        scores = []
        for component in self.components:
            own, gains = component.toggles_among(i, parents, candidates)
            gains[i] = 0.0
            scores.append(own + gains)
        mixed = log_sum(scores) - np.log(len(self.components))
        gains = mixed - mixed[i]
        barred = self._barred(i)
        gains[barred & parents] += _EDGE_OF_A_CONSTANT
        gains[barred & ~parents] = -np.inf
        gains[i] = -np.inf
        return float(mixed[i]) - _EDGE_OF_A_CONSTANT * int((barred & parents).sum()), gains

    def estimated_gains(self, i: int, parents: BoolArray) -> FloatArray:
        """What each further parent would gain if it changed no target, float64 (d,); inf where a component cannot tell."""
        if self._only is not None:
            return self._only.estimated_gains(i, parents)
        own = [c.score(i, parents) for c in self.components] if len(self.components) > 1 else [0.0]
        with_each = [s + c.estimated_gains(i, parents) for s, c in zip(own, self.components, strict=True)]
        gains = np.asarray(log_sum(with_each) - log_sum(own))
        gains[self._barred(i)] = -np.inf
        return gains

    def screened_row(
        self, i: int, parents: BoolArray, likely: IntArray, least_gain: float, *, optimistic: bool
    ) -> tuple[float, FloatArray, BoolArray]:
        """As ``toggles``, exact where it may matter; see :class:`~methods.metacadi.search.rows.ScreenedScores`."""
        if self._only is not None:
            return self._only.screened_row(i, parents, likely, least_gain, optimistic=optimistic)
        exact = parents.copy()
        exact[likely] = exact[i] = True
        own, gains = self.toggles_among(i, parents, exact)
        estimates = self.estimated_gains(i, parents)
        of_interest = (estimates >= least_gain) & ~exact
        if of_interest.any():
            gains = np.where(of_interest, self.toggles_among(i, parents, of_interest)[1], gains)
            exact |= of_interest
        return own, np.where(exact, gains, estimates), exact

    def nearby(self, graph: BoolArray) -> NearbyEvidence | None:
        """Cheaper scores around a DAG, bool (d, d), where there are any; see :class:`NearbyEvidence`."""
        return None if self._only is None else NearbyEvidence(self._only, graph)

    def prepare(self, i: int, parent_sets: BoolArray) -> None:
        """See :class:`PreparedScores`."""
        for component in self.components:
            if isinstance(component, PreparedScores):
                component.prepare(i, parent_sets)

    def scores(self, variables: IntArray, parent_sets: BoolArray) -> FloatArray:
        """s of n variables, int (n,), given parents each, bool (n, d): float64 (n,), eight for the price of one."""
        mixed = log_sum([c.scores(variables, parent_sets) for c in self.components]) - np.log(len(self.components))
        barred = self._constant | self._constant[variables, None]
        return np.asarray(mixed - _EDGE_OF_A_CONSTANT * (barred & parent_sets).sum(axis=1))

    def score(self, i: int, parents: BoolArray) -> float:
        """s(i, parents)."""
        return float(self.scores(np.array([i]), parents[None])[0])

    def of_graph(self, graph: BoolArray) -> float:
        """Score of a DAG, bool (d, d)."""
        return float(self.scores(np.arange(self.n_variables), graph.T).sum())

    def weights(self, i: int, parents: BoolArray) -> FloatArray:
        """Posterior probability of each component for one mechanism, float64 (C,)."""
        if len(self.components) == 1:
            return np.ones(1)
        return np.asarray(special.softmax([c.score(i, parents) for c in self.components]))

    def keep_probability(self, i: int, parents: BoolArray) -> FloatArray:
        """Probability that i follows its shared mechanism in each environment given its parents, float64 (E,)."""
        if self._constant[i]:
            return np.ones(self.n_environments)
        of_component = np.stack([c.keep_probability(i, parents) for c in self.components])
        return np.minimum(self.weights(i, parents) @ of_component, 1.0)

    def target_probability(self, i: int, parents: BoolArray) -> FloatArray:
        """Probability that i is a target in each environment given its parents, float64 (E,)."""
        return 1.0 - self.keep_probability(i, parents)

    def _barred(self, i: int) -> BoolArray:
        """What can be no parent of i since one of the two is constant, bool (d,)."""
        return np.asarray(self._constant | self._constant[i])


class Memoised:
    """Local scores that are computed once for each variable and parent set."""

    def __init__(self, scores: LocalScores) -> None:
        self.n_variables = scores.n_variables
        self._scores = scores
        self._rows: dict[tuple[int, bytes], tuple[float, FloatArray]] = {}

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """Score and toggle gains, read-only; see :class:`LocalScores`."""
        key = i, parents.tobytes()
        if key not in self._rows:
            own, gains = self._scores.toggles(i, parents)
            gains.setflags(write=False)
            self._rows[key] = own, gains
        return self._rows[key]

    def prepare(self, i: int, parent_sets: BoolArray) -> None:
        """See :class:`PreparedScores`."""
        unknown = np.unique([parents for parents in parent_sets if (i, parents.tobytes()) not in self._rows], axis=0)
        if len(unknown) and isinstance(self._scores, PreparedScores):
            self._scores.prepare(i, unknown)


def _data(
    statistics: Statistics,
    fixed: Statistics,
    pooled_gram: FloatArray,
    priors: Priors,
    cooling: FloatArray,
    n_variables: int,
) -> Data:
    """What the compiled code reads; environments in pairs, the first of an odd number beside one without samples: no effect."""
    padding = statistics.n_environments % 2
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
    hard = log_hard(
        np.pad(statistics.products(variables, variables), ((0, 0), (padding, 0))),
        np.pad(statistics.products(variables, np.array(len(statistics.basis.relative) - 1)), ((0, 0), (padding, 0))),
        n,
        priors,
    )
    fixed_n = float(fixed.n_samples.sum())
    first_guesses = starts(statistics, n_variables, with_observational=fixed_n > 0)
    return Data(
        gram=statistics.paired_gram,
        fixed_gram=np.repeat(fixed.paired_gram.sum(axis=1)[:, None], 2, axis=1),
        relative=statistics.basis.relative,
        own=statistics.basis.own,
        pairs=statistics.basis.pairs,
        pooled_gram=pooled_gram,
        fixed_n=fixed_n,
        pooled_n=fixed_n + float(n.sum()),
        constant=-0.5 * _LOG_2_PI * (fixed_n + float(n.sum())),
        of_size=np.stack([_as_lanes(x) for x in of_size]),
        hard=hard + half_n * _LOG_2_PI,
        starts=np.pad(first_guesses, ((0, 0), (padding, 0)))[None],
        cooling=cooling,
        log_weights=tuple(map(float, priors.log_weights)),
    )


def _as_lanes(values: FloatArray) -> FloatArray:
    """Values of environments, float64 (..., E), each eight times: pair k of environments is value k of lanes."""
    return np.repeat(values, HALF, axis=-1)


def starts(statistics: Statistics, n_variables: int, *, with_observational: bool) -> FloatArray:
    """First guesses that an environment follows the shared mechanism, float64 (n_starts, E)."""
    n_environments = statistics.n_environments
    if with_observational:
        return np.full((1, n_environments), _START_WITH_OBSERVATIONAL)
    variables = np.arange(n_variables)
    squared_length = statistics.products(variables, variables).sum(axis=0) / statistics.n_samples
    rank = np.argsort(np.argsort(squared_length, kind="stable"), kind="stable")
    quarters = [rank % 4 == k for k in range(min(4, n_environments))]
    return np.array([np.full(n_environments, _START_WITHOUT), *(np.where(q, _START_WITHOUT, 0.0) for q in quarters)])
