"""The cocotb tests of one norm. They run inside the simulator and load nothing heavy."""

from __future__ import annotations

import itertools
from typing import Any

import cocotb
import numpy as np

from sim_tb.beats import Beats, token_rows
from sim_tb.bench import Bench, Flow
from sim_tb.scoreboard import RowScoreboard, require
from sw.ir.formats import IntArray

FLOW_BEATS = 256
"""Beats of the test of cycles, beyond twice the latency."""
FEWEST_ROWS = 24
"""Rows of that test and of the one with stalls, however long they are."""
MODEL = "integer model"


def _beats(bench: Bench, rows_raw: IntArray) -> Beats:
    """Rows as beats; what stands in lanes beyond the channels would show in the sums."""
    return token_rows(rows_raw, bench.job.lanes, bench.job.input_format.max_raw)


def _compared(bench: Bench, flow: Flow, wanted_raw: IntArray) -> tuple[RowScoreboard, int]:
    """The scoreboard after the comparison with the model's rows, and how many rows are wrong."""
    seen = flow.received
    board = RowScoreboard(bench.job.output_format, flow.beats, seen.words, seen.last, seen.faults)
    wrong = board.compare(MODEL, token_rows(wanted_raw, bench.job.lanes, 0).codes_raw)
    return board, int(wrong.reshape(len(wanted_raw), -1).any(axis=1).sum())


def _drawn(bench: Bench, beats: int) -> tuple[IntArray, IntArray]:
    """So many beats of the rows to check, drawn at random, and what the model says for them."""
    count = max(-(-beats // bench.job.row_beats), FEWEST_ROWS)
    picked = bench.rng.integers(0, len(bench.expected.codes_raw), count)
    return bench.expected.codes_raw[picked], bench.expected.models_raw[MODEL][picked]


@cocotb.test()
async def every_row(dut: Any) -> None:
    """Every row gives what the model does, in continuous flow."""
    bench = Bench(dut)
    rows_raw = bench.expected.codes_raw
    flow = await bench.run(_beats(bench, rows_raw))
    board, mismatches = _compared(bench, flow, bench.expected.models_raw[MODEL])
    bench.record("every_row", flow, rows=len(rows_raw), mismatches=mismatches)
    board.verdict()


@cocotb.test()
async def stated_latency(dut: Any) -> None:
    """In continuous flow first results and rows come the stated cycles apart; a reset empties the norm."""
    bench = Bench(dut)
    job = bench.job
    rows_raw, wanted_raw = _drawn(bench, FLOW_BEATS + 2 * job.latency_cycles)
    flow = await bench.run(_beats(bench, rows_raw))
    _compared(bench, flow, wanted_raw)[0].verdict()
    starts, firsts = flow.accepted[:: job.row_beats], flow.received.cycles[:: job.row_beats]
    found = {out - into for into, out in zip(starts, firsts, strict=True)}
    require(
        found == {job.latency_cycles},
        f"latency must be the stated {job.latency_cycles} cycles, not {sorted(found)}",
    )
    apart = {after - before for before, after in itertools.pairwise(starts)}
    require(
        apart == {job.interval_cycles},
        f"a row must be taken every {job.interval_cycles} cycles as stated, not every {sorted(apart)}",
    )
    bench.record("stated_latency", flow, latency_cycles=found.pop(), interval_cycles=apart.pop())
    await bench.check_valid_does_not_wait((np.arange(job.row_beats) == job.row_beats - 1).tolist())


@cocotb.test()
async def random_stalls(dut: Any) -> None:
    """Under random pauses on both sides no beat is lost, doubled or out of order, and waiting beats hold."""
    bench = Bench(dut)
    rows_raw, wanted_raw = _drawn(bench, bench.job.stall_beats)
    flow = await bench.run(_beats(bench, rows_raw), stalls=True)
    board, _ = _compared(bench, flow, wanted_raw)
    bench.record("random_stalls", flow, beats=len(flow.beats))
    board.verdict()


@cocotb.test()
async def replay(dut: Any) -> None:
    """Real tokens, a row each, give what the model does."""
    bench = Bench(dut)
    flow = await bench.run(_beats(bench, bench.expected.replay_raw))
    board, _ = _compared(bench, flow, bench.expected.replay_out_raw)
    bench.record("replay", flow, beats=len(flow.beats))
    board.verdict()
