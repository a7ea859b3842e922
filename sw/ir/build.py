"""Building Programs: one method an operation, wires shared, constants folded, ranges measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sw.ir import interpret
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.interpret import MAX_TABLE_BITS
from sw.ir.program import MAX_WIRE_BITS, Instr, Op, Program

Wire = int
"""A wire is the index of the instruction that makes it."""


class Builder:
    """Collects instructions; equal ones are shared and those on constants are computed at once.

    Every wire is evaluated on all input codes while it is built, so its range is what really occurs,
    operations that cannot do anything there (a clamp inside its limits) vanish, and every wire of the
    finished program has its minimal width.

    Raises:
        InputError: The input has more than 20 bits, or a wire would need more than 62.

    >>> b = Builder(FixedFormat.parse("s4.0"))
    >>> p = b.build(b.clamp(b.add(b.x, b.const(3)), -4, 3), FixedFormat.parse("s3.0"))
    >>> interpret.table(p).tolist()
    [-4, -4, -3, -2, -1, 0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3]
    """

    def __init__(self, input: FixedFormat) -> None:
        if input.width > MAX_TABLE_BITS:
            raise InputError(
                f"input of a program must have at most {MAX_TABLE_BITS} bits to be built, not {input.width}"
            )
        self.input = input
        self._instrs: list[Instr] = []
        self._values: list[IntArray | int] = []
        self._known: dict[tuple[Op, tuple[int, ...], tuple[int, ...]], Wire] = {}
        self._tables: list[tuple[int, ...]] = []
        self._arrays: list[IntArray] = []
        self.x = self._append(Instr(Op.INPUT, (), (), input.min_raw, input.max_raw), input.codes())

    def range(self, wire: Wire) -> tuple[int, int]:
        """Smallest and largest value that the wire takes over all input codes."""
        return self._instrs[wire].lo, self._instrs[wire].hi

    def width(self, wire: Wire) -> int:
        """Bits of the narrowest signal that holds the wire."""
        return self._instrs[wire].width

    def values(self, wire: Wire) -> IntArray:
        """The wire's value at every input code, in rising order of the code."""
        return np.broadcast_to(np.asarray(self._values[wire], dtype=np.int64), 1 << self.input.width)

    def const(self, value: int) -> Wire:
        key = (Op.CONST, (), (int(value),))
        if key not in self._known:
            self._known[key] = self._append(Instr(*key, int(value), int(value)), int(value))
        return self._known[key]

    def add(self, a: Wire, b: Wire) -> Wire:
        if self._is_const(a, 0):
            return b
        if self._is_const(b, 0):
            return a
        return self._emit(Op.ADD, min(a, b), max(a, b))

    def sub(self, a: Wire, b: Wire) -> Wire:
        return a if self._is_const(b, 0) else self._emit(Op.SUB, a, b)

    def neg(self, a: Wire) -> Wire:
        return self.sub(self.const(0), a)

    def mul(self, a: Wire, b: Wire) -> Wire:
        if self._is_const(a, 1):
            return b
        if self._is_const(b, 1):
            return a
        for flag, other in ((a, b), (b, a)):
            if self.range(flag) == (0, 1):
                return self.select(flag, other, self.const(0))
        return self._emit(Op.MUL, min(a, b), max(a, b))

    def abs(self, a: Wire) -> Wire:
        return a if self.range(a)[0] >= 0 else self._emit(Op.ABS, a)

    def shl(self, a: Wire, amount: int) -> Wire:
        return a if amount == 0 else self._emit(Op.SHL, a, params=(amount,))

    def shr(self, a: Wire, amount: int) -> Wire:
        """floor(a / 2^amount); an amount beyond the wire's bits leaves its sign."""
        return a if amount == 0 else self._emit(Op.SHR, a, params=(min(amount, MAX_WIRE_BITS),))

    def low(self, a: Wire, amount: int) -> Wire:
        """A mod 2^amount, never negative."""
        lo, hi = self.range(a)
        return a if lo >= 0 and hi < 1 << amount else self._emit(Op.LOW, a, params=(amount,))

    def min(self, a: Wire, b: Wire) -> Wire:
        if self.range(a)[1] <= self.range(b)[0]:
            return a
        if self.range(b)[1] <= self.range(a)[0]:
            return b
        return self._emit(Op.MIN, min(a, b), max(a, b))

    def max(self, a: Wire, b: Wire) -> Wire:
        if self.range(a)[0] >= self.range(b)[1]:
            return a
        if self.range(b)[0] >= self.range(a)[1]:
            return b
        return self._emit(Op.MAX, min(a, b), max(a, b))

    def clamp(self, a: Wire, lo: int, hi: int) -> Wire:
        """A limited to [lo, hi]; nothing at all where it does not leave that range."""
        alo, ahi = self.range(a)
        return a if lo <= alo and ahi <= hi else self._emit(Op.CLAMP, a, params=(int(lo), int(hi)))

    def lt(self, a: Wire, b: Wire) -> Wire:
        return self._emit(Op.LT, a, b)

    def eq(self, a: Wire, b: Wire) -> Wire:
        return self._emit(Op.EQ, min(a, b), max(a, b))

    def negate(self, condition: Wire, a: Wire) -> Wire:
        """-a where the condition is not 0, else a."""
        return a if self.range(condition) == (0, 0) else self._emit(Op.NEGATE, condition, a)

    def select(self, condition: Wire, then: Wire, otherwise: Wire) -> Wire:
        if self.range(condition) == (0, 0):
            return otherwise
        return self._emit(Op.SELECT, condition, then, otherwise)

    def lookup(self, address: Wire, values: npt.ArrayLike) -> Wire:
        """values[address]; the address's range must lie within the table (``clamp`` or ``low`` it)."""
        content = tuple(int(v) for v in np.asarray(values))
        if content not in self._tables:
            self._tables.append(content)
            self._arrays.append(np.asarray(content, dtype=np.int64))
        return self._emit(Op.LOOKUP, address, params=(self._tables.index(content),))

    def include(self, program: Program) -> Wire:
        """The result of a whole program of the same input."""
        wires: list[Wire] = []
        for instr in program.instrs:
            if instr.op is Op.LOOKUP:
                wires.append(self.lookup(wires[instr.args[0]], program.tables[instr.params[0]]))
            else:
                wires.append(self.copy(instr, wires))
        return wires[-1]

    def copy(self, instr: Instr, wires: Sequence[Wire]) -> Wire:
        """An instruction of another program, no look-up; ``wires`` are those that stand for its wires."""
        if instr.op is Op.INPUT:
            return self.x
        if instr.op is Op.CONST:
            return self.const(instr.params[0])
        return self._emit(instr.op, *(wires[a] for a in instr.args), params=instr.params)

    def build(self, result: Wire, output: FixedFormat) -> Program:
        """The finished program, without the wires that its result does not need.

        Raises:
            InputError: The result leaves the output format.
        """
        instrs, tables = _live(self._instrs, self._tables, result)
        return Program(self.input, output, tuple(instrs), tuple(tables))

    def _is_const(self, wire: Wire, value: int) -> bool:
        return self.range(wire) == (value, value)

    def _emit(self, op: Op, *args: Wire, params: tuple[int, ...] = ()) -> Wire:
        key = (op, args, params)
        if key in self._known:
            return self._known[key]
        _check_width(op, [self.range(a) for a in args], params)
        draft = Instr(op, args, params, 0, 0)
        value = interpret.apply(draft, [self._values[a] for a in args], self._arrays)
        lo, hi = int(np.min(value)), int(np.max(value))
        if lo == hi:
            return self.const(lo)
        self._known[key] = self._append(replace(draft, lo=lo, hi=hi), value)
        return self._known[key]

    def _append(self, instr: Instr, value: IntArray | int) -> Wire:
        self._instrs.append(instr)
        self._values.append(value)
        return len(self._instrs) - 1


def _check_width(op: Op, ranges: Sequence[tuple[int, int]], params: tuple[int, ...]) -> None:
    """Refuse what int64 could not hold, before it is computed."""
    sizes = [max(abs(lo), abs(hi)) for lo, hi in ranges]
    match op:
        case Op.MUL:
            largest = sizes[0] * sizes[1]
        case Op.SHL:
            largest = sizes[0] << params[0]
        case Op.ADD | Op.SUB:
            largest = sizes[0] + sizes[1]
        case _:
            return
    if largest.bit_length() + 1 > MAX_WIRE_BITS:
        raise InputError(
            f"every wire of a program must fit {MAX_WIRE_BITS} bits, not {largest.bit_length() + 1} ({op})"
        )


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
