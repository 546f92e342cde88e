"""Random sizes as plain values, so that a suite file can state a distribution.

A number is itself; ``[a, b]`` is uniform; a mapping of one name is one of the laws of the published protocols:
``plus_minus: [a, b]`` is uniform on [a, b] with a random sign, ``normal: [mean, sd]`` is Gaussian, and
``offset_normal: [offset, sd]`` is z + sign(z) * offset for z ~ N(0, sd²), a Gaussian with a gap around zero.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator

from bench.errors import InputError
from bench.types import FloatArray

Law = Literal["plus_minus", "normal", "offset_normal"]
Spec = float | tuple[float, float] | dict[Law, tuple[float, float]]


def _check(spec: Spec) -> Spec:
    if isinstance(spec, dict):
        if len(spec) != 1:
            raise ValueError(f"a distribution has exactly one name, got {len(spec)}")
        law, (low, high) = next(iter(spec.items()))
        if law == "plus_minus" and not 0 <= low <= high:
            raise ValueError("plus_minus needs 0 <= low <= high")
        if law != "plus_minus" and high < 0:
            raise ValueError(f"{law} needs a standard deviation of at least 0")
    elif isinstance(spec, tuple) and spec[0] > spec[1]:
        raise ValueError("a range needs low <= high")
    if not np.isfinite(_numbers(spec)).all():
        raise ValueError("sizes must be finite")
    return spec


def _check_positive(spec: Spec) -> Spec:
    low, _ = bounds(spec)
    if low <= 0:
        raise ValueError("only values above 0 are possible here")
    return spec


def _numbers(spec: Spec) -> tuple[float, ...]:
    if isinstance(spec, dict):
        return next(iter(spec.values()))
    return spec if isinstance(spec, tuple) else (float(spec),)


Draw = Annotated[Spec, AfterValidator(_check)]
"""Annotation of a size parameter."""

PositiveDraw = Annotated[Spec, AfterValidator(_check), AfterValidator(_check_positive)]
"""Annotation of a size parameter that is above 0 whatever is drawn, such as a variance."""


def bounds(spec: Spec) -> tuple[float, float]:
    """Smallest and largest value that can be drawn.

    Examples
    --------
    >>> bounds({"plus_minus": (0.5, 2.0)})
    (-2.0, 2.0)
    """
    if isinstance(spec, dict):
        law, (first, second) = next(iter(spec.items()))
        if law == "plus_minus":
            return -second, second
        return (first, first) if law == "normal" and second == 0 else (-np.inf, np.inf)
    return spec if isinstance(spec, tuple) else (float(spec), float(spec))


def draw(spec: Spec, size: int, rng: np.random.Generator) -> FloatArray:
    """Draw ``size`` values, float64 (size,).

    Raises
    ------
    InputError
        If the mapping names no known law.

    Examples
    --------
    >>> draw(2.0, 3, np.random.default_rng(0))
    array([2., 2., 2.])
    >>> draw({"cauchy": (0.0, 1.0)}, 3, np.random.default_rng(0))
    Traceback (most recent call last):
    bench.errors.InputError: expected one of plus_minus, normal, offset_normal, got 'cauchy'
    """
    if isinstance(spec, dict):
        law, (first, second) = next(iter(spec.items()))
        if law == "plus_minus":
            return np.asarray(rng.uniform(first, second, size) * rng.choice([-1.0, 1.0], size))
        if law == "normal":
            return np.asarray(rng.normal(first, second, size))
        if law == "offset_normal":
            z = rng.normal(0.0, second, size)
            return np.asarray(z + np.sign(z) * first)
        raise InputError(f"expected one of plus_minus, normal, offset_normal, got '{law}'")
    low, high = bounds(spec)
    return np.asarray(rng.uniform(low, high, size)) if low < high else np.full(size, low)
