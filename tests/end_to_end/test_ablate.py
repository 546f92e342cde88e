"""`ablate`: a suite with a base, or any method with its changes; curves over a factor; finished cells are taken over."""

from pathlib import Path

import pandas as pd
import pytest

from bench import runner, store

SUITE = """
repetitions: 6
timeout: 20
datasets:
  - {name: synthetic, label: small, parameters: {n_variables: 4, n_observational: 60, n_environments: 3, n_per_environment: 20}}
methods: [marginal, empty]
base: marginal
"""


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SUITE)
    return "small.yaml"


def test_changes_of_any_method_are_compared_with_it_and_the_cells_of_the_base_are_taken_over(call, suite, monkeypatch):
    assert call("run", suite, "-j", "1")[0] == 0
    computed = []
    original = runner.run_cell
    monkeypatch.setattr(runner, "run_cell", lambda run, suite, plan: computed.append(plan.label) or original(run, suite, plan))
    status, out, err = call("ablate", suite, "-m", "marginal", "-c", "alpha=0.5", "-c", "alpha=0.2", "-j", "1")
    assert (status, err) == (0, "")
    assert "difference to marginal" in out
    assert sorted({label.partition(" · ")[2] for label in computed}) == ["alpha=0.2", "alpha=0.5"]
    run = Path("results/runs/ablation_small_marginal")
    rows = pd.read_parquet(run / "rows.parquet")
    assert set(rows["method"]) == {"marginal", "alpha=0.5", "alpha=0.2"}
    assert (rows["status"] == "ok").all()
    assert (run / "plots" / "differences-unknown.png").is_file()
    former = pd.read_parquet("results/runs/small/rows.parquet").query("method == 'marginal'")["cell"]
    assert all(store.cell_status(run, cell) == "ok" for cell in former)


@pytest.mark.slow
def test_a_suite_with_a_base_runs_as_it_stands_and_along_a_factor(call, suite):
    status, out, err = call("ablate", suite, "--vary", "n_per_environment=10,40", "-j", "1")
    assert (status, err) == (0, "")
    run = Path("results/runs/ablation_small_n_per_environment")
    rows = pd.read_parquet(run / "rows.parquet")
    assert sorted(set(rows["factor_value"])) == [10, 40]
    assert any(path.name.startswith("curves-") for path in (run / "plots").iterdir())
    assert "small, n_per_environment=40" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quick"], "suite 'quick' names no base"),
        (["quick", "-m", "ut_igsp"], "expected what to change of 'ut_igsp', got nothing"),
        (["quick", "-c", "alpha=0.1"], "--change needs the method that it changes"),
        (["quick", "-m", "ut_igsp", "-c", "alpha"], "--change: expected param=value, got 'alpha'"),
        (["quick", "-m", "ut_igsp", "-c", "alpa=1"], "did you mean 'alpha'?"),
        (["quick", "-m", "ut_igsp", "-c", "alpha=2"], "less than 1, got 2"),
        (["quick", "-m", "ut_igsp", "-c", "alpha=0.001"], "--change alpha=0.001: that is what ut_igsp does already"),
        (["quick", "-m", "ut_igps", "-c", "alpha=0.1"], "did you mean 'ut_igsp'?"),
        (["small.yaml", "--vary", "n_variables=4"], "with at least two values, got 'n_variables=4'"),
        (["small.yaml", "--vary", "n_variable=4,5"], "did you mean 'n_variables'?"),
        (["small.yaml", "--vary", "n_variables=5,4"], "must be rising numbers"),
    ],
)
def test_a_mistake_costs_one_line(call, suite, arguments, message):
    status, out, err = call("ablate", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not Path("results").exists()
