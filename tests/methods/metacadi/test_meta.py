"""The evidence as a function that torch differentiates, and what is learned by it."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from bench.errors import UnknownName
from bench.preprocessing import prepare
from bench.registry import make_problem
from bench.types import Budget, Environment, Observed
from methods.metacadi.evidence import Evidence, MixtureEvidence, _starts
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.learned_weights import learn_weights
from methods.metacadi.meta import LARGEST_CHANGE, MODES, PRIOR_SPREAD, STRENGTHS, heaviest_parent_sets, learn_priors
from methods.metacadi.model import Priors, log_alternatives, log_mixture, split_by_knowledge, updated_log_evidence
from methods.metacadi.torch_evidence import WEIGHTS, Regressions, local_evidence, log_priors, one_thread

D = 5
PRIORS = Priors(
    target=0.2,
    shift_weight=2.0,
    scale_weight=0.5,
    relearned_weight=0.7,
    hard_strength=0.3,
    fresh_shape=1.3,
    scale_strength=20.0,
)
BASES = {"linear": Basis(D), "with functions and products": Basis(D, (np.sin,), ((0, 0),), (2.0, 5.0))}
NAMES = [f.name for f in dataclasses.fields(Priors)]


@pytest.fixture(autouse=True)
def _threads():
    with one_thread():
        yield


KINDS = ("shift", "scale", "shift and scale", "hard", "relearned")


def draw(seed, n_known, sizes, kinds=KINDS):
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
        }[kind]

    environments = []
    for k, n in enumerate([n_known, *sizes] if n_known else sizes):
        known, X = bool(n_known) and k == 0, np.zeros((n, D))
        for j in range(D):
            X[:, j] = variable(X, j, rng.choice(kinds) if not known and rng.random() < 0.35 else "none")
        environments.append(Environment(X, is_observational=True if known else None))
    return Observed(tuple(environments)), weights != 0


CASES = {"with observational samples": (40, [12, 7, 20, 3]), "nothing known": (0, [12, 9, 15, 10, 11])}
PARENT_SETS = [(0, []), (1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (2, [4])]


def as_tensors(observed, basis, parent_sets):
    fixed, possible, _ = split_by_knowledge(observed)
    statistics = Statistics.of(possible, basis)
    regressions = Regressions.of(
        statistics, Statistics.of(fixed, basis), [(i, np.array(parents, dtype=np.intp)) for i, parents in parent_sets]
    )
    return regressions, torch.from_numpy(_starts(statistics, D, with_observational=bool(fixed)))


def members(parents):
    return np.isin(np.arange(D), parents)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("basis", BASES)
def test_torch_and_compiled_code_agree(case, basis):
    """To 1e-8: scores, and the probability of every environment; in one batch that fills up smaller parent sets."""
    observed, _ = draw(1, *CASES[case])
    evidence = Evidence(observed, PRIORS, BASES[basis])
    regressions, starts = as_tensors(observed, BASES[basis], PARENT_SETS)
    score, keep = local_evidence(log_priors(PRIORS), regressions, D, starts)
    _, _, places = split_by_knowledge(observed)
    for b, (i, parents) in enumerate(PARENT_SETS):
        assert score[b].item() == pytest.approx(evidence.score(i, members(parents)), abs=1e-8)
        wanted = evidence.target_probability(i, members(parents))[places]
        assert np.allclose(1 - keep[b].numpy(), wanted, rtol=0, atol=1e-8)


def test_an_alternative_without_weight_is_left_out():
    priors = dataclasses.replace(PRIORS, hard_weight=0.0)
    observed, _ = draw(2, *CASES["with observational samples"])
    regressions, starts = as_tensors(observed, Basis(D), PARENT_SETS)
    score, _ = local_evidence(log_priors(priors), regressions, D, starts)
    evidence = Evidence(observed, priors)
    assert score.numpy() == pytest.approx([evidence.score(i, members(p)) for i, p in PARENT_SETS], abs=1e-8)


def gradients(observed, n_differentiated=None):
    """Of the sum of all scores in the logarithm of each prior."""
    regressions, starts = as_tensors(observed, Basis(D), PARENT_SETS)
    values = {name: x.requires_grad_() for name, x in log_priors(PRIORS).items()}
    score, _ = local_evidence(values, regressions, D, starts, n_differentiated=n_differentiated)
    return np.array([g.item() for g in torch.autograd.grad(score.sum(), list(values.values()))])


def compiled_total(observed, name, log_change):
    priors = dataclasses.replace(PRIORS, **{name: getattr(PRIORS, name) * np.exp(log_change)})
    evidence = Evidence(observed, priors)
    return sum(evidence.score(i, members(parents)) for i, parents in PARENT_SETS)


@pytest.mark.parametrize("case", CASES)
def test_gradient_in_every_prior_is_that_of_the_compiled_score(case):
    """Central differences of width 1e-4: off by h² f''' / 6, and by rounding of 1e-11 / h; 1e-5 covers both, and gradients
    reach from .001 to 100."""
    observed, _ = draw(3, *CASES[case])
    h = 1e-4
    wanted = [(compiled_total(observed, n, h) - compiled_total(observed, n, -h)) / (2 * h) for n in NAMES]
    assert np.abs(wanted).max() > 1
    assert np.count_nonzero(np.abs(wanted) > 1e-3) > 15
    assert gradients(observed) == pytest.approx(np.array(wanted), abs=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_last_update_carries_nearly_the_whole_gradient(case):
    """What learning leaves out: less than a hundredth of the gradient here, where environments are small."""
    observed, _ = draw(3, *CASES[case])
    whole, last = gradients(observed), gradients(observed, n_differentiated=1)
    assert 0 < np.linalg.norm(whole - last) < 0.01 * np.linalg.norm(whole)


# Learning ---------------------------------------------------------------------------------------------------------------------


def learn(observed, graph, mode, seed=0, **kwargs):
    return learn_priors(observed, graph[None], np.ones(1), Priors(), mode=mode, rng=np.random.default_rng(seed), **kwargs)


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
def test_only_priors_that_are_named_change(of_one_kind, mode):
    observed, graph = of_one_kind["hard"]
    changed = {n for n in NAMES if getattr(learn(observed, graph, mode), n) != getattr(Priors(), n)}
    assert changed == set(WEIGHTS)
    learned = learn(observed, graph, mode, names=(*WEIGHTS, *STRENGTHS))
    assert {n for n in NAMES if getattr(learned, n) != getattr(Priors(), n)} == {*WEIGHTS, *STRENGTHS}


def test_what_is_learned_raises_the_evidence_by_more_than_its_prior_costs(of_one_kind):
    observed, graph = of_one_kind["shift"]
    total = [
        sum(Evidence(observed, priors).score(i, graph[:, i]) for i in range(D))
        for priors in (Priors(), learn(observed, graph, "evidence"))
    ]
    assert total[1] > total[0] + 5


@pytest.mark.parametrize("mode", MODES)
def test_few_environments_and_no_clear_kind_teach_nothing(mode):
    """Two environments of three samples gain less than two nats for each of four free weights; so do interventions of all
    five kinds."""
    assert learn(*draw(4, 100, [3, 3]), mode) == Priors()
    assert learn(*draw(8, 200, [30] * 12), mode) == Priors()


def test_no_prior_runs_away():
    """Targets that take one value in all samples of an environment ask for a variance of zero."""
    observed, graph = draw(5, 100, [10] * 8, ["none"])
    environments = [observed.environments[0]]
    for k, e in enumerate(observed.environments[1:]):
        X = e.X.copy()
        X[:, k % D] = 3.0
        environments.append(Environment(X))
    for mode in MODES:
        learned = learn(Observed(tuple(environments)), graph, mode, names=(*WEIGHTS, *STRENGTHS))
        assert learned != Priors()
        for name in STRENGTHS:
            change = np.log(getattr(learned, name) / getattr(Priors(), name))
            assert abs(change) < LARGEST_CHANGE + 1e-9


def test_learning_depends_on_its_seed_only_in_episodes(of_one_kind):
    observed, graph = of_one_kind["shift"]
    assert learn(observed, graph, "episodic", 1) == learn(observed, graph, "episodic", 1)
    assert learn(observed, graph, "episodic", 1) != learn(observed, graph, "episodic", 2)
    assert learn(observed, graph, "evidence", 1) == learn(observed, graph, "evidence", 2)


def test_global_state_of_torch_stays_as_it_was(of_one_kind):
    before, n_threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    learn(*of_one_kind["shift"], "episodic")
    assert torch.get_num_threads() == 2
    assert torch.equal(before, torch.get_rng_state())
    torch.set_num_threads(n_threads)


def test_an_expired_budget_ends_learning_after_one_step(of_one_kind):
    observed, graph = of_one_kind["shift"]
    steps = []
    cut = learn(observed, graph, "evidence", budget=Budget(0.0, lambda fraction, note: steps.append(fraction)))
    assert len(steps) == 1
    assert cut not in (Priors(), learn(observed, graph, "evidence"))


@pytest.mark.parametrize("mode", MODES)
def test_without_an_environment_that_may_have_targets_nothing_is_learned(mode):
    observed, graph = draw(6, 30, [])
    assert learn(observed, graph, mode) == Priors()


@pytest.mark.parametrize("mode", MODES)
def test_environments_of_one_sample_are_learned_from(mode):
    observed, graph = draw(7, 50, [1, 1, 1])
    learned = learn(observed, graph, mode)
    assert np.isfinite([getattr(learned, name) for name in NAMES]).all()


def test_unknown_names_are_refused(of_one_kind):
    observed, graph = of_one_kind["shift"]
    with pytest.raises(UnknownName, match="unknown mode of meta-learning 'episodes'; did you mean 'episodic'"):
        learn(observed, graph, "episodes")
    with pytest.raises(UnknownName, match="unknown prior 'shift_wieght'; did you mean 'shift_weight'"):
        learn(observed, graph, "evidence", names=("shift_wieght",))


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
                odds[:, i] = changed - updated_log_evidence(grams, new.n_samples, shared)
            precision.append(average_precision_score(truth.ravel(), odds.ravel()))
        gains.append(precision[1] - precision[0])
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / np.sqrt(len(gains))


# Weights alone, without torch ------------------------------------------------------------------------------------------------


def learn_without_torch(observed, graph, mode, seed=0, priors=None, bases=(None,)):
    priors = Priors() if priors is None else priors
    evidence = MixtureEvidence([Evidence(observed, priors, basis) for basis in bases])
    return learn_weights(evidence, observed, graph[None], np.ones(1), priors, mode=mode, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["shift", "hard"])
def test_weights_learned_with_and_without_torch_agree(of_one_kind, mode, kind):
    """To .01: with torch, environments leave the shared mechanism as weights change, which the other way holds fixed."""
    observed, graph = of_one_kind[kind]
    with_torch, without = learn(observed, graph, mode, 3), learn_without_torch(observed, graph, mode, 3)
    assert np.exp(without.log_weights) == pytest.approx(np.exp(with_torch.log_weights), abs=0.01)
    assert without.log_weights != pytest.approx(Priors().log_weights, abs=0.1)


@pytest.mark.parametrize("mode", MODES)
def test_learned_weights_are_where_the_density_of_all_environments_is_highest(of_one_kind, mode):
    """For the evidence, no step of .5 in any logarithm gains what its prior costs; episodes have another maximum."""
    observed, graph = of_one_kind["hard"]
    learned = learn_without_torch(observed, graph, mode)
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
    learned = learn_without_torch(observed, graph, mode, bases=(None, *BASES.values()))
    assert learned.shift_weight > 0.5


@pytest.mark.parametrize("mode", MODES)
def test_an_alternative_left_out_stays_out(of_one_kind, mode):
    priors = Priors(scale_weight=0.0)
    learned = learn_without_torch(*of_one_kind["shift"], mode, priors=priors)
    assert learned.scale_weight == 0
    assert learned.shift_weight > 0.5
    alone = Priors(scale_weight=0.0, shift_and_scale_weight=0.0, hard_weight=0.0, relearned_weight=0.0)
    assert learn_without_torch(*of_one_kind["shift"], mode, priors=alone) == alone


@pytest.mark.parametrize("mode", MODES)
def test_without_torch_no_clear_kind_teaches_nothing_either(mode):
    for observed, graph in (draw(4, 100, [3, 3]), draw(8, 200, [30] * 12), draw(6, 30, []), draw(7, 50, [1, 1, 1])):
        assert learn_without_torch(observed, graph, mode) == Priors()


def test_an_unknown_mode_is_refused_without_torch_too(of_one_kind):
    with pytest.raises(UnknownName, match="unknown mode of meta-learning 'evidance'; did you mean 'evidence'"):
        learn_without_torch(*of_one_kind["shift"], "evidance")
