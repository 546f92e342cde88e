"""Interventions: how an environment replaces the nodes of its targets.

Every kind maps a node to another node; what is not a target keeps its node, mechanism and noise law to the letter (no
variance is drawn anew, unlike the published DCDI generator). Which variables are hit is decided elsewhere
(``bench.experiments``).

==================  =================================================================================================
hard_constant       x = constant; parents cut
hard                x ~ N(hard_mean, variance hard_variance); parents cut
shift               shift is added to x
scale               the noise's standard deviation is multiplied by scale
noise               added_variance is added to the noise's variance
mechanism_change    a fresh mechanism of the same family over the same parents
imperfect           the mechanism's output weights are moved by imperfect; parents stay
==================  =================================================================================================

The mechanism of a source is its marginal, so there a mechanism change or an imperfect intervention is a hard one (as in
DCDI): it would leave the source as it is otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

import numpy as np
from annotated_types import Ge, Len

from bench.draws import Draw, Spec, bounds, draw
from bench.errors import InputError, UnknownName
from bench.scm import SOURCE, Node, StructuralModel

Kind = Literal["hard_constant", "hard", "shift", "scale", "noise", "mechanism_change", "imperfect"]
Size = Literal["constant", "hard_mean", "hard_variance", "shift", "scale", "added_variance", "imperfect"]

Kinds = Literal[Kind, "mixture"] | Annotated[dict[Kind, Annotated[float, Ge(0)]], Len(1)]
"""Annotation: one kind, "mixture" (all alike), or kinds with their weights; one kind is drawn per environment."""

InterventionSizes = dict[Size, Draw]
"""Annotation: sizes that differ from ``DEFAULT_SIZES``; forms as in ``bench.draws``."""

DEFAULT_SIZES: Mapping[Size, Spec] = {
    "constant": {"plus_minus": (2.0, 4.0)},
    "hard_mean": {"plus_minus": (2.0, 4.0)},
    "hard_variance": 1.0,
    "shift": {"plus_minus": (1.0, 3.0)},
    "scale": (2.0, 4.0),
    "added_variance": (5.0, 10.0),
}
"""``imperfect`` has no entry: each family of mechanisms has its own default."""

_AT_LEAST_ZERO: tuple[Size, ...] = ("hard_variance", "scale", "added_variance")


@dataclass(frozen=True, slots=True)
class Interventions:
    """Kinds and sizes, drawn afresh for every environment and target.

    Parameters
    ----------
    kinds : str or mapping of str to float
        One kind, "mixture" for all alike, or weights.
    sizes : mapping of str to number, range or mapping
        What differs from ``DEFAULT_SIZES``.

    Raises
    ------
    UnknownName
        If a kind or a size is unknown.
    InputError
        If the weights are all 0, or a variance or scale could be negative.

    Examples
    --------
    >>> Interventions("sift")
    Traceback (most recent call last):
    bench.errors.UnknownName: unknown intervention 'sift'; did you mean 'shift'? ...
    """

    kinds: Kinds = "hard"
    sizes: Mapping[Size, Spec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in self.weights():
            if kind not in get_args(Kind):
                raise UnknownName("intervention", kind, [*get_args(Kind), "mixture"])
        for size in self.sizes:
            if size not in get_args(Size):
                raise UnknownName("intervention size", size, get_args(Size))
        if not sum(self.weights().values()) > 0:
            raise InputError("the weights of the interventions must not all be 0")
        for size in _AT_LEAST_ZERO:
            if bounds(self.size(size))[0] < 0:
                raise InputError(f"the intervention size '{size}' must be at least 0, got {self.size(size)}")

    def weights(self) -> dict[Kind, float]:
        """Weight of each kind, not normalised."""
        if isinstance(self.kinds, str):
            return dict.fromkeys(get_args(Kind), 1.0) if self.kinds == "mixture" else {self.kinds: 1.0}
        return dict(self.kinds)

    def size(self, name: Size) -> Spec:
        """The size in force; only "imperfect" may have none."""
        return self.sizes[name] if name in self.sizes else DEFAULT_SIZES[name]

    def draw(self, model: StructuralModel, targets: Iterable[int], rng: np.random.Generator) -> dict[int, Node]:
        """Draw one environment's kind and sizes; return the new node of each target."""
        weights = self.weights()
        share = np.array(list(weights.values()))
        kind = list(weights)[int(rng.choice(len(weights), p=share / share.sum()))]
        return {int(t): self.intervene(kind, model.nodes[t], rng) for t in targets}

    def intervene(self, kind: Kind, node: Node, rng: np.random.Generator) -> Node:
        """The node under one kind of intervention, with its size drawn."""
        if kind in ("mechanism_change", "imperfect") and len(node.parents) == 0:
            kind = "hard"

        def size(name: Size) -> float:
            return float(draw(self.size(name), 1, rng)[0])

        cut = Node(parents=np.zeros(0, dtype=np.intp), mechanism=SOURCE)
        if kind == "hard_constant":
            return dataclasses.replace(cut, noise_variance=0.0, offset=size("constant"))
        if kind == "hard":
            return dataclasses.replace(cut, noise_variance=size("hard_variance"), offset=size("hard_mean"))
        if kind == "shift":
            return dataclasses.replace(node, offset=node.offset + size("shift"))
        if kind == "scale":
            return dataclasses.replace(node, noise_variance=node.noise_variance * size("scale") ** 2)
        if kind == "noise":
            return dataclasses.replace(node, noise_variance=node.noise_variance + size("added_variance"))
        if kind == "mechanism_change":
            return dataclasses.replace(node, mechanism=node.mechanism.redrawn(rng))
        perturbation = self.sizes.get("imperfect", node.mechanism.default_perturbation)
        return dataclasses.replace(node, mechanism=node.mechanism.perturbed(perturbation, rng))
