"""Structural causal models: what a node is, how a model is sampled, and the exact moments of a linear one.

A node is x = scale * mechanism(parents, noise) + offset. An intervention replaces nodes (``bench.interventions``), so an
environment is again a model and everything that is not a target stays the very same object. Here are only the model and
the linear mechanism, which datasets share; other mechanisms and how models are drawn belong to the datasets.

References
----------
Peters, Janzing, Schölkopf, "Elements of Causal Inference", MIT Press 2017 (def. 6.2, structural causal models).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from bench.draws import Spec, draw
from bench.errors import InputError
from bench.types import BoolArray, FloatArray

IntArray = npt.NDArray[np.intp]
NoiseLaw = Literal["gaussian", "laplace", "uniform", "gumbel"]
AnyModel = TypeVar("AnyModel", bound="StructuralModel")


def standard_noise(law: NoiseLaw, n: int, rng: np.random.Generator) -> FloatArray:
    """Draw noise of mean 0 and variance 1, float64 (n,).

    Raises
    ------
    InputError
        If the law is unknown.

    Examples
    --------
    >>> standard_noise("cauchy", 3, np.random.default_rng(0))
    Traceback (most recent call last):
    bench.errors.InputError: noise must be gaussian, laplace, uniform or gumbel, got 'cauchy'
    """
    if law == "gaussian":
        return rng.standard_normal(n)
    if law == "laplace":
        return rng.laplace(0.0, np.sqrt(0.5), n)
    if law == "uniform":
        return rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), n)
    if law == "gumbel":
        return np.asarray((rng.gumbel(0.0, 1.0, n) - np.euler_gamma) * np.sqrt(6.0) / np.pi)
    raise InputError(f"noise must be gaussian, laplace, uniform or gumbel, got '{law}'")


class Mechanism(Protocol):
    """How a node answers its parents and its noise."""

    @property
    def default_perturbation(self) -> Spec:
        """What an imperfect intervention adds to each output weight unless told otherwise."""
        ...

    def __call__(self, parents: FloatArray, noise: FloatArray) -> FloatArray:
        """Values float64 (n,) from parents float64 (n, k) and noise float64 (n,)."""
        ...

    def redrawn(self, rng: np.random.Generator) -> Mechanism:
        """A fresh mechanism of the same family over the same parents."""
        ...

    def perturbed(self, size: Spec, rng: np.random.Generator) -> Mechanism:
        """The same mechanism with ``size`` added to each of its output weights."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Weighted sum of the parents plus noise.

    Parameters
    ----------
    weights : float64 (k,)
        One per parent.
    law : number, range or mapping
        What fresh weights are drawn from when the mechanism changes; see ``bench.draws``.
    """

    weights: FloatArray
    law: Spec

    @property
    def default_perturbation(self) -> Spec:
        return {"plus_minus": (2.0, 5.0)}  # as in DCDI

    def __call__(self, parents: FloatArray, noise: FloatArray) -> FloatArray:
        return np.asarray(parents @ self.weights + noise)

    def redrawn(self, rng: np.random.Generator) -> Linear:
        return dataclasses.replace(self, weights=draw(self.law, len(self.weights), rng))

    def perturbed(self, size: Spec, rng: np.random.Generator) -> Linear:
        return dataclasses.replace(self, weights=self.weights + draw(size, len(self.weights), rng))


SOURCE = Linear(np.zeros(0), 0.0)
"""The mechanism of a node without parents: its noise."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One variable: x = scale * mechanism(parents, noise) + offset.

    Parameters
    ----------
    parents : int (k,)
        Variables that the mechanism reads, in its order.
    mechanism : Mechanism
        Maps (n, k) parents and (n,) noise to (n,) values.
    noise_law : str
        Standardised law of the noise.
    noise_variance : float
        Variance of the noise, at least 0.
    scale, offset : float
        Applied to what the mechanism answers.
    hidden_loading : float
        Correlation of the noise with the model's hidden cause, in [-1, 1]; 0 where it has none.
    """

    parents: IntArray
    mechanism: Mechanism
    noise_law: NoiseLaw = "gaussian"
    noise_variance: float = 1.0
    scale: float = 1.0
    offset: float = 0.0
    hidden_loading: float = 0.0

    def sample(self, parents: FloatArray, rng: np.random.Generator, hidden_cause: FloatArray | float = 0.0) -> FloatArray:
        """Values float64 (n,) given parents float64 (n, k) and the hidden cause, standardised, float64 (n,)."""
        noise = standard_noise(self.noise_law, len(parents), rng)
        if self.hidden_loading:
            noise = np.sqrt(1 - self.hidden_loading**2) * noise + self.hidden_loading * hidden_cause
        return self.scale * self.mechanism(parents, noise * np.sqrt(self.noise_variance)) + self.offset


@dataclass(frozen=True, slots=True, eq=False)
class StructuralModel:
    """Nodes over d variables.

    Parameters
    ----------
    nodes : sequence of Node
        Node j is variable j.
    order : int (d,)
        A causal order: parents come before their children.

    Raises
    ------
    InputError
        If ``order`` is no permutation, or a node precedes one of its parents.

    Examples
    --------
    >>> source = Node(np.array([], dtype=int), SOURCE)
    >>> child = Node(np.array([0]), Linear(np.array([2.0]), 1.0))
    >>> mean, covariance = LinearModel((source, child), np.array([0, 1])).population()
    >>> covariance
    array([[1., 2.],
           [2., 5.]])
    >>> LinearModel((source, child), np.array([1, 0]))
    Traceback (most recent call last):
    bench.errors.InputError: order must put parents before children, got variable 1 before its parent 0
    """

    nodes: Sequence[Node]
    order: IntArray

    def __post_init__(self) -> None:
        if sorted(self.order.tolist()) != list(range(len(self.nodes))):
            raise InputError(f"order must be a permutation of {len(self.nodes)} variables, got {self.order.tolist()}")
        position = np.argsort(self.order)
        for j, node in enumerate(self.nodes):
            late = [int(p) for p in node.parents if position[p] >= position[j]]
            if late:
                raise InputError(f"order must put parents before children, got variable {j} before its parent {late[0]}")

    @property
    def n_variables(self) -> int:
        return len(self.nodes)

    def adjacency(self) -> BoolArray:
        """Parents as bool (d, d), ``A[i, j]`` for i -> j."""
        graph = np.zeros((self.n_variables, self.n_variables), dtype=bool)
        for j, node in enumerate(self.nodes):
            graph[node.parents, j] = True
        return graph

    def intervened(self: AnyModel, changes: Mapping[int, Node]) -> AnyModel:
        """The model of an environment: nodes in ``changes`` replaced, all others the same objects."""
        return type(self)(tuple(changes.get(j, node) for j, node in enumerate(self.nodes)), self.order)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw independent samples, float64 (n, d)."""
        X = np.empty((self.n_variables, n))  # a row per variable: contiguous, unlike columns
        confounded = any(node.hidden_loading for node in self.nodes)
        # A stream of its own, so that everything else is drawn as without a hidden cause.
        hidden_cause = rng.spawn(1)[0].standard_normal(n) if confounded else 0.0
        for j in self.order:
            node = self.nodes[j]
            X[j] = node.sample(X[node.parents].T, rng, hidden_cause)
        return np.ascontiguousarray(X.T)


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel(StructuralModel):
    """A model whose mechanisms are all :class:`Linear`."""

    def weights(self) -> FloatArray:
        """Effective weights float64 (d, d), ``[i, j]`` for i -> j."""
        B = np.zeros((self.n_variables, self.n_variables))
        for j, node in enumerate(self.nodes):
            if not isinstance(node.mechanism, Linear):
                raise InputError(f"a linear model needs linear mechanisms, got {type(node.mechanism).__name__} at {j}")
            B[node.parents, j] = node.scale * node.mechanism.weights
        return B

    def population(self) -> tuple[FloatArray, FloatArray]:
        """Exact mean float64 (d,) and covariance float64 (d, d).

        With x = Bᵀx + c + e the mean is (I - Bᵀ)⁻¹c and the covariance (I - Bᵀ)⁻¹ Var(e) (I - B)⁻¹, whatever the law of
        the noise. Var(e) is diagonal but for a hidden cause.
        """
        total = np.linalg.inv(np.eye(self.n_variables) - self.weights().T)
        offset = np.array([node.offset for node in self.nodes])
        deviation = np.array([node.scale * np.sqrt(node.noise_variance) for node in self.nodes])
        loading = np.array([node.hidden_loading for node in self.nodes])
        noise = np.diag(deviation**2 * (1 - loading**2)) + np.outer(deviation * loading, deviation * loading)
        return total @ offset, total @ noise @ total.T
