"""`check` on whole runs: one method, edited as a user would edit it, and every exit status."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import runner
from bench.errors import MissingDependency

METHOD = """
import numpy as np
from bench.registry import register_method
from bench.types import Capabilities, Estimate, Fitted, Meta, Method


@register_method("mine")
class Mine(Method):
    capabilities = Capabilities(edge_output="score", deterministic=True)
    meta = Meta("A method of a test.")

    def fit(self, observed, *, rng, budget=None):
        Z = np.concatenate([e.X - e.X.mean(axis=0) for e in observed.environments])
        scores = np.abs(np.corrcoef(Z.T))
        np.fill_diagonal(scores, 0)
        return Fitted(Estimate(scores))
"""

SUITE = """
repetitions: 3
timeout: 20
plugins: [mine.py]
datasets: ["synthetic[n_variables=5,n_observational=200,n_environments=3]"]
methods: [marginal, mine]
"""


_first_baseline = []
"""Its text, once some test has had it written: the same for all of them."""


@pytest.fixture
def mine(tmp_path, monkeypatch, call):
    """A folder with a suite, its baseline, and a function that edits the method and checks it."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(METHOD)
    Path("mine.yaml").write_text(SUITE)
    arguments = ["check", "mine.yaml", "--baseline", "baseline.json", "-j", "1"]
    if not _first_baseline:
        status, _, err = call(*arguments, "--update", "--reason", "the first", "--reseeds", "1")
        assert status == 0, err
        _first_baseline.append(Path("baseline.json").read_text())
    Path("baseline.json").write_text(_first_baseline[0])

    def check(old="", new="", *more):
        assert old in METHOD
        Path("mine.py").write_text(METHOD.replace(old, new))
        return call(*arguments, *more)

    return check


def test_the_same_code_is_fine_and_leaves_nothing_behind(mine, tmp_path):
    before = set(tmp_path.iterdir())
    status, out, _ = mine()
    assert status == 0
    assert "no regression in" in out
    assert set(tmp_path.iterdir()) == before


def test_a_loss_of_accuracy_fails_and_is_reported_everywhere(mine):
    status, out, _ = mine("scores = np.abs(", "scores = 1 - np.abs(", "--github", "--junit", "report.xml")
    assert status == 1
    assert "REGRESSION, accuracy: mine (unknown): edge AP" in out
    assert "::error title=cadibench accuracy::mine" in out
    assert ElementTree.parse("report.xml").getroot().find("testcase/failure") is not None


def test_a_crash_fails_and_says_why(mine):
    status, out, _ = mine("scores = np.abs(", "scores = 1 / 0 * np.abs(")
    assert status == 1
    assert "REGRESSION, failure: mine (unknown): 3 cells answered then, not now" in out
    assert "division by zero" in out


def test_a_slower_method_is_warned_of_and_passes(mine):
    status, out, _ = mine("Z = np", "__import__('time').sleep(0.3); Z = np")
    assert status == 0
    assert "warning, slower: mine (unknown)" in out
    assert "no regression in" in out


def test_an_update_keeps_margins_and_says_why(mine, call):
    arguments = ["check", "mine.yaml", "--baseline", "baseline.json", "-j", "1", "--update", "--reseeds", "0"]
    assert call(*arguments, "--margin", "edge_average_precision=0.9", "--reason", "a looser margin")[0] == 0
    assert call(*arguments, "--reason", "once more")[0] == 0
    text = Path("baseline.json").read_text()
    assert '"edge_average_precision": 0.9' in text
    assert '"reason": "once more"' in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--baseline", "absent.json"], "expected a baseline, got 'absent.json' (no such file)"),
        (["--baseline", "mine.yaml"], "mine.yaml: expected a baseline"),
        (["--baseline", "b.json", "--update"], "a new baseline needs its reason"),
        (["--baseline", "b.json", "--update", "--reason", "x", "--margin", "shd"], "expected metric=value, got 'shd'"),
        (["--baseline", "b.json", "--margin", "shd=1"], "go with --update"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(call, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(METHOD)
    Path("mine.yaml").write_text(SUITE)
    status, out, err = call("check", "mine.yaml", *more)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_other_problems_are_refused(mine, call):
    Path("mine.yaml").write_text(SUITE.replace("n_observational=200", "n_observational=100"))
    status, _, err = mine()
    assert status == 2
    assert "is not comparable with the baseline" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "the baseline is of the suite 'other', got 'mine'"),
        (["--update", "--reason", "x", "--reference", "mien"], "unknown reference method 'mien'; did you mean 'mine'?"),
        (["--update", "--reason", "x", "--baseline", "."], "expected a baseline, a JSON file, got the folder '.'"),
    ],
)
def test_what_is_known_to_be_wrong_is_refused_before_anything_runs(mine, monkeypatch, more, message):
    text = Path("baseline.json").read_text()
    Path("baseline.json").write_text(text.replace('"suite": "mine"', '"suite": "other"'))
    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("it runs"))
    status, _, err = mine("", "", *more)
    assert (status, err.count("\n")) == (2, 1)
    assert message in err


def test_a_run_that_breaks_is_no_verdict_and_status_3(mine, monkeypatch):
    for trouble in (MissingDependency("no scheduler"), RuntimeError("a worker died"), OSError("disk full")):

        def broken(*_, trouble=trouble, **__):
            raise trouble

        monkeypatch.setattr(runner, "run", broken)
        status, out, err = mine()
        assert status == 3
        assert "regression" not in out
        assert str(trouble) in err
