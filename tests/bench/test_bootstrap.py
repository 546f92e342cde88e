"""The bootstrap of point methods, on toy methods whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.bootstrap import PointMethod, Replicates, resample, with_frequencies
from bench.types import Budget, Capabilities, Environment, Estimate, Fitted, Meta, Observed


def an_observed(seed: int = 0) -> Observed:
    rng = np.random.default_rng(seed)
    first = Environment(rng.normal(size=(30, 2)), is_observational=True)
    return Observed((first, Environment(rng.normal(size=(5, 2)) + 10, is_observational=False, targets=frozenset({1}))))


class SignOfMean(PointMethod):
    """0 -> 1 where the first environment's mean of X0 is positive, 1 -> 0 elsewhere; a draw decides the only target."""

    capabilities = Capabilities(estimates_targets=True, target_output="binary", deterministic=True)
    meta = Meta("toy")

    def __init__(self, bootstrap: Replicates = 0, undirected: bool = False, slow: bool = False) -> None:
        self.bootstrap = bootstrap
        self.undirected = undirected
        self.slow = slow

    def fit_point(self, observed, *, rng, budget=None):
        forward = observed.environments[0].X[:, 0].mean() > 0
        graph = np.array([[False, forward], [not forward, False]])
        if self.undirected:
            graph = graph | graph.T
        targets = np.zeros((observed.n_environments, 2))
        targets[1, rng.integers(2)] = 1
        edges = np.where(graph & graph.T, 0.5, graph)
        kind = "cpdag" if self.undirected else "dag"
        estimate = Estimate(edges, target_probability=targets, point_graph=graph, graph_kind=kind)
        return Fitted(estimate, cut_short=True) if self.slow else estimate


class ConvergesNow(SignOfMean):
    """Says of its first fits that they converged, of the others that they did not."""

    n_converged = 0

    def fit_point(self, observed, *, rng, budget=None):
        self.n_converged -= 1
        return Fitted(super().fit_point(observed, rng=rng), converged=self.n_converged >= 0)


class ManualBudget(Budget):
    """Runs out after a number of looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks
        self.seen: list[float] = []
        self._progress = lambda fraction, note: self.seen.append(fraction)

    @property
    def expired(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_resampling_draws_rows_of_the_same_environment_and_keeps_sizes_and_knowledge():
    observed = an_observed()
    drawn = resample(observed, np.random.default_rng(1))
    for before, after in zip(observed.environments, drawn.environments, strict=True):
        assert after.X.shape == before.X.shape
        assert {tuple(row) for row in after.X} < {tuple(row) for row in before.X}
        assert (after.is_observational, after.targets) == (before.is_observational, before.targets)


def test_resampling_draws_every_row_equally_often():
    """Each of 5 rows is drawn 5000 times on average over 5000 data sets; the margin is four standard errors (63)."""
    rng = np.random.default_rng(2)
    observed = Observed((Environment(np.arange(5.0)[:, None]),))
    counts = sum(np.bincount(resample(observed, rng).environments[0].X.astype(int).ravel(), minlength=5) for _ in range(5000))
    assert counts == pytest.approx(np.full(5, 5000), abs=4 * np.sqrt(5000 * 5 * 0.2 * 0.8))


def test_without_a_bootstrap_fit_is_fit_point():
    observed = an_observed()
    fitted = SignOfMean().fit(observed, rng=np.random.default_rng(3))
    direct = SignOfMean().fit_point(observed, rng=np.random.default_rng(3))
    assert (fitted.estimate.edge_probability == direct.edge_probability).all()
    assert (fitted.estimate.target_probability == direct.target_probability).all()
    assert fitted.estimate.graph_samples is None
    assert SignOfMean().effective_capabilities() == SignOfMean.capabilities


def test_frequencies_match_the_sampling_distribution_and_the_point_stays_that_of_all_data():
    """The bootstrap mean of X0 is normal around its mean: frequency Φ(mean / se), within four standard errors of 400."""
    observed = an_observed(4)
    fitted = SignOfMean(bootstrap=400).fit(observed, rng=np.random.default_rng(0))
    x = observed.environments[0].X[:, 0]
    expected = stats.norm.cdf(x.mean() / (x.std() / np.sqrt(len(x))))
    estimate = fitted.estimate
    assert 0.05 < expected < 0.95
    assert estimate.edge_probability[0, 1] == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 400))
    assert estimate.edge_probability[0, 1] + estimate.edge_probability[1, 0] == pytest.approx(1)
    assert estimate.target_probability[1] == pytest.approx([0.5, 0.5], abs=4 * np.sqrt(0.25 / 400))
    assert (estimate.target_probability[0] == 0).all()
    point = SignOfMean().fit(observed, rng=np.random.default_rng(0)).estimate
    assert (estimate.point_graph == point.point_graph).all()
    assert (estimate.targets == (point.target_probability > 0.5)).all()
    assert estimate.graph_samples.mean(axis=0) == pytest.approx(estimate.edge_probability)
    assert not fitted.cut_short


def test_an_undirected_edge_counts_half_in_each_direction_and_gives_no_graph_samples():
    estimate = SignOfMean(bootstrap=3, undirected=True).fit(an_observed(), rng=np.random.default_rng(0)).estimate
    assert estimate.edge_probability.tolist() == [[0.0, 0.5], [0.5, 0.0]]
    assert estimate.graph_samples is None
    assert estimate.graph_kind == "cpdag"


def test_called_targets_are_counted_not_their_scores():
    graph = np.zeros((2, 2))
    scored = Estimate(graph, target_probability=np.array([[0.7, 0.9]]), targets=np.array([[False, True]]))
    unsure = Estimate(graph, target_probability=np.array([[0.6, 0.4]]))
    assert with_frequencies(scored, [scored, unsure]).target_probability.tolist() == [[0.5, 0.5]]


def test_methods_without_targets_keep_having_none():
    plain = Estimate(np.zeros((2, 2)))
    assert with_frequencies(plain, [plain, plain]).target_probability is None


def test_same_generator_gives_the_same_frequencies_and_more_replicates_keep_the_first():
    observed = an_observed(4)
    first, again, more = (SignOfMean(bootstrap=b).fit(observed, rng=np.random.default_rng(9)).estimate for b in (6, 6, 12))
    assert (first.graph_samples == again.graph_samples).all()
    assert (more.graph_samples[:6] == first.graph_samples).all()


def test_a_bootstrap_is_told_in_the_capabilities():
    found = SignOfMean(bootstrap=2).effective_capabilities()
    assert (found.edge_output, found.target_output, found.deterministic) == ("posterior", "posterior", False)
    assert found.estimates_targets


def test_an_expired_budget_keeps_the_replicates_done_and_says_so():
    budget = ManualBudget(looks=3)
    fitted = SignOfMean(bootstrap=10).fit(an_observed(), rng=np.random.default_rng(0), budget=budget)
    assert fitted.cut_short
    assert len(fitted.estimate.graph_samples) == 3
    assert budget.seen == pytest.approx([0.0, 0.1, 0.2])


def test_a_budget_gone_before_the_first_replicate_leaves_the_point_estimate():
    fitted = SignOfMean(bootstrap=10).fit(an_observed(), rng=np.random.default_rng(0), budget=Budget(seconds=0.0))
    assert fitted.cut_short
    assert fitted.estimate.graph_samples is None
    assert set(fitted.estimate.edge_probability.ravel()) == {0.0, 1.0}


@pytest.mark.parametrize(("n_converged", "converged"), [(0, False), (4, False), (5, True)])
def test_a_bootstrap_converged_where_every_one_of_its_fits_did(n_converged, converged):
    method = ConvergesNow(bootstrap=4)
    method.n_converged = n_converged
    assert method.fit(an_observed(), rng=np.random.default_rng(0)).converged is converged


def test_a_point_fit_that_was_cut_short_makes_no_replicate():
    fitted = SignOfMean(bootstrap=4, slow=True).fit(an_observed(), rng=np.random.default_rng(0))
    assert fitted.cut_short
    assert fitted.estimate.graph_samples is None
