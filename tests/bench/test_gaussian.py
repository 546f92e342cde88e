"""Sufficient statistics against the samples they stand for, tests against closed form and their nominal level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.errors import InputError
from bench.gaussian import (
    InvarianceTest,
    Moments,
    bic_local_score,
    critical_correlation,
    environment_moments,
    fisher_z_p_value,
    independence_p_value,
    merge,
    merge_centred,
    moments,
    partial_correlation,
    partial_correlations,
    partial_correlations_given_rest,
    regress,
)
from bench.types import Environment, Observed


def correlated(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 10 * rng.normal(size=d)


def degenerate(seed: int, n: int, d: int) -> np.ndarray:
    """Samples with a duplicated, a rescaled and a constant column among d + 3."""
    rng = np.random.default_rng(seed)
    X = correlated(rng, n, d)
    return np.column_stack([X, X[:, 0], -3 * X[:, 0] + 0.1, np.full(n, 0.1)])


seeds = st.integers(0, 2**32 - 1)


def residual_sum_of_squares(X: np.ndarray, target: int, predictors: list[int]) -> float:
    design = np.column_stack([np.ones(len(X)), X[:, predictors]])
    return float(((X[:, target] - design @ np.linalg.lstsq(design, X[:, target], rcond=None)[0]) ** 2).sum())


# Moments


@given(seeds, st.integers(2, 30), st.integers(1, 5))
def test_covariance_and_correlation_are_those_of_numpy(seed, n, d):
    X = correlated(np.random.default_rng(seed), n, d)
    found = moments(X)
    assert found.covariance() == pytest.approx(np.cov(X.T).reshape(d, d), rel=1e-9, abs=1e-9)
    assert found.correlation() == pytest.approx(np.corrcoef(X.T).reshape(d, d), rel=1e-9, abs=1e-9)


@given(seeds, st.lists(st.integers(1, 12), min_size=1, max_size=5))
def test_merged_moments_are_those_of_the_stacked_samples(seed, sizes):
    rng = np.random.default_rng(seed)
    parts = [correlated(rng, n, 3) for n in sizes]
    merged, direct = merge(moments(X) for X in parts), moments(np.concatenate(parts))
    assert merged.n_samples == direct.n_samples
    assert merged.n_means == 1
    assert merged.mean == pytest.approx(direct.mean)
    assert merged.scatter == pytest.approx(direct.scatter, rel=1e-9, abs=1e-9)


def test_centred_merge_ignores_what_shifts_do_and_pays_a_degree_of_freedom_for_each():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 3)) for n in (5, 9, 2)]
    found = merge_centred(moments(X) for X in parts)
    shifted = merge_centred(moments(X + 100 * e) for e, X in enumerate(parts))
    assert found.degrees == 16 - 3
    assert shifted.scatter == pytest.approx(found.scatter)
    assert found.scatter == pytest.approx(sum((len(X) - 1) * np.cov(X.T) for X in parts))


def test_a_constant_variable_has_exactly_no_scatter_also_after_merging():
    X = np.column_stack([np.arange(7.0), np.full(7, 0.1)])
    found = merge([moments(X), moments(X[:3]), moments(X[:1])])
    assert (found.scatter[1] == 0).all()
    assert found.correlation()[1].tolist() == [0.0, 1.0]


def test_a_variable_constant_within_but_not_between_environments_keeps_its_scatter():
    found = merge([moments(np.zeros((4, 1))), moments(np.ones((4, 1)))])
    assert found.scatter == pytest.approx(np.array([[2.0]]))


def test_environment_moments_follow_the_environments():
    X, Y = np.zeros((3, 2)), np.ones((4, 2))
    found = environment_moments(Observed((Environment(X), Environment(Y))))
    assert [m.n_samples for m in found] == [3, 4]
    assert found[1].mean.tolist() == [1.0, 1.0]


def test_wrong_shapes_raise_one_line():
    with pytest.raises(InputError, match=r"expected i \(m,\), j \(m,\) and given \(m, k\), got \(1,\), \(2,\)"):
        partial_correlations(moments(np.zeros((3, 2))), [0], [1, 1], [[]])
    with pytest.raises(InputError, match="at least one data set"):
        merge([])
    with pytest.raises(InputError, match=r"expected moments of the same variables, got \[1, 2\]"):
        InvarianceTest(moments(np.zeros((3, 2))), [moments(np.zeros((3, 1)))])
    with pytest.raises(InputError, match="centred per environment"):
        InvarianceTest(merge_centred([moments(np.zeros((3, 2)))] * 2), [])
    with pytest.raises(InputError, match="one reference or one for each of 3 data sets, got 2"):
        InvarianceTest([moments(np.zeros((3, 2)))] * 2, [moments(np.zeros((3, 2)))] * 3)


# Regression and partial correlation


@given(seeds, st.integers(0, 4))
def test_regression_is_least_squares_with_intercept(seed, k):
    X = correlated(np.random.default_rng(seed), 25, 5)
    predictors = list(range(1, k + 1))
    found = regress(moments(X), 0, predictors)
    design = np.column_stack([np.ones(25), X[:, predictors]])
    expected = np.linalg.lstsq(design, X[:, 0], rcond=None)[0]
    assert found.intercept == pytest.approx(expected[0], rel=1e-5, abs=1e-5)
    assert found.coefficients == pytest.approx(expected[1:], rel=1e-5, abs=1e-5)
    assert found.residual_scatter == pytest.approx(residual_sum_of_squares(X, 0, predictors), rel=1e-5)
    assert (found.rank, found.degrees) == (k, 24 - k)


@given(seeds, st.integers(1, 4))
def test_partial_correlation_is_that_of_the_precision_matrix(seed, k):
    data = moments(correlated(np.random.default_rng(seed), 40, k + 2))
    precision = np.linalg.inv(data.covariance())
    expected = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
    assert partial_correlation(data, 0, 1, range(2, k + 2)) == pytest.approx(expected, abs=1e-6)


def test_batched_partial_correlations_are_the_single_ones():
    rng = np.random.default_rng(3)
    data = moments(correlated(rng, 50, 8))
    sets = np.array([rng.permutation(8)[:5] for _ in range(20)])
    batch = partial_correlations(data, sets[:, 0], sets[:, 1], sets[:, 2:])
    assert batch.tolist() == [partial_correlation(data, s[0], s[1], s[2:]) for s in sets]


@settings(deadline=None)
@given(seeds, st.integers(1, 12), st.data())
def test_degenerate_data_raise_nothing_and_stay_in_range(seed, n, data):
    """Duplicates, constants, more variables than samples; warnings are errors."""
    X = degenerate(seed, n, 4)
    d = X.shape[1]
    order = data.draw(st.permutations(range(d)))
    i, j, given_set = order[0], order[1], order[2 : data.draw(st.integers(2, d))]
    found = moments(X)
    assert abs(partial_correlation(found, i, j, given_set)) <= 1
    assert 0 <= independence_p_value(found, i, j, given_set) <= 1
    assert np.isfinite(regress(found, i, given_set).coefficients).all()
    assert np.isfinite(bic_local_score(found, i, given_set))
    other = moments(degenerate(seed + 1, max(1, n - 2), 4))
    p = InvarianceTest(found, [other, found]).p_values(i, given_set)
    assert ((p >= 0) & (p <= 1)).all()
    assert p[1] == pytest.approx(1.0)


def test_copies_are_dependent_but_independent_of_all_else_given_each_other():
    X = degenerate(0, 50, 2)
    data = moments(X)
    assert independence_p_value(data, 0, 2) == 0
    assert independence_p_value(data, 0, 1, [2]) == 1
    assert independence_p_value(data, 0, 3, [2]) == 1
    assert independence_p_value(data, 0, 4) == 1


def test_a_duplicated_predictor_changes_no_residual():
    X = degenerate(1, 50, 3)
    once, twice = regress(moments(X), 1, [0, 2]), regress(moments(X), 1, [0, 3, 4, 5, 2])
    assert twice.residual_scatter == pytest.approx(once.residual_scatter)
    assert twice.rank == once.rank == 2
    assert twice.coefficients[1:4].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("n", [4, 200])
def test_partial_correlations_given_the_rest_are_the_single_ones_also_on_singular_data(n):
    for X in (correlated(np.random.default_rng(n), n, 6), degenerate(n, n, 3)):
        for target, others in ((2, [4, 0, 3, 1]), (5, [0, 1]), (0, [3]), (1, [])):
            found = partial_correlations_given_rest(moments(X), target, others)
            expected = [partial_correlation(moments(X), target, j, [k for k in others if k != j]) for j in others]
            assert found == pytest.approx(np.array(expected), abs=1e-6)


# Fisher's z


def test_fisher_z_is_the_normal_tail_of_artanh():
    r, n, k = 0.21, 80, 4
    assert fisher_z_p_value(r, n, k) == pytest.approx(2 * stats.norm.sf(np.sqrt(n - k - 3) * np.arctanh(r)))
    assert fisher_z_p_value([-r, r], n, k)[0] == fisher_z_p_value([-r, r], n, k)[1]


@given(st.floats(0, 1), st.floats(1e-8, 0.5), st.integers(1, 50), st.integers(0, 10))
def test_critical_correlation_makes_the_same_decision_as_the_p_value(r, alpha, n, k):
    critical = critical_correlation(alpha, n, k)
    assert abs(r - critical) < 1e-9 or (fisher_z_p_value(r, n, k) < alpha) == (r > critical)


def test_fisher_z_edge_cases():
    assert fisher_z_p_value([0.0, 1.0, -1.0], 20).tolist() == [1.0, 0.0, 0.0]
    assert fisher_z_p_value([1.0, 0.5], 7, n_given=4).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("n_environments", [1, 10])
def test_independence_test_keeps_its_level_also_on_environment_centred_data(n_environments):
    """2000 draws of 0 <- 2 -> 1 at level .05: the binomial standard error is .0049, the margin four of them."""
    rng = np.random.default_rng(11)
    n_draws, n = 2000, 60
    rejected = 0
    for _ in range(n_draws):
        Z = rng.normal(size=(n, 3))
        Z[:, :2] += Z[:, 2:]
        Z += np.repeat(rng.normal(size=(n_environments, 1)), n // n_environments, axis=0)
        data = merge_centred([moments(part) for part in np.split(Z, n_environments)])
        rejected += independence_p_value(data, 0, 1, [2]) < 0.05
    assert rejected / n_draws == pytest.approx(0.05, abs=4 * 0.0049)


# Invariance


@settings(deadline=None)
@given(seeds, st.integers(0, 3))
def test_invariance_tests_are_the_textbook_f_tests(seed, k):
    rng = np.random.default_rng(seed)
    X, Y = correlated(rng, 40, 4), correlated(rng, 15, 4)
    predictors = list(range(1, k + 1))
    variance, coefficients = InvarianceTest(moments(X), [moments(Y)]).variance_and_coefficient_p_values(0, predictors)
    a, b, both = (residual_sum_of_squares(Z, 0, predictors) for Z in (X, Y, np.concatenate([X, Y])))
    ratio = (b / (14 - k)) / (a / (39 - k))
    tail = stats.f(14 - k, 39 - k)
    assert variance[0] == pytest.approx(2 * min(tail.cdf(ratio), tail.sf(ratio)), rel=1e-4, abs=1e-12)
    chow = ((both - a - b) / (k + 1)) / ((a + b) / (53 - 2 * k))
    assert coefficients[0] == pytest.approx(stats.f.sf(chow, k + 1, 53 - 2 * k), rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("n_other", [1, 2, 3, 8, 50])
def test_invariance_p_values_are_uniform_under_the_null_at_any_sample_size(n_other):
    """Exact tests: Kolmogorov-Smirnov over 1500 draws must not reject at .001 (seed fixed)."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(1500):
        X, Y = (rng.normal(size=(n, 3)) for n in (30, n_other))
        Y[:, 1:] = 2 * Y[:, 1:] + 3  # the parents may change as they like
        for Z in (X, Y):
            Z[:, 0] += Z[:, 1] - 2 * Z[:, 2]
        found.append(InvarianceTest(moments(X), [moments(Y)]).variance_and_coefficient_p_values(0, [1, 2]))
    variance, coefficients = np.array(found)[:, :, 0].T
    assert stats.kstest(coefficients, "uniform").pvalue > 0.001
    if n_other > 3:
        assert stats.kstest(variance, "uniform").pvalue > 0.001
    else:
        assert (variance == 1).all()


@pytest.mark.parametrize("kind", ["shift", "noise", "mechanism", "hard", "constant"])
def test_every_kind_of_intervention_is_seen_from_twenty_samples(kind):
    rng = np.random.default_rng(7)
    X, Y = rng.normal(size=(300, 2)), rng.normal(size=(20, 2))
    X[:, 1] += 1.5 * X[:, 0]
    intercept, weight, scale = {
        "shift": (2.0, 1.5, 1.0),
        "noise": (0.0, 1.5, 4.0),
        "mechanism": (0.0, -1.5, 1.0),
        "hard": (2.0, 0.0, 0.5),
        "constant": (0.0, 0.0, 0.0),
    }[kind]
    Y[:, 1] = intercept + weight * Y[:, 0] + scale * Y[:, 1]
    test = InvarianceTest(moments(X), [moments(Y)])
    assert test.p_values(1, [0])[0] < 1e-3
    assert test.p_values(0, [])[0] > 0.05


@settings(deadline=None, max_examples=50)
@given(seeds)
def test_units_and_origins_change_no_p_value(seed):
    rng = np.random.default_rng(seed)
    X, Y = correlated(rng, 40, 4), correlated(rng, 15, 4)
    scale, origin = np.exp(2 * rng.normal(size=4)), rng.normal(size=4)
    plain = InvarianceTest(moments(X), [moments(Y)]).p_values(0, [1, 3])
    rescaled = InvarianceTest(moments(scale * X + origin), [moments(scale * Y + origin)]).p_values(0, [1, 3])
    assert rescaled == pytest.approx(plain, rel=1e-4, abs=1e-9)
    assert independence_p_value(moments(scale * X + origin), 0, 1, [2]) == pytest.approx(
        independence_p_value(moments(X), 0, 1, [2]), rel=1e-4, abs=1e-9
    )


def test_environments_are_tested_one_by_one():
    rng = np.random.default_rng(2)
    reference, others = moments(correlated(rng, 30, 3)), [moments(correlated(rng, n, 3)) for n in (4, 9, 1)]
    together = InvarianceTest(reference, others).p_values(2, [0])
    apart = [InvarianceTest(reference, [m]).p_values(2, [0])[0] for m in others]
    assert together.tolist() == apart


def test_each_environment_may_have_a_reference_of_its_own():
    rng = np.random.default_rng(3)
    references, others = ([moments(correlated(rng, n, 3)) for n in sizes] for sizes in ((30, 9, 40), (4, 9, 1)))
    together = InvarianceTest(references, others).p_values(2, [0])
    apart = [InvarianceTest(r, [m]).p_values(2, [0])[0] for r, m in zip(references, others, strict=True)]
    assert together.tolist() == apart


def test_a_reference_without_residual_degrees_tells_nothing():
    rng = np.random.default_rng(0)
    test = InvarianceTest(moments(rng.normal(size=(3, 4))), [moments(100 + rng.normal(size=(50, 4)))])
    assert test.p_values(0, [1, 2]).tolist() == [1.0]


def test_without_other_environments_there_is_nothing_to_test():
    assert InvarianceTest(moments(np.zeros((3, 2))), []).p_values(0, [1]).shape == (0,)
    assert InvarianceTest([], []).p_values(0, [1]).shape == (0,)


# BIC


def test_bic_is_the_maximised_likelihood_less_its_penalty():
    X = correlated(np.random.default_rng(4), 60, 3)
    residual_variance = residual_sum_of_squares(X, 0, [1, 2]) / 60
    fitted = regress(moments(X), 0, [1, 2])
    mean = fitted.intercept + X[:, 1:] @ fitted.coefficients
    likelihood = stats.norm.logpdf(X[:, 0], mean, np.sqrt(residual_variance)).sum()
    assert bic_local_score(moments(X), 0, [1, 2]) == pytest.approx(likelihood - 0.5 * np.log(60) * 4)
    assert bic_local_score(moments(X), 0, [1, 2], penalty=0) == pytest.approx(likelihood)


@given(seeds)
def test_bic_is_equal_on_markov_equivalent_graphs(seed):
    data = moments(correlated(np.random.default_rng(seed), 30, 3))

    def total(*parents: list[int]) -> float:
        return sum(bic_local_score(data, i, p) for i, p in enumerate(parents))

    chain, reverse, fork = total([], [0], [1]), total([1], [2], []), total([1], [], [1])
    assert chain == pytest.approx(reverse)
    assert chain == pytest.approx(fork)
    assert total([], [0, 2], []) != pytest.approx(chain, rel=1e-9)


def test_bic_finds_the_parents_among_all_sets():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(500, 4))
    X[:, 0] += X[:, 1] - X[:, 3]
    sets = [[j for j in (1, 2, 3) if mask >> j & 1] for mask in range(0, 16, 2)]
    assert max(sets, key=lambda s: bic_local_score(moments(X), 0, s)) == [1, 3]


def test_moments_can_be_population_moments():
    """A scatter of n · Σ stands for n samples of covariance Σ, so that tests need no sampling."""
    data = Moments(101, np.zeros(2), 100 * np.array([[1.0, 0.5], [0.5, 1.0]]))
    assert data.covariance()[0, 1] == 0.5
    assert regress(data, 1, [0]).coefficients.tolist() == [0.5]
