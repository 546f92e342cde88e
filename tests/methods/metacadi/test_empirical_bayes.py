"""How rare targets are, and whether noise drifts, by the evidence of a graph."""

import dataclasses

import numpy as np
import pytest

from bench.types import Environment, Observed
from methods.metacadi.empirical_bayes import DRIFTS, RARER_TARGETS, chosen_priors
from methods.metacadi.evidence import Evidence, MixtureEvidence
from methods.metacadi.model import Priors

D, N_ENVIRONMENTS = 8, 30
GRAPH = np.eye(D, k=1, dtype=bool)


def chain(seed, noise=None, shifted_in=lambda k: (), n=50, known=False):
    """A chain of unit noise, targets shifted by three; the observational environment comes first."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal if noise is None else noise(rng)
    environments = []
    for k in range(-1, N_ENVIRONMENTS):
        X = noise((300 if k < 0 else n, D))
        for j in range(D):
            X[:, j] += 0.8 * X[:, j - 1] if j else 0.0
            X[:, j] += 3.0 * (k >= 0 and j in shifted_in(k))
        environments.append(Environment(X, is_observational=k < 0 or known))
    return Observed(tuple(environments))


def laplace(rng):
    return lambda size: rng.laplace(scale=np.sqrt(0.5), size=size)


def drifting(rng):
    return lambda size: rng.standard_normal(size) / np.sqrt(rng.gamma(20.0, 1 / 20.0, size=size[1]))


def choose(observed, priors=None, **switches):
    priors = Priors() if priors is None else priors
    return chosen_priors(MixtureEvidence([Evidence(observed, priors)]), GRAPH, priors, **switches)


@pytest.mark.parametrize(
    ("shifted_in", "expected"),
    [
        (lambda k: (k % D,), (0.1, 0.1)),  # one variable of eight in every environment
        (lambda k: (k % D,) if k % 5 == 0 else (), (0.02, 0.05)),  # one of forty
        (lambda k: (3,) if k == 7 else (), (0.002, 0.01)),  # one of 240
        (lambda k: range(0, D, 2), (0.1, 0.1)),  # every other one: no more than the default
    ],
)
def test_targets_are_as_rare_as_the_environments_say(shifted_in, expected):
    """Within a step of the grid, in five draws."""
    for seed in range(5):
        assert expected[0] <= choose(chain(seed, shifted_in=shifted_in)).target <= expected[1]


@pytest.mark.parametrize("noise", [laplace, drifting])
def test_variances_that_vary_more_than_gaussian_ones_drift(noise):
    """In each of five draws: Laplace noise, and Gaussian noise whose precision differs between environments by .05."""
    for seed in range(5):
        assert choose(chain(seed, noise, lambda k: (k % D,))).variance_drift in DRIFTS


def test_gaussian_noise_does_not_drift():
    for seed in range(10):
        for n in (10, 50):
            assert choose(chain(seed, shifted_in=lambda k: (k % D,), n=n)).variance_drift == 0.0


def test_what_is_switched_off_stays():
    observed = chain(0, laplace)
    assert choose(observed, drift=False).variance_drift == 0.0
    assert choose(observed, rare=False).target == Priors().target
    assert choose(observed, effects=False).slope_precision == Priors().slope_precision
    assert choose(observed, effects=False, rare=False, drift=False) == Priors()


def test_nothing_else_changes():
    found = choose(chain(0, laplace), Priors(hard_weight=3.0))
    assert found.target < 0.1
    assert found.variance_drift > 0.0
    same = dataclasses.replace(found, target=0.1, variance_drift=0.0).with_effects(0.1)
    assert same == Priors(hard_weight=3.0)


def test_without_possible_targets_only_the_size_of_effects_is_chosen():
    found = choose(chain(0, laplace, known=True))
    assert found.with_effects(0.1) == Priors()


@pytest.mark.parametrize(("slope", "expected"), [(0.2, (1, 1)), (0.8, (0.1, 1)), (20.0, (0.001, 0.01))])
def test_effects_are_as_strong_as_the_environments_say(slope, expected):
    """Of unit noise: prior slopes have variance one over the precision, and shrink with the units, which strong effects swell.
    Within a factor of ten, in three draws, and never above the noise."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(400, D))
        for j in range(1, D):
            X[:, j] += slope * X[:, j - 1]
        X /= X.std(axis=0)
        observed = Observed((Environment(X, is_observational=True), Environment(X[:50] + rng.normal(size=(50, D)) * 0.01)))
        found = choose(observed)
        assert expected[0] <= found.slope_precision <= expected[1]
        assert found.rate == 0.5 * found.slope_precision


def test_a_rarer_default_is_a_bound():
    rare = Priors(target=0.03)
    assert choose(chain(0, shifted_in=lambda k: (k % D,)), rare).target == 0.03
    assert choose(chain(0), rare).target in RARER_TARGETS
