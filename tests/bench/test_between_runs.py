"""Two runs: differences are paired by problem, whatever the ids; only like is compared with like."""

import frames
import numpy as np
import pandas as pd
import pytest

from bench.between_runs import compare_runs
from bench.columns import ROW_COLUMNS
from bench.errors import InputError
from bench.fingerprints import DESCRIBED


def _run(scores, metric="shd", **columns):
    rows = frames.table(scores, metric=metric, **columns)
    about = {name: 1 for name in DESCRIBED if name not in rows}
    rows = rows.assign(**about, fingerprint=rows["problem"], checksum=1.0, cell=rows["method"] + rows["problem"])
    assert {"cell", *DESCRIBED} <= set(ROW_COLUMNS)
    return rows


def _numbers(found, method):
    (board,) = found.boards
    return board.numbers().set_index("method").loc[method]


def test_differences_are_b_minus_a_of_the_same_problem_even_where_ids_and_order_changed():
    level = 10.0 * np.arange(8)
    a = _run({"x": [*level], "y": [*level]})
    b = _run({"x": [*(level + 1)], "y": [*level]}).iloc[::-1].assign(problem=lambda rows: "new" + rows["problem"])
    found = compare_runs(a, b, metrics=["shd"])
    x, y = _numbers(found, "x"), _numbers(found, "y")
    assert (x["effect"], x["low"], x["high"], x["n_paired"]) == (1, 1, 1, 8)
    assert (y["effect"], y["low"], y["high"]) == (0, 0, 0)
    # One of two extreme assignments of 8 signs. y differs nowhere: no test of it could ever reject, so none is corrected for.
    assert x["p_holm"] == pytest.approx(2 / 2**8)
    assert np.isnan(y["p_holm"])
    assert found.changed.empty
    assert len(found.boards[0].columns()[1].cells) == 2


def test_cells_that_ended_otherwise_are_listed_and_not_averaged():
    a = _run({"x": [1.0, 2.0, "error", "timeout", 5.0]})
    b = _run({"x": [1.0, "timeout", 3.0, "error", 6.0]})
    found = compare_runs(a, b, metrics=["shd"])
    assert found.changed[["repetition", "status_a", "status_b", "reason"]].to_numpy().tolist() == [
        [1, "ok", "timeout", "made-up timeout"],
        [2, "error", "ok", "made-up error"],
        [3, "timeout", "error", "made-up error"],
    ]
    assert (_numbers(found, "x")["effect"], _numbers(found, "x")["n_paired"]) == (0.5, 2)


def test_what_is_in_one_run_alone_is_said():
    a, b = _run({"x": [1.0, 2.0], "y": [1.0, 2.0]}), _run({"x": [1.0, 2.0, 3.0]})
    notes = compare_runs(a, b, metrics=["shd"]).notes
    assert notes == (
        "The same hash in both, so that nothing they depend on has changed: 2 of 2 cells.",
        "In A alone and not compared: 2 rows; method y.",
        "In B alone and not compared: 1 row.",
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fingerprint": "z", "n_samples": 2}, "not comparable: 'er' #0: n_samples is 1 in A, 2 in B (and 1 more)"),
        ({"fingerprint": "z", "checksum": 2.0}, "'er' #0: the data are others (and 1 more)"),
        ({"method_spec": "x[a=1]"}, r"method 'x' is x in A, x[a=1] in B; what else differs: numpy 1 → 2"),
        ({"dataset": "sf"}, "they share no dataset: er in A, sf in B"),
        ({"method": "y"}, "they share no method: x in A, y in B"),
    ],
)
def test_unlike_runs_are_refused_with_what_differs(changed, message):
    a = _run({"x": [1.0, 2.0]})
    with pytest.raises(InputError) as refused:
        compare_runs(a, a.assign(**changed), causes=["numpy 1 → 2"])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_rounding_of_another_processor_is_no_other_problem():
    a = _run({"x": [1.0, 2.0]})
    b = a.assign(fingerprint="other", checksum=1.0 + 1e-9, cell="other")
    found = compare_runs(a, b, metrics=["shd"])
    assert found.notes[0].endswith(": 0 of 2 cells.")
    assert isinstance(found.changed, pd.DataFrame)
