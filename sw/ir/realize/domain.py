"""Where a core has to be computed: the codes that matter, and how far its results may stray.

A plan of tables and lines (a *core*) sees a *domain*: an argument of a few bits and, at each of its
values, the interval of results that serve. What leads from the input code to the argument, and from the
core's result to the output (magnitude, sign, saturation), is the same for all of them and lives here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.csd import times
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.program import MAX_WIRE_BITS, Program, dropping
from sw.ir.realize.target import Target

Core = Callable[[Builder, Wire], Wire]
"""Computes the result at the argument, which is never negative."""

_FINER = 4
"""How many ways to drop lowest bits of the input are tried, from the most that the tolerance allows."""
_ONE_LUT = 6


def luts_a_bit(address_bits: int) -> float:
    """Roughly the LUTs of one output bit of a table."""
    return max(1.0, 0.8 * 2.0 ** (address_bits - _ONE_LUT))


@dataclass(frozen=True, slots=True)
class Line:
    """left * x on the negative side and right * x on the other, in 2^-shift of an output code."""

    left: int
    right: int
    shift: int

    def of(self, codes: IntArray) -> IntArray:
        """The line at input codes."""
        return np.where(codes < 0, self.left * codes, self.right * codes)

    def wire(self, b: Builder) -> Wire:
        """The line at the input; bends are at 0, and to one side or to both alike."""
        if self.left == self.right:
            return times(b, b.x, self.right)
        if self.left == -self.right:
            return times(b, b.abs(b.x), self.right)
        zero = b.const(0)
        side = b.max(b.x, zero) if self.right else b.min(b.x, zero)
        return times(b, side, self.left + self.right)


@dataclass(frozen=True, slots=True)
class Domain:
    """An argument of ``bits`` bits with the interval of results that serve at each of its values.

    Args:
        target: What is realised.
        drop: Lowest bits of the input that the argument leaves out.
        symmetry: ``odd`` or ``even``: the argument is a magnitude. ``none``: the lowest bits of the code.
        bits: Width of the argument; beyond it the map is constant.
        lower: Smallest result that serves, one entry a value of the argument.
        upper: Largest one.
        ends: Result below and above the codes that the argument covers; of a magnitude only the latter.
        line: What the result is added to before its lowest bits are dropped, if anything.
    """

    target: Target
    drop: int
    symmetry: str
    bits: int
    lower: IntArray
    upper: IntArray
    ends: tuple[int, int]
    line: Line | None = None

    @property
    def span(self) -> int:
        """Bits that it takes at least to tell the results apart."""
        return max(1, int(self.lower.max() - self.upper.min()).bit_length())

    @property
    def overhead(self) -> int:
        """Roughly the LUTs of what surrounds the core."""
        width = self.target.input.width - self.drop
        output = self.target.output.width
        if self.symmetry == "none":
            return min(self.bits, output) if self.bits < width else 0
        return width + output * (self.symmetry == "odd" or self.bits < width - 1)

    def program(self, core: Core) -> Program:
        """The whole program around a core whose results lie in their intervals."""
        # Only a line reads the lowest bits; without them there are fewer codes to build for.
        early = 0 if self.line else self.drop
        b = Builder(self.target.coarser(early).input)
        code = b.shr(b.x, self.drop - early)
        result = self._plain(b, code, core) if self.symmetry == "none" else self._folded(b, code, core)
        if self.line is not None:
            result = b.shr(b.add(result, self.line.wire(b)), self.line.shift)
        output = self.target.output
        program = b.build(b.clamp(result, output.min_raw, output.max_raw), output)
        return dropping(program, self.target.input, early) if early else program

    def _folded(self, b: Builder, code: Wire, core: Core) -> Wire:
        magnitude = b.abs(code)
        result = core(b, b.low(magnitude, self.bits))
        # Saturating the result costs less than saturating the magnitude: negation takes it along.
        result = b.select(b.shr(magnitude, self.bits), b.const(self.ends[1]), result)
        return b.negate(b.lt(b.x, b.const(0)), result) if self.symmetry == "odd" else result

    def _plain(self, b: Builder, code: Wire, core: Core) -> Wire:
        width = self.target.input.width - self.drop
        if self.bits == width:
            return core(b, b.low(code, self.bits))
        top = b.const(self.ends[1])
        if not self.target.input.signed:
            return b.select(b.shr(code, self.bits), top, core(b, b.low(code, self.bits)))
        half = 1 << (self.bits - 1)
        excess = width - self.bits + 1
        if self._ends_stand_for_all and (self.bits <= self.target.output.width or excess > _ONE_LUT):
            return core(b, b.low(b.clamp(code, -half, half - 1), self.bits))
        alike = np.ones(1 << excess, dtype=np.int64)
        alike[[0, -1]] = 0
        beyond = b.lookup(b.low(b.shr(code, self.bits - 1), excess), alike)
        end = b.select(b.lt(b.x, b.const(0)), b.const(self.ends[0]), top)
        return b.select(beyond, end, core(b, b.low(code, self.bits)))

    @property
    def _ends_stand_for_all(self) -> bool:
        """Whether codes beyond the argument may be clamped to its ends."""
        half = 1 << (self.bits - 1)
        ends = [half, half - 1]
        return tuple(self.lower[ends]) == tuple(self.upper[ends]) == self.ends


@dataclass(frozen=True, slots=True)
class _Band:
    """The interval of outputs that serve at each code of a format, in rising order of the codes."""

    input: FixedFormat
    lower: IntArray
    upper: IntArray

    def coarser(self, bits: int) -> _Band:
        """The band of an input without its lowest ``bits``; empty somewhere if that is too coarse."""
        blocks = 1 << bits
        lower, upper = self.lower.reshape(-1, blocks), self.upper.reshape(-1, blocks)
        return _Band(self.input.without(bits), lower.max(axis=1), upper.min(axis=1))

    @property
    def serves(self) -> bool:
        return bool(np.all(self.lower <= self.upper))

    def halves(self) -> tuple[_Band, _Band]:
        """At codes 0, 1, 2, ... and at 0, -1, -2, ...; the negative side has one more code."""
        middle = -self.input.min_raw
        right = replace(self, lower=self.lower[middle:], upper=self.upper[middle:])
        left = replace(self, lower=self.lower[middle::-1], upper=self.upper[middle::-1])
        return right, left


def domains(target: Target, line: Line | None = None) -> Iterator[Domain]:
    """The ways to see a map: by its symmetry and as it is, with all bits and without the lowest.

    Lowest bits are only dropped where ``max_ulp`` allows; those that the map ignores are gone before.

    Args:
        line: What else is added to the result of a core.
    """
    band = _band(target) if line is None else _beside(target, line)
    most = _droppable(band) if target.max_ulp else 0
    for drop in range(most, max(-1, most - _FINER), -1):
        if target.input.signed:
            yield from _folded(target, drop, band, line)
        yield _plain(target, drop, band.coarser(drop), line)


def _band(target: Target) -> _Band:
    lower = np.maximum(target.map - target.max_ulp, target.output.min_raw)
    return _Band(target.input, lower, np.minimum(target.map + target.max_ulp, target.output.max_raw))


def _beside(target: Target, line: Line) -> _Band:
    """What may be added to a line, in its own fraction bits; where the output saturates that is more."""
    band, output = _band(target), target.output
    reach = output.max_raw - output.min_raw
    lower = np.where(band.lower == output.min_raw, band.lower - reach, band.lower)
    upper = np.where(band.upper == output.max_raw, band.upper + reach, band.upper)
    base = line.of(target.input.codes())
    return replace(band, lower=(lower << line.shift) - base, upper=((upper + 1) << line.shift) - 1 - base)


def _droppable(band: _Band) -> int:
    bits = 0
    while bits < band.input.droppable and band.coarser(bits + 1).serves:
        bits += 1
    return bits


def _folded(target: Target, drop: int, fine: _Band, line: Line | None) -> Iterator[Domain]:
    """The band on magnitudes, if it is even or odd.

    An odd map may need a result beyond the largest code: the negative side of two's complement reaches
    one further than the positive one, which saturates. (What is beside a line may be more anyway.)
    """
    most = target.output.max_raw
    reaching = replace(fine, upper=np.where(fine.upper == most, -target.output.min_raw, fine.upper))
    for symmetry, band in (("even", fine), ("odd", fine), ("odd", fine if line else reaching)):
        domain = _magnitudes(target, drop, band.coarser(drop), symmetry, line)
        if domain is not None:
            yield domain
            return


def _magnitudes(target: Target, drop: int, band: _Band, symmetry: str, line: Line | None) -> Domain | None:
    """The domain of magnitudes; None if the band has no such symmetry."""
    right, left = band.halves()
    other = (left.lower, left.upper) if symmetry == "even" else (-left.upper, -left.lower)
    lower = np.maximum(np.append(right.lower, other[0][-1]), other[0])
    upper = np.minimum(np.append(right.upper, other[1][-1]), other[1])
    if np.any(lower > upper):
        return None
    start, level = _constant_tail(lower, upper)
    bits = max(1, start - 1).bit_length()
    if bits >= band.input.width:
        return None
    size = 1 << bits
    return Domain(target, drop, symmetry, bits, lower[:size], upper[:size], (level, level), line)


def _plain(target: Target, drop: int, band: _Band, line: Line | None) -> Domain:
    middle = -band.input.min_raw
    above, top = _constant_tail(band.lower[middle:], band.upper[middle:])
    below, bottom = _constant_tail(band.lower[:middle][::-1], band.upper[:middle][::-1]) if middle else (0, 0)
    bits = max(1, (max(above, below) - 1).bit_length() + (middle > 0))
    half = 1 << (bits - 1) if middle else 0
    # In the order of the code's lowest bits: from 0 up, then the negative codes.
    order = np.roll(np.arange(middle - half, middle - half + (1 << bits)), -half)
    lower, upper = band.lower[order], band.upper[order]
    for index, level, inside in ((half - 1, top, above < half), (half, bottom, below < half)):
        if inside:  # the last code may then stand for all beyond it
            lower[index] = upper[index] = level
    return Domain(target, drop, "none", bits, lower, upper, (bottom, top), line)


def _constant_tail(lower: IntArray, upper: IntArray) -> tuple[int, int]:
    """(start, level): from ``start`` on one level serves everywhere."""
    least = np.maximum.accumulate(lower[::-1])[::-1]
    most = np.minimum.accumulate(upper[::-1])[::-1]
    start = int(np.argmax(least <= most))
    return start, int(least[start] + most[start]) // 2


def coarsest(lower: IntArray, upper: IntArray) -> IntArray:
    """Values within their intervals, all multiples of the largest power of two that allows it."""
    step = 0
    while np.all((upper >> (step + 1)) << (step + 1) >= lower) and step < MAX_WIRE_BITS:
        step += 1
    least = -(-lower >> step)
    return ((least + (upper >> step)) >> 1) << step
