"""The cocotb tests of one unit. They run inside the simulator and load nothing heavy.

The launcher (``sim_tb.simulation``) leaves a job in a folder and names that folder in the environment
variable ``NORMFORGE_JOB``; what the tests count goes to ``figures.json`` there.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from random import Random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from sim_tb.beats import Beats, code_sweep, random_rows, to_words, token_rows
from sim_tb.job import FOLDER_VARIABLE, figures_path, read_expected, read_job
from sim_tb.pauses import never, random_epochs
from sim_tb.scoreboard import Scoreboard, require
from sim_tb.streams import Driver, Monitor, Received, pulse_reset, reset
from sw.ir.formats import IntArray
from sw.run_dir import read_json, write_json

FLOW_BEATS = 256
"""Beats of the latency test, beyond the pipeline's depth."""


class Bench:
    """A unit under test with its two stream ends, its job, and what it must give."""

    def __init__(self, dut: Any) -> None:
        self.folder = Path(os.environ[FOLDER_VARIABLE])
        self.dut = dut
        self.job = read_job(self.folder)
        self.expected = read_expected(self.folder)
        self.driver, self.monitor = Driver(dut), Monitor(dut)
        self.random = Random(self.job.seed)
        self.rng = np.random.default_rng(self.job.seed)

    async def run(self, beats: Beats, *, stalls: bool = False) -> tuple[list[int], Received]:
        """Reset, send beats and take as many: the cycles of acceptance, and what came out."""
        await reset(self.dut)
        source, sink = never(), never()
        if stalls:
            source, sink = random_epochs(self.random), random_epochs(self.random)
        words = to_words(beats.codes_raw, self.job.input_format)
        linger = 2 * self.job.latency_cycles + 64
        taking = cocotb.start_soon(self.monitor.take(len(beats), sink, linger=linger))
        accepted = await self.driver.send(words, beats.last.tolist(), source)
        return accepted, await taking

    def scoreboard(self, beats: Beats, received: Received) -> Scoreboard:
        return Scoreboard(self.job.output_format, beats, received.words, received.last, received.faults)

    def models(self, codes_raw: IntArray) -> dict[str, IntArray]:
        """What each model says for codes of any shape."""
        order = np.argsort(self.expected.codes_raw)
        place = order[np.searchsorted(self.expected.codes_raw, codes_raw, sorter=order)]
        return {name: table[place] for name, table in self.expected.models_raw.items()}

    def record(self, test: str, **figures: int) -> None:
        """Keep what a test counted, beside what the others did."""
        path = figures_path(self.folder)
        known = read_json(path) if path.exists() else {}
        write_json(path, known | {test: figures})


@cocotb.test()
async def every_code(dut: Any) -> None:
    """Every lane maps every input code as all models do, in continuous flow."""
    bench = Bench(dut)
    beats = code_sweep(bench.expected.codes_raw, bench.job.lanes)
    _, received = await bench.run(beats)
    board = bench.scoreboard(beats, received)
    wrong = np.zeros(beats.codes_raw.shape, dtype=np.bool_)
    for name, wanted_raw in bench.models(beats.codes_raw).items():
        wrong |= board.compare(name, wanted_raw)
    bench.record(
        "every_code",
        codes=len(bench.expected.codes_raw),
        mismatches=len(np.unique(beats.codes_raw[wrong])),
    )
    board.verdict()


@cocotb.test()
async def stated_latency(dut: Any) -> None:
    """Continuous flow takes and gives a beat a cycle, the stated latency apart; a reset empties the unit."""
    bench = Bench(dut)
    stated = bench.job.latency_cycles
    beats = random_rows(bench.expected.codes_raw, bench.job.lanes, FLOW_BEATS + 2 * stated, bench.rng)
    accepted, received = await bench.run(beats)
    bench.scoreboard(beats, received).verdict()
    waits = {after - before for before, after in itertools.pairwise(accepted)}
    require(waits == {1}, f"continuous flow must be taken every cycle, not every {sorted(waits)} cycles")
    found = {out - into for into, out in zip(accepted, received.cycles, strict=True)}
    require(found == {stated}, f"latency must be the stated {stated} cycles, not {sorted(found)}")
    bench.record("stated_latency", latency_cycles=stated)
    await _valid_does_not_wait(bench)


async def _valid_does_not_wait(bench: Bench) -> None:
    """One beat into an idle unit whose output nobody takes: ``tvalid`` rises all the same; then a reset."""
    dut, stated = bench.dut, bench.job.latency_cycles
    edge = RisingEdge(dut.clk)
    dut.m_axis_tready.value = 0
    await bench.driver.send([1], [True], never())
    for _ in range(stated):
        await edge
    require(dut.m_axis_tvalid.value, f"tvalid must rise {stated} cycles after a beat, tready or not")
    await pulse_reset(dut)
    require(not dut.m_axis_tvalid.value, "tvalid must be low after a reset")


@cocotb.test()
async def random_stalls(dut: Any) -> None:
    """Under random pauses on both sides no beat is lost, doubled or out of order, and waiting beats hold."""
    bench = Bench(dut)
    beats = random_rows(bench.expected.codes_raw, bench.job.lanes, bench.job.stall_beats, bench.rng)
    _, received = await bench.run(beats, stalls=True)
    board = bench.scoreboard(beats, received)
    for name, wanted_raw in bench.models(beats.codes_raw).items():
        board.compare(name, wanted_raw)
    bench.record("random_stalls", beats=len(beats))
    board.verdict()


@cocotb.test()
async def replay(dut: Any) -> None:
    """Real activations of the quantized model, a token a row, give what the model computed from them."""
    bench = Bench(dut)
    filler = int(bench.expected.codes_raw[0])
    beats = token_rows(bench.expected.replay_raw, bench.job.lanes, filler)
    wanted = token_rows(bench.expected.replay_out_raw, bench.job.lanes, 0)
    _, received = await bench.run(beats)
    board = bench.scoreboard(beats, received)
    board.compare("quantized model", wanted.codes_raw)
    bench.record("replay", beats=len(beats))
    board.verdict()
