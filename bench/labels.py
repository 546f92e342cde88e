"""Words and numbers as tables and plots show them: names of tracks and metrics, digits, file names.

Definitions of the metrics are in ``bench.metrics``; their long labels in ``bench.columns``.
"""

from __future__ import annotations

import math
import re

import pandas as pd

from bench.columns import info, is_cost, parse_few_shot

SORT_BY = "shd_interventional"
"""The metric that orders methods unless a user asks for another one."""

NOTHING = "–"

ARROWS = {"lower": " ↓", "higher": " ↑", "neither": ""}
"""To the better side."""

TRACK_TITLES = {
    "unknown": "targets unknown",
    "oracle": "oracle track (targets told)",
    "graph": "graph track (true graph told, targets unknown)",
}

_HEADS = {
    "shd": "SHD",
    "shd_interventional": "SHD I-essential",
    "fit_seconds": "fit time (s)",
    "adapt_seconds": "adaptation time (s)",
}


def track_order(rows: pd.DataFrame) -> list[str]:
    """The tracks of a rows frame in the order of reading: targets unknown first."""
    return sorted(map(str, rows["track"].unique()), key=lambda track: (track != "unknown", track))


def base_of(rows: pd.DataFrame) -> str:
    """The method to which a suite compares all others, where it ran beside any; empty for none."""
    base = next((str(b) for b in rows["base"].dropna() if b), "") if "base" in rows else ""
    ran = set(rows.loc[rows["status"] != "skipped", "method"])
    return base if base in ran and len(ran) > 1 else ""


def was_told(rows: pd.DataFrame) -> pd.Series[bool]:
    """Which rows are of methods that were told targets or graph, bool by row."""
    return pd.DataFrame({c: rows[c].eq(True) for c in ("targets_given", "graph_given") if c in rows}, rows.index).any(axis=1)


def was_cut_short(rows: pd.DataFrame) -> pd.Series[bool]:
    """Which answers are the best so far at the end of a budget, bool by row; none in runs of earlier versions."""
    if "cut_short" not in rows:
        return pd.Series(False, index=rows.index)
    return rows["cut_short"].eq(True) & (rows["status"] == "ok")


def short_label(metric: str) -> str:
    """Label of a metric for a table, short where it can be.

    Examples
    --------
    >>> short_label("shd_interventional"), short_label("few_shot_target_f1_n10")
    ('SHD I-essential', 'target F1 n=10')
    """
    few_shot = parse_few_shot(metric)
    if few_shot is not None:
        return f"{info(few_shot[0]).label} n={few_shot[1]}"
    return _HEADS.get(metric, info(metric).label)


def head(metric: str) -> str:
    """Column head of a metric: its short label with an arrow to its better side."""
    return short_label(metric) + ARROWS[info(metric).better]


def slug(text: str) -> str:
    """A file name part from a label.

    Examples
    --------
    >>> slug("er[d=10, hard]")
    'er-d-10-hard'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "unnamed"


def format_value(value: float, metric: str, *, signed: bool = False, more_digits: int = 0) -> str:
    """A number with the digits of its metric, or some more; costs get two significant digits, down to a thousandth.

    Examples
    --------
    >>> format_value(3.14159, "shd"), format_value(-0.001, "edge_auroc", signed=True), format_value(0.00123, "fit_seconds")
    ('3.1', '0.00', '0.001')
    """
    if not math.isfinite(value):
        return NOTHING
    decimals = info(metric).decimals + more_digits
    if is_cost(metric) and value != 0:
        decimals = min(3, max(0, 1 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return f"+{text}" if signed and value > 0 else text


def format_interval(low: float, high: float, metric: str, *, signed: bool = False, more_digits: int = 0) -> str:
    """``[low, high]``; empty where it is unknown."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    lower, upper = (format_value(x, metric, signed=signed, more_digits=more_digits) for x in (low, high))
    return f"[{lower}, {upper}]"
