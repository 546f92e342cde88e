"""Special functions of lanes against scipy, over the range in which the evidence calls them and far beyond."""

import numpy as np
import pytest
from numba import njit
from scipy import special

from methods.metacadi import lanes


def log_uniform(low, high, n=20_001):
    return np.exp(np.random.default_rng(0).uniform(np.log(low), np.log(high), n))


@pytest.mark.parametrize(
    ("function", "expected", "x"),
    [
        (lanes.log, np.log, np.concatenate([log_uniform(1e-300, 1e300), log_uniform(0.5, 2.0), [1.0]])),
        (lanes.exp, np.exp, np.random.default_rng(0).uniform(-707, 708, 20_001)),
        (lanes.lgamma, special.gammaln, log_uniform(0.01, 1e8)),
        (lanes.lgamma_of_large, special.gammaln, log_uniform(8.0, 1e8)),
        (lanes.digamma, special.digamma, log_uniform(0.01, 1e8)),
    ],
    ids=["log", "exp", "lgamma", "lgamma_of_large", "digamma"],
)
def test_special_functions_agree_with_scipy(function, expected, x):
    """To 1e-12, relative above 1 (near the zeros of lgamma and digamma only the absolute error can be small)."""
    wanted = expected(x)
    scale = np.maximum(np.abs(wanted), 0.0 if function is lanes.exp else 1.0)
    assert np.abs(lanes.elementwise(function, x) - wanted).max() < np.inf
    assert (np.abs(lanes.elementwise(function, x) - wanted) / scale).max() < 1e-12


def test_log_is_relatively_exact_near_one():
    x = 1.0 + np.concatenate([-log_uniform(1e-12, 0.1), log_uniform(1e-12, 0.1)])
    wanted = np.log(x)
    assert np.abs(lanes.elementwise(lanes.log, x) / wanted - 1.0).max() < 1e-14


def test_exp_of_the_very_negative_is_zero():
    assert lanes.elementwise(lanes.exp, np.array([-709.0, -1e5, -1e300])).tolist() == [0.0, 0.0, 0.0]


def test_operators_take_lanes_and_scalars_on_either_side():
    @njit
    def run(x):
        a = lanes.load(x, 0)
        lanes.store(x, 1, 1 - a * 2.0 + 3 / (a + a) - 0.5 * a)

    x = np.arange(1.0, 17.0)
    run(x)
    a = np.arange(1.0, 9.0)
    assert np.allclose(x[8:], 1 - a * 2 + 3 / (2 * a) - a / 2, rtol=1e-15)


def test_the_greater_is_chosen_lane_by_lane():
    @njit
    def run(x):
        a, b = lanes.load(x, 0), lanes.load(x, 1)
        lanes.store(x, 2, lanes.maximum(a, b))
        lanes.store(x, 3, lanes.choose_greater(a, b, lanes.splat(1.0), a))

    x = np.concatenate([np.arange(8.0), np.full(8, 3.5), np.zeros(16)])
    run(x)
    assert x[16:24].tolist() == [3.5, 3.5, 3.5, 3.5, 4, 5, 6, 7]
    assert x[24:].tolist() == [0, 1, 2, 3, 1, 1, 1, 1]
