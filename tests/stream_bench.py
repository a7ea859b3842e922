"""A stream driver and monitor for Amaranth's simulator, for every component with streams ``i`` and ``o``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hw.streams import lane_bits
from sw.ir.formats import FixedFormat

Pattern = Callable[[int], bool]


def always(cycle: int) -> bool:
    return True


def randomly(seed: int, share: float) -> Pattern:
    draws = np.random.default_rng(seed).random(100_000) < share
    return lambda cycle: bool(draws[cycle])


@dataclass
class Traffic:
    """What went in and came out: (cycle, codes of all lanes, last)."""

    sent: list[tuple[int, tuple[int, ...], int]] = field(default_factory=list)
    received: list[tuple[int, tuple[int, ...], int]] = field(default_factory=list)

    @property
    def codes(self) -> list[int]:
        return [code for _, codes, _ in self.received for code in codes]


def packed(codes: tuple[int, ...], format: FixedFormat) -> int:
    """Lanes as the driver of a stream packs them: every lane extended to whole bytes."""
    step = lane_bits(format)
    return sum((code & ((1 << step) - 1)) << (k * step) for k, code in enumerate(codes))


def unpacked(tdata: int, lanes: int, format: FixedFormat) -> tuple[int, ...]:
    step = lane_bits(format)
    codes = [(tdata >> (k * step)) & ((1 << step) - 1) for k in range(lanes)]
    return tuple(c - (1 << step) if format.signed and c >> (step - 1) else c for c in codes)


def simulate(
    unit: wiring.Component,
    beats: list[tuple[tuple[int, ...], int]],
    valid: Pattern = always,
    ready: Pattern = always,
    *,
    input: FixedFormat,
    output: FixedFormat,
    expected: int | None = None,
) -> Traffic:
    """Send beats through a unit; a beat that is offered stays until it is taken; checks the stream rules.

    Ends with ``expected`` beats received, as many as are sent if it is not given.
    """
    traffic = Traffic()
    lanes = len(beats[0][0])
    count = len(beats) if expected is None else expected

    async def bench(ctx):
        sent, cycle, offered = 0, 0, False
        while len(traffic.received) < count and cycle < 50_000:
            offered = offered or (sent < len(beats) and valid(cycle))
            ctx.set(unit.i.tvalid, offered)
            if offered:
                ctx.set(unit.i.tdata, packed(beats[sent][0], input))
                ctx.set(unit.i.tlast, beats[sent][1])
            before = ctx.get(unit.o.tvalid), ctx.get(unit.o.tdata), ctx.get(unit.o.tlast)
            ctx.set(unit.o.tready, ready(cycle))
            assert before == (ctx.get(unit.o.tvalid), ctx.get(unit.o.tdata), ctx.get(unit.o.tlast))
            if offered and ctx.get(unit.i.tready):
                traffic.sent.append((cycle, *beats[sent]))
                sent, offered = sent + 1, False
            stalled = before[0] and not ctx.get(unit.o.tready)
            if before[0] and not stalled:
                traffic.received.append((cycle, unpacked(before[1], lanes, output), before[2]))
            await ctx.tick()
            cycle += 1
            if stalled:
                assert before == (ctx.get(unit.o.tvalid), ctx.get(unit.o.tdata), ctx.get(unit.o.tlast))

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return traffic
