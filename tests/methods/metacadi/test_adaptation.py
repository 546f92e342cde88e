"""What follows from sampled graphs: targets of known and new environments, and densities."""

import numpy as np
import pytest
from metacadi_reference import Sums, alternatives, local_evidence
from scipy.special import expit, logit, logsumexp
from scipy.stats import t as student_t

from bench.types import Environment, Observed
from methods.metacadi.adaptation import adapted_targets, log_density, sampled_mechanisms
from methods.metacadi.evidence import Evidence, MixtureEvidence
from methods.metacadi.features import Basis
from methods.metacadi.model import Priors

PRIORS = Priors()
D = 3
CHAIN, EMPTY = np.zeros((2, D, D), dtype=bool)
CHAIN[[0, 1], [1, 2]] = True


def model(rng, n, shift=(0.0, 0.0, 0.0)):
    X = rng.normal(size=(n, D)) * 0.7
    X[:, 0] += shift[0]
    X[:, 1] += X[:, 0] + shift[1]
    X[:, 2] += shift[2] - X[:, 1]
    return X


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    return [model(rng, 60), model(rng, 20), model(rng, 25, (0, 3, 0)), model(rng, 30)]


@pytest.fixture(scope="module")
def evidence(samples):
    known, *others = samples
    observed = Observed((Environment(known, is_observational=True), *(Environment(X) for X in others)))
    return MixtureEvidence([Evidence(observed, PRIORS)])


def features(X, i, parents):
    return np.column_stack([np.ones(len(X)), X[:, parents]]), X[:, i]


def reference_shared(samples, i, parents):
    """Sums of the shared mechanism, and its weights."""
    _, kept = local_evidence(samples[:1], samples[1:], i, parents, PRIORS, [np.full(3, 0.7)])
    weighted = [Sums(*features(X, i, parents), w) for X, w in zip(samples, [1.0, *kept], strict=True)]
    return weighted[0] + weighted[1] + weighted[2] + weighted[3], kept


def reference_targets(samples, new, i, parents):
    shared, _ = reference_shared(samples, i, parents)
    p = len(parents)
    prior = np.diag([PRIORS.intercept_precision] + [PRIORS.slope_precision] * p), PRIORS.shape + p / 2, PRIORS.rate
    found = []
    for X in new:
        unchanged = (shared + Sums(*features(X, i, parents))).evidence(*prior)[0] - shared.evidence(*prior)[0]
        changed = logsumexp(alternatives(*features(X, i, parents), shared, PRIORS)) - np.log(5)
        found.append(expit(changed - unchanged + logit(PRIORS.target)))
    return np.array(found)


def parents_of(graph, i):
    return np.flatnonzero(graph[:, i])


def test_targets_of_the_fit_are_those_of_each_parent_set(samples, evidence):
    mechanisms = sampled_mechanisms(evidence, np.stack([CHAIN, EMPTY, CHAIN]))
    for i, m in enumerate(mechanisms):
        of_graph = [1 - reference_shared(samples, i, parents_of(graph, i))[1] for graph in (CHAIN, EMPTY)]
        for place, graph in enumerate((0, 1)):
            assert 1 - m.keep_probability[m.of_sample[place], 1:] == pytest.approx(of_graph[graph], abs=1e-8)
        assert (m.keep_probability[:, 0] == 1.0).all()
    assert mechanisms[1].keep_probability[0, 2] < 0.1


@pytest.mark.parametrize("n", [1, 3, 10])
def test_adaptation_is_the_closed_form_of_the_reference(samples, evidence, n):
    rng = np.random.default_rng(n)
    new = [model(rng, n), model(rng, n, (0, 0, 4)), model(rng, n, (0.5, 0, 0))]
    weights = np.array([0.9, 0.1])
    mechanisms = sampled_mechanisms(evidence, np.stack([CHAIN, EMPTY]))
    found = adapted_targets(mechanisms, [Basis(D)], [Environment(X) for X in new], PRIORS, weights)
    for i in range(D):
        of_graph = [reference_targets(samples, new, i, parents_of(graph, i)) for graph in (CHAIN, EMPTY)]
        assert found[:, i] == pytest.approx(0.9 * of_graph[0] + 0.1 * of_graph[1], abs=1e-8)
    assert found[1, 2] > 0.8


def test_a_new_environment_that_is_known_to_be_interventional_has_a_target(samples, evidence):
    """Ten samples of no intervention at all: by Bayes' rule in each of two graphs, and nothing where it is not known."""
    X, weights = model(np.random.default_rng(7), 10), np.array([0.9, 0.1])
    mechanisms = sampled_mechanisms(evidence, np.stack([CHAIN, EMPTY]))
    for told in (None, True, False):
        new = [Environment(X, is_observational=told)]
        expected = np.zeros(D)
        for graph, weight in zip((CHAIN, EMPTY), weights, strict=True):
            p = np.array([reference_targets(samples, [X], i, parents_of(graph, i))[0] for i in range(D)])
            expected += weight * p / (1 - np.prod(1 - p) if told is False else 1)
        found = adapted_targets(mechanisms, [Basis(D)], new, PRIORS, weights)[0]
        assert found == pytest.approx(expected, abs=1e-8)
    assert found.sum() > 1


def test_density_is_a_student_t_of_each_sample_alone(samples, evidence):
    X = model(np.random.default_rng(5), 4)
    density = log_density(sampled_mechanisms(evidence, np.stack([CHAIN, EMPTY])), [Basis(D)], X)
    assert density.shape == (2, 4, D)
    for s, graph in enumerate((CHAIN, EMPTY)):
        for i in range(D):
            parents = parents_of(graph, i)
            shared, _ = reference_shared(samples, i, parents)
            prior = np.diag([PRIORS.intercept_precision] + [PRIORS.slope_precision] * len(parents))
            _, mean, A, shape, rate = shared.evidence(prior, PRIORS.shape + len(parents) / 2, PRIORS.rate)
            phi, y = features(X, i, parents)
            scale = np.sqrt(rate / shape * (1 + np.einsum("na,ab,nb->n", phi, np.linalg.inv(A), phi)))
            assert density[s, :, i] == pytest.approx(student_t.logpdf(y, 2 * shape, phi @ mean, scale), abs=1e-8)
