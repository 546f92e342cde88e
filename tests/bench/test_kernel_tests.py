"""Nonlinear tests of independence: right levels, power where correlation has none, and one answer for one seed."""

from __future__ import annotations

import numpy as np
import pytest

from bench.kernel_tests import KernelTest, RandomFeatureTest, thinned_rows
from bench.types import Environment, Observed


def draw(n: int, n_given: int, seed: int, effect: float):
    """x and y are functions of z with noise; y of x besides, evenly, so that their correlation is near 0."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, n_given))
    common = np.tanh(Z @ rng.normal(size=(n_given, 4))).sum(axis=1)
    x = common + rng.normal(size=n)
    y = common**2 / 4 + effect * (x - common) ** 2 + 0.5 * rng.normal(size=n)
    return [x[:, None], y[:, None], *np.hsplit(Z, n_given)]


def p_values(n_given: int, effect: float, repetitions: int, n: int = 500) -> np.ndarray:
    found = []
    for seed in range(repetitions):
        blocks = draw(n, n_given, seed, effect)
        test = RandomFeatureTest(blocks, [False] * len(blocks), np.random.default_rng(seed))
        found.append(test(0, 1, range(2, 2 + n_given)))
    return np.array(found)


@pytest.mark.parametrize("n_given", [1, 3])
def test_independence_given_a_nonlinear_common_cause_is_rarely_rejected(n_given: int) -> None:
    """Of 100 at the level of 5 %, 5 are expected, with a standard deviation of 2.2; four of them are allowed on top."""
    assert (p_values(n_given, 0.0, 100) < 0.05).sum() <= 14


@pytest.mark.parametrize("n_given", [1, 2])
def test_dependence_without_correlation_is_seen(n_given: int) -> None:
    """Over 100 other seeds: in 97 % and 96 %, which varies by how the few features of a variable happen to lie."""
    assert (p_values(n_given, 0.5, 40) < 0.01).sum() >= 30


def test_p_values_under_independence_fill_the_interval() -> None:
    """Deciles of 300 p-values: 30 in each, with a standard deviation of 5.2."""
    rng = np.random.default_rng(1)
    blocks = [rng.normal(size=(200, 1)) for _ in range(25)]
    test = RandomFeatureTest(blocks, [False] * 25, rng)
    found = np.array([test(i, j) for i in range(25) for j in range(i + 1, 25)])
    assert np.abs(np.histogram(found, bins=10, range=(0, 1))[0] - 30).max() <= 4 * 5.2


def test_a_context_is_seen_by_mean_and_by_spread() -> None:
    rng = np.random.default_rng(0)
    indicator = np.repeat([0.0, 1.0], [300, 60])
    same, moved, spread = rng.normal(size=(3, 360))
    blocks = [column[:, None] for column in (same, moved + indicator, spread * (1 + 2 * indicator), indicator)]
    test = RandomFeatureTest(blocks, [False, False, False, True], rng)
    assert test(0, 3) > 0.01
    assert max(test(1, 3), test(2, 3)) < 1e-4


def test_the_order_of_questions_does_not_matter() -> None:
    blocks = draw(300, 3, 0, 0.2)
    questions = [(0, 1, ()), (0, 1, (2,)), (2, 3, (0, 1)), (0, 1, (3, 2, 4))]
    first, second = (RandomFeatureTest(blocks, [False] * 5, np.random.default_rng(0)) for _ in range(2))
    assert [first(*q) for q in questions] == [second(*q) for q in questions[::-1]][::-1]
    assert first(0, 1, (2, 3, 4)) == first(0, 1, (4, 3, 2))


def test_the_kernel_test_of_the_package_agrees_on_what_is_clear() -> None:
    blocks = draw(200, 1, 3, 1.0)
    ours, package = RandomFeatureTest(blocks, [False] * 3, np.random.default_rng(0)), KernelTest(blocks)
    for test in (ours, package):
        assert test(0, 1, [2]) < 1e-3
    blocks = draw(200, 1, 3, 0.0)
    ours, package = RandomFeatureTest(blocks, [False] * 3, np.random.default_rng(0)), KernelTest(blocks)
    for test in (ours, package):
        assert test(0, 1, [2]) > 0.01


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("kind", ["random features", "kernel"])
def test_constants_and_few_samples_are_independent_of_everything(n: int, kind: str) -> None:
    blocks = [np.ones((n, 1)), np.arange(n, dtype=float)[:, None], np.zeros((n, 1))]
    test = KernelTest(blocks) if kind == "kernel" else RandomFeatureTest(blocks, [False] * 3, np.random.default_rng(0))
    assert test(0, 1) == test(0, 1, [2]) == 1.0


def test_the_largest_environments_are_thinned_first_and_none_is_lost() -> None:
    observed = Observed(tuple(Environment(np.zeros((n, 1))) for n in (50, 3, 20)))
    label = np.repeat([0, 1, 2], [50, 3, 20])
    rng = np.random.default_rng(0)
    for most, kept in ((100, [50, 3, 20]), (40, [18, 3, 18]), (5, [1, 1, 1]), (1, [1, 1, 1])):
        rows = thinned_rows(observed, most, rng)
        assert np.bincount(label[rows]).tolist() == kept
        assert (np.diff(rows) > 0).all()
