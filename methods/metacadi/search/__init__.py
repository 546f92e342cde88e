"""From local scores to a posterior over DAGs: find the best graph, then sample around it.

Any score that decomposes over nodes will do (``LocalScores``). Not here: what a parent set is worth (``evidence``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.errors import InputError
from bench.types import BoolArray, Budget, FloatArray
from methods.metacadi.evidence import LocalScores
from methods.metacadi.search import local_search
from methods.metacadi.search.jump_process import JumpProcess
from methods.metacadi.search.rows import RowTable, ScreenedScores, Screening
from methods.metacadi.search.state import GraphState

MAX_JUMPS = 20_000

FIRST_JUMPS, GROWTH = 200, 1.5
"""Jumps before the first look at how well frequencies are known, and how many times more until the next one."""

MIN_SCREENED = 100
"""Variables."""

SCREENING = Screening(least_gain=-8.0, optimism=0.0, relative_optimism=0.0)
"""While graphs are sampled. An addition estimated to gain less is jumped to at the rate of its estimate, below exp(-8)."""

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
        Equal: the samples stand at even distances in the time of the jump process.
    best : bool (d, d)
        The DAG of highest score of all that were met.
    best_score : float
    cut_short : bool
    diagnostics : Diagnostics
    """

    graph_samples: BoolArray
    log_weights: FloatArray
    best: BoolArray
    best_score: float
    cut_short: bool
    diagnostics: Diagnostics


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
        Of the process, in units of the inverse rate of a jump between graphs far apart in score.
    error : float
        Largest standard error of an edge's frequency; NaN where nothing was sampled.
    """

    n_climbs: int
    n_search_requests: int
    n_sampling_requests: int
    n_jumps: int
    time: float
    error: float


def sample_graphs(
    scores: LocalScores,
    *,
    rng: np.random.Generator,
    n_samples: int = 100,
    budget: Budget | None = None,
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
    max_failures : int, optional
        Perturbations in a row that may fail before the search stops; 4 d, at least 200, by default. It stops earlier where most
        lead back to the same graph.
    tolerance : float, optional
        Standard error of the frequency of every edge at which sampling stops; by default .5 / sqrt(n_samples), the worst of
        as many independent draws. It is estimated from the path, which knows nothing of a mode that it never met.
    max_jumps : int, optional
        At which sampling stops in any case; 20,000 by default, above 100 variables fewer in inverse proportion.
    screening : bool
        From ``MIN_SCREENED`` variables on compute exactly what may count, and estimate the other gains, if ``scores`` are
        ``ScreenedScores``.

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
    max_failures = max(200, 4 * scores.n_variables) if max_failures is None else max_failures
    screened = screening and isinstance(scores, ScreenedScores) and scores.n_variables >= MIN_SCREENED
    state = GraphState(scores, local_search.SCREENING if screened else None)
    n_climbs = local_search.search(state, rng=rng, budget=budget, max_failures=max_failures)
    best, best_score = state.graph.copy(), state.score
    n_search_requests = state.table.n_requests
    if screened:
        state.consult(RowTable(scores, SCREENING))

    process, error = JumpProcess(state), np.inf
    going_on = not budget.expired
    while going_on and error > tolerance and process.n_jumps < max_jumps:
        n = min(max(FIRST_JUMPS, int((GROWTH - 1.0) * process.n_jumps)), max_jumps - process.n_jumps)
        going_on = process.advance(n, rng=rng, budget=budget)
        if process.n_jumps:
            path = process.path()
            error = float(path.errors(BURN_IN).max(initial=0.0))
            budget.progress(0.5 + 0.5 * min(1.0, (tolerance / max(error, 1e-9)) ** 2), "sampling graphs")
    if not process.n_jumps:
        graph_samples, time, error = best[None], 0.0, np.nan
    else:
        shares = BURN_IN + (1.0 - BURN_IN) * (np.arange(n_samples) + rng.random()) / n_samples
        graph_samples, time = path.graphs_at(shares), float(path.holding.sum())
        k = int(path.scores.argmax())
        if path.scores[k] > best_score + local_search.TOLERANCE:
            state.become(path.graphs(np.array([k]))[0])
            local_search.climb(state, rng=rng, budget=budget)
            best, best_score = state.graph.copy(), state.score
    n_sampling_requests = state.table.n_requests - (0 if screened else n_search_requests)
    return GraphPosterior(
        graph_samples,
        np.full(len(graph_samples), -np.log(len(graph_samples))),
        best,
        best_score,
        not going_on,
        Diagnostics(n_climbs, n_search_requests, n_sampling_requests, process.n_jumps, time, error),
    )


def warm_up() -> None:
    """Compile, or load what was compiled before."""
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
