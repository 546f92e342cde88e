"""Are two answers the same? Exactly, or in distribution over several seeds. Answers are given as named arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.types import Estimate, FloatArray, Observed

TOLERANCE = 1e-7
"""Largest difference that counts as the same number: sums in another order differ by about 1e-12, decisions by far more."""

EXPECTED_DISTANCE = 0.2
"""Margin of :func:`squared_distance`. With 4 + 4 answers of independent fair coin flips over the 20 edges of five variables,
the noisiest there are, its standard deviation is .043 around 0, so that this is more than four of them; an answer read off
the column numbers gives .5 to 1."""


def arrays(estimate: Estimate) -> dict[str, Any]:
    """The arrays of an estimate by name, those that it has."""
    values = {name: getattr(estimate, name) for name in _ARRAYS}
    return {name: value for name, value in values.items() if value is not None}


_ARRAYS = ("edge_probability", "target_probability", "graph_samples", "log_weights", "point_graph", "targets")


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """One line on where two answers differ by more than ``TOLERANCE``, or None where they are the same.

    Examples
    --------
    >>> difference({"edge_probability": np.zeros((2, 2))}, {"edge_probability": np.eye(2)})
    'edge_probability[0, 0] is 0 and then 1'
    """
    for name in dict.fromkeys((*first, *second)):
        if (name in first) != (name in second):
            return f"{name} is given once and missing once"
        a, b = np.asarray(first[name], dtype=float), np.asarray(second[name], dtype=float)
        if a.shape != b.shape:
            return f"{name} has shape {a.shape} and then {b.shape}"
        unlike = ~np.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
        if unlike.any():
            where = tuple(int(i) for i in np.argwhere(unlike)[0])
            return f"{name}{list(where)} is {a[where]:.4g} and then {b[where]:.4g}"
    return None


def squared_distance(first: Sequence[FloatArray], second: Sequence[FloatArray]) -> float:
    """Mean squared difference of two expected arrays, from K >= 2 draws of each, corrected for the noise of the K.

    Unbiased: 0 on average where both groups come from one distribution, whatever its spread. Compare with
    ``EXPECTED_DISTANCE``.
    """
    a, b = np.stack(first), np.stack(second)
    noise = a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b)
    return float(np.mean((a.mean(axis=0) - b.mean(axis=0)) ** 2 - noise)) if noise.size else 0.0


def digest(observed: Observed) -> str:
    """Hash of every array of the input and whether it may be written to."""
    state = hashlib.blake2b(digest_size=16)
    for e in observed.environments:
        state.update(repr((e.X.shape, e.X.flags.writeable, e.is_observational, e.targets)).encode())
        state.update(e.X.tobytes())
    if observed.graph is not None:
        state.update(repr(observed.graph.flags.writeable).encode() + observed.graph.tobytes())
    return state.hexdigest()


def off_diagonal(square: Any) -> Any:
    """Entries of a (d, d) array off its diagonal."""
    return square[~np.eye(len(square), dtype=bool)]


def one_line(text: str, limit: int = 300) -> str:
    """The text on one line, cut at ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def join(lines: Iterable[str]) -> str:
    """At most three of the lines, as one."""
    found = list(lines)
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
