"""What goes wrong in an experiment: its statistics, and that nothing else is drawn differently."""

import numpy as np
import pytest

from bench.experiments import HeldOutPlan, run_experiment
from bench.flaws import Flaws
from bench.interventions import Interventions
from bench.scm import SOURCE, Linear, LinearModel, Node


def pair():
    """0 -> 1 with weight 2 and noise of variance 1: variances 1 and 5."""
    return LinearModel((Node(np.array([], dtype=int), SOURCE), Node(np.array([0]), Linear(np.array([2.0]), 1.0))), np.arange(2))


def experiment(flaws, n=20_000, **changes):
    settings = {"n_observational": n, "n_environments": 1, "n_per_environment": n, "n_targets": 1}
    settings |= {"interventions": Interventions("shift", {"shift": 8.0}), "flaws": flaws}
    return run_experiment(pair(), np.random.default_rng(3), **(settings | changes))


def test_no_flaw_draws_nothing_and_a_flaw_changes_no_other_draw():
    """The samples that the intervention did not miss are the very same, and so are the targets."""
    plain, missed = experiment(Flaws()), experiment(Flaws(escape=0.3))
    assert np.array_equal(plain.truth.targets, missed.truth.targets)
    observational, hit = zip(*((e.X for e in p.observed.environments) for p in (plain, missed)), strict=True)
    assert np.array_equal(*observational)
    same = (hit[0] == hit[1]).all(axis=1)
    assert same.mean() == pytest.approx(0.7, abs=4 * np.sqrt(0.3 * 0.7 / 20_000))  # four binomial standard errors


def test_missed_samples_follow_the_model_without_intervention():
    """Those that differ have the observational mean and variance; five standard errors."""
    plain, missed = (experiment(f).observed.environments for f in (Flaws(), Flaws(escape=0.4)))
    X = missed[1].X[(missed[1].X != plain[1].X).any(axis=1)]
    deviation = np.sqrt([1.0, 5.0])
    assert np.all(np.abs(X.mean(axis=0)) < 5 * deviation / np.sqrt(len(X)))
    assert np.all(np.abs(X.std(axis=0) / deviation - 1) < 5 / np.sqrt(2 * len(X)))


def test_the_more_are_missed_the_more_of_the_same():
    plain, few, many = (experiment(Flaws(escape=s), n=500).observed.environments[1].X for s in (0.0, 0.2, 0.6))
    assert ((few != plain).any(axis=1) <= (many != plain).any(axis=1)).all()


def test_all_missed_is_no_intervention_and_still_has_its_targets():
    problem = experiment(Flaws(escape=1.0))
    X = problem.observed.environments[1].X
    assert np.all(np.abs(X.mean(axis=0)) < 5 * np.sqrt([1.0, 5.0]) / np.sqrt(len(X)))
    assert problem.truth.targets[1].sum() == 1


def test_measurement_error_has_the_asked_for_size_in_each_variable_and_reaches_no_effect():
    """Error variance .25 times each variance (known to 5 / sqrt(2 · 1000) from the pilot); errors are independent."""
    plain, noisy = (experiment(f).observed.environments[0].X for f in (Flaws(), Flaws(measurement_error=0.5)))
    error = noisy - plain
    assert error.std(axis=0) == pytest.approx(0.5 * np.sqrt([1.0, 5.0]), rel=5 / np.sqrt(2000))
    both = np.corrcoef(np.column_stack([plain, error]).T)
    assert np.abs(both[2:, :2]).max() < 5 / np.sqrt(len(plain))
    assert abs(both[2, 3]) < 5 / np.sqrt(len(plain))


def test_flaws_of_samples_reach_held_out_environments():
    plan = HeldOutPlan(2, (3,), n_query=4000)
    plain, noisy = (experiment(f, n=50, held_out=plan).held_out for f in (Flaws(), Flaws(measurement_error=1.0)))
    for a, b in zip(plain, noisy, strict=True):
        assert np.array_equal(a.targets, b.targets)
        assert (b.query - a.query).std(axis=0) == pytest.approx(np.sqrt([1.0, 5.0]), rel=0.15)


@pytest.mark.parametrize(("share", "wrong"), [(0.1, 1), (0.3, 3), (0.5, 5), (1.0, 10)])
def test_the_asked_for_share_of_labels_is_wrong_throughout(share, wrong):
    targets = np.zeros((11, 6), dtype=bool)
    targets[np.arange(1, 11), np.arange(10) % 6] = True
    targets[4, :2] = True
    told = Flaws(mislabelled=share).told_targets(targets, np.random.default_rng(0))
    differs = (told != targets).any(axis=1)
    assert differs.sum() == wrong
    assert not differs[0]
    assert (told.sum(axis=1) == targets.sum(axis=1)).all()
    assert not (told & targets)[differs].any()


def test_wrong_labels_grow_with_their_share():
    targets = np.eye(8, dtype=bool)
    few, many = (Flaws(mislabelled=s).told_targets(targets, np.random.default_rng(1)) for s in (0.25, 0.75))
    moved = (few != targets).any(axis=1)
    assert (few[moved] == many[moved]).all()
    assert Flaws().told_targets(targets, np.random.default_rng(1)) is None
