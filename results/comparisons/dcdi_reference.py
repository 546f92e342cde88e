"""Compare our DCDI with the authors' software on the same problems; writes dcdi_reference.csv and .md beside it.

The authors' code is not imported here. It runs in an environment of its own, between two steps:

1. ``python results/comparisons/dcdi_reference.py export FOLDER`` writes one ``problem_K.npz`` for each problem: the arrays
   ``X_0``, ``X_1``, ... float64 (n_e, d), ``X_0`` observational, and ``targets`` bool (E, d).
2. Elsewhere, the reference answers each with ``reference_K_MODE.npz``, MODE "known" or "unknown": ``adjacency`` bool (d, d),
   ``targets`` bool (E, d), ``seconds`` (processor time), ``n_steps``, ``converged``. The table says with which calls.
3. ``python results/comparisons/dcdi_reference.py compare FOLDER`` runs ours, scores both and writes the table.

Not here: any tuning, which would need other problems than those compared on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bench.preprocessing import prepare
from bench.registry import make_problem
from bench.types import Problem

LINEAR = (
    "synthetic[n_variables=10,graph=erdos_renyi,edges_per_node=1.5,mechanism=linear,n_observational=500,n_environments=10,"
    "n_per_environment=[50, 100],n_targets=[1, 2],interventions=hard]"
)
PROBLEMS = [
    ("protocol, linear, e = 1", "dcdi[edges_per_node=1.0]", 200),
    ("protocol, MLP, e = 1", "dcdi[edges_per_node=1.0,mechanism=mlp_dcdi]", 200),
    ("protocol, linear, e = 4", "dcdi[edges_per_node=4.0]", 200),
    ("1,250 samples, linear, hard", LINEAR, 200),
]
"""What the group is called, how the problem is drawn, and its seed, which no suite uses."""


def problems() -> list[tuple[str, int, Problem]]:
    """Group, seed, and the problem as the runner hands it to methods: pooled-standardised and shuffled."""
    return [(group, seed, prepare(make_problem(spec, seed=seed), seed=seed).problem) for group, spec, seed in PROBLEMS]


def export(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, (_, _, problem) in enumerate(problems()):
        environments = problem.observed.environments
        assert [bool(e.is_observational) for e in environments] == [True] + [False] * (len(environments) - 1)
        assert problem.truth is not None
        assert problem.truth.targets is not None
        samples = {f"X_{e}": environment.X for e, environment in enumerate(environments)}
        np.savez(folder / f"problem_{k}.npz", targets=problem.truth.targets, **samples)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["export", "compare"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    export(given.folder)
