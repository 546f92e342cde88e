"""Compare our UT-IGSP with the authors' software on the same problems; writes ut_igsp_reference.csv and .md beside it.

The authors' packages need an old numpy and are not imported here. They run in an environment of their own, between two steps:

1. ``python results/comparisons/ut_igsp_reference.py export FOLDER`` writes one ``problem_K.npz`` for each problem: the arrays
   ``X_0``, ``X_1``, ... float64 (n_e, d), ``X_0`` observational.
2. Elsewhere, the reference answers each with ``reference_K_R_S.npz`` for R runs and random seed S: ``adjacency`` bool
   (d, d), ``targets`` bool (E, d), ``seconds``. The table says with which calls.
3. ``python results/comparisons/ut_igsp_reference.py compare FOLDER`` runs ours, scores both and writes the table.

Not here: any tuning, which would need other problems than those compared on.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bench.metrics import score
from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
from bench.types import Estimate, Problem, Result

PROBLEM = (
    "synthetic[n_variables={d},graph=erdos_renyi,edges_per_node=1.5,mechanism=linear,n_observational=500,n_environments=10,"
    "n_per_environment=[50, 100],n_targets=[1, 2],interventions={kind}]"
)
GROUPS = list(itertools.product((10, 20), ("hard", "shift")))
PROBLEM_SEEDS, SEARCH_SEEDS = range(10), range(5)
ALPHA = 1e-3
REFERENCE_RUNS = (5, 10)
OURS = {
    "ours, observational, 5 runs": f"ut_igsp[alpha={ALPHA},alpha_invariance={ALPHA},ci_data=observational,n_runs=5]",
    "ours, observational, 10 runs": f"ut_igsp[alpha={ALPHA},alpha_invariance={ALPHA},ci_data=observational,n_runs=10]",
    "ours, pooled, 10 runs (default)": f"ut_igsp[alpha={ALPHA},alpha_invariance={ALPHA},ci_data=pooled,n_runs=10]",
}
PAIRS = [
    ("ours, observational, 5 runs", "reference, 5 runs"),
    ("ours, observational, 10 runs", "reference, 10 runs"),
    ("ours, pooled, 10 runs (default)", "reference, 10 runs"),
]
METRICS = {"shd": "SHD", "shd_interventional": "SHD of I-essential graphs", "target_f1": "target F1", "seconds": "CPU seconds"}
DIGITS = {"shd": 2, "shd_interventional": 2, "target_f1": 3, "seconds": 3}


def problems() -> list[tuple[str, int, Problem]]:
    """Label of the group, seed, and the problem as the runner hands it to methods: pooled-standardised and shuffled."""
    return [
        (f"d = {d}, {kind}", seed, prepare(make_problem(PROBLEM.format(d=d, kind=kind), seed=seed), seed=seed).problem)
        for d, kind in GROUPS
        for seed in PROBLEM_SEEDS
    ]


def export(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, (_, _, problem) in enumerate(problems()):
        environments = problem.observed.environments
        assert [bool(e.is_observational) for e in environments] == [True] + [False] * (len(environments) - 1)
        np.savez(folder / f"problem_{k}.npz", **{f"X_{e}": environment.X for e, environment in enumerate(environments)})


def rows(folder: Path) -> pd.DataFrame:
    """A row for each problem, program and search seed."""
    found = []
    for spec in OURS.values():
        make_method(spec).warm_up()
    for k, (group, seed, problem) in enumerate(problems()):
        about = {"group": group, "problem_seed": seed, "fingerprint": problem.fingerprint}

        def add(program: str, search_seed: int, estimate: Estimate, seconds: float, about=about, problem=problem) -> None:
            scores = score(problem, Result(estimate), edge_output="binary")
            chosen = {m: scores[m] for m in METRICS if m != "seconds"}
            found.append({**about, "program": program, "search_seed": search_seed, **chosen, "seconds": seconds})

        for search_seed in SEARCH_SEEDS:
            for runs in REFERENCE_RUNS:
                with np.load(folder / f"reference_{k}_{runs}_{search_seed}.npz") as answer:
                    graph, targets = answer["adjacency"], answer["targets"]
                    estimate = Estimate(graph, target_probability=targets, point_graph=graph, graph_kind="dag")
                    add(f"reference, {runs} runs", search_seed, estimate, float(answer["seconds"]))
            for program, spec in OURS.items():
                method, rng = make_method(spec), np.random.default_rng(search_seed)
                start = time.process_time()
                estimate = method.fit(problem.observed, rng=rng).estimate
                add(program, search_seed, estimate, time.process_time() - start)
    return pd.DataFrame(found)


def difference(frame: pd.DataFrame, ours: str, reference: str, metric: str) -> str:
    """Mean of ours less reference with a 95% interval: 10,000 bootstrap draws of problems within groups."""
    means = frame.groupby(["group", "problem_seed", "program"])[metric].mean().unstack("program")
    by_group = (means[ours] - means[reference]).groupby("group").apply(lambda x: x.to_numpy())
    rng = np.random.default_rng(0)
    draws = np.mean([x[rng.integers(len(x), size=(10_000, len(x)))].mean(axis=1) for x in by_group], axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    digits = DIGITS[metric]
    return f"{np.mean(np.concatenate(list(by_group))):+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def table(header: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines])


def markdown(frame: pd.DataFrame) -> str:
    means = frame.groupby(["group", "program"], sort=False)[list(METRICS)].mean()
    by_group = table(
        ["problems", "program", *METRICS.values()],
        [[g, p, *(f"{row[m]:.{DIGITS[m]}f}" for m in METRICS)] for (g, p), row in means.iterrows()],
    )
    differences = table(
        ["ours", "less", *METRICS.values()],
        [[ours, reference, *(difference(frame, ours, reference, m) for m in METRICS)] for ours, reference in PAIRS],
    )
    return TEXT.format(
        by_group=by_group,
        differences=differences,
        problem=PROBLEM.format(d="D", kind="KIND"),
        alpha=ALPHA,
        python=platform.python_version(),
        numpy=np.__version__,
        n=len(GROUPS) * len(PROBLEM_SEEDS),
    )


TEXT = """# UT-IGSP: ours and the authors' software on the same problems

Written by `ut_igsp_reference.py`; every single score is in `ut_igsp_reference.csv`, with the fingerprint of its problem.
Means over 10 problems per group and 5 search seeds per problem; a lower SHD and a higher F1 are better.

{by_group}

Differences over all {n} problems, ours less the reference: mean over problems (search seeds averaged first) and 95% interval
from 10,000 bootstrap draws of problems within groups.

{differences}

## How it was made

- Problems: `{problem}` with D = 10 and 20, KIND = hard and shift, seeds 0 to 9, drawn by `bench.registry.make_problem`, then
  standardised on the pooled samples and shuffled by `bench.preprocessing.prepare`: 500 observational samples and 10
  environments of 50 to 100 samples with 1 or 2 targets, which neither program is told. Weights ±U[.5, 2], noise N(0, 1).
- Scores: `bench.metrics`; the I-essential graphs of estimate and truth are both taken under the true targets. Our defaults
  were chosen on other draws.
- Reference: PyPI packages causaldag 0.1a163, graphical-model-learning 0.1a8, conditional-independence 0.1a6, graphical-models
  0.1a21, with numpy 1.23.5, scipy 1.10.1, networkx 2.8.8 on Python 3.11.7. Called as
  `unknown_target_igsp([{{"known_interventions": []}}, ...], nodes, ci_tester, invariance_tester, depth=4, nruns=R)`, R = 5 (its
  default) and 10, minimum degree starts (its default); `MemoizedCI_Tester(partial_correlation_test, ..., alpha={alpha})` on the
  observational samples and `MemoizedInvarianceTester(gauss_invariance_test, ..., alpha={alpha})`; `random.seed(S)` and
  `numpy.random.seed(S)` for S = 0 to 4 before each fit.
- Ours: `alpha` = `alpha_invariance` = {alpha}, `depth` = 4, generator `numpy.random.default_rng(S)`; Python {python}, numpy
  {numpy}.
- Seconds: processor time of one fit from samples to answer, sufficient statistics included, one thread, the same machine,
  each program warmed up first (imports and compilation are not counted).
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["export", "compare"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.step == "export":
        export(arguments.folder)
    else:
        scored = rows(arguments.folder)
        here = Path(__file__).parent
        scored.round(6).to_csv(here / "ut_igsp_reference.csv", index=False)
        (here / "ut_igsp_reference.md").write_text(markdown(scored), encoding="utf-8")
