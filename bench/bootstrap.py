"""Edge and target frequencies of point methods: one bootstrap within environments for all of them.

A method whose answer is one graph becomes a :class:`PointMethod`: it writes ``fit_point`` and takes a ``bootstrap``
parameter; resampling and counting live here. The frequencies are confidence in a feature in the sense of Friedman et al.,
not a Bayesian posterior; they are reported as ``posterior`` because they are to be read, and scored, as probabilities.

Not here: resampling of problems for confidence intervals (``bench.statistics``).
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Annotated

import numpy as np
from annotated_types import Ge

from bench.types import (
    BoolArray,
    Budget,
    Capabilities,
    Environment,
    Estimate,
    Fitted,
    FloatArray,
    Method,
    Observed,
    all_converged,
)

Replicates = Annotated[int, Ge(0)]
"""Annotation of the ``bootstrap`` parameter: number of resampled data sets, 0 for none."""


def resample(observed: Observed, rng: np.random.Generator) -> Observed:
    """Draw as many rows with replacement inside each environment as it has; what is known of it stays.

    Examples
    --------
    >>> observed = Observed((Environment(np.arange(6.0)[:, None], is_observational=True),))
    >>> resample(observed, np.random.default_rng(0)).environments[0].X.ravel().tolist()
    [5.0, 3.0, 3.0, 1.0, 1.0, 0.0]
    """

    def drawn(e: Environment) -> Environment:
        return dataclasses.replace(e, X=e.X[rng.integers(e.n_samples, size=e.n_samples)])

    return dataclasses.replace(observed, environments=tuple(drawn(e) for e in observed.environments))


class PointMethod(Method):
    """Base of methods that answer with one graph, and optionally one set of targets per environment.

    A subclass stores ``bootstrap`` among its parameters and defines ``fit_point``. With ``bootstrap=0``, ``fit`` is
    ``fit_point``. With B > 0, the point graph and the targets are still those of all data; the edge and target probabilities
    become frequencies over B data sets resampled within environments. A replicate counts 1 for a directed edge and .5 in
    each direction for an undirected one; where every replicate is a DAG, they are the graph samples as well.

    The budget is looked at before each replicate: one that has run out leaves the frequencies over those done so far (the
    point estimate alone where there is none) and marks the fit as cut short.

    References
    ----------
    N. Friedman, M. Goldszmidt, A. Wyner, "Data analysis with Bayesian networks: a bootstrap approach", UAI 1999, section 3
    (non-parametric bootstrap). Deviation: rows are drawn within environments, so that each keeps its size.
    """

    bootstrap: int

    @abstractmethod
    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Estimate | Fitted:
        """Answer one data set; a :class:`Fitted` where it has to say that it was cut short."""

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        fitted = self._fit_point(observed, rng, budget)
        if self.bootstrap == 0:
            return fitted
        # Each replicate has its own seed, so that one is the same however many draws the others took.
        seeds = rng.integers(2**63, size=self.bootstrap)
        replicates: list[Estimate] = []
        converged = [fitted.converged]
        for done, seed in enumerate(seeds):
            if budget is not None:
                if budget.expired:
                    break
                budget.progress(done / self.bootstrap, f"bootstrap replicate {done + 1} of {self.bootstrap}")
            own_rng = np.random.default_rng(seed)
            replicate = self._fit_point(resample(observed, own_rng), own_rng, budget)
            if replicate.cut_short:
                break
            replicates.append(replicate.estimate)
            converged.append(replicate.converged)
        cut_short = fitted.cut_short or len(replicates) < self.bootstrap
        estimate = with_frequencies(fitted.estimate, replicates)
        return Fitted(estimate, cut_short=cut_short, converged=all_converged(converged))

    def effective_capabilities(self) -> Capabilities:
        """With a bootstrap, edges and targets are frequencies and depend on the generator."""
        if self.bootstrap == 0:
            return self.capabilities
        return dataclasses.replace(self.capabilities, edge_output="posterior", target_output="posterior", deterministic=False)

    def _fit_point(self, observed: Observed, rng: np.random.Generator, budget: Budget | None) -> Fitted:
        answer = self.fit_point(observed, rng=rng, budget=budget)
        return answer if isinstance(answer, Fitted) else Fitted(answer)


def with_frequencies(point: Estimate, replicates: list[Estimate]) -> Estimate:
    """The point estimate with its probabilities replaced by frequencies over the replicates.

    Parameters
    ----------
    point : Estimate
        Of all data; its point graph and its targets stay.
    replicates : list of Estimate
        Of resampled data, each equally likely; none at all leaves the point estimate as it is.
    """
    if not replicates:
        return point
    all_dags = all(r.graph_kind == "dag" for r in replicates)
    targets = [called for r in replicates if (called := _called_targets(r)) is not None]
    return Estimate(
        edge_probability=np.mean([_edge_frequency(r) for r in replicates], axis=0),
        target_probability=np.mean(targets, axis=0) if targets else None,
        graph_samples=np.stack([r.point_graph for r in replicates if r.point_graph is not None]) if all_dags else None,
        point_graph=point.point_graph,
        graph_kind=point.graph_kind,
        targets=_called_targets(point),
    )


def _edge_frequency(estimate: Estimate) -> FloatArray:
    graph = estimate.point_graph
    return estimate.edge_probability if graph is None else np.where(graph & graph.T, 0.5, graph)


def _called_targets(estimate: Estimate) -> BoolArray | None:
    if estimate.targets is not None or estimate.target_probability is None:
        return estimate.targets
    return estimate.target_probability > 0.5
