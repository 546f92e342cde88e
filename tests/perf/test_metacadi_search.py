"""How the time and memory of a fit of MetaCaDI grow, beside UT-IGSP: `make perf`. Nothing here asserts a time."""

import subprocess
import sys
import time

import numpy as np
import pytest

from bench.preprocessing import prepare
from bench.registry import make_method, make_problem

SIZES = (25, 50, 100)
PROBLEM = (
    "synthetic[n_variables={d},edges_per_node=1,n_observational=500,n_environments={e},n_per_environment={n},n_targets=[1,3]]"
)


def _fit(name, d, e=40, n=50):
    """A fit to call again and again, and the method."""
    observed = prepare(make_problem(PROBLEM.format(d=d, e=e, n=n), seed=d), seed=0).problem.observed
    method = make_method(name)
    method.warm_up()
    return lambda: method.fit(observed, rng=np.random.default_rng(0))


@pytest.mark.parametrize("d", [20, pytest.param(50, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.benchmark(group="fit of linear mechanisms, 40 environments (ratio to UT-IGSP in extra_info)")
def test_fit_beside_ut_igsp(benchmark, d):
    """Three fits of each in turn on the same problem; the ratio of the fastest."""
    fits = {name: _fit(name, d) for name in ("metacadi[features=linear]", "ut_igsp")}
    seconds = {name: [] for name in fits}
    for _ in range(3):
        for name, fit in fits.items():
            start = time.perf_counter()
            fit()
            seconds[name].append(time.perf_counter() - start)
    ours, theirs = (min(seconds[name]) for name in fits)
    benchmark.extra_info["ratio to UT-IGSP"] = ours / theirs
    print(f"\nfit of {d} variables: {ours:.3f} s, UT-IGSP {theirs:.3f} s, ratio {ours / theirs:.2f}")
    fitted = benchmark.pedantic(fits["metacadi[features=linear]"], rounds=1)
    assert fitted.estimate.edge_probability.shape == (d, d)


@pytest.mark.slow
@pytest.mark.benchmark(group="fit, by variables (growth exponent in extra_info)")
def test_fit_by_variables(benchmark):
    seconds = []
    for d in SIZES:
        fit = _fit("metacadi[features=linear]", d)
        fit()
        start = time.perf_counter()
        fit()
        seconds.append(time.perf_counter() - start)
    benchmark.extra_info["seconds"] = dict(zip(map(str, SIZES), seconds, strict=True))
    exponent = float(np.polyfit(np.log(SIZES), np.log(seconds), 1)[0])
    benchmark.extra_info["growth exponent"] = exponent
    print(f"\nseconds of a fit at d = {SIZES}: {np.round(seconds, 3)}, growth exponent {exponent:.2f}")
    fitted = benchmark.pedantic(fit, rounds=1)
    assert fitted.estimate.edge_probability.shape == (SIZES[-1], SIZES[-1])


@pytest.mark.parametrize("e", [10, 40, 160])
@pytest.mark.benchmark(group="fit of 20 variables, by environments")
def test_fit_by_environments(benchmark, e):
    fitted = benchmark.pedantic(_fit("metacadi[features=linear]", 20, e=e), rounds=3)
    assert fitted.estimate.target_probability.shape == (e + 1, 20)


@pytest.mark.parametrize("n", [20, 200, 2000])
@pytest.mark.benchmark(group="fit of 20 variables, by samples of an environment")
def test_fit_by_samples(benchmark, n):
    assert benchmark.pedantic(_fit("metacadi[features=linear]", 20, n=n), rounds=3).estimate.edge_probability.shape == (20, 20)


@pytest.mark.parametrize("d", [20, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.benchmark(group="memory of a fit (in extra_info)")
def test_peak_memory(benchmark, d):
    # In a process of its own, since what compiled code holds and what others held before would not be told apart.
    program = f"""
import resource
import numpy as np
from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
observed = prepare(make_problem({PROBLEM.format(d=d, e=40, n=50)!r}, seed=0), seed=0).problem.observed
method = make_method("metacadi[features=linear]")
method.warm_up()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
method.fit(observed, rng=np.random.default_rng(0))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""

    def run():
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)

    megabytes = float(benchmark.pedantic(run, rounds=1).stdout)
    benchmark.extra_info["megabytes above the start"] = megabytes
    print(f"\nmegabytes that a fit of {d} variables adds: {megabytes:.1f}")
    assert 0.0 <= megabytes < 500.0  # rows alone are limited to 512
