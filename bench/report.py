"""From a run directory to what one sees: tables on the terminal, tables and plots in files.

It reads the frames that the runner wrote and nothing else, so a report can be made again at any time, anywhere. Ranking and
intervals are the business of ``bench.statistics``, layout that of ``bench.tables`` and ``bench.plots``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from bench.columns import few_shot_column, info, scores_the_graph
from bench.curves import curve_boards
from bench.differences import FEW_SHOT_METRIC, difference_board, share_board
from bench.errors import InputError
from bench.estimates import estimate_tables
from bench.files import write_atomic
from bench.footnotes import failure_notes
from bench.labels import SORT_BY, base_of, track_order, was_told
from bench.page import NAME as PAGE
from bench.page import write_page
from bench.plots import few_shot_sizes, write_plots
from bench.statistics import check_metric, check_rows, metrics_of
from bench.table_files import write_tables
from bench.tables import DEFAULT_METRICS, Board, Leaderboard, leaderboard, left_out, legend
from bench.terminal import SafeConsole

CALIBRATION = "calibration"
CALIBRATION_SORT_BY = ("edge_brier", "target_brier")
CALIBRATION_METRICS = tuple(
    f"{what}_{score}_skill_{reference}"
    for reference in ("thresholded", "base_rate")
    for what in ("edge", "target")
    for score in ("brier", "log")
)
"""Of the table of calibration. Skills are no order: one without a mistake has none against its own thresholded output."""

WRITTEN = ".written-by-report"
"""In each folder of a report, the names of the files that the report wrote there."""


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
    run_directory: Path,
    *,
    output: Path | None = None,
    sort_by: str | None = None,
    per_dataset: bool = False,
    console: Console | None = None,
) -> list[Path]:
    """Print the tables of a run, and write its tables, plots and page.

    A ranked table per track over all datasets and of each family that the suite names, and the few-shot scores; where the
    suite names a base, the paired differences to it; where the true graph was told on a track, the few-shot scores without it
    as a share of those with it. A problem without truth has no score, so its estimates are printed instead. In files there
    are a table per dataset, one of calibration (printed as well where ``sort_by`` is such a metric) and one of every metric
    besides. What an earlier report wrote into ``tables/`` and ``plots/`` and this one does not is removed; other files stay.

    Parameters
    ----------
    run_directory : Path
        Holds ``rows.parquet`` and, optionally, ``edges.parquet``, ``targets.parquet`` and ``reliability.parquet``.
    output : Path, optional
        Where ``report.html``, ``tables/`` and ``plots/`` go; the run directory by default.
    sort_by : str, optional
        Metric that orders the methods; by default ``shd_interventional``, or the first metric of the table with a value.
    per_dataset : bool
        Print the table of each dataset, and the few-shot scores of each family, as well.
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
    console = SafeConsole() if console is None else console
    if sort_by is not None:
        check_metric(sort_by)
    listed = read_rows(run_directory)
    order, rows = list(dict.fromkeys(map(str, listed["method"]))), check_rows(listed)
    edges, targets = _read(run_directory, "edges"), _read(run_directory, "targets")
    unscored = unscored_problems(edges, targets)
    scored = rows[~_keys(rows).isin(unscored)]
    sort_by = sort_by or next((m for m in (SORT_BY, *DEFAULT_METRICS) if m in metrics_of(scored)), SORT_BY)

    boards = [*_boards(scored, sort_by), *_comparisons(scored, order), *curve_boards(scored, order=order, base=base_of(scored))]
    print_boards([b for b in boards if _is_printed(b, sort_by, per_dataset)], console)
    if edges is not None and len(unscored):
        _print_estimates(rows[_keys(rows).isin(unscored)], edges[_keys(edges).isin(unscored)], targets, console)
    tables = write_tables(boards, output / "tables") + write_tables(_complete(scored, sort_by), output / "tables", ["csv"])
    tables += _write_estimates(edges, targets, unscored, output / "tables")
    plots = write_plots(rows, output / "plots", edges=edges, reliability=_read(run_directory, "reliability"), sort_by=sort_by)
    _remove_stale(output / "tables", tables)
    _remove_stale(output / "plots", plots.written)
    page = write_page(
        output / PAGE, rows=listed, boards=boards, plots=plots, about=_about(run_directory), suite=_suite(run_directory)
    )

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if plots.left_out:
        say(f"Plots left out: {'; '.join(plots.left_out)}.")
    say(f"Tables, also per dataset and of every metric (CSV, Markdown, LaTeX): {output / 'tables'}")
    say(f"Plots (PNG, SVG): {output / 'plots'}; all of it in one page: {page}")
    say(f"Data, a row per method and problem: {run_directory / 'rows.parquet'}")
    return [*tables, *plots.written, page]


PUBLISHED = ("rows.parquet", "about.json")
"""Of a run, besides its report and suite: every score, versions and cards."""


def publish(run_directory: Path, destination: Path, report: Iterable[Path], suite: str) -> list[Path]:
    """Copy what readers of a run need into a folder that can be committed.

    That is the page, the tables (CSV, Markdown) and plots (PNG) but for single problems, and the files that all of it was made
    from. What an earlier call wrote there and this one does not is removed. The stored cells and the draws stay where they
    are; the same suite makes them again.

    Parameters
    ----------
    run_directory, destination : Path
    report : iterable of Path
        The files that :func:`write_report` wrote into the run directory.
    suite : str
        Text of the suite file, with every parameter.

    Returns
    -------
    list of Path
        The files written.
    """
    chosen = [p for p in report if p.suffix in {".html", ".csv", ".md", ".png"} and not p.name.startswith("edges-")]
    chosen += [run_directory / name for name in PUBLISHED if (run_directory / name).exists()]
    written = [write_atomic(destination / p.relative_to(run_directory), p.read_bytes()) for p in chosen]
    written.append(write_atomic(destination / "suite.yaml", suite.encode()))
    for folder in {p.parent for p in written}:
        _remove_stale(folder, [p for p in written if p.parent == folder])
    return written


def _remove_stale(directory: Path, written: Iterable[Path]) -> None:
    """Remove what an earlier report wrote into a folder and this one did not, and remember what this one wrote."""
    names, memory = {path.name for path in written}, directory / WRITTEN
    if memory.exists():
        for name in memory.read_text(encoding="utf-8").splitlines():
            if name not in names and name == Path(name).name and (directory / name).is_file():
                (directory / name).unlink()
    if names or memory.exists():
        write_atomic(memory, "".join(f"{name}\n" for name in sorted(names)))


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


def _about(run_directory: Path) -> dict[str, Any]:
    """Cards and versions, empty where a run of an earlier version did not write them."""
    path = run_directory / "about.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as reason:
        raise InputError(f"{path}: expected JSON, could not read it ({reason})") from None
    return content if isinstance(content, dict) else {}


def _suite(run_directory: Path) -> str:
    path = run_directory / "suite.yaml"
    return path.read_text(encoding="utf-8") if path.exists() else ""


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


def _boards(rows: pd.DataFrame, sort_by: str) -> Iterator[Leaderboard]:
    """Per track the table of all datasets and of each family, with few-shot scores, and, of several datasets, one of each."""
    for track in track_order(rows):
        of_track = rows[rows["track"] == track]
        yield leaderboard(rows, track=track, sort_by=sort_by)
        yield from _few_shot_board(of_track, track)
        for family in _families(of_track):
            yield leaderboard(rows, track=track, family=family, sort_by=sort_by)
            yield from _few_shot_board(of_track[of_track["family"] == family], track, family)
        yield from _calibration_board(of_track, track, sort_by)
        datasets = sorted(map(str, of_track.loc[of_track["status"] != "skipped", "dataset"].unique()))
        if len(datasets) > 1:
            yield from (leaderboard(rows, track=track, dataset=dataset, sort_by=sort_by) for dataset in datasets)


def _families(rows: pd.DataFrame) -> list[str]:
    """Families of datasets that some method met, by name; none where one is all there is."""
    if "family" not in rows:  # a run of an earlier version
        return []
    met = set(map(str, rows.loc[rows["status"] != "skipped", "family"]))
    return sorted(met - {""}) if len(met) > 1 else []


def _comparisons(rows: pd.DataFrame, order: list[str]) -> Iterator[Board]:
    """Paired differences to the base of the suite, per track and dataset, and one track as a share of another."""
    base, tracks = base_of(rows), track_order(rows)
    for track in tracks:
        ran = rows[(rows["track"] == track) & (rows["status"] != "skipped")]
        if track != tracks[0] and not was_told(ran).any():
            continue  # the same answers again
        datasets = sorted(map(str, ran.loc[ran["method"] == base, "dataset"].unique()))
        if datasets and ran["method"].nunique() > 1:
            yield difference_board(rows, base, track=track, order=order)
            for family in _families(ran[ran["method"] == base]):
                yield difference_board(rows, base, track=track, family=family, order=order)
            if len(datasets) > 1:
                yield from (difference_board(rows, base, track=track, dataset=d, order=order) for d in datasets)
    share = share_board(rows)
    if share is not None:
        yield share


def _few_shot_board(rows: pd.DataFrame, track: str, family: str | None = None) -> Iterator[Leaderboard]:
    """The few-shot scores of a track or family; where something is told, only if some method that was told it has any."""
    names = [few_shot_column(FEW_SHOT_METRIC, size) for size in few_shot_sizes(rows, FEW_SHOT_METRIC)]
    new = rows if track == "unknown" else rows[was_told(rows)]
    names = [name for name in names if new[name].notna().any()]
    if names:
        with_new = rows[rows["n_held_out"] > 0] if "n_held_out" in rows else rows
        yield leaderboard(with_new, track=track, family=family, metrics=names, sort_by=names[0], subject="few-shot")


def _calibration_board(rows: pd.DataFrame, track: str, sort_by: str) -> Iterator[Leaderboard]:
    """Proper scores and skills of the probabilities that methods give; printed only where one of them is to order."""
    known = [m for m in metrics_of(rows) if info(m).group == "calibration" and not (track == "graph" and scores_the_graph(m))]
    scores = [m for m in CALIBRATION_SORT_BY if m in known]
    if scores:
        skills = [m for m in CALIBRATION_METRICS if m in known]
        first = sort_by if sort_by in known else scores[0]
        yield leaderboard(rows, track=track, metrics=skills, sort_by=first, subject=CALIBRATION)


def _is_printed(board: Board, sort_by: str, per_dataset: bool) -> bool:
    if board.name.endswith("few-shot") and board.scope.get("family"):
        return per_dataset
    if board.name.endswith(CALIBRATION) and not board.scope["dataset"]:
        return info(sort_by).group == "calibration"
    return per_dataset or not board.scope["dataset"] or board.name.startswith("curve-")


def _complete(rows: pd.DataFrame, sort_by: str) -> Iterator[Leaderboard]:
    """Every metric of a track, for the CSV."""
    for track in track_order(rows):
        metrics = metrics_of(rows[rows["track"] == track])
        yield leaderboard(rows, track=track, metrics=metrics, sort_by=sort_by, subject="all-metrics")


def print_boards(boards: list[Board], console: Console) -> None:
    """The boards; how to read them is said once, after them all."""
    for board in boards:
        console.print(board, "")
    hidden = dict.fromkeys(name for board in boards for name in left_out(board, console.width))
    lines = [
        *legend([b for b in boards if isinstance(b, Leaderboard)]),
        *([f"Not shown at this width: {', '.join(hidden)}."] if hidden else []),
    ]
    console.print(*(Text(line, style="dim") for line in lines), "", sep="\n")


# --- problems without truth -------------------------------------------------------------------------------------------


def _print_estimates(rows: pd.DataFrame, edges: pd.DataFrame, targets: pd.DataFrame | None, console: Console) -> None:
    """Of each dataset without truth, what the methods say of its first problem, on the first track that has it."""
    for dataset, of_dataset in edges.groupby("dataset", sort=True):
        track = track_order(of_dataset)[0]
        of_track = of_dataset[of_dataset["track"] == track]
        first = of_track.sort_values(["repetition", "problem"], kind="stable")["problem"].iloc[0]
        same = None
        if targets is not None:
            here = (targets["track"] == track) & (targets["dataset"] == dataset) & (targets["problem"] == first)
            same = targets[here]
        n = of_track["problem"].nunique()
        which = "" if n == 1 else f" · first of {n} problems"
        console.print(f"{dataset}: no truth is known, so there is no score; what the methods estimate:", markup=False)
        for table in estimate_tables(of_track[of_track["problem"] == first], same, title=f"{dataset} · {track}{which}"):
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
