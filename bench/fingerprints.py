"""Whether two frames are of the same problems, and what tells them apart.

Equal fingerprints are equal data to the last bit. Another processor may round otherwise, so that a checksum, equal up to
rounding, is as good.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

PROBLEM = ["dataset", "repetition"]
"""What names a problem in a suite. Its id on disk does not: that changes with the source of the dataset."""

DESCRIBED = ("dataset_spec", "data_seed", "n_variables", "n_environments", "n_samples", "n_held_out")
RELATIVE_TOLERANCE = 1e-6
"""Of checksums: far above what rounding adds up to, far below what any other draw would change."""


def problems_of(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per problem that some method met: what describes it, its fingerprint and its checksum."""
    met = rows[rows["fingerprint"].astype(str) != ""]
    columns = [*PROBLEM, *DESCRIBED, "fingerprint", "checksum"]
    return met.reindex(columns=columns).drop_duplicates(PROBLEM).sort_values(PROBLEM).reset_index(drop=True)


def unlike(ours: pd.DataFrame, theirs: pd.DataFrame, *, us: str, them: str) -> list[str]:
    """What differs between the problems that both have, a line for each such problem; empty where none does.

    Parameters
    ----------
    ours, theirs : DataFrame
        As :func:`problems_of` makes them.
    us, them : str
        What the lines call the two.
    """
    both = ours.merge(theirs, on=PROBLEM, suffixes=("", "_other"))
    lines = []
    for row in both.to_dict("records"):
        if row["fingerprint"] == row["fingerprint_other"]:
            continue
        other = [name for name in DESCRIBED if row[name] != row[f"{name}_other"]]
        same_data = np.isclose(row["checksum"], row["checksum_other"], rtol=RELATIVE_TOLERANCE, atol=0)
        if not other and same_data:
            continue
        name = other[0] if other else "the data"
        said = f"{name} is {row[name]} in {us}, {row[f'{name}_other']} in {them}" if other else "the data are others"
        lines.append(f"'{row['dataset']}' #{row['repetition']}: {said}")
    return lines
