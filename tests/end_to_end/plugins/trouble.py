"""Methods that misbehave, each in one way; all else about them is the empty graph."""

import ctypes
import os
import sys
import time
from typing import Literal

import numpy as np

from bench.errors import MissingDependency
from bench.registry import register_method
from bench.types import Capabilities, Estimate, Fitted, Meta, Method


class _Empty(Method):
    capabilities = Capabilities(deterministic=True)
    meta = Meta("A method of a test.")

    def fit(self, observed, *, rng, budget=None):
        self.misbehave()
        d = observed.n_variables
        return Fitted(Estimate(np.zeros((d, d)), point_graph=np.zeros((d, d), dtype=bool), graph_kind="dag"))

    def misbehave(self):
        raise AssertionError


@register_method("raises")
class Raises(_Empty):
    def misbehave(self):
        raise KeyError("no such thing\nsecond line")


@register_method("hangs")
class Hangs(_Empty):
    def misbehave(self):
        time.sleep(3600)


@register_method("exits")
class Exits(_Empty):
    def misbehave(self):
        os._exit(3)


@register_method("crashes")
class Crashes(_Empty):
    def misbehave(self):
        ctypes.string_at(0)


@register_method("allocates")
class Allocates(_Empty):
    def misbehave(self):
        kept = []
        while True:
            kept.append(np.ones(2_000_000))
            time.sleep(0.005)


@register_method("forks")
class Forks(_Empty):
    def misbehave(self):
        os.fork()  # both go on: the copy must not answer


@register_method("prints")
class Prints(_Empty):
    def misbehave(self):
        print("noise " * 10_000)
        os.write(1, b"raw noise\n" * 10_000)
        print("more noise", file=sys.stderr)


@register_method("disturbs")
class Disturbs(_Empty):
    def misbehave(self):
        np.random.seed(0)  # noqa: NPY002
        os.environ["OMP_NUM_THREADS"] = "7"
        os.chdir("/")


@register_method("nothing")
class Nothing(_Empty):
    def fit(self, observed, *, rng, budget=None):
        return None


@register_method("nonsense")
class Nonsense(_Empty):
    def fit(self, observed, *, rng, budget=None):
        return Fitted(Estimate(np.zeros((observed.n_variables + 1,) * 2)))


@register_method("lacks")
class Lacks(_Empty):
    def misbehave(self):
        raise MissingDependency("the package 'nowhere' is not installed: pip install nowhere")


@register_method("fails_later")
class FailsLater(_Empty):
    capabilities = Capabilities(estimates_targets=True, adapts=True)

    def fit(self, observed, *, rng, budget=None):
        d = observed.n_variables
        fitted = Fitted(Estimate(np.zeros((d, d)), np.zeros((observed.n_environments, d))))
        fitted.adapt = self.adapt
        return fitted

    def adapt(self, new, *, rng):
        raise RuntimeError("cannot adapt")


@register_method("unprintable")
class Unprintable(_Empty):
    def misbehave(self):
        raise ValueError(os.fsdecode(b"file \xff"))


@register_method("promises_targets")
class PromisesTargets(_Empty):
    capabilities = Capabilities(estimates_targets=True)

    def misbehave(self):
        pass


class _TooDense(Fitted):
    def log_density(self, X):
        return np.zeros((3, *X.shape))  # of three graphs, and the estimate has none


@register_method("too_dense")
class TooDense(_Empty):
    capabilities = Capabilities(density=True)

    def fit(self, observed, *, rng, budget=None):
        return _TooDense(Estimate(np.zeros((observed.n_variables,) * 2)))


@register_method("hurried_by_more")
class HurriedByMore(_Empty):
    """Runs out of time where there are more environments than it was first given, as in a refit."""

    capabilities = Capabilities(estimates_targets=True)

    def __init__(self, n_environments: int = 4):
        self.n_environments = n_environments

    def fit(self, observed, *, rng, budget=None):
        n, d = observed.n_environments, observed.n_variables
        return Fitted(Estimate(np.zeros((d, d)), np.zeros((n, d))), cut_short=n > self.n_environments)


@register_method("converges_on_few")
class ConvergesOnFew(HurriedByMore):
    """Does not converge where there are more environments than it was first given."""

    def fit(self, observed, *, rng, budget=None):
        n, d = observed.n_environments, observed.n_variables
        return Fitted(Estimate(np.zeros((d, d)), np.zeros((n, d))), converged=n <= self.n_environments)


@register_method("needs_much")
class NeedsMuch(_Empty):
    def __init__(
        self, what: Literal["nothing", "observational", "environments", "few variables", "samples", "package"] = "nothing"
    ) -> None:
        self.what = what

    def effective_capabilities(self):
        return {
            "nothing": self.capabilities,
            "observational": Capabilities(needs_observational=True),
            "environments": Capabilities(min_environments=4),
            "few variables": Capabilities(max_variables=3),
            "samples": Capabilities(needs_more_samples_than_variables=True),
            "package": Capabilities(extra="a_package_of_nobody"),
        }[self.what]

    def misbehave(self):
        pass
