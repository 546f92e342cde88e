"""Files that earlier versions wrote are read for ever: one problem and one cell of each schema, as committed.

``stored_run_1`` was written by ``store.save_problem`` and ``store.save_cell`` at schema version 1, ``stored_run_2``, the
same problem and result, at version 2. When the schema moves, add a folder; never write an old one anew.
"""

from pathlib import Path

import numpy as np
import pytest

from bench import metrics, store

HERE = Path(__file__).parent


@pytest.mark.parametrize("version", range(1, store.SCHEMA_VERSION + 1))
def test_a_stored_run_of_every_schema_is_read_and_scored(version):
    run = HERE / f"stored_run_{version}"
    problem = store.load_problem(run, "problem")
    cell = store.load_cell(run, "cell")
    assert cell.record["schema_version"] == version
    assert problem.variable_names == ("a", "b", "c")
    np.testing.assert_array_equal(problem.truth.adjacency, [[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    assert store.known_of_problem(run, "problem") == {"fingerprint": problem.fingerprint}
    scores = metrics.score(problem, cell.result)
    assert scores["shd"] == 1
    assert scores["expected_shd"] == pytest.approx(1.0)
    assert scores["few_shot_target_exact_match_n2"] == 1
    assert scores["fit_seconds"] == 1.5
    assert cell.result.converged is None  # written before a method could say
    assert np.isfinite(scores["interventional_nll"])
