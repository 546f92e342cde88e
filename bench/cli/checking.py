"""The command ``check``: a suite against its committed baseline.

Exit status 0: fine, 1: a regression, 2: wrong use, 3: the run itself failed.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from bench import provenance, regression, runner
from bench.cli.application import Plugins, app, available_cores, complain, make_console, resumable, run_specification
from bench.columns import FAILURES
from bench.errors import BenchError, InputError, UnknownName
from bench.files import write_atomic
from bench.progress import watching
from bench.regression.baseline import check_margins, default_margins
from bench.suites import Suite
from bench.texts import visible

RUN_FAILED = 3


@app.command()
def check(
    suite: Annotated[str, typer.Argument(help="Name of a built-in suite, or a suite file.")],
    baseline: Annotated[Path, typer.Option("--baseline", help="The committed baseline, JSON.")],
    update: Annotated[bool, typer.Option("--update", help="Write a new baseline instead, with its --reason.")] = False,
    reason: Annotated[str, typer.Option(help="Why the baseline changes; stands in the file.")] = "",
    margin: Annotated[
        list[str] | None, typer.Option(help="With --update: metric=value, how much worse its mean may be; repeatable.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="With --update: the method in whose time others are counted; the suite's base or first."),
    ] = None,
    reseeds: Annotated[
        int, typer.Option(min=0, help="With --update: runs under other seeds of the methods, to measure their scatter.")
    ] = 2,
    junit: Annotated[Path | None, typer.Option(help="Write the outcome as JUnit XML.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Print GitHub annotations as well.")] = False,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Worker processes; all cores by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="Keep the run here; a temporary folder by default.")] = None,
    plugin: Plugins = None,
) -> None:
    """Run a suite and compare it with a baseline of the same problems: status 1 where it is worse beyond margins and luck."""
    console = make_console()
    specification = run_specification(suite, plugin or [], [], [])
    workers = jobs or available_cores()
    if update:
        if not reason.strip():
            raise InputError('a new baseline needs its reason, got none; say --reason "why scores change"')
        former = regression.Baseline.read(baseline) if baseline.exists() else None
        chosen = {**(former.margins if former else {}), **_margins(margin or [])}
        compared_with = _reference(specification, former, reference)
        with _folder(output) as directory:
            runs = [_run(specification.changed(reseed=k), directory, workers, console) for k in range(reseeds + 1)]
        written = _write_baseline(baseline, runs, reason, chosen, compared_with)
        console.print(f"written to {written}", soft_wrap=True)
        return
    if margin or reference or reason:
        raise InputError("--margin, --reference and --reason go with --update; a check reads them from the baseline")
    against = regression.Baseline.read(baseline)
    regression.refuse_other_suite(specification.name, against)
    with _folder(output) as directory:
        rows = _run(specification, directory, workers, console)
    outcome = regression.check(rows, against)
    console.print(regression.board(outcome, against), "")
    console.print(*regression.lines(outcome), sep="\n", soft_wrap=True)
    if outcome.regressions:
        _say_versions(console, against)
    if github:
        print(*regression.github_annotations(outcome.findings), sep="\n")
    if junit is not None:
        write_atomic(junit, regression.junit(outcome))
    if outcome.regressions:
        raise typer.Exit(1)


@contextlib.contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    """Where the run goes. Cells of an earlier run would bring their times along, so a new folder is the default.

    Its name does not begin as those of the isolated children do, which are swept away.
    """
    if output is not None:
        yield output.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        yield Path(folder)


def _run(suite: Suite, directory: Path, jobs: int, console: Console) -> pd.DataFrame:
    """The rows of a run; what stops it is no verdict on any method and ends in a status of its own."""
    try:
        with resumable(directory), watching(directory, console) as watch:
            rows = runner.run(suite, output=directory, jobs=jobs, watch=watch)
    except InputError:
        raise
    except (BenchError, OSError) as reason:
        complain(f"the run failed: {reason}")
        raise typer.Exit(RUN_FAILED) from None
    except Exception:
        print(visible(traceback.format_exc()), end="", file=sys.stderr)
        raise typer.Exit(RUN_FAILED) from None
    if rows["status"].isin(["ok", *FAILURES]).any():
        return rows
    reasons = sorted(set(rows["reason"]))
    complain(f"the run failed: every cell was skipped, e.g. {reasons[0]}")
    raise typer.Exit(RUN_FAILED)


def _reference(suite: Suite, former: regression.Baseline | None, given: str | None) -> str:
    """The method named, that of the former baseline, or the suite's base or first."""
    name = given or (former.reference if former else "") or suite.base or suite.methods[0].label
    labels = [item.label for item in suite.methods]
    if name not in labels:
        raise UnknownName("reference method", name, labels)
    return name


def _write_baseline(path: Path, runs: list[pd.DataFrame], reason: str, margins: dict[str, float], reference: str) -> Path:
    """From a run and others under other seeds."""
    rows, *reseeded = runs
    made = regression.Baseline.of(
        rows,
        reason=reason,
        written=datetime.now(UTC).date().isoformat(),
        reference=reference,
        versions=provenance.versions_here(),
        margins={**default_margins(rows), **margins},
        reseeded=reseeded,
    )
    return made.write(path)


def _margins(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        metric, _, value = text.partition("=")
        try:
            found[metric] = float(value)
        except ValueError:
            raise InputError(f"--margin: expected metric=value, got '{text}'") from None
    check_margins(found)
    return found


def _say_versions(console: Console, against: regression.Baseline) -> None:
    """What else than the code could be the cause."""
    changed = [
        f"{k} {against.versions[k]} → {v}" for k, v in provenance.versions_here().items() if against.versions.get(k, v) != v
    ]
    if changed:
        console.print(f"other than in the baseline: {', '.join(changed)}", soft_wrap=True)
