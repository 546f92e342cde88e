"""The built-in suites as they ship, whole: minutes, so `make test-slow` runs them."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench import runner
from bench.columns import FAILURES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_quick_ends_well_and_its_floors_are_floors(tmp_path):
    rows = runner.run("quick", output=tmp_path, jobs=2)
    assert not rows["status"].isin(FAILURES).any()
    assert set(rows.loc[rows["status"] == "skipped", "method"]) == {"gies"}  # on the track that hides the targets
    unknown = rows[rows["track"] == "unknown"]
    shd = unknown[unknown["dataset"] != "sachs"].groupby("method")["shd_interventional"].mean()
    assert shd.idxmin() == "metacadi"
    assert shd["empty"] < shd["random"]


def test_the_small_leaderboard_is_run_published_and_gone_on_with(tmp_path):
    """By two floors: what the command does, not what the methods do."""
    command = [sys.executable, "run_bench.py", "leaderboard", "--small", "-m", "empty", "-m", "marginal", "-j", "2"]
    command += ["--output", str(tmp_path / "run"), "--publish", str(tmp_path / "published")]
    first = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(runner.__file__).parents[1])
    for family in ("linear", "networks", "expression", "fitted"):
        assert f"targets unknown · {family} · 4 datasets · 4 problems" in first.stdout
    rows = pd.read_parquet(tmp_path / "published" / "rows.parquet")
    assert len(rows) == 2 * 2 * 17
    assert not rows["status"].isin(FAILURES).any()
    cells = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "cells").rglob("record.json")}
    subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(runner.__file__).parents[1])
    assert cells == {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "cells").rglob("record.json")}


def test_linear_reaches_the_published_order_of_methods(tmp_path):
    """Means over 20 problems; a mean of SHD has a standard error of about .5 at d = 10 and 1.5 at d = 20."""
    methods = ["ut_igsp", "jci_pc", "empty"]
    rows = runner.run("linear", output=tmp_path, jobs=2, methods=methods)
    mean = rows[rows["track"] == "unknown"].groupby(["dataset", "method"])[["shd", "target_f1"]].mean()
    limits = {"hard, d=10": (3.6, 0.87), "shift, d=10": (5.4, 0.82), "hard, d=20": (11.3, 0.81), "shift, d=20": (13.5, 0.81)}
    for dataset, (shd, target_f1) in limits.items():
        ours = mean.loc[dataset, "ut_igsp"]
        assert ours["shd"] <= shd + (1.0 if "d=10" in dataset else 3.0), dataset
        assert ours["target_f1"] >= target_f1 - 0.04, dataset
        assert ours["shd"] < mean.loc[dataset, "jci_pc"]["shd"] < mean.loc[dataset, "empty"]["shd"]
