"""Special functions of lanes against scipy, over the range in which the evidence calls them and far beyond."""

import numpy as np
import pytest
from numba import njit
from scipy import special

from methods.metacadi import lanes


def log_uniform(low, high, n=20_001):
    return np.exp(np.random.default_rng(0).uniform(np.log(low), np.log(high), n))


@njit
def _lgamma_of_large(x):
    return lanes.lgamma_of_large(x, lanes.log(x))


@pytest.mark.parametrize(
    ("function", "expected", "x"),
    [
        (lanes.log, np.log, np.concatenate([log_uniform(1e-300, 1e300), log_uniform(0.5, 2.0), [1.0]])),
        (lanes.exp, np.exp, np.random.default_rng(0).uniform(-707, 708, 20_001)),
        (lanes.lgamma, special.gammaln, log_uniform(0.01, 1e8)),
        (_lgamma_of_large, special.gammaln, log_uniform(8.0, 1e8)),
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

    x = np.arange(1.0, 2 * lanes.WIDTH + 1)
    run(x)
    a = np.arange(1.0, lanes.WIDTH + 1)
    assert np.allclose(x[lanes.WIDTH :], 1 - a * 2 + 3 / (2 * a) - a / 2, rtol=1e-15)


def test_the_greater_is_chosen_lane_by_lane():
    @njit
    def run(x):
        a, b = lanes.load(x, 0), lanes.load(x, 1)
        lanes.store(x, 2, lanes.maximum(a, b))
        lanes.store(x, 3, lanes.choose_greater(a, b, lanes.splat(1.0), a))

    a, b = np.arange(16.0), np.full(16, 3.5)
    x = np.concatenate([a, b, np.zeros(32)])
    run(x)
    assert (x[32:48] == np.maximum(a, b)).all()
    assert (x[48:] == np.where(a > b, 1.0, a)).all()


def test_products_are_added_and_subtracted():
    @njit
    def run(x):
        a, b, c = lanes.load(x, 0), lanes.load(x, 1), lanes.load(x, 2)
        lanes.store(x, 3, lanes.multiply_add(a, b, c))
        lanes.store(x, 4, lanes.subtract_product(a, b, c))

    x = np.random.default_rng(0).normal(size=(5, 16))
    a, b, c = x[:3].copy()
    run(x.reshape(-1))
    assert np.allclose(x[3], a * b + c, rtol=1e-14)
    assert np.allclose(x[4], a - b * c, rtol=1e-14)


def test_halves_are_stored_loaded_and_added():
    @njit
    def run(x, half):
        lanes.store_half(half, 1, lanes.load(x, 0))
        lanes.store(x, 1, lanes.load_half(half, 1))
        lanes.store(x, 2, lanes.plus_other_half(lanes.load(x, 0)))

    x, half = np.arange(48.0), np.zeros(16)
    run(x, half)
    assert half.tolist() == [0.0] * 8 + list(range(8))
    assert x[16:32].tolist() == [*range(8), *range(8)]
    assert x[32:].tolist() == [8.0 + 2 * k for k in range(8)] * 2
