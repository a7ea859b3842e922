"""The reference map T: what a function's unit must compute, correctly rounded."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

from sw.ir.bounded import FLOAT64, Arithmetic, enclosure, multiprecision
from sw.ir.errors import InputError
from sw.ir.expr import Expr, evaluate, interpret_expr
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.interpret import MAX_TABLE_BITS

_PRECISIONS = (120, 480, 1920)
"""mpmath bits tried in turn; what 1920 bits cannot tell from a tie counts as one."""
_CHUNK = 1 << 14
"""Codes that are looked at at once: a formula may have thousands of intermediate values for each."""
_OPEN_CHUNK = 1 << 10
"""The same of those that float64 leaves open, whose values take a hundred times as much."""
_TIE = mpmath.mpf(2) ** -256
"""An enclosure around half a code must be narrower than this for a tie."""


def reference_map(expr: Expr, input: FixedFormat, output: FixedFormat) -> IntArray:
    """T[x_raw] = clamp(round_half_even(f(x_raw * 2^-input.frac) * 2^output.frac)) for every input code.

    f is evaluated in float64 with a rigorous error bound, and with growing precision where the bound
    does not decide the rounding, so every entry is correctly rounded and ties go to even.

    Returns:
        int64, 2^input.width entries, index 0 = the most negative code.

    Raises:
        InputError: The input has more than 20 bits, or f is undefined or infinite at some code.

    >>> from sw.ir.parse import parse
    >>> s = FixedFormat.parse
    >>> reference_map(parse("0.5*x"), s("s4.0"), s("s4.0")).tolist()
    [-4, -4, -3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3, 4]
    """
    if input.width > MAX_TABLE_BITS:
        raise InputError(
            f"input of a reference map must have at most {MAX_TABLE_BITS} bits, not {input.width} ('{input}')"
        )
    block = 1 << min(_unread_bits(expr, input), input.width - 1)
    codes = input.codes()[::block]
    result = np.zeros(codes.shape, dtype=np.int64)
    decided = np.zeros(codes.shape, dtype=bool)
    for start in range(0, len(codes), _CHUNK):
        part = slice(start, start + _CHUNK)
        low, high = _limits(expr, input.to_real(codes[part]), output, FLOAT64)
        decided[part] = same = low == high
        result[part][same] = low[same].astype(np.int64)
    open_codes = np.flatnonzero(~decided)
    for start in range(0, len(open_codes), _OPEN_CHUNK):
        some = open_codes[start : start + _OPEN_CHUNK]
        result[some] = _decide(expr, codes[some], input, output)
    return np.repeat(result, block)


def saturated_share(expr: Expr, input: FixedFormat, output: FixedFormat) -> float:
    """The share of input codes at which f lies beyond the output's range by more than rounding, 0 to 1.

    By float64: at a code where that errs, f is half a step beyond the range within its error.

    >>> from sw.ir.parse import parse
    >>> s = FixedFormat.parse
    >>> saturated_share(parse("2*x"), s("s4.0"), s("s4.0"))  # -8..-5 and 4..7
    0.5
    """
    values = evaluate(expr, input.to_real(input.codes()))
    low, high = output.to_real(np.array([output.min_raw, output.max_raw]))
    half = output.step / 2
    return float(np.mean((values < low - half) | (values > high + half)))


def _unread_bits(expr: Expr, input: FixedFormat) -> int:
    """How many of x's lowest bits the formula drops itself, having x only as floor(2^m * x)."""
    step = _floored(expr)
    return 0 if step is None else max(0, input.frac - step)


def _floored(expr: Expr) -> int | None:
    """The largest m of the floor(2^m * x) through which alone a formula sees x; None: it sees x itself."""
    if expr.op == "floor":
        inner = expr.args[0]
        factor = inner.args[0].value if inner.op == "mul" and inner.args[1].op == "x" else None
        if inner.op == "x":
            return 0
        if factor is not None and factor > 0 and factor.numerator & (factor.numerator - 1) == 0:
            power = factor.numerator.bit_length() - factor.denominator.bit_length()
            if factor == Fraction(2) ** power:
                return power
    if expr.op == "x":
        return None
    steps = [_floored(arg) for arg in expr.args]
    known = [step for step in steps if step is not None]
    return None if len(known) < len(steps) else max(known, default=-MAX_TABLE_BITS)


def _limits(expr: Expr, x: Any, output: FixedFormat, arithmetic: Arithmetic) -> tuple[Any, Any]:
    """The ends of f's enclosure in output steps; those in float64 are rounded and clamped already."""
    with np.errstate(all="ignore"):
        v, e = interpret_expr(expr, (x, 0 * x), arithmetic.number, arithmetic.ops())
        factor = arithmetic.number(Fraction(2) ** output.frac)[0]
        ends = enclosure((np.broadcast_to(v, x.shape), np.broadcast_to(e, x.shape)))
        low, high = (end * factor for end in ends)
        if x.dtype == object:
            return low, high
        limits = output.min_raw, output.max_raw
        return np.clip(np.rint(low), *limits), np.clip(np.rint(high), *limits)


def _decide(expr: Expr, codes: IntArray, input: FixedFormat, output: FixedFormat) -> list[int]:
    """T at the codes that float64 left open."""
    results: dict[int, int] = {}
    pending = [int(c) for c in codes]
    for bits in _PRECISIONS:
        with mpmath.workprec(bits):
            x = np.empty(len(pending), dtype=object)
            x[:] = [mpmath.mpf(c) * mpmath.mpf(2) ** -input.frac for c in pending]
            last = bits == _PRECISIONS[-1]
            low, high = _limits(expr, x, output, multiprecision(bits, _TIE if last else 0.0))
            for code, a, b in zip(pending, low, high, strict=True):
                rounded = _rounded(a, b, output, is_last=last)
                if rounded is not None:
                    results[code] = rounded
        pending = [c for c in pending if c not in results]
        if not pending:
            return [results[int(c)] for c in codes]
    x_first = float(input.to_real(pending[0]))
    raise InputError(
        f"function '{expr}' is undefined or infinite at x = {x_first:g}, inside the input format {input}, "
        f"or too large to be computed; limit its argument, for example with clip(x, lo, hi)"
    )


def _rounded(low: Any, high: Any, output: FixedFormat, *, is_last: bool) -> int | None:
    """The code on which both ends of an enclosure agree, or at the last precision the even one of a tie."""
    if not (mpmath.isfinite(low) and mpmath.isfinite(high)):
        return None
    a, b = _nearest(low, output), _nearest(high, output)
    if a == b:
        return a
    if is_last and high - low < _TIE and abs(a - b) == 1:
        return a if a % 2 == 0 else b
    return None


def _nearest(v: Any, output: FixedFormat) -> int:
    """The nearest output code, ties to even (``nint`` rounds so)."""
    limited = min(max(v, output.min_raw), output.max_raw)
    return int(mpmath.nint(limited))
