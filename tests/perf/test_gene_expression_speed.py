"""Cells per second of the gene-expression simulator, printed by `make perf`."""

import numpy as np
import pytest

from bench.random_graphs import draw_graph
from datasets.gene_expression.network import draw_network
from datasets.gene_expression.simulator import Dynamics


@pytest.mark.parametrize("d", [20, 100])
@pytest.mark.benchmark(group="200 cells of a gene regulatory network, by genes")
def test_cells_per_second(benchmark, d):
    rng = np.random.default_rng(d)
    dynamics = Dynamics.of(draw_network(draw_graph("scale_free_out", d, 2.0, rng), rng), rng)
    types = np.tile(np.arange(10), 20)
    X = benchmark(lambda: dynamics.expression(types, np.ones(d), rng))
    assert X.shape == (200, d)
    if benchmark.stats is not None:  # None where each runs once, as a test
        seconds = benchmark.stats.stats.median
        steps = 200 * d * dynamics.n_steps
        print(f"\n{d} genes: {200 / seconds:,.0f} cells per second, {steps / seconds:.2g} gene steps per second")
