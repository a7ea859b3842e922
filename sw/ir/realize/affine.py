"""Recognising functions that are one line between two saturation levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sw.ir.expr import Expr, interpret_expr


@dataclass(frozen=True, slots=True)
class SaturatedLine:
    """x -> slope * x + offset limited to [lo, hi]; None = unlimited; slope 0 = a constant."""

    slope: Fraction
    offset: Fraction
    lo: Fraction | None = None
    hi: Fraction | None = None

    def limited(self, lo: Fraction | None, hi: Fraction | None) -> SaturatedLine:
        """The line limited again."""

        def inside(v: Fraction) -> Fraction:
            if lo is not None:
                v = max(v, lo)
            return v if hi is None else min(v, hi)

        new_lo = lo if self.lo is None else inside(self.lo)
        new_hi = hi if self.hi is None else inside(self.hi)
        return SaturatedLine(self.slope, self.offset, new_lo, new_hi)

    def scaled(self, factor: Fraction) -> SaturatedLine:
        lo = None if self.lo is None else self.lo * factor
        hi = None if self.hi is None else self.hi * factor
        ends = (lo, hi) if factor >= 0 else (hi, lo)
        return SaturatedLine(self.slope * factor, self.offset * factor, *ends)

    def shifted(self, step: Fraction) -> SaturatedLine:
        lo = None if self.lo is None else self.lo + step
        hi = None if self.hi is None else self.hi + step
        return SaturatedLine(self.slope, self.offset + step, lo, hi)

    @property
    def constant(self) -> Fraction | None:
        """The value of a constant, else None."""
        return None if self.slope else self.limited(self.lo, self.hi)._value()

    def _value(self) -> Fraction:
        low = self.offset if self.lo is None else max(self.offset, self.lo)
        return low if self.hi is None else min(low, self.hi)


Line = SaturatedLine | None


def saturated_line(expr: Expr) -> Line:
    """The function as a saturated line if it is one by its structure, else None.

    >>> from sw.ir.parse import parse
    >>> saturated_line(parse("0.5*clip(3*x, -1, 1) + 0.25"))
    SaturatedLine(slope=Fraction(3, 2), offset=Fraction(1, 4), lo=Fraction(-1, 4), hi=Fraction(3, 4))
    """
    x: Line = SaturatedLine(Fraction(1), Fraction(0))
    return interpret_expr(expr, x, lambda c: SaturatedLine(Fraction(0), c), _Ops())


class _Ops(dict[str, Callable[..., Any]]):
    """Operations on lines; those that leave the family, and any on a None, give None."""

    def __missing__(self, op: str) -> Callable[..., Line]:
        rule = _RULES.get(op)

        def apply(*args: Any) -> Line:
            return None if rule is None or any(a is None for a in args) else rule(*args)

        return apply


def _add(a: SaturatedLine, b: SaturatedLine) -> Line:
    if b.constant is not None:
        return a.shifted(b.constant)
    return None if a.constant is None else b.shifted(a.constant)


def _mul(a: SaturatedLine, b: SaturatedLine) -> Line:
    if b.constant is not None:
        return a.scaled(b.constant)
    return None if a.constant is None else b.scaled(a.constant)


def _div(a: SaturatedLine, b: SaturatedLine) -> Line:
    return a.scaled(1 / b.constant) if b.constant else None


def _min(a: SaturatedLine, b: SaturatedLine) -> Line:
    if b.constant is not None:
        return a.limited(None, b.constant)
    return None if a.constant is None else b.limited(None, a.constant)


def _max(a: SaturatedLine, b: SaturatedLine) -> Line:
    if b.constant is not None:
        return a.limited(b.constant, None)
    return None if a.constant is None else b.limited(a.constant, None)


_RULES: dict[str, Callable[..., Line]] = {
    "add": _add,
    "sub": lambda a, b: _add(a, b.scaled(Fraction(-1))),
    "neg": lambda a: a.scaled(Fraction(-1)),
    "mul": _mul,
    "div": _div,
    "min": _min,
    "max": _max,
    "relu": lambda a: a.limited(Fraction(0), None),
    "clip": lambda a, lo, hi: a.limited(lo.constant, hi.constant),
}
