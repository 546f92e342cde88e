"""`compare`, `merge` and `clean` on whole runs; `sys-info`."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs import without_times

from bench import runner, store
from bench.report import read_rows
from bench.suites import load_suite, save_suite

SMALL = {"n_variables": 4, "n_observational": 60, "n_environments": 3, "n_per_environment": 20}
SUITE = f"""
name: small
repetitions: 4
timeout: 20
tracks: [unknown, oracle]
datasets:
  - {{name: synthetic, label: small, parameters: {json.dumps(SMALL)}}}
  - {{name: synthetic, label: dense, parameters: {json.dumps(SMALL | {"edges_per_node": 1.5})}}}
methods: [marginal, empty, random]
base: marginal
"""
BROKEN = """
from bench.registry import register_dataset
from bench.types import Meta


@register_dataset("broken", meta=Meta("A dataset of a test."))
def broken(rng):
    raise RuntimeError("broken")
"""
LESS = ("marginal", "empty")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Runs of one suite: all of it, two methods, the third with fewer repetitions, the third on one dataset."""
    folder = tmp_path_factory.mktemp("finished")
    suite = folder / "small.yaml"
    suite.write_text(SUITE)
    runner.run(suite, output=folder / "whole")
    for name, changes in {
        "two": {"methods": LESS},
        "third": {"methods": ["random"]},
        "dense": {"methods": ["random"], "datasets": ["dense"]},
    }.items():
        runner.run(suite, output=folder / name, reuse=[folder / "whole"], **changes)
    return folder


@pytest.fixture
def runs(finished, tmp_path, monkeypatch):
    """A copy of them that a test may spoil, as the working directory."""
    shutil.copytree(finished, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    return tmp_path / "runs"


def _edit_record(run, cell, **changes):
    path = store.cell_path(run, cell) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _fail(run, method, status="timeout"):
    """Make the first cell of a method in a run a failure."""
    rows = read_rows(run)
    cell = rows.loc[rows["method"] == method, "cell"].iloc[0]
    _edit_record(run, cell, status=status, reason=f"made-up {status}")
    rows.loc[rows["cell"] == cell, ["status", "reason"]] = [status, f"made-up {status}"]
    store.write_frame(run / "rows.parquet", rows)
    return cell


# --- merge ------------------------------------------------------------------------------------------------------------


def test_parts_merge_into_the_run_made_at_once_and_go_on_where_it_would(call, runs):
    status, out, err = call("merge", "two", "third", "--output", "merged")
    assert (status, err) == (0, "")
    assert "48 rows of 2 runs merged into merged" in out
    assert "none of them" not in out
    pd.testing.assert_frame_equal(read_rows(runs / "merged"), read_rows(runs / "whole"))
    for name in ("edges", "targets"):
        pd.testing.assert_frame_equal(pd.read_parquet(f"merged/{name}.parquet"), pd.read_parquet(f"whole/{name}.parquet"))
    status, out, _ = call("run", "merged/suite.yaml", "--output", "merged", "--dry-run", "-j", "1")
    assert status == 0
    assert " 0 cells to compute" in out


def test_curves_told_targets_skipped_rows_and_a_dataset_that_fails_merge_too(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text(BROKEN)
    Path("all.yaml").write_text(f"""
        tracks: [unknown, oracle, graph]
        plugins: [broken.py]
        datasets: [broken, {{name: synthetic, label: curve, parameters: {json.dumps(SMALL)}, vary: {{n_targets: [1, 2]}}}}]
        methods: [gies, empty]
    """)
    rows = runner.run("all.yaml", output="whole")
    for name, method in {"one": "empty", "other": "gies"}.items():
        runner.run("all.yaml", output=name, methods=[method], reuse=[Path("whole")])
    assert call("merge", "other", "one", "--output", "merged")[0] == 0
    pd.testing.assert_frame_equal(read_rows(Path("merged")), rows)
    assert rows["targets_given"].any()
    (left,) = Path("merged/problems").glob("*.traceback.txt")
    assert rows["reason"].str.contains(left.name, regex=False).any()
    assert "nothing to remove" in call("clean", "merged")[1]


def test_what_no_run_has_is_named_and_computed_by_the_command_that_it_says(call, runs):
    status, out, _ = call("merge", "two", "dense", "--output", "merged")
    assert status == 0
    assert "40 rows of 2 runs" in out
    assert "none of them has 8 rows of the suite" in out
    assert "compute with: python run_bench.py run merged/suite.yaml --output merged\n" in out
    runner.run("merged/suite.yaml", output="merged")
    pd.testing.assert_frame_equal(
        without_times(read_rows(runs / "merged")), without_times(read_rows(runs / "whole")), check_like=True
    )


def test_repetitions_of_two_machines_add_up(call, runs):
    runner.run(load_suite("small.yaml").changed(repetitions=2), output="half", reuse=[runs / "whole"])
    status, out, _ = call("merge", "half", "dense", "--output", "merged")
    assert status == 0
    counts = read_rows(runs / "merged").query("track == 'unknown' and method == 'random'").groupby("dataset").size()
    assert counts.to_dict() == {"dense": 4, "small": 2}
    assert "none of them has 8 rows of the suite" in out  # the other methods on the last two draws of `dense`, on both tracks


def test_an_answer_beats_a_failure_whatever_the_order(call, runs):
    cell = _fail(runs / "two", "marginal")
    for name, order in {"forth": ("two", "whole"), "back": ("whole", "two")}.items():
        status, out, _ = call("merge", *order, "--output", name)
        assert status == 0
        assert re.search(
            r"rows? answered in one run and not in another, of which the answer is kept; first '\w+' #\d with", out
        )
        assert "timeout in two" in out
        assert store.cell_status(runs / name, cell) == "ok"
        pd.testing.assert_frame_equal(read_rows(runs / name), read_rows(runs / "whole"))


def test_another_way_to_fail_and_another_answer_under_the_same_hash_are_named(call, runs):
    _fail(runs / "two", "marginal", "error")
    _fail(runs / "whole", "marginal", "timeout")
    rows = read_rows(runs / "two")
    other = rows.loc[(rows["method"] == "empty"), "cell"].iloc[0]
    path = store.cell_path(runs / "two", other) / "result.npz"
    with np.load(path) as arrays:
        changed = dict(arrays) | {"edge_probability": np.triu(np.ones((4, 4)), 1)}
    np.savez_compressed(path, **changed)
    status, out, _ = call("merge", "two", "whole", "--output", "merged")
    assert status == 0
    assert "ended in other ways, of which the first that ran is kept" in out
    assert "error in two, timeout in whole" in out
    assert "with another answer under the same hash, of which the first is kept" in out
    assert store.same_answer(runs / "two", runs / "merged", other)
    assert not store.same_answer(runs / "whole", runs / "merged", other)


def test_other_versions_are_named_and_edited_methods_refused(call, runs):
    rows = read_rows(runs / "third")
    for cell in set(rows["cell"]):
        identity = store.load_record(runs / "third", cell)["identity"]
        _edit_record(runs / "third", cell, identity=identity | {"versions": identity["versions"] | {"numpy": "0.9"}})
    status, out, _ = call("merge", "two", "third", "--output", "merged")
    assert status == 0
    assert re.search(r"third was made with other versions than two: numpy \S+ → 0\.9\.", out)
    assert json.loads(Path("merged/about.json").read_text())["versions"]["numpy"] == f"0.9, {np.__version__}"
    for cell in set(rows["cell"]):
        _edit_record(runs / "third", cell, identity={"sources": "others", "versions": {}})
    status, out, err = call("merge", "whole", "third", "--output", "again")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "random, or what it imports, has other source in third than in whole" in err
    assert not Path("again").exists()


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        (("repetitions: 4", "repetitions: 4\nseed: 1"), "the suites are unlike: seed is 0 in whole, 1 in other"),
        (("timeout: 20", "timeout: 30"), "timeout is 20.0 in whole, 30.0 in other"),
        (("name: small", "name: large"), "name is small in whole, large in other"),
        (('"n_per_environment": 20}', '"n_per_environment": 25}'), "datasets: 'small' is synthetic"),
        (("base: marginal", "base: empty"), "base is marginal in one run, empty in another"),
        (("label: dense, ", "label: dense, tracks: [unknown], "), "'dense' is one thing in whole, another, by tracks or curve"),
    ],
)
def test_unlike_suites_are_refused_in_one_line_and_nothing_is_written(call, runs, replaced, message):
    assert replaced[0] in SUITE
    Path("other.yaml").write_text(SUITE.replace(*replaced))
    shutil.copytree("two", "other")
    save_suite(Path("other"), load_suite("other.yaml").selected(LESS))
    before = sorted(os.listdir())
    status, out, err = call("merge", "whole", "other", "--output", "merged")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["whole"], "expected two or more different runs to merge, got whole"),
        (["whole", "../runs/whole"], "expected two or more different runs"),
        (["whole", "absent"], "absent: expected a run directory"),
    ],
)
def test_wrong_use_of_merge_costs_one_line(call, runs, arguments, message):
    status, out, err = call("merge", *arguments, "--output", "merged")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not Path("merged").exists()


def test_a_run_directory_that_exists_is_never_merged_into(call, runs):
    before = read_rows(runs / "dense")
    status, _, err = call("merge", "whole", "two", "--output", "dense")
    assert (status, err.count("\n")) == (2, 1)
    assert "this one exists" in err
    pd.testing.assert_frame_equal(read_rows(runs / "dense"), before)


def test_a_merge_that_is_stopped_leaves_nothing_behind(call, runs, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "score", stop)
    before = sorted(os.listdir())
    assert call("merge", "two", "third", "--output", "merged")[0] == 130
    assert sorted(os.listdir()) == before


# --- compare ----------------------------------------------------------------------------------------------------------


def test_a_run_and_its_copy_differ_in_nothing(call, runs):
    status, out, err = call("compare", "whole", "two")
    assert (status, err) == (0, "")
    assert "A: whole\nB: two\n" in out
    assert "targets unknown · B minus A · 8 problems" in out
    assert re.search(r"marginal +0\.0", out)
    assert "Every cell ended alike in both runs." in out
    assert "nothing they depend on has changed: 32 of 32 cells." in out
    assert "In A alone and not compared: 16 rows; method random." in out
    assert "Differs, A → B: suite key methods." in out


def test_other_answers_other_ends_and_other_versions_are_said(call, runs):
    _fail(runs / "two", "empty")
    rows = read_rows(runs / "two")
    rows.loc[rows["method"] == "marginal", "shd"] += 2.0
    store.write_frame(runs / "two" / "rows.parquet", rows)
    for cell in set(rows["cell"]):
        identity = store.load_record(runs / "two", cell)["identity"]
        _edit_record(runs / "two", cell, identity=identity | {"versions": identity["versions"] | {"numpy": "0.9"}})
    status, out, _ = call("compare", "whole", "two", "--metric", "shd")
    assert status == 0
    assert re.search(r"marginal +\+2\.00", out)
    assert re.search(r"empty +0\.0", out)
    assert re.search(r"unknown +small +0 +empty +ok +timeout +made-up timeout", out)
    assert re.search(r"ended otherwise: \d fail in B alone, 0 in A alone", out)
    assert re.search(r"Differs, A → B: numpy \S+ → 0\.9\.", out)


def test_runs_of_other_problems_are_refused_in_one_line_that_says_why(call, runs):
    runner.run(load_suite("small.yaml").changed(seed=1), output="other", methods=["empty"])
    status, out, err = call("compare", "whole", "other")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "the runs are not comparable: 'dense' #0: data_seed is" in err
    assert "(and 7 more)" in err
    assert "what else differs: suite key seed 0 → 1" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["whole", "absent"], "absent: expected a run directory with a rows.parquet in it"),
        (["whole", "two", "--metric", "shdd"], "unknown metric 'shdd'; did you mean 'shd'?"),
        (["two", "third"], "they share no method: empty, marginal in A, random in B"),
    ],
)
def test_wrong_use_of_compare_costs_one_line(call, runs, arguments, message):
    status, out, err = call("compare", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


# --- clean ------------------------------------------------------------------------------------------------------------


def test_clean_lists_then_removes_what_the_table_does_not_use_and_nothing_else(call, runs):
    kept = runner.run("small.yaml", output="whole", methods=LESS, datasets=["small"])
    before = sum(1 for _ in Path("whole").rglob("*"))
    status, out, err = call("clean", "whole")
    assert (status, err) == (0, "")
    # marginal and empty on the other dataset, random on both
    for line in (r"cells of marginal +4 ", r"cells of empty +4 ", r"cells of random +8 ", r"problems +4 "):
        assert re.search(line, out), out
    assert re.search(r"--yes removes them and frees 0\.\d\d MiB", out)
    assert sum(1 for _ in Path("whole").rglob("*")) == before
    status, out, _ = call("clean", "whole", "--yes")
    assert status == 0
    assert "removed, which frees" in out
    assert {path.name for path in Path("whole/cells").iterdir()} == set(kept["cell"])
    assert {path.stem for path in Path("whole/problems").iterdir()} == set(kept["problem"])
    status, out, _ = call("clean", "whole", "--yes")
    assert (status, out.count("\n")) == (0, 1)
    assert "nothing to remove" in out
    again = runner.run("small.yaml", output="whole", methods=LESS, datasets=["small"])
    pd.testing.assert_frame_equal(again, kept)


def test_cells_newer_than_the_table_belong_to_a_run_under_way_and_stay(call, runs):
    store.save_cell(runs / "whole", "abc", {"status": "error", "method": "random"}, None)
    later = time.time() + 5
    os.utime(store.cell_path(runs / "whole", "abc") / "record.json", (later, later))
    assert "nothing to remove" in call("clean", "whole")[1]
    os.utime(runs / "whole" / "rows.parquet", (later + 5, later + 5))
    assert re.search(r"cells of random +1 ", call("clean", "whole")[1])


def test_clean_without_a_table_costs_one_line(call, tmp_path):
    status, out, err = call("clean", tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "expected a run directory with a rows.parquet" in err


# --- sys-info ---------------------------------------------------------------------------------------------------------


def test_sys_info_says_what_a_report_of_a_fault_needs(call, monkeypatch, tmp_path):
    monkeypatch.setenv("CADIBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    status, out, err = call("sys-info", columns=300)
    assert (status, err) == (0, "")
    said = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in out.splitlines() if line.strip())
    assert said["numpy"] == np.__version__
    assert "OMP_NUM_THREADS=3" in said["threads"]
    assert said["data directory"] == f"CADIBENCH_DATA={tmp_path / 'data'}"
    assert re.match(r"\d+ of \d+ for this process", said["cores"])
    assert re.match(r"[\d.]+ GiB", said["memory"])
    assert {"python", "cadibench", "processor", "platform", "GPU", "compiled cache", "downloads"} <= set(said)
