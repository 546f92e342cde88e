"""From stored problems and cells to the scored frames: rows, edges, targets, reliability.

Reads disk alone, so a new metric never refits, and a resumed or merged run scores like an undisturbed one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench import metrics, store
from bench.columns import EXTRA_METRICS, FAILURES, METRICS, ROW_COLUMNS, parse_few_shot
from bench.plan import PlannedCell
from bench.suites import Suite
from bench.types import OutputKind

EDGE_ROWS_UP_TO = 100
"""Edge and target rows (for heat maps) are kept of first repetitions with at most this many variables, and always where the
truth is not known whole: there the estimates themselves are the answer."""


def score_problem(run: Path, suite: Suite, plans: Sequence[PlannedCell]) -> dict[str, list[Any]]:
    """Rows of all cells of one problem, and the edge, target and reliability rows beside them."""
    frames: dict[str, list[Any]] = {"rows": [], "edges": [], "targets": [], "reliability": []}
    key = plans[0].problem.key
    problem = store.load_problem(run, key) if key else None
    truth = None if problem is None else problem.truth
    whole_truth = truth is not None and truth.adjacency is not None and truth.targets is not None
    scored: dict[tuple[str, ...], Any] = {}
    for plan in plans:
        cell = store.load_cell(run, plan.cell) if plan.cell else None
        row = _identity_row(suite, plan, cell)
        if cell is not None and cell.result is not None and problem is not None:
            able = plan.capabilities
            outputs: dict[str, OutputKind] = {"edge_output": able.edge_output, "target_output": able.target_output}
            again = (plan.cell, *outputs.values())
            if again not in scored:
                scored[again] = metrics.score_with_reasons(problem, cell.result, **outputs, extra=suite.extra_metrics)
            values, reasons = scored[again]
            row |= values | {"cut_short": cell.result.cut_short, "converged": cell.result.converged}
            row["undefined"] = json.dumps(reasons, sort_keys=True)
            about = {k: row[k] for k in ("track", "dataset", "repetition", "problem", "method")}
            small = problem.observed.n_variables <= EDGE_ROWS_UP_TO
            if not whole_truth or (small and plan.problem.repetition == 0):
                frames["edges"] += [about | r for r in metrics.edge_rows(problem, cell.result)]
                frames["targets"] += [about | r for r in metrics.target_rows(problem, cell.result)]
            bins = metrics.reliability_bins(problem, cell.result, **outputs)
            frames["reliability"] += [about | r for r in bins]
        frames["rows"].append(row)
    return frames


def _identity_row(suite: Suite, plan: PlannedCell, cell: store.Cell | None) -> dict[str, Any]:
    problem, known, able = plan.problem, plan.problem.known, plan.capabilities
    point = problem.dataset.point
    diagnostics = {k: math.nan if v is None else v for k, v in known.get("diagnostics", {}).items()}
    record = cell.record if cell is not None else {"status": "skipped", "reason": plan.skipped}
    row: dict[str, Any] = {
        "suite": suite.name,
        "track": plan.track,
        "dataset": problem.dataset.label,
        "dataset_spec": problem.dataset.spec,
        "family": problem.dataset.family,
        "curve": point.curve if point else "",
        "factor": point.factor if point else "",
        "factor_value": point.value if point else math.nan,
        "repetition": problem.repetition,
        "problem": problem.key or f"{problem.dataset.label}#{problem.repetition}",
        "method": plan.method.label,
        "base": suite.base,
        "method_spec": plan.method.spec,
        "targets_given": plan.targets_given,
        "graph_given": plan.graph_given,
        "edge_output": able.edge_output,
        "target_output": able.target_output if able.estimates_targets else "",
        "status": record["status"],
        "reason": record["reason"],
        "cut_short": False,
        "converged": None,
        "time_limit": math.nan if suite.timeout is None else suite.timeout,
        "memory_limit_mb": math.nan if suite.memory is None else suite.memory,
        "data_seed": problem.data_seed,
        "method_seed": plan.method_seed,
        **{k: known.get(k, 0) for k in ("n_variables", "n_environments", "n_samples", "n_held_out")},
        **{k: diagnostics.get(k, math.nan) for k in ("varsortability", "r2_sortability", "varsortability_raw")},
        "undefined": "{}",
        "cell": plan.cell,
        "fingerprint": known.get("fingerprint", ""),
        "checksum": known.get("checksum", math.nan),
    }
    if record["status"] in FAILURES:
        row |= {k: record[k] if record[k] is not None else math.nan for k in ("fit_seconds", "adapt_seconds", "peak_rss_mb")}
    return row


def as_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One tidy frame with every column, in the documented order, whatever the order of the run; extra metrics where scored."""
    frame = pd.DataFrame(rows)
    few_shot = sorted((c for c in frame.columns if parse_few_shot(c)), key=lambda c: parse_few_shot(c) or ("", 0))
    for name in (*ROW_COLUMNS, *METRICS):
        if name not in frame:
            frame[name] = math.nan
    frame["converged"] = frame["converged"].astype("boolean")
    extra = [name for name in EXTRA_METRICS if name in frame]
    return frame[[*ROW_COLUMNS, *METRICS, *extra, *few_shot]]
