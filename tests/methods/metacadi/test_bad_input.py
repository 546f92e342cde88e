"""Data that a method should not be given, and is: each a finite, sensible answer or one clear error."""

import numpy as np
import pandas as pd
import pytest

from bench import cli, runner
from bench.errors import InputError
from bench.preprocessing import prepare
from bench.registry import make_method
from bench.types import Environment, Observed, Problem

CONFIGURATIONS = ["metacadi[n_samples=20]"]
"""Whatever a method promises here, it promises in each of its configurations."""

configurations = pytest.mark.parametrize("configuration", CONFIGURATIONS)


def chain(rng, n, d=4):
    X = rng.normal(size=(n, d))
    for j in range(1, d):
        X[:, j] += X[:, j - 1]
    return X


def chains(*sizes, d=4, seed=0):
    rng = np.random.default_rng(seed)
    return [chain(rng, n, d) for n in sizes]


def observed(Xs, known=True):
    """Environments of which the first is known to be observational, or nothing is known."""
    return Observed(tuple(Environment(X, is_observational=True if known and k == 0 else None) for k, X in enumerate(Xs)))


def scaled(data):
    return prepare(Problem(data, None), seed=0).problem.observed


def answer(configuration, data):
    """The estimate; its densities and what it says of new environments must be finite, too."""
    fitted = make_method(configuration).fit(data, rng=np.random.default_rng(0))
    estimate = fitted.estimate
    estimate.check(data.n_environments, data.n_variables)
    density = fitted.log_density(data.environments[0].X[:3])
    adapted = fitted.adapt(Observed((Environment(data.environments[-1].X[:1]),)), rng=np.random.default_rng(0))
    for values in (estimate.edge_probability, estimate.target_probability, density, adapted.target_probability):
        assert np.isfinite(values).all()
    return estimate


def joined(estimate, a, b):
    return estimate.edge_probability[a, b] + estimate.edge_probability[b, a]


@configurations
@pytest.mark.parametrize("n", [1, 30])
def test_one_observational_environment_has_no_target(configuration, n):
    assert not answer(configuration, observed(chains(n))).target_probability.any()


@configurations
@pytest.mark.parametrize("flag", [None, False], ids=["nothing known", "intervened on"])
@pytest.mark.parametrize("n", [1, 30])
def test_an_environment_alone_has_no_target(configuration, flag, n):
    """Nothing to compare with: the answer is that of an observational environment."""
    (X,) = chains(n)
    alone, known = (answer(configuration, Observed((Environment(X, is_observational=f),))) for f in (flag, True))
    assert not alone.target_probability.any()
    assert np.array_equal(alone.edge_probability, known.edge_probability)


@configurations
@pytest.mark.parametrize("known", [True, False])
def test_an_environment_of_one_sample_is_judged_by_it(configuration, known):
    """One in the middle of the others, and one where a variable lies 30 standard deviations off."""
    Xs = chains(30, 30, 30, 1, 1)
    Xs[3][:] = 0
    Xs[4][0, 2] += 30
    estimate = answer(configuration, observed(Xs, known))
    assert (estimate.target_probability[3] < 0.5).all()
    assert estimate.target_probability[4, 2] > 0.9


@configurations
def test_environments_of_one_sample_alone_give_an_answer(configuration):
    answer(configuration, observed(chains(*[1] * 6), known=False))


@configurations
@pytest.mark.parametrize("known", [True, False], ids=["with observational data", "nothing known"])
@pytest.mark.parametrize("value", [0.0, 5.0, 1e-12, 0.1, 1e12])
def test_a_constant_variable_has_no_edge_and_is_no_target(configuration, value, known):
    Xs = chains(50, 20, 20)
    for X in Xs:
        X[:, 1] = value
    estimate = answer(configuration, observed(Xs, known))
    assert not estimate.edge_probability[1].any()
    assert not estimate.edge_probability[:, 1].any()
    assert not estimate.point_graph[1].any()
    assert not estimate.point_graph[:, 1].any()
    assert not estimate.target_probability[:, 1].any()


@configurations
@pytest.mark.parametrize("known", [True, False])
def test_variables_that_are_all_constant_give_an_empty_answer(configuration, known):
    estimate = answer(configuration, observed([np.full((n, 3), 2.0) for n in (20, 10)], known))
    assert not estimate.edge_probability.any()
    assert not estimate.target_probability.any()


@configurations
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_duplicated_columns_are_joined_by_an_edge(configuration, known, sign):
    Xs = [np.column_stack([X[:, :3], sign * X[:, 1]]) for X in chains(50, 20, 20)]
    assert joined(answer(configuration, observed(Xs, known)), 1, 3) > 0.9


@configurations
@pytest.mark.parametrize("known", [True, False])
def test_more_variables_than_samples_give_an_answer(configuration, known):
    answer(configuration, scaled(observed(chains(3, 2, 2, d=8), known)))


@configurations
def test_one_variable_gives_an_answer(configuration):
    assert answer(configuration, observed(chains(30, 10, d=1))).edge_probability.shape == (1, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_never_reach_a_method(value):
    (X,) = chains(5)
    X[2, 1] = value
    with pytest.raises(InputError, match=r"^X must be finite, got NaN or infinity in column\(s\) 1$"):
        Environment(X)


@configurations
def test_units_from_the_very_small_to_the_very_large_do_not_matter_to_the_harness(configuration):
    """1e-12 to 1e12 in one table: the answer of unit variance, but for rounding."""
    Xs = chains(50, 20, 20)
    first = answer(configuration, scaled(observed(Xs)))
    second = answer(configuration, scaled(observed([X * [1e-12, 1e12, 1e-6, 1.0] for X in Xs])))
    assert np.allclose(second.edge_probability, first.edge_probability, rtol=0, atol=1e-6)
    assert np.allclose(second.target_probability, first.target_probability, rtol=0, atol=1e-6)


@configurations
@pytest.mark.parametrize("origin", [0.0, 1.0, 1e8], ids="origin {:g}".format)
@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e6, 1e12, np.array([1e-12, 1.0, 1e12, 1.0])], ids=str)
def test_nor_do_they_without_the_harness(configuration, unit, origin):
    """The origin lies that many units off, and takes as many digits; .01 is a sample of a graph less than that."""
    Xs = chains(50, 20, 20)
    first, second = (answer(configuration, observed(data)) for data in (Xs, [(X + origin) * unit for X in Xs]))
    assert np.allclose(second.edge_probability, first.edge_probability, rtol=0, atol=0.01)
    assert np.allclose(second.target_probability, first.target_probability, rtol=0, atol=1e-4)


@configurations
@pytest.mark.parametrize("known", [True, False])
def test_a_thousand_environments_of_three_samples_show_a_chain(configuration, known):
    Xs = chains(*[50] * known, *[3] * 1000)
    estimate = answer(configuration, observed(Xs, known))
    assert all(joined(estimate, j, j + 1) > 0.9 for j in range(3))
    assert estimate.target_probability.mean() < 0.15


# Through the command line -----------------------------------------------------------------------------------------------------

SUITE = """
description: a table
repetitions: 1
timeout: 60
datasets:
  - {{name: table, label: own, parameters: {{path: {path}, observational: a}}}}
methods: [{method}]
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run one method on a table; return the status, what was said, and the rows."""

    def run(frame, method):
        frame.to_csv(tmp_path / "own.csv", index=False)
        (tmp_path / "suite.yaml").write_text(SUITE.format(path=tmp_path / "own.csv", method=f'"{method}"'))
        arguments = ["run", tmp_path / "suite.yaml", "-j", "1", "--output", tmp_path / "run"]
        monkeypatch.setattr("sys.argv", ["run_bench.py", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        rows = tmp_path / "run" / "rows.parquet"
        return status, capsys.readouterr().err, pd.read_parquet(rows) if rows.exists() else None

    yield run
    runner.close_worker()


def table(*sizes):
    """Five variables: one constant, one a copy, and units from 1e-12 to 1e12."""
    labels = np.repeat(["a", "b", "c"], sizes)
    X = np.concatenate(chains(*sizes))
    frame = pd.DataFrame({"small": X[:, 0] * 1e-12, "large": X[:, 1] * 1e12 + 1e13, "copy": X[:, 1], "none": 7.0, "x": X[:, 2]})
    return frame.assign(environment=labels)


@configurations
def test_a_table_with_all_of_it_is_run(run, configuration):
    status, _, rows = run(table(2, 2, 2), configuration)
    assert status == 0
    assert set(rows["status"]) == {"ok"}


@configurations
def test_a_table_with_a_hole_costs_one_line(run, configuration):
    frame = table(30, 20, 20)
    frame.loc[3, "copy"] = np.nan
    status, err, rows = run(frame, configuration)
    assert status == 2
    assert err.count("\n") == 1
    assert "copy" in err
    assert rows is None
