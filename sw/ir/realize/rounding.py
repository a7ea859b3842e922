"""Dropping fraction bits with round half to even, the contract's rounding."""

from __future__ import annotations

import numpy as np

from sw.ir.build import Builder, Wire

_TABLE_BITS = 7
"""Up to this many bits decide the rounding in one small table; beyond it, a comparison does."""


def half_even(b: Builder, wire: Wire, drop: int) -> Wire:
    """round_half_even(wire / 2^drop); ties go to the even result.

    The result is the floor plus one bit; that bit depends on the dropped bits and the lowest kept one.
    """
    if drop <= 0:
        return b.shl(wire, -drop)
    if drop + 1 <= _TABLE_BITS:
        codes = np.arange(1 << (drop + 1))
        up = b.lookup(b.low(wire, drop + 1), np.rint(codes / 2**drop).astype(np.int64) - (codes >> drop))
    else:
        half = b.const(1 << (drop - 1))
        rest = b.low(wire, drop)
        odd = b.low(b.shr(wire, drop), 1)
        # Above half rounds up, and so does exactly half where the floor is odd.
        up = b.lt(half, b.add(rest, odd))
    return b.add(b.shr(wire, drop), up)
