"""Piecewise linear: slope and intercept from a table, one small multiplication, one shift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.csd import times
from sw.ir.formats import IntArray
from sw.ir.price import lut6
from sw.ir.program import Program
from sw.ir.realize.domain import Domain, domains, luts_a_bit
from sw.ir.realize.target import NotApplicableError, Target

_MAX_SEGMENT_BITS = 12
_MIN_SEGMENT_BITS = 2
_SLOPES_TRIED = 3
_PRICED = 4
"""How many segmentations with the smallest tables are built and priced."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Integer lines, one a segment of 2^bits codes: y = (slope * dx + intercept) >> shift."""

    domain: Domain
    bits: int
    shift: int
    slopes: IntArray
    intercepts: IntArray

    def table_bits(self) -> int:
        """Bits of both tables, the measure by which segmentations compete."""
        widths = [int(np.ptp(column)).bit_length() for column in (self.slopes, self.intercepts)]
        return len(self.slopes) * sum(widths) + 64 * (widths[0] * self.bits + self.domain.overhead)

    def core(self, b: Builder, argument: Wire) -> Wire:
        """The result at an argument, as a wire."""
        segment, dx = b.shr(argument, self.bits), b.low(argument, self.bits)
        intercept, slope = b.lookup(segment, self.intercepts), b.lookup(segment, self.slopes)
        least, most = b.range(slope)
        rise = times(b, dx, least) if least == most else b.mul(slope, dx)
        return b.shr(b.add(rise, intercept), self.shift)


def plan(target: Target) -> Program:
    """Equal segments whose lines, truncated, hit every code of the map within ``max_ulp``.

    Lines are found exactly: for a slope, every code of a segment bounds the intercept from both sides,
    and the slope serves if an integer is left between. Symmetric maps are done on |x|.

    Raises:
        NotApplicableError: No segmentation of at least 4 codes a segment exists, or none that could beat
            the target's ``budget``.
    """
    found = [
        segments
        for domain in domains(target)
        for bits in range(min(_MAX_SEGMENT_BITS, domain.bits), _MIN_SEGMENT_BITS - 1, -1)
        if _least_luts(domain, bits) < target.budget
        for segments in _with_shift(domain, bits)
    ]
    if not found:
        raise NotApplicableError(f"map of '{target.expr}' must be smooth enough for piecewise lines")
    short_list = sorted(found, key=Segments.table_bits)[:_PRICED]
    return min((segments.domain.program(segments.core) for segments in short_list), key=lut6)


def _least_luts(domain: Domain, bits: int) -> float:
    return domain.overhead + domain.span * (1 + luts_a_bit(domain.bits - bits))


def _with_shift(domain: Domain, bits: int) -> Iterator[Segments]:
    """The coarsest lines of segments of 2^bits codes that serve, if any do."""
    for shift in range(0, bits + 6):
        lines = _fit(domain, bits, shift)
        if lines is not None:
            yield Segments(domain, bits, shift, *lines)
            return


def _fit(domain: Domain, bits: int, shift: int) -> tuple[IntArray, IntArray] | None:
    """Slopes and intercepts of all segments, or None if one segment has none."""
    lower = (domain.lower << shift).reshape(-1, 1 << bits)
    upper = (((domain.upper + 1) << shift) - 1).reshape(-1, 1 << bits)
    dx = np.arange(1 << bits)
    center = np.rint((lower[:, -1] + upper[:, -1] - lower[:, 0] - upper[:, 0]) / (2 * dx[-1])).astype(
        np.int64
    )
    slopes, intercepts = center.copy(), np.zeros(len(lower), dtype=np.int64)
    pending = np.arange(len(lower))
    for step in sorted(range(-_SLOPES_TRIED, _SLOPES_TRIED + 1), key=abs):
        slope = center[pending] + step
        rise = slope[:, None] * dx
        least, most = (lower[pending] - rise).max(axis=1), (upper[pending] - rise).min(axis=1)
        serves = least <= most
        hit = pending[serves]
        slopes[hit], intercepts[hit] = slope[serves], ((least + most) >> 1)[serves]
        pending = pending[~serves]
        if not pending.size:
            return slopes, intercepts
    return None
