"""Functions made of a few straight lines: each line by shifts and additions, chosen among by comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from sw.ir.build import Builder, Wire
from sw.ir.csd import signed_digits, times
from sw.ir.program import Program
from sw.ir.realize.pieces import pieces_of
from sw.ir.realize.requant import EXTRA_BITS, LARGEST_MULTIPLIER, biases, dyadic, level_ends, roundest
from sw.ir.realize.rounding import half_even
from sw.ir.realize.target import NotApplicableError, Target

MIN_LINES = 2
"""One that is not level, between two that are, is for ``requant``."""
_NEAR = 1
"""Multipliers to either side of a slope that are tried at every precision."""


@dataclass(frozen=True, slots=True)
class Part:
    """The codes first..last, where the function is one line: output codes slope * code + offset."""

    first: int
    last: int
    slope: Fraction
    offset: Fraction


@dataclass(frozen=True, slots=True)
class Slope:
    """(multiplier * x + bias) / 2^shift at each of the parts that have this slope; a bias for every one.

    Truncated, or rounded half to even: where the line meets ties, no bias stands for that.
    """

    multiplier: int
    shift: int
    biases: tuple[int, ...]
    rounded: bool = False

    @property
    def effort(self) -> tuple[int, int]:
        """What it costs, roughly: additions, and bits."""
        return len(signed_digits(self.multiplier)) + len(set(self.biases)), self.shift


def plan(target: Target) -> Program:
    """Lines with multipliers of few signed digits that are right, truncated, wherever they are used.

    Parts of the same slope share the multiplication and differ in what is added.

    Raises:
        NotApplicableError: The function is curved, a single saturated line, or a line needs too many bits.
    """
    parts = _parts(target)
    if parts is None or sum(part.slope != 0 for part in parts) < MIN_LINES:
        raise NotApplicableError(f"function must be made of a few different lines, not '{target.expr}'")
    b = Builder(target.input)
    beyond = [b.lt(b.const(part.first - 1), b.x) for part in parts]
    lines: dict[Fraction, Wire] = {}
    for slope in dict.fromkeys(p.slope for p in parts):
        own = [i for i, part in enumerate(parts) if part.slope == slope]
        found = _shortest(target, slope, [parts[i] for i in own])
        bias = _chosen(b, [beyond[i] for i in own], [b.const(v) for v in found.biases])
        line = b.add(times(b, b.x, found.multiplier), bias)
        lines[slope] = half_even(b, line, found.shift) if found.rounded else b.shr(line, found.shift)
    result = _chosen(b, beyond, [lines[part.slope] for part in parts])
    return b.build(b.clamp(result, int(target.map.min()), int(target.map.max())), target.output)


def _parts(target: Target) -> list[Part] | None:
    """The parts that hold input codes, in rising order; None if the function is curved."""
    pieces = pieces_of(target.expr)
    if pieces is None:
        return None
    scale, unit = Fraction(2) ** target.input.frac, Fraction(2) ** target.output.frac
    parts: list[Part] = []
    first = target.input.min_raw
    for piece in pieces:
        end = target.input.max_raw if piece.end is None else floor(piece.end * scale)
        last = min(end, target.input.max_raw)
        if first <= last:
            parts.append(Part(first, last, piece.slope * unit / scale, piece.offset * unit))
            first = last + 1
    return parts


def _shortest(target: Target, slope: Fraction, parts: Sequence[Part]) -> Slope:
    """The least effort for a slope at all its parts.

    Raises:
        NotApplicableError: It needs too many bits.
    """
    found = min(_slopes(target, slope, parts), key=lambda s: s.effort, default=None)
    exact = dyadic(slope, *(part.offset for part in parts))
    if found is None and exact is not None:
        return Slope(exact[0], exact[2], exact[1], rounded=True)
    if found is None:
        raise NotApplicableError(f"slope {float(slope):g} of '{target.expr}' needs too many bits")
    return found


def _slopes(target: Target, slope: Fraction, parts: Sequence[Part]) -> Iterator[Slope]:
    """Every multiplier near a slope, with biases for which the truncated line serves at all the parts."""
    ends = [level_ends(target, part.first, part.last) for part in parts]
    for shift in range(target.input.width + EXTRA_BITS + 1):
        near = round(slope * 2**shift)
        if abs(near) >= LARGEST_MULTIPLIER:
            return
        for multiplier in range(near - _NEAR, near + _NEAR + 1):
            found = [biases(target, multiplier, shift, codes, values) for codes, values in ends]
            if all(least <= most for least, most in found):
                yield Slope(multiplier, shift, _alike(found))


def _alike(ranges: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """A bias within each range: one for all where there is such a one, else the roundest of each."""
    least, most = max(low for low, _ in ranges), min(high for _, high in ranges)
    if least <= most:
        return (roundest(least, most),) * len(ranges)
    return tuple(roundest(low, high) for low, high in ranges)


def _chosen(b: Builder, beyond: Sequence[Wire], values: Sequence[Wire]) -> Wire:
    """The value of the last part whose first code is reached; of the first part, if none is."""
    result = values[0]
    for condition, value in zip(beyond[1:], values[1:], strict=True):
        if value != result:
            result = b.select(condition, value, result)
    return result
