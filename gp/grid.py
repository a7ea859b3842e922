"""The grid that factors are taken from: few non-zero signed digits."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

from sw.ir.csd import signed_digits

SPAN_BITS = 10
"""The last digit of a constant weighs at least 2^-10 of its first."""


def snap(value: float | Fraction, digits: int) -> Fraction:
    """The nearest number with at most ``digits`` non-zero signed binary digits.

    The digits lie within ``SPAN_BITS`` of the first, so the constant is short, too; so it is a double.

    >>> snap(1.37, 1), snap(1.37, 2), snap(1.37, 3)
    (Fraction(1, 1), Fraction(5, 4), Fraction(11, 8))
    """
    return Fraction(snap_float(float(value), digits))


@functools.lru_cache(maxsize=100_000)
def snap_float(value: float, digits: int) -> float:
    """``snap`` for a double, in microseconds.

    Each digit of the nearest such number is one of the two powers of two around what is left, so few sums
    are compared.

    >>> snap_float(1.37, 2), snap_float(-0.1, 3)
    (1.25, -0.1015625)
    """
    if value == 0.0 or not math.isfinite(value):
        return value
    last = math.ldexp(1.0, math.frexp(value)[1] - 1 - SPAN_BITS)
    return min(_float_sums(value, digits, last), key=lambda s: (abs(s - value), abs(s)))


def _float_sums(left: float, digits: int, last: float) -> list[float]:
    if digits == 0 or abs(left) < last / 2:
        return [0.0]
    below = math.copysign(math.ldexp(1.0, math.frexp(left)[1] - 1), left)
    found = []
    for power in (below, 2 * below):
        if abs(power) >= last:
            found += [power + rest for rest in _float_sums(left - power, digits - 1, last)]
    return found or [0.0]


def num_digits(value: Fraction) -> int:
    """Non-zero digits of the canonical signed digit form of a dyadic number.

    >>> num_digits(Fraction(7)), num_digits(Fraction(11, 8)), num_digits(Fraction(0))
    (2, 3, 0)
    """
    return len(signed_digits(value.numerator))
