"""Compilation that is kept on disk where that is possible."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding
import numba

Function = TypeVar("Function", bound=Callable[..., Any])


_folders: set[Path] = set()
"""Where compiled functions of this process are kept."""


@contextlib.contextmanager
def compiling_once() -> Iterator[None]:
    """Of several processes that compile the package at the same time, one does and the others wait, then read what it kept.

    A mark beside the compiled functions says that they are complete for this processor and these versions; nobody waits from
    then on, nor where no folder can be written. A process that is killed on the way lets the next one compile.
    """
    versions = numba.__version__, platform.python_version(), llvmlite.binding.get_host_cpu_name()
    key = hashlib.blake2b("\n".join([_package_stamp(), *versions]).encode(), digest_size=8).hexdigest()
    with contextlib.ExitStack() as lock:
        try:
            folder = min(_folders)
            mark = folder / f"compiled-{key}"
            if not mark.exists():
                folder.mkdir(parents=True, exist_ok=True)
                fcntl.flock(lock.enter_context((folder / "compiling").open("w")), fcntl.LOCK_EX)
            if mark.exists():  # by now
                lock.close()
        except (OSError, ValueError):  # no folder, or none to be written
            mark = None
        yield
        if mark is not None:
            mark.touch()


def compiled(function: Function) -> Function:
    """``numba.njit``, cached beside the file or in the user's cache folder (numba keys it by processor), else in memory.

    A change in any file of this package with compiled code renews what is cached: compiled functions take the code of others
    into themselves.
    """
    return _compiled(function)


def reassociated(function: Function) -> Function:
    """As :func:`compiled`; sums may be taken in any order, so that loops over them use vectors of the processor."""
    return _compiled(function, fastmath={"reassoc", "contract"})


def _compiled(function: Function, **options: Any) -> Function:
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither folder can be written
        return numba.njit(**options)(function)
    # By itself numba looks at the file of ``function`` alone.
    dispatcher._cache._cache_file._source_stamp = _package_stamp()
    _folders.add(Path(dispatcher._cache.cache_path))
    return dispatcher


@functools.cache
def _package_stamp() -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source = path.read_bytes()
        if b"@compiled" in source or b"@reassociated" in source or b"numba" in source:
            digest.update(source)
    return digest.hexdigest()
