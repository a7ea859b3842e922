"""Stream rules of a unit, proved by k-induction: SymbiYosys with z3 on the generated Verilog."""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw.tools import SBY, SMTBMC, YOSYS, Z3, Found, ToolError

_PROOF_STEPS = 2
"""The rules with their invariants are inductive from one cycle to the next."""

_SPARE_STEPS = 5
"""Steps that the search for a counterexample goes beyond the latency."""

_RULES = """
// One beat of any content, accepted at any time, is watched until it leaves. `ahead` counts the beats
// before it, `age` the cycles since it was accepted in which nothing was stalled.
module watch(input clk);
  (* anyseq *) wire reset, pick, s_tvalid, s_tlast, m_tready;
  wire s_tready, m_tvalid, m_tlast;
  wire [LATENCY:1] valid, last;
  reg started = 0;
  wire rst = reset | !started;
  unit unit(.clk(clk), .rst(rst), .s_axis_tvalid(s_tvalid), .s_axis_tready(s_tready),
    .s_axis_tlast(s_tlast), .m_axis_tvalid(m_tvalid), .m_axis_tready(m_tready), .m_axis_tlast(m_tlast)PINS);

  wire accepted = s_tvalid & s_tready, delivered = m_tvalid & m_tready, stalled = m_tvalid & !m_tready;
  reg [COUNT_BITS-1:0] flight, ahead, age;
  reg watching, watched_last, was_stalled, was_last;
  wire turn = watching & m_tvalid & ahead == 0;
  always @(posedge clk) begin
    started <= 1;
    was_stalled <= stalled & !rst;
    was_last <= m_tlast;
    flight <= flight + accepted - delivered;
    ahead <= ahead - delivered;
    age <= age + !stalled;
    if (turn & delivered) watching <= 0;
    if (pick & accepted & !watching) begin
      watching <= 1; watched_last <= s_tlast; ahead <= flight - delivered; age <= 1;
    end
    if (rst) begin flight <= 0; watching <= 0; end
  end

  always @* if (started) begin
    full_rate: assert (s_tready == !stalled);
    held_while_stalled: assert (!was_stalled || (m_tvalid && m_tlast == was_last));
    none_invented: assert (!m_tvalid || flight != 0);
    none_lost: assert (!watching || age < LATENCY || turn);
    none_early: assert (!turn || age == LATENCY);
    tlast_stays: assert (!turn || m_tlast == watched_last);
  end

`ifdef INDUCTIVE
  // What makes the rules inductive: how the counts are seen in the unit's own registers. These are
  // proved with the rest, not assumed.
  wire [COUNT_BITS-1:0] beyond [0:LATENCY]; // beats in later stages
  assign beyond[LATENCY] = 0;
  always @* if (started) begin
    assert (flight == beyond[0]);
    assert (!watching || (age >= 1 && age <= LATENCY));
  end
  genvar k;
  generate for (k = 1; k <= LATENCY; k = k + 1) begin
    assign beyond[k-1] = beyond[k] + valid[k];
    always @* if (started && watching && age == k)
      assert (valid[k] && last[k] == watched_last && ahead == beyond[k]);
  end endgenerate
`endif
endmodule
"""

_TASK = """[options]
mode {mode}
depth {depth}
[engines]
smtbmc z3
[script]
read_verilog unit.v
hierarchy -top {top}
blackbox {top}.lane*
cutpoint -blackbox
proc
rename -top unit
setattr -unset init w:*
expose w:valid_q* w:last_q*
read_verilog -sv -formal{define} rules.sv
prep -top watch
[files]
unit.v
rules.sv
"""
"""Lanes are cut off: nothing that they do may matter. Initial values are dropped: the reset must do."""


def stream_problem(unit: Mapping[str, Any], verilog: str) -> str:
    """Prove the stream rules of a unit; empty, or which of them does not hold.

    For any traffic, any stalls and resets at any time: no beat is lost, invented, duplicated or overtaken;
    each is offered ``latency_cycles`` cycles after it was accepted, cycles in which the consumer stalls
    not counted, with its own ``tlast``; an offered beat stays until it is taken; the unit accepts a beat
    in every cycle in which nothing is stalled.

    Args:
        unit: An entry of a manifest.
        verilog: Its text.

    Raises:
        ToolError: A tool is missing, too old or fails.
    """
    if "DONE (PASS" in _said(unit, verilog, "prove"):
        return ""
    # Only the rules from reset, since a broken invariant would say nothing of them.
    broken = re.search(r"Assert failed in watch: (\w+)$", _said(unit, verilog, "bmc"), re.MULTILINE)
    return f"rule {broken[1]} is broken" if broken else "its rules are neither proved nor broken"


def _said(unit: Mapping[str, Any], verilog: str, mode: str) -> str:
    """What SymbiYosys says of the unit: a proof by induction, or a search from reset."""
    latency = int(unit["latency_cycles"])
    define = " -DINDUCTIVE" if mode == "prove" else ""
    depth = _PROOF_STEPS if mode == "prove" else latency + _SPARE_STEPS
    task = _TASK.format(mode=mode, depth=depth, top=unit["top"], define=define)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sby, names = _tools(folder / "tools")
        for file, text in (("unit.v", verilog), ("rules.sv", _rules(latency)), ("stream.sby", task)):
            (folder / file).write_text(text)
        # 2: a rule is broken; 4: neither proved nor broken; 16: something in the logs is wrong.
        said = sby.run(*names, "-f", "stream.sby", cwd=folder, accept=(0, 2, 4, 16))
    if "DONE (ERROR" in said:
        wrong = next((line for line in said.splitlines() if "ERROR" in line), "no reason")
        raise ToolError(f"{sby.name} must succeed, not end with an error: {wrong}")
    return said


def _rules(latency: int) -> str:
    """The rules around a unit of some latency, as Verilog."""
    pins = "".join(
        f",\n    .{name}_q{k}({name}[{k}])" for name in ("valid", "last") for k in range(1, latency + 1)
    )
    rules = _RULES.replace("PINS", pins).replace("COUNT_BITS", str((latency + 1).bit_length() + 1))
    return rules.replace("LATENCY", str(latency))


def _tools(scratch: Path) -> tuple[Found, list[str]]:
    """SymbiYosys with all that it calls on its PATH, and the arguments that name them."""
    sby, yosys, smtbmc, z3 = (tool.require() for tool in (SBY, YOSYS, SMTBMC, Z3))
    folders = [str(found.path.parent) for found in (yosys, smtbmc)]
    scratch.mkdir()  # z3 is called by that name, and nothing else beside it is to be found first
    (scratch / Z3.command).symlink_to(z3.path)
    folders.insert(0, str(scratch))
    path = os.pathsep.join([*folders, os.environ.get("PATH", "")])
    arguments = ["--yosys", yosys.path.name, "--smtbmc", smtbmc.path.name]
    return dataclasses.replace(sby, environment={"PATH": path}), arguments
