"""Results on disk: exact, whole or not at all, and keyed by everything that their numbers depend on."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from bench import registry, store
from bench.errors import InputError
from bench.files import write_atomic
from bench.types import Environment, Estimate, HeldOut, Observed, Problem, Result, Truth


def _problem(truth="whole"):
    rng = np.random.default_rng(0)
    observed = Observed((Environment(rng.normal(size=(4, 3)), True), Environment(rng.normal(size=(2, 3)), None)))
    adjacency = np.triu(np.ones((3, 3)), 1) if truth in ("whole", "graph") else None
    targets = rng.random((2, 3)) < 0.5 if truth in ("whole", "targets") else None
    known = None if truth == "none" else Truth(adjacency, targets)
    held_out = HeldOut(rng.normal(size=(5, 3)), (1, 5), rng.normal(size=(2, 3)), np.array([0, 1, 0]))
    return Problem(observed, known, (held_out,), ("a", "b", "c"), {"x": 0.5, "y": float("nan")}, ("wild type", "drug"))


def _result(converged=False):
    rng = np.random.default_rng(1)
    samples = np.triu(rng.random((4, 3, 3)) < 0.5, 1)
    estimate = Estimate(
        samples.mean(axis=0), rng.random((2, 3)), samples, rng.normal(size=4), samples[0], "dag", rng.random((2, 3)) < 0.5
    )
    adapted = {1: Estimate(np.zeros((3, 3)), rng.random((1, 3))), 5: Estimate(np.zeros((3, 3)), rng.random((1, 3)))}
    return Result(estimate, adapted, (rng.normal(size=(4, 2, 3)),), 1.25, 0.5, 80.0, True, converged)


def _same(first, second):
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    if hasattr(first, "__dataclass_fields__"):
        return all(_same(getattr(first, f), getattr(second, f)) for f in first.__dataclass_fields__)
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if hasattr(first, "keys"):
        return list(first) == list(second) and all(_same(first[k], second[k]) for k in first)
    return first == second or (first != first and second != second)


@pytest.mark.parametrize("truth", ["whole", "graph", "targets", "none"])
def test_a_problem_comes_back_exactly(tmp_path, truth):
    problem = _problem(truth)
    store.save_problem(tmp_path, "key", problem, {"note": 1})
    assert _same(store.load_problem(tmp_path, "key"), problem)
    assert store.known_of_problem(tmp_path, "key") == {"note": 1}
    assert store.known_of_problem(tmp_path, "other") is None


@pytest.mark.parametrize("converged", [None, False, True])
def test_a_result_comes_back_exactly(tmp_path, converged):
    store.save_cell(tmp_path, "abc", {"status": "ok"}, _result(converged))
    cell = store.load_cell(tmp_path, "abc")
    assert _same(cell.result, _result(converged))
    assert cell.record["schema_version"] == store.SCHEMA_VERSION
    assert cell.record["machine"]["python"]


def test_densities_that_graph_samples_share_are_stored_once(tmp_path):
    """Four samples of two graphs: half of the densities, whole in bytes since compressing them takes longer than a fit."""
    result = _result()
    of_two = np.repeat(np.random.default_rng(1).normal(size=(2, 1000, 3)), 2, axis=0)
    shared = dataclasses.replace(result, held_out_log_density=(of_two, of_two[:, :5]))
    store.save_cell(tmp_path, "abc", {"status": "ok"}, shared)
    assert _same(store.load_cell(tmp_path, "abc").result, shared)
    size = (store.cell_path(tmp_path, "abc") / "result.npz").stat().st_size
    assert of_two.nbytes / 2 < size < of_two.nbytes / 2 + 10_000


def test_a_bare_result_comes_back_exactly(tmp_path):
    result = Result(Estimate(np.zeros((2, 2))))
    store.save_cell(tmp_path, "abc", {"status": "ok"}, result)
    assert _same(store.load_cell(tmp_path, "abc").result, result)


def test_a_failed_cell_keeps_its_reason_and_is_replaced_by_a_better_one(tmp_path):
    store.save_cell(tmp_path, "abc", {"status": "error", "reason": "why"}, None)
    assert store.cell_status(tmp_path, "abc") == "error"
    assert store.load_cell(tmp_path, "abc").record["reason"] == "why"
    store.save_cell(tmp_path, "abc", {"status": "ok"}, _result())
    assert store.cell_status(tmp_path, "abc") == "ok"


@pytest.mark.parametrize(
    ("first", "second", "kept"), [("ok", "error", "ok"), ("error", "ok", "ok"), ("error", "error", "error")]
)
def test_two_runs_may_store_the_same_cell_at_the_same_moment(tmp_path, monkeypatch, first, second, kept):
    replace, final, waiting = os.replace, store.cell_path(tmp_path, "abc"), [first]

    def overtaken(source, target):
        if target == final and waiting:
            save(waiting.pop())
        replace(source, target)

    def save(status):
        store.save_cell(tmp_path, "abc", {"status": status}, _result() if status == "ok" else None)

    monkeypatch.setattr(os, "replace", overtaken)
    save(second)
    assert store.cell_status(tmp_path, "abc") == kept
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["abc"]


def test_a_cell_that_was_not_written_whole_is_no_cell(tmp_path):
    assert store.cell_status(tmp_path, "abc") is None
    store.save_cell(tmp_path, "abc", {"status": "ok"}, _result())
    (tmp_path / "cells" / "abc" / "result.npz").unlink()
    assert store.cell_status(tmp_path, "abc") is None
    (tmp_path / "cells" / "abc" / "record.json").write_text('{"status"')
    assert store.cell_status(tmp_path, "abc") is None


def test_a_record_of_a_newer_schema_is_refused(tmp_path):
    store.save_cell(tmp_path, "abc", {"status": "ok"}, _result())
    path = tmp_path / "cells" / "abc" / "record.json"
    record = json.loads(path.read_text()) | {"schema_version": store.SCHEMA_VERSION + 1}
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="newer"):
        store.load_cell(tmp_path, "abc")


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "rows", "old")

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_frames_come_back(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert pd.read_parquet(store.write_frame(tmp_path / "f.parquet", frame)).equals(frame)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    registry.methods()
    monkeypatch.setattr(registry, "_entries", {kind: dict(known) for kind, known in registry._entries.items()})
    monkeypatch.setattr(registry, "_loaded_plugins", {})
    file = tmp_path / "own.py"
    file.write_text(
        "import numpy as np\nfrom bench.registry import register_method\nfrom bench.types import Capabilities, Meta, Method\n"
        "@register_method('own_of_store')\nclass Own(Method):\n    capabilities = Capabilities()\n    meta = Meta('x')\n"
        "    def fit(self, observed, *, rng, budget=None):\n        from scipy import stats\n        return None\n"
    )
    registry.load_plugin(file)
    return file


def _identity(name):
    return store.source_identity("method", name)


def test_the_identity_follows_the_source_of_a_plugin_and_no_other(plugin):
    own, other = _identity("own_of_store"), _identity("empty")
    assert own == _identity("own_of_store")
    plugin.write_text(plugin.read_text() + "# edited\n")
    assert _identity("own_of_store") != own
    assert _identity("empty") == other


def test_the_identity_follows_the_versions_of_imported_packages(plugin, monkeypatch):
    own = _identity("own_of_store")
    assert set(own["versions"]) == {"numpy", "scipy"}  # scipy is imported inside fit
    monkeypatch.setattr(store.importlib.metadata, "version", lambda name: "0.0")
    assert _identity("own_of_store") != own


def test_the_identity_follows_shared_modules_of_the_project():
    files, packages = store._closure(registry.entry("method", "ut_igsp").source)
    assert {os.path.join("methods", "ut_igsp.py"), os.path.join("bench", "gaussian.py")} <= set(files)
    assert os.path.join("bench", "registry.py") not in files
    assert "numpy" in packages


def test_the_identity_of_a_method_on_top_of_another_covers_what_that_is_built_on(plugin):
    top = plugin.with_name("top.py")
    base = plugin.with_name("base.py")
    for file, name, below in ((top, "top_of_store", "base_of_store"), (base, "base_of_store", "own_of_store")):
        text = plugin.read_text().replace("own_of_store", name)
        file.write_text(text.replace("    meta =", f"    builds_on = ({below!r},)\n    meta ="))
        registry.load_plugin(file)
    before = _identity("top_of_store")
    plugin.write_text(plugin.read_text() + "# edited\n")
    assert _identity("top_of_store") != before


def test_the_digest_is_the_same_in_another_process():
    code = "from bench.store import digest; print(digest({'b': 1, 'a': [1.5, None]}))"
    printed = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True).stdout
    assert printed.strip() == store.digest({"a": [1.5, None], "b": 1})
