"""The local evidence, written straight from its formulas: slow, one environment after the other, no shared code."""

import numpy as np
from scipy.special import expit, gammaln, logsumexp


def nig_evidence(Phi, y_weights, Y, Lambda, a, b):
    """log Z, mean, A, a_N, b_N from weighted sums: G = Phi, h = y_weights, Y = (sum of y², sum of weights)."""
    squares, n = Y
    A = Lambda + Phi
    mean = np.linalg.solve(A, y_weights)
    a_n, b_n = a + n / 2, b + (squares - y_weights @ mean) / 2
    log_z = (
        -n / 2 * np.log(2 * np.pi)
        + (np.linalg.slogdet(Lambda)[1] - np.linalg.slogdet(A)[1]) / 2
        + a * np.log(b)
        - a_n * np.log(b_n)
        + gammaln(a_n)
        - gammaln(a)
    )
    return log_z, mean, A, a_n, b_n


def normal_evidence(x, kappa, a, b):
    """x ~ N(m, v), m ~ N(0, v / kappa), v ~ IG(a, b)."""
    n = len(x)
    b_n = b + (x @ x - x.sum() ** 2 / (kappa + n)) / 2
    return (
        -n / 2 * np.log(2 * np.pi)
        + np.log(kappa / (kappa + n)) / 2
        + a * np.log(b)
        - (a + n / 2) * np.log(b_n)
        + gammaln(a + n / 2)
        - gammaln(a)
    )


def drifted(log_z, log_z_joined, shape, rate, rate_joined, n, drift):
    """Density of n samples under IG(a, b) made wider by drift: the joint one less what the shared variance, plus what the own
    one gives it."""

    def student(a, b):
        return a * np.log(b) - (a + n / 2) * np.log(b + rate_joined - rate) + gammaln(a + n / 2) - gammaln(a)

    own = 1 / (1 / shape + drift)
    return log_z_joined - log_z - student(shape, rate) + student(own, own * rate / shape)


class Sums:
    """Weighted sums over samples of one regression."""

    def __init__(self, Phi, y, weight=1.0):
        self.G, self.h = weight * Phi.T @ Phi, weight * Phi.T @ y
        self.Y, self.n = weight * y @ y, weight * len(y)

    def __add__(self, other):
        total = Sums.__new__(Sums)
        total.G, total.h, total.Y, total.n = self.G + other.G, self.h + other.h, self.Y + other.Y, self.n + other.n
        return total

    def evidence(self, Lambda, a, b):
        return nig_evidence(self.G, self.h, (self.Y, self.n), Lambda, a, b)


def alternatives(Phi, y, shared, prior, relative=None, p=None):
    """The five log densities of one environment given the sums of the shared mechanism, with p parents."""
    n, p = len(y), Phi.shape[1] - 1 if p is None else p
    relative = np.ones(p) if relative is None else relative
    Lambda = np.diag([prior.intercept_precision, *(prior.slope_precision * relative)])
    a, b = prior.shape + p / 2, prior.rate
    log_z, mean, _, a_n, b_n = shared.evidence(Lambda, a, b)
    kappa = prior.shift_strength
    # N(0, I + 11ᵀ / kappa) whitened: subtracting a share c of the mean leaves the identity.
    c = 1 - np.sqrt(kappa / (kappa + n))
    white = np.eye(n) - c / n * np.ones((n, n))
    moved, _, _, _, b_moved = (shared + Sums(white @ Phi, white @ y)).evidence(Lambda, a, b)
    shift = drifted(log_z, moved, a_n, b_n, b_moved, n, prior.variance_drift) + np.log(kappa / (kappa + n)) / 2
    residual = y - Phi @ mean
    relearned = Sums(Phi, y).evidence(
        prior.relearned_precision * np.diag([1, *relative]), prior.relearned_shape + p / 2, prior.relearned_rate
    )[0]
    # Of a mean as far off as hard_strength says, or 10^.5, 10 or 10^1.5 times as far, one as likely as another.
    wide = [normal_evidence(y, prior.hard_strength / f, prior.hard_shape, prior.hard_rate) for f in (1.0, 10.0, 100.0, 1000.0)]
    hard = np.log(np.exp(np.array(wide) - max(wide)).mean()) + max(wide)
    return np.array(
        [
            shift,
            normal_evidence(residual, prior.scale_strength, prior.fresh_shape, b_n / a_n),
            normal_evidence(residual, prior.shift_strength, prior.fresh_shape, b_n / a_n),
            hard,
            relearned,
        ]
    )


def local_evidence(fixed, possible, i, parents, prior, starts, of_parents=None, relative=None, hottest=8):
    """Score of (i, parents) and the probabilities (E,) that i is no target, from lists of samples (n, d).

    ``of_parents`` makes the features (n, m) of the parents (n, p), of ``relative`` prior precision (m,); by default themselves.
    """
    d = (fixed + possible)[0].shape[1]
    p = len(parents)
    relative = np.ones(p) if relative is None else np.asarray(relative)
    weights = np.array(
        [prior.shift_weight, prior.scale_weight, prior.shift_and_scale_weight, prior.hard_weight, prior.relearned_weight]
    )
    log_weights = np.log(weights / weights.sum())
    Lambda = np.diag([prior.intercept_precision, *(prior.slope_precision * relative)])
    a, b = prior.shape + p / 2, prior.rate

    def features(X):
        P = X[:, list(parents)]
        return np.column_stack([np.ones(len(X)), P if of_parents is None else of_parents(P)]), X[:, i]

    fixed = [features(X) for X in fixed]
    possible = [features(X) for X in possible]
    zero = Sums(np.zeros((1, len(relative) + 1)), np.zeros(1), 0.0)

    def no_target(rest, Phi, y):
        log_z, _, _, a_n, b_n = rest.evidence(Lambda, a, b)
        joined, _, _, _, b_joined = (rest + Sums(Phi, y)).evidence(Lambda, a, b)
        return drifted(log_z, joined, a_n, b_n, b_joined, len(y), prior.variance_drift)

    def shared(r):
        return sum((Sums(*x, w) for x, w in zip(possible, r, strict=True)), sum((Sums(*x) for x in fixed), zero))

    best = (-np.inf, None)
    for start in starts:
        r = np.array(start, dtype=float)
        for k in range(7):
            logits = []
            for e, (Phi, y) in enumerate(possible):
                others = r.copy()
                others[e] = 0
                rest = shared(others)
                unchanged = no_target(rest, Phi, y)
                alternative = logsumexp(alternatives(Phi, y, rest, prior, relative, p) + log_weights)
                logits.append(unchanged - alternative + np.log((1 - prior.target) / prior.target))
            r = expit(np.array(logits) / max(1.0, hottest / 2**k))
        log_z = shared(r).evidence(Lambda, a, b)[0]
        score = log_z - p * np.log(d)
        for e, (Phi, y) in enumerate(possible):
            rest = shared(np.where(np.arange(len(r)) == e, 0.0, r))
            log_z_rest = rest.evidence(Lambda, a, b)[0]
            unchanged = no_target(rest, Phi, y)
            alternative = logsumexp(alternatives(Phi, y, rest, prior, relative, p) + log_weights)
            score += r[e] * (np.log(1 - prior.target) + unchanged) + (1 - r[e]) * (np.log(prior.target) + alternative)
            score -= sum(x * np.log(x) for x in (r[e], 1 - r[e]) if x > 0) + log_z - log_z_rest
        if score > best[0]:
            best = score, r
    return best
