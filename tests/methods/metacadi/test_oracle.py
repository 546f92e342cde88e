"""The posterior of the method against the exact one, over all graphs and sets of targets; the oracle against quadrature."""

import numpy as np
import pytest
from metacadi_oracle import (
    LOG_2_PI,
    NormalInverseGamma,
    Regression,
    all_dags,
    draw_observed,
    exact_posterior,
    gaps,
    mean_and_variance,
    mean_field_posterior,
)
from scipy.special import expit, gammaln, logit, logsumexp

from bench.registry import make_method
from methods.metacadi.model import Priors

PRIORS = Priors()


def test_dags_are_counted_as_in_the_literature():
    assert [len(all_dags(d)) for d in (2, 3, 4)] == [3, 25, 543]


@pytest.mark.parametrize("n_fixed", [0, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_without_parents_the_oracle_is_a_sum_over_a_grid(n_fixed, seed):
    """Over intercept and log variance; three environments of 4 samples, one moved. Margin .05: three standard errors."""
    rng = np.random.default_rng(n_fixed)
    fixed, possible = [rng.normal(size=(n_fixed, 1))], [rng.normal(m, 1, (4, 1)) for m in (0, 0.3, 4)]
    fixed = fixed if n_fixed else []
    found, targets, effective = Regression(fixed, possible, 0, [], PRIORS).integrate(np.random.default_rng(seed))
    assert effective > 2_000

    w, log_v = np.linspace(-12, 12, 1201)[:, None], np.linspace(-9, 7, 401)[None, :]
    v = np.exp(log_v)

    def log_normal(e, variance):
        return -LOG_2_PI / 2 - np.log(variance) / 2 - e**2 / (2 * variance)

    density = (
        log_normal(w, v / PRIORS.intercept_precision)
        + PRIORS.shape * np.log(PRIORS.rate)
        - gammaln(PRIORS.shape)
        - PRIORS.shape * log_v
        - PRIORS.rate / v
    )
    for x in np.concatenate(fixed).ravel() if fixed else []:
        density = density + log_normal(x - w, v)
    odds = []
    for X in possible:
        x, n = X.ravel(), len(X)
        e = x[:, None, None] - w
        kept = log_normal(e, v).sum(axis=0)
        strength = PRIORS.shift_strength
        mean = e.sum(axis=0) / (strength + n)
        # A shift at its posterior mean, and Bayes' rule.
        shift = log_normal(e - mean, v).sum(axis=0) + log_normal(mean, v / strength) - log_normal(0.0, v / (strength + n))
        sums = (e**2).sum(axis=0), e.sum(axis=0), n
        scale = mean_and_variance(*sums, PRIORS.scale_strength, PRIORS.fresh_shape, v)
        both = mean_and_variance(*sums, PRIORS.shift_strength, PRIORS.fresh_shape, v)
        strengths = PRIORS.hard_strength / np.array([1.0, 10.0, 100.0, 1000.0])
        hard = logsumexp(mean_and_variance(x @ x, x.sum(), n, strengths, PRIORS.hard_shape, PRIORS.hard_rate)) - np.log(4)
        relearned = PRIORS.relearned_precision, PRIORS.relearned_shape, PRIORS.relearned_rate
        relearned = mean_and_variance(x @ x, x.sum(), n, *relearned)
        changed = logsumexp(np.broadcast_arrays(shift, scale, both, hard, relearned), axis=0) - np.log(5)
        odds.append(changed - kept + logit(PRIORS.target))
        density = density + np.logaddexp(kept + np.log1p(-PRIORS.target), changed + np.log(PRIORS.target))
    wanted = logsumexp(density) + np.log(24 / 1200 * 16 / 400)
    weights = np.exp(density - logsumexp(density))
    assert found == pytest.approx(wanted, abs=0.05)
    assert targets == pytest.approx([(weights * expit(o)).sum() for o in odds], abs=0.02)
    assert 0.02 < targets[0] < 0.5 < targets[2]


def test_without_possible_targets_the_oracle_is_the_conjugate_evidence():
    X = np.random.default_rng(0).normal(size=(12, 3))
    regression = Regression([X], [], 0, [1, 2], PRIORS)
    exact = NormalInverseGamma(regression.fixed_gram, 12.0, *regression.shared).log_evidence
    found, targets, _ = regression.integrate(np.random.default_rng(0))
    assert found == pytest.approx(exact, abs=0.03)
    assert targets.shape == (0,)


FIXED = "metacadi[features=linear,effect_size=fixed,target_rate=fixed,variance_drift=none,mechanism_drift=none]"
"""The method under the priors of the oracle."""

CASES = {
    # Setting and seed; the largest gap of an edge and the mean gap of a target, as measured under the mean field.
    "few observational": ((3, 5, 5, 50, 1), 1, 0.011, 0.0045),
    "none observational": ((3, 5, 5, 0, 1), 2, 0.098, 0.0504),
    "no intervention": ((3, 10, 10, 0, 0), 1, 0.000, 0.0033),
    "four variables": ((4, 10, 10, 50, 1), 2, 0.001, 0.0114),
}


@pytest.mark.parametrize(("setting", "seed", "of_edge", "of_targets"), CASES.values(), ids=CASES)
def test_marginals_are_no_farther_from_the_exact_ones_than_when_measured(setting, seed, of_edge, of_targets):
    """Margins: .01 for an edge and .0025 for targets, twice what the oracle's own seed moves.

    Another .1 for an edge, two standard errors, where 100 graph samples stand for all graphs; and a fifth of that for targets,
    which differ less between graphs.
    """
    observed = draw_observed(*setting, seed)
    exact, approximate = exact_posterior(observed, PRIORS), mean_field_posterior(observed, PRIORS)
    fitted = make_method(FIXED).fit(observed, rng=np.random.default_rng(0)).estimate
    assert exact.smallest_sample > 2_000
    edges, targets = gaps(exact, approximate.edges, approximate.targets, observed)
    assert edges.max() < of_edge + 0.01
    assert targets.mean() < of_targets + 0.0025
    edges, targets = gaps(exact, fitted.edge_probability, fitted.target_probability, observed)
    assert edges.max() < of_edge + 0.11
    assert targets.mean() < of_targets + 0.0225
