"""Bipartite tables: a value from the upper bits of x plus an offset from its lower and uppermost bits.

The method is Das Sarma's and Matula's (1995); here the tables are solved for, not bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.formats import IntArray
from sw.ir.price import table_lut6
from sw.ir.program import Program
from sw.ir.realize.domain import Domain, domains, luts_a_bit
from sw.ir.realize.search import cheapest
from sw.ir.realize.target import NotApplicableError, Target

MAX_GUARD_BITS = 8
_MAX_OFFSET_BITS = 9
"""Widest address of the offsets."""
_ROUNDS = 24
"""Solutions take a few rounds; what takes more counts as none."""


@dataclass(frozen=True, slots=True)
class Tables:
    """y = (values[upper bits] + offsets[uppermost bits, lowest bits]) >> guard.

    Args:
        bits: Of the argument.
        low: Its lowest bits, which only the offsets see.
        high: Its uppermost bits, which both see.
        guard: Bits of the sum that are dropped.
    """

    bits: int
    low: int
    high: int
    guard: int
    values: IntArray
    offsets: IntArray

    def core(self, b: Builder, argument: Wire) -> Wire:
        """The result at an argument, as a wire."""
        value = b.lookup(b.shr(argument, self.low), self.values)
        lowest = b.low(argument, self.low)
        uppermost = b.shr(argument, self.bits - self.high)
        offset = b.lookup(b.add(b.shl(uppermost, self.low), lowest), self.offsets)
        return b.shr(b.add(value, offset), self.guard)


def plan(target: Target) -> Program:
    """The sum of two tables, the lowest bits of it dropped, within ``max_ulp`` at every code.

    Whether tables of given sizes exist is decided, not estimated: each code bounds the sum of one value
    and one offset from both sides. Only splits that may beat the target's ``budget`` are tried.

    Raises:
        NotApplicableError: No two such tables exist.
    """
    best = two_tables(domains(target), target.budget)
    if best is None:
        raise NotApplicableError(f"map of '{target.expr}' must be smooth enough for two small tables")
    return best


def two_tables(views: Iterable[Domain], limit: float) -> Program | None:
    """The cheapest two tables for any of the domains; None if none cost less than ``limit``."""
    return cheapest((split for domain in views for split in _splits(domain)), limit)


@dataclass(frozen=True, slots=True, order=True)
class Split:
    """Sizes of two tables for a domain; they compare by the fewest LUTs to hope for."""

    estimate: float
    low: int
    high: int
    domain: Domain = field(compare=False)

    def program(self, limit: float) -> Program | None:
        """That of tables with as few guard bits as serve, if any do."""
        tables = self.solve(MAX_GUARD_BITS)
        if tables is None:
            return None
        while tables.guard and (fewer := self.solve(tables.guard - 1)) is not None:
            tables = fewer  # what serves with some guard bits does so with more
        return self.domain.program(tables.core)

    def solve(self, guard: int) -> Tables | None:
        """Tables for which every sum lies in its interval; None if there are none."""
        shape = (1 << self.high, -1, 1 << self.low)
        lower = (self.domain.lower << guard).reshape(shape).transpose(2, 0, 1)
        upper = (((self.domain.upper + 1) << guard) - 1).reshape(shape).transpose(2, 0, 1)
        few = sorted({0, (1 << self.low) // 2, (1 << self.low) - 1})
        if _solution(lower[few], upper[few]) is None:
            return None
        found = _solution(np.ascontiguousarray(lower), np.ascontiguousarray(upper))
        if found is None:
            return None
        values, offsets = found
        least = int(offsets.min())
        return Tables(
            self.domain.bits,
            self.low,
            self.high,
            guard,
            _smallest((lower - offsets[:, :, None]).max(axis=0), values).reshape(-1) + least,
            (offsets - least).T.reshape(-1),
        )


def _smallest(lower: IntArray, upper: IntArray) -> IntArray:
    """Values between the bounds, none further out than a bound asks for, that make a small table."""
    least, most = sorted((upper.min(), lower.max()))
    choices = np.minimum(upper, most), np.clip((lower + upper) >> 1, least, most)
    address_bits = (upper.size - 1).bit_length()
    return min(choices, key=lambda values: table_lut6(tuple(values.flat), address_bits))


def _splits(domain: Domain) -> Iterator[Split]:
    most = min(_MAX_OFFSET_BITS, domain.bits - 1)
    for low in range(1, most + 1):
        rows = domain.lower.reshape(-1, 1 << low), domain.upper.reshape(-1, 1 << low)
        rise = max(0, int((rows[0].max(axis=1) - rows[1].min(axis=1)).max())).bit_length()
        values = domain.span * luts_a_bit(domain.bits - low)
        # Uppermost bits cost nothing up to one LUT's address.
        for high in range(max(0, min(6, most) - low), most - low + 1):
            offsets = rise * luts_a_bit(low + high)
            yield Split(domain.overhead + values + offsets + domain.span, low, high, domain)


def _solution(lower: IntArray, upper: IntArray) -> tuple[IntArray, IntArray] | None:
    """values[group, cell] and offsets[column, group] whose sums lie between the bounds, if there are any.

    With the offsets of the first column fixed at 0, the largest values and the smallest offsets that they
    leave are approached in turn from outside, as shortest paths are: what no longer changes serves.

    Args:
        lower: One bound for every column (lowest bits), group (uppermost bits) and cell.
        upper: The other one.
    """
    values = upper[0]
    for _ in range(_ROUNDS):
        offsets = (lower - values).max(axis=2)
        if np.any(offsets[0] > 0):
            return None
        offsets[0] = 0
        allowed = (upper - offsets[:, :, None]).min(axis=0)
        if np.array_equal(allowed, values):
            return values, offsets
        values = allowed
    return None
