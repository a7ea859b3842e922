"""What of a Program costs logic: counts that a linear model turns into LUTs (``sw.ir.price``).

A count is of something that mapping tools spend LUTs on in proportion: bits of a carry chain, output bits of
a multiplexer, pieces of a table that fill a LUT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sw.ir.formats import IntArray
from sw.ir.forms import complements, is_constant, joined, limits_to_bits, reads_sign
from sw.ir.program import Instr, Op, Program

FEATURES = (
    "adder_bit",  # of an addition of two wires, as far as both reach
    "constant_adder",  # an addition of a constant or of a single bit,
    "constant_adder_bit",  # and its bits
    "subtractor_bit",
    "sign_bit",  # of a magnitude or a negation
    "product_bit",  # partial products
    "product_edge",  # and the width of the result
    "compare_bit",  # of two wires
    "compare_constant_bit",
    "equal_constant_bit",
    "multiplexer_bit",
    "clamp_bit",  # one multiplexer for both limits
    "clamp_beyond_bit",  # input bits that only tell whether it limits
    "clamp_odd",  # limits that are no powers of two
    "lut6_piece",  # of tables: distinct 64-entry pieces,
    "lut6_near",  # two levels of multiplexers above them, which slices have beside their LUTs,
    "lut6_far",  # and those above
    "lut4_piece",  # the same with 16-entry pieces
    "lut4_near",
    "lut4_far",
)
"""Names of the counts."""

_OVERRIDE_BITS = 4
_FREE_EXCESS = 3
"""Bits from a clamp's sign upwards that fit the LUT of each of its result bits."""
_NEAR_LEVELS = 2

Counts = dict[str, float]


def features(program: Program) -> Counts:
    """The counts of one lane's data path; what it has nothing of is left out."""
    total: Counts = {}
    for index in range(len(program.instrs)):
        for name, count in _counts(program, index).items():
            total[name] = total.get(name, 0.0) + count
    return total


def _counts(program: Program, index: int) -> Counts:
    instr = program.instrs[index]
    if instr.op not in _OPERATIONS or is_constant(instr):
        return {}
    if joined(program.instrs, index) or complements(program.instrs, index):
        return {}
    if instr.op is Op.LOOKUP:
        return {} if _overrides(program, index) else _lookup(program, instr)
    if instr.op is Op.SELECT and _merges(program, index):
        return {}
    return _OPERATIONS[instr.op]([program.instrs[a] for a in instr.args], instr)


def _overrides(program: Program, index: int) -> bool:
    """Whether a tiny table only says what a select takes where its address is not 0: one LUT does both."""
    address = program.instrs[index].args[0]
    return program.instrs[address].width <= _OVERRIDE_BITS and any(
        i.op is Op.SELECT and i.args[:2] == (address, index) for i in program.instrs[index + 1 :]
    )


def _merges(program: Program, index: int) -> bool:
    """Whether a select takes no LUT of its own: between constants, or from one into a negation."""
    constants = sum(is_constant(program.instrs[a]) for a in program.instrs[index].args[1:])
    negated = any(i.op is Op.NEGATE and i.args[1] == index for i in program.instrs[index + 1 :])
    return constants == 2 or (constants == 1 and negated)


def _constant(args: Sequence[Instr]) -> bool:
    return any(is_constant(a) for a in args)


def _adder(args: Sequence[Instr], instr: Instr) -> Counts:
    if _constant(args) or any(a.width == 1 for a in args):
        return {"constant_adder": 1, "constant_adder_bit": instr.width}
    shifts = [a.params[0] if a.op is Op.SHL else 0 for a in args]
    return {"adder_bit": max(1, instr.width - max(shifts))}


def _subtractor(args: Sequence[Instr], instr: Instr) -> Counts:
    if is_constant(args[0]) and args[0].lo == 0:
        return {"sign_bit": instr.width}
    return _adder(args, instr) if _constant(args) else {"subtractor_bit": instr.width}


def _product(args: Sequence[Instr], instr: Instr) -> Counts:
    narrow, wide = sorted(a.width for a in args)
    if narrow == 1:
        return {"multiplexer_bit": wide}
    return {"product_bit": narrow * wide, "product_edge": instr.width}


def _compare(args: Sequence[Instr], instr: Instr) -> Counts:
    width = max(a.width for a in args)
    if reads_sign(instr, args):
        return {}
    if not _constant(args):
        return {"compare_bit": width}
    return {"equal_constant_bit" if instr.op is Op.EQ else "compare_constant_bit": width}


def _extreme(args: Sequence[Instr], instr: Instr) -> Counts:
    return {**_compare(args, instr), "multiplexer_bit": instr.width}


def _clamp(args: Sequence[Instr], instr: Instr) -> Counts:
    beyond = max(0, 1 + args[0].width - instr.width - _FREE_EXCESS)
    odd = 0 if limits_to_bits(instr) else 1
    return {"clamp_bit": instr.width, "clamp_beyond_bit": beyond, "clamp_odd": odd}


_OPERATIONS: dict[Op, Callable[[Sequence[Instr], Instr], Counts]] = {
    Op.ADD: _adder,
    Op.SUB: _subtractor,
    Op.MUL: _product,
    Op.ABS: lambda args, instr: {"sign_bit": args[0].width},
    Op.NEGATE: lambda args, instr: {"sign_bit": instr.width},
    Op.MIN: _extreme,
    Op.MAX: _extreme,
    Op.CLAMP: _clamp,
    Op.LT: _compare,
    Op.EQ: _compare,
    Op.SELECT: lambda args, instr: {"multiplexer_bit": instr.width},
    Op.LOOKUP: lambda args, instr: {},
}


def _lookup(program: Program, instr: Instr) -> Counts:
    return table_counts(program.tables[instr.params[0]], program.instrs[instr.args[0]].width)


def table_counts(values: Sequence[int], address_bits: int) -> Counts:
    """The counts of a table: per LUT size its distinct pieces, and multiplexers above them.

    Each output bit is a binary decision diagram whose lowest levels are cut off as LUTs; equal and
    complementary pieces are shared, also between output bits.
    """
    planes = _planes(np.asarray(values, dtype=np.int64), address_bits)
    counts: Counts = {}
    for bits in (6, 4):
        pieces, levels = _diagram(planes, min(bits, address_bits))
        counts[f"lut{bits}_piece"] = pieces
        counts[f"lut{bits}_near"] = sum(levels[:_NEAR_LEVELS])
        counts[f"lut{bits}_far"] = sum(levels[_NEAR_LEVELS:])
    return counts


def _planes(entries: IntArray, address_bits: int) -> IntArray:
    """The output bits that change, each one a row of 2^address_bits."""
    low, high = int(entries.min()), int(entries.max())
    num_bits = max(high.bit_length(), (-low - 1).bit_length() + 1 if low < 0 else 0)
    size = 1 << address_bits
    whole = np.concatenate([entries, np.full(max(0, size - len(entries)), entries[-1])])[:size]
    planes = (whole[None, :] >> np.arange(num_bits)[:, None]) & 1
    return planes[planes.min(axis=1) != planes.max(axis=1)]


def _diagram(planes: IntArray, piece_bits: int) -> tuple[int, list[int]]:
    """Distinct pieces of 2^piece_bits entries, and distinct nodes of each level above, lowest first.

    A node is a number whose lowest bit says that it is complemented; 0 and 1 are the constants.
    """
    if not len(planes):
        return 0, []
    packed = np.packbits(planes.reshape(len(planes), -1, 1 << piece_bits).astype(np.uint8), axis=2)
    flipped = packed[:, :, 0] >> 7
    mask = np.packbits(np.ones(1 << piece_bits, dtype=np.uint8))
    canonical = packed ^ (flipped[:, :, None] * mask)
    weights = 256 ** np.arange(packed.shape[2], dtype=np.uint64)
    keys = (canonical.astype(np.uint64) * weights).sum(axis=2, dtype=np.uint64)
    distinct, nodes = np.unique(keys, return_inverse=True)
    nodes = nodes.reshape(keys.shape) * 2 + flipped
    if distinct[0] != 0:
        nodes += 2
    num = len(distinct) - (distinct[0] == 0)
    levels, first_free = [], int(nodes.max()) // 2 + 1
    while nodes.shape[1] > 1:
        nodes, made = _merged(nodes[:, 0::2], nodes[:, 1::2], first_free)
        levels.append(made)
        first_free += made
    return int(num), levels


def _merged(low: IntArray, high: IntArray, first_free: int) -> tuple[IntArray, int]:
    """One level up: the nodes of pairs, and how many of them are new."""
    flipped = low & 1
    key = (low ^ flipped) * (4 * first_free) + (high ^ flipped)
    is_new = low != high
    distinct, place = np.unique(key[is_new], return_inverse=True)
    nodes = low.copy()
    nodes[is_new] = 2 * (first_free + place) + flipped[is_new]
    return nodes, len(distinct)
