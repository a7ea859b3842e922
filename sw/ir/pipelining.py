"""A Program and its schedule for a clock: what is too slow for one period is cut so that registers fit in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sw.ir.build import Builder, Wire
from sw.ir.delays import (
    DELAYS,
    Terms,
    address_load,
    delay_ns,
    nanoseconds,
    product_terms,
    register_ns,
    table_terms,
)
from sw.ir.errors import InputError
from sw.ir.interpret import MAX_TABLE_BITS
from sw.ir.program import Op, Program
from sw.ir.schedule import Schedule, block_tables, check_clock, plan, plan_latency

MIN_PIECE_BITS = 4
"""Pieces of fewer entries would be smaller than any LUT."""


DEFAULT_MHZ = 200.0
SHARES = (0.0, 0.25, 0.35, 0.5, 0.7)
"""Of the period with whole operations: for which they are cut where the number of stages is given."""


@dataclass(frozen=True, slots=True)
class Pipelining:
    """What decides where registers go.

    Args:
        fmax_mhz: Clock that the delay model is to allow; None: ``DEFAULT_MHZ``, or with a latency as fast as
            it gets with operations left whole.
        latency: Register stages, or None for as few as the clock needs.
        family: Whose delays count: a key of ``sw.ir.delays.DELAYS``.
        block_memory: Take large tables from block memory.
    """

    fmax_mhz: float | None = None
    latency: int | None = None
    family: str = "ecp5"
    block_memory: bool = False

    @property
    def clock_mhz(self) -> float:
        """The clock asked for, or the default."""
        return DEFAULT_MHZ if self.fmax_mhz is None else self.fmax_mhz

    def schedule(self, program: Program) -> Schedule:
        """The program as it is.

        Raises:
            InputError: Clock or latency is out of range, or the family is unknown.
        """
        check_clock(self.clock_mhz)
        if self.family not in DELAYS:
            raise InputError(f"family must be one of {', '.join(DELAYS)}, not '{self.family}'")
        if self.latency is not None:
            return plan_latency(program, self.latency, family=self.family, block_memory=self.block_memory)
        return plan(program, self.clock_mhz, family=self.family, block_memory=self.block_memory)


DEFAULT = Pipelining()


def pipelined(program: Program, wanted: Pipelining) -> tuple[Program, Schedule]:
    """An equal program whose schedule reaches the clock, where the delay model knows one.

    Operations that take longer than a period by themselves are cut into smaller ones, which a register can
    stand between; tables in block memory stay whole. Where that makes no schedule faster, the program stays
    as it is, as it does for a latency without a clock.

    Raises:
        InputError: Clock or latency is out of range.
    """
    whole = wanted.schedule(program)
    best = program, whole
    if wanted.latency is not None and wanted.fmax_mhz is None:
        return best
    kept = block_tables(program) if wanted.block_memory else frozenset()
    for aim_ns in _aims_ns(wanted, whole):
        cut = cut_to(program, aim_ns - register_ns(wanted.family), wanted.family, kept)
        schedule = wanted.schedule(cut)
        if schedule.period_ns < best[1].period_ns:
            best = cut, schedule
    return best


def _aims_ns(wanted: Pipelining, whole: Schedule) -> list[float]:
    """Periods to cut operations for: the clock's, and longer ones where given stages may not allow it."""
    period_ns = 1000.0 / wanted.clock_mhz
    if whole.period_ns <= period_ns:
        return []
    shares = (0.0,) if wanted.latency is None else SHARES
    return sorted({max(period_ns, share * whole.period_ns) for share in shares}, reverse=True)


def cut_to(program: Program, budget_ns: float, family: str, kept: frozenset[int] = frozenset()) -> Program:
    """The same map in operations that take no longer than the budget, as far as they can be cut.

    Args:
        kept: Look-ups that stay whole.
    """
    b = Builder(program.input)
    wires: list[Wire] = []
    for index, instr in enumerate(program.instrs):
        args = [wires[a] for a in instr.args]
        if instr.op is Op.LOOKUP and index in kept:
            wires.append(b.lookup(args[0], program.tables[instr.params[0]]))
        elif instr.op is Op.LOOKUP:
            piece = partial(_piece_terms, program, instr.args[0])
            bits = _most(budget_ns, family, piece, MIN_PIECE_BITS, MAX_TABLE_BITS)
            wires.append(_looked_up(b, args[0], program.tables[instr.params[0]], bits))
        elif instr.op not in _SLOW or delay_ns(program.instrs, index, family) <= budget_ns:
            wires.append(b.copy(instr, wires))
        else:
            wires.append(_SLOW[instr.op](b, args, instr.params, partial(_most, budget_ns, family)))
    return b.build(wires[-1], program.output)


def _negation(b: Builder, condition: Wire, value: Wire) -> Wire:
    """Inverted bits, and one added: a register fits between."""
    flag = b.select(condition, b.const(1), b.const(0)) if b.range(condition) != (0, 1) else condition
    return b.add(b.select(condition, b.sub(b.const(-1), value), value), flag)


def _limited(b: Builder, value: Wire, low: int, high: int) -> Wire:
    """Both comparisons first."""
    above, below = b.lt(b.const(high), value), b.lt(value, b.const(low))
    return b.select(above, b.const(high), b.select(below, b.const(low), value))


def _compared(b: Builder, first: Wire, second: Wire, *, smaller: bool) -> Wire:
    is_less = b.lt(first, second)
    return b.select(is_less, first, second) if smaller else b.select(is_less, second, first)


Largest = Callable[[Callable[[int], Terms], int, int], int]
"""Of sizes from one to another the largest whose terms fit the budget."""
Expand = Callable[[Builder, Sequence[Wire], Sequence[int], Largest], Wire]
_SLOW: dict[Op, Expand] = {
    Op.MUL: lambda b, args, _, largest: _product(b, args[0], args[1], largest),
    Op.NEGATE: lambda b, args, *_: _negation(b, args[0], args[1]),
    Op.ABS: lambda b, args, *_: _negation(b, b.lt(args[0], b.const(0)), args[0]),
    Op.CLAMP: lambda b, args, limits, _: _limited(b, args[0], limits[0], limits[1]),
    Op.MIN: lambda b, args, *_: _compared(b, args[0], args[1], smaller=True),
    Op.MAX: lambda b, args, *_: _compared(b, args[0], args[1], smaller=False),
}
"""Operations of several steps, and the steps."""


def _most(budget_ns: float, family: str, of: Callable[[int], Terms], least: int, most: int) -> int:
    """The largest size whose delay fits; ``least`` where none does."""
    fitting = [n for n in range(least, most + 1) if nanoseconds(of(n), family) <= budget_ns]
    return max(fitting, default=least)


def _piece_terms(program: Program, address: int, bits: int) -> Terms:
    """Of a look-up in a piece of a table; the other pieces are looked up with the same bits."""
    others = max(0, program.instrs[address].width - bits)
    return table_terms(bits, address_load(program.instrs, address) << others)


def _product(b: Builder, left: Wire, right: Wire, largest: Largest) -> Wire:
    """The narrower factor in parts, whose products are added up as a tree."""
    narrow, wide = sorted((left, right), key=b.width)
    width = b.width(narrow)
    size = largest(lambda n: product_terms(n, b.width(wide)), 1, width - 1)
    parts = []
    for start in range(0, width, size):
        upper = b.shr(narrow, start)
        part = upper if start + size >= width else b.low(upper, size)
        parts.append(b.shl(b.mul(part, wide), start))
    while len(parts) > 1:
        pairs = range(0, len(parts), 2)
        parts = [b.add(*parts[k : k + 2]) if k + 1 < len(parts) else parts[k] for k in pairs]
    return parts[0]


def _looked_up(b: Builder, address: Wire, values: Sequence[int], piece_bits: int) -> Wire:
    """One piece for each value of the address's upper bits; equal pieces are shared by the builder."""
    size = 1 << piece_bits
    if b.range(address)[1] < size:
        return b.lookup(address, values)
    low = b.low(address, piece_bits)
    pieces = []
    for start in range(0, b.range(address)[1] + 1, size):
        piece = list(values[start : start + size])
        piece += [piece[-1]] * (size - len(piece))
        pieces.append(b.lookup(low, piece) if len(set(piece)) > 1 else b.const(piece[0]))
    bit = piece_bits
    while len(pieces) > 1:
        upper = b.low(b.shr(address, bit), 1)
        pieces = [
            pieces[k] if k + 1 == len(pieces) else _chosen(b, upper, pieces[k + 1], pieces[k])
            for k in range(0, len(pieces), 2)
        ]
        bit += 1
    return pieces[0]


def _chosen(b: Builder, condition: Wire, then: Wire, otherwise: Wire) -> Wire:
    return then if then == otherwise else b.select(condition, then, otherwise)
