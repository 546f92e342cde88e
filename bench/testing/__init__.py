"""Conformance checks that prove a plugin, built in or not.

``check_method("name")`` and ``check_dataset("name")`` run every promise that the plugin's declared capabilities or tags
call for; :func:`run_checks` does the same for the command line. For one pytest id per check, parametrise over
:func:`checks_for_method` and :func:`checks_for_dataset`.

A promise that a plugin breaks on purpose is declared on it, as ``expected_failures = {"name_of_check": "reason"}``. The
declaration is strict: a declared failure that passes is a failure.

Accuracy is judged against chance only, on small problems made here; the benchmark itself is a suite (``bench.suites``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from bench import registry
from bench.errors import BenchError
from bench.terminal import SafeConsole
from bench.testing.dataset_checks import checks_for_dataset
from bench.testing.method_checks import checks_for_method
from bench.testing.report import CheckFailed, CheckReport, run_check, unknown_expectations
from bench.texts import counted
from bench.types import Method

__all__ = [
    "CheckFailed",
    "CheckReport",
    "ConformanceError",
    "check_dataset",
    "check_method",
    "checks_for_dataset",
    "checks_for_method",
    "expected_failures",
    "run_checks",
]


class ConformanceError(BenchError, AssertionError):
    """A plugin fails some check; one line each."""


def check_method(method: str | Method, *, raise_on_failure: bool = True) -> list[CheckReport]:
    """Run every check that a method's capabilities call for.

    Parameters
    ----------
    method : str or Method
        ``name``, ``name[param=value]``, or an instance of a registered class.
    raise_on_failure : bool
        False returns the failures among the reports instead.

    Raises
    ------
    ConformanceError
        If a check fails, or one passes that was declared to fail.
    UnknownName
        If nothing is registered under the name.

    Examples
    --------
    >>> reports = check_method("empty")
    >>> all(report.good for report in reports)
    True
    """
    instance = registry.make_method(method) if isinstance(method, str) else method
    checks = dict(checks_for_method(instance))
    return _run(_label(instance), checks, instance, expected_failures(instance), raise_on_failure)


def check_dataset(dataset: str, *, raise_on_failure: bool = True, **parameters: Any) -> list[CheckReport]:
    """Run every check that a dataset's tags call for.

    Parameters
    ----------
    dataset : str
        ``name`` or ``name[param=value]``.
    raise_on_failure : bool
        False returns the failures among the reports instead.
    **parameters
        Further parameters of the dataset.

    Raises
    ------
    ConformanceError
        If a check fails, or one passes that was declared to fail.
    UnknownName
        If nothing is registered under the name.
    """
    choice = registry.choose("dataset", dataset, parameters)
    checks = dict(checks_for_dataset(choice))
    return _run(choice.label, checks, choice, expected_failures(choice), raise_on_failure)


def expected_failures(plugin: Method | registry.Choice) -> Mapping[str, str]:
    """Checks that a plugin declares to fail, with the reason of each."""
    holder = registry.entry(plugin.kind, plugin.name).factory if isinstance(plugin, registry.Choice) else plugin
    declared: Mapping[str, str] = getattr(holder, "expected_failures", {})
    return declared


def run_checks(plugins: Iterable[tuple[str, str]], *, console: Console | None = None) -> bool:
    """Check plugins, printing one line per check (after a method without any valid answer, further failures in one).

    Parameters
    ----------
    plugins : iterable of (kind, spec)
        "method" or "dataset", and ``name`` or ``name[param=value]``.
    console : rich.console.Console, optional
        Where to print; standard output by default.

    Returns
    -------
    bool
        Whether every check is good.

    Raises
    ------
    UnknownName
        If nothing is registered under a name; before any check runs.
    """
    console = console or SafeConsole()
    choices = [registry.choose(kind, spec) for kind, spec in plugins]
    failures = n_checks = 0
    for choice in choices:
        console.print(Text(f"{choice.kind} {choice.label}", style="bold"), soft_wrap=True)
        if choice.kind == "method":
            reports = check_method(registry.make_method(choice.name, **choice.parameters), raise_on_failure=False)
        else:
            reports = check_dataset(choice.name, **choice.parameters, raise_on_failure=False)
        for line in _lines(reports):
            console.print(line, soft_wrap=True, highlight=False)
        n_checks += len(reports)
        failures += sum(not report.good for report in reports)
    verdict = f", {failures} {'does' if failures == 1 else 'do'} not" if failures else ""
    console.print(f"{n_checks - failures} of {counted(n_checks, 'check')} hold{verdict}", highlight=False)
    return not failures


_STYLES = {"passed": "green", "failed": "bold red", "expected failure": "yellow", "unexpected pass": "bold red"}


_NEEDED_BY_ALL = "estimate_has_the_right_shape"
"""Where this check fails, what fails after it mostly says the same again."""


def _lines(reports: list[CheckReport]) -> list[Text]:
    """A line per check; but after a method that gives no valid answer at all, further failures are only counted."""
    checks = [report.check for report in reports if report.outcome == "failed"]
    if _NEEDED_BY_ALL not in checks:
        return [_line(report) for report in reports]
    n_told = checks.index(_NEEDED_BY_ALL) + 1
    told = [_line(report) for report in reports if report.outcome != "failed" or report.check in checks[:n_told]]
    n_further = len(checks) - n_told
    return [*told, Text(f"  {counted(n_further, 'further failure')}, most for want of a valid answer; mend it and look again")]


def _line(report: CheckReport) -> Text:
    message = f": {report.message}" if report.message else ""
    outcome = (f"{report.outcome:<16}", _STYLES[report.outcome])
    return Text.assemble("  ", outcome, f" {report.check} ({report.seconds:.1f} s){message}")


def _label(method: Method) -> str:
    return registry.choose("method", method.name, method.parameters()).label


def _run(
    label: str, checks: Mapping[str, Any], subject: Any, expected: Mapping[str, str], raise_on_failure: bool
) -> list[CheckReport]:
    reports = [run_check(label, name, check, subject, expected) for name, check in checks.items()]
    reports += unknown_expectations(label, expected, checks)
    failures = [report for report in reports if not report.good]
    if failures and raise_on_failure:
        lines = "".join(f"\n  {report.check}: {report.message}" for report in failures)
        raise ConformanceError(f"{label} fails {len(failures)} of {len(reports)} checks:{lines}")
    return reports
