"""What results were made with stands in their records, and where two runs differ is told."""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml
from frames import row

from bench import about, provenance, store


def _cell(run, cell, **identity):
    store.save_cell(run, cell, {"status": "error", "method": "x", "identity": identity}, None)


def test_versions_are_those_of_every_cell_that_the_table_names(tmp_path):
    _cell(tmp_path, "a", sources="one", versions={"numpy": "1"})
    _cell(tmp_path, "b", sources="one", versions={"numpy": "2"})
    _cell(tmp_path, "c", sources="two", versions={"numpy": "3"})
    rows = pd.DataFrame([row("x", "p", cell=cell) for cell in ("a", "b", "a", "")])
    found = provenance.made_with(tmp_path, rows)
    assert found["numpy"] == {"1", "2"}
    assert found["source of x"] == {"one"}
    assert found["python"] == {sys.version.split()[0]}


def test_suites_of_runs_are_compared_key_by_key_without_their_plugins(tmp_path):
    for run, more in {"a": {"seed": 0, "plugins": ["/absent.py"]}, "b": {"seed": 1, "methods": ["y"]}}.items():
        (tmp_path / run).mkdir()
        (tmp_path / run / "suite.yaml").write_text(yaml.safe_dump({"name": run, "methods": ["x"], **more}))
    assert provenance.suite_differences(tmp_path / "a", tmp_path / "b") == {"methods": "", "seed": "0 → 1"}
    assert not provenance.suite_differences(tmp_path / "a", tmp_path / "a")


def test_the_version_of_every_package_that_the_project_runs_on_is_told():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    optional = [group for name, group in project["optional-dependencies"].items() if name != "dev"]
    named = {text.partition(">")[0] for group in (project["dependencies"], *optional) for text in group}
    installed = {d.metadata["Name"].lower().replace("_", "-") for d in importlib.metadata.distributions()}
    assert set(about.packages()) == named
    assert named & set(provenance.system()) == named & installed
    assert not {"ruff", "mypy"} & set(provenance.system())


def test_the_accelerator_is_in_words_without_torch_too(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU {i}")
    assert provenance.accelerator() == "GPU 0, GPU 1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert provenance.accelerator() == "none that torch sees"
    monkeypatch.setitem(sys.modules, "torch", None)
    assert provenance.accelerator() == "unknown: torch is not installed"
