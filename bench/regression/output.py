"""What one sees of a comparison with a baseline: a short table, JUnit XML for a build server, annotations for GitHub."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from bench.columns import info
from bench.differences import PairedBoard
from bench.labels import NOTHING, format_value, head, short_label
from bench.regression.baseline import Baseline
from bench.regression.gate import OUTRIGHT, STANDARD_ERRORS, Finding, Outcome
from bench.statistics import entries
from bench.tables import Cell, Column
from bench.texts import counted, visible


def board(outcome: Outcome, baseline: Baseline) -> PairedBoard:
    """The table: means now, changes to the baseline, and ✗ where they are a regression."""
    compared, costs = outcome.compared, outcome.costs.set_index(["track", "method"])
    places = list(costs.index)
    keyed = {(e["track"], e["method"], e["metric"]): e for e in compared.to_dict("records")}
    metrics = [m for m in baseline.margins if any(key[2] == m for key in keyed)]
    tracks = {track for track, _ in places}
    names = [method if len(tracks) == 1 else f"{method} ({track})" for track, method in places]
    columns = [Column("method", tuple(map(Cell, names)), left=True)]
    columns += [Column(head(m), tuple(_change(keyed.get((*place, m)), m) for place in places), metric=m) for m in metrics]
    columns += [
        Column("time", tuple(Cell(_ratio(costs["time_ratio"][place])) for place in places)),
        Column("memory", tuple(Cell(_ratio(costs["memory_ratio"][place])) for place in places)),
    ]
    margins = ", ".join(f"{short_label(m)} {baseline.margins[m]:g}" for m in metrics)
    return PairedBoard(
        name="regression",
        title=f"{baseline.suite} against its baseline of {baseline.written} · {counted(len(baseline.problems), 'problem')}",
        shown=tuple(columns),
        data=compared,
        notes=(
            "Means now, and below them the change over the problems answered then and now; = no number moved; ✗ a regression.",
            f"Margins of the means: {margins}. A dataset fails beyond {OUTRIGHT:g} margins plus {STANDARD_ERRORS:g} standard "
            "errors of reseeding.",
            f"Time and memory: now over then, relative to {baseline.reference} of the same run.",
            *outcome.notes,
        ),
        scope={},
    )


def _change(entry: Any, metric: str) -> Cell:
    if entry is None:
        return Cell(NOTHING)
    change = entry["now"] - entry["baseline"]
    more = 1 if info(metric).decimals < 3 else 0
    moved = entry["worsening"] != 0 or entry["worst_worsening"] != 0
    text = format_value(change, metric, signed=True, more_digits=more) if moved else "="
    return Cell(format_value(entry["now"], metric), text, " ✗" if entry["regressed"] else "")


def _ratio(value: float) -> str:
    return f"×{value:.2f}" if math.isfinite(value) else NOTHING


def lines(outcome: Outcome) -> Iterator[str]:
    """A line per finding, and the verdict."""
    for finding in outcome.findings:
        yield f"{'REGRESSION' if finding.fails else 'warning'}, {_words(finding)}"
    failed = len(outcome.regressions)
    warned = len(outcome.findings) - failed
    said = counted(failed, "regression") if failed else "no regression"
    yield f"{said} in {counted(len(outcome.compared), 'comparison')}" + (f", {counted(warned, 'warning')}" if warned else "")


def _words(finding: Finding) -> str:
    return f"{finding.kind}: {finding.method} ({finding.track}): {finding.message}"


def github_annotations(findings: Sequence[Finding]) -> Iterator[str]:
    """GitHub workflow commands: an error per regression, a warning per warning.

    Examples
    --------
    >>> finding = Finding("failure", True, "unknown", "gies", "", "50% gone")
    >>> print(*github_annotations([finding]))
    ::error title=cadibench failure::gies (unknown): 50%25 gone
    """
    for finding in findings:
        level = "error" if finding.fails else "warning"
        text = f"{finding.method} ({finding.track}): {finding.message}"
        yield f"::{level} title=cadibench {finding.kind}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return visible(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def junit(outcome: Outcome) -> str:
    """JUnit XML: a test case per comparison, and one per method for its cells' answers; warnings are its output."""
    cases = [(e.track, e.method, e.metric) for e in entries(outcome.compared)]
    cases += [(e.track, e.method, "") for e in entries(outcome.costs)]
    cases += [key for f in outcome.findings if (key := _case(f)) not in cases]
    cases = list(dict.fromkeys(cases))
    fails = {key: [f for f in outcome.findings if _case(f) == key] for key in cases}
    suite = ElementTree.Element(
        "testsuite",
        name="cadibench",
        tests=str(len(cases)),
        failures=str(sum(any(f.fails for f in found) for found in fails.values())),
        errors="0",
    )
    for track, method, metric in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=f"{track}.{method}", name=metric or "answers")
        for finding in fails[track, method, metric]:
            if finding.fails:
                ElementTree.SubElement(case, "failure", type=finding.kind, message=_printable(finding.message))
            else:
                ElementTree.SubElement(case, "system-out").text = _printable(f"{finding.kind}: {finding.message}")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _case(finding: Finding) -> tuple[str, str, str]:
    return finding.track, finding.method, finding.metric if finding.kind in ("accuracy", "score lost") else ""


def _printable(text: str) -> str:
    """Without what XML 1.0 forbids beside control characters: a method's error message may hold any."""
    return "".join(c if c.isprintable() or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in visible(text))
