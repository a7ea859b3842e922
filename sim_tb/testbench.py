"""The cocotb tests of one unit. They run inside the simulator and load nothing heavy."""

from __future__ import annotations

import itertools
from typing import Any

import cocotb
import numpy as np

from sim_tb.beats import code_sweep, random_rows, token_rows
from sim_tb.bench import Bench, Flow
from sim_tb.scoreboard import Scoreboard, require
from sw.ir.formats import IntArray

FLOW_BEATS = 256
"""Beats of the latency test, beyond the pipeline's depth."""


def _scoreboard(bench: Bench, flow: Flow) -> Scoreboard:
    seen = flow.received
    return Scoreboard(bench.job.output_format, flow.beats, seen.words, seen.last, seen.faults)


def _models(bench: Bench, codes_raw: IntArray) -> dict[str, IntArray]:
    """What each model says for codes of any shape."""
    order = np.argsort(bench.expected.codes_raw)
    place = order[np.searchsorted(bench.expected.codes_raw, codes_raw, sorter=order)]
    return {name: table[place] for name, table in bench.expected.models_raw.items()}


@cocotb.test()
async def every_code(dut: Any) -> None:
    """Every lane maps every input code as all models do, in continuous flow."""
    bench = Bench(dut)
    beats = code_sweep(bench.expected.codes_raw, bench.job.lanes)
    flow = await bench.run(beats)
    board = _scoreboard(bench, flow)
    wrong = np.zeros(beats.codes_raw.shape, dtype=np.bool_)
    for name, wanted_raw in _models(bench, beats.codes_raw).items():
        wrong |= board.compare(name, wanted_raw)
    mismatches = len(np.unique(beats.codes_raw[wrong]))
    bench.record("every_code", flow, codes=len(bench.expected.codes_raw), mismatches=mismatches)
    board.verdict()


@cocotb.test()
async def stated_latency(dut: Any) -> None:
    """Continuous flow takes and gives a beat a cycle, the stated latency apart; a reset empties the unit."""
    bench = Bench(dut)
    stated = bench.job.latency_cycles
    beats = random_rows(bench.expected.codes_raw, bench.job.lanes, FLOW_BEATS + 2 * stated, bench.rng)
    flow = await bench.run(beats)
    _scoreboard(bench, flow).verdict()
    waits = {after - before for before, after in itertools.pairwise(flow.accepted)}
    require(waits == {1}, f"continuous flow must be taken every cycle, not every {sorted(waits)} cycles")
    found = {out - into for into, out in zip(flow.accepted, flow.received.cycles, strict=True)}
    require(found == {stated}, f"latency must be the stated {stated} cycles, not {sorted(found)}")
    bench.record("stated_latency", flow, latency_cycles=stated)
    await bench.check_valid_does_not_wait([True])


@cocotb.test()
async def random_stalls(dut: Any) -> None:
    """Under random pauses on both sides no beat is lost, doubled or out of order, and waiting beats hold."""
    bench = Bench(dut)
    beats = random_rows(bench.expected.codes_raw, bench.job.lanes, bench.job.stall_beats, bench.rng)
    flow = await bench.run(beats, stalls=True)
    board = _scoreboard(bench, flow)
    for name, wanted_raw in _models(bench, beats.codes_raw).items():
        board.compare(name, wanted_raw)
    bench.record("random_stalls", flow, beats=len(beats))
    board.verdict()


@cocotb.test()
async def replay(dut: Any) -> None:
    """Real activations of the quantized model, a token a row, give what the model computed from them."""
    bench = Bench(dut)
    filler = int(bench.expected.codes_raw[0])
    beats = token_rows(bench.expected.replay_raw, bench.job.lanes, filler)
    wanted = token_rows(bench.expected.replay_out_raw, bench.job.lanes, 0)
    flow = await bench.run(beats)
    board = _scoreboard(bench, flow)
    board.compare("quantized model", wanted.codes_raw)
    bench.record("replay", flow, beats=len(beats))
    board.verdict()
