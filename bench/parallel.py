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


def parallel(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], jobs: int, scheduler: str | None) -> Iterator[Any]:
    """Yield results as they come, from this process, loky workers, or a Dask cluster."""
    if not tasks:
        return
    plugins = registry.loaded_plugins()
    if scheduler is not None:
        with _dask(scheduler):
            calls = (joblib.delayed(_in_worker)(function, plugins, True, task) for task in tasks)
            yield from joblib.Parallel(return_as="generator_unordered", batch_size=1)(calls)
    elif jobs == 1 or len(tasks) == 1:
        yield from (function(*task) for task in tasks)
    else:
        calls = (joblib.delayed(_in_worker)(function, plugins, False, task) for task in tasks)
        workers = joblib.Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered", batch_size=1)
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1), _ended_when_stopped():
            yield from workers(calls)


@contextlib.contextmanager
def _ended_when_stopped() -> Iterator[None]:
    """Whatever stops the run stops its workers at once; joblib would let them finish and wait for more."""
    try:
        yield
    except BaseException:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise


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
