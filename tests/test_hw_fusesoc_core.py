"""The core files, read by FuseSoC itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hw.emit import emit_unit
from hw.fusesoc_core import core_id
from hw.tools import require_simulator
from hw.top import write_top
from sw.ir.build import Builder
from sw.ir.formats import FixedFormat

MODULE = "normforge_top"

UNIT = "normforge:digits:norm:0.1.0"
TOP = "normforge:digits:top:0.1.0"


@pytest.fixture
def hdl(tmp_path: Path) -> Path:
    """Two units and their top."""
    folder = tmp_path / "hdl"
    builder = Builder(FixedFormat(7, 3))
    program = builder.build(builder.clamp(builder.mul(builder.x, builder.x), 0, 500), FixedFormat(10, 4))
    made = {"folder": folder, "expression": "x*x", "realization": "operator", "max_ulp": 0}
    units = [
        emit_unit(program, name=name, library="digits", **made) | {"site": name} for name in ("norm", "other")
    ]
    write_top(folder, units, "digits")
    return folder


def fusesoc(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """FuseSoC with a configuration of its own and Verilator on its path."""
    verilator = require_simulator()
    own = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    own |= {"XDG_CACHE_HOME": str(folder), "PATH": f"{verilator.path.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "fusesoc.main", "--cores-root", "hdl", *words]
    environment = os.environ | own | dict(verilator.environment)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.tools
@pytest.mark.parametrize(
    ("core", "top", "file"), [(UNIT, "normforge_norm", "norm.v"), (TOP, MODULE, "top.v")]
)
def test_fusesoc_knows_the_core(tmp_path: Path, hdl: Path, core: str, top: str, file: str) -> None:
    shown = fusesoc(tmp_path, "core", "show", core)
    assert shown.returncode == 0, shown.stderr
    assert core in shown.stdout
    assert "lint" in shown.stdout
    set_up = fusesoc(tmp_path, "run", "--setup", "--target", "lint", core)
    assert set_up.returncode == 0, set_up.stderr
    (arguments,) = tmp_path.glob("build/*/lint/*.vc")
    said = arguments.read_text()
    assert file in said
    assert f"--top-module {top}" in said
    assert ("norm.v" in said, "other.v" in said) == (True, core == TOP)


@pytest.mark.tools
def test_its_lint_target_lints(tmp_path: Path, hdl: Path) -> None:
    assert fusesoc(tmp_path, "run", "--target", "lint", TOP).returncode == 0
    text = (hdl / "top.v").read_text()
    (hdl / "top.v").write_text(text.replace("[15:0] norm_m_axis_tdata", "[7:0] norm_m_axis_tdata"))
    assert fusesoc(tmp_path, "run", "--clean", "--target", "lint", TOP).returncode != 0


def test_any_name_of_a_run_gives_an_identifier() -> None:
    assert core_id("my run/2", "norm") == "normforge:my_run_2:norm:0.1.0"
