"""What a realisation starts from, and what the plans of all kinds share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.errors import InputError
from sw.ir.expr import Expr
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.refmap import reference_map


class NotApplicableError(InputError):
    """A kind of realisation cannot do this map; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A function at its formats, its reference map, and how far a realisation may be from it.

    Args:
        map: T, int64, one entry an input code, index 0 = the most negative.
        max_ulp: 0: every entry equal; 1: at most one output code away.
    """

    expr: Expr
    input: FixedFormat
    output: FixedFormat
    map: IntArray
    max_ulp: int = 0

    @classmethod
    def of(cls, expr: Expr, input: FixedFormat, output: FixedFormat, max_ulp: int = 0) -> Target:
        return cls(expr, input, output, reference_map(expr, input, output), max_ulp)

    def active_range(self) -> tuple[int, int]:
        """Codes (lo, hi) such that the map is constant up to lo and from hi on; lo < hi unless constant."""
        changes = np.flatnonzero(np.diff(self.map))
        if changes.size == 0:
            return self.input.min_raw, self.input.min_raw
        return int(changes[0]) + self.input.min_raw, int(changes[-1]) + 1 + self.input.min_raw

    def idle_bits(self) -> int:
        """How many of the input's lowest bits the map ignores; two bits at least are kept."""
        most = self.input.width - 2
        for bits in range(1, most + 1):
            blocks = self.map.reshape(-1, 1 << bits)
            if np.any(blocks != blocks[:, :1]):
                return bits - 1
        return max(most, 0)

    def coarser(self, bits: int) -> Target:
        """The same map of an input without its lowest ``bits``, which it ignores.

        ``expr`` stays the formula of the whole input; it names the function in messages.
        """
        narrow = FixedFormat(self.input.width - bits, self.input.frac - bits, self.input.signed)
        return replace(self, input=narrow, map=self.map[:: 1 << bits])

    def at(self, codes: IntArray) -> IntArray:
        """T at input codes."""
        return self.map[codes - self.input.min_raw]

    def halves(self) -> tuple[IntArray, IntArray]:
        """The map at codes 0, 1, 2, ... and at 0, -1, -2, ...; the negative side has one more code."""
        middle = -self.input.min_raw
        return self.map[middle:], self.map[middle::-1]


@dataclass(frozen=True, slots=True)
class Folded:
    """The map on the magnitude of its input, where symmetry halves the work.

    Args:
        argument: The wire with |x|, saturated where the map no longer changes.
        negative: The wire that says that the result must be negated; None for an even map.
        values: What to compute at magnitudes 0, 1, ..., hi. In an odd map it may exceed the largest
            output code by one: the negative side of two's complement reaches one further.
        output: The format in which the sign is given back and the result saturated.
    """

    argument: Wire
    negative: Wire | None
    values: IntArray
    output: FixedFormat

    def finish(self, b: Builder, result: Wire) -> Wire:
        """Give the result of the magnitude its sign back, within the output format."""
        if self.negative is not None:
            result = b.negate(self.negative, result)
        return b.clamp(result, self.output.min_raw, self.output.max_raw)


def fold(b: Builder, target: Target) -> Folded:
    """Use the symmetry of a map.

    Raises:
        NotApplicableError: The map is neither odd nor even.
    """
    if not target.input.signed:
        raise NotApplicableError(f"map of '{target.expr}' must be of a signed input to be folded")
    right, left = target.halves()
    right_known = np.append(right, [_continued(right, left, target)])
    if np.array_equal(right_known, left):
        values, is_odd = left, False
    else:
        values, is_odd = np.maximum(right_known, -left), True
        output = target.output
        fits = np.array_equal(right, np.minimum(values[:-1], output.max_raw))
        if not (fits and np.array_equal(left, np.maximum(-values, output.min_raw)) and values[0] == 0):
            raise NotApplicableError(f"map of '{target.expr}' must be odd or even")
    changes = np.flatnonzero(np.diff(values))
    last = int(changes[-1]) + 1 if changes.size else 0
    magnitude = b.min(b.abs(b.x), b.const(last))
    negative = b.lt(b.x, b.const(0)) if is_odd else None
    return Folded(magnitude, negative, values[: last + 1], target.output)


def _continued(right: IntArray, left: IntArray, target: Target) -> int:
    """What the positive side would be at the magnitude that only the most negative code has."""
    is_even = np.array_equal(right, left[:-1])
    return int(left[-1] if is_even else min(-left[-1], target.output.max_raw))


def address(b: Builder, wire: Wire, values: IntArray, first: int) -> tuple[Wire, IntArray]:
    """An address for a table of the codes first, first + 1, ..., without a subtraction.

    The low bits of the codes are an address already; the table is turned to fit them. Entries that no
    code reaches repeat the last value.
    """
    bits = max(1, (len(values) - 1).bit_length())
    table = np.full(1 << bits, values[-1], dtype=np.int64)
    table[(first + np.arange(len(values))) % (1 << bits)] = values
    return b.low(wire, bits), table
