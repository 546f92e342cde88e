"""The procedure that fixes hyperparameters: what it tries, how it decides, and that the defaults are what it found."""

import json
import math
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from bench import registry, runner, tuning
from bench.errors import InputError, UnknownName
from bench.registry import register_method
from bench.seeds import canonical
from bench.suites import load_suite, suite_names
from bench.types import Capabilities, Estimate, Fitted, Meta, Method

TUNED = [name for name, entry in registry.methods().items() if entry.factory.search_space]


@pytest.mark.parametrize("method", TUNED)
def test_every_search_space_fits_its_method_and_holds_the_defaults(method):
    space = tuning.search_space(method)
    assert all(len(values) > 1 for values in space.values())


@pytest.mark.parametrize("path", sorted(tuning.RECORDS.glob("*.json")), ids=lambda p: p.stem)
def test_defaults_are_what_the_committed_search_chose(path):
    record = json.loads(path.read_text())
    space = tuning.search_space(record["method"])
    defaults = registry.entry("method", record["method"]).defaults
    assert canonical(record["search_space"]) == canonical(space)
    assert canonical(record["chosen"]) == canonical({name: defaults[name] for name in space})
    assert record["problems"] == {"screening": 6, "final": 30}


def test_the_tuning_suite_shares_no_problem_with_any_other_suite():
    """By fingerprint where a problem is small, by the seed of its draws for all: large ones take minutes to draw."""

    def problems(suite):
        for dataset in suite.datasets:
            for repetition in range(dataset.repetitions or suite.repetitions):
                yield dataset, repetition, dataset.data_seed(suite.seed, repetition)

    ours = load_suite(tuning.SUITE)
    fingerprints = {registry.make_problem(d.name, seed=s, **d.parameters).fingerprint for d, _, s in problems(ours)}
    seeds = {s for _, _, s in problems(ours)}
    assert len(fingerprints) == len(seeds) == 36
    others = [load_suite(name) for name in suite_names() if name != tuning.SUITE]
    assert seeds.isdisjoint(s for suite in others for _, _, s in problems(suite))
    small = {
        s: d
        for suite in others
        for d, repetition, s in problems(suite)
        if repetition == 0 and d.name == "synthetic" and d.parameters.get("n_variables", 10) <= 20
    }
    assert len(small) > 10
    assert fingerprints.isdisjoint(registry.make_problem(d.name, seed=s, **d.parameters).fingerprint for s, d in small.items())


def rows(**changed):
    row = {"status": "ok", "edge_prevalence": 0.1, "n_variables": 10, "shd_interventional": 3.0, "target_f1": 0.8}
    return pd.DataFrame([row | changed])


@pytest.mark.parametrize(
    ("changed", "with_targets", "without"),
    [
        ({}, (3 / 9 + 0.2) / 2, 3 / 9),
        ({"shd_interventional": 30.0}, (1 + 0.2) / 2, 1.0),  # no worse than the empty graph
        ({"status": "timeout", "shd_interventional": math.nan, "target_f1": math.nan}, 1.0, 1.0),
        ({"target_f1": math.nan}, 3 / 9, 3 / 9),
        ({"status": "skipped", "shd_interventional": math.nan, "target_f1": math.nan}, math.nan, math.nan),
    ],
)
def test_the_loss_is_the_mean_of_two_shares_and_a_failure_costs_one(changed, with_targets, without):
    assert tuning.loss(rows(**changed), True).item() == pytest.approx(with_targets, nan_ok=True)
    assert tuning.loss(rows(**changed), False).item() == pytest.approx(without, nan_ok=True)


def test_configurations_are_distinct_start_with_the_defaults_and_end_with_the_space():
    space, defaults = {"a": [1, 2, 3], "b": ["x", "y"]}, {"a": 2, "b": "x"}
    drawn = tuning._draw(space, defaults, 4, np.random.default_rng(0))
    assert drawn[0] == {}
    assert len(drawn) == len({json.dumps(d, sort_keys=True) for d in drawn}) == 4
    everything = tuning._draw(space, defaults, 100, np.random.default_rng(0))
    assert len(everything) == 6
    assert {"a": 1, "b": "y"} in everything
    assert {"a": 3} in everything


@pytest.fixture
def dial():
    """A method with one parameter."""

    @register_method("dial")
    class Dial(Method):
        capabilities = Capabilities(edge_output="binary", deterministic=True)
        meta = Meta("Correlation above a threshold, in the order of variance.")
        search_space: ClassVar = {"threshold": [0.1, 0.5, 2.0]}

        def __init__(self, threshold: float = 2.0):
            self.threshold = threshold

        def fit(self, observed, *, rng, budget=None):
            X = observed.pooled()
            order = np.argsort(np.argsort(np.abs(X).max(axis=0)))
            strong = np.abs(np.corrcoef(X.T)) > self.threshold
            return Fitted(Estimate((strong & (order[:, None] < order)).astype(float)))

    yield Dial
    del registry._entries["method"]["dial"]


def fake_runner(monkeypatch, loss_of):
    """Rows as a run would give them, with the loss that ``loss_of(parameters, problem)`` says."""
    calls = []

    def run(suite, *, output, jobs, watch):
        calls.append((len(suite.methods), suite.repetitions, suite.tracks))
        found = [
            {"method": m.label, "dataset": d, "repetition": r, "problem": f"{d}{r}", "status": "ok", "fit_seconds": 1.0}
            | {"edge_prevalence": 0.1, "n_variables": 10, "shd_interventional": 9 * loss_of(m.parameters, r, d)}
            for m in suite.methods
            for d in range(6)
            for r in range(suite.repetitions)
        ]
        return pd.DataFrame(found)

    monkeypatch.setattr(tuning, "runner", SimpleNamespace(run=run, DEFAULT_OUTPUT=runner.DEFAULT_OUTPUT))
    return calls


@pytest.mark.usefixtures("dial")
def test_a_configuration_that_is_better_on_fresh_draws_becomes_the_default(monkeypatch):
    calls = fake_runner(monkeypatch, lambda p, r, d: {0.1: 0.2, 0.5: 0.3}.get(p.get("threshold"), 0.5) + 0.01 * ((r + d) % 3))
    found = tuning.tune("dial", finalists=1)
    assert calls == [(3, 1, ("unknown",)), (2, 6, ("unknown",))]
    assert found.chosen == {"threshold": 0.1}
    assert found.n_screening == 6
    assert found.n_final == 30
    assert [t.parameters for t in found.trials] == [{"threshold": 0.1}, {}, {"threshold": 0.5}]
    assert found.trials[0].difference == pytest.approx((-0.3, -0.3, -0.3))
    assert math.isnan(found.trials[2].final_loss)


@pytest.mark.usefixtures("dial")
def test_luck_in_the_screening_changes_no_default(monkeypatch, tmp_path):
    def lucky(parameters, repetition, dataset):
        if repetition == 0:
            return 0.1 if parameters else 0.5
        return 0.5 + (0.1 * (-1) ** (repetition + dataset) if parameters else 0.0)

    fake_runner(monkeypatch, lucky)
    found = tuning.tune("dial")
    assert found.chosen == {"threshold": 2.0}
    record = json.loads(found.save(tmp_path).read_text())
    assert record["chosen"] == record["defaults_before"] == {"threshold": 2.0}
    assert len(record["trials"]) == 3
    assert record["trials"][0]["screening_loss"] in (0.1, 0.5)


def test_a_whole_search_runs_through_the_ordinary_runner(tmp_path):
    suite = load_suite(tuning.SUITE)
    suite = suite.selected(datasets=["linear, hard, d=10"]).changed(repetitions=2)
    found = tuning.tune("marginal", suite=suite, finalists=1, trials=3, output=tmp_path)
    assert len(found.trials) == 3
    assert all(0 < t.screening_loss < 1 for t in found.trials)
    assert (tmp_path / "rows.parquet").is_file()


def test_what_cannot_be_tuned_says_so_in_one_line(dial):
    for wrong, message in [
        ({}, "declares no search_space"),
        ({"treshold": [1.0]}, "did you mean 'threshold'"),
        ({"threshold": [0.1]}, "must hold the default of 'threshold', 2.0"),
        ({"threshold": [2.0, "high"]}, "the 'threshold' parameter"),
    ]:
        dial.search_space = wrong
        with pytest.raises(InputError, match=message):
            tuning.tune("dial")
    with pytest.raises(UnknownName, match="did you mean 'ut_igsp'"):
        tuning.tune("ut_igps")
    with pytest.raises(InputError, match="got 1"):
        tuning.tune("marginal", suite=load_suite(tuning.SUITE).changed(repetitions=1))
