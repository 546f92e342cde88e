"""Fitted networks: the file's numbers in and out, and interventions in units of deviations."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_data import NETWORK, write_small_data

from bench import registry
from bench.errors import InputError
from bench.graphs import ancestors
from datasets.fitted import ancestral_set, data_file, standardised_network

NETWORKS = ["ecoli70", "arth150", "magic_irri"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    directory = write_small_data(tmp_path / "data")
    monkeypatch.setenv("CADIBENCH_DATA", str(directory))
    return directory


def raw_moments(network):
    """Mean and covariance of a network file by its recursion in causal order, without any matrix inverse."""
    names = network["nodes"]
    d = len(names)
    mean, covariance, done = np.zeros(d), np.zeros((d, d)), []
    while len(done) < d:
        for name in names:
            node = network["cpds"][name]
            if name in done or not set(node["parents"]) <= set(done):
                continue
            j, parents = names.index(name), [names.index(p) for p in node["parents"]]
            b = np.array([node["coefficients"][p][0] for p in node["parents"]])
            mean[j] = node["coefficients"]["(Intercept)"][0] + b @ mean[parents]
            covariance[j] = covariance[:, j] = b @ covariance[parents]
            covariance[j, j] = b @ covariance[np.ix_(parents, parents)] @ b + node["variance"][0]
            done.append(name)
    return mean, covariance


@pytest.mark.parametrize("network", NETWORKS)
def test_standardised_model_has_the_networks_moments_in_its_units(network, data_directory):
    stored = json.loads((Path(data_directory) / data_file(network).path).read_text())
    names, model, mean, deviation = standardised_network(network)
    expected_mean, expected_covariance = raw_moments(stored)
    assert list(names) == stored["nodes"]
    scale = np.sqrt(expected_covariance.diagonal())
    assert np.allclose(mean / scale, expected_mean / scale, rtol=1e-9)
    assert np.allclose(deviation, scale, rtol=1e-9)
    zero, correlation = model.population()
    assert np.array_equal(zero, np.zeros(len(names)))
    assert np.allclose(correlation, expected_covariance / np.outer(scale, scale), atol=1e-9)


@pytest.mark.parametrize("network", NETWORKS)
def test_truth_is_the_networks_arcs(network, data_directory):
    stored = json.loads((Path(data_directory) / data_file(network).path).read_text())
    problem = registry.make_problem("fitted", seed=0, network=network, n_observational=5, n_per_environment=5)
    A = problem.truth.adjacency
    arcs = {(problem.variable_names[i], problem.variable_names[j]) for i, j in np.argwhere(A)}
    assert arcs == {tuple(arc) for arc in stored["arcs"]}


def test_samples_are_in_the_networks_units(small):
    """Means within five standard errors, and deviations within five of theirs, sqrt(1 / 2n)."""
    n = 20_000
    problem = registry.make_problem("fitted", seed=0, n_observational=n, n_environments=0)
    X = problem.observed.pooled()
    mean, covariance = raw_moments(NETWORK)
    scale = np.sqrt(covariance.diagonal())
    assert np.all(np.abs(X.mean(axis=0) - mean) / scale < 5 / np.sqrt(n))
    assert np.all(np.abs(X.std(axis=0) / scale - 1) < 5 / np.sqrt(2 * n))


def test_intervention_sizes_are_standard_deviations(small):
    problem = registry.make_problem(
        "fitted[interventions=hard_constant,intervention_sizes={constant: 3},n_environments=20,n_per_environment=2]", seed=0
    )
    mean, covariance = raw_moments(NETWORK)
    for environment, targets in zip(problem.observed.environments[1:], problem.truth.targets[1:], strict=True):
        expected = mean[targets] + 3 * np.sqrt(covariance.diagonal()[targets])
        assert np.allclose(environment.X[:, targets], expected, rtol=1e-12)


def test_changed_mechanisms_keep_the_magnitude_of_the_coefficients(small):
    _, model, _, _ = standardised_network("ecoli70")
    node = model.nodes[1]
    typical = np.sqrt((node.mechanism.weights**2).mean())
    redrawn = np.abs(node.mechanism.redrawn(np.random.default_rng(0)).weights)
    assert np.all((0.5 * typical <= redrawn) & (redrawn <= 2 * typical))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_part_of_a_network_contains_all_causes_of_what_it_contains(small, size):
    graph = standardised_network("ecoli70")[1].adjacency()
    drawn = {tuple(ancestral_set(graph, size, np.random.default_rng(seed))) for seed in range(20)}
    assert all(len(kept) == size and set(np.flatnonzero(ancestors(graph, kept))) == set(kept) for kept in drawn)
    assert len(drawn) == {1: 2, 2: 1, 3: 1, 4: 1}[size]  # a and b are sources, c needs both, d all of them


def test_a_part_of_a_network_has_its_moments_and_its_arcs(data_directory):
    names, model, mean, deviation = standardised_network("arth150")
    correlation = model.population()[1]
    problem = registry.make_problem("fitted[network=arth150,n_variables=20,n_environments=0,n_observational=20000]", seed=3)
    kept = [names.index(name) for name in problem.variable_names]
    assert len(kept) == 20
    assert np.array_equal(problem.truth.adjacency, model.adjacency()[np.ix_(kept, kept)])
    assert problem.truth.adjacency.any()
    X = (problem.observed.pooled() - mean[kept]) / deviation[kept]
    # Five standard errors of a mean, and of a correlation at most.
    assert np.all(np.abs(X.mean(axis=0)) < 5 / np.sqrt(len(X)))
    assert np.all(np.abs(np.corrcoef(X.T) - correlation[np.ix_(kept, kept)]) < 5 / np.sqrt(len(X)))


def test_a_part_larger_than_the_network_is_refused(small):
    with pytest.raises(InputError, match="n_variables must be at most 4, the size of ecoli70, got 5"):
        registry.make_problem("fitted[n_variables=5]", seed=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "must be a network"),
        ("not json", "must be a network"),
        (json.dumps({**NETWORK, "nodes": ["a", "b", "c"]}), "KeyError 'd'"),
        (
            json.dumps(
                {
                    "nodes": ["a", "b"],
                    "cpds": {
                        x: {"coefficients": {"(Intercept)": [0], y: [0.5]}, "variance": [1], "parents": [y]}
                        for x, y in ("ab", "ba")
                    },
                }
            ),
            "must hold an acyclic network",
        ),
    ],
)
def test_a_broken_file_is_named(small, content, message):
    (small / "gaussian_bn" / "ecoli70.json").write_text(content)
    with pytest.raises(InputError, match=rf"gaussian_bn/ecoli70.json.*{message}"):
        registry.make_problem("fitted", seed=0)


def test_held_out_environments_are_in_the_networks_units_too(small):
    problem = registry.make_problem("fitted[n_held_out=1,n_targets=0,n_query=5000]", seed=0)
    mean, covariance = raw_moments(NETWORK)
    X = problem.held_out[0].query
    assert np.all(np.abs(X.mean(axis=0) - mean) / np.sqrt(covariance.diagonal()) < 5 / np.sqrt(5000))  # standard errors
