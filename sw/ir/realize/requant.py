"""A line between two saturation levels: shift-add, one rounding, one clamp."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from sw.ir.build import Builder
from sw.ir.csd import signed_digits, times
from sw.ir.formats import IntArray
from sw.ir.price import lut6
from sw.ir.program import Program
from sw.ir.realize.affine import saturated_line
from sw.ir.realize.rounding import half_even
from sw.ir.realize.target import NotApplicableError, Target

_EXTRA_BITS = 12
"""Multiplier bits beyond the input's width that are tried before a slope counts as out of reach."""

_LARGEST_MULTIPLIER = 1 << 40


def plan(target: Target) -> Program:
    """clamp((M x + B) / 2^s) for a function that is ``clip(c*x + d, lo, hi)``.

    Two ways, the cheaper one counts: a slope and offset with few binary digits are computed as they are
    and rounded half to even; or the slope is replaced by a short integer M, with its own B and s, for
    which the truncated result is right at every code.

    Raises:
        NotApplicableError: The function is not a saturated line, or no such M exists.
    """
    line = saturated_line(target.expr)
    if line is None:
        raise NotApplicableError(f"function must be a line between two clips, not '{target.expr}'")
    b = Builder(target.input)
    lo, hi = target.active_range()
    if lo == hi:
        return b.build(b.const(int(target.map[0])), target.output)
    scale = Fraction(2) ** (target.output.frac - target.input.frac)
    slope = line.slope * scale
    offset = line.offset * Fraction(2) ** target.output.frac
    exact = _dyadic(slope, offset)
    plans = [] if exact is None else [_rounded(target, *exact)]
    plans += _truncated(target, slope)
    if not plans:
        raise NotApplicableError(f"slope {float(slope):g} of '{target.expr}' needs too many bits")
    return min(plans, key=lut6)


def _dyadic(slope: Fraction, offset: Fraction) -> tuple[int, int, int] | None:
    """(M, B, s) with slope = M/2^s and offset = B/2^s, if both are short enough."""
    denominator = max(slope.denominator, offset.denominator)
    if denominator & (denominator - 1) or denominator % slope.denominator or denominator % offset.denominator:
        return None
    shift = denominator.bit_length() - 1
    multiplier, bias = int(slope * denominator), int(offset * denominator)
    short = shift <= 24 and abs(multiplier) < 1 << 24 and abs(bias) < 1 << 40
    return (multiplier, bias, shift) if short else None


def _rounded(target: Target, multiplier: int, bias: int, shift: int) -> Program:
    b = Builder(target.input)
    value = b.add(times(b, b.x, multiplier), b.const(bias))
    rounded = half_even(b, value, shift)
    return b.build(b.clamp(rounded, int(target.map.min()), int(target.map.max())), target.output)


def _truncated(target: Target, slope: Fraction) -> list[Program]:
    """Programs clamp((M x + B) >> s) that give the map, those with the fewest digits of M."""
    found = sorted(_multipliers(target, slope), key=lambda m: (len(signed_digits(m[0])), m[2]))
    plans = []
    for multiplier, bias, shift in found[:2]:
        b = Builder(target.input)
        value = b.shr(b.add(times(b, b.x, multiplier), b.const(bias)), shift)
        result = b.clamp(value, int(target.map.min()), int(target.map.max()))
        plans.append(b.build(result, target.output))
    return plans


def _multipliers(target: Target, slope: Fraction) -> Iterator[tuple[int, int, int]]:
    """(M, B, s) for which floor((M x + B) / 2^s), clamped, lies within max_ulp of the map everywhere."""
    codes, values = _level_ends(target)
    low_end, high_end = int(values.min()), int(values.max())
    limit = target.input.width + _EXTRA_BITS
    for shift in range(limit + 1):
        near = round(slope * 2**shift)
        if abs(near) >= _LARGEST_MULTIPLIER:
            return
        for multiplier in (near - 1, near, near + 1):
            product = multiplier * codes
            floor = ((values - target.max_ulp) << shift) - product
            ceiling = ((values + target.max_ulp + 1) << shift) - 1 - product
            least = int(floor[values > low_end + target.max_ulp].max(initial=-(1 << 60)))
            most = int(ceiling[values < high_end - target.max_ulp].min(initial=1 << 60))
            if least <= most and np.any(values != low_end):
                yield multiplier, _roundest(least, most), shift


def _level_ends(target: Target) -> tuple[IntArray, IntArray]:
    """The first and the last code of every run of equal outputs, and its output.

    A rising or falling line that is right there is right between.
    """
    changes = np.flatnonzero(np.diff(target.map))
    ends = np.unique(np.concatenate([[0], changes, changes + 1, [len(target.map) - 1]]))
    return ends + target.input.min_raw, target.map[ends]


def _roundest(low: int, high: int) -> int:
    """The integer in [low, high] with the most trailing zero bits: the cheapest one to add."""
    for bits in range(62, -1, -1):
        candidate = -(-low >> bits) << bits
        if candidate <= high:
            return candidate
    return low
