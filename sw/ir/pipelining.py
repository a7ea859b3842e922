"""A Program and its schedule for a clock: tables that are too wide for one period are read in two steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sw.ir.build import Builder, Wire
from sw.ir.forms import is_constant
from sw.ir.program import Op, Program
from sw.ir.schedule import Schedule, plan, plan_latency

MIN_PIECE_BITS = 4
"""Pieces of fewer entries would be smaller than any LUT."""


@dataclass(frozen=True, slots=True)
class Pipelining:
    """What decides where registers go.

    Args:
        fmax_mhz: Clock that the delay model is to allow.
        latency: Register stages, or None for as few as the clock needs.
        family: Whose delays count: a key of ``sw.ir.delays.DELAYS``.
        block_memory: Take large tables from block memory.
    """

    fmax_mhz: float = 200.0
    latency: int | None = None
    family: str = "ecp5"
    block_memory: bool = False

    def schedule(self, program: Program) -> Schedule:
        """The program as it is.

        Raises:
            InputError: Clock or latency is out of range.
        """
        if self.latency is not None:
            return plan_latency(program, self.latency, family=self.family, block_memory=self.block_memory)
        return plan(program, self.fmax_mhz, family=self.family, block_memory=self.block_memory)


def pipelined(program: Program, wanted: Pipelining) -> tuple[Program, Schedule]:
    """An equal program whose schedule reaches the clock, where the delay model knows one.

    Tables are cut into pieces of fewer and fewer address bits, with a multiplexer behind them, as long as
    one of them limits the clock; if the clock is out of reach for other reasons, the first of the fastest
    schedules is taken.

    Raises:
        InputError: Clock or latency is out of range.
    """
    best = program, wanted.schedule(program)
    if wanted.block_memory or wanted.latency is not None:
        return best
    period_ns = 1000.0 / wanted.fmax_mhz
    for bits in range(_widest_table(program) - 1, MIN_PIECE_BITS - 1, -1):
        if best[1].period_ns <= period_ns:
            break
        cut = cut_tables(program, bits)
        schedule = wanted.schedule(cut)
        if schedule.period_ns < best[1].period_ns:
            best = cut, schedule
    return best


def cut_tables(program: Program, address_bits: int) -> Program:
    """The same map with larger tables cut into pieces of ``address_bits``, and multiplexers behind them."""
    b = Builder(program.input)
    wires: list[Wire] = []
    for instr in program.instrs:
        if instr.op is Op.LOOKUP:
            wires.append(_looked_up(b, wires[instr.args[0]], program.tables[instr.params[0]], address_bits))
        else:
            wires.append(b.copy(instr, wires))
    return b.build(wires[-1], program.output)


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


def _widest_table(program: Program) -> int:
    addresses = [
        program.instrs[i.args[0]] for i in program.instrs if i.op is Op.LOOKUP and not is_constant(i)
    ]
    return max((a.width for a in addresses), default=0)
