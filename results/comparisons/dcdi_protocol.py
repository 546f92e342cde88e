"""Measure DCDI on the problems of its own paper, targets told and unknown; writes dcdi_protocol.csv and .md beside it.

``python results/comparisons/dcdi_protocol.py SPEC N GROUP...`` fits SPEC on the first N problems of each group and replaces its
rows in the table, one by one; without arguments only the report is written anew. Groups are the keys of ``GROUPS``.
"""

from __future__ import annotations

import dataclasses
import platform
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from parity import Group, problems, table

from bench.metrics import score
from bench.registry import make_method
from bench.types import Observed, Problem, Result

FIRST_SEED = 9500
GROUPS = {
    f"{kind}, e = {e}": f"dcdi[edges_per_node={e}.0,mechanism={mechanism}]"
    for kind, mechanism in (("linear", "linear"), ("additive networks", "mlp_dcdi"))
    for e in (1, 4)
}
SCORES = ["shd", "edge_f1", "target_f1"]
KEY = ["program", "group", "targets", "problem_seed"]
TABLE = Path(__file__).with_suffix(".csv")


def told(problem: Problem) -> Observed:
    """The samples with the true targets of their environments."""
    targets = problem.truth.targets
    assert targets is not None
    environments = zip(problem.observed.environments, targets, strict=True)
    named = (dataclasses.replace(e, targets=frozenset(np.flatnonzero(row).tolist())) for e, row in environments)
    return dataclasses.replace(problem.observed, environments=tuple(named))


def row(spec: str, group: str, seed: int, problem: Problem, targets: str) -> dict[str, object]:
    """One fit and its scores."""
    start = time.process_time()
    observed = told(problem) if targets == "known" else problem.observed
    fitted = make_method(spec).fit(observed, rng=np.random.default_rng(seed))
    seconds = time.process_time() - start
    scores = score(problem, Result(fitted.estimate), edge_output="score")
    found = {name: round(float(scores[name]), 4) for name in SCORES}
    if targets == "known":
        found["target_f1"] = np.nan
    names = dict(zip(KEY, (spec, group, targets, seed), strict=True))
    return {**names, "fingerprint": problem.fingerprint, **found, "seconds": round(seconds, 1), "converged": fitted.converged}


def measure(spec: str, n: int, groups: list[str]) -> None:
    """Fit and store; what is there already for the same problem is replaced."""
    for seed in range(FIRST_SEED, FIRST_SEED + n):
        for group in groups:
            for label, _, problem in problems([Group(group, GROUPS[group], seeds=[seed])]):
                new = pd.DataFrame([row(spec, label, seed, problem, targets) for targets in ("known", "unknown")])
                old = [pd.read_csv(TABLE)] if TABLE.exists() else []
                frame = pd.concat([*old, new]).drop_duplicates(KEY, keep="last").sort_values(KEY)
                frame.to_csv(TABLE, index=False)


def markdown(frame: pd.DataFrame) -> str:
    """The report."""
    lines = []
    for (program, group, targets), rows in frame.groupby(["program", "group", "targets"]):
        single = ", ".join(f"{shd:.0f}" for shd in rows["shd"])
        f1 = rows["target_f1"].mean()
        lines.append(
            [
                program,
                group,
                targets,
                f"{rows['shd'].mean():.1f} ({single})",
                f"{rows['edge_f1'].mean():.2f}",
                "–" if np.isnan(f1) else f"{f1:.2f}",
                f"{rows['seconds'].mean():.0f}",
                f"{rows['converged'].sum()}/{len(rows)}",
            ]
        )
    header = ["program", "problems", "targets", "SHD (single problems)", "edge F1", "target F1", "CPU seconds", "converged"]
    specs = "\n".join(f"  - {group}: `{spec}`" for group, spec in GROUPS.items())
    return TEXT.format(
        table=table(header, lines),
        specs=specs,
        first=FIRST_SEED,
        python=platform.python_version(),
        torch=torch.__version__.split("+")[0],
    )


TEXT = """# DCDI on the problems of its paper

Written by `dcdi_protocol.py`; every fit is in `dcdi_protocol.csv`, with the fingerprint of its problem. Ten variables, 10,000
samples, perfect interventions, one environment for each variable and one without; few problems, so that means are rough. Groups
that are not in the table were not measured.

{table}

## How it was made

- `python results/comparisons/dcdi_protocol.py SPEC N GROUP...`, N the number of single problems in the table.
- Problems, by `bench.registry.make_problem` with seeds from {first} on, standardised and shuffled by
  `bench.preprocessing.prepare`:
{specs}
- No suite draws them, and no schedule was chosen on them.
- Known targets are told as on the oracle track. A reversed edge counts once. One thread of a machine that did other work;
  Python {python}, torch {torch}.
"""


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    TABLE.with_suffix(".md").write_text(markdown(pd.read_csv(TABLE)), encoding="utf-8")
