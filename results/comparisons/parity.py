"""What the comparisons with foreign packages share: the same problems for both sides, paired differences, Markdown.

A comparison is a script beside this one, run in two steps with the foreign package in an environment of its own in between:

1. ``python results/comparisons/NAME.py export FOLDER`` writes one ``problem_K.npz`` for each problem: the arrays ``X_0``,
   ``X_1``, ... float64 (n_e, d), the observational environment first.
2. Elsewhere, the package answers each with ``reference_K.npz``; the script says with which arrays, its table with which calls.
3. ``python results/comparisons/NAME.py compare FOLDER`` runs ours, scores both and writes ``NAME.csv`` and ``NAME.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bench.preprocessing import prepare
from bench.registry import make_problem
from bench.types import Problem


@dataclass(frozen=True)
class Group:
    """Problems of one kind, by dataset with its parameters, seeds and scaling."""

    label: str
    dataset: str
    seeds: Sequence[int] = range(10)
    scaling: Literal["none", "pooled"] = "pooled"


def linear(d: int, kind: str) -> str:
    """The setting of the suite ``linear``."""
    return (
        f"synthetic[n_variables={d},edges_per_node=1.5,n_observational=500,n_environments=10,n_per_environment=[50, 100],"
        f"n_targets=[1, 2],interventions={kind}]"
    )


def problems(groups: Sequence[Group]) -> list[tuple[str, int, Problem]]:
    """Label of the group, seed, and the problem as the runner hands it to methods: scaled and shuffled."""
    return [
        (group.label, seed, prepare(make_problem(group.dataset, seed=seed), scaling=group.scaling, seed=seed).problem)
        for group in groups
        for seed in group.seeds
    ]


def export(groups: Sequence[Group], folder: Path) -> None:
    """Write the samples of every problem, and nothing else of it."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, (_, _, problem) in enumerate(problems(groups)):
        environments = problem.observed.environments
        assert [bool(e.is_observational) for e in environments] == [True] + [False] * (len(environments) - 1)
        np.savez(folder / f"problem_{k}.npz", **{f"X_{e}": environment.X for e, environment in enumerate(environments)})


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines])


def means(frame: pd.DataFrame, columns: dict[str, tuple[str, int]]) -> str:
    """Mean of each column, {column: (header, digits)}, by group and program; a column without a value is a dash."""
    found = frame.groupby(["group", "program"], sort=False)[list(columns)].mean()
    lines = [
        [group, program, *("–" if np.isnan(row[c]) else f"{row[c]:.{digits}f}" for c, (_, digits) in columns.items())]
        for (group, program), row in found.iterrows()
    ]
    return table(["problems", "program", *(header for header, _ in columns.values())], lines)


def difference(frame: pd.DataFrame, ours: str, reference: str, column: str, digits: int) -> str:
    """Mean of ours less reference with a 95% interval: 10,000 bootstrap draws of problems within groups."""
    by_program = frame.pivot_table(index=["group", "problem_seed"], columns="program", values=column, sort=False)
    by_group = [x.dropna().to_numpy() for _, x in (by_program[ours] - by_program[reference]).groupby("group")]
    rng = np.random.default_rng(0)
    drawn = [x[rng.integers(len(x), size=(10_000, len(x)))] for x in by_group]
    low, high = np.quantile(np.concatenate(drawn, axis=1).mean(axis=1), [0.025, 0.975])
    return f"{np.mean(np.concatenate(by_group)):+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def differences(frame: pd.DataFrame, pairs: Sequence[tuple[str, str]], columns: dict[str, tuple[str, int]]) -> str:
    """A line of :func:`difference` for each pair (ours, reference)."""
    lines = [
        [ours, reference, *(difference(frame, ours, reference, c, digits) for c, (_, digits) in columns.items())]
        for ours, reference in pairs
    ]
    return table(["ours", "less", *(header for header, _ in columns.values())], lines)


def main(
    groups: Sequence[Group],
    rows: Callable[[Path, list[tuple[str, int, Problem]]], pd.DataFrame],
    markdown: Callable[[pd.DataFrame], str],
) -> None:
    """The command line of a comparison: ``export FOLDER`` or ``compare FOLDER``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=["export", "compare"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.step == "export":
        export(groups, arguments.folder)
        return
    script = Path(sys.argv[0])
    frame = rows(arguments.folder, problems(groups))
    frame.round(6).to_csv(script.with_suffix(".csv"), index=False)
    script.with_suffix(".md").write_text(markdown(frame), encoding="utf-8")
