"""A linear model's samples against its exact moments; interventions touch their targets and nothing else."""

import numpy as np
import pytest

from bench.errors import InputError
from bench.interventions import Interventions
from bench.scm import SOURCE, Linear, LinearModel, Node, StructuralModel, standard_noise

N = 20_000
STANDARD_ERRORS = 5.0
"""Margin of every comparison with a population: five standard errors of the mean of what is averaged, estimated from the
same sample; over the few thousand entries compared here one beyond it has a chance of about 1 in 1000, and seeds are fixed."""

KINDS = ["hard_constant", "hard", "shift", "scale", "noise", "mechanism_change", "imperfect"]
LAWS = ["gaussian", "laplace", "uniform", "gumbel"]


def linear_model(law="gaussian"):
    """Five variables, 3 -> 0 -> {1, 4}, 3 -> 1, {1, 4} -> 2, one of them scaled and shifted."""
    weights = {0: ([3], [1.5]), 1: ([0, 3], [-0.8, 1.2]), 4: ([0], [0.7]), 2: ([1, 4], [2.0, -1.0])}
    nodes = []
    for j in range(5):
        parents, values = weights.get(j, ([], []))
        mechanism = Linear(np.array(values), {"plus_minus": (0.5, 2.0)}) if parents else SOURCE
        nodes.append(
            Node(np.array(parents, dtype=int), mechanism, law, 0.5 + j, scale=0.5 if j == 1 else 1.0, offset=float(j == 1))
        )
    return LinearModel(tuple(nodes), np.array([3, 0, 4, 1, 2]))


def assert_has_moments(X, mean, covariance):
    """Every mean and every product of deviations lies within ``STANDARD_ERRORS`` of its expectation."""
    error = X.std(axis=0) / np.sqrt(len(X))
    assert np.all(np.abs(X.mean(axis=0) - mean) <= STANDARD_ERRORS * error + 1e-9)
    Z = X - mean
    products = Z[:, :, None] * Z[:, None, :]
    error = products.std(axis=0) / np.sqrt(len(X))
    assert np.all(np.abs(products.mean(axis=0) - covariance) <= STANDARD_ERRORS * error + 1e-9)


@pytest.mark.parametrize("law", LAWS)
def test_standard_noise_has_mean_zero_and_variance_one(law):
    noise = standard_noise(law, 200_000, np.random.default_rng(0))
    assert_has_moments(noise[:, None], np.zeros(1), np.ones((1, 1)))


FOURTH_MOMENT = {"gaussian": 3.0, "laplace": 6.0, "uniform": 1.8, "gumbel": 5.4}
THIRD_MOMENT = {"gaussian": 0.0, "laplace": 0.0, "uniform": 0.0, "gumbel": 1.1395}


@pytest.mark.parametrize("law", LAWS)
def test_standard_noise_has_the_shape_of_its_law(law):
    noise = standard_noise(law, 400_000, np.random.default_rng(1))
    for power, expected in ((3, THIRD_MOMENT[law]), (4, FOURTH_MOMENT[law])):
        values = noise**power
        assert abs(values.mean() - expected) < STANDARD_ERRORS * values.std() / np.sqrt(len(noise))


@pytest.mark.parametrize("law", LAWS)
def test_observational_samples_have_the_population_moments(law):
    model = linear_model(law)
    assert_has_moments(model.sample(N, np.random.default_rng(2)), *model.population())


@pytest.mark.parametrize("law", ["gaussian", "gumbel"])
@pytest.mark.parametrize("kind", KINDS)
def test_interventional_samples_have_the_population_moments(kind, law):
    rng = np.random.default_rng(3)
    model = linear_model(law)
    changed = model.intervened(Interventions(kind).draw(model, [1, 3], rng))
    assert_has_moments(changed.sample(N, rng), *changed.population())


@pytest.mark.parametrize("kind", KINDS)
def test_intervention_changes_the_population_of_every_target(kind):
    """Also of the source 3, whose mechanism has no parents to change."""
    model = linear_model()
    for target in range(5):
        changes = Interventions(kind).draw(model, [target], np.random.default_rng(4))
        mean, covariance = model.population()
        new_mean, new_covariance = model.intervened(changes).population()
        # Not a descendant of anything intervened on, so all else about the target is equal.
        assert abs(new_mean - mean)[target] + abs(new_covariance - covariance)[target, target] > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_non_targets_keep_the_very_same_node(kind):
    model = linear_model()
    changed = model.intervened(Interventions(kind).draw(model, [0, 2], np.random.default_rng(5)))
    assert [changed.nodes[j] is model.nodes[j] for j in range(5)] == [False, True, False, True, True]


@pytest.mark.parametrize("kind", KINDS)
def test_non_targets_keep_their_residual_distribution(kind):
    rng = np.random.default_rng(6)
    model = linear_model()
    X = model.intervened(Interventions(kind).draw(model, [0], rng)).sample(N, rng)
    for j in (1, 2, 3, 4):
        residual = X[:, j] - X @ model.weights()[:, j]
        node = model.nodes[j]
        assert_has_moments(residual[:, None], np.array([node.offset]), np.array([[node.scale**2 * node.noise_variance]]))


def test_hard_interventions_cut_the_parents():
    model = linear_model()
    for kind in ("hard", "hard_constant"):
        changed = model.intervened(Interventions(kind).draw(model, [1], np.random.default_rng(7)))
        assert not changed.adjacency()[:, 1].any()
        assert np.array_equal(np.delete(changed.adjacency(), 1, axis=1), np.delete(model.adjacency(), 1, axis=1))


@pytest.mark.parametrize("kind", ["shift", "scale", "noise", "mechanism_change", "imperfect"])
def test_soft_interventions_keep_the_parents(kind):
    model = linear_model()
    changed = model.intervened(Interventions(kind).draw(model, [1], np.random.default_rng(8)))
    assert np.array_equal(changed.adjacency(), model.adjacency())


def test_constant_intervention_has_no_variance():
    model = linear_model()
    changes = Interventions("hard_constant", {"constant": -5.0}).draw(model, [1], np.random.default_rng(9))
    assert np.all(model.intervened(changes).sample(10, np.random.default_rng(0))[:, 1] == -5.0)


def test_sizes_are_those_asked_for():
    model = linear_model()
    sizes = {"hard_mean": 3.0, "hard_variance": 0.25, "shift": 2.0, "scale": 3.0, "added_variance": 7.0, "imperfect": 4.0}
    rng = np.random.default_rng(10)
    changed = {kind: Interventions(kind, sizes).intervene(kind, model.nodes[1], rng) for kind in KINDS}
    assert (changed["hard"].offset, changed["hard"].noise_variance) == (3.0, 0.25)
    assert changed["shift"].offset == model.nodes[1].offset + 2.0
    assert changed["scale"].noise_variance == 9.0 * model.nodes[1].noise_variance
    assert changed["noise"].noise_variance == model.nodes[1].noise_variance + 7.0
    assert np.allclose(changed["imperfect"].mechanism.weights, model.nodes[1].mechanism.weights + 4.0)


def test_mixture_draws_kinds_by_their_weights():
    """Shares within five standard errors of 2000 draws."""
    model = linear_model()
    interventions = Interventions({"shift": 3.0, "scale": 1.0, "noise": 0.0}, {"shift": 1.0, "scale": 2.0})
    rng = np.random.default_rng(11)
    shifted = [interventions.draw(model, [0], rng)[0].offset != 0 for _ in range(2000)]
    assert abs(np.mean(shifted) - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 2000)


def test_every_kind_occurs_in_the_plain_mixture():
    assert set(Interventions("mixture").weights()) == set(KINDS)


def test_one_kind_is_drawn_per_environment():
    model = linear_model()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        changes = Interventions({"shift": 1.0, "noise": 1.0}).draw(model, range(5), rng)
        shifted = [changes[j].offset != model.nodes[j].offset for j in range(5)]
        assert len(set(shifted)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("shifts",), "did you mean 'shift'"),
        (({"shift": 0.0},), "must not all be 0"),
        (("hard", {"hard_variance": -1.0}), "'hard_variance' must be at least 0"),
        (("hard", {"scale": {"normal": (1.0, 1.0)}}), "'scale' must be at least 0"),
        (("hard", {"hard_men": 1.0}), "did you mean 'hard_mean'"),
    ],
)
def test_impossible_interventions_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Interventions(*arguments)


def test_order_must_be_causal_and_complete():
    nodes = linear_model().nodes
    with pytest.raises(InputError, match="variable 0 before its parent 3"):
        LinearModel(nodes, np.array([0, 3, 4, 1, 2]))
    with pytest.raises(InputError, match="permutation of 5"):
        LinearModel(nodes, np.array([3, 0, 4, 1]))


def test_population_refuses_what_is_not_linear():
    class Square:
        def __call__(self, parents, noise):
            return parents[:, 0] ** 2 + noise

    nodes = (Node(np.array([], dtype=int), SOURCE), Node(np.array([0]), Square()))
    model = StructuralModel(nodes, np.array([0, 1]))
    assert model.sample(3, np.random.default_rng(0)).shape == (3, 2)
    with pytest.raises(InputError, match="needs linear mechanisms, got Square at 1"):
        LinearModel(nodes, np.array([0, 1])).population()
