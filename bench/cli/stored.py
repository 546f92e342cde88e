"""Commands on stored runs: ``compare`` two, ``merge`` several, ``clean`` one; and ``sys-info``, what this machine is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from bench import cleaning, merging, provenance, report
from bench.between_runs import compare_runs
from bench.cli.application import (
    Plugins,
    Run,
    app,
    found_run,
    load_plugins,
    make_console,
    name_of_program,
    plain_table,
    relative_path,
)
from bench.columns import FAILURES
from bench.provenance import SOURCE
from bench.texts import counted

SHOWN = 20
"""Cells of another status that are listed; of more only the number is said."""


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="A run directory, or the name of a suite that was run.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="Another run of the same problems.")],
    metric: Annotated[list[str] | None, typer.Option(help="Compare in this metric; repeatable.")] = None,
) -> None:
    """Two runs of the same problems: paired differences of each method, cells that ended otherwise, versions that differ."""
    console = make_console()
    a, b = found_run(run_a), found_run(run_b)
    rows_a, rows_b = report.read_rows(a), report.read_rows(b)
    causes = _causes(a, b, rows_a, rows_b)
    found = compare_runs(rows_a, rows_b, metrics=metric or (), causes=causes)
    console.print(f"A: {relative_path(a.resolve())}", f"B: {relative_path(b.resolve())}", "", sep="\n", soft_wrap=True)
    report.print_boards(list(found.boards), console)
    _print_changed(console, found.changed)
    for line in (*found.notes, *(f"Differs, A → B: {cause}." for cause in causes)):
        console.print(line, soft_wrap=True)


def _causes(a: Path, b: Path, rows_a: pd.DataFrame, rows_b: pd.DataFrame) -> list[str]:
    """What could be behind a difference: keys of the suites, versions, edited methods."""
    keys = [f"suite key {key} {values}".rstrip() for key, values in provenance.suite_differences(a, b).items()]
    found = provenance.differing(provenance.made_with(a, rows_a), provenance.made_with(b, rows_b))
    return keys + [what if what.startswith(SOURCE) else f"{what} {values}" for what, values in found.items()]


def _print_changed(console: Console, changed: pd.DataFrame) -> None:
    if changed.empty:
        console.print("Every cell ended alike in both runs.")
        return
    lost, gained = ((changed[one] == "ok") & changed[other].isin(FAILURES) for one, other in _BOTH_WAYS)
    title = f"{counted(len(changed), 'cell')} ended otherwise: {lost.sum()} fail in B alone, {gained.sum()} in A alone"
    table = plain_table("track", "dataset", "rep", "method", "A", "B", "reason", title=title)
    for row in changed.head(SHOWN).to_dict("records"):
        table.add_row(*map(str, row.values()))
    console.print(table)
    if len(changed) > SHOWN:
        console.print(f"and {len(changed) - SHOWN} more")


_BOTH_WAYS = (("status_a", "status_b"), ("status_b", "status_a"))


@app.command()
def merge(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run directories of one suite, or parts of it.")],
    output: Annotated[Path, typer.Option(help="The new run directory.")],
    plugin: Plugins = None,
) -> None:
    """Bring runs of one suite together: other methods, datasets and repetitions of it, from one machine or many."""
    load_plugins(plugin or [])
    console = make_console()
    found = merging.merge([found_run(run) for run in runs], output.resolve(), plugins=plugin or [])
    for note in found.notes:
        console.print(note, soft_wrap=True)
    where = relative_path(output.resolve())
    console.print(f"{counted(len(found.rows), 'row')} of {counted(len(runs), 'run')} merged into {where}", soft_wrap=True)
    if found.missing:
        resume = f"{name_of_program()} run {where}/suite.yaml --output {where}"
        console.print(f"none of them has {counted(found.missing, 'row')} of the suite; compute with: {resume}", soft_wrap=True)
    console.print(f"tables and plots: {name_of_program()} report {where}", soft_wrap=True)


@app.command()
def clean(
    run: Run,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them.")] = False,
) -> None:
    """List, and with --yes remove, what a run stores and its table no longer uses: hashes of former code or suites."""
    console = make_console()
    directory = found_run(run)
    found = cleaning.unused(directory)
    if not found:
        console.print(f"nothing to remove: the table of {relative_path(directory.resolve())} uses all that is stored")
        return
    table = plain_table("what", "how many", "MiB")
    groups: dict[str, list[cleaning.Unused]] = {}
    for item in found:
        groups.setdefault(f"{item.kind}s of {item.of}" if item.of else f"{item.kind}s", []).append(item)
    for what, items in sorted(groups.items()):
        table.add_row(what, str(len(items)), _mebibytes(items))
    console.print(table)
    if yes:
        cleaning.remove(found)
    does = "removed, which frees" if yes else "the table does not use them; --yes removes them and frees"
    console.print(f"{does} {_mebibytes(found)} MiB", soft_wrap=True)


def _mebibytes(items: list[cleaning.Unused]) -> str:
    return f"{sum(item.size for item in items) / 2**20:.2f}"


@app.command("sys-info")
def sys_info() -> None:
    """Versions, processor, memory, threads, data directory, GPU and compiled cache: what a report of a fault needs."""
    table = plain_table("what", "value")
    for what, value in provenance.system().items():
        table.add_row(what, value)
    make_console().print(table)
