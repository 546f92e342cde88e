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
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from bench import registry
from bench.errors import BenchError, UnknownName
from bench.testing.dataset_checks import checks_for_dataset
from bench.testing.method_checks import checks_for_method
from bench.testing.report import CheckFailed, CheckReport, run_check, unknown_expectations
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
    "registered_by",
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


def registered_by(plugin: str | Path) -> list[str]:
    """Names of the methods and datasets that a plugin file registers; loads it."""
    registry.load_plugin(plugin)
    source = Path(plugin).resolve()
    entries = [*registry.methods().values(), *registry.datasets().values()]
    return [entry.name for entry in entries if entry.source == source]


def run_checks(specs: Iterable[str], *, console: Console | None = None) -> int:
    """Check plugins by name, printing one line per check.

    Parameters
    ----------
    specs : iterable of str
        ``name`` or ``name[param=value]``, of methods and datasets; a name that both have is checked as both.
    console : rich.console.Console, optional
        Where to print; standard output by default.

    Returns
    -------
    int
        Exit status: 0 if every check is good, else 1.

    Raises
    ------
    UnknownName
        If nothing is registered under a name; before any check runs.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    subjects = [subject for spec in specs for subject in _subjects(spec)]
    failures = n_checks = 0
    for kind, spec in subjects:
        console.print(f"[bold]{kind} {escape(spec)}[/bold]")
        check = check_method if kind == "method" else check_dataset
        for report in check(spec, raise_on_failure=False):
            n_checks += 1
            failures += not report.good
            console.print(_line(report))
    console.print(
        f"{n_checks - failures} of {n_checks} checks hold"
        + (f", {failures} {'does' if failures == 1 else 'do'} not" if failures else "")
    )
    return 1 if failures else 0


_STYLES = {"passed": "green", "failed": "bold red", "expected failure": "yellow", "unexpected pass": "bold red"}


def _line(report: CheckReport) -> str:
    style = _STYLES[report.outcome]
    message = f": {escape(report.message)}" if report.message else ""
    return f"  [{style}]{report.outcome:<16}[/{style}] {report.check} ({report.seconds:.1f} s){message}"


def _subjects(spec: str) -> list[tuple[str, str]]:
    name, _ = registry.parse_spec(spec)
    known = {"method": registry.methods(), "dataset": registry.datasets()}
    found = [(kind, spec) for kind, entries in known.items() if name in entries]
    if not found:
        raise UnknownName("method or dataset", name, {**known["method"], **known["dataset"]})
    return found


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
