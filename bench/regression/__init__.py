"""The regression gate: is a run worse than a committed baseline of the same problems, beyond margins and luck?

``baseline`` is the file, ``gate`` the comparison, ``output`` what one sees of it. All of it reads scored rows.
"""

from bench.regression.baseline import MARGINS, Baseline
from bench.regression.gate import Finding, Outcome, check, refuse_other_suite
from bench.regression.output import board, github_annotations, junit, lines

__all__ = [
    "MARGINS",
    "Baseline",
    "Finding",
    "Outcome",
    "board",
    "check",
    "github_annotations",
    "junit",
    "lines",
    "refuse_other_suite",
]
