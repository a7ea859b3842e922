"""Building Programs: one method an operation, wires shared, constants folded, ranges measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sw.ir import interpret
from sw.ir.formats import FixedFormat
from sw.ir.interpret import MAX_TABLE_BITS
from sw.ir.program import MAX_WIRE_BITS, Instr, Op, Program

Wire = int
"""A wire is the index of the instruction that makes it."""


class Builder:
    """Collects instructions; equal ones are shared and those on constants are computed at once.

    Every wire gets a range by interval arithmetic; ``build`` then narrows the ranges to what really
    occurs over all input codes, so that every wire of the finished program has its minimal width.

    >>> b = Builder(FixedFormat.parse("s4.0"))
    >>> p = b.build(b.clamp(b.add(b.x, b.const(3)), -4, 3), FixedFormat.parse("s3.0"))
    >>> interpret.table(p).tolist()
    [-4, -4, -3, -2, -1, 0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3]
    """

    def __init__(self, input: FixedFormat) -> None:
        self.input = input
        self._instrs: list[Instr] = []
        self._known: dict[tuple[Op, tuple[int, ...], tuple[int, ...]], Wire] = {}
        self._tables: list[tuple[int, ...]] = []
        self.x = self._emit(Op.INPUT, (), (), input.min_raw, input.max_raw)

    def range(self, wire: Wire) -> tuple[int, int]:
        """Smallest and largest value that the wire can take, by interval arithmetic."""
        return self._instrs[wire].lo, self._instrs[wire].hi

    def const(self, value: int) -> Wire:
        return self._emit(Op.CONST, (), (int(value),), int(value), int(value))

    def add(self, a: Wire, b: Wire) -> Wire:
        if self._is_const(a, 0):
            return b
        if self._is_const(b, 0):
            return a
        (alo, ahi), (blo, bhi) = self.range(a), self.range(b)
        return self._emit(Op.ADD, (min(a, b), max(a, b)), (), alo + blo, ahi + bhi)

    def sub(self, a: Wire, b: Wire) -> Wire:
        if self._is_const(b, 0):
            return a
        (alo, ahi), (blo, bhi) = self.range(a), self.range(b)
        return self._emit(Op.SUB, (a, b), (), alo - bhi, ahi - blo)

    def neg(self, a: Wire) -> Wire:
        return self.sub(self.const(0), a)

    def mul(self, a: Wire, b: Wire) -> Wire:
        if self._is_const(a, 1):
            return b
        if self._is_const(b, 1):
            return a
        (alo, ahi), (blo, bhi) = self.range(a), self.range(b)
        corners = (alo * blo, alo * bhi, ahi * blo, ahi * bhi)
        return self._emit(Op.MUL, (min(a, b), max(a, b)), (), min(corners), max(corners))

    def abs(self, a: Wire) -> Wire:
        lo, hi = self.range(a)
        if lo >= 0:
            return a
        return self._emit(Op.ABS, (a,), (), max(0, -hi), max(-lo, hi))

    def shl(self, a: Wire, amount: int) -> Wire:
        lo, hi = self.range(a)
        return a if amount == 0 else self._emit(Op.SHL, (a,), (amount,), lo << amount, hi << amount)

    def shr(self, a: Wire, amount: int) -> Wire:
        """floor(a / 2^amount); an amount beyond the wire's bits leaves its sign."""
        amount = min(amount, MAX_WIRE_BITS)
        lo, hi = self.range(a)
        return a if amount == 0 else self._emit(Op.SHR, (a,), (amount,), lo >> amount, hi >> amount)

    def low(self, a: Wire, amount: int) -> Wire:
        """a mod 2^amount, never negative."""
        lo, hi = self.range(a)
        top = (1 << amount) - 1
        return a if 0 <= lo and hi <= top else self._emit(Op.LOW, (a,), (amount,), 0, top)

    def min(self, a: Wire, b: Wire) -> Wire:
        (alo, ahi), (blo, bhi) = self.range(a), self.range(b)
        if ahi <= blo:
            return a
        if bhi <= alo:
            return b
        return self._emit(Op.MIN, (min(a, b), max(a, b)), (), min(alo, blo), min(ahi, bhi))

    def max(self, a: Wire, b: Wire) -> Wire:
        (alo, ahi), (blo, bhi) = self.range(a), self.range(b)
        if alo >= bhi:
            return a
        if blo >= ahi:
            return b
        return self._emit(Op.MAX, (min(a, b), max(a, b)), (), max(alo, blo), max(ahi, bhi))

    def clamp(self, a: Wire, lo: int, hi: int) -> Wire:
        """a limited to [lo, hi]; nothing at all where it cannot leave that range."""
        alo, ahi = self.range(a)
        if lo <= alo and ahi <= hi:
            return a
        new = min(max(alo, lo), hi), min(max(ahi, lo), hi)
        return self._emit(Op.CLAMP, (a,), (int(lo), int(hi)), *new)

    def lt(self, a: Wire, b: Wire) -> Wire:
        (alo, ahi), (blo, bhi) = self.range(a), self.range(b)
        if ahi < blo:
            return self.const(1)
        if alo >= bhi:
            return self.const(0)
        return self._emit(Op.LT, (a, b), (), 0, 1)

    def eq(self, a: Wire, b: Wire) -> Wire:
        return self._emit(Op.EQ, (min(a, b), max(a, b)), (), 0, 1)

    def select(self, condition: Wire, then: Wire, otherwise: Wire) -> Wire:
        if self.range(condition) == (0, 0):
            return otherwise
        (blo, bhi), (clo, chi) = self.range(then), self.range(otherwise)
        return self._emit(
            Op.SELECT, (condition, then, otherwise), (), min(blo, clo), max(bhi, chi)
        )

    def lookup(self, address: Wire, values: Sequence[int]) -> Wire:
        """values[address]; the address's range must lie within the table (``clamp`` or ``low`` it)."""
        content = tuple(int(v) for v in values)
        if content not in self._tables:
            self._tables.append(content)
        index = self._tables.index(content)
        return self._emit(Op.LOOKUP, (address,), (index,), min(content), max(content))

    def build(self, result: Wire, output: FixedFormat) -> Program:
        """The finished program: dead wires dropped, ranges measured over all input codes.

        Wires are narrowed by running every input code, so the ranges are exact, where the input has
        at most 20 bits; above that they stay as interval arithmetic left them.

        Raises:
            InputError: The result can leave the output format.
        """
        instrs, tables = _live(self._instrs, self._tables, result)
        if self.input.width <= MAX_TABLE_BITS:
            instrs = _measured(self.input, instrs, tables)
        return Program(self.input, output, tuple(instrs), tuple(tables))

    def _is_const(self, wire: Wire, value: int) -> bool:
        return self.range(wire) == (value, value)

    def _emit(self, op: Op, args: tuple[Wire, ...], params: tuple[int, ...], lo: int, hi: int) -> Wire:
        if op is not Op.CONST and args and all(self._instrs[a].op is Op.CONST for a in args):
            scratch = [self._instrs[a].lo for a in args]
            return self.const(interpret.apply(Instr(op, args, params, lo, hi), scratch, self._tables))
        key = (op, args, params)
        if key not in self._known:
            self._instrs.append(Instr(op, args, params, lo, hi))
            self._known[key] = len(self._instrs) - 1
        return self._known[key]


def _live(
    instrs: Sequence[Instr], tables: Sequence[tuple[int, ...]], result: Wire
) -> tuple[list[Instr], list[tuple[int, ...]]]:
    """The instructions that the result needs, renumbered so that the result is the last."""
    needed = {result}
    for index in range(result, -1, -1):
        if index in needed:
            needed.update(instrs[index].args)
    order = sorted(needed)
    place = {old: new for new, old in enumerate(order)}
    used = sorted({instrs[i].params[0] for i in order if instrs[i].op is Op.LOOKUP})
    kept: list[Instr] = []
    for old in order:
        instr = instrs[old]
        params = (used.index(instr.params[0]),) if instr.op is Op.LOOKUP else instr.params
        kept.append(replace(instr, args=tuple(place[a] for a in instr.args), params=params))
    return kept, [tables[t] for t in used]


def _measured(
    input: FixedFormat, instrs: list[Instr], tables: list[tuple[int, ...]]
) -> list[Instr]:
    codes = input.codes()
    arrays = [np.asarray(t, dtype=np.int64) for t in tables]
    values = interpret.values_of(instrs, arrays, codes)
    return [
        replace(instr, lo=int(np.min(v)), hi=int(np.max(v)))
        for instr, v in zip(instrs, values, strict=True)
    ]
