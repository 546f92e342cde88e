"""Scores under hidden units, and fits that need them: `make perf`. Nothing here asserts a time."""

import numpy as np
import pytest

from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
from methods.metacadi.joint import JointEvidence, JointFeatures, random_units
from methods.metacadi.model import Priors

D = 10
N_SETS = 32


def _observed(seed=0):
    problem = f"synthetic[n_variables={D},mechanism=mlp_bacadi,n_observational=500,n_environments=10,n_per_environment=50]"
    return prepare(make_problem(problem, seed=seed), seed=0).problem.observed


def _walk():
    """Parent sets of variable 0, as many as there are steps, one change apart, bool (n, d)."""
    rng, parents, steps = np.random.default_rng(0), np.zeros(D, dtype=bool), []
    for _ in range(N_SETS):
        parents = parents.copy()
        parents[rng.integers(1, D)] ^= True
        steps.append(parents)
    return np.stack(steps)


@pytest.mark.parametrize("way", ["prepared together", "one after another", "each anew"])
@pytest.mark.benchmark(group=f"single changes of {N_SETS} similar parent sets under 16 hidden units")
def test_similar_parent_sets(benchmark, way):
    """What remembering scores saves, and computing unknown ones eight at a time."""
    observed, sets = _observed(), _walk()
    features = JointFeatures(observed, random_units(D, 16, np.random.default_rng(0)))

    def evidence():
        return JointEvidence(observed, Priors(), features)

    def gains():
        remembering = evidence()
        if way == "prepared together":
            remembering.prepare(0, sets)
        return np.stack([(evidence() if way == "each anew" else remembering).toggles(0, parents)[1] for parents in sets])

    gains()  # compiles
    found = benchmark.pedantic(gains, rounds=5)
    assert found[:, 1:] == pytest.approx(np.stack([evidence().toggles(0, parents)[1] for parents in sets])[:, 1:], abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metacadi[features=linear]", "metacadi[features=random]", "metacadi", "metacadi_paper"])
@pytest.mark.benchmark(group=f"fit of networks on {D} variables")
def test_fit_of_networks(benchmark, name):
    observed, method = _observed(), make_method(name)
    method.warm_up()
    fitted = benchmark.pedantic(lambda: method.fit(observed, rng=np.random.default_rng(0)), rounds=1)
    assert fitted.estimate.edge_probability.shape == (D, D)
