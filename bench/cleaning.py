"""What lies in a run directory and its table no longer uses: hashes of former code, versions or suites."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import store
from bench.errors import BenchError
from bench.files import remove_folder
from bench.report import read_rows


@dataclass(frozen=True, slots=True)
class Unused:
    """A cell or a problem that no row names.

    Parameters
    ----------
    paths : tuple of Path
        Its folder, or its files.
    kind : {"cell", "problem"}
    of : str
        The method of a cell, where its record says it.
    size : int
        Bytes on disk.
    written : float
        When it was last written, seconds since the epoch.
    """

    paths: tuple[Path, ...]
    kind: str
    of: str
    size: int
    written: float


def unused(run: Path) -> list[Unused]:
    """What the table of a run does not name, and that is older than the table: what is newer belongs to a run under way.

    Raises
    ------
    InputError
        If there is no table.
    """
    rows = read_rows(run)
    finished = (run / "rows.parquet").stat().st_mtime
    cells, problems = set(rows["cell"].astype(str)), set(rows["problem"].astype(str))
    problems |= {path.name.partition(".")[0] for path in store.tracebacks(run, set(rows["reason"].astype(str)))}
    found = [*_cells(run, cells), *_problems(run, problems)]
    return [item for item in found if item.written < finished]


def _cells(run: Path, used: set[str]) -> Iterator[Unused]:
    for folder in sorted((run / "cells").glob("[!.]*/")):
        if folder.name not in used:
            files = [file for file in folder.rglob("*") if file.is_file()]
            yield _unused((folder,), "cell", _method(run, folder.name), files)


def _problems(run: Path, used: set[str]) -> Iterator[Unused]:
    by_key: dict[str, list[Path]] = {}
    for file in sorted((run / "problems").glob("[!.]*")):
        by_key.setdefault(file.name.partition(".")[0], []).append(file)
    yield from (_unused(tuple(files), "problem", "", files) for key, files in by_key.items() if key not in used)


def _unused(paths: tuple[Path, ...], kind: str, of: str, files: Sequence[Path]) -> Unused:
    stats = [file.stat() for file in files]
    return Unused(paths, kind, of, sum(s.st_size for s in stats), max((s.st_mtime for s in stats), default=0.0))


def _method(run: Path, cell: str) -> str:
    try:
        return str(store.load_record(run, cell).get("method", ""))
    except BenchError:
        return ""


def remove(items: Sequence[Unused]) -> None:
    """Remove them, each whole or not at all as a reader sees it; of a problem the description goes first."""
    for item in items:
        for path in sorted(item.paths):
            if path.is_dir():
                remove_folder(path)
            else:
                os.unlink(path)
