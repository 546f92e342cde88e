"""Marginal two-sample tests: the floor for targets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench import registry
from bench.types import Environment, Observed
from methods.marginal import two_sample_p_values


def fit(observed: Observed, **parameters: float):
    return registry.make_method("marginal", **parameters).fit(observed, rng=np.random.default_rng(0))


def shifted(seed: int, n: int = 100, d: int = 6, target: int = 2, shift: float = 2.0, scale: float = 1.0) -> np.ndarray:
    X = np.random.default_rng(seed).normal(size=(n, d))
    X[:, target] = shift + scale * X[:, target]
    return X


def observational(seed: int = 99, n: int = 300, d: int = 6) -> Environment:
    return Environment(np.random.default_rng(seed).normal(size=(n, d)), is_observational=True)


def test_p_values_are_those_of_scipy() -> None:
    X, Y = shifted(0, n=40, shift=0.3, scale=1.3), observational().X
    found = two_sample_p_values(X, Y)
    for j in range(X.shape[1]):
        expected = [
            stats.ttest_ind(X[:, j], Y[:, j], equal_var=False).pvalue,
            stats.levene(X[:, j], Y[:, j], center="median").pvalue,
            stats.ks_2samp(X[:, j], Y[:, j]).pvalue,
        ]
        np.testing.assert_allclose(found[:, j], expected, rtol=1e-10)


def test_p_values_ignore_a_common_offset_and_scale() -> None:
    X, Y = shifted(0, n=40), observational().X
    np.testing.assert_allclose(two_sample_p_values(1e6 + 3 * X, 1e6 + 3 * Y), two_sample_p_values(X, Y), rtol=1e-6)


def test_mean_and_spread_changes_are_called_and_nothing_else() -> None:
    environments = (observational(), Environment(shifted(1), is_observational=False))
    spread = Environment(shifted(2, target=4, shift=0.0, scale=4.0), is_observational=False)
    estimate = fit(Observed((*environments, spread))).estimate
    expected = np.zeros((3, 6), dtype=bool)
    expected[1, 2] = expected[2, 4] = True
    np.testing.assert_array_equal(estimate.targets, expected)
    np.testing.assert_array_equal(estimate.target_probability > 0.5, expected)
    assert not estimate.edge_probability.any()


def test_a_false_alarm_in_an_environment_is_as_rare_as_alpha() -> None:
    # Holm is conservative: expected at most .05. With 400 environments the standard error is .011; margin three of them.
    rng = np.random.default_rng(3)
    environments = [Environment(rng.normal(size=(20, 6)), is_observational=False) for _ in range(400)]
    reference = Environment(rng.normal(size=(1000, 6)), is_observational=True)
    targets = fit(Observed((reference, *environments)), alpha=0.05).estimate.targets
    assert 0.005 < targets.any(axis=1)[1:].mean() < 0.083


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_false_alarms_stay_rare_with_very_few_samples(n: int) -> None:
    # Student's t is exact, Welch's nearly, the others conservative: at most .05, plus three standard errors over 400 rows.
    rng = np.random.default_rng(n)
    new = Observed(tuple(Environment(rng.normal(size=(n, 4))) for _ in range(400)))
    reference = Observed((Environment(rng.normal(size=(1000, 4)), is_observational=True),))
    assert fit(reference).adapt(new, rng=rng).targets.any(axis=1).mean() < 0.083


def test_one_sample_is_enough_for_a_strong_shift() -> None:
    reference = Observed((observational(),))
    estimate = fit(reference).adapt(Observed((Environment(shifted(5, n=1, shift=8.0)),)), rng=np.random.default_rng(0))
    assert estimate.targets[0].tolist() == [False, False, True, False, False, False]


def test_one_sample_against_many_is_students_test_of_a_new_observation() -> None:
    reference = observational().X
    x = np.full((1, 6), 2.5)
    z = (x - reference.mean(axis=0)) / (reference.std(axis=0, ddof=1) * np.sqrt(1 + 1 / len(reference)))
    expected = 2 * stats.t.sf(np.abs(z[0]), len(reference) - 1)
    np.testing.assert_allclose(two_sample_p_values(x, reference)[0], expected, rtol=1e-10)
    np.testing.assert_allclose(two_sample_p_values(reference, x)[0], expected, rtol=1e-10)
    assert np.isnan(two_sample_p_values(x, reference)[1]).all()


def test_adapting_gives_the_row_that_fitting_with_the_environment_gives() -> None:
    new = Environment(shifted(7, n=10), is_observational=False)
    fitted = fit(Observed((observational(), Environment(shifted(1), is_observational=False))))
    before = fitted.estimate.target_probability.copy()
    adapted = fitted.adapt(Observed((new,)), rng=np.random.default_rng(0))
    together = fit(Observed((observational(), new))).estimate
    np.testing.assert_array_equal(adapted.target_probability[0], together.target_probability[1])
    np.testing.assert_array_equal(fitted.estimate.target_probability, before)


def test_without_observational_data_each_environment_is_compared_with_all_others() -> None:
    environments = tuple(Environment(shifted(s, target=s, n=60, shift=4.0)) for s in range(6))
    targets = fit(Observed(environments)).estimate.targets
    assert targets.diagonal().all()
    # The others hold each target once in five, which is a difference too, but a weaker one.
    probability = fit(Observed(environments)).estimate.target_probability
    assert (probability.argmax(axis=1) == np.arange(6)).all()


def test_known_observational_environments_and_a_single_one_have_no_target() -> None:
    odd = Environment(shifted(1), is_observational=True)
    assert not fit(Observed((observational(), odd))).estimate.target_probability.any()
    assert not fit(Observed((Environment(shifted(1)),))).estimate.target_probability.any()


def test_constants_have_p_value_one_unless_they_changed() -> None:
    X, reference = shifted(1, n=20), observational().X.copy()
    X[:, 0], reference[:, 0] = 0.1, 0.1
    X[:, 1], reference[:, 1] = 1 / 3, 0.1
    p_values = two_sample_p_values(X, reference)
    np.testing.assert_array_equal(p_values[:, 0], 1.0)
    assert p_values[0, 1] < 1e-100
    targets = fit(Observed((Environment(reference, is_observational=True), Environment(X)))).estimate.targets
    assert targets[1].tolist() == [False, True, True, False, False, False]


def test_the_answer_is_renamed_with_variables_and_environments() -> None:
    environments = (observational(), *(Environment(shifted(s, target=s), is_observational=False) for s in range(4)))
    answer = fit(Observed(environments)).estimate.target_probability
    order = np.random.default_rng(0).permutation(6)
    renamed = Observed(tuple(Environment(e.X[:, order], is_observational=e.is_observational) for e in environments[::-1]))
    np.testing.assert_array_equal(fit(renamed).estimate.target_probability, answer[::-1, order])
