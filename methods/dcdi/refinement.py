"""Refinement: what a search answers, changed by single edges for as long as that lowers the objective.

A search keeps to one order as soon as its gates are acyclic: an edge against it cannot come back, and a conditional behind a
gate that has closed learns nothing of that parent. Given the parents, however, the objective is a sum over variables,

    loss(j, parents) = negative log-likelihood of j + a |parents| + b (targets among the environments of j).

So the conditionals of all variables whose parents differ in one edge from those of the answer, and those whose parents are the
same, train side by side, with gates for targets alone, from the weights that the answer has. An edge that turns around is one
change of each of its variables.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from bench.graphs import IntArray, is_acyclic
from bench.types import BoolArray, Budget, FloatArray
from methods.dcdi.gates import TARGET_RESTART, GivenParents
from methods.dcdi.samples import Samples
from methods.dcdi.training import LAST_RATE, Conditionals, Outcome, Sparsity, losses_at_rest, optimiser

LEAST_GAIN = 2e-3
"""Nats per sample by which a change has to lower the objective: of two networks trained alike one is better by as much."""

LEAST_NATS = 1e-6
"""For a decision: what is as good either way stays on its side of one half."""

MOST_ROUNDS = 20

MOST_AT_ONCE = 400
"""Conditionals that train side by side: memory is bounded, whatever the number of variables."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Steps and learning rates.

    Parameters
    ----------
    first_steps : int
        For the conditionals of the answer, which have learned nothing yet.
    steps : int
        For all of those that are tried.
    weight_rate, target_rate : float
        Of weights, falling, and of the gates of targets.
    """

    first_steps: int
    steps: int
    weight_rate: float
    target_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Variables with parents that are given: K conditionals, and the gates of their targets."""

    conditionals: Conditionals
    gates: GivenParents

    def copied(self, rows: IntArray, gates: GivenParents) -> Candidates:
        """Some of them, each as often as named, with other parents."""
        conditionals = self.conditionals.copied(rows)
        conditionals.restart(((gates.parents - self.gates.parents[rows]) > 0).numpy())
        gates.target_logits.data[:] = self.gates.target_logits.data[:, rows]
        return Candidates(conditionals, gates)

    def replace(self, variable: int, other: Candidates, row: int) -> None:
        """Take over one of others."""
        mine, its = np.array([variable]), np.array([row])
        self.conditionals.replace(mine, other.conditionals, its)
        self.gates.parents[mine] = other.gates.parents[its]
        self.gates.target_logits.data[:, mine] = other.gates.target_logits.data[:, its]

    def loss(self, price: Sparsity) -> FloatArray:
        """At rest, nats per sample, float64 (K,)."""
        return losses_at_rest(self.conditionals, self.gates, price)

    def target_gain(self, price: Sparsity) -> FloatArray:
        """Nats per sample that each target gate gains by being open, float64 (E, K)."""
        shared, own = self.conditionals.by_environment(self.gates)
        return np.asarray((shared - own).detach() - price.target, dtype=np.float64)


class Refinement:
    """Hill climbing on the objective, from one answer.

    Parameters
    ----------
    conditionals : Conditionals
        Of every variable, that have learned nothing.
    samples : Samples
    sparsity : Sparsity
    pace : Pace
    budget : Budget
    """

    def __init__(self, conditionals: Conditionals, samples: Samples, sparsity: Sparsity, pace: Pace, budget: Budget) -> None:
        self.conditionals, self.samples, self.sparsity, self.pace, self.budget = conditionals, samples, sparsity, pace, budget
        self.n_steps = 0

    def run(self, answer: Outcome) -> Outcome:
        """The answer, or a better one near it; cut short where the budget ended before no change was left that helps.

        Its objective is that of a refined answer, or infinite where there was no time to find it.
        """
        import torch

        graph, d = answer.graph.copy(), len(answer.graph)
        now = Candidates(self.conditionals, self._gates(np.arange(d), graph.T))
        likely = torch.tensor(answer.target_probability > 0.5)
        now.gates.target_logits.data[:] = torch.where(likely, -TARGET_RESTART, TARGET_RESTART)
        if not self._train(now, self.pace.first_steps):
            # What the search has for its objective is of other weights and samples: no match for that of a refined answer.
            return dataclasses.replace(answer, objective=np.inf, cut_short=True)
        losses, tried = np.full((d, d), np.nan), dict[int, tuple[Candidates, int]]()
        stale, finished = list(range(d)), False
        for _ in range(MOST_ROUNDS):
            for some in np.array_split(stale, -(-len(stale) * d // MOST_AT_ONCE)):
                if (new := self._try(now, graph, some)) is None:
                    break
                losses[:, some] = new.loss(self.sparsity).reshape(-1, d).T
                for place, j in enumerate(some.tolist()):
                    tried[j] = new, place * d
                    now.replace(j, new, place * d + j)
            if self.budget.expired:
                break
            changes = best_changes(graph, losses.diagonal() - losses)
            if not changes:
                finished = True
                break
            for i, j in changes:
                graph[i, j] = ~graph[i, j]
                candidates, first = tried[j]
                now.replace(j, candidates, first + i)
            stale = sorted({j for _, j in changes})
            losses[:, stale] = np.nan
        n = len(self.samples.X)
        likely_targets, target_gain = now.gates.likely_targets().numpy() > 0.5, now.target_gain(self.sparsity)
        target_score = scores(likely_targets, n * np.where(likely_targets, target_gain, -target_gain))
        return dataclasses.replace(
            answer,
            graph=graph,
            edge_probability=scores(graph, n * preference(graph, losses.diagonal() - losses)),
            target_probability=np.where(self.samples.estimated, target_score, self.samples.told),
            objective=float(now.loss(self.sparsity).sum()),
            cut_short=answer.cut_short or (not finished and self.budget.expired),
            n_steps=answer.n_steps + self.n_steps,
        )

    def _try(self, now: Candidates, graph: BoolArray, variables: IntArray) -> Candidates | None:
        """Every change of one parent of some variables, row ``place * d + i`` for parent i, none at i = j; None: no time."""
        d = len(graph)
        rows, changed = np.repeat(variables, d), np.tile(np.arange(d), len(variables))
        parents = graph.T[rows]
        parents[np.arange(len(rows)), changed] ^= rows != changed
        new = now.copied(rows, self._gates(rows, parents))
        return new if self._train(new, self.pace.steps) else None

    def _gates(self, variables: IntArray, parents: BoolArray) -> GivenParents:
        samples = self.samples
        return GivenParents(parents, samples.told[:, variables], samples.estimated[:, variables], self.conditionals.precision)

    def _train(self, candidates: Candidates, n_steps: int) -> bool:
        """Whether the budget sufficed."""
        import torch

        conditionals, gates, pace = candidates.conditionals, candidates.gates, self.pace
        if not conditionals.parameters() and not gates.estimated.any():
            return True
        adam = optimiser([gates.target_logits], pace.target_rate, conditionals.parameters(), pace.weight_rate)
        for step in range(n_steps):
            if self.budget.expired:
                return False
            for group in adam.param_groups[1:]:
                group["lr"] = pace.weight_rate * max(LAST_RATE, 1.0 - step / n_steps)
            adam.zero_grad()
            nats = conditionals.negative_log_likelihood(gates)
            torch.autograd.backward(nats + self.sparsity.target * gates.target_probability().sum())
            adam.step()
            gates.clamp()
            self.n_steps += 1
        return True


def single_changes(graph: BoolArray) -> list[tuple[tuple[int, int], ...]]:
    """Entries of each change of one edge: it comes, it goes, or it turns around, which are two."""
    off_diagonal = np.argwhere(~np.eye(len(graph), dtype=bool)).tolist()
    return [((i, j),) for i, j in off_diagonal] + [((i, j), (j, i)) for i, j in np.argwhere(graph).tolist()]


def best_changes(graph: BoolArray, gain: FloatArray) -> list[tuple[int, int]]:
    """Changes that go together: the best first, none that closes a cycle, none of a variable that another has changed.

    Parameters
    ----------
    graph : bool (d, d)
        A DAG.
    gain : float64 (d, d)
        Of each edge that comes, where there is none, or goes.

    Returns
    -------
    list of (i, j)
        Entries of ``graph`` that change.
    """
    gains = [(sum(gain[entry] for entry in entries), entries) for entries in single_changes(graph)]
    chosen = list[tuple[int, int]]()
    for _, entries in sorted((c for c in gains if c[0] > LEAST_GAIN), key=lambda c: -c[0]):
        if {j for _, j in entries} & {j for _, j in chosen}:
            continue
        changed = _changed(graph, entries)
        if is_acyclic(changed):
            graph = changed
            chosen += entries
    return chosen


def preference(graph: BoolArray, gain: FloatArray) -> FloatArray:
    """How much lower the objective is with each entry of a DAG as it is, float64 (d, d).

    An edge is held against its absence and its reverse, whichever is better, a lack of one against its addition. What would
    close a cycle is no alternative: infinite. Parameters are those of :func:`best_changes`.
    """
    least = np.full(graph.shape, np.inf)
    for entries in single_changes(graph):
        if is_acyclic(_changed(graph, entries)):
            for entry in entries:
                least[entry] = min(least[entry], -sum(gain[other] for other in entries))
    return least


def scores(decided: BoolArray, nats: FloatArray) -> FloatArray:
    """From 0 to 1, above one half what was decided for, further from it the more nats of all samples speak for the decision.

    Probabilities would all be 0 or 1 as floats. Where it is not known how much speaks for a decision, the score is 0 or 1.
    """
    known = np.where(np.isnan(nats), np.inf, nats)
    certainty = 1.0 - 1.0 / (1.0 + np.maximum(known, LEAST_NATS))
    return 0.5 + np.where(decided, 0.5, -0.5) * certainty


def _changed(graph: BoolArray, entries: tuple[tuple[int, int], ...]) -> BoolArray:
    changed = graph.copy()
    for entry in entries:
        changed[entry] = ~changed[entry]
    return changed
