"""The augmented Lagrangian: conditionals and gates by gradients, the constraint by multiplier and penalty.

Minimised is

    negative log-likelihood + a sum(edge gates) + b sum(target gates) + gamma h + mu / 2 h^2,

with h the cyclicity of the edge gates. Steps come in windows. Where the mean objective of a window is hardly below that of
the one before, gamma grows by mu h, and mu by a factor unless h has fallen by a tenth since last time. Once h is nearly zero
the multipliers stay, and the other gates come to rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bench.types import BoolArray, Budget, FloatArray
from methods.dcdi.acyclicity import cyclicity, strongest_dag
from methods.dcdi.gates import Gates

if TYPE_CHECKING:
    from torch import Tensor


class Conditionals(Protocol):
    """What is learned beside the gates."""

    def parameters(self) -> list[Tensor]: ...

    def negative_log_likelihood(self, gates: Gates) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many steps of what size.

    Parameters
    ----------
    warm_up : int
        Steps before the constraint counts.
    window : int
        Steps between two looks at the objective.
    settle : int
        Steps that the gates get, at least, to close what an acyclic graph needs no more.
    gate_rate, weight_rate : float
        Learning rates.
    growth : float
        Factor of mu.
    tolerance : float
        Nats per sample by which a window has to be below the last one, for the multipliers to wait.
    """

    warm_up: int
    window: int
    settle: int
    gate_rate: float
    weight_rate: float
    growth: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Sparsity:
    """Nats per sample that an open gate costs."""

    edge: float
    target: float


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What training has found.

    Parameters
    ----------
    edge_probability : float64 (d, d)
        Gates at the end of the search.
    target_probability : float64 (E, d)
    graph : bool (d, d)
    converged : bool
        The gates became acyclic, and the targets came to rest given the graph, before the steps were spent.
    cut_short : bool
    n_steps : int
    """

    edge_probability: FloatArray
    target_probability: FloatArray
    graph: BoolArray
    converged: bool
    cut_short: bool
    n_steps: int


TOLERATED_CYCLICITY = 1e-2
"""Of the edge gates; less than open gates and cycles can have together, and far more than a DAG with gates at their bounds."""

FIRST_PENALTY = 1e-4
"""Of the squared cyclicity, from the first step on. A full graph of ten variables pays thousands of nats, and half of its gates
close at once; they come back as they are needed. Without that push the search starts from the optimum of the full graph, where
each variable is predicted from its effects as well, and ends at graphs that are further from the truth."""

LAST_WINDOWS = 40
"""Most windows for the targets to come to rest, once the graph is fixed."""


class Training:
    """One run.

    Parameters
    ----------
    conditionals : Conditionals
    gates : Gates
    sparsity : Sparsity
    schedule : Schedule
    max_steps : int
        Steps after which the search is given up.
    budget : Budget
    """

    def __init__(
        self,
        conditionals: Conditionals,
        gates: Gates,
        sparsity: Sparsity,
        schedule: Schedule,
        max_steps: int,
        budget: Budget,
    ) -> None:
        self.conditionals, self.gates, self.sparsity = conditionals, gates, sparsity
        self.schedule, self.max_steps, self.budget = schedule, max_steps, budget
        self.multiplier, self.penalty = 0.0, FIRST_PENALTY
        self.n_steps = 0

    def run(self) -> Outcome:
        """Search until the gates are acyclic, fix the graph, and let the targets come to rest."""
        acyclic = self._search()
        edge_probability = _array(self.gates.edge_probability())
        graph = strongest_dag(edge_probability)
        settled = acyclic and self._settle(graph)
        return Outcome(
            edge_probability=edge_probability,
            target_probability=_array(self.gates.target_probability()),
            graph=graph,
            converged=settled,
            cut_short=not settled and self.budget.expired,
            n_steps=self.n_steps,
        )

    def _search(self) -> bool:
        """Whether the edge gates became acyclic."""
        schedule, last, last_violation = self.schedule, np.inf, np.inf
        acyclic_since: int | None = None
        for objective in self._windows(self.max_steps):
            at_rest, last = objective > last - schedule.tolerance, objective
            violation = float(cyclicity(self.gates.edge_probability().detach()))
            if violation > TOLERATED_CYCLICITY:
                acyclic_since = None
            elif acyclic_since is None:
                acyclic_since = self.n_steps
            if acyclic_since is not None:
                if at_rest and self.n_steps >= acyclic_since + schedule.settle:
                    return True
            elif self.n_steps < schedule.warm_up:
                continue
            elif at_rest:
                self.multiplier += self.penalty * violation
                if violation > 0.9 * last_violation:
                    self.penalty *= schedule.growth
                last_violation = violation
                last = np.inf  # the objective of other multipliers is no measure
        return False

    def _settle(self, graph: BoolArray) -> bool:
        """Whether the targets came to rest, given the graph."""
        self.gates.fix_edges(graph)
        if not bool(self.gates.estimated.any()):
            return True
        self.multiplier = self.penalty = 0.0
        last = np.inf
        for objective in self._windows(LAST_WINDOWS * self.schedule.window):
            if objective > last - self.schedule.tolerance:
                return True
            last = objective
        return False

    def _windows(self, n_steps: int) -> Iterator[float]:
        """Mean objective of each window of steps, until the steps or the budget are spent."""
        import torch

        gates = [g for g in (self.gates.edge_logits, self.gates.target_logits) if g.requires_grad]
        rates = self.schedule
        groups = [{"params": gates, "lr": rates.gate_rate, "eps": 1e-14}]
        if weights := self.conditionals.parameters():
            groups.append({"params": weights, "lr": rates.weight_rate, "eps": 1e-8})
        optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
        objectives: list[float] = []
        for step in range(n_steps):
            if self.budget.expired:
                return
            optimiser.zero_grad()
            objective = self._objective()
            torch.autograd.backward(objective)
            optimiser.step()
            self.gates.clamp()
            self.n_steps += 1
            objectives.append(objective.item())
            if (step + 1) % rates.window == 0:
                self.budget.progress(self.n_steps / (self.max_steps + LAST_WINDOWS * rates.window))
                yield float(np.mean(objectives))
                objectives = []

    def _objective(self) -> Tensor:
        edges, targets = self.gates.edge_probability(), self.gates.target_probability()
        objective = self.conditionals.negative_log_likelihood(self.gates)
        objective = objective + self.sparsity.edge * edges.sum() + self.sparsity.target * targets.sum()
        if self.penalty > 0.0:
            violation = cyclicity(edges)
            objective = objective + self.multiplier * violation + 0.5 * self.penalty * violation.square()
        return objective


def _array(tensor: Tensor) -> FloatArray:
    return np.asarray(tensor.detach().numpy(), dtype=np.float64)
