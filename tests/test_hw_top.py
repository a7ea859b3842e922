from __future__ import annotations

import re
from pathlib import Path

import pytest

from hw.emit import emit_unit
from hw.top import TOP_FILES, check_names, top_verilog, write_top
from sw.files import read_json
from sw.ir.build import Builder
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from tests.verilog_tools import elaborated, lint

MODULE = "normforge_top"


def emitted(folder: Path, name: str, lanes: int) -> dict[str, object]:
    builder = Builder(FixedFormat(7, 3))
    program = builder.build(builder.clamp(builder.mul(builder.x, builder.x), 0, 500), FixedFormat(10, 4))
    body = emit_unit(
        program, name=name, folder=folder, expression="x*x", realization="operator", max_ulp=0, lanes=lanes
    )
    return body | {"site": name.replace("_", ".")}


@pytest.fixture
def units(tmp_path: Path) -> list[dict[str, object]]:
    return [emitted(tmp_path, name, lanes) for name, lanes in (("blocks_0", 3), ("norm", 1), ("0_norm", 2))]


def test_every_unit_has_its_ports_behind_its_name(units: list[dict[str, object]]) -> None:
    text = top_verilog(units, MODULE)
    ports = re.findall(r"^  (input|output) +wire (?:\[(\d+):0\] )?(\w+),?$", text, re.M)
    assert [name for _, _, name in ports[:2]] == ["clk", "rst"]
    found = {name: (way, msb) for way, msb, name in ports}
    assert len(found) == len(ports) == 2 + 3 * 8
    assert found["blocks_0_s_axis_tdata"] == ("input", "23")
    assert found["blocks_0_m_axis_tdata"] == ("output", "47")
    assert found["norm_m_axis_tvalid"] == ("output", "")
    assert found["norm_m_axis_tready"] == ("input", "")
    assert found["_0_norm_s_axis_tready"] == ("output", "")


def test_the_files_say_what_is_where(tmp_path: Path, units: list[dict[str, object]]) -> None:
    body = write_top(tmp_path, units, "digits")
    assert read_json(tmp_path / "top.json") == body
    assert body["sources"] == ["blocks_0.v", "norm.v", "0_norm.v", "top.v"]
    assert (body["top"], body["verilog"]) == (MODULE, "top.v")
    assert [unit["prefix"] for unit in body["units"]] == ["blocks_0_", "norm_", "_0_norm_"]
    assert [unit["site"] for unit in body["units"]] == ["blocks.0", "norm", "0.norm"]
    assert all((tmp_path / name).exists() for name in TOP_FILES)


def test_a_unit_must_not_be_called_top() -> None:
    with pytest.raises(
        InputError, match=r"^name of a unit of a run must be any but 'top', which puts the un"
    ):
        check_names(["norm", "top"])


@pytest.mark.tools
def test_verilator_and_yosys_take_it_and_every_unit_has_its_own_ports(
    tmp_path: Path, units: list[dict[str, object]]
) -> None:
    body = write_top(tmp_path, units, "digits")
    lint(tmp_path, body["sources"], MODULE)
    module = elaborated(tmp_path, body["sources"], MODULE)
    bits = {name: port["bits"] for name, port in module["ports"].items()}
    cells = {cell["type"]: cell["connections"] for cell in module["cells"].values()}
    assert set(cells) == {unit["top"] for unit in units}
    for unit, entry in zip(units, body["units"], strict=True):
        wires = cells[unit["top"]]
        assert (wires.pop("clk"), wires.pop("rst")) == (bits["clk"], bits["rst"])
        assert len(wires) == 8
        assert all(wire == bits[entry["prefix"] + port] for port, wire in wires.items())


@pytest.mark.tools
def test_lint_has_teeth(tmp_path: Path, units: list[dict[str, object]]) -> None:
    sources = write_top(tmp_path, units, "digits")["sources"]
    text = (tmp_path / "top.v").read_text()
    (tmp_path / "top.v").write_text(
        text.replace("[47:0] blocks_0_m_axis_tdata", "[39:0] blocks_0_m_axis_tdata")
    )
    with pytest.raises(InputError, match="Verilator must succeed"):
        lint(tmp_path, sources, MODULE)
