"""MetaCaDI as a method of the harness: one causal graph, unknown targets, few-shot adaptation in closed form."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np
from annotated_types import Ge

from bench.errors import InputError
from bench.registry import register_method
from bench.types import Budget, Capabilities, Environment, Estimate, Fitted, FloatArray, Meta, Method, Observed
from methods.metacadi.adaptation import Mechanisms, adapted_targets, log_density, sampled_mechanisms
from methods.metacadi.evidence import Evidence
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.model import Priors, split_by_knowledge
from methods.metacadi.search import sample_graphs


@register_method("metacadi")
class MetaCaDI(Method):
    """Bayesian causal discovery from environments with unknown targets, conjugate and linear.

    Parameters
    ----------
    n_samples : int
        Graphs drawn from the posterior.

    Notes
    -----
    The paper is known to us by its abstract: one graph shared by many environments with unknown targets, cast as meta-learning,
    adapted in closed form. Everything below that is our design; the model stands in ``methods.metacadi.model``.

    The priors are absolute numbers, meant for variables of about unit variance, which the harness provides. Environments known
    to be observational have no targets; any other may have. The point graph is the best scoring DAG.

    References
    ----------
    Ong, Chikahara, Iwata, "MetaCaDI", UAI 2026, arXiv:2510.22298. Deviations: linear mechanisms with conjugate priors, and a
    search over graphs with exact local scores in place of differentiable sampling.
    """

    capabilities = Capabilities(targets="ignored", estimates_targets=True, edge_output="posterior", adapts=True, density=True)
    meta = Meta(
        "MetaCaDI: Bayesian, closed-form evidence for unknown targets and few-shot adaptation (linear mechanisms).",
        "Ong, Chikahara, Iwata, UAI 2026, arXiv:2510.22298",
    )

    def __init__(self, n_samples: Annotated[int, Ge(1)] = 100) -> None:
        self.n_samples = n_samples

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        priors = Priors()
        evidence = Evidence(observed, priors)
        posterior = sample_graphs(evidence, n_samples=self.n_samples, rng=rng, budget=budget or Budget())
        weights = np.exp(posterior.log_weights - posterior.log_weights.max())
        weights /= weights.sum()
        mechanisms = sampled_mechanisms(evidence, posterior.graph_samples, weights)
        estimate = Estimate(
            edge_probability=np.clip(np.einsum("s,sij->ij", weights, posterior.graph_samples), 0.0, 1.0),
            target_probability=np.stack([m.target_probability for m in mechanisms], axis=1),
            graph_samples=posterior.graph_samples,
            log_weights=posterior.log_weights,
            point_graph=posterior.best,
            graph_kind="dag",
        )
        return FittedMetaCaDI(estimate, mechanisms, priors, evidence.basis, cut_short=posterior.cut_short)

    def warm_up(self) -> None:
        """Compile, or read what was compiled before."""
        X = np.random.default_rng(0).normal(size=(20, 3))
        observed = Observed((Environment(X, is_observational=True), Environment(X)))
        self.fit(observed, rng=np.random.default_rng(0))


class FittedMetaCaDI(Fitted):
    """A posterior over graphs with the shared mechanisms of every sampled parent set."""

    def __init__(
        self,
        estimate: Estimate,
        mechanisms: tuple[Mechanisms, ...],
        priors: Priors,
        basis: Basis,
        *,
        cut_short: bool = False,
    ) -> None:
        super().__init__(estimate, cut_short=cut_short)
        self._mechanisms, self._priors, self._basis = mechanisms, priors, basis

    def adapt(self, new: Observed, *, rng: np.random.Generator) -> Estimate:
        """Targets of new environments, each judged alone; the graph stays as fitted, and nothing is drawn."""
        _require_width(new.n_variables, len(self._mechanisms))
        _, possible, places = split_by_knowledge(new)
        targets = np.zeros((new.n_environments, new.n_variables))
        targets[places] = adapted_targets(self._mechanisms, Statistics.of(possible, self._basis), self._priors)
        return dataclasses.replace(self.estimate, target_probability=targets)

    def log_density(self, X: FloatArray) -> FloatArray:
        """Log density of each variable given its parents in each graph sample, float64 (S, n, d)."""
        X = np.asarray(X, dtype=np.float64)
        _require_width(X.shape[1], len(self._mechanisms))
        return log_density(self._mechanisms, X, self._basis)


def _require_width(got: int, expected: int) -> None:
    if got != expected:
        raise InputError(f"expected samples of {expected} variables, as fitted, got {got}")
