from __future__ import annotations

import contextlib

import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.build import Builder
from sw.ir.delays import delay_ns
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining, cut_to, pipelined
from sw.ir.program import Op, Program
from sw.ir.realize import realize
from sw.ir.schedule import Schedule, block_tables, plan_latency

S = FixedFormat.parse


def table(text: str, input: str, output: str, kind: str = "table") -> Program:
    return realize(parse(text), S(input), S(output), kind=kind).program


CURVES = [table("tanh(x)", "s10.7", "s8.7"), table("exp(-x)", "u9.6", "u8.8"), table("x*x", "s7.4", "u8.4")]


PRODUCTS = [
    table("x*x", "s8.4", "s8.0", kind="operator"),
    table("tanh(x)*(x + 0.25)", "s9.5", "s9.4", kind="operator"),
    table("sin(x)", "s12.9", "s12.10", kind="pwl"),
]


@pytest.mark.parametrize("budget_ns", [0.5, 1.2, 1.6, 2.0, 3.0])
@pytest.mark.parametrize("program", CURVES + PRODUCTS)
def test_what_is_cut_gives_the_same_map_from_faster_tables_and_products(
    program: Program, budget_ns: float
) -> None:
    cut = cut_to(program, budget_ns, "ecp5")
    assert np.array_equal(interpret.table(cut), interpret.table(program))
    for index, instr in enumerate(cut.instrs):
        if instr.op is Op.LOOKUP:
            smallest = cut.instrs[instr.args[0]].width <= 4
            assert smallest or delay_ns(cut.instrs, index) <= budget_ns
        if instr.op is Op.MUL:
            narrow = min(cut.instrs[a].width for a in instr.args)
            assert narrow == 1 or delay_ns(cut.instrs, index) <= budget_ns


def test_constant_and_equal_pieces_cost_no_table() -> None:
    program = table("clip(x, -0.25, 0.25)", "s10.7", "s8.7")
    assert len(cut_to(program, 1.2, "ecp5").tables) < 1 << (10 - 6)


@pytest.mark.parametrize("program", CURVES[:2] + PRODUCTS[2:])
def test_a_fast_clock_cuts_tables_until_the_delay_model_reaches_it(program: Program) -> None:
    slow, fast = (pipelined(program, Pipelining(fmax_mhz=mhz)) for mhz in (20.0, 220.0))
    assert slow[0] == program
    assert fast[1].period_ns <= 1000 / 220 < slow[1].period_ns
    assert fast[1].latency_cycles > slow[1].latency_cycles
    assert np.array_equal(interpret.table(fast[0]), interpret.table(program))


def test_an_unreachable_clock_gives_the_fastest_schedule() -> None:
    program, schedule = pipelined(CURVES[0], Pipelining(fmax_mhz=1900.0))
    assert schedule.period_ns < Pipelining(fmax_mhz=1900.0).schedule(CURVES[0]).period_ns
    assert np.array_equal(interpret.table(program), interpret.table(CURVES[0]))


def test_block_memory_takes_large_tables_whole() -> None:
    program, schedule = pipelined(CURVES[0], Pipelining(fmax_mhz=100.0, block_memory=True))
    assert program == CURVES[0]
    assert schedule.blocks == block_tables(program) != frozenset()
    [lookup] = schedule.blocks
    readers = [k for k, i in enumerate(program.instrs) if lookup in i.args]
    assert all(schedule.stages[k] > schedule.stages[lookup] for k in readers)


def test_small_tables_stay_in_luts() -> None:
    assert not Pipelining(block_memory=True).schedule(CURVES[2]).blocks


def test_a_given_latency_is_what_comes_out() -> None:
    program = table("tanh(x)", "s12.9", "s8.7", kind="pwl")
    assert any(i.op is Op.MUL for i in program.instrs)
    assert [pipelined(program, Pipelining(latency=n))[1].latency_cycles for n in (1, 3, 7)] == [1, 3, 7]


@pytest.mark.parametrize(
    ("formula", "input", "output", "latency"),
    [
        ("sin(sin(x))", "s10.7", "s12.8", 3),
        ("sin(sin(sin(x)))", "s10.7", "s12.8", 4),
        ("sin(x) + sin(1.5*x)", "s10.7", "s12.8", 2),
    ],
)
def test_a_given_latency_has_room_for_every_block_memory(
    formula: str, input: str, output: str, latency: int
) -> None:
    program = table(formula, input, output, kind="operator")
    found = {cycles: in_blocks(program, cycles) for cycles in range(latency, latency + 6)}
    assert found[latency + 5] is not None
    for cycles, schedule in found.items():
        if schedule is not None:
            assert schedule.blocks
            assert schedule.latency_cycles == cycles
            assert max(schedule.stages) < cycles, "the result comes from a register"
            assert all(schedule.stages[index] + 1 < cycles for index in schedule.blocks)


def in_blocks(program: Program, cycles: int) -> Schedule | None:
    """The schedule with block memories in a given latency; None where it has no room for them."""
    with contextlib.suppress(InputError):
        return pipelined(program, Pipelining(latency=cycles, block_memory=True))[1]
    return None


def test_a_latency_without_room_for_the_block_memory_is_refused() -> None:
    program = table("tanh(x)", "s12.8", "s8.7", kind="half_table")
    assert pipelined(program, Pipelining(latency=2, block_memory=True))[1].latency_cycles == 2
    with pytest.raises(InputError, match="latency must be 2 or more with block memory, not 1"):
        pipelined(program, Pipelining(latency=1, block_memory=True))


@pytest.mark.parametrize("program", CURVES + PRODUCTS)
def test_a_latency_alone_leaves_operations_whole_and_a_clock_beside_it_cuts_them(program: Program) -> None:
    whole = pipelined(program, Pipelining(latency=6))
    assert whole == (program, plan_latency(program, 6))
    cut, schedule = pipelined(program, Pipelining(400.0, latency=6))
    assert schedule.latency_cycles == 6
    assert schedule.period_ns < whole[1].period_ns
    assert np.array_equal(interpret.table(cut), interpret.table(program))


def test_a_clock_that_whole_operations_reach_leaves_them_whole() -> None:
    assert pipelined(CURVES[0], Pipelining(60.0, latency=3))[0] == CURVES[0]


def test_what_stays_in_block_memory_is_not_cut_but_all_else_is() -> None:
    program = table("tanh(x)*x", "s10.7", "s10.6", kind="operator")
    wanted = Pipelining(230.0, block_memory=True)
    blocks = block_tables(program)
    cut, schedule = pipelined(program, wanted)
    assert blocks
    assert len(block_tables(cut)) == len(blocks)
    assert schedule.period_ns < wanted.schedule(program).period_ns
    assert np.array_equal(interpret.table(cut), interpret.table(program))


def of_one(operation: str) -> Program:
    """One slow operation on a 12-bit input, and on what else it reads."""
    b = Builder(S("s12.0"))
    other = b.sub(b.mul(b.x, b.const(3)), b.const(1000))
    wire = {
        "abs": lambda: b.abs(b.x),
        "negate by a sign": lambda: b.negate(b.lt(b.x, b.const(77)), other),
        "negate by a number": lambda: b.negate(b.shr(b.add(b.x, b.const(2048)), 10), other),
        "negate by what may be negative": lambda: b.negate(b.shr(b.x, 10), other),
        "clamp": lambda: b.clamp(b.x, -700, 1033),
        "min": lambda: b.min(b.x, other),
        "max": lambda: b.max(b.x, other),
        "product": lambda: b.mul(b.x, b.add(b.low(b.x, 3), b.const(1))),
    }[operation]()
    return b.build(wire, S("s26.0"))


@pytest.mark.parametrize("budget_ns", [0.1, 1.0, 1.4, 1.8, 9.0])
@pytest.mark.parametrize(
    "operation",
    [
        *("abs", "negate by a sign", "negate by a number", "negate by what may be negative"),
        *("clamp", "min", "max", "product"),
    ],
)
def test_every_slow_operation_in_steps_is_the_same_map(operation: str, budget_ns: float) -> None:
    program = of_one(operation)
    cut = cut_to(program, budget_ns, "ecp5")
    assert np.array_equal(interpret.table(cut), interpret.table(program))
    assert (cut == program) == (budget_ns == 9.0)


def test_a_sign_that_is_a_bit_already_is_added_as_it_is() -> None:
    flagged, counted = (cut_to(of_one(f"negate by a {what}"), 0.1, "ecp5") for what in ("sign", "number"))
    selects = [sum(i.op is Op.SELECT for i in program.instrs) for program in (flagged, counted)]
    assert selects == [1, 2]


def test_products_are_cut_along_the_narrower_factor() -> None:
    cut = cut_to(of_one("product"), 1.6, "ecp5")
    factors = [sorted(cut.instrs[a].width for a in i.args) for i in cut.instrs if i.op is Op.MUL]
    assert all(narrow < 4 and wide >= 12 for narrow, wide in factors)
