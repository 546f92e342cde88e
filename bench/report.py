"""From a run directory to what one sees: tables on the terminal, tables and plots in files.

It reads the frames that the runner wrote and nothing else, so a report can be made again at any time, anywhere. Ranking and
intervals are the business of ``bench.statistics``, layout that of ``bench.tables`` and ``bench.plots``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.columns import few_shot_column
from bench.errors import InputError
from bench.files import write_atomic
from bench.plots import few_shot_sizes, write_plots
from bench.statistics import check_metric, check_rows, metrics_of
from bench.tables import (
    DEFAULT_METRICS,
    SORT_BY,
    Leaderboard,
    estimate_tables,
    failure_notes,
    leaderboard,
    write_tables,
)

FEW_SHOT_METRIC = "target_average_precision"


def read_rows(run_directory: Path) -> pd.DataFrame:
    """Return the rows frame of a run, in the order in which it was written.

    Raises
    ------
    InputError
        If there is none, it cannot be read, or it breaks its contract.
    """
    rows = _read(run_directory, "rows")
    if rows is None:
        raise InputError(f"{run_directory}: expected a run directory with a rows.parquet in it, found none; run a suite first")
    if rows.empty:
        raise InputError(f"{run_directory / 'rows.parquet'}: expected rows, got an empty table")
    check_rows(rows)
    return rows


def write_report(
    run_directory: Path, *, output: Path | None = None, sort_by: str | None = None, console: Console | None = None
) -> list[Path]:
    """Print the tables of a run, and write its tables and plots.

    A ranked table per track, one per dataset where there are several, and one of the few-shot scores; a problem without truth
    has no score, so its estimates are printed instead.

    Parameters
    ----------
    run_directory : Path
        Holds ``rows.parquet`` and, optionally, ``edges.parquet``, ``targets.parquet`` and ``reliability.parquet``.
    output : Path, optional
        Where ``tables/`` and ``plots/`` go; the run directory by default.
    sort_by : str, optional
        Metric that orders the methods; by default ``shd_interventional``, or the first metric of the table with a value.
    console : rich.console.Console, optional
        Where to print; the terminal by default.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        If a frame is missing or unreadable, or ``sort_by`` is no metric.
    """
    run_directory = Path(run_directory)
    output = run_directory if output is None else Path(output)
    console = Console() if console is None else console
    if sort_by is not None:
        check_metric(sort_by)
    rows = check_rows(read_rows(run_directory))
    edges, targets = _read(run_directory, "edges"), _read(run_directory, "targets")
    unscored = unscored_problems(edges, targets)
    scored = rows[~_keys(rows).isin(unscored)]
    sort_by = sort_by or next((m for m in (SORT_BY, *DEFAULT_METRICS) if m in metrics_of(scored)), SORT_BY)

    boards, complete = list(_boards(scored, sort_by)), list(_complete(scored, sort_by))
    _print_boards(boards, console)
    if edges is not None and len(unscored):
        _print_estimates(rows[_keys(rows).isin(unscored)], edges[_keys(edges).isin(unscored)], targets, console)
    tables = write_tables(boards, output / "tables") + write_tables(complete, output / "tables", ["csv"])
    tables += _write_estimates(edges, targets, unscored, output / "tables")
    plots = write_plots(rows, output / "plots", edges=edges, reliability=_read(run_directory, "reliability"), sort_by=sort_by)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if plots.left_out:
        say(f"Plots left out: {'; '.join(plots.left_out)}.")
    say(f"Tables (CSV, Markdown, LaTeX): {output / 'tables'}")
    say(f"Plots (PNG, SVG): {output / 'plots'}")
    say(f"Data, a row per method and problem: {run_directory / 'rows.parquet'}")
    return [*tables, *plots.written]


def _read(run_directory: Path, name: str) -> pd.DataFrame | None:
    """One frame of a run, None where it was not written."""
    path = run_directory / f"{name}.parquet"
    if not path.exists():
        return None
    try:
        return pd.read_parquet(path)
    except Exception as reason:  # pyarrow raises many kinds; whatever it is, the file is the matter
        first_line = str(reason).strip().split("\n")[0]
        raise InputError(f"{path}: expected a parquet file, could not read it ({first_line})") from reason


def _keys(frame: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(frame[["dataset", "problem"]].astype(str))


def unscored_problems(edges: pd.DataFrame | None, targets: pd.DataFrame | None) -> pd.MultiIndex:
    """(dataset, problem) of each problem of which neither the truth of a pair nor that of a target is known."""
    frames = [frame for frame in (edges, targets) if frame is not None and not frame.empty]
    if not frames:
        return pd.MultiIndex.from_arrays([[], []], names=["dataset", "problem"])
    keys = [_keys(frame) for frame in frames]
    known = [key[frame["truth"].notna().to_numpy()] for key, frame in zip(keys, frames, strict=True)]
    every, scored = (parts[0].append(parts[1:]).unique() for parts in (keys, known))
    return every.difference(scored)


# --- tables -----------------------------------------------------------------------------------------------------------


def _tracks(rows: pd.DataFrame) -> list[str]:
    """Tracks in the order of reading: targets unknown first."""
    return sorted(map(str, rows["track"].unique()), key=lambda track: (track != "unknown", track))


def _boards(rows: pd.DataFrame, sort_by: str) -> Iterator[Leaderboard]:
    for track in _tracks(rows):
        of_track = rows[rows["track"] == track]
        yield leaderboard(rows, track=track, sort_by=sort_by)
        datasets = sorted(map(str, of_track.loc[of_track["status"] != "skipped", "dataset"].unique()))
        if len(datasets) > 1:
            yield from (leaderboard(rows, track=track, dataset=dataset, sort_by=sort_by) for dataset in datasets)
        few_shot = [few_shot_column(FEW_SHOT_METRIC, size) for size in few_shot_sizes(rows, FEW_SHOT_METRIC)]
        few_shot = [column for column in few_shot if of_track[column].notna().any()]
        if few_shot:
            yield leaderboard(rows, track=track, metrics=few_shot, sort_by=few_shot[0], subject="few-shot")


def _complete(rows: pd.DataFrame, sort_by: str) -> Iterator[Leaderboard]:
    """Every metric of a track, for the CSV."""
    for track in _tracks(rows):
        metrics = metrics_of(rows[rows["track"] == track])
        yield leaderboard(rows, track=track, metrics=metrics, sort_by=sort_by, subject="all-metrics")


def _print_boards(boards: list[Leaderboard], console: Console) -> None:
    """The boards; how to read them is said once per manner of sorting, not under each."""
    said: set[str] = set()
    for board in boards:
        console.print(dataclasses.replace(board, reading=tuple(line for line in board.reading if line not in said)))
        said.update(board.reading)
        console.print()


# --- problems without truth -------------------------------------------------------------------------------------------


def _print_estimates(rows: pd.DataFrame, edges: pd.DataFrame, targets: pd.DataFrame | None, console: Console) -> None:
    for (track, dataset), of_dataset in edges.groupby(["track", "dataset"], sort=True):
        first = of_dataset.sort_values(["repetition", "problem"], kind="stable")["problem"].iloc[0]
        of_problem = of_dataset[of_dataset["problem"] == first]
        same = None
        if targets is not None:
            here = (targets["track"] == track) & (targets["dataset"] == dataset) & (targets["problem"] == first)
            same = targets[here]
        n = of_dataset["problem"].nunique()
        which = "" if n == 1 else f" · first of {n} problems"
        console.print(f"{dataset}: no truth is known, so there is no score; what the methods estimate:", markup=False)
        for table in estimate_tables(of_problem, same, title=f"{dataset} · {track}{which}"):
            console.print(table)
        for note in failure_notes(rows[(rows["track"] == track) & (rows["dataset"] == dataset)]):
            console.print(note, markup=False, highlight=False)
        console.print()


def _write_estimates(
    edges: pd.DataFrame | None, targets: pd.DataFrame | None, unscored: pd.MultiIndex, directory: Path
) -> list[Path]:
    """All estimates of the problems without truth, tidy."""
    paths = []
    for name, frame in (("edges", edges), ("targets", targets)):
        chosen = frame[_keys(frame).isin(unscored)] if frame is not None and len(unscored) else None
        if chosen is not None and len(chosen):
            text = chosen.drop(columns="truth").to_csv(index=False, lineterminator="\n")
            paths.append(write_atomic(directory / f"estimated-{name}.csv", text))
    return paths
