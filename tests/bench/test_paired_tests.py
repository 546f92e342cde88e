"""Sign flips against scipy, their size and power on simulated data, and Holm's correction by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from bench.paired_tests import (
    EXACT_UP_TO,
    FLIPS,
    POWER,
    detectable_difference,
    holm,
    pairs_needed,
    sign_flip_p,
    smallest_p,
    wilcoxon_p,
)


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


def test_wilcoxon_has_its_size_and_ignores_problems_without_a_difference():
    rng = np.random.default_rng(2)
    rejected = np.mean([wilcoxon_p(rng.laplace(size=12)) <= 0.05 for _ in range(1000)])
    assert rejected == pytest.approx(0.05, abs=0.021)
    assert wilcoxon_p([0.0, 0.0]) == wilcoxon_p([]) == 1.0


def test_zeros_add_no_evidence():
    """Four differences of one sign allow p = .125, whatever stands beside them; the normal approximation says .046."""
    values = [1.0, 2.0, 3.0, 4.0] + [0.0] * 26
    assert sign_flip_p(values) == wilcoxon_p(values) == 0.125


@pytest.mark.parametrize("n", [6, 11])
def test_ties_give_scipys_exact_p_value(n):
    x = np.random.default_rng(n).integers(-2, 4, size=n).astype(float)
    x[x == 0] = 1.0
    exact = stats.wilcoxon(x, method=stats.PermutationMethod(n_resamples=2**n)).pvalue
    assert wilcoxon_p(x) == pytest.approx(exact)


def test_no_difference_and_no_problem_are_no_evidence():
    assert sign_flip_p([0.0, 0.0]) == sign_flip_p([]) == sign_flip_p([np.nan]) == 1.0


def test_as_many_pairs_are_needed_as_could_reach_the_level():
    """However large the difference: 2/2^n ≤ .05/5 from n = 8 on."""
    assert pairs_needed([9.0, 9.1, 9.2], level=0.01) == 8


def test_holm_steps_down_and_leaves_out_what_was_not_tested():
    assert holm([0.02, 0.01, 0.04]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.01, np.nan, 0.02, 0.5]) == pytest.approx([0.03, np.nan, 0.04, 0.5], nan_ok=True)
    assert np.isnan(holm([np.nan])).all()


@pytest.mark.parametrize("n", [1, 4, 15])
def test_holm_is_that_of_statsmodels(n):
    p_values = np.round(np.random.default_rng(n).beta(0.2, 2, size=n), 3)
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


# --- what a table could have found ------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.05, 0.05 / 14])
@pytest.mark.parametrize("n", [8, 17, 60])
def test_the_detectable_difference_is_that_of_the_power_of_the_t_test(n, level):
    x = np.random.default_rng(n).normal(size=n)
    exact = x.std(ddof=1) * TTestPower().solve_power(nobs=n, alpha=level, power=POWER)
    # The noncentral t is not symmetric: a few percent where there are few pairs, next to nothing with many.
    assert detectable_difference(x, level=level) == pytest.approx(exact, rel=0.06 if n < 20 else 0.01)


@pytest.mark.parametrize("effect", [0.2, 0.5, 1.0])
def test_so_many_pairs_find_the_observed_difference_four_times_in_five(effect):
    z = np.random.default_rng(0).normal(size=30)
    x = effect + (z - z.mean()) / z.std(ddof=1)
    n = int(pairs_needed(x))
    assert n == pytest.approx(TTestPower().solve_power(effect_size=effect, alpha=0.05, power=POWER), rel=0.05, abs=1)
    drawn = np.random.default_rng(1).normal(effect, 1, size=(1500, n))
    # Three standard errors of a share of 1500 at .8, and the approximation.
    assert np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue <= 0.05) == pytest.approx(0.8, abs=0.04)


def test_no_scatter_or_no_difference_have_no_size():
    assert np.isnan(detectable_difference([1.0, 1.0, 1.0]))
    assert np.isnan(pairs_needed([1.0, 2.0]))
    assert pairs_needed([-1.0, 1.0, -1.0, 1.0]) == np.inf
