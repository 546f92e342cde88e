"""Many independent tasks: in this process, in loky workers, or on a Dask cluster; results as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib

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
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            yield from workers(calls)


def _in_worker(function: Callable[..., Any], plugins: Sequence[Path], must_be_dask: bool, task: tuple[Any, ...]) -> Any:
    """Run a task in a worker that knows the same plugins; joblib's Dask backend can silently run in the client."""
    if must_be_dask:
        import distributed

        try:
            distributed.get_worker()
        except ValueError:
            raise BenchError("a task meant for the Dask cluster ran in the client; is the cluster up?") from None
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
