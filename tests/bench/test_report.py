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
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import InputError, UnknownName
from bench.report import WRITTEN, publish, read_rows, unscored_problems, write_report
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


def first_score(directory: Path) -> str:
    """Head of the column that orders the methods."""
    lines = (directory / "tables" / "leaderboard-unknown.md").read_text().splitlines()
    return next(line for line in lines if line.startswith("| method")).split(" | ")[2]


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
    assert {p.parent for p in paths if p.name != "report.html"} == {directory / "tables", directory / "plots"}
    assert directory / "report.html" in paths
    for title in (
        "targets unknown · er; sf · 12",
        "targets unknown · few-shot · er; sf",
        "oracle track (targets told) · er · 6",
    ):
        assert title in text


def test_tables_of_single_datasets_are_printed_on_request_only(tmp_path, unplotted):
    directory = run_directory(tmp_path, rows=small_rows(datasets=("er", "sf")))
    _, short = report(directory)
    paths, long = report(directory, per_dataset=True)
    asked = CliRunner().invoke(app, ["report", str(directory), "--per-dataset"])
    assert asked.exit_code == 0
    assert directory / "tables" / "leaderboard-unknown-er.md" in paths
    for title in ("targets unknown · er · 2 problems", "targets unknown · sf · 2 problems"):
        assert title not in short
        assert title in long
        assert title in asked.stdout


def test_families_of_datasets_have_tables_of_their_own(tmp_path, unplotted):
    rows = rows_frame(("empty", "ut_igsp"), ("er", "sf", "sachs"), repetitions=3, sizes=(3,))
    rows["family"] = rows["dataset"].map({"er": "made", "sf": "made", "sachs": "proteins"})
    rows["base"] = "ut_igsp"
    directory = run_directory(tmp_path, rows=rows)
    paths, text = report(directory)
    names = {p.name for p in paths}
    assert {f"leaderboard-unknown-family-{f}.md" for f in ("made", "proteins")} <= names
    assert "leaderboard-unknown-family-made-few-shot.csv" in names
    assert "targets unknown · made · 2 datasets · 6 problems" in text
    assert "targets unknown · difference to ut_igsp · made · 2 datasets · 6 problems" in text
    difference = pd.read_csv(tmp_path / "tables" / "difference-unknown-family-made.csv")
    assert set(difference.loc[difference["metric"] == "shd", "n_paired"]) == {6}
    frame = pd.read_csv(tmp_path / "tables" / "leaderboard-unknown-family-made.csv")
    assert set(frame["family"]) == {"made"}
    assert set(frame["n"].dropna()) <= {0, 6}
    in_one = rows.assign(family="made")
    in_one.to_parquet(tmp_path / "rows.parquet")
    assert not [p for p in report(directory)[0] if "family" in p.name]


def test_what_is_published_is_the_report_and_what_it_was_made_from(tmp_path):
    directory, destination = run_directory(tmp_path / "run", rows=rows_frame(repetitions=2)), tmp_path / "published"
    (directory / "suite.yaml").write_text("name: mine\n")
    names = [
        "report.html",
        "tables/a.md",
        "tables/a.csv",
        "tables/a.tex",
        "tables/b.md",
        "plots/scores.png",
        "plots/scores.svg",
    ]
    files = [directory / name for name in (*names, "plots/edges-of-one-problem.png")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text(file.name)

    def published():
        return {str(p.relative_to(destination)) for p in destination.rglob("*") if p.is_file() and p.name != WRITTEN}

    expected = {"report.html", "tables/a.md", "tables/a.csv", "tables/b.md", "plots/scores.png", "rows.parquet", "suite.yaml"}
    assert (
        {str(p.relative_to(destination)) for p in publish(directory, destination, files, "name: whole\n")}
        == expected
        == published()
    )
    assert (destination / "rows.parquet").read_bytes() == (directory / "rows.parquet").read_bytes()
    assert (destination / "suite.yaml").read_text() == "name: whole\n"
    (destination / "tables" / "mine.txt").write_text("kept")
    publish(directory, destination, [f for f in files if f.name != "b.md"], "name: whole\n")
    assert published() == expected - {"tables/b.md"} | {"tables/mine.txt"}


def test_a_published_page_promises_no_file_that_is_not_published(tmp_path):
    """Pictures of single problems are left out of what is published, and those beyond the first few of its page too."""
    rows = small_rows(datasets=tuple(f"d{i}" for i in range(7)), repetitions=1)
    edges = [edges_frame(("empty",), n_variables=3, dataset=f"d{i}", problem=f"d{i}-0") for i in range(7)]
    directory, destination = run_directory(tmp_path / "run", rows=rows, edges=pd.concat(edges)), tmp_path / "published"
    written = publish(directory, destination, report(directory)[0], "name: quick\n")
    assert not [path for path in written if path.name.startswith("edges-")]
    page = (destination / "report.html").read_text(encoding="utf-8")
    assert "edge probabilities of 1 further problem " in page
    assert "in the folder" not in page


@pytest.mark.slow
def test_five_datasets_on_two_tracks_are_a_hundred_lines_at_most(tmp_path, unplotted):
    methods = [f"method_{i}[bootstrap=20]" for i in range(10)]
    rows = rows_frame(methods, [f"dataset {i}" for i in range(5)], tracks=("unknown", "oracle"), repetitions=2)
    _, text = report(run_directory(tmp_path, rows=rows.assign(targets_given=False)))
    assert len(text.splitlines()) <= 100
    assert all(f"{method} " in text for method in methods)  # whole, not folded


def test_the_oracle_track_has_few_shot_scores_only_of_methods_that_were_told_the_targets(tmp_path, unplotted):
    rows = small_rows(datasets=("er",)).assign(few_shot_target_average_precision_n3=0.5)
    rows = pd.concat([rows, rows.assign(track="oracle")])
    _, text = report(run_directory(tmp_path / "nobody", rows=rows))
    assert text.count("few-shot ·") == 1
    rows["targets_given"] = (rows["track"] == "oracle") & (rows["method"] == "ut_igsp")
    _, text = report(run_directory(tmp_path / "somebody", rows=rows))
    assert text.count("few-shot ·") == 2


def test_a_base_has_its_differences_printed_and_written_and_without_one_there_are_none(tmp_path, unplotted):
    rows = rows_frame(("empty", "ut_igsp", "gies"), ("er", "sf"), repetitions=6, sizes=(3,))
    paths, text = report(run_directory(tmp_path / "none", rows=rows.assign(base="")))
    assert "difference to" not in text
    assert not [p for p in paths if p.name.startswith("difference")]
    paths, text = report(run_directory(tmp_path / "base", rows=rows.assign(base="gies")))
    assert text.count("difference to gies · er; sf · 12 problems") == 1
    names = ("difference-unknown", "difference-unknown-er", "difference-unknown-sf")
    assert {p.name for p in paths if p.name.startswith("difference")} == {
        f"{n}.{f}" for n in names for f in ("csv", "md", "tex")
    }
    markdown = (tmp_path / "base" / "tables" / "difference-unknown.md").read_text()
    assert re.findall(r"^\| `(.*?)`", markdown, re.MULTILINE) == ["gies", "empty", "ut_igsp"]  # in the order of the suite
    _, text = report(tmp_path / "base", per_dataset=True)
    assert "difference to gies · sf · 6 problems" in text


def test_the_graph_track_shows_targets_alone_and_its_few_shot_scores_are_the_measure_of_those_without(tmp_path, unplotted):
    rows = rows_frame(("ut_igsp", "gies"), ("er",), tracks=("unknown", "graph"), repetitions=6, sizes=(3,))
    rows["graph_given"] = rows["track"] == "graph"
    column = "few_shot_target_average_precision_n3"
    rows.loc[rows["graph_given"], column] = 1.0
    rows.loc[~rows["graph_given"], column] = 0.97
    paths, text = report(run_directory(tmp_path, rows=rows))
    flat = " ".join(text.split())
    assert "graph track (true graph told, targets unknown) · er · 6 problems" in flat
    assert "Scores of the graph are left out: every method was told it." in flat
    assert "as a share of the same with the true graph told" in flat
    assert flat.count("97.0%") == 2
    told = (tmp_path / "tables" / "leaderboard-graph.md").read_text()
    assert "SHD" not in told
    assert "edge AP" not in told
    assert "target F1" in told.splitlines()[2]
    assert {"few-shot-share-of-true-graph.csv", "leaderboard-graph-few-shot.md"} <= {p.name for p in paths}
    complete = pd.read_csv(tmp_path / "tables" / "leaderboard-graph-all-metrics.csv")
    assert not [m for m in complete["metric"] if m.startswith(("edge", "shd"))]


def test_calibration_has_a_table_in_files_that_is_printed_where_it_is_to_order(tmp_path, unplotted):
    rows = small_rows(repetitions=6).assign(edge_brier=0.1, edge_brier_skill_thresholded=0.2, target_log_skill_thresholded=0.3)
    directory = run_directory(tmp_path, rows=rows)
    paths, text = report(directory)
    assert directory / "tables" / "leaderboard-unknown-calibration.md" in paths
    assert "· calibration ·" not in text
    _, text = report(directory, sort_by="edge_brier_skill_thresholded")
    flat = " ".join(text.split())
    assert "targets unknown · calibration · er · 6 problems" in flat
    assert "0.300" in flat


def test_few_shot_tables_count_the_problems_with_held_out_environments(tmp_path, unplotted):
    rows = small_rows(datasets=("er", "sf"))
    rows["n_held_out"] = np.where(rows["dataset"] == "er", 10, 0)
    rows["few_shot_target_average_precision_n3"] = np.where(rows["dataset"] == "er", 0.5, np.nan)
    _, text = report(run_directory(tmp_path, rows=rows))
    assert "few-shot · er · 2 problems" in text


def test_a_report_removes_what_an_earlier_one_wrote_and_nothing_else(tmp_path):
    directory = run_directory(tmp_path, rows=small_rows(datasets=("er", "sf")))
    before, _ = report(directory)
    own = [directory / "tables" / "leaderboard-mine.md", directory / "plots" / "notes.txt"]
    for path in own:
        path.write_text("mine")
    run_directory(tmp_path, rows=small_rows(datasets=("er",)).drop(columns="target_f1"))
    after, _ = report(directory)
    stale = set(before) - set(after)
    tables = {f"leaderboard-unknown-{d}.{f}" for d in ("er", "sf") for f in ("csv", "md", "tex")}
    assert {p.name for p in stale} == tables | {f"scores-unknown-target_f1.{f}" for f in ("png", "svg")}
    assert not [p for p in stale if p.exists()]
    assert all(p.exists() for p in [*own, *after])


def test_a_list_of_written_files_that_points_elsewhere_removes_nothing(tmp_path, unplotted):
    directory = run_directory(tmp_path / "run", rows=small_rows())
    report(directory)
    (tmp_path / "run" / "precious.txt").write_text("mine")
    (directory / "tables" / WRITTEN).write_text("../precious.txt\n\n..\n.\n")
    report(directory)
    assert (tmp_path / "run" / "precious.txt").exists()


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
    assert flat.count("Scores: means over the n problems answered") == 1
    assert flat.index("Order: mean rank on the first score") > flat.index("oracle track")
    for place in ("tables", "plots", "rows.parquet"):
        assert str(directory / place) in text


def test_a_report_made_twice_is_the_same_byte_for_byte(tmp_path):
    frames = {"edges": edges_frame(("empty", "ut_igsp")), "reliability": reliability_frame(("ut_igsp",))}
    directory = run_directory(tmp_path / "run", rows=small_rows(), **frames)
    paths, _ = report(directory)
    again, _ = report(directory, output=tmp_path / "again")
    assert [p.name for p in again] == [p.name for p in paths]
    assert {p.parent for p in again} == {tmp_path / "again" / name for name in ("", "tables", "plots")}
    for before, after in zip(paths, again, strict=True):
        assert before.read_bytes() == after.read_bytes(), before.name


def test_the_sorting_metric_can_be_chosen_and_a_misspelt_one_is_answered(tmp_path, unplotted):
    directory = run_directory(tmp_path, rows=small_rows())
    report(directory, sort_by="target_f1")
    assert first_score(directory) == "target F1 ↑"
    with pytest.raises(UnknownName, match="did you mean 'target_f1'"):
        write_report(directory, sort_by="targetf1")


def test_without_the_usual_sorting_metric_the_next_one_with_values_orders(tmp_path, unplotted):
    rows = small_rows().drop(columns="shd_interventional")
    report(run_directory(tmp_path, rows=rows))
    assert first_score(tmp_path) == "target F1 ↑"


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
    assert "targets unknown · er · 2 problems" in text  # the board does not count the problem without truth
    strongest = edges[edges["dataset"] == "own"].nlargest(1, "probability").iloc[0]
    assert f"{strongest['source']} → {strongest['target']} {strongest['probability']:.2f}" in text
    estimated = pd.read_csv(directory / "tables" / "estimated-edges.csv")
    assert set(estimated["dataset"]) == {"own"}
    assert "truth" not in estimated
    assert directory / "tables" / "estimated-targets.csv" in paths
    assert directory / "plots" / "edges-unknown-own.png" in paths


def test_a_problem_with_known_targets_and_an_unknown_graph_is_scored(tmp_path, unplotted):
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
