from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.pipeline import OPERATIONS, Unit
from sw.ir import interpret
from sw.ir.build import Builder, Wire
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining, pipelined
from sw.ir.program import Instr, Op, Program
from sw.ir.realize import realize
from sw.ir.schedule import plan
from tests import stream_bench
from tests.stream_bench import Pattern, Traffic, randomly


def simulate(unit: Unit, beats: list[tuple[tuple[int, ...], int]], *patterns: Pattern) -> Traffic:
    formats = {"input": unit.program.input, "output": unit.program.output}
    return stream_bench.simulate(unit, beats, *patterns, **formats)


def beats_of(codes: np.ndarray, lanes: int, row: int = 7) -> list[tuple[tuple[int, ...], int]]:
    """Codes packed into beats of some lanes (a tail that fills none is dropped), rows ending now and then."""
    whole = len(codes) // lanes * lanes
    rows = codes[:whole].reshape(-1, lanes)
    return [(tuple(int(c) for c in beat), int(k % row == row - 1)) for k, beat in enumerate(rows)]


def finish(builder: Builder, result: Wire) -> Program:
    """A program whose output is wide enough for its result, by interval arithmetic."""
    lo, hi = builder.range(result)
    width = max(hi.bit_length(), (-lo - 1).bit_length() if lo < 0 else 0) + (lo < 0)
    return builder.build(result, FixedFormat(max(width, 2), 0, lo < 0))


def operands(builder: Builder) -> tuple[Wire, Wire, Wire]:
    """A signed wire, an unsigned one, and a shorter signed one, all from the input."""
    x = builder.x
    return builder.shr(x, 2), builder.low(x, 5), builder.sub(builder.low(x, 3), builder.const(5))


def every_op() -> dict[str, Callable[[Builder], Wire]]:
    def of(make: Callable[[Builder, Wire, Wire, Wire], Wire]) -> Callable[[Builder], Wire]:
        return lambda b: make(b, *operands(b))

    return {
        "input": lambda b: b.x,
        "const": lambda b: b.const(-3),
        "add signed unsigned": of(lambda b, s, u, t: b.add(s, u)),
        "add constant": of(lambda b, s, u, t: b.add(u, b.const(-9))),
        "sub unsigned": of(lambda b, s, u, t: b.sub(u, b.shr(u, 1))),
        "sub signed": of(lambda b, s, u, t: b.sub(u, s)),
        "mul signed unsigned": of(lambda b, s, u, t: b.mul(s, u)),
        "mul signed": of(lambda b, s, u, t: b.mul(s, t)),
        "abs": lambda b: b.abs(b.x),
        "abs negative only": of(lambda b, s, u, t: b.abs(b.sub(b.const(-1), u))),
        "shl signed": of(lambda b, s, u, t: b.shl(s, 3)),
        "shl unsigned": of(lambda b, s, u, t: b.shl(u, 3)),
        "shr signed": lambda b: b.shr(b.x, 3),
        "shr all": lambda b: b.shr(b.x, 40),
        "shr unsigned all": of(lambda b, s, u, t: b.shr(u, 9)),
        "low signed": lambda b: b.low(b.x, 4),
        "low wider than a negative": of(lambda b, s, u, t: b.low(t, 9)),
        "min": of(lambda b, s, u, t: b.min(s, u)),
        "max": of(lambda b, s, u, t: b.max(u, t)),
        "clamp powers": lambda b: b.clamp(b.x, -32, 31),
        "clamp zero": lambda b: b.clamp(b.x, 0, 63),
        "clamp one": lambda b: b.clamp(b.x, -1, 0),
        "clamp any": lambda b: b.clamp(b.x, -99, 77),
        "clamp negative": lambda b: b.clamp(b.x, -64, -16),
        "clamp positive": lambda b: b.clamp(b.x, 16, 100),
        "clamp unsigned": of(lambda b, s, u, t: b.clamp(u, 3, 15)),
        "lt": of(lambda b, s, u, t: b.lt(s, u)),
        "lt signed": of(lambda b, s, u, t: b.lt(t, s)),
        "eq": of(lambda b, s, u, t: b.eq(s, u)),
        "eq never": of(lambda b, s, u, t: b.eq(u, b.const(-1))),
        "negate signed": of(lambda b, s, u, t: b.negate(b.low(b.x, 3), s)),
        "negate unsigned": of(lambda b, s, u, t: b.negate(b.lt(t, b.const(0)), u)),
        "negate by itself": lambda b: b.negate(b.lt(b.x, b.const(0)), b.x),
        "select": of(lambda b, s, u, t: b.select(b.low(b.x, 3), s, u)),
        "select by sign": of(lambda b, s, u, t: b.select(t, u, t)),
        "add joined": of(lambda b, s, u, t: b.add(b.shl(s, 5), u)),
        "add joined short": of(lambda b, s, u, t: b.add(b.low(u, 2), b.shl(u, 6))),
        "add not quite joined": of(lambda b, s, u, t: b.add(b.shl(s, 4), u)),
        "lookup signed": of(lambda b, s, u, t: b.lookup(u, [k * k - 300 for k in range(32)])),
        "lookup unsigned": of(lambda b, s, u, t: b.lookup(u, [3 * k for k in range(32)])),
        "lookup odd size": of(lambda b, s, u, t: b.lookup(b.clamp(u, 0, 10), range(-4, 7))),
    }


@pytest.mark.parametrize("fmax_mhz", [50.0, 800.0])
@pytest.mark.parametrize("name", every_op())
def test_every_operation_equals_the_interpreter_on_all_codes(name: str, fmax_mhz: float) -> None:
    builder = Builder(FixedFormat(8, 0))
    program = finish(builder, every_op()[name](builder))
    unit = Unit(program, plan(program, fmax_mhz))
    traffic = simulate(unit, beats_of(program.input.codes(), 1))
    assert traffic.codes == interpret.table(program).tolist()


def test_nothing_is_joined_to_what_is_shifted_by_nothing() -> None:
    instrs = (
        Instr(Op.INPUT, (), (), -8, 7),
        Instr(Op.SHL, (0,), (0,), -8, 7),
        Instr(Op.CONST, (), (0,), 0, 0),
        Instr(Op.ADD, (1, 2), (), -8, 7),
    )
    form = FixedFormat(4, 0)
    unit = Unit(Program(form, form, instrs), plan(Program(form, form, instrs), 100.0))
    assert simulate(unit, beats_of(form.codes(), 1)).codes == form.codes().tolist()


def test_every_operation_has_its_hardware() -> None:
    named = {name.split()[0] for name in every_op()}
    assert named == {op.value for op in Op}
    assert set(OPERATIONS) | {Op.INPUT, Op.LOOKUP} == set(Op)


def random_program(seed: int) -> Program:
    """Some twenty random operations on an 8-bit input, every wire narrow enough to be multiplied again."""
    rng = np.random.default_rng(seed)
    builder = Builder(FixedFormat(8, 0, bool(rng.integers(2))))
    wires = [builder.x, builder.const(int(rng.integers(-9, 9)))]
    for _ in range(20):
        a, b, c = (wires[int(k)] for k in rng.integers(0, len(wires), 3))
        n = int(rng.integers(0, 6))
        choices: list[Callable[[], Wire]] = [
            lambda a=a, b=b: builder.add(a, b),
            lambda a=a, b=b: builder.sub(a, b),
            lambda a=a, b=b: builder.mul(a, b),
            lambda a=a: builder.abs(a),
            lambda a=a, n=n: builder.shl(a, n),
            lambda a=a, n=n: builder.shr(a, n),
            lambda a=a, n=n: builder.low(a, n),
            lambda a=a, b=b: builder.min(a, b),
            lambda a=a, b=b: builder.max(a, b),
            lambda a=a, n=n: builder.clamp(a, -3 * n, 1 << n),
            lambda a=a, b=b: builder.lt(a, b),
            lambda a=a, b=b: builder.eq(a, b),
            lambda a=a, b=b, c=c: builder.select(a, b, c),
            lambda a=a: builder.lookup(builder.low(a, 5), rng.integers(-200, 200, 32).tolist()),
        ]
        wire = choices[int(rng.integers(len(choices)))]()
        wires.append(builder.clamp(wire, -4000, 4000))
    total = wires[-1]
    for wire in wires[-6:-1]:
        total = builder.add(total, wire)
    return finish(builder, total)


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_equal_the_interpreter_under_stalls(seed: int) -> None:
    program = random_program(seed)
    lanes = (1, 2, 4)[seed % 3]
    clock = (40.0, 150.0, 250.0, 600.0)[seed % 4]
    unit = Unit(program, plan(program, clock), lanes=lanes)
    beats = beats_of(program.input.codes(), lanes)
    traffic = simulate(unit, beats, randomly(seed, 0.6), randomly(seed + 1, 0.6))
    assert traffic.codes == interpret.table(program).tolist()
    assert [last for *_, last in traffic.received] == [last for _, last in beats]


@pytest.mark.parametrize("latency", [5, 6, 8])
def test_block_memories_keep_a_given_latency(latency: int) -> None:
    formats = FixedFormat.parse("s10.7"), FixedFormat.parse("s12.8")
    program = realize(parse("sin(sin(x))"), *formats, kind="operator").program
    program, schedule = pipelined(program, Pipelining(latency=latency, block_memory=True))
    assert schedule.blocks
    codes = program.input.codes()[::3]
    traffic = simulate(Unit(program, schedule), beats_of(codes, 1))
    assert traffic.codes == interpret.run(program, codes).tolist()


def test_wide_input_equals_the_interpreter() -> None:
    high = 1 << 27
    program = Program(
        FixedFormat(32, 10),
        FixedFormat(17, 0),
        (
            Instr(Op.INPUT, (), (), -(1 << 31), (1 << 31) - 1),
            Instr(Op.SHR, (0,), (4,), -high, high - 1),
            Instr(Op.CONST, (), (-77,), -77, -77),
            Instr(Op.MUL, (1, 2), (), -77 * (high - 1), 77 * high),
            Instr(Op.SHR, (3,), (9,), (-77 * (high - 1)) >> 9, (77 * high) >> 9),
            Instr(Op.CLAMP, (4,), (-9999, 40000), -9999, 40000),
        ),
    )
    codes = np.random.default_rng(0).integers(-(1 << 31), 1 << 31, 300)
    codes[:3] = -(1 << 31), (1 << 31) - 1, -1
    traffic = simulate(Unit(program, plan(program, 200.0)), beats_of(codes, 1))
    assert traffic.codes == interpret.run(program, codes).tolist()


def cube_unit(lanes: int, fmax_mhz: float) -> Unit:
    """Some stages, odd widths: 7 bits in, 11 bits out."""
    builder = Builder(FixedFormat(7, 0))
    square = builder.shr(builder.mul(builder.x, builder.x), 3)
    result = builder.clamp(builder.add(builder.shr(builder.mul(square, builder.x), 2), builder.x), -999, 999)
    program = builder.build(result, FixedFormat(11, 0))
    return Unit(program, plan(program, fmax_mhz), lanes=lanes)


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("fmax_mhz", [40.0, 150.0, 300.0])
def test_continuous_flow_has_the_stated_latency_and_one_beat_a_cycle(lanes: int, fmax_mhz: float) -> None:
    unit = cube_unit(lanes, fmax_mhz)
    traffic = simulate(unit, beats_of(unit.program.input.codes(), lanes))
    sent = [cycle for cycle, *_ in traffic.sent]
    received = [cycle for cycle, *_ in traffic.received]
    assert [r - s for r, s in zip(received, sent, strict=True)] == [unit.latency_cycles] * len(sent)
    assert {b - a for a, b in pairwise(received)} == {1}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("lanes", [1, 3])
def test_stalls_lose_duplicate_and_reorder_nothing(lanes: int, share: float) -> None:
    unit = cube_unit(lanes, 300.0)
    codes = np.random.default_rng(3).integers(-64, 64, 150 * lanes)
    beats = beats_of(codes, lanes)
    traffic = simulate(unit, beats, randomly(4, share), randomly(5, 1 - share / 2))
    assert [(data, last) for _, data, last in traffic.sent] == beats
    assert traffic.codes == interpret.run(unit.program, codes).tolist()
    assert [last for *_, last in traffic.received] == [last for _, last in beats]


def test_valid_does_not_wait_for_ready() -> None:
    unit = cube_unit(1, 300.0)
    seen: list[bool] = []

    async def bench(ctx):
        ctx.set(unit.i.tvalid, 1)
        for _ in range(unit.latency_cycles):
            seen.append(bool(ctx.get(unit.o.tvalid)))
            await ctx.tick()
        seen.append(bool(ctx.get(unit.o.tvalid)))
        assert not ctx.get(unit.i.tready)

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [False] * unit.latency_cycles + [True]


def test_reset_empties_the_pipeline() -> None:
    unit = cube_unit(1, 300.0)
    reset = Signal()
    seen: list[int] = []

    async def bench(ctx):
        ctx.set(unit.o.tready, 1)
        ctx.set(unit.i.tvalid, 1)
        await ctx.tick().repeat(unit.latency_cycles)
        assert ctx.get(unit.o.tvalid)
        ctx.set(unit.i.tvalid, 0)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        for _ in range(2 * unit.latency_cycles):
            seen.append(ctx.get(unit.o.tvalid))
            await ctx.tick()

    simulator = Simulator(ResetInserter(reset)(unit))
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert not any(seen)


def test_one_edge_resets_a_stalled_unit_and_a_beat_offered_in_reset_is_lost() -> None:
    unit = cube_unit(1, 300.0)
    reset = Signal()
    seen: list[int] = []

    async def bench(ctx):
        ctx.set(unit.i.tvalid, 1)
        await ctx.tick().repeat(unit.latency_cycles)
        assert (ctx.get(unit.o.tvalid), ctx.get(unit.i.tready)) == (1, 0)
        ctx.set(reset, 1)
        await ctx.tick()
        assert (ctx.get(unit.o.tvalid), ctx.get(unit.i.tready)) == (0, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        ctx.set(unit.i.tvalid, 0)
        ctx.set(unit.o.tready, 1)
        for _ in range(2 * unit.latency_cycles):
            seen.append(ctx.get(unit.o.tvalid))
            await ctx.tick()

    simulator = Simulator(ResetInserter(reset)(unit))
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert not any(seen)


DESIGNS = {
    "a table in block memory": Pipelining(100.0, block_memory=True),
    "a table and operations cut for a clock": Pipelining(300.0),
    "more registers than needed": Pipelining(latency=9),
}


@pytest.mark.parametrize("kind", ["half_table", "pwl"])
@pytest.mark.parametrize("wanted", DESIGNS.values(), ids=DESIGNS)
def test_every_way_of_pipelining_is_the_same_map_at_the_stated_latency(wanted: Pipelining, kind: str) -> None:
    made = realize(parse("tanh(x)"), FixedFormat(11, 8), FixedFormat(8, 7), kind=kind).program
    program, schedule = pipelined(made, wanted)
    assert kind == "pwl" or not wanted.block_memory or schedule.blocks
    unit = Unit(program, schedule)
    codes = np.random.default_rng(1).integers(-1024, 1024, 400)
    flowing = simulate(unit, beats_of(codes, 1))
    assert flowing.codes == interpret.run(made, codes).tolist()
    assert {r[0] - s[0] for s, r in zip(flowing.sent, flowing.received, strict=True)} == {unit.latency_cycles}
    stalled = simulate(unit, beats_of(codes, 1), randomly(4, 0.6), randomly(5, 0.6))
    assert stalled.codes == flowing.codes


def test_from_minus_one_is_the_complement() -> None:
    b = Builder(FixedFormat(6, 0, False))
    program = b.build(b.sub(b.const(-1), b.x), FixedFormat(7, 0))
    codes = program.input.codes()
    assert simulate(Unit(program, plan(program, 100.0)), beats_of(codes, 1)).codes == (-1 - codes).tolist()


@pytest.mark.parametrize("content", [(-8, -1), (5, 7), (-1, 5), (-6, 0), (0, 0), (0, 1), (3, 3), (-1, -1)])
def test_a_table_at_the_end_gives_its_entries_whatever_their_range(content: tuple[int, int]) -> None:
    input = FixedFormat(4, 0)
    builder = Builder(input)
    entries = [content[k % 3 == 1] for k in range(16)]
    program = finish(builder, builder.lookup(builder.low(builder.x, 4), entries))
    beats = beats_of(input.codes(), 1)
    got = simulate(Unit(program, plan(program, 100.0)), beats)
    assert got.codes == [entries[c % 16] for c in input.codes().tolist()]
