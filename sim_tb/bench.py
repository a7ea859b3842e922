"""A unit or norm under test, inside the simulator: what the cocotb tests of both have in common.

The launcher (``sim_tb.simulation``) leaves a job in a folder and names that folder in the environment
variable ``NORMFORGE_JOB``; what the tests count goes to ``figures.json`` there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from sim_tb.beats import Beats, to_words
from sim_tb.job import FOLDER_VARIABLE, figures_path, read_expected, read_job
from sim_tb.pauses import never, random_epochs
from sim_tb.scoreboard import require
from sim_tb.streams import PATIENCE_CYCLES, Driver, Monitor, Received, pulse_reset, reset
from sw.files import read_json, write_json


@dataclass(frozen=True, slots=True)
class Flow:
    """One run: what was sent, the cycle at which each beat was accepted, and what came out."""

    beats: Beats
    accepted: list[int]
    received: Received

    @property
    def cycles(self) -> int:
        """From the cycle in which the first beat was accepted to that in which the last one left, both in."""
        return self.received.cycles[-1] - self.accepted[0] + 1 if self.received.cycles else 0


class Bench:
    """A unit or norm with its two stream ends, its job, and what it must give."""

    def __init__(self, dut: Any) -> None:
        self.folder = Path(os.environ[FOLDER_VARIABLE])
        self.dut = dut
        self.job = read_job(self.folder)
        self.expected = read_expected(self.folder)
        # A norm takes nothing while a row is solved and, stalled, leaves.
        patience = PATIENCE_CYCLES + 8 * (self.job.latency_cycles + self.job.interval_cycles)
        self.driver, self.monitor = Driver(dut, patience), Monitor(dut, patience)
        self.random = Random(self.job.seed)
        self.rng = np.random.default_rng(self.job.seed)

    async def run(self, beats: Beats, *, stalls: bool = False) -> Flow:
        """Reset, send beats and take as many."""
        await reset(self.dut)
        source, sink = never(), never()
        if stalls:
            source, sink = random_epochs(self.random), random_epochs(self.random)
        words = to_words(beats.codes_raw, self.job.input_format)
        linger = 2 * self.job.latency_cycles + 64
        taking = cocotb.start_soon(self.monitor.take(len(beats), sink, linger=linger))
        accepted = await self.driver.send(words, beats.last.tolist(), source)
        return Flow(beats, accepted, await taking)

    def record(self, test: str, flow: Flow, **figures: int) -> None:
        """Keep what a test counted and what moved through the ports, beside what the others did."""
        moved = {"beats_in": len(flow.accepted), "beats_out": len(flow.received.words)}
        moved["bytes_in"] = moved["beats_in"] * len(self.dut.s_axis_tdata) // 8
        moved["bytes_out"] = moved["beats_out"] * len(self.dut.m_axis_tdata) // 8
        moved["cycles"] = flow.cycles
        path = figures_path(self.folder)
        known = read_json(path) if path.exists() else {}
        write_json(path, known | {test: figures | {"moved": moved}})

    async def check_valid_does_not_wait(self, last: Sequence[bool]) -> None:
        """Beats into an idle unit whose output nobody takes: ``tvalid`` rises all the same; then a reset.

        Args:
            last: Their ``tlast``; as many as the first result needs.
        """
        stated = self.job.latency_cycles
        edge = RisingEdge(self.dut.clk)
        self.dut.m_axis_tready.value = 0
        accepted = await self.driver.send([1] * len(last), last, never())
        spent = accepted[-1] - accepted[0] if accepted else 0
        for _ in range(stated - spent):
            await edge
        require(self.dut.m_axis_tvalid.value, f"tvalid must rise {stated} cycles after a beat, tready or not")
        await pulse_reset(self.dut)
        require(not self.dut.m_axis_tvalid.value, "tvalid must be low after a reset")
