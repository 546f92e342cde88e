"""How far the environments of a problem differ: of every variable in every environment, the shift of its mean and its spread.

Both are measured against what is known to be observational, in its standard deviations; where nothing is, against all
samples pooled. With the truth at hand they fall into *targets*, *descendants* of a target of the environment, and all *other*
variables, whose distribution no intervention changes: what these show is the noise floor of the sample sizes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.graphs import reachability
from bench.types import BoolArray, Problem

_NO_EFFECTS: dict[str, pd.Series] = {
    **{name: pd.Series(dtype=object) for name in ("environment", "variable")},
    **{name: pd.Series(dtype=float) for name in ("shift", "spread")},
    "relation": pd.Series(dtype=object),
}
RELATIONS = ("target", "descendant", "other")


def effects(problem: Problem) -> pd.DataFrame:
    """Compare every environment that is not known to be observational with the reference, variable by variable.

    Parameters
    ----------
    problem : Problem
        In raw units.

    Returns
    -------
    DataFrame
        A row per environment and variable: ``environment`` and ``variable`` (names), ``shift`` (mean less that of the
        reference, in standard deviations of the reference), ``spread`` (standard deviation, as a multiple of the reference's),
        ``relation`` ("target", "descendant", "other"; without a graph "target" and "not a target"; empty without targets).
        Both measures are NaN where the variable is constant in the reference.
    """
    observed = problem.observed
    reference = observed.observational()
    reference = observed.pooled() if reference is None else reference
    mean, deviation = reference.mean(axis=0), reference.std(axis=0)
    deviation = np.where(np.ptp(reference, axis=0) > 0, deviation, np.nan)
    relation = relations(problem)
    frames = [
        pd.DataFrame(
            {
                "environment": problem.environment_names[e],
                "variable": problem.variable_names,
                "shift": (environment.X.mean(axis=0) - mean) / deviation,
                "spread": environment.X.std(axis=0) / deviation,
                "relation": relation[e],
            }
        )
        for e, environment in enumerate(observed.environments)
        if environment.is_observational is not True
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(_NO_EFFECTS)


def relations(problem: Problem) -> npt.NDArray[np.str_]:
    """Str (E, d), of each environment and variable, what the truth says it is: see :func:`effects`."""
    shape = (problem.observed.n_environments, problem.observed.n_variables)
    truth = problem.truth
    if truth is None or truth.targets is None:
        return np.full(shape, "")
    if truth.adjacency is None:
        return np.where(truth.targets, "target", "not a target")
    return np.where(truth.targets, "target", np.where(downstream(truth.adjacency, truth.targets), "descendant", "other"))


def downstream(adjacency: BoolArray, targets: BoolArray) -> BoolArray:
    """Variables that some target of an environment is an ancestor of, bool (E, d).

    Examples
    --------
    >>> downstream(np.eye(3, k=1, dtype=bool), np.array([[False, True, False]])).tolist()
    [[False, False, True]]
    """
    return np.asarray((targets.astype(int) @ reachability(adjacency).astype(int)) > 0)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Sizes of the effects by relation.

    Parameters
    ----------
    found : DataFrame
        From :func:`effects`.

    Returns
    -------
    DataFrame
        Indexed by relation, in the order of ``RELATIONS``: ``pairs`` (environment and variable), ``mean``, ``median`` and
        ``high`` (90 % quantile) of the absolute shift, and ``spread``, the median factor by which the standard deviation
        changes, in either direction (infinite for a variable that becomes constant).
    """
    known = found.dropna(subset=["shift", "spread"])
    with np.errstate(divide="ignore"):
        factor = np.abs(np.log(known["spread"]))
    grouped = known.assign(shift=known["shift"].abs(), factor=factor).groupby("relation")
    shift = grouped["shift"]
    columns = {"pairs": shift.size(), "mean": shift.mean(), "median": shift.median(), "high": shift.quantile(0.9)}
    table = pd.DataFrame({**columns, "spread": np.exp(grouped["factor"].median())})
    order = [r for r in (*RELATIONS, "not a target", "") if r in table.index]
    return table.loc[order]
