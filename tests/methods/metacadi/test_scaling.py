"""Variables in units of their own: any scale and origin, and none where there is no spread."""

import numpy as np
import pytest

from bench.registry import make_method
from bench.types import Environment, Observed
from methods.metacadi.scaling import Scaling

UNITS = np.array([1e-3, -1.0, 1e4, 7.0])
ORIGIN = np.array([0.0, 5.0, -2e4, 0.1])


def samples(seed=0, sizes=(80, 25, 25, 25)):
    """A chain; in each environment but the first a variable is moved by 3."""
    rng, found = np.random.default_rng(seed), []
    for k, n in enumerate(sizes):
        X = rng.normal(size=(n, 4))
        for j in range(4):
            X[:, j] += (X[:, j - 1] if j else 0) + 3 * (k == j and k > 0)
        found.append(X)
    return found


def observed(Xs):
    return Observed(tuple(Environment(X, is_observational=True if k == 0 else None) for k, X in enumerate(Xs)))


def scaled_column(x):
    """In its own units beside an ordinary one, and whether it counts as constant."""
    data = observed([np.column_stack([x, np.arange(float(len(x)))])])
    scaling = Scaling.of(data)
    return scaling.apply(data.environments[0].X)[:, 0], scaling.constant[0]


def test_units_are_those_of_the_typical_environment():
    """Here the observational one, which has half of all samples: 80 of 155."""
    Xs = samples()
    found = Scaling.of(observed(Xs)).apply(Xs[0])
    assert found.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert found.std(axis=0) == pytest.approx(1)


def test_interventions_of_any_size_leave_the_units():
    """The median is the next environment's at most, here a third larger."""
    Xs = samples(sizes=(40, 30, 30, 30))
    moved = [X + np.eye(4)[k] * (k > 1) * 1e4 for k, X in enumerate(Xs)]
    found, expected = Scaling.of(observed(moved)), Scaling.of(observed(Xs))
    assert np.abs(found.centre - expected.centre).max() < 0.5
    assert found.unit == pytest.approx(expected.unit, rel=0.5)


def test_a_variable_that_is_constant_in_most_environments_has_the_spread_of_all():
    x = np.concatenate([np.zeros(90), np.random.default_rng(0).normal(size=10)])
    data = observed([np.column_stack([part, np.arange(50.0)]) for part in np.split(x, 2)])
    assert Scaling.of(data).unit[0] == pytest.approx(x.std())


def test_what_is_known_of_an_environment_stays_with_it():
    data = observed(samples())
    scaling = Scaling.of(data)
    found = scaling.of_environment(data.environments[0])
    assert found.is_observational
    assert np.array_equal(found.X, scaling.apply(data.environments[0].X))


@pytest.mark.parametrize("unit", [1e-300, 1e-160, 1e-12, 1.0, 1e12, 1e160, 1e300])
@pytest.mark.parametrize("origin", [0.0, 1.0, 1e4])
def test_no_unit_is_too_small_or_too_large(unit, origin):
    """Squares of the smallest and of the largest are no numbers any more."""
    x = np.random.default_rng(0).normal(size=200)
    found, constant = scaled_column((x + origin) * unit)
    assert not constant
    assert found == pytest.approx((x - x.mean()) / x.std(), abs=1e-10)


def test_an_origin_far_off_takes_digits_and_no_more():
    """1e8 standard deviations away, eight of sixteen digits are left."""
    x = np.random.default_rng(0).normal(size=200)
    found, constant = scaled_column(x + 1e8)
    assert not constant
    assert found == pytest.approx((x - x.mean()) / x.std(), abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, -1e-12, 1e12, 1e307])
def test_a_constant_is_zero_exactly(value):
    """Also where the sum of its samples is no number any more."""
    found, constant = scaled_column(np.full(77, value))
    assert constant
    assert not found.any()


def test_rounding_of_a_constant_is_no_spread():
    """A third, reached in different ways."""
    x = np.array([1 / 3, 1 - 2 / 3, 0.1 / 0.3, 4 / 3 - 1])
    assert np.ptp(x) > 0
    assert scaled_column(x)[1]


def test_one_sample_is_constant_in_every_variable():
    assert Scaling.of(observed([np.array([[1.0, -2.0]])])).constant.all()


# In the method ----------------------------------------------------------------------------------------------------------------


def fit(data):
    return make_method("metacadi[n_samples=20,features=linear]").fit(data, rng=np.random.default_rng(0))


def test_units_and_origins_leave_graph_and_targets_as_they_are():
    """To rounding; told what is expected, so that two wrong answers are none."""
    Xs = samples()
    first, second = (fit(observed(data)).estimate for data in (Xs, [X * UNITS + ORIGIN for X in Xs]))
    assert (first.point_graph == np.eye(4, k=1, dtype=bool)).all()
    assert ((first.target_probability > 0.5) == (np.eye(4) * [0, 1, 1, 1] > 0)).all()
    assert np.array_equal(first.point_graph, second.point_graph)
    assert np.allclose(first.edge_probability, second.edge_probability, rtol=0, atol=1e-9)
    assert np.allclose(first.target_probability, second.target_probability, rtol=0, atol=1e-9)


def test_so_do_targets_of_new_environments():
    Xs = samples()
    new = samples(seed=1, sizes=(5, 5, 5, 5))
    first = fit(observed(Xs)).adapt(observed(new), rng=np.random.default_rng(0)).target_probability
    second = (
        fit(observed([X * UNITS + ORIGIN for X in Xs]))
        .adapt(observed([X * UNITS + ORIGIN for X in new]), rng=np.random.default_rng(0))
        .target_probability
    )
    assert np.allclose(first, second, rtol=0, atol=1e-9)
    assert first[1:].max() > 0.9


def test_a_density_is_per_unit_of_the_data():
    """It differs by the logarithm of the units."""
    Xs = samples()
    new = samples(seed=1)[0]
    first = fit(observed(Xs)).log_density(new)
    second = fit(observed([X * UNITS + ORIGIN for X in Xs])).log_density(new * UNITS + ORIGIN)
    assert np.allclose(first - second, np.log(np.abs(UNITS)), rtol=0, atol=1e-8)


def test_a_density_integrates_to_one():
    """Over the last variable, in raw units, by a sum over a grid of 60 of its standard deviations; t tails leave .001."""
    Xs = [X * UNITS + ORIGIN for X in samples()]
    fitted = fit(observed(Xs))
    grid = np.tile(Xs[0][0], (20_001, 1))
    spread = 30 * np.concatenate(Xs)[:, 3].std()
    grid[:, 3] = Xs[0][:, 3].mean() + np.linspace(-spread, spread, len(grid))
    density = np.exp(fitted.log_density(grid)[:, :, 3])
    assert density.sum(axis=1) * (grid[1, 3] - grid[0, 3]) == pytest.approx(1, abs=1e-3)
