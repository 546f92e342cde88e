"""Compilation that is kept on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """``numba.njit``, cached beside the file or in the user's cache folder (numba keys it by processor), else in memory.

    Numba renews what is cached when the file of ``function`` changes, but not for a change in the files that it uses.
    """
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # neither folder can be written
        return numba.njit(function)
