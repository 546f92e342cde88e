"""Small files of the same form as the real ones, so that loaders are tested where the data are not at hand."""

import json

import numpy as np
import pandas as pd

N_CELLS = 150
SACHS_COLUMNS = ["praf", "pmek", "plcg", "PIP2", "PIP3", "p44/42", "pakts473", "PKA", "PKC", "P38", "pjnk"]
SACHS_FILES = [
    "1. cd3cd28.csv",
    "2. cd3cd28icam2.csv",
    "3. cd3cd28+aktinhib.csv",
    "4. cd3cd28+g0076.csv",
    "5. cd3cd28+psitect.csv",
    "6. cd3cd28+u0126.csv",
    "7. cd3cd28+ly.csv",
    "8. pma.csv",
    "9. b2camp.csv",
]


def write_small_data(directory):
    """Write ``sachs/`` and ``gaussian_bn/`` below ``directory``; return it."""
    rng = np.random.default_rng(0)
    (directory / "sachs").mkdir(parents=True)
    for name in SACHS_FILES:
        cells = pd.DataFrame(rng.lognormal(3.0, 1.0, (N_CELLS, 11)).round(2) + 0.01, columns=SACHS_COLUMNS)
        cells.to_csv(directory / "sachs" / name, index=False)
    (directory / "gaussian_bn").mkdir()
    for name in ("ecoli70", "arth150", "magic-irri"):
        (directory / "gaussian_bn" / f"{name}.json").write_text(json.dumps(NETWORK))
    return directory


NETWORK = {
    # d is child of a and c, c of a and b, in units that differ by orders of magnitude; nodes are listed against the order.
    "nodes": ["d", "c", "b", "a"],
    "arcs": [["a", "c"], ["b", "c"], ["a", "d"], ["c", "d"]],
    "cpds": {
        "a": {"coefficients": {"(Intercept)": [10.0]}, "variance": [4.0], "parents": []},
        "b": {"coefficients": {"(Intercept)": [-1.0]}, "variance": [0.01], "parents": []},
        "c": {"coefficients": {"(Intercept)": [0.5], "a": [100.0], "b": [-900.0]}, "variance": [2500.0], "parents": ["a", "b"]},
        "d": {"coefficients": {"(Intercept)": [0.0], "c": [0.002], "a": [0.3]}, "variance": [0.25], "parents": ["c", "a"]},
    },
}
