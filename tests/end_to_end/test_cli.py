"""The command line: a mistake costs one line, a stopped run resumes to the same table, a plugin joins in one flag."""

import errno
import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from runs import without_times

from bench import registry

ROOT = Path(__file__).parents[2]
PLUGINS = Path(__file__).parent / "plugins"

SUITE = """
description: a small run
repetitions: 6
timeout: 20
plugins: [witness.py]
datasets:
  - name: synthetic
    label: small
    parameters: {n_variables: 4, n_observational: 30, n_environments: 3, n_per_environment: 10, n_targets: 1}
methods: ["slow[seconds=0.3]", "witness", "empty", "random"]
"""


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "witness.py").write_text((PLUGINS / "witness.py").read_text())
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return path


def _start(*arguments, **more):
    environment = {**os.environ, "COLUMNS": "120"}
    command = [sys.executable, str(ROOT / "run_bench.py"), *map(str, arguments)]
    # What a shell starts in the background ignores interrupts, and passes that on: these tests run there as well.
    heeds_interrupts = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=-1, stderr=-1, preexec_fn=heeds_interrupts, **more
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quik"], "unknown suite 'quik'; did you mean 'quick'?"),
        (["run", "absent.yaml"], "no such file"),
        (["run", "quick", "-m", "ut_igps"], "unknown method 'ut_igps'; did you mean 'ut_igsp'?"),
        (["run", "quick", "-m", "ut_igsp[alpa=1]"], "did you mean 'alpha'?"),
        (["run", "quick", "-m", "ut_igsp[alpha=2]"], "less than 1, got 2"),
        (["run", "quick", "-d", "sach"], "did you mean 'sachs'?"),
        (["run", "quick", "--timeout", "-1"], "command line: timeout: input should be greater than 0, got -1"),
        (["run", "quick", "--plugin", "absent.py"], "no such file"),
        (["run", "quick", "--sort-by", "shdd"], "unknown metric 'shdd'; did you mean 'shd'?"),
        (["run", "quick", "-d", "table"], "dataset 'table' needs the parameter 'path'"),
        (["run", "quick", "-m", "empty", "-d", "table[path=absent.csv]", "-j", "1"], "'absent.csv' does not exist"),
        (["show", "gis"], "did you mean 'gies'?"),
        (["report", "absent"], "absent"),
        (["test-plugin", "gis"], "did you mean 'gies'?"),
        (["test-plugin", "absent.py"], "no such file"),
    ],
)
def test_a_mistake_costs_one_line(call, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(*arguments)
    assert status == 2
    assert message.lower() in err.lower()
    assert err.count("\n") == 1
    assert not out
    assert not (tmp_path / "results").exists()


def test_a_plugin_that_cannot_be_made_or_ends_the_program_costs_one_line(call, suite, tmp_path):
    refuses, exits = tmp_path / "refuses.py", tmp_path / "exits.py"
    refuses.write_text(
        "from bench.registry import register_method\nfrom bench.types import Capabilities, Meta, Method\n"
        "@register_method('refuses')\nclass Refuses(Method):\n    capabilities, meta = Capabilities(), Meta('x')\n"
        "    def __init__(self, a: int):\n        self.a = a\n"
        "        if a == 2:\n            raise ValueError('a must\\nbe odd')\n"
        "    def fit(self, observed, *, rng, budget=None):\n        return None\n"
    )
    exits.write_text("raise SystemExit(0)\n")
    for plugin, more, message in (
        (refuses, ["-m", "refuses[a=2]"], "method 'refuses[a=2]' cannot be made: ValueError: a must be odd"),
        (refuses, [], "method 'refuses' needs the parameter 'a'"),
        (exits, [], "SystemExit"),
    ):
        status, _, err = call("run", "quick", "--plugin", plugin, *more, "--output", tmp_path / "run")
        assert (status, err.count("\n")) == (2, 1)
        assert message in err
    assert not (tmp_path / "run").exists()
    more = ["-m", "refuses[a=3]", "--dry-run", "-j", "1", "--output", tmp_path]
    status, out, _ = call("run", suite, "--plugin", refuses, *more)
    assert (status, out.count("refuses[a=3]")) == (0, 6)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more_costs_one_line(call, suite, tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    status, _, err = call("run", suite, "-m", "empty", "--repetitions", "1", "-j", "1", "--output", tmp_path / "run")
    assert (status, err) == (2, f"error: {os.strerror(number)}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "run: missing argument 'suite' (see python run_bench.py run --help)"),
        (["compare", "a"], "compare: missing argument 'RUN_B' (see python run_bench.py compare --help)"),
        (["check", "quick"], "check: missing option '--baseline' (see python run_bench.py check --help)"),
        (["run", "quick", "--job", "2"], "run: no such option: --job"),
        (["run", "quick", "--jobs"], "option '--jobs' requires an argument"),
        (["run", "quick", "--jobs", "many"], "run: invalid value for '--jobs' / '-j'"),
        (["rum"], "no such command 'rum'"),
    ],
)
def test_wrong_arguments_cost_one_line(call, arguments, message):
    status, out, err = call(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {message}")


def test_no_argument_at_all_gives_the_help(call):
    _, out, err = call()
    assert "leaderboard" in out + err


def test_a_dry_run_lists_every_cell_and_computes_none(call, suite, tmp_path):
    status, out, _ = call("run", suite, "--dry-run", "--repetitions", "2", "--output", tmp_path / "run")
    assert status == 0
    assert len(re.findall(r"^unknown +small", out, re.MULTILINE)) == 8
    assert "8 rows, 8 cells to compute" in out
    assert not (tmp_path / "run" / "cells").exists()


def test_a_run_prints_its_table_and_says_where_everything_lies(call, suite, tmp_path):
    status, out, err = call(
        "run", suite, "--repetitions", "2", "--jobs", "1", "--output", tmp_path / "run", "-m", "witness", "-m", "empty"
    )
    assert status == 0, err
    assert "witness" in out
    assert "SHD" in out
    for folder in ("plots", "tables", "rows.parquet"):
        assert (tmp_path / "run" / folder).exists()
    assert str(tmp_path / "run") in out.replace("\n", "")
    rows = pd.read_parquet(tmp_path / "run" / "rows.parquet")
    assert len(rows) == 4
    # Where the output is no terminal, progress is plain lines.
    assert "running: 4/4, 0 failed" in out
    assert "\x1b" not in out


def test_failures_are_counted_and_shown(call, suite, tmp_path, unplotted):
    run = tmp_path / "run"
    arguments = ["--plugin", PLUGINS / "trouble.py", "-m", "raises", "-m", "empty", "--repetitions", "1", "--output", run]
    status, out, err = call("run", suite, *arguments)
    assert status == 0, err
    assert "1 of 2 rows failed" in out
    status, out, _ = call("show", "--failed", run)
    assert "KeyError" in out
    cell = pd.read_parquet(run / "rows.parquet").set_index("method").loc["raises", "cell"]
    status, out, _ = call("show", cell[:8], "--output", run)
    assert "Traceback" in out
    assert "misbehave" in out
    status, _, err = call("show", cell[:8])
    assert status == 2
    assert err.count("\n") == 1
    assert "name another run directory with --output" in err


def test_no_terminal_obeys_what_a_plugin_says(call, suite, tmp_path, unplotted):
    plugin, run = tmp_path / "loud.py", tmp_path / "run"
    plugin.write_text(
        "from bench.registry import register_method\n"
        "from bench.types import Capabilities, Meta, Method\n"
        "@register_method('loud')\n"
        "class Loud(Method):\n"
        "    capabilities, meta = Capabilities(), Meta('A \\x1b[31mred summary.')\n"
        "    def fit(self, observed, *, rng, budget=None):\n"
        "        print('printed\\x1b]0;title\\x07')\n"
        "        raise ValueError('a \\x1b[2J message\\x9b31m')\n"
    )
    more = ["--plugin", plugin]
    status, out, err = call("run", suite, *more, "-m", "loud", "--repetitions", "1", "-j", "1", "--output", run)
    assert status == 0, err
    cell = pd.read_parquet(run / "rows.parquet")["cell"].iloc[0]
    said = [out, *(call(*arguments)[1] for arguments in (["show", "--failed", run], ["show", cell, "--output", run]))]
    said += [call("show", "loud", *more)[1], call("list", "methods", *more)[1]]
    assert not any(character in text for text in said for character in "\x1b\x07\x9b")
    assert r"\x1b[2J" in said[1]
    assert r"printed\x1b]0;title\x07" in said[2]
    assert r"A \x1b[31mred summary." in said[3]
    for page in (run / "report.html", *run.glob("tables/*.md")):
        assert "\x1b" not in page.read_text()


def test_a_plugin_joins_the_suite_with_one_flag(call, suite, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text((PLUGINS / "edited.txt").read_text())
    status, out, _ = call("run", suite, "--plugin", plugin, "--dry-run", "--repetitions", "1", "--output", tmp_path / "run")
    assert status == 0
    assert re.search(r"small +0 +edited +run", out)
    assert re.search(r"small +0 +slow\[seconds=0\.3\] +run", out)  # brackets are no markup
    assert re.search(r"small +0 +empty +run", out)


def test_everything_is_listed_and_shown(call, tmp_path):
    status, out, _ = call("list")
    assert status == 0
    for name in ("ut_igsp", "synthetic", "quick"):
        assert re.search(rf"^{name}\b", out, re.MULTILINE)
        shown = call("show", name, "--output", tmp_path)
        assert shown[0] == 0
        assert name in shown[1]
    assert "targets must be told · edges (binary)" in " ".join(out.split())
    shown = call("show", "ut_igsp")[1]
    assert re.search(r"depth +4 +Annotated\[int, Ge\(0\)", shown)
    assert "alpha_invariance : float" in shown


def test_the_list_of_methods_fits_a_narrow_terminal_and_names_what_each_needs(call, monkeypatch, tmp_path):
    plugin = tmp_path / "needy.py"
    plugin.write_text(
        "from bench.registry import register_method\n"
        "from bench.types import Capabilities, Meta, Method\n"
        "@register_method('needy')\n"
        "class Needy(Method):\n"
        "    capabilities = Capabilities(needs_observational=True, min_environments=3, extra='torch')\n"
        "    meta = Meta('Needs much.', n_variables=(2, 20), interventions=('hard_constant', 'shift'))\n"
        "    def fit(self, observed, *, rng, budget=None): ...\n"
        "@register_method('silent')\n"
        "class Silent(Method):\n"
        "    capabilities, meta = Capabilities(), Meta('Says nothing.')\n"
        "    def fit(self, observed, *, rng, budget=None): ...\n"
    )
    status, out, err = call("list", "methods", "--plugin", plugin, columns=80)
    assert status == 0, err
    assert max(map(len, out.splitlines())) <= 80
    said = " ".join(out.split())
    assert (
        "Needs much. interventions: hard constant, shift · needs observational data · needs 3 environments · needs torch · "
        "edges (binary) · d 2 to 20"
    ) in said
    assert re.search(r"Says nothing\. edges \(binary\) \w", said)


def test_showing_a_method_tells_all_that_it_says_of_itself(call):
    meta = registry.entry("method", "gies").meta
    shown = call("show", "gies")[1]
    for said in (meta.reference, meta.wraps, meta.complexity, "interventions: hard, hard constant", "variables: 2 to 30"):
        assert said in shown


def test_types_are_shown_as_written_where_annotations_are_evaluated_at_once(call, tmp_path):
    plugin = tmp_path / "evaluated.py"
    plugin.write_text(
        "from typing import Annotated\n"
        "from annotated_types import Ge\n"
        "from bench.registry import register_dataset\n"
        "from bench.types import Meta\n"
        "@register_dataset('evaluated', meta=Meta('Nothing.'))\n"
        "def evaluated(rng, *, n_variables: Annotated[int, Ge(2)] = 5, shift: float = 2.0): ...\n"
    )
    status, out, err = call("show", "evaluated", "--plugin", plugin)
    assert status == 0, err
    assert re.search(r"n_variables +5 +Annotated\[int, Ge\(2\)\]", out)
    assert re.search(r"shift +2\.0 +float", out)


def _wait_for_cells(run, n, process):
    deadline = time.monotonic() + 150
    while len(list(run.glob("cells/[!.]*/record.json"))) < n:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run made no progress"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "how",
    [signal.SIGINT, *(pytest.param(how, marks=pytest.mark.slow) for how in (signal.SIGKILL, signal.SIGTERM))],
    ids=lambda s: s.name,
)
def test_a_stopped_run_resumes_to_the_table_of_an_undisturbed_one(call, suite, tmp_path, unplotted, how):
    run = tmp_path / "run"
    process = _start("run", suite, "--jobs", "2", "--output", run, start_new_session=True)
    _wait_for_cells(run, 5, process)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: the whole foreground group
    else:
        os.kill(process.pid, how)
    _, err = process.communicate(timeout=150)
    if how != signal.SIGKILL:
        assert process.returncode == 130
        assert "resume with: python" in err
        assert "--jobs 2" in err
        assert "Traceback" not in err
    kept = len(list(run.glob("cells/[!.]*/record.json")))
    assert 5 <= kept < 24
    assert call("run", suite, "--jobs", "1", "--output", run)[:3:2] == (0, "")
    assert call("run", suite, "--jobs", "1", "--output", tmp_path / "undisturbed")[:3:2] == (0, "")
    resumed, undisturbed = (pd.read_parquet(r / "rows.parquet") for r in (run, tmp_path / "undisturbed"))
    pd.testing.assert_frame_equal(without_times(resumed), without_times(undisturbed))
    assert len(resumed) == 24


@pytest.mark.slow
def test_the_same_suite_gives_the_same_rows_in_a_spawned_process(call, suite, tmp_path, unplotted):
    arguments = ["run", suite, "--repetitions", "2", "-m", "slow", "-m", "random"]
    assert call(*arguments, "--jobs", "1", "--output", tmp_path / "here")[0] == 0
    process = subprocess.run(
        [sys.executable, str(ROOT / "run_bench.py"), *map(str, arguments), "--jobs", "2", "--output", str(tmp_path / "there")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "4242"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    here, there = (without_times(pd.read_parquet(tmp_path / r / "rows.parquet")) for r in ("here", "there"))
    pd.testing.assert_frame_equal(here, there)
