"""Random mechanisms of the published protocols; the linear one is ``bench.scm.Linear``.

A family draws a mechanism for k >= 1 parents; a node without parents is its noise. Not here: noise laws, scales and
interventions, which are the node's.

References
----------
Hägele et al., "BaCaDI: Bayesian Causal Discovery with Unknown Interventions", AISTATS 2023 (nonlinear Gaussian networks).
Brouillard et al., "Differentiable Causal Discovery from Interventional Data", NeurIPS 2020 (appendix on synthetic data).
Rahimi, Recht, "Random Features for Large-Scale Kernel Machines", NeurIPS 2007 (algorithm 1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.draws import Spec, draw
from bench.scm import Linear, Mechanism
from bench.types import FloatArray

Family = Literal["linear", "mlp_bacadi", "mlp_dcdi", "dcdi_nonadditive", "smooth"]
Activation = Literal["sigmoid", "prelu", "tanh", "cosine"]
Draws = Callable[[int, np.random.Generator], "Network"]


def _activate(activation: Activation, x: FloatArray) -> FloatArray:
    if activation == "sigmoid":
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))  # the logistic function, without overflow
    if activation == "prelu":
        return np.where(x > 0, x, 0.25 * x)  # a PReLU as it is initialised, never trained
    return np.asarray(np.tanh(x) if activation == "tanh" else np.cos(x))


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """One hidden layer: f(x) = activation(x W + b) v + c, plus noise, or with the noise as one more input.

    Parameters
    ----------
    hidden_weights : float64 (k, h), or (k + 1, h) where the noise is the last input
    hidden_biases : float64 (h,)
    output_weights : float64 (h,)
    output_bias : float
    activation : {"sigmoid", "prelu", "tanh", "cosine"}
    additive : bool
        Whether the noise is added to the output.
    family : callable (n_parents, rng) -> Network
        Draws a fresh one when the mechanism changes.
    """

    hidden_weights: FloatArray
    hidden_biases: FloatArray
    output_weights: FloatArray
    output_bias: float
    activation: Activation
    additive: bool
    family: Draws

    @property
    def default_perturbation(self) -> Spec:
        return {"normal": (0.0, 1.0)}  # as in DCDI

    def __call__(self, parents: FloatArray, noise: FloatArray) -> FloatArray:
        inputs = parents if self.additive else np.column_stack([parents, noise])
        hidden = _activate(self.activation, inputs @ self.hidden_weights + self.hidden_biases)
        signal = hidden @ self.output_weights + self.output_bias
        return np.asarray(signal + noise if self.additive else signal)

    def redrawn(self, rng: np.random.Generator) -> Network:
        return self.family(len(self.hidden_weights) - (not self.additive), rng)

    def perturbed(self, size: Spec, rng: np.random.Generator) -> Network:
        moved = self.output_weights + draw(size, len(self.output_weights), rng)
        return dataclasses.replace(self, output_weights=moved)


def mlp_bacadi(n_parents: int, rng: np.random.Generator) -> Network:
    """Five sigmoid units, weights and biases N(0, 1), noise added (BaCaDI)."""
    return Network(
        hidden_weights=rng.standard_normal((n_parents, 5)),
        hidden_biases=rng.standard_normal(5),
        output_weights=rng.standard_normal(5),
        output_bias=float(rng.standard_normal()),
        activation="sigmoid",
        additive=True,
        family=mlp_bacadi,
    )


def mlp_dcdi(n_parents: int, rng: np.random.Generator) -> Network:
    """Ten PReLU units, weights N(0, 1), noise added (DCDI's additive network)."""
    return _dcdi(n_parents, 10, "prelu", rng, additive=True, family=mlp_dcdi)


def dcdi_nonadditive(n_parents: int, rng: np.random.Generator) -> Network:
    """Twenty tanh units, weights N(0, 1), the noise as one more input (DCDI's non-additive network)."""
    return _dcdi(n_parents, 20, "tanh", rng, additive=False, family=dcdi_nonadditive)


def _dcdi(
    n_parents: int, n_hidden: int, activation: Activation, rng: np.random.Generator, *, additive: bool, family: Draws
) -> Network:
    """Biases are uniform within 1 / sqrt(number of inputs): the published code draws only the weights anew."""
    n_inputs = n_parents + (not additive)
    return Network(
        hidden_weights=rng.standard_normal((n_inputs, n_hidden)),
        hidden_biases=rng.uniform(-1.0, 1.0, n_hidden) / np.sqrt(n_inputs),
        output_weights=rng.standard_normal(n_hidden),
        output_bias=float(rng.uniform(-1.0, 1.0) / np.sqrt(n_hidden)),
        activation=activation,
        additive=additive,
        family=family,
    )


def smooth(n_parents: int, rng: np.random.Generator, *, length_scale: float = 1.0, n_features: int = 100) -> Network:
    """A draw of a Gaussian process with variance 1 and a squared-exponential kernel, by random Fourier features; noise added.

    Parameters
    ----------
    n_parents : int
    rng : Generator
    length_scale : float
        In the parents' units.
    n_features : int
        Cosines; the kernel's error falls as its square root.
    """
    return Network(
        hidden_weights=rng.standard_normal((n_parents, n_features)) / length_scale,
        hidden_biases=rng.uniform(0.0, 2.0 * np.pi, n_features),
        output_weights=rng.standard_normal(n_features) * np.sqrt(2.0 / n_features),
        output_bias=0.0,
        activation="cosine",
        additive=True,
        family=lambda k, generator: smooth(k, generator, length_scale=length_scale, n_features=n_features),
    )


def linear(n_parents: int, rng: np.random.Generator, *, weights: Spec) -> Linear:
    """Weights drawn independently."""
    return Linear(draw(weights, n_parents, rng), weights)


def draw_mechanism(
    family: Family, n_parents: int, rng: np.random.Generator, *, weights: Spec, length_scale: float
) -> Mechanism:
    """Draw a mechanism by the name of its family; ``weights`` is for "linear", ``length_scale`` for "smooth"."""
    if family == "linear":
        return linear(n_parents, rng, weights=weights)
    if family == "smooth":
        return smooth(n_parents, rng, length_scale=length_scale)
    return {"mlp_bacadi": mlp_bacadi, "mlp_dcdi": mlp_dcdi, "dcdi_nonadditive": dcdi_nonadditive}[family](n_parents, rng)
