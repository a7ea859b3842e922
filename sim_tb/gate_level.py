"""Gate level: a unit's netlist against its table, on every input code, flowing and with stalls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sim_tb.netlist import Netlist, Simulation, synthesised
from sw.ir.formats import FixedFormat, IntArray

BoolArray = npt.NDArray[np.bool_]
_BEATS = 16
"""Beats of every sequence; there are as many sequences as the codes need."""
_RESET_CYCLES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class GateLevel:
    """What a simulation of the netlist showed.

    Args:
        codes: Input codes that went through, all of them, once flowing and once with stalls.
        beats: Beats that were compared.
        failure: The first thing that was wrong; empty if nothing was.
    """

    codes: int
    beats: int
    failure: str


def simulate_unit(
    verilog: str,
    top: str,
    family: str,
    *,
    input: FixedFormat,
    output: FixedFormat,
    table: IntArray,
    latency_cycles: int,
    cache: Path,
    seed: int = 0,
) -> GateLevel:
    """Synthesise a unit of one lane for a family, and compare the netlist with the table on every code.

    Twice: without a pause, where every result must come exactly ``latency_cycles`` after its code; and with
    pauses of sender and receiver at random, where nothing may be lost, repeated or changed while it waits.

    Raises:
        ToolError: As ``sim_tb.netlist.synthesised``.
    """
    netlist = synthesised(verilog, top, family, cache)
    rng = np.random.default_rng(seed)
    codes = sequences(input, rng)
    expected = table[codes - input.min_raw]
    failure = flowing(netlist, codes, expected, output, latency_cycles, rng)
    failure = failure or stalling(netlist, codes, expected, output, rng)
    return GateLevel(codes=1 << input.width, beats=2 * codes.size, failure=failure)


def sequences(input: FixedFormat, rng: np.random.Generator) -> IntArray:
    """All codes in random order, a row a beat, a column a sequence; some twice where they do not fill it."""
    size = -(-(1 << input.width) // _BEATS) * _BEATS
    return np.resize(rng.permutation(input.codes()), max(size, 4 * _BEATS)).reshape(_BEATS, -1)


def flowing(
    netlist: Netlist,
    codes: IntArray,
    expected: IntArray,
    output: FixedFormat,
    latency_cycles: int,
    rng: np.random.Generator,
) -> str:
    """A code a cycle, and what is wrong with the results that must follow ``latency_cycles`` later."""
    beats, numsequences = codes.shape
    simulation = _after_reset(netlist, numsequences, rng)
    always = np.ones(numsequences, dtype=np.int64)
    for cycle in range(beats + latency_cycles):
        now = min(cycle, beats - 1)
        sent = {"rst": 0 * always, "s_axis_tdata": codes[now], "s_axis_tlast": codes[now] & 1}
        found = simulation.settle(sent | {"s_axis_tvalid": always, "m_axis_tready": always})
        done = cycle - latency_cycles
        if done >= 0:
            last = codes[done] & 1
            wrong = _different(found["m_axis_tdata"], expected[done], output)
            wrong |= (found["m_axis_tvalid"] != 1) | (found["m_axis_tlast"] != last)
            if wrong.any():
                return _told("without pauses", codes[done], expected[done], found["m_axis_tdata"], wrong)
        elif found["m_axis_tvalid"].any():
            return f"without pauses: a result after {cycle} cycles, not {latency_cycles}"
        simulation.clock()
    return ""


def stalling(
    netlist: Netlist, codes: IntArray, expected: IntArray, output: FixedFormat, rng: np.random.Generator
) -> str:
    """Pauses on both sides at random, and what is wrong with the results or their order."""
    beats, numsequences = codes.shape
    simulation = _after_reset(netlist, numsequences, rng)
    column = np.arange(numsequences)
    sent = np.zeros(numsequences, dtype=np.int64)
    received = np.zeros(numsequences, dtype=np.int64)
    valid = np.zeros(numsequences, dtype=bool)
    for _ in range(20 * beats + 200):
        # Once offered, a beat stays.
        valid = (valid | (rng.integers(0, 4, numsequences) > 0)) & (sent < beats)
        ready = rng.integers(0, 4, numsequences) > 0
        now = codes[np.minimum(sent, beats - 1), column]
        inputs = {"rst": 0 * sent, "s_axis_tdata": now, "s_axis_tlast": now & 1}
        found = simulation.settle(inputs | {"s_axis_tvalid": 1 * valid, "m_axis_tready": 1 * ready})
        offered = found["m_axis_tvalid"] == 1
        if (offered & (received == beats)).any():
            return "with pauses: more beats than were sent"
        due = np.minimum(received, beats - 1)
        # Looking at what waits, too, shows that it does not change.
        wrong = offered & _different(found["m_axis_tdata"], expected[due, column], output)
        wrong |= offered & ((found["m_axis_tlast"] != codes[due, column] & 1) | (received >= sent))
        if wrong.any():
            return _told(
                "with pauses", codes[due, column], expected[due, column], found["m_axis_tdata"], wrong
            )
        received += offered & ready
        accepted = valid & (found["s_axis_tready"] == 1)
        sent += accepted
        valid &= ~accepted
        simulation.clock()
        if (received == beats).all():
            return ""
    return f"with pauses: {int((beats - received).sum())} beats never came"


def _after_reset(netlist: Netlist, numsequences: int, rng: np.random.Generator) -> Simulation:
    simulation = Simulation(netlist, numsequences, rng)
    zero = np.zeros(numsequences, dtype=np.int64)
    for _ in range(_RESET_CYCLES):
        simulation.settle(dict.fromkeys(netlist.ports, zero) | {"rst": zero + 1})
        simulation.clock()
    return simulation


def _different(
    found: IntArray, expected: IntArray, output: FixedFormat
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether the lane's lowest bits, which are the code, are another code."""
    mask = (1 << output.width) - 1
    return (found & mask) != (expected & mask)


def _told(when: str, codes: IntArray, expected: IntArray, found: IntArray, wrong: BoolArray) -> str:
    first = int(np.flatnonzero(wrong)[0])
    return (
        f"{when}: code {codes[first]} must give {expected[first]}, not data {int(found[first]):#x} "
        f"or another valid or last"
    )
