"""Commands that only look: ``list`` what there is, ``show`` one thing whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml
from rich.console import Console
from rich.text import Text

from bench import registry, report, runner
from bench.cards import essentials
from bench.cli.application import Plugins, app, load_plugins, make_console, plain_table
from bench.cli.describing import plugins_named, show_plugin
from bench.columns import FAILURES
from bench.errors import InputError, UnknownName
from bench.suites import load_suite, suite_names


@app.command("list")
def list_(
    what: Annotated[Literal["all", "methods", "datasets", "suites"], typer.Argument()] = "all",
    plugin: Plugins = None,
) -> None:
    """List methods, datasets and suites, a line each."""
    load_plugins(plugin or [])
    console = make_console()
    if what in ("all", "methods"):
        table = plain_table("name", "what it is, what it assumes and answers", title="methods")
        for name, entry in registry.methods().items():
            table.add_row(name, Text(entry.meta.summary) + Text(f"\n{essentials(entry)}", style="dim"))
        console.print(table, "")
    if what in ("all", "datasets"):
        table = plain_table("name", "what it is, where it comes from and what is known of its truth", title="datasets")
        for name, entry in registry.datasets().items():
            table.add_row(name, Text(entry.meta.summary) + Text(f"\n{essentials(entry)}", style="dim"))
        console.print(table, "")
    if what in ("all", "suites"):
        table = plain_table("name", "what it runs", title="suites")
        for name in suite_names():
            table.add_row(name, load_suite(name).description)
        console.print(table)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A method or dataset, name[param=value]; a suite; a run directory; or the hash of a cell.")
    ],
    failed: Annotated[bool, typer.Option("--failed", help="Of a run: failed cells with their reasons.")] = False,
    seed: Annotated[int, typer.Option(help="Of a dataset: root of the seeds of the problem that is drawn.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Of a dataset: where its plots go; of a cell: the run directory to look it up in.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Show one thing whole: a plugin, of a dataset a problem as well, drawn and measured; a suite; a run's cells; one cell."""
    load_plugins(plugin or [])
    console = make_console()
    plugins = plugins_named(name)
    if plugins:
        for choice in plugins:
            show_plugin(console, choice, seed=seed, output=output)
    elif name in suite_names() or Path(name).suffix in (".yaml", ".yml"):
        text = yaml.safe_dump(load_suite(name).model_dump(mode="json"), sort_keys=False)
        console.print(text)
    elif (Path(name) / "rows.parquet").is_file():
        _print_run(console, Path(name), failed)
    else:
        _print_cell(console, name, output)


def _print_run(console: Console, directory: Path, failed: bool) -> None:
    rows = report.read_rows(directory)
    rows = rows[rows["status"].isin(FAILURES)] if failed else rows
    table = plain_table("track", "dataset", "rep", "method", "status", "reason", "cell")
    for row in rows.to_dict("records"):
        shown = [str(row[k]) for k in ("track", "dataset", "repetition", "method", "status", "reason")]
        table.add_row(*shown, str(row["cell"])[:10])
    console.print(table)


def _print_cell(console: Console, prefix: str, output: Path | None) -> None:
    runs = [output] if output else sorted(p for p in runner.DEFAULT_OUTPUT.glob("*") if p.is_dir())
    found = [cell for run in runs for cell in sorted((run / "cells").glob(f"{prefix}*")) if (cell / "record.json").is_file()]
    if not found and output is None and re.fullmatch("[0-9a-f]{6,24}", prefix):
        raise InputError(f"no cell '{prefix}' in a run below {runner.DEFAULT_OUTPUT}; name another run directory with --output")
    if not prefix.isalnum() or not found:
        known = {**registry.methods(), **registry.datasets(), **suite_names()}
        raise UnknownName("method, dataset, suite, run directory or cell", prefix, known)
    record = json.loads((found[0] / "record.json").read_text())
    for key, value in record.items():
        text = value if isinstance(value, str) else json.dumps(value)
        console.print(f"{key}:\n{text}" if "\n" in text else f"{key}: {text}", soft_wrap=True)
