import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.build import Builder
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.program import Instr, Op, Program

TABLE = [7, -3, 5, 0, 1, 2, -8, 6]

DEFINITIONS = {
    Op.ADD: (lambda b, x, y: b.add(x, y), lambda x, y: x + y),
    Op.SUB: (lambda b, x, y: b.sub(x, y), lambda x, y: x - y),
    Op.MUL: (lambda b, x, y: b.mul(x, y), lambda x, y: x * y),
    Op.ABS: (lambda b, x, y: b.abs(x), lambda x, y: -x if x < 0 else x),
    Op.SHL: (lambda b, x, y: b.shl(x, 3), lambda x, y: x * 8),
    Op.SHR: (lambda b, x, y: b.shr(x, 3), lambda x, y: x // 8),
    Op.LOW: (lambda b, x, y: b.low(x, 3), lambda x, y: x % 8),
    Op.MIN: (lambda b, x, y: b.min(x, y), min),
    Op.MAX: (lambda b, x, y: b.max(x, y), max),
    Op.CLAMP: (lambda b, x, y: b.clamp(x, -5, 9), lambda x, y: min(max(x, -5), 9)),
    Op.LT: (lambda b, x, y: b.lt(x, y), lambda x, y: int(x < y)),
    Op.EQ: (lambda b, x, y: b.eq(x, y), lambda x, y: int(x == y)),
    Op.NEGATE: (lambda b, x, y: b.negate(y, x), lambda x, y: -x if y else x),
    Op.SELECT: (lambda b, x, y: b.select(y, x, b.const(2)), lambda x, y: x if y else 2),
    Op.LOOKUP: (lambda b, x, y: b.lookup(b.low(x, 3), TABLE), lambda x, y: TABLE[x % 8]),
}
"""Every operation on x and on y = x mod 4, and what Python itself says of it."""


@pytest.mark.parametrize("op", [op for op in Op if op not in (Op.INPUT, Op.CONST)])
def test_operation_is_its_definition(op):
    build, definition = DEFINITIONS[op]
    b = Builder(FixedFormat.parse("s7.0"))
    y = b.low(b.x, 2)
    program = b.build(build(b, b.x, y), FixedFormat.parse("s16.0"))
    codes = program.input.codes()
    expected = [definition(x, x % 4) for x in codes.tolist()]
    assert interpret.run(program, codes).tolist() == expected
    assert [interpret.run(program, x) for x in codes.tolist()] == expected
    assert isinstance(interpret.run(program, 3), int)
    assert interpret.table(program).tolist() == expected


def test_wires_stay_in_their_measured_ranges_and_reach_both_ends():
    b = Builder(FixedFormat.parse("s6.0"))
    square = b.mul(b.x, b.x)  # interval arithmetic would allow negative products
    program = b.build(b.shr(b.sub(square, b.x), 4), FixedFormat.parse("u8.0"))
    for instr, values in zip(program.instrs, interpret.wires(program, program.input.codes()), strict=True):
        assert (np.min(values), np.max(values)) == (instr.lo, instr.hi)


def test_a_constant_program_has_a_whole_table():
    b = Builder(FixedFormat.parse("s4.0"))
    assert interpret.table(b.build(b.const(3), FixedFormat.parse("s4.0"))).tolist() == [3] * 16


def test_whole_maps_of_wide_inputs_are_refused():
    wide = FixedFormat.parse("s24.0")
    program = Program(wide, wide, (Instr(Op.INPUT, (), (), wide.min_raw, wide.max_raw),))
    with pytest.raises(InputError, match="input of a whole map must have at most 20 bits, not 24"):
        interpret.table(program)
