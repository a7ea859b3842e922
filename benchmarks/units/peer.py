"""da4ml's Verilog for the map of a unit: as one of its unary tables, and operation by operation.

Its Verilog is edited before Yosys reads it: a table's memory gets its content from assignments instead of a
file, and loses the attribute ``rom_style``, whose value Yosys does not parse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from typing import Any

import numpy as np

from hw.streams import lane_bits
from sw.ir.expr import Expr, interpret_expr
from sw.ir.formats import FixedFormat, IntArray

LATENCY_CUTOFF = 5.0
"""Adders between registers, da4ml's own default."""
CONSTANT_BITS = range(4, 25)
"""Fractional bits that constants may have; the fewest with which the map is right are taken."""
CORE = "da4ml_core"
TOP = "da4ml_unit"

OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "abs": abs,
    "clip": lambda a, lo, hi: a.max_of(lo).min_of(hi),
}
"""What da4ml has operations for; functions such as tanh are tables to it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A module ``CORE`` of da4ml, and ``TOP``, the same with a unit's ports but without back-pressure."""

    way: str
    """``table`` or ``operations``."""
    verilog: str
    table: IntArray
    """Its output codes, by da4ml's own interpreter on every input code."""
    max_ulp: int
    """Largest distance of these from the map."""
    latency_cycles: int


def peers(expr: Expr, input: FixedFormat, output: FixedFormat, map: IntArray) -> tuple[list[Peer], list[str]]:
    """da4ml's units for a map, exact ones and at most one code off; and why others are not there."""
    made, reasons = [table(input, output, map)], []
    try:
        found = list(_operations(expr, input, output, map))
    except KeyError as error:
        return made, [f"no operation for {error.args[0]}"]
    exact = [p for p in found if p.max_ulp == 0]
    near = [p for p in found if p.max_ulp == 1]
    if not exact:
        off = min((p.max_ulp for p in found), default=None)
        reasons.append(f"operations: at best {off} ulp off (ties go up, 32 bits)")
    return made + exact[:1] + near[:1], reasons


def table(input: FixedFormat, output: FixedFormat, map: IntArray) -> Peer:
    """The map as one look-up of the input code."""
    x = _variable(input.min_raw, input.max_raw, 1.0)
    codes = FixedFormat(output.width, 0, output.signed)
    return _peer("table", x, x.lookup(map.astype(np.float64)), FixedFormat(input.width, 0), codes, map)


def _operations(expr: Expr, input: FixedFormat, output: FixedFormat, map: IntArray) -> Iterator[Peer]:
    """The formula in da4ml's operations, rounded half up and saturated, with finer and finer constants."""
    for bits in CONSTANT_BITS:
        x = _variable(*(float(v) for v in input.to_real([input.min_raw, input.max_raw])), input.step)
        y = interpret_expr(expr, x, lambda c, b=bits: float(Fraction(round(c * 2**b), 2**b)), OPERATIONS)
        sign = int(output.signed)
        y = y.quantize(sign, output.width - sign - output.frac, output.frac, "SAT", "RND")
        peer = _peer("operations", x, y, input, output, map)
        yield peer
        if peer.max_ulp == 0:
            return


def _variable(low: float, high: float, step: float) -> Any:
    from da4ml.trace import HWConfig
    from da4ml.trace.fixed_variable import FixedVariable

    return FixedVariable(low, high, step, hwconf=HWConfig(1, -1, -1))


def _peer(way: str, x: Any, y: Any, input: FixedFormat, output: FixedFormat, map: IntArray) -> Peer:
    from da4ml.codegen.rtl.verilog import pipeline_logic_gen
    from da4ml.codegen.rtl.verilog.comb import table_mem_gen
    from da4ml.trace import comb_trace, to_pipeline

    logic = comb_trace([x], [y])
    found = logic.predict(input.to_real(input.codes()).reshape(-1, 1)).ravel()
    given = np.rint(np.ldexp(found, output.frac)).astype(np.int64)
    pipeline = to_pipeline(logic, LATENCY_CUTOFF, verbose=False)
    modules = pipeline_logic_gen(pipeline, CORE, timescale=None)
    tables = {name: text for stage in pipeline.solutions for name, text in table_mem_gen(stage).items()}
    latency = len(pipeline.solutions) + 1
    text = "\n".join([*_library(), *modules.values()])
    text = readable(text, tables) + _shim(logic.out_qint[0], input, output, latency)
    return Peer(way, text, given, int(np.abs(given - map).max()), latency)


def _library() -> list[str]:
    """da4ml's own modules of single operations."""
    folder = files("da4ml") / "codegen/rtl/verilog/source"
    return [file.read_text() for file in sorted(folder.iterdir(), key=lambda f: f.name)]


def readable(verilog: str, tables: dict[str, str]) -> str:
    """Verilog that Yosys reads: see the module's text."""
    lookup = re.compile(r"module lookup_table.*?endmodule", re.DOTALL)
    template = lookup.search(verilog)
    assert template is not None
    modules = []
    for number, (name, content) in enumerate(tables.items()):
        verilog = re.sub(
            rf'lookup_table #\((\d+), (\d+), "{name}"\)', rf"lookup_table_{number} #(\1, \2)", verilog
        )
        values = " ".join(f"lut_rom[{k}] = 'h{v};" for k, v in enumerate(content.split()) if "X" not in v)
        text = template.group().replace("module lookup_table ", f"module lookup_table_{number} ")
        text = text.replace("$readmemh(MEM_FILE, lut_rom);", values)
        modules.append(re.sub(r"\(\* rom_style.*?\*\)", "", text))
    return "\n".join([lookup.sub("", verilog), *modules])


def _shim(qint: Sequence[float], input: FixedFormat, output: FixedFormat, latency: int) -> str:
    """``TOP``: the core's data on the ports of a unit; valid and last are only delayed."""
    from da4ml.types import minimal_kif

    sign, whole, frac = minimal_kif(qint)
    core_bits, zeros = sign + whole + frac, output.frac - frac
    lanes = {"s_axis": lane_bits(input), "m_axis": lane_bits(output)}
    rest = lanes["m_axis"] - core_bits - zeros
    fill = f"y[{core_bits - 1}]" if sign else "1'b0"
    parts = [f"{{{rest}{{{fill}}}}}"] * (rest > 0) + ["y"] + [f"{zeros}'b0"] * (zeros > 0)
    return f"""
module {TOP}(
  input clk, input rst,
  input [{lanes["s_axis"] - 1}:0] s_axis_tdata,
  output [{lanes["m_axis"] - 1}:0] m_axis_tdata,
  input s_axis_tvalid, input s_axis_tlast, output s_axis_tready,
  output m_axis_tvalid, output m_axis_tlast, input m_axis_tready
);
  wire [{core_bits - 1}:0] y;
  reg [{latency - 1}:0] valid, last;
  {CORE} core(.clk(clk), .model_inp(s_axis_tdata[{input.width - 1}:0]), .model_out(y));
  assign m_axis_tdata = {{{", ".join(parts)}}};
  assign m_axis_tvalid = valid[{latency - 1}];
  assign m_axis_tlast = last[{latency - 1}];
  assign s_axis_tready = m_axis_tready;
  always @(posedge clk) begin
    valid <= rst ? 0 : {{valid, s_axis_tvalid}};
    last <= {{last, s_axis_tlast}};
  end
endmodule
"""
