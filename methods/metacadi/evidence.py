"""The local evidence s(i, parents): how well the parents explain variable i over all environments, targets unknown.

Whether i is a target is found by closed-form coordinate updates, environment by environment, against a shared mechanism that
each environment joins with its probability of not being a target. The score approximates the log evidence; because the
alternatives lean on the shared posterior, it is no bound.

The unit of work is one variable with all single changes of its parents: eight parent sets in two environments stand side by
side (``lanes``). A score costs the same for ten and for ten thousand samples. The formulas are those of ``model``.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from scipy import special

from bench.types import BoolArray, FloatArray, Observed
from methods.metacadi.compiled import compiled
from methods.metacadi.lanes import (
    HALF,
    WIDTH,
    choose_greater,
    digamma,
    exp,
    lgamma,
    lgamma_of_large,
    load,
    load_half,
    log,
    maximum,
    multiply_add,
    plus_other_half,
    splat,
    store,
    store_half,
    subtract_product,
)
from methods.metacadi.model import (
    Posterior,
    Priors,
    Statistics,
    log_mean_and_variance,
    shared_posterior,
    split_by_knowledge,
)

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
    environments, and from each quarter of them alone, which no intervention on the variable may have met; the best score
    counts. Quarters are every fourth by rank of the environments' mean squared length of a sample, which depends on no order
    of environments or variables.
    """

    def __init__(self, observed: Observed, priors: Priors) -> None:
        self.n_variables = observed.n_variables
        self.n_environments = observed.n_environments
        self.priors = priors
        fixed, possible, places = split_by_knowledge(observed)
        # By size, since terms that depend on it alone are then computed once for neighbours of one size.
        by_size = np.argsort([e.n_samples for e in possible], kind="stable")
        self._places = places[by_size]
        self._statistics = Statistics.of(tuple(possible[e] for e in by_size), self.n_variables)
        self._fixed = Statistics.of(fixed, self.n_variables)
        self._kernel_arguments = _kernel_arguments(self._statistics, self._fixed, priors)
        self._rows: dict[tuple[int, bytes], tuple[float, FloatArray]] = {}
        self._kept: dict[tuple[int, bytes], FloatArray] = {}

    def toggles(self, i: int, parents: BoolArray) -> tuple[float, FloatArray]:
        """Score and toggle gains; see :class:`LocalScores`."""
        key = i, parents.tobytes()
        row = self._rows.get(key)
        if row is None:
            scores = _toggle_scores(*self._kernel_arguments, i, np.flatnonzero(parents))
            own = float(scores[i])
            gains = scores - own
            gains[i] = -np.inf
            gains.setflags(write=False)
            row = self._rows[key] = own, gains
        return row

    def score(self, i: int, parents: BoolArray) -> float:
        """s(i, parents)."""
        return float(_one_score(*self._kernel_arguments, i, np.flatnonzero(parents))[0])

    def target_probability(self, i: int, parents: BoolArray) -> FloatArray:
        """Probability that i is a target in each environment given its parents, float64 (E,)."""
        probability = np.zeros(self.n_environments)
        probability[self._places] = 1.0 - self._keep_probability(i, parents)
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
            keep = _one_score(*self._kernel_arguments, i, np.flatnonzero(parents))[1]
            self._kept[key] = keep[len(keep) - self._statistics.n_environments :]
        return self._kept[key]


def _kernel_arguments(statistics: Statistics, fixed: Statistics, priors: Priors) -> tuple[Any, ...]:
    """What the compiled code reads; environments in pairs, the first of an odd number beside one without samples: no effect."""
    n_environments = statistics.n_environments
    padding = n_environments % 2
    gram = np.concatenate([np.zeros((*statistics.gram.shape[:2], padding)), statistics.gram], axis=2)
    n = np.append(np.zeros(padding), statistics.n_samples)
    half_n = 0.5 * n
    shift_share, scale_share = 1.0 / (priors.shift_strength + n), 1.0 / (priors.scale_strength + n)
    of_size = [
        half_n,
        shift_share,
        0.5 * np.log(priors.shift_strength * shift_share),
        scale_share,
        0.5 * np.log(priors.scale_strength * scale_share),
        special.gammaln(priors.fresh_shape + half_n) - special.gammaln(priors.fresh_shape),
    ]
    variables = np.arange(statistics.n_variables)
    hard = log_mean_and_variance(
        gram[variables, variables],
        gram[variables, -1],
        n,
        priors.hard_strength,
        priors.hard_shape,
        priors.hard_rate,
    )
    fixed_n = float(fixed.n_samples.sum())
    return (
        gram,
        fixed.gram.sum(axis=2),
        fixed_n,
        -0.5 * _LOG_2_PI * (fixed_n + n.sum()),
        np.stack([_as_lanes(x) for x in of_size]),
        _as_lanes(hard + half_n * _LOG_2_PI),
        _as_lanes(np.pad(_starts(statistics, with_observational=fixed_n > 0), ((0, 0), (padding, 0)))),
        priors.record(),
    )


def _as_lanes(values: FloatArray) -> FloatArray:
    """Values of environments, float64 (..., E), each eight times: pair k of environments is value k of lanes."""
    return np.repeat(values, HALF, axis=-1)


def _starts(statistics: Statistics, *, with_observational: bool) -> FloatArray:
    """First guesses that an environment follows the shared mechanism, float64 (n_starts, E)."""
    n_environments = statistics.n_environments
    if with_observational:
        return np.full((1, n_environments), _START_WITH_OBSERVATIONAL)
    squared_length = np.einsum("aae->e", statistics.gram[:-1, :-1]) / statistics.n_samples
    rank = np.argsort(np.argsort(squared_length, kind="stable"), kind="stable")
    quarters = [rank % 4 == k for k in range(min(4, n_environments))]
    return np.array([np.full(n_environments, _START_WITHOUT), *(np.where(q, _START_WITHOUT, 0.0) for q in quarters)])


# Compiled: which parent sets stand side by side -------------------------------------------------------------------------------


@compiled
def _toggle_scores(
    gram: Any,
    fixed_gram: Any,
    fixed_n: Any,
    constant: Any,
    of_size: Any,
    hard: Any,
    starts: Any,
    prior: Any,
    i: Any,
    parents: Any,
) -> Any:
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
    batch_scores, keep = np.empty(WIDTH), np.empty(gram.shape[2] * HALF)
    columns, sizes = np.empty((HALF, p + 1), dtype=np.intp), np.empty(WIDTH)
    for first in range(0, d, HALF):
        largest = 0
        for lane in range(HALF):
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
            sizes[lane] = sizes[lane + HALF] = size
            largest = max(largest, size)
        _score_lanes(
            gram,
            fixed_gram,
            fixed_n,
            of_size,
            hard[i],
            starts,
            prior,
            i,
            columns[:, :largest].copy(),
            sizes,
            batch_scores,
            keep,
        )
        for lane in range(min(HALF, d - first)):
            scores[order[first + lane]] = batch_scores[lane] + constant
    return scores


@compiled
def _one_score(
    gram: Any,
    fixed_gram: Any,
    fixed_n: Any,
    constant: Any,
    of_size: Any,
    hard: Any,
    starts: Any,
    prior: Any,
    i: Any,
    parents: Any,
) -> Any:
    """Score of (i, parents), and the probability that each environment follows the shared mechanism, float64 (E,)."""
    n_environments = gram.shape[2]
    scores, keep = np.empty(WIDTH), np.empty(n_environments * HALF)
    columns, sizes = np.empty((HALF, parents.shape[0]), dtype=np.intp), np.full(WIDTH, float(parents.shape[0]))
    columns[:, :] = parents
    _score_lanes(gram, fixed_gram, fixed_n, of_size, hard[i], starts, prior, i, columns, sizes, scores, keep)
    return scores[0] + constant, keep.reshape(n_environments, HALF)[:, 0].copy()


# Compiled: eight parent sets in two environments at once ----------------------------------------------------------------------
#
# Lane l and lane l + 8 are parent set l in the first and in the second environment of a pair; what belongs to no environment
# is the same in both. Symmetric matrices are packed: entry (a, b), a >= b, is value a (a + 1) / 2 + b of the array. Index 0 is
# the intercept, m - 1 and below are parents, m is the variable itself. A lane with fewer parents than others has features that
# are zero in every sample: they keep their prior and change nothing. All log densities leave out -n/2 log 2π, which adds up
# to a constant.


@compiled
def _gather(gram: Any, i: Any, columns: Any, blocks: Any) -> None:
    """Pack the Gram matrices (d + 1, d + 1, E) of the eight regressions, one block for each pair of environments."""
    intercept, m, n_pairs = gram.shape[0] - 1, columns.shape[1] + 1, gram.shape[2] // 2
    stride = (m + 1) * (m + 2) // 2 * WIDTH
    rows = np.empty((HALF, m + 1), dtype=np.intp)
    same = np.ones(m + 1, dtype=np.bool_)
    for lane in range(HALF):
        rows[lane, 0], rows[lane, m] = intercept, i
        for a in range(1, m):
            rows[lane, a] = columns[lane, a - 1]
            same[a] = same[a] and rows[lane, a] == rows[0, a]
    k = 0
    for a in range(m + 1):
        for b in range(a + 1):
            if same[a] and same[b] and rows[0, a] >= 0 and rows[0, b] >= 0:
                source = gram[rows[0, a], rows[0, b]]
                for pair in range(n_pairs):
                    first, second, place = source[2 * pair], source[2 * pair + 1], pair * stride + k
                    for lane in range(HALF):
                        blocks[place + lane] = first
                        blocks[place + HALF + lane] = second
            else:
                for lane in range(HALF):
                    row, column, place = rows[lane, a], rows[lane, b], k + lane
                    for pair in range(n_pairs):
                        is_feature = row >= 0 and column >= 0
                        blocks[place] = gram[row, column, 2 * pair] if is_feature else 0.0
                        blocks[place + HALF] = gram[row, column, 2 * pair + 1] if is_feature else 0.0
                        place += stride
            k += WIDTH


@compiled
def _add_prior(joint: Any, m: Any, intercept_precision: Any, slope_precision: Any, rate: Any) -> None:
    for a in range(m + 1):
        k = a * (a + 1) // 2 + a
        store(joint, k, load(joint, k) + (intercept_precision if a == 0 else 2.0 * rate if a == m else slope_precision))


@compiled
def _factorise(joint: Any, scaled: Any, m: Any, intercept_precision: Any, slope_precision: Any, rate: Any) -> Any:
    """L D Lᵀ of packed lanes, column by column; return the log determinant of the first m pivots.

    ``joint`` becomes L D; ``scaled`` becomes L, with the inverse pivots in place of its unit diagonal. A pivot is at least the
    prior's share of it, which rounding could take away where columns repeat each other.
    """
    log_det, product = splat(0.0), splat(1.0)
    for b in range(m + 1):
        own = b * (b + 1) // 2
        pivot = load(joint, own + b)
        for k in range(b):
            value = load(joint, own + k)
            ratio = value * load(scaled, k * (k + 1) // 2 + k)
            store(scaled, own + k, ratio)
            pivot = subtract_product(pivot, value, ratio)
        floor = intercept_precision if b == 0 else 2.0 * rate if b == m else slope_precision
        pivot = maximum(pivot, splat(floor))
        store(joint, own + b, pivot)
        store(scaled, own + b, 1.0 / pivot)
        if b < m:
            product = product * pivot
            if b % _PIVOTS_PER_LOG == _PIVOTS_PER_LOG - 1:
                log_det = log_det + log(product)
                product = splat(1.0)
        # Four rows at a time: a sum has to wait for its last addition, four of them do not wait for each other.
        a = b + 1
        while a + 3 <= m:
            row_0 = a * (a + 1) // 2
            row_1 = row_0 + a + 1
            row_2 = row_1 + a + 2
            row_3 = row_2 + a + 3
            sum_0, sum_1 = load(joint, row_0 + b), load(joint, row_1 + b)
            sum_2, sum_3 = load(joint, row_2 + b), load(joint, row_3 + b)
            for k in range(b):
                ratio = load(scaled, own + k)
                sum_0 = subtract_product(sum_0, load(joint, row_0 + k), ratio)
                sum_1 = subtract_product(sum_1, load(joint, row_1 + k), ratio)
                sum_2 = subtract_product(sum_2, load(joint, row_2 + k), ratio)
                sum_3 = subtract_product(sum_3, load(joint, row_3 + k), ratio)
            store(joint, row_0 + b, sum_0)
            store(joint, row_1 + b, sum_1)
            store(joint, row_2 + b, sum_2)
            store(joint, row_3 + b, sum_3)
            a += 4
        while a <= m:
            row = a * (a + 1) // 2
            value = load(joint, row + b)
            for k in range(b):
                value = subtract_product(value, load(joint, row + k), load(scaled, own + k))
            store(joint, row + b, value)
            a += 1
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
def _weighted_sums(fixed: Any, weights: Any, blocks: Any, n_pairs: Any, packed: Any, total: Any) -> None:
    """Fixed Gram matrix plus those of the environments by weight; four entries at a time, as above."""
    k = 0
    while k + 3 < packed:
        sum_0, sum_1, sum_2, sum_3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for e in range(n_pairs):
            weight, entry = load(weights, e), e * packed + k
            sum_0 = multiply_add(weight, load(blocks, entry), sum_0)
            sum_1 = multiply_add(weight, load(blocks, entry + 1), sum_1)
            sum_2 = multiply_add(weight, load(blocks, entry + 2), sum_2)
            sum_3 = multiply_add(weight, load(blocks, entry + 3), sum_3)
        store_half(total, k, load(fixed, k) + plus_other_half(sum_0))
        store_half(total, k + 1, load(fixed, k + 1) + plus_other_half(sum_1))
        store_half(total, k + 2, load(fixed, k + 2) + plus_other_half(sum_2))
        store_half(total, k + 3, load(fixed, k + 3) + plus_other_half(sum_3))
        k += 4
    while k < packed:
        value = splat(0.0)
        for e in range(n_pairs):
            value = multiply_add(load(weights, e), load(blocks, e * packed + k), value)
        store_half(total, k, load(fixed, k) + plus_other_half(value))
        k += 1


@compiled
def _contrasts(inverse: Any, scaled: Any, m: Any, squares: Any, trace: Any, column: Any) -> None:
    """Weights of packed Gram entries: of the residual sum of squares at the posterior mean, and of tr(G A⁻¹).

    The last row of the inverse factor is (−mean, 1). Off-diagonal entries are doubled, so that a sum over packed entries is one
    over the matrix. ``column`` is working space.
    """
    last = m * (m + 1) // 2
    for a in range(m + 1):
        row = a * (a + 1) // 2
        for b in range(a + 1):
            weight = load(inverse, last + a) * load(inverse, last + b)
            store_half(squares, row + b, weight if a == b else 2.0 * weight)
        # Column a of L⁻¹, scaled by the pivots, with the columns up to it; four at a time, as above.
        for k in range(a, m):
            below = k * (k + 1) // 2
            store_half(column, k, load(inverse, below + a) * load(scaled, below + k))
        b = 0
        while b + 3 < a:
            sum_0, sum_1, sum_2, sum_3 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
            for k in range(a, m):
                weight, below = load_half(column, k), k * (k + 1) // 2 + b
                sum_0 = multiply_add(weight, load(inverse, below), sum_0)
                sum_1 = multiply_add(weight, load(inverse, below + 1), sum_1)
                sum_2 = multiply_add(weight, load(inverse, below + 2), sum_2)
                sum_3 = multiply_add(weight, load(inverse, below + 3), sum_3)
            store_half(trace, row + b, 2.0 * sum_0)
            store_half(trace, row + b + 1, 2.0 * sum_1)
            store_half(trace, row + b + 2, 2.0 * sum_2)
            store_half(trace, row + b + 3, 2.0 * sum_3)
            b += 4
        while b <= a:
            value = splat(0.0)
            for k in range(a, m):
                value = multiply_add(load_half(column, k), load(inverse, k * (k + 1) // 2 + b), value)
            store_half(trace, row + b, value if a == b else 2.0 * value)
            b += 1


@compiled
def _residuals(blocks: Any, block: Any, packed: Any, m: Any, squares: Any, trace: Any, inverse: Any) -> Any:
    """Sum of squares and sum of the residuals, and tr(G A⁻¹), of a pair of environments."""
    even_squares, odd_squares, even_spread, odd_spread = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for k in range(0, packed - 1, 2):
        even, odd = load(blocks, block + k), load(blocks, block + k + 1)
        even_squares = multiply_add(load_half(squares, k), even, even_squares)
        even_spread = multiply_add(load_half(trace, k), even, even_spread)
        odd_squares = multiply_add(load_half(squares, k + 1), odd, odd_squares)
        odd_spread = multiply_add(load_half(trace, k + 1), odd, odd_spread)
    if packed % 2:
        value = load(blocks, block + packed - 1)
        even_squares = multiply_add(load_half(squares, packed - 1), value, even_squares)
        even_spread = multiply_add(load_half(trace, packed - 1), value, even_spread)
    total = splat(0.0)
    for a in range(m + 1):
        total = multiply_add(load(inverse, packed - 1 - m + a), load(blocks, block + a * (a + 1) // 2), total)
    return maximum(even_squares + odd_squares, splat(0.0)), total, even_spread + odd_spread


@compiled
def _join_deflated(total: Any, blocks: Any, block: Any, share: Any, m: Any, joint: Any) -> None:
    """What the shared mechanism has seen, and a pair of environments with a common shift integrated out."""
    for a in range(m + 1):
        row = a * (a + 1) // 2
        weighted_sum = load(blocks, block + row) * share
        for b in range(a + 1):
            value = load_half(total, row + b) + load(blocks, block + row + b)
            store(joint, row + b, subtract_product(value, weighted_sum, load(blocks, block + b * (b + 1) // 2)))


@compiled
def _relearned(
    blocks: Any, n_pairs: Any, m: Any, n_parents: Any, of_size: Any, prior: Any, joint: Any, scaled: Any, out: Any
) -> None:
    """Log evidence of a mechanism of one environment's own, for each pair."""
    packed = (m + 1) * (m + 2) // 2
    precision, rate = prior.relearned_precision, prior.relearned_rate
    shape = n_parents * 0.5 + prior.relearned_shape
    half_log_prior = 0.5 * m * np.log(precision)
    known = half_log_prior + shape * np.log(rate) - lgamma(shape)
    log_gamma = splat(0.0)
    for pair in range(n_pairs):
        for k in range(packed):
            store(joint, k, load(blocks, pair * packed + k))
        _add_prior(joint, m, precision, precision, rate)
        log_det = _factorise(joint, scaled, m, precision, precision, rate)
        posterior_shape = shape + load(of_size[_HALF_N], pair)
        if not _same_size(of_size[_HALF_N], pair):
            log_gamma = lgamma(posterior_shape)
        store(out, pair, known + log_gamma - 0.5 * log_det - posterior_shape * log(0.5 * load(joint, packed - 1)))


@compiled
def _same_size(half_n: Any, pair: Any) -> Any:
    """Does a pair of environments have as many samples as the pair before?"""
    if pair == 0:
        return False
    k = pair * WIDTH
    return half_n[k] == half_n[k - WIDTH] and half_n[k + HALF] == half_n[k - HALF]


_HALF_N, _SHIFT_SHARE, _SHIFT_TERM, _SCALE_SHARE, _SCALE_TERM, _FRESH_TERM = range(6)
"""Rows of ``of_size``: terms that depend on the number of samples alone."""


@compiled
def _score_lanes(
    gram: Any,
    fixed_gram: Any,
    fixed_n: Any,
    of_size: Any,
    hard: Any,
    starts: Any,
    prior: Any,
    i: Any,
    columns: Any,
    sizes: Any,
    scores: Any,
    keep: Any,
) -> None:
    """Scores of (i, columns of each lane), float64 (16,), and keep probabilities, float64 (8 E,), into the last arguments."""
    n_pairs, m = gram.shape[2] // 2, columns.shape[1] + 1
    packed = (m + 1) * (m + 2) // 2
    # ``fixed`` holds the prior and the environments known to be observational.
    blocks, fixed = np.empty(n_pairs * packed * WIDTH), np.empty(packed * WIDTH)
    _gather(gram, i, columns, blocks)
    _gather(np.dstack((fixed_gram, fixed_gram)), i, columns, fixed)
    _add_prior(fixed, m, prior.intercept_precision, prior.slope_precision, prior.rate)
    joint, scaled, inverse = np.empty(packed * WIDTH), np.empty(packed * WIDTH), np.empty(packed * WIDTH)
    total, squares, trace = np.empty(packed * HALF), np.empty(packed * HALF), np.empty(packed * HALF)
    column = np.empty(m * HALF)
    steady, own_keep = np.empty(n_pairs * WIDTH), np.empty(n_pairs * WIDTH)

    n_parents = load(sizes, 0)
    shape = n_parents * 0.5 + prior.shape
    log_prior_odds = np.log((1.0 - prior.target) / prior.target)
    log_target, log_no_target = np.log(prior.target), np.log(1.0 - prior.target)
    known = (
        (0.5 * (np.log(prior.intercept_precision) + (m - 1) * np.log(prior.slope_precision)))
        + shape * np.log(prior.rate)
        - lgamma(shape)
        - n_parents * np.log(float(gram.shape[0] - 1))
    )
    # What no round changes: the two alternatives without the shared mechanism.
    _relearned(blocks, n_pairs, m, n_parents, of_size, prior, joint, scaled, steady)
    for pair in range(n_pairs):
        store(steady, pair, _log_add(load(steady, pair), load(hard, pair)))

    best = splat(-np.inf)
    for start in range(starts.shape[0]):
        for pair in range(n_pairs):
            store(own_keep, pair, load(starts[start], pair))
        score = splat(0.0)
        for step in range(N_ROUNDS + 1):
            # The shared posterior.
            half_n_shared = splat(0.0)
            for pair in range(n_pairs):
                half_n_shared = multiply_add(load(own_keep, pair), load(of_size[_HALF_N], pair), half_n_shared)
            _weighted_sums(fixed, own_keep, blocks, n_pairs, packed, total)
            for k in range(packed):
                store(joint, k, load_half(total, k))
            log_det = _factorise(joint, scaled, m, prior.intercept_precision, prior.slope_precision, prior.rate)
            _invert(scaled, inverse, m)
            _contrasts(inverse, scaled, m, squares, trace, column)
            shape_n = shape + (plus_other_half(half_n_shared) + 0.5 * fixed_n)
            rate_n = 0.5 * load(joint, packed - 1)
            log_rate_n, log_gamma_n = log(rate_n), lgamma(shape_n)
            precision, fresh_rate = shape_n / rate_n, rate_n / shape_n
            fresh_term = prior.fresh_shape * log(fresh_rate)
            expected_log_precision = digamma(shape_n) - log_rate_n

            is_last = step == N_ROUNDS
            cooling = 1.0 / max(1.0, 8.0 / 2.0**step)
            own_score, log_gamma = splat(0.0), splat(0.0)
            for pair in range(n_pairs):
                block, half_n = pair * packed, load(of_size[_HALF_N], pair)
                residual_squares, residual_sum, spread = _residuals(blocks, block, packed, m, squares, trace, inverse)
                # No target.
                expected = half_n * expected_log_precision - 0.5 * multiply_add(precision, residual_squares, spread)
                # Shift: the shared posterior after the environment, less a common shift.
                shift_share, shift_term = load(of_size[_SHIFT_SHARE], pair), load(of_size[_SHIFT_TERM], pair)
                _join_deflated(total, blocks, block, shift_share, m, joint)
                shift_log_det = _factorise(joint, scaled, m, prior.intercept_precision, prior.slope_precision, prior.rate)
                shape_joined = shape_n + half_n
                if not _same_size(of_size[_HALF_N], pair):
                    large = of_size[_HALF_N, pair * WIDTH] >= 8.0  # and the second, since environments are sorted by size
                    log_gamma = (lgamma_of_large(shape_joined) if large else lgamma(shape_joined)) - log_gamma_n
                shift = (
                    0.5 * (log_det - shift_log_det)
                    + shape_n * log_rate_n
                    - shape_joined * log(0.5 * load(joint, packed - 1))
                    + log_gamma
                    + shift_term
                )
                # Scale, and shift and scale: the residuals with a variance of their own.
                shape_fresh, square = half_n + prior.fresh_shape, residual_sum * residual_sum
                fresh = fresh_term + load(of_size[_FRESH_TERM], pair)
                centred = subtract_product(residual_squares, square, load(of_size[_SCALE_SHARE], pair))
                centred = maximum(centred, splat(0.0)) * 0.5 + fresh_rate
                scale = fresh - shape_fresh * log(centred) + load(of_size[_SCALE_TERM], pair)
                centred = maximum(subtract_product(residual_squares, square, shift_share), splat(0.0)) * 0.5 + fresh_rate
                both = fresh - shape_fresh * log(centred) + shift_term

                steady_term = load(steady, pair)
                top = maximum(maximum(shift, scale), maximum(both, steady_term))
                mixture = exp(shift - top) + exp(scale - top) + exp(both - top) + exp(steady_term - top)
                top = top - np.log(5.0)
                if is_last:
                    kept = load(own_keep, pair)
                    changed = 1.0 - kept
                    smallest = splat(1e-300)
                    entropy = 0.0 - kept * log(maximum(kept, smallest)) - changed * log(maximum(changed, smallest))
                    own_score = own_score + changed * (log(mixture) + top + log_target) + kept * log_no_target + entropy
                elif cooling == 1.0:
                    # A logistic function whose logarithm of the mixture cancels an exponential.
                    against = mixture * exp(_clipped(top - expected - log_prior_odds))
                    store(own_keep, pair, 1.0 / (1.0 + against))
                else:
                    against = exp(_clipped((log(mixture) + top - expected - log_prior_odds) * cooling))
                    store(own_keep, pair, 1.0 / (1.0 + against))
            if is_last:
                score = plus_other_half(own_score) + known - 0.5 * log_det - shape_n * log_rate_n + log_gamma_n
        for pair in range(n_pairs):
            store(keep, pair, choose_greater(score, best, load(own_keep, pair), load(keep, pair)))
        best = maximum(score, best)
    store(scores, 0, best)


@compiled
def _clipped(x: Any) -> Any:
    """x between -700 and 700, where its exponential is a normal number."""
    return 0.0 - maximum(0.0 - maximum(x, splat(-700.0)), splat(-700.0))


@compiled
def _log_add(a: Any, b: Any) -> Any:
    top = maximum(a, b)
    return top + log(exp(a - top) + exp(b - top))
