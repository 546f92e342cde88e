"""Compare GES, CD-NOD and JCI-PC with calls of the package causal-learn on the same problems.

``python results/comparisons/causal_learn_reference.py`` writes causal_learn_reference.csv and .md beside it, in some minutes.

Not here: any tuning, which would need other problems than those compared on.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from causallearn.graph.GraphNode import GraphNode
from causallearn.search.ConstraintBased.CDNOD import cdnod
from causallearn.search.ConstraintBased.PC import pc
from causallearn.search.ScoreBased.GES import ges
from causallearn.utils.PCUtils.BackgroundKnowledge import BackgroundKnowledge

from bench.kernel_tests import thinned_rows
from bench.metrics import score
from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
from bench.types import BoolArray, Estimate, FloatArray, Observed, Problem, Result
from methods.jci_pc import join_indicators

PROBLEM = (
    "synthetic[n_variables={d},edges_per_node=1.5,mechanism={mechanism},n_observational=500,n_environments=10,"
    "n_per_environment=[50, 100],n_targets=[1, 2],interventions={kind}]"
)
GROUPS = [(10, "linear", "hard"), (10, "linear", "shift"), (20, "linear", "hard"), (20, "linear", "shift")]
NONLINEAR = (10, "mlp_bacadi", "mixture")
SEEDS = range(100, 106)
ALPHA = 0.01
KERNEL_SAMPLES = 200
METRICS = {
    "shd": "SHD",
    "edge_f1": "edge F1",
    "target_f1": "target F1",
    "changing_f1": "F1 of ever a target",
    "seconds": "CPU s",
}


def marks(graph: FloatArray) -> BoolArray:
    """The package's end marks as an adjacency matrix: -1 at i and 1 at j is i -> j; two arrowheads count as undirected."""
    return (graph == -1) | ((graph == 1) & (graph.T == 1))


def package_ges(observed: Observed, seed: int) -> Estimate:
    X = np.concatenate([e.X - e.X.mean(axis=0) for e in observed.environments])
    return _estimate(marks(ges(X, "local_score_BIC")["G"].graph))


def package_cd_nod(observed: Observed, seed: int) -> Estimate:
    """Targets of every environment alike: the variables next to the number of the environment."""
    number = np.repeat(np.arange(observed.n_environments, dtype=float), [e.n_samples for e in observed.environments])
    found = marks(cdnod(observed.pooled(), number[:, None], ALPHA, "fisherz", show_progress=False).G.graph)
    changing = found[-1, :-1]
    intervened = np.array([not e.is_observational for e in observed.environments])
    return _estimate(found[:-1, :-1], intervened[:, None] & changing)


def package_jci_pc(observed: Observed, seed: int, test: str = "fisherz") -> Estimate:
    joined, environments = join_indicators(observed)
    if test == "kci":
        joined = joined[thinned_rows(observed, KERNEL_SAMPLES, np.random.default_rng(seed))]
    d = observed.n_variables
    nodes = [GraphNode(f"X{i + 1}") for i in range(joined.shape[1])]
    tiers = BackgroundKnowledge()
    for i, node in enumerate(nodes):
        tiers.add_node_to_tier(node, 1 if i < d else 0)
    tiers.forbid_within_tier(0)
    found = marks(pc(joined, ALPHA, test, background_knowledge=tiers, show_progress=False).G.graph)
    targets = np.zeros((observed.n_environments, d), dtype=bool)
    targets[environments] = found[d:, :d]
    return _estimate(found[:d, :d], targets)


def package_jci_pc_kernel(observed: Observed, seed: int) -> Estimate:
    return package_jci_pc(observed, seed, "kci")


def ours(spec: str) -> Callable[[Observed, int], Estimate]:
    method = make_method(spec)
    method.warm_up()
    return lambda observed, seed: method.fit(observed, rng=np.random.default_rng(seed)).estimate


def _estimate(graph: BoolArray, targets: BoolArray | None = None) -> Estimate:
    edges = np.where(graph & graph.T, 0.5, graph)
    return Estimate(edges, None if targets is None else targets.astype(float), point_graph=graph, graph_kind="cpdag")


LINEAR = {
    "GES: causal-learn": package_ges,
    "GES: ours": ours("ges[penalty=1]"),
    "GES: ours, default penalty": ours("ges"),
    "CD-NOD: causal-learn": package_cd_nod,
    "CD-NOD: ours": ours(f"cd_nod[alpha={ALPHA},max_conditioning=null]"),
    "JCI-PC: causal-learn": package_jci_pc,
    "JCI-PC: ours": ours(f"jci_pc[alpha={ALPHA},max_conditioning=null]"),
}
KERNEL = {
    "JCI-PC, KCI on 200 samples: causal-learn": package_jci_pc_kernel,
    "JCI-PC, KCI on 200 samples: ours": ours(
        f"jci_pc_kernel[alpha={ALPHA},max_conditioning=3,test=kernel,max_samples={KERNEL_SAMPLES}]"
    ),
    "JCI-PC, random features: ours": ours(f"jci_pc_kernel[alpha={ALPHA},max_conditioning=3]"),
    "JCI-PC, linear: ours": ours(f"jci_pc[alpha={ALPHA}]"),
    "CD-NOD, random features: ours": ours(f"cd_nod[alpha={ALPHA},test=random_features]"),
    "CD-NOD, linear: ours": ours(f"cd_nod[alpha={ALPHA}]"),
}


def scored(problem: Problem, estimate: Estimate, seconds: float) -> dict[str, float]:
    values = score(problem, Result(estimate), edge_output="binary", target_output="binary")
    row = {m: values[m] for m in ("shd", "edge_f1", "target_f1")} | {"changing_f1": float("nan"), "seconds": seconds}
    if estimate.target_probability is not None:
        called, true = (np.asarray(t).any(axis=0) for t in (estimate.target_probability > 0.5, problem.truth.targets))
        row["changing_f1"] = 2 * (called & true).sum() / max(1, called.sum() + true.sum())
    return row


def rows() -> pd.DataFrame:
    """A row for each problem and program, and whether the graph is that of the program before it."""
    found = []
    for d, mechanism, kind in [*GROUPS, NONLINEAR]:
        programs = KERNEL if mechanism != "linear" else LINEAR
        for seed in SEEDS:
            problem = prepare(make_problem(PROBLEM.format(d=d, mechanism=mechanism, kind=kind), seed=seed), seed=seed).problem
            about = {"group": f"d = {d}, {mechanism}, {kind}", "problem_seed": seed, "fingerprint": problem.fingerprint}
            former: BoolArray | None = None
            for program, fit in programs.items():
                start = time.process_time()
                estimate = fit(problem.observed, seed)
                row = scored(problem, estimate, time.process_time() - start)
                assert estimate.point_graph is not None
                same = former is not None and bool(np.array_equal(former, estimate.point_graph))
                former = estimate.point_graph
                found.append({**about, "program": program, **row, "same_graph_as_before": same})
    return pd.DataFrame(found)


def table(frame: pd.DataFrame) -> str:
    means = frame.groupby(["group", "program"], sort=False)[list(METRICS)].mean()
    lines = [["problems", "program", *METRICS.values()], ["---"] * (2 + len(METRICS))]
    for (group, program), row in means.iterrows():
        lines.append([group, program, *("–" if np.isnan(v) else f"{v:.2f}" for v in row)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TEXT = """# GES, CD-NOD and JCI-PC: ours, and calls of causal-learn, on the same problems

Written by `causal_learn_reference.py`; every single score is in `causal_learn_reference.csv`, with the fingerprint of its
problem. Means over {n} problems per group; a lower SHD and a higher F1 are better.

{table}

Our GES gives the very graph of causal-learn's on {same} of {n_ges} problems. "Ever a target" asks only which variables change
in any environment, which is all that CD-NOD answers in the package; its target F1 counts them as targets of every environment.

## How it was made

- Problems: `{problem}`,
  seeds {first} to {last}, drawn by `bench.registry.make_problem`, then standardised on the pooled samples and shuffled by
  `bench.preprocessing.prepare`. Neither program is told targets; both are told which samples are observational.
- causal-learn {causal_learn}: `ges(X, "local_score_BIC")` on environment-centred samples; `cdnod(X, number of the environment,
  {alpha}, "fisherz")`; `pc(samples joined with an indicator for each interventional environment, {alpha}, "fisherz" or "kci",
  background_knowledge=indicators first and not connected)`. Its Fisher test takes the number of the environment for a quantity.
- Ours: `ges[penalty=1]`, the BIC, as in the package, and `ges`; `cd_nod`, `jci_pc` and `jci_pc_kernel` at the same level;
  without limit on conditioning sets on linear problems.
- KCI runs on {kernel} samples, the largest environments thinned first, as its time grows with n³; random features on all.
- CPU s: processor time of one fit, one thread, imports and compilation not counted; Python {python}, numpy {numpy}; {date}.
"""


def main() -> None:
    frame = rows()
    here = Path(__file__).with_suffix("")
    frame.round(6).to_csv(here.with_suffix(".csv"), index=False)
    of_ges = frame[frame["program"] == "GES: ours"]["same_graph_as_before"]
    text = TEXT.format(
        table=table(frame),
        n=len(SEEDS),
        same=int(of_ges.sum()),
        n_ges=len(of_ges),
        problem=PROBLEM.format(d="D", mechanism="MECHANISM", kind="KIND"),
        first=SEEDS[0],
        last=SEEDS[-1],
        causal_learn=version("causal-learn"),
        alpha=ALPHA,
        kernel=KERNEL_SAMPLES,
        python=platform.python_version(),
        numpy=np.__version__,
        date=time.strftime("%Y-%m-%d"),
    )
    here.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
