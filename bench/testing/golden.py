"""One short text for a whole problem that another machine or version gives as well, unless the problem has changed.

A fingerprint covers every bit, and a sum in another order changes it. Here samples are rounded first, to a ten-thousandth of
each variable's standard deviation, so that rounding errors change nothing and anything that a method could notice does.
"""

from __future__ import annotations

import hashlib

import numpy as np

from bench.types import FloatArray, Problem

DECIMALS = 4


def golden_digest(problem: Problem) -> str:
    """Digest of graph, targets, flags, sizes and rounded samples, held-out environments included.

    Examples
    --------
    >>> from bench.types import Environment, Observed
    >>> X = np.array([[0.0, 1.0], [1.0, 3.0]])
    >>> once, again, other = (Problem(Observed((Environment(Y),)), None) for Y in (X, X + 1e-12, X + 1e-3))
    >>> golden_digest(once) == golden_digest(again), golden_digest(once) == golden_digest(other)
    (True, False)
    """
    observed, truth = problem.observed, problem.truth
    deviation = observed.pooled().std(axis=0)
    unit = np.where(deviation > 0, deviation, 1.0)

    def rounded(X: FloatArray) -> bytes:
        whole: bytes = np.rint(X / unit * 10**DECIMALS).astype(np.int64).tobytes()
        return whole

    state = hashlib.blake2b(digest_size=8)
    for environment in observed.environments:
        state.update(repr((environment.X.shape, environment.is_observational)).encode() + rounded(environment.X))
    for known in () if truth is None else (truth.adjacency, truth.targets, truth.scored):
        state.update(b"unknown" if known is None else np.packbits(known).tobytes())
    for held_out in problem.held_out:
        state.update(repr((held_out.sizes, held_out.query.shape)).encode() + np.packbits(held_out.targets).tobytes())
        state.update(rounded(held_out.support) + rounded(held_out.query))
    return state.hexdigest()
