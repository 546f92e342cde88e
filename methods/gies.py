"""Greedy interventional equivalence search, through the PyPI package ``gies``, with told or with estimated targets.

The search (operators and essential graphs) is the package's. The score is built on ``bench.gaussian``, because the
package's own takes the mean of each environment away and cannot take singular data. ``gies`` is for oracle tracks, where a
suite grants the targets; ``gies_marginal`` first estimates them by the floor ``marginal`` and so runs everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Lt

from bench.bootstrap import PointMethod, Replicates
from bench.errors import InputError
from bench.gaussian import Moments, bic_local_score, environment_moments, merge, merge_centred, moments
from bench.graphs import edge_scores_of_class
from bench.registry import make_method, register_method
from bench.types import BoolArray, Budget, Capabilities, Estimate, Fitted, Meta, Observed

Intercept = Literal["shared", "per_environment"]
Penalty = Annotated[float, Gt(0)]
_PENALTIES = [0.5, 1.0, 2.0, 4.0]

_META = Meta(
    "Greedy interventional equivalence search on told targets (package gies).",
    "Hauser, Bühlmann, Characterization and greedy learning of interventional Markov equivalence classes of directed "
    "acyclic graphs, JMLR 13, 2012",
    wraps="gies (BSD-3-Clause)",
    mechanisms="linear",
    noise="Gaussian",
    interventions=("hard", "hard_constant"),
    complexity="greedy steps, each over all paths of the graph: exponential in d where it is dense",
    n_variables=(2, 30),
)

_SMALLEST_GAIN = 1e-3
"""Nats below which a step is no gain: the package's own bound; less can be rounding between equivalent graphs."""

_SATURATED = -1e100
"""Score of a parent set that leaves no residual degree of freedom; finite, since the search subtracts scores."""


@register_method("gies")
class Gies(PointMethod):
    """GIES with the Gaussian BIC, given the targets of every environment.

    It models *do*-interventions: an intervened variable is cut from its parents, and its samples in that environment say
    nothing of its mechanism. Under shift, scale or mechanism-change interventions that model is wrong. With all
    targets told, its mean SHD at d = 10 is 1.4 under hard interventions and 6.5 under shifts; as in the package, with
    ``intercept="per_environment"``, to which a shift is invisible, and ``penalty=1``, it is 1.4 and 13.3. That is the oracle
    track of ``python run_bench.py run linear -d "hard, d=10" -d "shift, d=10" -m gies
    -m "gies[intercept=per_environment,penalty=1]" --repetitions 40``.

    The package lists all paths of the graph at every step, so that 20 variables take seconds, and dense graphs much longer.

    The answer is an interventional essential graph; ``edge_probability`` is 1 for a directed edge and .5 in both directions
    for an undirected one.

    Parameters
    ----------
    intercept : {"shared", "per_environment"}
        "shared": one intercept of each mechanism over all environments that do not intervene on it, as the model says, so that
        shifted means downstream of a target are evidence. "per_environment": each environment is centred on its own
        mean, as in the package.
    penalty : float
        Multiple of the BIC's penalty, which is 1 in the package.
    bootstrap : int
        Replicates of the within-environment bootstrap; 0 for none.

    References
    ----------
    Hauser & Bühlmann (2012), algorithm 1 (forward, backward and turning phases, repeated until none gains). Deviations: each
    variable's penalty is ½ log of the samples that do not intervene on it, per parent; the search also stops where a graph
    comes back, which only rounding can cause (duplicated variables).
    """

    capabilities = Capabilities(targets="required", edge_output="binary", deterministic=True)
    meta = _META
    search_space: ClassVar = {"intercept": ["shared", "per_environment"], "penalty": _PENALTIES}

    def __init__(self, intercept: Intercept = "shared", penalty: Penalty = 2.0, bootstrap: Replicates = 0) -> None:
        self.intercept = intercept
        self.penalty = penalty
        self.bootstrap = bootstrap

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        targets = [e.targets for e in observed.environments]
        told = [t for t in targets if t is not None]
        if len(told) < len(targets):
            raise InputError(
                f"gies needs the targets of all {len(targets)} environments, got those of {len(told)}; "
                "gies_marginal estimates them"
            )
        graph, cut_short = search(GaussianScore(environment_moments(observed), told, self.intercept, self.penalty, budget))
        return Fitted(_answer(graph), cut_short=cut_short)

    def warm_up(self) -> None:
        _warm_up()


@register_method("gies_marginal")
class GiesMarginal(PointMethod):
    """GIES on targets that the floor ``marginal`` estimates; its mistakes are passed on to the search.

    What lies downstream of a target is often called a target too, and its samples are then lost to its mechanism.

    Parameters
    ----------
    alpha : float
        Level of the marginal tests.
    intercept : {"shared", "per_environment"}
    penalty : float
        As in :class:`Gies`.
    bootstrap : int
        Replicates of the within-environment bootstrap, targets included; 0 for none.
    """

    capabilities = Capabilities(estimates_targets=True, edge_output="binary", target_output="score", deterministic=True)
    meta = dataclasses.replace(_META, summary="GIES on targets estimated by marginal tests (package gies).")
    builds_on = ("marginal",)
    search_space: ClassVar = {"alpha": [1e-5, 1e-4, 0.001, 0.01, 0.05], **Gies.search_space}

    def __init__(
        self,
        alpha: Annotated[float, Gt(0), Lt(1)] = 1e-4,
        intercept: Intercept = "shared",
        penalty: Penalty = 2.0,
        bootstrap: Replicates = 0,
    ) -> None:
        self.alpha = alpha
        self.intercept = intercept
        self.penalty = penalty
        self.bootstrap = bootstrap

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        marginal = make_method("marginal", alpha=self.alpha).fit(observed, rng=rng).estimate
        assert marginal.targets is not None
        called = [frozenset(np.flatnonzero(row).tolist()) for row in marginal.targets]
        graph, cut_short = search(GaussianScore(environment_moments(observed), called, self.intercept, self.penalty, budget))
        return Fitted(_answer(graph, marginal), cut_short=cut_short)

    def warm_up(self) -> None:
        _warm_up()


def _answer(graph: BoolArray, marginal: Estimate | None = None) -> Estimate:
    return Estimate(
        edge_scores_of_class(graph),
        target_probability=marginal.target_probability if marginal else None,
        targets=marginal.targets if marginal else None,
        point_graph=graph,
        graph_kind="i-essential",
    )


def _warm_up() -> None:
    data = [moments(np.random.default_rng(0).normal(size=(20, 3)))]
    search(GaussianScore(data, [frozenset()], "shared"))


class GaussianScore:
    """What the package's search asks of a score: ``p``, ``interv`` and ``local_score``.

    Parameters
    ----------
    environments : sequence of Moments
        One for each of E environments.
    targets : sequence of frozenset of int
        Their targets.
    intercept : {"shared", "per_environment"}
    penalty : float
        See :class:`Gies`.
    budget : Budget or None
        Where it runs out, ``local_score`` raises :class:`OutOfTime`.
    """

    def __init__(
        self,
        environments: Sequence[Moments],
        targets: Sequence[frozenset[int]],
        intercept: Intercept,
        penalty: float = 1.0,
        budget: Budget | None = None,
    ) -> None:
        self.p = environments[0].n_variables
        self.interv = sorted({tuple(sorted(t)) for t in targets})
        join = merge if intercept == "shared" else merge_centred
        untouched = [[m for m, t in zip(environments, targets, strict=True) if j not in t] for j in range(self.p)]
        self._moments = [join(parts) if parts else None for parts in untouched]
        self._penalty = penalty
        self._budget = budget
        self._known: dict[tuple[int, frozenset[int]], float] = {}

    def local_score(self, variable: int, parents: Collection[int]) -> float:
        """BIC of a variable given its parents, on the samples that do not intervene on it; larger is better."""
        if self._budget is not None and self._budget.expired:
            raise OutOfTime
        key = (int(variable), frozenset(int(i) for i in parents))
        if key not in self._known:
            self._known[key] = self._score(*key)
        return self._known[key]

    def _score(self, variable: int, parents: frozenset[int]) -> float:
        data = self._moments[variable]
        if data is None:  # intervened on everywhere: no sample speaks for any parent
            return -self._penalty * len(parents)
        if parents and len(parents) >= data.degrees:
            return _SATURATED
        return bic_local_score(data, variable, sorted(parents), penalty=self._penalty)


class OutOfTime(Exception):
    """The budget ran out in the middle of a step."""


def search(score: GaussianScore) -> tuple[BoolArray, bool]:
    """Run GIES from the empty graph.

    Returns
    -------
    graph : bool (d, d)
        Interventional essential graph.
    cut_short : bool
        The budget ran out; the graph is that of the last complete step.
    """
    from gies import main, utils  # at first use: listing the methods stays fast

    graph = np.zeros((score.p, score.p))
    seen = {graph.tobytes()}
    gained = True
    try:
        while gained:
            gained = False
            for step in (main.forward_step, main.backward_step, main.turning_step):
                while True:
                    gain, partial = step(graph, score)
                    if gain <= _SMALLEST_GAIN:
                        break
                    graph = utils.replace_unprotected(partial, score.interv)
                    if graph.tobytes() in seen:
                        return graph != 0, False
                    seen.add(graph.tobytes())
                    gained = True
    except OutOfTime:
        return graph != 0, True
    return graph != 0, False
