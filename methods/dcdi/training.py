"""The augmented Lagrangian: conditionals and gates by gradients, the constraint by multiplier and penalty.

Minimised is

    negative log-likelihood + a sum(edge gates) + b sum(target gates) + gamma h + mu / 2 h^2,

with h the cyclicity of the edge gates. Steps come in windows. Where the mean objective of a window is hardly below that of
the one before, gamma grows by mu h, and mu by a factor unless h has fallen by a tenth since last time.

Once h is nearly zero, the gates have an order. Those against it are closed for good and the constraint is dropped. Conditionals
with weights first learn with all other gates open; then these and the targets start anew: what the multipliers, a wrong target
or a conditional that had not learned yet had closed on the way may open again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from bench.graphs import IntArray
from bench.types import BoolArray, Budget, FloatArray
from methods.dcdi.acyclicity import cyclicity, follows, strongest_order
from methods.dcdi.gates import EDGE_RESTART, LARGEST_EDGE_LOGIT, TARGET_RESTART, Gates, GivenParents

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Adam


class Conditionals(Protocol):
    """What is learned beside the gates, of K variables.

    ``by_environment`` gives the negative log-likelihood of each variable as no target and as a target, with the gates above one
    half open and the others closed: the part of each environment in nats per sample of all, tensors (E, K).
    """

    precision: str

    def parameters(self) -> list[Tensor]: ...

    def copied(self, rows: IntArray) -> Self: ...

    def replace(self, rows: IntArray, other: Self, other_rows: IntArray) -> None: ...

    def restart(self, parents: BoolArray) -> None: ...

    def negative_log_likelihood(self, gates: Gates | GivenParents) -> Tensor: ...

    def by_environment(self, gates: Gates | GivenParents) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where the search starts, and how many steps of what size it takes.

    Parameters
    ----------
    edge_start, target_start : float
        First logits of the gates.
    penalty : float
        First mu, which counts from the first step on.
    warm_up : int
        Steps before mu may grow.
    window : int
        Steps between two looks at the objective.
    opened : int
        Steps that weights get, once the order is fixed, with every gate open that follows it.
    settle : int
        Steps that the gates get, at least, from then on; meanwhile the learning rate of weights falls.
    gate_rate, settling_gate_rate, weight_rate : float
        Learning rates of gates before and after the order is fixed, and of weights.
    growth : float
        Factor of mu.
    tolerance : float
        Nats per sample by which a window has to be below the last one, for the multipliers to wait.
    """

    edge_start: float
    target_start: float
    penalty: float
    warm_up: int
    window: int
    opened: int
    settle: int
    gate_rate: float
    settling_gate_rate: float
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
        Gates in the end.
    target_probability : float64 (E, d)
    graph : bool (d, d)
    objective : float
        Each gate open or closed, of the samples that judge; infinite where the gates never had an order.
    converged : bool
        The gates became acyclic, and came to rest given their order, before the steps were spent.
    cut_short : bool
    n_steps : int
    """

    edge_probability: FloatArray
    target_probability: FloatArray
    graph: BoolArray
    objective: float
    converged: bool
    cut_short: bool
    n_steps: int


TOLERATED_CYCLICITY = 1e-2
"""Of the edge gates; less than open gates and cycles can have together, and far more than a DAG with gates at their bounds."""

LAST_RATE = 0.1
"""Share of the learning rate of weights that is left when the gates have settled; it falls evenly until then."""

LAST_WINDOWS = 40
"""Most windows more for the gates to come to rest."""


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
        self.multiplier, self.penalty = 0.0, schedule.penalty
        self.objective = np.inf
        self.n_steps = 0

    def run(self) -> Outcome:
        """Search for an order, then let the gates that follow it and the targets come to rest."""
        acyclic = self._search()
        order = strongest_order(_array(self.gates.edge_probability()))
        settled = acyclic and self._settle(order)
        edge_probability = _array(self.gates.edge_probability())
        if acyclic:
            # Not the mean of a window: one sample that loses a parent of a mechanism of little noise costs more than the rest.
            self.objective = float(losses_at_rest(self.conditionals, self.gates, self.sparsity).sum())
        return Outcome(
            edge_probability=edge_probability,
            target_probability=_array(self.gates.target_probability()),
            graph=(edge_probability > 0.5) & follows(order),
            objective=self.objective,
            converged=settled,
            cut_short=not settled and self.budget.expired,
            n_steps=self.n_steps,
        )

    def _search(self) -> bool:
        """Whether the edge gates became acyclic."""
        self.gates.start(self.schedule.edge_start, self.schedule.target_start)
        schedule, last, last_violation = self.schedule, np.inf, np.inf
        for objective in self._windows(self.max_steps, schedule.gate_rate):
            at_rest, last = objective > last - schedule.tolerance, objective
            if self.n_steps < schedule.warm_up or not at_rest:
                continue
            violation = float(cyclicity(self.gates.edge_probability().detach()))
            if violation <= TOLERATED_CYCLICITY:
                return True
            self.multiplier += self.penalty * violation
            if violation > 0.9 * last_violation:
                self.penalty *= schedule.growth
            last_violation = violation
            last = np.inf  # the objective of other multipliers is no measure
        return False

    def _settle(self, order: IntArray) -> bool:
        """Whether the gates came to rest, given the order."""
        self.gates.keep_to(order)
        self.multiplier = self.penalty = 0.0
        schedule, last = self.schedule, np.inf
        self.gates.start(LARGEST_EDGE_LOGIT, schedule.target_start)
        for _ in self._windows(schedule.opened, 0.0):
            pass
        self.gates.start(EDGE_RESTART, TARGET_RESTART)
        since = self.n_steps
        n_steps = schedule.settle + LAST_WINDOWS * schedule.window
        for objective in self._windows(n_steps, schedule.settling_gate_rate, falling=True):
            at_rest, last = objective > last - schedule.tolerance, objective
            if at_rest and self.n_steps > since + schedule.settle:
                return True
        return False

    def _windows(self, n_steps: int, gate_rate: float, *, falling: bool = False) -> Iterator[float]:
        """Mean objective of each window of steps, until the steps or the budget are spent; weights may learn ever slower."""
        import torch

        gates = [self.gates.edge_logits, self.gates.target_logits]
        weights, rates = self.conditionals.parameters(), self.schedule
        adam = optimiser(gates, gate_rate, weights, rates.weight_rate)
        objectives: list[float] = []
        for step in range(n_steps):
            if self.budget.expired:
                return
            if falling and weights:
                adam.param_groups[1]["lr"] = rates.weight_rate * max(LAST_RATE, 1.0 - step / rates.settle)
            adam.zero_grad()
            objective = self._objective(self.conditionals.negative_log_likelihood(self.gates))
            torch.autograd.backward(objective)
            adam.step()
            self.gates.clamp()
            self.n_steps += 1
            objectives.append(objective.item())
            if (step + 1) % rates.window == 0:
                self.budget.progress(self.n_steps / (self.max_steps + LAST_WINDOWS * rates.window))
                yield float(np.mean(objectives))
                objectives = []

    def _objective(self, objective: Tensor) -> Tensor:
        """With the prices of gates, and of their cyclicity, on the negative log-likelihood."""
        edges, targets = self.gates.edge_probability(), self.gates.target_probability()
        objective = objective + self.sparsity.edge * edges.sum() + self.sparsity.target * targets.sum()
        if self.penalty > 0.0:
            violation = cyclicity(edges)
            objective = objective + self.multiplier * violation + 0.5 * self.penalty * violation.square()
        return objective


def losses_at_rest(conditionals: Conditionals, gates: Gates | GivenParents, price: Sparsity) -> FloatArray:
    """The objective, each gate open or closed, as a sum over variables: nats per sample of each, float64 (K,)."""
    shared, own = conditionals.by_environment(gates)
    target = gates.likely_targets()
    nats = ((1.0 - target) * shared + target * own).sum(dim=0)
    return _array(nats + price.edge * gates.likely_parents().sum(dim=1) + price.target * target.sum(dim=0))


def optimiser(gates: list[Tensor], gate_rate: float, weights: list[Tensor], weight_rate: float) -> Adam:
    """Adam with a group for gates and, where there are weights, one for them."""
    import torch

    groups = [{"params": gates, "lr": gate_rate, "eps": 1e-14}]
    if weights:
        groups.append({"params": weights, "lr": weight_rate, "eps": 1e-8})
    return torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)


def _array(tensor: Tensor) -> FloatArray:
    return np.asarray(tensor.detach().numpy(), dtype=np.float64)
