"""Score search plus tests: a graph by the BIC of pooled data, then targets by tests of invariance given its parents.

The strongest simple way to use several environments without a model of interventions: centring each environment removes
shifts, an order search finds the graph, and what changes given its parents is a target. ``permutation_score`` does both at
once; this is what it has to beat.

Not here: hard interventions in the score; their samples stay in the regressions of their targets, and bend them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from bench.bootstrap import PointMethod, Replicates
from bench.compiled import compiled
from bench.errors import InputError, MissingDependency
from bench.gaussian import RESIDUAL_TOLERANCE, Moments, bic_local_score, environment_moments, merge_centred
from bench.graphs import consistent_extension, cpdag, edge_scores_of_class
from bench.invariance import holm_evidence, invariance_of
from bench.orders import SMALLEST_GAIN, Memoised, OrderSearch, adjacency, indicator, mask_of, members, pair_probabilities
from bench.registry import register_method
from bench.types import BoolArray, Budget, Capabilities, Environment, Estimate, Fitted, FloatArray, Meta, Observed

_SATURATED = -1e100
"""Score of a parent set that leaves too few residual degrees of freedom; finite, since the search subtracts scores."""

_FEWEST_DEGREES = 5
"""Residual degrees of freedom of a parent set: with fewer, residuals vanish by chance and the BIC rewards it."""

_WALKS = 10
"""Random walks through an equivalence class that may improve nothing one after another."""

_FEWEST_NATS = 1e-6
"""Nats of p-values that count as an improvement; less is rounding."""


@register_method("score_search")
class ScoreSearch(PointMethod):
    """Order search on the BIC of environment-centred data, then Chow and F tests of every variable given its parents.

    1. *Graph*: all samples, each environment centred on its own mean, are scored by the Gaussian BIC, and the best order and
       parents are searched (``bench.orders``). The BIC knows graphs up to Markov equivalence only.
    2. *Orientation*: covered edges, whose reversals lead through the equivalence class, are reversed for as long as fewer
       variables change given their parents, over all environments; at equal numbers, for as long as they change less. Random
       walks through the class start the descent again.
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
        "patience": [0, 10, 50],
    }

    def __init__(
        self,
        penalty: Annotated[float, Gt(0)] = 2.0,
        alpha: Annotated[float, Gt(0), Lt(1)] = 0.01,
        search: Literal["own", "flop"] = "own",
        orientation: Literal["targets", "none"] = "targets",
        patience: Annotated[int, Ge(0)] = 50,
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
        score = CentredBIC(merge_centred(environment_moments(observed)), self.penalty)
        if self.search == "flop":
            parents, cut_short = flop(observed, self.penalty, self.patience), False
        else:
            search = OrderSearch(score, d, rng, budget)
            parents, cut_short = search.run(self.patience).parents, search.cut_short
        changes = Changes(observed, self.alpha)
        if self.orientation == "targets":
            parents = fewest_changes(parents, changes, rng)
        graph = adjacency(parents)
        target_probability = changes.target_probability(parents)
        point_graph = graph if self.orientation == "targets" else cpdag(graph)
        estimate = Estimate(
            edge_scores_of_class(point_graph) if cut_short else edge_scores(pair_probabilities(score, parents), point_graph),
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


class CentredBIC(Memoised):
    """Local score of step 1: the BIC of a variable given the mask of its parents.

    Parameters
    ----------
    data : Moments
        Of all samples, each environment centred on its own mean.
    penalty : float
    """

    def __init__(self, data: Moments, penalty: float) -> None:
        super().__init__(self._bic, data.n_variables)
        self._data, self._penalty = data, penalty
        self._cost = 0.5 * penalty * float(np.log(data.n_samples))
        self._most_parents = data.degrees - _FEWEST_DEGREES

    def _bic(self, variable: int, parents: int) -> float:
        if parents.bit_count() > self._most_parents:
            return _SATURATED
        return bic_local_score(self._data, variable, list(members(parents)), penalty=self._penalty)

    def choose_parents(self, variable: int, mask: int, allowed: int) -> int:
        """The greedy choice, in one kernel."""
        if mask.bit_count() > self._most_parents:
            return super().choose_parents(variable, mask, allowed)
        chosen, free = (indicator(m, self._data.n_variables) for m in (mask, allowed))
        _choose_parents(self._data.scatter, self._data.n_samples, self._cost, self._most_parents, variable, chosen, free)
        return mask_of(chosen)


@compiled
def _choose_parents(
    scatter: Any, n_samples: Any, cost: Any, most_parents: Any, variable: Any, chosen: Any, allowed: Any
) -> None:
    """Add or remove the allowed variable that gains most, until none gains; ``chosen`` is changed in place.

    All additions are judged by one elimination of the parents: a variable takes its squared residual covariance with the
    child, over its own residual, off the residual of the child.
    """
    own = scatter[variable, variable]
    if own <= 0:
        chosen[:] = False
    while own > 0:
        parents = np.flatnonzero(chosen)
        residual, diagonal, cross = _residuals(scatter, variable, parents)
        score = _fit(residual, own, n_samples)
        best, gain = -1, SMALLEST_GAIN
        for c in np.flatnonzero(allowed):
            if chosen[c]:
                without, _, _ = _residuals(scatter, variable, parents[parents != c])
                change = _fit(without, own, n_samples) - score + cost
            elif len(parents) == most_parents:
                continue
            else:
                informative = diagonal[c] > RESIDUAL_TOLERANCE * scatter[c, c]
                with_c = residual - cross[c] ** 2 / diagonal[c] if informative else residual
                change = _fit(with_c, own, n_samples) - score - cost
            if change > gain:
                best, gain = int(c), change
        if best < 0:
            return
        chosen[best] = not chosen[best]


@compiled
def _fit(residual: Any, own: Any, n_samples: Any) -> Any:
    """Maximised log-likelihood, but for what no parent changes."""
    return -0.5 * n_samples * np.log(max(residual, RESIDUAL_TOLERANCE * own))


@compiled
def _residuals(scatter: Any, variable: Any, parents: Any) -> Any:
    """Given the parents: residual scatter of the variable, of each variable, and of each with it."""
    d = scatter.shape[0]
    rows = scatter[parents]
    diagonal, cross, residual = np.diag(scatter).copy(), scatter[variable].copy(), scatter[variable, variable]
    for p in range(len(parents)):
        pivot = rows[p, parents[p]]
        if pivot <= RESIDUAL_TOLERANCE * scatter[parents[p], parents[p]]:
            continue  # adds nothing to those before it
        for q in range(p + 1, len(parents)):
            ratio = rows[q, parents[p]] / pivot
            for t in range(d):
                rows[q, t] -= ratio * rows[p, t]
        at_variable = rows[p, variable] / pivot
        for t in range(d):
            diagonal[t] -= rows[p, t] ** 2 / pivot
            cross[t] -= rows[p, t] * at_variable
        residual -= rows[p, variable] * at_variable
    return residual, diagonal, cross


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


def fewest_changes(parents: Sequence[int], changes: Changes, rng: np.random.Generator) -> list[int]:
    """Step 2 of :class:`ScoreSearch`: the member of an equivalence class with the fewest changes, by iterated local search.

    Parameters
    ----------
    parents : sequence of int
        Mask of each variable.
    changes : Changes
    rng : Generator
        Of the random walks through the class from which the descent starts again, ``_WALKS`` in a row without improvement.
    """

    def amount(dag: list[int]) -> tuple[float, float]:
        number, nats = np.sum([changes.amount(j, mask) for j, mask in enumerate(dag)], axis=0)
        return float(number), float(nats)

    best = _spare_changes(list(parents), changes)
    least, failed = amount(best), 0
    while failed < _WALKS and _covered_edges(best):
        walked = list(best)
        for _ in walked:
            edges = _covered_edges(walked)
            walked = _reversed(walked, *edges[rng.integers(len(edges))])
        found = _spare_changes(walked, changes)
        number, nats = amount(found)
        failed += 1
        if (number, nats) < (least[0], least[1] - _FEWEST_NATS):
            best, least, failed = found, (number, nats), 0
    return best


def _spare_changes(parents: list[int], changes: Changes) -> list[int]:
    """Reverse the covered edge that spares most changes, until none spares any."""
    while True:
        best, least = None, (0.0, -_FEWEST_NATS)
        for i, j in _covered_edges(parents):
            after = changes.amount(i, parents[i] | 1 << j) + changes.amount(j, parents[i])
            number, nats = after - changes.amount(i, parents[i]) - changes.amount(j, parents[j])
            if (number, nats) < least:
                best, least = (i, j), (number, nats)
        if best is None:
            return parents
        parents = _reversed(parents, *best)


def _covered_edges(parents: Sequence[int]) -> list[tuple[int, int]]:
    """Edges i -> j where the other parents of j are those of i."""
    return [(i, j) for j, mask in enumerate(parents) for i in members(mask) if mask == parents[i] | 1 << i]


def _reversed(parents: Sequence[int], i: int, j: int) -> list[int]:
    """The graph with the covered edge i -> j reversed."""
    after = list(parents)
    after[i], after[j] = parents[i] | 1 << j, parents[i]
    return after


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
