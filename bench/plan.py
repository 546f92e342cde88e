"""What a run consists of: every problem drawn and stored, and every row that the table will have.

Seeds are derived here, combinations that cannot work become skipped rows with a reason, and each remaining row gets the hash
of its cell. Nothing is fitted.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import preprocessing, registry, store
from bench.errors import InputError, MissingData
from bench.files import write_atomic
from bench.graphs import is_acyclic
from bench.preprocessing import Prepared, prepare
from bench.seeds import derive_seed, method_seed
from bench.suites import DatasetItem, MethodItem, Preprocessing, Suite
from bench.texts import counted, visible
from bench.types import Capabilities, Problem, Truth


@dataclass(frozen=True, slots=True)
class PlannedProblem:
    """One draw of a dataset, stored under ``key``; or the reason why there is none."""

    dataset: DatasetItem
    repetition: int
    data_seed: int
    key: str = ""
    known: Mapping[str, Any] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One row to be: a method on a problem on a track. Two rows may share a cell (a method that ignores told targets)."""

    track: str
    problem: PlannedProblem
    method: MethodItem
    capabilities: Capabilities
    targets_given: bool
    graph_given: bool
    method_seed: int
    identity: Mapping[str, Any]
    cell: str = ""
    skipped: str = ""

    @property
    def label(self) -> str:
        return f"{self.problem.dataset.label} #{self.problem.repetition} · {self.method.label}"


def why_not(capabilities: Capabilities, track: str, known: Mapping[str, Any]) -> str:
    """Reason why a method does not run on a problem and track, empty where it does.

    Parameters
    ----------
    capabilities : Capabilities
    track : {"unknown", "oracle", "graph"}
    known : mapping
        What is known of the problem: ``targets_known``, ``graph`` (see :func:`told_graph`), ``n_variables``,
        ``n_environments``, ``n_observational``, ``n_samples``. What is missing, as in runs stored by earlier versions, is
        no reason.
    """
    return _not_on_track(capabilities, track, known) or _not_with_data(capabilities, known) or _not_installed(capabilities)


def _not_on_track(capabilities: Capabilities, track: str, known: Mapping[str, Any]) -> str:
    graph = known.get("graph", "not known")
    if track == "graph" and capabilities.graph == "ignored":
        return "does not use a told graph"
    if track != "graph" and capabilities.graph == "required":
        return "needs the true graph, which this track hides"
    if track == "graph" and graph != "known":
        return f"needs the true graph, and that of this dataset is {graph}"
    if capabilities.targets == "required" and track != "oracle":
        return "needs the targets, which this track hides"
    if capabilities.targets != "ignored" and track == "oracle" and not known.get("targets_known", True):
        return "needs the targets, and those of this dataset are not known"
    return ""


def _not_with_data(capabilities: Capabilities, known: Mapping[str, Any]) -> str:
    d, most = known.get("n_variables", 0), capabilities.max_variables
    n_environments, least = known.get("n_environments", math.inf), capabilities.min_environments
    n_samples = known.get("n_samples", math.inf)
    if capabilities.needs_observational and known.get("n_observational", 1) == 0:
        return (
            f"needs observational data, and none of the {counted(n_environments, 'environment')} is known to be observational"
        )
    if n_environments < least:
        return f"needs at least {counted(least, 'environment')}, and the problem has {n_environments}"
    if most is not None and d > most:
        return f"takes at most {counted(most, 'variable')}, and the problem has {d}"
    if capabilities.needs_more_samples_than_variables and n_samples <= d:
        return f"needs more samples than variables, and the problem has {counted(n_samples, 'sample')} of {d}"
    return ""


def _not_installed(capabilities: Capabilities) -> str:
    extra = capabilities.extra
    if extra is None or importlib.util.find_spec(extra) is not None:
        return ""
    return f"needs the package {extra}, which is not installed: pip install 'cadibench[{extra}]'"


def told_graph(truth: Truth | None) -> str:
    """Whether the true graph can be told, "known", or why not: "not known", "known in part" or "cyclic"."""
    if truth is None or truth.adjacency is None:
        return "not known"
    if truth.scored.sum() < truth.scored.size - len(truth.scored):
        return "known in part"
    return "known" if is_acyclic(truth.adjacency) else "cyclic"


def list_cells(suite: Suite, problems: Sequence[PlannedProblem]) -> list[PlannedCell]:
    """Every row of the run, in the order of tracks, problems, methods."""
    made = {item.label: registry.make_method(item.name, **item.parameters) for item in suite.methods}
    capabilities = {label: method.effective_capabilities() for label, method in made.items()}
    identities = {name: _identity(name) for name in {item.name for item in suite.methods}}
    return [
        _plan_cell(suite, track, problem, item, capabilities[item.label], identities[item.name])
        for track in suite.tracks
        for problem in problems
        if track in (problem.dataset.tracks or suite.tracks)
        for item in suite.methods
    ]


def _plan_cell(
    suite: Suite, track: str, problem: PlannedProblem, item: MethodItem, able: Capabilities, identity: Mapping[str, Any]
) -> PlannedCell:
    skipped = problem.skipped or why_not(able, track, problem.known)
    planned = PlannedCell(
        track,
        problem,
        item,
        able,
        targets_given=track == "oracle" and able.targets != "ignored" and not skipped,
        graph_given=track == "graph" and not skipped,
        method_seed=method_seed(problem.data_seed, item.name, item.parameters, suite.reseed),
        identity=identity,
        skipped=skipped,
    )
    return planned if skipped else dataclasses.replace(planned, cell=_cell_hash(suite, planned))


def _identity(method: str) -> dict[str, Any]:
    if registry.entry("method", method).factory.__module__ == "__main__":
        raise InputError(
            f"method '{method}' is defined in the running script or notebook, where the process that fits it cannot find it; "
            "put it into a file of its own and load that as a plugin"
        )
    return store.source_identity("method", method)


def _cell_hash(suite: Suite, plan: PlannedCell) -> str:
    """Hash of what the answer of a cell depends on. The graph enters only where it is told: all other cells keep theirs."""
    told = {"graph_given": True} if plan.graph_given else {}
    return store.digest(
        {
            "fingerprint": plan.problem.known["fingerprint"],
            "method": plan.method.name,
            "parameters": plan.method.parameters,
            "seed": plan.method_seed,
            "targets_given": plan.targets_given,
            **told,
            "limits": [suite.timeout, suite.memory, soft_budget(suite)],
            "identity": plan.identity,
        }
    )


def soft_budget(suite: Suite) -> float | None:
    return suite.budget or (None if suite.timeout is None else 0.8 * suite.timeout)


def plan_problem(run: Path, seed: int, settings: Preprocessing, dataset: DatasetItem, repetition: int) -> PlannedProblem:
    """Draw one problem and store it, unless it is stored already. Data read from files are read again: files change."""
    drawn = dataset.data_seed(seed, repetition)
    planned = PlannedProblem(dataset, repetition, drawn)
    entry = registry.entry("dataset", dataset.name)
    key = {
        "dataset": dataset.name,
        "parameters": dataset.parameters,
        "data_seed": drawn,
        "identity": _drawn_by(dataset.name, entry.factory),
        "preprocessing": settings.model_dump(),
    }
    from_files = "real" in entry.tags
    known = None if from_files else store.known_of_problem(run, store.digest(key))
    if known is not None:
        return dataclasses.replace(planned, key=store.digest(key), known=known)
    try:
        problem = registry.make_problem(dataset.name, seed=drawn, **dataset.parameters)
        prepared = prepare(problem, **settings.model_dump(), seed=derive_seed("shuffle", drawn))
    except MissingData as reason:
        return dataclasses.replace(planned, skipped=str(reason))
    except InputError as reason:
        raise InputError(f"dataset '{dataset.label}': {reason}") from None
    except Exception as reason:
        report = store.problem_path(run, store.digest(key)).with_suffix(".traceback.txt")
        write_atomic(report, traceback.format_exc())
        text = f"dataset failed: {type(reason).__name__}: {reason} (traceback in problems/{report.name})"
        return dataclasses.replace(planned, skipped=visible(" ".join(text.split())))
    if from_files:
        key["fingerprint"] = problem.fingerprint
    known = _known(problem, prepared)
    store.save_problem(run, store.digest(key), problem, known)
    return dataclasses.replace(planned, key=store.digest(key), known=known)


@functools.cache
def _drawn_by(dataset: str, factory: Any) -> dict[str, Any]:
    """What makes a problem as methods see it, as it was when this process loaded it (again, where ``factory`` is another)."""
    return {"dataset": store.source_identity("dataset", dataset), "preprocessing": store.sources_of(preprocessing.__file__)}


def _known(problem: Problem, prepared: Prepared) -> dict[str, Any]:
    seen = registry.with_sortability(prepared.problem)
    return {
        "fingerprint": seen.fingerprint,
        "checksum": seen.checksum(),
        "targets_known": problem.truth is not None and problem.truth.targets is not None,
        "graph": told_graph(problem.truth),
        "n_variables": seen.observed.n_variables,
        "n_environments": seen.observed.n_environments,
        "n_observational": sum(bool(e.is_observational) for e in seen.observed.environments),
        "n_samples": seen.observed.n_samples,
        "n_held_out": len(problem.held_out),
        "diagnostics": {k: None if math.isnan(v) else v for k, v in {**problem.diagnostics, **seen.diagnostics}.items()},
    }


def pending(directory: Path, planned: Iterable[PlannedCell], retry_failed: bool = False) -> list[PlannedCell]:
    """Cells that have to be computed, each hash once."""
    waiting: dict[str, PlannedCell] = {}
    for cell in planned:
        if cell.cell and cell.cell not in waiting:
            status = store.cell_status(directory, cell.cell)
            if status is None or (retry_failed and status != "ok"):
                waiting[cell.cell] = cell
    return list(waiting.values())
