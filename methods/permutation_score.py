"""Joint search over orders and unknown targets with one linear-Gaussian score, on sufficient statistics.

Each variable's environments split into those that share its mechanism and those that do not; the BIC of the best split is the
variable's score given its parents, and ``bench.orders`` searches the graph that maximises the sum. What does not share
its mechanism is a target.

Not here: mechanisms that are not linear-Gaussian, and environments to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Len

from bench.bootstrap import PointMethod, Replicates
from bench.compiled import compiled
from bench.gaussian import RESIDUAL_TOLERANCE, eliminate, environment_moments, mean_difference, merge
from bench.logistic import logistic
from bench.orders import OrderSearch, adjacency, members, pair_probabilities
from bench.registry import register_method
from bench.types import Budget, Capabilities, Environment, Estimate, Fitted, FloatArray, Meta, Observed

Kind = Literal["shift", "noise", "hard", "mechanism"]

SHARED, SHIFT, NOISE, HARD, MECHANISM = range(5)
"""What an environment has of its own: nothing, an intercept, that and a variance, both without parents, all."""

_FEWEST_DEGREES = 5
"""Samples less coefficients from which on a variance may be fitted: that of fewer is often tiny by chance, and the BIC, a limit
of many samples, would take it for a discovery."""

_MOST_STARTS = 10
"""Environments from which splits are grown where none is known to be observational."""

_MOST_ITERATIONS = 20
"""Of one split; few take more than five."""

_IMPOSSIBLE = -1e100
"""Score of a parent set that too few samples share; finite, since the search subtracts scores."""

_SMALLEST_VARIANCE = 1e-300
"""Of a constant variable; its logarithm is finite."""


@register_method("permutation_score")
class PermutationScore(PointMethod):
    """Order search on the Gaussian BIC of split environments: graph and targets at once.

    Given its parents, a variable's *shared* mechanism (coefficients, intercept, variance) holds in all environments but those
    that intervene on it, each of which has something of its own:

    =============  ===========================================  ===========
    kind           own                                          parameters
    =============  ===========================================  ===========
    ``shift``      intercept                                    1
    ``noise``      intercept, variance                          2
    ``hard``       intercept, variance; no parents              2
    ``mechanism``  coefficients of k parents, intercept,        k + 2
                   variance
    =============  ===========================================  ===========

    The score of a variable is its maximised log-likelihood less ½·``penalty``·log n for each parameter, n being the samples
    that it is fitted to, less ``target_penalty``·log d for each target. Environments known to be observational share every
    mechanism. Where none is known, that which the score likes best is the shared one, most often that of most samples.

    Parameters
    ----------
    kinds : tuple of {"shift", "noise", "hard", "mechanism"}
        What an intervention may do.
    penalty : float
        1 is the BIC; 2 is what the authors of FLOP recommend for structures.
    target_penalty : float
        Price of a target in units of log d, as in the extended BIC; the tests of all d variables in all environments make
        up for it.
    patience : int
        Restarts of the order search, from perturbations of its best order, that may improve nothing one after another.
    bootstrap : int
        Replicates of the within-environment bootstrap; 0 for none.

    Notes
    -----
    ``edge_probability`` weighs each edge against its reversal and its absence, and ``target_probability`` the best own kind
    against the shared mechanism, by the exponential of the score, all else as in the answer. They are scores, not
    posterior probabilities: they know no other graph than those next to the best. A search cut short by its budget answers
    with edges of 0 and 1.

    The split is found by alternating: fit the shared mechanism to those that share it, give each environment the kind that
    scores best. It starts from the observational environments and from all; where none is known, from up to ten
    single environments, large ones first, that no split before counts as sharing, and from all. Coefficients are shared with
    ``noise`` environments, but not fitted to them, so that the score is a lower bound of the maximised likelihood.

    References
    ----------
    G. Schwarz, "Estimating the dimension of a model", Annals of Statistics 6 (1978). J. Chen, Z. Chen, "Extended Bayesian
    information criteria for model selection with large model spaces", Biometrika 95 (2008): the price of a target. J. L.
    Gamella, A. Taeb, C. Heinze-Deml, P. Bühlmann, "Characterization and greedy learning of Gaussian structural causal models
    under unknown interventions", arXiv:2211.14897 (2022): a Gaussian score that finds targets and equivalence classes
    together; here targets are per environment, interventions may cut parents or change coefficients, and orders are searched.
    ``results/comparisons`` holds a comparison with the authors' package.
    """

    capabilities = Capabilities(estimates_targets=True, edge_output="score", target_output="score")
    meta = Meta(
        "Search over orders and targets on a Gaussian BIC of shared and own mechanisms (own implementation).",
        "Gamella, Taeb, Heinze-Deml, Bühlmann, arXiv:2211.14897; Wienöbst, Henckel, Weichwald, arXiv:2510.04970",
        mechanisms="linear",
        noise="Gaussian",
        interventions=("any",),
        complexity="some d² local scores for each restart, E times cubic in the number of parents each",
        n_variables=(2, 100),
    )
    search_space: ClassVar = {
        "kinds": [get_args(Kind), ("hard", "mechanism"), ("shift", "hard")],
        "penalty": [1.0, 1.5, 2.0, 3.0],
        "target_penalty": [0.0, 0.5, 1.0, 2.0],
        "patience": [0, 5, 20],
    }

    def __init__(
        self,
        kinds: Annotated[tuple[Kind, ...], Len(1)] = ("shift", "noise", "hard", "mechanism"),
        penalty: Annotated[float, Gt(0)] = 2.0,
        target_penalty: Annotated[float, Ge(0)] = 1.0,
        patience: Annotated[int, Ge(0)] = 20,
        bootstrap: Replicates = 0,
    ) -> None:
        self.kinds = kinds
        self.penalty = penalty
        self.target_penalty = target_penalty
        self.patience = patience
        self.bootstrap = bootstrap

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        score = SplitScore(observed, self.kinds, self.penalty, self.target_penalty)
        search = OrderSearch(score, observed.n_variables, rng, budget)
        parents = search.run(self.patience).parents
        graph = adjacency(parents)
        target_probability = np.stack([score.target_probability(j, mask) for j, mask in enumerate(parents)], axis=1)
        estimate = Estimate(
            graph.astype(np.float64) if search.cut_short else pair_probabilities(search.local_score, parents),
            target_probability,
            point_graph=graph,
            graph_kind="dag",
        )
        return Fitted(estimate, cut_short=search.cut_short)

    def warm_up(self) -> None:
        """Compile the kernels."""
        X = np.random.default_rng(0).normal(size=(20, 3))
        self.fit_point(Observed((Environment(X), Environment(X))), rng=np.random.default_rng(0))


class SplitScore:
    """Local score of :class:`PermutationScore`: a variable given the mask of its parents, under the best split found.

    Parameters
    ----------
    observed : Observed
    kinds, penalty, target_penalty
        As in :class:`PermutationScore`.
    """

    def __init__(self, observed: Observed, kinds: Sequence[Kind], penalty: float, target_penalty: float) -> None:
        environments = environment_moments(observed)
        self._n_samples = np.array([m.n_samples for m in environments])
        together = merge(environments)
        self._means = mean_difference(np.array([m.mean for m in environments]), together.mean)
        self._smallest_variances = np.maximum(
            RESIDUAL_TOLERANCE * together.scatter.diagonal() / together.n_samples, _SMALLEST_VARIANCE
        )
        self._scatters = np.array([m.scatter for m in environments])
        self._observational = np.array([bool(e.is_observational) for e in observed.environments])
        self._offered = np.array([True, *(kind in kinds for kind in get_args(Kind))])
        self._penalty = penalty
        self._target_cost = target_penalty * float(np.log(observed.n_variables))
        everyone = np.ones((1, len(environments)), dtype=bool)
        one_by_one = np.eye(len(environments), dtype=bool)[np.argsort(-self._n_samples, kind="stable")]
        self._starts = np.concatenate([self._observational[None] if self._observational.any() else one_by_one, everyone])

    def __call__(self, variable: int, parents: int) -> float:
        return float(self.split(variable, parents)[0])

    def split(self, variable: int, parents: int) -> tuple[float, npt.NDArray[np.int8], FloatArray]:
        """Score, kind of each environment, int8 (E,), and what each kind would contribute there, float64 (E, 5)."""
        found: tuple[float, npt.NDArray[np.int8], FloatArray] = _split(
            self._n_samples,
            self._means,
            self._scatters,
            self._observational,
            self._offered,
            self._starts,
            np.array([*members(parents), variable]),
            self._penalty,
            self._target_cost,
            self._smallest_variances[variable],
        )
        return found

    def target_probability(self, variable: int, parents: int) -> FloatArray:
        """Weight of the best own kind against the shared mechanism in each environment, float64 (E,)."""
        contribution = self.split(variable, parents)[2]
        gain = contribution[:, SHIFT:].max(axis=1) - contribution[:, SHARED]
        return logistic(gain)


@compiled
def _split(
    n: Any,
    means: Any,
    scatters: Any,
    observational: Any,
    offered: Any,
    starts: Any,
    chosen: Any,
    penalty: Any,
    target_cost: Any,
    floor: Any,
) -> Any:
    """Best split from several starts; ``chosen`` is the parents and, last, the variable. See ``SplitScore.split``."""
    n_environments, k = n.shape[0], chosen.shape[0] - 1
    mean, scatter = means[:, chosen], np.empty((n_environments, k + 1, k + 1))
    for e in range(n_environments):
        for s in range(k + 1):
            for t in range(k + 1):
                scatter[e, s, t] = scatters[e, chosen[s], chosen[t]]
    cost = 0.5 * penalty * np.log(n)

    contribution = np.full((n_environments, 5), -np.inf)
    _judge_alone(contribution, n, scatter, observational, offered, cost, target_cost, floor)
    best, best_kind = _IMPOSSIBLE, np.zeros(n_environments, dtype=np.int8)
    best_contribution = np.full((n_environments, 5), -np.inf)
    best_contribution[:, SHARED] = 0.0
    shared_before, n_starts = np.zeros(n_environments, dtype=np.bool_), 0
    for start in range(starts.shape[0]):
        last = start == starts.shape[0] - 1
        if not last and (n_starts == _MOST_STARTS or (starts[start] & shared_before).any()):
            continue
        n_starts += 1
        kind = np.where(starts[start], SHARED, MECHANISM).astype(np.int8)
        for _ in range(_MOST_ITERATIONS):
            n_group, coefficients, intercept, variance = _shared_mechanism(n, mean, scatter, kind, floor)
            if n_group < k + _FEWEST_DEGREES:
                break
            _judge_shared(
                contribution,
                n,
                mean,
                scatter,
                observational,
                offered,
                cost,
                target_cost,
                floor,
                coefficients,
                intercept,
                variance,
            )
            score, changed = -0.5 * penalty * (k + 2) * np.log(n_group), False
            for e in range(n_environments):
                score += contribution[e, kind[e]]
            if score > best:
                best = score
                best_kind[:] = kind
                best_contribution[:] = contribution
            for e in range(n_environments):
                better = np.argmax(contribution[e])
                changed |= better != kind[e]
                kind[e] = better
            if not changed:
                break
        shared_before |= kind == SHARED
    return best, best_kind, best_contribution


@compiled
def _maximised(n: Any, variance: Any) -> Any:
    """Log-likelihood of n samples under the variance that fits them best."""
    return -0.5 * n * (np.log(2 * np.pi * variance) + 1)


@compiled
def _judge_alone(
    contribution: Any, n: Any, scatter: Any, observational: Any, offered: Any, cost: Any, target_cost: Any, floor: Any
) -> None:
    """Contributions of the kinds that share nothing, which no split changes."""
    k = scatter.shape[1] - 1
    work = np.empty((k + 1, k + 1))
    for e in range(n.shape[0]):
        if observational[e]:
            continue
        if offered[HARD] and n[e] >= _FEWEST_DEGREES:
            contribution[e, HARD] = _maximised(n[e], max(scatter[e, k, k] / n[e], floor)) - 2 * cost[e] - target_cost
        if offered[MECHANISM] and n[e] >= k + _FEWEST_DEGREES:
            work[:] = scatter[e]
            eliminate(work, k)
            residual = max(work[k, k] / n[e], floor)
            contribution[e, MECHANISM] = _maximised(n[e], residual) - (k + 2) * cost[e] - target_cost


@compiled
def _shared_mechanism(n: Any, mean: Any, scatter: Any, kind: Any, floor: Any) -> Any:
    """Fit the mechanism to those that share it, and its coefficients and variance to those with a shift as well.

    Returns samples (0 where nobody shares it), coefficients as residual = coefficients @ (parents, variable) - intercept,
    intercept and variance.
    """
    k = scatter.shape[1] - 1
    n_group, n_sharing, centre, joint = 0, 0, np.zeros(k + 1), np.zeros((k + 1, k + 1))
    coefficients = np.zeros(k + 1)
    for e in range(n.shape[0]):
        if kind[e] == SHARED:
            n_sharing += n[e]
            centre += n[e] * mean[e]
        if kind[e] <= SHIFT:
            n_group += n[e]
            joint += scatter[e]
    if n_sharing == 0:
        return 0, coefficients, 0.0, 1.0
    centre /= n_sharing
    for e in range(n.shape[0]):
        if kind[e] == SHARED:
            for s in range(k + 1):
                for t in range(s, k + 1):
                    joint[s, t] += n[e] * (mean[e, s] - centre[s]) * (mean[e, t] - centre[t])
    eliminate(joint, k)
    coefficients[k] = 1.0
    for p in range(k - 1, -1, -1):
        if joint[p, p] > 0:
            coefficients[p] = -(joint[p, p + 1 :] * coefficients[p + 1 :]).sum() / joint[p, p]
    return n_group, coefficients, (coefficients * centre).sum(), max(joint[k, k] / n_group, floor)


@compiled
def _judge_shared(
    contribution: Any,
    n: Any,
    mean: Any,
    scatter: Any,
    observational: Any,
    offered: Any,
    cost: Any,
    target_cost: Any,
    floor: Any,
    coefficients: Any,
    intercept: Any,
    variance: Any,
) -> None:
    """Contributions of the kinds that share the mechanism or its coefficients."""
    for e in range(n.shape[0]):
        residual, shift = 0.0, -intercept
        for s in range(coefficients.shape[0]):
            shift += coefficients[s] * mean[e, s]
            for t in range(coefficients.shape[0]):
                residual += coefficients[s] * coefficients[t] * scatter[e, s, t]
        residual = max(residual, 0.0)
        centred = -0.5 * (n[e] * np.log(2 * np.pi * variance) + residual / variance)
        contribution[e, SHARED] = centred - 0.5 * n[e] * shift**2 / variance
        if observational[e]:
            continue
        if offered[SHIFT]:
            contribution[e, SHIFT] = centred - cost[e] - target_cost
        if offered[NOISE] and n[e] >= _FEWEST_DEGREES:
            contribution[e, NOISE] = _maximised(n[e], max(residual / n[e], floor)) - 2 * cost[e] - target_cost
