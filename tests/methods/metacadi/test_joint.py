"""Features of the joint parents: the compiled score against the slow reference, and what must not matter."""

import numpy as np
import pytest
from metacadi_reference import local_evidence

from bench.errors import InputError
from bench.types import Environment, Observed
from methods.metacadi.evidence import Evidence, MixtureEvidence, starts
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.joint import HiddenUnits, JointEvidence, JointFeatures, random_units
from methods.metacadi.model import Priors

PRIORS = Priors()
N_UNITS = 6


def draw(seed, d, sizes, flags):
    """A chain of bent mechanisms; one environment for each size, with shifted targets."""
    rng = np.random.default_rng(seed)
    environments = []
    for n, flag in zip(sizes, flags, strict=True):
        X = rng.normal(size=(n, d))
        for j in range(1, d):
            X[:, j] = 0.4 * X[:, j] + np.sin(1.5 * X[:, j - 1]) + 0.5 * X[:, j - 2] * X[:, j - 1]
            if not flag and rng.random() < 0.3:
                X[:, j] += 2
        environments.append(Environment(X, is_observational=flag))
    return Observed(tuple(environments))


CASES = {
    "environments of one size": draw(0, 5, [30, 9, 9, 9], [True, None, None, None]),
    "of several sizes, an odd number": draw(1, 5, [20, 12, 5, 8], [True, None, False, None]),
    "nothing known": draw(2, 4, [12, 9, 15, 10], [None] * 4),
    "more units than samples": draw(3, 4, [3, 2, 1], [True, None, None]),
    "ten variables, so that lanes are full": draw(4, 10, [30, 12, 12], [True, None, None]),
    "all observational": draw(5, 3, [20], [True]),
}


def evidence_of(observed, units=None, priors=PRIORS, precision=np.float64, **options):
    units = random_units(observed.n_variables, N_UNITS, np.random.default_rng(7)) if units is None else units
    return JointEvidence(observed, priors, JointFeatures(observed, units, precision=precision), **options)


def reference(observed, units, i, parents, relative, hottest=8):
    """Score of (i, parents) and target probabilities, from the formula of a unit in words."""
    d = observed.n_variables
    # By size, as a fit has them, which moves no more than the order of starts.
    fixed = [e.X for e in observed.environments if e.is_observational]
    possible = [e.X for e in observed.environments if not e.is_observational]
    pooled = np.concatenate([*fixed, *possible])[:, parents]
    deviation = pooled.std(axis=0)

    def hidden(P):
        columns = []
        for w, b in zip(units.weights[i], units.biases[i], strict=True):
            z = np.tanh(len(parents) ** -0.25 * (pooled / deviation) @ w[parents] + b)
            columns.append(
                (np.tanh(len(parents) ** -0.25 * (P / deviation) @ w[parents] + b) - z.mean()) / np.sqrt(z.var() + 1e-8)
            )
        return np.column_stack([P, *columns])

    first_guesses = starts(Statistics.of([Environment(X) for X in possible], Basis(d)), d, with_observational=bool(fixed))
    p = len(parents)
    return local_evidence(
        fixed,
        possible,
        i,
        parents,
        PRIORS,
        first_guesses,
        hidden if p else None,
        [1.0] * p + [relative] * (len(units.biases[i]) if p else 0),
        hottest,
    )


@pytest.mark.parametrize("observed", CASES.values(), ids=CASES)
def test_joint_evidence_is_the_reference(observed):
    """To 1e-8, rows of toggles, single scores and target probabilities alike; each variable has weights of its own."""
    rng, d = np.random.default_rng(8), observed.n_variables
    units = HiddenUnits(rng.normal(size=(d, N_UNITS, d)), rng.normal(size=(d, N_UNITS)))
    evidence = evidence_of(observed, units, relative_precision=3.0)
    unknown = [not e.is_observational for e in observed.environments]
    for i, parents in ((0, []), (1, [0]), (d - 1, list(range(d - 1))[:4])):
        mask = np.isin(np.arange(d), parents)
        own, gains = evidence.toggles(i, mask)
        assert gains[i] == -np.inf
        wanted, kept = reference(observed, units, i, parents, 3.0)
        assert own == pytest.approx(wanted, abs=1e-8)
        assert evidence.score(i, mask) == pytest.approx(wanted, abs=1e-8)
        assert np.allclose(evidence.target_probability(i, mask)[unknown], 1 - kept, rtol=0, atol=1e-8)
        for j in set(range(min(d, 5))) - {i}:
            wanted, _ = reference(observed, units, i, sorted({*parents} ^ {j}), 3.0)
            assert own + gains[j] == pytest.approx(wanted, abs=1e-8)


def test_without_annealing_the_updates_start_at_their_own_temperature():
    observed = CASES["environments of one size"]
    units = random_units(5, N_UNITS, np.random.default_rng(7))
    wanted, _ = reference(observed, units, 2, [0, 1], 1.5, hottest=1)
    got = evidence_of(observed, units, relative_precision=1.5, annealing=False).score(2, np.isin(np.arange(5), [0, 1]))
    assert got == pytest.approx(wanted, abs=1e-8)


def test_single_precision_moves_scores_by_less_than_two_thousandths():
    """Margin .002 nats; measured 1e-5 to 1.2e-3 on this problem and on problems of twenty variables."""
    observed = draw(9, 8, [500, *[50] * 10], [True, *[None] * 10])
    units = random_units(8, 32, np.random.default_rng(0))
    exact, single = (evidence_of(observed, units, precision=p) for p in (np.float64, np.float32))
    for i, parents in ((7, [5, 6]), (3, [0, 1, 2, 6])):
        mask = np.isin(np.arange(8), parents)
        (own, gains), (own_single, gains_single) = exact.toggles(i, mask), single.toggles(i, mask)
        assert abs(own - own_single) < 2e-3
        others = np.arange(8) != i
        assert np.abs(gains[others] - gains_single[others]).max() < 2e-3


def test_a_parent_set_has_one_score_from_whichever_row_it_comes():
    """In single precision, too: a search that meets a set along two paths must not gain by going around."""
    observed = CASES["ten variables, so that lanes are full"]
    evidence = evidence_of(observed, precision=np.float32)
    wanted = evidence.score(9, np.isin(np.arange(10), [2, 8]))
    for start, j in (([2], 8), ([8], 2), ([2, 5, 8], 5)):
        own, gains = evidence.toggles(9, np.isin(np.arange(10), start))
        assert own + gains[j] == pytest.approx(wanted, abs=1e-7)


def test_candidates_are_scored_as_in_a_full_row_and_others_not_at_all():
    evidence, mask = evidence_of(CASES["ten variables, so that lanes are full"]), np.isin(np.arange(10), [2, 8])
    own, gains = evidence.toggles_among(9, mask, np.isin(np.arange(10), [0, 5]))
    whole, all_gains = evidence.toggles(9, mask)
    assert own == pytest.approx(whole, abs=1e-9)
    assert np.allclose(gains[[0, 2, 5, 8]], all_gains[[0, 2, 5, 8]], rtol=0, atol=1e-9)
    assert (gains[[1, 3, 4, 6, 7, 9]] == -np.inf).all()


def test_gains_are_never_estimated_from_linear_features():
    """A search that screens parents by estimates computes these instead."""
    observed = CASES["environments of one size"]
    joint, linear = evidence_of(observed), Evidence(observed, PRIORS)
    parents = np.zeros(joint.n_variables, dtype=bool)
    assert np.isposinf(joint.estimated_gains(0, parents)).all()
    assert np.isposinf(MixtureEvidence([linear, joint]).estimated_gains(0, parents)).all()


def test_a_mixture_of_joint_evidence_agrees_with_itself():
    observed = CASES["environments of one size"]
    mixture = MixtureEvidence([evidence_of(observed, relative_precision=r) for r in (1.0, 10.0)])
    mask = np.isin(np.arange(5), [1, 3])
    own, gains = mixture.toggles(0, mask)
    assert own == pytest.approx(mixture.score(0, mask), abs=1e-9)
    assert own + gains[3] == pytest.approx(mixture.score(0, np.isin(np.arange(5), [1])), abs=1e-9)


def test_order_of_environments_leaves_the_scores():
    observed = CASES["of several sizes, an odd number"]
    backwards = Observed(observed.environments[::-1])
    mask = np.isin(np.arange(5), [1, 3])
    ahead, behind = evidence_of(observed), evidence_of(backwards)
    assert ahead.score(4, mask) == pytest.approx(behind.score(4, mask), abs=1e-9)
    assert np.allclose(ahead.target_probability(4, mask), behind.target_probability(4, mask)[::-1], rtol=0, atol=1e-9)


def test_the_row_that_components_of_a_mixture_share_is_not_taken_for_another():
    observed = CASES["environments of one size"]
    features = JointFeatures(observed, random_units(5, N_UNITS, np.random.default_rng(7)))
    first, second = (JointEvidence(observed, PRIORS, features, relative_precision=r) for r in (1.0, 10.0))
    a, b = (np.isin(np.arange(5), p) for p in ([1], [2, 3]))
    alone = [evidence_of(observed, precision=np.float32, relative_precision=r) for r in (1.0, 10.0)]
    for i, parents in ((0, a), (0, b), (4, b), (4, a)):
        for shared, own in zip((first, second), alone, strict=True):
            assert shared.toggles(i, parents)[0] == own.toggles(i, parents)[0]


def test_summary_and_design_are_two_views_of_the_same_features():
    observed = CASES["of several sizes, an odd number"]
    features = evidence_of(observed).features
    new = [Environment(np.random.default_rng(k).normal(size=(n, 5))) for k, n in enumerate((1, 4, 4))]
    summary = features.summary(new)
    assert summary.n_environments == 3
    assert list(summary.n_samples) == [1, 4, 4]
    for parents in ([], [0, 3]):
        grams = summary.regression(2, np.array(parents, dtype=np.intp))
        for gram, environment in zip(grams, new, strict=True):
            design = features.design(2, np.array(parents, dtype=np.intp), environment.X)
            columns = np.column_stack([design, environment.X[:, 2]])
            assert np.allclose(gram, columns.T @ columns, rtol=0, atol=1e-10)
            assert np.allclose(design[:, 1 : 1 + len(parents)], environment.X[:, parents])


def test_the_shared_mechanism_is_that_of_the_weighted_samples():
    observed = CASES["of several sizes, an odd number"]
    evidence, mask = evidence_of(observed, relative_precision=2.0), np.array([True, False, True, False, False])
    posterior = evidence.shared_mechanism(3, mask)
    keep = 1 - evidence.target_probability(3, mask)
    design = [evidence.features.design(3, np.flatnonzero(mask), e.X) for e in observed.environments]
    gram = sum(k * x.T @ x for k, x in zip(keep, design, strict=True))
    moments = sum(k * x.T @ e.X[:, 3] for k, x, e in zip(keep, design, observed.environments, strict=True))
    precision = PRIORS.slope_precision * np.array([1.0] * 3 + [2.0] * N_UNITS)
    precision[0] = PRIORS.intercept_precision
    assert np.allclose(posterior.mean, np.linalg.solve(gram + np.diag(precision), moments), rtol=0, atol=1e-8)
    assert np.allclose(posterior.prior.precision, precision)
    assert posterior.prior.shape == PRIORS.shape + 1.0


def test_units_explain_what_is_not_linear():
    """A parity of signs, which no parent shows alone: joint units find it, by more than 50 nats; linear features do not."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 3))
    X[:, 2] = np.sign(X[:, 0] * X[:, 1]) + 0.3 * X[:, 2]
    observed = Observed((Environment(X, is_observational=True),))
    both, none = np.array([True, True, False]), np.zeros(3, dtype=bool)
    joint = evidence_of(observed, random_units(3, 32, rng))
    linear = Evidence(observed, PRIORS)
    assert joint.score(2, both) - joint.score(2, none) > 50
    assert linear.score(2, both) < linear.score(2, none)


def test_random_units_come_from_the_generator_alone_and_are_the_same_for_every_variable():
    one, other = (random_units(4, 5, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one.weights, other.weights)
    assert np.array_equal(one.biases, other.biases)
    assert one.weights.shape == (4, 5, 4)
    assert np.array_equal(one.weights[0], one.weights[3])
    with pytest.raises(InputError, match="at least one hidden unit, got 0"):
        random_units(4, 0, np.random.default_rng(3))


def test_a_constant_parent_and_huge_values_have_finite_scores():
    X = np.random.default_rng(0).normal(size=(20, 3))
    X[:, 0], X[:, 1] = 1.0, 1e6 * X[:, 1]
    observed = Observed((Environment(X[:10], is_observational=True), Environment(X[10:])))
    own, gains = evidence_of(observed, precision=np.float32).toggles(2, np.array([True, False, False]))
    assert np.isfinite(own)
    assert np.isfinite(gains[:2]).all()


@pytest.mark.parametrize("case", CASES)
def test_what_is_remembered_is_what_would_be_computed(case, monkeypatch):
    """Prepared for several parent sets at once, met as a neighbour before, or forgotten in between: the same scores."""
    observed = CASES[case]
    d = observed.n_variables
    rng = np.random.default_rng(0)
    sets = rng.random((4, d)) < 0.5
    sets[:, 1] = False
    prepared, in_turn, forgetful = (evidence_of(observed) for _ in range(3))
    prepared.prepare(1, sets)
    in_turn.toggles(1, ~sets[0] & (np.arange(d) != 1))
    for parents in sets:
        own, gains = evidence_of(observed).toggles(1, parents)
        with monkeypatch.context() as patch:
            patch.setattr("methods.metacadi.joint.MOST_KNOWN", 0)
            answers = [evidence.toggles(1, parents) for evidence in (prepared, in_turn, forgetful)]
        for answer in answers:
            assert answer[0] == pytest.approx(own, abs=1e-8)
            np.testing.assert_allclose(answer[1], gains, atol=1e-8)


def test_other_priors_remember_nothing():
    observed = CASES["environments of one size"]
    parents = np.array([True, False, False, False, False])
    evidence = evidence_of(observed)
    evidence.toggles(1, parents)
    other = Priors(slope_precision=1.0, rate=0.5)
    for changed, fresh in (
        (evidence.under(other), evidence_of(observed, priors=other)),
        (evidence.at(3.0), evidence_of(observed, amplitude=3.0)),
    ):
        assert changed.toggles(1, parents)[0] == fresh.toggles(1, parents)[0] != evidence.toggles(1, parents)[0]
