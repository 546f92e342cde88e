"""Differentiable sampling of DAGs: a variational posterior over orders and edges, climbed by Adam with analytic gradients.

The second engine over the local scores, the paper's road: where ``search`` looks for graphs and then walks among them, here a
distribution over graphs is optimised and then drawn from. Not here: what a parent set is worth (``evidence``), and any search;
the best graph is the best that was ever drawn.

**Distribution q.** An order of the variables from a Plackett-Luce distribution with logits θ (sort θ plus Gumbel noise), and an
edge i -> j, independent with logit φ_ij, for each pair that the order allows, i before j. Every draw is a DAG.

**Objective.** A graph has many orders, and q(graph), a sum over them, is out of reach, and so is its entropy. The entropy of
the pair (order, graph) in its place overstates it, most for sparse graphs, which have the most orders: the objective would then
bound nothing, and pay for edges left out. So the target gets an order, too, by a conditional density of our choice,

    r(order | graph) = Π_k exp θ(k-th of the order) / Σ exp θ(those whose parents all stand before place k),

the Plackett-Luce distribution confined, place by place, to the orders of the graph. Its numerators are those of q(order), so

    ELBO = E_q[score(graph) / T + log r(order | graph) − log q(order) + entropy of the edges given the order],
    log r − log q = Σ_k log(Σ exp θ(those not placed before k) / Σ exp θ(those whose parents all stand before k))

costs no more than log q, and is a lower bound of log Σ_DAGs exp(score / T). It falls short by what the family cannot represent
(edges that depend on each other given the order; distributions over orders that are not Plackett-Luce), and by the mismatch of
r with q(order | graph).

**Gradients**, all analytic. Of φ, a local expectation: around each drawn graph the toggle table tells exactly what each edge
alone changes, on against off, and ``OrderTerms`` tells the same of log r. Of θ, the score function, with the mean of the other
draws as baseline. The draws of a step share the coin of each edge, so that they differ by their orders alone.

**Weights.** With r, a draw has an importance weight for the posterior over graphs: exp(score) r / q(order, graph), whose mean
is an unbiased estimate of Σ exp(score). Normalised by their sum, weighted averages are consistent in the number of draws. With
the few there are, weights correct q where it is near and cannot bring back what it has lost: an ELBO prefers one mode to the
space between two. A small ``effective_samples`` warns of that, a large one proves nothing.

**Where it fails.** With twenty variables and two edges a node, the order may settle while the temperature is high and graphs
are dense, in a place that ``search`` gets out of; broad graphs also ask for many more rows of scores than a search does.

A straight-through Gumbel gradient in place of the local expectation failed (structural errors of 24 to 35 on linear problems
of ten variables): its derivative at a closed gate takes the slope of the score at weight zero for the gain of the whole edge,
which overstates it.

References
----------
Charpentier, Kibler, Günnemann, "Differentiable DAG sampling", ICLR 2022 (order times edges; deviations: exact local differences
and a score function for straight-through gradients, the bound above for their separate prior terms). Ranganath, Tran, Blei,
"Hierarchical variational models", ICML 2016, for r. Kool, van Hoof, Welling, "Buy 4 REINFORCE samples, get a baseline for
free", 2019, for the baseline. Kingma, Ba, "Adam", ICLR 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import InputError
from bench.types import BoolArray, Budget, FloatArray
from methods.metacadi.evidence import LocalScores, PreparedScores
from methods.metacadi.search import GraphPosterior

IntArray = npt.NDArray[np.intp]

HOT_SHARE = 0.7
"""Of the steps, in which the temperature falls; the rest, at temperature 1, slows down to settle the probabilities."""

PATIENCE = 20
"""Steps in a row that draw one and the same graph, after which nothing moves any more."""

STEPS, ROUGH_STEPS = 1500, 400
"""At most; and where graphs need not be known well yet."""

STEPS_BETWEEN_REPORTS = 20

_MOST = 1.0 - 1e-12
"""Largest share of one variable among those that stay behind; rounding could make it 1, whose logarithm is lost."""


@dataclass(frozen=True, slots=True)
class Optimisation:
    """What the optimisation did.

    Parameters
    ----------
    n_steps : int
    n_requests : int
        Rows of scores asked for; providers memoise, so fewer were computed.
    elbo : float
        Mean over the samples of what the ELBO averages, at temperature 1: a lower bound of log Σ exp(score), nats.
    effective_samples : float
        1 / Σ weight², between 1 and the number of samples.
    """

    n_steps: int
    n_requests: int
    elbo: float
    effective_samples: float


def sample_graphs(
    scores: LocalScores,
    *,
    rng: np.random.Generator,
    n_samples: int = 100,
    budget: Budget | None = None,
    annealing: bool = True,
    n_steps: int = STEPS,
    graphs_per_step: int = 16,
    learning_rate: float = 0.3,
    initial_temperature: float = 50.0,
) -> GraphPosterior:
    """Weighted samples from a variational posterior over DAGs in proportion to exp(score), and the best DAG met.

    Parameters
    ----------
    scores : LocalScores
    rng : numpy.random.Generator
    n_samples : int
        Graphs drawn after the optimisation, independent of each other, with importance weights.
    budget : Budget, optional
        When it expires during the optimisation, the best graph so far is the only sample; during the last draws, those made
        are returned. The empty graph's row of scores of each node is computed in any case.
    annealing : bool
        Lower the temperature of the score geometrically from ``initial_temperature``; otherwise it is 1 throughout.
    n_steps : int
        At most; fewer where q has settled on one graph.
    graphs_per_step : int
        At least 2, as each is the baseline of the others.
    learning_rate : float
        Of Adam, for the logits of order and edges alike.
    initial_temperature : float
        At least 1.

    Returns
    -------
    GraphPosterior
        ``diagnostics`` is an :class:`Optimisation`.

    Raises
    ------
    InputError
        If a parameter is out of its range.
    """
    _check(n_samples, n_steps, graphs_per_step, learning_rate, initial_temperature)
    budget = Budget() if budget is None else budget
    d = scores.n_variables
    table = ScoreTable(scores)
    q = OrderedEdges(np.zeros(d), np.zeros((d, d)))
    adam = Adam(q.order_logits), Adam(q.edge_logits)
    previous, n_still, n_done = table.best, 0, 0
    while n_done < n_steps and n_still < PATIENCE:
        elapsed = n_done / n_steps
        orders, graphs = q.draw(graphs_per_step, rng, shared_edges=True)
        score, differences = table.price(graphs, budget)
        if len(score) < len(graphs):
            return _cut_short(table, n_done)
        temperature = initial_temperature ** max(0.0, 1.0 - elapsed / HOT_SHARE) if annealing else 1.0
        gradients = Gradients.of(q, orders, graphs, score, differences, temperature)
        rate = learning_rate * min(1.0, 0.05 + (1.0 - elapsed) / (1.0 - HOT_SHARE))
        adam[0].ascend(gradients.order(), rate)
        adam[1].ascend(gradients.edges(), rate)
        n_still = n_still + 1 if (graphs == previous).all() else 0
        previous, n_done = graphs[0], n_done + 1
        if n_done % STEPS_BETWEEN_REPORTS == 0:
            budget.progress(0.9 * n_done / n_steps, "fitting orders and edges")
    orders, graphs = q.draw(n_samples, rng)
    score, _ = table.price(graphs, budget)
    if not len(score):
        return _cut_short(table, n_done)
    orders, graphs = orders[: len(score)], graphs[: len(score)]
    log_ratio = score + OrderTerms.of(q.order_logits, orders, graphs).log_ratio - q.log_edges(orders, graphs)
    log_weights = log_ratio - np.logaddexp.reduce(log_ratio)
    effective = float(np.exp(-np.logaddexp.reduce(2.0 * log_weights)))
    budget.progress(1.0, "sampling graphs")
    return _posterior(
        table,
        graphs,
        log_weights,
        Optimisation(n_done, table.n_requests, float(log_ratio.mean()), effective),
        cut_short=len(score) < n_samples,
    )


def _cut_short(table: ScoreTable, n_steps: int) -> GraphPosterior:
    work = Optimisation(n_steps, table.n_requests, float("nan"), 1.0)
    return _posterior(table, table.best[None], np.zeros(1), work, cut_short=True)


def _posterior(table: ScoreTable, graphs: BoolArray, log_weights: FloatArray, work: Any, *, cut_short: bool) -> GraphPosterior:
    return GraphPosterior(graphs, log_weights, table.best, table.best_score, cut_short, work)


def _check(n_samples: int, n_steps: int, graphs_per_step: int, learning_rate: float, initial_temperature: float) -> None:
    for name, value, least in (("n_samples", n_samples, 1), ("n_steps", n_steps, 1), ("graphs_per_step", graphs_per_step, 2)):
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    if not 0.0 < learning_rate < np.inf:
        raise InputError(f"learning_rate must be positive and finite, got {learning_rate}")
    if not 1.0 <= initial_temperature < np.inf:
        raise InputError(f"initial_temperature must be finite and at least 1, got {initial_temperature}")


class ScoreTable:
    """Total scores of graphs, and the best graph of all that were priced, starting with the empty one.

    Attributes
    ----------
    best : bool (d, d)
    best_score : float
    n_requests : int
        Rows of scores asked for so far.
    """

    def __init__(self, scores: LocalScores) -> None:
        self._scores, self._preparing = scores, scores if isinstance(scores, PreparedScores) else None
        self.best = np.zeros((scores.n_variables, scores.n_variables), dtype=np.bool_)
        self.best_score, self.n_requests = -np.inf, 0
        self.price(self.best[None], Budget())

    def price(self, graphs: BoolArray, budget: Budget) -> tuple[FloatArray, FloatArray]:
        """Score of each graph, float64 (S,), and of each pair with the edge i -> j against without it, float64 (S, d, d).

        S is the number of ``graphs``, or fewer where the budget expires. Pairs on the diagonal are −inf.
        """
        n, d = len(graphs), self._scores.n_variables
        score, gains = np.zeros(n), np.empty((n, d, d))
        parents = np.ascontiguousarray(graphs.transpose(0, 2, 1))
        if self._preparing is not None:
            for j in range(d):
                if budget.expired:
                    break
                self._preparing.prepare(j, parents[:, j])
        for s in range(n):
            if budget.expired:
                n = s
                break
            for j in range(d):
                own, gains[s, :, j] = self._scores.toggles(j, parents[s, j])
                score[s] += own
            self.n_requests += d
            if score[s] > self.best_score:
                self.best, self.best_score = graphs[s].copy(), float(score[s])
        return score[:n], np.where(graphs[:n], -gains[:n], gains[:n])


@dataclass(frozen=True, slots=True)
class OrderedEdges:
    """The distribution q: a Plackett-Luce order, and independent edges wherever it allows them.

    Parameters
    ----------
    order_logits : float64 (d,)
        θ; a greater one comes earlier.
    edge_logits : float64 (d, d)
        φ; entry (i, j) is that of i -> j, given that i comes before j.
    """

    order_logits: FloatArray
    edge_logits: FloatArray

    def draw(self, n: int, rng: np.random.Generator, *, shared_edges: bool = False) -> tuple[IntArray, BoolArray]:
        """Orders, int (n, d), variables first to last, and graphs, bool (n, d, d).

        With ``shared_edges`` all graphs use one coin for each pair, whose edge those keep that allow it.
        """
        d = len(self.order_logits)
        orders = np.argsort(-(self.order_logits + rng.gumbel(size=(n, d))), axis=1)
        coins = rng.random((1 if shared_edges else n, d, d))
        return orders, (coins < _sigmoid(self.edge_logits)) & allowed_edges(orders)

    def log_edges(self, orders: IntArray, graphs: BoolArray) -> FloatArray:
        """log q(graph | order), float64 (n,)."""
        log_density = -np.logaddexp(0.0, np.where(graphs, -self.edge_logits, self.edge_logits))
        return np.asarray((log_density * allowed_edges(orders)).sum(axis=(1, 2)))

    def edge_entropy(self, orders: IntArray) -> FloatArray:
        """Entropy of the edges given the order, nats, float64 (n,)."""
        entropy = np.logaddexp(0.0, self.edge_logits) - self.edge_logits * _sigmoid(self.edge_logits)
        return np.asarray((entropy * allowed_edges(orders)).sum(axis=(1, 2)))


def allowed_edges(orders: IntArray) -> BoolArray:
    """Pairs (i, j) with i before j, bool (n, d, d)."""
    places = np.argsort(orders, axis=1)
    return places[:, :, None] < places[:, None, :]


@dataclass(frozen=True, slots=True)
class Gradients:
    """What each draw contributes to the gradients of the ELBO.

    Parameters
    ----------
    objective : float64 (S,)
        score / T + log r − log q(order) + entropy of the edges given the order.
    order_score : float64 (S, d)
        Gradient of log q(order).
    order_path : float64 (S, d)
        Gradient of the objective itself, the draw held fixed.
    edge_parts : float64 (S, d, d)
        Gradient of the edges' logits by local expectation.
    """

    objective: FloatArray
    order_score: FloatArray
    order_path: FloatArray
    edge_parts: FloatArray

    @classmethod
    def of(
        cls,
        q: OrderedEdges,
        orders: IntArray,
        graphs: BoolArray,
        score: FloatArray,
        differences: FloatArray,
        temperature: float,
    ) -> Gradients:
        """From draws, their scores and differences as :meth:`ScoreTable.price` gives them, and the temperature T."""
        allowed = allowed_edges(orders)
        terms = OrderTerms.of(q.order_logits, orders, graphs)
        probability = _sigmoid(q.edge_logits)
        # The expectation over an edge given all others is linear in its probability, the entropy's slope is −φ p'.
        gain = np.where(allowed, differences, 0.0) / temperature + terms.differences - q.edge_logits
        return cls(
            score / temperature + terms.log_ratio + q.edge_entropy(orders),
            terms.order_score,
            terms.order_path,
            allowed * gain * (probability * (1.0 - probability)),
        )

    def edges(self) -> FloatArray:
        """Gradient of the edges' logits, float64 (d, d)."""
        return np.asarray(self.edge_parts.mean(axis=0))

    def order(self, *, normalised: bool = True) -> FloatArray:
        """Gradient of the order's logits, float64 (d,): unbiased, or divided by the spread of the objective above one nat.

        Far from the end objectives differ by hundreds of nats, and the few draws that the gradient hangs on would swing its
        size; near the end, where probabilities settle, it is left as it is.
        """
        n = len(self.objective)
        centred = self.objective - self.objective.mean()
        # Over n − 1: subtracting the mean of all is subtracting that of the others, but for a factor (n − 1) / n.
        gradient = centred @ self.order_score / (n - 1) + self.order_path.mean(axis=0)
        return np.asarray(gradient / max(1.0, np.sqrt(centred @ centred / (n - 1))) if normalised else gradient)


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """All about log r(order | graph) − log q(order) that the gradients need.

    Parameters
    ----------
    log_ratio : float64 (S,)
    differences : float64 (S, d, d)
        Of log r, with the edge i -> j against without it; 0 where the order forbids it.
    order_score, order_path : float64 (S, d)
        Gradients in θ of log q(order) and of ``log_ratio``.
    """

    log_ratio: FloatArray
    differences: FloatArray
    order_score: FloatArray
    order_path: FloatArray

    @classmethod
    def of(cls, order_logits: FloatArray, orders: IntArray, graphs: BoolArray) -> OrderTerms:
        """From orders, int (S, d), and graphs that keep to them, bool (S, d, d)."""
        # Variables are sorted into their order at first: place and variable are then one index, j, beside the place k.
        n, d = orders.shape
        draw = np.arange(n)[:, None]
        edges = graphs[draw[:, :, None], orders[:, :, None], orders[:, None, :]]
        logits = order_logits[orders][:, None, :]
        k, j = np.arange(d)[:, None], np.arange(d)

        # A variable is free from the place after its last parent on; after its last but one, if that edge is taken away.
        freed_by = np.zeros((n, d + 1, d), dtype=np.intp)
        freed_by[:, 1:] = edges * (k + 1)
        freed_by = np.partition(freed_by, d - 1, axis=1)
        free_from, else_from = freed_by[:, None, -1], freed_by[:, None, -2]
        waiting, free = k <= j, (free_from <= k) & (k <= j)
        log_waiting = _log_sum_exp(np.where(waiting, logits, -np.inf))
        log_free = _log_sum_exp(np.where(free, logits, -np.inf))
        share_of_waiting = np.where(waiting, np.exp(np.minimum(logits - log_waiting, 0.0)), 0.0).sum(axis=1)
        share_of_free = np.where(free, np.exp(np.minimum(logits - log_free, 0.0)), 0.0)

        # A new edge from place i takes j out of the free until i; without its last parent, j is free earlier.
        shares_before = np.minimum(np.where(k < j, share_of_free, 0.0), _MOST)
        added = -np.log1p(-shares_before).cumsum(axis=1)
        is_earlier = (else_from <= k) & (k < free_from)
        removed = np.where(is_earlier, np.logaddexp(0.0, logits - log_free), 0.0).sum(axis=1, keepdims=True)
        is_last_parent = edges & (free_from == k + 1)
        differences = np.where(edges, is_last_parent * removed, (k < j) * added)

        places = np.argsort(orders, axis=1)
        return cls(
            (log_waiting - log_free).sum(axis=(1, 2)),
            differences[draw[:, :, None], places[:, :, None], places[:, None, :]],
            (1.0 - share_of_waiting)[draw, places],
            (share_of_waiting - share_of_free.sum(axis=1))[draw, places],
        )


class Adam:
    """Gradient ascent with Adam, in place; second moments last for 100 steps, as the temperature changes in hundreds."""

    FIRST_DECAY, SECOND_DECAY, FLOOR = 0.9, 0.99, 1e-8

    def __init__(self, values: FloatArray) -> None:
        self._values = values
        self._first, self._second, self._n_steps = np.zeros_like(values), np.zeros_like(values), 0

    def ascend(self, gradient: FloatArray, rate: float) -> None:
        self._n_steps += 1
        self._first += (1.0 - self.FIRST_DECAY) * (gradient - self._first)
        self._second += (1.0 - self.SECOND_DECAY) * (gradient**2 - self._second)
        first = self._first / (1.0 - self.FIRST_DECAY**self._n_steps)
        second = self._second / (1.0 - self.SECOND_DECAY**self._n_steps)
        self._values += rate * first / (np.sqrt(second) + self.FLOOR)


def _sigmoid(x: FloatArray) -> FloatArray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _log_sum_exp(x: FloatArray) -> FloatArray:
    """Over the last axis, which stays with length 1."""
    largest = x.max(axis=-1, keepdims=True)
    return np.asarray(largest + np.log(np.exp(x - largest).sum(axis=-1, keepdims=True)))
