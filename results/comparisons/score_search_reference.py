"""Compare our order search with FLOP's in the package flopsearch; writes score_search_reference.csv and .md beside it.

In between (see ``parity.py``), ``reference_K.npz`` answers problem K: ``adjacency`` int (runs, d, d), a CPDAG with 1 for a
directed and 2 for an undirected edge, and ``seconds`` float64 (runs,). The package takes no seed, so it is run several times.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
from parity import Group, differences, linear, main, means

from bench.gaussian import environment_moments, merge_centred
from bench.graphs import consistent_extension, cpdag, edge_scores_of_class, shd
from bench.metrics import score
from bench.orders import OrderSearch, adjacency, mask_of
from bench.registry import make_method
from bench.types import BoolArray, Estimate, Problem, Result
from methods.score_search import CentredBIC, Changes, fewest_changes

GROUPS = [Group(f"d = {d}, {kind}", linear(d, kind)) for d in (10, 20, 50) for kind in ("hard", "shift")]
PENALTY, PATIENCE, ALPHA, N_RUNS = 2.0, 50, 0.01, 3
OURS = "ours, patience 50 (default)"
REFERENCE = "flopsearch, 50 restarts"
COLUMNS = {
    "shd_cpdag": ("SHD of CPDAGs", 2),
    "edge_f1": ("edge F1 of CPDAG", 3),
    "bic_above_truth": ("BIC above the true graph's (nats)", 2),
    "shd_interventional": ("SHD of I-essential graphs, oriented by targets", 2),
    "target_f1": ("target F1", 3),
    "seconds": ("CPU seconds of the search", 3),
}


class Scorer:
    """Scores of a DAG for one problem; orientation and targets are ours, whoever found it."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.truth = problem, problem.truth.adjacency
        self.changes = Changes(problem.observed, ALPHA)
        self.bic = CentredBIC(merge_centred(environment_moments(problem.observed)), PENALTY)

    def __call__(self, dag: BoolArray) -> dict[str, float]:
        parents = fewest_changes(self._masks(dag), self.changes, np.random.default_rng(0))
        oriented, targets = adjacency(parents), self.changes.target_probability(parents) > 0.5
        answer = Result(Estimate(oriented, targets, point_graph=oriented, graph_kind="dag"))
        of_class = Result(Estimate(edge_scores_of_class(cpdag(dag)), point_graph=cpdag(dag), graph_kind="cpdag"))
        scores = score(self.problem, answer, edge_output="binary")
        return {
            "shd_cpdag": shd(cpdag(dag), cpdag(self.truth)),
            "edge_f1": score(self.problem, of_class, edge_output="binary")["edge_f1"],
            "bic_above_truth": self._total(dag) - self._total(self.truth),
            "shd_interventional": scores["shd_interventional"],
            "target_f1": scores["target_f1"],
        }

    def _masks(self, dag: BoolArray) -> list[int]:
        return [mask_of(column) for column in dag.T]

    def _total(self, dag: BoolArray) -> float:
        return sum(self.bic(j, mask) for j, mask in enumerate(self._masks(dag)))


def rows(folder: Path, problems: list[tuple[str, int, Problem]]) -> pd.DataFrame:
    """A row for each problem, program and run."""
    found = []
    make_method("score_search").warm_up()
    for k, (group, seed, problem) in enumerate(problems):
        about = {"group": group, "problem_seed": seed, "fingerprint": problem.fingerprint}
        scorer = Scorer(problem)
        with np.load(folder / f"reference_{k}.npz") as answer:
            for run, (graph, seconds) in enumerate(zip(answer["adjacency"], answer["seconds"], strict=True)):
                scores = scorer(consistent_extension(graph != 0))
                found.append({**about, "program": REFERENCE, "run": run, **scores, "seconds": float(seconds)})
        for run in range(N_RUNS):
            start = time.process_time()
            bic = CentredBIC(merge_centred(environment_moments(problem.observed)), PENALTY)
            search = OrderSearch(bic, problem.observed.n_variables, np.random.default_rng(run))
            dag = adjacency(search.run(PATIENCE).parents)
            seconds = time.process_time() - start
            found.append({**about, "program": OURS, "run": run, **scorer(dag), "seconds": seconds})
    return pd.DataFrame(found)


def markdown(frame: pd.DataFrame) -> str:
    """The report."""
    return TEXT.format(
        means=means(frame, COLUMNS),
        differences=differences(frame, [(OURS, REFERENCE)], COLUMNS),
        problem=linear(0, "KIND").replace("n_variables=0", "n_variables=D"),
        n=frame.groupby(["group", "problem_seed"]).ngroups,
        python=platform.python_version(),
        numpy=np.__version__,
    )


TEXT = """# score_search: our order search and FLOP's on the same problems

Written by `score_search_reference.py`; every single score is in `score_search_reference.csv`, with the fingerprint of its
problem. Means over 10 problems per group and 3 runs per problem; lower SHD, higher F1 and higher BIC are better.

{means}

Differences over all {n} problems, ours less the reference: mean over problems (runs averaged first) and 95% interval from
10,000 bootstrap draws of problems within groups.

{differences}

## How it was made

- Problems: `{problem}`
  with D = 10, 20 and 50, KIND = hard and shift, seeds 0 to 9, drawn by `bench.registry.make_problem`, then standardised on the
  pooled samples and shuffled by `bench.preprocessing.prepare`.
- Both get the samples of all environments, each centred on its own mean, and maximise the same BIC with twice its usual
  penalty. Two things differ by design: the package counts no degree of freedom for the means (no say in the comparison of
  parent sets), and it grows parents by an incremental Cholesky factor in Rust, ours by a memoised score in Python and numba.
- "BIC above the true graph's": negative where a search missed a graph that it should have found, the true one.
- SHD of I-essential graphs and target F1 are after our steps 2 and 3 (orientation and tests), the same for both searches.
- Reference: PyPI package flopsearch 0.3.0 on Python 3.11.7 with numpy 2.4.6, 24 November 2026, called as
  `flop(centred / centred.std(axis=0), 2.0, restarts=50)`. It takes no seed and its answers differ between runs, so each problem
  was answered three times.
- Ours: `OrderSearch(...).run(50)`, the default of `score_search`, generators `numpy.random.default_rng(0)` to 2; Python
  {python}, numpy {numpy}. It ends after 50 restarts in a row without improvement, so it makes some more restarts than the
  package.
- Seconds: processor time of one search from centred samples (package) or samples (ours, sufficient statistics included) to the
  graph, one thread, the same machine, each warmed up first.
"""


if __name__ == "__main__":
    main(GROUPS, rows, markdown)
