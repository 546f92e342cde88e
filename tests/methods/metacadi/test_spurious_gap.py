"""How much Markov equivalent graphs differ in score where nothing was intervened on.

With all environments known to be observational they tie. With unknown targets the alternatives break the tie: evidence of a
direction that is not in the data. It must stay small.
"""

import itertools

import numpy as np
import pytest

from bench.types import Environment, Observed
from methods.metacadi.evidence import Evidence
from methods.metacadi.model import Priors

N_DRAWS = 20


def draw(d, n_environments, n, n_observational, seed, known=False):
    """A chain without interventions, scaled by the moments of all samples; the observational environment comes first."""
    rng = np.random.default_rng(seed)
    sizes = [n_observational] * (n_observational > 0) + [n] * n_environments
    Xs = [rng.normal(size=(size, d)) for size in sizes]
    for X, j in itertools.product(Xs, range(1, d)):
        X[:, j] += X[:, j - 1]
    pooled = np.concatenate(Xs)
    first = n_observational > 0
    return Observed(
        tuple(
            Environment(
                (X - pooled.mean(axis=0)) / pooled.std(axis=0), is_observational=True if known or (k == 0 and first) else None
            )
            for k, X in enumerate(Xs)
        )
    )


def graph_score(evidence, edges, d):
    graph = np.zeros((d, d), dtype=bool)
    graph[tuple(np.array(edges).T)] = True
    return sum(evidence.score(i, graph[:, i]) for i in range(d))


@pytest.mark.parametrize(
    ("n_environments", "n", "n_observational", "median"),
    [(10, 20, 0, 0.09), (10, 20, 100, 0.10), (10, 50, 500, 0.08), (40, 50, 500, 0.36)],
)
def test_two_variables_prefer_no_direction_by_much(n_environments, n, n_observational, median):
    """Median size over 20 draws, in nats, as measured when this was written, and half as much for a margin; the mean is 0.

    The mean may differ from 0 by three of its standard errors.
    """
    found = []
    for seed in range(N_DRAWS):
        evidence = Evidence(draw(2, n_environments, n, n_observational, seed), Priors())
        found.append(graph_score(evidence, [(0, 1)], 2) - graph_score(evidence, [(1, 0)], 2))
    assert np.median(np.abs(found)) < 1.5 * median
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(N_DRAWS)


CLASSES = {
    "chain": [[(0, 1), (1, 2)], [(1, 0), (1, 2)], [(2, 1), (1, 0)]],
    "complete": [[(a, b), (a, c), (b, c)] for a, b, c in itertools.permutations(range(3))],
}


@pytest.mark.parametrize("graphs", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("sizes", [(10, 20, 0), (1, 3, 0), (40, 50, 500)])
def test_equivalent_graphs_tie_where_every_environment_is_known_to_be_observational(graphs, sizes):
    evidence = Evidence(draw(3, *sizes, seed=0, known=True), Priors())
    assert np.ptp([graph_score(evidence, edges, 3) for edges in graphs]) < 1e-9


def test_the_preferred_direction_differs_from_draw_to_draw():
    """What the gap adds is noise more than bias: each direction wins in at least a quarter of 20 draws."""
    wins = 0
    for seed in range(N_DRAWS):
        evidence = Evidence(draw(2, 10, 50, 500, seed), Priors())
        wins += graph_score(evidence, [(0, 1)], 2) > graph_score(evidence, [(1, 0)], 2)
    assert N_DRAWS / 4 <= wins <= 3 * N_DRAWS / 4
