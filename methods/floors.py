"""Floors: the empty graph, a random graph with random targets, and targets told by nothing but a vanished variance.

Whoever does not beat them has learned nothing. The first two look at no data, and set what each metric gives to no information
at all; the third shows where targets are trivial. Further floors that look at data, but not at causes, are
``methods.sort_regress`` (for edges) and ``methods.marginal`` (for targets).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt

from bench.registry import register_method
from bench.types import BoolArray, Budget, Capabilities, Estimate, Fitted, FloatArray, Meta, Method, Observed


@register_method("empty")
class Empty(Method):
    """The graph without edges. It says nothing of targets."""

    capabilities = Capabilities(edge_output="binary", deterministic=True)
    meta = Meta(
        "Empty graph (floor).",
        "no paper: what no information at all scores",
        mechanisms="any",
        noise="any",
        interventions=(),
        complexity="d²",
        n_variables=(1, None),
    )
    expected_failures: ClassVar = {"edges_beat_chance": "a floor that looks at no data"}

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        d = observed.n_variables
        return Fitted(Estimate(np.zeros((d, d)), point_graph=np.zeros((d, d), dtype=bool), graph_kind="dag"))


@register_method("random")
class Random(Method):
    """An Erdős–Rényi DAG over a uniformly random order, and random targets, whatever the data.

    It never sees the truth: a suite that wants a random graph *of the true density* sets the parameters to those of its
    datasets. Edges and targets are drawn, not answered as probabilities: a matrix of equal probabilities would have no
    point graph, while this one is scored by every metric as any other binary answer is.

    Parameters
    ----------
    edges_per_node : float
        Expected edges, divided by the number of variables; e·d edges in all, at most the complete DAG.
    targets_per_environment : float
        Expected targets in each environment that is not known to be observational, at most d. The whole part is certain,
        the rest is one more target with that probability; which variables they are is uniform.
    """

    capabilities = Capabilities(edge_output="binary", estimates_targets=True, target_output="binary")
    meta = Meta(
        "Random graph and random targets of given density (floor).",
        "Erdős, Rényi, On random graphs I, Publicationes Mathematicae 6, 1959 (Gilbert's variant, over a random order)",
        mechanisms="any",
        noise="any",
        interventions=(),
        complexity="d² + E d",
        n_variables=(1, None),
    )
    expected_failures: ClassVar = {
        "edges_beat_chance": "a floor that looks at no data",
        "targets_beat_chance": "a floor that looks at no data",
    }

    def __init__(
        self, edges_per_node: Annotated[float, Ge(0)] = 1.0, targets_per_environment: Annotated[float, Ge(0)] = 1.0
    ) -> None:
        self.edges_per_node = edges_per_node
        self.targets_per_environment = targets_per_environment

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        graph = self._graph(observed.n_variables, rng)
        targets = np.stack([self._targets(observed.n_variables, e.is_observational, rng) for e in observed.environments])
        return Fitted(Estimate(graph.astype(float), targets.astype(float), point_graph=graph, graph_kind="dag"))

    def _graph(self, d: int, rng: np.random.Generator) -> BoolArray:
        # e·d expected edges over the d(d-1)/2 pairs of the order.
        probability = min(1.0, 2 * self.edges_per_node / max(d - 1, 1))
        forward = np.triu(rng.random((d, d)) < probability, k=1)
        position = rng.permutation(d)
        return forward[np.ix_(position, position)]

    def _targets(self, d: int, is_observational: bool | None, rng: np.random.Generator) -> BoolArray:
        row = np.zeros(d, dtype=bool)
        whole, rest = divmod(self.targets_per_environment, 1)
        n_targets = int(whole) + int(rng.random() < rest)
        if not is_observational:
            row[rng.permutation(d)[:n_targets]] = True
        return row


@register_method("low_variance")
class LowVariance(Method):
    """A variable is a target where it hardly varies: its variance within the environment is far below that of all samples.

    It has no graph. A clean knockout leaves a gene without any variance, so that three cells are enough for this floor: on such
    data the few-shot score of targets says nothing about a method. It is blind to whatever leaves some variance, such as a
    knockdown.

    Parameters
    ----------
    ratio : float
        Variance within an environment, as a share of that of all training samples together, below which a variable is called.

    Notes
    -----
    ``target_probability`` is 1 / (1 + r / ratio) for the share r: 1 for a variable without variance, above .5 where it is
    called. It is a score for ranking. Nothing is called from a single sample, in environments known to be observational, or
    of a variable that is constant everywhere.
    """

    capabilities = Capabilities(
        edge_output="binary", estimates_targets=True, target_output="score", adapts=True, deterministic=True
    )
    meta = Meta(
        "Targets where a variable's variance vanishes; no edge (floor for clean knockouts).",
        "no paper: what a knockout without technical noise gives away",
        mechanisms="any",
        noise="any",
        interventions=("hard_constant",),
        complexity="E n d",
        n_variables=(1, None),
    )
    expected_failures: ClassVar = {"edges_beat_chance": "it answers for targets only"}

    def __init__(self, ratio: Annotated[float, Gt(0)] = 0.01) -> None:
        self.ratio = ratio

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        return FittedLowVariance(observed, _variances(observed.pooled()), self.ratio)


class FittedLowVariance(Fitted):
    """Keeps the variances of all training samples, float64 (d,), for environments to come."""

    def __init__(self, observed: Observed, variance: FloatArray, ratio: float) -> None:
        self.variance, self.ratio = variance, ratio
        super().__init__(self._answer(observed))

    def adapt(self, new: Observed, *, rng: np.random.Generator) -> Estimate:
        return self._answer(new)

    def _answer(self, observed: Observed) -> Estimate:
        d = observed.n_variables
        probability = np.zeros((observed.n_environments, d))
        for row, environment in zip(probability, observed.environments, strict=True):
            if not environment.is_observational and environment.n_samples > 1:
                limit = self.ratio * self.variance
                row[:] = np.divide(limit, limit + _variances(environment.X), out=np.zeros(d), where=limit > 0)
        no_edge = np.zeros((d, d), dtype=bool)
        return Estimate(no_edge, probability, point_graph=no_edge, graph_kind="dag")


def _variances(X: FloatArray) -> FloatArray:
    """Of each variable, exactly 0 where all samples are equal, float64 (d,)."""
    return np.asarray((X - X[0]).var(axis=0))
