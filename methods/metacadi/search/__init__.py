"""From local scores to a posterior over DAGs: find the best graph, then sample around it.

Any score that decomposes over nodes will do (``LocalScores``). Not here: what a parent set is worth (``evidence``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bench.errors import InputError
from bench.types import BoolArray, Budget, FloatArray
from methods.metacadi.evidence import LocalScores
from methods.metacadi.search import local_search
from methods.metacadi.search.exchanges import MAX_LOSS, SAME_SCORE, RememberingState
from methods.metacadi.search.jump_process import JumpProcess, Path, standard_errors
from methods.metacadi.search.rows import RowTable, ScreenedScores, Screening
from methods.metacadi.search.state import GraphState, settle

MAX_JUMPS = 20_000

FIRST_JUMPS, GROWTH = 200, 1.5
"""Jumps before the first look at how well frequencies are known, and how many times more until the next one."""

MIN_SCREENED = 40
"""Variables. With fewer, all changes of a parent set are computed in two goes, of which screening could save one."""

MAX_STARTED_ANEW = 99
"""Variables. With more, sampling does not start anew where it comes upon a better graph."""

SCREENING = Screening(least_gain=-4.0, optimism=0.0, relative_optimism=0.0)
"""While graphs are sampled. An addition estimated to gain less is jumped to at the rate of its estimate, below exp(-4)."""

N_PROCESSES = 4
"""From different optima, if there are any: where they do not agree, the posterior is not sampled yet."""

RUGGED = 1 / 3
"""Share of perturbations of the best graph that lead to another optimum, from which on searches start elsewhere as well. Among
120 problems of ten and twenty variables, five were short of the best optimum without them, all above this share, and half the
others below."""

MAX_SEARCHED_ELSEWHERE = 30
"""Variables. With fifty, a short search from elsewhere asks for half as many rows as the first and seldom gets as high."""

FURTHER_FAILURES, MAX_FURTHER_FAILED, MAX_FURTHER = 20, 4, 32
"""Perturbations in a row that may fail in each further search of a rugged problem; such searches in a row that may meet no new
optimum (with eight in place of four none of 150 draws of ten and twenty variables had a better graph); and all of them."""

BURN_IN = 0.1
"""Share of the path, in time, that is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class GraphPosterior:
    """Samples of DAGs and the best one.

    Parameters
    ----------
    graph_samples : bool (S, d, d)
        S is the number asked for, or 1 (the best graph) where the budget ran out before sampling.
    log_weights : float64 (S,)
        Equal: the samples stand at even distances in the time of the jump processes.
    best : bool (d, d)
        The DAG of highest score of all that were met.
    best_score : float
    cut_short : bool
    diagnostics : Diagnostics or None
        None where no graph was sampled.
    """

    graph_samples: BoolArray
    log_weights: FloatArray
    best: BoolArray
    best_score: float
    cut_short: bool
    diagnostics: Diagnostics | None


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What the search and the jump process did.

    Parameters
    ----------
    n_climbs : int
    n_search_requests, n_sampling_requests : int
        Rows of scores asked for.
    n_jumps : int
    time : float
        Of all processes, in units of the inverse rate of a jump between graphs far apart in score.
    error : float
        Largest standard error of an edge's frequency; NaN where nothing was sampled.
    """

    n_climbs: int
    n_search_requests: int
    n_sampling_requests: int
    n_jumps: int
    time: float
    error: float


class Searched(NamedTuple):
    """What a search leaves behind, from which sampling can go on.

    Parameters
    ----------
    state : RememberingState
    best : bool (d, d)
        DAG of highest score.
    best_score : float
    n_climbs : int
        That led there.
    screened : bool
        Are gains estimated?
    """

    state: RememberingState
    best: BoolArray
    best_score: float
    n_climbs: int
    screened: bool


def search_graphs(
    scores: LocalScores,
    *,
    rng: np.random.Generator,
    budget: Budget | None = None,
    start: BoolArray | None = None,
    max_failures: int | None = None,
    screening: bool = True,
) -> Searched:
    """Look for the DAG of highest score.

    Parameters
    ----------
    scores : LocalScores
    rng : numpy.random.Generator
    budget : Budget, optional
    start : bool (d, d), optional
        DAG from which to climb; without edges by default.
    max_failures : int, optional
        Perturbations in a row that may fail before the search stops; 4 d, at least 200, by default. It stops earlier where most
        lead back to the same graph.
    screening : bool
        From ``MIN_SCREENED`` variables on compute exactly what may count, and estimate the other gains, if ``scores`` are
        ``ScreenedScores``.
    """
    budget = Budget() if budget is None else budget
    max_failures = max(200, 4 * scores.n_variables) if max_failures is None else max_failures
    screened = screening and isinstance(scores, ScreenedScores) and scores.n_variables >= MIN_SCREENED
    state = RememberingState(scores, local_search.SCREENING if screened else None)
    if start is not None:
        state.become(start)
    n_climbs, share_elsewhere = local_search.search(state, rng=rng, budget=budget, max_failures=max_failures)
    best, best_score = state.graph.copy(), state.score
    is_few = scores.n_variables < local_search.MIN_SCOUTED
    rugged = share_elsewhere > RUGGED or (is_few and state.n_met > 1)
    if rugged and scores.n_variables <= MAX_SEARCHED_ELSEWHERE:
        n_climbs += _search_elsewhere(state, rng=rng, budget=budget)
        if state.optima and state.optima[0][0] > best_score:
            best_score, best = state.optima[0]
    return Searched(state, best, best_score, n_climbs, screened)


def sample_graphs(
    scores: LocalScores,
    *,
    rng: np.random.Generator,
    n_samples: int = 100,
    budget: Budget | None = None,
    searched: Searched | None = None,
    max_failures: int | None = None,
    tolerance: float | None = None,
    max_jumps: int | None = None,
    screening: bool = True,
) -> GraphPosterior:
    """Samples from the distribution over DAGs in proportion to exp(score), and the best DAG met.

    Parameters
    ----------
    scores : LocalScores
    rng : numpy.random.Generator
    n_samples : int
    budget : Budget, optional
        When it expires, what there is so far is returned. The empty graph's row of scores of each node is computed in any case.
    searched : Searched, optional
        By :func:`search_graphs`, under these scores; otherwise it is called.
    max_failures : int, optional
        As it takes them.
    tolerance : float, optional
        Standard error of the frequency of every edge at which sampling stops; by default .5 / sqrt(n_samples), the worst of
        as many independent draws. It is estimated from paths that start at different optima, if the search met any; of a mode
        that neither met they know nothing.
    max_jumps : int, optional
        At which sampling stops in any case; 20,000 by default, above 100 variables fewer in inverse proportion.
    screening : bool
        As it takes it.

    Raises
    ------
    InputError
        If a count or the tolerance is not positive.
    """
    tolerance = 0.5 / np.sqrt(max(1, n_samples)) if tolerance is None else tolerance
    max_jumps = MAX_JUMPS * 100 // max(100, scores.n_variables) if max_jumps is None else max_jumps
    for name, value in (("n_samples", n_samples), ("max_jumps", max_jumps), ("tolerance", tolerance)):
        if not value > 0:
            raise InputError(f"{name} must be positive, got {value}")
    budget = Budget() if budget is None else budget
    if searched is None:
        searched = search_graphs(scores, rng=rng, budget=budget, max_failures=max_failures, screening=screening)
    state, best, best_score, n_climbs, screened = searched
    small = scores.n_variables <= MAX_STARTED_ANEW
    n_search_requests = state.table.n_requests
    if screened:
        state.consult(RowTable(scores, SCREENING))

    paths: list[Path] = []
    error, n_jumps, starts_anew, going_on = np.inf, 0, True, not budget.expired
    while going_on and starts_anew:
        starts_anew, paths, n_before = False, [], n_jumps
        processes, error = _processes(state, best, best_score), np.inf
        while going_on and not starts_anew and error > tolerance and n_jumps < max_jumps:
            n = min(max(FIRST_JUMPS, int((GROWTH - 1.0) * (n_jumps - n_before))), max_jumps - n_jumps)
            for process in processes:
                going_on = going_on and process.advance(-(-n // N_PROCESSES), rng=rng, budget=budget)
            n_jumps = n_before + sum(process.n_jumps for process in processes)
            if not all(process.n_jumps for process in processes):
                break
            paths = [process.path() for process in processes]
            error = float(standard_errors(paths, BURN_IN).max(initial=0.0))
            done = max(n_jumps / max_jumps, (tolerance / max(error, 1e-9)) ** 2)
            budget.progress(0.5 + 0.5 * min(1.0, done), "sampling graphs")
            highest = max(paths, key=lambda path: path.scores.max())
            if highest.scores.max() > best_score + local_search.TOLERANCE:
                state.consult(state.table)  # which may have forgotten rows for the processes
                state.become(highest.graphs(np.array([highest.scores.argmax()]))[0])
                n_climbs += local_search.search(state, rng=rng, budget=budget, max_failures=FURTHER_FAILURES * small).n_climbs
                best, best_score = state.graph.copy(), state.score
                starts_anew = small and n_jumps < max_jumps
    if not paths:
        graph_samples, time, error = best[None], 0.0, np.nan
    else:
        places = len(paths) * (np.arange(n_samples) + rng.random()) / n_samples
        of_path = places.astype(np.int64)
        shares = BURN_IN + (1.0 - BURN_IN) * (places - of_path)
        graph_samples = np.concatenate([path.graphs_at(shares[of_path == k]) for k, path in enumerate(paths)])
        time = float(sum(path.holding.sum() for path in paths))
    n_sampling_requests = state.table.n_requests - (0 if screened else n_search_requests)
    return GraphPosterior(
        graph_samples,
        np.full(len(graph_samples), -np.log(len(graph_samples))),
        best,
        best_score,
        not going_on,
        Diagnostics(n_climbs, n_search_requests, n_sampling_requests, n_jumps, time, error),
    )


def _search_elsewhere(state: RememberingState, *, rng: np.random.Generator, budget: Budget) -> int:
    """Short searches from random graphs until several in a row meet no new optimum; the number of climbs."""
    n_climbs = n_failures = 0
    d = len(state.graph)
    for _ in range(MAX_FURTHER):
        if n_failures == MAX_FURTHER_FAILED or budget.expired:
            break
        n_met = state.n_met
        order = rng.permutation(d)
        state.become(np.triu(rng.random((d, d)) < 1.0 / d, 1)[np.ix_(order, order)])  # half an edge a node
        n_climbs += local_search.search(state, rng=rng, budget=budget, max_failures=FURTHER_FAILURES).n_climbs
        n_failures = 0 if state.n_met > n_met else n_failures + 1
    return n_climbs


def _processes(state: RememberingState, best: BoolArray, best_score: float) -> list[JumpProcess]:
    """From the best graphs of different score, which they may exchange."""
    state.become(best)
    state.run(settle)
    starts = [best, *(graph for score, graph in state.optima if best_score - MAX_LOSS < score < best_score - SAME_SCORE)]
    states = [state.at(starts[k % len(starts)]) for k in range(N_PROCESSES)]
    exchanges = state.exchanges()
    return [JumpProcess(at_start, exchanges) for at_start in states]


def warm_up(scores: LocalScores | None = None) -> None:
    """Compile, or load what was compiled before; also of scores of few variables, as many of them are searched."""
    if isinstance(scores, ScreenedScores):
        screened = GraphState(scores, local_search.SCREENING)
        local_search.search(screened, rng=np.random.default_rng(0), budget=Budget(), max_failures=1)
        nothing = np.zeros(scores.n_variables, dtype=np.bool_)
        screened.table.add(0, nothing)
        screened.table.refine(0, nothing, 1, nothing)
    scores = _Preference()
    sample_graphs(scores, rng=np.random.default_rng(0), n_samples=1, tolerance=np.inf)
    state = GraphState(scores)
    state.become(np.triu(np.ones((3, 3), dtype=np.bool_), 1))
    state.undo()


class _Preference:
    """Scores of three variables that prefer few parents."""

    n_variables = 3

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        gains = np.where(parents, 1.0, -1.0)
        gains[i] = -np.inf
        return -float(parents.sum()), gains
