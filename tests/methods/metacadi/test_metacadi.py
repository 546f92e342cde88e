"""The method as a whole, through the registry."""

import numpy as np
import pytest
from scipy.stats import norm

from bench.errors import InputError
from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
from bench.types import Environment, Observed
from methods.metacadi.model import Priors

SPEC = "synthetic[n_variables=6,n_observational=300,n_environments=8,n_per_environment=60,edges_per_node=1.5,n_held_out=12]"


@pytest.fixture(scope="module")
def problem():
    return prepare(make_problem(SPEC, seed=3), seed=3).problem


@pytest.fixture(scope="module")
def fitted(problem):
    return make_method("metacadi").fit(problem.observed, rng=np.random.default_rng(0))


def test_graph_and_targets_of_a_plain_problem_are_found(problem, fitted):
    estimate = fitted.estimate
    assert (estimate.point_graph == problem.truth.adjacency).all()
    assert ((estimate.target_probability > 0.5) == problem.truth.targets).all()
    assert not fitted.cut_short


def test_probabilities_are_averages_over_the_sampled_graphs(fitted):
    estimate = fitted.estimate
    assert np.allclose(estimate.edge_probability, np.einsum("s,sij->ij", estimate.weights(), estimate.graph_samples))


def test_new_environments_are_judged_better_with_more_samples(problem, fitted):
    """Mean log score of the true targets over 12 held-out environments: at 1, 3 and 30 samples, and of the prior."""
    truth = np.stack([h.targets for h in problem.held_out])
    scores = []
    for n in (1, 3, 30):
        new = Observed(tuple(h.environment(n) for h in problem.held_out))
        probability = fitted.adapt(new, rng=np.random.default_rng(0)).target_probability
        assert probability.shape == truth.shape
        scores.append(np.log(np.clip(np.where(truth, probability, 1 - probability), 1e-9, 1)).mean())
    rate = Priors().target
    prior = truth.mean() * np.log(rate) + (1 - truth.mean()) * np.log(1 - rate)
    assert prior < scores[0] < scores[1] < scores[2]


def test_a_new_environment_known_to_be_observational_has_no_target(problem, fitted):
    X = problem.held_out[0].support
    estimate = fitted.adapt(Observed((Environment(X, is_observational=True), Environment(X))), rng=np.random.default_rng(0))
    assert not estimate.target_probability[0].any()
    assert estimate.target_probability[1].max() > 0.5


def test_samples_of_another_width_are_refused(fitted):
    with pytest.raises(InputError, match="expected samples of 6 variables, as fitted, got 5"):
        fitted.adapt(Observed((Environment(np.zeros((2, 5))),)), rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="got 7"):
        fitted.log_density(np.zeros((2, 7)))


def test_density_on_held_out_samples_beats_the_marginal_one(problem, fitted):
    """Over what no intervention touched, against a normal distribution fitted to each variable of the observational samples."""
    held_out = problem.held_out[0]
    others = ~held_out.targets
    density = fitted.log_density(held_out.query)
    assert density.shape == (len(fitted.estimate.graph_samples), 100, 6)
    observational = problem.observed.observational()
    marginal = norm.logpdf(held_out.query, observational.mean(axis=0), observational.std(axis=0))
    assert density[:, :, others].mean() > marginal[:, others].mean() + 0.1
