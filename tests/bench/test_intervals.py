"""Bootstrap intervals over problems: against scipy, simulated coverage, strata, and what cannot be resampled."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.intervals import bootstrap_intervals, expanded_quantile, ratio_interval


@pytest.mark.parametrize("n", [12, 40, 200])
@pytest.mark.parametrize("law", ["gamma", "normal"])
def test_interval_is_scipys_bca_interval_at_the_expanded_level(n, law):
    rng = np.random.default_rng(n)
    x = rng.gamma(1.0, size=n) if law == "gamma" else rng.normal(size=n)
    low, high = bootstrap_intervals(x[:, None])
    level = 2 * stats.norm.cdf(expanded_quantile(n)) - 1
    reference = stats.bootstrap(
        (x,), np.mean, confidence_level=level, n_resamples=40_000, method="BCa", batch=4000, rng=np.random.default_rng(1)
    ).confidence_interval
    # Monte-Carlo error of a tail quantile from 10,000 resamples: about 0.03 standard errors of the mean; five times that.
    margin = 0.15 * x.std() / np.sqrt(n)
    assert abs(low[0] - reference.low) < margin
    assert abs(high[0] - reference.high) < margin


def test_interval_tends_to_scipys_plain_and_bca_intervals_with_many_problems():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    low, high = bootstrap_intervals(x[:, None])
    for method in ("percentile", "BCa"):
        reference = stats.bootstrap(
            (x,), np.mean, n_resamples=5_000, method=method, random_state=np.random.default_rng(1), batch=500
        )
        margin = 0.15 * x.std() / np.sqrt(len(x))
        assert abs(low[0] - reference.confidence_interval.low) < margin
        assert abs(high[0] - reference.confidence_interval.high) < margin


@pytest.mark.parametrize(
    ("draw", "mean", "groups", "least"),
    [
        # .95 is nominal; measured in the module's table. Three standard errors of a share of 600, .027 at most, below that.
        (lambda rng, shape: rng.normal(size=shape), 0.0, [10], 0.923),
        (lambda rng, shape: rng.exponential(size=shape), 1.0, [10], 0.90),
        (lambda rng, shape: rng.beta(4.5, 0.5, size=shape), 0.9, [5, 5, 5, 5], 0.91),
    ],
    ids=["normal", "exponential", "near one"],
)
def test_coverage_of_few_problems_is_near_nominal_and_better_than_the_plain_interval(draw, mean, groups, least):
    n, trials = sum(groups), 600
    X = draw(np.random.default_rng(5), (n, trials))
    labels = np.repeat(np.arange(len(groups)), groups)
    low, high = bootstrap_intervals(X, labels, resamples=2000)
    covered = ((low <= mean) & (high >= mean)).mean()
    plain = np.array(
        [np.quantile(x[np.random.default_rng(0).integers(0, n, (500, n))].mean(axis=1), [0.025, 0.975]) for x in X.T]
    )
    covered_plain = ((plain[:, 0] <= mean) & (plain[:, 1] >= mean)).mean()
    assert covered > least
    assert covered > covered_plain + 0.01


def test_a_skewed_interval_reaches_further_where_the_tail_is():
    x = np.random.default_rng(3).exponential(size=20)
    (low,), (high,) = bootstrap_intervals(x[:, None])
    assert high - x.mean() > 1.2 * (x.mean() - low)


def test_ratio_interval_is_that_of_the_mean_where_the_lower_part_is_constant():
    x = np.random.default_rng(0).gamma(2.0, size=12)
    keys = [str(i) for i in range(12)]
    low, high = bootstrap_intervals(x[:, None], keys=keys)
    ratio = ratio_interval(x, np.full(12, 2.0), [0] * 12, keys)
    assert ratio == pytest.approx((low[0] / 2, high[0] / 2), rel=1e-9)


def test_ratio_interval_covers_and_is_narrow_where_both_move_together():
    rng = np.random.default_rng(1)
    covered, width = [], []
    for trial in range(200):
        lower = rng.gamma(3.0, size=15)
        upper = 0.8 * lower * rng.uniform(0.9, 1.1, size=15)
        low, high = ratio_interval(upper, lower, [0] * 15, [f"{trial}/{i}" for i in range(15)], resamples=1000)
        covered.append(low <= 0.8 <= high)
        width.append(high - low)
    assert np.mean(covered) > 0.90  # three standard errors of a share of 200 below nominal
    assert np.mean(width) < 0.1


def test_ratio_interval_of_what_may_vanish_below_the_line_does_not_break():
    low, high = ratio_interval(np.array([1.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0]), [0] * 3, ["a", "b", "c"])
    assert low <= 3.0 <= high
    assert np.isinf(high)
    assert np.isnan(ratio_interval(np.ones(1), np.ones(1), [0], ["a"])).all()


def test_strata_keep_their_weight_so_differences_between_datasets_do_not_widen_the_interval():
    rng = np.random.default_rng(0)
    easy, hard = rng.normal(0, 1, 20), rng.normal(100, 1, 20)
    values = np.concatenate([easy, hard])[:, None]
    low, high = bootstrap_intervals(values, ["easy"] * 20 + ["hard"] * 20)
    pooled_low, pooled_high = bootstrap_intervals(values)
    expected = 2 * stats.t.ppf(0.975, 38) * np.sqrt((easy.var(ddof=1) + hard.var(ddof=1)) / 2 / 40)
    assert (high - low)[0] == pytest.approx(expected, rel=0.05)  # bootstrap quantiles against the t interval
    assert (pooled_high - pooled_low)[0] > 20


def test_rows_of_one_key_are_resampled_together():
    """Three points of a curve on the same eight draws are no better than one, though the points lie far apart."""
    draws = np.random.default_rng(0).normal(size=8)
    values = np.concatenate([draws, draws + 10, draws + 20])[:, None]
    keys = [f"draw {i}" for i in range(8)] * 3
    labels = np.repeat(["a", "b", "c"], 8)
    low, high = bootstrap_intervals(values, labels, keys)
    one_low, one_high = bootstrap_intervals(draws[:, None], keys=keys[:8])
    assert (low - 10, high - 10) == (pytest.approx(one_low, rel=1e-9), pytest.approx(one_high, rel=1e-9))
    apart_low, apart_high = bootstrap_intervals(values, labels)
    assert (high - low)[0] > 1.5 * (apart_high - apart_low)[0]
    values[0] = np.nan  # what one draw lacks leaves it with less weight, and the others whole
    low, high = bootstrap_intervals(values, labels, keys)
    assert low[0] < np.nanmean(values) < high[0]
    assert (high - low)[0] > 1.5 * (apart_high - apart_low)[0]


def test_single_problems_share_a_stratum_and_a_lone_one_is_held_fixed():
    several = bootstrap_intervals([[0.0], [10.0], [20.0]], ["a", "b", "c"])
    assert several[0][0] == 0.0
    assert several[1][0] == 20.0
    # One problem of "real" at 1000 moves the mean but not the width.
    x = np.arange(10.0)
    low, high = bootstrap_intervals([*x[:, None], [1000.0]], ["made"] * 10 + ["real"])
    alone_low, alone_high = bootstrap_intervals(x[:, None], ["made"] * 10)
    assert (high - low)[0] == pytest.approx((alone_high - alone_low)[0] * 10 / 11, rel=0.05)
    assert low[0] < (x.sum() + 1000) / 11 < high[0]


def test_one_problem_has_no_interval_and_equal_values_have_one_of_no_width():
    low, high = bootstrap_intervals([[3.0, 0.1], [np.nan, 0.1], [np.nan, 0.1]])
    assert np.isnan([low[0], high[0]]).all()
    assert [low[1], high[1]] == pytest.approx([0.1, 0.1], rel=1e-12)


def test_an_interval_does_not_depend_on_the_columns_beside_it():
    X = np.random.default_rng(3).normal(size=(15, 130))
    low, high = bootstrap_intervals(X)
    for column in (0, 99, 100, 129):
        alone = bootstrap_intervals(X[:, [column]])
        assert low[column] == pytest.approx(alone[0][0], rel=1e-12)
        assert high[column] == pytest.approx(alone[1][0], rel=1e-12)


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(1)  # noqa: NPY002  (the point of the test)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = bootstrap_intervals(np.arange(8.0)[:, None])
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert (np.array(first) == np.array(bootstrap_intervals(np.arange(8.0)[:, None]))).all()
