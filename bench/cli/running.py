"""Commands that fit methods (``run`` a suite, the ``leaderboard``, ``tune`` a method) and ``report`` on what a run left."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import report, runner, store, tuning
from bench.cli.application import (
    Datasets,
    Methods,
    Plugins,
    Run,
    app,
    available_cores,
    found_run,
    load_plugins,
    make_console,
    name_of_program,
    plain_table,
    relative_path,
    resumable,
    run_specification,
)
from bench.columns import FAILURES
from bench.plan import pending
from bench.progress import watching
from bench.statistics import check_metric
from bench.suites import Suite, resolved_text
from bench.texts import counted


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="Name of a built-in suite, or a suite file.")],
    method: Methods = None,
    dataset: Datasets = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Worker processes; all cores by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Root of every seed.")] = None,
    repetitions: Annotated[int | None, typer.Option(min=1, help="Draws per dataset that does not say its own.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds allowed per fit, adaptation or refit.")] = None,
    memory: Annotated[float | None, typer.Option(help="MiB allowed to a fit's process tree.")] = None,
    output: Annotated[Path | None, typer.Option(help="Run directory; results/runs/<suite> by default.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells and what would be computed; fit nothing.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed cells again.")] = False,
    plugin: Plugins = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler to run on.")] = None,
    sort_by: Annotated[str | None, typer.Option(help="Metric that orders the tables.")] = None,
) -> None:
    """Run a suite, print its tables, and write tables, plots and data. What is stored already is not computed again."""
    console = make_console()
    specification = run_specification(suite, plugin or [], method or [], dataset or [])
    specification = specification.changed(seed=seed, repetitions=repetitions, timeout=timeout, memory=memory)
    if sort_by is not None:
        check_metric(sort_by)
    directory = (output or runner.DEFAULT_OUTPUT / specification.name).resolve()
    workers = jobs or available_cores()
    if dry_run:
        _print_cells(console, specification, directory, retry_failed, workers)
        return
    _run(console, specification, directory, workers, retry_failed=retry_failed, scheduler=scheduler, sort_by=sort_by)


@app.command()
def leaderboard(
    small: Annotated[
        bool, typer.Option("--small", help="The first draw of each dataset alone: suite leaderboard_small.")
    ] = False,
    method: Methods = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Worker processes; all cores by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="Run directory; results/runs/<suite> by default.")] = None,
    publish: Annotated[
        Path | None, typer.Option(help="Folder that gets tables, plots, page, rows and the resolved suite, to be committed.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed cells again.")] = False,
    plugin: Plugins = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler to run on.")] = None,
) -> None:
    """Run the board: all methods, and those of plugins, on every family of problems, in a night; goes on where it stopped."""
    console = make_console()
    specification = run_specification("leaderboard_small" if small else "leaderboard", plugin or [], method or [], [])
    directory = (output or runner.DEFAULT_OUTPUT / specification.name).resolve()
    files = _run(console, specification, directory, jobs or available_cores(), retry_failed=retry_failed, scheduler=scheduler)
    if publish is not None:
        written = report.publish(directory, publish.resolve(), files, resolved_text(specification))
        console.print(f"{counted(len(written), 'file')} to be committed: {relative_path(publish.resolve())}", soft_wrap=True)


def _run(
    console: Console,
    suite: Suite,
    directory: Path,
    jobs: int,
    *,
    retry_failed: bool,
    scheduler: str | None,
    sort_by: str | None = None,
) -> list[Path]:
    """Run, print and write the report, and say what failed; the files of the report."""
    with resumable(directory):
        with watching(directory, console) as watch:
            rows = runner.run(suite, output=directory, jobs=jobs, retry_failed=retry_failed, scheduler=scheduler, watch=watch)
        files = report.write_report(directory, sort_by=sort_by, console=console)
    failed = int(rows["status"].isin(FAILURES).sum())
    if failed:
        console.print(
            f"{failed} of {counted(len(rows), 'row')} failed; see them with: {name_of_program()} show --failed "
            f"{relative_path(directory)}",
            soft_wrap=True,
        )
    return files


@app.command("report")
def report_(
    run_directory: Run,
    output: Annotated[Path | None, typer.Option(help="Where tables and plots go; the run directory by default.")] = None,
    sort_by: Annotated[str | None, typer.Option(help="Metric that orders the tables.")] = None,
    per_dataset: Annotated[bool, typer.Option("--per-dataset", help="Print the table of each dataset as well.")] = False,
) -> None:
    """Print the tables of a finished run again, and write its tables and plots."""
    report.write_report(
        found_run(run_directory), output=output, sort_by=sort_by, per_dataset=per_dataset, console=make_console()
    )


@app.command()
def tune(
    method: Annotated[str, typer.Argument(help="Name of a method that declares a search_space.")],
    trials: Annotated[int, typer.Option(min=2, help="Configurations in the screening, the defaults included.")] = 24,
    finalists: Annotated[int, typer.Option(min=1, help="How many of them, besides the defaults, meet fresh draws.")] = 4,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Worker processes; all cores by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="Run directory; results/runs/tuning_<method> by default.")] = None,
    plugin: Plugins = None,
) -> None:
    """Search a method's hyperparameters at random on the suite `tuning`, and say which should be its defaults."""
    load_plugins(plugin or [])
    console = make_console()
    tuning.search_space(method)
    directory = (output or runner.DEFAULT_OUTPUT / f"{tuning.SUITE}_{method}").resolve()
    workers = jobs or available_cores()
    with resumable(directory), watching(directory, console) as watch:
        found = tuning.tune(method, trials=trials, finalists=finalists, output=directory, jobs=workers, watch=watch)
    _print_tuning(console, found)
    console.print(f"written to {relative_path(found.save().resolve())}", soft_wrap=True)


def _print_cells(console: Console, suite: Suite, directory: Path, retry_failed: bool, jobs: int) -> None:
    planned = runner.plan(suite, output=directory, jobs=jobs)
    waiting = {c.cell for c in pending(directory, planned, retry_failed)}
    table = plain_table("track", "dataset", "rep", "method", "what happens")
    for cell in planned:
        status = store.cell_status(directory, cell.cell) if cell.cell else None
        what = f"skipped: {cell.skipped}" if cell.skipped else ("run" if cell.cell in waiting else f"stored: {status}")
        table.add_row(cell.track, cell.problem.dataset.label, str(cell.problem.repetition), cell.method.label, what)
    console.print(table)
    console.print(
        f"{counted(len(planned), 'row')}, {counted(len(waiting), 'cell')} to compute in {relative_path(directory)}",
        soft_wrap=True,
    )


def _print_tuning(console: Console, found: tuning.Tuning) -> None:
    title = f"{found.method}: mean loss in [0, 1] over {found.n_screening} problems, then over {found.n_final} fresh ones"
    table = plain_table("screening", "final", "Δ to defaults", "fit (s)", "failed", title=title)
    table.add_column("parameters", overflow="fold")
    for trial in found.trials:
        mean, low, high = trial.difference
        table.add_row(
            f"{trial.screening_loss:.3f}",
            "" if math.isnan(trial.final_loss) else f"{trial.final_loss:.3f}",
            "" if math.isnan(low) else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]",
            f"{trial.fit_seconds:.3g}",
            str(trial.failed),
            ", ".join(f"{k}={v}" for k, v in trial.parameters.items()) or "(defaults)",
        )
    console.print(table)
    changed = {k: v for k, v in found.chosen.items() if v != found.defaults[k]}
    verdict = ", ".join(f"{k}={v}" for k, v in changed.items())
    console.print(
        f"new defaults: {verdict}" if changed else "the defaults stay: nothing beat them by more than luck", soft_wrap=True
    )
