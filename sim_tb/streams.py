"""The two ends of a unit's streams, inside the simulator: a driver and a monitor.

Everything is sampled at the rising edge of ``clk``, where cocotb shows the values before the edge, and
written right after it. Cycles are counted by both ends from the edge at which they were started.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

PERIOD_STEPS = 2
PATIENCE_CYCLES = 2000
"""Cycles without a beat after which a unit counts as stuck; longer than any pause."""


async def reset(dut: Any) -> None:
    """Start the clock, hold ``rst`` for two cycles with the streams idle, and release it."""
    Clock(dut.clk, PERIOD_STEPS, "step").start()
    for port in (dut.s_axis_tvalid, dut.s_axis_tlast, dut.s_axis_tdata, dut.m_axis_tready):
        port.value = 0
    await pulse_reset(dut)


async def pulse_reset(dut: Any) -> None:
    """Two cycles of ``rst``, the clock running."""
    edge = RisingEdge(dut.clk)
    dut.rst.value = 1
    await edge
    await edge
    dut.rst.value = 0
    await edge


class Driver:
    """Sends beats into ``s_axis``.

    While it pauses, ``tvalid`` is low and the payload is the complement of the next beat, so that a unit
    that looks at it without ``tvalid`` shows.
    """

    def __init__(self, dut: Any, patience: int = PATIENCE_CYCLES) -> None:
        self._patience = patience
        self._edge = RisingEdge(dut.clk)
        self._data, self._last = dut.s_axis_tdata, dut.s_axis_tlast
        self._valid, self._ready = dut.s_axis_tvalid, dut.s_axis_tready
        self._ones = (1 << len(dut.s_axis_tdata)) - 1

    async def send(self, words: Sequence[int], last: Sequence[bool], pauses: Iterator[bool]) -> list[int]:
        """Send all beats; the result is the cycle at which each was accepted."""
        accepted: list[int] = []
        cycle = 0
        valid = False
        for word, end in zip(words, last, strict=True):
            if next(pauses):
                valid = False
                self._valid.value, self._data.value, self._last.value = 0, word ^ self._ones, not end
                await self._edge
                cycle += 1
                while next(pauses):
                    await self._edge
                    cycle += 1
            self._data.value, self._last.value = word, end
            if not valid:
                valid = True
                self._valid.value = 1
            await self._edge
            cycle += 1
            waited = 0
            while not self._ready.value:
                await self._edge
                cycle += 1
                waited += 1
                if waited > self._patience:
                    return accepted
            accepted.append(cycle)
        self._valid.value = 0
        return accepted


@dataclass(slots=True)
class Received:
    """What came out of ``m_axis``."""

    words: list[int] = field(default_factory=list)
    last: list[bool] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    """The cycle at which each beat moved."""
    faults: list[str] = field(default_factory=list)
    """Broken rules of the stream, in words."""


class Monitor:
    """Takes beats from ``m_axis`` and watches that a beat which waits for ``tready`` stays as it is."""

    def __init__(self, dut: Any, patience: int = PATIENCE_CYCLES) -> None:
        self._patience = patience
        self._edge = RisingEdge(dut.clk)
        self._data, self._last = dut.m_axis_tdata, dut.m_axis_tlast
        self._valid, self._ready = dut.m_axis_tvalid, dut.m_axis_tready

    async def take(self, count: int, pauses: Iterator[bool], *, linger: int) -> Received:
        """Take ``count`` beats, then stay ready for ``linger`` cycles more to catch beats too many."""
        seen = Received()
        cycle, until = 0, self._patience
        waiting: tuple[int, bool] | None = None
        ready = not next(pauses)
        self._ready.value = ready
        while cycle < until:
            await self._edge
            cycle += 1
            if self._valid.value:
                beat = int(self._data.value), bool(self._last.value)
                if waiting is not None and beat != waiting:
                    seen.faults.append(f"a waiting beat changed from {waiting} to {beat} in cycle {cycle}")
                waiting = beat
                if ready:
                    waiting = None
                    seen.words.append(beat[0])
                    seen.last.append(beat[1])
                    seen.cycles.append(cycle)
                    if len(seen.words) <= count:  # a unit that never stops must not keep us here
                        until = cycle + (self._patience if len(seen.words) < count else linger)
            elif waiting is not None:
                seen.faults.append(f"tvalid fell in cycle {cycle} before its beat had moved")
                waiting = None
            stay = len(seen.words) >= count or not next(pauses)
            if stay != ready:
                ready = stay
                self._ready.value = ready
        return seen
