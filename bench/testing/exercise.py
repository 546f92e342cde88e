"""Fits of a method on easy problems, under observation, and shared between the checks that look at them.

A fit is what costs time, so that those of the method asked about last are kept. Nothing here judges; the checks do.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import registry
from bench.seeds import canonical
from bench.testing import compare, fresh_process
from bench.testing.easy import easy_problem
from bench.testing.observe import Observation, observe, seed_global_generators
from bench.types import Budget, Environment, Estimate, FloatArray, Method, Observed

EASY_PROBLEMS = ("easy problem 0", "easy problem 1", "easy problem 2")
EASY = EASY_PROBLEMS[0]
TARGETS_TOLD = "targets told"
GRAPH_TOLD = tuple(f"{name}, graph told" for name in EASY_PROBLEMS)
GRAPH_TOLD_REVERSED = "graph told, variables reversed"
VARIABLES_REVERSED = "variables reversed"
ENVIRONMENTS_REVERSED = "environments reversed"
"""Scenarios: the names of the inputs that fits are shared by."""

Answers = dict[str, dict[str, Any]]
"""Arrays by name, of "fit" and, where declared, of "adapt" and "log_density"; and whether fit was "cut_short"."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """One fit, with ``adapt`` and ``log_density`` after it where declared, and what they did besides answering."""

    method: Method
    fitted: Any
    answers: Answers
    observation: Observation
    changed_input: bool
    changed_parameters: tuple[str, ...]


def exercise(method: Method, scenario: str = EASY, seed: int = 0) -> Exercise:
    """A clone of ``method`` fitted and observed; shared, so change nothing in it."""

    def run() -> Exercise:
        return exercise_anew(clone(method), observed_in(method, scenario), seed=seed)

    found: Exercise = _shared_by(method, (scenario, seed), run)
    return found


def exercise_anew(method: Method, observed: Observed, *, seed: int = 0, global_seed: int = 1) -> Exercise:
    """This very instance fitted and observed once more."""
    new, X = new_environments(), held_out_samples()
    X.setflags(write=False)

    def state() -> tuple[str, str, bytes]:
        return compare.digest(observed), compare.digest(new), X.tobytes()

    before, parameters_before = state(), _pickled_parameters(method)
    observation = observe(lambda: _answer(method, observed, new, X, seed), global_seed=global_seed)
    after, parameters_after = state(), _pickled_parameters(method)
    fitted, answers = observation.value
    changed_parameters = tuple(name for name, value in parameters_before.items() if parameters_after[name] != value)
    return Exercise(method, fitted, answers, observation, before != after, changed_parameters)


def answers_of_fresh_process(method: Method, budget_seconds: float | None = None) -> Answers:
    """What a method of the same name and parameters answers in a fresh process; shared."""

    def ask() -> Any:
        return fresh_process.ask(
            _answer_in_fresh_process,
            name=method.name,
            parameters=method.parameters(),
            observed=observed_in(method, EASY),
            new=new_environments(),
            X=held_out_samples(),
            budget_seconds=budget_seconds,
        )

    answers: Answers = _shared_by(method, ("fresh process", budget_seconds), ask)
    return answers


def estimate_of(method: Method, scenario: str = EASY, seed: int = 0) -> Estimate:
    """The estimate of a shared fit."""
    estimate: Estimate = exercise(method, scenario, seed).fitted.estimate
    return estimate


def fit(method: Method, observed: Observed, *, seed: int = 0, budget: Budget | None = None) -> Any:
    """Fit with a fresh generator, warmed up before."""
    method.warm_up()
    return method.fit(observed, rng=np.random.default_rng(seed), budget=budget)


def clone(method: Method) -> Method:
    """A new instance with the same parameters."""
    return type(method)(**method.parameters())


# Input: built afresh for every use, so that a method that spoils it spoils no other fit ------------------------------------


def observed_in(method: Method, scenario: str) -> Observed:
    """Input of a scenario; targets and graph are told to a method that requires them, and where the scenario says so."""
    first = easy_problem().observed
    reversed_order = np.arange(first.n_variables)[::-1]
    if scenario == TARGETS_TOLD:
        return granted(method, first, targets=True)
    if scenario == GRAPH_TOLD_REVERSED:
        return granted(method, first.permuted(reversed_order), graph=True)
    if scenario in GRAPH_TOLD:
        return granted(method, easy_problem(GRAPH_TOLD.index(scenario)).observed, graph=True)
    if scenario == VARIABLES_REVERSED:
        observed = first.permuted(reversed_order)
    elif scenario == ENVIRONMENTS_REVERSED:
        observed = dataclasses.replace(first, environments=first.environments[::-1])
    else:
        observed = easy_problem(EASY_PROBLEMS.index(scenario)).observed
    return granted(method, observed)


def granted(method: Method, observed: Observed, *, targets: bool = False, graph: bool = False) -> Observed:
    """A copy of the input, with its targets and its graph only where asked for or required by the method."""
    capabilities = method.effective_capabilities()
    copied = dataclasses.replace(observed, environments=tuple(dataclasses.replace(e) for e in observed.environments))
    copied = copied if targets or capabilities.targets == "required" else copied.without_targets()
    return copied if graph or capabilities.graph == "required" else copied.without_graph()


def held_out_samples() -> FloatArray:
    """Samples of one environment that ``fit`` never sees, float64 (n, d)."""
    return np.array(easy_problem().held_out)


def new_environments() -> Observed:
    """Two environments to adapt to."""
    X = held_out_samples()
    return Observed((Environment(X[:10]), Environment(X[10:])))


# How --------------------------------------------------------------------------------------------------------------------------


def _answer(
    method: Method, observed: Observed, new: Observed, X: FloatArray, seed: int, budget: Budget | None = None
) -> tuple[Any, Answers]:
    capabilities = method.effective_capabilities()
    fitted: Any = fit(method, observed, seed=seed, budget=budget)
    answers: Answers = {
        "fit": _arrays_of(getattr(fitted, "estimate", None)),
        "cut_short": {"cut_short": bool(getattr(fitted, "cut_short", False))},
    }
    if capabilities.adapts and hasattr(fitted, "adapt"):
        answers["adapt"] = _arrays_of(fitted.adapt(new, rng=np.random.default_rng(seed)))
    if capabilities.density and hasattr(fitted, "log_density"):
        answers["log_density"] = {"log_density": np.array(fitted.log_density(X))}
    return fitted, answers


def _answer_in_fresh_process(
    *, name: str, parameters: Mapping[str, Any], observed: Observed, new: Observed, X: FloatArray, budget_seconds: float | None
) -> Answers:
    seed_global_generators(1)  # as exercise_anew does, so that a method that reads them fails for that alone
    budget = None if budget_seconds is None else Budget(seconds=budget_seconds)
    return _answer(registry.make_method(name, **parameters), observed, new, X, 0, budget)[1]


def _arrays_of(estimate: Any) -> dict[str, Any]:
    return compare.arrays(estimate) if isinstance(estimate, Estimate) else {}


def _pickled_parameters(method: Method) -> dict[str, bytes]:
    return {name: pickle.dumps(value) for name, value in method.parameters().items()}


_shared: dict[Hashable, Any] = {}
_owner: Hashable = None


def _shared_by(method: Method, key: Hashable, make: Callable[[], Any]) -> Any:
    global _owner
    asking = (type(method), canonical(method.parameters()))
    if asking != _owner:
        _shared.clear()
        _owner = asking
    if key not in _shared:
        _shared[key] = make()
    return _shared[key]
