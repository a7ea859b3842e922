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
from sw.ir.realize.pieces import pieces_of
from sw.ir.realize.rounding import half_even
from sw.ir.realize.target import NotApplicableError, Target

EXTRA_BITS = 12
"""Multiplier bits beyond the input's width that are tried before a slope counts as out of reach."""

LARGEST_MULTIPLIER = 1 << 40


def plan(target: Target) -> Program:
    """clamp((M x + B) / 2^s) for a function that is ``clip(c*x + d, lo, hi)``.

    Two ways, the cheaper one counts: a slope and offset with few binary digits are computed as they are
    and rounded half to even; or the slope is replaced by a short integer M, with its own B and s, for
    which the truncated result is right at every code.

    Raises:
        NotApplicableError: The function is not a saturated line, or no such M exists.
    """
    pieces = pieces_of(target.expr)
    sloping = [piece for piece in pieces or () if piece.slope]
    if pieces is None or len(sloping) > 1:
        raise NotApplicableError(f"function must be a line between two clips, not '{target.expr}'")
    b = Builder(target.input)
    lo, hi = target.active_range()
    if lo == hi:
        return b.build(b.const(int(target.map[0])), target.output)
    scale = Fraction(2) ** (target.output.frac - target.input.frac)
    slope = sloping[0].slope * scale
    offset = sloping[0].offset * Fraction(2) ** target.output.frac
    plans = _truncated(target, slope)
    exact = dyadic(slope, offset)
    if exact is not None:
        multiplier, (bias,), shift = exact
        plans.insert(0, _rounded(target, multiplier, bias, shift))
    if not plans:
        raise NotApplicableError(f"slope {float(slope):g} of '{target.expr}' needs too many bits")
    return min(plans, key=lut6)


def dyadic(slope: Fraction, *offsets: Fraction) -> tuple[int, tuple[int, ...], int] | None:
    """(M, (B, ...), s) with slope = M/2^s and every offset = B/2^s, if all are short enough."""
    denominator = max(v.denominator for v in (slope, *offsets))
    if denominator & (denominator - 1) or any(denominator % v.denominator for v in (slope, *offsets)):
        return None
    shift = denominator.bit_length() - 1
    multiplier, biases = int(slope * denominator), tuple(int(v * denominator) for v in offsets)
    short = shift <= 24 and abs(multiplier) < 1 << 24 and all(abs(b) < 1 << 40 for b in biases)
    return (multiplier, biases, shift) if short else None


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
    codes, values = level_ends(target, target.input.min_raw, target.input.max_raw)
    for shift in range(target.input.width + EXTRA_BITS + 1):
        near = round(slope * 2**shift)
        if abs(near) >= LARGEST_MULTIPLIER:
            return
        for multiplier in (near - 1, near, near + 1):
            least, most = biases(target, multiplier, shift, codes, values)
            if least <= most:
                yield multiplier, roundest(least, most), shift


def biases(target: Target, multiplier: int, shift: int, codes: IntArray, values: IntArray) -> tuple[int, int]:
    """The least and the largest B for which floor((M x + B) / 2^s) serves at the codes; least > most: none.

    It serves where, limited to the map's smallest and largest output, it is within max_ulp of ``values``.
    """
    low_end, high_end = int(target.map.min()), int(target.map.max())
    product = multiplier * codes
    floor = ((values - target.max_ulp) << shift) - product
    ceiling = ((values + target.max_ulp + 1) << shift) - 1 - product
    least = floor[values > low_end + target.max_ulp].max(initial=floor.min())
    most = ceiling[values < high_end - target.max_ulp].min(initial=ceiling.max())
    return int(least), int(most)


def level_ends(target: Target, first: int, last: int) -> tuple[IntArray, IntArray]:
    """The first and the last of first..last in every run of equal outputs, and its output.

    A rising or falling line that is right there is right between.
    """
    values = target.map[first - target.input.min_raw : last + 1 - target.input.min_raw]
    changes = np.flatnonzero(np.diff(values))
    ends = np.unique(np.concatenate([[0], changes, changes + 1, [len(values) - 1]]))
    return ends + first, values[ends]


def roundest(low: int, high: int) -> int:
    """The integer in [low, high] with the most trailing zero bits: the cheapest one to add."""
    for bits in range(62, -1, -1):
        candidate = -(-low >> bits) << bits
        if candidate <= high:
            return candidate
    return low
