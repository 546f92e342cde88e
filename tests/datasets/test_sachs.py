"""The Sachs loader: conditions, annotations, references and units, on the real files or on small ones of the same form."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_data import N_CELLS, SACHS_FILES, write_small_data

from bench import registry
from bench.errors import InputError, MissingData
from datasets.sachs import CONDITIONS, PROTEINS, REFERENCES, reference_graph

NAMES = list(PROTEINS)


@pytest.fixture
def small(tmp_path, monkeypatch):
    directory = write_small_data(tmp_path / "data")
    monkeypatch.setenv("CADIBENCH_DATA", str(directory))
    return directory


def raw(condition):
    return pd.read_csv(Path(os.environ["CADIBENCH_DATA"]) / "sachs" / SACHS_FILES[condition - 1])


def targets_of(problem):
    return [{NAMES[j] for j in np.flatnonzero(row)} for row in problem.truth.targets]


def test_default_is_the_setting_of_utigsp():
    problem = registry.make_problem("sachs", seed=0)
    assert problem.variable_names == PROTEINS
    assert [e.is_observational for e in problem.observed.environments] == [True] + [False] * 5
    assert targets_of(problem) == [set(), {"Akt"}, {"PKC"}, {"PIP2"}, {"Mek"}, {"PIP3"}]
    sizes = [e.n_samples for e in problem.observed.environments]
    assert sizes == [len(raw(1)) + len(raw(2)), *(len(raw(c)) for c in (3, 4, 5, 6, 7))]


def test_files_at_hand_are_the_published_ones(data_directory):
    """The real files have the checksums that downloads are held to; small ones stand in for form alone."""
    contents = {c: (Path(data_directory) / CONDITIONS[c].data_file.path).read_bytes() for c in CONDITIONS}
    if len(pd.read_csv(Path(data_directory) / "sachs" / SACHS_FILES[0])) == N_CELLS:
        assert all(content.startswith(b"praf,pmek,plcg,") for content in contents.values())
        return
    assert {c: hashlib.sha256(content).hexdigest() for c, content in contents.items()} == {
        c: condition.sha256 for c, condition in CONDITIONS.items()
    }
    assert sum(e.n_samples for e in registry.make_problem("sachs", seed=0).observed.environments) == 5846


def test_values_are_natural_logarithms_of_the_files_columns():
    problem = registry.make_problem("sachs[conditions=[3]]", seed=0)
    X = problem.observed.environments[0].X
    table = raw(3)
    for file_column, protein in {"praf": "Raf", "p44/42": "Erk", "pakts473": "Akt", "pjnk": "JNK", "plcg": "PLCg"}.items():
        assert np.allclose(X[:, NAMES.index(protein)], np.log(table[file_column]), rtol=1e-12)
    measured = registry.make_problem("sachs[conditions=[3],scale=raw]", seed=0).observed.environments[0].X
    assert np.allclose(np.log(measured), X, rtol=1e-12)


def test_pharmacological_annotation_covers_all_nine():
    problem = registry.make_problem(
        "sachs[conditions=[9,8,7,6,5,4,3,2,1],annotation=pharmacological,pool_baselines=false]", seed=0
    )
    assert targets_of(problem) == [set(), set(), {"Akt"}, {"PKC"}, {"PIP2"}, {"Mek"}, {"PIP2", "PIP3"}, {"PKC"}, {"PKA"}]
    assert [e.is_observational for e in problem.observed.environments] == [True, None] + [False] * 7


def test_the_second_baseline_alone_is_not_known_to_be_observational():
    problem = registry.make_problem("sachs[conditions=[2,3]]", seed=0)
    assert [e.is_observational for e in problem.observed.environments] == [None, False]


def test_reference_graphs_are_those_published():
    assert {name: len(edges.split()) for name, edges in REFERENCES.items()} == {"consensus": 18, "reconstructed": 17}
    consensus, reconstructed = reference_graph("consensus"), reference_graph("reconstructed")
    assert (consensus.sum(), reconstructed.sum(), (consensus & reconstructed).sum()) == (18, 17, 14)
    assert consensus[NAMES.index("Raf"), NAMES.index("Mek")]
    assert consensus[NAMES.index("PIP3"), NAMES.index("Akt")]
    assert reconstructed[NAMES.index("PKC"), NAMES.index("PKA")]
    problem = registry.make_problem("sachs[reference=reconstructed]", seed=0)
    assert np.array_equal(problem.truth.adjacency, reconstructed)


def test_subsamples_are_distinct_cells_and_depend_on_the_seed():
    def cells(seed):
        return registry.make_problem("sachs[conditions=[3],n_per_condition=20,scale=raw]", seed=seed).observed.pooled()

    everything = {tuple(row) for row in registry.make_problem("sachs[conditions=[3],scale=raw]", seed=0).observed.pooled()}
    assert cells(0).shape == (20, 11)
    assert {tuple(row) for row in cells(0)} <= everything
    assert not np.array_equal(cells(0), cells(1))
    assert np.array_equal(cells(0), cells(0))


def test_held_out_conditions_are_not_in_training():
    problem = registry.make_problem(
        "sachs[conditions=[1,2,3],held_out_conditions=[4],few_shot_sizes=[2,5],n_query=10,scale=raw]", seed=0
    )
    (held_out,) = problem.held_out
    assert (held_out.support.shape, held_out.sizes, held_out.query.shape) == ((5, 11), (2, 5), (10, 11))
    assert [NAMES[j] for j in np.flatnonzero(held_out.targets)] == ["PKC"]
    cells = np.vstack([held_out.support, held_out.query])
    fourth = registry.make_problem("sachs[conditions=[4],scale=raw]", seed=0).observed.pooled()
    assert {tuple(row) for row in cells} <= {tuple(row) for row in fourth}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sachs[conditions=[1,8]]", "names no targets for condition.s. 8"),
        ("sachs[held_out_conditions=[9]]", "names no targets for condition.s. 9"),
        ("sachs[conditions=[1,1]]", "can be used once"),
        ("sachs[held_out_conditions=[7]]", "can be used once"),
        ("sachs[conditions=[10]]", "less than or equal to 9"),
        ("sachs[conditions=[3],n_per_condition=5000]", "fewer than the 5000 asked for"),
        ("sachs[annotation=wang]", "'wang2017'"),
    ],
)
def test_impossible_choices_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        registry.make_problem(spec, seed=0)


def test_missing_columns_and_impossible_values_are_named(small):
    path = small / "sachs" / SACHS_FILES[2]
    table = pd.read_csv(path)
    table.drop(columns="PKA").to_csv(path, index=False)
    with pytest.raises(InputError, match="it lacks PKA"):
        registry.make_problem("sachs", seed=0)
    table.assign(PKA=0.0).to_csv(path, index=False)
    with pytest.raises(InputError, match="positive intensities for logarithms, got 0"):
        registry.make_problem("sachs", seed=0)
    assert registry.make_problem("sachs[scale=raw]", seed=0).observed.n_variables == 11


def test_a_missing_file_that_cannot_be_had_is_one_line(small, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no network")

    (small / "sachs" / SACHS_FILES[4]).unlink()
    monkeypatch.setattr("bench.data_directory.pooch.retrieve", unreachable)
    with pytest.raises(MissingData, match=r"sachs/5. cd3cd28.psitect.csv.*no network.*set CADIBENCH_DATA"):
        registry.make_problem("sachs", seed=0)


def test_addresses_are_valid_and_fixed_to_one_commit():
    for condition in CONDITIONS.values():
        url = condition.data_file.url
        assert " " not in url
        assert "+" not in url
        assert "/fde5a8ed222471b634e4aac35efc316a67c942f6/" in url
