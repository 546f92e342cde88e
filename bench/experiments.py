"""Environments of a model: how many, how large, which variables are hit, and what is held out.

Targets are drawn at random among all variables and listed in no order. Sampling is in the model's units; nothing is
standardised here. A model is anything that can be changed and sampled, such as a ``bench.scm.StructuralModel``, whose kinds
of intervention are those of ``bench.interventions``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
from annotated_types import Ge, Len
from pydantic import AfterValidator

from bench.errors import InputError
from bench.flaws import Flaws
from bench.scm import IntArray
from bench.types import BoolArray, Environment, FloatArray, HeldOut, Observed, Problem, Truth

Probability = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(0)]
Positive = Annotated[int, Ge(1)]
TargetChoice = Literal["independent", "covering"]
Sampler = Callable[["Model", int], FloatArray]
Counts = int | tuple[int, int] | dict[int, float]


def _check_range(value: Counts) -> Counts:
    if isinstance(value, tuple) and value[0] > value[1]:
        raise ValueError("a range needs low <= high")
    if isinstance(value, dict) and not sum(value.values()) > 0:
        raise ValueError("the probabilities must not all be 0")
    return value


TargetCounts = Annotated[
    Count | tuple[Count, Count] | Annotated[dict[Count, Probability], Len(1)], AfterValidator(_check_range)
]
"""Annotation of a number of targets: fixed, [low, high] alike, or number: probability."""

SampleSizes = Positive | Annotated[list[Positive], Len(1)]
"""Annotation of samples per environment: one size for all, a list with one per environment, or a range [low, high].

Of two environments, two numbers are their sizes."""


class Model(Protocol):
    """What can be intervened on and sampled."""

    @property
    def n_variables(self) -> int: ...

    def adjacency(self) -> BoolArray:
        """The true graph, bool (d, d)."""

    def intervened(self, changes: Any, /) -> Self:
        """The same model with what :meth:`Changes.draw` drew."""

    def sample(self, n: int, rng: np.random.Generator, /) -> FloatArray:
        """Samples, float64 (n, d)."""


class Changes(Protocol):
    """Kinds and sizes of interventions on a model."""

    def draw(self, model: Any, targets: IntArray, rng: np.random.Generator, /) -> Any:
        """What one environment changes, for :meth:`Model.intervened`."""


@dataclass(frozen=True, slots=True)
class HeldOutPlan:
    """Environments that training never sees.

    Parameters
    ----------
    n_environments : int
        0 for none.
    few_shot_sizes : sequence of int
        Sizes of the support sets; nested, so that size n is the first n samples.
    n_query : int
        Fresh samples per environment for the held-out density.
    n_targets : int, range or mapping, optional
        As in training where None.
    interventions : Changes, optional
        As in training where None.
    unseen : bool
        Draw targets among the variables alone that no training environment hits.
    """

    n_environments: int = 0
    few_shot_sizes: Sequence[int] = (3, 10, 30)
    n_query: int = 100
    n_targets: Counts | None = None
    interventions: Changes | None = None
    unseen: bool = False


def draw_counts(spec: Counts, n: int, n_variables: int, rng: np.random.Generator) -> IntArray:
    """Draw the numbers of targets of ``n`` environments, int (n,).

    Raises
    ------
    InputError
        If more targets than variables are possible.
    """
    if isinstance(spec, Mapping):
        values, share = np.array(list(spec)), np.array(list(spec.values()), dtype=float)
        counts = rng.choice(values, size=n, p=share / share.sum())
    else:
        low, high = spec if isinstance(spec, tuple) else (spec, spec)
        values = np.array([low, high])
        counts = rng.integers(low, high + 1, size=n)
    if values.max() > n_variables:
        raise InputError(f"n_targets must be at most the number of variables, {n_variables}, got {values.max()}")
    return np.asarray(counts, dtype=np.intp)


def draw_targets(counts: IntArray, n_variables: int, choice: TargetChoice, rng: np.random.Generator) -> BoolArray:
    """Draw which variables each environment hits, bool (E, d).

    "independent" draws each environment for itself. "covering" deals from a shuffled deck of all variables, so that none
    is hit a second time before every other was once.
    """
    targets = np.zeros((len(counts), n_variables), dtype=bool)
    deck: list[int] = []
    for row, count in zip(targets, counts, strict=True):
        if choice == "independent":
            row[rng.choice(n_variables, size=count, replace=False)] = True
            continue
        while row.sum() < count:
            if row[deck].all():  # whatever is left is hit by this environment already, and waits for the next
                deck += rng.permutation(n_variables).tolist()
            row[deck.pop(next(i for i, variable in enumerate(deck) if not row[variable]))] = True
    return targets


def draw_sizes(spec: int | Sequence[int], n: int, rng: np.random.Generator) -> IntArray:
    """Samples of each of ``n`` environments, int (n,).

    Raises
    ------
    InputError
        If a list is neither one size per environment nor a range.

    Examples
    --------
    >>> draw_sizes([10, 20, 30], 3, np.random.default_rng(0))
    array([10, 20, 30])
    >>> draw_sizes([10, 20, 30], 4, np.random.default_rng(0))
    Traceback (most recent call last):
    bench.errors.InputError: n_per_environment must be a number, [low, high], or 4 sizes, got 3 sizes
    """
    if isinstance(spec, int):
        return np.full(n, spec, dtype=np.intp)
    if len(spec) == n:
        return np.array(spec, dtype=np.intp)
    if len(spec) != 2:
        raise InputError(f"n_per_environment must be a number, [low, high], or {n} sizes, got {len(spec)} sizes")
    if spec[0] > spec[1]:
        raise InputError(f"n_per_environment as a range needs low <= high, got {list(spec)}")
    return np.asarray(rng.integers(spec[0], spec[1] + 1, size=n), dtype=np.intp)


def run_experiment(
    model: Model,
    rng: np.random.Generator,
    *,
    n_observational: int,
    n_environments: int,
    n_per_environment: int | Sequence[int],
    n_targets: Counts,
    interventions: Changes,
    target_choice: TargetChoice = "independent",
    held_out: HeldOutPlan | None = None,
    location: FloatArray | float = 0.0,
    unit: FloatArray | float = 1.0,
    flaws: Flaws = Flaws(),  # noqa: B008  (never changed)
    variable_names: Sequence[str] = (),
    diagnostics: Mapping[str, float] | None = None,
) -> Problem:
    """Sample a model in several environments.

    Parameters
    ----------
    model : Model
        The model without intervention.
    rng : Generator
        Held-out environments are drawn last, so their number changes nothing in training.
    n_observational : int
        Samples without intervention, as the first environment; 0 for none.
    n_environments : int
        Environments with interventions.
    n_per_environment : int or sequence of int
        One size for all, one per environment, or a range [low, high].
    n_targets : int, (low, high) or mapping of int to probability
        Number of targets per environment. Where 0 is possible, environments say None instead of "not observational".
    interventions : Changes
        Kinds and sizes.
    target_choice : {"independent", "covering"}
        See :func:`draw_targets`.
    held_out : HeldOutPlan, optional
        None holds nothing out.
    location, unit : float64 (d,) or float
        Samples x are returned as location + unit * x.
    flaws : Flaws
        What goes wrong; nothing by default.
    variable_names : sequence of str
    diagnostics : mapping of str to float

    Raises
    ------
    InputError
        If there would be no training sample, or a number does not fit the model.
    """
    if n_observational == 0 and n_environments == 0:
        raise InputError("n_observational and n_environments must not both be 0")
    d = model.n_variables
    measured = flaws.sampler(model, rng)

    def sample(changed: Model, n: int) -> FloatArray:
        return np.asarray(location + unit * measured(changed, n))

    # Lists are drawn before the samples, so that sizes do not decide which variables are hit.
    counts = draw_counts(n_targets, n_environments, d, rng)
    targets = draw_targets(counts, d, target_choice, rng)
    changes = [interventions.draw(model, np.flatnonzero(row), rng) for row in targets]
    sizes = draw_sizes(n_per_environment, n_environments, rng)

    environments = []
    if n_observational:
        environments.append(Environment(sample(model, n_observational), is_observational=True))
        targets = np.vstack([np.zeros((1, d), dtype=bool), targets])
    told = None if _may_be_zero(n_targets) else False
    environments += [
        Environment(sample(model.intervened(change), int(n)), is_observational=told)
        for change, n in zip(changes, sizes, strict=True)
    ]
    return Problem(
        observed=Observed(tuple(environments)),
        truth=Truth(model.adjacency(), targets, told_targets=flaws.told_targets(targets, rng)),
        held_out=_draw_held_out(model, held_out, n_targets, target_choice, interventions, targets, sample, rng)
        if held_out
        else (),
        variable_names=tuple(variable_names),
        diagnostics=diagnostics or {},
    )


def _may_be_zero(spec: Counts) -> bool:
    if isinstance(spec, Mapping):
        return spec.get(0, 0.0) > 0
    return (spec[0] if isinstance(spec, tuple) else spec) == 0


def _draw_held_out(
    model: Model,
    plan: HeldOutPlan,
    n_targets: Counts,
    target_choice: TargetChoice,
    interventions: Changes,
    seen: BoolArray,
    sample: Sampler,
    rng: np.random.Generator,
) -> tuple[HeldOut, ...]:
    if plan.n_environments and not plan.few_shot_sizes:
        raise InputError("few_shot_sizes must have at least one size where environments are held out")
    free = np.flatnonzero(~(plan.unseen & seen).any(axis=0))
    spec = n_targets if plan.n_targets is None else plan.n_targets
    try:
        counts = draw_counts(spec, plan.n_environments, len(free), rng)
    except InputError:
        if not plan.unseen:
            raise
        raise InputError(
            f"held-out environments need {spec} unseen targets each, and training leaves {len(free)} variables untouched"
        ) from None
    targets = np.zeros((plan.n_environments, model.n_variables), dtype=bool)
    targets[:, free] = draw_targets(counts, len(free), target_choice, rng)
    found = []
    for row in targets:
        changed = model.intervened((plan.interventions or interventions).draw(model, np.flatnonzero(row), rng))
        n_support = max(plan.few_shot_sizes)
        X = sample(changed, n_support + plan.n_query)
        told = None if _may_be_zero(spec) else False
        found.append(HeldOut(X[:n_support], tuple(plan.few_shot_sizes), X[n_support:], row, told))
    return tuple(found)
