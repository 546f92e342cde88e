"""Features of all parents together: one layer of hidden units on the masked joint input, and the local evidence under it.

Interactions of any order enter a mechanism through the units, which ``Basis`` has for pairs only. The price is that every
parent set has features of its own: a score reads the samples again, makes the units, and takes their Gram matrices; from there
on it is the same closed form.

Not here: how weights are learned (``learned``); here they are drawn, or given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import InputError
from bench.types import BoolArray, Environment, FloatArray, Observed
from methods.metacadi.evidence import Evidence
from methods.metacadi.kernel import joint_scores
from methods.metacadi.lanes import HALF
from methods.metacadi.model import IntArray, Priors, split_by_knowledge

SCALES = (0.5, 1.0, 2.0)
"""Of the weights of random units: smooth functions, and less smooth ones."""

LARGEST_BIAS = 1.5

SMALLEST_SPREAD = 1e-4
"""Standard deviation of a unit that would be divided by less; a constant unit vanishes."""

MOST_KNOWN = 500_000
"""Scores that one evidence remembers, of all variables together."""

Precision = type[np.float32] | type[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class HiddenUnits:
    """M hidden units for each of d variables: tanh(|parents|^(-1/4) W_i x + b_i), x zero but for the parents.

    Parameters
    ----------
    weights : float64 (d, M, d)
        Of units, for each variable to be explained, on each variable.
    biases : float64 (d, M)
    """

    weights: FloatArray
    biases: FloatArray

    @property
    def n_units(self) -> int:
        return int(self.weights.shape[1])

    def inputs(self, i: int, parents: IntArray, X: FloatArray) -> FloatArray:
        """W_i x of masked samples, float64 (n, M)."""
        return np.asarray(X[:, parents] @ self.weights[i][:, parents].T)

    def activations(self, i: int, n_parents: int, inputs: FloatArray, precision: Precision = np.float64) -> npt.NDArray[Any]:
        """Units from W_i x, float32 or float64 (n, M)."""
        bent: npt.NDArray[Any] = (inputs * float(n_parents) ** -0.25 + self.biases[i]).astype(precision)
        np.tanh(bent, out=bent)
        return bent


def random_units(n_variables: int, n_units: int, rng: np.random.Generator) -> HiddenUnits:
    """Random features: weights from N(0, 1) times one of ``SCALES``, biases from U(-1.5, 1.5), the same for every variable.

    Parameters
    ----------
    n_variables, n_units : int
    rng : numpy.random.Generator

    Raises
    ------
    InputError
        If there are no units.

    References
    ----------
    Rahimi, Recht, "Random features for large-scale kernel machines", NIPS 2007, for the idea.
    """
    if n_units < 1:
        raise InputError(f"expected at least one hidden unit, got {n_units}")
    weights = rng.normal(size=(n_units, n_variables)) * rng.choice(SCALES, (n_units, 1))
    biases = rng.uniform(-LARGEST_BIAS, LARGEST_BIAS, n_units)
    return HiddenUnits(np.tile(weights, (n_variables, 1, 1)), np.tile(biases, (n_variables, 1)))


class JointFeatures:
    """Intercept, parents and hidden units, each unit standardised over the samples of the fit for each parent set.

    Parameters
    ----------
    observed : Observed
    units : HiddenUnits
    precision : {numpy.float32, numpy.float64}
        Of the hyperbolic tangents. In single precision scores move by less than 2e-3.

    Notes
    -----
    Units see variables in units of their standard deviation over all samples, since interventions throw them far beyond what is
    typical, and there a curve bends most.

    The Gram matrices asked for last are kept: components of a mixture that differ by their priors alone ask in turn.
    """

    def __init__(self, observed: Observed, units: HiddenUnits, *, precision: Precision = np.float32) -> None:
        self.units = units
        self.precision = precision
        self.samples = Samples.of(observed)
        self._X_of_units = self.samples.X / self.samples.deviation
        self._latest: tuple[tuple[bytes, bytes], tuple[_Regressions, ...]] | None = None

    def summary(self, environments: Sequence[Environment]) -> JointSummary:
        """What the model needs of environments, which is all their samples."""
        return JointSummary(self, Samples((), environments))

    def design(self, i: int, parents: IntArray, X: FloatArray) -> FloatArray:
        """Samples of (intercept, parents, units) for variable i, float64 (n, m)."""
        return self._columns(i, parents, X, self.units.inputs(i, parents, X / self.samples.deviation))[:, :-1]

    def regressions(self, variables: IntArray, sets: BoolArray) -> tuple[_Regressions, ...]:
        """Regressions of k variables, int (k,), on parents, bool (k, d); eight at a time, those of like size side by side."""
        key = variables.tobytes(), sets.tobytes()
        if self._latest is None or self._latest[0] != key:
            order = np.argsort(sets.sum(axis=1), kind="stable")
            eights = [order[first : first + HALF] for first in range(0, len(order), HALF)]
            self._latest = key, tuple(self._side_by_side(variables, sets, places) for places in eights)
        return self._latest[1]

    def regression(self, i: int, parents: IntArray, samples: Samples) -> FloatArray:
        """Gram matrices of (intercept, parents, units, variable i), float64 (E, m + 1, m + 1)."""
        inputs = self.units.inputs(i, parents, samples.X / self.samples.deviation)
        return samples.grams(self._columns(i, parents, samples.X, inputs))[1]

    def _side_by_side(self, variables: IntArray, sets: BoolArray, places: IntArray) -> _Regressions:
        largest = int(sets[places].sum(axis=1).max())
        regressions = _Regressions(places, variables[places], largest, self.units.n_units, self.samples.n_environments)
        for lane, place in enumerate(places):
            i, parents = int(variables[place]), np.flatnonzero(sets[place])
            columns = self._columns(i, parents, self.samples.X, self.units.inputs(i, parents, self._X_of_units))
            regressions.fill(lane, len(parents), *self.samples.grams(columns))
        return regressions

    def _columns(self, i: int, parents: IntArray, X: FloatArray, inputs: FloatArray) -> FloatArray:
        """Samples of (intercept, parents, units, variable i), float64 (n, m + 1)."""
        p = len(parents)
        columns = np.empty((len(X), 2 + p + (self.units.n_units if p else 0)))
        columns[:, 0] = 1.0
        columns[:, 1 : 1 + p] = X[:, parents]
        columns[:, -1] = X[:, i]
        if p:
            units = self.units.activations(i, p, inputs, self.precision)
            mean, spread = self._moments(i, parents, units if X is self.samples.X else None)
            np.divide(units - mean, spread, out=columns[:, 1 + p : -1])
        return columns

    def _moments(self, i: int, parents: IntArray, units: npt.NDArray[Any] | None = None) -> tuple[Any, Any]:
        """Mean and standard deviation of each unit over the samples of the fit."""
        if units is None:
            X = self._X_of_units
            units = self.units.activations(i, len(parents), self.units.inputs(i, parents, X), self.precision)
        # As products with a vector of ones, which take a tenth of the time of sums down the columns.
        share = np.full(len(units), 1.0 / len(units), dtype=units.dtype)
        mean = share @ units
        variance = share @ (units - mean) ** 2
        return mean, np.sqrt(variance + units.dtype.type(SMALLEST_SPREAD**2))


class JointSummary:
    """Environments, whose Gram matrices are made for each parent set; see ``Summary``."""

    def __init__(self, features: JointFeatures, samples: Samples) -> None:
        self.n_samples, self.n_environments = samples.n_samples, samples.n_environments
        self._features, self._samples = features, samples

    def regression(self, i: int, parents: IntArray) -> FloatArray:
        """Gram matrices of (intercept, parents, units, variable i), float64 (E, m + 1, m + 1)."""
        return self._features.regression(i, parents, self._samples)


class JointEvidence(Evidence):
    """Local scores of one data set under features of the joint parents.

    Parameters
    ----------
    observed : Observed
    priors : Priors
    features : JointFeatures
        Of the same data.
    relative_precision : float, optional
        Prior precision of a unit as a multiple of a slope's; by default a quarter of the number of units, so that together
        they vary four times as much as a parent of unit variance does.
    amplitude, annealing
        As of :class:`~methods.metacadi.evidence.Evidence`.
    """

    features: JointFeatures

    def __init__(
        self,
        observed: Observed,
        priors: Priors,
        features: JointFeatures,
        *,
        relative_precision: float | None = None,
        amplitude: float = 1.0,
        annealing: bool = True,
    ) -> None:
        super().__init__(observed, priors, amplitude=amplitude, annealing=annealing)
        self.features = features
        self.relative_precision = features.units.n_units / 4.0 if relative_precision is None else relative_precision

    def row(self, i: int, parents: BoolArray) -> tuple[FloatArray, FloatArray]:
        """s(i, parents xor j), float64 (d,), of (i, parents) itself in place i, and keep probabilities.

        The latter, float64 (d, 1 + E), are those of environments by size, after 1 for all that are known to be observational.
        """
        scores = np.empty(self.n_variables)
        keep = np.ones((self.n_variables, 1 + self._statistics.n_environments))
        for regressions in self.features.regressions(np.full(self.n_variables, i), _toggled(parents, i)):
            scores[regressions.places], keep[regressions.places, 1:] = self._scores_of(regressions)
        return scores, keep

    def toggles_among(self, i: int, parents: BoolArray, candidates: BoolArray) -> tuple[float, FloatArray]:
        """As ``toggles`` for the parents and ``candidates``, bool (d,), alone; −inf for others."""
        wanted = parents | candidates
        wanted[i] = True
        sets = _toggled(parents, i)[wanted]
        self._complete(i, sets)
        scores = np.full(self.n_variables, -np.inf)
        scores[wanted] = [self._known[i][each.tobytes()] for each in sets]
        own = float(scores[i])
        gains = scores - own
        gains[i] = -np.inf
        return own, gains

    def prepare(self, i: int, parent_sets: BoolArray) -> None:
        """Compute at once, eight scores side by side, what ``toggles`` needs for parent sets of i, bool (n, d)."""
        self._complete(i, np.unique(np.concatenate([_toggled(parents, i) for parents in parent_sets]), axis=0))

    def _complete(self, i: int, sets: BoolArray) -> None:
        """Compute those scores of parent sets, bool (k, d), that are not known."""
        known = self._known[i]
        if len(known) > MOST_KNOWN // self.n_variables:
            known.clear()
        unknown = sets[[each.tobytes() not in known for each in sets]]
        if len(unknown):
            for regressions in self.features.regressions(np.full(len(unknown), i), unknown):
                scores, _ = self._scores_of(regressions)
                known.update((unknown[k].tobytes(), s) for k, s in zip(regressions.places, scores.tolist(), strict=True))

    def estimated_gains(self, i: int, parents: BoolArray) -> FloatArray:
        """Infinite: every parent set has units of its own, and no Gram matrix that could be extended."""
        return np.full(self.n_variables, np.inf)

    def _forget(self) -> None:
        super()._forget()
        # Scores by parent set: of the neighbours of one, most are neighbours of others, too.
        self._known: list[dict[bytes, float]] = [{} for _ in range(self.n_variables)]

    def _scored(self, variables: IntArray, parent_sets: BoolArray) -> tuple[FloatArray, FloatArray]:
        scores, keep = np.empty(len(variables)), np.empty((len(variables), self._statistics.n_environments))
        for regressions in self.features.regressions(variables, parent_sets):
            scores[regressions.places], keep[regressions.places] = self._scores_of(regressions)
        return scores, keep

    def _regression(self, i: int, parents: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        (one,) = self.features.regressions(np.array([i]), parents[None])
        grams = one.grams[0][..., one.grams.shape[-1] - self._statistics.n_environments :].transpose(2, 0, 1)
        return one.fixed_grams[0], grams, one.relative(self.relative_precision)[0]

    def _scores_of(self, regressions: _Regressions) -> tuple[FloatArray, FloatArray]:
        """Scores, float64 (k,), and keep probabilities, float64 (k, E), of k regressions."""
        k = len(regressions.sizes)
        eight = slice(None) if k == HALF else np.minimum(np.arange(HALF), k - 1)
        scores, keep = joint_scores(
            self._data,
            self._record,
            regressions.variables[eight],
            regressions.grams[eight],
            regressions.fixed_grams[eight],
            regressions.relative(self.relative_precision)[eight],
            regressions.sizes[eight],
        )
        return scores[:k], keep[:k, keep.shape[1] - self._statistics.n_environments :]


def _toggled(parents: BoolArray, i: int) -> BoolArray:
    """Parent sets that differ from one of i by variable j each, bool (d, d); in place i, the set itself."""
    change = np.eye(len(parents), dtype=np.bool_)
    change[i, i] = False
    return parents ^ change


class _Regressions:
    """Gram matrices of k regressions side by side, as compiled code takes them.

    Parameters
    ----------
    places : int (k,)
        Of the parent sets among those that were asked for.
    variables : int (k,)
        What is regressed.
    largest, n_units, n_environments : int
        ``largest`` is the greatest number of parents.

    Attributes
    ----------
    sizes : float64 (k,)
        Numbers of parents.
    grams : float64 (k, m + 1, m + 1, E)
        E is even: an environment without samples stands before an odd number.
    fixed_grams : float64 (k, m + 1, m + 1)

    Notes
    -----
    Regressions with fewer features than others have some that are zero in every sample, which change nothing.
    """

    def __init__(self, places: IntArray, variables: IntArray, largest: int, n_units: int, n_environments: int) -> None:
        k, m = len(places), 1 + largest + (n_units if largest else 0)
        self.places, self.variables = places, variables
        self.sizes = np.zeros(k)
        self.grams = np.zeros((k, m + 1, m + 1, n_environments + n_environments % 2))
        self.fixed_grams = np.zeros((k, m + 1, m + 1))

    def fill(self, lane: int, n_parents: int, fixed_gram: FloatArray, grams: FloatArray) -> None:
        """Enter one regression: its Gram matrices of (intercept, parents, units, variable), as ``Samples.grams`` has them."""
        self.sizes[lane] = n_parents
        m, last = len(fixed_gram) - 1, self.grams.shape[1] - 1
        for whole, own in (
            (self.grams[lane][..., self.grams.shape[-1] - len(grams) :], grams.transpose(1, 2, 0)),
            (self.fixed_grams[lane], fixed_gram),
        ):
            whole[:m, :m] = own[:m, :m]
            whole[last, :m], whole[:m, last], whole[last, last] = own[m, :m], own[:m, m], own[m, m]

    def relative(self, of_units: float) -> FloatArray:
        """Prior precisions of (intercept, features) as multiples of a slope's, float64 (k, m)."""
        m = self.grams.shape[1] - 1
        return np.where(np.arange(m) > self.sizes[:, None], of_units, 1.0)


class Samples:
    """Samples of environments, all that are known to be observational together first.

    Parameters
    ----------
    fixed, environments : sequence of Environment

    Attributes
    ----------
    X : float64 (n, d)
    deviation : float64 (d,)
        Standard deviations over all samples; 1 for a constant.
    n_samples : float64 (E,)
        Of each environment, the fixed ones apart.
    """

    @classmethod
    def of(cls, observed: Observed) -> Samples:
        """All samples of a data set, environments that may have targets by size."""
        fixed, possible, _ = split_by_knowledge(observed)
        return cls(fixed, sorted(possible, key=lambda e: e.n_samples))

    def __init__(self, fixed: Sequence[Environment], environments: Sequence[Environment]) -> None:
        self.X = np.concatenate([e.X for e in (*fixed, *environments)])
        deviation = self.X.std(axis=0)
        self.deviation = np.where(deviation > 0, deviation, 1.0)
        self.n_samples = np.array([e.n_samples for e in environments], dtype=np.float64)
        self.n_environments = len(environments)
        self._n_fixed = sum(e.n_samples for e in fixed)
        self._stops = self._n_fixed + np.cumsum(self.n_samples, dtype=np.intp)
        self._even = len(set(self.n_samples)) == 1

    @property
    def environment(self) -> IntArray:
        """To which environment each sample belongs, 0 for the fixed ones, int (n,)."""
        return np.repeat(np.arange(1 + self.n_environments), np.append(self._n_fixed, self.n_samples).astype(np.intp))

    def grams(self, columns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gram matrices of columns (n, m): of all fixed environments together (m, m), of each other one (E, m, m)."""
        fixed, others = columns[: self._n_fixed], columns[self._n_fixed :]
        m = columns.shape[1]
        if self._even:
            blocks = others.reshape(self.n_environments, -1, m)
            return fixed.T @ fixed, blocks.transpose(0, 2, 1) @ blocks
        grams = np.empty((self.n_environments, m, m))
        for e, block in enumerate(np.split(columns, [self._n_fixed, *self._stops[:-1]])[1:] if self.n_environments else []):
            np.matmul(block.T, block, out=grams[e])
        return fixed.T @ fixed, grams
