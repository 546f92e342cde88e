"""Results on disk: problems and cells, each written whole or not at all.

::

    <run>/suite.yaml                      the specification as run
    <run>/about.json                      cards of its methods and datasets, versions
    <run>/problems/<key>.npz, .json       a problem in raw units, and what is known of it without opening it
    <run>/cells/<hash>/result.npz         arrays of one Result, in the problem's own order of variables
    <run>/cells/<hash>/record.json        what ran, how it ended, versions and timings
    <run>/rows.parquet, ...               the scored frames, rebuilt from the above

A cell's hash covers the problem's fingerprint, the method and its parameters, seeds, limits, the source of the plugin and of
every module of this project that it imports, and the versions of the packages that they import: an edited method is
recomputed, and nothing else.
"""

from __future__ import annotations

import ast
import errno
import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import registry
from bench.errors import BenchError, InputError
from bench.files import beside, remove_folder, write_atomic
from bench.seeds import canonical
from bench.types import Environment, Estimate, FloatArray, HeldOut, Observed, Problem, Result, Truth

SCHEMA_VERSION = 2
"""Of record.json and the npz layout; readers accept every version up to this one."""

_PROJECT = Path(__file__).resolve().parent.parent
_NOT_NUMERICAL = {"bench.registry", "bench.errors"}
"""Modules that a plugin imports for names and messages only; editing them changes no result."""

_parsing = threading.Lock()
"""Two threads of a Dask worker that parse at the same time can fail with a SystemError (CPython 3.11, gh-106905)."""


# --- hashes -----------------------------------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """Short hash of a value's canonical text."""
    return hashlib.blake2b(canonical(value).encode(), digest_size=12).hexdigest()


def source_identity(kind: str, name: str) -> dict[str, Any]:
    """What the answers of a plugin depend on besides its inputs: hashed sources and package versions.

    Follows imports from the plugin's file (the whole package, where it is one) through this project's modules, function-level
    imports included, and through ``builds_on``. Reads the files as they are now.
    """
    return sources_of(*_sources(registry.entry(kind, name)))


def sources_of(*files: str | Path) -> dict[str, Any]:
    """Hash of the files and of the project's modules that they import, and the versions of the packages."""
    hashes, packages = _closure(*map(Path, files))
    return {"sources": digest(hashes), "versions": _versions(packages)}


def _sources(entry: registry.Entry) -> list[Path]:
    """The file of a plugin and of those that it builds on."""
    below = [file for other in entry.builds_on for file in _sources(registry.entry("method", other))]
    return [*([entry.source] if entry.source is not None else []), *below]


def _closure(*start: Path) -> tuple[dict[str, str], set[str]]:
    files: dict[str, str] = {}
    packages: set[str] = set()
    waiting = [file for path in start for file in _package_files(path)]
    while waiting:
        file = waiting.pop()
        name = _relative(file)
        if name in files:
            continue
        source = file.read_bytes()
        files[name] = hashlib.blake2b(source, digest_size=12).hexdigest()
        for module in _imports(source, file):
            own = _own_file(module)
            if own is not None and module not in _NOT_NUMERICAL:
                waiting += _package_files(own)
            elif own is None:
                packages.add(module.partition(".")[0])
    return files, packages


def _relative(file: Path) -> str:
    return str(file.relative_to(_PROJECT)) if file.is_relative_to(_PROJECT) else file.name


def _package_files(file: Path) -> Iterable[Path]:
    """The file itself, or every module of the package it belongs to (``methods`` and the like are no such package)."""
    folder = file.parent
    inside = (folder / "__init__.py").exists() and folder.parent != _PROJECT and folder != _PROJECT
    return sorted(folder.rglob("*.py")) if inside else [file]


def _imports(source: bytes, file: Path) -> set[str]:
    found: set[str] = set()
    with _parsing:
        tree = ast.parse(source, filename=str(file))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if _own_file(f"{node.module}.{alias.name}")}
    return found - {"bench", "methods", "datasets"}


def _own_file(module: str) -> Path | None:
    if module.partition(".")[0] not in ("bench", "methods", "datasets"):
        return None
    base = _PROJECT / Path(*module.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _versions(modules: Iterable[str]) -> dict[str, str]:
    names = {d for m in modules if m not in sys.stdlib_module_names for d in _distributions().get(m, [])}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


@functools.cache
def machine() -> dict[str, Any]:
    """Where and with what a cell ran, for its record."""
    processor = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        processor = lines[0].partition(":")[2].strip() if lines else processor
    try:
        command = ["git", "-C", str(_PROJECT), "rev-parse", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor or platform.machine(),
        "git_commit": commit,
        "cadibench": importlib.metadata.version("cadibench"),
    }


# --- writing whole or not at all --------------------------------------------------------------------------------------


def write_frame(path: Path, frame: pd.DataFrame) -> Path:
    """Write a data frame as parquet, whole or not at all."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return write_atomic(path, buffer.getvalue())


def _npz(arrays: Mapping[str, Any], *, as_they_are: Collection[str] = ()) -> bytes:
    """An npz file, compressed but for some arrays."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_STORED if name in as_they_are else zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


# --- problems ---------------------------------------------------------------------------------------------------------


def problem_path(run: Path, key: str) -> Path:
    return run / "problems" / f"{key}.npz"


_TRUTH_ARRAYS = ("adjacency", "targets", "scored", "told_targets")


def save_problem(run: Path, key: str, problem: Problem, known: Mapping[str, Any]) -> None:
    """Store a problem in raw units, then ``known`` (what planning needs) beside it as JSON."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for e, environment in enumerate(problem.observed.environments):
        arrays[f"environment_{e}"] = environment.X
    if problem.truth is not None:
        truth = {name: getattr(problem.truth, name) for name in _TRUTH_ARRAYS}
        arrays |= {name: array for name, array in truth.items() if array is not None}
    for h, held_out in enumerate(problem.held_out):
        arrays |= {
            f"support_{h}": held_out.support,
            f"query_{h}": held_out.query,
            f"held_out_targets_{h}": held_out.targets,
            f"sizes_{h}": np.array(held_out.sizes),
        }
    described = {
        "schema_version": SCHEMA_VERSION,
        "is_observational": [e.is_observational for e in problem.observed.environments],
        "n_held_out": len(problem.held_out),
        "held_out_is_observational": [h.is_observational for h in problem.held_out],
        "variable_names": list(problem.variable_names),
        "environment_names": list(problem.environment_names),
        "diagnostics": {k: None if np.isnan(v) else v for k, v in problem.diagnostics.items()},
        "known": dict(known),
    }
    write_atomic(problem_path(run, key), _npz(arrays))
    write_atomic(problem_path(run, key).with_suffix(".json"), json.dumps(described))


def copy_problem(source: Path, run: Path, key: str) -> None:
    """Take over a problem that another run has stored; its description goes last, as it says that the problem is whole."""
    for suffix in (".npz", ".json"):
        path = problem_path(source, key).with_suffix(suffix)
        write_atomic(problem_path(run, key).with_suffix(suffix), path.read_bytes())


def tracebacks(run: Path, reasons: Iterable[str]) -> list[Path]:
    """Files in which the datasets that failed left their tracebacks, of those that these reasons name."""
    said = "\n".join(reasons)
    return [path for path in sorted((run / "problems").glob("*.traceback.txt")) if path.name in said]


def known_of_problem(run: Path, key: str) -> dict[str, Any] | None:
    """What :func:`save_problem` was told, or None where the problem is not stored whole."""
    path = problem_path(run, key)
    described = _read_json(path.with_suffix(".json"))
    if described is None or not path.exists():
        return None
    known: dict[str, Any] = described["known"]
    return known


def load_problem(run: Path, key: str) -> Problem:
    """Read a stored problem back; arrays are exactly those that were saved."""
    path = problem_path(run, key)
    described = _read_json(path.with_suffix(".json"))
    if described is None:
        raise BenchError(f"{path}: this problem is not stored whole; run the suite again")
    with np.load(path) as arrays:
        flags = described["is_observational"]
        observed = Observed(tuple(Environment(arrays[f"environment_{e}"], flag) for e, flag in enumerate(flags)))
        truth = Truth(*(arrays.get(name) for name in _TRUTH_ARRAYS)) if "scored" in arrays else None
        told = described.get("held_out_is_observational", [None] * described["n_held_out"])  # older runs said nothing
        held_out = tuple(
            HeldOut(
                arrays[f"support_{h}"],
                tuple(arrays[f"sizes_{h}"]),
                arrays[f"query_{h}"],
                arrays[f"held_out_targets_{h}"],
                is_observational,
            )
            for h, is_observational in enumerate(told)
        )
    diagnostics = {k: float("nan") if v is None else v for k, v in described["diagnostics"].items()}
    names = tuple(described["variable_names"]), tuple(described["environment_names"])
    return Problem(observed, truth, held_out, names[0], diagnostics, names[1])


# --- cells ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """One stored cell: its record, and its result where the status is ok."""

    record: dict[str, Any]
    result: Result | None


def cell_path(run: Path, cell: str) -> Path:
    return run / "cells" / cell


def save_cell(run: Path, cell: str, record: Mapping[str, Any], result: Result | None) -> None:
    """Store a cell in one rename; a former attempt under the same hash is replaced.

    Where another run in the same directory has stored the cell meanwhile, and well, that one stays.
    """
    final = cell_path(run, cell)
    temporary = beside(final)
    temporary.mkdir(parents=True)
    stamped = {
        "schema_version": SCHEMA_VERSION,
        **record,
        "machine": machine() | {"process": os.getpid()},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        if result is not None:
            arrays = _result_arrays(result)
            # Log densities hardly compress, and trying takes as long as many a fit.
            densities = [name for name in arrays if name.startswith(_DENSITY)]
            write_atomic(temporary / "result.npz", _npz(arrays, as_they_are=densities))
        write_atomic(temporary / "record.json", json.dumps(stamped, indent=1, default=str))
        _put(temporary, run, cell)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_cell(source: Path, run: Path, cell: str) -> None:
    """Take over a cell that another run has stored: under its hash it is what this run would compute."""
    temporary = beside(cell_path(run, cell))
    try:
        shutil.copytree(cell_path(source, cell), temporary)
        _put(temporary, run, cell)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, run: Path, cell: str) -> None:
    """Give a finished folder its name; a former cell that is not ok gives way."""
    final = cell_path(run, cell)
    while not _renamed(temporary, final) and cell_status(run, cell) != "ok":
        remove_folder(final)


def _renamed(source: Path, final: Path) -> bool:
    """Rename a folder, unless one that is not empty has the new name already."""
    try:
        os.replace(source, final)
    except OSError as reason:
        if reason.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def cell_status(run: Path, cell: str) -> str | None:
    """Status of a stored cell, None where there is none (or a broken one, which is then computed again)."""
    record = _read_json(cell_path(run, cell) / "record.json")
    if record is None or (record["status"] == "ok" and not (cell_path(run, cell) / "result.npz").exists()):
        return None
    return str(record["status"])


def load_record(run: Path, cell: str) -> dict[str, Any]:
    """What ran in a stored cell and how it ended, without its arrays.

    Raises
    ------
    InputError
        If there is no such cell.
    """
    record = _read_json(cell_path(run, cell) / "record.json")
    if record is None:
        raise InputError(f"{cell_path(run, cell)}: no stored cell")
    return record


def same_answer(first: Path, second: Path, cell: str) -> bool:
    """Whether two runs stored the same arrays under one hash, to the last bit; what it cost may differ."""
    answers = []
    for run in (first, second):
        with np.load(cell_path(run, cell) / "result.npz") as arrays:
            kept = {name: arrays[name] for name in arrays.files if name != "cost"}
        answers.append({name: (array.dtype.str, array.shape, array.tobytes()) for name, array in kept.items()})
    return answers[0] == answers[1]


def load_cell(run: Path, cell: str) -> Cell:
    """Read a stored cell.

    Raises
    ------
    InputError
        If it was written by a newer version.
    """
    record = load_record(run, cell)
    if record["schema_version"] > SCHEMA_VERSION:
        raise InputError(
            f"{cell_path(run, cell)}: schema {record['schema_version']} is newer than this program's {SCHEMA_VERSION}"
        )
    if record["status"] != "ok":
        return Cell(record, None)
    with np.load(cell_path(run, cell) / "result.npz") as arrays:
        return Cell(record, _result(dict(arrays), record))


_ESTIMATE_ARRAYS = ("edge_probability", "target_probability", "graph_samples", "log_weights", "point_graph", "targets")


def _estimate_arrays(estimate: Estimate, prefix: str) -> dict[str, npt.NDArray[Any]]:
    arrays = {f"{prefix}{name}": getattr(estimate, name) for name in _ESTIMATE_ARRAYS}
    arrays[f"{prefix}graph_kind"] = None if estimate.graph_kind is None else np.array(estimate.graph_kind)
    return {k: v for k, v in arrays.items() if v is not None}


def _result_arrays(result: Result) -> dict[str, npt.NDArray[Any]]:
    arrays = _estimate_arrays(result.estimate, "")
    arrays["sizes"] = np.array(list(result.adapted), dtype=np.int64)
    for size, estimate in result.adapted.items():
        arrays |= _estimate_arrays(estimate, f"adapted_{size}_")
    for h, density in enumerate(result.held_out_log_density or ()):
        arrays[f"{_DENSITY}{h}"], arrays[f"{_PLACES}{h}"] = _distinct(density)
    arrays["cost"] = np.array([result.fit_seconds, result.adapt_seconds, result.peak_rss_mb, result.cut_short])
    if result.converged is not None:
        arrays["converged"] = np.array(result.converged)
    return arrays


_DENSITY, _PLACES = "density_", "places_"


def _distinct(density: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Each log density of query samples once, float64 (r, m), and where it stands for graph samples and variables, (S, d).

    Graph samples share most parent sets, and so most densities.
    """
    n_graphs, n_samples, d = density.shape
    place_of: dict[bytes, int] = {}
    distinct: list[FloatArray] = []
    places = np.empty((n_graphs, d), dtype=np.int64)
    for s, i in np.ndindex(n_graphs, d):
        column = np.ascontiguousarray(density[s, :, i])
        places[s, i] = place_of.setdefault(column.tobytes(), len(distinct))
        if places[s, i] == len(distinct):
            distinct.append(column)
    return np.array(distinct, dtype=np.float64).reshape(len(distinct), n_samples), places


def _density(arrays: Mapping[str, npt.NDArray[Any]], h: int) -> FloatArray:
    """Of held-out environment h, float64 (S, m, d); files of earlier versions hold it whole."""
    stored, places = arrays[f"{_DENSITY}{h}"], arrays.get(f"{_PLACES}{h}")
    return stored if places is None else np.ascontiguousarray(stored[places].transpose(0, 2, 1))


def _estimate(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> Estimate:
    kind = arrays.get(f"{prefix}graph_kind")
    values: dict[str, Any] = {name: arrays.get(f"{prefix}{name}") for name in _ESTIMATE_ARRAYS}
    values["graph_kind"] = None if kind is None else str(kind)
    return Estimate(**values)


def _result(arrays: Mapping[str, npt.NDArray[Any]], record: Mapping[str, Any]) -> Result:
    n_densities = sum(name.startswith(_DENSITY) for name in arrays)
    fit_seconds, adapt_seconds, peak_rss_mb, cut_short = arrays["cost"]
    return Result(
        estimate=_estimate(arrays, ""),
        adapted={int(size): _estimate(arrays, f"adapted_{size}_") for size in arrays["sizes"]},
        held_out_log_density=tuple(_density(arrays, h) for h in range(n_densities)) or None,
        fit_seconds=float(fit_seconds),
        adapt_seconds=float(adapt_seconds),
        peak_rss_mb=float(peak_rss_mb),
        cut_short=bool(cut_short),
        converged=bool(arrays["converged"]) if "converged" in arrays else None,
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return content
