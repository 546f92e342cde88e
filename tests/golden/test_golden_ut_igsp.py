"""UT-IGSP gives the answers it gave when ``ut_igsp.json`` was written.

The file holds its own samples, so that no change of a generator touches it: a random linear model of 6 variables, 80
observational samples and 4 environments of 20, rounded to 3 decimals. A wanted change of answers is made by
``python tests/golden/test_golden_ut_igsp.py``, and explained where it is committed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.registry import make_method
from bench.types import Environment, Observed

FILE = Path(__file__).with_name("ut_igsp.json")
SPECS = ["ut_igsp", "ut_igsp[ci_data=observational,n_runs=2,depth=1,alpha=0.01]", "ut_igsp[bootstrap=5]"]


def observed() -> Observed:
    environments = json.loads(FILE.read_text())["environments"]
    return Observed(tuple(Environment(np.array(e["X"]), e["is_observational"]) for e in environments))


def answer(spec: str) -> dict[str, object]:
    estimate = make_method(spec).fit(observed(), rng=np.random.default_rng(0)).estimate
    return {
        "edges": np.argwhere(estimate.point_graph).tolist(),
        "targets": np.argwhere(estimate.targets).tolist(),
        "edge_probability": estimate.edge_probability.round(6).tolist(),
        "target_probability": estimate.target_probability.round(6).tolist(),
    }


@pytest.mark.parametrize("spec", SPECS)
def test_answers_are_those_on_file(spec):
    assert answer(spec) == json.loads(FILE.read_text())["answers"][spec]


if __name__ == "__main__":
    content = json.loads(FILE.read_text())
    content["answers"] = {spec: answer(spec) for spec in SPECS}
    FILE.write_text(json.dumps(content) + "\n")
