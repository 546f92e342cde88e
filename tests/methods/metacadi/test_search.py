"""The search against enumeration: all DAGs of three and four variables, and random linear Gaussian problems."""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import metacadi_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import graphs
from bench.errors import InputError
from bench.types import BoolArray, Budget, Environment, FloatArray, Observed
from methods.metacadi import kernel
from methods.metacadi import search as search_package
from methods.metacadi.evidence import Evidence, MixtureEvidence
from methods.metacadi.model import Priors
from methods.metacadi.search import exchanges, jump_process, local_search, rows, sample_graphs, scout, state, warm_up
from methods.metacadi.search.exchanges import RememberingState
from methods.metacadi.search.jump_process import JumpProcess, Rates, choose, standard_errors, weigh
from methods.metacadi.search.local_search import climb, perturb, search
from methods.metacadi.search.rows import Int64Array, RowTable, find, key_of
from methods.metacadi.search.state import GraphState, settle, toggle_all


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


class ScreenedGaussianScores(GaussianScores):
    """The same, and able to leave changes out and to estimate them: too low by up to five nats and a tenth."""

    def __init__(self, covariance: FloatArray, n_samples: int) -> None:
        super().__init__(covariance, n_samples)
        self.n_screened_requests = 0

    def toggles_among(self, i: int, parents: BoolArray, candidates: BoolArray) -> tuple[float, FloatArray]:
        self.n_screened_requests += 1
        own, gains = self.toggles(i, parents)
        return own, np.where(candidates | parents, gains, -np.inf)

    def screened_row(
        self, i: int, parents: BoolArray, likely: Int64Array, least_gain: float, *, optimistic: bool
    ) -> tuple[float, FloatArray, BoolArray]:
        own, gains = self.toggles(i, parents)
        estimates = self.estimated_gains(i, parents)
        exact = parents | (estimates >= least_gain)
        exact[i] = True
        self.n_screened_requests += 1
        return own, np.where(exact, gains, estimates), exact

    def estimated_gains(self, i: int, parents: BoolArray) -> FloatArray:
        _, gains = self.toggles(i, parents)
        noise = np.random.default_rng([i, *np.flatnonzero(parents)]).random(len(gains))
        return np.where(parents, -np.inf, gains - noise * (5.0 + 0.1 * np.abs(gains)))


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


Scores = TableScores | GaussianScores


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


class Move(NamedTuple):
    """Toggle the edge source -> target, or reverse it where it stands."""

    source: int
    target: int
    reverses: bool = False


def apply(graph_state: GraphState, move: Move) -> None:
    a, b, reverses = move
    graph_state.run(toggle_all, np.array([(a, b), (b, a)] if reverses else [(a, b)], dtype=np.int32))


def state_at(scores: Scores, graph: BoolArray) -> GraphState:
    there = GraphState(scores)
    there.become(graph)
    there.run(settle)
    return there


# --- the table of rows --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_a_table_finds_each_row_it_holds_and_no_other(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = TableScores(d, 1.0)
    table = RowTable(scores)
    asked = set()
    for _ in range(200):
        i, parents = int(rng.integers(d)), rng.random(d) < 0.5
        parents[i] = False
        place = find(table.rows, key_of(table.rows.salts, i, parents), i, parents)
        assert (place >= 0) == ((i, parents.tobytes()) in asked)
        if place < 0:
            assert not table.add(i, parents)
            asked.add((i, parents.tobytes()))
            place = find(table.rows, key_of(table.rows.salts, i, parents), i, parents)
        own, gains = scores.toggles(i, parents)
        assert table.rows.own[place] == own
        np.testing.assert_array_equal(table.rows.gains[place], gains)
    assert table.n_requests == len(asked)


def test_rows_of_the_same_key_are_told_apart() -> None:
    scores = TableScores(4, 1.0)
    table = RowTable(scores)
    table.rows.salts[:] = 0  # all keys collide
    one, other = np.array([False, True, False, False]), np.array([False, False, True, False])
    table.add(0, one)
    assert find(table.rows, 0, 0, other) == -1
    assert find(table.rows, 0, 3, one) == -1
    table.add(0, other)
    assert table.rows.own[find(table.rows, 0, 0, other)] == scores.score(0, other)
    assert table.rows.own[find(table.rows, 0, 0, one)] == scores.score(0, one)


def test_a_table_too_small_for_all_rows_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = TableScores(4, 2.0, seed=1)
    large = sample_graphs(scores, rng=np.random.default_rng(0), n_samples=20)
    monkeypatch.setattr(rows, "MIN_ROWS_PER_VARIABLE", 4)
    monkeypatch.setattr(rows, "MAX_BYTES", 0)
    small = sample_graphs(scores, rng=np.random.default_rng(0), n_samples=20)
    assert small.diagnostics.n_sampling_requests > large.diagnostics.n_sampling_requests
    assert small.best_score == large.best_score
    np.testing.assert_array_equal(small.graph_samples, large.graph_samples)


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


def assert_consistent(graph_state: GraphState, scores: Scores, graph: BoolArray) -> None:
    d, arrays = len(graph), graph_state.arrays
    np.testing.assert_array_equal(graph_state.graph, graph)
    np.testing.assert_array_equal(arrays.parents, graph.T)
    np.testing.assert_array_equal(arrays.descendants, graphs.reachability(graph))
    np.testing.assert_array_equal(arrays.n_descendants, arrays.descendants.sum(axis=1))
    edges = arrays.edges[: arrays.counts[state.N_EDGES]]
    assert sorted(map(tuple, edges.tolist())) == list(map(tuple, np.argwhere(graph).tolist()))
    assert graph_state.score == pytest.approx(total(scores, graph))
    parents = np.ascontiguousarray(graph.T)
    np.testing.assert_array_equal(graph_state.gains, [row_by_definition(scores, i, parents[i])[1] for i in range(d)])


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_a_state_keeps_all_it_knows_of_its_graph_through_any_moves_and_back(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = TableScores(d, 1.0, seed=1)
    there = GraphState(scores)
    met = [there.graph.copy()]
    for _ in range(10):
        moves = list(legal_moves(there.graph).items())
        move, changed = moves[rng.integers(len(moves))]
        apply(there, move)
        assert_consistent(there, scores, changed)
        met.append(changed)
    there.become(met[5])
    assert_consistent(there, scores, met[5])
    there.undo()
    assert_consistent(there, scores, met[0])


def test_a_log_grows_with_what_it_has_to_keep() -> None:
    scores = TableScores(3, 1.0)
    there = GraphState(scores)
    n = 2 * len(there.arrays.log) + 1
    for _ in range(n):
        apply(there, Move(0, 1))
    assert there.arrays.counts[state.N_LOGGED] == n
    there.undo()
    assert_consistent(there, scores, np.zeros((3, 3), dtype=bool))


# --- search -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_climb_ends_where_no_legal_single_change_gains(seed: int) -> None:
    scores = TableScores(6, 2.0, seed)
    there = GraphState(scores)
    assert climb(there, rng=np.random.default_rng(seed), budget=Budget())
    assert max(total(scores, changed) for changed in legal_moves(there.graph).values()) <= there.score + 1e-9


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_perturbations_lead_to_acyclic_graphs_and_are_undone_without_trace(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(d)
    scores, graph = TableScores(d, 1.0), np.triu(rng.random((d, d)) < 0.5, 1)[np.ix_(order, order)]
    there = state_at(scores, graph)
    there.clear_log()
    for _ in range(3):
        assert perturb(there, int(rng.integers(d)), rng=rng, budget=Budget())
        assert graphs.is_acyclic(there.graph)
        assert_consistent(there, scores, there.graph.copy())
    there.undo()
    assert_consistent(there, scores, graph)


@pytest.mark.parametrize("seed", range(10))
def test_the_search_finds_the_best_of_all_dags_of_four_variables(seed: int) -> None:
    _, covariance = linear_gaussian(4, 100, seed)
    scores = GaussianScores(covariance, 100)
    there = GraphState(scores)
    search(there, rng=np.random.default_rng(seed), budget=Budget(), max_failures=50)
    assert there.score == pytest.approx(max(total(scores, graph) for graph in all_dags(4)), abs=1e-6)


@pytest.mark.parametrize("d", [10, 20])
@pytest.mark.parametrize("seed", range(3))
def test_the_search_scores_at_least_the_true_graph(d: int, seed: int) -> None:
    # The maximum scores at least the truth, but a search may stop beside it: one nat of thousands.
    graph, covariance = linear_gaussian(d, 1000, seed)
    scores = GaussianScores(covariance, 1000)
    there = GraphState(scores)
    search(there, rng=np.random.default_rng(seed), budget=Budget(), max_failures=200)
    assert graphs.is_acyclic(there.graph)
    assert there.score >= total(scores, graph) - 1.0


def test_the_search_stops_early_where_all_perturbations_lead_back() -> None:
    class OneOptimum:
        """An earlier parent gains a nat, a later one loses it."""

        n_variables = 9

        def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
            worth = np.where(np.arange(9) < i, 1.0, -1.0)
            gains = np.where(parents, -worth, worth)
            gains[i] = -np.inf
            return float(worth @ parents), gains

    one, many = GraphState(OneOptimum()), GraphState(GaussianScores(linear_gaussian(9, 30, seed=3)[1], 30))
    n_climbs = [
        search(there, rng=np.random.default_rng(0), budget=Budget(), max_failures=200).n_climbs for there in (one, many)
    ]
    np.testing.assert_array_equal(one.graph, np.triu(np.ones((9, 9), dtype=bool), 1))
    assert n_climbs[0] == 1 + local_search.MIN_PERTURBATIONS < n_climbs[1]


def test_a_screened_climb_takes_the_steps_of_a_full_one_as_long_as_estimates_are_no_further_off_than_expected() -> None:
    _, covariance = linear_gaussian(20, 1000, seed=1)
    scores = ScreenedGaussianScores(covariance, 1000)
    full, screened = GraphState(GaussianScores(covariance, 1000)), GraphState(scores, local_search.SCREENING)
    for there in (full, screened):
        climb(there, rng=np.random.default_rng(0), budget=Budget())
    assert scores.n_screened_requests > 20
    np.testing.assert_array_equal(full.graph, screened.graph)


def test_a_screened_row_is_exact_where_it_says_so_and_where_gains_are_of_interest() -> None:
    _, covariance = linear_gaussian(20, 1000, seed=1)
    scores = ScreenedGaussianScores(covariance, 1000)
    table, parents = RowTable(scores, rows.Screening(5.0, 6.0, 0.2)), np.arange(20) == 3
    own, gains = scores.toggles(0, parents)
    estimates = scores.estimated_gains(0, parents)
    table.add(0, parents)
    exact, known = table.rows.exact[0].copy(), table.rows.gains[0].copy()
    np.testing.assert_array_equal(exact, parents | (estimates >= 5.0) | (np.arange(20) == 0))
    assert 2 < exact.sum() < 20
    np.testing.assert_array_equal(known[exact], gains[exact])
    np.testing.assert_allclose(known[~exact], estimates[~exact] + 6.0 + 0.2 * np.abs(estimates[~exact]), rtol=1e-12)
    wanted, barred = int(np.flatnonzero(~exact)[0]), np.arange(20) >= 10
    table.refine(0, parents, wanted, barred)
    newly = table.rows.exact[0] & ~exact
    assert newly[wanted]
    assert newly.sum() > 1
    assert not (newly & barred & (np.arange(20) != wanted)).any()
    np.testing.assert_array_equal(table.rows.gains[0, newly], gains[newly])
    assert table.rows.own[0] == own


def test_screening_happens_on_request_for_many_variables_and_scores_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    _, covariance = linear_gaussian(8, 500, seed=1)

    def n_screened_requests(**settings: bool) -> int:
        scores = ScreenedGaussianScores(covariance, 500)
        sample_graphs(scores, rng=np.random.default_rng(0), n_samples=1, **settings)
        return scores.n_screened_requests

    assert n_screened_requests() == 0
    monkeypatch.setattr("methods.metacadi.search.MIN_SCREENED", 8)
    assert n_screened_requests() > 0
    assert n_screened_requests(screening=False) == 0
    assert sample_graphs(GaussianScores(covariance, 500), rng=np.random.default_rng(0)).best_score > 0.0


# --- the scout ----------------------------------------------------------------------------------------------------------------


def two_environments(d: int, n_samples: int = 60) -> Observed:
    """A chain, and the same with every variable but the first shifted."""
    noise = np.random.default_rng(d).normal(size=(2, n_samples, d))
    noise[1, :, 1:] += 3.0
    scaled = [np.cumsum(x, axis=1) / np.sqrt(np.arange(1, d + 1)) for x in noise]
    return Observed((Environment(scaled[0], is_observational=True), Environment(scaled[1])))


@pytest.mark.parametrize("screening", [None, scout.SCREENING])
def test_a_scout_goes_where_the_search_does_for_fewer_rows_of_its_scores(screening: rows.Screening | None) -> None:
    """Linear data of fifteen variables: the same optimum as without it, and most rows are the scout's."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2, 200, 15))
    X[1, :, 3] += 4.0
    for j in range(1, 15):
        X[..., j] += X[..., rng.integers(j)]
    X = (X - X.mean(axis=(0, 1))) / X.std(axis=(0, 1))
    evidence = MixtureEvidence([Evidence(Observed((Environment(X[0], is_observational=True), Environment(X[1]))), Priors())])

    class Plain:
        """Without cheaper scores beside it."""

        n_variables = 15
        toggles, toggles_among, screened_row = evidence.toggles, evidence.toggles_among, evidence.screened_row

    with_scout, alone = (GraphState(scores, screening and local_search.SCREENING) for scores in (evidence, Plain()))
    for there in (with_scout, alone):
        search(there, rng=np.random.default_rng(0), budget=Budget(), max_failures=100)
    assert with_scout.score == pytest.approx(alone.score, abs=1e-6)
    assert with_scout.table.n_requests < 0.5 * alone.table.n_requests


def test_a_scout_that_follows_finds_no_row_of_the_targets_before() -> None:
    evidence = MixtureEvidence([Evidence(two_environments(5), Priors())])
    empty, chain = np.zeros((5, 5), dtype=bool), np.eye(5, k=1, dtype=bool)
    ahead = scout.Scout(evidence.nearby(empty), empty, None)
    before = ahead.state.score
    ahead.follow(chain)
    np.testing.assert_array_equal(ahead.state.graph, chain)
    expected = evidence.nearby(chain)
    assert ahead.state.score == pytest.approx(sum(expected.score(i, chain[:, i]) for i in range(5)), abs=1e-9)
    n_requests = ahead.state.table.n_requests
    ahead.state.become(empty)
    assert ahead.state.score == pytest.approx(sum(expected.score(i, empty[:, i]) for i in range(5)), abs=1e-9)
    assert ahead.state.score != before or ahead.state.table.n_requests > n_requests
    assert ahead.state.table.n_requests == n_requests + 4  # the first variable has had its parents all along


def test_a_perturbation_that_adds_too_many_edges_is_given_up_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_search, "MAX_MORE_EDGES", -100)
    there = GraphState(GaussianScores(linear_gaussian(9, 300, seed=3)[1], 300))
    climb(there, rng=np.random.default_rng(0), budget=Budget())
    there.clear_log()
    before, score = there.graph.copy(), there.score
    effort = search(there, rng=np.random.default_rng(0), budget=Budget(), max_failures=200)
    np.testing.assert_array_equal(there.graph, before)
    assert there.score == score
    assert effort == (1 + local_search.MIN_PERTURBATIONS, 0.0)


# --- sampling -----------------------------------------------------------------------------------------------------------------


def barker(log_ratio: float) -> float:
    return 1.0 / (1.0 + np.exp(-log_ratio))


def empty_rates(d: int) -> Rates:
    return Rates(np.empty((d, d)), np.empty(d), np.empty(d * (d - 1) // 2))


def test_jumps_are_chosen_by_their_rates() -> None:
    scores = TableScores(3, 2.0, seed=3)
    n = 2000
    for graph in all_dags(3):
        there, rates = state_at(scores, graph), empty_rates(3)
        there.arrays.stale[:] = state.NEW_GAINS
        expected = {move: barker(total(scores, changed) - total(scores, graph)) for move, changed in legal_moves(graph).items()}
        total_rate = weigh(there.arrays, there.table.rows, rates)
        assert total_rate == pytest.approx(sum(expected.values()), rel=1e-12)
        chosen = [Move(*choose(there.arrays, rates, total_rate * (k + 0.5) / n)) for k in range(n)]
        assert set(chosen) <= set(expected)
        for move, value in expected.items():
            # Each jump owns one stretch of the unit interval, which a grid measures to one of its points.
            assert chosen.count(move) / n == pytest.approx(value / total_rate, abs=1.001 / n)


def test_the_posterior_over_all_dags_is_invariant() -> None:
    scores, dags = TableScores(3, 2.0, seed=4), all_dags(3)
    place = {graph.tobytes(): k for k, graph in enumerate(dags)}
    Q = np.zeros((len(dags), len(dags)))
    for x, graph in enumerate(dags):
        there, rates = state_at(scores, graph), empty_rates(3)
        there.arrays.stale[:] = state.NEW_GAINS
        weigh(there.arrays, there.table.rows, rates)
        edges = there.arrays.edges[: there.arrays.counts[state.N_EDGES]].tolist()
        for move, changed in legal_moves(graph).items():
            edge = [move.source, move.target]
            value = rates.reversal[edges.index(edge)] if move.reverses else rates.toggle[move.target, move.source]
            Q[x, place[changed.tobytes()]] = value
    flow = posterior(scores, dags)[:, None] * Q
    np.testing.assert_allclose(flow, flow.T, atol=1e-13)
    assert (np.linalg.matrix_power(Q + np.eye(len(dags)), len(dags)) > 0).all()  # every DAG leads to every other


def test_rates_kept_from_graph_to_graph_are_those_computed_anew() -> None:
    scores, rng = TableScores(6, 1.0, seed=2), np.random.default_rng(0)
    there, kept = GraphState(scores), empty_rates(6)
    for _ in range(50):
        moves = list(legal_moves(there.graph))
        apply(there, moves[rng.integers(len(moves))])
        there.run(settle)
        total_rate = weigh(there.arrays, there.table.rows, kept)
        expected = sum(barker(total(scores, g) - there.score) for g in legal_moves(there.graph).values())
        assert total_rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("d", "seed"), [(3, 0), (3, 1), (4, 2)])
def test_samples_follow_the_posterior_over_all_dags(d: int, seed: int) -> None:
    scores, dags = TableScores(d, 2.0, seed), all_dags(d)
    n = 3000
    found = sample_graphs(scores, rng=np.random.default_rng(seed), n_samples=n, tolerance=1e-9, max_jumps=30_000)
    exact = posterior(scores, dags)
    distance = 0.5 * np.abs(frequencies(found.graph_samples, dags) - exact).sum()
    # Ten jumps a sample make samples nearly independent: allow for a quarter of them being so.
    assert distance < expected_variation(exact, n // 4)


def test_holding_times_weigh_graphs_by_their_posterior() -> None:
    scores, dags = TableScores(3, 2.0, seed=6), all_dags(3)
    process = JumpProcess(GraphState(scores))
    assert process.advance(30_000, rng=np.random.default_rng(0), budget=Budget())
    path = process.path()
    met = path.graphs(np.arange(len(path.holding)))
    place = {graph.tobytes(): k for k, graph in enumerate(dags)}
    share = np.bincount([place[g.tobytes()] for g in met], weights=path.holding, minlength=len(dags)) / path.holding.sum()
    exact = posterior(scores, dags)
    assert 0.5 * np.abs(share - exact).sum() < expected_variation(exact, len(met) // 40)
    np.testing.assert_allclose(path.scores[:500], [total(scores, graph) for graph in met[:500]])
    assert all((a != b).sum() <= 2 for a, b in itertools.pairwise(met))


def test_errors_of_a_path_are_those_of_means_over_its_batches() -> None:
    rng, n = np.random.default_rng(0), 500
    process = JumpProcess(GraphState(TableScores(4, 1.0, seed=1)))
    process.advance(n, rng=rng, budget=Budget())
    path = process.path()
    times, met = np.concatenate([[0.0], np.cumsum(path.holding)]), path.graphs(np.arange(n)).astype(float)
    bounds = np.linspace(0.1 * times[-1], times[-1], jump_process.N_BATCHES + 1)
    means = [
        np.einsum("n,nij->ij", np.clip(np.minimum(times[1:], high) - np.maximum(times[:-1], low), 0.0, None), met)
        / (high - low)
        for low, high in itertools.pairwise(bounds)
    ]
    expected = np.zeros((4, 4))
    for n_batches in (5, 10, 20):
        longer = np.reshape(means, (n_batches, -1, 4, 4)).mean(axis=1)
        expected = np.maximum(expected, longer.std(axis=0, ddof=1) / np.sqrt(n_batches))
    np.testing.assert_allclose(standard_errors([path], 0.1), expected[~np.eye(4, dtype=bool)], atol=1e-12)


def test_paths_that_stay_in_different_modes_have_the_error_of_their_disagreement() -> None:
    apart = GaussianScores(np.array([[1.0, 0.9], [0.9, 1.0]]), 1000)
    paths = []
    for forward in (True, True, True, False):
        process = JumpProcess(state_at(apart, np.array([[False, forward], [not forward, False]])))
        process.advance(1, rng=np.random.default_rng(0), budget=Budget())
        paths.append(process.path())
    np.testing.assert_allclose(standard_errors(paths, 0.0), np.std([1.0, 1.0, 1.0, 0.0], ddof=1) / 2)


def exchanges_between(there: RememberingState, chosen: BoolArray) -> exchanges.Exchanges:
    for one, other in itertools.pairwise(chosen):
        there.become(one)
        there.run(settle)
        there.at(other)
    return there.exchanges()


@pytest.mark.parametrize("seed", [0, 1])
def test_exchanges_leave_the_posterior_over_all_dags_as_it_is(seed: int) -> None:
    rng, dags = np.random.default_rng(seed), all_dags(4)
    scores = TableScores(4, 1.5, seed)
    there = RememberingState(scores)
    sets = exchanges_between(there, dags[rng.permutation(len(dags))[:60]])
    assert len(sets.bounds) > 15
    process = JumpProcess(there.at(dags[0]), sets)
    n = 40_000
    process.advance(n, rng=rng, budget=Budget())
    path = process.path()
    met = path.graphs(np.arange(n))
    assert max((a != b).sum() for a, b in itertools.pairwise(met[:2000])) > 2
    place = {graph.tobytes(): k for k, graph in enumerate(dags)}
    share = np.bincount([place[g.tobytes()] for g in met], weights=path.holding, minlength=len(dags)) / path.holding.sum()
    exact = posterior(scores, dags)
    # As above: forty events count for an independent draw.
    assert 0.5 * np.abs(share - exact).sum() < expected_variation(exact, n // 40)


def test_what_sets_two_likely_graphs_apart_is_kept_once_and_not_if_a_jump_does_it() -> None:
    a, b, edge = np.zeros((3, 4, 4), dtype=bool)
    a[0, 1] = a[2, 3] = b[1, 0] = b[3, 2] = edge[0, 1] = True
    sets = exchanges_between(RememberingState(TableScores(4)), np.array([a, b, a, b]))
    assert sets.bounds.tolist() == [0, 2, 6]  # a and no edges, a and b
    sides = [set(map(tuple, sets.edges[2:][sets.present[2:] == side].tolist())) for side in (True, False)]
    assert {(0, 1), (2, 3)} in sides
    assert {(1, 0), (3, 2)} in sides
    assert len(exchanges_between(RememberingState(TableScores(4)), np.array([edge, edge.T])).bounds) == 1
    far = TableScores(4)
    far.table[0, np.array([False, True, False, False]).tobytes()] = -2 * exchanges.MAX_LOSS
    assert exchanges_between(RememberingState(far), np.array([a, b])).bounds.tolist() == [0, 2]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equivalent_and_nearly_tied_graphs_get_their_share_in_one_run(seed: int) -> None:
    # Without interventions: two classes of graphs seven nats deep apart tie for seed 1.
    observed = metacadi_oracle.draw_observed(4, 10, 50, 50, 0, seed)
    expected = metacadi_oracle.mean_field_posterior(observed, Priors()).edges
    for run in range(3):
        found = sample_graphs(Evidence(observed, Priors()), rng=np.random.default_rng(run))
        # Frequencies are known to .05 where sampling stops: four standard errors.
        assert np.abs(found.graph_samples.mean(axis=0) - expected).max() < 4 * 0.05


@pytest.mark.parametrize("seed", [2, 3, 5])
def test_two_runs_agree_where_few_samples_leave_many_modes(seed: int) -> None:
    observed = metacadi_oracle.draw_observed(10, 10, 4, 0, 2, seed)
    runs = [sample_graphs(Evidence(observed, Priors()), rng=np.random.default_rng(run)) for run in range(2)]
    assert runs[0].best_score == pytest.approx(runs[1].best_score)
    # Four standard errors of a difference of frequencies known to .05.
    frequency = [run.graph_samples.mean(axis=0) for run in runs]
    assert np.abs(frequency[0] - frequency[1]).max() < 4 * np.sqrt(2) * 0.05


def test_the_stated_error_is_about_that_of_repeated_runs() -> None:
    _, covariance = linear_gaussian(6, 40, seed=1, strength=(0.2, 0.8))
    scores = GaussianScores(covariance, 40)
    runs, errors = [], []
    for seed in range(20):
        found = sample_graphs(scores, rng=np.random.default_rng(seed), n_samples=1000, tolerance=0.08)
        runs.append(found.graph_samples.mean(axis=0))
        errors.append(found.diagnostics.error)
    assert max(errors) <= 0.08
    # The worst edge of thirty, with standard deviations known to a sixth: its error may be half as large again.
    assert 0.02 < np.std(runs, axis=0, ddof=1).max() < 0.12


def test_a_clear_posterior_takes_fewer_jumps_than_an_ambiguous_one() -> None:
    clear, ambiguous = (GaussianScores(linear_gaussian(8, n, seed=1, strength=(0.2, 0.8))[1], n) for n in (100_000, 40))
    n_jumps = [sample_graphs(s, rng=np.random.default_rng(0)).diagnostics.n_jumps for s in (clear, ambiguous)]
    assert n_jumps[0] < n_jumps[1]


def test_constant_scores_give_all_dags_alike() -> None:
    n = 4000
    found = sample_graphs(TableScores(3), rng=np.random.default_rng(0), n_samples=n, tolerance=1e-9, max_jumps=40_000)
    frequency = frequencies(found.graph_samples, all_dags(3))
    assert len(frequency) == 25
    # Four standard errors of independent draws, of which samples ten jumps apart are worth at least a half.
    np.testing.assert_allclose(frequency, 1 / 25, atol=4 * np.sqrt(1 / 25 / (n / 2)))


def test_relabelling_the_variables_relabels_the_distribution_of_samples() -> None:
    scores, order, n = TableScores(4, 1.5, seed=7), np.array([2, 0, 3, 1]), 2000
    plain = sample_graphs(scores, rng=np.random.default_rng(0), n_samples=n, tolerance=0.02)
    relabelled = sample_graphs(Relabelled(scores, order), rng=np.random.default_rng(1), n_samples=n, tolerance=0.02)
    expected = plain.graph_samples.mean(axis=0)[np.ix_(order, order)]
    # Four standard errors of a difference of two frequencies known to .02.
    np.testing.assert_allclose(relabelled.graph_samples.mean(axis=0), expected, atol=4 * np.sqrt(2) * 0.02)


def test_tied_directions_are_chosen_by_the_generator_and_not_by_the_labels() -> None:
    scores = GaussianScores(np.array([[1.0, 0.8], [0.8, 1.0]]), 100)
    n_forward = 0
    for seed in range(40):
        there = GraphState(scores)
        search(there, rng=np.random.default_rng(seed), budget=Budget(), max_failures=0)
        n_forward += bool(there.graph[0, 1])
    assert 8 <= n_forward <= 32  # 40 fair coins, with a chance of 1e-4 to leave the range


def test_two_runs_agree_on_the_edges_of_an_ambiguous_problem() -> None:
    _, covariance = linear_gaussian(10, 60, seed=1, strength=(0.2, 0.8))
    scores = GaussianScores(covariance, 60)
    runs = [sample_graphs(scores, rng=np.random.default_rng(seed)).graph_samples.mean(axis=0) for seed in (0, 1)]
    # Sampling stops where every frequency is known to .05: four standard errors of a difference, .28.
    assert np.abs(runs[0] - runs[1]).max() < 4 * np.sqrt(2) * 0.05
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
    found = sample_graphs(scores, rng=np.random.default_rng(0), n_samples=50)
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

    class Nth(Budget):
        """Expires when it is asked for the n-th time."""

        def __init__(self, n: int) -> None:
            super().__init__()
            self.n_left = n

        @property
        def expired(self) -> bool:
            self.n_left -= 1
            return self.n_left < 0

    undisturbed = sample_graphs(scores, rng=np.random.default_rng(0), n_samples=10)
    assert not undisturbed.cut_short
    reached = []
    for n in (1, 10, 20, 40, 100, 200, 400):
        found = sample_graphs(scores, rng=np.random.default_rng(0), budget=Nth(n), n_samples=10)
        assert found.cut_short
        assert graphs.are_acyclic(found.graph_samples).all()
        assert found.best_score == pytest.approx(total(scores, found.best))
        reached.append(found.best_score)
    assert reached == sorted(reached)
    assert total(scores, np.zeros((20, 20), dtype=bool)) < reached[0] < reached[-1] <= undisturbed.best_score


def test_progress_goes_from_the_search_to_the_end_of_sampling() -> None:
    reports: list[tuple[float, str]] = []
    _, covariance = linear_gaussian(10, 60, seed=1, strength=(0.2, 0.8))
    budget = Budget(progress=lambda fraction, note: reports.append((fraction, note)))
    sample_graphs(GaussianScores(covariance, 60), rng=np.random.default_rng(0), budget=budget)
    notes = [note for _, note in reports]
    assert notes == sorted(notes, reverse=True)  # searching, then sampling
    assert 0.0 < reports[0][0] < 0.5
    assert reports[-1] == (1.0, "sampling graphs")


def test_a_lone_variable_has_one_graph() -> None:
    found = sample_graphs(TableScores(1), rng=np.random.default_rng(0), n_samples=3)
    np.testing.assert_array_equal(found.graph_samples, np.zeros((3, 1, 1)))


def test_scores_too_far_apart_for_floats_do_not_break_the_chain() -> None:
    scores = TableScores(3, 1e5, seed=9)
    found = sample_graphs(scores, rng=np.random.default_rng(0), n_samples=5)
    assert (found.graph_samples == found.best).all()


def test_warm_up_compiles_everything_that_a_run_needs() -> None:
    warm_up()
    kernels = {
        f for module in (jump_process, local_search, rows, state) for f in vars(module).values() if hasattr(f, "signatures")
    }
    compiled = {kernel: list(kernel.signatures) for kernel in kernels}
    # Python calls these; what they call is compiled within them.
    entries = [local_search._climb, local_search._choose_parents, jump_process._jump, jump_process._replay]
    entries += [jump_process._batch_shares, state.settle, state.undo, state.toggle_all, rows._enter]
    assert all(compiled[kernel] for kernel in entries)
    _, covariance = linear_gaussian(10, 60, seed=1, strength=(0.2, 0.8))
    sample_graphs(GaussianScores(covariance, 60), rng=np.random.default_rng(0), n_samples=5)
    assert {kernel: list(kernel.signatures) for kernel in kernels} == compiled


def test_warm_up_compiles_what_many_variables_need_on_few() -> None:
    """Screened rows and a scout, which a small warm-up would never meet by itself."""
    few, many = (MixtureEvidence([Evidence(two_environments(d), Priors())]) for d in (3, search_package.MIN_SCREENED))
    warm_up(few)
    kernels = {f for module in (kernel, local_search, rows, state) for f in vars(module).values() if hasattr(f, "signatures")}
    compiled = {kernel: list(kernel.signatures) for kernel in kernels}
    sample_graphs(many, rng=np.random.default_rng(0), n_samples=5, max_jumps=20)
    assert {kernel: list(kernel.signatures) for kernel in kernels} == compiled


@pytest.mark.parametrize("setting", [{"n_samples": 0}, {"max_jumps": 0}, {"tolerance": 0.0}, {"tolerance": np.nan}])
def test_wrong_settings_are_named(setting: dict[str, float]) -> None:
    name, value = next(iter(setting.items()))
    with pytest.raises(InputError, match=f"{name} must be positive, got {value}"):
        sample_graphs(TableScores(3), rng=np.random.default_rng(0), **setting)
