"""The command line: run a suite, list and show what there is, report on a run, test a plugin, tune a method.

A user's mistake ends in one line on stderr and exit status 2; Ctrl-C says how to resume and ends in 130.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import json
import math
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import registry, report, runner, store, testing, tuning
from bench.columns import FAILURES
from bench.errors import BenchError, InputError, UnknownName
from bench.plan import pending
from bench.progress import watching
from bench.statistics import check_metric
from bench.suites import Suite, load_suite, suite_names
from bench.types import Capabilities, Meta

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Benchmark causal discovery from several environments with unknown intervention targets.",
)

Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file with further methods or datasets; repeatable.")
]
Methods = Annotated[list[str] | None, typer.Option("--method", "-m", help="Only these: name[param=value]; repeatable.")]
Datasets = Annotated[list[str] | None, typer.Option("--dataset", "-d", help="Only these: name[param=value]; repeatable.")]


_DISK_SAYS_NO = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTDIR)


def main() -> None:
    """Run the command line; a mistake of the user costs one line."""
    try:
        app()
    except BenchError as reason:
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(2)
    except OSError as reason:
        if reason.errno not in _DISK_SAYS_NO:
            raise
        where = f": '{reason.filename}'" if reason.filename else ""
        print(f"error: {reason.strerror}{where}", file=sys.stderr)
        sys.exit(2)


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
    console = _console()
    specification = _specification(suite, plugin or [], method or [], dataset or [])
    specification = specification.changed(seed=seed, repetitions=repetitions, timeout=timeout, memory=memory)
    if sort_by is not None:
        check_metric(sort_by)
    directory = (output or runner.DEFAULT_OUTPUT / specification.name).resolve()
    workers = jobs or _cores()
    if dry_run:
        _print_cells(console, specification, directory, retry_failed, workers)
        return
    with _resumable(directory):
        with watching(directory, console) as watch:
            rows = runner.run(
                specification, output=directory, jobs=workers, retry_failed=retry_failed, scheduler=scheduler, watch=watch
            )
        report.write_report(directory, sort_by=sort_by, console=console)
    failed = int(rows["status"].isin(FAILURES).sum())
    if failed:
        console.print(
            f"{failed} of {len(rows)} rows failed; see them with: {_program()} show --failed {_relative(directory)}",
            soft_wrap=True,
        )


@app.command("list")
def list_(
    what: Annotated[Literal["all", "methods", "datasets", "suites"], typer.Argument()] = "all",
    plugin: Plugins = None,
) -> None:
    """List methods, datasets and suites, a line each."""
    _load(plugin or [])
    console = _console()
    if what in ("all", "methods"):
        table = _table("name", "what it is, what it assumes and answers", title="methods")
        for name, entry in registry.methods().items():
            table.add_row(name, Text(entry.meta.summary) + Text(f"\n{essentials(entry)}", style="dim"))
        console.print(table, "")
    if what in ("all", "datasets"):
        table = _table("name", "what it is", title="datasets")
        for name, entry in registry.datasets().items():
            table.add_row(name, entry.meta.summary)
        console.print(table, "")
    if what in ("all", "suites"):
        table = _table("name", "what it runs", title="suites")
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
    _load(plugin or [])
    console = _console()
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


@app.command("report")
def report_(
    run_directory: Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or the name of a suite that was run.")],
    output: Annotated[Path | None, typer.Option(help="Where tables and plots go; the run directory by default.")] = None,
    sort_by: Annotated[str | None, typer.Option(help="Metric that orders the tables.")] = None,
    per_dataset: Annotated[bool, typer.Option("--per-dataset", help="Print the table of each dataset as well.")] = False,
) -> None:
    """Print the tables of a finished run again, and write its tables and plots."""
    directory = Path(run_directory)
    if not directory.is_dir() and (runner.DEFAULT_OUTPUT / run_directory).is_dir():
        directory = runner.DEFAULT_OUTPUT / run_directory
    report.write_report(directory, output=output, sort_by=sort_by, per_dataset=per_dataset, console=_console())


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
    _load(plugin or [])
    console = _console()
    tuning.search_space(method)
    directory = (output or runner.DEFAULT_OUTPUT / f"{tuning.SUITE}_{method}").resolve()
    with _resumable(directory), watching(directory, console) as watch:
        found = tuning.tune(method, trials=trials, finalists=finalists, output=directory, jobs=jobs or _cores(), watch=watch)
    _print_tuning(console, found)
    console.print(f"written to {_relative(found.save().resolve())}", soft_wrap=True)


@app.command("test-plugin")
def test_plugin(
    plugin: Annotated[str, typer.Argument(help="A Python file with plugins, or the name of a registered one.")],
) -> None:
    """Hold a plugin to its contract: shapes, seeds, purity, equivariance and the rest. Exit status 1 where a check fails."""
    if plugin.endswith(".py"):
        path = Path(plugin).resolve()
        registry.load_plugin(path)
        names = [e for e in (*registry.methods().values(), *registry.datasets().values()) if e.source == path]
        if not names:
            raise InputError(f"'{plugin}' registers no method and no dataset; decorate one with @register_method(\"name\")")
    else:
        known = {**registry.datasets(), **registry.methods()}
        if plugin not in known:
            raise UnknownName("plugin", plugin, known)
        names = [known[plugin]]
    if not testing.run_checks([(e.kind, e.name) for e in names], console=_console()):
        raise typer.Exit(1)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _console() -> Console:
    """Where everything is printed; brackets are those of ``name[param=value]`` and no markup."""
    return Console(markup=False, highlight=False)


def _table(*headers: str, title: str | None = None) -> Table:
    return Table(*headers, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _program() -> str:
    return "cadibench" if Path(sys.argv[0]).name == "cadibench" else f"python {sys.argv[0]}"


def _relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _load(plugins: list[Path]) -> None:
    for path in plugins:
        registry.load_plugin(path)


def _specification(suite: str, plugins: list[Path], methods: list[str], datasets: list[str]) -> Suite:
    """Read the suite, and keep what the filters name; where no method is named, those of the plugin files join it."""
    _load(plugins)
    files = {p.resolve() for p in plugins}
    own = [name for name, entry in registry.methods().items() if entry.source in files]
    specification = load_suite(suite).with_methods([] if methods else own)
    if plugins:
        specification = specification.changed(plugins=(*specification.plugins, *sorted(files)))
    return specification.selected(methods, datasets)


@contextlib.contextmanager
def _resumable(directory: Path) -> Iterator[None]:
    """On Ctrl-C or SIGTERM, say what is kept and how to go on."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        kept = len([p for p in directory.glob("cells/*/record.json") if not p.parent.name.startswith(".")])
        print(f"\nstopped; {kept} finished cells are kept in {_relative(directory)}", file=sys.stderr)
        print(f"resume with: {_program()} {shlex.join(sys.argv[1:])}", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, former)


def _print_cells(console: Console, suite: Suite, directory: Path, retry_failed: bool, jobs: int) -> None:
    planned = runner.plan(suite, output=directory, jobs=jobs)
    waiting = {c.cell for c in pending(directory, planned, retry_failed)}
    table = _table("track", "dataset", "rep", "method", "what happens")
    for cell in planned:
        status = store.cell_status(directory, cell.cell) if cell.cell else None
        what = f"skipped: {cell.skipped}" if cell.skipped else ("run" if cell.cell in waiting else f"stored: {status}")
        table.add_row(cell.track, cell.problem.dataset.label, str(cell.problem.repetition), cell.method.label, what)
    console.print(table)
    console.print(f"{len(planned)} rows, {len(waiting)} cells to compute in {_relative(directory)}", soft_wrap=True)


def _print_tuning(console: Console, found: tuning.Tuning) -> None:
    title = f"{found.method}: mean loss in [0, 1] over {found.n_screening} problems, then over {found.n_final} fresh ones"
    table = _table("screening", "final", "Δ to defaults", "fit (s)", "failed", title=title)
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


def _print_plugin(console: Console, entry: registry.Entry) -> None:
    console.print(f"{entry.kind} {entry.name}: {entry.meta.summary}", soft_wrap=True)
    for label, value in _described(entry):
        console.print(f"  {label}: {value}", soft_wrap=True)
    table = _table("parameter", "default", "type")
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
    table = _table("track", "dataset", "rep", "method", "status", "reason", "cell")
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
