"""A unit's logic against its table on every code, proved by SAT: Yosys with MiniSat."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw.streams import lane_bits
from hw.tools import YOSYS, ToolError
from sw.ir.formats import FixedFormat, IntArray

_SCRIPT = """read_verilog unit.v
hierarchy -top {top}
proc
flatten
memory_map
rename -top unit
setattr -unset init w:*
cd unit
delete -port rst m_axis_tready
connect -set rst 1'0
connect -set m_axis_tready 1'1
opt_expr
opt_clean
techmap -map through.v
cd ..
read_verilog table.v
hierarchy -top compare
proc
memory_map
flatten
opt -full
sat -enable_undef -set-def x -prove same {all_same} -show x,same
"""
"""Without reset and stalls a pipeline with its registers taken out is the function that it computes.
An undefined bit that reaches the output counts as a difference."""

_THROUGH = r"""
module \$dff (CLK, D, Q);
  parameter WIDTH = 1;
  parameter CLK_POLARITY = 1;
  input CLK;
  input [WIDTH-1:0] D;
  output [WIDTH-1:0] Q;
  assign Q = D;
endmodule
"""


def table_problem(unit: Mapping[str, Any], verilog: str, table: IntArray) -> str:
    """Prove that every lane maps every code as the table says; empty, or a code that it maps otherwise.

    The bits that extend a lane to whole bytes may be anything at the input, and are extended by sign or
    zero at the output. Registers are taken for wires: how many they are, and that codes keep apart in
    them, is what ``hw.formal_pipeline`` and ``hw.formal_stream`` prove.

    Args:
        unit: An entry of a manifest.
        verilog: Its text.
        table: Output code of every input code, index 0 = the most negative one.

    Raises:
        ToolError: Yosys is missing, too old or fails.
    """
    lanes = int(unit["lanes"])
    script = _SCRIPT.format(top=unit["top"], all_same=f"{lanes}'b{'1' * lanes}")
    yosys = YOSYS.require()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"unit.v": verilog, "through.v": _THROUGH, "table.v": _comparison(unit, table)}
        for file, text in (files | {"prove.ys": script}).items():
            (folder / file).write_text(text)
        said = yosys.run("-Q", "-T", "prove.ys", cwd=folder)
    if "SAT proof finished - no model found: SUCCESS!" in said:
        return ""
    found = re.search(r"^ +\\x +(?:\d+|--) +([0-9a-f]+|--) +([01]+)", said, re.MULTILINE)
    if found is None:
        raise ToolError(f"{yosys.name} must end with a proof or a counterexample, not without either")
    return _difference(unit, said, int(found[2], 2))


def _difference(unit: Mapping[str, Any], said: str, x: int) -> str:
    format = FixedFormat.parse(unit["input"])
    same = re.search(r"^ +\\same .* ([01x]+) *$", said, re.MULTILINE)
    lane = next((k for k, bit in enumerate(reversed(same[1])) if bit != "1"), 0) if same else 0
    code = (x >> (lane * lane_bits(format))) & ((1 << format.width) - 1)
    x_raw = code - (1 << format.width) if code > format.max_raw else code
    return f"lane {lane} maps code {x_raw} to another code than the table"


def _comparison(unit: Mapping[str, Any], table: IntArray) -> str:
    """Verilog of the table, and of the unit beside one table a lane."""
    input, output = FixedFormat.parse(unit["input"]), FixedFormat.parse(unit["output"])
    lanes, taken, given = int(unit["lanes"]), lane_bits(input), lane_bits(output)
    rows = [
        f"    {input.width}'d{int(x_raw) % (1 << input.width)}: y = {given}'d{int(y_raw) % (1 << given)};"
        for x_raw, y_raw in zip(input.codes(), table, strict=True)
    ]
    pairs = []
    for k in range(lanes):
        code, result = f"x[{k * taken} +: {input.width}]", f"[{k * given} +: {given}]"
        pairs.append(f"  table_of_codes table{k}({code}, t{result});")
        pairs.append(f"  assign same[{k}] = y{result} == t{result};")
    return "\n".join(
        [
            f"module table_of_codes(input [{input.width - 1}:0] x, output reg [{given - 1}:0] y);",
            *("  always @* case (x)", *rows, "  endcase", "endmodule"),
            f"module compare(input [{lanes * taken - 1}:0] x, output [{lanes - 1}:0] same);",
            f"  wire [{lanes * given - 1}:0] y, t;",
            "  unit unit(.s_axis_tdata(x), .m_axis_tdata(y));",
            *pairs,
            "endmodule\n",
        ]
    )
