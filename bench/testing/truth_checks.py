"""Does the truth of a dataset fit its samples? What targets do not reach keeps its distribution, and targets change theirs.

A truth with its edges turned, its environments in another order or a variable's mechanism drawn anew is caught by the samples.
Judged over several draws, by two-sample tests of one environment against the rest, with Bonferroni over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from bench import registry
from bench.effects import downstream
from bench.testing.report import CheckFailed
from bench.types import BoolArray, FloatArray, Problem

N_PROBLEMS = 8
"""Draws over which invariance is judged."""

LEVEL = 1e-4
"""Of all tests of a check together: an honest dataset fails once in ten thousand, and the draws are fixed."""

MOST_COMPARISONS = 100
"""Of each draw, evenly over variables; more would take long and find little more."""

FEWEST_SAMPLES = 3

Residual = Callable[[Problem, int, BoolArray], list[FloatArray]]
"""Of a problem, a variable and environments, bool (E,): the values to compare, an array for each of these environments."""


def check_what_targets_do_not_reach_is_invariant(choice: registry.Choice) -> None:
    """A variable that is no target, nor below one, has the same distribution in every environment."""

    def apart(adjacency: BoolArray, targets: BoolArray) -> BoolArray:
        return np.asarray(~(targets | downstream(adjacency, targets)))

    found = _most_different(choice, apart, _values)
    if found:
        raise CheckFailed(
            f"{found}, though no target of it is that variable or above it; the truth has to fit the samples, and non-targets "
            "have to keep their mechanism"
        )


def check_mechanisms_of_non_targets_are_invariant(choice: registry.Choice) -> None:
    """What a linear regression on its parents leaves of a variable is alike in all environments where it is no target."""
    found = _most_different(choice, lambda adjacency, targets: ~targets, _residuals)
    if found:
        raise CheckFailed(
            f"{found}, given its parents, though it is no target there; non-targets have to keep mechanism and noise"
        )


def check_targets_change(choice: registry.Choice) -> None:
    """Targets differ from the environments where they are none, over all draws together."""
    p_values = [p for _, p in _comparisons(choice, lambda adjacency, targets: targets, _values, against=True)]
    if p_values and stats.combine_pvalues(np.maximum(p_values, 1e-300)).pvalue > LEVEL:
        raise CheckFailed(
            f"over {N_PROBLEMS} draws, targets have the distribution that they have elsewhere; the truth has to say what the "
            "environments change"
        )


def is_linear(choice: registry.Choice) -> bool:
    """Whether the dataset says so: by the tag "linear", or by a parameter ``mechanism`` of that value."""
    entry = registry.entry("dataset", choice.name)
    return "linear" in entry.tags or choice.parameters.get("mechanism", entry.defaults.get("mechanism")) == "linear"


Chosen = Callable[[BoolArray, BoolArray], BoolArray]
"""From adjacency (d, d) and targets (E, d) which environments and variables are compared, bool (E, d)."""


def _most_different(choice: registry.Choice, chosen: Chosen, residual: Residual) -> str:
    """Words on the pair of environment and variable that differs most from the rest, empty where none does."""
    found = list(_comparisons(choice, chosen, residual))
    if not found:
        return ""
    words, p = min(found, key=lambda pair: pair[1])
    return words if p * len(found) < LEVEL else ""


def _comparisons(
    choice: registry.Choice, chosen: Chosen, residual: Residual, against: bool = False
) -> Iterator[tuple[str, float]]:
    """Words and p-value of each comparison: an environment with the other chosen ones, or (``against``) with the rest."""
    for seed in range(N_PROBLEMS):
        problem = registry.make_problem(choice.name, seed=seed, **choice.parameters)
        truth = problem.truth
        if truth is None or truth.adjacency is None or truth.targets is None:
            raise CheckFailed("a synthetic problem must know its graph and its targets; tag measured data as 'real'")
        pairs = chosen(truth.adjacency, truth.targets)
        stride = math.ceil(pairs.sum() / MOST_COMPARISONS) or 1
        for variable in range(seed % stride, problem.observed.n_variables, stride):
            column = pairs[:, variable]
            values = residual(problem, variable, np.ones_like(column) if against else column)
            groups = column if against else np.ones(len(values), dtype=bool)
            for place, environment in zip(np.flatnonzero(groups), np.flatnonzero(column), strict=True):
                rest = [v for i, v in enumerate(values) if i != place and not (against and groups[i])]
                if len(values[place]) >= FEWEST_SAMPLES and sum(map(len, rest)) >= FEWEST_SAMPLES:
                    words = f"variable {variable} differs in environment {environment} of seed {seed}"
                    yield words, _p_value(values[place], np.concatenate(rest))


def _values(problem: Problem, variable: int, environments: BoolArray) -> list[FloatArray]:
    return [problem.observed.environments[e].X[:, variable] for e in np.flatnonzero(environments)]


def _residuals(problem: Problem, variable: int, environments: BoolArray) -> list[FloatArray]:
    """Of one regression on the parents over all the environments."""
    assert problem.truth is not None
    assert problem.truth.adjacency is not None
    parents = np.flatnonzero(problem.truth.adjacency[:, variable])
    chosen = [problem.observed.environments[e].X for e in np.flatnonzero(environments)]
    if not chosen:
        return []
    X = np.concatenate(chosen)
    design = np.column_stack([np.ones(len(X)), X[:, parents]])
    left = X[:, variable] - design @ np.linalg.lstsq(design, X[:, variable], rcond=None)[0]
    return np.split(left, np.cumsum([len(x) for x in chosen])[:-1])


def _p_value(first: FloatArray, second: FloatArray) -> float:
    """Of one distribution: Kolmogorov-Smirnov for its shape, Brown-Forsythe for its spread, joined by Bonferroni."""
    shape = stats.ks_2samp(first, second, method="asymp").pvalue
    varies = np.ptp(first) > 0 or np.ptp(second) > 0
    spread = stats.levene(first, second, center="median").pvalue if varies else 1.0
    return float(min(1.0, 2 * min(shape, spread)))
