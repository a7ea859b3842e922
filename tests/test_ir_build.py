import itertools

import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.build import Builder
from sw.ir.csd import signed_digits, times
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.program import Op

S8 = FixedFormat.parse("s8.0")
WIDE = FixedFormat.parse("s32.0")


def test_equal_wires_are_shared_and_dead_ones_dropped():
    b = Builder(S8)
    b.mul(b.x, b.x)
    program = b.build(b.add(b.add(b.x, b.const(1)), b.add(b.const(1), b.x)), WIDE)
    assert [i.op for i in program.instrs] == [Op.INPUT, Op.CONST, Op.ADD, Op.ADD]


def test_constants_are_folded():
    b = Builder(S8)
    program = b.build(b.sub(b.shl(b.const(3), 2), b.const(20)), WIDE)
    assert [(i.op, i.params) for i in program.instrs] == [(Op.CONST, (-8,))]


def test_what_does_nothing_vanishes():
    b = Builder(S8)
    low = b.low(b.x, 4)
    assert b.clamp(low, 0, 15) == low
    assert b.low(low, 6) == low
    assert b.abs(low) == low
    assert b.min(low, b.const(15)) == low
    assert b.max(b.const(-1), low) == low
    assert b.add(low, b.const(0)) == low
    assert b.mul(low, b.const(1)) == low
    assert b.shr(b.shl(low, 0), 0) == low
    assert b.range(b.lt(low, b.const(16))) == (1, 1)


def test_a_product_with_a_bit_is_a_choice():
    b = Builder(S8)
    program = b.build(b.mul(b.low(b.x, 1), b.shr(b.x, 1)), S8)
    assert [i.op for i in program.instrs] == [Op.INPUT, Op.LOW, Op.SHR, Op.CONST, Op.SELECT]
    codes = np.arange(-128, 128)
    assert np.array_equal(interpret.table(program), codes % 2 * (codes >> 1))


def test_a_result_beyond_the_output_is_refused():
    b = Builder(S8)
    with pytest.raises(InputError, match=r"result must fit its output s8\.0, not reach \[-127, 128\]"):
        b.build(b.add(b.x, b.const(1)), S8)


def test_a_wire_beyond_62_bits_is_refused():
    b = Builder(S8)
    wire = b.shl(b.x, 40)
    with pytest.raises(InputError, match=r"every wire of a program must fit 62 bits, not 96 \(mul\)"):
        b.mul(wire, wire)


def test_a_wide_input_is_refused():
    with pytest.raises(InputError, match="input of a program must have at most 20 bits to be built, not 32"):
        Builder(WIDE)


@pytest.mark.parametrize("value", [*range(-70, 71), 1023, -4097, 43690])
def test_signed_digits_are_canonical(value):
    digits = signed_digits(value)
    assert sum(sign << shift for sign, shift in digits) == value
    assert all(b - a >= 2 for (_, a), (_, b) in itertools.pairwise(digits))


@pytest.mark.parametrize("constant", [0, 1, -1, 3, -7, 12, 85, -1000])
def test_times_is_a_multiplication_without_multiplier(constant):
    b = Builder(S8)
    program = b.build(times(b, b.x, constant), WIDE)
    assert interpret.table(program).tolist() == [constant * x for x in range(-128, 128)]
    assert all(i.op is not Op.MUL for i in program.instrs)


def test_three_times_is_two_and_one_instead_of_four_less_one():
    b = Builder(S8)
    assert Op.SUB not in {i.op for i in b.build(times(b, b.x, 3), WIDE).instrs}
