"""The reciprocal square root of an integer: leading zeros, a small table, one narrow multiplication."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from sw.ir.errors import InputError
from sw.ir.formats import FloatArray, IntArray

MAX_FRAC = 22
"""Finest result; its table has 2^11 entries, and all 2^24 mantissas are tried when it is built."""
OFFSET_GUARD = 2
"""Bits that the offsets carry beyond the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RootTable:
    """``scale / sqrt(m)`` for m in [1, 4), piecewise linear, with ``frac`` bits after the binary point.

    A positive integer w is ``4^exponent * m``; what the table sees of m is whether it is at least 2
    (``odd``) and the ``mantissa_bits`` bits that follow its leading one. The upper ``segment_bits`` of
    these choose, with ``odd``, one of 2^(segment_bits + 1) segments; in it

        root = (offset - ((slope * rest) >> drop)) >> 2

    Args:
        frac: Bits of the result after the binary point.
        segment_bits: See above.
        rest_bits: Bits of a mantissa below the segment.
        offsets: Of each segment, those with odd = 0 first.
        slopes: Likewise, none negative.
        relative_error: Largest |root / (scale / sqrt(m)) - 1| over *all* m, found by trying every mantissa
            at both ends of the interval that it stands for.
    """

    frac: int
    segment_bits: int
    rest_bits: int
    offsets: tuple[int, ...]
    slopes: tuple[int, ...]
    relative_error: float

    @property
    def mantissa_bits(self) -> int:
        """Bits after the leading one that the table sees."""
        return self.segment_bits + self.rest_bits

    @property
    def drop(self) -> int:
        """Bits of the product that lie below the offsets' last one."""
        return _drop(self.rest_bits)

    @property
    def max_raw(self) -> int:
        """Largest root."""
        return max(self.offsets) >> OFFSET_GUARD

    def look_up(self, odd: IntArray, mantissa: IntArray) -> IntArray:
        """Roots from the two things that the table sees; any shape, int64."""
        segment = (odd << self.segment_bits) + (mantissa >> self.rest_bits)
        rest = mantissa & ((1 << self.rest_bits) - 1)
        offset, slope = np.asarray(self.offsets)[segment], np.asarray(self.slopes)[segment]
        return (offset - ((slope * rest) >> self.drop)) >> OFFSET_GUARD

    def of(self, values: IntArray) -> tuple[IntArray, IntArray]:
        """``(exponent, root)`` of positive integers of at most 62 bits.

        root * 2^-frac is about scale * 2^exponent / sqrt(value).

        >>> exponent, root = root_table(1.0, 12).of(np.array([1, 4, 48, 64]))
        >>> exponent.tolist(), np.round(root / 4096, 3).tolist()  # 48 = 4^2 * 3
        ([0, 1, 2, 3], [1.0, 1.0, 0.577, 1.0])
        """
        leading = leading_ones(values)
        below = leading - self.mantissa_bits
        cut = np.where(below >= 0, values >> np.maximum(below, 0), values << np.maximum(-below, 0))
        return leading >> 1, self.look_up(leading & 1, cut & ((1 << self.mantissa_bits) - 1))


def leading_ones(values: IntArray) -> IntArray:
    """Place of the leading one of positive integers, floor(log2), exact up to 62 bits.

    >>> leading_ones(np.array([1, 2, 3, 4, 2**60 - 1])).tolist()
    [0, 1, 1, 2, 59]
    """
    rest = np.asarray(values, dtype=np.int64)
    place = np.zeros_like(rest)
    for step in (32, 16, 8, 4, 2, 1):
        is_above = (rest >> step) > 0
        place += step * is_above
        rest = np.where(is_above, rest >> step, rest)
    return place


@functools.cache
def root_table(scale: float, frac: int) -> RootTable:
    """The table for ``scale / sqrt(m)``, fine enough that its relative error is about 2^-frac.

    The slope of a segment is that of its chord, rounded; its offset is the one of a few neighbours that
    makes the largest relative error smallest over all mantissas of the segment.

    Args:
        scale: In [1, 2).
        frac: 2..22.

    Raises:
        InputError: ``frac`` is out of range.

    >>> table = root_table(1.0, 12)
    >>> len(table.offsets), bool(table.relative_error < 1.5 * 2**-12)
    (64, True)
    """
    if not 2 <= frac <= MAX_FRAC:
        raise InputError(
            f"bits of a reciprocal square root must be 2..{MAX_FRAC}, not {frac}; "
            "a narrower output or fewer guard bits would help"
        )
    # A chord is off by h^2 f'' / 8 at most, half of it after centring: 2^-2a * 0.75 / 16 of the result.
    segment_bits = max(1, -(-(frac - 3) // 2))
    rest_bits = frac + 1 - segment_bits
    starts, ends = _targets(scale, frac, segment_bits, rest_bits)
    slopes = np.rint((starts[:, 0] - ends[:, -1]) * 2.0 ** (OFFSET_GUARD + _drop(rest_bits) - rest_bits))
    slopes = slopes.astype(np.int64)
    steps = (slopes[:, None] * np.arange(1 << rest_bits)) >> _drop(rest_bits)
    rough = np.rint(np.ldexp((starts + ends) / 2, OFFSET_GUARD) + steps)
    middle = ((rough.min(axis=1) + rough.max(axis=1)) // 2).astype(np.int64)
    offsets, errors = middle, np.full(len(middle), np.inf)
    for shift in range(-1, 5):
        roots = (middle[:, None] + shift - steps) >> OFFSET_GUARD
        found = np.maximum(np.abs(roots / starts - 1), np.abs(roots / ends - 1)).max(axis=1)
        offsets = np.where(found < errors, middle + shift, offsets)
        errors = np.minimum(found, errors)
    return RootTable(
        frac=frac,
        segment_bits=segment_bits,
        rest_bits=rest_bits,
        offsets=tuple(offsets.tolist()),
        slopes=tuple(slopes.tolist()),
        relative_error=float(errors.max()),
    )


def _drop(rest_bits: int) -> int:
    return max(rest_bits - 1, 0)


def _targets(scale: float, frac: int, segment_bits: int, rest_bits: int) -> tuple[FloatArray, FloatArray]:
    """Exact results at both ends of every mantissa's interval, (segments, mantissas of a segment)."""
    edges = np.arange((1 << (segment_bits + rest_bits)) + 1) / (1 << (segment_bits + rest_bits)) + 1.0
    roots = np.stack([np.ldexp(scale / np.sqrt(edges * factor), frac) for factor in (1.0, 2.0)])
    shape = (2 << segment_bits, 1 << rest_bits)
    return roots[:, :-1].reshape(shape), roots[:, 1:].reshape(shape)
