"""Netlists after synthesis: gates against Python, and units that are right and wrong at gate level."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from hw.emit import emit_unit
from hw.tools import ToolError
from sim_tb.gate_level import flowing, simulate_unit, stalling
from sim_tb.netlist import GATES, MODELS, Netlist, Simulation, read_netlist, synthesised
from sw.ir import interpret
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining
from sw.ir.realize import realize

TRUTH = {
    "$_BUF_": lambda a: a,
    "$_NOT_": lambda a: not a,
    "$_AND_": lambda a, b: a and b,
    "$_NAND_": lambda a, b: not (a and b),
    "$_OR_": lambda a, b: a or b,
    "$_NOR_": lambda a, b: not (a or b),
    "$_XOR_": lambda a, b: a != b,
    "$_XNOR_": lambda a, b: a == b,
    "$_ANDNOT_": lambda a, b: a and not b,
    "$_ORNOT_": lambda a, b: a or not b,
    "$_MUX_": lambda a, b, s: b if s else a,
}
CLOCK = {"clk": ("input", [2])}


@pytest.mark.parametrize("kind", GATES)
def test_gates(kind: str) -> None:
    names = GATES[kind][0]
    for values in itertools.product((0, 1), repeat=len(names)):
        found = GATES[kind][1](*(np.array([v], dtype=np.uint8) for v in values))
        assert found.tolist() == [int(TRUTH[kind](*values))]


def test_gates_are_evaluated_in_order_and_registers_move_together() -> None:
    ports = CLOCK | {"a": ("input", [3]), "y": ("output", [5, 6, "1"])}
    cells = [
        ("$_NOT_", {"A": [4], "Y": [5]}),  # written before what drives it
        ("$_XOR_", {"A": [3], "B": [6], "Y": [4]}),
        ("$_DFF_P_", {"C": [2], "D": [7], "Q": [6]}),
        ("$_DFF_P_", {"C": [2], "D": [3], "Q": [7]}),
    ]
    simulation = Simulation(read_netlist(ports, cells), 2, np.random.default_rng(0))
    seen = []
    for a in (0, 1, 1, 0, 0):
        value = np.array([a, 1 - a])
        seen.append(simulation.settle({"a": value})["y"])
        simulation.clock()
    a, q = [0, 1, 1, 0, 0], [None, None, 0, 1, 1]
    assert [int(y[0]) for y in seen[2:]] == [4 + 2 * q[t] + (a[t] == q[t]) for t in (2, 3, 4)]
    assert [int(y[1]) for y in seen[2:]] == [4 + 2 * (1 - q[t]) + (a[t] == q[t]) for t in (2, 3, 4)]


LATCH = ("$_DLATCH_P_", {"E": [2], "D": [3], "Q": [4]})
OTHER_CLOCK = ("$_DFF_P_", {"C": [3], "D": [3], "Q": [4]})
LOOP = [("$_NOT_", {"A": [3], "Y": [4]}), ("$_NOT_", {"A": [4], "Y": [3]})]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([LATCH], r"^cells of a netlist must be gates and registers of the clock, not \$_DLATCH_P_$"),
        ([OTHER_CLOCK], r"^cells of a netlist must be .*, not \$_DFF_P_$"),
        (LOOP, r"^netlist must have no loop of gates, not \[(3, 4, 3|4, 3, 4)\]$"),
    ],
)
def test_what_is_no_netlist_of_gates_is_refused(cells: list, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        read_netlist(CLOCK, cells)


def delay(*, drop: bool = False, blind: bool = False) -> Netlist:
    """A unit s2.0 -> s2.0 of one register stage as gates; or one that drops ready, or ignores a stall."""
    nets = {"rst": 3, "x0": 4, "x1": 5, "v": 6, "l": 7, "r": 8, "y0": 9, "y1": 10, "yv": 11, "yl": 12}
    ports = CLOCK | {
        "rst": ("input", [3]),
        "s_axis_tdata": ("input", [4, 5]),
        "s_axis_tvalid": ("input", [6]),
        "s_axis_tlast": ("input", [7]),
        "m_axis_tready": ("input", [8]),
        "m_axis_tdata": ("output", [9, 10]),
        "m_axis_tvalid": ("output", [11]),
        "m_axis_tlast": ("output", [12]),
        "s_axis_tready": ("output", ["1" if drop else 20]),
    }
    cells = [("$_ORNOT_", {"A": [8], "B": [11], "Y": [20]})]
    enable = "1" if blind else 20
    for number, (name, source) in enumerate((("y0", 4), ("y1", 5), ("yl", 7), ("yv", 6))):
        q = nets[name]
        cells.append(("$_MUX_", {"A": [q], "B": [source], "S": [enable], "Y": [30 + number]}))
        last = 30 + number
        if name == "yv":
            cells.append(("$_ANDNOT_", {"A": [last], "B": [3], "Y": [40]}))
            last = 40
        cells.append(("$_DFF_P_", {"C": [2], "D": [last], "Q": [q]}))
    return read_netlist(ports, cells)


def test_a_unit_passes_and_broken_ones_do_not() -> None:
    format = FixedFormat.parse("s2.0")
    codes = np.random.default_rng(0).choice(format.codes(), (16, 8))

    def found(netlist: Netlist, expected: np.ndarray, latency: int = 1) -> tuple[str, str]:
        def rng() -> np.random.Generator:
            return np.random.default_rng(1)

        return (
            flowing(netlist, codes, expected, format, latency, rng()),
            stalling(netlist, codes, expected, format, rng()),
        )

    assert found(delay(), codes) == ("", "")
    assert found(delay(drop=True), codes)[0] == ""
    assert found(delay(drop=True), codes)[1].startswith("with pauses: ")
    assert found(delay(blind=True), codes)[1].startswith("with pauses: ")
    assert found(delay(), codes, latency=2)[0] == "without pauses: a result after 1 cycles, not 2"
    assert found(delay(), codes, latency=0)[0].startswith("without pauses: code ")
    wrong = np.where(codes == 1, 0, codes)
    flow, stall = found(delay(), wrong)
    assert flow.startswith("without pauses: code 1 must give 0, not data 0x1 or")
    assert stall.startswith("with pauses: code 1 must give 0, not data 0x1 or")


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.parametrize("family", MODELS)
def test_a_unit_is_its_table_after_synthesis(family: str, tmp_path: Path) -> None:
    formats = FixedFormat.parse("s7.4"), FixedFormat.parse("s6.0")
    made = realize(parse("31*tanh(x)+0.3*x"), *formats, kind="pwl", max_ulp=1)
    described = {"expression": "-", "realization": "pwl", "max_ulp": 1}
    unit = emit_unit(made.program, name="u", folder=tmp_path, pipelining=Pipelining(250.0), **described)
    text = (tmp_path / unit["verilog"]).read_text()
    table = interpret.table(made.program)

    def simulated(table: np.ndarray) -> str:
        found = simulate_unit(
            text,
            unit["top"],
            family,
            input=formats[0],
            output=formats[1],
            table=table,
            latency_cycles=unit["latency_cycles"],
            cache=tmp_path / "cache",
        )
        assert (found.codes, found.beats) == (128, 256)
        return found.failure

    assert simulated(table) == ""
    changed = table.copy()
    changed[77] ^= 1
    assert simulated(changed).startswith(f"without pauses: code {77 - 64} must give {changed[77]}, ")
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.tools
def test_a_missing_module_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"^Yosys must succeed, not end with status 1: .*nowhere"):
        synthesised("module a(input clk); endmodule", "nowhere", "ice40", tmp_path)
