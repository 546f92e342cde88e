"""A user's own table of which only the graph, or only the targets, are known: what is known is scored, and nothing else."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from bench import runner
from bench.columns import METRICS
from bench.report import unscored_problems
from bench.suites import Suite

EDGES = [["a", "b"], ["b", "c"]]
TARGETS = {"moved": ["b"]}
METHODS = ["told", "curious", "gies", "marginal", "empty", "metacadi[features=linear]"]


@pytest.fixture
def run(plugins, tmp_path):
    """Rows, by track and method, and the frames beside them, of a table with the given truth file."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    b = a + rng.normal(size=60) + np.repeat([0.0, 3.0], 30)
    X = {"a": a, "b": b, "c": b + rng.normal(size=60), "environment": np.repeat(["still", "moved"], 30)}
    pd.DataFrame(X).to_csv(tmp_path / "own.csv", index=False)

    def run(**truth):
        (tmp_path / "truth.yaml").write_text(yaml.safe_dump(truth))
        parameters = {"path": str(tmp_path / "own.csv"), "observational": "still", "truth": str(tmp_path / "truth.yaml")}
        suite = Suite(
            name="own",
            datasets=[{"name": "table", "label": "own", "parameters": parameters}],
            methods=METHODS,
            tracks=["unknown", "oracle"],
        )
        rows = runner.run(suite, output=tmp_path / "run").set_index(["track", "method"])
        files = [tmp_path / "run" / f"{name}.parquet" for name in ("edges", "targets", "reliability")]
        return rows, {file.stem: pd.read_parquet(file) for file in files if file.exists()}

    return run


def test_with_edges_alone_the_graph_is_scored_and_nobody_is_told_targets(run):
    rows, frames = run(edges=EDGES)
    for track in ("unknown", "oracle"):
        status = rows.loc[track, "status"]
        assert set(status.index[status == "skipped"]) == {"told", "gies"}
        assert (status.drop(["told", "gies"]) == "ok").all()
    for method in ("told", "gies"):
        assert rows.loc[("oracle", method), "reason"] == "needs the targets, and those of this dataset are not known"
    assert not rows["targets_given"].any()
    marginal = rows.loc[("unknown", "marginal")]
    assert marginal["shd"] == 2  # it draws no edge
    assert marginal["edge_recall"] == 0
    assert 0 <= marginal["observational_false_alarms"] <= 3
    assert json.loads(marginal["undefined"])["target_f1"] == "the true targets are unknown"
    scored = {m for m in METRICS if rows[m].notna().any()}
    assert not {m for m in scored if m.startswith("target_")} | scored & {"shd_interventional", "interventional_nll"}
    assert frames["edges"]["truth"].notna().all()
    assert frames["targets"]["truth"].isna().all()
    assert set(frames["reliability"]["quantity"]) == {"edge"}
    assert unscored_problems(frames["edges"], frames["targets"]).empty


def test_with_targets_alone_they_are_scored_and_told_and_no_graph_is(run):
    rows, frames = run(targets=TARGETS)
    assert rows.loc["oracle", "status"].to_dict() == dict.fromkeys(METHODS, "ok")
    assert rows.loc[("oracle", "told"), "target_exact_match"] == 1
    assert rows.loc[("unknown", "marginal"), "target_recall"] == 1
    assert json.loads(rows.loc[("oracle", "gies"), "undefined"])["shd"] == "the true graph is unknown"
    scored = {m for m in METRICS if rows[m].notna().any()}
    assert {METRICS[m].group for m in scored if not m.startswith("target_")} == {"target", "cost"}
    assert rows["varsortability"].isna().all()
    assert frames["edges"]["truth"].isna().all()
    assert frames["targets"]["truth"].notna().all()
    assert set(frames["reliability"]["quantity"]) == {"target"}
    assert set(frames["reliability"]["method"]) == {"metacadi[features=linear]"}  # what marginal gives are scores
    assert unscored_problems(frames["edges"], frames["targets"]).empty
