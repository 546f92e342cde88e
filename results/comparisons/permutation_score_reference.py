"""Compare permutation_score with GnIES, the nearest public relative; writes permutation_score_reference.csv and .md beside it.

GnIES estimates one set of targets, those of any environment, and an interventional essential graph. So targets are compared as
that set. In between (see ``parity.py``), ``reference_K.npz`` answers problem K for both settings of the package's ``center``:
``graph_C`` bool (d, d), ``targets_C`` bool (d,) and ``seconds_C``, C being 0 and 1.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
from parity import Group, differences, linear, main, means

from bench.graphs import edge_scores_of_class
from bench.metrics import score
from bench.registry import make_method
from bench.types import Estimate, Problem, Result

GROUPS = [
    Group("GnIES's protocol, noise, n = 100", "gnies[n_per_environment=100]"),
    Group("GnIES's protocol, noise, n = 1000", "gnies[n_per_environment=1000]"),
    Group("d = 10, hard", linear(10, "hard"), seeds=range(3)),
    Group("d = 10, shift", linear(10, "shift"), seeds=range(3)),
]
OURS = "permutation_score"
REFERENCES = {0: "gnies, means and variances", 1: "gnies, variances (its default)"}
COLUMNS = {
    "shd_interventional": ("SHD of I-essential graphs", 2),
    "edge_f1": ("edge F1", 3),
    "union_f1": ("F1 of the union of targets", 3),
    "target_f1": ("target F1", 3),
    "seconds": ("CPU seconds", 3),
}


def rows(folder: Path, problems: list[tuple[str, int, Problem]]) -> pd.DataFrame:
    """A row for each problem and program."""
    found = []
    method = make_method(OURS)
    method.warm_up()
    for k, (group, seed, problem) in enumerate(problems):
        about = {"group": group, "problem_seed": seed, "fingerprint": problem.fingerprint}
        truth = problem.truth.targets.any(axis=0)
        start = time.process_time()
        estimate = method.fit(problem.observed, rng=np.random.default_rng(0)).estimate
        seconds = time.process_time() - start
        scores = score(problem, Result(estimate), edge_output="score")
        union = (estimate.target_probability > 0.5).any(axis=0)
        found.append(
            {
                **about,
                "program": OURS,
                **{column: scores[column] for column in ("shd_interventional", "edge_f1", "target_f1")},
                "union_f1": _f1(union, truth),
                "seconds": seconds,
            }
        )
        with np.load(folder / f"reference_{k}.npz") as answer:
            for c, program in REFERENCES.items():
                graph = answer[f"graph_{c}"]
                as_class = Estimate(edge_scores_of_class(graph), point_graph=graph, graph_kind="i-essential")
                scores = score(problem, Result(as_class), edge_output="binary")
                found.append(
                    {
                        **about,
                        "program": program,
                        **{column: scores[column] for column in ("shd_interventional", "edge_f1")},
                        "target_f1": np.nan,
                        "union_f1": _f1(answer[f"targets_{c}"], truth),
                        "seconds": float(answer[f"seconds_{c}"]),
                    }
                )
    return pd.DataFrame(found)


def _f1(called: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (called & truth).sum() / max(called.sum() + truth.sum(), 1)


def markdown(frame: pd.DataFrame) -> str:
    """The report."""
    compared = {column: header for column, header in COLUMNS.items() if column != "target_f1"}
    return TEXT.format(
        means=means(frame, COLUMNS),
        differences=differences(frame, [(OURS, reference) for reference in REFERENCES.values()], compared),
        problem=linear(10, "KIND"),
        n=frame.groupby(["group", "problem_seed"]).ngroups,
        python=platform.python_version(),
        numpy=np.__version__,
    )


TEXT = """# permutation_score and GnIES on the same problems

Written by `permutation_score_reference.py`; every single score is in `permutation_score_reference.csv`, with the fingerprint of
its problem. Means over 10 problems of each setting of GnIES's protocol, 3 of each other.

{means}

Differences over all {n} problems, ours less the reference: mean over problems and 95% interval from 10,000 bootstrap draws of
problems within groups.

{differences}

The two are relatives, not the same method: GnIES finds one set of targets for all environments, models noise interventions
(variances, and means if asked), and searches equivalence classes by a modified GES. Its class is that of its set of targets,
which cannot orient an edge between two targets even where they are hit in different environments; that counts against it where
there are many. In ten environments most variables are targets of some, so that their union says little.

## How it was made

- Problems: the dataset `gnies` (d = 10, average degree 2.7, an observational and 3 environments of n samples with distinct
  single targets) and `{problem}`
  with KIND = hard and shift, seeds from 0 on, drawn by `bench.registry.make_problem`, then standardised on the pooled samples
  and shuffled by `bench.preprocessing.prepare`. No program is told a target; ours is told which environment is observational,
  which the package has no argument for.
- Reference: PyPI package gnies 0.3.3 (with ges 1.1.1) on Python 3.11.7 with numpy 2.4.6, 24 November 2026, called as
  `fit(data, center=False)` and `fit(data)`, all else its defaults (greedy outer procedure, BIC).
- Ours: the defaults, generator `numpy.random.default_rng(0)`; Python {python}, numpy {numpy}.
- Seconds: processor time of one fit from samples to answer, one thread, the same machine; ours warmed up first.
"""


if __name__ == "__main__":
    main(GROUPS, rows, markdown)
