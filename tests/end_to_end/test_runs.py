"""Whole runs through the Python entry point: what a method sees, what a failure costs, what rows depend on."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs import without_times

from bench import metrics, plan, preprocessing, registry, runner, store
from bench.errors import InputError
from bench.plan import list_cells, pending
from bench.suites import Suite
from bench.tables import leaderboard
from bench.types import Capabilities, Meta, Method, Truth

SMALL = {"n_variables": 4, "n_observational": 30, "n_environments": 3, "n_per_environment": 10, "n_targets": 1}
HELD_OUT = {**SMALL, "n_held_out": 4, "few_shot_sizes": [2, 5], "n_query": 6}


def _suite(methods, *, parameters=SMALL, **keys):
    dataset = {"name": "synthetic", "label": "small", "parameters": parameters}
    return Suite(**{"name": "test", "datasets": [dataset], "methods": methods, **keys})


def test_a_method_that_fails_costs_its_own_row_and_nothing_else(plugins, tmp_path):
    expected = {
        "raises": ("error", "KeyError"),
        "hangs": ("timeout", "5"),
        "exits": ("error", "3"),
        "crashes": ("error", "SIGSEGV"),
        "allocates": ("out_of_memory", "500"),
        "nothing": ("invalid", "NoneType"),
        "nonsense": ("invalid", r"(4, 4)"),
        "lacks": ("skipped", "nowhere"),
        "fails_later": ("error", "adapt to 2 samples: RuntimeError"),
        "unprintable": ("error", r"ValueError: file \udcff"),
        "promises_targets": ("invalid", "target_probability"),
        "too_dense": ("invalid", "(1, 6, 4)"),
        "forks": ("ok", ""),
        "prints": ("ok", ""),
        "disturbs": ("ok", ""),
        "empty": ("ok", ""),
    }
    suite = _suite(list(expected), parameters=HELD_OUT, timeout=5, memory=500)
    rows = runner.run(suite, output=tmp_path).set_index("method")
    assert rows["status"].to_dict() == {m: s for m, (s, _) in expected.items()}
    for method, (_, reason) in expected.items():
        assert reason in rows.loc[method, "reason"], rows.loc[method, "reason"]
        assert "\n" not in rows.loc[method, "reason"]
    scores = [m for m in metrics.METRICS if not m.endswith(("seconds", "mb"))]
    for method in ("forks", "prints", "disturbs"):
        pd.testing.assert_series_equal(rows.loc[method, scores], rows.loc["empty", scores], check_names=False)
    failed = rows[rows["status"].isin(["error", "timeout", "out_of_memory", "invalid", "skipped"])]
    assert failed[scores].isna().all(axis=None)
    record = store.load_cell(tmp_path, rows.loc["raises", "cell"]).record
    assert "misbehave" in record["traceback"]
    assert "noise" in store.load_cell(tmp_path, rows.loc["prints", "cell"]).record["log"]


def test_rows_do_not_depend_on_workers_or_order(plugins, tmp_path):
    methods = ["witness", "slow[seconds=0]", "marginal", "random", "adapting_witness"]
    keys = {"repetitions": 3, "tracks": ["unknown", "oracle"], "parameters": HELD_OUT}
    alone = runner.run(_suite(methods, **keys), output=tmp_path / "alone", jobs=1)
    together = runner.run(_suite(methods, **keys), output=tmp_path / "together", jobs=2)
    turned = runner.run(_suite(methods[::-1], **keys), output=tmp_path / "turned", jobs=2)
    pd.testing.assert_frame_equal(without_times(alone), without_times(together))
    by = ["track", "repetition", "method"]
    first, second = (without_times(rows).sort_values(by, ignore_index=True) for rows in (alone, turned))
    pd.testing.assert_frame_equal(first, second)
    assert (alone["status"] == "ok").all()
    assert alone["problem"].nunique() == 3


def test_a_subset_of_a_run_meets_the_same_draws(plugins, tmp_path):
    whole = runner.run(_suite(["witness", "slow[seconds=0]", "empty"], repetitions=2), output=tmp_path / "whole")
    part = runner.run(_suite(["witness", "slow[seconds=0]"]), output=tmp_path / "part", methods=["slow"])
    both = whole[(whole["method"] == part["method"][0]) & (whole["repetition"] == 0)].reset_index(drop=True)
    pd.testing.assert_frame_equal(without_times(both), without_times(part))


def test_methods_see_shuffled_scaled_data_and_answers_come_back_in_order(plugins, tmp_path):
    suite = _suite(["witness", "adapting_witness"], parameters=HELD_OUT)
    rows = runner.run(suite, output=tmp_path)
    problem = store.load_problem(tmp_path, rows["problem"][0])
    pooled = problem.observed.pooled()
    mean, scale = pooled.mean(axis=0), pooled.std(axis=0)

    def fingerprint(X):
        Z = (X - mean) / scale
        return 0.5 + np.arctan(Z.mean(axis=0) * 3 + (Z**3).mean(axis=0)) / np.pi

    value = fingerprint(pooled)
    edges = np.outer(value, value**2) * (1 - np.eye(4))
    targets = np.stack([fingerprint(e.X) for e in problem.observed.environments])
    for cell in rows["cell"]:
        result = store.load_cell(tmp_path, cell).result
        np.testing.assert_allclose(result.estimate.edge_probability, edges, atol=1e-10)
        np.testing.assert_allclose(result.estimate.target_probability, targets, atol=1e-10)
        assert list(result.adapted) == [2, 5]
        for size, adapted in result.adapted.items():
            few = np.stack([fingerprint(h.support[:size]) for h in problem.held_out])
            np.testing.assert_allclose(adapted.target_probability, few, atol=1e-10)
    # The density is that of raw units: a standard normal of z has density N(x; mean, scale²).
    density = result.held_out_log_density
    assert len(density) == 4
    z = (problem.held_out[1].query - mean) / scale
    expected = -0.5 * z**2 - 0.5 * np.log(2 * np.pi) - np.log(scale)
    np.testing.assert_allclose(density[1], expected[None], atol=1e-10)
    row = rows.set_index("method").loc["adapting_witness"]
    assert row["interventional_nll"] == pytest.approx(
        -np.mean(
            np.concatenate(
                [
                    (-0.5 * ((h.query - mean) / scale) ** 2 - 0.5 * np.log(2 * np.pi) - np.log(scale))[:, ~h.targets].ravel()
                    for h in problem.held_out
                ]
            )
        )
    )
    assert row["adapt_seconds"] >= 0
    assert not math.isnan(row["few_shot_target_auroc_n2"])


def test_targets_are_told_on_the_oracle_track_alone(plugins, tmp_path):
    rows = runner.run(_suite(["told", "curious"], tracks=["unknown", "oracle"]), output=tmp_path)
    rows = rows.set_index(["track", "method"])
    assert rows.loc[("unknown", "told"), "status"] == "skipped"
    assert "targets" in rows.loc[("unknown", "told"), "reason"]
    assert rows.loc[("oracle", "told"), "target_exact_match"] == 1
    assert rows["targets_given"].to_dict() == {
        ("unknown", "told"): False,
        ("unknown", "curious"): False,
        ("oracle", "told"): True,
        ("oracle", "curious"): False,
    }
    # A method that ignores targets is one cell on both tracks, and was told nothing on either.
    assert rows.loc[("unknown", "curious"), "cell"] == rows.loc[("oracle", "curious"), "cell"]
    assert rows.loc[("oracle", "curious"), "target_recall"] == 0


def test_the_true_graph_is_told_on_the_graph_track_alone(plugins, tmp_path):
    suite = _suite(
        ["graph_told", "graph_welcome", "witness", "told"],
        parameters=HELD_OUT,
        tracks=["unknown", "graph"],
        repetitions=3,
        base="graph_welcome",
    )
    rows = runner.run(suite, output=tmp_path)
    known = rows.set_index(["track", "method", "repetition"])
    for repetition in range(3):
        unknown, graph = known.xs(("unknown", slice(None), repetition)), known.xs(("graph", slice(None), repetition))
        assert unknown["graph_given"].eq(False).all()
        assert graph["graph_given"].to_dict() == {
            "graph_told": True,
            "graph_welcome": True,
            "witness": False,
            "told": False,
        }
        assert unknown.loc["graph_told", "reason"] == "needs the true graph, which this track hides"
        assert graph.loc["witness", "reason"] == "does not use a told graph"
        assert (graph.loc[["graph_told", "graph_welcome"], "shd"] == 0).all()  # in the problem's own order of variables
        assert unknown.loc["graph_welcome", "cell"] != graph.loc["graph_welcome", "cell"]
        problem = store.load_problem(tmp_path, graph.loc["graph_told", "problem"])
        roots = ~problem.truth.adjacency.any(axis=0)
        for adapted in store.load_cell(tmp_path, graph.loc["graph_told", "cell"]).result.adapted.values():
            np.testing.assert_array_equal(adapted.target_probability, np.tile(roots, (4, 1)))  # the refits were told as well
    assert not rows["targets_given"].any()
    assert rows["base"].eq("graph_welcome").all()


def test_a_graph_that_is_not_told_changes_no_hash(plugins, tmp_path):
    """The payload of the hash of a cell that is told no graph, as it was before there was a graph to tell."""
    suite = _suite(["graph_welcome"], tracks=["unknown", "graph"])
    unknown, graph = runner.plan(suite, output=tmp_path)
    former = {
        "fingerprint": unknown.problem.known["fingerprint"],
        "method": "graph_welcome",
        "parameters": {},
        "seed": unknown.method_seed,
        "targets_given": False,
        "limits": [300.0, None, 240.0],
        "identity": unknown.identity,
    }
    assert unknown.cell == store.digest(former)
    assert graph.cell == store.digest(former | {"graph_given": True})
    assert graph.method_seed == unknown.method_seed


@pytest.mark.parametrize(
    ("truth", "reason"),
    [
        (None, "not known"),
        (Truth(None, np.ones((2, 3))), "not known"),
        (Truth([[0, 1, 0], [0, 0, 1], [1, 0, 0]], None), "cyclic"),
        (Truth([[0, 1, 0], [0, 0, 1], [0, 0, 0]], None, [[0, 1, 0], [1, 0, 1], [0, 1, 0]]), "known in part"),
    ],
)
def test_a_graph_that_is_not_known_whole_or_is_cyclic_is_not_told(truth, reason):
    able = Capabilities(graph="optional")
    graph = plan.told_graph(truth)
    assert graph == reason
    assert plan.why_not(able, "graph", {"graph": graph}).endswith(f"that of this dataset is {reason}")
    assert not plan.why_not(able, "unknown", {"graph": graph})


def test_impossible_combinations_are_skipped_with_their_reason(plugins, tmp_path):
    """Four variables, three environments of one sample, none known to be observational."""
    reasons = {
        "needs_much[what=observational]": "needs observational data, "
        "and none of the 3 environments is known to be observational",
        "needs_much[what=environments]": "needs at least 4 environments, and the problem has 3",
        "needs_much[what=few variables]": "takes at most 3 variables, and the problem has 4",
        "needs_much[what=samples]": "needs more samples than variables, and the problem has 3 samples of 4",
        "needs_much[what=package]": "needs the package a_package_of_nobody, which is not installed: "
        "pip install 'cadibench[a_package_of_nobody]'",
        "needs_much": "",
    }
    parameters = {**SMALL, "n_observational": 0, "n_per_environment": 1}
    rows = runner.run(_suite(list(reasons), parameters=parameters), output=tmp_path).set_index("method")
    assert rows["reason"].to_dict() == reasons
    assert rows["status"].to_dict() == {method: "skipped" if reason else "ok" for method, reason in reasons.items()}


def test_nothing_is_skipped_where_a_problem_just_meets_the_needs(plugins, tmp_path):
    needs = ("observational", "environments", "few variables", "samples")
    parameters = {**SMALL, "n_variables": 3, "n_observational": 1, "n_per_environment": 1}
    rows = runner.run(_suite([f"needs_much[what={what}]" for what in needs], parameters=parameters), output=tmp_path)
    assert rows["status"].eq("ok").all(), rows["reason"].to_dict()


def test_a_method_that_needs_targets_has_no_answer_where_they_are_never_told(plugins, tmp_path):
    row = runner.run(_suite(["told"], parameters=HELD_OUT, tracks=["oracle"]), output=tmp_path).iloc[0]
    assert row["status"] == "ok"
    assert math.isnan(row["adapt_seconds"])
    assert not [name for name in row.index if name.startswith("few_shot")]


def test_a_promise_of_targets_is_held_to_without_held_out_environments_too(plugins, tmp_path):
    row = runner.run(_suite(["promises_targets"]), output=tmp_path).iloc[0]
    assert (row["status"], "target_probability" in row["reason"]) == ("invalid", True)


def test_a_refit_that_is_cut_short_marks_its_row(plugins, tmp_path):
    suite = _suite(["hurried_by_more", "hurried_by_more[n_environments=100]"], parameters=HELD_OUT)
    rows = runner.run(suite, output=tmp_path).set_index("method")
    assert rows["cut_short"].to_dict() == {"hurried_by_more": True, "hurried_by_more[n_environments=100]": False}


def test_a_fit_or_refit_that_did_not_converge_says_so_in_its_row_and_below_the_table(plugins, tmp_path):
    suite = _suite(["converges_on_few", "converges_on_few[n_environments=100]", "empty"], parameters=HELD_OUT, repetitions=2)
    rows = runner.run(suite, output=tmp_path)
    said = rows.groupby("method")["converged"].agg(list)
    assert said["converges_on_few"] == [False, False]
    assert said["converges_on_few[n_environments=100]"] == [True, True]
    assert rows.loc[rows["method"] == "empty", "converged"].isna().all()
    stored = pd.read_parquet(tmp_path / "rows.parquet")
    pd.testing.assert_series_equal(stored["converged"], rows["converged"])
    assert "Did not converge: converges_on_few (2 of 2)." in leaderboard(stored, track="unknown").notes


def test_what_is_stored_is_not_computed_again(plugins, tmp_path, monkeypatch):
    suite = _suite(["slow[seconds=0]", "raises"], repetitions=2)
    first = runner.run(suite, output=tmp_path)
    monkeypatch.setattr(runner, "run_cell", None)  # computing anything would fail now
    again = runner.run(suite, output=tmp_path)
    pd.testing.assert_frame_equal(first, again)


def test_failed_cells_are_computed_again_only_on_request(plugins, tmp_path):
    suite = _suite(["slow[seconds=0]", "raises"])
    runner.run(suite, output=tmp_path)
    planned = runner.plan(suite, output=tmp_path)
    assert pending(tmp_path, planned) == []
    assert [c.method.name for c in pending(tmp_path, planned, retry_failed=True)] == ["raises"]


def test_an_edited_method_is_computed_again_and_no_other(tmp_path, plugins):
    file = tmp_path / "edited.py"
    file.write_text((plugins / "edited.txt").read_text())
    registry.load_plugin(file)
    suite = _suite(["edited", "slow[seconds=0]"])
    problems = {c.problem.key: c.problem for c in runner.plan(suite, output=tmp_path)}
    before = {c.method.name: c.cell for c in list_cells(suite, list(problems.values()))}
    file.write_text(file.read_text() + "\n# edited\n")
    after = {c.method.name: c.cell for c in list_cells(suite, list(problems.values()))}
    assert after["edited"] != before["edited"]
    assert after["slow"] == before["slow"]


def test_a_plugin_edited_between_two_runs_of_one_process_is_run_as_it_is_then(tmp_path, plugins):
    file = tmp_path / "edited.py"
    file.write_text((plugins / "edited.txt").read_text())
    registry.load_plugin(file)
    suite = _suite(["edited", "empty"])
    before = runner.run(suite, output=tmp_path / "run").set_index("method")
    file.write_text(file.read_text().replace("np.zeros", "np.eye(4, k=1) + np.zeros"))
    after = runner.run(suite, output=tmp_path / "run").set_index("method")
    assert before.loc["edited", "n_edges"] == 0
    assert after.loc["edited", "n_edges"] == 3
    assert before.loc["empty", "cell"] == after.loc["empty", "cell"]


def test_a_method_of_the_running_script_is_refused_before_any_fit(tmp_path):
    Own = type(
        "Own",
        (Method,),
        {"__module__": "__main__", "capabilities": Capabilities(), "meta": Meta("x"), "fit": lambda self: None},
    )
    registry.register_method("own_of_script")(Own)
    with pytest.raises(InputError, match="put it into a file of its own"):
        runner.run(_suite(["own_of_script"]), output=tmp_path)
    assert not (tmp_path / "cells").exists()


def test_edited_preprocessing_draws_problems_anew(tmp_path, monkeypatch):
    before = runner.plan(_suite(["empty"]), output=tmp_path)
    edited = tmp_path / "preprocessing.py"
    edited.write_text(Path(preprocessing.__file__).read_text() + "# edited\n")
    monkeypatch.setattr(preprocessing, "__file__", str(edited))
    plan._drawn_by.cache_clear()
    after = runner.plan(_suite(["empty"]), output=tmp_path)
    plan._drawn_by.cache_clear()
    assert after[0].problem.key != before[0].problem.key
    assert after[0].cell == before[0].cell  # as long as the methods see the same, no fit is repeated


def test_limits_and_seed_are_part_of_a_cell(tmp_path):
    def cells(**keys):
        return {c.cell for c in runner.plan(_suite(["empty"], **keys), output=tmp_path)}

    base = cells()
    assert cells() == base
    assert not base & cells(timeout=7)
    assert not base & cells(memory=900)
    assert not base & cells(seed=1)
    assert not base & cells(preprocessing={"scaling": "none"})


def test_a_wrong_dataset_parameter_stops_before_any_fit(tmp_path):
    suite = _suite(["empty"], parameters={**SMALL, "edges_per_node": 40.0})
    with pytest.raises(InputError, match="dataset 'small': "):
        runner.run(suite, output=tmp_path)
    assert not (tmp_path / "cells").exists()


def test_frames_beside_the_rows_hold_probabilities_and_truth(tmp_path):
    rows = runner.run(_suite(["empty", "marginal"], repetitions=2), output=tmp_path)
    edges = pd.read_parquet(tmp_path / "edges.parquet")
    assert len(edges) == 2 * 4 * 3  # methods × ordered pairs, of the first repetition
    assert set(edges["problem"]) == {rows["problem"][0]}
    targets = pd.read_parquet(tmp_path / "targets.parquet")
    truth = store.load_problem(tmp_path, rows["problem"][0]).truth
    assert targets["truth"].sum() == truth.targets.sum()
    assert pd.read_parquet(tmp_path / "rows.parquet").equals(rows)


def test_undefined_metrics_say_why(tmp_path):
    row = runner.run(_suite(["empty"]), output=tmp_path).iloc[0]
    reasons = json.loads(row["undefined"])
    assert math.isnan(row["target_f1"])
    assert reasons["target_f1"]
    assert all(math.isnan(row[name]) for name in reasons)


def test_progress_counts_every_cell_and_tells_failures(plugins, tmp_path):
    seen = []
    runner.run(_suite(["empty", "raises"], repetitions=2), output=tmp_path, watch=seen.append)
    cells = [p for p in seen if p.phase == "cells"]
    assert [p.done for p in cells] == [0, 1, 2, 3, 4]
    assert cells[-1].failed == 2
    assert sum(p.trouble for p in cells) == 2
    assert not (tmp_path / "running").exists() or not list((tmp_path / "running").iterdir())


def test_wrong_labels_are_what_the_oracle_track_tells_and_the_truth_is_what_is_scored(plugins, tmp_path):
    """Half of ten environments are told wrong: a method that repeats what it is told is right in the other half."""
    parameters = {**SMALL, "n_environments": 10}
    suite = Suite(
        name="test",
        tracks=["oracle"],
        datasets=[{"name": "synthetic", "label": "wrong", "parameters": parameters, "vary": {"mislabelled": [0, 0.5]}}],
        methods=["told"],
        repetitions=2,
        extra_metrics=["trapezoid_target_auprc_bacadi"],
    )
    rows = runner.run(suite, output=tmp_path)
    assert (rows["status"] == "ok").all()
    assert rows.groupby("factor_value")["target_f1"].agg(["min", "max"]).to_dict("index") == {
        0.0: {"min": 1.0, "max": 1.0},
        0.5: {"min": 0.5, "max": 0.5},
    }
    assert set(rows["curve"]) == {"wrong"}
    assert set(rows["factor"]) == {"mislabelled"}
    assert rows.groupby("repetition")["data_seed"].nunique().tolist() == [1, 1]
    assert (rows.loc[rows["factor_value"] == 0, "trapezoid_target_auprc_bacadi"] == 1).all()
    assert "trapezoid_auprc_bacadi" not in rows
    problem = store.load_problem(tmp_path, rows["problem"].iloc[-1])
    assert (
        problem.fingerprint
        == registry.make_problem("synthetic", seed=int(rows["data_seed"].iloc[-1]), **parameters, mislabelled=0.5).fingerprint
    )
