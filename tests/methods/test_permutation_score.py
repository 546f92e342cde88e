"""The split score against a slow reference on samples, and the search for graph and targets on models whose answer is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from awkward_data import degenerate
from scipy import stats

from bench.errors import InputError
from bench.graphs import are_acyclic, shd
from bench.orders import OrderSearch, adjacency, mask_of
from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
from bench.types import Budget, Environment, Observed
from methods.permutation_score import HARD, MECHANISM, NOISE, SHARED, SHIFT, SplitScore

KINDS = ("shift", "noise", "hard", "mechanism")

# 0 -> 1 -> 2 <- 3, 3 -> 4
DAG = np.zeros((5, 5), dtype=bool)
DAG[[0, 1, 3, 3], [1, 2, 2, 4]] = True


def sample(rng: np.random.Generator, n: int, targets: set[int], kind: str = "hard") -> np.ndarray:
    """Weights 1.2, noise N(0, 1); what a target gets of its own is moved by 3, or tripled."""
    X = np.zeros((n, 5))
    for j in (0, 1, 3, 2, 4):
        hit = kind if j in targets else None
        weights = {"hard": 0.0, "mechanism": -1.2}.get(hit, 1.2) * DAG[:, j]
        scale = 3.0 if hit == "noise" or (hit == "mechanism" and not DAG[:, j].any()) else 1.0
        X[:, j] = X @ weights + scale * rng.normal(size=n) + 3.0 * (hit in ("hard", "shift"))
    return X


def problem(targets: list[set[int]], kind: str = "hard", n: int = 100, seed: int = 0, known: bool = True) -> Observed:
    rng = np.random.default_rng(seed)
    return Observed(
        tuple(Environment(sample(rng, n, t, kind), (not t) or None if known else None) for t in targets),
    )


def fit(observed: Observed, spec: str = "permutation_score", seed: int = 0, budget: Budget | None = None):
    return make_method(spec).fit(observed, rng=np.random.default_rng(seed), budget=budget)


def prepared(spec: str, seed: int):
    """Standardised, shuffled data as the runner gives them, with the true graph and targets in the same order."""
    found = prepare(make_problem(spec, seed=seed), seed=seed).problem
    return found.observed, found.truth.adjacency, found.truth.targets


# The score, against least squares on the samples


def slow_score(observed: Observed, j: int, parents: list[int], kind, penalty: float, target_cost: float) -> float:
    """The documented score of one split, from densities of samples and nothing else."""
    Xs = [e.X for e in observed.environments]

    def cost(n: int, n_parameters: int) -> float:
        return 0.5 * penalty * np.log(n) * n_parameters

    group = [e for e, z in enumerate(kind) if z in (SHARED, SHIFT)]
    X = np.concatenate([Xs[e] for e in group])
    # One column for the shared intercept, and one for each shifted environment instead.
    shared = np.concatenate([np.full(len(Xs[e]), kind[e] == SHARED) for e in group])
    shifted = [np.concatenate([np.full(len(Xs[f]), f == e) for f in group]) for e in group if kind[e] == SHIFT]
    design = np.column_stack([X[:, parents], shared, *shifted])
    coefficients, *_ = np.linalg.lstsq(design, X[:, j], rcond=None)
    residual = X[:, j] - design @ coefficients
    n_shifted = len(shifted)
    score = stats.norm.logpdf(residual, scale=residual.std()).sum() - cost(len(X), len(parents) + 2) - n_shifted * target_cost
    score -= sum(cost(len(Xs[e]), 1) for e in group if kind[e] == SHIFT)
    for X, z in zip(Xs, kind, strict=True):
        if z in (SHARED, SHIFT):
            continue
        y = X[:, j]
        if z == NOISE:
            y = y - X[:, parents] @ coefficients[: len(parents)]
        if z == MECHANISM:
            own = np.column_stack([X[:, parents], np.ones(len(X))])
            y = y - own @ np.linalg.lstsq(own, y, rcond=None)[0]
        n_parameters = len(parents) + 2 if z == MECHANISM else 2
        score += stats.norm.logpdf(y, y.mean(), y.std()).sum() - cost(len(X), n_parameters) - target_cost
    return float(score)


def random_environments(seed: int, sizes=(30, 12, 20, 9), known: bool = False) -> Observed:
    """Environments whose last variable is moved, scaled, cut off or bent now and then."""
    rng = np.random.default_rng(seed)
    environments = []
    for e, n in enumerate(sizes):
        X = rng.normal(size=(n, 4))
        weights = np.array([1.0, -0.7, 0.0]) * (rng.random() < 0.7)
        X[:, 3] = X[:, :3] @ weights + rng.choice([1, 3]) * X[:, 3] + rng.choice([0, 0, 4])
        environments.append(Environment(X, is_observational=True if known and e == 0 else None))
    return Observed(tuple(environments))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("parents", [[], [0], [0, 1, 2]])
def test_the_score_of_the_split_is_that_of_its_densities(seed, parents):
    observed = random_environments(seed, known=seed % 2 == 0)
    score = SplitScore(observed, KINDS, penalty=1.5, target_penalty=1.0)
    found, kind, _ = score.split(3, sum(1 << i for i in parents))
    assert found == pytest.approx(slow_score(observed, 3, parents, kind, 1.5, np.log(4)), rel=1e-8)


def test_the_split_is_the_best_of_all_on_most_draws():
    """All 5⁴ splits are enumerated. Measured over 20 draws: 18 equal."""
    hits = 0
    for seed in range(20):
        observed = random_environments(seed)
        found, _, _ = SplitScore(observed, KINDS, penalty=2.0, target_penalty=1.0).split(3, 0b11)
        splits = [z for z in product(range(5), repeat=4) if SHARED in z]
        values = [slow_score(observed, 3, [0, 1], z, 2.0, np.log(4)) for z in splits if _fits(observed, z, 2)]
        assert found <= max(values) + 1e-6
        hits += found >= max(values) - 1e-6
    assert hits >= 15


def _fits(observed: Observed, kind, k: int) -> bool:
    """Five samples more than coefficients wherever a variance is fitted, as documented."""
    n = [e.n_samples for e in observed.environments]
    shared = sum(m for m, z in zip(n, kind, strict=True) if z <= SHIFT)
    alone = [m >= (k + 5 if z == MECHANISM else 5) for m, z in zip(n, kind, strict=True) if z > SHIFT]
    return shared >= k + 5 and all(alone)


@pytest.mark.parametrize(("kind", "expected"), [("shift", SHIFT), ("noise", NOISE), ("hard", HARD), ("mechanism", MECHANISM)])
def test_each_kind_of_intervention_is_told_apart_given_the_true_parents(kind, expected):
    observed = problem([set(), set(), {2}, {2}, {0}], kind, n=300)
    score = SplitScore(observed, KINDS, penalty=2.0, target_penalty=1.0)
    assert score.split(2, mask_of(DAG[:, 2]))[1].tolist() == [SHARED, SHARED, expected, expected, SHARED]


def test_environments_known_to_be_observational_share_every_mechanism():
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(50, 1)) + m for m in (0, 4, 4, 4)]
    observed = Observed(tuple(Environment(X, is_observational=e < 2) for e, X in enumerate(samples)))
    score = SplitScore(observed, KINDS, penalty=2.0, target_penalty=1.0)
    assert score.split(0, 0)[1][:2].tolist() == [SHARED, SHARED]
    assert (score.target_probability(0, 0)[:2] == 0).all()
    free = SplitScore(Observed(tuple(Environment(X) for X in samples)), KINDS, penalty=2.0, target_penalty=1.0)
    assert (free.target_probability(0, 0) > 0.5).tolist() == [True, False, False, False]


def test_units_change_the_score_by_the_same_amount_whatever_the_parents():
    observed = random_environments(3)
    units = np.array([10.0, 0.1, 3.0, 1000.0])
    scaled = Observed(tuple(Environment(5 + units * e.X) for e in observed.environments))
    plain, other = (SplitScore(o, KINDS, penalty=2.0, target_penalty=1.0) for o in (observed, scaled))
    differences = [other(3, mask) - plain(3, mask) for mask in range(8)]
    np.testing.assert_allclose(differences, -71 * np.log(1000.0), rtol=1e-9)  # 71 samples


# The search


def test_the_search_finds_the_best_of_all_graphs_on_nearly_all_draws():
    """543 graphs over four variables. Measured over 20 draws: 19."""
    pairs = ~np.eye(4, dtype=bool)
    graphs = np.zeros((2**12, 4, 4), dtype=bool)
    graphs[:, pairs] = list(product([False, True], repeat=12))
    graphs = graphs[are_acyclic(graphs)]
    hits = 0
    for seed in range(20):
        score = SplitScore(random_environments(seed), KINDS, penalty=1.0, target_penalty=1.0)
        search = OrderSearch(score, 4, np.random.default_rng(seed))
        found = search.run(10).score
        optimum = max(sum(search.local_score(j, mask_of(g[:, j])) for j in range(4)) for g in graphs)
        assert found <= optimum + 1e-7
        hits += found >= optimum - 1e-7
    assert hits >= 17


TARGETS = [set(), {0}, {1}, {2}, {3}, {4}, {1, 3}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("known", [True, False])
def test_graph_and_targets_of_a_clear_model_are_recovered(kind, known):
    """Over 5 draws of 200 samples per environment. Measured: SHD 0 and no wrong target in all."""
    wrong = 0
    for seed in range(5):
        estimate = fit(problem(TARGETS, kind, n=200, seed=seed, known=known)).estimate
        called = [set(np.flatnonzero(row > 0.5)) for row in estimate.target_probability]
        wrong += shd(estimate.point_graph, DAG) + sum(len(a ^ b) for a, b in zip(called, TARGETS, strict=True))
    assert wrong <= 2


def test_the_shared_mechanism_is_found_where_most_environments_hit_something_and_none_is_known_to_be_observational():
    spec = (
        "synthetic[n_variables=8,edges_per_node=1.5,n_observational=0,n_environments=10,n_per_environment=[50,100],"
        "n_targets=[1,2],interventions=hard]"
    )
    # Mean over 5 draws. Measured: 0 and .96.
    distances, recalls = [], []
    for seed in range(5):
        observed, graph, targets = prepared(spec, seed)
        estimate = fit(observed).estimate
        distances.append(shd(estimate.point_graph, graph))
        recalls.append((estimate.target_probability > 0.5)[targets].mean())
    assert np.mean(distances) <= 1
    assert np.mean(recalls) >= 0.9


def test_more_kinds_are_needed_where_interventions_are_mixed():
    """Mean target errors over 6 draws; a model of hard interventions alone takes shifts for something else."""
    spec = "synthetic[n_variables=8,edges_per_node=1.5,n_environments=10,n_targets=[1,2],interventions=mixture]"
    errors = {"permutation_score": 0, "permutation_score[kinds=[hard]]": 0}
    for seed in range(6):
        observed, graph, targets = prepared(spec, seed)
        for method in errors:
            estimate = fit(observed, method).estimate
            errors[method] += ((estimate.target_probability > 0.5) != targets).sum() + shd(estimate.point_graph, graph)
    assert 3 * errors["permutation_score"] < errors["permutation_score[kinds=[hard]]"]


def test_the_answer_is_renamed_with_variables_and_environments():
    observed = problem(TARGETS, n=150)
    order, environments = np.array([3, 0, 4, 2, 1]), [2, 6, 0, 1, 5, 4, 3]
    renamed = observed.permuted(order)
    renamed = Observed(tuple(renamed.environments[e] for e in environments))
    plain, other = fit(observed).estimate, fit(renamed).estimate
    np.testing.assert_array_equal(other.point_graph, plain.point_graph[np.ix_(order, order)])
    np.testing.assert_allclose(other.edge_probability, plain.edge_probability[np.ix_(order, order)], atol=1e-6)
    np.testing.assert_allclose(other.target_probability, plain.target_probability[np.ix_(environments, order)], atol=1e-6)


def test_probabilities_agree_with_the_point_graph_and_its_split():
    observed, *_ = prepared("synthetic[n_variables=8,edges_per_node=1.5]", seed=1)
    estimate = fit(observed).estimate
    score = SplitScore(observed, KINDS, penalty=2.0, target_penalty=1.0)
    for j in range(8):
        kind = score.split(j, mask_of(estimate.point_graph[:, j]))[1]
        assert ((estimate.target_probability[:, j] > 0.5) == (kind != SHARED)).all()
    assert (estimate.edge_probability[estimate.point_graph] > 1 / 3).all()  # the best of at most three states
    assert (estimate.edge_probability + estimate.edge_probability.T <= 1 + 1e-12).all()


def test_a_higher_price_leaves_fewer_edges_and_fewer_targets():
    observed, *_ = prepared("synthetic[n_variables=10,edges_per_node=2.0,n_per_environment=20,n_observational=60]", seed=3)
    edges = [fit(observed, f"permutation_score[penalty={p}]").estimate.point_graph.sum() for p in (0.1, 2.0, 20.0)]
    assert edges[0] > edges[1] > edges[2]
    targets = [
        (fit(observed, f"permutation_score[target_penalty={p}]").estimate.target_probability > 0.5).sum()
        for p in (0.0, 1.0, 30.0)
    ]
    assert targets[0] > targets[1] > targets[2]


def test_bootstrap_frequencies_keep_the_point_graph():
    observed = problem(TARGETS, n=100)
    point, many = fit(observed).estimate, fit(observed, "permutation_score[bootstrap=4]").estimate
    np.testing.assert_array_equal(point.point_graph, many.point_graph)
    assert set(np.unique(many.edge_probability)) <= {0, 0.25, 0.5, 0.75, 1}
    assert (many.edge_probability[DAG] >= 0.5).all()


def test_a_spent_budget_gives_a_graph_and_says_so():
    fitted = fit(problem(TARGETS, n=50), budget=Budget(seconds=0.0))
    assert fitted.cut_short
    fitted.estimate.check(len(TARGETS), 5)


# Hard input


@pytest.mark.parametrize("sizes", [(1,), (1, 1), (3, 1, 2), (8, 5, 5), (60, 3, 30)])
@pytest.mark.parametrize("known", [True, None])
def test_duplicates_constants_and_more_variables_than_samples_give_a_valid_answer(sizes, known):
    """Warnings are errors here."""
    estimate = fit(degenerate(sizes, known)).estimate
    estimate.check(len(sizes), 8)
    assert not estimate.point_graph[2].any()
    assert not estimate.point_graph[:, 2].any()
    assert not (estimate.target_probability[:, 2] > 0.5).any()


@pytest.mark.parametrize("d", [1, 2])
def test_one_or_two_variables(d):
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(50, d)) + 4 * (e == 2) for e in range(3)]
    estimate = fit(Observed(tuple(Environment(X) for X in samples))).estimate
    assert (estimate.target_probability > 0.5).any(axis=1).tolist() == [False, False, True]
    assert not estimate.point_graph.any()


def test_a_single_environment_has_no_targets():
    observed = problem([set()], n=100, known=False)
    assert not (fit(observed).estimate.target_probability > 0.5).any()


def test_an_environment_of_one_sample_is_a_target_where_it_lies_far_off():
    rng = np.random.default_rng(0)
    far = np.zeros((1, 3))
    far[0, 1] = 20.0
    observed = Observed((Environment(rng.normal(size=(100, 3)), True), Environment(far)))
    assert (fit(observed).estimate.target_probability > 0.5).tolist() == [[False] * 3, [False, True, False]]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("permutation_score[kinds=[]]", "kinds"),
        ("permutation_score[kinds=[soft]]", "kinds"),
        ("permutation_score[penalty=0]", "penalty"),
        ("permutation_score[target_penalty=-1]", "target_penalty"),
    ],
)
def test_wrong_parameters_are_refused_before_any_work(spec, message):
    with pytest.raises(InputError, match=message):
        make_method(spec)


def test_the_adjacency_of_the_answer_points_from_parent_to_child():
    observed = problem(TARGETS, n=300)
    assert (fit(observed).estimate.point_graph == adjacency([mask_of(column) for column in DAG.T])).all()
