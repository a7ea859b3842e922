from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from hw.tools import (
    CXX,
    MAKE,
    NEXTPNR_ECP5,
    NEXTPNR_ICE40,
    PERL,
    VERILATOR,
    YOSYS,
    Tool,
    ToolError,
    require_simulator,
)


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def tool() -> Tool:
    return Tool(name="Drill", command="drill-nobody-has", minimum="2.10", obtain="buy one", variable="DRILL")


def test_a_missing_tool_is_named_with_its_remedy(tool: Tool) -> None:
    message = "^Drill must be 2.10 or later, not missing; buy one or set DRILL to its path$"
    with pytest.raises(ToolError, match=message):
        tool.require()


def test_an_override_that_does_not_exist_is_shown(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRILL", "/nowhere/drill")
    with pytest.raises(
        ToolError, match=r"^Drill must be 2.10 or later, not missing \(DRILL=/nowhere/drill\); "
    ):
        tool.require()


def test_an_old_tool_is_refused_by_number_not_by_text(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = script(tmp_path / "drill", "echo Drill 2.9 rev v7.7")
    monkeypatch.setenv("DRILL", str(old))
    with pytest.raises(ToolError, match=r"^Drill must be 2.10 or later, not 2.9 \('.*drill'\); buy one"):
        tool.require()


def test_a_tool_that_does_not_start_is_refused(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRILL", str(script(tmp_path / "drill", "exit 3")))
    with pytest.raises(ToolError, match=r"not one that fails to start \('.*drill'\)"):
        tool.require()


def test_an_override_wins_and_is_identified(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRILL", str(script(tmp_path / "drill", "echo Drill v2.10.3")))
    found = tool.require()
    assert found.identifier == "Drill 2.10.3"
    assert found.run("x", cwd=tmp_path) == "Drill v2.10.3\n"


def test_a_tool_may_be_named_relative_to_this_folder(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    script(tmp_path / "drill", "echo Drill v2.10.3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRILL", "./drill")
    assert tool.require().run("x", cwd=tmp_path / "elsewhere") == "Drill v2.10.3\n"


def test_a_tool_of_another_name_is_found_by_the_command_s(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRILL", str(script(tmp_path / "drill-2.10", "echo Drill v2.10.3")))
    found, scratch = tool.require(), tmp_path / "scratch"
    for _ in range(2):
        assert found.folder_as("drill", scratch) == scratch
    done = subprocess.run([scratch / "drill"], capture_output=True, text=True, check=True)
    assert done.stdout == "Drill v2.10.3\n"
    assert found.folder_as("drill-2.10", tmp_path / "none") == tmp_path


def test_a_failing_run_shows_its_last_line(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = 'case "$1" in --version) echo 9.9;; *) echo first; echo too hot; exit 4;; esac'
    monkeypatch.setenv("DRILL", str(script(tmp_path / "drill", body)))
    with pytest.raises(ToolError, match=r"^Drill must succeed, not end with status 4: too hot$"):
        tool.require().run("hole", cwd=tmp_path)


def test_the_path_is_searched_last(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "drill-nobody-has", "echo 3.0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert tool.require().version == "3.0"


def test_the_simulator_needs_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    message = "^Perl must be installed, not missing; install it with your system's packages$"
    with pytest.raises(ToolError, match=message):
        require_simulator()


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        (YOSYS, r"Yosys must be 0\.50 or later, .* pip install '\.\[synth\]' in the clone or set YOSYS"),
        (NEXTPNR_ECP5, r"nextpnr-ecp5 must be 0\.7 or later, .* or set NEXTPNR_ECP5"),
        (NEXTPNR_ICE40, r"nextpnr-ice40 must be 0\.7 or later, .* or set NEXTPNR_ICE40"),
        (VERILATOR, r"Verilator must be 5\.036 or later, .* '\.\[sim\]' in the clone or set VERILATOR"),
    ],
)
def test_messages_of_the_real_tools(tool: Tool, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tool.variable, "/nowhere")
    with pytest.raises(ToolError, match=text):
        tool.require()


def test_debians_verilator_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = script(tmp_path / "verilator", "echo 'Verilator 5.006 2023-01-22 rev (Debian 5.006-3)'")
    monkeypatch.setenv("VERILATOR", str(old))
    with pytest.raises(ToolError, match=r"^Verilator must be 5\.036 or later, not 5\.006 \("):
        VERILATOR.require()


@pytest.mark.tools
def test_the_pinned_tools_are_found() -> None:
    for tool in (YOSYS, NEXTPNR_ECP5, NEXTPNR_ICE40):
        assert tool.require().version
    assert "VERILATOR_ROOT" in require_simulator().environment
    assert {tool.require().version for tool in (PERL, CXX, MAKE)} == {""}
