"""MetaCaDI as a method of the harness: one causal graph, unknown targets, few-shot adaptation in closed form."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from bench.errors import InputError
from bench.registry import register_method
from bench.types import BoolArray, Budget, Capabilities, Environment, Estimate, Fitted, FloatArray, Meta, Method, Observed
from methods.metacadi import differentiable, search
from methods.metacadi.adaptation import Mechanisms, adapted_targets, log_density, sampled_mechanisms
from methods.metacadi.evidence import Evidence, Features, LocalEvidence, Memoised, MixtureEvidence
from methods.metacadi.features import smooth_bases
from methods.metacadi.model import ALTERNATIVES, Priors, split_by_knowledge
from methods.metacadi.scaling import Scaling
from methods.metacadi.search import GraphPosterior

Engine = Literal["structure_mcmc", "differentiable"]
FeatureKind = Literal["auto", "linear", "smooth"]
Alternatives = Literal["all", "shift", "scale", "shift_and_scale", "hard", "relearned"]


@register_method("metacadi")
class MetaCaDI(Method):
    """Bayesian causal discovery from environments with unknown targets, by conjugate mechanisms.

    Parameters
    ----------
    n_samples : int
        Graphs drawn from the posterior.
    engine : {"structure_mcmc", "differentiable"}
        How graphs are drawn: local search and a jump process on DAGs, or gradients on a distribution over orders and edges.
    features : {"auto", "linear", "smooth"}
        What mechanisms are linear in: the parents; or also smooth functions of each and of pairs, at several amplitudes,
        chosen by evidence for each mechanism; "auto" takes those where they raise the evidence of the best linear graph.
    alternatives : {"all", "shift", "scale", "shift_and_scale", "hard", "relearned"}
        What may happen to a target: five things, a priori alike, or one of them.
    average : bool
        Average over graph samples, or answer with the best graph alone.
    annealing : bool
        Cool the coordinate updates of the targets (and, of the differentiable engine, the likelihood).
    screening : bool
        With many variables, let perturbations choose among the most promising parents only.

    Notes
    -----
    The paper is known to us by its abstract: one graph shared by many environments with unknown targets, cast as meta-learning,
    adapted in closed form. Everything below that is our design; the model stands in ``methods.metacadi.model``.

    Variables are brought to mean 0 and variance 1 over all samples first, since the priors are absolute numbers. Environments
    known to be observational have no targets, nor has an environment without another beside it; any other may have. The point
    graph is the best scoring DAG. Told the graph, it keeps to it and finds the targets alone.

    References
    ----------
    Ong, Chikahara, Iwata, "MetaCaDI", UAI 2026, arXiv:2510.22298. Deviations: mechanisms with conjugate priors on fixed
    features, and a search over graphs with exact local scores in place of differentiable sampling.
    """

    capabilities = Capabilities(
        targets="ignored", graph="optional", estimates_targets=True, edge_output="posterior", adapts=True, density=True
    )
    meta = Meta(
        "MetaCaDI: Bayesian, closed-form evidence for unknown targets and few-shot adaptation.",
        "Ong, Chikahara, Iwata, UAI 2026, arXiv:2510.22298",
    )

    def __init__(
        self,
        n_samples: Annotated[int, Ge(1)] = 100,
        engine: Engine = "structure_mcmc",
        features: FeatureKind = "auto",
        alternatives: Alternatives = "all",
        average: bool = True,
        annealing: bool = True,
        screening: bool = True,
    ) -> None:
        self.n_samples = n_samples
        self.engine = engine
        self.features = features
        self.alternatives = alternatives
        self.average = average
        self.annealing = annealing
        self.screening = screening

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        budget = Budget() if budget is None else budget
        priors = self._priors()
        scaling = Scaling.of(observed)
        evidence, posterior = self._posterior(_prepared(observed, scaling), scaling.constant, priors, rng, budget)
        graphs, log_weights = posterior.graph_samples, posterior.log_weights
        if not self.average:
            graphs, log_weights = posterior.best[None], np.zeros(1)
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        mechanisms = sampled_mechanisms(evidence, graphs, weights)
        estimate = Estimate(
            edge_probability=np.clip(np.einsum("s,sij->ij", weights, graphs), 0.0, 1.0),
            target_probability=np.stack([m.target_probability for m in mechanisms], axis=1),
            graph_samples=graphs,
            log_weights=log_weights,
            point_graph=posterior.best,
            graph_kind="dag",
        )
        features = [component.features for component in evidence.components]
        return FittedMetaCaDI(estimate, mechanisms, features, scaling, priors, cut_short=posterior.cut_short)

    def warm_up(self) -> None:
        """Compile, or read what was compiled before."""
        search.warm_up()
        X = np.random.default_rng(0).normal(size=(20, 3))
        observed = Observed((Environment(X, is_observational=True), Environment(X)))
        self.fit(observed, rng=np.random.default_rng(0))

    def _priors(self) -> Priors:
        if self.alternatives == "all":
            return Priors()
        weights = {f"{name}_weight": float(name == self.alternatives) for name in _WEIGHT_NAMES}
        return dataclasses.replace(Priors(), **weights)

    def _posterior(
        self, observed: Observed, constant: BoolArray, priors: Priors, rng: np.random.Generator, budget: Budget
    ) -> tuple[MixtureEvidence, GraphPosterior]:
        """The evidence under the chosen features, and graphs in proportion to it."""
        linear = Evidence(observed, priors, annealing=self.annealing)
        simple = MixtureEvidence([linear], constant)
        if self.features == "linear":
            return simple, self._sample(simple, observed.graph, rng, budget)
        smooth = MixtureEvidence([linear, *self._smooth(observed, priors)], constant)
        if self.features == "auto":
            posterior = self._sample(simple, observed.graph, rng, budget)
            if posterior.cut_short or _score(smooth, posterior.best) <= _score(simple, posterior.best):
                return simple, posterior
        return smooth, self._sample(smooth, observed.graph, rng, budget)

    def _smooth(self, observed: Observed, priors: Priors) -> list[LocalEvidence]:
        bases = smooth_bases(observed.n_variables, observed.n_environments, priors.slope_precision)
        return [
            Evidence(observed, dataclasses.replace(priors, slope_precision=precision), basis, annealing=self.annealing)
            for precision, basis in bases
        ]

    def _sample(
        self, evidence: MixtureEvidence, told: BoolArray | None, rng: np.random.Generator, budget: Budget
    ) -> GraphPosterior:
        if told is not None:
            return GraphPosterior(told[None], np.zeros(1), told, _score(evidence, told), False, None)
        if self.engine == "differentiable":
            return differentiable.sample_graphs(
                Memoised(evidence), rng=rng, n_samples=self.n_samples, budget=budget, annealing=self.annealing
            )
        return search.sample_graphs(evidence, rng=rng, n_samples=self.n_samples, budget=budget, screening=self.screening)


_WEIGHT_NAMES = [name.replace(" mechanism", "").replace(" ", "_") for name in ALTERNATIVES]


def _prepared(observed: Observed, scaling: Scaling) -> Observed:
    """In units of the priors; an only environment counts as observational, since there is nothing to compare it with."""
    environments = [scaling.of_environment(e) for e in observed.environments]
    if len(environments) == 1:
        environments = [dataclasses.replace(environments[0], is_observational=True)]
    return dataclasses.replace(observed, environments=tuple(environments))


def _score(evidence: MixtureEvidence, graph: BoolArray) -> float:
    return sum(evidence.score(i, graph[:, i]) for i in range(evidence.n_variables))


class FittedMetaCaDI(Fitted):
    """A posterior over graphs with the shared mechanisms of every sampled parent set."""

    def __init__(
        self,
        estimate: Estimate,
        mechanisms: tuple[Mechanisms, ...],
        features: list[Features],
        scaling: Scaling,
        priors: Priors,
        *,
        cut_short: bool = False,
    ) -> None:
        super().__init__(estimate, cut_short=cut_short)
        self._mechanisms, self._features, self._scaling, self._priors = mechanisms, features, scaling, priors

    def adapt(self, new: Observed, *, rng: np.random.Generator) -> Estimate:
        """Targets of new environments, each judged alone; the graph stays as fitted, and nothing is drawn."""
        _require_width(new.n_variables, len(self._mechanisms))
        _, possible, places = split_by_knowledge(new)
        targets = np.zeros((new.n_environments, new.n_variables))
        if possible:
            scaled = [self._scaling.of_environment(e) for e in possible]
            targets[places] = adapted_targets(self._mechanisms, self._features, scaled, self._priors)
        return dataclasses.replace(self.estimate, target_probability=targets)

    def log_density(self, X: FloatArray) -> FloatArray:
        """Log density of each variable given its parents in each graph sample, float64 (S, n, d)."""
        X = np.asarray(X, dtype=np.float64)
        _require_width(X.shape[1], len(self._mechanisms))
        return log_density(self._mechanisms, self._features, self._scaling.apply(X)) - np.log(self._scaling.unit)


def _require_width(got: int, expected: int) -> None:
    if got != expected:
        raise InputError(f"expected samples of {expected} variables, as fitted, got {got}")
