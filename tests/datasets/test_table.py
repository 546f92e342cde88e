"""A user's own table: what is read, and one line for every mistake."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from bench import registry
from bench.errors import InputError
from bench.testing import checks_for_dataset, expected_failures
from bench.testing.report import run_check

FRAME = pd.DataFrame(
    {
        "smoking": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        "group": ["before", "campaign", "before", "ban", "campaign", "ban", "ban"],
        "tar": [3, 1, 4, 1, 5, 9, 2],
        "cancer": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
    }
)
TRUTH = {
    "edges": [["smoking", "tar"], ["tar", "cancer"]],
    "unscored": [["cancer", "smoking"]],
    "targets": {"campaign": ["smoking"], "ban": ["smoking", "tar"]},
}


@pytest.fixture
def path(tmp_path):
    FRAME.to_csv(tmp_path / "study.csv", index=False)
    return str(tmp_path / "study.csv")


@pytest.fixture
def write_truth(tmp_path):
    def write(**changes):
        content = {k: v for k, v in (TRUTH | changes).items() if v is not None}
        (tmp_path / "truth.yaml").write_text(yaml.safe_dump(content))
        return str(tmp_path / "truth.yaml")

    return write


def read(path, **parameters):
    return registry.make_problem("table", seed=0, path=path, **({"environment_column": "group"} | parameters))


def test_rows_of_one_value_are_one_environment_in_order_of_appearance(path):
    problem = read(path)
    assert problem.variable_names == ("smoking", "tar", "cancer")
    assert problem.environment_names == tuple(dict.fromkeys(FRAME["group"]))
    assert [e.X[:, 0].tolist() for e in problem.observed.environments] == [[1, 3], [2, 5], [4, 6, 7]]
    assert [e.is_observational for e in problem.observed.environments] == [None] * 3


def test_absent_truth_is_no_score_but_a_problem(path):
    problem = read(path)
    assert problem.truth is None
    assert dict(problem.diagnostics) == {}


def test_parquet_is_read_as_csv_is(path, tmp_path):
    FRAME.to_parquet(tmp_path / "study.parquet")
    assert read(str(tmp_path / "study.parquet")).fingerprint == read(path).fingerprint


@pytest.mark.parametrize("observational", ["before", ["before"]])
def test_observational_environments_are_those_named(path, observational):
    told = [e.is_observational for e in read(path, observational=observational).observed.environments]
    assert told == [True, False, False]


@pytest.mark.parametrize("label", [0, 0.0, "0"])
def test_numbers_name_environments_however_they_are_written(tmp_path, label):
    FRAME.assign(group=[0, 1, 0, 1, 1, 0, 1]).to_csv(tmp_path / "n.csv", index=False)
    told = [e.is_observational for e in read(str(tmp_path / "n.csv"), observational=label).observed.environments]
    assert told == [True, False]


def test_variables_can_be_chosen(path):
    problem = read(path, columns=["cancer", "tar"])
    assert problem.variable_names == ("cancer", "tar")
    assert problem.observed.environments[0].X.tolist() == [[0.1, 3], [0.3, 4]]


def test_large_environments_can_be_subsampled(path):
    problem = read(path, n_per_environment=2)
    assert [e.n_samples for e in problem.observed.environments] == [2, 2, 2]
    assert set(problem.observed.environments[2].X[:, 0]) < {4, 6, 7}


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_truth_file_is_read_by_names(path, tmp_path, suffix):
    file = tmp_path / f"truth.{suffix}"
    file.write_text(json.dumps(TRUTH) if suffix == "json" else yaml.safe_dump(TRUTH))
    truth = read(path, observational="before", truth=str(file)).truth
    assert np.argwhere(truth.adjacency).tolist() == [[0, 1], [1, 2]]
    assert truth.targets.tolist() == [[False] * 3, [True, False, False], [True, True, False]]
    assert np.argwhere(~truth.scored).tolist() == [[0, 0], [0, 2], [1, 1], [2, 0], [2, 2]]


def test_without_edges_the_graph_is_unknown(path, write_truth):
    problem = read(path, observational="before", truth=write_truth(edges=None, unscored=None))
    assert problem.truth.adjacency is None
    assert not problem.truth.scored.any()
    assert problem.truth.targets.sum() == 3
    assert dict(problem.diagnostics) == {}


@pytest.mark.parametrize("observational", [None, "before"])
def test_without_targets_they_are_unknown(path, write_truth, observational):
    truth = read(path, observational=observational, truth=write_truth(targets=None)).truth
    assert truth.targets is None
    assert truth.adjacency.sum() == 2
    assert np.argwhere(~truth.scored).tolist() == [[0, 0], [0, 2], [1, 1], [2, 0], [2, 2]]


def test_observational_environments_alone_are_known_to_have_no_targets(path, write_truth):
    truth = read(path, observational=["before", "campaign", "ban"], truth=write_truth(targets=None)).truth
    assert truth.targets.tolist() == [[False] * 3] * 3
    assert truth.adjacency.sum() == 2


def test_no_edge_is_no_unknown_edge(path, write_truth):
    truth = read(path, truth=write_truth(edges=[], unscored=None, targets=None)).truth
    assert not truth.adjacency.any()
    assert truth.scored.sum() == 6


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"environment_column": "gruop"}, "unknown column 'gruop'; did you mean 'group'"),
        ({"environment_column": "zzz"}, "unknown column 'zzz'; there are smoking, group, tar, cancer"),
        ({"columns": ["smokin"]}, "unknown column 'smokin'; did you mean 'smoking'"),
        ({"columns": ["group"]}, "unknown column 'group'"),
        ({"columns": ["tar", "tar"]}, "must name each variable once"),
        ({"observational": "befor"}, "unknown observational environment 'befor'; did you mean 'before'"),
        ({"n_per_environment": 1}, "greater than or equal to 2"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(path, parameters, message):
    with pytest.raises(InputError, match=message) as error:
        read(path, **parameters)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tar": ["3", "1", "high", "1", "5", "9", "2"]}, "column 'tar' must be numeric, got '?3'?; choose the variables"),
        ({"tar": [3, None, 4, None, 5, 9, 2]}, "column 'tar' must be finite, got 2 missing value"),
        ({"tar": [3, np.inf, 4, 1, 5, 9, 2]}, "column 'tar' must be finite, got 1 infinite value"),
        ({"group": ["a", None, "a", "b", "b", None, "b"]}, "column 'group' names no environment in 2 row"),
        ({"group": ["a", "a", "a", "b", "c", "b", "b"]}, "environment 'c' must have at least 2 rows, got 1"),
    ],
)
def test_unusable_values_are_named_with_their_column(tmp_path, change, message):
    FRAME.assign(**change).to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(InputError, match=message):
        read(str(tmp_path / "bad.csv"))


def test_row_numbers_are_no_variable(tmp_path):
    FRAME.to_csv(tmp_path / "numbered.csv")
    with pytest.raises(InputError, match="a column has no name, row numbers perhaps"):
        read(str(tmp_path / "numbered.csv"))
    assert read(str(tmp_path / "numbered.csv"), columns=["tar", "cancer"]).variable_names == ("tar", "cancer")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_than_commas_are_named(tmp_path, separator):
    FRAME.to_csv(tmp_path / "other.csv", index=False, sep=separator)
    with pytest.raises(InputError, match="fields must be separated by commas, got one column 'smoking"):
        read(str(tmp_path / "other.csv"))


def test_unreadable_files_are_named(path, tmp_path):
    with pytest.raises(InputError, match=r"table '.*studi.csv' does not exist; did you mean '.*study.csv'"):
        read(path.replace("study", "studi"))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match=r"cannot be read as CSV: No columns"):
        read(str(tmp_path / "empty.csv"))
    (tmp_path / "header.csv").write_text("group,a\n")
    with pytest.raises(InputError, match="must have rows, got none"):
        read(str(tmp_path / "header.csv"))
    (tmp_path / "fake.parquet").write_text("no")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        read(str(tmp_path / "fake.parquet"))
    (tmp_path / "lonely.csv").write_text("group\na\na\n")
    with pytest.raises(InputError, match="must have a column besides 'group'"):
        read(str(tmp_path / "lonely.csv"))
    with pytest.raises(InputError, match="needs the parameter 'path'"):
        registry.make_problem("table", seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": [["smoking", "tarr"]]}, "unknown variable 'tarr'; did you mean 'tar'"),
        ({"edges": [["smoking"]]}, r"edges must be a list of pairs \[cause, effect\], got \['smoking'\]"),
        ({"edges": "smoking"}, "edges must be a list of pairs"),
        ({"edges": None, "targets": None}, "must have the key edges or targets"),
        ({"edges": None}, "unscored pairs need edges"),
        ({"edges": [["tar", "tar"]]}, "edges must join two different variables"),
        ({"unscored": [["tar", "x"]]}, "unknown variable 'x'"),
        ({"targets": {"campain": ["smoking"], "ban": []}}, "unknown environment 'campain'; did you mean 'campaign'"),
        ({"targets": {"campaign": ["smok"], "ban": []}}, "unknown variable 'smok'; did you mean 'smoking'"),
        ({"targets": {"campaign": "smoking", "ban": []}}, "targets of 'campaign' must be a list"),
        ({"targets": {"campaign": ["smoking"]}}, "missing: ban"),
        ({"targets": {"campaign": [], "ban": [], "before": ["tar"]}}, "'before' is observational and cannot have targets"),
        ({"targets": ["smoking"]}, "targets must map environments"),
        ({"edgs": []}, "unknown key 'edgs'; did you mean 'edges'"),
    ],
)
def test_mistakes_in_the_truth_file_are_one_line(path, write_truth, change, message):
    with pytest.raises(InputError, match=message) as error:
        read(path, observational="before", truth=write_truth(**change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.yaml", "edges: [", "cannot be read as YAML"),
        ("t.json", "{", "cannot be read as JSON"),
        ("t.yaml", "- a", "must be a mapping"),
        ("t.yaml", "", "must be a mapping"),
        ("t.yaml", "edges:", r"edges must be a list of pairs \[cause, effect\], got None"),
        ("t.yaml", "targets:", "targets must map environments to lists of variables, got None"),
    ],
)
def test_unreadable_truth_is_named(path, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read(path, truth=str(tmp_path / name))
    with pytest.raises(InputError, match=r"truth file '.*missing.yaml' does not exist"):
        read(path, truth=str(tmp_path / "missing.yaml"))


def test_table_keeps_every_promise_of_a_dataset(path):
    choice = registry.choose("dataset", "table", {"path": path, "environment_column": "group", "n_per_environment": 2})
    for name, check in checks_for_dataset(choice):
        report = run_check("table", name, check, choice, expected_failures(choice))
        assert report.good, report.message
