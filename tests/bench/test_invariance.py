"""The reference of a test of invariance, and Holm's procedure as one threshold."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from bench.gaussian import InvarianceTest, merge, moments
from bench.invariance import Consensus, Reference, holm_evidence, invariance_of
from bench.types import Environment, Observed


def test_consensus_is_not_misled_by_targets_in_a_minority_of_environments():
    """Three of eight environments hit the same variable, each in another way; comparing each with all others would not do."""
    rng = np.random.default_rng(1)
    samples = [rng.normal(size=(80, 1)) for _ in range(8)]
    samples[2] += 4
    samples[5] *= 4
    samples[6] -= 3
    environments = [moments(X) for X in samples]
    assert np.flatnonzero(Consensus(environments, alpha=1e-3).variants(0, [])).tolist() == [2, 5, 6]
    rests = [merge(environments[f] for f in range(8) if f != e) for e in range(8)]
    assert (InvarianceTest(rests, environments).p_values(0, []) < 1e-3).sum() > 3


def test_consensus_does_not_depend_on_the_order_of_environments():
    rng = np.random.default_rng(3)
    environments = [moments(rng.normal(size=(30, 2)) + rng.choice([0, 0, 1], size=2)) for _ in range(9)]
    order = rng.permutation(9)
    plain = Consensus(environments, alpha=0.05).variants(0, [1])
    permuted = Consensus([environments[e] for e in order], alpha=0.05).variants(0, [1])
    assert plain.any()
    assert (permuted == plain[order]).all()


@pytest.mark.parametrize(
    ("sizes", "expected"), [((40, 40), [True, True]), ((40, 90), [True, False]), ((90, 40), [False, True])]
)
def test_of_two_environments_that_differ_the_larger_is_the_reference(sizes, expected):
    rng = np.random.default_rng(0)
    environments = [moments(rng.normal(size=(n, 1)) + 5 * e) for e, n in enumerate(sizes)]
    assert Consensus(environments, alpha=1e-3).variants(0, []).tolist() == expected


def test_observational_environments_are_the_reference_of_all_others():
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(n, 2)) + shift for n, shift in ((30, 0), (40, 0), (50, 2), (20, 0))]
    known = [True, None, False, True]
    observed = Observed(tuple(Environment(X, k) for X, k in zip(samples, known, strict=True)))
    found, compared = invariance_of(observed, alpha=0.01)
    assert isinstance(found, Reference)
    assert compared == [1, 2]
    expected = InvarianceTest(moments(np.concatenate([samples[0], samples[3]])), [moments(samples[1]), moments(samples[2])])
    np.testing.assert_allclose(found.p_values(1, [0]), expected.p_values(1, [0]), rtol=1e-9)
    assert found.variants(0, []).tolist() == [False, True]


def test_where_none_is_observational_every_environment_is_compared():
    rng = np.random.default_rng(0)
    found, compared = invariance_of(Observed(tuple(Environment(rng.normal(size=(9, 2))) for _ in range(3))), alpha=0.01)
    assert isinstance(found, Consensus)
    assert compared == [0, 1, 2]


def holm_step_down(p_values: np.ndarray, alpha: float) -> np.ndarray:
    """Holm (1979) as written: test the smallest at alpha / m, the next at alpha / (m - 1), stop at the first that fails."""
    rejected = np.zeros(p_values.shape, dtype=bool)
    for left, index in zip(range(p_values.size, 0, -1), p_values.argsort(), strict=True):
        if p_values[index] >= alpha / left:
            break
        rejected[index] = True
    return rejected


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_the_threshold_on_raw_p_values_is_holms_procedure(alpha: float) -> None:
    rng = np.random.default_rng(0)
    for k in range(200):
        p_values = rng.uniform(size=(3, 5)) ** rng.integers(1, 8)
        rejected = holm_step_down(p_values.ravel(), alpha)
        np.testing.assert_array_equal(holm_evidence(p_values, alpha) > 0, rejected.reshape(3, 5).any(axis=0))
        if k == 0:
            np.testing.assert_array_equal(rejected, multipletests(p_values.ravel(), alpha, method="holm")[0])


def test_undefined_tests_do_not_count() -> None:
    p_values = np.array([[0.02, 0.9], [np.nan, np.nan]])
    assert holm_evidence(p_values, alpha=0.05).tolist() == holm_evidence(p_values[:1], alpha=0.05).tolist()
    assert (holm_evidence(p_values, alpha=0.05) > 0).tolist() == [True, False]


def test_evidence_ranks_by_p_value_down_to_the_smallest_double() -> None:
    p_values = np.array([[1e-300, 1e-299, 1e-200, 1e-20, 0.04, 0.4, 0.9]])
    evidence = holm_evidence(p_values, alpha=0.05)
    probability = 0.5 + 0.5 * evidence / (1 + np.abs(evidence))
    assert (np.diff(probability) < 0).all()
    assert 0 < probability.min() < probability.max() < 1
