"""Sixteen numbers side by side: a vector type for compiled kernels, and the special functions that the evidence needs.

Loops that call log, exp and lgamma are not vectorised by compilers. A value of type ``lanes`` is two or four vectors of
the processor, and all operations on it are free of branches. Two vectors and more, because a processor needs independent
work while it waits for a division.

The functions here are for compiled code only; :func:`elementwise` calls one of them on a numpy array.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.extending import intrinsic, models, overload, register_model
from numba.core.typing import signature

from bench.types import FloatArray

WIDTH = 16
"""Numbers in one value of type ``lanes``."""
HALF = WIDTH // 2


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = _LanesType()
_VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)
_BITS = ir.VectorType(ir.IntType(64), WIDTH)


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [float(value)] * WIDTH)


def _bits(value: int) -> Any:
    return ir.Constant(_BITS, [value] * WIDTH)


def _broadcast(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), mask)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fmuladd.v{WIDTH}f64"
    )
    return builder.call(function, [a, b, c])


def _polynomial(builder: Any, x: Any, coefficients: list[float]) -> Any:
    """Horner's rule in x² for even and odd powers apart, which halves the chain of operations; constant term first."""
    square = builder.fmul(x, x)
    even, odd = (_horner(builder, square, part) for part in (coefficients[0::2], coefficients[1::2]))
    return _multiply_add(builder, odd, x, even)


def _horner(builder: Any, x: Any, coefficients: list[float]) -> Any:
    value = _constant(coefficients[-1])
    for c in coefficients[-2::-1]:
        value = _multiply_add(builder, value, x, _constant(c))
    return value


# Operators: every mixture of lanes and scalars ------------------------------------------------------------------------------


def _operator(python_operator: Any, instruction: str) -> None:
    @intrinsic
    def combine(typing_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vectors = [
                value if kind == lanes else _broadcast(builder, context.cast(builder, value, kind, types.float64))
                for value, kind in zip(args, sig.args, strict=True)
            ]
            return getattr(builder, instruction)(*vectors)

        return signature(lanes, a, b), generate

    @overload(python_operator)
    def overloaded(a, b):  # numba compares the names with those of the lambda
        if lanes in (a, b) and all(x == lanes or isinstance(x, types.Number) for x in (a, b)):
            return lambda a, b: combine(a, b)
        return None


for _python_operator, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_python_operator, _instruction)


@intrinsic
def splat(typing_context: Any, value: Any) -> Any:
    """The same number in every lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _broadcast(builder, args[0])

    return signature(lanes, types.float64), generate


@intrinsic
def multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c of lanes, rounded once where the processor can."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _multiply_add(builder, *args)

    return signature(lanes, lanes, lanes, lanes), generate


@intrinsic
def subtract_product(typing_context: Any, c: Any, a: Any, b: Any) -> Any:
    """c − a · b of lanes, rounded once where the processor can."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        c, a, b = args
        return _multiply_add(builder, builder.fneg(a), b, c)

    return signature(lanes, lanes, lanes, lanes), generate


@intrinsic
def choose_greater(typing_context: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """x where a > b, else y, lane by lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b, x, y = args
        return builder.select(builder.fcmp_ordered(">", a, b), x, y)

    return signature(lanes, lanes, lanes, lanes, lanes), generate


@intrinsic
def plus_other_half(typing_context: Any, x: Any) -> Any:
    """Each lane plus the one that stands in its place in the other half."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        order = [(lane + HALF) % WIDTH for lane in range(WIDTH)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), order)
        swapped = builder.shuffle_vector(args[0], ir.Constant(_VECTOR, ir.Undefined), mask)
        return builder.fadd(args[0], swapped)

    return signature(lanes, lanes), generate


@njit
def maximum(a: Any, b: Any) -> Any:
    return choose_greater(a, b, a, b)


# Memory: value k of a contiguous float64 array is its entries 16k to 16k + 15 -----------------------------------------------


def _address(context: Any, builder: Any, array_type: Any, array: Any, k: Any, vector: Any = _VECTOR) -> Any:
    start = context.make_array(array_type)(context, builder, array).data
    entry = builder.gep(start, [builder.mul(k, ir.Constant(k.type, vector.count))])
    return builder.bitcast(entry, vector.as_pointer())


def _half_address(context: Any, builder: Any, array_type: Any, array: Any, k: Any) -> Any:
    return _address(context, builder, array_type, array, k, ir.VectorType(ir.DoubleType(), HALF))


@intrinsic
def load(typing_context: Any, array: Any, k: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, sig.args[0], *args), align=8)

    return signature(lanes, array, types.intp), generate


@intrinsic
def store(typing_context: Any, array: Any, k: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, sig.args[0], *args[:2]), align=8)
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, lanes), generate


@intrinsic
def load_half(typing_context: Any, array: Any, k: Any) -> Any:
    """Entries 8k to 8k + 7, in both halves."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        half = builder.load(_half_address(context, builder, sig.args[0], *args), align=8)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [lane % HALF for lane in range(WIDTH)])
        return builder.shuffle_vector(half, ir.Constant(half.type, ir.Undefined), mask)

    return signature(lanes, array, types.intp), generate


@intrinsic
def store_half(typing_context: Any, array: Any, k: Any, value: Any) -> Any:
    """The first half of a value into entries 8k to 8k + 7."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, k, value = args
        mask = ir.Constant(ir.VectorType(ir.IntType(32), HALF), list(range(HALF)))
        half = builder.shuffle_vector(value, ir.Constant(_VECTOR, ir.Undefined), mask)
        builder.store(half, _half_address(context, builder, sig.args[0], array, k), align=8)
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, lanes), generate


# Special functions ------------------------------------------------------------------------------------------------------------

_LOG_2_HIGH, _LOG_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""log 2 in two parts; products of the first with an exponent are exact."""
_LOG_SERIES = (
    -0.49999999999999833,
    0.3333333333333285,
    -0.2500000000022147,
    0.20000000000466495,
    -0.16666666618490816,
    0.14285714172623884,
    -0.12500003956286007,
    0.111111220155228,
    -0.09999843911504927,
    0.09090397053862845,
    -0.08336500776029371,
    0.0770509701696896,
    -0.07112464720648483,
    0.06495252735766224,
    -0.0630658816887405,
    0.07000691047584312,
    -0.06618773009678613,
    0.03081756372437806,
)
"""(log(1 + f) − f) / f² by powers of f, interpolated at the Chebyshev nodes of 18 on [sqrt(1/2) − 1, sqrt(2) − 1]."""
_SHIFT = 8
"""Steps of the recurrence that take lgamma and digamma to where 15 digits of their asymptotic series converge."""
_LGAMMA_SERIES = (1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
"""B_2k / (2k (2k - 1)), k = 7, ..., 1: Abramowitz and Stegun 6.1.41."""
_DIGAMMA_SERIES = (1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12)
"""B_2k / 2k, k = 7, ..., 1: Abramowitz and Stegun 6.3.18."""
_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


@intrinsic
def log(typing_context: Any, x: Any) -> Any:
    """Natural logarithm of positive normal numbers.

    x = 2^k · m with m in [sqrt(1/2), sqrt(2)), and log m a polynomial in f = m − 1: a division, as in the usual series in
    f / (m + 1), would take longer than all of it.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _BITS)
        # Subtracting sqrt(1/2) moves the border between exponents there.
        moved = builder.sub(bits, _bits(0x3FE6A09E667F3BCD))
        exponent = builder.ashr(moved, _bits(52))
        mantissa = builder.bitcast(builder.sub(bits, builder.shl(exponent, _bits(52))), _VECTOR)
        # An integer added to the bits of 1.5 · 2^52 is the same integer added to its value.
        anchor = 1.5 * 2.0**52
        k = builder.bitcast(builder.add(exponent, builder.bitcast(_constant(anchor), _BITS)), _VECTOR)
        k = builder.fsub(k, _constant(anchor))
        f = builder.fsub(mantissa, _constant(1.0))
        curve = _polynomial(builder, f, list(_LOG_SERIES))
        low = _multiply_add(builder, builder.fmul(f, f), curve, builder.fmul(k, _constant(_LOG_2_LOW)))
        return _multiply_add(builder, k, _constant(_LOG_2_HIGH), builder.fadd(f, low))

    return signature(lanes, lanes), generate


@intrinsic
def exp(typing_context: Any, x: Any) -> Any:
    """Exponential of numbers below 709; 0 below -708."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        x = args[0]
        anchor = _constant(1.5 * 2.0**52)
        anchored = _multiply_add(builder, x, _constant(1 / math.log(2)), anchor)
        k = builder.fsub(anchored, anchor)
        r = _multiply_add(builder, k, _constant(-_LOG_2_HIGH), x)
        r = _multiply_add(builder, k, _constant(-_LOG_2_LOW), r)
        mantissa = _polynomial(builder, r, [1 / math.factorial(n) for n in range(14)])
        shifted = builder.shl(builder.bitcast(anchored, _BITS), _bits(52))
        value = builder.bitcast(builder.add(builder.bitcast(mantissa, _BITS), shifted), _VECTOR)
        return builder.select(builder.fcmp_ordered(">", x, _constant(-708.0)), value, _constant(0.0))

    return signature(lanes, lanes), generate


@njit
def _stirling(x: Any, log_x: Any) -> Any:
    inverse = 1.0 / x
    square = inverse * inverse
    series = splat(0.0)
    for c in _LGAMMA_SERIES:
        series = series * square + c
    return (x - 0.5) * log_x - x + (_HALF_LOG_2_PI + series * inverse)


@njit
def lgamma_of_large(x: Any, log_x: Any) -> Any:
    """log Γ(x) for x >= 8, whose logarithm is known, by Stirling's series."""
    return _stirling(x, log_x)


@njit
def lgamma(x: Any) -> Any:
    """log Γ(x) for 0 < x < 1e30: Stirling's series at x + 8."""
    product = x
    for k in range(1, _SHIFT):
        product = product * (x + k)
    shifted = x + _SHIFT
    return _stirling(shifted, log(shifted)) - log(product)


@njit
def digamma(x: Any) -> Any:
    """d/dx log Γ(x) for x > 0: the asymptotic series at x + 8."""
    harmonic = 1.0 / x
    for k in range(1, _SHIFT):
        harmonic = harmonic + 1.0 / (x + k)
    shifted = x + _SHIFT
    inverse = 1.0 / shifted
    square = inverse * inverse
    series = splat(0.0)
    for c in _DIGAMMA_SERIES:
        series = series * square + c
    return log(shifted) - 0.5 * inverse - series * square - harmonic


def elementwise(function: Callable[[Any], Any], x: FloatArray) -> FloatArray:
    """Apply a compiled function of lanes to every entry of a float64 array (n,)."""

    @njit
    def run(padded: Any) -> Any:
        for k in range(padded.shape[0] // WIDTH):
            store(padded, k, function(load(padded, k)))

    padded = np.ones(-(-len(x) // WIDTH) * WIDTH)
    padded[: len(x)] = x
    run(padded)
    return padded[: len(x)]
