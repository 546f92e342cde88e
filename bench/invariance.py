"""Which environments differ from the rest: the reference of a test of invariance, and what is left of many p-values.

What the methods share that test targets one by one. The test itself, of one data set against another, is
:class:`bench.gaussian.InvarianceTest`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from bench.gaussian import InvarianceTest, Moments, environment_moments, merge
from bench.types import BoolArray, FloatArray, Observed

_SMALLEST_P_VALUE = float(np.finfo(np.float64).tiny)


class Reference:
    """Which environments differ from the observational one.

    Parameters
    ----------
    reference : Moments
    others : sequence of Moments
        One for each of E environments.
    alpha : float
        Level of each test.
    """

    def __init__(self, reference: Moments, others: Sequence[Moments], alpha: float) -> None:
        self._test = InvarianceTest(reference, others)
        self._alpha = alpha

    def p_values(self, target: int, predictors: Iterable[int]) -> FloatArray:
        """p-value of "the regression of ``target`` on the predictors is that of the reference", float64 (E,)."""
        return self._test.p_values(target, predictors)

    def variants(self, target: int, predictors: Iterable[int]) -> BoolArray:
        """Where the regression differs from the reference at the level, bool (E,)."""
        return self.p_values(target, predictors) < self._alpha


class Consensus:
    """Which environments differ from what most samples agree on, where none is known to be observational.

    The reference, chosen anew for each regression, is the environments that agree, two by two, with the one that agrees with
    most samples; an intervention in less than half of the samples does not get into it. Each environment is then
    compared with the reference (less itself). Where several agree with equally many, all their followers are the reference.

    Parameters
    ----------
    environments : sequence of Moments
        E of them.
    alpha : float
        Level of each test, those of agreement included.
    """

    def __init__(self, environments: Sequence[Moments], alpha: float) -> None:
        self._environments, self._alpha = environments, alpha
        self._first, self._second = np.triu_indices(len(environments), 1)
        pairs = list(combinations(environments, 2))
        self._two_by_two = InvarianceTest([a for a, _ in pairs], [b for _, b in pairs])
        self._n_samples = np.array([m.n_samples for m in environments])
        self._tests: dict[bytes, InvarianceTest] = {}

    def p_values(self, target: int, predictors: Iterable[int]) -> FloatArray:
        """p-value of "the regression of ``target`` on the predictors is that of the rest", float64 (E,)."""
        n_environments = len(self._environments)
        if n_environments == 1:
            return np.ones(1)
        predictors = list(predictors)
        agree = np.eye(n_environments, dtype=bool)
        agree[self._first, self._second] = self._two_by_two.p_values(target, predictors) >= self._alpha
        agree |= agree.T
        followers = agree @ self._n_samples
        reference = agree[followers == followers.max()].any(axis=0)
        return self._against(reference).p_values(target, predictors)

    def variants(self, target: int, predictors: Iterable[int]) -> BoolArray:
        """Where the regression differs from that of the rest at the level, bool (E,)."""
        return self.p_values(target, predictors) < self._alpha

    def _against(self, reference: BoolArray) -> InvarianceTest:
        key = reference.tobytes()
        if key not in self._tests:
            members = np.flatnonzero(reference).tolist()
            own = [[f for f in members if f != e] or members for e in range(len(self._environments))]
            references = [merge(self._environments[f] for f in of_one) for of_one in own]
            self._tests[key] = InvarianceTest(references, self._environments)
        return self._tests[key]


def invariance_of(observed: Observed, alpha: float) -> tuple[Reference | Consensus, list[int]]:
    """The tests that the data allow, and the environments that the entries of their answers stand for.

    The environments known to be observational, pooled, are the reference of all others; where none is known, every environment
    is compared with the consensus.

    Parameters
    ----------
    observed : Observed
    alpha : float
        Level of each test.
    """
    environments = environment_moments(observed)
    known = [bool(e.is_observational) for e in observed.environments]
    compared = [e for e, is_observational in enumerate(known) if not is_observational]
    if not any(known):
        return Consensus(environments, alpha), compared
    reference = merge(m for m, is_observational in zip(environments, known, strict=True) if is_observational)
    return Reference(reference, [environments[e] for e in compared], alpha), compared


def holm_evidence(p_values: FloatArray, alpha: float) -> FloatArray:
    """log(t / p) of each variable: its smallest p-value against the threshold t that Holm's procedure comes down to.

    Holm rejects the k smallest of m p-values, k the first with p₍ₖ₊₁₎ >= alpha / (m - k). As all rejected ones lie below
    that bound and no other does, t = alpha / (m - k) separates them. Where all m are rejected, t = alpha.

    Parameters
    ----------
    p_values : float64 (n_tests, d)
        One family; NaN where a test is undefined, which then does not count.
    alpha : float

    Returns
    -------
    float64 (d,)
        Positive where the variable is rejected.

    Examples
    --------
    >>> (holm_evidence(np.array([[0.001, 0.02, 0.03, 0.9]]), alpha=0.05) > 0).tolist()
    [True, False, False, False]
    >>> (holm_evidence(np.array([[0.001, 0.016, 0.024, 0.9]]), alpha=0.05) > 0).tolist()
    [True, True, True, False]
    """
    ordered = np.sort(p_values[~np.isnan(p_values)])
    thresholds = alpha / np.arange(len(ordered), 0, -1)
    kept = ordered >= thresholds
    threshold = thresholds[kept.argmax()] if kept.any() else alpha
    smallest = np.where(np.isnan(p_values), 1.0, p_values).min(axis=0)
    return np.asarray(np.log(threshold) - np.log(np.maximum(smallest, _SMALLEST_P_VALUE)))
