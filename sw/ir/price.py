"""What a Program should cost: 6-input LUTs of one lane's datapath, without synthesis.

The costs of single operations are measured (``benchmarks/lut_costs.py``).
"""

from __future__ import annotations

import numpy as np

from sw.ir.formats import IntArray
from sw.ir.forms import joined
from sw.ir.program import Instr, Op, Program

_LUT_INPUTS = 6
_OVERRIDE_BITS = 4
_FREE_EXCESS = 3
"""Bits from a clamp's sign upwards that fit the LUT of each of its result bits."""


STREAM_CONTROL = 1.0
"""What valid, ready and last add to a unit."""


def lut6(program: Program) -> float:
    """Predicted 6-input LUTs of a one-lane unit for the program, stream control included.

    >>> from sw.ir.build import Builder
    >>> from sw.ir.formats import FixedFormat
    >>> b = Builder(FixedFormat.parse("s8.0"))
    >>> lut6(b.build(b.add(b.x, b.shl(b.x, 1)), FixedFormat.parse("s10.0")))
    10.0
    """
    return STREAM_CONTROL + float(sum(_cost(program, index) for index in range(len(program.instrs))))


def _cost(program: Program, index: int) -> float:
    instr = program.instrs[index]
    if joined(program.instrs, index):
        return 0.0
    args = [program.instrs[a] for a in instr.args]
    widths = [a.width for a in args]
    match instr.op:
        case Op.ADD:
            return _adder(args, instr)
        case Op.SUB:
            return _adder(args, instr) + (0.0 if _constant(args) else 2.0)
        case Op.MUL:
            return max(1.0, 1.75 * widths[0] * widths[1] - 5)
        case Op.ABS | Op.NEGATE:
            return float(widths[-1])
        case Op.MIN | Op.MAX:
            return _comparison(args) + instr.width
        case Op.CLAMP:
            return _clamp(args[0], instr)
        case Op.LT | Op.EQ:
            return _comparison(args)
        case Op.SELECT:
            return float(instr.width)
        case Op.LOOKUP if _overrides(program, index):
            return 0.0
        case Op.LOOKUP:
            return table_lut6(program.tables[instr.params[0]], widths[0])
        case _:
            return 0.0


def _constant(args: list[Instr]) -> bool:
    return any(a.op is Op.CONST for a in args)


def _overrides(program: Program, index: int) -> bool:
    """Whether a tiny table only says what a select takes where its address is not 0: one LUT does both."""
    address = program.instrs[index].args[0]
    return program.instrs[address].width <= _OVERRIDE_BITS and any(
        i.op is Op.SELECT and i.args[:2] == (address, index) for i in program.instrs[index + 1 :]
    )


def _clamp(arg: Instr, instr: Instr) -> float:
    """A multiplexer a bit, and what tells that the upper bits differ; other limits are compared with."""
    excess = 1 + arg.width - instr.width
    beyond = max(0, excess - _FREE_EXCESS)
    is_power = instr.hi & (instr.hi + 1) == 0 and instr.lo in (0, ~instr.hi)
    return instr.width + 0.75 * beyond if is_power else instr.width + 4.5 + 0.5 * beyond


def _comparison(args: list[Instr]) -> float:
    return max(1.0, max(a.width for a in args) * (0.33 if _constant(args) else 0.72))


def _adder(args: list[Instr], instr: Instr) -> float:
    """One LUT a bit that two operands reach; a constant or a single bit rides on the carry chain."""
    if _constant(args) or any(a.width == 1 for a in args):
        return 3.0 if args[0].op is not Op.CONST or args[0].lo else float(instr.width)
    shifts = [a.params[0] if a.op is Op.SHL else 0 for a in args]
    return float(max(1, instr.width - max(shifts)))


def table_lut6(values: tuple[int, ...], address_bits: int) -> float:
    """LUTs of a table: distinct 64-entry pieces of each output bit, and the multiplexers between them."""
    entries = np.asarray(values, dtype=np.int64)
    low, high = int(entries.min()), int(entries.max())
    num_bits = max(high.bit_length(), (-low - 1).bit_length() + 1 if low < 0 else 0)
    planes = (entries[None, :] >> np.arange(num_bits)[:, None]) & 1
    planes = planes[planes.min(axis=1) != planes.max(axis=1)]
    if address_bits <= _LUT_INPUTS:
        return float(len(planes))
    return float(sum(_plane_lut6(plane) for plane in planes))


def _plane_lut6(plane: IntArray) -> float:
    """One output bit of a table of more than 64 entries."""
    block = 1 << _LUT_INPUTS
    padded = np.resize(plane, -(-len(plane) // block) * block).reshape(-1, block)
    pieces = np.unique(padded, axis=0)
    logic = int(np.sum(pieces.min(axis=1) != pieces.max(axis=1)))
    # Neighbouring pieces share logic, and the multiplexers of a slice come for nothing.
    return logic if len(padded) == 1 else 0.8 * logic + len(padded) / 8
