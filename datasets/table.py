"""A user's own data: a table with a column that names each row's environment, and optionally a file with the truth.

Every mistake in the files is answered with one line. Nothing is repaired: rows with missing values are refused, not dropped.

The truth file is YAML or JSON, a mapping with one or both of the keys ``edges`` and ``targets``:

- ``edges``: list of pairs ``[cause, effect]``, empty where there are none;
- ``unscored``: list of pairs of variables of which it is not known whether an edge joins them (optional, beside ``edges``);
- ``targets``: mapping of environment to the list of variables that it acts on; every environment that is not observational
  must stand there, with an empty list where it acts on none.

::

    edges:
      - [smoking, tar]
      - [tar, cancer]
    unscored:
      - [smoking, cancer]
    targets:
      campaign: [smoking]

A key that is left out is unknown: without ``edges`` no metric of the graph has a value, and without ``targets`` none of the
targets has, nor can the oracle track tell them to a method (unless all environments are observational and so have none).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import yaml
from annotated_types import Ge, MinLen

from bench.errors import InputError, nearest
from bench.registry import register_dataset
from bench.types import BoolArray, Environment, FloatArray, Meta, Observed, Problem, Truth

Label = str | int | float | bool
FEWEST_ROWS = 2  # one sample has no variance


@register_dataset(
    "table",
    meta=Meta(
        "Your own table (CSV or parquet) with an environment column.",
        "yours to name",
        licence="that of your file",
        source="the file that the parameter path names",
        known="what the truth file tells: edges, targets, both; nothing without one",
        not_known="whatever the truth file leaves out; that is not scored",
    ),
    tags={"real"},
)
def table(
    rng: np.random.Generator,
    *,
    path: Annotated[str, MinLen(1)],
    environment_column: str = "environment",
    observational: Label | list[Label] | None = None,
    columns: Annotated[list[str], MinLen(1)] | None = None,
    truth: str | None = None,
    n_per_environment: Annotated[int, Ge(FEWEST_ROWS)] | None = None,
) -> Problem:
    """Read a table.

    Parameters
    ----------
    rng : Generator
        Draws subsamples, where asked for.
    path : str
        A ``.parquet`` file, or CSV with a header line.
    environment_column : str
        Rows with equal values there are one environment; environments are in the order of their first rows.
    observational : str or number, or a list of them, optional
        Which environments are observational; all others then count as intervened on. Where None, nothing is known.
    columns : list of str, optional
        Variables to use; all columns but the environment's where None.
    truth : str, optional
        The truth file, of the graph, the targets or both; without it there are estimates but no scores.
    n_per_environment : int, optional
        Rows drawn from each larger environment without replacement; all where None.

    Raises
    ------
    InputError
        If a file, column, value or name is wrong; the message says which and names the nearest known one.
    """
    frame = _read_frame(Path(path))
    names, X = _variables(frame, path, environment_column, columns)
    labels = _labels(frame, path, environment_column)
    environments = list(dict.fromkeys(labels))
    given = [] if observational is None else observational if isinstance(observational, list) else [observational]
    baselines = [_known(_text(b), environments, "observational environment", path) for b in given]
    rows = [np.flatnonzero(labels == environment) for environment in environments]
    for environment, found in zip(environments, rows, strict=True):
        if len(found) < FEWEST_ROWS:
            raise InputError(f"'{path}': environment '{environment}' must have at least {FEWEST_ROWS} rows, got {len(found)}")
    if n_per_environment is not None:
        rows = [r if len(r) <= n_per_environment else rng.choice(r, n_per_environment, replace=False) for r in rows]
    observed = Observed(
        tuple(
            Environment(X[r], is_observational=environment in baselines if given else None)
            for environment, r in zip(environments, rows, strict=True)
        )
    )
    known = None if truth is None else read_truth(Path(truth), names, environments, baselines)
    return Problem(observed, known, variable_names=names, environment_names=tuple(environments))


def read_truth(path: Path, variables: Sequence[str], environments: Sequence[str], observational: Sequence[str]) -> Truth:
    """Read a truth file of the form described above.

    Parameters
    ----------
    path : Path
        ``.json``, else YAML.
    variables : sequence of str (d,)
    environments : sequence of str (E,)
    observational : sequence of str
        Those of ``environments`` that need no targets.

    Raises
    ------
    InputError
        If the file cannot be read, has another form, tells neither edges nor targets, or names what is not in the table.
    """
    content = _read_mapping(path)
    adjacency = scored = None
    if "edges" in content:
        adjacency = _matrix(content["edges"], "edges", variables, path)
        unscored = _matrix(content.get("unscored", []), "unscored", variables, path)
        scored = ~(unscored | unscored.T)
    elif "unscored" in content:
        raise InputError(f"'{path}': unscored pairs need edges, the list of those that are known")
    if "targets" in content or set(environments) <= set(observational):
        targets = _targets(content.get("targets", {}), variables, environments, observational, path)
    else:
        targets = None
    return Truth(adjacency, targets) if scored is None else Truth(adjacency, targets, scored)


def _read_frame(path: Path) -> pd.DataFrame:
    _require_file(path, "table")
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as reason:  # each reader has errors of its own
        kind = "parquet" if path.suffix == ".parquet" else "CSV"
        raise InputError(f"'{path}' cannot be read as {kind}: {_first_line(reason)}") from None
    if frame.empty:
        raise InputError(f"'{path}' must have rows, got none")
    frame.columns = frame.columns.map(str)
    if len(frame.columns) == 1 and re.search("[;\t|]", frame.columns[0]):
        raise InputError(f"'{path}': fields must be separated by commas, got one column {frame.columns[0]!r}")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"'{path}': column '{twice[0]}' stands twice")
    return frame


def _labels(frame: pd.DataFrame, path: str, column: str) -> np.ndarray[Any, Any]:
    values = frame[column]
    if values.isna().any():
        raise InputError(f"'{path}': column '{column}' names no environment in {int(values.isna().sum())} row(s)")
    return np.array([_text(v) for v in values.tolist()], dtype=object)


def _variables(
    frame: pd.DataFrame, path: str, environment_column: str, columns: Sequence[str] | None
) -> tuple[tuple[str, ...], FloatArray]:
    """Names and values float64 (n, d) of the variables."""
    _known(environment_column, list(frame.columns), "column", path)
    others = [c for c in frame.columns if c != environment_column]
    if columns is not None:
        if len(set(columns)) < len(columns):
            raise InputError(f"'{path}': columns must name each variable once, got {list(columns)}")
        others = [_known(c, others, "column", path) for c in columns]
    elif nameless := [c for c in others if re.fullmatch(r"Unnamed: \d+", c)]:  # pandas' name for an empty head
        raise InputError(
            f"'{path}': a column has no name, row numbers perhaps; write the file without it (to_csv(index=False)), or "
            f"choose the variables by 'columns' (it reads as '{nameless[0]}')"
        )
    if not others:
        raise InputError(f"'{path}' must have a column besides '{environment_column}'")
    values = []
    for name in others:
        column = frame[name]
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
            bad = next((v for v in column.tolist() if not _is_number(v)), column.iloc[0])
            raise InputError(f"'{path}': column '{name}' must be numeric, got {bad!r}; choose the variables by 'columns'")
        array = column.to_numpy(dtype=np.float64, na_value=np.nan)
        for what, wrong in (("missing", np.isnan(array)), ("infinite", np.isinf(array))):
            if wrong.any():
                raise InputError(f"'{path}': column '{name}' must be finite, got {int(wrong.sum())} {what} value(s)")
        values.append(array)
    return tuple(others), np.column_stack(values)


def _targets(
    listed: Any,
    variables: Sequence[str],
    environments: Sequence[str],
    observational: Sequence[str],
    path: Path,
) -> BoolArray:
    targets = np.zeros((len(environments), len(variables)), dtype=bool)
    if not isinstance(listed, Mapping):
        raise InputError(f"'{path}': targets must map environments to lists of variables, got {listed!r}")
    named = {_known(_text(e), environments, "environment", path): v for e, v in listed.items()}
    silent = [e for e in environments if e not in named and e not in observational]
    if silent:
        raise InputError(
            f"'{path}': targets must name every environment that is not observational, with [] where there are none; "
            f"missing: {', '.join(silent[:5])}"
        )
    for environment, names in named.items():
        if not isinstance(names, list):
            raise InputError(f"'{path}': targets of '{environment}' must be a list of variables, got {names!r}")
        if names and environment in observational:
            raise InputError(f"'{path}': environment '{environment}' is observational and cannot have targets")
        for name in names:
            column = variables.index(_known(_text(name), variables, "variable", path))
            targets[environments.index(environment), column] = True
    return targets


def _matrix(listed: Any, key: str, variables: Sequence[str], path: Path) -> BoolArray:
    """Bool (d, d), true at the pairs that are listed."""
    matrix = np.zeros((len(variables), len(variables)), dtype=bool)
    if not isinstance(listed, list):
        raise InputError(f"'{path}': {key} must be a list of pairs [cause, effect], got {listed!r}")
    for pair in listed:
        if not isinstance(pair, list) or len(pair) != 2:
            raise InputError(f"'{path}': {key} must be a list of pairs [cause, effect], got {pair!r}")
        one, other = (variables.index(_known(_text(name), variables, "variable", path)) for name in pair)
        if one == other:
            raise InputError(f"'{path}': {key} must join two different variables, got {pair!r}")
        matrix[one, other] = True
    return matrix


def _read_mapping(path: Path) -> Mapping[str, Any]:
    _require_file(path, "truth file")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as reason:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise InputError(f"'{path}' cannot be read as {kind}: {_first_line(reason)}") from None
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"'{path}' must be a mapping with the keys edges and targets, or one of them")
    for key in content:
        _known(_text(key), ("edges", "unscored", "targets"), "key", path)
    if not {"edges", "targets"} & set(content):
        raise InputError(f"'{path}' must have the key edges or targets, or both")
    return content


def _require_file(path: Path, what: str) -> None:
    if path.is_file():
        return
    siblings = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    close = nearest(path.name, siblings)
    raise InputError(f"{what} '{path}' does not exist" + (f"; did you mean '{path.parent / close}'?" if close else ""))


def _known(name: str, known: Iterable[str], kind: str, path: object) -> str:
    names = list(known)
    if name in names:
        return name
    close = nearest(name, names)
    hint = f"; did you mean '{close}'?" if close else f"; there are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
    raise InputError(f"'{path}': unknown {kind} '{name}'{hint}")


def _text(value: Any) -> str:
    """One text for a label, whether it was read from a table, YAML or the command line: 1, 1.0 and "1" are the same.

    Examples
    --------
    >>> [_text(v) for v in (1, 1.0, "1", True, "knockout")]
    ['1', '1', '1', 'True', 'knockout']
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _first_line(reason: Exception) -> str:
    return " ".join(str(reason).split())[:200] or type(reason).__name__
