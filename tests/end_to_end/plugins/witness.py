"""Methods that answer with what they saw, so that a test knows what reached them."""

import time

import numpy as np

from bench.registry import register_method
from bench.types import Capabilities, Estimate, Fitted, Meta, Method

META = Meta("A method of a test.")


def _fingerprints(X):
    """One number in (0, 1) per variable that depends on its column and not on its place."""
    return 0.5 + np.arctan(X.mean(axis=0) * 3 + (X**3).mean(axis=0)) / np.pi


@register_method("witness")
class Witness(Method):
    """Edge i -> j scores by the columns i and j, target k by environment and column; refitted for held-out environments."""

    capabilities = Capabilities(estimates_targets=True, edge_output="score", deterministic=True)
    meta = META

    def fit(self, observed, *, rng, budget=None):
        value = _fingerprints(observed.pooled())
        edges = np.outer(value, value**2)
        np.fill_diagonal(edges, 0)
        targets = np.stack([_fingerprints(e.X) for e in observed.environments])
        return Fitted(Estimate(edges, targets))


class _Adapts(Fitted):
    def adapt(self, new, *, rng):
        targets = np.stack([_fingerprints(e.X) for e in new.environments])
        return Estimate(self.estimate.edge_probability, targets)

    def log_density(self, X):
        return -0.5 * X[None] ** 2 - 0.5 * np.log(2 * np.pi)  # standard normal, in the units that methods see


@register_method("adapting_witness")
class AdaptingWitness(Witness):
    """The same, with adaptation in closed form and a density."""

    capabilities = Capabilities(estimates_targets=True, edge_output="score", deterministic=True, adapts=True, density=True)

    def fit(self, observed, *, rng, budget=None):
        estimate = super().fit(observed, rng=rng).estimate
        d = observed.n_variables
        samples = np.zeros((1, d, d), dtype=bool)
        return _Adapts(Estimate(estimate.edge_probability, estimate.target_probability, graph_samples=samples))


@register_method("told")
class Told(Method):
    """Targets exactly as they were told; needs them."""

    capabilities = Capabilities(targets="required", estimates_targets=True, deterministic=True)
    meta = META

    def fit(self, observed, *, rng, budget=None):
        d = observed.n_variables
        targets = np.zeros((observed.n_environments, d))
        for row, environment in zip(targets, observed.environments, strict=True):
            row[sorted(environment.targets)] = 1
        return Fitted(Estimate(np.zeros((d, d)), targets))


@register_method("curious")
class Curious(Method):
    """Calls whatever it was told a target; must learn of none where it was not granted."""

    capabilities = Capabilities(targets="ignored", estimates_targets=True, deterministic=True)
    meta = META

    def fit(self, observed, *, rng, budget=None):
        d = observed.n_variables
        told = any(e.targets is not None for e in observed.environments)
        return Fitted(Estimate(np.zeros((d, d)), np.full((observed.n_environments, d), float(told))))


@register_method("graph_told")
class GraphTold(Method):
    """Repeats the graph that it was told, at every fit; calls the roots of it targets. Needs it."""

    capabilities = Capabilities(graph="required", estimates_targets=True, deterministic=True)
    meta = META

    def fit(self, observed, *, rng, budget=None):
        roots = ~observed.graph.any(axis=0)
        return Fitted(Estimate(observed.graph, np.tile(roots, (observed.n_environments, 1))))


@register_method("graph_welcome")
class GraphWelcome(GraphTold):
    """The same, but for the empty graph where none is told; must learn of no target."""

    capabilities = Capabilities(graph="optional", estimates_targets=True, deterministic=True)

    def fit(self, observed, *, rng, budget=None):
        assert all(e.targets is None for e in observed.environments)
        d = observed.n_variables
        if observed.graph is None:
            return Fitted(Estimate(np.zeros((d, d)), np.zeros((observed.n_environments, d))))
        return super().fit(observed, rng=rng)


@register_method("slow")
class Slow(Method):
    """Takes a while and draws at random, so that a run can be stopped half way."""

    capabilities = Capabilities(edge_output="score")
    meta = META

    def __init__(self, seconds: float = 0.2):
        self.seconds = seconds

    def fit(self, observed, *, rng, budget=None):
        time.sleep(self.seconds)
        edges = rng.random((observed.n_variables,) * 2)
        np.fill_diagonal(edges, 0)
        return Fitted(Estimate(edges))
