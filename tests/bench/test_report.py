"""Reports: what a run directory turns into, on the terminal and in files."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import edges_frame, reliability_frame, row, rows_frame, targets_frame
from rich.console import Console

from bench.errors import InputError, UnknownName
from bench.report import read_rows, unscored_problems, write_report
from bench.statistics import compare


def run_directory(path: Path, **frames: pd.DataFrame) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_parquet(path / f"{name}.parquet", index=False)
    return path


def report(directory: Path, **options: object) -> tuple[list[Path], str]:
    console = Console(width=120, file=io.StringIO(), force_terminal=False, color_system=None)
    paths = write_report(directory, console=console, **options)
    return paths, console.file.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, list[Path], str]:
    """A run with two tracks and all side frames, and its report."""
    rows = rows_frame(("empty", "ut_igsp"), tracks=("unknown", "oracle"), repetitions=6, sizes=(3, 10))
    few_shot = [c for c in rows if c.startswith("few_shot") and "average_precision" not in c and "prevalence" not in c]
    unplotted = [*few_shot, "edge_average_precision", "target_average_precision", "target_f1"]
    rows = rows[~((rows["track"] == "oracle") & (rows["dataset"] == "sf"))].drop(columns=unplotted)
    directory = run_directory(
        tmp_path_factory.mktemp("run"),
        rows=rows,
        edges=edges_frame(("empty", "ut_igsp")),
        targets=targets_frame(("ut_igsp",)),
        reliability=reliability_frame(("ut_igsp",)),
    )
    return directory, *report(directory)


def small_rows(*, datasets: tuple[str, ...] = ("er",), repetitions: int = 2) -> pd.DataFrame:
    """Rows with few metrics, so that few plots are drawn."""
    rows = rows_frame(("empty", "ut_igsp"), datasets, repetitions=repetitions, sizes=())
    return rows.drop(columns=["shd", "edge_average_precision", "target_average_precision", "fit_seconds"])


def test_a_report_has_a_table_per_track_and_dataset_and_one_of_the_few_shot_scores(whole):
    directory, paths, text = whole
    tables = {p.name for p in paths if p.suffix == ".md"}
    expected = {"unknown", "unknown-er", "unknown-sf", "unknown-few-shot", "oracle", "oracle-few-shot"}
    assert tables == {f"leaderboard-{name}.md" for name in expected}
    assert all(p.exists() for p in paths)
    assert {p.parent for p in paths} == {directory / "tables", directory / "plots"}
    for title in ("targets unknown · datasets er, sf", "oracle track (targets told) · dataset er", "few-shot"):
        assert title in text


def test_every_metric_is_in_the_complete_csv(whole):
    directory, _, _ = whole
    frame = pd.read_csv(directory / "tables" / "leaderboard-unknown-all-metrics.csv")
    assert {"shd", "fit_seconds", "few_shot_target_average_precision_n10", "edge_prevalence"} <= set(frame["metric"])
    rows = read_rows(directory)
    reference = compare(rows[rows["track"] == "unknown"], ["shd"], sort_by="shd_interventional").entry("empty", "shd")
    found = frame[(frame["method"] == "empty") & (frame["metric"] == "shd")].iloc[0]
    assert found["mean"] == reference["mean"]
    assert found["low"] == reference["low"]


def test_a_report_says_how_to_read_it_once_and_where_things_lie(whole):
    directory, _, text = whole
    flat = re.sub(r"\s+", " ", text)
    assert flat.count("Means over the n problems answered") == 1
    assert flat.count("Ordered by mean rank on SHD between I-essential graphs") == 1
    for place in ("tables", "plots", "rows.parquet"):
        assert str(directory / place) in text


def test_a_report_made_twice_is_the_same_byte_for_byte(tmp_path):
    frames = {"edges": edges_frame(("empty", "ut_igsp")), "reliability": reliability_frame(("ut_igsp",))}
    directory = run_directory(tmp_path / "run", rows=small_rows(), **frames)
    paths, _ = report(directory)
    again, _ = report(directory, output=tmp_path / "again")
    assert [p.name for p in again] == [p.name for p in paths]
    assert {p.parent for p in again} == {tmp_path / "again" / "tables", tmp_path / "again" / "plots"}
    for before, after in zip(paths, again, strict=True):
        assert before.read_bytes() == after.read_bytes(), before.name


def test_the_sorting_metric_can_be_chosen_and_a_misspelt_one_is_answered(tmp_path):
    directory = run_directory(tmp_path, rows=small_rows())
    _, text = report(directory, sort_by="target_f1")
    assert "Ordered by mean rank on target F1" in re.sub(r"\s+", " ", text)
    with pytest.raises(UnknownName, match="did you mean 'target_f1'"):
        write_report(directory, sort_by="targetf1")


def test_without_the_usual_sorting_metric_the_next_one_with_values_orders(tmp_path):
    rows = small_rows().drop(columns="shd_interventional")
    _, text = report(run_directory(tmp_path, rows=rows))
    assert "Ordered by mean rank on target F1" in re.sub(r"\s+", " ", text)


def test_problems_without_truth_show_estimates_and_leave_the_scores_alone(tmp_path):
    scored = small_rows()
    own = pd.DataFrame(
        [row("empty", "own-0", dataset="own", fit_seconds=0.1), row("ut_igsp", "own-0", dataset="own", status="timeout")]
    )
    edges = pd.concat(
        [edges_frame(("empty", "ut_igsp")), edges_frame(("empty",), dataset="own", problem="own-0", truth=False, seed=1)]
    )
    targets = targets_frame(("empty",), dataset="own", problem="own-0", truth=False)
    directory = run_directory(tmp_path, rows=pd.concat([scored, own]), edges=edges, targets=targets)
    paths, text = report(directory)
    assert list(unscored_problems(edges, targets)) == [("own", "own-0")]
    assert "own: no truth is known" in text
    assert "Failed: ut_igsp 1 × timeout" in text
    assert "dataset er · 2 problems" in text  # the board does not count the problem without truth
    strongest = edges[edges["dataset"] == "own"].nlargest(1, "probability").iloc[0]
    assert f"{strongest['source']} → {strongest['target']} {strongest['probability']:.2f}" in text
    estimated = pd.read_csv(directory / "tables" / "estimated-edges.csv")
    assert set(estimated["dataset"]) == {"own"}
    assert "truth" not in estimated
    assert directory / "tables" / "estimated-targets.csv" in paths
    assert directory / "plots" / "edges-unknown-own.png" in paths


def test_a_problem_with_known_targets_and_an_unknown_graph_is_scored(tmp_path):
    rows = pd.DataFrame([row(m, "own-0", dataset="own", target_f1=0.75, fit_seconds=0.1) for m in ("empty", "ut_igsp")])
    edges = edges_frame(("empty", "ut_igsp"), dataset="own", problem="own-0", truth=False)
    targets = targets_frame(("ut_igsp",), dataset="own", problem="own-0", truth=True)
    assert len(unscored_problems(edges, targets)) == 0
    assert list(unscored_problems(edges, targets.assign(truth=None))) == [("own", "own-0")]
    _, text = report(run_directory(tmp_path, rows=rows, edges=edges, targets=targets))
    assert "no truth is known" not in text
    assert "0.75" in text


def test_a_run_without_any_truth_is_reported(tmp_path):
    rows = pd.DataFrame([row("empty", "own-0", dataset="own", fit_seconds=0.1)])
    edges = edges_frame(("empty",), dataset="own", problem="own-0", truth=False)
    paths, text = report(run_directory(tmp_path, rows=rows, edges=edges))
    assert "strongest edges" in text
    assert "Plots left out" in text
    assert not [p for p in paths if p.name.startswith("leaderboard")]


@pytest.mark.parametrize("status", ["skipped", "error"])
def test_a_run_in_which_nothing_worked_is_reported(tmp_path, status):
    rows = pd.DataFrame([row(m, f"p{i}", status=status) for m in ("a", "b") for i in range(2)])
    _, text = report(run_directory(tmp_path, rows=rows))
    assert f"made-up {status}" in text
    assert "No method is ranked" in text


def test_truth_written_as_booleans_with_gaps_is_read_from_parquet(tmp_path):
    edges = edges_frame(("empty",))
    edges["truth"] = [None if i == 0 else bool(t) for i, t in enumerate(edges["truth"])]
    rows = small_rows(repetitions=1)
    paths, _ = report(run_directory(tmp_path, rows=rows, edges=edges))
    assert tmp_path / "plots" / "edges-unknown-er.png" in paths


def test_a_missing_an_unreadable_and_an_empty_file_are_one_clear_line_each(tmp_path):
    with pytest.raises(InputError, match=r"expected a run directory with a rows\.parquet"):
        write_report(tmp_path / "nowhere")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "rows.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"rows\.parquet: expected a parquet file") as caught:
        write_report(broken)
    assert "\n" not in str(caught.value)
    empty = run_directory(tmp_path / "empty", rows=rows_frame(repetitions=1).iloc[:0])
    with pytest.raises(InputError, match="got an empty table"):
        read_rows(empty)
    lacking = run_directory(tmp_path / "lacking", rows=pd.DataFrame({"track": ["unknown"], "shd": [np.nan]}))
    with pytest.raises(InputError, match="method, status missing"):
        read_rows(lacking)


def test_rows_come_back_in_the_order_of_the_file(tmp_path):
    rows = rows_frame(repetitions=2).sample(frac=1, random_state=0).reset_index(drop=True)
    assert read_rows(run_directory(tmp_path, rows=rows))["method"].tolist() == rows["method"].tolist()
