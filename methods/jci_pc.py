"""Joint causal inference with the PC algorithm: environments become indicator variables, targets their children.

The search is ``bench.pc``, on partial correlations (``jci_pc``) or on tests that see nonlinear dependence, and any change of a
distribution (``jci_pc_kernel``).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from bench.bootstrap import PointMethod, Replicates
from bench.gaussian import independence_p_value, moments
from bench.graphs import edge_scores_of_class
from bench.kernel_tests import KernelTest, RandomFeatureTest, thinned_rows
from bench.pc import IndependenceTest, OutOfTime, pc
from bench.registry import register_method
from bench.types import BoolArray, Budget, Capabilities, Estimate, Fitted, FloatArray, Meta, Observed


@register_method("jci_pc")
class JciPc(PointMethod):
    """PC on the samples of all environments, joined with one indicator for each that is not known to be observational.

    The indicators enter under the three assumptions of JCI: no variable causes an indicator (1), none has a hidden common
    cause with one (2), and the indicators are all related among themselves in a way that needs no testing (3). So edges
    between indicators are not looked for, edges from them are directed, and the children of an indicator are the targets of
    its environment. With a single environment this is PC, and no target is called.

    Fisher's z sees linear dependence only, hence of interventions those that move the mean.

    Parameters
    ----------
    alpha : float
        Level of each test of conditional independence.
    max_conditioning : int or None
        Size of the largest conditioning set, so that dense graphs stay affordable; None for no limit.
    bootstrap : int
        Replicates of the within-environment bootstrap; 0 for none.

    Notes
    -----
    Leaving the edges between indicators out of the skeleton is sound for PC: an indicator is separated from a variable that it
    does not target by that variable's parents, which are neighbours of the variable. Without observational data the
    indicators sum to one; each then says how its environment differs from all others together. Conditioning on all but one of
    them leaves the last no residual, and the test says "independent".

    The answer is meant as a CPDAG under background knowledge. With finite samples PC can contradict itself: where two
    colliders want an edge in opposite directions, the one whose ends are more clearly independent (larger p-value) has
    it; an edge that Meek's rules force both ways stays undirected; and the graph need not be the class of any DAG.

    References
    ----------
    Mooij, Magliacane, Claassen, "Joint causal inference from multiple contexts", JMLR 21 (2020), section 4.2.4 (JCI-PC is one
    implementation of assumptions 1 to 3); PC-stable as in ``bench.pc``, with its deviations.
    """

    capabilities = Capabilities(estimates_targets=True, edge_output="binary", target_output="binary", deterministic=True)
    meta = Meta(
        "PC on data joined with environment indicators (package causal-learn).",
        "Mooij, Magliacane, Claassen, Joint causal inference from multiple contexts, JMLR 21, 2020",
        wraps="causal-learn (MIT)",
        mechanisms="linear",
        noise="Gaussian",
        interventions=("hard", "hard_constant", "shift"),
        complexity="(d + E)² tests for each conditioning set tried: up to d^(max_conditioning + 2) on dense graphs",
        n_variables=(2, 100),
    )
    search_space: ClassVar = {"alpha": [0.001, 0.003, 0.01, 0.03, 0.1], "max_conditioning": [1, 2, 3]}

    def __init__(
        self,
        alpha: Annotated[float, Gt(0), Lt(1)] = 0.01,
        max_conditioning: Annotated[int, Ge(0)] | None = 3,
        bootstrap: Replicates = 0,
    ) -> None:
        self.alpha = alpha
        self.max_conditioning = max_conditioning
        self.bootstrap = bootstrap

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        joined, environments = join_indicators(observed)
        test = partial(independence_p_value, moments(joined))
        return _search(test, observed, environments, self.alpha, self.max_conditioning, budget)

    def warm_up(self) -> None:
        """Import the package, and compile the test."""
        pc(partial(independence_p_value, moments(np.random.default_rng(0).normal(size=(20, 4)))), 3, 1, self.alpha)


@register_method("jci_pc_kernel")
class JciPcKernel(PointMethod):
    """JCI-PC on tests that see nonlinear dependence, and interventions that leave the mean where it is; see :class:`JciPc`.

    Parameters
    ----------
    test : {"random_features", "kernel"}
        The randomised conditional correlation test, whose time grows with n; or KCI of the package causal-learn, with n³.
    alpha : float
        Level of each test.
    max_conditioning : int or None
        Size of the largest conditioning set; None for no limit.
    max_samples : int or None
        Samples over all environments, the largest thinned first; None for 2000 with random features, 200 with kernels.
    bootstrap : int
        Replicates of the within-environment bootstrap; 0 for none. Each is a whole search.

    Notes
    -----
    With d = 10 and ten interventional environments a search asks for about a thousand tests, in three seconds.
    ``test="kernel"`` takes as long on 200 samples, and has the power of those. On networks under mixed interventions, random
    features found more targets than :class:`JciPc`, and no better graphs (``results/comparisons``).

    References
    ----------
    As :class:`JciPc`; the tests are those of ``bench.kernel_tests``.
    """

    capabilities = Capabilities(estimates_targets=True, edge_output="binary", target_output="binary")
    meta = Meta(
        "PC on data joined with environment indicators, by nonlinear tests (package causal-learn).",
        "Mooij, Magliacane, Claassen, Joint causal inference from multiple contexts, JMLR 21, 2020; test: Strobl, Zhang, "
        "Visweswaran, Approximate kernel-based conditional independence tests, Journal of Causal Inference 7, 2019",
        wraps="causal-learn (MIT)",
        mechanisms="any",
        noise="any",
        interventions=("any",),
        complexity="tests as in jci_pc, each linear in n and in the cube of 100 features (kernel: in the cube of n)",
        n_variables=(2, 20),
    )
    search_space: ClassVar = {"alpha": [0.001, 0.003, 0.01, 0.03], "max_conditioning": [1, 2, 3]}

    def __init__(
        self,
        test: Literal["random_features", "kernel"] = "random_features",
        alpha: Annotated[float, Gt(0), Lt(1)] = 0.03,
        max_conditioning: Annotated[int, Ge(0)] | None = 2,
        max_samples: Annotated[int, Ge(2)] | None = None,
        bootstrap: Replicates = 0,
    ) -> None:
        self.test = test
        self.alpha = alpha
        self.max_conditioning = max_conditioning
        self.max_samples = max_samples
        self.bootstrap = bootstrap

    def fit_point(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        joined, environments = join_indicators(observed)
        rows = thinned_rows(observed, self.max_samples or (2000 if self.test == "random_features" else 200), rng)
        blocks = np.hsplit(joined[rows], joined.shape[1])
        is_context = [i >= observed.n_variables for i in range(len(blocks))]
        test = KernelTest(blocks) if self.test == "kernel" else RandomFeatureTest(blocks, is_context, rng)
        return _search(test, observed, environments, self.alpha, self.max_conditioning, budget)

    def warm_up(self) -> None:
        """Import the package."""
        X = np.random.default_rng(0).normal(size=(20, 3))
        pc(KernelTest(np.hsplit(X, 3)), 3, 0, self.alpha)


def _search(
    test: IndependenceTest,
    observed: Observed,
    environments: list[int],
    alpha: float,
    max_conditioning: int | None,
    budget: Budget | None,
) -> Fitted:
    """PC on variables and indicators; the children of an indicator are the targets of its environment."""
    d = observed.n_variables
    graph, targets = np.zeros((d, d), dtype=bool), np.zeros((observed.n_environments, d), dtype=bool)
    try:
        found = pc(test, d, len(environments), alpha, max_conditioning, budget)
    except OutOfTime:
        return Fitted(_answer(graph, targets), cut_short=True)
    targets[environments] = found[d:, :d]
    return Fitted(_answer(found[:d, :d], targets))


def _answer(graph: BoolArray, targets: BoolArray) -> Estimate:
    return Estimate(edge_scores_of_class(graph), targets.astype(float), point_graph=graph, graph_kind="cpdag")


def join_indicators(observed: Observed) -> tuple[FloatArray, list[int]]:
    """Pooled samples with a column for each environment that is not known to be observational.

    Returns
    -------
    joined : float64 (n, d + k)
        The last k columns are 1 in their own environment and 0 in all others. With a single environment k is 0.
    environments : list of int
        The environments of the k columns.
    """
    environments = [e for e, environment in enumerate(observed.environments) if not environment.is_observational]
    if observed.n_environments == 1:
        environments = []
    label = np.repeat(np.arange(observed.n_environments), [e.n_samples for e in observed.environments])
    indicators = label[:, None] == np.array(environments, dtype=int)
    return np.hstack([observed.pooled(), indicators]), environments
