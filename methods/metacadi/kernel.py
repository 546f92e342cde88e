"""The local evidence of one variable and eight parent sets at once, compiled.

The unit of work is one variable with all single changes of its parents: eight parent sets in two environments stand side by
side (``lanes``). The formulas are those of ``model``; ``evidence`` prepares the data and asks.
"""

from __future__ import annotations

from math import lgamma as log_gamma
from typing import Any, NamedTuple

import numpy as np

from bench.types import FloatArray
from methods.metacadi.compiled import compiled, reassociated
from methods.metacadi.lanes import (
    HALF,
    WIDTH,
    choose_greater,
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
from methods.metacadi.model import IntArray

_PIVOTS_PER_LOG = 8
_SMALLEST_SHARE = 1e-12
"""Of a pivot that a shift leaves; it is at least κ / (κ + n), but for rounding."""


class Data(NamedTuple):
    """What compiled code reads of a data set. F features, E environments (an even number) that may have targets.

    Parameters
    ----------
    gram : float64 ((F + 1) (F + 2) / 2, E)
        Of features, variables first, and the intercept last; columns a >= b at row a (a + 1) / 2 + b.
    fixed_gram : float64 ((F + 1) (F + 2) / 2, 2)
        Of all environments known to be observational together, twice.
    relative : float64 (F + 1,)
        Prior precision of each feature as a multiple of a slope's.
    own : int (d, a)
        Features that come with each parent.
    pairs : int (d, d, b)
        Features that come with each two parents.
    pooled_gram : float64 ((F + 1) (F + 2) / 2, 1)
        Of all environments together.
    fixed_n, pooled_n : float
        Samples known to be observational, and all.
    constant : float
        What all scores share.
    of_size : float64 (6, 8 E)
        Terms that depend on the number of samples alone, in lanes; rows as below.
    hard : float64 (d, E)
        Log density of each variable under a hard intervention.
    starts : float64 (1 or d, n_starts, E)
        First guesses that an environment follows the shared mechanism; the same or others for each variable.
    cooling : float64 (n_rounds,)
        Inverse temperature of each coordinate update.
    log_weights : tuple of float
        Log prior probabilities of the five alternatives.
    """

    gram: FloatArray
    fixed_gram: FloatArray
    relative: FloatArray
    own: IntArray
    pairs: IntArray
    pooled_gram: FloatArray
    fixed_n: float
    pooled_n: float
    constant: float
    of_size: FloatArray
    hard: FloatArray
    starts: FloatArray
    cooling: FloatArray
    log_weights: tuple[float, ...]


_HALF_N, _SHIFT_SHARE, _SHIFT_TERM, _SCALE_SHARE, _SCALE_TERM, _FRESH_TERM = range(6)
"""Rows of ``of_size``."""


# Which parent sets stand side by side -----------------------------------------------------------------------------------------


@compiled
def toggle_scores(data: Any, prior: Any, i: Any, parents: Any, candidates: Any) -> Any:
    """Score of (i, parents xor j) for each j that is a parent or in ``candidates``, bool (d,), float64 (d,); -inf elsewhere.

    Place i holds the score of (i, parents) itself. Second, the probability that each environment follows its shared mechanism,
    float64 (E,).
    """
    d, p = data.own.shape[0], parents.shape[0]
    is_parent = np.zeros(d, dtype=np.bool_)
    for a in range(p):
        is_parent[parents[a]] = True
    # Parent sets of like size stand side by side: removals, the set itself, additions.
    changes, n = np.empty(d, dtype=np.intp), 0
    for a in range(p):
        changes[n] = parents[a]
        n += 1
    changes[n] = i
    n += 1
    for j in range(d):
        if j != i and not is_parent[j] and candidates[j]:
            changes[n] = j
            n += 1
    scores, keep = np.full(d, -np.inf), np.empty(data.gram.shape[1])
    _score_changes(data, prior, i, parents, changes[:n], scores, keep)
    return scores, keep


@compiled
def screened_row(data: Any, prior: Any, i: Any, parents: Any, likely: Any, least_gain: Any, optimistic: Any) -> Any:
    """Gains of single changes of (i, parents), exact where they may matter, else estimates.

    Exact are removals, additions estimated at ``least_gain`` or more, and as many of ``likely``, int (n,), none of them a
    parent, as cost nothing beside the removals. Estimates are what an addition gains if targets stay as they are or, where
    ``optimistic``, the greater of that and what it gains if there never were any: a better parent explains what passed for
    interventions, so that the former is often tens of nats too low.

    Returns
    -------
    own : float
        Score of (i, parents).
    gains : float64 (d,)
        -inf for i.
    exact : bool (d,)
    keep : float64 (E,)
        Probability that each environment follows the shared mechanism.
    """
    d, p = data.own.shape[0], parents.shape[0]
    changes, n = np.empty(d, dtype=np.intp), p + 1
    changes[:p] = parents
    changes[p] = i
    for k in range(min(len(likely), (HALF - n % HALF) % HALF)):
        changes[n] = likely[k]
        n += 1
    scores, keep = np.empty(d), np.empty(data.gram.shape[1])
    exact = np.zeros(d, dtype=np.bool_)
    _score_changes(data, prior, i, parents, changes[:n], scores, keep)
    for k in range(n):
        exact[changes[k]] = True
    own = scores[i]
    estimates = estimated_gains(data, prior, i, parents, keep)
    if optimistic:
        pooled = _gains_of_evidence(data, prior, i, parents, data.pooled_gram, data.pooled_n, np.empty(0))
        estimates = np.maximum(estimates, pooled)
    n = 0
    for j in range(d):
        if not exact[j] and estimates[j] >= least_gain:
            changes[n] = j
            n += 1
    if n > 0:
        unused = np.empty_like(keep)
        _score_changes(data, prior, i, parents, changes[:n], scores, unused)
        for k in range(n):
            exact[changes[k]] = True
    for j in range(d):
        scores[j] = scores[j] - own if exact[j] else estimates[j]
    scores[i] = -np.inf
    return own, scores, exact, keep


@compiled
def _score_changes(data: Any, prior: Any, i: Any, parents: Any, changes: Any, scores: Any, own_keep: Any) -> None:
    """Score of (i, parents xor j) for each j of ``changes``, int (n,), into place j of ``scores``.

    No change is j = i, and its keep probabilities go into ``own_keep``.
    """
    p, n = parents.shape[0], changes.shape[0]
    batch_scores, keep = np.empty(WIDTH), np.empty(data.gram.shape[1] * HALF)
    members, sizes = np.empty((HALF, p + 1), dtype=np.intp), np.empty(WIDTH)
    variables = np.full(HALF, i)
    for first in range(0, n, HALF):
        for lane in range(HALF):
            j = changes[min(first + lane, n - 1)]
            size, is_new = 0, j != i
            for a in range(p):
                if parents[a] != j:
                    members[lane, size] = parents[a]
                    size += 1
                else:
                    is_new = False
            if is_new:
                members[lane, size] = j
                size += 1
            sizes[lane] = sizes[lane + HALF] = size
        _score_sets(data, prior, variables, members, sizes, batch_scores, keep)
        for lane in range(min(HALF, n - first)):
            j = changes[first + lane]
            scores[j] = batch_scores[lane] + data.constant
            if j == i:
                for e in range(own_keep.shape[0]):
                    own_keep[e] = keep[e * HALF + lane]


@compiled
def scores_of(data: Any, prior: Any, variables: Any, parent_sets: Any) -> Any:
    """Scores of n variables, int (n,), given parents, bool (n, d), eight side by side.

    Second, the probabilities that each environment follows their shared mechanisms, float64 (n, E). Parent sets of like size
    should be neighbours.
    """
    n, n_environments = variables.shape[0], data.gram.shape[1]
    scores, keep = np.empty(n), np.empty((n, n_environments))
    batch_scores, batch_keep = np.empty(WIDTH), np.empty(n_environments * HALF)
    batch, sizes = np.empty(HALF, dtype=np.intp), np.empty(WIDTH)
    for first in range(0, n, HALF):
        largest = 0
        for lane in range(HALF):
            k = min(first + lane, n - 1)
            size = parent_sets[k].sum()
            batch[lane], sizes[lane], sizes[lane + HALF] = variables[k], size, size
            largest = max(largest, size)
        members = np.empty((HALF, largest), dtype=np.intp)
        for lane in range(HALF):
            size = 0
            for j in range(parent_sets.shape[1]):
                if parent_sets[min(first + lane, n - 1), j]:
                    members[lane, size] = j
                    size += 1
        _score_sets(data, prior, batch, members, sizes, batch_scores, batch_keep)
        for lane in range(min(HALF, n - first)):
            scores[first + lane] = batch_scores[lane] + data.constant
            for e in range(n_environments):
                keep[first + lane, e] = batch_keep[e * HALF + lane]
    return scores, keep


@compiled
def joint_scores(data: Any, prior: Any, variables: Any, gram: Any, fixed_gram: Any, relative: Any, sizes: Any) -> Any:
    """Scores of eight parent sets with features of their own, and keep probabilities.

    Parameters
    ----------
    variables : int (8,)
        What they are parents of.
    gram : float64 (8, m + 1, m + 1, E)
        Of intercept, features and response.
    fixed_gram : float64 (8, m + 1, m + 1)
    relative : float64 (8, m)
    sizes : float64 (8,)
        Numbers of parents.

    Returns
    -------
    scores : float64 (8,)
    keep : float64 (8, E)
    """
    m, n_environments = gram.shape[1] - 1, gram.shape[3]
    n_pairs, packed = n_environments // 2, (m + 1) * (m + 2) // 2
    blocks, fixed = np.empty(n_pairs * packed * WIDTH), np.empty(packed * WIDTH)
    relative_lanes, both_sizes = np.ones((m + 1) * WIDTH), np.empty(WIDTH)
    for lane in range(HALF):
        both_sizes[lane] = both_sizes[lane + HALF] = sizes[lane]
        for a in range(m + 1):
            if a < m:
                relative_lanes[a * WIDTH + lane] = relative_lanes[a * WIDTH + HALF + lane] = relative[lane, a]
            for b in range(a + 1):
                k = (a * (a + 1) // 2 + b) * WIDTH + lane
                fixed[k] = fixed[k + HALF] = fixed_gram[lane, a, b]
                for pair in range(n_pairs):
                    place = pair * packed * WIDTH + k
                    blocks[place] = gram[lane, a, b, 2 * pair]
                    blocks[place + HALF] = gram[lane, a, b, 2 * pair + 1]
    scores, keep = np.empty(WIDTH), np.empty(n_environments * HALF)
    _score_blocks(data, prior, variables, blocks, fixed, relative_lanes, both_sizes, scores, keep)
    return scores[:HALF] + data.constant, keep.reshape(n_environments, HALF).T.copy()


@compiled
def _score_sets(data: Any, prior: Any, variables: Any, members: Any, sizes: Any, scores: Any, keep: Any) -> None:
    """Scores of variables, int (8,), given first members of each lane, float64 (16,), and keep probabilities, float64 (8 E,).

    They go into the last two arguments.
    """
    n_own, n_pairwise = data.own.shape[1], data.pairs.shape[2]
    largest = int(sizes.max())
    columns = np.full((HALF, largest * n_own + largest * (largest - 1) // 2 * n_pairwise), -1, dtype=np.intp)
    # A parent's features come with those that it shares with the parents before it, so that lanes start alike.
    for lane in range(HALF):
        k = 0
        for a in range(int(sizes[lane])):
            for f in range(n_own):
                columns[lane, k] = data.own[members[lane, a], f]
                k += 1
            for b in range(a):
                for f in range(n_pairwise):
                    columns[lane, k] = data.pairs[members[lane, a], members[lane, b], f]
                    k += 1
    intercept = data.relative.shape[0] - 1
    n_pairs, m = data.gram.shape[1] // 2, columns.shape[1] + 1
    packed = (m + 1) * (m + 2) // 2
    blocks, fixed = np.empty(n_pairs * packed * WIDTH), np.empty(packed * WIDTH)
    _gather(data.gram, intercept, variables, columns, blocks)
    _gather(data.fixed_gram, intercept, variables, columns, fixed)
    relative = np.ones((m + 1) * WIDTH)
    for lane in range(HALF):
        for a in range(1, m):
            if columns[lane, a - 1] >= 0:
                value = data.relative[columns[lane, a - 1]]
                relative[a * WIDTH + lane] = relative[a * WIDTH + HALF + lane] = value
    _score_blocks(data, prior, variables, blocks, fixed, relative, sizes, scores, keep)


@compiled
def estimated_gains(data: Any, prior: Any, i: Any, parents: Any, keep: Any) -> Any:
    """What each j gains as a further parent of i if targets stay as they are, float64 (d,); -inf for i and parents."""
    return _gains_of_evidence(data, prior, i, parents, data.fixed_gram, data.fixed_n, keep)


@compiled
def _gains_of_evidence(data: Any, prior: Any, i: Any, parents: Any, fixed_gram: Any, fixed_n: Any, keep: Any) -> Any:
    """What each j adds to log Z(S) as a further parent of i while S stays: ``fixed_gram`` and Σ_k r_k S_k, r = ``keep``.

    The factor of the features there are is computed once, and each j appends its own.
    """
    d, p, intercept = data.own.shape[0], parents.shape[0], data.relative.shape[0] - 1
    n_own, n_pairwise = data.own.shape[1], data.pairs.shape[2]
    n_new = n_own + p * n_pairwise
    m = 1 + p * n_own + p * (p - 1) // 2 * n_pairwise
    columns, factor = np.empty(m + n_new, dtype=np.intp), np.empty((m + n_new, m + n_new))
    solution = np.empty(m + n_new)
    columns[0], k = intercept, 1
    for a in range(p):
        for f in range(n_own):
            columns[k] = data.own[parents[a], f]
            k += 1
        for b in range(a):
            for f in range(n_pairwise):
                columns[k] = data.pairs[parents[a], parents[b], f]
                k += 1
    half_n = 0.5 * fixed_n
    for e in range(keep.shape[0]):
        half_n += keep[e] * data.of_size[_HALF_N, e * HALF]
    shape, shape_before = prior.shape + 0.5 * p + half_n, prior.shape + 0.5 * p
    of_all = log_gamma(shape + 0.5) - log_gamma(shape) - log_gamma(shape_before + 0.5) + log_gamma(shape_before)
    of_all += 0.5 * np.log(prior.rate) - np.log(float(d))
    gram = data.gram
    left = _weighted_sum(gram, fixed_gram, i, i, keep) + 2.0 * prior.rate
    for row in range(m):
        precision = prior.intercept_precision if row == 0 else prior.slope_precision * data.relative[columns[row]]
        _append(gram, fixed_gram, i, keep, columns, row, precision, factor, solution)
        left -= solution[row] ** 2
    left = max(left, 2.0 * prior.rate)
    gains = np.full(d, -np.inf)
    for j in range(d):
        is_new = j != i
        for a in range(p):
            is_new = is_new and parents[a] != j
        if is_new:
            k = m
            for f in range(n_own):
                columns[k] = data.own[j, f]
                k += 1
            for a in range(p):
                for f in range(n_pairwise):
                    columns[k] = data.pairs[j, parents[a], f]
                    k += 1
            gain, left_by_new = of_all, left
            for row in range(m, m + n_new):
                precision = prior.slope_precision * data.relative[columns[row]]
                gain += _append(gram, fixed_gram, i, keep, columns, row, precision, factor, solution)
                left_by_new -= solution[row] ** 2
            left_by_new = max(left_by_new, 2.0 * prior.rate)
            gains[j] = gain - shape * np.log(left_by_new / left) - 0.5 * np.log(0.5 * left_by_new)
    return gains


@compiled
def _append(
    gram: Any, fixed_gram: Any, i: Any, keep: Any, columns: Any, row: Any, precision: Any, factor: Any, solution: Any
) -> Any:
    """Row of the Cholesky factor of a feature's, and of the solution for i; return what its determinant adds to log Z."""
    column = columns[row]
    pivot = _weighted_sum(gram, fixed_gram, column, column, keep) + precision
    value = _weighted_sum(gram, fixed_gram, i, column, keep)
    for b in range(row):
        entry = _weighted_sum(gram, fixed_gram, column, columns[b], keep)
        for k in range(b):
            entry -= factor[row, k] * factor[b, k]
        factor[row, b] = entry / factor[b, b]
        pivot -= factor[row, b] ** 2
        value -= factor[row, b] * solution[b]
    factor[row, row] = np.sqrt(max(pivot, precision))
    solution[row] = value / factor[row, row]
    return 0.5 * np.log(precision / factor[row, row] ** 2)


@reassociated
def _weighted_sum(gram: Any, fixed_gram: Any, a: Any, b: Any, keep: Any) -> Any:
    """Entry of S."""
    place, total = _place(a, b), 0.0
    for e in range(keep.shape[0]):
        total += keep[e] * gram[place, e]
    return fixed_gram[place, 0] + total


# Eight parent sets in two environments at once --------------------------------------------------------------------------------
#
# Lane l and lane l + 8 are parent set l in the first and in the second environment of a pair; what belongs to no environment
# is the same in both. Symmetric matrices are packed: entry (a, b), a >= b, is value a (a + 1) / 2 + b of the array. Index 0 is
# the intercept, m - 1 and below are features, m is the variable itself. A lane with fewer features than others has some that
# are zero in every sample: they keep their prior and change nothing. All log densities leave out -n/2 log 2π, which adds up
# to a constant.


@compiled
def _gather(gram: Any, intercept: Any, variables: Any, columns: Any, blocks: Any) -> None:
    """Pack the Gram matrices of the eight regressions, one block for each pair of environments."""
    m, n_pairs = columns.shape[1] + 1, gram.shape[1] // 2
    stride = (m + 1) * (m + 2) // 2 * WIDTH
    rows = np.empty((HALF, m + 1), dtype=np.intp)
    same = np.ones(m + 1, dtype=np.bool_)
    for lane in range(HALF):
        rows[lane, 0], rows[lane, m] = intercept, variables[lane]
        for a in range(1, m):
            rows[lane, a] = columns[lane, a - 1]
        for a in range(1, m + 1):
            same[a] = same[a] and rows[lane, a] == rows[0, a]
    k = 0
    for a in range(m + 1):
        for b in range(a + 1):
            if same[a] and same[b] and rows[0, a] >= 0 and rows[0, b] >= 0:
                source = gram[_place(rows[0, a], rows[0, b])]
                for pair in range(n_pairs):
                    first, second, place = source[2 * pair], source[2 * pair + 1], pair * stride + k
                    for lane in range(HALF):
                        blocks[place + lane] = first
                        blocks[place + HALF + lane] = second
            else:
                for lane in range(HALF):
                    is_feature, place = rows[lane, a] >= 0 and rows[lane, b] >= 0, k + lane
                    source = gram[_place(rows[lane, a], rows[lane, b]) if is_feature else 0]
                    for pair in range(n_pairs):
                        blocks[place] = source[2 * pair] if is_feature else 0.0
                        blocks[place + HALF] = source[2 * pair + 1] if is_feature else 0.0
                        place += stride
            k += WIDTH


@compiled
def _in_lanes(values: Any, variables: Any) -> Any:
    """Values of environments, float64 (1 or d, E), of eight variables, or one for all, as lanes."""
    n_pairs = values.shape[1] // 2
    lanes = np.empty(n_pairs * WIDTH)
    for lane in range(HALF):
        own = values[min(variables[lane], values.shape[0] - 1)]
        for pair in range(n_pairs):
            lanes[pair * WIDTH + lane], lanes[pair * WIDTH + HALF + lane] = own[2 * pair], own[2 * pair + 1]
    return lanes


@compiled
def _place(a: Any, b: Any) -> Any:
    """Row of the product of columns a and b in a packed Gram matrix."""
    high, low = max(a, b), min(a, b)
    return high * (high + 1) // 2 + low


@compiled
def _prior_diagonal(relative: Any, m: Any, intercept_precision: Any, slope_precision: Any, rate: Any) -> Any:
    """What the prior adds to the diagonal of packed lanes: precisions, and twice the rate."""
    diagonal = np.empty((m + 1) * WIDTH)
    for a in range(1, m):
        store(diagonal, a, slope_precision * load(relative, a))
    store(diagonal, 0, splat(intercept_precision))
    store(diagonal, m, splat(2.0 * rate))
    return diagonal


@compiled
def _half_log_det(diagonal: Any, m: Any) -> Any:
    total = splat(0.0)
    for a in range(m):
        total = total + log(load(diagonal, a))
    return 0.5 * total


@compiled
def _add_prior(joint: Any, m: Any, diagonal: Any) -> None:
    for a in range(m + 1):
        k = a * (a + 1) // 2 + a
        store(joint, k, load(joint, k) + load(diagonal, a))


@compiled
def _factorise(joint: Any, scaled: Any, m: Any, diagonal: Any) -> Any:
    """L D Lᵀ of packed lanes, column by column; return part of the log determinant of m pivots, and exp of the rest.

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
        pivot = maximum(pivot, load(diagonal, b))
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
    return log_det, product


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
def _without_and_with(total: Any, blocks: Any, block: Any, keep: Any, packed: Any, without: Any, joined: Any) -> None:
    """What the shared mechanism has seen in all other environments, and that with all of a pair of environments."""
    for k in range(packed):
        seen, own = load_half(total, k), load(blocks, block + k)
        rest = subtract_product(seen, keep, own)
        store(without, k, rest)
        store(joined, k, rest + own)


@compiled
def _contrast(scaled: Any, m: Any, contrast: Any) -> None:
    """Last row of the inverse of the unit lower triangular L of packed lanes: (−mean, 1)."""
    store(contrast, m, splat(1.0))
    for b in range(m - 1, -1, -1):
        value = splat(0.0)
        for k in range(b + 1, m + 1):
            value = subtract_product(value, load(scaled, k * (k + 1) // 2 + b), load(contrast, k))
        store(contrast, b, value)


@compiled
def _residuals(blocks: Any, block: Any, m: Any, contrast: Any) -> Any:
    """Sum of squares and sum of the residuals of a pair of environments."""
    squares, total = splat(0.0), splat(0.0)
    for a in range(m + 1):
        row, weight = block + a * (a + 1) // 2, load(contrast, a)
        value = splat(0.0)
        for b in range(a):
            value = multiply_add(load(blocks, row + b), load(contrast, b), value)
        squares = multiply_add(weight, multiply_add(weight, load(blocks, row + a), 2.0 * value), squares)
        total = multiply_add(weight, load(blocks, row), total)
    return maximum(squares, splat(0.0)), total


@compiled
def _sums_in_factor(scaled: Any, blocks: Any, block: Any, m: Any, solution: Any) -> Any:
    """gᵀ J⁻¹ g for the sums g of a pair of environments, of the features alone and with the response, J given by its factor."""
    quadratic, last = splat(0.0), splat(0.0)
    for a in range(m + 1):
        row = a * (a + 1) // 2
        value = load(blocks, block + row)
        for b in range(a):
            value = subtract_product(value, load(scaled, row + b), load(solution, b))
        store(solution, a, value)
        share = value * value * load(scaled, row + a)
        if a < m:
            quadratic = quadratic + share
        else:
            last = share
    return quadratic, quadratic + last


@compiled
def _relearned(
    blocks: Any,
    n_pairs: Any,
    m: Any,
    n_parents: Any,
    relative: Any,
    of_size: Any,
    prior: Any,
    joint: Any,
    scaled: Any,
    out: Any,
) -> None:
    """Log evidence of a mechanism of one environment's own, for each pair."""
    packed = (m + 1) * (m + 2) // 2
    precision, rate = prior.relearned_precision, prior.relearned_rate
    diagonal = _prior_diagonal(relative, m, precision, precision, rate)
    shape = n_parents * 0.5 + prior.relearned_shape
    known = _half_log_det(diagonal, m) + shape * np.log(rate) - lgamma(shape)
    log_gamma = splat(0.0)
    for pair in range(n_pairs):
        for k in range(packed):
            store(joint, k, load(blocks, pair * packed + k))
        _add_prior(joint, m, diagonal)
        log_det, product = _factorise(joint, scaled, m, diagonal)
        log_det = log_det + log(product)
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


@compiled
def _score_blocks(
    data: Any, prior: Any, variables: Any, blocks: Any, fixed: Any, relative: Any, sizes: Any, scores: Any, keep: Any
) -> None:
    """Scores of eight regressions from their packed Gram matrices; ``fixed`` becomes the prior and what is observational."""
    of_size, hard, n_starts = data.of_size, _in_lanes(data.hard, variables), data.starts.shape[1]
    m, n_rounds = relative.shape[0] // WIDTH - 1, data.cooling.shape[0]
    packed = (m + 1) * (m + 2) // 2
    n_pairs = blocks.shape[0] // (packed * WIDTH)
    diagonal = _prior_diagonal(relative, m, prior.intercept_precision, prior.slope_precision, prior.rate)
    _add_prior(fixed, m, diagonal)
    without, joined, scaled = np.empty(packed * WIDTH), np.empty(packed * WIDTH), np.empty(packed * WIDTH)
    total, contrast, solution = np.empty(packed * HALF), np.empty((m + 1) * WIDTH), np.empty((m + 1) * WIDTH)
    steady, own_keep = np.empty(n_pairs * WIDTH), np.empty(n_pairs * WIDTH)

    n_parents = load(sizes, 0)
    shape = n_parents * 0.5 + prior.shape
    log_prior_odds = np.log((1.0 - prior.target) / prior.target)
    log_target, log_no_target = np.log(prior.target), np.log(1.0 - prior.target)
    known = (
        _half_log_det(diagonal, m) + shape * np.log(prior.rate) - lgamma(shape) - n_parents * np.log(float(data.own.shape[0]))
    )
    log_shift, log_scale, log_both, log_hard, log_relearned = data.log_weights
    # What no round changes: the two alternatives without the shared mechanism.
    _relearned(blocks, n_pairs, m, n_parents, relative, of_size, prior, joined, scaled, steady)
    for pair in range(n_pairs):
        store(steady, pair, _log_add(load(steady, pair) + log_relearned, load(hard, pair) + log_hard))

    drift, least_shape = prior.variance_drift, prior.shape + 0.5 * data.fixed_n
    large = least_shape / (1.0 + drift * least_shape) >= 8.0
    best = splat(-np.inf)
    for start in range(n_starts):
        first_guesses = _in_lanes(data.starts[:, start], variables)
        for pair in range(n_pairs):
            store(own_keep, pair, load(first_guesses, pair))
        score = splat(0.0)
        for step in range(n_rounds + 1):
            # The shared posterior.
            half_n_shared = splat(0.0)
            for pair in range(n_pairs):
                half_n_shared = multiply_add(load(own_keep, pair), load(of_size[_HALF_N], pair), half_n_shared)
            _weighted_sums(fixed, own_keep, blocks, n_pairs, packed, total)
            shape_n = shape + (plus_other_half(half_n_shared) + 0.5 * data.fixed_n)

            is_last = step == n_rounds
            cooling = 1.0 if is_last else data.cooling[step]
            own_score, log_z = splat(0.0), splat(0.0)
            if is_last:
                for k in range(packed):
                    store(joined, k, load_half(total, k))
                log_det, product = _factorise(joined, scaled, m, diagonal)
                log_z = lgamma(shape_n) - 0.5 * (log_det + log(product)) - shape_n * log(0.5 * load(joined, packed - 1))
            for pair in range(n_pairs):
                block, half_n, kept = pair * packed, load(of_size[_HALF_N], pair), load(own_keep, pair)
                _without_and_with(total, blocks, block, kept, packed, without, joined)
                # The shared posterior of all other environments.
                log_det, product = _factorise(without, scaled, m, diagonal)
                rate_rest, shape_rest = 0.5 * load(without, packed - 1), subtract_product(shape_n, kept, half_n)
                _contrast(scaled, m, contrast)
                residual_squares, residual_sum = _residuals(blocks, block, m, contrast)
                # No target: that posterior, its variance free to drift, after the environment.
                log_det_joined, product_joined = _factorise(joined, scaled, m, diagonal)
                log_det_ratio = 0.5 * (log_det - log_det_joined + log(product / product_joined))
                share = 1.0 / (1.0 + drift * shape_rest)
                shape_own, rate_own = shape_rest * share, rate_rest * share
                shape_joined, rate_gone = shape_own + half_n, rate_rest - rate_own
                log_rate, log_shape = log(rate_own), log(shape_own)
                if large:
                    log_gamma = lgamma_of_large(shape_joined, log(shape_joined)) - lgamma_of_large(shape_own, log_shape)
                else:
                    log_gamma = lgamma(shape_joined) - lgamma(shape_own)
                unchanged = log_det_ratio + shape_own * log_rate + log_gamma
                # Shift: the same, less a common shift, which takes share · g gᵀ off the Gram matrix, g the sums.
                shift_share, shift_term = load(of_size[_SHIFT_SHARE], pair), load(of_size[_SHIFT_TERM], pair)
                of_features, of_all = _sums_in_factor(scaled, blocks, block, m, solution)
                left_of_features = maximum(1.0 - shift_share * of_features, splat(_SMALLEST_SHARE))
                left_of_all = maximum(1.0 - shift_share * of_all, splat(_SMALLEST_SHARE))
                rate_joined = 0.5 * load(joined, packed - 1)
                rate_shifted = rate_joined * (left_of_all / left_of_features) - rate_gone
                shift = unchanged - 0.5 * log(left_of_features) - shape_joined * log(rate_shifted) + shift_term + log_shift
                unchanged = unchanged - shape_joined * log(rate_joined - rate_gone)
                # Scale, and shift and scale: the residuals with a variance of their own.
                fresh_rate, square = rate_rest / shape_rest, residual_sum * residual_sum
                shape_fresh = half_n + prior.fresh_shape
                fresh = prior.fresh_shape * (log_rate - log_shape) + load(of_size[_FRESH_TERM], pair)
                centred = subtract_product(residual_squares, square, load(of_size[_SCALE_SHARE], pair))
                centred = maximum(centred, splat(0.0)) * 0.5 + fresh_rate
                scale = fresh - shape_fresh * log(centred) + load(of_size[_SCALE_TERM], pair) + log_scale
                centred = maximum(subtract_product(residual_squares, square, shift_share), splat(0.0)) * 0.5 + fresh_rate
                both = fresh - shape_fresh * log(centred) + shift_term + log_both

                steady_term = load(steady, pair)
                if not is_last and cooling == 1.0:
                    # Without the logarithm of the mixture, since an exponential would follow.
                    none = unchanged + log_prior_odds
                    against = _exp_or_huge(shift - none) + _exp_or_huge(scale - none) + _exp_or_huge(both - none)
                    store(own_keep, pair, 1.0 / (1.0 + against + _exp_or_huge(steady_term - none)))
                    continue
                top = maximum(maximum(shift, scale), maximum(both, steady_term))
                mixture = exp(shift - top) + exp(scale - top) + exp(both - top) + exp(steady_term - top)
                if is_last:
                    # What the environment adds to the evidence, in place of what its share has added to the posterior.
                    changed, smallest = 1.0 - kept, splat(1e-300)
                    own = kept * (unchanged + log_no_target - log(maximum(kept, smallest)))
                    own = own + changed * (log(mixture) + top + log_target - log(maximum(changed, smallest)))
                    rest = lgamma(shape_rest) - 0.5 * (log_det + log(product)) - shape_rest * log(rate_rest)
                    own_score = own_score + own + rest - log_z
                else:
                    against = _exp_or_huge((log(mixture) + top - unchanged - log_prior_odds) * cooling)
                    store(own_keep, pair, 1.0 / (1.0 + against))
            if is_last:
                score = plus_other_half(own_score) + log_z + known
        for pair in range(n_pairs):
            store(keep, pair, choose_greater(score, best, load(own_keep, pair), load(keep, pair)))
        best = maximum(score, best)
    store(scores, 0, best)


@compiled
def _exp_or_huge(x: Any) -> Any:
    """Exponential of the least of x and 700, which is a number."""
    return exp(0.0 - maximum(0.0 - x, splat(-700.0)))


@compiled
def _log_add(a: Any, b: Any) -> Any:
    top = maximum(a, b)
    return top + log(exp(a - top) + exp(b - top))
