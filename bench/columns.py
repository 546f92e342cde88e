"""The columns of the results table: which metrics there are, how each is read, and which columns name a row.

Scoring (``bench.metrics``) fills them; tables and plots read them from here. A new metric is one line in ``METRICS`` and
one function in ``bench.metrics``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """How one metric is shown.

    Parameters
    ----------
    label : str
        For axes and table heads, with its unit where it has one.
    better : {"lower", "higher", "neither"}
        "neither" for context such as a prevalence.
    group : {"graph", "edge", "target", "calibration", "density", "cost"}
        Where it belongs in a listing.
    decimals : int
        Digits shown after the point.
    """

    label: str
    better: Literal["lower", "higher", "neither"]
    group: Literal["graph", "edge", "target", "calibration", "density", "cost"]
    decimals: int = 2


METRICS: dict[str, MetricInfo] = {
    "shd": MetricInfo("SHD (pairs)", "lower", "graph", 1),
    "shd_cpdag": MetricInfo("SHD between CPDAGs (pairs)", "lower", "graph", 1),
    "shd_interventional": MetricInfo("SHD between I-essential graphs (pairs)", "lower", "graph", 1),
    "expected_shd": MetricInfo("expected SHD (pairs)", "lower", "graph", 1),
    "fraction_cyclic": MetricInfo("cyclic posterior samples (share)", "lower", "graph"),
    "sid": MetricInfo("SID (ordered pairs)", "lower", "graph", 1),
    "ancestor_aid": MetricInfo("ancestor adjustment distance (ordered pairs)", "lower", "graph", 1),
    "n_edges": MetricInfo("edges in the point graph", "neither", "graph", 1),
    "missing_edges": MetricInfo("true edges missing (pairs)", "lower", "graph", 1),
    "extra_edges": MetricInfo("edges too many (pairs)", "lower", "graph", 1),
    "reversed_edges": MetricInfo("edges reversed (pairs)", "lower", "graph", 1),
    "undirected_edges": MetricInfo("true edges left undirected (pairs)", "lower", "graph", 1),
    "errors_at_targets": MetricInfo("wrong pairs with a target of some environment (pairs)", "lower", "graph", 1),
    "edge_auroc": MetricInfo("edge AUROC", "higher", "edge"),
    "edge_average_precision": MetricInfo("edge AP", "higher", "edge"),
    "edge_prevalence": MetricInfo("edge prevalence", "neither", "edge"),
    "edge_f1": MetricInfo("edge F1", "higher", "edge"),
    "edge_precision": MetricInfo("edge precision", "higher", "edge"),
    "edge_recall": MetricInfo("edge recall", "higher", "edge"),
    "orientation_accuracy": MetricInfo("orientation accuracy", "higher", "edge"),
    "target_f1": MetricInfo("target F1", "higher", "target"),
    "target_precision": MetricInfo("target precision", "higher", "target"),
    "target_recall": MetricInfo("target recall", "higher", "target"),
    "target_f1_macro": MetricInfo("target F1, mean over environments", "higher", "target"),
    "target_auroc": MetricInfo("target AUROC", "higher", "target"),
    "target_average_precision": MetricInfo("target AP", "higher", "target"),
    "target_exact_match": MetricInfo("environments with exactly the true targets (share)", "higher", "target"),
    "target_prevalence": MetricInfo("target prevalence", "neither", "target"),
    "observational_false_alarms": MetricInfo("targets called in observational data (per environment)", "lower", "target"),
    **{
        f"{what}_{column}": MetricInfo(f"{what} {label}", "higher" if "skill" in column else "lower", "calibration", 3)
        for what in ("edge", "target")
        for column, label in {
            "brier": "Brier score",
            "brier_skill_base_rate": "Brier skill against the base rate",
            "brier_skill_thresholded": "Brier skill against own thresholded output",
            "log_score": "log score (nats)",
            "log_skill_base_rate": "log skill against the base rate",
            "log_skill_thresholded": "log skill against own thresholded output",
        }.items()
    },
    "interventional_nll": MetricInfo("held-out interventional NLL (nats per sample and variable)", "lower", "density"),
    "fit_seconds": MetricInfo("fit time (s)", "lower", "cost"),
    "adapt_seconds": MetricInfo("adaptation time (s)", "lower", "cost"),
    "peak_rss_mb": MetricInfo("peak memory (MiB)", "lower", "cost", 0),
}

EXTRA_METRICS: dict[str, MetricInfo] = {
    "trapezoid_auprc_bacadi": MetricInfo("edge AUPRC as in BaCaDI (trapezoid, with the diagonal)", "higher", "edge"),
    "trapezoid_target_auprc_bacadi": MetricInfo("target AUPRC as in BaCaDI (trapezoid)", "higher", "target"),
}
"""Scores as a paper defines them, where its definition is not ours: columns of suites that follow it alone (``extra_metrics``).

The trapezoid below precision-recall points flatters ties: the empty graph scores (1 + prevalence) / 2. The diagonal, which
nobody gets wrong, counts as well. Neither is to be compared with an average precision."""

WRONG_PAIRS = ("missing_edges", "extra_edges", "reversed_edges", "undirected_edges")
"""The ways in which a pair can be wrong; they add up to ``shd``."""

FEW_SHOT = ("target_f1", "target_auroc", "target_average_precision", "target_exact_match", "target_prevalence")
"""Target metrics that are also scored on held-out environments, a column per size: see :func:`few_shot_column`."""


def is_cost(metric: str) -> bool:
    """Whether a metric is a cost, as a time is: costs differ by factors, scores by differences."""
    return info(metric).group == "cost"


def scores_the_graph(column: str) -> bool:
    """Whether a metric scores edges, which says nothing where the graph was told.

    Examples
    --------
    >>> scores_the_graph("shd"), scores_the_graph("edge_brier"), scores_the_graph("target_f1")
    (True, True, False)
    """
    return info(column).group in ("graph", "edge") or column.startswith("edge_")


def few_shot_column(metric: str, size: int) -> str:
    """Column of a target metric on held-out environments with ``size`` samples each.

    Examples
    --------
    >>> few_shot_column("target_f1", 10)
    'few_shot_target_f1_n10'
    """
    return f"few_shot_{metric}_n{size}"


def parse_few_shot(column: str) -> tuple[str, int] | None:
    """Return (metric, size) of a few-shot column, None for any other.

    Examples
    --------
    >>> parse_few_shot("few_shot_target_f1_n10")
    ('target_f1', 10)
    >>> parse_few_shot("shd") is None
    True
    """
    if not column.startswith("few_shot_"):
        return None
    metric, _, size = column.removeprefix("few_shot_").rpartition("_n")
    return (metric, int(size)) if metric and size.isdigit() else None


def info(column: str) -> MetricInfo:
    """How a metric column is shown, few-shot ones included.

    Raises
    ------
    KeyError
        If there is no such metric.
    """
    few_shot = parse_few_shot(column)
    if few_shot is None:
        return METRICS.get(column) or EXTRA_METRICS[column]
    metric, size = few_shot
    base = METRICS[metric]
    return MetricInfo(f"{base.label}, {size} samples", base.better, base.group, base.decimals)


STATUSES = ("ok", "skipped", "timeout", "out_of_memory", "error", "invalid")
"""What became of a cell. ``skipped`` cannot run at all and is no failure; the last four are failures."""

FAILURES = ("timeout", "out_of_memory", "error", "invalid")

ROW_COLUMNS: dict[str, str] = {
    "suite": "name of the suite",
    "track": "'unknown' (all hidden), 'oracle' (targets told to methods that can use them) or 'graph' (the true graph told)",
    "dataset": "label of the dataset in the suite",
    "dataset_spec": "name[param=value] that makes the dataset",
    "family": "the family of datasets to which the dataset belongs; empty for none",
    "curve": "label of the curve that the dataset is a point of; empty for none",
    "factor": "the parameter along the axis of the curve; empty for none",
    "factor_value": "its value; NaN for none",
    "repetition": "0, 1, ...; a new draw of the problem",
    "problem": "id of the problem: equal for all methods that met the same draws",
    "method": "label of the method in the suite",
    "base": "label of the method to which the suite compares the others; empty for none",
    "method_spec": "name[param=value] that makes the method",
    "targets_given": "True where fit was told the targets",
    "graph_given": "True where fit was told the true graph",
    "edge_output": "'posterior', 'score' or 'binary': what the edge probabilities are",
    "target_output": "the same of the target probabilities; empty where there are none",
    "status": "one of " + ", ".join(STATUSES),
    "reason": "one line on any status but ok",
    "cut_short": "the method ran out of its soft budget and answered with its best so far",
    "converged": "whether the method's optimisation converged; missing where it does not say",
    "time_limit": "seconds allowed per fit, adaptation or refit; NaN is unlimited",
    "memory_limit_mb": "resident memory allowed to the process tree, MiB; NaN is unlimited",
    "data_seed": "seed of the problem's draws",
    "method_seed": "seed of the method",
    "n_variables": "d",
    "n_environments": "training environments",
    "n_samples": "training samples over all environments",
    "n_held_out": "held-out environments",
    "varsortability": "of the data as the methods saw them",
    "r2_sortability": "of the data as the methods saw them",
    "varsortability_raw": "of the data in raw units",
    "undefined": "JSON: metric -> why it is NaN",
    "cell": "hash of the cell on disk",
    "fingerprint": "content hash of the problem as the methods saw it",
    "checksum": "a number that equal problems share up to rounding, on any machine; missing in runs of earlier versions",
}
"""Columns that are not metrics, with their meaning. Every metric of ``METRICS`` and every few-shot column follows them."""
