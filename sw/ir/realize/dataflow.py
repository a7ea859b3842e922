"""The expression as it is written: one piece of hardware a node, in fixed point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.csd import times
from sw.ir.errors import InputError
from sw.ir.expr import NUMPY_OPS, interpret_expr
from sw.ir.formats import FixedFormat, FloatArray, IntArray
from sw.ir.program import Program
from sw.ir.realize.rounding import half_even
from sw.ir.realize.target import NotApplicableError, Target, address

_GUARD_BITS = (2, 5, 8, 12, 20)
"""Fraction bits of intermediate values beyond the output's; the first that is exact wins."""
_ADDRESS_BITS = 11
"""Widest table of a transcendental function."""
_LONGEST_SCAN = 1 << 17
"""Argument codes looked at when a table's domain is sought."""
_VALUE_BITS = 12
"""Intermediate values saturate at +-2^12, or beyond the output's range where that is wider: wild tails
must not widen every wire behind them."""
_CONSTANT_BITS = 14
_LARGEST_CONSTANT = Fraction(2) ** 30


@dataclass(frozen=True, slots=True)
class Fixed:
    """A wire and its binary point: value = wire * 2^-frac."""

    wire: Wire
    frac: int


def plan(target: Target) -> Program:
    """Every node of the expression in fixed point, equal nodes shared, one rounding at the end.

    Additions and products are exact until they have more than the working number of fraction bits;
    transcendental functions and divisions are tables of at most 11 address bits. How far the result is
    from the map is measured, not promised.

    Raises:
        NotApplicableError: A wire would need more than 62 bits; not at the formats of a norm.
    """
    best: Program | None = None
    least = -1
    for guard in _GUARD_BITS:
        b = Builder(target.input)
        try:
            wire = _pipeline(b, target, guard)
        except InputError:
            break  # more guard bits would need wires that are wider still
        off = int(np.abs(b.values(wire) - target.map).max())
        if best is None or off < least:
            best, least = b.build(wire, target.output), off
        if off <= target.max_ulp:
            break
    if best is None:
        raise NotApplicableError(
            f"operators of '{target.expr}' need wires that are too wide at {target.output}"
        )
    return best


def _pipeline(b: Builder, target: Target, guard: int) -> Wire:
    nodes = _Nodes(b, target.output.frac + guard, target.output)
    x = Fixed(b.x, target.input.frac)
    result = interpret_expr(target.expr, x, nodes.constant, nodes.table())
    rounded = half_even(b, result.wire, result.frac - target.output.frac)
    return b.clamp(rounded, target.output.min_raw, target.output.max_raw)


class _Nodes:
    """How each operation of an expression becomes wires, with ``frac`` fraction bits to work with."""

    def __init__(self, b: Builder, frac: int, output: FixedFormat) -> None:
        self.b = b
        self.frac = frac
        self.value_bits = max(_VALUE_BITS, output.width - output.frac + 1)

    def _saturation(self, frac: int) -> int:
        """The largest intermediate value as a wire with ``frac`` fraction bits."""
        return 1 << max(0, frac + self.value_bits)

    def table(self) -> dict[str, Callable[..., Fixed]]:
        unary = ("tanh", "sigmoid", "erf", "exp", "log", "sqrt", "atan", "sin")
        ops: dict[str, Callable[..., Fixed]] = {name: self._function(name) for name in unary}
        return ops | {
            "add": lambda p, q: self._joined(self.b.add, p, q),
            "sub": lambda p, q: self._joined(self.b.sub, p, q),
            "min": lambda p, q: self._joined(self.b.min, p, q),
            "max": lambda p, q: self._joined(self.b.max, p, q),
            "mul": self._mul,
            "square": lambda p: self._mul(p, p),
            "div": lambda p, q: self._mul(p, self._reciprocal(q)),
            "pow": self._pow,
            "neg": lambda p: Fixed(self.b.neg(p.wire), p.frac),
            "abs": lambda p: Fixed(self.b.abs(p.wire), p.frac),
            "floor": lambda p: p if p.frac <= 0 else Fixed(self.b.shr(p.wire, p.frac), 0),
            "relu": lambda p: Fixed(self.b.max(p.wire, self.b.const(0)), p.frac),
            "clip": self._clip,
        }

    def constant(self, value: Fraction) -> Fixed:
        """The constant, exact if it is short, else rounded to the working precision or 14 bits."""
        value = max(min(value, _LARGEST_CONSTANT), -_LARGEST_CONSTANT)
        denominator = value.denominator
        short = denominator.bit_length() - 1
        if denominator & (denominator - 1) == 0 and short <= max(self.frac, _CONSTANT_BITS):
            return Fixed(self.b.const(int(value * denominator)), short)
        size = abs(value.numerator).bit_length() - denominator.bit_length()
        frac = max(self.frac, min(_CONSTANT_BITS - size, 40))
        return Fixed(self.b.const(round(value * 2**frac)), frac)

    def _joined(self, op: Callable[[Wire, Wire], Wire], p: Fixed, q: Fixed) -> Fixed:
        frac = max(p.frac, q.frac)
        wires = (self.b.shl(v.wire, frac - v.frac) for v in (p, q))
        return self._trimmed(Fixed(op(*wires), frac))

    def _mul(self, p: Fixed, q: Fixed) -> Fixed:
        for variable, factor in ((p, q), (q, p)):
            lo, hi = self.b.range(factor.wire)
            if lo == hi:
                frac = variable.frac + factor.frac
                # What saturates anyway need not be multiplied in full width.
                reach = self._saturation(frac) // max(1, abs(lo)) + 1
                product = times(self.b, self.b.clamp(variable.wire, -reach, reach), lo)
                return self._trimmed(Fixed(product, frac))
        return self._trimmed(Fixed(self.b.mul(p.wire, q.wire), p.frac + q.frac))

    def _pow(self, base: Fixed, power: int) -> Fixed:
        result = Fixed(self.b.const(1), 0)
        for _ in range(abs(power)):
            result = self._mul(result, base)
        return result if power >= 0 else self._reciprocal(result)

    def _clip(self, p: Fixed, lo: Fixed, hi: Fixed) -> Fixed:
        frac = max(p.frac, lo.frac, hi.frac)
        low, high = (self.b.range(v.wire)[0] << (frac - v.frac) for v in (lo, hi))
        return self._trimmed(Fixed(self.b.clamp(self.b.shl(p.wire, frac - p.frac), low, high), frac))

    def _reciprocal(self, p: Fixed) -> Fixed:
        return self._tabulated(p, lambda v: 1.0 / v)

    def _function(self, name: str) -> Callable[[Fixed], Fixed]:
        return lambda p: self._tabulated(p, NUMPY_OPS[name])

    def _tabulated(self, p: Fixed, function: Callable[[FloatArray], FloatArray]) -> Fixed:
        """A table over the argument, coarser where it is wide, without its saturated ends."""
        lo, hi = self.b.range(p.wire)
        if lo == hi:
            return self._sampled(p, function, np.array([lo]), 0)[0]
        for drop in range(64):
            if (hi >> drop) - (lo >> drop) >= _LONGEST_SCAN:
                continue
            codes = np.arange(lo >> drop, (hi >> drop) + 1)
            value, entries = self._sampled(p, function, codes, drop)
            if entries <= 1 << _ADDRESS_BITS:
                return value
        raise AssertionError("a single entry always fits")

    def _sampled(
        self, p: Fixed, function: Callable[[FloatArray], FloatArray], codes: IntArray, drop: int
    ) -> tuple[Fixed, int]:
        """The table for codes of the argument without its ``drop`` lowest bits, and its size."""
        middle = 0.5 if drop else 0.0
        with np.errstate(all="ignore"):
            real = function(np.ldexp(codes + middle, drop - p.frac))
        limit = 2.0 ** (self.frac + self.value_bits)
        scaled = np.nan_to_num(np.ldexp(real, self.frac), nan=0.0, posinf=limit, neginf=-limit)
        entries = np.rint(np.clip(scaled, -limit, limit)).astype(np.int64)
        changes = np.flatnonzero(np.diff(entries))
        if changes.size == 0:
            return Fixed(self.b.const(int(entries[0])), self.frac), 1
        first, last = int(changes[0]), int(changes[-1]) + 1
        if last - first + 1 > 1 << _ADDRESS_BITS:
            return p, last - first + 1
        inside = self.b.clamp(self.b.shr(p.wire, drop), int(codes[first]), int(codes[last]))
        index, table = address(self.b, inside, entries[first : last + 1], int(codes[first]))
        return Fixed(self.b.lookup(index, table), self.frac), last - first + 1

    def _trimmed(self, p: Fixed) -> Fixed:
        """Without fraction bits beyond the working number, and saturated at +-2^12."""
        drop = max(0, p.frac - self.frac)
        wire, frac = self.b.shr(p.wire, drop), p.frac - drop
        limit = self._saturation(frac)
        return Fixed(self.b.clamp(wire, -limit, limit), frac)
