"""Commands that only look: ``list`` what there is, ``show`` one thing whole."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from rich.console import Console
from rich.text import Text

from bench import registry, report, runner
from bench.cli.application import Plugins, app, load_plugins, make_console, plain_table
from bench.columns import FAILURES
from bench.errors import InputError, UnknownName
from bench.suites import load_suite, suite_names
from bench.types import Capabilities, Meta


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
        table = plain_table("name", "what it is", title="datasets")
        for name, entry in registry.datasets().items():
            table.add_row(name, entry.meta.summary)
        console.print(table, "")
    if what in ("all", "suites"):
        table = plain_table("name", "what it runs", title="suites")
        for name in suite_names():
            table.add_row(name, load_suite(name).description)
        console.print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A method, dataset or suite; a run directory; or the hash of a cell.")],
    failed: Annotated[bool, typer.Option("--failed", help="Of a run: failed cells with their reasons.")] = False,
    output: Annotated[Path | None, typer.Option(help="Run directory to look the cell up in.")] = None,
    plugin: Plugins = None,
) -> None:
    """Show one thing whole: parameters and reference of a plugin, a suite file, the cells of a run, or a cell's record."""
    load_plugins(plugin or [])
    console = make_console()
    plugins = [e for e in (registry.methods().get(name), registry.datasets().get(name)) if e is not None]
    if plugins:
        for entry in plugins:
            _print_plugin(console, entry)
    elif name in suite_names() or Path(name).suffix in (".yaml", ".yml"):
        text = yaml.safe_dump(load_suite(name).model_dump(mode="json"), sort_keys=False)
        console.print(text)
    elif (Path(name) / "rows.parquet").is_file():
        _print_run(console, Path(name), failed)
    else:
        _print_cell(console, name, output)


def _print_plugin(console: Console, entry: registry.Entry) -> None:
    console.print(f"{entry.kind} {entry.name}: {entry.meta.summary}", soft_wrap=True)
    for label, value in _described(entry):
        console.print(f"  {label}: {value}", soft_wrap=True)
    table = plain_table("parameter", "default", "type")
    annotations = inspect.signature(entry.factory).parameters
    for name, default in entry.defaults.items():
        shown = "required" if default is inspect.Parameter.empty else repr(default)
        table.add_row(name, shown, _type_words(annotations[name].annotation))
    console.print(table if entry.defaults else "  no parameters")
    console.print("", inspect.getdoc(entry.factory) or "", sep="\n", soft_wrap=True)


def _described(entry: registry.Entry) -> Iterator[tuple[str, Any]]:
    """All that a plugin says of itself but its summary and parameters, as pairs of a label and a text."""
    meta, capabilities = entry.meta, entry.capabilities
    said = {
        "reference": meta.reference,
        "licence": meta.licence,
        "wraps": meta.wraps,
        "source": entry.source,
        "mechanisms": meta.mechanisms,
        "noise": meta.noise,
        "interventions": _kinds(meta),
        "complexity": meta.complexity,
        "recommended number of variables": _variables(meta),
    }
    yield from ((label, value) for label, value in said.items() if value)
    if capabilities is not None:
        yield "capabilities", ", ".join(f"{k}={getattr(capabilities, k)}" for k in capabilities.__slots__)


def essentials(entry: registry.Entry) -> str:
    """What tells methods apart, in one line: the model, what it needs or may be told, what it answers, numbers of variables."""
    meta, able = entry.meta, entry.capabilities or Capabilities()
    needs = [
        *(f"{what} {_TOLD[need]}" for what, need in (("targets", able.targets), ("graph", able.graph)) if need != "ignored"),
        *(["needs observational data"] if able.needs_observational else []),
        *([f"needs {able.min_environments} environments"] if able.min_environments > 1 else []),
        *(["needs more samples than variables"] if able.needs_more_samples_than_variables else []),
        *([f"needs {able.extra}"] if able.extra else []),
    ]
    targets = f"targets ({able.target_output})"
    answers = {targets: able.estimates_targets, "few-shot": able.adapts, "density": able.density}
    parts = [
        f"{meta.mechanisms} mechanisms" if meta.mechanisms else "",
        f"{meta.noise} noise" if meta.noise else "",
        f"interventions: {_kinds(meta)}" if meta.interventions else _kinds(meta),
        *needs,
        f"edges ({able.edge_output})" + "".join(f", {what}" for what, given in answers.items() if given),
        f"d {_variables(meta)}" if meta.n_variables else "",
    ]
    return " · ".join(part for part in parts if part)


_TOLD = {"required": "must be told", "optional": "may be told"}


def _kinds(meta: Meta) -> str:
    if meta.interventions is None:
        return ""
    return ", ".join(kind.replace("_", " ") for kind in meta.interventions) or "no interventions"


def _variables(meta: Meta) -> str:
    if meta.n_variables is None:
        return ""
    least, most = meta.n_variables
    return f"from {least}" if most is None else f"{least} to {most}"


def _type_words(annotation: Any) -> str:
    """An annotation as it stands in the source, whether or not its module postpones the evaluation of annotations."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:typing|annotated_types)\.", "", re.sub(r"\b(Ge|Gt|Le|Lt)\(\w+=", r"\1(", text))


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
