"""The promises of a dataset, one plain function each: ``check_*(choice)`` returns, or raises :class:`CheckFailed`.

Which checks apply follows from the tag ``"real"``: measured data may repeat itself under every seed, may come with a cyclic
reference graph, and has the variables where it has them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import numpy as np

from bench import registry
from bench.errors import BenchError
from bench.testing import compare, fresh_process, truth_checks
from bench.testing.golden import golden_digest
from bench.testing.method_checks import require_annotations, require_summary
from bench.testing.observe import Observation, observe, seed_global_generators
from bench.testing.report import CheckFailed
from bench.types import BoolArray, Problem

N_ORDER_PROBLEMS = 40
"""Draws over which the order of variables and of targets is judged."""

STANDARD_ERRORS = 4.0
"""Margin of the order checks: a fair order leaves it once in about 4000 times, an order by index is tens of them away."""

Check = Callable[[registry.Choice], None]


def checks_for_dataset(choice: registry.Choice) -> Iterator[tuple[str, Check]]:
    """Yield the name and the function of every check that the dataset's tags call for."""
    yield from _named(
        check_parameters_are_annotated,
        check_description_is_one_line,
        check_same_seed_same_problem,
        check_fresh_process_same_problem,
        check_global_random_state_is_untouched,
        check_nothing_is_printed,
        check_no_warning_is_raised,
        check_targets_are_not_told,
        check_observational_environments_have_no_targets,
        check_held_out_samples_are_finite,
        check_names_are_distinct,
    )
    entry = registry.entry("dataset", choice.name)
    if entry.golden and not choice.parameters:
        yield from _named(check_golden_digest)
    if "real" not in entry.tags:
        yield from _named(
            check_seeds_give_other_problems,
            check_parameters_matter,
            check_truth_is_acyclic,
            check_held_out_samples_are_fresh,
            check_variable_order_tells_nothing,
            check_target_order_tells_nothing,
            check_interventional_environments_have_targets,
            truth_checks.check_what_targets_do_not_reach_is_invariant,
            truth_checks.check_targets_change,
        )
        if truth_checks.is_linear(choice):
            yield from _named(truth_checks.check_mechanisms_of_non_targets_are_invariant)


def _named(*checks: Check) -> Iterator[tuple[str, Check]]:
    for check in checks:
        yield check.__name__.removeprefix("check_"), check


# What a dataset says of itself --------------------------------------------------------------------------------------------


def check_parameters_are_annotated(choice: registry.Choice) -> None:
    """Every parameter has an annotation, so that the registry can refuse a wrong value before a run."""
    require_annotations(registry.entry("dataset", choice.name))


def check_description_is_one_line(choice: registry.Choice) -> None:
    """``meta.summary`` is one line, for listings."""
    require_summary(registry.entry("dataset", choice.name).meta.summary)


def check_parameters_matter(choice: registry.Choice) -> None:
    """Some parameter changes the problem; one may well be idle under the defaults of the others, but not all."""
    entry = registry.entry("dataset", choice.name)
    own = _problem(choice).fingerprint
    tried = []
    for name, default in entry.defaults.items():
        value = choice.parameters.get(name, default)
        for other in _other_values(value, entry.hints[name]):
            try:
                problem = _problem(registry.choose("dataset", choice.name, {**choice.parameters, name: other}))
            except BenchError:
                continue  # refused, as it may be
            if problem.fingerprint != own:
                return
            tried.append(f"{name}={other!r}")
    if tried:
        raise CheckFailed(f"no parameter changes the problem (tried {', '.join(tried[:5])}); use them in the function")


def _other_values(value: Any, hint: Any) -> list[Any]:
    """Some values unlike ``value`` that its annotation may allow."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [other for other in (value + 1, value * 2, value / 2) if other != value]
    if isinstance(value, str):
        return [other for other in get_args(hint) if isinstance(other, str) and other != value]
    return []


# The same problem again ---------------------------------------------------------------------------------------------------


def check_same_seed_same_problem(choice: registry.Choice) -> None:
    """One seed, one fingerprint."""
    if _problem(choice).fingerprint != _problem(choice).fingerprint:
        raise CheckFailed("the same seed gives another problem; draw from rng alone")


def check_fresh_process_same_problem(choice: registry.Choice) -> None:
    """A process started afresh, with another hash seed, gives the same fingerprint."""
    try:
        found = fresh_process.ask(_fingerprint_in_fresh_process, name=choice.name, parameters=dict(choice.parameters), seed=0)
    except fresh_process.NoAnswer as reason:
        raise CheckFailed(f"a fresh process gives no answer: {reason}") from None
    if found != _problem(choice).fingerprint:
        raise CheckFailed(
            "a fresh process with another hash seed gives another problem; do not depend on hash(), on the order of sets, "
            "or on what ran before"
        )


def _fingerprint_in_fresh_process(*, name: str, parameters: Mapping[str, Any], seed: int) -> str:
    seed_global_generators(1)  # as at home, so that a dataset that reads them fails for that alone
    return registry.make_problem(name, seed=seed, **parameters).fingerprint


def check_golden_digest(choice: registry.Choice) -> None:
    """The problem of seed 0 is the one that was registered, whatever machine and versions; see ``bench.testing.golden``."""
    declared, found = registry.entry("dataset", choice.name).golden, golden_digest(_problem(choice))
    if declared != found:
        raise CheckFailed(
            f"the problem of seed 0 has the digest '{found}', not '{declared}'; if it changed on purpose, register the new one "
            "and say so in the changelog"
        )


def check_global_random_state_is_untouched(choice: registry.Choice) -> None:
    """``random``, ``numpy.random`` and torch's generator are neither read nor changed."""
    first, second = _observation(choice, global_seed=1), _observation(choice, global_seed=2)
    if first.moved_generators:
        raise CheckFailed(
            f"the dataset changes the global state of {' and '.join(first.moved_generators)}; draw from rng instead"
        )
    if first.value.fingerprint != second.value.fingerprint:
        raise CheckFailed("the problem depends on the global random state; draw from rng instead of a global generator")


def check_seeds_give_other_problems(choice: registry.Choice) -> None:
    """Another seed gives another fingerprint."""
    if len({_problem(choice, seed).fingerprint for seed in range(3)}) < 3:
        raise CheckFailed("different seeds give the same problem; draw from rng, or tag measured data as 'real'")


def check_nothing_is_printed(choice: registry.Choice) -> None:
    """Nothing reaches standard output or standard error."""
    if printed := _observation(choice, global_seed=1).printed:
        raise CheckFailed(f"the dataset prints {compare.one_line(printed, 80)!r}; return data and say nothing")


def check_no_warning_is_raised(choice: registry.Choice) -> None:
    """Making a problem raises no warning, so that ``python -W error`` runs through."""
    if lines := _observation(choice, global_seed=1).warnings:
        raise CheckFailed(f"the dataset warns: {compare.join(lines)}; mend the cause")


# Truth --------------------------------------------------------------------------------------------------------------------


def check_truth_is_acyclic(choice: registry.Choice) -> None:
    """A synthetic problem knows its graph and targets, and the graph has no cycle."""
    for seed in range(3):
        if not _is_acyclic(_truth(choice, seed)[0]):
            raise CheckFailed(f"the true graph of seed {seed} has a cycle; draw edges along an order")


def _is_acyclic(adjacency: Any) -> bool:
    reach = np.eye(len(adjacency), dtype=np.int64)
    for _ in range(len(adjacency)):
        reach = np.minimum(reach @ adjacency.astype(np.int64), 1)
    return not reach.any()


def check_targets_are_not_told(choice: registry.Choice) -> None:
    """Targets stand in the truth alone; only a suite may grant them to a method."""
    if any(e.targets is not None for e in _problem(choice).observed.environments):
        raise CheckFailed("an environment tells its targets; leave Environment.targets None and put them into Truth.targets")


def check_observational_environments_have_no_targets(choice: registry.Choice) -> None:
    """An environment called observational has no target in the truth."""
    problem = _problem(choice)
    targets = None if problem.truth is None else problem.truth.targets
    for number, environment in enumerate(problem.observed.environments):
        if environment.is_observational and targets is not None and targets[number].any():
            raise CheckFailed(f"environment {number} is called observational, but the truth gives it a target")


def check_interventional_environments_have_targets(choice: registry.Choice) -> None:
    """An environment called not observational has a target; one that may have none leaves it open."""
    problem = _problem(choice)
    targets = _truth(choice, 0)[1]
    for number, environment in enumerate(problem.observed.environments):
        if environment.is_observational is False and not targets[number].any():
            raise CheckFailed(f"environment {number} is called not observational, but the truth gives it no target")


def check_names_are_distinct(choice: registry.Choice) -> None:
    """No two variables, and no two environments, have one name."""
    problem = _problem(choice)
    for what, names in (("variables", problem.variable_names), ("environments", problem.environment_names)):
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise CheckFailed(f"two {what} have the name '{twice[0]}'; give each its own")


def check_held_out_samples_are_finite(choice: registry.Choice) -> None:
    """Held-out samples have no NaN and no infinity."""
    for number, held_out in enumerate(_problem(choice).held_out):
        if not (np.isfinite(held_out.support).all() and np.isfinite(held_out.query).all()):
            raise CheckFailed(f"held-out environment {number} has NaN or infinity")


def check_held_out_samples_are_fresh(choice: registry.Choice) -> None:
    """No sample stands twice among training, support and query samples."""
    problem = _problem(choice)
    parts = [problem.observed.pooled(), *(part for h in problem.held_out for part in (h.support, h.query))]
    rows = [row.tobytes() for part in parts for row in part]
    if len(set(rows)) < len(rows):
        raise CheckFailed("a sample stands twice among training, support and query; draw held-out samples afresh")


# Order --------------------------------------------------------------------------------------------------------------------


def check_variable_order_tells_nothing(choice: registry.Choice) -> None:
    """Over many draws, edges point up and down the column numbers alike, within ``STANDARD_ERRORS`` standard errors.

    Not judged where every draw has one and the same graph, as a network fitted to real data has: there the runner's
    shuffle hides the order.
    """
    graphs = [adjacency for adjacency, _ in _truths_of_many(choice)]
    if all(np.array_equal(A, graphs[0]) for A in graphs):
        return
    upward = np.array([np.triu(A).sum() / A.sum() for A in graphs if A.any()])
    if _leaves(upward - 0.5):
        raise CheckFailed(
            f"{upward.mean():.0%} of the edges point from a lower to a higher column over {len(upward)} draws, fair is 50%; "
            "shuffle the variables"
        )


def check_target_order_tells_nothing(choice: registry.Choice) -> None:
    """Over many draws, the number of an environment and the column of its target are uncorrelated."""
    correlations = []
    for _, targets in _truths_of_many(choice):
        environment, column = np.nonzero(targets)
        if len(environment) > 1 and np.ptp(environment) and np.ptp(column):
            correlations.append(np.corrcoef(environment, column)[0, 1])
    if _leaves(np.array(correlations)):
        raise CheckFailed(
            f"the number of an environment and the column of its target correlate by {np.mean(correlations):.2f} over "
            f"{len(correlations)} draws, fair is 0; draw targets at random"
        )


def _leaves(values: Any) -> bool:
    """Whether the mean of independent draws is further from 0 than ``STANDARD_ERRORS`` standard errors."""
    if len(values) < 2:
        return False
    return bool(abs(values.mean()) > STANDARD_ERRORS * values.std(ddof=1) / np.sqrt(len(values)))


# Making -------------------------------------------------------------------------------------------------------------------


def _problem(choice: registry.Choice, seed: int = 0) -> Problem:
    problem = registry.make_problem(choice.name, seed=seed, **choice.parameters)
    if not isinstance(problem, Problem):
        raise CheckFailed(f"the dataset must return a Problem, got {type(problem).__name__}")
    return problem


def _truth(choice: registry.Choice, seed: int) -> tuple[BoolArray, BoolArray]:
    """Adjacency and targets."""
    truth = _problem(choice, seed).truth
    if truth is None or truth.adjacency is None or truth.targets is None:
        raise CheckFailed("a synthetic problem must know its graph and its targets; tag measured data as 'real'")
    return truth.adjacency, truth.targets


def _truths_of_many(choice: registry.Choice) -> list[tuple[BoolArray, BoolArray]]:
    """Those of ``N_ORDER_PROBLEMS`` draws, which two checks look at, one after the other."""
    return _drawn_truths(choice.label, registry.entry("dataset", choice.name).factory)


@functools.lru_cache(maxsize=1)
def _drawn_truths(label: str, factory: object) -> list[tuple[BoolArray, BoolArray]]:
    """By factory too: a plugin that is registered anew under its name is drawn anew."""
    choice = registry.choose("dataset", label)
    return [_truth(choice, seed) for seed in range(N_ORDER_PROBLEMS)]


def _observation(choice: registry.Choice, global_seed: int) -> Observation:
    return observe(lambda: _problem(choice), global_seed=global_seed)
