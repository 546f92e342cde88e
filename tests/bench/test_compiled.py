"""Compiled functions answer as the plain ones, also where nothing can be kept on disk."""

from pathlib import Path

import numba

from bench.compiled import cache_folder, compiled


def double(x):
    return 2 * x


def test_a_compiled_function_answers_as_the_plain_one():
    assert compiled(double)(21) == 42


def test_where_no_folder_can_be_written_it_is_compiled_in_memory(monkeypatch):
    njit = numba.njit

    def refuses(*functions, cache=False):
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available")
        return njit(*functions)

    assert Path(cache_folder()).is_absolute()
    monkeypatch.setattr(numba, "njit", refuses)
    assert cache_folder() is None
    assert compiled(double)(21) == 42
