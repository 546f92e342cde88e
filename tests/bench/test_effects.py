"""Effect sizes are measured against what is observational, and fall apart by what the truth says."""

import numpy as np
import pandas as pd
import pytest

from bench import registry
from bench.effects import effects, relations, summary
from bench.types import Environment, Observed, Problem, Truth

CHAIN = np.eye(4, k=1, dtype=bool)  # 0 -> 1 -> 2 -> 3


def problem(*, truth=True, targets=True, observational=True, constant=None):
    """Environment 1 shifts variable 1 by three, and what is below it."""
    base = np.array([[-1.0, -1, -1, -1], [1, 1, 1, 1]])
    if constant is not None:
        base[:, constant] = 5.0
    environments = (Environment(base, is_observational=observational), Environment(2 * base + [0, 3, 3, 3]))
    known = Truth(CHAIN if truth else None, [[0] * 4, [0, 1, 0, 0]] if targets else None) if truth or targets else None
    return Problem(Observed(environments), known, environment_names=("base", "hit"))


def test_shift_and_spread_are_in_standard_deviations_of_the_observational_samples():
    found = effects(problem())
    assert list(found["environment"].unique()) == ["hit"]
    assert found["shift"].tolist() == [0, 3, 3, 3]
    assert found["spread"].tolist() == [2, 2, 2, 2]


def test_variables_are_targets_descendants_or_others():
    assert effects(problem())["relation"].tolist() == ["other", "target", "descendant", "descendant"]


def test_what_is_not_known_is_not_told_apart():
    assert effects(problem(truth=False))["relation"].tolist() == ["not a target", "target", "not a target", "not a target"]
    assert set(relations(problem(targets=False)).ravel()) == {""}
    assert set(relations(problem(truth=False, targets=False)).ravel()) == {""}


def test_without_observational_data_every_environment_is_compared_with_all_samples():
    found = effects(problem(observational=None))
    assert list(found["environment"].unique()) == ["base", "hit"]
    shift = found.set_index(["variable", "environment"])["shift"].unstack()
    assert np.allclose(shift["base"], -shift["hit"])


def test_a_constant_variable_has_no_effect_size():
    assert effects(problem(constant=2)).set_index("variable")["shift"].isna().tolist() == [False, False, True, False]
    assert summary(effects(problem(constant=2))).loc["descendant", "pairs"] == 1


def test_observational_environments_alone_have_no_effects():
    only = Problem(Observed((Environment(np.eye(3), is_observational=True),)), None)
    assert effects(only).empty
    assert summary(effects(only)).empty


def test_summary_counts_shifts_of_either_sign_and_factors_in_either_direction():
    frame = pd.DataFrame({"shift": [-1.0, 3.0], "spread": [0.5, 2.0], "relation": ["target", "target"]})
    (row,) = summary(frame).to_dict("records")
    assert row == pytest.approx({"pairs": 2, "mean": 2.0, "median": 2.0, "high": 2.8, "spread": 2.0})


def test_others_show_the_noise_floor_of_the_sample_size_and_targets_far_more():
    found = summary(effects(registry.make_problem("synthetic[n_variables=20,n_per_environment=100]", seed=1)))
    # Two means of 100 and 500 samples: E|shift| = sqrt(2/pi) * sqrt(1/100 + 1/500) = .087; over some 150 pairs, within a fifth.
    assert found.loc["other", "mean"] == pytest.approx(0.087, rel=0.2)
    assert found.loc["target", "mean"] > 1
