"""Whether methods can be told from the first of a table, how small a difference it could have found, and how ranks spread.

One family, and so one correction, for each question: all methods against the first, or all pairs of methods.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scikit_posthocs
from scipy import stats

from bench.paired_tests import LEVEL, can_reject, corrected, detectable_difference, pairs_needed, sign_flip_p, wilcoxon_p

TESTS = ["n", "p", "p_holm", "p_wilcoxon", "p_wilcoxon_holm", "detectable", "needed"]


def against_first(difference: pd.DataFrame) -> pd.DataFrame:
    """Test each column of paired differences, all of them as one family.

    Parameters
    ----------
    difference : DataFrame (draws, methods)
        Of each method to the first, NaN where either has no value; a row for what was drawn on its own.

    Returns
    -------
    DataFrame
        By method: ``n`` pairs, two-sided ``p`` by flips of signs and ``p_wilcoxon`` by signed ranks, both also after Holm and
        missing where so many differences other than zero could not reach the level even with the smallest p, ``detectable``
        (the smallest mean difference found with probability .8 at Bonferroni's level for the family; missing where n pairs
        could not reach it) and ``needed`` (pairs, in all, to find the one observed).
    """
    found = pd.DataFrame({"n": difference.notna().sum()}, columns=TESTS, index=difference.columns, dtype=np.float64)
    family = max(int((found["n"] > 0).sum()), 1)
    for name in map(str, difference.columns):
        values = difference[name].to_numpy(dtype=np.float64)
        if np.isfinite(values).any():
            found.loc[name, ["p", "p_wilcoxon"]] = sign_flip_p(values), wilcoxon_p(values)
        if can_reject(int(np.isfinite(values).sum()), family):
            found.loc[name, "detectable"] = detectable_difference(values, level=LEVEL / family)
        found.loc[name, "needed"] = pairs_needed(values, level=LEVEL / family)
    differing = (difference.notna() & (difference != 0.0)).sum()
    for name in ("p", "p_wilcoxon"):
        found[f"{name}_holm"] = corrected(found[name], differing)
        found[name] = found[name].where(found[f"{name}_holm"].notna())
    return found.astype({"n": int})


def friedman(ranks: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    """Friedman's test of equal ranks, and Nemenyi's of all pairs of methods.

    Parameters
    ----------
    ranks : DataFrame (problems, methods)
        At least three methods.

    Returns
    -------
    p : float
    pairs : DataFrame (methods, methods)
        P-values that hold for all pairs together.

    References
    ----------
    Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7 (2006), section 3.2.
    """
    if (ranks.nunique(axis=1) == 1).all():
        return 1.0, pd.DataFrame(1.0, ranks.columns, ranks.columns)
    p = float(stats.friedmanchisquare(*ranks.to_numpy().T).pvalue)
    pairs = scikit_posthocs.posthoc_nemenyi_friedman(ranks.to_numpy())
    return p, pairs.set_axis(ranks.columns, axis=0).set_axis(ranks.columns, axis=1)
