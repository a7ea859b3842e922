import json

import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.build import Builder
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.program import Instr, Op, Program, dropping
from sw.ir.realize import realize

S8, S4 = FixedFormat.parse("s8.5"), FixedFormat.parse("s4.0")
INPUT = Instr(Op.INPUT, (), (), -128, 127)


def some_program():
    b = Builder(S8)
    wire = b.lookup(b.low(b.clamp(b.shr(b.x, 4), -4, 3), 3), [0, 1, 2, 3, -4, -3, -2, -1])
    return b.build(b.add(b.negate(b.lt(b.x, b.const(0)), wire), b.const(1)), FixedFormat.parse("s4.1"))


def test_json_round_trip():
    program = some_program()
    assert Program.from_json(program.to_json()) == program
    assert interpret.table(Program.from_json(program.to_json())).tolist() == interpret.table(program).tolist()


@pytest.mark.parametrize(
    ("lo", "hi", "width", "signed"),
    [
        (0, 0, 1, False),
        (0, 1, 1, False),
        (0, 255, 8, False),
        (0, 256, 9, False),
        (-1, 0, 1, True),
        (-128, 127, 8, True),
        (-129, 0, 9, True),
        (-1, 128, 9, True),
    ],
)
def test_width_of_a_wire(lo, hi, width, signed):
    instr = Instr(Op.CONST, (), (0,), lo, hi)
    assert (instr.width, instr.signed) == (width, signed)


@pytest.mark.parametrize(
    ("instrs", "tables", "message"),
    [
        ((), (), "a program must have at least one instruction, not 0"),
        ((INPUT,), (), r"a program's result must fit its output s4\.0, not reach \[-128, 127\]"),
        ((Instr(Op.ADD, (0, 0), (), 0, 1),), (), r"instruction 0 \(add\) must read earlier wires only"),
        ((Instr(Op.ADD, (), (), 0, 1),), (), r"instruction 0 \(add\) must have 2 arguments and 0 param"),
        ((Instr(Op.CONST, (), (0,), 2, 1),), (), r"range of instruction 0 \(const\) must be rising"),
        ((Instr(Op.CONST, (), (3,), 2, 2),), (), r"range of instruction 0 \(const\) must be its parameter 3"),
        ((INPUT, INPUT), (), "instruction 1 must not be an input; only the first may be"),
        (
            (INPUT, Instr(Op.CLAMP, (0,), (3, 2), 2, 3)),
            (),
            r"limits of instruction 1 \(clamp\) must be rising",
        ),
        ((INPUT, Instr(Op.SHR, (0,), (99,), 0, 1)), (), r"shift of instruction 1 \(shr\) must be 0\.\.62"),
        ((INPUT, Instr(Op.LOOKUP, (0,), (0,), 0, 1)), (), r"instruction 1 must look up one of 0 tables"),
        (
            (INPUT, Instr(Op.LOOKUP, (0,), (0,), 0, 1)),
            ((1, 2),),
            r"address of instruction 1 must lie in table 0 \[0, 1\], not \[-128, 127\]",
        ),
        (
            (Instr(Op.INPUT, (), (), 0, 1), Instr(Op.LOOKUP, (0,), (0,), 0, 1)),
            ((1, 2),),
            r"range of the input must be that of s8\.5, not \[0, 1\]",
        ),
        ((INPUT,), ((0, 1 << 70),), "entries of table 0 must be within 62 bits"),
    ],
)
def test_broken_programs_are_refused(instrs, tables, message):
    with pytest.raises(InputError, match=message):
        Program(S8, S4, instrs, tables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "program version must be 1, not 2"),
        ({"version": True}, "program version must be 1, not True"),
        ({"input": "s0.3"}, "width of a signed format"),
        ({"instructions": [{"op": "nonsense"}]}, r"program must be JSON as docs/ir\.md describes"),
        ({"instructions": None}, r"program must be JSON as docs/ir\.md describes"),
        ({"tables": [[0, None]]}, "not this: None is no integer"),
        ({"tables": [[0.5]]}, "not this: 0.5 is no integer"),
        *(
            (
                {"instructions": [{"op": "abs", "args": [0], "params": [], "range": [0, 1]} | odd]},
                "is no integer",
            )
            for odd in ({"args": [None]}, {"params": ["1"]}, {"range": [0, True]})
        ),
    ],
)
def test_from_json_wrong(change, message):
    with pytest.raises(InputError, match=message):
        Program.from_json(json.dumps(json.loads(some_program().to_json()) | change))


def test_from_json_of_no_json():
    with pytest.raises(InputError, match="program must be JSON"):
        Program.from_json("{")
    with pytest.raises(
        InputError, match=r"program must be JSON as docs/ir\.md describes, not nested so deeply"
    ):
        Program.from_json("[" * 200_000)


def test_dropping_reads_the_upper_bits_of_a_wider_input():
    narrow = realize(parse("tanh(x)"), FixedFormat.parse("s6.2"), FixedFormat.parse("s8.6"), kind="table")
    wide = dropping(narrow.program, FixedFormat.parse("s10.6"), 4)
    np.testing.assert_array_equal(interpret.table(wide), np.repeat(interpret.table(narrow.program), 16))


def test_dropping_wrong():
    narrow = realize(parse("tanh(x)"), FixedFormat.parse("s6.2"), FixedFormat.parse("s8.6"), kind="table")
    with pytest.raises(
        InputError, match=r"a program behind s10\.5 without 4 bits must read s6\.1, not s6\.2"
    ):
        dropping(narrow.program, FixedFormat.parse("s10.5"), 4)
