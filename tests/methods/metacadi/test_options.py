"""Every option changes what it says, and nothing else."""

import dataclasses
import functools
import importlib.util

import numpy as np
import pytest

from bench.errors import InputError
from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
from bench.types import Budget, Environment, Observed
from methods.metacadi import method
from methods.metacadi.evidence import Evidence
from methods.metacadi.model import Priors
from methods.metacadi.scaling import Scaling

ENGINES = ["structure_mcmc", "differentiable"]
FEATURES = ["linear", "smooth", "random", "learned"]

D = 5
WEIGHTS = np.zeros((D, D))
WEIGHTS[[0, 1, 0, 2, 3], [1, 2, 3, 4, 4]] = [1.2, -1.0, 0.9, 1.1, -0.8]
GRAPH = WEIGHTS != 0


def environment(rng, n, target=None):
    """Samples of a linear model; a target is moved by 2.5 up or down."""
    X = rng.normal(size=(n, D))
    for j in range(D):
        X[:, j] += X @ WEIGHTS[:, j]
        if j == target:
            X[:, j] += rng.choice([-2.5, 2.5])
    return X


@functools.cache
def plain():
    """200 observational samples, and 10 environments of 40 in which each variable is shifted twice."""
    rng = np.random.default_rng(0)
    possible = [Environment(environment(rng, 40, k % D)) for k in range(10)]
    return Observed((Environment(environment(rng, 200), is_observational=True), *possible))


PLAIN_TARGETS = np.vstack([np.zeros((1, D)), np.eye(D), np.eye(D)]).astype(bool)


def new_environments(n, each=4, seed=1):
    """Every variable in turn is shifted, ``each`` times."""
    rng = np.random.default_rng(seed)
    return Observed(tuple(Environment(environment(rng, n, k % D)) for k in range(each * D))), np.tile(np.eye(D), (each, 1)) > 0


@functools.cache
def parabola(moved=2):
    """A square and a line of the first variable. Where nothing moves that, no linear trace of the square is left.

    The square is shifted in one environment, the ``moved`` variable in another.
    """
    rng, environments = np.random.default_rng(0), []
    for n, target in ((200, None), (40, 1), (40, moved)):
        X = rng.normal(size=(n, 3)) * [1.0, 0.5, 1.0]
        X[:, 0] += 3 * (target == 0)
        X[:, 1] += X[:, 0] ** 2 - 4 * (target == 1)
        X[:, 2] += X[:, 0] + 3 * (target == 2)
        environments.append(Environment(X, is_observational=True if target is None else None))
    return Observed(tuple(environments))


def parabola_targets(moved=2):
    return np.stack([np.zeros(3), np.eye(3)[1], np.eye(3)[moved]]) > 0


@pytest.fixture(autouse=True)
def learned_runs(monkeypatch):
    """Learn hidden units in one short round, since these are small problems; one entry for each time that it happened."""
    runs, fit_learned = [], method.fit_learned

    def short(*args, **kwargs):
        runs.append(kwargs["n_units"])
        return fit_learned(*args, **{**kwargs, "n_rounds": 1, "n_steps": 50})

    monkeypatch.setattr(method, "fit_learned", short)
    return runs


def fit(options, data, seed=0, budget=None):
    return make_method(options).fit(data, rng=np.random.default_rng(seed), budget=budget)


def called(estimate):
    return estimate.target_probability > 0.5


def assert_same(first, second):
    for name in ("edge_probability", "target_probability", "graph_samples", "log_weights", "point_graph"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


# Engines ----------------------------------------------------------------------------------------------------------------------


def test_gradients_find_the_graph_of_a_plain_problem_and_weigh_their_samples():
    estimate = fit("metacadi[engine=differentiable,features=linear]", plain()).estimate
    assert (estimate.point_graph == GRAPH).all()
    assert (called(estimate) == PLAIN_TARGETS).all()
    assert len(estimate.graph_samples) == 100
    assert np.ptp(estimate.weights()) > 0
    assert np.allclose(estimate.edge_probability, np.einsum("s,sij->ij", estimate.weights(), estimate.graph_samples))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_number_of_samples_is_what_was_asked_for(engine):
    estimate = fit(f"metacadi[engine={engine},n_samples=7,features=linear]", plain()).estimate
    assert estimate.graph_samples.shape == (7, D, D)
    assert (estimate.point_graph == GRAPH).all()


def test_without_average_the_best_graph_answers_alone():
    averaged, best = (fit(f"metacadi[features=linear,average={a}]", parabola()).estimate for a in ("true", "false"))
    assert (best.point_graph == averaged.point_graph).all()
    assert (best.graph_samples == best.point_graph[None]).all()
    assert (best.edge_probability == best.point_graph).all()
    assert len(np.unique(averaged.edge_probability)) > 2


def test_screening_is_for_many_variables_alone():
    assert_same(*(fit(f"metacadi[features=linear,screening={s}]", plain()).estimate for s in ("true", "false")))


@pytest.mark.parametrize("engine", ENGINES)
def test_annealing_is_hardly_needed_on_a_plain_problem(engine):
    """At most one wrong edge: gradients from the cold gave one in one of six seeds, this one, and none in the others."""
    estimate = fit(f"metacadi[engine={engine},features=linear,annealing=false]", plain()).estimate
    assert (estimate.point_graph != GRAPH).sum() <= 1
    assert (called(estimate) == PLAIN_TARGETS).all()


def test_without_annealing_uncertain_targets_differ():
    """Coordinate updates that start cold settle elsewhere: without observational data, somewhere in the table."""
    data = Observed(tuple(Environment(e.X[:4]) for e in plain().environments[1:]))
    first, second = (
        fit(f"metacadi[features=linear,average=false,annealing={a}]", Observed(data.environments, graph=GRAPH)).estimate
        for a in ("true", "false")
    )
    assert np.abs(first.target_probability - second.target_probability).max() > 1e-3


# Features ---------------------------------------------------------------------------------------------------------------------


def test_linear_features_miss_a_parabola():
    """The line is found, the square is not: correlation of x and its square is 0."""
    estimate = fit("metacadi[features=linear]", parabola()).estimate
    edges = estimate.edge_probability + estimate.edge_probability.T
    assert edges[0, 2] > 0.9
    assert edges[0, 1] < 0.5


@pytest.mark.parametrize("features", ["smooth", "random", "learned"])
def test_other_features_find_a_parabola_and_its_direction(features, learned_runs):
    estimate = fit(f"metacadi[features={features}]", parabola()).estimate
    assert estimate.edge_probability[0, 1] > 0.9
    assert estimate.edge_probability[0, 2] > 0.9
    assert learned_runs == [16] * (features == "learned")


@pytest.mark.parametrize("features", ["random", "learned"])
def test_hidden_units_find_the_targets_of_a_parabola(features):
    assert (called(fit(f"metacadi[features={features}]", parabola()).estimate) == parabola_targets()).all()


def without_torch(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find_spec(name, *rest))


@pytest.mark.parametrize("torch_is_there", [True, False], ids=["with torch", "without torch"])
def test_auto_takes_hidden_units_where_a_mechanism_bends_and_learns_them_with_torch(monkeypatch, learned_runs, torch_is_there):
    """A line through the parabola calls the square a target where the first variable was moved."""
    if not torch_is_there:
        without_torch(monkeypatch)
    data, targets = parabola(moved=0), parabola_targets(moved=0)
    estimate = fit("metacadi", data).estimate
    assert estimate.edge_probability[0, 1] > 0.9
    assert (called(estimate) == targets).all()
    assert learned_runs == [16] * torch_is_there
    assert (called(fit("metacadi[features=linear]", data).estimate) != targets).any()


def test_auto_stays_linear_where_a_cycle_would_gain_the_more_the_richer_the_features(learned_runs):
    """Many environments: an effect among its cause's parents gains thousands of nats, hundreds more with hidden units."""
    spec = "synthetic[n_variables=20,n_environments=160,n_per_environment=50,n_targets=[1,3]]"
    data = prepare(make_problem(spec, seed=20), seed=0).problem.observed
    fit("metacadi[n_samples=5]", data)
    assert learned_runs == []


def test_auto_stays_linear_on_linear_data(learned_runs):
    assert_same(fit("metacadi", plain()).estimate, fit("metacadi[features=linear]", plain()).estimate)
    assert learned_runs == []


@pytest.mark.parametrize("seed", range(3))
def test_auto_stays_linear_where_slopes_are_strong(learned_runs, seed):
    """Causes that leave a fiftieth to noise want a weak prior of slopes, which is worth fifty nats and no hidden unit."""
    rng, environments = np.random.default_rng(seed), []
    for target in (None, 0, 1, 2):
        X = rng.normal(size=(200, 3)) * [1.0, 1.0, 0.02]
        X[:, 2] += X[:, 0] + X[:, 1]
        X[:, target if target is not None else 0] += 3.0 * (target is not None)
        environments.append(Environment(X, is_observational=True if target is None else None))
    estimate = fit("metacadi[n_units=2]", Observed(tuple(environments))).estimate
    assert learned_runs == []
    assert (estimate.point_graph == np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]])).all()


@pytest.mark.parametrize("features", ["smooth", "random", "learned"])
def test_richer_features_find_a_linear_graph_too(features):
    estimate = fit(f"metacadi[features={features}]", plain()).estimate
    assert (estimate.point_graph == GRAPH).all()
    assert (called(estimate) == PLAIN_TARGETS).all()


def test_the_number_of_units_is_what_was_asked_for(learned_runs):
    few, more = (fit(f"metacadi[features=learned,n_units={n}]", parabola()).log_density(np.ones((1, 3))) for n in (2, 5))
    assert learned_runs == [2, 5]
    assert not np.allclose(few, more)


@pytest.mark.parametrize("features", ["random", "learned"])
def test_the_same_generator_gives_the_same_answer(features):
    first, second, other = (fit(f"metacadi[features={features}]", parabola(), seed) for seed in (5, 5, 6))
    assert_same(first.estimate, second.estimate)
    X = parabola().environments[1].X
    assert np.array_equal(first.log_density(X), second.log_density(X))
    assert not np.array_equal(first.log_density(X), other.log_density(X))


# Alternatives, and what is learned of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alternative", ["shift", "scale", "shift_and_scale", "hard", "relearned"])
def test_one_alternative_has_all_the_weight(alternative):
    """Targets are those of the evidence under priors where all other weights are 0, but for 1.4e-11 of what is certain."""
    told = dataclasses.replace(plain(), graph=GRAPH)
    options = "features=linear,effect_size=fixed,target_rate=fixed,mechanism_drift=none"
    found = fit(f"metacadi[{options},alternatives={alternative}]", told).estimate.target_probability
    names = ("shift", "scale", "shift_and_scale", "hard", "relearned")
    priors = Priors(**{f"{name}_weight": float(name == alternative) for name in names})
    scaling = Scaling.of(told)
    evidence = Evidence(Observed(tuple(map(scaling.of_environment, told.environments))), priors)
    wanted = np.stack([evidence.target_probability(i, GRAPH[:, i]) for i in range(D)], axis=1)
    assert np.allclose(found, wanted, rtol=0, atol=1e-10)
    assert not np.allclose(found, fit(f"metacadi[{options}]", told).estimate.target_probability, rtol=0, atol=1e-6)


@functools.cache
def only_shifts():
    """40 environments of 20 samples, one variable shifted in each."""
    return Observed((plain().environments[0], *new_environments(20, each=8, seed=2)[0].environments))


@functools.cache
def log_score_after(meta_learning):
    """Mean log score of targets in new environments of 2 samples, where a variable is shifted in each, and the graph."""
    fitted = fit(f"metacadi[features=linear,meta_learning={meta_learning}]", only_shifts())
    new, truth = new_environments(2, each=20)
    probability = fitted.adapt(new, rng=np.random.default_rng(0)).target_probability
    return np.log(np.where(truth, probability, 1 - probability)).mean(), fitted.estimate.point_graph


@pytest.mark.parametrize("meta_learning", ["evidence", "episodic"])
def test_what_is_learned_of_interventions_of_one_kind_helps_to_find_more_of_them_and_leaves_the_graph(meta_learning):
    """500 variables in 100 new environments."""
    (before, graph), (after, same_graph) = log_score_after("none"), log_score_after(meta_learning)
    assert (graph == GRAPH).all()
    assert (same_graph == GRAPH).all()
    assert after > before + 0.01


# Adaptation -------------------------------------------------------------------------------------------------------------------


def test_a_gradient_inner_loop_gives_other_targets_of_new_environments_and_the_same_fit():
    closed, gradient = (fit(f"metacadi[features=linear,adaptation={a}]", plain()) for a in ("closed_form", "gradient"))
    assert_same(closed.estimate, gradient.estimate)
    new, truth = new_environments(20)
    first, second = (f.adapt(new, rng=np.random.default_rng(0)) for f in (closed, gradient))
    assert np.array_equal(first.edge_probability, second.edge_probability)
    assert (called(first) == truth).all()
    assert (called(second) == truth).mean() > 0.9
    assert not np.allclose(first.target_probability, second.target_probability, rtol=0, atol=0.01)


# Whatever the options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", ["auto", *FEATURES])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_told_graph_is_repeated_and_targets_are_found(engine, features):
    """Also a graph that the data speak against: nothing is added to it or taken away."""
    for graph in (GRAPH, np.triu(np.ones((D, D), dtype=bool), 1)):
        told = dataclasses.replace(plain(), graph=graph)
        estimate = fit(f"metacadi[engine={engine},features={features}]", told).estimate
        assert np.array_equal(estimate.edge_probability, graph)
        assert (estimate.graph_samples == graph).all()
        assert (estimate.point_graph == graph).all()
        assert (called(estimate) == PLAIN_TARGETS).all()


@pytest.mark.parametrize(
    "options",
    [
        "metacadi",
        *(f"metacadi[features={f},engine={e}]" for f in FEATURES for e in ENGINES),
        "metacadi[features=linear,meta_learning=none]",
        "metacadi[features=linear,meta_learning=episodic]",
        "metacadi[features=linear,adaptation=gradient]",
        "metacadi[features=linear,alternatives=hard]",
        "metacadi[features=linear,average=false]",
        "metacadi[features=linear,annealing=false]",
        "metacadi[features=linear,screening=false]",
        "metacadi_paper",
    ],
)
def test_a_spent_budget_still_answers_and_says_so(options, learned_runs):
    fitted = fit(options, plain(), budget=Budget(seconds=0.0))
    assert fitted.cut_short
    assert fitted.estimate.graph_kind == "dag"
    fitted.estimate.check(plain().n_environments, D)
    assert learned_runs == []


def test_the_paper_finds_a_plain_graph(learned_runs):
    fitted = fit("metacadi_paper[n_samples=20,n_units=4]", plain())
    assert (fitted.estimate.point_graph == GRAPH).all()
    assert (called(fitted.estimate) == PLAIN_TARGETS).all()
    assert fitted.estimate.graph_samples.shape == (20, D, D)
    assert learned_runs == [4]


def test_the_paper_is_a_choice_of_options():
    paper = make_method("metacadi_paper")
    whole = paper._configured()
    assert (whole.engine, whole.features, whole.meta_learning) == ("differentiable", "learned", "episodic")
    assert (whole.adaptation, whole.alternatives, whole.average) == ("closed_form", "all", True)


@pytest.mark.parametrize(
    "options",
    [
        "n_samples=0",
        "n_units=0",
        "engine=mcmc",
        "features=kernel",
        "adaptation=closed",
        "alternatives=soft",
        "meta_learning=episodes",
        "average=2",
        "annealing=maybe",
        "screening=maybe",
    ],
)
def test_a_wrong_value_costs_one_line(options):
    name = options.split("=")[0]
    with pytest.raises(InputError, match=name) as refused:
        make_method(f"metacadi[{options}]")
    assert "\n" not in str(refused.value)


def test_an_option_that_does_not_exist_costs_one_line():
    with pytest.raises(InputError, match="did you mean 'features'") as refused:
        make_method("metacadi[feature=linear]")
    assert "\n" not in str(refused.value)
