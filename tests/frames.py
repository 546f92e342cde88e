"""Frames as the runner writes them, made without running anything: for the tests of tables, plots and reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bench.columns import FEW_SHOT, few_shot_column


def row(
    method: str, problem: str, *, dataset: str = "er", track: str = "unknown", status: str = "ok", **columns: object
) -> dict:
    """One row with the columns that every row has; further ones by keyword."""
    return {
        "suite": "made-up",
        "track": track,
        "dataset": dataset,
        "dataset_spec": dataset,
        "repetition": 0,
        "problem": problem,
        "method": method,
        "method_spec": method,
        "targets_given": False,
        "edge_output": "binary",
        "target_output": "",
        "status": status,
        "reason": "" if status == "ok" else f"made-up {status}",
        "cut_short": False,
        "time_limit": 60.0,
        "memory_limit_mb": np.nan,
        "varsortability": 0.5,
        "r2_sortability": 0.6,
        "varsortability_raw": 0.9,
        "undefined": json.dumps({}),
        **columns,
    }


def table(scores: Mapping[str, Sequence[float | str]], metric: str = "shd_interventional", **columns: object) -> pd.DataFrame:
    """Rows from method -> one entry per problem: a score, NaN (undefined), or a status such as ``"timeout"``."""
    rows = []
    for method, entries in scores.items():
        for i, entry in enumerate(entries):
            if isinstance(entry, str):
                rows.append(row(method, f"p{i}", status=entry, repetition=i, **columns))
            else:
                rows.append(row(method, f"p{i}", repetition=i, **{metric: entry}, **columns))
    return pd.DataFrame(rows)


def rows_frame(
    methods: Sequence[str] = ("empty", "ut_igsp", "gies"),
    datasets: Sequence[str] = ("er", "sf"),
    *,
    repetitions: int = 10,
    tracks: Sequence[str] = ("unknown",),
    sizes: Sequence[int] = (3, 10, 30),
    failures: Mapping[str, float] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """A believable rows frame; later methods are better and slower. ``failures`` is method -> share of timeouts."""
    rng = np.random.default_rng(seed)
    rows = []
    for track in tracks:
        for d, dataset in enumerate(datasets):
            for repetition in range(repetitions):
                hardness = rng.normal()
                for m, method in enumerate(methods):
                    skill = (m + 1) / (len(methods) + 1)
                    seconds = float(10 ** (-2 + 3 * skill + 0.1 * rng.normal()))
                    common = {
                        "dataset": dataset,
                        "track": track,
                        "repetition": repetition,
                        "targets_given": track == "oracle" and m % 2 == 1,
                        "edge_output": ("binary", "score", "posterior")[m % 3],
                        "target_output": ("binary", "", "score")[m % 3],
                    }
                    if rng.random() < (failures or {}).get(method, 0.0):
                        rows.append(row(method, f"{dataset}-{repetition}", status="timeout", **common))
                        continue
                    shd = float(max(0, round(20 * (1 - skill) + 4 * d + 2 * hardness + rng.normal())))
                    few_shot = {}
                    for size in sizes:
                        score = float(np.clip(skill * np.log(size + 1) / np.log(40) + 0.05 * rng.normal(), 0.05, 1))
                        few_shot |= {few_shot_column(metric, size): score for metric in FEW_SHOT}
                        few_shot[few_shot_column("target_prevalence", size)] = 0.1
                    scores = {
                        "shd": shd + 1,
                        "shd_interventional": shd,
                        "edge_average_precision": float(np.clip(skill + 0.1 * rng.normal(), 0.1, 1)),
                        "edge_prevalence": 0.11,
                        "target_f1": np.nan if m == 0 else float(np.clip(skill + 0.1 * rng.normal(), 0, 1)),
                        "target_average_precision": np.nan if m == 0 else float(np.clip(skill + 0.1 * rng.normal(), 0.1, 1)),
                        "target_prevalence": 0.15,
                        "fit_seconds": seconds,
                    }
                    rows.append(row(method, f"{dataset}-{repetition}", **common, **scores, **few_shot))
    return pd.DataFrame(rows)


def edges_frame(
    methods: Sequence[str] = ("empty", "ut_igsp", "gies"),
    *,
    n_variables: int = 6,
    dataset: str = "er",
    track: str = "unknown",
    problem: str = "er-0",
    repetition: int = 0,
    truth: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Edges of one problem, a row per method and ordered pair; the true graph is a random DAG in a random order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_variables)
    adjacency = np.zeros((n_variables, n_variables), dtype=bool)
    adjacency[np.ix_(order, order)] = np.triu(rng.random((n_variables, n_variables)) < 0.35, 1)
    rows = []
    for m, method in enumerate(methods):
        skill = m / max(1, len(methods) - 1)
        probability = np.clip(skill * adjacency + (1 - skill) * rng.random(adjacency.shape) * 0.6, 0, 1)
        rows += [
            {
                "track": track,
                "dataset": dataset,
                "repetition": repetition,
                "problem": problem,
                "method": method,
                "source": f"X{i}",
                "target": f"X{j}",
                "probability": float(probability[i, j]),
                "truth": float(adjacency[i, j]) if truth else np.nan,
                "in_point_graph": bool(probability[i, j] > 0.5),
            }
            for i in range(n_variables)
            for j in range(n_variables)
            if i != j
        ]
    return pd.DataFrame(rows)


def targets_frame(
    methods: Sequence[str] = ("ut_igsp", "gies"),
    *,
    n_variables: int = 6,
    n_environments: int = 4,
    dataset: str = "er",
    track: str = "unknown",
    problem: str = "er-0",
    repetition: int = 0,
    truth: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Targets of one problem, a row per method, environment and variable; environment 0 is observational."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n_environments, n_variables)) < 0.25
    targets[0] = False
    rows = []
    for method in methods:
        probability = np.clip(0.6 * targets + 0.4 * rng.random(targets.shape), 0, 1)
        rows += [
            {
                "track": track,
                "dataset": dataset,
                "repetition": repetition,
                "problem": problem,
                "method": method,
                "environment": e,
                "environment_name": f"condition {e}",
                "variable": f"X{v}",
                "probability": float(probability[e, v]),
                "called": bool(probability[e, v] > 0.5),
                "truth": float(targets[e, v]) if truth else np.nan,
            }
            for e in range(n_environments)
            for v in range(n_variables)
        ]
    return pd.DataFrame(rows)


def reliability_frame(
    methods: Sequence[str] = ("bayes", "over"), *, problems: int = 5, quantity: str = "edge", seed: int = 0
) -> pd.DataFrame:
    """Reliability bins of ten equal widths; the first method is calibrated, the next ones are more and more overconfident."""
    rng = np.random.default_rng(seed)
    rows = []
    for p in range(problems):
        for m, method in enumerate(methods):
            probability = rng.beta(0.4, 0.8, size=400)
            truth = rng.random(400) < 0.5 + (probability - 0.5) / (1 + m)
            index = np.minimum((probability * 10).astype(int), 9)
            inside = (probability > 0.05) & (probability < 0.95)
            for b in range(10):
                for central in (False, True):
                    chosen = (index == b) & (inside == central)
                    if chosen.any():
                        rows.append(
                            {
                                "track": "unknown",
                                "dataset": "er",
                                "problem": f"er-{p}",
                                "method": method,
                                "quantity": quantity,
                                "bin": b,
                                "central": central,
                                "count": int(chosen.sum()),
                                "sum_probability": float(probability[chosen].sum()),
                                "sum_truth": float(truth[chosen].sum()),
                            }
                        )
    return pd.DataFrame(rows)
