"""What a problem is like before any method of note meets it: what gives its order away, how strong its interventions are, and
how far methods get that need no thought.

The floor methods meet the problem through a run of their own in a temporary folder, so that it is drawn, scaled, shuffled and
scored as in every suite.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench import effects, registry, runner, store
from bench.errors import MissingData
from bench.suites import Suite
from bench.types import Problem

EDGE_FLOORS = {"var_sort_regress": "sorting by variance", "r2_sort_regress": "sorting by R²"}
TARGET_FLOORS = {"marginal": "marginal tests"}
SECONDS = 60.0
"""Allowed to each floor method, which needs one or two on a hundred variables."""


@dataclass(frozen=True, slots=True, eq=False)
class Diagnosis:
    """One problem and what is to be said of it.

    Parameters
    ----------
    problem : Problem
        In raw units.
    effects : DataFrame
        See :func:`bench.effects.effects`.
    rows : DataFrame
        A row per floor method, with the columns of ``bench.columns``.
    """

    problem: Problem
    effects: pd.DataFrame
    rows: pd.DataFrame

    @property
    def sortability(self) -> dict[str, float]:
        """Sortabilities of the data in raw units and as methods see them; NaN without a true graph."""
        row, raw = self.rows.iloc[0], self.problem.diagnostics
        return {
            "var-sortability in raw units": raw.get("varsortability", math.nan),
            "var-sortability as methods see it": float(row["varsortability"]),
            "R²-sortability": float(row["r2_sortability"]),
        }

    def hardness(self) -> str:
        """One line: how far the floor methods get, beside chance."""
        parts = [
            self._reached("edges", "edge_average_precision", "edge_prevalence", EDGE_FLOORS),
            self._reached("targets", "target_average_precision", "target_prevalence", TARGET_FLOORS),
        ]
        nothing = "no truth is known" if self.problem.truth is None else "no known edge and no known target"
        return "; ".join(part for part in parts if part) or f"{nothing}, so nothing can be scored"

    def _reached(self, what: str, metric: str, chance: str, floors: dict[str, str]) -> str:
        """Of the way from chance to a perfect answer, how much the best of the floor methods goes."""
        answered = self.rows[self.rows["method"].isin(floors) & (self.rows["status"] == "ok")].set_index("method")
        scores = answered[metric].dropna()
        if scores.empty:
            return ""
        level = float(answered[chance].max())
        told = ", ".join(f"{floors[str(method)]} {score:.2f}" for method, score in scores.items())
        share = max(0.0, (float(scores.max()) - level) / (1 - level)) if level < 1 else 1.0
        return f"{what}: AP {told}, chance {level:.2f}, so {share:.0%} of the way to perfect is free"


def diagnose(dataset: registry.Choice, *, seed: int = 0) -> Diagnosis:
    """Draw the problem that the first repetition of a run with this seed meets, and let the floor methods at it.

    Parameters
    ----------
    dataset : Choice
        Name and parameters.
    seed : int
        Root of every seed, as of a suite.

    Raises
    ------
    InputError
        If the dataset refuses its parameters.
    MissingData
        If its files are neither at hand nor to be had, or it fails to make a problem.
    """
    suite = Suite.model_validate(
        {
            "name": "diagnostics",
            "seed": seed,
            "timeout": SECONDS,
            "datasets": [{"name": dataset.name, "parameters": dict(dataset.parameters), "repetitions": 1}],
            "methods": [*EDGE_FLOORS, *TARGET_FLOORS],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = runner.run(suite, output=folder)
        key = str(rows["problem"].iloc[0])
        problem = store.load_problem(Path(folder), key) if store.problem_path(Path(folder), key).exists() else None
    if problem is None:
        reason = str(rows["reason"].iloc[0])
        raise MissingData(reason.partition(" (traceback in ")[0])  # that file is gone with the folder
    return Diagnosis(problem, effects.effects(problem), rows)
