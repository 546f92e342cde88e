"""Many variables: what is estimated or left out must not show in the answer, and memory stays in bounds."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from bench import registry
from bench.types import Environment, Observed
from methods.metacadi.evidence import Evidence, MixtureEvidence
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.model import Priors
from methods.metacadi.scaling import Scaling
from methods.metacadi.search import sample_graphs


def linear_problem(n_variables, edges_per_node=1, seed=1000):
    return registry.make_problem(
        "synthetic",
        seed=seed,
        n_variables=n_variables,
        edges_per_node=edges_per_node,
        mechanism="linear",
        n_observational=500,
        n_environments=40,
        n_per_environment=50,
        n_targets=(1, 3),
        interventions="mixture",
    )


def evidence_of(problem):
    scaling = Scaling.of(problem.observed)
    environments = tuple(scaling.of_environment(e) for e in problem.observed.environments)
    return MixtureEvidence([Evidence(Observed(environments), Priors())])


def structural_distance(one, other):
    different = one != other
    return int((different | different.T).sum()) // 2


@pytest.fixture(scope="module")
def hundred():
    problem = linear_problem(100)
    return problem, evidence_of(problem)


def test_estimates_are_the_gains_of_legal_additions_where_it_matters(hundred):
    """At the true graph, of additions that gain at least -8 nats or are estimated to.

    Of those that gain, the search misses what is estimated more than 6 nats and a fifth too low: one, of a nat, when measured.
    """
    problem, evidence = hundred
    graph = problem.truth.adjacency.astype(bool)
    reaches = np.linalg.matrix_power(np.eye(100) + graph, 100) > 0
    errors, n_missed = [], 0
    for i in range(100):
        parents = graph[:, i].copy()
        _, gains = evidence.toggles(i, parents)
        estimates = evidence.estimated_gains(i, parents)
        counts = ~parents & ~reaches[i] & (np.maximum(gains, estimates) > -8.0)
        gains, estimates = gains[counts], estimates[counts]
        errors.append(gains - estimates)
        n_missed += ((gains > 0.0) & (errors[-1] > 6.0 + 0.2 * np.abs(estimates))).sum()
    errors = np.concatenate(errors)
    assert len(errors) > 100
    assert n_missed <= 2
    assert np.median(np.abs(errors)) < 0.5


def test_estimates_are_exact_where_no_environment_may_be_a_target():
    """Then nothing is estimated but rounding: to 1e-8."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))
    X[:, 3] += X[:, 1] - X[:, 4]
    evidence = Evidence(Observed((Environment(X, is_observational=True),)), Priors())
    parents = np.isin(np.arange(6), [1, 5])
    _, gains = evidence.toggles(3, parents)
    estimates = evidence.estimated_gains(3, parents)
    additions = np.isin(np.arange(6), [0, 2, 4])
    np.testing.assert_allclose(estimates[additions], gains[additions], rtol=0, atol=1e-8)
    assert (estimates[~additions] == -np.inf).all()


@pytest.mark.slow
def test_a_hundred_variables_are_found_with_and_without_screening(hundred):
    """At most 5 of about 100 edges wrong, 2 were; the screened score at most 1 nat below: another optimum close by."""
    problem, evidence = hundred
    found = {
        screening: sample_graphs(evidence, rng=np.random.default_rng(0), n_samples=20, screening=screening, max_jumps=500)
        for screening in (True, False)
    }
    assert found[True].best_score >= found[False].best_score - 1.0
    for posterior in found.values():
        assert structural_distance(posterior.best, problem.truth.adjacency.astype(bool)) <= 5


def test_gram_matrices_take_half_of_all_pairs_and_little_beside_while_they_are_made():
    """Of 300 variables in 100 environments: 8 bytes a pair and environment, and at most 160 MB on the way."""
    rng = np.random.default_rng(0)
    environments = [Environment(rng.normal(size=(5, 300))) for _ in range(100)]
    tracemalloc.start()
    statistics = Statistics.of(environments, Basis(300))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = 8 * 100 * 301 * 302 // 2
    assert statistics.paired_gram.nbytes == size
    assert peak < size + 160e6


def test_gram_matrices_are_those_of_each_environment_also_in_blocks(monkeypatch):
    monkeypatch.setattr("methods.metacadi.features._BYTES_AT_ONCE", 8 * 4 * 10)
    rng = np.random.default_rng(0)
    environments = [Environment(rng.normal(size=(n, 3))) for n in range(2, 13)]
    statistics = Statistics.of(environments, Basis(3))
    assert statistics.paired_gram.shape == (10, 12)
    for gram, environment in zip(statistics.regression(1, np.array([2, 0])), environments, strict=True):
        columns = np.column_stack([np.ones(len(environment.X)), environment.X[:, [2, 0, 1]]])
        np.testing.assert_allclose(gram, columns.T @ columns, rtol=1e-12)
