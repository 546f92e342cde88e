"""Sign flips against scipy, their size and power on simulated data, and Holm's correction by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from bench.paired_tests import EXACT_UP_TO, FLIPS, holm, sign_flip_p, smallest_p


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
@pytest.mark.parametrize("n", [5, 9, EXACT_UP_TO])
def test_all_signs_give_scipys_exact_p_value(n, alternative):
    x = np.random.default_rng(n).normal(0.4, 1, size=n)
    reference = stats.permutation_test(
        (x,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative, batch=4096
    )
    assert sign_flip_p(x, alternative=alternative) == pytest.approx(reference.pvalue, rel=1e-9)


def test_random_signs_agree_with_all_signs():
    x = np.random.default_rng(0).normal(0.5, 1, size=16)
    every = 1.0 - 2.0 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1)
    exact = (every @ x >= x.sum() - 1e-9).mean()
    # Five standard errors of a share of 20,000 draws.
    assert abs(sign_flip_p(x, alternative="greater") - exact) < 5 * np.sqrt(exact * (1 - exact) / FLIPS)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_no_p_value_is_below_what_the_number_of_problems_allows(values):
    for alternative in ("greater", "two-sided"):
        assert smallest_p(len(values), alternative=alternative) <= sign_flip_p(values, alternative=alternative) <= 1


def test_the_smallest_p_is_reached_where_all_differences_share_a_sign():
    for n in (3, 10, 18):
        assert sign_flip_p(np.arange(1.0, n + 1), alternative="greater") == pytest.approx(
            smallest_p(n, alternative="greater"), abs=1e-4
        )


def test_size_is_nominal_and_power_that_of_the_t_test():
    rng = np.random.default_rng(1)
    null = [sign_flip_p(rng.laplace(size=12)) for _ in range(1000)]
    # Three standard errors of a share of 1000 at .05.
    assert np.mean(np.array(null) <= 0.05) == pytest.approx(0.05, abs=0.021)
    shifted = rng.normal(0.9, 1, size=(300, 12))
    power = np.mean([sign_flip_p(x) <= 0.05 for x in shifted])
    reference = np.mean(stats.ttest_1samp(shifted, 0, axis=1).pvalue <= 0.05)
    assert power == pytest.approx(reference, abs=0.05)
    assert power > 0.7


def test_no_difference_and_no_problem_are_no_evidence():
    assert sign_flip_p([0.0, 0.0]) == sign_flip_p([]) == sign_flip_p([np.nan]) == 1.0


def test_holm_steps_down_and_leaves_out_what_was_not_tested():
    p = np.random.default_rng(0).random(30) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], rel=1e-12)
    assert holm([0.01, np.nan, 0.02, 0.5]) == pytest.approx([0.03, np.nan, 0.04, 0.5], nan_ok=True)
    assert np.isnan(holm([np.nan])).all()
