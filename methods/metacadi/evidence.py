"""The local evidence s(i, parents): how well the parents explain variable i over all environments, targets unknown.

Whether i is a target is found by closed-form coordinate updates, environment by environment, against a shared mechanism that
each environment joins with its probability of not being a target. The score approximates the log evidence; because the
alternatives lean on the shared posterior, it is no bound.

The unit of work is one variable with all single changes of its parents, eight parent sets side by side (``lanes``). A score
costs the same for ten and for ten thousand samples. The formulas are those of ``model``.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from bench.types import BoolArray, FloatArray, Observed
from methods.metacadi.compiled import compiled
from methods.metacadi.lanes import (
    WIDTH,
    choose_greater,
    digamma,
    exp,
    lgamma,
    lgamma_of_large,
    load,
    log,
    maximum,
    multiply_add,
    splat,
    store,
)
from methods.metacadi.model import Posterior, Priors, Statistics, shared_posterior, split_by_knowledge

N_ROUNDS = 7
"""Coordinate updates; the first three are annealed by 8, 4 and 2."""

_START_WITH_OBSERVATIONAL, _START_WITHOUT = 0.7, 0.9
_PIVOTS_PER_LOG = 8
_LOG_2_PI = float(np.log(2.0 * np.pi))


class LocalScores(Protocol):
    """What a search over graphs asks for."""

    n_variables: int

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """s(i, parents), and s(i, parents xor j) − s(i, parents) for each j, float64 (d,); −inf for j = i."""


class Evidence:
    """Local scores of one data set, memoised by variable and parent set.

    Parameters
    ----------
    observed : Observed
        Environments known to be observational have no targets; all others may have.
    priors : Priors

    Notes
    -----
    Without an environment known to be observational the updates have local optima, so they start five times: from all
    environments, and from four halves of them; the best score counts. The halves are taken by rank of the environments' mean
    squared length of a sample, which depends on no order of environments or variables.
    """

    def __init__(self, observed: Observed, priors: Priors) -> None:
        self.n_variables = observed.n_variables
        self.n_environments = observed.n_environments
        self.priors = priors
        fixed, possible, self._possible = split_by_knowledge(observed)
        self._fixed = Statistics.of(fixed, self.n_variables)
        self._statistics = Statistics.of(possible, self.n_variables)
        self._starts = _starts(self._statistics, with_observational=bool(fixed))
        n = self._statistics.n_samples
        self._data = (
            self._statistics.gram,
            n,
            self._fixed.gram.sum(axis=2),
            float(self._fixed.n_samples.sum()),
            self._starts,
            priors.record(),
        )
        self._rows: dict[tuple[int, bytes], tuple[float, FloatArray]] = {}
        self._kept: dict[tuple[int, bytes], FloatArray] = {}

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """Score and toggle gains; see :class:`LocalScores`."""
        key = i, parents.tobytes()
        row = self._rows.get(key)
        if row is None:
            scores = _toggle_scores(*self._data, i, np.flatnonzero(parents))
            own = float(scores[i])
            gains = scores - own
            gains[i] = -np.inf
            gains.setflags(write=False)
            row = self._rows[key] = own, gains
        return row

    def score(self, i: int, parents: BoolArray) -> float:
        """s(i, parents)."""
        return float(self._evaluate(i, parents)[0])

    def target_probability(self, i: int, parents: BoolArray) -> FloatArray:
        """Probability that i is a target in each environment given its parents, float64 (E,)."""
        probability = np.zeros(self.n_environments)
        probability[self._possible] = 1.0 - self._keep_probability(i, parents)
        return probability

    def shared_mechanism(self, i: int, parents: BoolArray) -> Posterior:
        """Posterior of the shared mechanism of i given its parents, each environment weighted as the score weighs it."""
        members = np.flatnonzero(parents)
        keep = self._keep_probability(i, parents)
        gram = self._fixed.regression(i, members).sum(axis=0)
        gram = gram + np.einsum("e,eab->ab", keep, self._statistics.regression(i, members))
        n_samples = float(self._fixed.n_samples.sum() + keep @ self._statistics.n_samples)
        return shared_posterior(gram, n_samples, self.priors)

    def _keep_probability(self, i: int, parents: BoolArray) -> FloatArray:
        key = i, parents.tobytes()
        if key not in self._kept:
            self._kept[key] = self._evaluate(i, parents)[1]
        return self._kept[key]

    def _evaluate(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        score, keep = _one_score(*self._data, i, np.flatnonzero(parents))
        return score, keep


def _starts(statistics: Statistics, *, with_observational: bool) -> FloatArray:
    """First guesses that an environment follows the shared mechanism, float64 (n_starts, E)."""
    n_environments = statistics.n_environments
    if with_observational:
        return np.full((1, n_environments), _START_WITH_OBSERVATIONAL)
    squared_length = np.einsum("aae->e", statistics.gram[:-1, :-1]) / statistics.n_samples
    rank = np.argsort(np.argsort(squared_length, kind="stable"), kind="stable")
    halves = [rank % 2 == 0, rank % 2 == 1, rank // 2 % 2 == 0, rank // 2 % 2 == 1]
    inside, outside = _START_WITHOUT, 1.0 - _START_WITHOUT
    return np.array([np.full(n_environments, inside), *(np.where(half, inside, outside) for half in halves)])


# Compiled: which parent sets stand side by side -------------------------------------------------------------------------------


@compiled
def _toggle_scores(gram: Any, n: Any, fixed_gram: Any, fixed_n: Any, starts: Any, prior: Any, i: Any, parents: Any) -> Any:
    """Score of (i, parents xor j) for each j, float64 (d,); of (i, parents) itself in place i."""
    d, p = gram.shape[0] - 1, parents.shape[0]
    is_parent = np.zeros(d, dtype=np.bool_)
    for a in range(p):
        is_parent[parents[a]] = True
    # Parent sets of like size stand side by side: removals, the set itself, additions.
    order = np.empty(d, dtype=np.intp)
    position = 0
    for a in range(p):
        order[position] = parents[a]
        position += 1
    order[position] = i
    position += 1
    for j in range(d):
        if j != i and not is_parent[j]:
            order[position] = j
            position += 1
    scores = np.empty(d)
    batch_scores, keep = np.empty(WIDTH), np.empty(gram.shape[2] * WIDTH)
    columns, sizes = np.empty((WIDTH, p + 1), dtype=np.intp), np.empty(WIDTH)
    for first in range(0, d, WIDTH):
        largest = 0
        for lane in range(WIDTH):
            j = order[min(first + lane, d - 1)]
            columns[lane, :] = -1
            size = 0
            for a in range(p):
                if parents[a] != j:
                    columns[lane, size] = parents[a]
                    size += 1
            if j != i and not is_parent[j]:
                columns[lane, size] = j
                size += 1
            sizes[lane] = size
            largest = max(largest, size)
        _score_lanes(gram, n, fixed_gram, fixed_n, starts, prior, i, columns[:, :largest].copy(), sizes, batch_scores, keep)
        for lane in range(min(WIDTH, d - first)):
            scores[order[first + lane]] = batch_scores[lane]
    return scores


@compiled
def _one_score(gram: Any, n: Any, fixed_gram: Any, fixed_n: Any, starts: Any, prior: Any, i: Any, parents: Any) -> Any:
    """Score of (i, parents), and the probability that each environment follows the shared mechanism, float64 (E,)."""
    n_environments = gram.shape[2]
    scores, keep = np.empty(WIDTH), np.empty(n_environments * WIDTH)
    columns, sizes = np.empty((WIDTH, parents.shape[0]), dtype=np.intp), np.full(WIDTH, float(parents.shape[0]))
    columns[:, :] = parents
    _score_lanes(gram, n, fixed_gram, fixed_n, starts, prior, i, columns, sizes, scores, keep)
    return scores[0], keep.reshape(n_environments, WIDTH)[:, 0].copy()


# Compiled: eight parent sets at once ------------------------------------------------------------------------------------------
#
# Symmetric matrices are packed: entry (a, b), a >= b, of each lane is value a (a + 1) / 2 + b of the array. Index 0 is the
# intercept, m - 1 and below are parents, m is the variable itself. A lane with fewer parents than others has features that are
# zero in every sample: they keep their prior and change nothing.


@compiled
def _gather(source: Any, i: Any, columns: Any, lane: Any, target: Any, offset: Any) -> None:
    """Write the Gram matrix (d + 1, d + 1) of one lane's regression into its place of packed lanes."""
    m = columns.shape[1] + 1
    k = offset * WIDTH + lane
    for a in range(m + 1):
        row = source.shape[0] - 1 if a == 0 else i if a == m else columns[lane, a - 1]
        for b in range(a + 1):
            column = source.shape[0] - 1 if b == 0 else i if b == m else columns[lane, b - 1]
            target[k] = source[row, column] if row >= 0 and column >= 0 else 0.0
            k += WIDTH


@compiled
def _factorise(joint: Any, scaled: Any, m: Any, floor_intercept: Any, floor_slope: Any, floor_response: Any) -> Any:
    """L D Lᵀ of packed lanes: ``joint`` becomes L D, ``scaled`` L (without its diagonal); return log det of the first m pivots.

    A pivot is at least the prior's share of it, which rounding could take away where columns repeat each other.
    """
    log_det, product = splat(0.0), splat(1.0)
    for a in range(m + 1):
        row = a * (a + 1) // 2
        for b in range(a):
            other = b * (b + 1) // 2
            value = load(joint, row + b)
            for k in range(b):
                value = value - load(joint, row + k) * load(scaled, other + k)
            store(joint, row + b, value)
        pivot = load(joint, row + a)
        for k in range(a):
            value = load(joint, row + k)
            ratio = value * load(scaled, k * (k + 1) // 2 + k)
            store(scaled, row + k, ratio)
            pivot = pivot - value * ratio
        floor = floor_intercept if a == 0 else floor_response if a == m else floor_slope
        pivot = maximum(pivot, splat(floor))
        store(joint, row + a, pivot)
        store(scaled, row + a, 1.0 / pivot)
        if a < m:
            product = product * pivot
            if a % _PIVOTS_PER_LOG == _PIVOTS_PER_LOG - 1:
                log_det = log_det + log(product)
                product = splat(1.0)
    return log_det + log(product)


@compiled
def _invert(scaled: Any, inverse: Any, m: Any) -> None:
    """Inverse of the unit lower triangular L of packed lanes."""
    for a in range(m + 1):
        row = a * (a + 1) // 2
        store(inverse, row + a, splat(1.0))
        for b in range(a):
            value = load(scaled, row + b)
            for k in range(b + 1, a):
                value = multiply_add(load(scaled, row + k), load(inverse, k * (k + 1) // 2 + b), value)
            store(inverse, row + b, 0.0 - value)


@compiled
def _score_lanes(
    gram: Any,
    n: Any,
    fixed_gram: Any,
    fixed_n: Any,
    starts: Any,
    prior: Any,
    i: Any,
    columns: Any,
    sizes: Any,
    scores: Any,
    keep: Any,
) -> None:
    """Scores of (i, columns of each lane), float64 (8,), and keep probabilities, float64 (E · 8,), into the last arguments."""
    n_environments, m = gram.shape[2], columns.shape[1] + 1
    packed = (m + 1) * (m + 2) // 2
    corner = packed - 1
    blocks, fixed = np.empty(n_environments * packed * WIDTH), np.empty(packed * WIDTH)
    for lane in range(WIDTH):
        _gather(fixed_gram, i, columns, lane, fixed, 0)
        for e in range(n_environments):
            _gather(gram[:, :, e], i, columns, lane, blocks, e * packed)
    total, joint, scaled = np.empty(packed * WIDTH), np.empty(packed * WIDTH), np.empty(packed * WIDTH)
    inverse, squares, trace = np.empty(packed * WIDTH), np.empty(packed * WIDTH), np.empty(packed * WIDTH)
    steady, own_keep = np.empty(n_environments * WIDTH), np.empty(n_environments * WIDTH)

    n_parents = load(sizes, 0)
    shape = n_parents * 0.5 + prior.shape
    log_gamma_shape = lgamma(shape)
    log_prior_odds = np.log((1.0 - prior.target) / prior.target)
    log_target, log_no_target = np.log(prior.target), np.log(1.0 - prior.target)
    half_log_prior = 0.5 * (np.log(prior.intercept_precision) + (m - 1) * np.log(prior.slope_precision))
    log_fresh_gamma = np.empty(n_environments * WIDTH)

    # What no round changes: the two alternatives without the shared mechanism.
    relearned_shape = n_parents * 0.5 + prior.relearned_shape
    log_gamma_relearned = lgamma(relearned_shape)
    hard_gamma = lgamma(splat(prior.hard_shape))
    fresh_gamma = lgamma(splat(prior.fresh_shape))
    for e in range(n_environments):
        half_n, block = 0.5 * n[e], e * packed
        for k in range(packed):
            store(joint, k, load(blocks, block + k))
        for a in range(m):
            k = a * (a + 1) // 2 + a
            store(joint, k, load(joint, k) + prior.relearned_precision)
        store(joint, corner, load(joint, corner) + 2.0 * prior.relearned_rate)
        floor = prior.relearned_precision
        log_det = _factorise(joint, scaled, m, floor, floor, 2.0 * prior.relearned_rate)
        relearned = (
            (0.5 * m * np.log(floor) - half_n * _LOG_2_PI)
            - 0.5 * log_det
            + relearned_shape * np.log(prior.relearned_rate)
            - (relearned_shape + half_n) * log(0.5 * load(joint, corner))
            + lgamma(relearned_shape + half_n)
            - log_gamma_relearned
        )
        own_sum, own_squares = load(blocks, block + corner - m), load(blocks, block + corner)
        rate = maximum(own_squares - own_sum * own_sum / (prior.hard_strength + n[e]), splat(0.0)) * 0.5 + prior.hard_rate
        hard = (
            (
                0.5 * np.log(prior.hard_strength / (prior.hard_strength + n[e]))
                - half_n * _LOG_2_PI
                + prior.hard_shape * np.log(prior.hard_rate)
            )
            - (prior.hard_shape + half_n) * log(rate)
            + lgamma(splat(prior.hard_shape + half_n))
            - hard_gamma
        )
        store(steady, e, _log_add(relearned, hard))
        store(log_fresh_gamma, e, lgamma(splat(prior.fresh_shape + half_n)) - fresh_gamma)

    best = splat(-np.inf)
    for start in range(starts.shape[0]):
        for e in range(n_environments):
            store(own_keep, e, splat(starts[start, e]))
        score = splat(0.0)
        for step in range(N_ROUNDS + 1):
            # The shared posterior.
            n_shared = splat(fixed_n)
            for e in range(n_environments):
                n_shared = n_shared + load(own_keep, e) * n[e]
            for k in range(packed):
                value = load(fixed, k)
                for e in range(n_environments):
                    value = multiply_add(load(own_keep, e), load(blocks, e * packed + k), value)
                store(total, k, value)
            for a in range(m):
                k = a * (a + 1) // 2 + a
                store(total, k, load(total, k) + (prior.intercept_precision if a == 0 else prior.slope_precision))
            store(total, corner, load(total, corner) + 2.0 * prior.rate)
            for k in range(packed):
                store(joint, k, load(total, k))
            log_det = _factorise(joint, scaled, m, prior.intercept_precision, prior.slope_precision, 2.0 * prior.rate)
            _invert(scaled, inverse, m)
            shape_n, rate_n = shape + 0.5 * n_shared, 0.5 * load(joint, corner)
            log_rate_n = log(rate_n)
            log_gamma_n = lgamma(shape_n)
            fresh_rate = rate_n / shape_n
            precision = shape_n / rate_n
            expected_log_precision = digamma(shape_n) - log_rate_n
            # Contrasts with the residual at the posterior mean, and the covariance of the coefficients; off-diagonal entries
            # are doubled, so that a sum over packed entries is one over the matrix.
            for a in range(m + 1):
                row, last = a * (a + 1) // 2, corner - m
                for b in range(a + 1):
                    double = 1.0 if a == b else 2.0
                    store(squares, row + b, double * load(inverse, last + a) * load(inverse, last + b))
                    value = splat(0.0)
                    for k in range(a, m):
                        weight = load(inverse, k * (k + 1) // 2 + a) * load(scaled, k * (k + 1) // 2 + k)
                        value = multiply_add(weight, load(inverse, k * (k + 1) // 2 + b), value)
                    store(trace, row + b, double * value)

            is_last = step == N_ROUNDS
            cooling = 1.0 / max(1.0, 8.0 / 2.0**step)
            if is_last:
                score = (
                    (half_log_prior - 0.5 * log_det)
                    - 0.5 * _LOG_2_PI * n_shared
                    + shape * np.log(prior.rate)
                    - shape_n * log_rate_n
                    + log_gamma_n
                    - log_gamma_shape
                    - n_parents * np.log(float(gram.shape[0] - 1))
                )
            for e in range(n_environments):
                half_n, block = 0.5 * n[e], e * packed
                residual_squares, spread = splat(0.0), splat(0.0)
                for k in range(packed):
                    value = load(blocks, block + k)
                    residual_squares = multiply_add(load(squares, k), value, residual_squares)
                    spread = multiply_add(load(trace, k), value, spread)
                residual_squares = maximum(residual_squares, splat(0.0))
                residual_sum = splat(0.0)
                for a in range(m + 1):
                    value = load(blocks, block + a * (a + 1) // 2)
                    residual_sum = multiply_add(load(inverse, corner - m + a), value, residual_sum)
                # No target.
                expected = half_n * expected_log_precision - 0.5 * (precision * residual_squares + spread)
                # Shift: the shared posterior after the environment, less a common shift.
                share = 1.0 / (prior.shift_strength + n[e])
                for a in range(m + 1):
                    row = a * (a + 1) // 2
                    weighted_sum = load(blocks, block + row) * (0.0 - share)
                    for b in range(a + 1):
                        value = load(total, row + b) + load(blocks, block + row + b)
                        other = load(blocks, block + b * (b + 1) // 2)
                        store(joint, row + b, multiply_add(weighted_sum, other, value))
                shift_log_det = _factorise(joint, scaled, m, prior.intercept_precision, prior.slope_precision, 2.0 * prior.rate)
                log_gamma = lgamma_of_large(shape_n + half_n) if half_n >= 8.0 else lgamma(shape_n + half_n)
                strength_term = 0.5 * np.log(prior.shift_strength * share)
                shift = (
                    0.5 * (log_det - shift_log_det)
                    + shape_n * log_rate_n
                    - (shape_n + half_n) * log(0.5 * load(joint, corner))
                    + log_gamma
                    - log_gamma_n
                    + strength_term
                )
                # Scale, and shift and scale: the residuals with a variance of their own.
                fresh = prior.fresh_shape * log(fresh_rate) + load(log_fresh_gamma, e)
                scale_share = 1.0 / (prior.scale_strength + n[e])
                centred = maximum(residual_squares - residual_sum * residual_sum * scale_share, splat(0.0))
                scale = (
                    fresh
                    - (prior.fresh_shape + half_n) * log(0.5 * centred + fresh_rate)
                    + 0.5 * np.log(prior.scale_strength * scale_share)
                )
                centred = maximum(residual_squares - residual_sum * residual_sum * share, splat(0.0))
                both = fresh - (prior.fresh_shape + half_n) * log(0.5 * centred + fresh_rate) + strength_term

                steady_e = load(steady, e) + half_n * _LOG_2_PI
                top = maximum(maximum(shift, scale), maximum(both, steady_e))
                mixture = log(exp(shift - top) + exp(scale - top) + exp(both - top) + exp(steady_e - top)) + top - np.log(5.0)
                if is_last:
                    kept = load(own_keep, e)
                    changed = 1.0 - kept
                    smallest = splat(1e-300)
                    entropy = 0.0 - kept * log(maximum(kept, smallest)) - changed * log(maximum(changed, smallest))
                    score = score + changed * (mixture - half_n * _LOG_2_PI + log_target) + kept * log_no_target + entropy
                else:
                    logit = (expected - mixture + log_prior_odds) * cooling
                    logit = maximum(0.0 - maximum(0.0 - logit, splat(-700.0)), splat(-700.0))
                    store(own_keep, e, 1.0 / (1.0 + exp(0.0 - logit)))
        for e in range(n_environments):
            store(keep, e, choose_greater(score, best, load(own_keep, e), load(keep, e)))
        best = maximum(score, best)
    store(scores, 0, best)


@compiled
def _log_add(a: Any, b: Any) -> Any:
    top = maximum(a, b)
    return top + log(exp(a - top) + exp(b - top))
