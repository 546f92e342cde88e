"""Search over orders of the variables, for methods that maximise a decomposable score of DAGs; and graphs as bit masks.

A DAG is an order with a parent set for each variable among those before it. Its score is the sum of *local scores*, of a
variable given its parents; what they measure is the caller's business. The search moves one variable at a time to its
best place, adds and removes parents greedily wherever the set of predecessors changed, and starts again from perturbations of
the best order until several in a row have improved nothing (iterated local search).

Sets of variables are bit masks in Python integers: bit i stands for variable i. They are cheap to hash, so that every local
score is computed once.

References
----------
M. Teyssier, D. Koller, "Ordering-based search: a simple and effective algorithm for learning Bayesian networks", UAI 2005.
M. Wienöbst, L. Henckel, S. Weichwald, "Embracing discrete search: a reasonable approach to causal structure learning",
arXiv:2510.04970 (2025): reinsertions, parents kept while the order changes, iterated local search. Deviations: parents
are added best first and removed again in turn until neither gains; equal scores are broken by the generator's order of visits;
any decomposable score will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.types import BoolArray, Budget, FloatArray

LocalScore = Callable[[int, int], float]
"""Score of a variable given the parents of a mask; larger is better, and only differences for one variable count."""

SMALLEST_GAIN = 1e-9
"""Less can be rounding between equivalent graphs, which a search would then follow in circles."""


def members(mask: int) -> Iterator[int]:
    """Variables of a mask, smallest first.

    Examples
    --------
    >>> list(members(0b1101))
    [0, 2, 3]
    """
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def mask_of(variables: BoolArray) -> int:
    """Mask of the true entries of a bool array (d,)."""
    return int.from_bytes(np.packbits(variables, bitorder="little").tobytes(), "little")


def indicator(mask: int, n_variables: int) -> BoolArray:
    """Whether each variable is in a mask, bool (d,).

    Examples
    --------
    >>> indicator(0b101, 4).tolist()
    [True, False, True, False]
    """
    octets = np.frombuffer(mask.to_bytes((n_variables + 7) // 8, "little"), dtype=np.uint8)
    return np.unpackbits(octets, count=n_variables, bitorder="little").view(np.bool_)


def union(masks: Iterable[int]) -> int:
    """Variables that are in any of the masks."""
    together = 0
    for mask in masks:
        together |= mask
    return together


def adjacency(parents: Sequence[int]) -> BoolArray:
    """The graph of the parent masks of d >= 1 variables, bool (d, d).

    Examples
    --------
    >>> adjacency([0b00, 0b01]).astype(int).tolist()
    [[0, 1], [0, 0]]
    """
    return np.array([[mask >> i & 1 for mask in parents] for i in range(len(parents))], dtype=bool)


class Memoised:
    """A local score that computes each answer once, and the greedy choice of parents by it.

    Parameters
    ----------
    local_score : LocalScore
    n_variables : int
    """

    def __init__(self, local_score: LocalScore, n_variables: int) -> None:
        self._local_score = local_score
        self._known: list[dict[int, float]] = [{} for _ in range(n_variables)]
        self._chosen: list[dict[tuple[int, int], int]] = [{} for _ in range(n_variables)]

    def __call__(self, variable: int, parents: int) -> float:
        known = self._known[variable]
        found = known.get(parents)
        if found is None:
            found = known[parents] = self._local_score(variable, parents)
        return found

    @property
    def n_evaluations(self) -> int:
        """Local scores that were computed."""
        return sum(map(len, self._known))

    def parents(self, variable: int, mask: int, allowed: int) -> int:
        """Parents among those allowed, from ``mask`` on: add or remove the one that gains most, until none gains."""
        chosen = self._chosen[variable].get((mask, allowed))
        if chosen is None:
            chosen = self._chosen[variable][mask, allowed] = self.choose_parents(variable, mask, allowed)
        return chosen

    def choose_parents(self, variable: int, mask: int, allowed: int) -> int:
        """What :meth:`parents` remembers; a score that knows a faster way to the same choice overrides it."""
        score = self(variable, mask)
        while True:
            best, least = mask, score + SMALLEST_GAIN
            for i in members(allowed):
                other = self(variable, mask ^ 1 << i)
                if other > least:
                    best, least = mask ^ 1 << i, other
            if best == mask:
                return mask
            mask, score = best, least


@dataclass(slots=True)
class OrderedDag:
    """An order, the parents of each variable among those before it, and their score.

    Parameters
    ----------
    order : list of int
        d variables, first to last.
    parents : list of int
        Mask of each variable.
    score : float
        Sum of the local scores.
    """

    order: list[int]
    parents: list[int]
    score: float

    def copy(self) -> OrderedDag:
        return OrderedDag(list(self.order), list(self.parents), self.score)


class OrderSearch:
    """Iterated local search over orders.

    Parameters
    ----------
    local_score : LocalScore
    n_variables : int
        d.
    rng : Generator
        Starts, perturbations and the order of visits.
    budget : Budget, optional
        Looked at before each variable's turn; where it runs out the best graph so far is the answer.

    Attributes
    ----------
    cut_short : bool
        The budget ran out.
    """

    def __init__(
        self, local_score: LocalScore, n_variables: int, rng: np.random.Generator, budget: Budget | None = None
    ) -> None:
        self.local_score = local_score if isinstance(local_score, Memoised) else Memoised(local_score, n_variables)
        self.n_variables = n_variables
        self.cut_short = False
        self._rng = rng
        self._budget = budget or Budget()

    def run(self, patience: int) -> OrderedDag:
        """Search from a random order, then from perturbations of the best one, until ``patience`` in a row improve nothing."""
        best = self.climb(self.fill(self._rng.permutation(self.n_variables).tolist()))
        failed = 0
        while failed < patience and self.n_variables > 1 and not self._out_of_time():
            self._budget.progress(failed / patience, f"{failed} of {patience} restarts without improvement")
            found = self.climb(self._perturbed(best))
            failed = 0 if found.score > best.score + SMALLEST_GAIN else failed + 1
            if found.score >= best.score - SMALLEST_GAIN:
                best = found
        return best

    def fill(self, order: list[int], parents: Sequence[int] | None = None) -> OrderedDag:
        """Give each variable parents among those before it, from ``parents`` (where the order allows them) or from none.

        Out of time, it leaves them as they are.
        """
        chosen, score, before = [0] * self.n_variables, 0.0, 0
        for j in order:
            chosen[j] = before & parents[j] if parents else 0
            if not self._out_of_time():
                chosen[j] = self.local_score.parents(j, chosen[j], before)
            score += self.local_score(j, chosen[j])
            before |= 1 << j
        return OrderedDag(list(order), chosen, score)

    def climb(self, dag: OrderedDag) -> OrderedDag:
        """Move variables to better places until no move of one gains."""
        unmoved = 0
        while unmoved < self.n_variables:
            for v in self._rng.permutation(self.n_variables).tolist():
                if self._out_of_time():
                    return dag
                moved = self._best_reinsertion(dag, v)
                unmoved = 0 if moved is not None else unmoved + 1
                dag = moved or dag
                if unmoved >= self.n_variables:
                    break
        return dag

    def _out_of_time(self) -> bool:
        self.cut_short |= self._budget.expired
        return self.cut_short

    def _perturbed(self, dag: OrderedDag) -> OrderedDag:
        """Some variables of the order reinserted at random, parents kept where the order still allows them."""
        order = list(dag.order)
        for _ in range(max(2, round(np.log2(self.n_variables)))):
            order.insert(self._rng.integers(self.n_variables), order.pop(self._rng.integers(self.n_variables)))
        return self.fill(order, dag.parents)

    def _best_reinsertion(self, dag: OrderedDag, v: int) -> OrderedDag | None:
        """The best graph with v elsewhere in the order, or None where none is better."""
        best: OrderedDag | None = None
        least = dag.score + SMALLEST_GAIN
        position = dag.order.index(v)
        before = 0
        for u in dag.order[:position]:
            before |= 1 << u
        for step in (1, -1):
            moving, predecessors = dag.copy(), before
            place = position
            while 0 <= place + step < self.n_variables:
                u = moving.order[place + step]
                if step == 1:  # v, u becomes u, v
                    self._lose(moving, u, v, predecessors)
                    predecessors |= 1 << u
                    self._gain(moving, v, u, predecessors)
                else:  # u, v becomes v, u
                    predecessors ^= 1 << u
                    self._lose(moving, v, u, predecessors)
                    self._gain(moving, u, v, predecessors | 1 << v)
                moving.order[place], moving.order[place + step] = u, v
                place += step
                if moving.score > least:
                    best, least = moving.copy(), moving.score
        return best

    def _lose(self, dag: OrderedDag, j: int, lost: int, allowed: int) -> None:
        """Variable j may no longer have the parent ``lost``."""
        if dag.parents[j] >> lost & 1:
            self._replace(dag, j, self.local_score.parents(j, dag.parents[j] ^ 1 << lost, allowed))

    def _gain(self, dag: OrderedDag, j: int, gained: int, allowed: int) -> None:
        """Variable j may have the parent ``gained`` as well; no other choice is looked at unless it is taken."""
        mask = dag.parents[j]
        if self.local_score(j, mask | 1 << gained) > self.local_score(j, mask) + SMALLEST_GAIN:
            self._replace(dag, j, self.local_score.parents(j, mask | 1 << gained, allowed))

    def _replace(self, dag: OrderedDag, j: int, parents: int) -> None:
        dag.score += self.local_score(j, parents) - self.local_score(j, dag.parents[j])
        dag.parents[j] = parents


def pair_probabilities(local_score: LocalScore, parents: Sequence[int]) -> FloatArray:
    """Weight of each edge against its reversal and its absence, all other edges of a DAG as they are.

    A pair of variables has three states (i -> j, j -> i, none), fewer where one would close a cycle. Each is weighted by
    exp(score), and the weights of a pair sum to 1: were the score a log posterior, these were conditional probabilities.

    Parameters
    ----------
    local_score : LocalScore
    parents : sequence of int
        Mask of each of d variables.

    Returns
    -------
    float64 (d, d)
    """
    d = len(parents)
    probability = np.zeros((d, d))
    for i in range(d):
        for j in range(i):
            without = list(parents)
            without[i] &= ~(1 << j)
            without[j] &= ~(1 << i)
            log_weights = np.array([0.0, _gain_of_edge(local_score, without, i, j), _gain_of_edge(local_score, without, j, i)])
            weights = np.exp(log_weights - log_weights.max())
            probability[i, j], probability[j, i] = weights[1:] / weights.sum()
    return probability


def _gain_of_edge(local_score: LocalScore, parents: list[int], i: int, j: int) -> float:
    """What i -> j adds to the score; minus infinity where it closes a cycle."""
    reached = above = parents[i]
    while above and not reached >> j & 1:  # ancestors of i, one generation at a time
        above = union(parents[k] for k in members(above)) & ~reached
        reached |= above
    return -np.inf if reached >> j & 1 else local_score(j, parents[j] | 1 << i) - local_score(j, parents[j])
