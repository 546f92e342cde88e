"""One cell: fit, few-shot adaptation or refits, held-out density, each call in an isolated child; then store it.

Truth stays in this process: the child receives training and support samples only.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import registry, store
from bench.errors import InvalidEstimate
from bench.isolation import Outcome, Worker
from bench.plan import PlannedCell, soft_budget
from bench.preprocessing import Prepared, prepare
from bench.seeds import derive_seed
from bench.suites import Preprocessing, Suite
from bench.texts import counted
from bench.types import Environment, Estimate, Observed, Problem, Result, all_converged


@functools.lru_cache(maxsize=2)
def _problem(run: Path, key: str) -> Problem:
    return store.load_problem(run, key)


@functools.lru_cache(maxsize=2)
def _prepared(run: Path, key: str, settings: Preprocessing, seed: int) -> Prepared:
    return prepare(_problem(run, key), transform=settings.transform, scaling=settings.scaling, seed=seed)


GRACE_SECONDS = 3.0
"""How long a cell whose child was killed from outside waits before it is recorded as failed: whoever ends a whole run, be it
joblib, a scheduler or an operator, ends the child a moment before this process, and that is no failure of the method."""

_workers: dict[int, tuple[Worker, dict[Path, str]]] = {}
"""By thread: its isolated child, and the plugins which that knows. Dask workers may have several threads."""


def _own_worker() -> Worker:
    """The one isolated child of this thread, reused for many cells."""
    plugins = registry.loaded_plugins()
    thread = threading.get_ident()
    if thread in _workers and _workers[thread][1] != plugins:
        close_worker()
    if thread not in _workers:
        _workers[thread] = Worker(plugins=tuple(plugins)), plugins
    return _workers[thread][0]


def close_worker() -> None:
    """End this thread's isolated child, if there is one."""
    worker, _ = _workers.pop(threading.get_ident(), (None, {}))
    if worker is not None:
        worker.close()


@atexit.register
def _close_all() -> None:
    for worker, _ in _workers.values():
        worker.close()
    _workers.clear()


def run_cell(run: Path, suite: Suite, plan: PlannedCell) -> tuple[str, float]:
    """Compute one cell and store it; return its status and the seconds it took."""
    start = time.perf_counter()
    settings = suite.preprocessing_of(plan.problem.dataset)
    shuffle = derive_seed("shuffle", plan.problem.data_seed)
    prepared = _prepared(run, plan.problem.key, settings, shuffle)
    with _shown_as_running(run, plan) as show:
        steps = _Steps(_own_worker(), suite, plan, prepared.problem, show)
        try:
            result = steps.result()
            status, reason = "ok", ""
            restored = prepared.restore(result)
        except _Stopped as stopped:
            restored, status, reason = None, stopped.outcome.status, stopped.reason
        except InvalidEstimate as broken:
            restored, status, reason = None, "invalid", str(broken)
        finally:
            _own_worker().end_cell()
    if steps.last is not None and steps.last.from_outside:
        time.sleep(GRACE_SECONDS)
    record = {
        "status": status,
        "reason": reason,
        "traceback": steps.last.traceback if steps.last else "",
        "log": steps.log,
        "fit_seconds": steps.fit_seconds,
        "adapt_seconds": steps.adapt_seconds,
        "peak_rss_mb": steps.peak_rss_mb,
        "method": plan.method.name,
        "parameters": plan.method.parameters,
        "method_seed": plan.method_seed,
        "targets_given": plan.targets_given,
        "graph_given": plan.graph_given,
        "dataset": plan.problem.dataset.name,
        "dataset_parameters": plan.problem.dataset.parameters,
        "data_seed": plan.problem.data_seed,
        "repetition": plan.problem.repetition,
        "problem": plan.problem.key,
        "fingerprint": plan.problem.known["fingerprint"],
        "preprocessing": settings.model_dump(),
        "limits": {"timeout": suite.timeout, "memory": suite.memory, "budget": soft_budget(suite)},
        "identity": plan.identity,
    }
    store.save_cell(run, plan.cell, record, restored)
    return status, time.perf_counter() - start


class _Stopped(Exception):
    """A call of a cell did not end well."""

    def __init__(self, call: str, outcome: Outcome) -> None:
        super().__init__(call)
        self.outcome = outcome
        self.reason = outcome.reason if call == "fit" else f"{call}: {outcome.reason}"


class _Steps:
    """The calls of one cell: fit, then few-shot adaptation (or refits), then the held-out density."""

    def __init__(self, worker: Worker, suite: Suite, plan: PlannedCell, problem: Problem, show: Callable[..., None]) -> None:
        self.worker, self.suite, self.plan, self.problem, self.show = worker, suite, plan, problem, show
        self.last: Outcome | None = None
        self.log = ""
        self.fit_seconds = self.adapt_seconds = self.peak_rss_mb = math.nan
        self.cut_short = False
        self.converged: bool | None = None

    def result(self) -> Result:
        estimate = self._fit(self._training(), self.plan.method_seed, "fit")
        assert self.last is not None
        self.fit_seconds = self.last.seconds
        density = self._density() if self.plan.capabilities.density else None
        adapted = self._adapted(estimate)
        cost = self.fit_seconds, self.adapt_seconds, self.peak_rss_mb
        return Result(estimate, adapted, density, *cost, cut_short=self.cut_short, converged=self.converged)

    def _call(self, call: str, function: str, *arguments: Any) -> Any:
        outcome = self.worker.call(
            f"bench.cells:{function}",
            *arguments,
            timeout=self.suite.timeout,
            memory_mb=self.suite.memory,
            on_progress=self.show,
        )
        self.last = outcome
        self.log = (self.log + outcome.log)[-20_000:]
        self.peak_rss_mb = float(np.fmax(self.peak_rss_mb, outcome.peak_rss_mb))
        if outcome.status != "ok":
            raise _Stopped(call, outcome)
        return outcome.value

    def _fit(self, observed: Observed, seed: int, call: str) -> Estimate:
        method = self.plan.method
        arguments = method.name, method.parameters, observed, seed, soft_budget(self.suite)
        estimate, cut_short, converged = self._call(call, "fit", *arguments)
        self.cut_short |= cut_short
        self.converged = all_converged([self.converged, converged])
        return self._with_targets(estimate)

    def _with_targets(self, estimate: Estimate) -> Estimate:
        if self.plan.capabilities.estimates_targets and estimate.target_probability is None:
            raise InvalidEstimate("a method that estimates targets must give target_probability, got None")
        return estimate

    def _training(self) -> Observed:
        """The training environments, with their targets or the graph only where the track grants them."""
        environments, truth = self.problem.observed.without_targets().environments, self.problem.truth
        if self.plan.targets_given and truth is not None and truth.targets is not None:
            told = truth.targets if truth.told_targets is None else truth.told_targets
            rows = [frozenset(np.flatnonzero(row).tolist()) for row in told]
            environments = tuple(dataclasses.replace(e, targets=t) for e, t in zip(environments, rows, strict=True))
        return self._told(environments)

    def _told(self, environments: Iterable[Environment]) -> Observed:
        """Environments to fit to, with the graph where the track grants it."""
        truth = self.problem.truth
        return Observed(tuple(environments), truth.adjacency if self.plan.graph_given and truth is not None else None)

    def _adapted(self, estimate: Estimate) -> dict[int, Estimate]:
        """Targets of the held-out environments at each few-shot size; a method that cannot adapt is refitted.

        Those targets are never told, so a method that is refitted and needs to be told has no answer. The graph is: refits
        get it as the fit did, and what adapts knows it since then.
        """
        able, held_out = self.plan.capabilities, self.problem.held_out
        if not held_out or not able.estimates_targets or (able.targets == "required" and not able.adapts):
            return {}
        sizes = sorted({size for h in held_out for size in h.sizes})
        self.adapt_seconds = 0.0
        return {size: (self._adapt if able.adapts else self._refit)(size, estimate) for size in sizes}

    def _adapt(self, size: int, fitted: Estimate) -> Estimate:
        rows: list[Estimate | None] = []
        for h, held_out in enumerate(self.problem.held_out):
            if size not in held_out.sizes:
                rows.append(None)
                continue
            seed = derive_seed("adapt", self.plan.method_seed, size, h)
            answer = self._call(f"adapt to {counted(size, 'sample')}", "adapt", Observed((held_out.environment(size),)), seed)
            rows.append(self._with_targets(answer))
            self._charge()
        return _stacked(fitted, rows)

    def _refit(self, size: int, fitted: Estimate) -> Estimate:
        environments = [h.environment(size) if size in h.sizes else None for h in self.problem.held_out]
        new: tuple[Environment, ...] = tuple(e for e in environments if e is not None)
        training = self.problem.observed.without_targets().environments
        seed = derive_seed("refit", self.plan.method_seed, size)
        estimate = self._fit(self._told((*training, *new)), seed, f"refit with {counted(size, 'sample')}")
        self._charge()
        answers = iter(range(len(training), len(training) + len(new)))
        return _stacked(fitted, [None if e is None else _row(estimate, next(answers)) for e in environments])

    def _charge(self) -> None:
        assert self.last is not None
        self.adapt_seconds += self.last.seconds

    def _density(self) -> tuple[Any, ...] | None:
        queries = [h.query for h in self.problem.held_out]
        if not queries or not all(len(q) for q in queries):
            return None
        return tuple(self._call("log_density", "log_density", query) for query in queries)


def _row(estimate: Estimate, index: int) -> Estimate:
    pick = slice(index, index + 1)
    probability = None if estimate.target_probability is None else estimate.target_probability[pick]
    targets = None if estimate.targets is None else estimate.targets[pick]
    return Estimate(estimate.edge_probability, probability, targets=targets)


def _stacked(fitted: Estimate, rows: Sequence[Estimate | None]) -> Estimate:
    """One estimate whose target rows are the held-out environments; a row that was not asked for is zero."""
    d = fitted.edge_probability.shape[0]
    probability, targets = np.zeros((len(rows), d)), np.zeros((len(rows), d), dtype=bool)
    for i, row in enumerate(rows):
        if row is None:
            continue
        assert row.target_probability is not None
        probability[i] = row.target_probability[0]
        targets[i] = row.targets[0] if row.targets is not None else row.target_probability[0] > 0.5
    return Estimate(fitted.edge_probability, probability, targets=targets)


@contextlib.contextmanager
def _shown_as_running(run: Path, plan: PlannedCell) -> Iterator[Callable[..., None]]:
    """Leave a small file while a cell runs, so that whoever watches the run directory sees it, from any machine."""
    path = run / "running" / f"{plan.cell}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    started, written = time.time(), 0.0

    def show(fraction: float = math.nan, note: str = "") -> None:
        nonlocal written
        if time.time() - written < 0.5:
            return
        written = time.time()
        with contextlib.suppress(OSError):
            path.write_text(json.dumps({"label": plan.label, "started": started, "fraction": fraction, "note": note}))

    show()
    try:
        yield show
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def running_cells(run: Path) -> list[dict[str, Any]]:
    """Cells being computed now: label, start (epoch seconds), fraction done and note where the method tells."""
    found = []
    for path in sorted((run / "running").glob("*.json")):
        with contextlib.suppress(OSError, json.JSONDecodeError):
            found.append(json.loads(path.read_text()))
    return found
