"""What is learned from all environments together: which alternatives occur."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from bench.errors import UnknownName
from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
from bench.types import Environment, Observed
from methods.metacadi.adaptation import sampled_mechanisms
from methods.metacadi.evidence import Evidence, MixtureEvidence
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.meta import (
    MODES,
    PRIOR_SPREAD,
    UNIT_SHIFTS,
    heaviest_parent_sets,
    learn_alternatives,
    log_odds_in_fit,
    with_chosen_drift,
)
from methods.metacadi.model import WEIGHTS, Priors, log_alternatives, log_mixture, updated_log_evidence
from methods.metacadi.targets import log_odds_of

D = 5
BASES = {"linear": Basis(D), "with functions and products": Basis(D, (np.sin,), ((0, 0),), (2.0, 5.0))}
NAMES = [f.name for f in dataclasses.fields(Priors)]

KINDS = ("shift", "scale", "shift and scale", "hard", "relearned")


def draw(seed, n_known, sizes, kinds=KINDS):
    return draw_with_targets(seed, n_known, sizes, kinds)[:2]


def draw_with_targets(seed, n_known, sizes, kinds=KINDS):
    """A sparse linear model; about every third variable of an environment is a target, of one of the kinds."""
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.uniform(0.5, 1.5, size=(D, D)), 1) * (rng.random((D, D)) < 0.5)

    def variable(X, j, kind):
        mean, noise, shift = X @ weights[:, j], rng.normal(size=len(X)), rng.choice([-2, 2])
        return {
            "none": mean + noise,
            "shift": mean + noise + shift,
            "scale": mean + 3 * noise,
            "shift and scale": mean + 3 * noise + shift,
            "hard": noise + shift,
            "relearned": 0.5 * shift - mean + 0.5 * noise,
            "down": mean + noise - 1,
            "up": mean + noise + 1,
        }[kind]

    environments, targets = [], []
    for k, n in enumerate([n_known, *sizes] if n_known else sizes):
        known, X = bool(n_known) and k == 0, np.zeros((n, D))
        happened = []
        for j in range(D):
            happened.append(rng.choice(kinds) if not known and rng.random() < 0.35 else "none")
            X[:, j] = variable(X, j, happened[-1])
        environments.append(Environment(X, is_observational=True if known else None))
        targets.append([kind != "none" for kind in happened])
    return Observed(tuple(environments)), weights != 0, np.array(targets)


def learn(observed, graph, mode, seed=0, priors=None, bases=(None,)):
    priors = Priors() if priors is None else priors
    evidence = MixtureEvidence([Evidence(observed, priors, basis) for basis in bases])
    return learn_alternatives(evidence, observed, graph[None], np.ones(1), priors, mode=mode, rng=np.random.default_rng(seed))


@pytest.fixture(scope="module")
def of_one_kind():
    return {kind: draw(11, 200, [30] * 12, [kind]) for kind in ("shift", "hard")}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["shift", "hard"])
def test_the_only_kind_of_intervention_gets_most_of_the_weight(of_one_kind, mode, kind):
    """A fifth by default; twenty targets of one kind say more than one prior observation of each log weight."""
    learned = learn(*of_one_kind[kind], mode)
    assert learned.log_weights[WEIGHTS.index(f"{kind}_weight")] > np.log(0.5)
    assert sum(getattr(learned, name) for name in WEIGHTS) == pytest.approx(1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("kinds", "shares"), [(["down"], [(0.8, 0)]), (["up"], [(0, 0.8)]), (["down", "up"], UNIT_SHIFTS), (KINDS, [(0, 0)])]
)
def test_shifts_by_about_a_unit_are_seen_where_most_are(mode, kinds, shares):
    """A unit is a noise deviation here, ten samples few; in each of five draws. Of about twenty targets that go either way,
    sixteen may go one."""
    for seed in range(5):
        learned = learn(*draw(seed, 200, [10] * 12, kinds), mode)
        assert (learned.down, learned.up) in shares


def test_no_unit_shifts_where_shifts_are_left_out():
    learned = learn(*draw(0, 200, [10] * 12, ["down"]), "evidence", priors=Priors(shift_weight=0.0))
    assert learned.down == learned.up == 0


def drifting(seed, size, n=200):
    """A chain whose every mechanism differs a little in each of ten environments; one variable of each is hit, alone."""
    rng = np.random.default_rng(seed)
    environments = []
    for k in range(11):
        X = rng.normal(size=(n, D))
        for j in range(D):
            slope, shift = 0.8 + size * rng.normal(), size * rng.normal()
            X[:, j] += (slope * X[:, j - 1] if j else 0) + shift + 2 * (k > 0 and j == k % D)
        environments.append(Environment(X, is_observational=k == 0))
    targets = np.array([[k > 0 and j == k % D for j in range(D)] for k in range(11)])
    return Observed(tuple(environments)), np.eye(D, k=1, dtype=bool), targets


@pytest.mark.parametrize("bases", [(None,), (None, *BASES.values())], ids=["linear", "mixture"])
@pytest.mark.parametrize(("size", "expected"), [(0.0, (0,)), (0.1, (0.01, 0.03)), (0.3, (0.03, 0.1, 0.3))])
def test_mechanisms_drift_where_they_differ(size, expected, bases):
    """In each of three draws; the variance of an intercept's drift is the square of ``size``."""
    for seed in range(3):
        observed, graph, _ = drifting(seed, size)
        evidence = MixtureEvidence([Evidence(observed, Priors(), basis) for basis in bases])
        found = with_chosen_drift(evidence, observed, graph, Priors(), (0.1, 0.01))
        assert found.mechanism_drift in expected
        assert dataclasses.replace(found, mechanism_drift=0.0) == Priors()


def test_drift_leaves_few_false_targets():
    """Of 200 samples, an exact test calls most of what differs by a third of the noise; hit are ten of fifty. In each of three
    draws every hit is found, and at least half of the false calls are gone."""
    for seed in range(3):
        observed, graph, targets = drifting(seed, 0.3)
        told = dataclasses.replace(observed, graph=graph)
        calls = [
            make_method(f"metacadi[features=linear,mechanism_drift={drift}]").fit(told, rng=np.random.default_rng(0)).estimate
            for drift in ("none", "evidence")
        ]
        exact, drifted = (estimate.target_probability > 0.5 for estimate in calls)
        assert drifted[targets].all()
        assert (exact & ~targets).sum() > 10
        assert (drifted & ~targets).sum() < 0.5 * (exact & ~targets).sum()


def test_of_many_variables_some_tell_the_drift_of_all(monkeypatch):
    monkeypatch.setattr("methods.metacadi.meta.MOST_PARENT_SETS", 3)
    for size, expected in ((0.0, (0,)), (0.3, (0.03, 0.1, 0.3))):
        observed, graph, _ = drifting(0, size)
        evidence = MixtureEvidence([Evidence(observed, Priors())])
        assert with_chosen_drift(evidence, observed, graph, Priors(), (0.1, 0.01)).mechanism_drift in expected


def test_nothing_drifts_where_all_is_observational():
    observed, graph, _ = drifting(0, 0.3)
    known = Observed(tuple(Environment(e.X, is_observational=True) for e in observed.environments))
    evidence = MixtureEvidence([Evidence(known, Priors())])
    assert with_chosen_drift(evidence, known, graph, Priors(), (0.1,)) == Priors()


@pytest.mark.parametrize(("bases", "margin"), [((None,), 0.01), ((None, *BASES.values()), 0.1)], ids=["linear", "mixture"])
def test_log_odds_are_those_of_compiled_code_where_nothing_was_learned(bases, margin):
    """To which the seven rounds of updates have come within .02 nats or one in a hundred, as far as probabilities tell; and one
    in ten of a mixture, which averages odds and not probabilities."""
    observed, graph = draw(3, 100, [20] * 8)
    evidence = MixtureEvidence([Evidence(observed, Priors(), basis) for basis in bases])
    mechanisms = sampled_mechanisms(evidence, graph[None])
    found = log_odds_in_fit(evidence, observed, mechanisms, Priors())
    for odds, m in zip(found, mechanisms, strict=True):
        wanted = log_odds_of(m.keep_probability[:, 1:], 0.1)
        np.testing.assert_allclose(np.minimum(odds.values[:, 1:], 30), np.minimum(wanted, 30), rtol=margin, atol=0.02)
        assert odds.values[0, 0] == -np.inf


def test_unit_shifts_find_weak_targets():
    """Average precision of targets shifted down by one noise deviation, from ten samples, over 20 draws: it must gain, paired,
    more than two standard errors."""
    gains = []
    for seed in range(20):
        observed, graph, truth = draw_with_targets(seed, 200, [10] * 12, ["down"])
        precision = []
        evidence = MixtureEvidence([Evidence(observed, Priors())])
        mechanisms = sampled_mechanisms(evidence, graph[None])
        for down in (0.0, 0.8):
            odds = log_odds_in_fit(evidence, observed, mechanisms, Priors(down=down))
            scores = np.stack([o.values[0, 1:] for o in odds], axis=1)
            precision.append(average_precision_score(truth[1:].ravel(), scores.ravel()))
        gains.append(precision[1] - precision[0])
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / np.sqrt(len(gains))


@pytest.mark.parametrize("mode", MODES)
def test_only_weights_change(of_one_kind, mode):
    learned = learn(*of_one_kind["hard"], mode)
    assert {n for n in NAMES if getattr(learned, n) != getattr(Priors(), n)} == set(WEIGHTS)


def test_what_is_learned_raises_the_evidence_by_more_than_its_prior_costs(of_one_kind):
    observed, graph = of_one_kind["shift"]
    total = [
        sum(Evidence(observed, priors).score(i, graph[:, i]) for i in range(D))
        for priors in (Priors(), learn(observed, graph, "evidence"))
    ]
    assert total[1] > total[0] + 5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "data",
    [(4, 100, [3, 3]), (8, 200, [30] * 12), (6, 30, []), (7, 50, [1, 1, 1])],
    ids=["few samples", "all kinds", "no environment that may have targets", "environments of one sample"],
)
def test_no_clear_kind_teaches_nothing(mode, data):
    """Two environments of three samples gain less than two nats for each of four free weights; so do interventions of all
    five kinds."""
    assert learn(*draw(*data), mode) == Priors()


def test_learning_depends_on_its_seed_only_in_episodes(of_one_kind):
    observed, graph = of_one_kind["shift"]
    assert learn(observed, graph, "episodic", 1) == learn(observed, graph, "episodic", 1)
    assert learn(observed, graph, "episodic", 1) != learn(observed, graph, "episodic", 2)
    assert learn(observed, graph, "evidence", 1) == learn(observed, graph, "evidence", 2)


@pytest.mark.parametrize("mode", MODES)
def test_learned_weights_are_where_the_density_of_all_environments_is_highest(of_one_kind, mode):
    """For the evidence, no step of .5 in any logarithm gains what its prior costs; episodes have another maximum."""
    observed, graph = of_one_kind["hard"]
    learned = learn(observed, graph, mode)
    change = learned.log_weights - Priors().log_weights

    def objective(change):
        priors = dataclasses.replace(Priors(), **dict(zip(WEIGHTS, np.exp(change), strict=True)))
        score = sum(Evidence(observed, priors).score(i, graph[:, i]) for i in range(D))
        centred = change - change.mean()
        return score - 0.5 * centred @ centred / PRIOR_SPREAD**2

    best = objective(change)
    neighbours = [objective(change + 0.5 * sign * step) for step in np.eye(5) for sign in (-1, 1)]
    assert (max(neighbours) < best) == (mode == "evidence")


@pytest.mark.parametrize("mode", MODES)
def test_weights_are_learned_under_any_features(of_one_kind, mode):
    observed, graph = of_one_kind["shift"]
    learned = learn(observed, graph, mode, bases=(None, *BASES.values()))
    assert learned.shift_weight > 0.5


@pytest.mark.parametrize("mode", MODES)
def test_an_alternative_left_out_stays_out(of_one_kind, mode):
    priors = Priors(scale_weight=0.0)
    learned = learn(*of_one_kind["shift"], mode, priors=priors)
    assert learned.scale_weight == 0
    assert learned.shift_weight > 0.5
    alone = Priors(scale_weight=0.0, shift_and_scale_weight=0.0, hard_weight=0.0, relearned_weight=0.0)
    assert learn(*of_one_kind["shift"], mode, priors=alone) == alone


def test_an_unknown_mode_is_refused(of_one_kind):
    with pytest.raises(UnknownName, match="unknown mode of meta-learning 'episodes'; did you mean 'episodic'"):
        learn(*of_one_kind["shift"], "episodes")


def test_each_variable_has_its_heaviest_parent_set_and_shares_of_one():
    samples = np.zeros((4, 3, 3), dtype=bool)
    samples[:3, 0, 1] = True
    samples[3, 0, 2] = True
    parent_sets, shares = heaviest_parent_sets(samples, np.array([0.1, 0.2, 0.3, 0.4]))
    found = {(i, tuple(parents)): share for (i, parents), share in zip(parent_sets, shares, strict=True)}
    assert found == pytest.approx({(0, ()): 1, (1, (0,)): 0.6, (1, ()): 0.4, (2, ()): 0.6, (2, (0,)): 0.4})


def test_parent_sets_beyond_the_limit_are_the_lightest(monkeypatch):
    monkeypatch.setattr("methods.metacadi.meta.MOST_PARENT_SETS", 4)
    samples = np.zeros((4, 3, 3), dtype=bool)
    samples[:3, 0, 1] = True
    samples[3, 0, 2] = True
    parent_sets, shares = heaviest_parent_sets(samples, np.array([0.1, 0.2, 0.25, 0.45]))
    found = {(i, tuple(parents)): share for (i, parents), share in zip(parent_sets, shares, strict=True)}
    assert (0, ()) in found
    assert len(found) == 4
    for i in range(3):
        assert sum(share for (j, _), share in found.items() if j == i) == pytest.approx(1)


@pytest.mark.parametrize("mode", MODES)
def test_few_shot_targets_after_interventions_of_one_kind(mode):
    """Average precision at three samples over ten problems: learned weights must gain, paired, by more than two standard
    errors. Measured .020 with a standard error of .002 over 14 problems."""
    gains = []
    for seed in range(10):
        spec = (
            "synthetic[n_variables=10,edges_per_node=2,n_per_environment=50,n_targets=[1,3],interventions=shift,n_held_out=20]"
        )
        problem = prepare(make_problem(spec, seed=seed), seed=seed).problem
        graph = problem.truth.adjacency
        truth = np.stack([h.targets for h in problem.held_out])
        new = Statistics.of([h.environment(3) for h in problem.held_out], Basis(10))
        precision = []
        for priors in (Priors(), learn(problem.observed, graph, mode)):
            evidence, odds = Evidence(problem.observed, priors), np.empty(truth.shape)
            for i in range(10):
                shared = evidence.shared_mechanism(i, graph[:, i])
                grams = new.regression(i, np.flatnonzero(graph[:, i]))
                changed = log_mixture(log_alternatives(grams, new.n_samples, shared, priors), priors)
                odds[:, i] = changed - updated_log_evidence(grams, new.n_samples, shared, priors)
            precision.append(average_precision_score(truth.ravel(), odds.ravel()))
        gains.append(precision[1] - precision[0])
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / np.sqrt(len(gains))
