"""Compilation that is kept on disk where that is possible."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


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
    return dispatcher


@functools.cache
def _package_stamp() -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source = path.read_bytes()
        if b"@compiled" in source or b"@reassociated" in source or b"numba" in source:
            digest.update(source)
    return digest.hexdigest()
