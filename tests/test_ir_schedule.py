from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from sw.ir.build import Builder
from sw.ir.delays import DELAYS, delay_ns, register_ns
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.forms import is_constant
from sw.ir.program import Op, Program
from sw.ir.schedule import RESOLUTION_NS, block_tables, plan, plan_latency

REGISTER_NS = register_ns("ecp5")
CLOCKS = (20.0, 100.0, 200.0, 400.0, 1500.0)


def random_program(seed: int) -> Program:
    """A dozen dependent operations of all speeds on a 10-bit input."""
    rng = np.random.default_rng(seed)
    builder = Builder(FixedFormat(10, 0))
    wires = [builder.x]
    for _ in range(12):
        a, b = (wires[int(k)] for k in rng.integers(max(0, len(wires) - 4), len(wires), 2))
        made = (
            lambda a=a, b=b: builder.add(a, b),
            lambda a=a, b=b: builder.mul(a, b),
            lambda a=a: builder.lookup(builder.low(a, 6), rng.integers(-99, 99, 64).tolist()),
            lambda a=a, b=b: builder.select(builder.lt(a, b), a, builder.const(7)),
            lambda a=a: builder.shr(builder.abs(a), 1),
        )[int(rng.integers(5))]()
        wires.append(builder.clamp(made, -2000, 1500))
    return builder.build(wires[-1], FixedFormat(13, 0))


def programs() -> list[Program]:
    return [random_program(seed) for seed in range(12)]


def stage_delays(program: Program, stages: tuple[int, ...]) -> dict[int, list[float]]:
    """Longest path to every operation within its stage, by plain recursion over the definition."""

    def arrival(index: int) -> float:
        before = [
            arrival(arg)
            for arg in program.instrs[index].args
            if stages[arg] == stages[index] and not is_constant(program.instrs[arg])
        ]
        return delay_ns(program.instrs, index) + max(before, default=0.0)

    found: dict[int, list[float]] = {}
    for index, stage in enumerate(stages):
        found.setdefault(stage, []).append(arrival(index))
    return found


@pytest.mark.parametrize("fmax_mhz", CLOCKS)
def test_every_stage_fits_the_period_or_holds_one_slow_operation(fmax_mhz: float) -> None:
    budget = 1000 / fmax_mhz - REGISTER_NS
    for program in programs():
        schedule = plan(program, fmax_mhz)
        slowest = max(delay_ns(program.instrs, index) for index in range(len(program.instrs)))
        for arrivals in stage_delays(program, schedule.stages).values():
            assert max(arrivals) <= max(budget, slowest) + 1e-9


@pytest.mark.parametrize("fmax_mhz", CLOCKS)
def test_no_operation_comes_before_what_it_reads(fmax_mhz: float) -> None:
    for program in programs():
        schedule = plan(program, fmax_mhz)
        assert schedule.latency_cycles >= 1
        for index, instr in enumerate(program.instrs):
            assert 0 <= schedule.stages[index] < schedule.latency_cycles
            moving = [arg for arg in instr.args if not is_constant(program.instrs[arg])]
            assert all(schedule.stages[arg] <= schedule.stages[index] for arg in moving)


def test_a_faster_clock_never_needs_fewer_stages() -> None:
    for program in programs():
        latencies = [plan(program, fmax_mhz).latency_cycles for fmax_mhz in CLOCKS]
        assert latencies == sorted(latencies)
        assert latencies[0] == 1 or latencies[0] < latencies[-1]


def test_register_bits_are_those_of_the_wires_that_cross_stages() -> None:
    """Counted once more from the definition: a wire crosses every border up to its last reader."""
    for program in programs():
        schedule = plan(program, 300.0)
        bits = 0
        for border in range(1, schedule.latency_cycles + 1):
            for index, instr in enumerate(program.instrs):
                readers = [k for k, i in enumerate(program.instrs) if index in i.args]
                latest = max((schedule.stages[k] for k in readers), default=-1)
                is_result = index == len(program.instrs) - 1
                crosses = schedule.stages[index] < border <= latest or is_result
                bits += instr.width * (crosses and not is_constant(instr) and schedule.stages[index] < border)
        assert schedule.register_bits == bits


def test_registers_move_to_where_they_are_narrow() -> None:
    builder = Builder(FixedFormat(8, 0))
    wide = builder.mul(builder.x, builder.x)
    narrow = builder.shr(wide, 12)
    program = builder.build(
        builder.mul(narrow, builder.lookup(builder.low(narrow, 3), range(8))), FixedFormat(16, 0)
    )
    schedule = plan(program, 250.0)
    crossing = {
        program.instrs[arg].op
        for index, instr in enumerate(program.instrs)
        for arg in instr.args
        if schedule.stages[arg] < schedule.stages[index]
    }
    assert Op.MUL not in crossing


def test_a_result_that_is_wider_than_what_it_reads_is_computed_last() -> None:
    builder = Builder(FixedFormat(8, 0))
    program = builder.build(builder.mul(builder.x, builder.x), FixedFormat(16, 0))
    schedule = plan_latency(program, 3)
    assert schedule.stages[-1] == 2
    assert schedule.register_bits == 2 * 8 + program.instrs[-1].width


def test_a_constant_program_has_one_stage() -> None:
    builder = Builder(FixedFormat(8, 0))
    schedule = plan(builder.build(builder.const(5), FixedFormat(8, 0)), 200.0)
    assert schedule.latency_cycles == 1
    assert schedule.register_bits == 0


@pytest.mark.parametrize("fmax_mhz", [0.0, -1.0, math.nan, 2001.0, np.inf])
def test_a_clock_out_of_range_is_refused(fmax_mhz: float) -> None:
    with pytest.raises(InputError, match=r"^fmax must be above 0 and at most 2000 MHz, not "):
        plan(random_program(0), fmax_mhz)


@pytest.mark.parametrize("latency", [1, 2, 3, 5, 9])
def test_a_given_latency_is_kept_and_its_slowest_stage_is_as_fast_as_any_clock_allows(latency: int) -> None:
    for program in programs():
        made = plan_latency(program, latency)
        assert made.latency_cycles == latency
        assert made.stages[-1] < latency
        faster = plan(program, 1000 / (made.period_ns - 2 * RESOLUTION_NS))
        slowest = max(delay_ns(program.instrs, index) for index in range(len(program.instrs)))
        assert faster.latency_cycles > latency or made.period_ns <= slowest + REGISTER_NS + RESOLUTION_NS


def test_the_period_is_that_of_the_slowest_stage() -> None:
    for program in programs():
        made = plan(program, 200.0)
        longest = max(max(arrivals) for arrivals in stage_delays(program, made.stages).values())
        assert made.period_ns == pytest.approx(longest + REGISTER_NS)


@pytest.mark.parametrize("latency", [0, -1, 65])
def test_a_latency_out_of_range_is_refused(latency: int) -> None:
    with pytest.raises(InputError, match=f"latency must be 1..64 cycles, not {latency}"):
        plan_latency(programs()[0], latency)


def test_the_delays_are_those_of_the_benchmark() -> None:
    measured = json.loads((Path(__file__).parents[1] / "benchmarks/delays.json").read_text())
    for family, delays in DELAYS.items():
        assert delays == measured[family]["costs"]
        periods, predicted = measured[family]["periods"], measured[family]["predicted"]
        off = [abs(predicted[name] / periods[name] - 1) for name in periods]
        assert np.median(off) < 0.1


def test_a_look_up_takes_longer_the_more_bits_its_address_drives() -> None:
    def slowest(tables: int, bits: int) -> float:
        builder = Builder(FixedFormat(7, 0, False))
        rng = np.random.default_rng(0)
        wires = [builder.lookup(builder.x, rng.integers(0, 1 << bits, 128)) for _ in range(tables)]
        while len(wires) > 1:
            wires = [builder.add(wires[0], wires[1]), *wires[2:]]
        program = builder.build(wires[0], FixedFormat(32, 0))
        looked_up = [k for k, instr in enumerate(program.instrs) if instr.op is Op.LOOKUP]
        return max(delay_ns(program.instrs, k) for k in looked_up)

    assert slowest(1, 4) == slowest(2, 4) < slowest(1, 12) < slowest(2, 12) == slowest(3, 8)


def test_sixty_four_stages_are_the_most() -> None:
    program = random_program(3)
    assert plan_latency(program, 64).latency_cycles == 64
    with pytest.raises(InputError, match=r"^latency must be 1\.\.64 cycles, not 65$"):
        plan_latency(program, 65)


def lookup_of(entries: int) -> Program:
    builder = Builder(FixedFormat(12, 0, signed=False))
    values = [(7 * k * k) % 251 for k in range(entries)]
    return builder.build(
        builder.lookup(builder.low(builder.x, entries.bit_length() - 1), values), FixedFormat(9, 0)
    )


@pytest.mark.parametrize(("entries", "num"), [(256, 0), (512, 1), (1024, 1)])
def test_tables_of_half_a_thousand_entries_are_large(entries: int, num: int) -> None:
    program = lookup_of(entries)
    assert len(block_tables(program)) == num
    assert len(plan(program, 100.0, block_memory=True).blocks) == num
    assert not plan(program, 100.0).blocks
    assert len(plan_latency(program, 3, block_memory=True).blocks) == num
    assert not plan_latency(program, 3).blocks
