"""Several runs of one suite, of one machine or of many, as one run directory.

The runs may hold other methods, datasets and repetitions of the suite; all else has to be the same. Problems and cells are
copied as they are, nothing is drawn or fitted, and the rows are scored again, so that the table is that of a run made at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from bench import provenance, registry, runner, store
from bench.about import ABOUT_FILE, about
from bench.errors import InputError
from bench.files import new_folder, write_atomic
from bench.fingerprints import PROBLEM, problems_of, unlike
from bench.parallel import workers
from bench.plan import PlannedCell, PlannedProblem
from bench.provenance import SOURCE
from bench.regression.baseline import CELL
from bench.report import read_rows
from bench.suites import SUITE_FILE, DatasetItem, MethodItem, Suite, load_suite, save_suite
from bench.texts import counted
from bench.types import Capabilities

_OF_A_PART = ("description", "repetitions", "plugins", "datasets", "methods", "base")
"""Keys of the suite in which runs may differ."""

_PREFERENCE = {"ok": 0, "skipped": 2}
"""Of the rows that several runs have: an answer first, then a failure, then a reason other than that there are no data."""


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """What came of a merge.

    Parameters
    ----------
    rows : DataFrame
        The rows frame of the new run.
    missing : int
        Rows of the merged suite that no run has.
    notes : tuple of str
        Conflicts, each with what was kept.
    """

    rows: pd.DataFrame
    missing: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    run: Path
    suite: Suite
    rows: pd.DataFrame


def merge(runs: Sequence[Path], output: Path, *, plugins: Sequence[Path] = ()) -> Merged:
    """Bring runs of one suite together in a new run directory, which is written whole or not at all.

    Parameters
    ----------
    runs : sequence of path
        Finished runs. Where several have a row, an answer beats a failure and else the first run wins.
    output : path
        The new run directory.
    plugins : sequence of path
        Plugin files of the suite that lie elsewhere here than on the machine of a run.

    Raises
    ------
    InputError
        If there are fewer than two runs, ``output`` exists, the suites or problems are unlike, or a method was edited between
        the runs; one line names what differs.
    """
    _refuse_wrong_use(runs, output)
    parts = [_Part(run, load_suite(run / SUITE_FILE, moved=plugins), read_rows(run)) for run in runs]
    suite = _united(parts)
    for one, other in combinations(parts, 2):
        _refuse_unlike(one, other)
    made_with = [provenance.made_with(part.run, part.rows) for part in parts]
    notes = [*_versions(runs, made_with)]
    candidates = pd.concat([part.rows.assign(part=i) for i, part in enumerate(parts)], ignore_index=True)
    candidates["preference"] = candidates["status"].map(_PREFERENCE).fillna(1) + (candidates["fingerprint"] == "")
    candidates = candidates.sort_values([*CELL, "preference", "part"], kind="stable")
    chosen = candidates.drop_duplicates(CELL)
    notes += _conflicts(parts, candidates)
    with new_folder(output) as folder:
        keys = _copy(parts, chosen, folder)
        save_suite(folder, suite)
        write_atomic(folder / ABOUT_FILE, about(suite, _joined(made_with)))
        planned, missing = _planned(suite, chosen, keys, folder)
        with workers(1) as each:
            rows = runner.score(folder, suite, planned, each)
    return Merged(rows, missing, tuple(notes))


# --- like with like ---------------------------------------------------------------------------------------------------


def _refuse_wrong_use(runs: Sequence[Path], output: Path) -> None:
    if len({run.resolve() for run in runs}) < max(2, len(runs)):
        raise InputError(f"expected two or more different runs to merge, got {', '.join(map(str, runs)) or 'none'}")
    if output.exists():
        raise InputError(f"{output}: expected the name of a new run directory, and this one exists")
    for run in runs:
        if not (run / SUITE_FILE).is_file():
            raise InputError(f"{run}: expected a run directory with a {SUITE_FILE} in it, found none")


def _united(parts: Sequence[_Part]) -> Suite:
    """The suite of which every run is a part."""
    first = parts[0]
    for part in parts[1:]:
        for key in Suite.model_fields:
            mine, other = getattr(first.suite, key), getattr(part.suite, key)
            if key not in _OF_A_PART and mine != other:
                raise InputError(f"the suites are unlike: {key} is {mine} in {first.run}, {other} in {part.run}")
    bases = list(dict.fromkeys(part.suite.base for part in parts if part.suite.base))
    if len(bases) > 1:
        raise InputError(f"the suites are unlike: base is {' in one run, '.join(bases)} in another")
    most = max(part.suite.repetitions for part in parts)
    return first.suite.changed(
        repetitions=most,
        plugins=tuple(dict.fromkeys(plugin for part in parts for plugin in part.suite.plugins)),
        datasets=_datasets(parts, most),
        methods=_same_by_label(parts, "methods"),
        base=bases[0] if bases else "",
    )


def _datasets(parts: Sequence[_Part], most: int) -> tuple[DatasetItem, ...]:
    """Every dataset with as many repetitions as the run that drew most of it."""
    drawn: dict[str, int] = {}
    for part in parts:
        for item in part.suite.datasets:
            drawn[item.label] = max(drawn.get(item.label, 0), item.repetitions or part.suite.repetitions)
    return tuple(
        item.model_copy(update={"repetitions": None if drawn[item.label] == most else drawn[item.label]})
        for item in _same_by_label(parts, "datasets")
    )


def _same_by_label(parts: Sequence[_Part], kind: str) -> tuple[Any, ...]:
    found: dict[str, tuple[Path, Any]] = {}
    for part in parts:
        for item in getattr(part.suite, kind):
            run, known = found.setdefault(item.label, (part.run, item))
            if known.model_copy(update={"repetitions": None}) != item.model_copy(update={"repetitions": None}):
                same = known.spec == item.spec
                here, there = ("one thing", "another, by tracks or curve,") if same else (known.spec, item.spec)
                raise InputError(f"the suites are unlike: {kind}: '{item.label}' is {here} in {run}, {there} in {part.run}")
    return tuple(item for _, item in found.values())


def _refuse_unlike(first: _Part, other: _Part) -> None:
    lines = unlike(problems_of(first.rows), problems_of(other.rows), us=str(first.run), them=str(other.run))
    if lines:
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise InputError(f"the problems are unlike: {lines[0]}{more}")


def _versions(runs: Sequence[Path], made_with: Sequence[Mapping[str, set[str]]]) -> Iterator[str]:
    """A line for each two runs whose versions differ; a method that was edited in between is no one method."""
    for (first, mine), (other, theirs) in combinations(zip(runs, made_with, strict=True), 2):
        found = provenance.differing(mine, theirs)
        edited = [what.removeprefix(SOURCE) for what in found if what.startswith(SOURCE)]
        if edited:
            raise InputError(
                f"the methods are unlike: {', '.join(edited)}, or what it imports, has other source in {other} than in "
                f"{first}; run one of them again"
            )
        if found:
            differs = "; ".join(f"{what} {values}" for what, values in found.items())
            yield f"{other} was made with other versions than {first}: {differs}."


# --- rows that several runs have --------------------------------------------------------------------------------------


def _conflicts(parts: Sequence[_Part], candidates: pd.DataFrame) -> Iterator[str]:
    """One line for each kind of conflict, with the first row that has it."""
    found: dict[str, list[str]] = {}
    for _, several in candidates[candidates.duplicated(CELL, keep=False)].groupby(CELL, sort=False):
        kept, *others = several.to_dict("records")
        for other in others:
            kind = _conflict(parts, kept, other)
            if kind:
                where = f"'{kept['dataset']}' #{kept['repetition']} with {kept['method']} ({kept['track']})"
                ends = f"{kept['status']} in {parts[kept['part']].run}, {other['status']} in {parts[other['part']].run}"
                found.setdefault(kind, []).append(f"{where}: {ends}")
    for kind, lines in found.items():
        yield f"{counted(len(lines), 'row')} {kind}; first {lines[0]}."


def _conflict(parts: Sequence[_Part], kept: Mapping[Any, Any], other: Mapping[Any, Any]) -> str:
    if kept["status"] != other["status"]:
        if kept["status"] == "ok":
            return "answered in one run and not in another, of which the answer is kept"
        return "ended in other ways, of which the first that ran is kept"
    if kept["cell"] != other["cell"]:
        return "computed under other versions or from data rounded otherwise, of which the first is kept"
    if kept["status"] == "ok" and not store.same_answer(parts[kept["part"]].run, parts[other["part"]].run, kept["cell"]):
        return "with another answer under the same hash, of which the first is kept"
    return ""


def _joined(made_with: Sequence[Mapping[str, set[str]]]) -> dict[str, str]:
    """Versions of all runs in words."""
    names = dict.fromkeys(what for known in made_with for what in known if not what.startswith(SOURCE))
    return {what: ", ".join(sorted(set().union(*(known.get(what, set()) for known in made_with)))) for what in names}


# --- the new run ------------------------------------------------------------------------------------------------------


def _copy(parts: Sequence[_Part], chosen: pd.DataFrame, folder: Path) -> dict[tuple[str, int], str]:
    """Copy problems and cells; return the key of each problem: the first run's, as ids of one problem may differ."""
    keys: dict[tuple[str, int], str] = {}
    drawn = chosen[chosen["fingerprint"] != ""].sort_values("part", kind="stable").drop_duplicates(PROBLEM)
    for row in drawn.to_dict("records"):
        run = parts[row["part"]].run
        if store.known_of_problem(run, row["problem"]) is None:
            raise InputError(f"{run}: the problem '{row['dataset']}' #{row['repetition']} is not stored whole; run it again")
        keys[row["dataset"], row["repetition"]] = row["problem"]
        store.copy_problem(run, folder, row["problem"])
    for row in chosen[chosen["cell"] != ""].drop_duplicates("cell").to_dict("records"):
        store.copy_cell(parts[row["part"]].run, folder, row["cell"])
    for i, reasons in chosen.groupby("part")["reason"]:
        for path in store.tracebacks(parts[int(str(i))].run, set(reasons.astype(str))):
            write_atomic(folder / "problems" / path.name, path.read_bytes())
    return keys


def _planned(
    suite: Suite, chosen: pd.DataFrame, keys: Mapping[tuple[str, int], str], folder: Path
) -> tuple[list[PlannedCell], int]:
    """The rows of the suite that some run has, as they were planned there, in the order of a run; and how many none has."""
    rows = {tuple(row[name] for name in CELL): row for row in chosen.to_dict("records")}
    able = {m.label: registry.make_method(m.name, **m.parameters).effective_capabilities() for m in suite.methods}
    known = {key: store.known_of_problem(folder, key) or {} for key in keys.values()}
    planned, missing = [], 0
    for track, dataset, repetition, method in _rows_of(suite):
        row = rows.get((track, dataset.label, repetition, method.label))
        if row is None:
            missing += 1
            continue
        key = keys.get((dataset.label, repetition), "")
        problem = PlannedProblem(dataset, repetition, row["data_seed"], key, known.get(key, {}))
        planned.append(_planned_cell(row, track, problem, method, able[method.label]))
    return planned, missing


def _rows_of(suite: Suite) -> Iterator[tuple[str, DatasetItem, int, MethodItem]]:
    for track in suite.tracks:
        for dataset in suite.datasets:
            if track in (dataset.tracks or suite.tracks):
                repetitions = range(dataset.repetitions or suite.repetitions)
                yield from ((track, dataset, r, method) for r in repetitions for method in suite.methods)


def _planned_cell(
    row: Mapping[Any, Any], track: str, problem: PlannedProblem, method: MethodItem, able: Capabilities
) -> PlannedCell:
    return PlannedCell(
        track,
        problem,
        method,
        able,
        targets_given=row["targets_given"] is True,
        graph_given=row.get("graph_given") is True,  # earlier versions had no such column
        method_seed=row["method_seed"],
        identity={},  # stands in the record of the cell, and is of no use to scores
        cell=row["cell"],
        skipped="" if row["cell"] else row["reason"],
    )
