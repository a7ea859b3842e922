"""Piecewise linear: slope and intercept from a table, one small multiplication, one shift."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.csd import times
from sw.ir.formats import IntArray
from sw.ir.price import table_lut6
from sw.ir.program import Program
from sw.ir.realize.domain import Domain, domains, luts_a_bit
from sw.ir.realize.search import cheapest
from sw.ir.realize.target import NotApplicableError, Target

_MAX_SEGMENT_BITS = 12
_MIN_SEGMENT_BITS = 2
_SLOPES_TRIED = 3
_FINER = 6
"""Fraction bits of a slope that are tried beyond those that a segment's width asks for."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Integer lines, one a segment of 2^bits codes: y = (slope * dx + intercept) >> shift."""

    bits: int
    shift: int
    slopes: IntArray
    intercepts: IntArray

    def core(self, b: Builder, argument: Wire) -> Wire:
        """The result at an argument, as a wire."""
        segment, dx = b.shr(argument, self.bits), b.low(argument, self.bits)
        return b.shr(line(b, segment, dx, self.slopes, self.intercepts), self.shift)


def line(b: Builder, segment: Wire, dx: Wire, slopes: IntArray, intercepts: IntArray) -> Wire:
    """Slope * dx + intercept of a segment; where no slope rises, they are stored without a sign."""
    falls = bool(slopes.max() <= 0)
    intercept, slope = b.lookup(segment, intercepts), b.lookup(segment, -slopes if falls else slopes)
    least, most = b.range(slope)
    change = times(b, dx, least) if least == most else b.mul(slope, dx)
    return b.sub(intercept, change) if falls else b.add(change, intercept)


@dataclass(frozen=True, slots=True, order=True)
class Segmentation:
    """A domain in segments of 2^bits codes; they compare by the fewest LUTs to hope for."""

    estimate: float
    bits: int
    domain: Domain = field(compare=False)

    def program(self, limit: float) -> Program | None:
        """That of the coarsest lines that serve, if any do and may cost less than ``limit``."""
        lines = coarsest_fit(self.fit, self.bits)
        if lines is None or self.luts(lines) >= limit:
            return None
        return self.domain.program(lines.core)

    def fit(self, shift: int) -> Lines | None:
        """Lines of this shift, or None if a segment has none near its chord."""
        found = near_chords(self.domain.lower, self.domain.upper, self.bits, shift)
        return None if found is None else Lines(self.bits, shift, *found)

    def luts(self, lines: Lines) -> float:
        """What tables and multiplication cost, and roughly what is around them."""
        address_bits = self.domain.bits - self.bits
        columns = (lines.slopes, lines.intercepts)
        tables = sum(table_lut6(tuple(column.tolist()), address_bits) for column in columns)
        slope_bits = int(np.ptp(lines.slopes)).bit_length()
        return self.domain.overhead + tables + max(0.0, 1.75 * slope_bits * self.bits - 5)


def near_chords(lower: IntArray, upper: IntArray, bits: int, shift: int) -> tuple[IntArray, IntArray] | None:
    """Slope and intercept for every segment of 2^bits values, near its chord; None if one has none.

    Lines are found exactly: for a slope, every value of a segment bounds the intercept from both sides, and
    the slope serves if an integer is left between.

    Args:
        lower: Smallest result that serves, one entry a value; whole segments.
        upper: Largest one.
        bits: Of a segment.
        shift: How many bits are dropped from slope * dx + intercept.
    """
    least = (lower << shift).reshape(-1, 1 << bits)
    most = (((upper + 1) << shift) - 1).reshape(-1, 1 << bits)
    dx = np.arange(1 << bits)
    rise = least[:, -1] + most[:, -1] - least[:, 0] - most[:, 0]
    center = np.rint(rise / (2 * max(int(dx[-1]), 1))).astype(np.int64)
    slopes, intercepts = center.copy(), np.zeros(len(least), dtype=np.int64)
    pending = np.arange(len(least))
    for step in sorted(range(-_SLOPES_TRIED, _SLOPES_TRIED + 1), key=abs):
        slope = center[pending] + step
        line = slope[:, None] * dx
        low, high = (least[pending] - line).max(axis=1), (most[pending] - line).min(axis=1)
        serves = low <= high
        hit = pending[serves]
        slopes[hit], intercepts[hit] = slope[serves], ((low + high) >> 1)[serves]
        pending = pending[~serves]
        if not pending.size:
            return slopes, intercepts
    return None


Fitted = TypeVar("Fitted")


def coarsest_fit(fit: Callable[[int], Fitted | None], bits: int) -> Fitted | None:
    """What ``fit`` gives for the smallest shift at which it gives something, from ``bits`` up, else down."""
    found: Fitted | None = None
    shift = bits
    for shift in range(bits, bits + _FINER):
        found = fit(shift)
        if found is not None:
            break
    while found is not None and shift:
        shift -= 1
        coarser = fit(shift)
        if coarser is None:
            break
        found = coarser
    return found


def plan(target: Target) -> Program:
    """Equal segments whose lines, truncated, hit every code of the map within ``max_ulp``.

    Symmetric maps are done on |x|.

    Raises:
        NotApplicableError: No segmentation of at least 4 codes a segment exists, or none that could beat
            the target's ``budget``.
    """
    best = cheapest((s for domain in domains(target) for s in _segmentations(domain)), target.budget)
    if best is None:
        raise NotApplicableError(f"map of '{target.expr}' must be smooth enough for piecewise lines")
    return best


def _segmentations(domain: Domain) -> Iterator[Segmentation]:
    exact = domain.target.max_ulp == 0
    for bits in range(_MIN_SEGMENT_BITS, min(_MAX_SEGMENT_BITS, domain.bits) + 1):
        # For exact lines a slope needs a fraction that is fine enough for the last code of a segment;
        # faithful ones may be so steep that they replace the intercept's lowest bits.
        width = domain.span + max(0, bits - 2) if exact else max(1, domain.span - bits)
        adder = domain.span if exact else 0
        yield Segmentation(domain.overhead + width * luts_a_bit(domain.bits - bits) + adder, bits, domain)
