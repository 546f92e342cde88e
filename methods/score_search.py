"""Score search plus tests: a graph by the BIC of pooled data, then targets by tests of invariance given its parents.

The strongest simple way to use several environments without a model of interventions: centring each environment removes
shifts, an order search finds the graph, and what changes given its parents is a target. ``permutation_score`` does both at
once; this is what it has to beat.

Not here: hard interventions in the score; their samples stay in the regressions of their targets, and bend them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from bench.bootstrap import PointMethod, Replicates
from bench.errors import InputError, MissingDependency
from bench.gaussian import Moments, bic_local_score, environment_moments, merge_centred
from bench.graphs import consistent_extension, cpdag, edge_scores_of_class
from bench.invariance import holm_evidence, invariance_of
from bench.orders import Memoised, OrderSearch, adjacency, mask_of, members, pair_probabilities
from bench.registry import register_method
from bench.types import BoolArray, Budget, Capabilities, Environment, Estimate, Fitted, FloatArray, Meta, Observed

_SATURATED = -1e100
"""Score of a parent set that leaves too few residual degrees of freedom; finite, since the search subtracts scores."""

_FEWEST_DEGREES = 5
"""Residual degrees of freedom of a parent set: with fewer, residuals vanish by chance and the BIC rewards it."""


@register_method("score_search")
class ScoreSearch(PointMethod):
    """Order search on the BIC of environment-centred data, then Chow and F tests of every variable given its parents.

    1. *Graph*: all samples, each environment centred on its own mean, are scored by the Gaussian BIC, and the best order and
       parents are searched (``bench.orders``). The BIC knows graphs up to Markov equivalence only.
    2. *Orientation*: covered edges, whose reversals lead through the equivalence class, are reversed for as long as fewer
       variables change given their parents, over all environments; at equal numbers, for as long as they change less.
    3. *Targets*: each variable is tested given its parents in each environment, against the observational samples where there
       are any, else against the environments that agree with each other. Holm's procedure over the variables of an
       environment decides.

    Parameters
    ----------
    penalty : float
        1 is the BIC; 2 is what the authors of FLOP recommend for structures.
    alpha : float
        Family-wise level of the tests of one environment.
    search : {"own", "flop"}
        "own" is the search of this project. "flop" is that of FLOP's authors in the package ``flopsearch`` (``pip install
        'cadibench[flop]'``), which takes no seed: two fits may differ. It refuses singular data and honours no budget. The
        default never depends on what is installed.
    orientation : {"targets", "none"}
        "none" leaves step 2 out: the answer is a CPDAG, and the targets are those of one DAG in it.
    patience : int
        Restarts of the order search, from perturbations of its best order, that may improve nothing one after another;
        with search=flop its restarts, all of them.
    bootstrap : int
        Replicates of the within-environment bootstrap; 0 for none.

    Notes
    -----
    ``target_probability`` is that of the method ``marginal``: a score from the p-values, above .5 where a variable is called.
    ``results/comparisons`` holds a comparison of both searches.

    References
    ----------
    M. Wienöbst, L. Henckel, S. Weichwald, "Embracing discrete search: a reasonable approach to causal structure learning",
    arXiv:2510.04970 (2025). D. M. Chickering, "A transformational characterization of equivalent Bayesian network
    structures", UAI 1995: covered reversals. G. C. Chow, "Tests of equality between sets of coefficients in two linear
    regressions", Econometrica 28 (1960). S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6 (1979).
    """

    capabilities = Capabilities(estimates_targets=True, edge_output="score", target_output="score")
    meta = Meta(
        "Order search on the BIC of environment-centred data, then targets by Chow and F tests given the parents.",
        "Wienöbst, Henckel, Weichwald, arXiv:2510.04970",
        wraps="flopsearch (with search=flop only; MPL-2.0)",
        mechanisms="linear",
        noise="Gaussian",
        interventions=("any",),
        complexity="some d² local scores for each restart, cubic in the number of parents each",
        n_variables=(2, 100),
    )
    search_space: ClassVar = {
        "penalty": [1.0, 1.5, 2.0, 3.0],
        "alpha": [1e-3, 0.01, 0.05],
        "patience": [0, 5, 20],
    }

    def __init__(
        self,
        penalty: Annotated[float, Gt(0)] = 2.0,
        alpha: Annotated[float, Gt(0), Lt(1)] = 0.01,
        search: Literal["own", "flop"] = "own",
        orientation: Literal["targets", "none"] = "targets",
        patience: Annotated[int, Ge(0)] = 20,
        bootstrap: Replicates = 0,
    ) -> None:
        self.penalty = penalty
        self.alpha = alpha
        self.search = search
        self.orientation = orientation
        self.patience = patience
        self.bootstrap = bootstrap

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        d = observed.n_variables
        score = Memoised(CentredBIC(merge_centred(environment_moments(observed)), self.penalty), d)
        if self.search == "flop":
            parents, cut_short = flop(observed, self.penalty, self.patience), False
        else:
            search = OrderSearch(score, d, rng, budget)
            parents, cut_short = search.run(self.patience).parents, search.cut_short
        changes = Changes(observed, self.alpha)
        if self.orientation == "targets":
            parents = fewest_changes(parents, changes)
        graph = adjacency(parents)
        target_probability = changes.target_probability(parents)
        point_graph = graph if self.orientation == "targets" else cpdag(graph)
        estimate = Estimate(
            edge_scores(pair_probabilities(score, parents), point_graph),
            target_probability,
            point_graph=point_graph,
            graph_kind="dag" if self.orientation == "targets" else "cpdag",
            targets=target_probability > 0.5,
        )
        return Fitted(estimate, cut_short=cut_short)

    def warm_up(self) -> None:
        """Compile the kernels, and import the package that searches where it is not this project."""
        X = np.random.default_rng(0).normal(size=(20, 3))
        self.fit_point(Observed((Environment(X, True), Environment(X))), rng=np.random.default_rng(0))


class CentredBIC:
    """Local score of step 1: the BIC of a variable given the mask of its parents.

    Parameters
    ----------
    data : Moments
        Of all samples, each environment centred on its own mean.
    penalty : float
    """

    def __init__(self, data: Moments, penalty: float) -> None:
        self._data, self._penalty = data, penalty

    def __call__(self, variable: int, parents: int) -> float:
        if self._data.degrees - parents.bit_count() < _FEWEST_DEGREES:
            return _SATURATED
        return bic_local_score(self._data, variable, list(members(parents)), penalty=self._penalty)


def flop(observed: Observed, penalty: float, n_restarts: int) -> list[int]:
    """Parent masks of a DAG in the class that the package ``flopsearch`` finds on environment-centred samples.

    Raises
    ------
    MissingDependency
        If the package is not installed.
    InputError
        If it refuses the data.
    """
    try:
        import flopsearch
    except ImportError as error:
        raise MissingDependency("score_search[search=flop] needs flopsearch: pip install 'cadibench[flop]'") from error
    d = observed.n_variables
    if d == 1:
        return [0]
    data = merge_centred(environment_moments(observed))
    if not (data.scatter.diagonal() > 0).all():
        raise InputError("flopsearch needs variables that vary, got a constant one")
    centred = np.concatenate([e.X - e.X.mean(axis=0) for e in observed.environments])
    try:
        found = flopsearch.flop(centred / centred.std(axis=0), penalty, restarts=n_restarts)
    except RuntimeError as error:
        raise InputError(f"flopsearch refuses the data: {' '.join(str(error).split())}") from error
    dag = consistent_extension(found != 0)
    if dag is None:
        raise InputError("flopsearch returned a graph that no DAG extends")
    return [mask_of(column) for column in dag.T]


class Changes:
    """Which variables change given their parents, in which environments.

    Parameters
    ----------
    observed : Observed
    alpha : float
        Family-wise level of one environment.
    """

    def __init__(self, observed: Observed, alpha: float) -> None:
        self._shape = observed.n_environments, observed.n_variables
        self._alpha = alpha
        self._level = alpha / observed.n_variables
        self._invariance, self._compared = invariance_of(observed, self._level)
        self._known: dict[tuple[int, int], FloatArray] = {}

    def p_values(self, variable: int, parents: int) -> FloatArray:
        """p-value of each environment that is compared, float64."""
        key = variable, parents
        if key not in self._known:
            self._known[key] = self._invariance.p_values(variable, list(members(parents)))
        return self._known[key]

    def amount(self, variable: int, parents: int) -> FloatArray:
        """Number of environments in which the variable changes at level alpha / d, and by how many nats of p in all."""
        excess = np.log(self._level) - np.log(np.maximum(self.p_values(variable, parents), np.finfo(np.float64).tiny))
        return np.array([(excess > 0).sum(), excess[excess > 0].sum()])

    def target_probability(self, parents: Sequence[int]) -> FloatArray:
        """Score of each target, above .5 where Holm's procedure over an environment's variables calls it, float64 (E, d)."""
        probability = np.zeros(self._shape)
        p_values = np.stack([self.p_values(j, mask) for j, mask in enumerate(parents)], axis=1)
        for e, row in zip(self._compared, p_values, strict=True):
            evidence = holm_evidence(row[None], self._alpha)
            probability[e] = 0.5 + 0.5 * evidence / (1 + np.abs(evidence))
        return probability


def fewest_changes(parents: Sequence[int], changes: Changes) -> list[int]:
    """Reverse the covered edge that spares most changes, until none spares any; step 2 of :class:`ScoreSearch`."""
    parents = list(parents)
    while True:
        best, least = None, (0.0, -1e-6)
        for j, mask in enumerate(parents):
            for i in members(mask):
                common = parents[i]
                if mask != common | 1 << i:
                    continue
                reversed_ = changes.amount(i, common | 1 << j) + changes.amount(j, common)
                difference = tuple(reversed_ - changes.amount(i, common) - changes.amount(j, mask))
                if difference < least:
                    best, least = (i, j), difference
        if best is None:
            return parents
        i, j = best
        parents[i], parents[j] = parents[i] | 1 << j, parents[i]


def edge_scores(probability: FloatArray, graph: BoolArray) -> FloatArray:
    """How sure the score is of each adjacency, given to its direction in ``graph`` (half of it to each of an undirected one).

    Parameters
    ----------
    probability : float64 (d, d)
        Of :func:`bench.orders.pair_probabilities`.
    graph : bool (d, d)
        DAG or CPDAG.
    """
    adjacent = np.minimum(probability + probability.T, 1.0)
    return np.where(graph | graph.T, adjacent * edge_scores_of_class(graph), probability)
