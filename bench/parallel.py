"""Many independent tasks: in this process, in loky workers, or on a Dask cluster; results as they come."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor

from bench import registry
from bench.errors import BenchError, InputError

Map = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[Any]]
"""Calls a function with each task's arguments and yields the results as they come, in any order."""


@contextlib.contextmanager
def workers(jobs: int, scheduler: str | None = None) -> Iterator[Map]:
    """Yield a :data:`Map` over this process (``jobs`` = 1), loky workers, or the workers of a Dask scheduler.

    Loky workers end with the block, at once where it is left by an exception: joblib would keep them for minutes, with
    whatever plugins they have loaded.
    """
    if scheduler is not None:
        with _dask(scheduler):
            yield functools.partial(_joblib, joblib.Parallel(return_as="generator_unordered", batch_size=1), True)
    elif jobs == 1:
        yield lambda function, tasks: (function(*task) for task in tasks)
    else:
        stopped = True
        try:
            with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
                pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
                yield functools.partial(_joblib, pool, False)
            stopped = False
        finally:
            get_reusable_executor().shutdown(wait=True, kill_workers=stopped)


def _joblib(
    pool: joblib.Parallel, on_dask: bool, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]
) -> Iterator[Any]:
    plugins = registry.loaded_plugins()
    if tasks:
        yield from pool(joblib.delayed(_in_worker)(function, plugins, on_dask, task) for task in tasks)


@functools.cache
def _end_with_parent(parent: int) -> None:
    """Watch, in a worker, for the death of the process that runs the suite; a killed run leaves nothing behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # the isolated child sees its pipe close, and ends as well

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


def _in_worker(function: Callable[..., Any], plugins: Sequence[Path], must_be_dask: bool, task: tuple[Any, ...]) -> Any:
    """Run a task in a worker that knows the same plugins; joblib's Dask backend can silently run in the client."""
    if must_be_dask:
        import distributed

        try:
            distributed.get_worker()
        except ValueError:
            raise BenchError("a task meant for the Dask cluster ran in the client; is the cluster up?") from None
    else:
        _end_with_parent(os.getppid())
    for plugin in plugins:
        registry.load_plugin(plugin)
    return function(*task)


@contextlib.contextmanager
def _dask(scheduler: str) -> Iterator[None]:
    try:
        import distributed
    except ImportError:
        raise InputError("a Dask scheduler needs the extra 'dask': pip install 'cadibench[dask]'") from None
    try:
        client = distributed.Client(scheduler, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as reason:
        raise InputError(f"no Dask scheduler answers at '{scheduler}': {type(reason).__name__}") from None
    with client, joblib.parallel_config(backend="dask", wait_for_workers_timeout=60):
        yield
