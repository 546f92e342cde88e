"""What a check answers, and how failures that are known and declared are counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.errors import BenchError
from bench.testing.compare import one_line
from bench.testing.observe import observe

Outcome = Literal["passed", "failed", "expected failure", "unexpected pass"]


class CheckFailed(BenchError, AssertionError):
    """A plugin breaks a promise; one line says which and what to do."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Outcome of one check of one plugin.

    Parameters
    ----------
    plugin : str
        ``name`` or ``name[param=value]``.
    check : str
        Name of the check.
    outcome : {"passed", "failed", "expected failure", "unexpected pass"}
        An "expected failure" was declared with its reason; a declared one that passes is an "unexpected pass".
    message : str
        One line; empty where passed.
    seconds : float
        Wall-clock.
    """

    plugin: str
    check: str
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return self.outcome in ("passed", "expected failure")


def run_check(plugin: str, name: str, check: Callable[[Any], None], subject: Any, expected: Mapping[str, str]) -> CheckReport:
    """Run one check in silence; whatever it raises becomes a report."""
    started = time.perf_counter()
    try:
        observe(lambda: check(subject), global_seed=1)
        failure = ""
    except CheckFailed as reason:
        failure = one_line(str(reason))
    except Exception as reason:
        failure = one_line(f"raises {type(reason).__name__}: {reason}")
    seconds = time.perf_counter() - started
    if name not in expected:
        return CheckReport(plugin, name, "failed" if failure else "passed", failure, seconds)
    if failure:
        return CheckReport(plugin, name, "expected failure", f"{expected[name]} ({failure})", seconds)
    message = f"passes, though declared to fail ('{expected[name]}'); remove it from expected_failures"
    return CheckReport(plugin, name, "unexpected pass", message, seconds)


def unknown_expectations(plugin: str, expected: Mapping[str, str], names: Iterable[str]) -> list[CheckReport]:
    """Declared failures of checks that do not run for this plugin, which would otherwise go unnoticed."""
    message = "is declared in expected_failures, but no such check runs for this plugin; remove it"
    return [CheckReport(plugin, name, "failed", message) for name in sorted(set(expected) - set(names))]
