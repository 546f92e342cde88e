"""With what results were made: versions and processor of this machine, of the cells of a run, and where two runs differ."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml

from bench import compiled, data_directory, store
from bench.about import versions
from bench.suites import SUITE_FILE

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
MACHINE = ("python", "cadibench", "git_commit", "processor", "platform")
SOURCE = "source of "
"""Before the name of a method: the hash of its file and of all that it imports."""

_NOT_COMPARED = ("name", "description", "plugins")


def versions_here() -> dict[str, str]:
    """Of Python, this project, the processor and packages; not of what may move without moving numbers."""
    return {name: version for name, version in versions().items() if name not in ("platform", "git_commit")}


def system() -> dict[str, str]:
    """What a report of a fault needs of this machine: versions, cores, memory, threads, data, accelerator, compiled cache."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    memory = psutil.virtual_memory()
    data, downloads = data_directory.places()
    return {
        **versions(),
        "cores": f"{allowed} of {psutil.cpu_count()} for this process, {psutil.cpu_count(logical=False) or 'unknown'} physical",
        "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB of them free",
        "threads": ", ".join(f"{name}={os.environ[name]}" for name in THREADS if name in os.environ) or "no variable set",
        "data directory": f"{data_directory.VARIABLE}={data}" if data else f"{data_directory.VARIABLE} is not set",
        "downloads": downloads,
        "GPU": accelerator(),
        "compiled cache": compiled.cache_folder() or "in memory only: no folder can be written",
    }


def accelerator() -> str:
    """The GPUs that torch sees, in words."""
    try:
        import torch  # optional, and slow to import
    except ImportError:
        return "unknown: torch is not installed"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ", ".join(names) or "none that torch sees"


def made_with(run: Path, rows: pd.DataFrame) -> dict[str, set[str]]:
    """Every version, processor and source hash that stands in the records of a run's cells.

    Parameters
    ----------
    run : Path
    rows : DataFrame
        The rows frame of the run, or some of it.

    Returns
    -------
    dict of str to set of str
        By what: an entry of ``MACHINE``, a package, or ``SOURCE`` and the name of a method. Cells made at different times
        may differ.
    """
    found: dict[str, set[str]] = {}
    for cell in sorted(set(rows["cell"].astype(str)) - {""}):
        for what, value in _of_record(store.load_record(run, cell)).items():
            found.setdefault(what, set()).add(value)
    return found


def _of_record(record: Mapping[str, Any]) -> dict[str, str]:
    identity, machine = record.get("identity", {}), record.get("machine", {})
    known = {name: str(machine[name]) for name in MACHINE if machine.get(name) is not None}
    known |= {name: str(version) for name, version in identity.get("versions", {}).items()}
    return known | ({SOURCE + record["method"]: str(identity["sources"])} if "sources" in identity else {})


def differing(first: Mapping[str, set[str]], second: Mapping[str, set[str]]) -> dict[str, str]:
    """Of two :func:`made_with`, what both know and what is not the same, with both values.

    Examples
    --------
    >>> differing({"numpy": {"2.1"}, "python": {"3.12"}}, {"numpy": {"2.2", "2.1"}, "python": {"3.12"}})
    {'numpy': '2.1 → 2.1, 2.2'}
    """
    both = [what for what in first if what in second and first[what] != second[what]]
    return {what: f"{', '.join(sorted(first[what]))} → {', '.join(sorted(second[what]))}" for what in both}


def suite_differences(first: Path, second: Path) -> dict[str, str]:
    """Keys of the suites of two run directories whose values are not the same, with both values where those are short."""
    one, other = (_stored_suite(run) for run in (first, second))
    keys = [k for k in {**one, **other} if k not in _NOT_COMPARED and one.get(k) != other.get(k)]
    return {k: "" if isinstance(one.get(k), list) else f"{one.get(k)} → {other.get(k)}" for k in keys}


def _stored_suite(run: Path) -> dict[str, Any]:
    """The suite as it stands in the file: two runs can be compared where none of their plugins is installed."""
    path = run / SUITE_FILE
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content if isinstance(content, dict) else {}
