"""Canonical signed digits: a multiplication by a constant as few shifts and additions."""

from __future__ import annotations

from sw.ir.build import Builder, Wire


def signed_digits(value: int) -> list[tuple[int, int]]:
    """The canonical signed digit form of an integer: (sign, shift) of every non-zero digit, lowest first.

    No two neighbouring digits are non-zero, which makes their number minimal (Reitwiesner 1960).

    >>> signed_digits(7), signed_digits(-6)
    ([(-1, 0), (1, 3)], [(1, 1), (-1, 3)])
    """
    digits = []
    shift = 0
    while value:
        if value & 1:
            sign = 2 - (value & 3)
            digits.append((sign, shift))
            value -= sign
        value >>= 1
        shift += 1
    return digits


def _without_borrows(digits: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """As many digits with 4 - 1 as 2 + 1: the sum is a bit narrower and its lowest bit a wire."""
    found = list(digits)
    for low in range(len(found) - 1):
        (sign, shift), (next_sign, next_shift) = found[low : low + 2]
        if sign < 0 < next_sign and next_shift == shift + 2:
            found[low : low + 2] = [(1, shift), (1, shift + 1)]
    return found


def times(b: Builder, wire: Wire, constant: int) -> Wire:
    """``wire * constant`` by shifts, additions and subtractions."""
    if constant == 0:
        return b.const(0)
    digits = _without_borrows(signed_digits(constant))
    base = digits[0][1]
    digits.sort(key=lambda digit: (-digit[0], digit[1]))  # start from a positive digit, if there is one
    total: Wire | None = None
    for sign, shift in digits:
        term = b.shl(wire, shift - base)
        if total is None:
            total = term if sign > 0 else b.neg(term)
        else:
            total = b.add(total, term) if sign > 0 else b.sub(total, term)
    assert total is not None
    return b.shl(total, base)
