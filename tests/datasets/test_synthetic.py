"""Graphs, mechanisms and whole models of the synthetic datasets, against what each family promises."""

import numpy as np
import pytest

from bench import random_graphs as graphs
from bench import registry
from bench.errors import InputError
from bench.interventions import Interventions
from bench.scm import Linear, LinearModel
from datasets.synthetic import mechanisms
from datasets.synthetic.model import LARGEST_STANDARD_DEVIATION, draw_model

FAMILIES = ["linear", "mlp_bacadi", "mlp_dcdi", "dcdi_nonadditive", "smooth"]
KINDS = ["hard_constant", "hard", "shift", "scale", "noise", "mechanism_change", "imperfect"]


def model(seed=0, **changes):
    settings = {
        "n_variables": 8,
        "graph": "erdos_renyi",
        "edges_per_node": 1.5,
        "mechanism": "linear",
        "weights": {"plus_minus": (0.5, 2.0)},
        "length_scale": 1.0,
        "noise": "gaussian",
        "noise_variance": (0.5, 1.5),
    }
    return draw_model(np.random.default_rng(seed), **(settings | changes))


# Graphs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", graphs.GRAPHS)
def test_graphs_point_along_their_order(name):
    for seed in range(5):
        A = graphs.GRAPHS[name](30, 2.0, np.random.default_rng(seed))
        assert A.dtype == bool
        assert not np.tril(A).any()


@pytest.mark.parametrize(("d", "edges_per_node"), [(10, 1.0), (20, 2.0), (5, 2.0), (10, 0.3)])
def test_erdos_renyi_has_the_expected_number_of_edges(d, edges_per_node):
    """Mean over 400 graphs within five standard errors of the binomial."""
    rng = np.random.default_rng(0)
    numbers = [graphs.erdos_renyi(d, edges_per_node, rng).sum() for _ in range(400)]
    share = edges_per_node / ((d - 1) / 2)
    error = np.sqrt(d * (d - 1) / 2 * share * (1 - share) / 400)
    assert abs(np.mean(numbers) - edges_per_node * d) <= 5 * error


def test_erdos_renyi_gives_every_pair_the_same_chance():
    """Shares of the 28 pairs of 8 variables over 2000 graphs, within five binomial standard errors."""
    rng = np.random.default_rng(1)
    share = np.mean([graphs.erdos_renyi(8, 1.0, rng) for _ in range(2000)], axis=0)
    expected = 8 / 28
    assert np.all(np.abs(share[np.triu_indices(8, 1)] - expected) < 5 * np.sqrt(expected * (1 - expected) / 2000))


def test_erdos_renyi_can_be_full_but_not_fuller():
    assert graphs.erdos_renyi(5, 2.0, np.random.default_rng(0)).sum() == 10
    with pytest.raises(InputError, match="at most"):
        graphs.erdos_renyi(5, 2.1, np.random.default_rng(0))


def test_scale_free_graph_of_bacadi_has_37_edges():
    for name in ("scale_free_in", "scale_free_out"):
        assert graphs.GRAPHS[name](20, 2.0, np.random.default_rng(0)).sum() == 37


def test_scale_free_edges_per_node_may_be_a_fraction():
    """Mean within five standard errors of the binomial choice between 1 and 2 parents, for all but the first two nodes."""
    rng = np.random.default_rng(0)
    numbers = [graphs.scale_free_out(50, 1.25, rng).sum() for _ in range(100)]
    expected = 1 + 48 * 1.25
    assert abs(np.mean(numbers) - expected) < 5 * np.sqrt(48 * 0.25 * 0.75 / 100)


@pytest.mark.parametrize(("name", "heavy", "light"), [("scale_free_out", 1, 0), ("scale_free_in", 0, 1)])
def test_scale_free_degrees_are_heavy_on_the_promised_side(name, heavy, light):
    """The largest degree grows like sqrt(d) on one side and is at most the number attached on the other."""
    for seed in range(5):
        A = graphs.GRAPHS[name](400, 2.0, np.random.default_rng(seed))
        assert A.sum(axis=heavy).max() > 15
        assert A.sum(axis=light).max() == 2


def test_preferential_attachment_is_more_unequal_than_chance():
    """Against parents alike among older nodes, whose number of children stays below log growth: variance of the
    out-degree at least twice as large in each of five draws."""
    d = 400
    for seed in range(5):
        rng = np.random.default_rng(seed)
        alike = np.zeros((d, d), dtype=bool)
        for new in range(1, d):
            alike[rng.choice(new, min(2, new), replace=False), new] = True
        preferred = graphs.scale_free_out(d, 2.0, rng)
        assert preferred.sum(axis=1).var() > 2 * alike.sum(axis=1).var()


def test_chain_is_one_path():
    assert np.argwhere(graphs.chain(4, 9.0, np.random.default_rng(0))).tolist() == [[0, 1], [1, 2], [2, 3]]


def test_random_tree_gives_every_node_but_one_a_parent_alike_among_the_earlier():
    rng = np.random.default_rng(0)
    trees = np.array([graphs.random_tree(6, 9.0, rng) for _ in range(2000)])
    assert np.all(trees.sum(axis=1) == [0, 1, 1, 1, 1, 1])
    share = trees.mean(axis=0)[:5, 5]
    assert np.all(np.abs(share - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 2000))  # five binomial standard errors


@pytest.mark.parametrize("name", graphs.GRAPHS)
def test_graphs_of_one_variable_have_no_edge(name):
    assert graphs.GRAPHS[name](1, 0.0, np.random.default_rng(0)).tolist() == [[False]]


# Mechanisms -----------------------------------------------------------------------------------------------------------


def draw(family, n_parents=2, seed=0):
    rng = np.random.default_rng(seed)
    return mechanisms.draw_mechanism(family, n_parents, rng, weights={"plus_minus": (0.5, 2.0)}, length_scale=1.0)


def test_linear_weights_are_drawn_within_the_range():
    weights = draw("linear", 1000).weights
    assert np.all((np.abs(weights) >= 0.5) & (np.abs(weights) <= 2.0))


@pytest.mark.parametrize(
    ("family", "hidden", "activation"),
    [
        ("mlp_bacadi", 5, lambda x: 1 / (1 + np.exp(-x))),
        ("mlp_dcdi", 10, lambda x: np.maximum(x, 0) + 0.25 * np.minimum(x, 0)),
    ],
)
def test_additive_networks_are_the_formula_of_their_paper(family, hidden, activation):
    f = draw(family)
    x, noise = np.random.default_rng(1).normal(size=(7, 2)), np.random.default_rng(2).normal(size=7)
    assert f.hidden_weights.shape == (2, hidden)
    by_hand = [
        sum(f.output_weights[h] * activation(x[n] @ f.hidden_weights[:, h] + f.hidden_biases[h]) for h in range(hidden))
        + f.output_bias
        + noise[n]
        for n in range(7)
    ]
    assert np.allclose(f(x, noise), by_hand, rtol=1e-12)


def test_non_additive_network_takes_the_noise_as_an_input():
    f = draw("dcdi_nonadditive")
    assert f.hidden_weights.shape == (3, 20)
    rng = np.random.default_rng(3)
    x, noise = rng.normal(size=(50, 2)), rng.normal(size=50)
    effect = f(x, noise) - f(x, np.zeros(50))
    moved = f(x + 1.0, noise) - f(x + 1.0, np.zeros(50))
    assert np.abs(effect - moved).max() > 0.1  # what the noise does depends on the parents
    assert np.allclose(
        f(x, noise),
        np.tanh(np.column_stack([x, noise]) @ f.hidden_weights + f.hidden_biases) @ f.output_weights + f.output_bias,
    )


@pytest.mark.parametrize("family", ["linear", "mlp_bacadi", "mlp_dcdi", "smooth"])
def test_additive_mechanisms_add_the_noise(family):
    f = draw(family)
    x, noise = np.random.default_rng(4).normal(size=(2, 50, 2))
    assert np.allclose(f(x, noise[:, 0]) - f(x, np.zeros(50)), noise[:, 0])


@pytest.mark.parametrize("length_scale", [0.5, 2.0])
def test_smooth_functions_have_the_kernel_of_their_length_scale(length_scale):
    """Covariance of values at three points over 3000 functions, within five standard errors."""
    x = np.array([[0.0, 0.0], [0.7, 0.0], [1.0, -2.0]])
    rng = np.random.default_rng(5)
    values = np.array([mechanisms.smooth(2, rng, length_scale=length_scale)(x, np.zeros(3)) for _ in range(3000)])
    kernel = np.exp(-((x[:, None] - x[None]) ** 2).sum(axis=2) / (2 * length_scale**2))
    products = values[:, :, None] * values[:, None, :]
    assert np.all(np.abs(products.mean(axis=0) - kernel) < 5 * products.std(axis=0) / np.sqrt(3000))
    assert np.all(np.abs(values.mean(axis=0)) < 5 * values.std(axis=0) / np.sqrt(3000))


@pytest.mark.parametrize("family", FAMILIES)
def test_redrawn_mechanism_is_another_of_the_same_family(family):
    f = draw(family)
    g = f.redrawn(np.random.default_rng(6))
    x, noise = np.random.default_rng(7).normal(size=(20, 2)), np.zeros(20)
    assert type(g) is type(f)
    assert g(x, noise).shape == (20,)
    assert not np.allclose(f(x, noise), g(x, noise))
    if family != "linear":
        assert (g.activation, g.additive, g.hidden_weights.shape) == (f.activation, f.additive, f.hidden_weights.shape)


@pytest.mark.parametrize("family", FAMILIES)
def test_perturbed_mechanism_differs_in_its_output_weights_alone(family):
    f = draw(family)
    g = f.perturbed(3.0, np.random.default_rng(8))
    if family == "linear":
        assert np.allclose(g.weights, f.weights + 3.0)
    else:
        assert np.allclose(g.output_weights, f.output_weights + 3.0)
        assert g.hidden_weights is f.hidden_weights
        assert g.output_bias == f.output_bias


# Models ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_non_targets_are_the_same_function_of_parents_and_noise_in_every_environment(family, kind):
    drawn = model(mechanism=family)
    targets = [1, 4]
    changed = drawn.intervened(Interventions(kind).draw(drawn, targets, np.random.default_rng(1)))
    assert all((changed.nodes[j] is drawn.nodes[j]) != (j in targets) for j in range(8))
    assert np.isfinite(changed.sample(100, np.random.default_rng(2))).all()


@pytest.mark.parametrize("family", ["mlp_bacadi", "mlp_dcdi", "dcdi_nonadditive", "smooth"])
@pytest.mark.parametrize("kind", ["mechanism_change", "imperfect"])
def test_changed_mechanisms_answer_differently_to_the_same_parents(family, kind):
    drawn = model(mechanism=family)
    target = next(j for j in range(8) if len(drawn.nodes[j].parents))
    node = Interventions(kind).draw(drawn, [target], np.random.default_rng(3))[target]
    parents = np.random.default_rng(4).normal(size=(100, len(node.parents)))
    before = drawn.nodes[target].sample(parents, np.random.default_rng(5))
    assert not np.allclose(before, node.sample(parents, np.random.default_rng(5)))


def test_variables_are_not_in_causal_order():
    """Over 200 models, edges point up and down alike, within five standard errors of the mean of each model's share."""
    shares = []
    for seed in range(200):
        A = model(seed, graph="random_tree").adjacency()
        shares.append(np.triu(A).sum() / A.sum())
    assert abs(np.mean(shares) - 0.5) < 5 * np.std(shares) / np.sqrt(200)


def test_noise_variances_are_drawn_per_node_and_sources_can_have_their_own():
    drawn = model(n_variables=50, edges_per_node=1.0, noise_variance=(1.0, 2.0), source_variance=(5.0, 6.0))
    for node in drawn.nodes:
        low, high = (1.0, 2.0) if len(node.parents) else (5.0, 6.0)
        assert low <= node.noise_variance <= high
    assert len({node.noise_variance for node in drawn.nodes}) == 50


def test_only_linear_models_have_a_population():
    assert isinstance(model(), LinearModel)
    assert not hasattr(model(mechanism="smooth"), "population")


@pytest.mark.parametrize("family", FAMILIES)
def test_exploding_variances_stay_finite_and_are_counted(family):
    """On a chain of 400 with weights of 4 the last variance would be about 10^480, beyond floating point."""
    problem = registry.make_problem(
        "synthetic",
        seed=0,
        n_variables=400,
        graph="chain",
        mechanism=family,
        weights=4.0,
        n_observational=200,
        n_environments=3,
        n_per_environment=50,
        interventions="imperfect",
        n_targets=20,
    )
    X = problem.observed.observational()
    # The pilot's deviation, which the limit is about, has a relative error of some percent.
    assert X.std(axis=0).max() < 1.5 * LARGEST_STANDARD_DEVIATION
    assert np.isfinite(problem.observed.pooled()).all()
    assert (problem.diagnostics["n_scaled_down"] > 0) == (family in ("linear", "mlp_dcdi"))


def test_scaled_down_nodes_are_still_a_linear_model_with_that_population():
    drawn = model(n_variables=60, graph="chain", weights=4.0)
    deviation = np.sqrt(drawn.population()[1].diagonal())
    assert deviation.max() < 1.5 * LARGEST_STANDARD_DEVIATION
    X = drawn.sample(4000, np.random.default_rng(0))
    # Five standard errors of a deviation, sqrt(1 / 2n) each.
    assert np.all(np.abs(X.std(axis=0) / deviation - 1) < 5 / np.sqrt(2 * 4000))


def test_protocol_sized_models_are_never_scaled_down():
    for seed in range(50):
        assert all(node.scale == 1.0 for node in model(seed, n_variables=20, edges_per_node=2.0).nodes)


# The registered datasets ----------------------------------------------------------------------------------------------


def test_sizes_and_numbers_are_those_asked_for():
    problem = registry.make_problem(
        "synthetic[n_variables=7,n_observational=40,n_environments=3,n_per_environment=[5, 6, 7],n_targets=2,n_held_out=2]",
        seed=0,
        few_shot_sizes=[2, 4],
        n_query=9,
        held_out_n_targets=3,
    )
    assert [e.X.shape for e in problem.observed.environments] == [(40, 7), (5, 7), (6, 7), (7, 7)]
    assert problem.truth.targets.sum(axis=1).tolist() == [0, 2, 2, 2]
    assert [(h.support.shape, h.query.shape, h.sizes) for h in problem.held_out] == [((4, 7), (9, 7), (2, 4))] * 2
    assert [h.targets.sum() for h in problem.held_out] == [3, 3]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("synthetic[graph=erdos_reny]", "'erdos_renyi'"),
        ("synthetic[n_variables=0]", "greater than or equal to 1"),
        ("synthetic[edges_per_node=5]", r"at most \(d - 1\) / 2 = 4.5"),
        ("synthetic[noise_variance=-1]", "above 0"),
        ("synthetic[n_targets=11]", "at most the number of variables, 10, got 11"),
        ("synthetic[n_targets=[3, 1]]", "low <= high"),
        ("synthetic[n_targets={1: 0}]", "must not all be 0"),
        ("synthetic[n_per_environment=[1, 2, 3]]", "or 10 sizes, got 3 sizes"),
        ("synthetic[interventions={shift: -1}]", "greater than or equal to 0"),
        ("synthetic[intervention_sizes={shft: 1}]", "'shift'"),
        ("synthetic[n_observational=0,n_environments=0]", "must not both be 0"),
        ("synthetic[few_shot_sizes=[]]", "at least 1 item"),
    ],
)
def test_impossible_parameters_are_one_line(spec, message):
    with pytest.raises(InputError, match=message) as error:
        registry.make_problem(spec, seed=0)
    assert "\n" not in str(error.value)


def test_a_thousand_variables_in_forty_environments_are_possible():
    problem = registry.make_problem(
        "synthetic[n_variables=1000,edges_per_node=2,n_environments=40,n_per_environment=50,n_observational=100]", seed=0
    )
    assert problem.observed.pooled().shape == (2100, 1000)


def test_bacadi_protocol():
    problem = registry.make_problem("bacadi", seed=0)
    assert [e.n_samples for e in problem.observed.environments] == [100] + [10] * 20
    assert problem.truth.targets.sum(axis=1).tolist() == [0] + [1] * 20
    assert not np.array_equal(problem.truth.targets[1:], np.eye(20))  # the published generator's giveaway
    for held_out in problem.held_out:
        values = held_out.query[:, held_out.targets]
        assert values.shape == (100, 4)
        # N(-5, variance .5): five standard errors of the mean of 400.
        assert abs(values.mean() + 5.0) < 5 * np.sqrt(0.5 / 400)
    assert len(problem.held_out) == 10
    assert registry.make_problem("bacadi[graph=scale_free_out]", seed=0).truth.adjacency.sum() == 37


def test_bacadi_targets_are_moved_by_at_least_five_deviations_of_their_mean():
    """m = z + sign(z) * 5, so that the mean of 10 samples of variance .5 is beyond 5 - 5 standard errors."""
    problem = registry.make_problem("bacadi", seed=1)
    for environment, targets in zip(problem.observed.environments[1:], problem.truth.targets[1:], strict=True):
        assert np.abs(environment.X[:, targets].mean()) > 5 - 5 * np.sqrt(0.5 / 10)


@pytest.mark.parametrize("n_variables", [10, 20])
def test_dcdi_protocol(n_variables):
    problem = registry.make_problem("dcdi", seed=0, n_variables=n_variables)
    sizes = {e.n_samples for e in problem.observed.environments}
    assert sizes == {10_000 // (n_variables + 1)}
    counts = problem.truth.targets.sum(axis=1)[1:]
    assert set(counts) == ({1} if n_variables == 10 else {1, 2})
    if n_variables == 10:
        assert np.all(problem.truth.targets.sum(axis=0) == 1)
    for environment, targets in zip(problem.observed.environments[1:], problem.truth.targets[1:], strict=True):
        X = environment.X[:, targets]
        assert np.all(np.abs(X.mean(axis=0) - 2.0) < 5 / np.sqrt(len(X)))  # N(2, 1), five standard errors
        assert np.all(np.abs(X.std(axis=0) - 1.0) < 5 / np.sqrt(2 * len(X)))


def test_dcdi_noise_variances_do_not_change_between_environments():
    """Residuals of every non-target against its true parents have one variance: five standard errors, sqrt(2 / n) each."""
    problem = registry.make_problem("dcdi", seed=2)
    A, observational = problem.truth.adjacency, problem.observed.environments[0].X
    for j in range(10):
        parents = np.flatnonzero(A[:, j])
        design = np.column_stack([np.ones(len(observational)), observational[:, parents]])
        coefficients, *_ = np.linalg.lstsq(design, observational[:, j], rcond=None)
        reference = (observational[:, j] - design @ coefficients).var()
        for environment, targets in zip(problem.observed.environments[1:], problem.truth.targets[1:], strict=True):
            if not targets[j]:
                X = environment.X
                residual = X[:, j] - np.column_stack([np.ones(len(X)), X[:, parents]]) @ coefficients
                # Both variances err, and the coefficients a little: parents under intervention lie off their mean.
                assert abs(residual.var() / reference - 1) < 5 * np.sqrt(4 / len(X)) + 0.05


def test_utigsp_protocol():
    problem = registry.make_problem("utigsp[interventions=hard]", seed=0)
    assert [e.X.shape for e in problem.observed.environments] == [(1000, 20)] * 6
    assert set(problem.truth.targets.sum(axis=1)[1:]) <= {1, 2, 3, 4}
    for environment, targets in zip(problem.observed.environments[1:], problem.truth.targets[1:], strict=True):
        X = environment.X[:, targets]
        assert np.all(np.abs(X.mean(axis=0) - 1.0) < 5 * 0.1 / np.sqrt(1000))  # N(1, variance .01), five standard errors


@pytest.mark.parametrize("interventions", ["noise", "do"])
def test_gnies_protocol_hits_three_different_variables(interventions):
    for seed in range(10):
        targets = registry.make_problem("gnies", seed=seed, interventions=interventions, n_per_environment=10).truth.targets
        assert targets.sum(axis=1).tolist() == [0, 1, 1, 1]
        assert targets.any(axis=0).sum() == 3


def test_gnies_weights_are_positive():
    drawn = model(weights=(0.5, 1.0))
    assert all((node.mechanism.weights >= 0.5).all() for node in drawn.nodes if isinstance(node.mechanism, Linear))
