"""How long an instruction takes in the LUTs of a family: terms that a fit turns into nanoseconds.

The constants are fitted to place and route of units of one operation (``benchmarks/delays.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sw.ir.forms import complements, is_constant, joined, limits_to_bits, reads_sign
from sw.ir.program import Instr, Op

TERMS = (
    "lut",  # one LUT4 with the wire to it
    "carry",  # getting on and off a carry chain
    "carry_bit",  # one more bit of it
    "compare",  # getting the last carry back into logic
    "sign",  # what a magnitude or a negation has in front of its carry chain
    "table_bit",  # one more address bit of a table, beyond the four of a LUT,
    "table_far",  # and beyond seven, where the multiplexers beside the LUTs end
    "table_wide",  # twice as many output bits, beyond eight, that one address drives
    "product",  # a level of a multiplier's tree of adders
)
Terms = dict[str, float]

DELAYS: dict[str, dict[str, float]] = {
    "ecp5": {
        **{"register": 1.482, "lut": 0.651, "carry": 0.988, "carry_bit": 0.041},
        **{"compare": 0.446, "sign": 0.887, "table_bit": 0.394, "table_far": 1.009},
        **{"table_wide": 0.102, "product": 0.863},
    },
    "ice40": {
        **{"register": 2.337, "lut": 0.543, "carry": 0.53, "carry_bit": 0.124},
        **{"compare": 0.752, "sign": 0.132, "table_bit": 0.851, "table_far": 0.733},
        **{"table_wide": 0.598, "product": 0.765},
    },
}
"""Family -> nanoseconds of each term and of a register, with the wires: Lattice ECP5 of speed grade 6, iCE40
HX."""


SPREAD = 1.3
"""How much longer wires make a whole unit's paths than those of one operation: with this much, every unit of
``make bench-units`` reaches the clock that it is planned for."""


def delay_ns(instrs: Sequence[Instr], index: int, family: str = "ecp5") -> float:
    """Estimated delay of one instruction, wires included; 0 for what is only wiring."""
    return nanoseconds(terms(instrs, index), family)


def nanoseconds(counts: Terms, family: str) -> float:
    """What terms take in a family."""
    costs = DELAYS[family]
    return SPREAD * sum(count * costs[name] for name, count in counts.items())


def register_ns(family: str) -> float:
    """Clock to output, set-up, and the wire to the first LUT."""
    return SPREAD * DELAYS[family]["register"]


def terms(instrs: Sequence[Instr], index: int) -> Terms:
    """How often each term is on an instruction's longest path."""
    instr = instrs[index]
    if is_constant(instr) or joined(instrs, index) or complements(instrs, index):
        return {}
    args = [instrs[a] for a in instr.args]
    match instr.op:
        case Op.ADD | Op.SUB:
            return _carry(instr.width)
        case Op.ABS | Op.NEGATE:
            return {**_carry(instr.width), "sign": 1}
        case Op.MUL:
            return product_terms(args[0].width, args[1].width)
        case Op.LT:
            return {} if reads_sign(instr, args) else _compare(args)
        case Op.MIN | Op.MAX:
            return _compared(args, luts=1)
        case Op.CLAMP:
            return _compared([args[0]], luts=0 if limits_to_bits(instr) else 1)
        case Op.EQ:
            return {"lut": _tree(2 * max(a.width for a in args))}
        case Op.SELECT:
            return {"lut": 1 + _tree(args[0].width) - (args[0].width == 1)}
        case Op.LOOKUP:
            return table_terms(args[0].width, address_load(instrs, instr.args[0]))
        case _:
            return {}


def _carry(width: int) -> Terms:
    return {"carry": 1, "carry_bit": width}


def _compared(args: Sequence[Instr], *, luts: int) -> Terms:
    """A comparison and so many LUTs behind it."""
    found = _compare(args)
    return {**found, "lut": found.get("lut", 0) + luts}


def _compare(args: Sequence[Instr]) -> Terms:
    """A carry chain, or a tree that halves the width where all but one operand are constants."""
    moving = [a.width for a in args if not is_constant(a)]
    width = max(moving, default=1)
    if len(moving) < 2:
        return {"lut": 1 + max(0, math.ceil(math.log2(width / 4)))}
    return {**_carry(width), "compare": 1}


def table_terms(address_bits: int, output_bits: int) -> Terms:
    """Of a look-up; the output bits are those of all look-ups with its address."""
    near, far = min(max(0, address_bits - 4), 3), max(0, address_bits - 7)
    wide = math.log2(max(output_bits, 8) / 8)
    return {"lut": 1, "table_bit": near, "table_far": far, "table_wide": wide}


def address_load(instrs: Sequence[Instr], address: int) -> int:
    """Output bits of all look-ups with one address: how far its wires reach."""
    return sum(instr.width for instr in instrs if instr.op is Op.LOOKUP and instr.args[0] == address)


def product_terms(a: int, b: int) -> Terms:
    """Rows of partial products, compressed three to two by full adders, then one addition."""
    narrow = min(a, b)
    if narrow == 1:
        return {"lut": 1}
    levels = max(0, math.ceil(math.log(narrow / 2, 1.5)))
    return {**_carry(a + b), "product": 1 + levels}


def _tree(inputs: int) -> int:
    """Levels of LUT4 that reduce so many inputs to one."""
    return max(1, math.ceil(math.log(max(inputs, 1), 4) - 1e-9))
