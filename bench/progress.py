"""What one sees while a suite runs: done, failed, running, time left; plain lines where the output is no terminal."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from bench.compute import running_cells
from bench.runner import Progress, Watcher

PHASES = {"problems": "drawing problems", "cells": "running", "scores": "scoring"}
SECONDS_BETWEEN_LINES = 5.0


def duration(seconds: float) -> str:
    """Short text for a time span.

    Examples
    --------
    >>> duration(75), duration(3.2), duration(float("nan"))
    ('1 min 15 s', '3 s', '?')
    """
    if math.isnan(seconds):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


@contextlib.contextmanager
def watching(run: Path, console: Console) -> Iterator[Watcher]:
    """Yield a watcher for :func:`bench.runner.run` that draws on ``console``."""
    if console.is_terminal:
        with Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Note(run), console=console) as bar:
            yield _Drawn(bar)
    else:
        yield _Plain(console, run)


class _Drawn:
    """A live bar for each phase; failures are printed above it, where they stay."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.phase not in self.tasks:
            self.tasks[progress.phase] = self.bar.add_task(PHASES[progress.phase], total=progress.total)
        task = self.tasks[progress.phase]
        note = ""
        if progress.phase == "cells":
            note = f"{progress.failed} failed" + (
                f", {duration(progress.seconds_left)} left" if not math.isnan(progress.seconds_left) else ""
            )
        self.bar.update(task, completed=progress.done, total=progress.total, note=note)
        if progress.trouble:
            self.bar.console.print(progress.last, style="yellow", markup=False, highlight=False)


class _Note(ProgressColumn):
    """Failures and time left, then what runs now."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = run

    def render(self, task: Task) -> Text:
        note = str(task.fields.get("note", ""))
        if task.description != PHASES["cells"] or task.finished:
            return Text(note)
        running = running_cells(self.run)
        shown = "; ".join(_running_text(cell) for cell in running[:2]) + (f"; +{len(running) - 2}" if len(running) > 2 else "")
        return Text(f"{note} · {len(running)} running: {shown}" if running else note, overflow="ellipsis", no_wrap=True)


def _running_text(cell: dict[str, object]) -> str:
    fraction = float(str(cell.get("fraction", math.nan)))
    told = "" if math.isnan(fraction) else f" {100 * fraction:.0f}%"
    return f"{cell['label']}{told}"


class _Plain:
    """A line when a phase ends, for every failure, and every few seconds between."""

    def __init__(self, console: Console, run: Path) -> None:
        self.console, self.run, self.written = console, run, time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        last = progress.done == progress.total
        if not (last or progress.trouble or now - self.written >= SECONDS_BETWEEN_LINES):
            return
        self.written = now
        line = f"{PHASES[progress.phase]}: {progress.done}/{progress.total}"
        if progress.phase == "cells":
            line += f", {progress.failed} failed"
            if not last:
                line += f", {len(running_cells(self.run))} running, {duration(progress.seconds_left)} left"
            if progress.trouble:
                line += f" ({progress.last})"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
