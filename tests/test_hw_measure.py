from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hw import measure, synth
from hw.emit import emit_unit
from hw.tools import ToolError
from sw.config import SynthConfig
from sw.ir.build import Builder
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import realize

ADDER = """
module adder(input clk, input [7:0] a, input [7:0] b, output reg [8:0] y);
  always @(posedge clk) y <= a + b;
endmodule
module \\wide.multiplier (input [15:0] a, input [15:0] b, output [31:0] y);
  assign y = a * b;
endmodule
"""


def test_cells_are_counted_by_kind() -> None:
    cells = {"LUT1": 1, "LUT6": 5, "INV": 2, "FDRE": 7, "FDSE": 1, "CARRY4": 3, "MUXF7": 4, "DSP48E1": 1}
    counted = measure.count_cells(cells | {"RAMB18E1": 2, "SRL16E": 3, "RAM64M": 1, "$scopeinfo": 9}, "xc7")
    # A RAM64M takes the four LUTs of a slice.
    assert counted == {"lut": 15, "ff": 8, "carry": 3, "mux": 4, "lutram": 7, "dsp": 1, "bram": 2}
    ecp5 = measure.count_cells(
        {"LUT4": 10, "CCU2C": 3, "TRELLIS_FF": 4, "MULT18X18D": 1, "DP16KD": 2, "TRELLIS_DPR16X4": 2}, "ecp5"
    )
    assert (ecp5["lut"], ecp5["lutram"], ecp5["dsp"], ecp5["bram"]) == (24, 8, 1, 2)


def test_a_cached_answer_is_not_computed_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        return 5

    assert [measure.cached(tmp_path, ["key", 1], compute) for _ in range(2)] == [5, 5]
    assert measure.cached(tmp_path, ["key", 2], compute) == 5
    assert len(calls) == 2


def test_a_missing_yosys_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YOSYS", "/nowhere/yosys")
    with pytest.raises(ToolError, match=r"^Yosys must be 0\.50 or later, not missing"):
        measure.resources(ADDER, ["adder"], "xc7", tmp_path)


@pytest.mark.tools
def test_an_adder_costs_a_lut_a_bit_and_a_multiplier_no_dsp(tmp_path: Path) -> None:
    found = measure.resources(ADDER, ["adder", "wide.multiplier"], "ecp5", tmp_path)
    assert found["adder"]["ff"] == 9
    assert found["adder"]["carry"] >= 4
    assert 8 <= found["adder"]["lut"] <= 12
    assert found["wide.multiplier"]["dsp"] == 0
    assert found["wide.multiplier"]["lut"] > 200
    allowed = measure.resources(ADDER, ["wide.multiplier"], "ecp5", tmp_path, hard_blocks=True)
    assert allowed["wide.multiplier"]["dsp"] == 1


PIPELINE = """
module delay(
  input clk, input rst,
  input [7:0] s_axis_tdata, input s_axis_tvalid, input s_axis_tlast, input m_axis_tready,
  output reg [7:0] m_axis_tdata, output m_axis_tvalid, output m_axis_tlast, output s_axis_tready
);
  assign {m_axis_tvalid, m_axis_tlast, s_axis_tready} = {s_axis_tvalid, s_axis_tlast, m_axis_tready};
  always @(posedge clk) m_axis_tdata <= s_axis_tdata STEP;
endmodule
"""


@pytest.mark.tools
def test_more_logic_is_slower_on_both_families(tmp_path: Path) -> None:
    buses = {"s_axis_tdata": 8, "m_axis_tdata": 8}

    def clock(step: str, family: str) -> float:
        text = PIPELINE.replace("STEP", step)
        found = measure.fmax_mhz(
            text, "delay", buses, target_mhz=100.0, seeds=1, cache=tmp_path, family=family
        )
        assert found["seeds"] == [found["median"]]
        assert re.fullmatch(r"\S+ to \S+: \d+ cells, \d+\.\d ns in cells, \d+\.\d ns between", found["limit"])
        return found["median"]

    assert {
        family: clock("", family) > 1.5 * clock("* s_axis_tdata", family) for family in measure.DEVICES
    } == {
        "ecp5": True,
        "ice40": True,
    }


@pytest.mark.tools
def test_a_table_at_a_units_input_counts(tmp_path: Path) -> None:
    """Yosys would move the register in front of it behind it."""
    unit = """
module looked (input clk, input rst, input [7:0] s_axis_tdata, input s_axis_tvalid, input s_axis_tlast,
               output s_axis_tready, output reg [7:0] m_axis_tdata, output m_axis_tvalid, output m_axis_tlast,
               input m_axis_tready);
  assign {s_axis_tready, m_axis_tvalid, m_axis_tlast} = {m_axis_tready, s_axis_tvalid, s_axis_tlast};
  reg [7:0] entries [255:0];
  integer k;
  initial for (k = 0; k < 256; k = k + 1) entries[k] = (k * k * 37 + k * 11) >> 3;
  wire [7:0] found = ADDRESS;
  always @(posedge clk) m_axis_tdata <= found + 8'd3;
endmodule
"""
    buses = {"s_axis_tdata": 8, "m_axis_tdata": 8}
    clocks = [
        measure.fmax_mhz(
            unit.replace("ADDRESS", found), "looked", buses, target_mhz=100.0, seeds=1, cache=tmp_path
        )
        for found in ("s_axis_tdata", "entries[s_axis_tdata]")
    ]
    assert clocks[0]["median"] > 1.3 * clocks[1]["median"]
    assert clocks[1]["limit"].startswith("unit.s_axis_tdata to ")


def _path(*steps: tuple[str, float], ends: tuple[str, str]) -> dict[str, Any]:
    path = [{"type": type, "delay": delay, "from": {"cell": ends[0]}} for type, delay in steps]
    path.append({"type": "setup", "delay": 0.1, "from": {"cell": ends[1]}})
    return {"from": "posedge clk", "to": "posedge clk", "path": path}


def test_the_longest_path_between_registers_is_told() -> None:
    short = _path(("clk-to-q", 0.5), ("routing", 1.0), ends=("a_TRELLIS_FF_Q", "b_TRELLIS_FF_Q_3"))
    long = _path(
        *[("clk-to-q", 0.5), ("routing", 1.25), ("logic", 0.25), ("routing", 1.0), ("logic", 0.2)],
        ends=("lane0.w3_q1_SB_DFFE_Q_D_SB_LUT4_O", "lane0.w4_q2_TRELLIS_FF_Q_9"),
    )
    inward = _path(("routing", 9.0), ends=("pin", "b")) | {"from": "<async>"}
    told = "lane0.w3_q1 to lane0.w4_q2: 2 cells, 1.1 ns in cells, 2.2 ns between"
    assert measure.longest_path([short, long, inward]) == told
    assert measure.longest_path([inward]) == ""


@pytest.mark.tools
def test_verilog_that_is_none_fails_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"^Yosys must succeed, not end with status 1: .*ERROR"):
        measure.resources("module broken(", ["broken"], "ice40", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.tools
def test_units_are_measured_whole_bare_and_beside_their_operator_pipeline(tmp_path: Path) -> None:
    formats = FixedFormat.parse("s6.3"), FixedFormat.parse("s5.2")
    builder = Builder(formats[0])
    table = [max(-16, min(15, round(k / 2))) for k in [*range(32), *range(-32, 0)]]
    program = builder.build(builder.lookup(builder.low(builder.x, 6), table), formats[1])
    plain = realize(parse("x"), *formats, kind="operator")
    units = []
    for folder, made, kind in (
        (tmp_path, program, "table"),
        (tmp_path / "operator", plain.program, "operator"),
    ):
        body = emit_unit(made, name="u", folder=folder, expression="x", realization=kind, max_ulp=0, lanes=2)
        units.append(body)
    config = SynthConfig(families=("xc7", "ice40"), pnr_seeds=1, jobs=1)
    report = synth.synthesize(units[:1], tmp_path, config, 100.0, tmp_path / "cache")
    unit = report["units"]["u"]
    assert report["tools"].keys() == {"Yosys", "nextpnr-ecp5"}
    assert unit["families"].keys() == {"xc7", "ice40"}
    counts = unit["families"]["xc7"]
    assert counts["lut_per_lane"] == counts["top"]["lut"] / 2
    assert counts["datapath"]["lut"] <= 8
    assert counts["top"]["ff"] == 2 * counts["datapath"]["ff"] + 2 * units[0]["latency_cycles"]
    assert {
        top[kind] for top in (counts["top"], counts["datapath"]) for kind in ("dsp", "bram", "lutram")
    } == {0}
    assert unit["fmax_mhz"]["median"] > 100
    assert unit["operator"]["top"]["lut"] > 0
    assert report["total"]["ice40"]["ff"] == unit["families"]["ice40"]["top"]["ff"]
    assert synth.resource_table(report, config.families).row_count == 2


@pytest.mark.tools
def test_a_table_whose_sign_is_0_for_one_half_takes_a_lut_a_bit(tmp_path: Path) -> None:
    format = FixedFormat.parse("s6.3")
    gelu = realize(parse("0.5*x*(1 + erf(0.7071067811865476*x))"), format, format, kind="table").program
    body = emit_unit(gelu, name="u", folder=tmp_path, expression="x", realization="table", max_ulp=0)
    lane = f"{body['top']}.lane0"
    found = measure.resources((tmp_path / "u.v").read_text(), [lane], "xc7", tmp_path / "cache")
    assert found[lane]["lut"] == 6
