"""Vendors' projects, without any vendor's tool."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from hw import project
from hw.parts import VENDORS, vendor_options
from hw.tools import NEXTPNR_ECP5, YOSYS
from sw import cli
from sw.files import read_json
from sw.ir.errors import InputError

FILES = {
    "vivado": {"Makefile", "u.tcl", "u_synth.tcl", "u_netlist.tcl", "u_run.tcl", "u_pgm.tcl"}
    | {"out_of_context.tcl"},
    "quartus": {"Makefile", "u.tcl"},
    "trellis": {"Makefile", "edalize_yosys_procs.tcl", "edalize_yosys_template.tcl"},
    "icestorm": {"Makefile", "edalize_yosys_procs.tcl", "edalize_yosys_template.tcl"},
    "diamond": {"u.tcl", "u_run.tcl"},
    "radiant": {"u.tcl", "u_run.tcl"},
    "gowin": {"Makefile", "edalize_gowin_template.tcl"},
}
SOURCES = {"rtl/u.v", "rtl/u_axis.v", "rtl/u.vh", "u.sdc"}
NAMED = {"trellis": ["--25k", "--speed 6", "CABGA381"], "icestorm": ["--hx8k", "ct256"]}
"""What stands for the default part where the tool does not take its name."""


def compiled(*options: str) -> int:
    words = ["compile", "clip(x)", "--in", "s8.4", "--out", "s6.2", "--name", "u", "--fmax", "125"]
    return cli.main([*words, "-o", "out", *options])


def wrapper(folder: Path) -> str:
    return (folder / "rtl/u_axis.v").read_text()


def files_of(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("tool", VENDORS)
def test_a_project_names_its_verilog_top_part_and_clock(
    tmp_path: Path, tool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compiled("--vendor", tool) == 0
    folder = tmp_path / "out/vendor" / tool
    part = VENDORS[tool].part
    said = f"{folder.relative_to(tmp_path)}: project for {tool}, part {part}\n"
    assert said in capsys.readouterr().out
    assert files_of(folder) == FILES[tool] | SOURCES
    text = "".join((folder / name).read_text() for name in FILES[tool])
    for wanted in ("rtl/u.v", "rtl/u_axis.v", "normforge_u_axis", *NAMED.get(tool, [part])):
        assert wanted in text
    assert ("u.sdc" in text) != ("--freq 125 " in text)
    clock, *delays = (folder / "u.sdc").read_text().splitlines()
    assert clock == "create_clock -name aclk -period 8.000 [get_ports aclk]"
    ports = re.findall(r"^ *(input|output) +wire (\[.*\])? *(\w+)", wrapper(folder), re.MULTILINE)
    assert len(ports) == 10
    assert sorted(delays) == sorted(
        f"set_{direction}_delay -clock aclk 0 [get_ports {{{name}{'[*]' if bits else ''}}}]"
        for direction, bits, name in ports
        if name != "aclk"
    )
    assert (folder / "rtl/u.v").read_bytes() == (tmp_path / "out/u.v").read_bytes()
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("tool", "part", "options"),
    [
        ("vivado", "xczu9eg-ffvb1156-2-e", {"part": "xczu9eg-ffvb1156-2-e"}),
        ("vivado", "xa7z020clg400-1I", {"part": "xa7z020clg400-1I"}),
        ("quartus", "10M50DAF484C7G", {"device": "10M50DAF484C7G", "family": "MAX 10"}),
        ("quartus", "EP4CE22F17C6", {"device": "EP4CE22F17C6", "family": "Cyclone IV E"}),
        ("trellis", "LFE5UM5G-85F-8BG756C", ["--um5g-85k", "--package", "CABGA756", "--speed", "8"]),
        ("trellis", "LFE5UM-45F-7MG285I", ["--um-45k", "--package", "CSFBGA285", "--speed", "7"]),
        ("icestorm", "iCE40UP5K-SG48", ["--up5k", "--package", "sg48"]),
        ("icestorm", "ice40u4k-sg48", ["--u4k", "--package", "sg48"]),
        ("icestorm", "iCE40LP384-QN32", ["--lp384", "--package", "qn32"]),
        ("icestorm", "iCE40HX4K-TQ144", ["--hx4k", "--package", "tq144"]),
    ],
)
def test_the_tool_is_told_about_the_part(tool: str, part: str, options: dict[str, str] | list[str]) -> None:
    found = vendor_options(tool, part, 100.0)
    assert (found["nextpnr_options"][: len(options)] if isinstance(options, list) else found) == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--vendor", "ise"), f"vendor must be one of {', '.join(VENDORS)}, not 'ise'"),
        (("--vendor", "trellis", "--part", "xc7"), "part must be one such as LFE5U-25F-6BG381C, not 'xc7'"),
        (("--vendor", "vivado", "--part", "xc 7"), "part must be one such as xc7a100tcsg324-1, not 'xc 7'"),
        (
            ("--vendor", "icestorm", "--part", "iCE40HX8K-FOO"),
            "package of iCE40HX8K must be one of CB132, CM81, CM121, CM225, BG121, CT256, not 'FOO'",
        ),
        (
            ("--vendor", "icestorm", "--part", "iCE40UP5K-CT256"),
            "package of iCE40UP5K must be one of SG48, UWG30, not 'CT256'",
        ),
        (("--part", "xc7"), "--part must come with --vendor, not alone as 'xc7'"),
    ],
)
def test_wrong_arguments_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert compiled(*options) == 2
    assert capsys.readouterr().err == f"normforge: {message}\n"
    assert not (tmp_path / "out").exists()


def test_without_edalize_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "edalize" else found(name))
    assert compiled("--vendor", "vivado") == 2
    message = "edalize must be installed for --vendor, not missing; pip install '.[vendor]' in the clone"
    assert capsys.readouterr().err == f"normforge: {message}\n"
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_no_half_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled() == 0
    before = files_of(tmp_path)
    body = read_json(tmp_path / "out/u.json")

    def broken(root: Path, edam: dict[str, object], tool: str) -> None:
        (root / "Makefile").write_text("half")
        raise InputError("disk full")

    monkeypatch.setattr(project, "_configure", broken)
    with pytest.raises(InputError, match="disk full"):
        project.write_project(tmp_path / "out", body, tool="vivado", fmax_mhz=100.0)
    assert files_of(tmp_path) == before
    assert not list((tmp_path / "out").glob(".vendor*"))


def test_results_of_the_tool_stay(tmp_path: Path) -> None:
    assert compiled("--vendor", "vivado") == 0
    folder = tmp_path / "out/vendor/vivado"
    (folder / "u.xpr").write_text("the tool's")
    (folder / "Makefile").write_text("old")
    assert compiled("--vendor", "vivado") == 0
    assert (folder / "u.xpr").read_text() == "the tool's"
    assert "Auto generated by Edalize" in (folder / "Makefile").read_text()


def test_a_second_project_knows_nothing_of_the_first(tmp_path: Path) -> None:
    assert compiled("--vendor", "trellis", "--part", "LFE5U-45F-6BG381C") == 0
    assert compiled("--vendor", "trellis", "--part", "LFE5U-85F-6BG381C") == 0
    text = (tmp_path / "out/vendor/trellis/Makefile").read_text()
    assert "--85k" in text
    assert "--45k" not in text


@pytest.mark.tools
def test_place_and_route_takes_the_projects_command(tmp_path: Path) -> None:
    assert compiled("--vendor", "trellis") == 0
    folder = tmp_path / "out/vendor/trellis"
    (words,) = re.findall(r"nextpnr-ecp5 (.*--textcfg u\.config)$", (folder / "Makefile").read_text(), re.M)
    script = "read_verilog rtl/u.v rtl/u_axis.v; synth_ecp5 -top normforge_u_axis; write_json u.json"
    YOSYS.require().run("-q", "-p", script, cwd=folder)
    NEXTPNR_ECP5.require().run(*words.split(), "--report", "report.json", cwd=folder)
    assert (folder / "u.config").stat().st_size > 0
    (clock,) = json.loads((folder / "report.json").read_text())["fmax"].values()
    assert clock["constraint"] == pytest.approx(125, rel=0.01)
