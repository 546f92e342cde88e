"""The baseline: a JSON file with one line per cell, so that a change of scores is a change of lines that a reviewer can read.

It holds the problems (seeds, fingerprints, checksums), each cell's status, scores and cost, the margins, how much the scores of
each method scatter under other seeds, and why it was last written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic

from bench.columns import METRICS, info, parse_few_shot
from bench.errors import InputError, UnknownName
from bench.files import write_atomic
from bench.fingerprints import problems_of
from bench.labels import was_told
from bench.statistics import check_metric, metrics_of

FORMAT = 1

MARGINS = {
    "shd_interventional": 0.5,
    "edge_average_precision": 0.03,
    "target_f1": 0.05,
    "target_average_precision": 0.05,
    "edge_brier": 0.01,
    "interventional_nll": 0.05,
    "few_shot_target_average_precision": 0.05,
}
"""What is gated, and how much worse its mean may be; the last holds for every number of samples. Other processors round
otherwise and so move single edges and targets: on the suite ``regression`` half a pair is nine edges over its 18 problems."""

COSTS = ("fit_seconds", "adapt_seconds", "peak_rss_mb")
CELL = ["track", "dataset", "repetition", "method"]
SCATTER = ["track", "dataset", "method"]


def default_margins(rows: pd.DataFrame) -> dict[str, float]:
    """The metrics of ``MARGINS`` that some row has, few-shot ones by size, with their margins."""
    margins = {m: MARGINS.get(_without_size(m), math.nan) for m in metrics_of(rows)}
    return {m: margin for m, margin in margins.items() if not math.isnan(margin)}


def _without_size(metric: str) -> str:
    parsed = parse_few_shot(metric)
    return metric if parsed is None else f"few_shot_{parsed[0]}"


def check_margins(margins: Mapping[str, float]) -> None:
    """Raise :class:`~bench.errors.InputError` unless each is a positive margin of a metric with a better side."""
    for metric, margin in margins.items():
        check_metric(metric)
        if info(metric).better == "neither" or info(metric).group == "cost":
            gated = [m for m, about in METRICS.items() if about.better != "neither" and about.group != "cost"]
            raise UnknownName("metric to gate", metric, gated)
        if not margin > 0:
            raise InputError(f"margin of {metric}: expected a positive number, got {margin}")


class _File(pydantic.BaseModel):
    """The file as it is read: strict about keys, lenient about columns, so that later versions read it."""

    model_config = pydantic.ConfigDict(extra="forbid")

    format: int
    suite: str
    reason: str
    written: str
    reference: str
    versions: dict[str, str]
    margins: dict[str, float]
    scatter: list[dict[str, Any]]
    problems: list[dict[str, Any]]
    cells: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """What a run is compared with.

    Parameters
    ----------
    suite : str
    reason : str
        Why it was written.
    written : str
        Date.
    reference : str
        Label of the method in whose time and memory those of the others are counted.
    versions : mapping of str to str
        Of Python, packages, and the processor: what else could be the cause of a change.
    margins : mapping of str to float
        Metric to how much worse the mean may be.
    scatter : DataFrame
        Per track, dataset and method the standard deviation of each gated score under other seeds of the method, about the
        mean of its problem. Empty where nobody measured it, and then taken to be zero.
    problems : DataFrame
        See :func:`bench.fingerprints.problems_of`.
    cells : DataFrame
        Per track, dataset, repetition and method: ``method_spec``, ``status``, gated scores, and costs.
    """

    suite: str
    reason: str
    written: str
    reference: str
    versions: Mapping[str, str]
    margins: Mapping[str, float]
    scatter: pd.DataFrame
    problems: pd.DataFrame
    cells: pd.DataFrame

    @classmethod
    def of(
        cls,
        rows: pd.DataFrame,
        *,
        reason: str,
        written: str,
        reference: str,
        versions: Mapping[str, str],
        margins: Mapping[str, float] | None = None,
        reseeded: Sequence[pd.DataFrame] = (),
    ) -> Baseline:
        """A baseline of scored rows, and of rows of the same suite under other seeds of the methods.

        Raises
        ------
        InputError
            If there is no such reference, or a margin is none.
        """
        ran = rows[rows["status"] != "skipped"]
        if reference not in set(ran["method"].astype(str)):
            raise UnknownName("reference method", reference, sorted(set(ran["method"].astype(str))))
        margins = dict(default_margins(rows) if margins is None else margins)
        check_margins(margins)
        return cls(
            suite=str(rows["suite"].iloc[0]),
            reason=reason,
            written=written,
            reference=reference,
            versions=dict(versions),
            margins=margins,
            scatter=scatter_of([distinct(run) for run in (rows, *reseeded)], list(margins)),
            problems=problems_of(rows),
            cells=cells_of(distinct(rows), list(margins)),
        )

    def write(self, path: Path) -> Path:
        """Write the file, whole or not at all."""
        head = {
            "format": FORMAT,
            "suite": self.suite,
            "reason": self.reason,
            "written": self.written,
            "reference": self.reference,
            "versions": dict(self.versions),
            "margins": dict(self.margins),
        }
        lists = {name: _lines(getattr(self, name)) for name in ("scatter", "problems", "cells")}
        parts = [f'"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in head.items()]
        parts += [f'"{key}": [' + ("\n" + ",\n".join(lines) + "\n" if lines else "") + "]" for key, lines in lists.items()]
        return write_atomic(path, "{\n" + ",\n".join(parts) + "\n}\n")

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read a file that :meth:`write` wrote.

        Raises
        ------
        InputError
            If it is missing, is no baseline, or was written by a later version.
        """
        if path.is_dir():
            raise InputError(f"expected a baseline, a JSON file, got the folder '{path}'")
        if not path.is_file():
            raise InputError(f"expected a baseline, got '{path}' (no such file); write one with --update --reason")
        try:
            content = _File.model_validate_json(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            raise InputError(f"expected a baseline, a JSON file, got '{path}', which is no text") from None
        except pydantic.ValidationError as reason:
            first = reason.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{path}: expected a baseline: {where + ': ' if where else ''}{first['msg']}") from None
        if content.format > FORMAT:
            raise InputError(f"{path}: format {content.format} is newer than this program's {FORMAT}")
        check_margins(content.margins)
        return cls(
            **content.model_dump(exclude={"format", "scatter", "problems", "cells"}),
            scatter=_frame(path, content.scatter, SCATTER),
            problems=_frame(path, content.problems, ["dataset", "repetition", "fingerprint"]),
            cells=_frame(path, content.cells, [*CELL, "status", "method_spec", *content.margins, *COSTS]),
        )


def distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that are answers of their own: one on a track that tells something is a copy where the method was not told."""
    own = (rows["track"] == "unknown") | was_told(rows)
    return rows[own & (rows["status"] != "skipped")]


def cells_of(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """What a baseline keeps of each row; scores only of cells that ended well, with the digits that the file keeps."""
    kept = rows.reindex(columns=[*CELL, "method_spec", "status", *metrics, *COSTS])
    scores = kept[list(metrics)].astype(float)
    scores = scores.where(np.isfinite(scores) & (kept["status"] == "ok").to_numpy()[:, None])
    kept[list(metrics)] = scores.map(lambda score: _short("", score))
    return kept.sort_values(CELL).reset_index(drop=True)


def scatter_of(runs: Sequence[pd.DataFrame], metrics: Sequence[str]) -> pd.DataFrame:
    """Standard deviation of scores over runs of the same problems, pooled over the problems of a dataset."""
    if len(runs) < 2:
        return pd.DataFrame(columns=[*SCATTER, *metrics])
    cells = pd.concat([cells_of(rows, metrics) for rows in runs])
    variance = cells.groupby(CELL)[list(metrics)].var(ddof=1)
    pooled = variance.groupby(SCATTER).mean() ** 0.5
    return pooled[(pooled > 0).any(axis=1)].reset_index()


def _lines(frame: pd.DataFrame) -> list[str]:
    """A JSON object per row: no missing values, and no more digits than say something."""
    return [
        json.dumps({k: _short(k, v) for k, v in row.items() if not _is_missing(v)}, ensure_ascii=False)
        for row in frame.to_dict("records")
    ]


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _short(name: Any, value: Any) -> Any:
    if isinstance(value, float | np.floating):
        digits = 3 if name in COSTS else 10 if name == "checksum" else 6
        return float(f"{value:.{digits}g}")
    return value.item() if isinstance(value, np.generic) else value


def _frame(path: Path, records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Lines of a list with all these columns: what no line has (a score that was never defined) is missing throughout."""
    frame = pd.DataFrame(list(records))
    for name in columns:
        if name in frame:
            continue
        if name in METRICS or parse_few_shot(name) is not None or frame.empty:
            frame[name] = np.nan
        else:
            raise InputError(f"{path}: expected '{name}' in every line of a list, found it in none")
    return frame
