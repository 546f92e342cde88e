"""CD-NOD: the environment as one more column, which says which mechanisms change; then in which environments each does.

One column that names the environment stands for whatever changes between them. PC on the variables and this column finds the
skeleton; the variables next to it are those whose mechanism changes somewhere. Which environments they change in is asked
afterwards, given their estimated parents: the paper has no targets per environment.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import accumulate, combinations
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Lt

from bench.bootstrap import PointMethod, Replicates
from bench.gaussian import InvarianceTest, Moments, environment_moments, independence_p_value, merge, merge_centred
from bench.graphs import edge_scores_of_class
from bench.invariance import holm_evidence
from bench.kernel_tests import RandomFeatureTest, thinned_rows
from bench.pc import OutOfTime, pc
from bench.registry import register_method
from bench.types import BoolArray, Budget, Capabilities, Environment, Estimate, Fitted, Meta, Observed

_MOST_NEIGHBOURS = 3
"""Undirected neighbours of which every subset may be parents; of more, only none and all of them are tried."""


@register_method("cd_nod")
class CdNod(PointMethod):
    """Causal discovery from heterogeneous data, phases 1 and 2, with targets called afterwards.

    The environment enters PC as one categorical column that no variable causes. An edge from it marks a changing mechanism, is
    directed, and helps to direct others: an unchanging neighbour of a changing variable is its effect where the latter
    separates it from the environment, else its cause; this outweighs colliders among variables. Edges between two changing
    variables that no collider directs stay undirected: the paper's third phase, which compares how independently two mechanisms
    change, is left out (causal-learn has none either). With an intervention on most variables nearly all of them change, and
    one column directs less than an indicator for each environment (``jci_pc``).

    *Targets.* A changing variable is a target of an environment where its distribution given its parents differs from that in
    the reference, whichever undirected neighbours count as parents as well, by Holm's procedure over all of these questions.
    The reference are the environments known to be observational, or, where none is, those that are left when one after another
    the most different one is taken away.

    Parameters
    ----------
    test : {"linear", "random_features"}
        Of independence and of change: Fisher's z, and F tests of coefficients and variances; or the randomised conditional
        correlation test, for any mechanism and change. The latter is closer to the paper, which has kernel tests, but found no
        more on nonlinear draws (``results/comparisons``) at fifty times the cost.
    alpha : float
        Level of each test of the search.
    alpha_targets : float
        Family-wise level of the targets.
    max_conditioning : int or None
        Size of the largest conditioning set; None for no limit.
    max_samples : int
        Samples that the random features are of, over all environments, the largest thinned first.
    bootstrap : int
        Replicates of the within-environment bootstrap; 0 for none. Each is a whole search.

    References
    ----------
    B. Huang, K. Zhang, J. Zhang, J. Ramsey, R. Sanchez-Romero, C. Glymour, B. Schölkopf, "Causal discovery from
    heterogeneous/nonstationary data", JMLR 21 (2020), algorithms 1 and 2; PC-stable as in ``bench.pc``, with its deviations.
    Deviations: the environment is a category where causal-learn takes its number for a quantity, so the order of the
    environments does not matter; targets per environment are ours.
    """

    capabilities = Capabilities(estimates_targets=True, edge_output="binary", target_output="binary", deterministic=True)
    meta = Meta(
        "CD-NOD: the environment as one more column of PC, then targets by tests given the parents (package causal-learn).",
        "Huang et al., Causal discovery from heterogeneous/nonstationary data, JMLR 21, 2020",
        wraps="causal-learn (MIT)",
        mechanisms="linear (random_features: any)",
        noise="Gaussian (random_features: any)",
        interventions=("any",),
        complexity="up to d^(max_conditioning + 2) tests on dense graphs, E times as dear where they ask about the environment",
        n_variables=(2, 30),
    )
    search_space: ClassVar = {
        "alpha": [0.001, 0.003, 0.01, 0.03],
        "alpha_targets": [0.001, 0.01, 0.05],
        "max_conditioning": [1, 2, 3],
    }

    def __init__(
        self,
        test: Literal["linear", "random_features"] = "linear",
        alpha: Annotated[float, Gt(0), Lt(1)] = 0.01,
        alpha_targets: Annotated[float, Gt(0), Lt(1)] = 0.05,
        max_conditioning: Annotated[int, Ge(0)] | None = 3,
        max_samples: Annotated[int, Ge(2)] = 2000,
        bootstrap: Replicates = 0,
    ) -> None:
        self.test = test
        self.alpha = alpha
        self.alpha_targets = alpha_targets
        self.max_conditioning = max_conditioning
        self.max_samples = max_samples
        self.bootstrap = bootstrap

    def effective_capabilities(self) -> Capabilities:
        """Without random features and resampling, nothing is drawn."""
        able = super().effective_capabilities()
        return dataclasses.replace(able, deterministic=self.test == "linear" and self.bootstrap == 0)

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        d, budget = observed.n_variables, budget or Budget()
        tests: _Tests
        tests = _LinearTests(observed) if self.test == "linear" else _FeatureTests(observed, self.max_samples, rng)
        n_contexts = int(observed.n_environments > 1)
        targets = np.zeros((observed.n_environments, d), dtype=bool)
        try:
            found = pc(tests.independence, d, n_contexts, self.alpha, self.max_conditioning, budget, exogenous_first=True)
        except OutOfTime:
            return Fitted(_answer(np.zeros((d, d), dtype=bool), targets), cut_short=True)
        graph = found[:d, :d]
        changing = np.flatnonzero(found[d:, :d].any(axis=0)).tolist()
        targets, cut_short = _called_targets(tests, observed, graph, changing, self.alpha_targets, budget)
        return Fitted(_answer(graph, targets), cut_short=cut_short)

    def warm_up(self) -> None:
        """Import the package, and compile the linear tests."""
        X = np.random.default_rng(0).normal(size=(20, 3))
        observed = Observed((Environment(X), Environment(X + np.array([5, 0, 0]))))
        CdNod(test="linear").fit_point(observed, rng=np.random.default_rng(0))


def _answer(graph: BoolArray, targets: BoolArray) -> Estimate:
    return Estimate(edge_scores_of_class(graph), targets.astype(float), point_graph=graph, graph_kind="cpdag")


# Targets ----------------------------------------------------------------------------------------------------------------


def _called_targets(
    tests: _Tests, observed: Observed, graph: BoolArray, changing: Sequence[int], alpha: float, budget: Budget
) -> tuple[BoolArray, bool]:
    """The targets, bool (E, d), and whether the budget ran out before all changing variables were asked about."""
    known = [e for e, environment in enumerate(observed.environments) if environment.is_observational]
    asked = [e for e in range(observed.n_environments) if e not in known]
    p_values = np.full((observed.n_environments, observed.n_variables), np.nan)
    p_values[np.ix_(asked, changing)] = 1.0  # the family is the same, whether or not time is left to ask about all of it
    level = alpha / max(1, len(asked) * len(changing))
    cut_short = False
    for i in changing:
        if budget.expired:
            cut_short = True
            break
        p_values[asked, i] = _change_p_values(tests, i, _possible_parents(graph, i), asked, known, level)
    return holm_evidence(p_values.reshape(1, -1), alpha).reshape(p_values.shape) > 0, cut_short


def _possible_parents(graph: BoolArray, i: int) -> list[list[int]]:
    """Sets that may be the parents of i in the class: those directed into it, with some of its undirected neighbours."""
    parents = np.flatnonzero(graph[:, i] & ~graph[i]).tolist()
    neighbours = np.flatnonzero(graph[:, i] & graph[i]).tolist()
    sizes = range(len(neighbours) + 1) if len(neighbours) <= _MOST_NEIGHBOURS else (0, len(neighbours))
    return [sorted([*parents, *some]) for size in sizes for some in combinations(neighbours, size)]


def _change_p_values(
    tests: _Tests, i: int, sets: list[list[int]], asked: list[int], known: list[int], level: float
) -> list[float]:
    """For each environment asked about, the largest p-value over the sets of "i given its parents is as in the reference"."""

    def p_values(environments: list[int], reference: list[int]) -> list[float]:
        found = [tests.changes(i, parents, environments, reference) for parents in sets]
        return [max(of_one) for of_one in zip(*found, strict=True)]

    if known or not asked:
        return p_values(asked, known)
    # Nothing is known to be observational: take the most different environment away, until none differs from the rest.
    answer, rest = dict.fromkeys(asked, 1.0), list(asked)
    while len(rest) > 1:
        against = {e: p_values([e], [f for f in rest if f != e])[0] for e in rest}
        most_different = min(against, key=lambda e: against[e])
        if against[most_different] >= level:
            break
        answer[most_different] = against[most_different]
        rest.remove(most_different)
    return list(answer.values())


# Tests ------------------------------------------------------------------------------------------------------------------


class _Tests(ABC):
    """What the search and the calling of targets ask; column d is the environment."""

    @abstractmethod
    def independence(self, i: int, j: int, given: Collection[int]) -> float:
        """p-value of "i and j are independent given some others", i < j."""

    @abstractmethod
    def changes(self, i: int, parents: list[int], environments: list[int], reference: list[int]) -> list[float]:
        """For each environment the p-value of "i given its parents is as in the reference"."""


class _LinearTests(_Tests):
    """Fisher's z, on environment-centred moments where the environment is given; F tests where it is asked about."""

    def __init__(self, observed: Observed) -> None:
        self._environments = environment_moments(observed)
        self._pooled, self._centred = merge(self._environments), merge_centred(self._environments)
        self._context = observed.n_variables
        self._against: dict[tuple[tuple[int, ...], tuple[int, ...]], InvarianceTest] = {}

    def independence(self, i: int, j: int, given: Collection[int]) -> float:
        variables = [k for k in given if k != self._context]
        if j == self._context:
            # Changed anywhere: Bonferroni over the environments, each against all others.
            return min(1.0, len(self._environments) * float(self._each_against_rest.p_values(i, variables).min()))
        return independence_p_value(self._pooled if len(variables) == len(given) else self._centred, i, j, variables)

    def changes(self, i: int, parents: list[int], environments: list[int], reference: list[int]) -> list[float]:
        key = (tuple(environments), tuple(reference))
        if key not in self._against:
            rest = merge(self._environments[f] for f in reference)
            self._against[key] = InvarianceTest(rest, [self._environments[e] for e in environments])
        return [float(p) for p in self._against[key].p_values(i, parents)]

    @cached_property
    def _each_against_rest(self) -> InvarianceTest:
        before = [None, *accumulate(self._environments[:-1], _merged)]
        after = [None, *accumulate(self._environments[:0:-1], _merged)][::-1]
        rest = [merge(m for m in pair if m is not None) for pair in zip(before, after, strict=True)]
        return InvarianceTest(rest, self._environments)


def _merged(a: Moments, b: Moments) -> Moments:
    return merge([a, b])


class _FeatureTests(_Tests):
    """Random features; where the environment is asked about, an indicator of each, and Bonferroni over them.

    One test of all indicators together would drown what a single environment changes.
    """

    def __init__(self, observed: Observed, max_samples: int, rng: np.random.Generator) -> None:
        sizes = [e.n_samples for e in observed.environments]
        rows = thinned_rows(observed, max_samples, rng)
        self._X, self._label = observed.pooled()[rows], np.repeat(np.arange(len(sizes)), sizes)[rows]
        self._rng = np.random.default_rng(rng.integers(2**63))
        self._context = observed.n_variables
        self._indicators = range(self._context, self._context + len(sizes))
        self._joint = self._test(np.arange(len(rows)), self._label[:, None] == np.arange(len(sizes)))
        self._pairs: dict[tuple[int, tuple[int, ...]], RandomFeatureTest] = {}

    def independence(self, i: int, j: int, given: Collection[int]) -> float:
        variables = [k for k in given if k != self._context]
        if j == self._context:
            return min(1.0, len(self._indicators) * min(self._joint(i, k, variables) for k in self._indicators))
        return self._joint(i, j, variables if len(variables) == len(given) else [*variables, *self._indicators])

    def changes(self, i: int, parents: list[int], environments: list[int], reference: list[int]) -> list[float]:
        return [self._against(e, tuple(reference))(i, self._context, parents) for e in environments]

    def _against(self, environment: int, reference: tuple[int, ...]) -> RandomFeatureTest:
        """Tests on the samples of one environment and of the reference alone, with an indicator of the former."""
        key = (environment, reference)
        if key not in self._pairs:
            rows = np.flatnonzero(np.isin(self._label, [environment, *reference]))
            self._pairs[key] = self._test(rows, self._label[rows, None] == environment)
        return self._pairs[key]

    def _test(self, rows: npt.NDArray[np.intp], indicators: BoolArray) -> RandomFeatureTest:
        blocks = np.hsplit(np.hstack([self._X[rows], indicators]), self._context + indicators.shape[1])
        return RandomFeatureTest(blocks, [k >= self._context for k in range(len(blocks))], self._rng)
