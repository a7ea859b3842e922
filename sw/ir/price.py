"""What a Program should cost: 6-input LUTs of one lane's datapath, without synthesis.

The costs of single operations are measured (``benchmarks/lut_costs.py``).
"""

from __future__ import annotations

import numpy as np

from sw.ir.program import Instr, Op, Program

_LUT_INPUTS = 6


def lut6(program: Program) -> float:
    """Predicted 6-input LUTs of one lane of the program's unit.

    >>> from sw.ir.build import Builder
    >>> from sw.ir.formats import FixedFormat
    >>> b = Builder(FixedFormat.parse("s8.0"))
    >>> lut6(b.build(b.add(b.x, b.const(1)), FixedFormat.parse("s9.0")))
    9.0
    """
    return float(sum(_cost(program, instr) for instr in program.instrs))


def _cost(program: Program, instr: Instr) -> float:
    args = [program.instrs[a] for a in instr.args]
    match instr.op:
        case Op.ADD | Op.SUB:
            return _adder(args, instr)
        case Op.MUL:
            return 1.1 * args[0].width * args[1].width
        case Op.ABS:
            return 1.0 * args[0].width
        case Op.MIN | Op.MAX:
            return 1.5 * max(a.width for a in args)
        case Op.CLAMP:
            return instr.width + 0.4 * args[0].width
        case Op.LT:
            return 0.25 * max(a.width for a in args) if _constant(args) else 0.5 * max(a.width for a in args)
        case Op.EQ:
            return 0.3 * max(a.width for a in args)
        case Op.SELECT:
            return 0.7 * instr.width
        case Op.LOOKUP:
            return table_lut6(program.tables[instr.params[0]], args[0].width)
        case _:
            return 0.0


def _constant(args: list[Instr]) -> bool:
    return any(a.op is Op.CONST for a in args)


def _adder(args: list[Instr], instr: Instr) -> float:
    """One LUT a bit; bits that only one operand reaches from below are wires."""
    shifts = [a.params[0] if a.op is Op.SHL else 0 for a in args]
    return float(max(1, instr.width - max(shifts)))


def table_lut6(values: tuple[int, ...], address_bits: int) -> float:
    """LUTs of a table: distinct 64-entry pieces of each output bit, and the multiplexers between them."""
    entries = np.asarray(values, dtype=np.int64)
    total = 0.0
    block = 1 << min(address_bits, _LUT_INPUTS)
    for bit in range(max(1, int(np.ptp(entries)).bit_length() + 1)):
        plane = ((entries >> bit) & 1).astype(np.uint8)
        if plane.min() == plane.max():
            continue
        padded = np.resize(plane, -(-len(plane) // block) * block).reshape(-1, block)
        pieces = np.unique(padded, axis=0)
        logic = int(np.sum(pieces.min(axis=1) != pieces.max(axis=1)))
        total += logic + len(padded) / 4 * (len(padded) > 1) * (logic > 0)
    return total
