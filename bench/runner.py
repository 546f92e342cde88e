"""From a suite to a scored frame: plan, fit what is missing, score what is stored.

Three passes over one run directory, each parallel and each safe to repeat:

1. *problems*: draw every problem once and store it; a wrong dataset parameter stops the run here, before any fit;
2. *cells*: fit, adapt and evaluate whatever has no stored cell yet, each in an isolated child that can be killed;
3. *scores*: read problems and cells back and write one row per cell.

The rows come from disk alone, so a run that was killed and resumed, or split over machines and merged, gives the same table as
an undisturbed one. Truth stays in this process and its joblib workers; method code runs in their children and never sees it.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import registry, store
from bench.about import ABOUT_FILE, about
from bench.columns import FAILURES
from bench.compute import close_worker, run_cell
from bench.errors import InputError
from bench.files import write_atomic
from bench.parallel import Map, workers
from bench.plan import PlannedCell, PlannedProblem, list_cells, pending, plan_problem
from bench.scoring import as_frame, score_problem
from bench.suites import Suite, load_suite, save_suite

DEFAULT_OUTPUT = Path("results") / "runs"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the run tells whoever watches, after each cell (``phase`` "problems", "cells" or "scores")."""

    phase: str
    done: int
    total: int
    failed: int = 0
    seconds_left: float = math.nan
    last: str = ""
    trouble: bool = False


Watcher = Callable[[Progress], None]


def run(
    suite: Suite | str | Path,
    *,
    output: str | Path | None = None,
    jobs: int = 1,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    retry_failed: bool = False,
    scheduler: str | None = None,
    reuse: Sequence[Path] = (),
    watch: Watcher | None = None,
) -> pd.DataFrame:
    """Run a suite and return its rows; what is stored already is not computed again.

    Parameters
    ----------
    suite : Suite, name or path
    output : path, optional
        Run directory; ``results/runs/<suite name>`` by default.
    jobs : int
        Worker processes, each with one isolated child. The rows do not depend on it.
    methods, datasets : sequence of str
        Filters ``name[param=value]``, see :meth:`bench.suites.Suite.selected`.
    retry_failed : bool
        Compute stored cells again that did not end ok.
    scheduler : str, optional
        Address of a Dask scheduler whose workers see ``output``; ``jobs`` is then ignored.
    reuse : sequence of path
        Other run directories whose cells are taken over instead of computed, where they ended ok.
    watch : callable, optional
        Told of each finished step as a :class:`Progress`.

    Returns
    -------
    pandas.DataFrame
        A row per track, problem and method; columns in ``bench.columns``. Also written to ``rows.parquet``.

    Raises
    ------
    InputError
        Before any fit, if the suite or a dataset parameter is wrong.
    """
    if jobs < 1:
        raise InputError(f"jobs must be at least 1, got {jobs}")
    for plugin in registry.loaded_plugins():
        registry.load_plugin(plugin)  # as it is now: its children read it now, and a notebook runs it again and again
    specification = suite if isinstance(suite, Suite) else load_suite(suite)
    specification = specification.selected(methods, datasets)
    directory = Path(output) if output is not None else DEFAULT_OUTPUT / specification.name
    directory = directory.resolve()
    with workers(jobs, scheduler) as each:
        planned = _plan(directory, specification, each, watch)
        _clean(directory)
        save_suite(directory, specification)
        write_atomic(directory / ABOUT_FILE, about(specification))
        _take_over(directory, planned, reuse)
        _compute(directory, specification, planned, retry_failed, each, jobs, watch)
        return score(directory, specification, planned, each, watch)


def plan(suite: Suite, *, output: Path, jobs: int = 1, scheduler: str | None = None) -> list[PlannedCell]:
    """Draw the problems and list every row of the run, without fitting anything."""
    with workers(jobs, scheduler) as each:
        return _plan(output.resolve(), suite, each, None)


def _plan(directory: Path, suite: Suite, each: Map, watch: Watcher | None) -> list[PlannedCell]:
    tasks = [
        (directory, suite.seed, suite.preprocessing_of(dataset), dataset, repetition)
        for dataset in suite.datasets
        for repetition in range(dataset.repetitions or suite.repetitions)
    ]
    problems: dict[tuple[str, int], PlannedProblem] = {}
    for done in each(plan_problem, tasks):
        problems[done.dataset.label, done.repetition] = done
        _tell(watch, Progress("problems", len(problems), len(tasks), last=done.dataset.label))
    ordered = [problems[dataset.label, repetition] for _, _, _, dataset, repetition in tasks]
    return list_cells(suite, ordered)


def _take_over(directory: Path, planned: Sequence[PlannedCell], reuse: Sequence[Path]) -> None:
    others = [run for run in reuse if run.resolve() != directory]
    for cell in pending(directory, planned) if others else ():
        source = next((run for run in others if store.cell_status(run, cell.cell) == "ok"), None)
        if source is not None:
            store.copy_cell(source, directory, cell.cell)


def _compute(
    directory: Path,
    suite: Suite,
    planned: Sequence[PlannedCell],
    retry_failed: bool,
    each: Map,
    jobs: int,
    watch: Watcher | None,
) -> None:
    waiting = pending(directory, planned, retry_failed)
    total = len({p.cell for p in planned if p.cell})
    done, failed, left = total - len(waiting), 0, _TimeLeft(waiting, jobs)
    _tell(watch, Progress("cells", done, total))
    tasks = [(directory, suite, cell) for cell in waiting]
    try:
        for cell, status, seconds in each(_computed, tasks):
            trouble = status in FAILURES
            done, failed = done + 1, failed + trouble
            left.finished(cell, seconds)
            last = f"{cell.label}: {status} in {seconds:.1f} s"
            _tell(watch, Progress("cells", done, total, failed, left.seconds(), last, trouble))
    finally:
        close_worker()  # the next run of this process starts with a method as it is then


def _computed(run: Path, suite: Suite, plan: PlannedCell) -> tuple[PlannedCell, str, float]:
    return (plan, *run_cell(run, suite, plan))


def score(
    directory: Path, suite: Suite, planned: Sequence[PlannedCell], each: Map, watch: Watcher | None = None
) -> pd.DataFrame:
    """Score what a run directory holds of these cells, write the frames and return the rows, in the order of the cells."""
    by_problem: dict[tuple[str, int], list[PlannedCell]] = {}
    for cell in planned:
        by_problem.setdefault((cell.problem.dataset.label, cell.problem.repetition), []).append(cell)
    tasks = [(directory, suite, cells) for cells in by_problem.values()]
    frames: dict[str, list[Any]] = {"rows": [], "edges": [], "targets": [], "reliability": []}
    for done, found in enumerate(each(score_problem, tasks), start=1):
        for name, rows in found.items():
            frames[name] += rows
        _tell(watch, Progress("scores", done, len(tasks)))
    order = {(c.track, c.problem.dataset.label, c.problem.repetition, c.method.label): i for i, c in enumerate(planned)}

    def position(row: dict[str, Any]) -> int:
        return order[row["track"], row["dataset"], row["repetition"], row["method"]]

    rows = as_frame(sorted(frames.pop("rows"), key=position))
    store.write_frame(directory / "rows.parquet", rows)
    for name, beside in frames.items():
        path = directory / f"{name}.parquet"
        if beside:
            ordered: list[dict[str, Any]] = sorted(beside, key=position)
            store.write_frame(path, pd.DataFrame(ordered))
        else:
            path.unlink(missing_ok=True)
    return rows


class _TimeLeft:
    """Seconds left, from the mean time per method so far (the mean over all where a method has none yet)."""

    def __init__(self, waiting: Sequence[PlannedCell], jobs: int) -> None:
        self.waiting = Counter(cell.method.label for cell in waiting)
        self.done: Counter[str] = Counter()
        self.taken: dict[str, float] = dict.fromkeys(self.waiting, 0.0)
        self.jobs = jobs

    def finished(self, cell: PlannedCell, seconds: float) -> None:
        self.waiting[cell.method.label] -= 1
        self.done[cell.method.label] += 1
        self.taken[cell.method.label] += seconds

    def seconds(self) -> float:
        overall = sum(self.taken.values()) / self.done.total()
        means = {label: self.taken[label] / n for label, n in self.done.items()}
        return sum(n * means.get(label, overall) for label, n in self.waiting.items()) / self.jobs


def _tell(watch: Watcher | None, progress: Progress) -> None:
    if watch is not None:
        watch(progress)


def _clean(directory: Path) -> None:
    """Remove what a killed run left half-written; an hour spares the files of a run that is alive beside this one."""
    shutil.rmtree(directory / "running", ignore_errors=True)
    for left in (*directory.glob("*/.*.tmp"), *directory.glob(".*.tmp")):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                shutil.rmtree(left) if left.is_dir() else os.unlink(left)
