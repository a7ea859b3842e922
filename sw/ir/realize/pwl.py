"""Piecewise linear: slope and intercept from a table, one small multiplication, one shift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sw.ir.build import Builder, Wire
from sw.ir.csd import times
from sw.ir.formats import IntArray
from sw.ir.price import lut6
from sw.ir.program import Program
from sw.ir.realize.target import NotApplicableError, Target, address, fold

BoolArray = npt.NDArray[np.bool_]
_MAX_SEGMENT_BITS = 12
_MIN_SEGMENT_BITS = 2
_SLOPES_TRIED = 3
_PRICED = 4
"""How many segmentations with the smallest tables are built and priced."""
_FAR = 1 << 50


@dataclass(frozen=True, slots=True)
class Segments:
    """Integer lines, one a segment of 2^bits codes: y = (slope * dx + intercept) >> shift."""

    bits: int
    shift: int
    slopes: IntArray
    intercepts: IntArray

    def table_bits(self) -> int:
        """Bits of both tables, the measure by which segmentations compete."""
        widths = [int(np.ptp(column)).bit_length() for column in (self.slopes, self.intercepts)]
        return len(self.slopes) * sum(widths) + 64 * widths[0] * self.bits


def plan(target: Target) -> Program:
    """Equal segments whose lines, truncated, hit every code of the map within ``max_ulp``.

    Lines are found exactly: for a slope, every code of a segment bounds the intercept from both sides,
    and the slope serves if an integer is left between. Symmetric maps are done on |x|.

    Raises:
        NotApplicableError: No segmentation of at least 4 codes a segment exists.
    """
    first, values = _domain(target)
    found = [
        segments
        for bits in range(_MAX_SEGMENT_BITS, _MIN_SEGMENT_BITS - 1, -1)
        for ulp in range(target.max_ulp + 1)
        for segments in _with_shift(first, values, bits, ulp)
    ]
    if not found:
        raise NotApplicableError(f"map of '{target.expr}' must be smooth enough for piecewise lines")
    short_list = sorted(found, key=Segments.table_bits)[:_PRICED]
    return min((_program(target, first, segments) for segments in short_list), key=lut6)


def _domain(target: Target) -> tuple[int, IntArray]:
    """The first code and the values that lines must hit: |x| of a symmetric map, else where it changes."""
    try:
        return 0, fold(Builder(target.input), target).values
    except NotApplicableError:
        lo, hi = target.active_range()
        return lo, target.at(np.arange(lo, hi + 1))


def _program(target: Target, first: int, segments: Segments) -> Program:
    b = Builder(target.input)
    try:
        folded = fold(b, target)
    except NotApplicableError:
        argument = b.clamp(b.x, *target.active_range())
        return b.build(_lines(b, argument, first, segments), target.output)
    return b.build(folded.finish(b, _lines(b, folded.argument, first, segments)), target.output)


def _lines(b: Builder, argument: Wire, first: int, segments: Segments) -> Wire:
    segment = b.shr(argument, segments.bits)
    index, slopes = address(b, segment, segments.slopes, first >> segments.bits)
    intercepts = address(b, segment, segments.intercepts, first >> segments.bits)[1]
    slope, dx = b.lookup(index, slopes), b.low(argument, segments.bits)
    least, most = b.range(slope)
    rise = times(b, dx, least) if least == most else b.mul(slope, dx)
    return b.shr(b.add(rise, b.lookup(index, intercepts)), segments.shift)


def _with_shift(first: int, values: IntArray, bits: int, max_ulp: int) -> Iterator[Segments]:
    """The coarsest lines of segments of 2^bits codes that serve, if any do."""
    rows, known = _rows(first, values, bits)
    for shift in range(0, bits + 6):
        lines = _fit(rows, known, shift, max_ulp)
        if lines is not None:
            yield Segments(bits, shift, *lines)
            return


def _rows(first: int, values: IntArray, bits: int) -> tuple[IntArray, BoolArray]:
    """The map cut into aligned segments, one a row, and which entries any code reaches."""
    lead = first & ((1 << bits) - 1)
    count = -(-(lead + len(values)) >> bits)
    flat = np.zeros(count << bits, dtype=np.int64)
    known = np.zeros(count << bits, dtype=bool)
    flat[lead : lead + len(values)] = values
    known[lead : lead + len(values)] = True
    return flat.reshape(count, -1), known.reshape(count, -1)


def _fit(rows: IntArray, known: BoolArray, shift: int, max_ulp: int) -> tuple[IntArray, IntArray] | None:
    """Slopes and intercepts of all segments, or None if one segment has none."""
    dx = np.arange(rows.shape[1])
    lower = np.where(known, (rows - max_ulp) << shift, -_FAR)
    upper = np.where(known, ((rows + max_ulp + 1) << shift) - 1, _FAR)
    # An interval for the slope from the chords between the first and the last known code.
    start, stop = known.argmax(axis=1), rows.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
    index = np.arange(len(rows))
    span = np.maximum(stop - start, 1)
    center = np.rint(((rows[index, stop] - rows[index, start]) << shift) / span).astype(np.int64)
    slopes, intercepts = center.copy(), np.zeros(len(rows), dtype=np.int64)
    done = np.zeros(len(rows), dtype=bool)
    for step in sorted(range(-_SLOPES_TRIED, _SLOPES_TRIED + 1), key=abs):
        pending = np.flatnonzero(~done)
        slope = center[pending] + step
        rise = slope[:, None] * dx
        least, most = (lower[pending] - rise).max(axis=1), (upper[pending] - rise).min(axis=1)
        serves = least <= most
        hit = pending[serves]
        slopes[hit], intercepts[hit], done[hit] = slope[serves], ((least + most) >> 1)[serves], True
        if done.all():
            return slopes, intercepts
    return None
