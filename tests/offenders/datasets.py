"""Datasets that break one promise each, planted so that every conformance check is seen to catch something."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Callable

import numpy as np

from bench import registry
from bench.registry import register_dataset
from bench.types import Environment, HeldOut, Meta, Observed, Problem, Truth

META = Meta("Linear chain in a random order, one shifted target in each environment.")
N_VARIABLES = 5


def honest_problem(
    rng: np.random.Generator,
    *,
    n_samples: int = 20,
    shuffled_variables: bool = True,
    shuffled_targets: bool = True,
    cyclic: bool = False,
    told: bool = False,
    observational_targets: bool = False,
    copied_held_out: bool = False,
    infinite_held_out: bool = False,
    idle_targets: bool = False,
    drifting: bool = False,
    unstable_children: bool = False,
    idle_environment: bool = False,
    alike_names: bool = False,
) -> Problem:
    d = N_VARIABLES
    order = rng.permutation(d) if shuffled_variables else np.arange(d)
    adjacency = np.zeros((d, d), dtype=bool)
    adjacency[order[:-1], order[1:]] = rng.random(d - 1) < 0.8
    if cyclic:
        adjacency[order[:3], order[[1, 2, 0]]] = True
    target = rng.permutation(d) if shuffled_targets else np.arange(d)
    targets = np.vstack([np.full(d, observational_targets), np.eye(d, dtype=bool)[target]])
    samples = [rng.normal(size=(n_samples, d)) + (0 if idle_targets else 2) * row for row in targets]
    if drifting:
        samples = [X + 3 * rng.normal(size=d) for X in samples]
    if unstable_children:
        samples = [X + 4 * (row @ adjacency) for X, row in zip(samples, targets, strict=True)]
    if idle_environment:
        targets, samples = np.vstack([targets, np.zeros(d, dtype=bool)]), [*samples, rng.normal(size=(n_samples, d))]
    environments = tuple(
        Environment(X, is_observational=e == 0, targets=frozenset(np.flatnonzero(targets[e])) if told else None)
        for e, X in enumerate(samples)
    )
    support = samples[1][:5] if copied_held_out else rng.normal(size=(5, d))
    if infinite_held_out:
        support[0, 0] = np.inf
    return Problem(
        Observed(environments),
        Truth(adjacency, targets),
        (HeldOut(support, (3, 5), rng.normal(size=(2, d)), targets[1]),),
        variable_names=["X"] * d if alike_names else (),
    )


@register_dataset("honest_chain", meta=META, tags={"linear"}, golden="8eb82e60adbb68c1")
def honest_chain(rng: np.random.Generator, n_samples: int = 20) -> Problem:
    return honest_problem(rng, n_samples=n_samples)


def _broken(name: str, tags: frozenset[str] = frozenset(), golden: str = "", **how: bool) -> None:
    def dataset(rng: np.random.Generator, n_samples: int = 20) -> Problem:
        return honest_problem(rng, n_samples=n_samples, **how)

    dataset.__qualname__ = name
    register_dataset(name, meta=META, tags=tags, golden=golden)(dataset)


_broken("keeps_the_causal_order", shuffled_variables=False)
_broken("lists_targets_in_order", shuffled_targets=False)
_broken("has_a_cycle", cyclic=True)
_broken("tells_its_targets", told=True)
_broken("intervenes_in_observational_data", observational_targets=True)
_broken("holds_out_training_samples", copied_held_out=True)
_broken("holds_out_infinity", infinite_held_out=True)
_broken("names_variables_alike", alike_names=True)
_broken("calls_an_idle_environment_interventional", idle_environment=True)
_broken("moves_what_no_target_reaches", drifting=True)
_broken("names_targets_that_do_not_change", idle_targets=True)
_broken("moves_children_beyond_their_parents", tags=frozenset({"linear"}), unstable_children=True)
_broken("is_another_than_its_golden_digest", golden="0123456789abcdef")


@register_dataset("annotates_no_parameter", meta=META)
def annotates_no_parameter(rng: np.random.Generator, n_samples=20) -> Problem:
    return honest_problem(rng, n_samples=n_samples)


@register_dataset("has_no_summary", meta=Meta("Two\nlines."))
def has_no_summary(rng: np.random.Generator, n_samples: int = 20) -> Problem:
    return honest_problem(rng, n_samples=n_samples)


@register_dataset("ignores_its_parameters", meta=META)
def ignores_its_parameters(rng: np.random.Generator, n_samples: int = 20, sparse: bool = True) -> Problem:
    return honest_problem(rng)


_draws = itertools.count()


@register_dataset("counts_its_draws", meta=META)
def counts_its_draws(rng: np.random.Generator, n_samples: int = 20) -> Problem:
    return honest_problem(np.random.default_rng(next(_draws)), n_samples=n_samples)


@register_dataset("hashes_its_name", meta=META)
def hashes_its_name(rng: np.random.Generator, n_samples: int = 20) -> Problem:
    seeds = [abs(hash("hashes_its_name")), int(rng.integers(2**31))]
    return honest_problem(np.random.default_rng(seeds), n_samples=n_samples)


def _with_side_effect(name: str, effect: Callable[[], object]) -> None:
    def dataset(rng: np.random.Generator, n_samples: int = 20) -> Problem:
        effect()
        return honest_problem(rng, n_samples=n_samples)

    dataset.__qualname__ = name
    register_dataset(name, meta=META)(dataset)


_with_side_effect("draws_globally", lambda: np.random.rand())  # noqa: NPY002  (the offence)
_with_side_effect("prints_its_progress", lambda: print("drawing"))
_with_side_effect("warns_of_something", lambda: warnings.warn("look out", UserWarning, stacklevel=2))


@register_dataset("reads_the_global_state", meta=META)
def reads_the_global_state(rng: np.random.Generator, n_samples: int = 20) -> Problem:
    seeds = [int(np.random.get_state()[1][0]), int(rng.integers(2**31))]  # noqa: NPY002  (the offence)
    return honest_problem(np.random.default_rng(seeds), n_samples=n_samples)


@register_dataset("ignores_its_seed", meta=META)
def ignores_its_seed(rng: np.random.Generator, n_samples: int = 20) -> Problem:
    return honest_problem(np.random.default_rng(0), n_samples=n_samples)


@register_dataset("hides_its_truth", meta=META)
def hides_its_truth(rng: np.random.Generator, n_samples: int = 20) -> Problem:
    problem = honest_problem(rng, n_samples=n_samples)
    return Problem(problem.observed, None, problem.held_out)


def _chain(rng: np.random.Generator, n_samples: int) -> Problem:
    """Edges that can be seen in the samples, unlike those of the honest problem."""
    parameters = {"graph": "chain", "n_variables": 5, "n_observational": n_samples, "n_per_environment": n_samples}
    problem: Problem = registry.entry("dataset", "synthetic").factory(rng, **parameters)
    return problem


@register_dataset("turns_its_edges", meta=META)
def turns_its_edges(rng: np.random.Generator, n_samples: int = 50) -> Problem:
    problem = _chain(rng, n_samples)
    return dataclasses.replace(problem, truth=Truth(problem.truth.adjacency.T, problem.truth.targets))


@register_dataset("lists_its_environments_in_another_order", meta=META)
def lists_its_environments_in_another_order(rng: np.random.Generator, n_samples: int = 50) -> Problem:
    problem = _chain(rng, n_samples)
    targets = np.vstack([problem.truth.targets[:1], np.roll(problem.truth.targets[1:], 1, axis=0)])
    return dataclasses.replace(problem, truth=Truth(problem.truth.adjacency, targets))


@register_dataset("measured", meta=META, tags={"real"})
def measured(rng: np.random.Generator, n_samples: int = 20) -> Problem:
    """No offender: measured data may be the same under every seed, in a fixed order, with a cyclic reference graph."""
    return honest_problem(np.random.default_rng(0), n_samples=n_samples, shuffled_variables=False, cyclic=True)
