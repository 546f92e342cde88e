"""The compiled local evidence beside the same formulas in batched torch: `make perf`. Nothing here asserts a time.

Both score all single toggles of one parent set, on one thread; what torch needs to begin with is prepared before the clock.
"""

import numpy as np
import pytest
import torch

from bench.torch_threads import one_thread
from bench.types import Environment, Observed
from methods.metacadi.evidence import Evidence, starts
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.model import Priors
from methods.metacadi.torch_evidence import Regressions, local_evidence, log_priors

D = 24


def _environments(n_environments):
    rng = np.random.default_rng(n_environments)
    mixing = np.eye(D) + np.triu(rng.normal(size=(D, D)) * (rng.random((D, D)) < 0.1), 1)
    return [Environment(rng.normal(size=(20, D)) @ mixing) for _ in range(n_environments)]


def _row(n_environments, n_parents):
    """The same row of scores, compiled and in torch, each a function without arguments."""
    known = Environment(np.random.default_rng(0).normal(size=(200, D)), is_observational=True)
    possible = _environments(n_environments)
    evidence, basis = Evidence(Observed((known, *possible)), Priors()), Basis(D)
    parents = np.arange(D) <= n_parents
    parents[0] = False
    sets = []
    for j in range(D):
        toggled = parents.copy()
        toggled[j] ^= j != 0
        sets.append((0, np.flatnonzero(toggled)))
    statistics = Statistics.of(possible, basis)
    regressions = Regressions.of(statistics, Statistics.of([known], basis), sets)
    first_guesses = torch.from_numpy(starts(statistics, D, with_observational=True))
    priors = log_priors(Priors())

    def compiled():
        own, gains = evidence.toggles(0, parents)
        return own + np.where(np.arange(D) == 0, 0.0, gains)

    def in_torch():
        with torch.no_grad(), one_thread():
            return local_evidence(priors, regressions, D, first_guesses)[0].numpy()

    return {"kernel": compiled, "torch": in_torch}


@pytest.mark.parametrize("n_parents", [2, 5, 8])
@pytest.mark.parametrize("n_environments", [10, 40, 200])
@pytest.mark.parametrize("code", ["kernel", "torch"])
def test_local_evidence_beside_torch(benchmark, code, n_environments, n_parents):
    benchmark.group = f"local evidence of {D} parent sets: {n_environments} environments, {n_parents} parents"
    row = _row(n_environments, n_parents)
    row["kernel"]()  # compiles
    scores = benchmark.pedantic(row[code], rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["microseconds per parent set"] = 1e6 * benchmark.stats.stats.median / D
    assert scores == pytest.approx(row["kernel"](), abs=1e-7)
