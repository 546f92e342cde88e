"""Compare our DAGMA with the authors' package; writes dagma_reference.csv and .md beside it.

In between (see ``parity.py``), ``reference_K.npz`` answers problem K: ``weights`` float64 (d, d), thresholded, and ``seconds``.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
from parity import Group, differences, linear, main, means

from bench.gaussian import environment_moments, merge_centred
from bench.graphs import break_cycles
from bench.metrics import score
from bench.registry import make_method
from bench.types import Budget, Estimate, FloatArray, Problem, Result
from methods.dagma import CentralPath, Dagma

SCALES = (("none", "raw units"), ("pooled", "standardised"))
GROUPS = [Group(f"d = {d}, shift, {label}", linear(d, "shift"), scaling=scaling) for d in (10, 20) for scaling, label in SCALES]
OURS, REFERENCE = "ours", "dagma"
COLUMNS = {
    "shd": ("SHD", 2),
    "edge_f1": ("edge F1", 3),
    "largest_difference": ("largest difference of a weight", 6),
    "seconds": ("CPU seconds", 3),
}


def rows(folder: Path, problems: list[tuple[str, int, Problem]]) -> pd.DataFrame:
    """A row for each problem and program."""
    found = []
    method = make_method("dagma")
    assert isinstance(method, Dagma)
    method.warm_up()
    for k, (group, seed, problem) in enumerate(problems):
        start = time.process_time()
        data = merge_centred(environment_moments(problem.observed))
        ours = CentralPath(data.scatter / data.n_samples, method.sparsity, method.learning_rate, Budget()).solve()
        ours_seconds = time.process_time() - start
        ours = np.where(np.abs(ours) < method.threshold, 0.0, ours)
        with np.load(folder / f"reference_{k}.npz") as answer:
            reference, reference_seconds = answer["weights"], float(answer["seconds"])
        for program, weights, seconds in ((OURS, ours, ours_seconds), (REFERENCE, reference, reference_seconds)):
            found.append(
                {
                    "group": group,
                    "problem_seed": seed,
                    "fingerprint": problem.fingerprint,
                    "program": program,
                    **_scores(problem, weights),
                    "largest_difference": np.abs(ours - reference).max(),
                    "seconds": seconds,
                }
            )
    return pd.DataFrame(found)


def _scores(problem: Problem, weights: FloatArray) -> dict[str, float]:
    graph = break_cycles(weights != 0, np.abs(weights))
    scores = score(problem, Result(Estimate(graph, point_graph=graph, graph_kind="dag")), edge_output="binary")
    return {"shd": scores["shd"], "edge_f1": scores["edge_f1"]}


def markdown(frame: pd.DataFrame) -> str:
    """The report."""
    compared = {column: header for column, header in COLUMNS.items() if column != "largest_difference"}
    return TEXT.format(
        means=means(frame, COLUMNS),
        differences=differences(frame, [(OURS, REFERENCE)], compared),
        problem=linear(0, "shift").replace("n_variables=0", "n_variables=D"),
        n=frame.groupby(["group", "problem_seed"]).ngroups,
        python=platform.python_version(),
        numpy=np.__version__,
    )


TEXT = """# DAGMA: ours and the authors' package on the same problems

Written by `dagma_reference.py`; every single score is in `dagma_reference.csv`, with the fingerprint of its problem. Means over
10 problems per group.

{means}

Differences over all {n} problems, ours less the reference: mean over problems and 95% interval from 10,000 bootstrap draws of
problems within groups.

{differences}

In raw units the noise variances are equal, and the method finds the order by them; standardised, it does not. Benchmarks that
leave the units to the methods measure that.

## How it was made

- Problems: `{problem}`
  with D = 10 and 20, seeds 0 to 9, drawn by `bench.registry.make_problem`, shuffled, and scaled or not, by
  `bench.preprocessing.prepare`. Both programs get the samples of all environments, each centred on its own mean.
- Reference: PyPI package dagma 1.1.1 on Python 3.11.7 with numpy 2.4.6 and scipy 1.17.1, 24 November 2026, called as
  `DagmaLinear(loss_type="l2").fit(X, s=[1.0, 0.9, 0.8, 0.7, 0.6])`, all else its defaults. The list is passed anew each time
  because the package changes its own default list where a stage has to be repeated, so that later fits of the same process
  would start from other values.
- Ours: the defaults of `dagma`; Python {python}, numpy {numpy}.
- Seconds: processor time of one fit from samples to weights, one thread, the same machine, each warmed up first.
"""


if __name__ == "__main__":
    main(GROUPS, rows, markdown)
