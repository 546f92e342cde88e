"""The exact posterior of the linear model on few variables: every DAG, every set of targets, mechanisms integrated out.

The method takes the posterior of a mechanism for the mechanism itself (residuals and fresh variances of the two scale
alternatives) and holds targets independent (mean field). This does neither. Given the mechanism theta = (coefficients w of
intercept and parents, noise variance v), environments are independent, so the local evidence is one integral over theta,

    Z(i, parents) = int p(theta) prod_fixed p(x | theta) prod_k [(1 - pi) p(x_k | theta) + pi sum_a omega_a p_a(x_k | theta)],

which sums over all 2^K sets of targets. The alternatives a of weight omega_a, given theta, with e = x - w . features:

- shift: e ~ N(m 1, v I), m ~ N(0, v / shift_strength);
- scale, shift and scale: e ~ N(m 1, u I), m ~ N(0, u / strength), u ~ Inverse-Gamma(fresh_shape, v);
- hard, relearned mechanism: Normal-Inverse-Gamma evidence of x_k, which theta does not enter; if hard, the mean has one of four
  prior precisions, a priori alike.

The integral is done by importance sampling, from a mixture of the mechanism's posteriors under many assignments of targets that
two rounds adapt, down to a given error; the posterior over graphs by enumeration. Shares no code with the package.

``python tests/metacadi_oracle.py`` prints how far the method is from it.
"""

import dataclasses
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, gammaln, logit, logsumexp

N_POINTS, N_ROUNDS, N_ADAPTED, MOST_POINTS = 4096, 2, 24, 32_768
SMALLEST_SAMPLE = 2_500  # effective; the standard error of log Z is one over its root: .02
ENOUGH_FOR_MOMENTS = 100
LOG_2_PI = np.log(2 * np.pi)


def mean_and_variance(squares, sums, n, strength, shape, rate):
    """log p(e), e ~ N(m 1, u I), m ~ N(0, u / strength), u ~ IG(shape, rate), from sums over e."""
    rest = np.maximum(squares - sums**2 / (strength + n), 0.0)
    return (
        -n / 2 * LOG_2_PI
        + np.log(strength / (strength + n)) / 2
        + shape * np.log(rate)
        - (shape + n / 2) * np.log(rate + rest / 2)
        + gammaln(shape + n / 2)
        - gammaln(shape)
    )


class NormalInverseGamma:
    """The posterior of (w, v) given the Gram matrix of (features, response) of n samples."""

    def __init__(self, gram, n, precision, shape, rate):
        A = gram[:-1, :-1] + np.diag(precision)
        self.chol = np.linalg.cholesky(A)
        self.mean = np.linalg.solve(A, gram[:-1, -1])
        self.shape, self.rate = shape + n / 2, rate + max(gram[-1, -1] - gram[:-1, -1] @ self.mean, 0.0) / 2
        log_det = 2 * np.log(np.diag(self.chol)).sum()
        self.constant = log_det / 2 - len(A) / 2 * LOG_2_PI + self.shape * np.log(self.rate) - gammaln(self.shape)
        self.log_evidence = (
            -n / 2 * LOG_2_PI
            + (np.log(precision).sum() - log_det) / 2
            + shape * np.log(rate)
            - self.shape * np.log(self.rate)
            + gammaln(self.shape)
            - gammaln(shape)
        )

    @classmethod
    def like(cls, w, v, weights):
        """With the moments of weighted points."""
        found = cls.__new__(cls)
        precision = weights @ (1 / v)
        spread = weights @ (1 / v - precision) ** 2
        found.shape, found.rate = precision**2 / spread, precision / spread
        found.mean = weights @ w
        centred = w - found.mean
        found.chol = np.linalg.cholesky(np.linalg.inv((weights / v * centred.T) @ centred))
        found.constant = np.log(np.diag(found.chol)).sum() - len(found.mean) / 2 * LOG_2_PI
        found.constant += found.shape * np.log(found.rate) - gammaln(found.shape)
        return found

    def draw(self, rng, size):
        v = self.rate / rng.gamma(self.shape, size=size)
        noise = np.linalg.solve(self.chol.T, rng.normal(size=(len(self.mean), size)))
        return self.mean + (noise * np.sqrt(v)).T, v

    def log_density(self, w, v):
        distance = (((w - self.mean) @ self.chol) ** 2).sum(axis=1)
        return self.constant - (self.shape + 1 + len(self.mean) / 2) * np.log(v) - (self.rate + distance / 2) / v


class Regression:
    """Variable i on its parents, in environments without targets (``fixed``) and others (``possible``), lists of (n, d)."""

    def __init__(self, fixed, possible, i, parents, prior):
        columns = [*parents, i]
        self.prior, self.m = prior, len(parents) + 1

        def gram(X):
            Z = np.column_stack([np.ones(len(X)), X[:, columns]])
            return Z.T @ Z

        self.grams = np.array([gram(X) for X in possible]).reshape(-1, self.m + 1, self.m + 1)
        self.n = np.array([float(len(X)) for X in possible])
        self.fixed_gram = sum((gram(X) for X in fixed), np.zeros((self.m + 1, self.m + 1)))
        self.fixed_n = float(sum(map(len, fixed)))
        precision = np.full(self.m, prior.slope_precision)
        precision[0] = prior.intercept_precision
        self.shared = precision, prior.shape + len(parents) / 2, prior.rate
        relearned = np.full(self.m, prior.relearned_precision), prior.relearned_shape + len(parents) / 2, prior.relearned_rate
        self.relearned = np.array(
            [NormalInverseGamma(G, n, *relearned).log_evidence for G, n in zip(self.grams, self.n, strict=True)]
        )
        weights = ["shift_weight", "scale_weight", "shift_and_scale_weight", "hard_weight", "relearned_weight"]
        self.weights = np.array([getattr(prior, name) for name in weights])
        self.weights = self.weights / self.weights.sum()
        own = self.grams[:, -1, -1], self.grams[:, 0, -1], self.n
        hard = [
            mean_and_variance(*own, prior.hard_strength / f, prior.hard_shape, prior.hard_rate)
            for f in (1.0, 10.0, 100.0, 1000.0)
        ]
        self.hard = logsumexp(hard, axis=0) - np.log(4.0)

    def posterior(self, keep, temper=1.0):
        """Of the mechanism where environment k belongs to it with weight keep[k]."""
        gram = self.fixed_gram + np.einsum("k,kab->ab", keep, self.grams)
        return NormalInverseGamma(temper * gram, temper * (self.fixed_n + keep @ self.n), *self.shared)

    def log_densities(self, w, v):
        """Of each environment without and with a target, both (points, K), and of the fixed ones, (points,)."""
        prior, n, v = self.prior, self.n, v[:, None]
        contrast = np.column_stack([-w, np.ones(len(w))])
        outer = np.einsum("sa,sb->sab", contrast, contrast).reshape(len(w), -1)
        squares = np.maximum(outer @ self.grams.reshape(len(n), outer.shape[1]).T, 0.0)
        sums = contrast @ self.grams[:, 0, :].T
        kept = -n / 2 * (LOG_2_PI + np.log(v)) - squares / (2 * v)
        shares = prior.shift_strength + n
        shift = kept + np.log(prior.shift_strength / shares) / 2 + sums**2 / (2 * v * shares)
        scale = mean_and_variance(squares, sums, n, prior.scale_strength, prior.fresh_shape, v)
        both = mean_and_variance(squares, sums, n, prior.shift_strength, prior.fresh_shape, v)
        constant = [np.broadcast_to(x, kept.shape) for x in (self.hard, self.relearned)]
        changed = logsumexp([shift, scale, both, *constant], axis=0, b=self.weights[:, None, None])
        fixed = -self.fixed_n / 2 * (LOG_2_PI + np.log(v[:, 0])) - outer @ self.fixed_gram.ravel() / (2 * v[:, 0])
        return kept, changed, fixed

    def integrate(self, rng):
        """log Z, the probability that each environment is a target, (K,), and the effective number of points."""
        K, pi = len(self.n), self.prior.target
        prior = NormalInverseGamma(np.zeros((self.m + 1, self.m + 1)), 0.0, *self.shared)
        # What adaptation must not lose sight of: all environments kept by half, none, and each alone.
        lasting = [self.posterior(np.full(K, 0.7), 0.3), self.posterior(np.zeros(K))] * 2 + [
            self.posterior(k) for k in np.eye(K)
        ]
        components = [*lasting, self.posterior(np.ones(K)), self.posterior(np.full(K, 0.5))]
        size, round_ = N_POINTS, 0
        while True:
            each = max(1, size // len(components))
            drawn = [c.draw(rng, each) for c in components]
            w, v = np.concatenate([x[0] for x in drawn]), np.concatenate([x[1] for x in drawn])
            proposal = logsumexp([c.log_density(w, v) for c in components], axis=0) - np.log(len(components))
            kept, changed, fixed = self.log_densities(w, v)
            unknown = np.logaddexp(kept + np.log1p(-pi), changed + np.log(pi))
            log_weights = prior.log_density(w, v) + fixed + unknown.sum(axis=1) - proposal
            weights = np.exp(log_weights - logsumexp(log_weights))
            targets = expit(changed - kept + logit(pi))
            effective = 1 / (weights**2).sum()
            round_ += 1
            if round_ > N_ROUNDS:
                if effective >= SMALLEST_SAMPLE or size >= MOST_POINTS:
                    return logsumexp(log_weights) - np.log(len(w)), weights @ targets, effective
                size *= 2
            # What the points found likely is where the next round draws: expected and drawn assignments.
            chosen = targets[rng.choice(len(w), N_ADAPTED, p=weights)]
            keeps = [1 - weights @ targets, *(1 - chosen), *(rng.random(chosen.shape) > chosen)]
            components = lasting + [self.posterior(np.asarray(k, dtype=float)) for k in keeps]
            if effective > ENOUGH_FOR_MOMENTS:
                components += [NormalInverseGamma.like(w, v, weights)] * 6


@dataclass
class GraphPosterior:
    """A posterior over all DAGs of d variables, from local scores and target probabilities."""

    graphs: np.ndarray  # bool (G, d, d)
    probability: np.ndarray  # (G,)
    edges: np.ndarray  # (d, d)
    targets: np.ndarray  # (E, d)
    smallest_sample: float = np.inf  # effective points of the worst integral that a likely graph needs


def all_dags(d):
    """Every DAG, bool (G, d, d): 3, 25, 543 for d = 2, 3, 4."""
    pairs = [(i, j) for i in range(d) for j in range(d) if i != j]
    found = []
    for edges in itertools.product([False, True], repeat=len(pairs)):
        graph = np.zeros((d, d), dtype=bool)
        graph[tuple(np.array(pairs).T)] = edges
        if not np.linalg.matrix_power(graph.astype(float), d).any():
            found.append(graph)
    return np.array(found)


def enumerate_graphs(d, n_environments, local):
    """Posterior where ``local(i, parents)`` gives log score and target probabilities (E,), parents bool (d,)."""
    scores, targets = np.full((d, 2**d), -np.inf), np.zeros((d, 2**d, n_environments))
    for i in range(d):
        for parents in itertools.product([False, True], repeat=d):
            if not parents[i]:
                code = sum(2**j for j in range(d) if parents[j])
                scores[i, code], targets[i, code] = local(i, np.array(parents))
    graphs = all_dags(d)
    codes = np.einsum("gij,i->gj", graphs, 2 ** np.arange(d))
    total = scores[np.arange(d), codes].sum(axis=1)
    probability = np.exp(total - logsumexp(total))
    of_graph = np.stack([targets[i, codes[:, i]] for i in range(d)], axis=2)
    return GraphPosterior(
        graphs, probability, np.einsum("g,gij->ij", probability, graphs), np.einsum("g,gei->ei", probability, of_graph)
    )


def exact_posterior(observed, prior, seed=0):
    """The model's posterior, for up to four variables."""
    rng = np.random.default_rng(seed)
    fixed = [e.X for e in observed.environments if e.is_observational]
    possible = [e.X for e in observed.environments if not e.is_observational]
    places = [k for k, e in enumerate(observed.environments) if not e.is_observational]
    d, samples = observed.n_variables, {}

    def local(i, parents):
        members = np.flatnonzero(parents)
        log_z, found, effective = Regression(fixed, possible, i, members, prior).integrate(rng)
        samples[i, parents.tobytes()] = effective
        targets = np.zeros(observed.n_environments)
        targets[places] = found
        return log_z - len(members) * np.log(d), targets

    posterior = enumerate_graphs(d, observed.n_environments, local)
    likely = posterior.graphs[posterior.probability > 1e-3]
    posterior.smallest_sample = min(samples[i, graph[:, i].tobytes()] for graph in likely for i in range(d))
    return posterior


# How far the method is from it ------------------------------------------------------------------------------------------------

KINDS = {"hard": 1, "shift": 1, "scale": 1, "mechanism_change": 1}
"""Without constants: a point mass under an unknown variance makes "every environment was intervened on" the likeliest story."""

SETTINGS = [  # variables, environments, samples of each, observational samples, targets of each
    (3, 5, 5, 50, 1),
    (3, 5, 5, 0, 1),
    (3, 10, 10, 0, 0),
    (4, 5, 5, 50, 1),
    (4, 10, 10, 50, 1),
    (4, 10, 10, 500, 1),
    (4, 10, 50, 500, 1),
    (4, 10, 50, 50, 0),
    (4, 10, 10, 0, 1),
    (4, 10, 50, 0, 1),
]


def draw_observed(d, n_environments, n, n_observational, n_targets, seed):
    """A linear problem of the harness, in the method's own units. That an intervention has a target is not told: enumeration
    takes variables one by one."""
    from bench.preprocessing import prepare
    from bench.registry import make_problem
    from methods.metacadi.scaling import Scaling

    problem = make_problem(
        "synthetic",
        seed=seed,
        n_variables=d,
        n_environments=n_environments,
        n_per_environment=n,
        n_observational=n_observational,
        n_targets=n_targets,
        interventions=KINDS,
        edges_per_node=1.0,
        n_held_out=0,
    )
    observed = prepare(problem, seed=seed).problem.observed
    environments = [Scaling.of(observed).of_environment(e) for e in observed.environments]
    untold = (dataclasses.replace(e, is_observational=True if e.is_observational else None) for e in environments)
    return dataclasses.replace(observed, environments=tuple(untold))


def mean_field_posterior(observed, prior):
    """All graphs under the scores that the method searches."""
    from methods.metacadi.evidence import Evidence

    evidence = Evidence(observed, prior)
    return enumerate_graphs(
        observed.n_variables,
        observed.n_environments,
        lambda i, parents: (evidence.score(i, parents), evidence.target_probability(i, parents)),
    )


def gaps(exact, edges, targets, observed):
    """Absolute differences of edge marginals, and of target marginals where a target is possible."""
    possible = [not e.is_observational for e in observed.environments]
    off_diagonal = ~np.eye(observed.n_variables, dtype=bool)
    return np.abs(exact.edges - edges)[off_diagonal], np.abs(exact.targets - targets)[possible].ravel()


def report(n_seeds):
    """Print a Markdown table over ``SETTINGS``."""
    from bench.registry import make_method
    from methods.metacadi.model import Priors

    prior = Priors()
    kinds = ["mean field, edges", "mean field, targets", "fit, edges", "fit, targets"]
    print("| variables | environments | samples | observational | targets | effective points | " + " | ".join(kinds) + " |")
    print("|" + "---|" * 10)
    every = {kind: [] for kind in kinds}
    for setting in SETTINGS:
        found, effective = {kind: [] for kind in kinds}, []
        for seed in range(n_seeds):
            observed = draw_observed(*setting, seed)
            exact, approximate = exact_posterior(observed, prior), mean_field_posterior(observed, prior)
            fitted = (
                make_method(
                    "metacadi[features=linear,effect_size=fixed,target_rate=fixed,variance_drift=none,mechanism_drift=none]"
                )
                .fit(observed, rng=np.random.default_rng(seed))
                .estimate
            )
            values = [
                *gaps(exact, approximate.edges, approximate.targets, observed),
                *gaps(exact, fitted.edge_probability, fitted.target_probability, observed),
            ]
            effective.append(exact.smallest_sample)
            for kind, value in zip(kinds, values, strict=True):
                found[kind].extend(value)
                every[kind].extend(value)
        print("|", " | ".join(map(str, setting)), f"| {min(effective):.0f} |", " | ".join(map(summary, found.values())), "|")
    print("| all | | | | | |", " | ".join(map(summary, every.values())), "|")


def summary(values):
    return f"{np.median(values):.4f}, {np.mean(values):.4f}, {np.max(values):.3f}"


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # and not tests/, whose folder "methods" would hide the package
    report(n_seeds=5)
