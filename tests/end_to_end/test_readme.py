"""What the README tells the reader to type works as it stands there."""

import re
import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bench import cli, registry
from bench.suites import load_suite

README = (Path(__file__).parents[2] / "README.md").read_text()


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def plugin(tmp_path):
    (text,) = (block for block in _blocks("python") if "@register_method" in block)
    path = tmp_path / "my_method.py"
    path.write_text(text)
    return path


def _call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["run_bench.py", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0
    return 0


def test_the_plugin_takes_twenty_lines(plugin):
    assert len([line for line in plugin.read_text().splitlines() if line.strip()]) <= 20


def test_the_plugin_keeps_every_promise(plugin, monkeypatch, capsys):
    assert _call(monkeypatch, "test-plugin", plugin) == 0
    assert re.search(r"(\d+) of \1 checks hold", capsys.readouterr().out)


def test_the_plugin_joins_the_board_and_beats_the_floors(plugin, monkeypatch, tmp_path):
    arguments = ["--plugin", plugin, "-d", "linear, shift", "-m", "follow", "-m", "random", "-m", "empty"]
    assert _call(monkeypatch, "run", "quick", *arguments, "--output", tmp_path / "run", "--jobs", "1") == 0
    mean = pd.read_parquet(tmp_path / "run" / "rows.parquet").groupby(["track", "method"])["edge_average_precision"].mean()
    assert mean["unknown", "follow"] > 1.5 * max(mean["unknown", "random"], mean["unknown", "empty"])


def test_the_dataset_keeps_every_promise(monkeypatch, tmp_path, capsys):
    (text,) = (block for block in _blocks("python") if "@register_dataset" in block)
    path = tmp_path / "my_dataset.py"
    path.write_text(text)
    assert _call(monkeypatch, "test-plugin", path) == 0, capsys.readouterr().out


def test_the_suite_is_valid(tmp_path):
    (text,) = (block for block in _blocks("yaml") if "datasets:" in block)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    suite = load_suite(path)
    assert [m.label for m in suite.methods] == ["ut_igsp", "UT-IGSP, observational only"]


def test_the_job_for_a_build_server_runs_and_fails_on_a_regression(plugin, monkeypatch, tmp_path, capsys):
    (text,) = (block for block in _blocks("yaml") if "jobs:" in block)
    assert len(text.splitlines()) <= 12
    (job,) = yaml.safe_load(text)["jobs"].values()
    (command,) = (step["run"] for step in job["steps"] if "run_bench.py" in step.get("run", ""))
    arguments = shlex.split(command.partition("run_bench.py ")[2])
    monkeypatch.chdir(tmp_path)
    suite = {"repetitions": 2, "datasets": ["synthetic[n_variables=4]"], "methods": ["marginal", "follow"]}
    Path("benchmark").mkdir()
    Path("benchmark/mine.yaml").write_text(yaml.safe_dump(suite | {"plugins": [str(plugin)]}))
    assert _call(monkeypatch, *arguments, "-j", "1") == 2  # no baseline yet
    assert _call(monkeypatch, *arguments[:4], "--update", "--reason", "the first", "--reseeds", "0", "-j", "1") == 0
    assert _call(monkeypatch, *arguments, "-j", "1") == 0
    plugin.write_text(plugin.read_text().replace("scores = np.minimum(", "scores = 1 - np.minimum("))
    capsys.readouterr()
    assert _call(monkeypatch, *arguments, "-j", "1") == 1
    assert "::error title=cadibench accuracy::follow (unknown)" in capsys.readouterr().out


def test_every_command_names_what_exists():
    commands = re.findall(r"run_bench\.py (\S+)(.*)", README)
    known = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    assert {name for name, _ in commands} <= known
    for name in re.findall(r"show (\w+)`", README):
        assert name == "NAME" or name in {**registry.methods(), **registry.datasets()}


def test_the_readme_names_make_targets_that_exist():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z-]+)", README)) - {"and", "it", "problems", "the", "is"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
