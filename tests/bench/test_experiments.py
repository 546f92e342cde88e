"""Environments: numbers, targets, sizes, and what training must not notice."""

import numpy as np
import pytest

from bench.errors import InputError
from bench.experiments import HeldOutPlan, draw_counts, draw_sizes, draw_targets, run_experiment
from bench.interventions import Interventions
from bench.scm import SOURCE, Linear, LinearModel, Node


def chain(d=6):
    nodes = [Node(np.array([], dtype=int), SOURCE)]
    nodes += [Node(np.array([j - 1]), Linear(np.array([1.0]), 1.0)) for j in range(1, d)]
    return LinearModel(tuple(nodes), np.arange(d))


def experiment(seed=0, **changes):
    settings = {
        "n_observational": 30,
        "n_environments": 4,
        "n_per_environment": 20,
        "n_targets": 2,
        "interventions": Interventions("hard"),
    }
    return run_experiment(chain(), np.random.default_rng(seed), **(settings | changes))


def test_numbers_of_targets_follow_their_probabilities():
    counts = draw_counts({1: 0.2, 3: 0.6}, 4000, 5, np.random.default_rng(0))
    assert set(counts) == {1, 3}
    assert abs((counts == 3).mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000)  # five standard errors


def test_a_range_of_numbers_of_targets_has_both_ends():
    counts = draw_counts((1, 3), 3000, 5, np.random.default_rng(0))
    share = np.bincount(counts, minlength=4) / 3000
    assert np.all(np.abs(share - [0, 1 / 3, 1 / 3, 1 / 3]) < 5 * np.sqrt(2 / 9 / 3000))  # five standard errors


@pytest.mark.parametrize("choice", ["independent", "covering"])
def test_every_variable_is_hit_alike(choice):
    """Shares within five binomial standard errors."""
    targets = draw_targets(np.full(4000, 2), 8, choice, np.random.default_rng(0))
    assert np.all(targets.sum(axis=1) == 2)
    assert np.all(np.abs(targets.mean(axis=0) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000))


@pytest.mark.parametrize("n_targets", [1, 2, 3, 5])
def test_covering_targets_repeat_none_before_all_were_hit(n_targets):
    for seed in range(20):
        targets = draw_targets(np.full(12, n_targets), 5, "covering", np.random.default_rng(seed))
        assert np.all(targets.sum(axis=1) == n_targets)
        times = np.cumsum(targets, axis=0)
        again = times.max(axis=1) >= 2
        assert again.any()
        assert np.all(times[again].min(axis=1) >= 1)


def test_more_targets_than_variables_are_refused():
    with pytest.raises(InputError, match="at most the number of variables, 6, got 7"):
        experiment(n_targets={1: 0.5, 7: 0.5})


def test_sizes_are_one_for_all_one_each_or_a_range():
    rng = np.random.default_rng(0)
    assert draw_sizes(5, 3, rng).tolist() == [5, 5, 5]
    assert draw_sizes([4, 6], 2, rng).tolist() == [4, 6]  # one for each of two environments, no range
    drawn = draw_sizes([4, 6], 200, rng)
    assert set(drawn) == {4, 5, 6}
    with pytest.raises(InputError, match="low <= high"):
        draw_sizes([6, 4], 3, rng)


def test_environments_have_the_sizes_asked_for():
    problem = experiment(n_per_environment=[5, 6, 7, 8])
    assert [e.n_samples for e in problem.observed.environments] == [30, 5, 6, 7, 8]
    assert problem.truth.targets.sum(axis=1).tolist() == [0, 2, 2, 2, 2]


def test_only_observational_or_only_interventional_data_are_possible():
    assert [e.is_observational for e in experiment(n_observational=0).observed.environments] == [False] * 4
    alone = experiment(n_environments=0)
    assert [e.is_observational for e in alone.observed.environments] == [True]
    assert alone.truth.targets.shape == (1, 6)
    with pytest.raises(InputError, match="must not both be 0"):
        experiment(n_observational=0, n_environments=0)


@pytest.mark.parametrize("n_targets", [0, (0, 2), {0: 0.5, 1: 0.5}])
def test_environments_that_may_have_no_target_do_not_say_whether_they_do(n_targets):
    told = [e.is_observational for e in experiment(n_targets=n_targets).observed.environments]
    assert told == [True, None, None, None, None]


def test_targets_are_never_told():
    assert all(e.targets is None for e in experiment().observed.environments)


def test_held_out_environments_change_nothing_in_training():
    alone, together = experiment(), experiment(held_out=HeldOutPlan(3, (2, 5), 7))
    assert np.array_equal(alone.observed.pooled(), together.observed.pooled())
    assert np.array_equal(alone.truth.targets, together.truth.targets)
    assert [(h.support.shape, h.sizes, h.query.shape) for h in together.held_out] == [((5, 6), (2, 5), (7, 6))] * 3


def test_held_out_environments_can_have_targets_and_sizes_of_their_own():
    plan = HeldOutPlan(2, (4,), 0, n_targets=3, interventions=Interventions("hard_constant", {"constant": -9.0}))
    for held_out in experiment(held_out=plan).held_out:
        assert held_out.query.shape == (0, 6)
        assert held_out.targets.sum() == 3
        assert np.all((held_out.support == -9.0).all(axis=0) == held_out.targets)


def test_samples_are_converted_to_units_asked_for():
    location, unit = np.arange(6.0), np.array([1.0, 10.0, 100.0, 1.0, 1.0, 0.1])
    plan = HeldOutPlan(1, (3,), 3)
    plain, converted = experiment(held_out=plan), experiment(held_out=plan, location=location, unit=unit)
    assert np.allclose(converted.observed.pooled(), location + unit * plain.observed.pooled(), rtol=1e-12)
    assert np.allclose(converted.held_out[0].query, location + unit * plain.held_out[0].query, rtol=1e-12)
