"""Methods that break one promise each, planted so that every conformance check is seen to catch something.

All derive from one that keeps every promise. The name says the broken promise.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import time
import warnings
from abc import abstractmethod
from typing import Literal

import numpy as np

from bench.errors import InputError
from bench.registry import register_method
from bench.types import Budget, Capabilities, Environment, Estimate, Fitted, FloatArray, Meta, Method, Observed


class HonestFitted(Fitted):
    """Regressions of each variable on its predecessors, and how far each environment leaves them."""

    def __init__(self, observed: Observed) -> None:
        observational = observed.observational()
        X = observed.environments[0].X if observational is None else observational
        if observational is None:  # nobody says which one is: take that with the smallest total variance
            X = min((e.X for e in observed.environments), key=lambda X: X.var(axis=0).sum())
        d = X.shape[1]
        self.mean = X.mean(axis=0)
        centred = X - self.mean
        self.weights = np.zeros((d, d))
        order = np.argsort(centred.var(axis=0), kind="stable")
        for position, child in enumerate(order):
            parents = np.sort(order[:position])
            gram = centred[:, parents].T @ centred[:, parents] + 1e-3 * len(X) * np.eye(len(parents))
            self.weights[parents, child] = np.linalg.solve(gram, centred[:, parents].T @ centred[:, child])
        self.scale = self._residuals(X).std(axis=0) + 1e-3
        super().__init__(
            Estimate(1 - np.exp(-np.abs(self.weights)), np.stack([self._targets(e) for e in observed.environments]))
        )

    def _residuals(self, X: FloatArray) -> FloatArray:
        centred = X - self.mean
        return centred - centred @ self.weights

    def _targets(self, environment: Environment) -> FloatArray:
        standardised = self._residuals(environment.X) / self.scale
        return 1 - np.exp(-np.abs(standardised.mean(axis=0)))

    def adapt(self, new: Observed, *, rng: np.random.Generator) -> Estimate:
        return Estimate(self.estimate.edge_probability, np.stack([self._targets(e) for e in new.environments]))

    def log_density(self, X: FloatArray) -> FloatArray:
        standardised = self._residuals(X) / self.scale
        return (-0.5 * standardised**2 - np.log(self.scale * np.sqrt(2 * np.pi)))[None]


@register_method("honest")
class Honest(Method):
    capabilities = Capabilities(estimates_targets=True, edge_output="score", adapts=True, density=True, deterministic=True)
    meta = Meta("Keeps every promise.")

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        return HonestFitted(observed)


# Some need no fit of their own: they change the estimate of the honest one.


class Changed(Honest):
    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        fitted = HonestFitted(observed)
        fitted.estimate = self.changed(fitted.estimate, observed, rng)
        return fitted

    @abstractmethod
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        """What it answers in place of an honest estimate."""


def with_edges(estimate: Estimate, edges: FloatArray) -> Estimate:
    return Estimate(np.clip(edges, 0, 1) * ~np.eye(len(edges), dtype=bool), estimate.target_probability)


@register_method("changes_a_parameter_in_init")
class ChangesAParameterInInit(Honest):
    def __init__(self, strength: float = -1.0) -> None:
        self.strength = abs(strength)


@register_method("works_in_init")
class WorksInInit(Honest):
    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength
        self.twice = 2 * strength


@register_method("annotates_nothing")
class AnnotatesNothing(Honest):
    def __init__(self, strength=1.0):
        self.strength = strength


@register_method("says_nothing_of_itself")
class SaysNothingOfItself(Honest):
    meta = Meta("")


@register_method("cannot_travel")
class CannotTravel(Honest):
    def __reduce__(self) -> tuple:
        raise TypeError("no")


@register_method("returns_an_array")
class ReturnsAnArray(Honest):
    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        return HonestFitted(observed).estimate.edge_probability


@register_method("forgets_an_environment")
class ForgetsAnEnvironment(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        return Estimate(estimate.edge_probability, estimate.target_probability[1:])


@register_method("calls_scores_binary")
class CallsScoresBinary(Honest):
    capabilities = Capabilities(estimates_targets=True, edge_output="binary", adapts=True, density=True, deterministic=True)


@register_method("calls_target_scores_binary")
class CallsTargetScoresBinary(Honest):
    capabilities = dataclasses.replace(Honest.capabilities, target_output="binary")


@register_method("hides_that_it_adapts")
class HidesThatItAdapts(Honest):
    capabilities = Capabilities(estimates_targets=True, edge_output="score", density=True, deterministic=True)


@register_method("changes_a_parameter_in_fit")
class ChangesAParameterInFit(Honest):
    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        self.strength *= 2
        return HonestFitted(observed)


@register_method("unlocks_and_changes_its_input")
class UnlocksAndChangesItsInput(Honest):
    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        fitted = HonestFitted(observed)
        observed.environments[0].X.setflags(write=True)
        observed.environments[0].X[:] += 1
        return fitted


@register_method("writes_into_its_input")
class WritesIntoItsInput(Honest):
    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        observed.environments[0].X[:] -= 1
        return HonestFitted(observed)


@register_method("prints")
class Prints(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        print("epoch 1")
        return estimate


@register_method("prints_below_python")
class PrintsBelowPython(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        os.write(2, b"from compiled code")
        return estimate


@register_method("warns")
class Warns(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        warnings.warn("did not converge", RuntimeWarning, stacklevel=2)
        return estimate


@register_method("learns_from_fit_to_fit")
class LearnsFromFitToFit(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        self.n_fits = getattr(self, "n_fits", 0) + 1
        return with_edges(estimate, estimate.edge_probability / self.n_fits)


@register_method("draws_from_numpy")
class DrawsFromNumpy(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        np.random.rand()  # noqa: NPY002  (the offence)
        return estimate


@register_method("draws_from_random")
class DrawsFromRandom(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        random.random()
        return estimate


@register_method("draws_from_torch")
class DrawsFromTorch(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        import torch

        torch.rand(1)
        return estimate


@register_method("reads_global_state")
class ReadsGlobalState(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        state = np.random.get_state()  # noqa: NPY002  (the offence)
        factor = np.random.default_rng(state[1]).uniform(0.9, 1)
        return with_edges(estimate, factor * estimate.edge_probability)


@register_method("hashes_a_text")
class HashesAText(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        factor = np.random.default_rng(abs(hash("cadibench"))).uniform(0.9, 1)
        return with_edges(estimate, factor * estimate.edge_probability)


@register_method("draws_but_calls_itself_deterministic")
class DrawsButCallsItselfDeterministic(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        return with_edges(estimate, rng.uniform(0.9, 1) * estimate.edge_probability)


@register_method("favours_the_first_variable")
class FavoursTheFirstVariable(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        edges = np.array(estimate.edge_probability)
        edges[0] *= 0.9
        return with_edges(estimate, edges)


@register_method("favours_low_columns_at_random")
class FavoursLowColumnsAtRandom(Changed):
    capabilities = Capabilities(estimates_targets=True, edge_output="score", adapts=True, density=True)

    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        upward = np.triu(np.ones_like(estimate.edge_probability), 1)
        return with_edges(estimate, 0.1 * estimate.edge_probability + 0.8 * upward + 0.1 * rng.random(upward.shape))


@register_method("draws_fairly")
class DrawsFairly(Changed):
    """No offender: noise alone must not be taken for a preference."""

    capabilities = Capabilities(estimates_targets=True, edge_output="score", adapts=True, density=True)

    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        return with_edges(estimate, estimate.edge_probability * rng.uniform(0.7, 1, estimate.edge_probability.shape))


@register_method("favours_the_first_environment")
class FavoursTheFirstEnvironment(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        targets = np.array(estimate.target_probability)
        targets[0] = 0
        return Estimate(estimate.edge_probability, targets)


@register_method("favours_low_environments_at_random")
class FavoursLowEnvironmentsAtRandom(Changed):
    capabilities = Capabilities(estimates_targets=True, edge_output="score", adapts=True, density=True)

    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        targets = np.array(estimate.target_probability)
        row = np.arange(len(targets))[:, None]
        targets = 0.1 * targets + 0.8 * (row > len(targets) / 2) + 0.1 * rng.random(targets.shape)
        return Estimate(estimate.edge_probability, targets)


@register_method("does_not_look_at_the_clock")
class DoesNotLookAtTheClock(Honest):
    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        if budget is not None:
            time.sleep(600)
        return HonestFitted(observed)


@register_method("hides_that_it_was_cut_short")
class HidesThatItWasCutShort(Honest):
    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        fitted = HonestFitted(observed)
        if budget is not None and budget.expired:
            fitted.estimate = with_edges(fitted.estimate, 0.5 * fitted.estimate.edge_probability)
        return fitted


@register_method("says_that_it_was_cut_short")
class SaysThatItWasCutShort(Honest):
    """No offender: what the one above should do."""

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        fitted = HonestFitted(observed)
        if budget is not None and budget.expired:
            fitted.estimate = with_edges(fitted.estimate, 0.5 * fitted.estimate.edge_probability)
            fitted.cut_short = True
        return fitted


@register_method("peeks_at_targets")
class PeeksAtTargets(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        if not observed.targets_given:
            return estimate
        told = [[i in e.targets for i in range(observed.n_variables)] for e in observed.environments]
        return Estimate(estimate.edge_probability, np.array(told, dtype=float))


@register_method("peeks_at_the_graph")
class PeeksAtTheGraph(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        return estimate if observed.graph is None else with_edges(estimate, observed.graph.astype(float))


WELCOME = Capabilities(
    graph="optional", estimates_targets=True, edge_output="score", adapts=True, density=True, deterministic=True
)


@register_method("welcomes_the_graph")
class WelcomesTheGraph(Changed):
    """No offender: it takes a graph for the truth where it is told one."""

    capabilities = WELCOME

    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        return estimate if observed.graph is None else self.told(estimate, observed.graph.astype(float))

    def told(self, estimate: Estimate, graph: FloatArray) -> Estimate:
        return with_edges(estimate, graph)


@register_method("needs_the_graph")
class NeedsTheGraph(WelcomesTheGraph):
    """No offender: it refuses to go without the graph that it declares to require."""

    capabilities = dataclasses.replace(WELCOME, graph="required")

    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        if observed.graph is None:
            raise InputError("needs_the_graph needs to be told the graph, got none")
        return self.told(estimate, observed.graph.astype(float))


@register_method("turns_the_told_graph")
class TurnsTheToldGraph(WelcomesTheGraph):
    def told(self, estimate: Estimate, graph: FloatArray) -> Estimate:
        return with_edges(estimate, graph.T)


@register_method("doubts_the_graph_that_it_needs")
class DoubtsTheGraphThatItNeeds(NeedsTheGraph):
    def told(self, estimate: Estimate, graph: FloatArray) -> Estimate:
        return with_edges(estimate, 0.9 * graph)


@register_method("trusts_low_columns_where_told")
class TrustsLowColumnsWhereTold(WelcomesTheGraph):
    def told(self, estimate: Estimate, graph: FloatArray) -> Estimate:
        return Estimate(graph, estimate.target_probability * np.linspace(1, 0.9, len(graph)))


@register_method("calls_targets_backwards_where_told")
class CallsTargetsBackwardsWhereTold(WelcomesTheGraph):
    def told(self, estimate: Estimate, graph: FloatArray) -> Estimate:
        return Estimate(graph, 1 - estimate.target_probability)


@register_method("needs_targets")
class NeedsTargets(Honest):
    """No offender: it refuses to go without the targets that it declares to require."""

    capabilities = Capabilities(
        targets="required", estimates_targets=True, edge_output="score", adapts=True, density=True, deterministic=True
    )

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        if not observed.targets_given:
            raise InputError("needs targets")
        return HonestFitted(observed)


@register_method("stumbles")
class Stumbles(Honest):
    """Raises what it should not on one kind of input."""

    def __init__(
        self,
        over: Literal[
            "one_environment",
            "single_sample_environment",
            "nothing_known_observational",
            "constant_column",
            "duplicated_column",
            "more_variables_than_samples",
            "single_variable",
        ] = "one_environment",
        how: Literal["KeyError", "two lines", "invalid estimate", "politely"] = "KeyError",
    ) -> None:
        self.over = over
        self.how = how

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        X = observed.pooled()
        met = {
            "one_environment": observed.n_environments == 1,
            "single_sample_environment": any(e.n_samples == 1 for e in observed.environments),
            "nothing_known_observational": observed.observational() is None,
            "constant_column": bool((np.ptp(X, axis=0) == 0).any()),
            "duplicated_column": X.shape[1] > 1 and np.array_equal(X[:, 0], X[:, 1]),
            "more_variables_than_samples": len(X) < X.shape[1],
            "single_variable": X.shape[1] == 1,
        }
        if met[self.over]:
            if self.how == "KeyError":
                raise KeyError("edge")
            if self.how == "two lines":
                raise InputError("one\ntwo")
            if self.how == "invalid estimate":
                return Fitted(Estimate(np.full((X.shape[1], X.shape[1]), np.nan)))
            raise InputError("this input is too hard")
        return HonestFitted(observed)


@register_method("says_what_it_refuses")
class SaysWhatItRefuses(Honest):
    capabilities = dataclasses.replace(Honest.capabilities, min_environments=2, needs_observational=True)

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        if observed.n_environments == 1 or observed.observational() is None:
            raise InputError("this input is too hard")
        return HonestFitted(observed)


class OneRow(HonestFitted):
    def adapt(self, new: Observed, *, rng: np.random.Generator) -> Estimate:
        return super().adapt(Observed(new.environments[:1]), rng=rng)


class Remembers(HonestFitted):
    def adapt(self, new: Observed, *, rng: np.random.Generator) -> Estimate:
        self.last = new.environments[0].X
        return super().adapt(new, rng=rng)


class AdaptsForEver(HonestFitted):
    """Its state cannot be seen to change, but its answers do."""

    adaptations = itertools.count()

    def adapt(self, new: Observed, *, rng: np.random.Generator) -> Estimate:
        estimate = super().adapt(new, rng=rng)
        return with_edges(estimate, estimate.edge_probability / (1 + next(self.adaptations)))


class SinglePrecision(HonestFitted):
    def log_density(self, X: FloatArray) -> FloatArray:
        return super().log_density(X).astype(np.float32)


class InfiniteDensity(HonestFitted):
    def log_density(self, X: FloatArray) -> FloatArray:
        return np.full_like(super().log_density(X), -np.inf)


class CentresWhatItJudges(HonestFitted):
    def log_density(self, X: FloatArray) -> FloatArray:
        return super().log_density(X - X.mean(axis=0))


def _fits(name: str, fitted: type[HonestFitted]) -> None:
    class Fits(Honest):
        def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
            return fitted(observed)

    Fits.__qualname__ = Fits.__name__ = f"Fits{fitted.__name__}"
    globals()[Fits.__name__] = Fits
    register_method(name)(Fits)


_fits("adapts_to_one_environment_only", OneRow)
_fits("remembers_what_it_adapted_to", Remembers)
_fits("drifts_from_adaptation_to_adaptation", AdaptsForEver)
_fits("answers_density_in_single_precision", SinglePrecision)
_fits("answers_infinite_density", InfiniteDensity)
_fits("centres_the_samples_it_judges", CentresWhatItJudges)


@register_method("points_edges_backwards")
class PointsEdgesBackwards(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        return with_edges(estimate, estimate.edge_probability.T)


@register_method("calls_targets_backwards")
class CallsTargetsBackwards(Changed):
    def changed(self, estimate: Estimate, observed: Observed, rng: np.random.Generator) -> Estimate:
        return Estimate(estimate.edge_probability, 1 - estimate.target_probability)


@register_method("admits_its_failure")
class AdmitsItsFailure(PointsEdgesBackwards):
    """No offender: it says what fails and why."""

    expected_failures = {"edges_beat_chance": "it points edges backwards"}  # noqa: RUF012  (declared as plugins do)


@register_method("admits_too_much")
class AdmitsTooMuch(Honest):
    expected_failures = {"edges_beat_chance": "so it thinks"}  # noqa: RUF012  (as above)


@register_method("admits_what_nobody_asks")
class AdmitsWhatNobodyAsks(Honest):
    expected_failures = {"edges_beat_luck": "misspelt"}  # noqa: RUF012  (as above)
