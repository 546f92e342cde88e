"""MetaCaDI as a method of the harness: one causal graph, unknown targets, few-shot adaptation in closed form."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le
from scipy import special

from bench.errors import InputError
from bench.logistic import logistic
from bench.registry import register_method
from bench.types import BoolArray, Budget, Capabilities, Environment, Estimate, Fitted, FloatArray, Meta, Method, Observed
from methods.metacadi import differentiable, search
from methods.metacadi.adaptation import (
    LogOdds,
    Mechanisms,
    adapted_targets,
    known_interventional,
    log_density,
    log_odds_in_closed_form,
    sampled_mechanisms,
)
from methods.metacadi.compiled import compiling_once
from methods.metacadi.empirical_bayes import RARER_TARGETS, chosen_priors
from methods.metacadi.evidence import Evidence, Features, LocalEvidence, Memoised, MixtureEvidence
from methods.metacadi.features import smooth_bases
from methods.metacadi.inner_loop import log_odds_by_gradient
from methods.metacadi.joint import random_units
from methods.metacadi.learned import ROUGHLY, Amplitude, fit_learned, joint_mixture
from methods.metacadi.meta import learn_alternatives, log_odds_in_fit, with_chosen_drift
from methods.metacadi.model import WEIGHTS, Priors, split_by_knowledge
from methods.metacadi.probe import curved_candidates, promise
from methods.metacadi.scaling import Scaling
from methods.metacadi.search import GraphPosterior, Searched
from methods.metacadi.targets import OfParentSets, averaged_targets, chosen_rate, log_odds_of

Engine = Literal["structure_mcmc", "differentiable"]
FeatureKind = Literal["auto", "linear", "smooth", "random", "learned"]
Adaptation = Literal["closed_form", "gradient"]
MetaLearning = Literal["none", "evidence", "episodic"]
Alternatives = Literal["all", "shift", "scale", "shift_and_scale", "hard", "relearned"]


class _Found(NamedTuple):
    """Priors, the evidence under them, and graphs in proportion to it."""

    priors: Priors
    evidence: MixtureEvidence
    posterior: GraphPosterior


_MOST_CHOICES = 3
"""Times that priors are chosen and graphs searched in turn; nearly always the second choice is the first again."""


@register_method("metacadi")
class MetaCaDI(Method):
    """Bayesian causal discovery from environments with unknown targets, by conjugate mechanisms.

    Parameters
    ----------
    n_samples : int
        Graphs drawn from the posterior.
    engine : {"structure_mcmc", "differentiable"}
        How graphs are drawn: local search and a jump process on DAGs, or gradients on a distribution over orders and edges.
    features : {"auto", "linear", "smooth", "random", "learned"}
        What mechanisms are linear in: the parents; or also, at a strong and a weak amplitude chosen by evidence for each
        mechanism, a bell and a step of each parent and products for pairs ("smooth"), hidden units of random weights, or hidden
        units of one network for all environments, trained through the closed form (needs torch). "auto" stays linear unless
        random hidden units raise the evidence of the best linear graph; then it learns them, or keeps random ones where torch
        is not installed.
    n_units : int
        Hidden units of "random" and "learned".
    adaptation : {"closed_form", "gradient"}
        How targets of new environments are found: by their evidence, or by ten gradient steps on each mechanism, for
        comparison.
    alternatives : {"all", "shift", "scale", "shift_and_scale", "hard", "relearned"}
        What may happen to a target: five things, a priori alike, or one of them.
    meta_learning : {"none", "evidence", "episodic"}
        Learn from all environments which alternatives occur, or that most targets are shifted by about a unit: not; so that the
        evidence is highest; or so that each environment is predicted best from a few of its samples. Changes the targets, of
        new environments too, and only where interventions are so clearly not of all kinds that it pays; the graph was found
        before.
    effect_size : {"evidence", "fixed"}
        How strong effects are beside the noise: ``slope_precision``, or a multiple of it as the evidence of a first graph says.
    target_rate : {"evidence", "fixed"}
        How rare targets are: as the evidence of a first graph says, from ``highest_target_rate`` down to one in a thousand; or
        always as the former.
    variance_drift : {"evidence", "none"}
        May the noise of a mechanism differ a little between environments without a target, as that of heavy tails seems to:
        where the evidence of a first graph says so clearly; or never. The first graph is the best that local search finds.
    mechanism_drift : {"evidence", "none"}
        May whole mechanisms differ a little between environments without a target, as real ones do: where the evidence of the
        best graph says so clearly; or never. Changes the targets alone.
    average : bool
        Average over graph samples; or draw none, and answer with the best graph that the search meets.
    annealing : bool
        Cool the coordinate updates of the targets (and, of the differentiable engine, the likelihood).
    screening : bool
        With many variables, let perturbations choose among the most promising parents only.
    slope_precision : float
        Prior precision of the slopes of shared mechanisms, relative to the noise variance. The rate of the latter's prior is
        half of it, without which Markov equivalent graphs would score differently.
    shift_strength : float
        Prior precision of a target's shift.
    highest_target_rate : float
        Prior probability that a variable is a target in an environment, at most.

    Notes
    -----
    The paper is known to us by its abstract: one graph shared by many environments with unknown targets, cast as meta-learning,
    adapted in closed form. Everything below that is our design; the model stands in ``methods.metacadi.model``.

    Variables are brought to mean 0 and variance 1 over all samples first, since the priors are absolute numbers. Environments
    known to be observational have no targets, nor has an environment without another beside it; those known not to be
    observational have at least one; any other may have. The point
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
        mechanisms="linear or smooth",
        noise="additive Gaussian",
        interventions=("any",),
        complexity="local search over d² single changes, each priced in E k³ for k features of a parent set",
        n_variables=(2, 1000),
    )
    search_space: ClassVar = {
        "n_units": [8, 16, 32],
        "meta_learning": ["none", "evidence"],
        "variance_drift": ["evidence", "none"],
        "effect_size": ["evidence", "fixed"],
        "shift_strength": [0.03, 0.1, 0.3],
        "highest_target_rate": [0.05, 0.1, 0.2],
    }

    def __init__(
        self,
        n_samples: Annotated[int, Ge(1)] = 100,
        engine: Engine = "structure_mcmc",
        features: FeatureKind = "auto",
        n_units: Annotated[int, Ge(1)] = 16,
        adaptation: Adaptation = "closed_form",
        alternatives: Alternatives = "all",
        meta_learning: MetaLearning = "evidence",
        effect_size: Literal["evidence", "fixed"] = "evidence",
        target_rate: Literal["evidence", "fixed"] = "evidence",
        variance_drift: Literal["evidence", "none"] = "evidence",
        mechanism_drift: Literal["evidence", "none"] = "evidence",
        average: bool = True,
        annealing: bool = True,
        screening: bool = True,
        slope_precision: Annotated[float, Gt(0)] = 0.1,
        shift_strength: Annotated[float, Gt(0)] = 0.1,
        highest_target_rate: Annotated[float, Gt(0), Le(0.5)] = 0.1,
    ) -> None:
        self.n_samples = n_samples
        self.engine = engine
        self.features = features
        self.n_units = n_units
        self.adaptation = adaptation
        self.alternatives = alternatives
        self.meta_learning = meta_learning
        self.effect_size = effect_size
        self.target_rate = target_rate
        self.variance_drift = variance_drift
        self.mechanism_drift = mechanism_drift
        self.average = average
        self.annealing = annealing
        self.screening = screening
        self.slope_precision = slope_precision
        self.shift_strength = shift_strength
        self.highest_target_rate = highest_target_rate

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        budget = Budget() if budget is None else budget
        scaling = Scaling.of(observed)
        data = _prepared(observed, scaling)
        priors, evidence, posterior = self._found(data, scaling.constant, rng, budget)
        graphs, log_weights = posterior.graph_samples, posterior.log_weights
        if not self.average:
            graphs, log_weights = posterior.best[None], np.zeros(1)
        weights = special.softmax(log_weights)
        priors, mechanisms, targets = self._targets(data, priors, evidence, posterior.best, graphs, weights, rng)
        estimate = Estimate(
            edge_probability=np.clip(np.einsum("s,sij->ij", weights, graphs), 0.0, 1.0),
            target_probability=targets,
            graph_samples=graphs,
            log_weights=log_weights,
            point_graph=posterior.best,
            graph_kind="dag",
        )
        features = [component.features for component in evidence.components]
        log_odds = log_odds_in_closed_form if self.adaptation == "closed_form" else log_odds_by_gradient
        return FittedMetaCaDI(estimate, mechanisms, features, scaling, priors, log_odds, cut_short=posterior.cut_short)

    def effective_capabilities(self) -> Capabilities:
        """Learned features need torch; "auto" does without where it is missing."""
        return dataclasses.replace(self.capabilities, extra="torch") if self.features == "learned" else self.capabilities

    def warm_up(self) -> None:
        """Compile, or read what was compiled before, and import torch where it may be needed."""
        X = np.random.default_rng(0).normal(size=(20, 3))
        observed = Observed((Environment(X, is_observational=True), Environment(X)))
        with compiling_once():
            search.warm_up(MixtureEvidence([Evidence(observed, Priors())]))
            for features in ("linear", "random"):
                MetaCaDI(n_samples=1, features=features).fit(observed, rng=np.random.default_rng(0))
        if self.features in ("auto", "learned") and importlib.util.find_spec("torch") is not None:
            importlib.import_module("torch")

    def _priors(self) -> Priors:
        weights = {name: float(self.alternatives in ("all", name.removesuffix("_weight"))) for name in WEIGHTS}
        return Priors(
            target=self.highest_target_rate,
            shift_strength=self.shift_strength,
            **weights,
        ).with_effects(self.slope_precision)

    def _targets(
        self,
        observed: Observed,
        priors: Priors,
        evidence: MixtureEvidence,
        best: BoolArray,
        graphs: BoolArray,
        weights: FloatArray,
        rng: np.random.Generator,
    ) -> tuple[Priors, tuple[Mechanisms, ...], FloatArray]:
        """What environments say of their interventions, given the graphs: priors, shared mechanisms, probabilities (E, d)."""
        interventional = known_interventional(observed.environments)
        rates = [self.highest_target_rate]
        if self.target_rate == "evidence":
            rates += [rate for rate in RARER_TARGETS if rate < self.highest_target_rate]

        def judged(learned: Priors) -> tuple[tuple[Mechanisms, ...], list[OfParentSets]]:
            of_kinds = evidence if (learned.log_weights == priors.log_weights).all() else evidence.under(learned)
            mechanisms = sampled_mechanisms(of_kinds, graphs)
            if learned.mechanism_drift or learned.down or learned.up:
                return mechanisms, log_odds_in_fit(of_kinds, observed, mechanisms, learned)
            return mechanisms, [OfParentSets(log_odds_of(m.keep_probability, priors.target), m.of_sample) for m in mechanisms]

        def at_best_rate(learned: Priors, odds: list[OfParentSets]) -> Priors:
            return dataclasses.replace(learned, target=chosen_rate(odds, weights, interventional, rates))

        learned, (mechanisms, odds) = priors, judged(priors)
        if self.mechanism_drift == "evidence":
            learned = with_chosen_drift(evidence, observed, best, priors, rates)
            if learned != priors:
                mechanisms, odds = judged(learned)
        if self.meta_learning != "none":
            at_rate = at_best_rate(learned, odds)
            of_kinds = learn_alternatives(evidence, observed, graphs, weights, at_rate, mode=self.meta_learning, rng=rng)
            if of_kinds != at_rate:
                learned = dataclasses.replace(of_kinds, target=priors.target)
                mechanisms, odds = judged(learned)
        priors = at_best_rate(learned, odds)
        probability = [OfParentSets(logistic(o.values + special.logit(priors.target)), o.of_sample) for o in odds]
        targets = averaged_targets(probability, weights, interventional)
        targets[[bool(e.is_observational) for e in observed.environments]] = 0.0
        return priors, mechanisms, targets

    def _found(self, observed: Observed, constant: BoolArray, rng: np.random.Generator, budget: Budget) -> _Found:
        """Graphs in proportion to the evidence under the chosen features."""
        linear, kind = Evidence(observed, self._priors(), annealing=self.annealing), self.features
        simple = MixtureEvidence([linear], constant)
        if kind in ("linear", "auto"):
            found = self._searched(simple, observed.graph, rng, budget)
            if kind == "linear" or found.posterior.cut_short:
                return found
        amplitudes = self._amplitudes()
        # At every amplitude: what strong slopes gain over weak ones says nothing of a curve.
        plain = MixtureEvidence([linear.at(a.slope_factor) for a in amplitudes], constant)
        if kind == "smooth":
            return self._searched(plain.and_also(self._smooth(observed)), observed.graph, rng, budget)
        units = random_units(observed.n_variables, self.n_units, rng)
        rich = plain.and_also(joint_mixture(observed, self._priors(), units, amplitudes, annealing=self.annealing).components)
        if kind == "auto":
            best = found.posterior.best
            candidates = curved_candidates(observed, best)
            # The size of effects that linear mechanisms chose is theirs.
            priors = found.priors.with_effects(self.slope_precision)
            rich_promise, plain_promise = (promise(e.under(priors), best, candidates) for e in (rich, plain))
            if rich_promise <= plain_promise:
                return found
        learns = kind == "learned" or (kind == "auto" and importlib.util.find_spec("torch") is not None)
        found_by_random = self._searched(rich, observed.graph, rng, budget, ROUGHLY if learns else None)
        if kind == "auto" and found_by_random.posterior.cut_short:
            return found._replace(posterior=dataclasses.replace(found.posterior, cut_short=True))
        found = found_by_random
        if found.posterior.cut_short or not learns:
            return found
        plain = plain.under(found.priors)
        learned, posterior = fit_learned(
            observed,
            found.priors,
            amplitudes,
            lambda learned, tolerance: self._sample(
                plain.and_also(learned.components), observed.graph, rng, budget, tolerance=tolerance
            ),
            found.posterior,
            rng=rng,
            n_units=self.n_units,
            annealing=self.annealing,
            budget=budget,
        )
        return _Found(found.priors, found.evidence if learned is None else plain.and_also(learned.components), posterior)

    def _smooth(self, observed: Observed) -> list[LocalEvidence]:
        return [
            Evidence(observed, self._priors(), basis, amplitude=amplitude, annealing=self.annealing)
            for amplitude, basis in smooth_bases(observed.n_variables, observed.n_environments)
        ]

    def _amplitudes(self) -> list[Amplitude]:
        """Of hidden units, which together may vary as much as functions of a few parents."""
        share = self.n_units / 4.0
        return [Amplitude(0.1, share), Amplitude(1.0, 8.0 * share)]

    def _searched(
        self,
        evidence: MixtureEvidence,
        told: BoolArray | None,
        rng: np.random.Generator,
        budget: Budget,
        tolerance: float | None = None,
    ) -> _Found:
        """Graphs under the priors that the best one under the default chooses."""
        free = {"effects": self.effect_size, "rare": self.target_rate, "drift": self.variance_drift}
        by_evidence = {name: setting == "evidence" for name, setting in free.items()}
        priors, graph, searched = self._priors(), told, None
        if any(by_evidence.values()):
            if graph is None:
                searched = search.search_graphs(evidence, rng=rng, budget=budget, screening=self.screening)
                graph = searched.best
            for _ in range(_MOST_CHOICES):
                chosen = priors if budget.expired else chosen_priors(evidence, graph, self._priors(), **by_evidence)
                if chosen == priors:
                    break
                priors, evidence = chosen, evidence.under(chosen)
                if searched is None:
                    break
                # From the best graph of scores that differ little, so that little is left to find.
                searched = search.search_graphs(
                    evidence,
                    rng=rng,
                    budget=budget,
                    start=graph,
                    max_failures=search.FURTHER_FAILURES,
                    screening=self.screening,
                )
                graph = searched.best
        return _Found(priors, evidence, self._sample(evidence, told, rng, budget, searched, tolerance))

    def _sample(
        self,
        evidence: MixtureEvidence,
        told: BoolArray | None,
        rng: np.random.Generator,
        budget: Budget,
        searched: Searched | None = None,
        tolerance: float | None = None,
    ) -> GraphPosterior:
        if told is not None:
            return GraphPosterior(told[None], np.zeros(1), told, evidence.of_graph(told), False, None)
        if self.engine == "differentiable":
            return differentiable.sample_graphs(
                Memoised(evidence),
                rng=rng,
                n_samples=self.n_samples,
                budget=budget,
                annealing=self.annealing,
                n_steps=differentiable.STEPS if tolerance is None else differentiable.ROUGH_STEPS,
            )
        if not self.average:
            if searched is None:
                searched = search.search_graphs(evidence, rng=rng, budget=budget, screening=self.screening)
            return GraphPosterior(searched.best[None], np.zeros(1), searched.best, searched.best_score, budget.expired, None)
        return search.sample_graphs(
            evidence,
            rng=rng,
            n_samples=self.n_samples,
            budget=budget,
            searched=searched,
            tolerance=tolerance,
            screening=self.screening,
        )


@register_method("metacadi_paper")
class MetaCaDIPaper(Method):
    """MetaCaDI as close to the paper as we know it: gradients, a network of hidden units, episodes.

    Parameters
    ----------
    n_samples : int
        Graphs drawn from the variational posterior.
    n_units : int
        Hidden units.

    Notes
    -----
    The paper is known to us by its abstract. From it: differentiable DAG sampling, additive-noise mechanisms that all
    environments share, meta-learning over environments, and adaptation in closed form. Ours: everything else, among it the
    conjugate prior on the last layer that makes the closed form, and the five alternatives. Slow: half a minute and more for
    ten variables.

    References
    ----------
    Ong, Chikahara, Iwata, "MetaCaDI", UAI 2026, arXiv:2510.22298.
    """

    capabilities = dataclasses.replace(MetaCaDI.capabilities, extra="torch")
    meta = Meta(
        "MetaCaDI by gradients: differentiable DAG sampling, a network of hidden units, episodic meta-learning.",
        "Ong, Chikahara, Iwata, UAI 2026, arXiv:2510.22298",
        mechanisms="smooth (one hidden layer)",
        noise="additive Gaussian",
        interventions=("any",),
        complexity="gradient steps, each of tens of graphs over d variables with E k³ for k features of a parent set",
        n_variables=(2, 20),
    )

    def __init__(self, n_samples: Annotated[int, Ge(1)] = 100, n_units: Annotated[int, Ge(1)] = 16) -> None:
        self.n_samples = n_samples
        self.n_units = n_units

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        return self._configured().fit(observed, rng=rng, budget=budget)

    def warm_up(self) -> None:
        """As ``metacadi``."""
        self._configured().warm_up()

    def _configured(self) -> MetaCaDI:
        return MetaCaDI(
            self.n_samples,
            engine="differentiable",
            features="learned",
            n_units=self.n_units,
            meta_learning="episodic",
            effect_size="fixed",
            target_rate="fixed",
            variance_drift="none",
            mechanism_drift="none",
        )


def _prepared(observed: Observed, scaling: Scaling) -> Observed:
    """In units of the priors; an only environment counts as observational, since there is nothing to compare it with."""
    environments = [scaling.of_environment(e) for e in observed.environments]
    if len(environments) == 1:
        environments = [dataclasses.replace(environments[0], is_observational=True)]
    return dataclasses.replace(observed, environments=tuple(environments))


class FittedMetaCaDI(Fitted):
    """A posterior over graphs with the shared mechanisms of every sampled parent set."""

    def __init__(
        self,
        estimate: Estimate,
        mechanisms: tuple[Mechanisms, ...],
        features: list[Features],
        scaling: Scaling,
        priors: Priors,
        log_odds: LogOdds,
        *,
        cut_short: bool = False,
    ) -> None:
        super().__init__(estimate, cut_short=cut_short)
        self._mechanisms, self._features, self._scaling, self._priors = mechanisms, features, scaling, priors
        self._log_odds = log_odds

    def adapt(self, new: Observed, *, rng: np.random.Generator) -> Estimate:
        """Targets of new environments, each judged alone; the graph stays as fitted, and nothing is drawn."""
        _require_width(new.n_variables, len(self._mechanisms))
        _, possible, places = split_by_knowledge(new)
        targets = np.zeros((new.n_environments, new.n_variables))
        if possible:
            scaled = [self._scaling.of_environment(e) for e in possible]
            assert self.estimate.log_weights is not None
            weights = special.softmax(self.estimate.log_weights)
            targets[places] = adapted_targets(self._mechanisms, self._features, scaled, self._priors, weights, self._log_odds)
        return dataclasses.replace(self.estimate, target_probability=targets)

    def log_density(self, X: FloatArray) -> FloatArray:
        """Log density of each variable given its parents in each graph sample, float64 (S, n, d)."""
        X = np.asarray(X, dtype=np.float64)
        _require_width(X.shape[1], len(self._mechanisms))
        return log_density(self._mechanisms, self._features, self._scaling.apply(X)) - np.log(self._scaling.unit)


def _require_width(got: int, expected: int) -> None:
    if got != expected:
        raise InputError(f"expected samples of {expected} variables, as fitted, got {got}")
