"""Neural conditionals: one network of two hidden layers for each variable, all of them in three batched products."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from methods.dcdi import densities
from methods.dcdi.samples import Samples

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from bench.graphs import IntArray
    from bench.types import BoolArray
    from methods.dcdi.gates import Gates, GivenParents

Output = Literal["gaussian", "flow"]

UNITS = 16

JUDGED_AT_ONCE = 512
"""Samples: memory is bounded, whatever their number."""

_SLOPE = 0.01
"""Of the leaky rectifier below zero."""

_NEWCOMER = 0.3
"""Share of the usual size of first weights that a parent gets who joins a network that has learned."""


class NeuralConditionals:
    """Networks that see the other variables through gates and answer with the parameters of a density; at first one of each.

    What a target has of its own, in each environment: under perfect interventions a density without parents; under imperfect
    ones another read-out of the same hidden units (a factor for each unit, biases and a scale).

    Parameters
    ----------
    samples : Samples
    output : {"gaussian", "flow"}
        A mean, with one standard deviation for each variable; or all parameters of a deep sigmoidal flow.
    imperfect : bool
    batch_size : int
        Samples for one step; all that are learned from where there are no more.
    generator : Generator
        Of torch; for the first weights, batches and gates.
    hold_out : bool
        Judge by the samples that are held out, and learn weights from the others alone; else by those that are learned from.
        Densities of perfect targets, two numbers each, are always those of all samples.
    """

    precision = "float32"

    def __init__(
        self,
        samples: Samples,
        *,
        output: Output,
        imperfect: bool,
        batch_size: int,
        generator: Generator,
        hold_out: bool = False,
    ) -> None:
        import torch

        d, n_environments = samples.X.shape[1], samples.n_environments
        self.X = torch.tensor(samples.X, dtype=torch.float32)
        self.environment = torch.tensor(samples.environment)
        self.variables = torch.arange(d)
        self.flow, self.imperfect, self.generator = output == "flow", imperfect, generator
        held_out = samples.held_out & hold_out
        self._order = torch.tensor(np.flatnonzero(~held_out))
        self._judging = torch.tensor(np.flatnonzero(held_out if held_out.any() else ~held_out))
        self._place = len(self._order)
        self.batch_size = min(batch_size, len(self._order))
        n_outputs = densities.FLOW_PARAMETERS if self.flow else 1
        sizes = [d, UNITS, UNITS, n_outputs]
        self.weights = [self._first_weights(d, *pair) for pair in pairwise(sizes)]
        self.biases = [torch.zeros(d, 1, size, requires_grad=True) for size in sizes[1:]]
        self.log_scale = torch.zeros(d, requires_grad=True)
        self.own: dict[str, Tensor] = {}
        if imperfect:
            self.own["factors"] = torch.ones(n_environments, d, UNITS, requires_grad=True)
            self.own["log_scale"] = torch.zeros(n_environments, d, requires_grad=True)
        if imperfect or self.flow:
            bias = torch.zeros(n_environments, d, n_outputs)
            if self.flow:
                bias += 0.1 * torch.randn(bias.shape, generator=generator)
            self.own["bias"] = bias.requires_grad_()
        if not imperfect and not self.flow:
            self.root = self._gaussian_roots(samples)

    def parameters(self) -> list[Tensor]:
        """All that is learned beside the gates."""
        return [*self._shared(), *self.own.values()]

    def _shared(self) -> list[Tensor]:
        return [*self.weights, *self.biases, *([] if self.flow else [self.log_scale])]

    def copied(self, rows: IntArray) -> NeuralConditionals:
        """Some of these networks, each as often as named, to be trained apart from them."""
        chosen = copy.copy(self)
        chosen.variables = self.variables[rows]
        chosen.weights = [w.detach()[rows].requires_grad_() for w in self.weights]
        chosen.biases = [b.detach()[rows].requires_grad_() for b in self.biases]
        chosen.log_scale = self.log_scale.detach()[rows].requires_grad_()
        chosen.own = {name: own.detach()[:, rows].requires_grad_() for name, own in self.own.items()}
        return chosen

    def replace(self, rows: IntArray, other: NeuralConditionals, other_rows: IntArray) -> None:
        """Take over networks of others."""
        for mine, new in zip(self._shared(), other._shared(), strict=True):
            mine.data[rows] = new.data[other_rows]
        for name, own in self.own.items():
            own.data[:, rows] = other.own[name].data[:, other_rows]

    def restart(self, parents: BoolArray) -> None:
        """Forget what the networks made of these parents, bool (K, d)."""
        import torch

        first = self.weights[0]
        fresh = _NEWCOMER * self._first_weights(len(first), *first.shape[1:]).detach()
        first.data[:] = torch.where(torch.tensor(parents)[:, :, None], fresh, first.data)

    def negative_log_likelihood(self, gates: Gates | GivenParents) -> Tensor:
        """Of the next batch, with gates drawn for each sample: nats per sample, summed over variables."""
        batch = self._next_batch()
        parents = gates.sample_parents(len(batch), self.generator)
        shared, own = self.of(batch, parents)
        target = gates.target_probability()[self.environment[batch]].T
        return ((1.0 - target) * shared + target * own).mean(dim=1).sum()

    def by_environment(self, gates: Gates | GivenParents) -> tuple[Tensor, Tensor]:
        """Of the samples that judge, with the gates above one half open and the others closed; tensors (E, K)."""
        import torch

        parents = gates.likely_parents()[:, None, :]
        sums = torch.zeros(2, len(gates.told), len(self.variables))
        with torch.no_grad():
            for batch in torch.split(self._judging, JUDGED_AT_ONCE):
                for total, nats in zip(sums, self.of(batch, parents.expand(-1, len(batch), -1)), strict=True):
                    total.index_add_(0, self.environment[batch], nats.T)
        shared, own = sums / len(self._judging)
        return shared, own

    def of(self, batch: Tensor, parents: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log densities of the variables of some samples, as no targets and as targets.

        Parameters
        ----------
        batch : int tensor (n,)
            Rows of the samples.
        parents : tensor (K, n, d)
            Gate of each parent (last axis) of each variable in each sample.

        Returns
        -------
        shared, own : tensor (K, n)
        """
        from torch.nn.functional import leaky_relu

        X, environment = self.X[batch], self.environment[batch]
        x = X.T[self.variables]
        hidden = X * parents
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = leaky_relu(bias.baddbmm(hidden, weight), _SLOPE)
        weight, bias = self.weights[-1], self.biases[-1]
        shared = self._density(x, bias.baddbmm(hidden, weight), self.log_scale[:, None])
        if self.imperfect:
            own_hidden = hidden * self.own["factors"][environment].transpose(0, 1)
            outputs = own_hidden.bmm(weight) + self.own["bias"][environment].transpose(0, 1)
            return shared, self._density(x, outputs, self.own["log_scale"][environment].T)
        if self.flow:
            return shared, densities.sigmoidal_flow(x, self.own["bias"][environment].transpose(0, 1))
        return shared, self.root[batch].T[self.variables]

    def _density(self, x: Tensor, outputs: Tensor, log_scale: Tensor) -> Tensor:
        return densities.sigmoidal_flow(x, outputs) if self.flow else densities.gaussian(x, outputs[..., 0], log_scale)

    def _first_weights(self, d: int, n_inputs: int, n_outputs: int) -> Tensor:
        """Uniform, of the variance that keeps activations and gradients at their size (Glorot)."""
        import torch

        bound = math.sqrt(2.0 / (1.0 + _SLOPE**2)) * math.sqrt(6.0 / (n_inputs + n_outputs))
        uniform = torch.rand((d, n_inputs, n_outputs), generator=self.generator)
        return (bound * (2.0 * uniform - 1.0)).requires_grad_()

    def _gaussian_roots(self, samples: Samples) -> Tensor:
        """Of the normal density that fits each variable of an environment best, at each sample; tensor (n, d)."""
        import torch

        mean, scale = np.empty_like(samples.X), np.empty_like(samples.X)
        for e in range(samples.n_environments):
            rows = samples.environment == e
            mean[rows], scale[rows] = samples.X[rows].mean(axis=0), samples.X[rows].std(axis=0)
        log_scale = torch.tensor(np.log(np.maximum(scale, 1e-30)), dtype=torch.float32)
        return densities.gaussian(self.X, torch.tensor(mean, dtype=torch.float32), log_scale)

    def _next_batch(self) -> Tensor:
        """Rows of the next batch; each pass takes the samples in a new order."""
        import torch

        if self._place + self.batch_size > len(self._order):
            shuffled = torch.randperm(len(self._order), generator=self.generator)
            self._order, self._place = self._order[shuffled], 0
        self._place += self.batch_size
        return self._order[self._place - self.batch_size : self._place]
