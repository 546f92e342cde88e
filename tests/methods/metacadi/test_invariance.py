"""What the model says must not move the answer, or must move it by a known amount."""

import functools
import itertools

import numpy as np
import pytest
from metacadi_oracle import enumerate_graphs
from metacadi_reference import Sums, alternatives
from scipy.special import logsumexp

from bench.preprocessing import prepare
from bench.registry import make_method
from bench.types import Environment, Observed, Problem
from methods.metacadi import method
from methods.metacadi.evidence import Evidence
from methods.metacadi.model import Priors

PRIORS = Priors()
CONFIGURATIONS = [f"metacadi[n_samples=20,features={features}]" for features in ("linear", "smooth")]
"""Whatever a method promises here, it promises in each of its configurations. Hidden units are summed in
single precision, and know left from right: what they promise has a margin."""

D = 4


def samples(seed=0, sizes=(60, 12, 9, 15, 12, 10)):
    """A chain; in three environments of the six a variable is moved or set."""
    rng, found = np.random.default_rng(seed), []
    for k, n in enumerate(sizes):
        X = rng.normal(size=(n, D))
        for j in range(1, D):
            X[:, j] += X[:, j - 1]
            if (k, j) in {(2, 1), (3, 3)}:
                X[:, j] += 3
            elif (k, j) == (5, 2):
                X[:, j] = 2 * rng.normal(size=n)
        found.append(X / 1.5)
    return found


def observed(Xs, known=True):
    """Environments of which the first is known to be observational, or nothing is known."""
    return Observed(tuple(Environment(X, is_observational=True if known and k == 0 else None) for k, X in enumerate(Xs)))


def scores(data):
    """Of every variable and parent set, and the target probabilities, as dictionaries."""
    evidence, found, targets = Evidence(data, PRIORS), {}, {}
    for i in range(data.n_variables):
        for parents in itertools.product([False, True], repeat=data.n_variables):
            if not parents[i]:
                found[i, parents] = evidence.score(i, np.array(parents))
                targets[i, parents] = evidence.target_probability(i, np.array(parents))
    return found, targets


def assert_same(first, second, tolerance=1e-9):
    for key, value in first[0].items():
        assert second[0][key] == pytest.approx(value, abs=tolerance)
        assert second[1][key] == pytest.approx(first[1][key], abs=tolerance)


def fit(configuration, data):
    return make_method(configuration).fit(data, rng=np.random.default_rng(0)).estimate


both = pytest.mark.parametrize("known", [True, False], ids=["with observational data", "nothing known"])
configurations = pytest.mark.parametrize("configuration", CONFIGURATIONS)


@both
@configurations
def test_environments_in_another_order_permute_the_targets_and_nothing_else(configuration, known):
    Xs, order = samples(), np.array([0, 4, 2, 5, 1, 3])
    if not known:
        order = order[::-1]
    first, second = (
        fit(configuration, observed(Xs, known)),
        fit(configuration, observed([Xs[k] for k in order], known and order[0] == 0)),
    )
    assert np.allclose(second.target_probability, first.target_probability[order], rtol=0, atol=1e-9)
    assert np.allclose(second.edge_probability, first.edge_probability, rtol=0, atol=1e-9)
    assert (second.point_graph == first.point_graph).all()


@pytest.mark.parametrize("features", ["random", "learned"])
@pytest.mark.parametrize("change", ["order of environments", "units"])
def test_hidden_units_feel_order_and_units_by_little(monkeypatch, features, change):
    """Single precision moves targets by .001, a sign turned round by .003: margin .02. Edges are seen in a hundred graphs,
    drawn anew: one of probability .05 has two standard deviations of .05."""
    # One short round of learning will do.
    monkeypatch.setattr(method, "fit_learned", functools.partial(method.fit_learned, n_rounds=1, n_steps=50))
    Xs, order = samples(), np.arange(6)
    if change == "units":
        others = [X * [1e-3, -1.0, 1e4, 7.0] + [0.0, 5.0, -2e4, 0.1] for X in Xs]
    else:
        order = np.array([0, 4, 2, 5, 1, 3])
        others = [Xs[k] for k in order]
    first, second = (fit(f"metacadi[features={features}]", observed(data)) for data in (Xs, others))
    assert (second.point_graph == first.point_graph).all()
    assert np.allclose(second.target_probability, first.target_probability[order], rtol=0, atol=0.02)
    assert np.allclose(second.edge_probability, first.edge_probability, rtol=0, atol=0.05)


@both
def test_variables_in_another_order_permute_the_posterior(known):
    """Over all graphs, so that no sampling blurs it."""
    Xs, order = samples(), np.array([2, 0, 3, 1])

    def posterior(data):
        evidence = Evidence(data, PRIORS)
        return enumerate_graphs(D, len(Xs), lambda i, p: (evidence.score(i, p), evidence.target_probability(i, p)))

    first, second = posterior(observed(Xs, known)), posterior(observed([X[:, order] for X in Xs], known))
    assert np.allclose(second.edges, first.edges[np.ix_(order, order)], rtol=0, atol=1e-9)
    assert np.allclose(second.targets, first.targets[:, order], rtol=0, atol=1e-9)
    assert np.any((first.edges > 0.01) & (first.edges < 0.99))  # not a posterior of noughts and ones


@pytest.mark.parametrize(("known", "scaling"), [(True, "pooled"), (True, "observational"), (False, "pooled")])
@configurations
def test_raw_units_do_not_matter(configuration, known, scaling):
    """Other units, other origins, and a sign turned round, ahead of the harness's scaling: the same but for rounding."""
    Xs, unit, origin = samples(), np.array([1e-3, -1.0, 1e4, 7.0]), np.array([0.0, 5.0, -2e4, 0.1])

    def of(Xs):
        return fit(configuration, prepare(Problem(observed(Xs, known), None), scaling=scaling, seed=0).problem.observed)

    first, second = of(Xs), of([X * unit + origin for X in Xs])
    assert np.allclose(second.edge_probability, first.edge_probability, rtol=0, atol=1e-6)
    assert np.allclose(second.target_probability, first.target_probability, rtol=0, atol=1e-6)


@both
def test_the_order_of_samples_does_not_matter(known):
    Xs = samples()
    assert_same(scores(observed(Xs, known)), scores(observed([X[::-1] for X in Xs], known)))


def test_the_observational_environment_may_come_in_two():
    first, *others = samples()
    whole, halves = (
        scores(observed([first, *others])),
        Observed(
            (
                Environment(first[:20], is_observational=True),
                *(Environment(X) for X in others),
                Environment(first[20:], is_observational=True),
            )
        ),
    )
    found, targets = scores(halves)
    assert_same(whole, (found, {key: p[:-1] for key, p in targets.items()}))
    assert all(p[-1] == 0 for p in targets.values())


@both
def test_a_copy_of_an_environment_has_the_targets_of_the_original(known):
    Xs = samples()
    _, targets = scores(observed([*Xs, Xs[2], Xs[4]], known))
    for probability in targets.values():
        assert probability[-2] == pytest.approx(probability[2], abs=1e-9)
        assert probability[-1] == pytest.approx(probability[4], abs=1e-9)


@both
def test_copies_may_come_in_any_order(known):
    Xs = samples()
    first = scores(observed([*Xs, *Xs[1:]], known))
    found, targets = scores(observed([*Xs, *Xs[:0:-1]], known))
    assert_same(first, (found, {key: np.append(p[: len(Xs)], p[: len(Xs) - 1 : -1]) for key, p in targets.items()}))


def test_an_environment_where_a_variable_is_far_off_tells_of_nothing_else():
    """The shared mechanism stays as it was: what the score gains is the log density of the alternatives.

    Margins .0001 and .001 nats: seven rounds of updates forget where they began to 2e-5.
    """
    Xs = samples()
    strange = Xs[1] + np.array([0, 0, 0, 200.0])
    before, after = Evidence(observed(Xs), PRIORS), Evidence(observed([*Xs, strange]), PRIORS)
    for parents in itertools.product([False, True], repeat=3):
        p = np.array([*parents, False])
        old, new = before.target_probability(3, p), after.target_probability(3, p)
        assert new[-1] > 1 - 1e-9
        assert new[:-1] == pytest.approx(old, abs=1e-4)
        features = [np.column_stack([np.ones(len(X)), X[:, p]]) for X in [*Xs, strange]]
        weighted = [Sums(Phi, X[:, 3], 1 - w) for Phi, X, w in zip(features, Xs, old, strict=False)]
        shared = functools.reduce(Sums.__add__, weighted)
        changed = alternatives(features[-1], strange[:, 3], shared, PRIORS) + PRIORS.log_weights
        gained = logsumexp(changed) + np.log(PRIORS.target)
        assert after.score(3, p) - before.score(3, p) == pytest.approx(gained, abs=1e-3)
