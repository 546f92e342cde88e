"""Targets given graphs, held against the enumeration of every target set."""

import itertools

import numpy as np
import pytest
from scipy.special import expit, logit

from methods.metacadi.targets import (
    OfParentSets,
    averaged_targets,
    chosen_rate,
    given_a_target,
    log_odds_of,
    share_with_a_target,
)

D, N_SAMPLES = 4, 3
INTERVENTIONAL = np.array([True, False, True, True])
WEIGHTS = np.array([0.5, 0.2, 0.3])


@pytest.fixture(scope="module")
def log_odds():
    """Two parent sets of every variable but the last, in four environments; the last of them shows nothing at all."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(D):
        values = rng.normal(-1, 3, size=(2 if i < D - 1 else 1, 4))
        values[:, 3] = -8
        found.append(OfParentSets(values, rng.permutation([0, 1, 1]) if i < D - 1 else np.zeros(3, dtype=int)))
    return found


def enumerated(log_odds, rate):
    """Densities relative to no target, (S, E), and target probabilities, (E, d), as sums over all sets of targets."""
    density, targets = np.zeros((N_SAMPLES, 4)), np.zeros((4, D))
    for s, e in itertools.product(range(N_SAMPLES), range(4)):
        weight_of = {}
        for hit in itertools.product([False, True], repeat=D):
            if any(hit) or not INTERVENTIONAL[e]:
                odds = [o.values[o.of_sample[s], e] for o in log_odds]
                prior = np.prod([rate if h else 1 - rate for h in hit])
                weight_of[hit] = prior * np.exp(sum(x for x, h in zip(odds, hit, strict=True) if h))
        total = sum(weight_of.values())
        density[s, e] = np.log(total / (1 - (1 - rate) ** D if INTERVENTIONAL[e] else 1))
        targets[e] += WEIGHTS[s] * sum(w * np.array(hit) for hit, w in weight_of.items()) / total
    return density, targets


@pytest.mark.parametrize("rate", [0.3, 0.1, 0.001])
def test_targets_are_those_of_all_target_sets(log_odds, rate):
    probability = [OfParentSets(expit(o.values + logit(rate)), o.of_sample) for o in log_odds]
    found = averaged_targets(probability, WEIGHTS, INTERVENTIONAL)
    np.testing.assert_allclose(found, enumerated(log_odds, rate)[1], rtol=1e-9)
    assert (found[INTERVENTIONAL].sum(axis=1) > 1 - 1e-9).all()


@pytest.mark.parametrize("rate", [0.3, 0.1, 0.001])
def test_density_given_a_target_is_that_of_all_target_sets(log_odds, rate):
    without = np.zeros((N_SAMPLES, 4))
    for o in log_odds:
        without += np.log1p(rate * np.expm1(o.values[o.of_sample]))
    density, _ = enumerated(log_odds, rate)
    found = given_a_target(without, rate, D)
    np.testing.assert_allclose(found[:, INTERVENTIONAL], density[:, INTERVENTIONAL], rtol=1e-6)
    np.testing.assert_allclose(without[:, ~INTERVENTIONAL], density[:, ~INTERVENTIONAL], rtol=1e-9)


def test_share_with_a_target_is_the_slope_of_that_density(log_odds):
    """d/dx log(exp(x) - c) = 1 / (1 - c exp(-x)), by central differences."""
    x, step = np.array([-0.2, 0.5, 3.0]), 1e-5
    slope = (given_a_target(x + step, 0.1, D) - given_a_target(x - step, 0.1, D)) / (2 * step)
    np.testing.assert_allclose(1 / share_with_a_target(x, 0.1, D), slope, rtol=1e-6)


def test_the_chosen_rate_has_the_highest_density(log_odds):
    rates = (0.3, 0.1, 0.05, 0.01, 0.001)
    density = [float(WEIGHTS @ enumerated(log_odds, rate)[0].sum(axis=1)) for rate in rates]
    assert chosen_rate(log_odds, WEIGHTS, INTERVENTIONAL, rates) == rates[int(np.argmax(density))]


def test_one_target_in_every_environment_is_a_low_rate():
    """The first one is sure to be there; the rate is that of a second."""
    odds = np.full((D, 1, 12), -3.0)
    odds[np.arange(12) % D, 0, np.arange(12)] = 6.0
    found = [OfParentSets(values, np.zeros(1, dtype=int)) for values in odds]
    rates = (0.2, 0.1, 0.01, 0.001)
    assert chosen_rate(found, np.ones(1), np.ones(12, dtype=bool), rates) == 0.001
    assert chosen_rate(found, np.ones(1), np.zeros(12, dtype=bool), rates) == 0.2


def test_what_no_variable_shows_is_shared_by_all():
    probability = [OfParentSets(np.full((1, 2), 1e-9), np.zeros(1, dtype=int)) for _ in range(D)]
    found = averaged_targets(probability, np.ones(1), np.array([True, False]))
    np.testing.assert_allclose(found, [[1 / D] * D, [1e-9] * D], rtol=1e-6)


def test_certain_targets_stay_certain():
    probability = [OfParentSets(np.array([[p]]), np.zeros(1, dtype=int)) for p in (1.0, 1.0, 0.3, 0.0)]
    np.testing.assert_allclose(averaged_targets(probability, np.ones(1), np.array([True]))[0], [1, 1, 0.3, 0], atol=1e-12)


def test_log_odds_leave_the_prior_out():
    values = np.array([-5.0, 0.0, 4.0])
    np.testing.assert_allclose(log_odds_of(expit(-values - logit(0.1)), 0.1), values, rtol=1e-9, atol=1e-12)
    assert log_odds_of(np.array([1.0, np.exp(-600)]), 0.5).tolist() == [-np.inf, pytest.approx(600)]


def test_what_cannot_be_a_target_is_none():
    probability = [OfParentSets(np.zeros((1, 1)), np.zeros(1, dtype=int)) for _ in range(D)]
    assert (averaged_targets(probability, np.ones(1), np.array([True])) == 0).all()
