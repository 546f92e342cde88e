"""``show DATASET``: card, parameters, one problem measured and drawn, and in one line how hard it is."""

import re

import numpy as np
import pandas as pd
import pytest

from bench import registry
from bench.cards import DATASET_FIELDS

PLOTS = sorted(f"{stem}.{kind}" for stem in ("graph", "marginals", "shifts", "effect-sizes") for kind in ("png", "svg"))
SMALL = {
    "bacadi": "n_variables=6",
    "dcdi": "n_samples=220",
    "fitted": "n_environments=3",
    "gene_expression": "n_variables=6,n_environments=4",
    "gnies": "n_per_environment=20",
    "synthetic": "n_variables=6",
    "utigsp": "n_variables=6,n_per_environment=20",
}


def test_no_simulated_dataset_goes_unshown():
    ours = {name for name, entry in registry.datasets().items() if "real" not in entry.tags}
    assert ours == set(SMALL)


@pytest.mark.parametrize("name", [n if n == "synthetic" else pytest.param(n, marks=pytest.mark.slow) for n in SMALL])
def test_every_simulated_dataset_is_told_measured_and_drawn(call, name, tmp_path):
    status, out, err = call("show", f"{name}[{SMALL[name]}]", "--output", tmp_path, columns=200)
    assert status == 0, err
    for field in DATASET_FIELDS:
        assert f"  {field}: " in out
    assert re.search(rf"One problem, {name}\[.*\], seed 0: \d+ variables?, \d+ environments?", out)
    assert re.search(
        r"How hard: edges: AP sorting by variance [\d.]+.*chance.*; targets: AP marginal tests [\d.]+, chance", out
    )
    for relation in ("target", "descendant", "others (noise floor, where the truth holds)"):
        assert re.search(rf"^{re.escape(relation)} +\d+ +\d", out, re.MULTILINE)
    assert sorted(p.name for p in tmp_path.iterdir()) == PLOTS


def test_parameters_and_seed_choose_the_problem(call, tmp_path, unplotted):
    spec = "synthetic[n_variables=4,edges_per_node=1.5]"
    lines = {}
    for seed in (0, 1):
        status, out, err = call("show", spec, "--seed", seed, "--output", tmp_path / str(seed), columns=200)
        assert status == 0, err
        assert f"seed {seed}: 4 variables, 11 environments (1 observational) of 100 to 500 samples" in out
        lines[seed] = re.search("Sortability.*", out).group()
    assert lines[0] != lines[1]


def test_a_wrong_parameter_is_one_line_and_draws_nothing(call, tmp_path):
    for spec, message in (
        ("synthetic[n_variable=4]", "did you mean 'n_variables'?"),
        ("synthetic[n_variables=0]", "the 'n_variables' parameter"),
        ("synthetic[n_environments=0,n_observational=0]", "must not both be 0"),
    ):
        status, _, err = call("show", spec, "--output", tmp_path / "plots")
        assert status == 2
        assert message in err
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "plots").exists()


def test_a_name_of_a_method_and_a_dataset_shows_both_and_parameters_choose(call, tmp_path, unplotted):
    _, out, _ = call("show", "dcdi", "--output", tmp_path)
    assert "method dcdi:" in out
    assert "dataset dcdi:" in out
    _, out, _ = call("show", "dcdi[n_samples=200]", "--output", tmp_path)
    assert "method dcdi:" not in out


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "c"])
    frame["environment"] = np.repeat(["x", "y", "z"], 20)
    frame.to_csv(tmp_path / "mine.csv", index=False)
    (tmp_path / "truth.yaml").write_text("edges: [[a, b]]\ntargets: {y: [a], z: []}\n")
    return tmp_path


def test_a_table_is_shown_with_and_without_truth(call, table):
    spec = f"table[path={table / 'mine.csv'},observational=x"
    status, out, err = call("show", f"{spec},truth={table / 'truth.yaml'}]", "--output", table / "known", columns=300)
    assert status == 0, err
    assert "1 edge; 1 environment with 1 of 3 variables as targets" in out
    assert "How hard: edges" in out
    status, out, err = call("show", f"{spec}]", "--output", table / "unknown", columns=300)
    assert status == 0, err
    assert "graph not known; targets not known" in out
    assert "How hard: no truth is known, so nothing can be scored." in out
    assert "Not drawn: graph: the true graph is not known." in out
    assert (table / "unknown" / "marginals.png").is_file()
    assert not (table / "unknown" / "graph.png").exists()


def test_a_table_without_its_file_says_what_it_needs(call):
    status, out, err = call("show", "table")
    assert status == 0, err
    assert 'name what it needs: show "table[path=...]"' in out


def test_data_that_cannot_be_had_cost_the_plots_and_not_the_card(call, monkeypatch, tmp_path):
    def nothing(file, **_):
        raise OSError("no network")

    monkeypatch.setenv("CADIBENCH_DATA", str(tmp_path))
    monkeypatch.setattr("bench.data_directory._download", nothing)
    status, out, err = call("show", "sachs", "--output", tmp_path / "plots", columns=300)
    assert status == 0, err
    assert "known of its truth: by convention" in out
    assert re.search(r"No problem can be shown: data file 'sachs/.*could not be downloaded", out)
    assert not (tmp_path / "plots").exists()
