from __future__ import annotations

import re
from pathlib import Path

import pytest

from hw.axi_wrapper import template_text, wrapper_verilog
from hw.emit import emit_unit
from hw.top import write_top
from sw.ir.build import Builder
from sw.ir.formats import FixedFormat
from tests.verilog_tools import elaborated, lint

MODULE = "normforge_top"


def emitted(folder: Path, name: str, lanes: int) -> dict[str, object]:
    builder = Builder(FixedFormat(7, 3))
    program = builder.build(builder.clamp(builder.mul(builder.x, builder.x), 0, 500), FixedFormat(10, 4))
    return emit_unit(
        program, name=name, folder=folder, expression="x*x", realization="operator", max_ulp=0, lanes=lanes
    )


def test_every_port_says_which_interface_it_belongs_to(tmp_path: Path) -> None:
    text = wrapper_verilog("normforge_square", [("", emitted(tmp_path, "square", 3))])
    entries = re.findall(r"((?:  \(\*.*\*\)\n)+)  (?:input|output) +wire (\[\d+:0\] )?(\w+)", text)
    found = {name: attributes for attributes, _, name in entries}
    assert len(found) == 10
    assert '"xilinx.com:signal:clock:1.0 aclk CLK"' in found["aclk"]
    assert "ASSOCIATED_BUSIF s_axis:m_axis, ASSOCIATED_RESET aresetn" in found["aclk"]
    assert "POLARITY ACTIVE_LOW" in found["aresetn"]
    for end, size in (("s_axis", 3), ("m_axis", 6)):
        assert f"TDATA_NUM_BYTES {size}," in found[f"{end}_tdata"]
        for port in ("tdata", "tvalid", "tready", "tlast"):
            assert f'"xilinx.com:interface:axis:1.0 {end} {port.upper()}"' in found[f"{end}_{port}"]


@pytest.mark.tools
def test_it_inverts_the_reset_and_passes_the_rest_on(tmp_path: Path) -> None:
    unit = emitted(tmp_path, "square", 3)
    (tmp_path / "square_axis.v").write_text(wrapper_verilog("normforge_square", [("", unit)]))
    sources = ["square.v", "square_axis.v"]
    lint(tmp_path, sources, "normforge_square_axis")
    module = elaborated(tmp_path, sources, "normforge_square_axis")
    bits = {name: port["bits"] for name, port in module["ports"].items()}
    by_type = {cell["type"]: cell["connections"] for cell in module["cells"].values()}
    wires = by_type["normforge_square"]
    assert wires.pop("clk") == bits["aclk"]
    assert by_type["$not"] == {"A": bits["aresetn"], "Y": wires.pop("rst")}
    assert wires == {name: wire for name, wire in bits.items() if name not in {"aclk", "aresetn"}}


@pytest.mark.tools
def test_the_template_of_a_top_is_verilog_that_connects_every_port(tmp_path: Path) -> None:
    units = [emitted(tmp_path, name, lanes) | {"site": name} for name, lanes in (("a", 2), ("0", 1))]
    body = write_top(tmp_path, units, "run")
    pairs = [(entry["prefix"], entry) for entry in body["units"]]
    wrapper = wrapper_verilog(MODULE, pairs)
    (tmp_path / "top_axis.v").write_text(wrapper)
    declared = re.findall(r"^  (input|output) +wire (\[\d+:0\] )?(\w+)", wrapper, re.M)
    template = template_text("top", MODULE, pairs)
    assert "// a_s_axis, a_m_axis: s7.3 to s10.4, 2 lanes a beat, latency" in template
    assert "// _0_s_axis, _0_m_axis: s7.3 to s10.4, 1 lane a beat, latency" in template
    ports = ", ".join(f"{way} wire {size}{name}" for way, size, name in declared)
    (tmp_path / "user.v").write_text(f"module user({ports});\n{template}endmodule\n")
    sources = [*body["sources"], "top_axis.v", "user.v"]
    lint(tmp_path, sources, "user")
    elaborated(tmp_path, sources, "user")
