"""Sizes written as plain values."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from bench.draws import Draw, PositiveDraw, bounds, draw

SPECS = [2.0, (1.0, 3.0), {"plus_minus": (0.5, 2.0)}, {"normal": (1.0, 0.0)}, {"normal": (1.0, 2.0)}]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_draws_stay_within_their_bounds(spec):
    values = draw(spec, 1000, np.random.default_rng(0))
    low, high = bounds(spec)
    assert values.shape == (1000,)
    assert np.all((low <= values) & (values <= high))


def test_plus_minus_leaves_the_gap_and_uses_both_signs():
    values = draw({"plus_minus": (0.5, 2.0)}, 10_000, np.random.default_rng(1))
    assert np.abs(values).min() >= 0.5
    assert abs((values > 0).mean() - 0.5) < 5 * 0.5 / np.sqrt(10_000)  # five standard errors


def test_offset_normal_is_a_normal_moved_away_from_zero():
    values = draw({"offset_normal": (5.0, 2.0)}, 10_000, np.random.default_rng(2))
    z = values - np.sign(values) * 5.0
    assert np.abs(values).min() >= 5.0
    assert abs(z.std() - 2.0) < 5 * 2.0 / np.sqrt(2 * 10_000)  # five standard errors of a normal's deviation


@pytest.mark.parametrize(
    "value", [[1.0, 2.0], {"plus_minus": [0.5, 2.0]}, 3, {"normal": [0, 1]}, {"offset_normal": [5, 2]}], ids=str
)
def test_forms_of_a_suite_file_are_accepted(value):
    assert draw(TypeAdapter(Draw).validate_python(value), 2, np.random.default_rng(0)).shape == (2,)


@pytest.mark.parametrize(
    "value",
    [[2.0, 1.0], {"plus_minus": [-1.0, 2.0]}, {"normal": [0.0, -1.0]}, {}, {"cauchy": [0, 1]}, "much", [1, 2, 3], float("nan")],
    ids=str,
)
def test_senseless_forms_are_refused(value):
    with pytest.raises(ValidationError):
        TypeAdapter(Draw).validate_python(value)


@pytest.mark.parametrize("value", [0.0, -1.0, [0.0, 1.0], {"plus_minus": [0.5, 1.0]}, {"normal": [5.0, 1.0]}], ids=str)
def test_a_variance_that_could_vanish_is_refused(value):
    with pytest.raises(ValidationError, match="above 0"):
        TypeAdapter(PositiveDraw).validate_python(value)
