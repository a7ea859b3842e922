"""What a realisation starts from, and what the plans of all kinds share."""

from __future__ import annotations

import math
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
        budget: LUTs that a plan must beat to be of use; it may give up where it cannot.
        is_formula: Whether the map is the formula's at every code; else a plan must not look at that.
    """

    expr: Expr
    input: FixedFormat
    output: FixedFormat
    map: IntArray
    max_ulp: int = 0
    budget: float = math.inf
    is_formula: bool = True

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
        most = self.input.droppable
        for bits in range(1, most + 1):
            blocks = self.map.reshape(-1, 1 << bits)
            if np.any(blocks != blocks[:, :1]):
                return bits - 1
        return most

    def coarser(self, bits: int) -> Target:
        """The same map of an input without its lowest ``bits``, which it ignores.

        ``expr`` stays the formula of the whole input; it names the function in messages.
        """
        return replace(self, input=self.input.without(bits), map=self.map[:: 1 << bits])

    def at(self, codes: IntArray) -> IntArray:
        """T at input codes."""
        return self.map[codes - self.input.min_raw]


def address(b: Builder, wire: Wire, values: IntArray, first: int) -> tuple[Wire, IntArray]:
    """An address for a table of the codes first, first + 1, ..., without a subtraction.

    The low bits of the codes are an address already; the table is turned to fit them. Entries that no
    code reaches repeat the last value.
    """
    bits = max(1, (len(values) - 1).bit_length())
    table = np.full(1 << bits, values[-1], dtype=np.int64)
    table[(first + np.arange(len(values))) % (1 << bits)] = values
    return b.low(wire, bits), table
