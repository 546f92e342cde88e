"""Speed, measured and printed as ratios inside one run: `make perf`. Nothing here asserts a time.

In the ordinary tests each runs once, so that it cannot rot.
"""

import numpy as np
import pytest

from bench import metrics
from bench.isolation import Worker
from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
from bench.types import Estimate, Result

SIZES = (10, 20, 50)


def _problem(d):
    return make_problem(f"synthetic[n_variables={d},edges_per_node=1.5,n_per_environment=[50,100],n_targets=[1,2]]", seed=d)


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("name", ["ut_igsp", "jci_pc", "marginal", "var_sort_regress"])
@pytest.mark.benchmark(group="fit, by variables")
def test_fit(benchmark, name, d):
    observed = prepare(_problem(d), seed=0).problem.observed
    method = make_method(name)
    method.warm_up()
    fitted = benchmark(lambda: method.fit(observed, rng=np.random.default_rng(0)))
    assert fitted.estimate.edge_probability.shape == (d, d)


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.benchmark(group="drawing a problem")
def test_draw(benchmark, d):
    assert benchmark(lambda: _problem(d)).observed.n_variables == d


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.benchmark(group="scoring a result with 100 graph samples")
def test_score(benchmark, d):
    problem = _problem(d)
    rng = np.random.default_rng(0)
    samples = np.triu(rng.random((100, d, d)) < 3 / d, 1)
    estimate = Estimate(samples.mean(axis=0), rng.random((problem.observed.n_environments, d)), samples)
    scores = benchmark(lambda: metrics.score(problem, Result(estimate)))
    assert scores["expected_shd"] > 0


@pytest.mark.benchmark(group="a call of an isolated child")
def test_isolated_call(benchmark):
    with Worker() as worker:
        outcome = benchmark(lambda: worker.call("bench.isolation:_twice", 21))
    assert outcome.value == 42


@pytest.mark.benchmark(group="a call of an isolated child")
def test_call_with_a_fresh_child(benchmark):
    def fresh():
        with Worker() as worker:
            return worker.call("bench.isolation:_twice", 21)

    assert benchmark.pedantic(fresh, rounds=3).value == 42
