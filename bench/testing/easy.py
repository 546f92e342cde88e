"""Small problems that every method should answer: one easy linear model, and inputs cut to awkward shapes.

The model is made here, so that checking a method depends on no dataset. Pooled-standardised, as the runner hands data out.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.seeds import generator
from bench.types import BoolArray, Environment, FloatArray, Observed

N_VARIABLES = 5
N_EDGES = 5
N_OBSERVATIONAL = 300
N_INTERVENTIONAL = 80
N_INTERVENED_ENVIRONMENTS = 6


@dataclass(frozen=True, slots=True)
class EasyProblem:
    """A linear Gaussian model under hard interventions.

    Parameters
    ----------
    observed : Observed
        Targets and graph told; one observational environment, then six with one or two targets each, every variable hit.
    adjacency : bool (d, d)
        ``A[i, j]`` is i -> j.
    targets : bool (E, d)
    held_out : float64 (n, d)
        Samples of one more intervened environment.
    """

    observed: Observed
    adjacency: BoolArray
    targets: BoolArray
    held_out: FloatArray


@functools.lru_cache(maxsize=8)
def easy_problem(repetition: int = 0) -> EasyProblem:
    """Draw x = Wᵀx + noise with |weights| in [.7, 1.5]; a target is set to N(±2, .5²) instead."""
    rng = generator("easy problem", repetition)
    d = N_VARIABLES
    pairs = rng.permutation([(i, j) for i in range(d) for j in range(i + 1, d)])[:N_EDGES]
    order = rng.permutation(d)
    weights = np.zeros((d, d))
    weights[order[pairs[:, 0]], order[pairs[:, 1]]] = rng.uniform(0.7, 1.5, N_EDGES) * rng.choice([-1, 1], N_EDGES)

    targets = np.zeros((1 + N_INTERVENED_ENVIRONMENTS, d), dtype=bool)
    targets[1 + rng.permutation(N_INTERVENED_ENVIRONMENTS)[:d], np.arange(d)] = True
    targets[1:][~targets[1:].any(axis=1), rng.integers(d)] = True
    targets[rng.integers(1, len(targets)), rng.integers(d)] = True

    sizes = [N_OBSERVATIONAL] + [N_INTERVENTIONAL] * N_INTERVENED_ENVIRONMENTS
    samples = [_sample(weights, order, t, n, rng) for t, n in zip(targets, sizes, strict=True)]
    held_out = _sample(weights, order, targets[1], 20, rng)
    pooled = np.concatenate(samples)
    centre, scale = pooled.mean(axis=0), pooled.std(axis=0)
    environments = tuple(
        Environment((X - centre) / scale, is_observational=not t.any(), targets=frozenset(np.flatnonzero(t)))
        for X, t in zip(samples, targets, strict=True)
    )
    return EasyProblem(Observed(environments, weights != 0), weights != 0, targets, (held_out - centre) / scale)


def _sample(
    weights: FloatArray, order: npt.NDArray[np.intp], targets: BoolArray, n: int, rng: np.random.Generator
) -> FloatArray:
    X = np.zeros((n, len(order)))
    for j in order:
        X[:, j] = X @ weights[:, j] + rng.normal(0, 1, n)
        if targets[j]:
            X[:, j] = rng.normal(rng.choice([-2, 2]), 0.5, n)
    return X


def _with(*environments: Environment) -> Observed:
    return dataclasses.replace(easy_problem().observed, environments=environments)


def _edit(change: Callable[[FloatArray], FloatArray]) -> Observed:
    return _with(*(dataclasses.replace(e, X=change(np.array(e.X))) for e in easy_problem().observed.environments))


def _constant_column(X: FloatArray) -> FloatArray:
    X[:, 0] = 1.0
    return X


def _duplicated_column(X: FloatArray) -> FloatArray:
    X[:, 1] = X[:, 0]
    return X


def one_environment() -> Observed:
    """Observational data alone."""
    return _with(easy_problem().observed.environments[0])


def single_sample_environment() -> Observed:
    """One environment holds one sample."""
    *others, last = easy_problem().observed.environments
    return _with(*others, dataclasses.replace(last, X=last.X[:1]))


def nothing_known_observational() -> Observed:
    """Nobody says which environment is observational."""
    return _with(*(dataclasses.replace(e, is_observational=None) for e in easy_problem().observed.environments))


def constant_column() -> Observed:
    """The first variable is 1 in every sample."""
    return _edit(_constant_column)


def duplicated_column() -> Observed:
    """The second variable equals the first."""
    return _edit(_duplicated_column)


def more_variables_than_samples() -> Observed:
    """Two samples in each of two environments."""
    return _with(*(dataclasses.replace(e, X=e.X[:2]) for e in easy_problem().observed.environments[:2]))


def single_variable() -> Observed:
    """No pair of variables to judge."""
    environments = easy_problem().observed.environments
    return Observed(
        tuple(dataclasses.replace(e, X=e.X[:, :1], targets=e.targets and e.targets & {0}) for e in environments),
        np.zeros((1, 1), dtype=bool),
    )


AWKWARD: dict[str, Callable[[], Observed]] = {
    make.__name__: make
    for make in (
        one_environment,
        single_sample_environment,
        nothing_known_observational,
        constant_column,
        duplicated_column,
        more_variables_than_samples,
        single_variable,
    )
}
"""Input that is legal but hard: a method answers it, or refuses it in one line."""
