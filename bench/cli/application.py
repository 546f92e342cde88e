"""What the commands share: the application, options that several take, and how they print, load and stop."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from bench import registry, runner
from bench.suites import Suite, load_suite
from bench.terminal import SafeConsole
from bench.texts import counted, visible


class _Alphabetical(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands)


app = typer.Typer(
    cls=_Alphabetical,
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


Run = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or the name of a suite that was run.")]


def make_console() -> Console:
    """Where everything is printed."""
    return SafeConsole()


def complain(text: str) -> None:
    """A line on stderr."""
    print(f"error: {visible(text)}", file=sys.stderr)


def plain_table(*headers: str, title: str | None = None) -> Table:
    return Table(*headers, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def name_of_program() -> str:
    return "cadibench" if Path(sys.argv[0]).name == "cadibench" else f"python {sys.argv[0]}"


def relative_path(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def found_run(name: str) -> Path:
    """A run directory, by its path or by the name of the suite that was run."""
    below = runner.DEFAULT_OUTPUT / name
    return below if below.is_dir() and not Path(name).is_dir() else Path(name)


def load_plugins(plugins: list[Path]) -> None:
    for path in plugins:
        registry.load_plugin(path)


def run_specification(suite: str, plugins: list[Path], methods: list[str], datasets: list[str]) -> Suite:
    """Read the suite, and keep what the filters name; where no method is named, those of the plugin files join it."""
    load_plugins(plugins)
    files = {p.resolve() for p in plugins}
    own = [name for name, entry in registry.methods().items() if entry.source in files]
    specification = load_suite(suite).with_methods([] if methods else own)
    if plugins:
        specification = specification.changed(plugins=(*specification.plugins, *sorted(files)))
    return specification.selected(methods, datasets)


@contextlib.contextmanager
def resumable(directory: Path) -> Iterator[None]:
    """On Ctrl-C or SIGTERM, say what is kept and how to go on."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        kept = len([p for p in directory.glob("cells/*/record.json") if not p.parent.name.startswith(".")])
        print(f"\nstopped; {counted(kept, 'finished cell')} kept in {relative_path(directory)}", file=sys.stderr)
        print(f"resume with: {name_of_program()} {shlex.join(sys.argv[1:])}", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, former)
