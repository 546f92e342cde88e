"""Compilation that is kept on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """``numba.njit``, cached beside the file or in the user's cache folder (numba keys it by processor), else in memory.

    Typed as the function itself, since numba publishes no types.
    """
    try:
        return cast(Function, numba.njit(cache=True)(function))
    except RuntimeError:  # no folder that can be written
        return cast(Function, numba.njit(function))


def cache_folder() -> str | None:
    """Where compiled functions of this project's ``bench`` are kept, None where that is in memory only."""
    path: str | None = cast(Any, compiled(_nothing)).stats.cache_path
    return path


def _nothing() -> None:
    """Never called, and so never compiled."""
