"""Random formulas, formats and kinds of realisation: the data path equals the interpreter."""

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw.pipeline import Datapath
from sw.ir import interpret
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.program import Program
from sw.ir.realize import KINDS, plan_kind
from sw.ir.realize.target import NotApplicableError, Target
from sw.ir.schedule import plan
from tests.ir_formulas import total_formulas

EXAMPLES = 800
RANDOM_CODES = 24


def formats(widths: st.SearchStrategy[int]) -> st.SearchStrategy[FixedFormat]:
    return st.builds(FixedFormat, widths, st.integers(-1, 9), st.booleans())


def planned(kind: str, target: Target) -> Program | None:
    try:
        return plan_kind(kind, target).program
    except NotApplicableError:
        return None


def codes_to_run(format: FixedFormat, seed: int) -> IntArray:
    """Corners and random codes, in no order: what a stage keeps of the code before would show."""
    corners = [format.min_raw, format.min_raw + 1, max(format.min_raw, -1), 0, 1, format.max_raw]
    rng = np.random.default_rng(seed)
    drawn = rng.integers(format.min_raw, format.max_raw + 1, RANDOM_CODES)
    return rng.permutation(np.concatenate([corners, drawn]))


def simulated(program: Program, fmax_mhz: float, codes_raw: IntArray) -> list[int]:
    """Codes one a cycle through a data path; every fifth cycle stands still with another code offered."""
    datapath = Datapath(program, plan(program, fmax_mhz))
    latency = datapath.schedule.latency_cycles
    results: list[int] = []

    async def bench(ctx):
        for number in range(len(codes_raw) + latency):
            if number % 5 == 4:
                ctx.set(datapath.enable, 0)
                ctx.set(datapath.x, int(codes_raw[0]))
                await ctx.tick()
            ctx.set(datapath.enable, 1)
            ctx.set(datapath.x, int(codes_raw[min(number, len(codes_raw) - 1)]))
            if number >= latency:
                results.append(ctx.get(datapath.y))
            await ctx.tick()

    m = Module()
    m.domains.sync = ClockDomain()  # a constant needs none and would come without
    m.submodules.lane = datapath
    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return results


@pytest.mark.slow
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(
    total_formulas,
    formats(st.integers(2, 10)),
    formats(st.integers(2, 9)),
    st.sampled_from([*KINDS, *3 * ["operator"]]),
    st.sampled_from([60.0, 200.0, 700.0]),
    st.integers(0, 2**32 - 1),
)
def test_a_data_path_of_any_kind_equals_the_interpreter(expr, input, output, kind, fmax_mhz, seed):
    target = Target.of(expr, input, output)
    program = next(p for k in (kind, "operator", "table") if (p := planned(k, target)))
    codes_raw = codes_to_run(input, seed)
    expected = np.broadcast_to(interpret.run(program, codes_raw), codes_raw.shape)
    assert simulated(program, fmax_mhz, codes_raw) == expected.tolist()
