"""UT-IGSP: a sparsest permutation search with interventions of unknown targets, on sufficient statistics.

The search walks over DAGs that are minimal I-maps of permutations, by reversing covered arrows. It prefers fewer arrows and,
among equally sparse graphs, fewer *variants*: pairs of an environment and a variable whose regression on its parents differs
from the observational one. The variants of the best DAG are the estimated targets.

Sets of variables are bit masks in Python integers: bit i stands for variable i. They are cheap to hash, so that every test
is made once.

Not here: known targets, which the published algorithm can use, and tests that are not linear-Gaussian.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from bench.bootstrap import PointMethod, Replicates
from bench.gaussian import (
    Moments,
    critical_correlation,
    environment_moments,
    merge,
    merge_centred,
    partial_correlation,
    partial_correlations_given_rest,
)
from bench.invariance import Consensus, Reference, invariance_of
from bench.orders import adjacency, members
from bench.registry import register_method
from bench.types import BoolArray, Budget, Capabilities, Environment, Estimate, Fitted, Meta, Observed

Level = Annotated[float, Gt(0), Lt(1)]
"""Level of a test."""


@register_method("ut_igsp")
class UTIGSP(PointMethod):
    """Unknown-target interventional greedy sparsest permutation, linear-Gaussian.

    Parameters
    ----------
    alpha : float
        Level of the tests of conditional independence (Fisher's z).
    alpha_invariance : float
        Level of each test of invariance (variance and coefficients together).
    depth : int
        How many reversals that do not improve the score may follow each other.
    n_runs : int
        Searches from different permutations; the best score wins.
    ci_data : {"observational", "pooled"}
        Samples for conditional independence: the observational ones, as in the paper, or those of all environments, each
        centred on its own mean. Pooled data are used as well where no environment is known to be observational.
    bootstrap : int
        Resampled data sets for edge and target frequencies; 0 for the plain answer.

    Notes
    -----
    Pooled data are the default: on linear Gaussian draws (d = 10 and 20, hard and shift interventions, 10 or 20 environments)
    they were the better choice by far under shifts and with few samples. Hard interventions change dependences, so that on
    dense graphs (2 edges per node, d = 20, 500 observational samples) the observational samples alone were better.
    ``results/comparisons`` holds a comparison with the authors' software.

    The estimate is one DAG of the I-Markov class that it stands for, edge probabilities 0 or 1. Environments known to be
    observational are pooled into the reference and have no targets. Where none is known, the reference of each regression
    is what most samples agree on (:class:`bench.invariance.Consensus`): a variable that is a target in most environments then
    passes for observational there. A single environment has no targets; of two that differ, the larger is the reference, of
    two of equal size both are marked.

    References
    ----------
    C. Squires, Y. Wang, C. Uhler, "Permutation-based causal structure learning with unknown intervention targets", UAI 2020,
    algorithm 1. Deviations: the score is compared lexicographically, arrows before variants, as the authors' software does,
    instead of their sum; no target is ever known, so every covered arrow may be reversed; pooled data for conditional
    independence, and the reference where no environment is known to be observational, are ours.
    L. Solus, Y. Wang, C. Uhler, "Consistency guarantees for greedy permutation-based causal inference algorithms",
    Biometrika 108 (2021): the minimum degree start.
    """

    capabilities = Capabilities(targets="ignored", estimates_targets=True, edge_output="binary", target_output="binary")
    meta = Meta(
        "UT-IGSP: permutation search with unknown intervention targets (own implementation).",
        "Squires, Wang, Uhler, UAI 2020, arXiv:1910.09007",
        mechanisms="linear",
        noise="Gaussian",
        interventions=("any",),
        complexity="n_runs searches of depth `depth`: covered arrows^depth graphs at worst, d tests of d³ each per graph",
        n_variables=(2, 100),
    )
    search_space: ClassVar = {
        "alpha": [1e-5, 1e-4, 1e-3, 1e-2, 0.05],
        "alpha_invariance": [1e-5, 1e-4, 1e-3, 1e-2, 0.05],
        "depth": [2, 4, 6],
        "ci_data": ["observational", "pooled"],
    }

    def __init__(
        self,
        alpha: Level = 1e-3,
        alpha_invariance: Level = 1e-3,
        depth: Annotated[int, Ge(0), Le(100)] = 4,
        n_runs: Annotated[int, Ge(1)] = 10,
        ci_data: Literal["observational", "pooled"] = "pooled",
        bootstrap: Replicates = 0,
    ) -> None:
        self.alpha = alpha
        self.alpha_invariance = alpha_invariance
        self.depth = depth
        self.n_runs = n_runs
        self.ci_data = ci_data
        self.bootstrap = bootstrap

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        d = observed.n_variables
        tests = _Tests.of(observed, self.alpha, self.alpha_invariance, self.ci_data)
        search = _Search(tests, self.depth, rng, budget or Budget())
        best = search.start(search.minimum_degree_order())
        for run in range(self.n_runs):
            start = best if run == 0 else search.start(search.minimum_degree_order())
            best = min(best, search.descend(start), key=lambda dag: dag.score)
            if search.cut_short:
                break
        graph = adjacency(best.parents)
        targets = np.zeros((observed.n_environments, d), dtype=bool)
        for i, mask in enumerate(best.parents):
            targets[tests.compared, i] = tests.variants(i, mask)
        estimate = Estimate(
            graph.astype(np.float64),
            target_probability=targets.astype(np.float64),
            point_graph=graph,
            graph_kind="dag",
            targets=targets,
        )
        return Fitted(estimate, cut_short=search.cut_short)

    def warm_up(self) -> None:
        """Compile the kernels of the tests."""
        X = np.random.default_rng(0).normal(size=(20, 3))
        observed = Observed((Environment(X, is_observational=True), Environment(X)))
        self.fit_point(observed, rng=np.random.default_rng(0))


class _Dag(NamedTuple):
    parents: tuple[int, ...]
    """Mask of each variable's parents."""
    score: tuple[int, int]
    """Arrows, then variants; smaller is better."""


class _Tests:
    """The two oracles of the search, each question answered once.

    Parameters
    ----------
    independence : Moments
        Samples for conditional independence.
    invariance : Reference or Consensus
        Of the environments ``compared``, which the rows of :meth:`variants` follow.
    """

    def __init__(self, independence: Moments, alpha: float, invariance: Reference | Consensus, compared: list[int]) -> None:
        self.n_variables = d = independence.n_variables
        self.compared = compared
        self._independence, self._invariance = independence, invariance
        self._critical = [critical_correlation(alpha, independence.degrees + 1, n_given) for n_given in range(d)]
        self._independent: dict[tuple[int, int, int], bool] = {}
        self._variants: dict[tuple[int, int], tuple[BoolArray, int]] = {}

    @classmethod
    def of(cls, observed: Observed, alpha: float, alpha_invariance: float, ci_data: str) -> _Tests:
        """Choose the samples of both tests; see the notes of :class:`UTIGSP`."""
        invariance, compared = invariance_of(observed, alpha_invariance)
        environments = environment_moments(observed)
        reference = [m for m, e in zip(environments, observed.environments, strict=True) if e.is_observational]
        only_reference = ci_data == "observational" and reference
        return cls(merge(reference) if only_reference else merge_centred(environments), alpha, invariance, compared)

    def independent(self, i: int, j: int, given: int) -> bool:
        """Are i and j independent given the variables of the mask?"""
        question = (i, j, given) if i < j else (j, i, given)
        answer = self._independent.get(question)
        if answer is None:
            variables = list(members(given))
            critical = self._critical[len(variables)]
            answer = critical > 1 or abs(partial_correlation(self._independence, i, j, variables)) < critical
            self._independent[question] = answer
        return answer

    def dependent(self, i: int, others: list[int]) -> list[int]:
        """Those of ``others`` that i depends on given the rest of them."""
        if not others or self._critical[len(others) - 1] > 1:
            return []
        size = np.abs(partial_correlations_given_rest(self._independence, i, others))
        return [others[k] for k in np.flatnonzero(size >= self._critical[len(others) - 1])]

    def variants(self, i: int, parents: int) -> BoolArray:
        """In which compared environments the regression of i on its parents differs, bool (E,)."""
        return self._variants_and_number(i, parents)[0]

    def n_variants(self, i: int, parents: int) -> int:
        """Number of :meth:`variants`."""
        return self._variants_and_number(i, parents)[1]

    def _variants_and_number(self, i: int, parents: int) -> tuple[BoolArray, int]:
        answer = self._variants.get((i, parents))
        if answer is None:
            differs = self._invariance.variants(i, list(members(parents)))
            answer = self._variants[i, parents] = differs, int(differs.sum())
        return answer


class _Search:
    """Depth-first search over minimal I-maps, as in greedy SP; every random choice comes from ``rng``."""

    def __init__(self, tests: _Tests, depth: int, rng: np.random.Generator, budget: Budget) -> None:
        self.tests, self.depth, self.rng, self.budget = tests, depth, rng, budget
        self.cut_short = False
        d = tests.n_variables
        self._dependent_given_rest = np.zeros((d, d), dtype=bool)
        for i in range(d):
            self._dependent_given_rest[i, tests.dependent(i, [j for j in range(d) if j != i])] = True
        self._dependent_given_rest |= self._dependent_given_rest.T  # equal but for rounding

    def minimum_degree_order(self) -> list[int]:
        """A permutation whose minimal I-map is sparse: the variable of least degree comes last; eliminate it, repeat.

        On the graph of pairs that are dependent given all other variables; ties are broken at random.
        """
        graph = self._dependent_given_rest.copy()
        left = np.ones(len(graph), dtype=bool)
        order: list[int] = []
        while left.any():
            degree = np.where(left, graph.sum(axis=0), len(graph))
            chosen = int(self.rng.choice(np.flatnonzero(degree == degree.min())))
            neighbours = np.flatnonzero(graph[chosen])
            graph[np.ix_(neighbours, neighbours)] = True
            graph[neighbours, neighbours] = False
            graph[chosen] = graph[:, chosen] = left[chosen] = False
            order.append(chosen)
        return order[::-1]

    def start(self, order: list[int]) -> _Dag:
        """Minimal I-map of a permutation: i -> j where i comes before j and they depend given all others before j."""
        parents = [0] * len(order)
        for position, j in enumerate(order):
            parents[j] = sum(1 << i for i in self.tests.dependent(j, order[:position]))
        n_arrows = sum(mask.bit_count() for mask in parents)
        n_variants = sum(self.tests.n_variants(i, mask) for i, mask in enumerate(parents))
        return _Dag(tuple(parents), (n_arrows, n_variants))

    def descend(self, dag: _Dag) -> _Dag:
        """Move to better graphs until none is within reach."""
        while (better := self._better(dag, self.depth, set())) is not None:
            dag = better
        return dag

    def _better(self, dag: _Dag, depth: int, visited: set[tuple[int, ...]]) -> _Dag | None:
        """A graph of better score after at most ``depth`` reversals of equal score and one that improves."""
        if self.budget.expired:
            self.cut_short = True
            return None
        visited.add(dag.parents)
        neighbours = [n for n in self._neighbours(dag) if n.score <= dag.score]
        best = min(neighbours, key=lambda n: n.score, default=dag)
        if best.score < dag.score:
            return best
        if depth > 0:
            for k in self.rng.permutation(len(neighbours)):
                if neighbours[k].parents not in visited:
                    found = self._better(neighbours[k], depth - 1, visited)
                    if found is not None:
                        return found
        return None

    def _neighbours(self, dag: _Dag) -> Iterator[_Dag]:
        """The graph after each reversal of a covered arrow i -> j: one where the other parents of j are those of i."""
        for j, parents_of_j in enumerate(dag.parents):
            for i in members(parents_of_j):
                if dag.parents[i] == parents_of_j ^ (1 << i):
                    yield self._reversed(dag, i, j)
                    break  # two covered parents of j would be parents of each other

    def _reversed(self, dag: _Dag, i: int, j: int) -> _Dag:
        """Reverse i -> j and drop the arrows from their common parents that the new order makes superfluous."""
        independent, n_variants = self.tests.independent, self.tests.n_variants
        common = dag.parents[i]
        to_i, to_j = common | 1 << j, common
        for p in members(common):
            rest = common ^ (1 << p)
            if independent(i, p, rest | 1 << j):
                to_i ^= 1 << p
            if independent(j, p, rest):
                to_j ^= 1 << p
        parents = list(dag.parents)
        n_arrows, n_variants_before = dag.score
        n_arrows += to_i.bit_count() + to_j.bit_count() - parents[i].bit_count() - parents[j].bit_count()
        change = n_variants(i, to_i) + n_variants(j, to_j) - n_variants(i, parents[i]) - n_variants(j, parents[j])
        parents[i], parents[j] = to_i, to_j
        return _Dag(tuple(parents), (n_arrows, n_variants_before + change))
