"""Many independent tasks: in this process, in loky workers, or on a Dask cluster; results as they come."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor

from bench import registry
from bench.errors import InputError

CONNECT_SECONDS = 10.0
"""How long a Dask scheduler may take to answer."""

Map = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[Any]]
"""Calls a function with each task's arguments and yields the results as they come, in any order."""


@contextlib.contextmanager
def workers(jobs: int, scheduler: str | None = None) -> Iterator[Map]:
    """Yield a :data:`Map` over this process (``jobs`` = 1), loky workers, or the workers of a Dask scheduler.

    Loky workers end with the block, at once where it is left by an exception: joblib would keep them for minutes, with
    whatever plugins they have loaded.
    """
    if scheduler is not None:
        with _client(scheduler) as client:
            yield functools.partial(_on_dask, client)
    elif jobs == 1:
        yield lambda function, tasks: (function(*task) for task in tasks)
    else:
        stopped = True
        try:
            with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
                pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
                yield functools.partial(_on_joblib, pool)
            stopped = False
        finally:
            get_reusable_executor().shutdown(wait=True, kill_workers=stopped)


def _on_joblib(pool: joblib.Parallel, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    if tasks:
        plugins, parent = registry.loaded_plugins(), os.getpid()
        yield from pool(joblib.delayed(_in_worker)(function, plugins, task, parent) for task in tasks)


def _on_dask(client: Any, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """Straight on the cluster: joblib's Dask backend runs in the client where the cluster has a single core."""
    import distributed

    plugins = registry.loaded_plugins()
    futures = [client.submit(_in_worker, function, plugins, task, pure=False) for task in tasks]
    try:
        for future in distributed.as_completed(futures):
            yield future.result()
    finally:
        client.cancel(futures)


def _in_worker(
    function: Callable[..., Any], plugins: Mapping[Path, str], task: tuple[Any, ...], parent: int | None = None
) -> Any:
    """Run a task in a worker that knows the same plugins, and that ends with ``parent`` where one is given."""
    if parent is not None:
        _end_with_parent(parent)
    for plugin, content in plugins.items():
        if registry.loaded_plugins().get(plugin) != content:
            registry.load_plugin(plugin)
            if registry.loaded_plugins()[plugin] != content:
                raise InputError(f"plugin '{plugin}' is not the file that the run began with; run again")
    return function(*task)


@functools.cache
def _end_with_parent(parent: int) -> None:
    """Watch, in a worker, for the death of the process that runs the suite; a killed run leaves nothing behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # the isolated child sees its pipe close, and ends as well

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


@contextlib.contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    try:
        import distributed
    except ImportError:
        raise InputError("a Dask scheduler needs the package distributed: pip install distributed") from None
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as reason:
        raise InputError(f"no Dask scheduler answers at '{scheduler}': {type(reason).__name__}") from None
    with client:
        yield client
