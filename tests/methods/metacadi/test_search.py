"""The search against enumeration: all DAGs of three and four variables, and random linear Gaussian problems."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import graphs
from bench.errors import InputError
from bench.types import BoolArray, Budget, FloatArray
from methods.metacadi.search import sample_graphs, warm_up
from methods.metacadi.search.local_search import _best_move, climb, perturb, search
from methods.metacadi.search.state import GraphState, Move, _add_edge, _remove_edge, reversal_gains
from methods.metacadi.search.structure_mcmc import (
    Chain,
    TemperedChains,
    _choose,
    _weigh,
    acceptance_probability,
    swap_probability,
)


class TableScores:
    """One number for each variable and parent set, random (standard deviation in nats) or all zero."""

    def __init__(self, d: int, standard_deviation: float = 0.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.n_variables = d
        self.table = {
            (i, np.array(parents).tobytes()): standard_deviation * rng.normal()
            for i in range(d)
            for parents in itertools.product([False, True], repeat=d)
            if not parents[i]
        }

    def score(self, i: int, parents: BoolArray) -> float:
        return self.table[i, parents.tobytes()]

    @functools.cache  # noqa: B019 (lives as long as its test)
    def _row(self, i: int, key: bytes) -> tuple[float, FloatArray]:
        return row_by_definition(self, i, np.frombuffer(key, dtype=bool))

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        return self._row(i, parents.tobytes())


class GaussianScores:
    """BIC of linear Gaussian regressions from a covariance matrix."""

    def __init__(self, covariance: FloatArray, n_samples: int) -> None:
        self.n_variables = len(covariance)
        self._covariance, self._n = covariance, n_samples

    def score(self, i: int, parents: BoolArray) -> float:
        C, p = self._covariance, np.flatnonzero(parents)
        variance = C[i, i] - C[i, p] @ np.linalg.solve(C[np.ix_(p, p)], C[p, i])
        return -0.5 * self._n * np.log(variance) - 0.5 * np.log(self._n) * len(p)

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        return self._row(i, parents.tobytes())

    @functools.cache  # noqa: B019 (lives as long as its test)
    def _row(self, i: int, key: bytes) -> tuple[float, FloatArray]:
        return row_by_definition(self, i, np.frombuffer(key, dtype=bool))


class Relabelled:
    """The same scores with variable ``order[i]`` in place i."""

    def __init__(self, scores: TableScores, order: FloatArray) -> None:
        self.n_variables = scores.n_variables
        self._scores, self._order = scores, order

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        original = np.zeros_like(parents)
        original[self._order] = parents
        own, gains = self._scores.toggles(int(self._order[i]), original)
        return own, gains[self._order]


def row_by_definition(scores: TableScores | GaussianScores, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
    own = scores.score(i, parents)
    gains = np.full(len(parents), -np.inf)
    for j in np.flatnonzero(np.arange(len(parents)) != i):
        changed = parents.copy()
        changed[j] ^= True
        gains[j] = scores.score(i, changed) - own
    return own, gains


def total(scores: TableScores | GaussianScores, graph: BoolArray) -> float:
    return sum(scores.score(i, np.ascontiguousarray(graph[:, i])) for i in range(len(graph)))


def all_dags(d: int) -> BoolArray:
    places = np.flatnonzero(~np.eye(d, dtype=bool))
    candidates = np.zeros((2 ** len(places), d * d), dtype=bool)
    candidates[:, places] = list(itertools.product([False, True], repeat=len(places)))
    candidates = candidates.reshape(-1, d, d)
    return candidates[graphs.are_acyclic(candidates)]


def posterior(scores: TableScores, dags: BoolArray, temperature: float = 1.0) -> FloatArray:
    log_weight = np.array([total(scores, graph) for graph in dags]) / temperature
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()


def frequencies(samples: BoolArray, dags: BoolArray) -> FloatArray:
    place = {graph.tobytes(): k for k, graph in enumerate(dags)}
    return np.bincount([place[graph.tobytes()] for graph in samples], minlength=len(dags)) / len(samples)


def expected_variation(probability: FloatArray, n_independent: int) -> float:
    """Upper bound of the mean total variation between a distribution and frequencies of independent draws."""
    return 0.5 * float(np.sqrt(probability * (1 - probability) / n_independent).sum())


def linear_gaussian(
    d: int, n_samples: int, seed: int, strength: tuple[float, float] = (0.5, 2.0)
) -> tuple[BoolArray, FloatArray]:
    """A random DAG of about two edges a node, and the correlations of samples from it."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(d)
    graph = np.triu(rng.random((d, d)) < min(1.0, 4.0 / (d - 1)), 1)[np.ix_(order, order)]
    W = graph * rng.uniform(*strength, (d, d)) * rng.choice([-1, 1], (d, d))
    X = rng.normal(size=(n_samples, d)) @ np.linalg.inv(np.eye(d) - W)
    return graph, np.corrcoef(X.T)


# --- the state ----------------------------------------------------------------------------------------------------------------


def legal_moves(graph: BoolArray) -> dict[Move, BoolArray]:
    """Every single change that leaves an acyclic graph, by definition."""
    moves: dict[Move, BoolArray] = {}
    for a, b in np.argwhere(~np.eye(len(graph), dtype=bool)).tolist():
        toggled = graph.copy()
        toggled[a, b] ^= True
        moves[Move(a, b)] = toggled
        if graph[a, b]:
            reversed_ = toggled.copy()
            reversed_[b, a] = True
            moves[Move(a, b, True)] = reversed_
    acyclic = graphs.are_acyclic(np.array(list(moves.values())))
    return {move: changed for (move, changed), legal in zip(moves.items(), acyclic, strict=True) if legal}


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_a_state_keeps_descendants_score_and_gains_through_any_moves(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = TableScores(d, 1.0, seed=1)
    state = GraphState(scores)
    for _ in range(10):
        moves = list(legal_moves(state.graph).items())
        move, changed = moves[rng.integers(len(moves))]
        state.apply(move)
        np.testing.assert_array_equal(state.graph, changed)
        np.testing.assert_array_equal(state.descendants, graphs.reachability(state.graph))
        assert state.score == pytest.approx(total(scores, state.graph))
        position = np.argsort(state.topological_order(rng))
        assert all(position[a] < position[b] for a, b in np.argwhere(state.graph))
    fresh = GraphState(scores, state.graph)
    np.testing.assert_array_equal(state.gains, fresh.gains)
    fresh.become(np.zeros((d, d), dtype=bool))
    np.testing.assert_array_equal(fresh.descendants, np.zeros((d, d), dtype=bool))
    np.testing.assert_array_equal(fresh.gains, GraphState(scores).gains)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_a_move_and_its_inverse_cancel(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(d)
    graph = np.triu(rng.random((d, d)) < 0.5, 1)[np.ix_(order, order)]
    state = GraphState(TableScores(d, 1.0), graph)
    for move in legal_moves(graph):
        state.apply(move)
        state.apply(move.inverse)
        np.testing.assert_array_equal(state.graph, graph)


# --- search -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_climb_ends_where_no_legal_single_change_gains(seed: int) -> None:
    scores = TableScores(6, 2.0, seed)
    state = GraphState(scores)
    climb(state, rng=np.random.default_rng(seed), budget=Budget())
    assert max(total(scores, changed) for changed in legal_moves(state.graph).values()) <= state.score + 1e-9


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_perturbed_graphs_are_acyclic(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(d)
    state = GraphState(TableScores(d, 1.0), np.triu(rng.random((d, d)) < 0.5, 1)[np.ix_(order, order)])
    assert graphs.is_acyclic(perturb(state, rng))


@pytest.mark.parametrize("seed", range(10))
def test_the_search_finds_the_best_of_all_dags_of_four_variables(seed: int) -> None:
    _, covariance = linear_gaussian(4, 100, seed)
    scores = GaussianScores(covariance, 100)
    state, _ = search(scores, rng=np.random.default_rng(seed), budget=Budget(), max_failures=50)
    assert state.score == pytest.approx(max(total(scores, graph) for graph in all_dags(4)), abs=1e-6)


@pytest.mark.parametrize("d", [10, 20])
@pytest.mark.parametrize("seed", range(3))
def test_the_search_scores_at_least_the_true_graph(d: int, seed: int) -> None:
    # The maximum scores at least the truth, but a search may stop beside it: one nat of thousands.
    graph, covariance = linear_gaussian(d, 1000, seed)
    scores = GaussianScores(covariance, 1000)
    state, _ = search(scores, rng=np.random.default_rng(seed), budget=Budget(), max_failures=200)
    assert graphs.is_acyclic(state.graph)
    assert state.score >= total(scores, graph) - 1.0


# --- sampling -----------------------------------------------------------------------------------------------------------------


def barker(log_ratio: float) -> float:
    return 1.0 / (1.0 + np.exp(-log_ratio))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_moves_are_chosen_by_their_balanced_weights(temperature: float) -> None:
    scores = TableScores(3, 2.0, seed=3)
    n = 2000
    for graph in all_dags(3):
        chain = Chain(GraphState(scores, graph), temperature)
        weights = {
            move: barker((total(scores, changed) - total(scores, graph)) / temperature)
            for move, changed in legal_moves(graph).items()
        }
        assert chain.total_weight == pytest.approx(sum(weights.values()), rel=1e-12)
        chosen = [chain.choose((k + 0.5) / n) for k in range(n)]
        assert set(chosen) <= set(weights)
        for move, weight in weights.items():
            # Each move owns one stretch of the unit interval, which a grid measures to one of its points.
            assert chosen.count(move) / n == pytest.approx(weight / chain.total_weight, abs=1.001 / n)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_one_step_is_in_detailed_balance_with_the_posterior_over_all_dags(temperature: float) -> None:
    scores, dags = TableScores(3, 2.0, seed=4), all_dags(3)
    place = {graph.tobytes(): k for k, graph in enumerate(dags)}
    chains = [Chain(GraphState(scores, graph), temperature) for graph in dags]
    P = np.zeros((len(dags), len(dags)))
    for x, graph in enumerate(dags):
        for changed in legal_moves(graph).values():
            y = place[changed.tobytes()]
            weight = barker((total(scores, changed) - total(scores, graph)) / temperature)
            accepted = acceptance_probability(chains[x].total_weight, chains[y].total_weight)
            P[x, y] += weight / chains[x].total_weight * accepted
        P[x, x] += 1.0 - P[x].sum()
    flow = posterior(scores, dags, temperature)[:, None] * P
    assert (P > -1e-12).all()
    np.testing.assert_allclose(flow, flow.T, atol=1e-13)
    assert (np.linalg.matrix_power(P, len(dags)) > 0).all()  # every DAG leads to every other


def test_swaps_are_in_detailed_balance_with_the_product_of_tempered_posteriors() -> None:
    scores, dags = TableScores(3, 2.0, seed=5), all_dags(3)
    cold, hot = posterior(scores, dags), posterior(scores, dags, 3.0)
    score = [total(scores, graph) for graph in dags]
    for x, y in itertools.product(range(len(dags)), repeat=2):
        there = cold[x] * hot[y] * swap_probability(score[x], score[y], 1.0, 3.0)
        back = cold[y] * hot[x] * swap_probability(score[y], score[x], 1.0, 3.0)
        assert there == pytest.approx(back, rel=1e-9)


@pytest.mark.parametrize(("d", "seed"), [(3, 0), (3, 1), (4, 2)])
def test_samples_follow_the_posterior_over_all_dags(d: int, seed: int) -> None:
    scores, dags = TableScores(d, 2.0, seed), all_dags(d)
    n = 3000
    found = sample_graphs(scores, rng=np.random.default_rng(seed), n_samples=n, thinning=10)
    exact = posterior(scores, dags)
    distance = 0.5 * np.abs(frequencies(found.graph_samples, dags) - exact).sum()
    # Samples 10 steps apart are nearly independent: allow for a quarter of them being so.
    assert distance < expected_variation(exact, n // 4)


def test_every_temperature_keeps_its_own_posterior_through_swaps() -> None:
    scores, dags = TableScores(3, 2.0, seed=6), all_dags(3)
    chains = TemperedChains(scores, dags[0], (1.0, 2.0, 4.0))
    rng, n = np.random.default_rng(0), 4000
    samples = np.empty((3, n, 3, 3), dtype=bool)
    for k in range(n):
        chains.advance(5, rng=rng, budget=Budget())
        samples[:, k] = [chain.state.graph for chain in chains.chains]
    assert (chains.n_swaps > 0.2 * n / 2).all()
    for chain, graphs_of_chain, temperature in zip(chains.chains, samples, (1.0, 2.0, 4.0), strict=True):
        assert chain.temperature == temperature
        exact = posterior(scores, dags, temperature)
        distance = 0.5 * np.abs(frequencies(graphs_of_chain, dags) - exact).sum()
        assert distance < expected_variation(exact, n // 4)


def test_constant_scores_give_all_dags_alike() -> None:
    n = 4000
    found = sample_graphs(TableScores(3), rng=np.random.default_rng(0), n_samples=n, thinning=10)
    frequency = frequencies(found.graph_samples, all_dags(3))
    assert len(frequency) == 25
    # Four standard errors of independent draws, of which thinned samples are worth at least a half.
    np.testing.assert_allclose(frequency, 1 / 25, atol=4 * np.sqrt(1 / 25 / (n / 2)))


def test_relabelling_the_variables_relabels_the_distribution_of_samples() -> None:
    scores, order, n = TableScores(4, 1.5, seed=7), np.array([2, 0, 3, 1]), 2000
    plain = sample_graphs(scores, rng=np.random.default_rng(0), n_samples=n, thinning=20)
    relabelled = sample_graphs(Relabelled(scores, order), rng=np.random.default_rng(1), n_samples=n, thinning=10)
    expected = plain.graph_samples.mean(axis=0)[np.ix_(order, order)]
    # Four standard errors of a difference of two frequencies, each worth at least n / 4 independent draws.
    np.testing.assert_allclose(relabelled.graph_samples.mean(axis=0), expected, atol=4 * np.sqrt(2 * 0.25 / (n / 4)))


def test_tied_directions_are_chosen_by_the_generator_and_not_by_the_labels() -> None:
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    first = [
        search(GaussianScores(covariance, 100), rng=np.random.default_rng(seed), budget=Budget(), max_failures=0)[0].graph[0, 1]
        for seed in range(40)
    ]
    assert 8 <= sum(first) <= 32  # 40 fair coins, with a chance of 1e-4 to leave the range


def test_two_runs_agree_on_the_edges_of_an_ambiguous_problem() -> None:
    _, covariance = linear_gaussian(10, 60, seed=1, strength=(0.2, 0.8))
    scores = GaussianScores(covariance, 60)
    runs = [sample_graphs(scores, rng=np.random.default_rng(seed)).graph_samples.mean(axis=0) for seed in (0, 1)]
    # Four standard errors of the difference of two frequencies of 100 independent draws, .28.
    assert np.abs(runs[0] - runs[1]).max() < 4 * np.sqrt(2 * 0.25 / 100)
    assert ((runs[0] > 0.1) & (runs[0] < 0.9)).sum() > 20


def test_the_same_generator_gives_the_same_posterior() -> None:
    scores = TableScores(5, 2.0, seed=8)
    one, other = (sample_graphs(scores, rng=np.random.default_rng(3), n_samples=20) for _ in range(2))
    np.testing.assert_array_equal(one.graph_samples, other.graph_samples)
    np.testing.assert_array_equal(one.best, other.best)
    assert one.diagnostics == other.diagnostics


def test_samples_are_acyclic_and_equally_weighted_and_none_beats_the_best() -> None:
    _, covariance = linear_gaussian(12, 100, seed=2)
    scores = GaussianScores(covariance, 100)
    found = sample_graphs(scores, rng=np.random.default_rng(0), n_samples=50, thinning=20)
    assert found.graph_samples.shape == (50, 12, 12)
    assert graphs.are_acyclic(found.graph_samples).all()
    np.testing.assert_allclose(np.exp(found.log_weights), 1 / 50)
    assert found.best_score == pytest.approx(total(scores, found.best))
    assert max(total(scores, graph) for graph in found.graph_samples) <= found.best_score + 1e-6
    assert not found.cut_short


def test_a_spent_budget_returns_the_best_so_far() -> None:
    _, covariance = linear_gaussian(20, 200, seed=3)
    scores = GaussianScores(covariance, 200)
    at_once = sample_graphs(scores, rng=np.random.default_rng(0), budget=Budget(seconds=0.0))
    assert at_once.cut_short
    np.testing.assert_array_equal(at_once.graph_samples, np.zeros((1, 20, 20)))

    class Three(Budget):
        """Expires when the third sample is reported."""

        n_samples = 0

        def progress(self, fraction: float, note: str = "") -> None:
            self.n_samples += 1

        @property
        def expired(self) -> bool:
            return self.n_samples >= 3

    midway = sample_graphs(scores, rng=np.random.default_rng(0), budget=Three(), n_samples=10, thinning=20)
    assert midway.cut_short
    assert len(midway.graph_samples) == 3
    assert midway.best_score > GraphState(scores).score


def test_a_lone_variable_has_one_graph() -> None:
    found = sample_graphs(TableScores(1), rng=np.random.default_rng(0), n_samples=3)
    np.testing.assert_array_equal(found.graph_samples, np.zeros((3, 1, 1)))


def test_scores_too_far_apart_for_floats_do_not_break_the_chain() -> None:
    scores = TableScores(3, 1e5, seed=9)
    found = sample_graphs(scores, rng=np.random.default_rng(0), n_samples=5)
    assert (found.graph_samples == found.best).all()


def test_warm_up_compiles_everything_that_a_run_needs() -> None:
    warm_up()
    kernels = [_add_edge, _remove_edge, reversal_gains, _best_move, _weigh, _choose]
    compiled = [len(kernel.signatures) for kernel in kernels]
    sample_graphs(TableScores(4, 2.0), rng=np.random.default_rng(0), n_samples=5)
    assert [len(kernel.signatures) for kernel in kernels] == compiled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperatures": (2.0, 3.0)}, "temperatures must increase from 1"),
        ({"temperatures": (1.0, 3.0, 3.0)}, "temperatures must increase from 1"),
        ({"temperatures": ()}, "temperatures must increase from 1"),
        ({"n_samples": 0}, "n_samples and thinning must be at least 1"),
        ({"thinning": 0}, "n_samples and thinning must be at least 1"),
    ],
)
def test_wrong_settings_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_graphs(TableScores(3), rng=np.random.default_rng(0), **arguments)
