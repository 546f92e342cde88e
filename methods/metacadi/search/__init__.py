"""From local scores to a posterior over DAGs: find the best graph, then sample around it.

Any score that decomposes over nodes will do (``LocalScores``). Not here: what a parent set is worth (``evidence``).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.errors import InputError
from bench.types import BoolArray, Budget, FloatArray
from methods.metacadi.evidence import LocalScores
from methods.metacadi.search import local_search
from methods.metacadi.search.structure_mcmc import TemperedChains

STEPS_BETWEEN_SWAPS = 10

LADDER = (1.0, 1.2, 1.5)
"""Doubles the effective samples a step at ten variables. Wider ladders hardly swap: 1 to 3, one in fifty, none at twenty."""

MAX_TEMPERED = 30
"""Variables; with more, swaps get rare, and the hot chains ask for most of the scores."""


@dataclass(frozen=True, slots=True, eq=False)
class GraphPosterior:
    """Samples of DAGs and the best one.

    Parameters
    ----------
    graph_samples : bool (S, d, d)
        S is the number asked for, or fewer (at least 1, the best graph) where the budget ran out.
    log_weights : float64 (S,)
        Equal: the samples are draws from the posterior.
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
    """What the search and the chains did.

    Parameters
    ----------
    n_climbs : int
    n_search_requests, n_sampling_requests : int
        Rows of scores asked for; providers memoise, so fewer were computed.
    acceptance : tuple of float
        Share of proposals accepted at each temperature, coldest first.
    swaps : tuple of float
        Share of swaps accepted between neighbouring temperatures.
    """

    n_climbs: int
    n_search_requests: int
    n_sampling_requests: int
    acceptance: tuple[float, ...]
    swaps: tuple[float, ...]


def sample_graphs(
    scores: LocalScores,
    *,
    rng: np.random.Generator,
    n_samples: int = 100,
    budget: Budget | None = None,
    max_failures: int | None = None,
    temperatures: Sequence[float] | None = None,
    burn_in: int = 500,
    thinning: int = 100,
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
        Perturbations in a row that may fail before the search stops; 4 d, at least 200, by default.
    temperatures : sequence of float, optional
        Of the parallel chains, increasing from 1; ``LADDER`` for up to ``MAX_TEMPERED`` variables by default, else 1 alone.
    burn_in, thinning : int
        Steps before the first sample and between samples. On ambiguous problems of ten and twenty variables an edge's
        autocorrelation time is 50 to 100 steps in the median and 300 at worst.

    Raises
    ------
    InputError
        If the temperatures do not increase from 1, or a count is not positive.
    """
    d = scores.n_variables
    budget = Budget() if budget is None else budget
    max_failures = max(200, 4 * d) if max_failures is None else max_failures
    if temperatures is None:
        temperatures = LADDER if d <= MAX_TEMPERED else (1.0,)
    if not temperatures or temperatures[0] != 1.0 or any(b <= a for a, b in itertools.pairwise(temperatures)):
        raise InputError(f"temperatures must increase from 1, got {tuple(temperatures)}")
    if n_samples < 1 or thinning < 1:
        raise InputError(f"n_samples and thinning must be at least 1, got {n_samples} and {thinning}")

    found, n_climbs = local_search.search(scores, rng=rng, budget=budget, max_failures=max_failures)
    best, best_score = found.graph.copy(), found.score
    chains = TemperedChains(scores, best, temperatures)
    samples: list[BoolArray] = []
    going_on = _advance(chains, burn_in, rng, budget)
    while going_on and len(samples) < n_samples:
        going_on = _advance(chains, thinning, rng, budget)
        if going_on:
            cold = chains.chains[0].state
            samples.append(cold.graph.copy())
            budget.progress(len(samples) / n_samples, "sampling graphs")
            if cold.score > best_score + local_search.TOLERANCE:
                best, best_score = cold.graph.copy(), cold.score
    graph_samples = np.array(samples or [best])
    return GraphPosterior(
        graph_samples,
        np.full(len(graph_samples), -np.log(len(graph_samples))),
        best,
        best_score,
        not going_on,
        Diagnostics(
            n_climbs,
            found.n_requests,
            sum(chain.state.n_requests for chain in chains.chains),
            tuple(chain.n_accepted / max(1, chain.n_steps) for chain in chains.chains),
            tuple(float(x) for x in chains.n_swaps / np.maximum(1, chains.n_proposed_swaps)),
        ),
    )


def _advance(chains: TemperedChains, n_steps: int, rng: np.random.Generator, budget: Budget) -> bool:
    for done in range(0, n_steps, STEPS_BETWEEN_SWAPS):
        if not chains.advance(min(STEPS_BETWEEN_SWAPS, n_steps - done), rng=rng, budget=budget):
            return False
    return True


def warm_up() -> None:
    """Compile, or load what was compiled before."""
    sample_graphs(_Constant(), rng=np.random.default_rng(0), n_samples=1, burn_in=STEPS_BETWEEN_SWAPS)


class _Constant:
    """Scores of three variables that prefer nothing."""

    n_variables = 3

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        return 0.0, np.where(np.arange(3) == i, -np.inf, 0.0)
