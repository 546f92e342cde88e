"""The promises of a method, one plain function each: ``check_*(method)`` returns, or raises :class:`CheckFailed`.

A check never changes the instance that it is given: it works on clones. Fits are shared between the checks of one method
(``bench.testing.exercise``), since a fit is what costs time. Which checks apply follows from the declared capabilities:
:func:`checks_for_method`.
"""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench import registry
from bench.errors import BenchError, InvalidEstimate
from bench.metrics import average_precision
from bench.seeds import canonical
from bench.testing import compare, fresh_process
from bench.testing.easy import AWKWARD, easy_problem
from bench.testing.exercise import (
    EASY,
    EASY_PROBLEMS,
    ENVIRONMENTS_REVERSED,
    GRAPH_TOLD,
    GRAPH_TOLD_REVERSED,
    TARGETS_TOLD,
    VARIABLES_REVERSED,
    Answers,
    answers_of_fresh_process,
    clone,
    estimate_of,
    exercise,
    exercise_anew,
    fit,
    granted,
    held_out_samples,
    new_environments,
    observed_in,
)
from bench.testing.observe import observe
from bench.testing.report import CheckFailed
from bench.types import Capabilities, Environment, Estimate, Fitted, Method, Observed

N_SEEDS = 4
"""Answers per side where a method that is not deterministic is compared with itself on permuted input."""

ABOVE_CHANCE = 0.25
"""Least average precision above the prevalence. With 5 edges of 20 a random ranking has a standard deviation near .13 per
problem, .08 over three, so luck would have to be three of them; methods that work reach .8 and more."""

Check = Callable[[Method], None]


def checks_for_method(method: Method) -> Iterator[tuple[str, Check]]:
    """Yield the name and the function of every check that the method's capabilities call for."""
    capabilities = method.effective_capabilities()
    yield from _named(
        check_parameters_are_stored_untouched,
        check_parameters_are_annotated,
        check_description_is_one_line,
        check_pickles,
        check_estimate_has_the_right_shape,
        check_capabilities_are_true,
        check_fit_changes_no_parameter,
        check_inputs_are_left_alone,
        check_nothing_is_printed,
        check_no_warning_is_raised,
        check_same_rng_same_answer,
        check_global_random_state_is_untouched,
        check_fresh_process_same_answer,
    )
    if capabilities.deterministic:
        yield from _named(check_rng_is_not_needed)
    yield from _named(check_variable_order_does_not_matter, check_environment_order_does_not_matter, check_budget_is_honoured)
    if capabilities.targets == "ignored":
        yield from _named(check_told_targets_are_ignored)
    if capabilities.graph == "ignored":
        yield from _named(check_told_graph_is_ignored)
    else:
        yield from _named(check_told_graph_is_repeated)
    if capabilities.graph == "optional":
        yield from _named(check_variable_order_does_not_matter_where_the_graph_is_told)
        if capabilities.estimates_targets:
            yield from _named(check_targets_beat_chance_where_the_graph_is_told)
    for name in AWKWARD:
        yield f"survives_{name}", partial(check_awkward_input, name=name)
    if capabilities.adapts:
        yield from _named(check_adapt_answers, check_adapt_leaves_its_parent_unchanged)
    if capabilities.density:
        yield from _named(check_density_has_the_right_shape, check_density_takes_each_sample_alone)
    yield from _named(check_edges_beat_chance)
    if capabilities.estimates_targets:
        yield from _named(check_targets_beat_chance)


def _named(*checks: Check) -> Iterator[tuple[str, Check]]:
    for check in checks:
        yield check.__name__.removeprefix("check_"), check


# What a method says of itself ---------------------------------------------------------------------------------------------


def check_parameters_are_stored_untouched(method: Method) -> None:
    """``__init__`` stores each parameter under its own name, as the very object, and does nothing else."""
    given = method.parameters()
    # The defaults are known as they were written; what this instance holds may have been changed already.
    defaults = registry.entry("method", method.name).defaults
    given |= {name: value for name, value in defaults.items() if value is not inspect.Parameter.empty}
    made = type(method)(**given)
    for name, value in given.items():
        if not hasattr(made, name):
            raise CheckFailed(f"__init__ does not store its parameter '{name}'; write self.{name} = {name}")
        if getattr(made, name) is not value:
            raise CheckFailed(
                f"__init__ changes its parameter '{name}' from {value!r} to {getattr(made, name)!r}; store it as it is, "
                "and use it in fit"
            )
    if extra := sorted(set(vars(made)) - set(given)):
        raise CheckFailed(f"__init__ sets '{extra[0]}', which is no parameter; leave the work to fit")


def check_parameters_are_annotated(method: Method) -> None:
    """Every parameter has an annotation, so that the registry can refuse a wrong value before a run."""
    require_annotations(registry.entry("method", method.name))


def require_annotations(entry: registry.Entry) -> None:
    """Raise CheckFailed where a parameter of the plugin takes anything at all."""
    for name, hint in entry.hints.items():
        if hint is Any:
            raise CheckFailed(f"parameter '{name}' has no annotation, so a wrong value would fail only during a run; add one")


def check_description_is_one_line(method: Method) -> None:
    """``meta.summary`` is one line, for listings."""
    require_summary(method.meta.summary)


def require_summary(summary: str) -> None:
    """Raise CheckFailed unless ``summary`` is one line of text."""
    if not summary.strip() or "\n" in summary:
        raise CheckFailed(f"meta.summary must be one line that says what the plugin is, got {summary!r}")


def check_pickles(method: Method) -> None:
    """A method travels to another process with its parameters."""
    try:
        copy = pickle.loads(pickle.dumps(method))
    except Exception as reason:
        raise CheckFailed(f"the method cannot be pickled: {reason}; keep only plain parameters on it") from None
    if canonical(copy.parameters()) != canonical(method.parameters()):
        raise CheckFailed(f"pickling changes the parameters from {method.parameters()} to {copy.parameters()}")


# One answer ---------------------------------------------------------------------------------------------------------------


def check_estimate_has_the_right_shape(method: Method) -> None:
    """``fit`` returns a Fitted with an Estimate of (d, d) edges and (E, d) targets."""
    observed = observed_in(method, EASY)
    fitted = exercise(method).fitted
    if not isinstance(fitted, Fitted) or not isinstance(getattr(fitted, "estimate", None), Estimate):
        raise CheckFailed(f"fit must return a Fitted that holds an Estimate, got {type(fitted).__name__}")
    _require_valid(fitted.estimate, observed, "fit")


def check_capabilities_are_true(method: Method) -> None:
    """What ``capabilities`` declares is what ``fit`` returns."""
    declared, fitted = method.effective_capabilities(), exercise(method).fitted
    estimate = fitted.estimate
    for name, claim, found in (
        ("estimates_targets", declared.estimates_targets, estimate.target_probability is not None),
        ("adapts", declared.adapts, callable(getattr(fitted, "adapt", None))),
        ("density", declared.density, callable(getattr(fitted, "log_density", None))),
    ):
        if claim != found:
            raise CheckFailed(f"capabilities say {name}={claim}, but what fit returns says {found}; make them agree")
    if declared.edge_output == "binary" and not np.isin(estimate.edge_probability, (0, 0.5, 1)).all():
        raise CheckFailed("capabilities say edge_output='binary', but edge_probability has values other than 0, .5 and 1")
    probability = estimate.target_probability
    if declared.target_output == "binary" and probability is not None and not np.isin(probability, (0, 1)).all():
        raise CheckFailed("capabilities say target_output='binary', but target_probability has values other than 0 and 1")
    if fitted.cut_short:
        raise CheckFailed("fit says cut_short although it was given no budget")


def check_fit_changes_no_parameter(method: Method) -> None:
    """Parameters are the same after ``fit`` as before; what is learned belongs to what ``fit`` returns."""
    if changed := exercise(method).changed_parameters:
        raise CheckFailed(f"fit changes the parameter '{changed[0]}'; keep what it learns in the Fitted that it returns")


def check_inputs_are_left_alone(method: Method) -> None:
    """Samples and their read-only flags are the same after ``fit`` as before."""
    try:
        changed = exercise(method).changed_input
    except ValueError as reason:
        if "read-only" not in str(reason):
            raise
        raise CheckFailed("fit writes into the samples that it was given; work on a copy, np.array(X)") from None
    if changed:
        raise CheckFailed("fit, adapt or log_density changes the samples it was given; work on a copy, np.array(X)")


def check_nothing_is_printed(method: Method) -> None:
    """Nothing reaches standard output or standard error."""
    if printed := exercise(method).observation.printed:
        raise CheckFailed(f"the method prints {compare.one_line(printed, 80)!r}; report through budget.progress, or not at all")


def check_no_warning_is_raised(method: Method) -> None:
    """An easy problem raises no warning, so that ``python -W error`` runs through."""
    if lines := exercise(method).observation.warnings:
        raise CheckFailed(f"the method warns on an easy problem: {compare.join(lines)}; mend the cause")


# The same answer again ----------------------------------------------------------------------------------------------------


def check_same_rng_same_answer(method: Method) -> None:
    """A second fit of the same instance with an equal generator gives the same answer."""
    first = exercise(method)
    second = exercise_anew(first.method, observed_in(method, EASY))
    _require_same(
        first.answers,
        second.answers,
        "two fits with the same rng differ",
        "draw from rng alone and keep nothing from one fit to the next",
    )


def check_global_random_state_is_untouched(method: Method) -> None:
    """``random``, ``numpy.random`` and torch's generator are neither read nor changed."""
    first = exercise(method)
    # The second run knows of a generator that was imported only in the first.
    second = exercise_anew(clone(method), observed_in(method, EASY), global_seed=2)
    if moved := sorted({*first.observation.moved_generators, *second.observation.moved_generators}):
        raise CheckFailed(f"the method changes the global state of {' and '.join(moved)}; draw from rng instead")
    _require_same(
        first.answers,
        second.answers,
        "the answer depends on the global random state",
        "draw from rng instead of a global generator",
    )


def check_fresh_process_same_answer(method: Method) -> None:
    """A process started afresh, with another hash seed, gives the same answer."""
    _require_importable(method)
    try:
        answers = answers_of_fresh_process(method)
    except fresh_process.NoAnswer as reason:
        raise CheckFailed(f"a fresh process gives no answer: {reason}") from None
    _require_same(
        exercise(method).answers,
        answers,
        "a fresh process with another hash seed answers otherwise",
        "do not depend on hash(), on the order of sets, or on what ran before",
    )


def check_rng_is_not_needed(method: Method) -> None:
    """A method that declares itself deterministic answers the same for another generator."""
    _require_same(
        {"fit": exercise(method).answers["fit"]},
        {"fit": exercise(method, seed=1).answers["fit"]},
        "capabilities say deterministic=True, but another rng gives another answer",
        "declare deterministic=False",
    )


def check_variable_order_does_not_matter(method: Method) -> None:
    """Variables in reverse order give the reversed answer; on average over seeds where not deterministic."""
    order = np.arange(easy_problem().observed.n_variables)[::-1]
    _require_equivariant(method, VARIABLES_REVERSED, lambda estimate: estimate.permuted(order))


def check_environment_order_does_not_matter(method: Method) -> None:
    """Environments in reverse order reverse the rows of targets and nothing else; on average where not deterministic."""

    def reordered(estimate: Estimate) -> Estimate:
        def rows(value: Any) -> Any:
            return None if value is None else value[::-1]

        return dataclasses.replace(
            estimate, target_probability=rows(estimate.target_probability), targets=rows(estimate.targets)
        )

    _require_equivariant(method, ENVIRONMENTS_REVERSED, reordered)


def check_told_targets_are_ignored(method: Method) -> None:
    """A method that declares to ignore told targets answers the same when they are told."""
    _require_same(
        exercise(method).answers,
        exercise(method, TARGETS_TOLD).answers,
        "capabilities say targets='ignored', but telling them changes the answer",
        "declare targets='optional' or leave Environment.targets alone",
    )


def check_told_graph_is_ignored(method: Method) -> None:
    """A method that declares to ignore a told graph answers the same when it is told."""
    _require_same(
        exercise(method).answers,
        exercise(method, GRAPH_TOLD[0]).answers,
        "capabilities say graph='ignored', but telling it changes the answer",
        "declare graph='optional' or leave Observed.graph alone",
    )


def check_told_graph_is_repeated(method: Method) -> None:
    """A method that uses a told graph takes it for the truth: its edge probabilities, and samples, are that graph."""
    for scenario in (GRAPH_TOLD[0], GRAPH_TOLD_REVERSED):
        graph, estimate = observed_in(method, scenario).graph, estimate_of(method, scenario)
        assert graph is not None
        _require_valid(estimate, observed_in(method, scenario), "fit with the graph told")
        for name, answers in (
            ("edge_probability", estimate.edge_probability),
            ("graph_samples", estimate.graph_samples),
            ("point_graph", estimate.point_graph),
        ):
            if answers is not None and not np.array_equal(answers, np.broadcast_to(graph, answers.shape)):
                raise CheckFailed(f"{name} is not the graph that was told; Observed.graph[i, j] is i -> j, and the truth")


def check_variable_order_does_not_matter_where_the_graph_is_told(method: Method) -> None:
    """As check_variable_order_does_not_matter, the graph told in the same order."""
    order = np.arange(easy_problem().observed.n_variables)[::-1]
    _require_equivariant(method, GRAPH_TOLD_REVERSED, lambda estimate: estimate.permuted(order), first=GRAPH_TOLD[0])


def check_budget_is_honoured(method: Method) -> None:
    """With its time spent, ``fit`` still returns soon, and says ``cut_short`` unless the answer is the full one."""
    _require_importable(method)
    try:
        answers = answers_of_fresh_process(method, budget_seconds=0.0)
    except fresh_process.NoAnswer as reason:
        raise CheckFailed(
            f"fit with a spent budget does not return: {reason}; return the best so far once budget.expired"
        ) from None
    if answers["cut_short"]["cut_short"]:
        return
    _require_same(
        {"fit": answers_of_fresh_process(method)["fit"]},
        {"fit": answers["fit"]},
        "a spent budget changes the answer, but cut_short is False",
        "return Fitted(..., cut_short=True)",
    )


# Awkward input ------------------------------------------------------------------------------------------------------------


def check_awkward_input(method: Method, *, name: str) -> None:
    """Legal but hard input is answered validly, or refused by a BenchError or ValueError of one line."""
    observed = granted(method, AWKWARD[name]())
    what = name.replace("_", " ")
    try:
        estimate = observe(lambda: fit(clone(method), observed).estimate, global_seed=1).value
    except InvalidEstimate as reason:
        raise CheckFailed(f"{what}: the estimate is invalid: {reason}") from None
    except (BenchError, ValueError) as reason:
        if not str(reason).strip() or "\n" in str(reason).strip():
            raise CheckFailed(f"{what}: refuse in one line that says why, got {str(reason)!r}") from None
        _require_declared(name, method.effective_capabilities(), what)
        return
    except Exception as reason:
        raise CheckFailed(
            f"{what}: fit raises {type(reason).__name__}: {compare.one_line(str(reason))}; answer, or raise InputError "
            "with one line"
        ) from None
    _require_valid(estimate, observed, f"{what}: fit")


def _require_declared(name: str, capabilities: Capabilities, what: str) -> None:
    """What a method refuses for the shape of a problem, a run must be able to skip beforehand."""
    declaration, declared = {
        "one_environment": ("min_environments=2", capabilities.min_environments > 1),
        "nothing_known_observational": ("needs_observational=True", capabilities.needs_observational),
    }.get(name, ("", True))
    if not declared:
        raise CheckFailed(f"{what}: fit refuses, but capabilities do not say so; declare {declaration}, or answer")


# Few-shot adaptation and density ------------------------------------------------------------------------------------------


def check_adapt_answers(method: Method) -> None:
    """``adapt`` answers several new environments, and one environment of one sample, each with a row of targets."""
    fitted = exercise(method).fitted
    for new in (new_environments(), Observed((Environment(held_out_samples()[:1]),))):
        answer = fitted.adapt(new, rng=np.random.default_rng(0))
        if not isinstance(answer, Estimate):
            raise CheckFailed(f"adapt must return an Estimate, got {type(answer).__name__}")
        _require_valid(answer, new, "adapt")
        if method.effective_capabilities().estimates_targets and answer.target_probability is None:
            raise CheckFailed("adapt must give target_probability, since capabilities say estimates_targets=True; got None")


def check_adapt_leaves_its_parent_unchanged(method: Method) -> None:
    """Adapting changes nothing in the fitted object, so one environment's answer does not depend on the others before it."""
    fitted = fit(clone(method), observed_in(method, EASY))  # not the shared one, which has adapted before
    before = pickle.dumps(fitted)
    first = fitted.adapt(new_environments(), rng=np.random.default_rng(0))
    if pickle.dumps(fitted) != before:
        raise CheckFailed("adapt changes the fitted object; return a new estimate and leave the state of fit as it was")
    fitted.adapt(Observed((Environment(held_out_samples()[5:6]),)), rng=np.random.default_rng(1))
    second = fitted.adapt(new_environments(), rng=np.random.default_rng(0))
    if unlike := compare.difference(compare.arrays(first), compare.arrays(second)):
        raise CheckFailed(f"adapting to the same environments twice differs ({unlike}); keep nothing from one call to the next")


def check_density_has_the_right_shape(method: Method) -> None:
    """``log_density(X (n, d))`` is finite, float64, (S, n, d); S is the number of graph samples, 1 where there are none."""
    fitted, X = exercise(method).fitted, held_out_samples()
    samples = fitted.estimate.graph_samples
    wanted = (1 if samples is None else len(samples), *X.shape)
    density = np.asarray(fitted.log_density(X))
    if density.shape != wanted or density.dtype != np.float64:
        raise CheckFailed(f"log_density must return float64 {wanted}, (S, n, d), got {density.dtype} {density.shape}")
    if not np.isfinite(density).all():
        raise CheckFailed(
            f"log_density must be finite, got {int((~np.isfinite(density)).sum())} of {density.size} that are not"
        )


def check_density_takes_each_sample_alone(method: Method) -> None:
    """The density of a sample does not depend on the samples that come with it."""
    fitted, X = exercise(method).fitted, held_out_samples()
    together, alone = np.asarray(fitted.log_density(X)), np.asarray(fitted.log_density(X[:3]))
    if not np.allclose(together[:, :3], alone, rtol=1e-4, atol=1e-4, equal_nan=True):  # single precision is good enough here
        raise CheckFailed("log_density of a sample depends on the others beside it; evaluate each row by itself")


# Accuracy -----------------------------------------------------------------------------------------------------------------


def check_edges_beat_chance(method: Method) -> None:
    """Edge average precision on easy problems exceeds the prevalence by ``ABOVE_CHANCE``."""
    truths = [compare.off_diagonal(easy_problem(k).adjacency) for k in range(len(EASY_PROBLEMS))]
    found = [compare.off_diagonal(estimate_of(method, scenario).edge_probability) for scenario in EASY_PROBLEMS]
    _require_above_chance("edge", truths, found, "is edge_probability[i, j] that of i -> j?")


def check_targets_beat_chance(method: Method) -> None:
    """Target average precision on easy problems exceeds the prevalence by ``ABOVE_CHANCE``."""
    _require_targets_above_chance(method, EASY_PROBLEMS)


def check_targets_beat_chance_where_the_graph_is_told(method: Method) -> None:
    """As check_targets_beat_chance, with the graph told."""
    _require_targets_above_chance(method, GRAPH_TOLD)


def _require_targets_above_chance(method: Method, scenarios: Sequence[str]) -> None:
    truths, found = [], []
    for repetition, scenario in enumerate(scenarios):
        targets, probability = easy_problem(repetition).targets, estimate_of(method, scenario).target_probability
        if probability is None:
            raise CheckFailed("capabilities say estimates_targets=True, but target_probability is None")
        intervened = targets.any(axis=1)
        truths.append(targets[intervened].ravel())
        found.append(probability[intervened].ravel())
    _require_above_chance("target", truths, found, "does row e of target_probability answer environment e?")


def _require_above_chance(what: str, truths: list[Any], found: list[Any], question: str) -> None:
    precision = float(np.mean([average_precision(truth, scores) for truth, scores in zip(truths, found, strict=True)]))
    chance = float(np.mean([truth.mean() for truth in truths]))
    if precision < chance + ABOVE_CHANCE:
        raise CheckFailed(
            f"{what} average precision on easy problems is {precision:.2f}, expected at least {chance + ABOVE_CHANCE:.2f} "
            f"(chance is {chance:.2f}); {question}"
        )


# What several checks ask -------------------------------------------------------------------------------------------------


def _require_valid(estimate: Any, observed: Observed, who: str) -> None:
    if not isinstance(estimate, Estimate):
        raise CheckFailed(f"{who} must give an Estimate, got {type(estimate).__name__}")
    try:
        estimate.check(observed.n_environments, observed.n_variables)
    except InvalidEstimate as reason:
        raise CheckFailed(f"{who} gives a wrong estimate for {observed.n_environments} environments: {reason}") from None


def _require_importable(method: Method) -> None:
    known = registry.methods().get(getattr(type(method), "name", ""))
    if known is None or known.factory is not type(method):
        raise CheckFailed("the method is not registered; decorate its class with @register_method(name)")
    if type(method).__module__ == "__main__":
        raise CheckFailed(
            "the method is defined in __main__, where no other process finds it; put it into a file and load that"
        )


def _require_same(first: Answers, second: Answers, claim: str, advice: str) -> None:
    for part in first:
        if unlike := compare.difference(first[part], second.get(part, {})):
            raise CheckFailed(f"{claim} ({part}: {unlike}); {advice}")


def _require_equivariant(method: Method, scenario: str, permuted: Callable[[Estimate], Estimate], *, first: str = EASY) -> None:
    if method.effective_capabilities().deterministic:
        wanted, got = permuted(estimate_of(method, first)), estimate_of(method, scenario)
        # Samples of a deterministic method may be listed in another order; what they amount to is compared.
        unlike = compare.difference(_summary(wanted), _summary(got))
        if unlike:
            raise CheckFailed(f"{scenario}: the answer is not the same, {unlike}; break ties by content, not by position")
        return
    wanted_all = [_summary(permuted(estimate_of(method, first, seed))) for seed in range(N_SEEDS)]
    got_all = [_summary(estimate_of(method, scenario, seed)) for seed in range(N_SEEDS)]
    for name in ("edge_probability", "target_probability"):
        if name not in wanted_all[0]:
            continue
        entries = compare.off_diagonal if name == "edge_probability" else np.ravel
        distance = compare.squared_distance(
            [entries(answer[name]) for answer in wanted_all], [entries(answer[name]) for answer in got_all]
        )
        if distance > compare.EXPECTED_DISTANCE:
            raise CheckFailed(
                f"{scenario}: {name} moves by a mean square of {distance:.2f} over {N_SEEDS} seeds, allowed are "
                f"{compare.EXPECTED_DISTANCE}; treat all positions alike, or shuffle by rng"
            )


def _summary(estimate: Estimate) -> dict[str, Any]:
    return {k: v for k, v in compare.arrays(estimate).items() if k not in ("graph_samples", "log_weights")}
