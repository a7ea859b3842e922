from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hw import formal
from hw.compile import Order, compile_formula
from hw.formal import Proof, check, main, prove, small_units
from hw.formal_pipeline import PipelineError, _Netlist, pipeline_problem
from hw.formal_stream import stream_problem
from hw.formal_table import table_problem
from hw.tools import ToolError
from sw.files import read_json, write_json
from sw.ir.errors import InputError, VerificationError
from sw.ir.pipelining import Pipelining

pytestmark = pytest.mark.tools

Unit = tuple[dict[str, Any], str]

RESULT = "assign o__tdata[7:0] = { y[4], y[4], y[4], y };"
"""The sign-extended code of lane 0 in the generated text."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("units")


@pytest.fixture(scope="module")
def unit(folder: Path) -> Unit:
    """Two lanes of two stages: negation after a table, and more than one way through each stage."""
    order = Order(
        formula="tanh(x)",
        input="s6.3",
        output="s5.4",
        kind="half_table",
        lanes=2,
        pipelining=Pipelining(latency=2),
    )
    body, _ = compile_formula(order, folder)
    return body, (folder / body["verilog"]).read_text()


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def chain(length: int, *, loops: bool) -> dict[str, Any]:
    """A flat module of registers one after the other, of which the first may read the last."""
    register = {
        "type": "$dffe",
        "parameters": {"CLK_POLARITY": "1", "EN_POLARITY": "1"},
        "port_directions": {"CLK": "input", "EN": "input", "D": "input", "Q": "output"},
    }
    data, clock, ready = 2, 0, 1
    cells = {
        f"r{k}": register
        | {"connections": {"CLK": [clock], "EN": [ready], "D": [data + k], "Q": [data + k + 1]}}
        for k in range(length)
    }
    if loops:
        cells["r0"]["connections"]["D"] = [data + length]
    ports = {
        "clk": [clock],
        "s_axis_tready": [ready],
        "s_axis_tdata": [data],
        "m_axis_tdata": [data + length],
    }
    return {"ports": {name: {"bits": bits} for name, bits in ports.items()}, "cells": cells}


def test_pipelines_of_any_depth_are_followed() -> None:
    netlist = _Netlist(chain(5000, loops=False))
    netlist.check_data(5000)
    with pytest.raises(PipelineError, match="m_axis_tdata is 5000 registers from s_axis_tdata, not 4999"):
        netlist.check_data(4999)
    with pytest.raises(PipelineError, match="the data path feeds back into itself"):
        _Netlist(chain(5000, loops=True)).check_data(5000)


@pytest.mark.slow
def test_the_command_proves_a_unit_once_and_then_remembers(
    folder: Path, unit: Unit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--unit", str(folder / f"{unit[0]['name']}.json")]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert [line.split()[3] for line in shown.splitlines() if line.startswith("│ unit")] == [
        *formal.PROPERTIES
    ]
    assert shown.count("proven") == 3
    left = read_json(folder / "unit.proofs.json")
    assert left["outcomes"] == dict.fromkeys(formal.PROPERTIES, "proven")
    assert [tool.split()[0] for tool in left["tools"]] == ["Yosys", "SymbiYosys", "yosys-smtbmc", "z3"]
    for name in ("stream_problem", "pipeline_problem", "table_problem"):
        monkeypatch.setattr(formal, name, lambda *_: pytest.fail("proved again"))
    assert main(arguments) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        # Everything moves although a beat waits at the end.
        ("assign advance = \\$1  | m_axis_tready;", "assign advance = 1'h1;", "full_rate"),
        # The same, but a source is told the truth.
        (
            "  if (advance) begin\n      \\$4  = valid_q1;",
            "  if (1'h1) begin\n      \\$4  = valid_q1;",
            "held_while_stalled",
        ),
        # A beat in the first stage is forgotten during a stall.
        ("\\$2  = valid_q1;", "\\$2  = 1'h0;", "none_lost"),
        # The last beat is offered again where nothing follows it.
        ("\\$4  = valid_q1;", "\\$4  = valid_q1 | o__tvalid;", "none_invented"),
        # tlast is one beat early.
        ("\\$5  = last_q1;", "\\$5  = s_axis_tlast;", "tlast_stays"),
        # The reset is ignored.
        ("if (rst) begin", "if (1'h0) begin", ""),
    ],
)
def test_a_broken_stream_control_is_named(unit: Unit, old: str, new: str, rule: str) -> None:
    problem = stream_problem(unit[0], edited(unit[1], old, new))
    assert problem.startswith(f"rule {rule}")
    assert problem.endswith(" is broken")


def test_a_wrong_latency_is_found(unit: Unit) -> None:
    body = unit[0] | {"latency_cycles": 3}
    assert pipeline_problem(body, unit[1]) == "m_axis_tdata is 2 registers from s_axis_tdata, not 3"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (".enable(advance)", ".enable(1'h1)", "a register that does not move with the stream: $dff "),
        (
            ".enable(advance)",
            ".enable(m_axis_tready)",
            "a register that does not move with the stream: $dffe ",
        ),
        (
            RESULT,
            RESULT.replace("y }", "y ^ s_axis_tdata[4:0] }"),
            "codes of different ",
        ),
        (
            RESULT,
            RESULT.replace("y }", "last_q1 }"),
            "m_axis_tdata depends on s_axis_tlast",
        ),
        (
            "assign m_axis_tvalid = o__tvalid;",
            "assign m_axis_tvalid = o__tvalid & m_axis_tready;",
            "m_axis_tvalid depends on m_axis_tready without a register",
        ),
        (
            "assign s_axis_tready = advance;",
            "assign s_axis_tready = advance & s_axis_tvalid;",
            "a register that does not move with the stream: $dffe ",
        ),
    ],
)
def test_a_data_path_that_is_no_pipeline_is_told(unit: Unit, old: str, new: str, problem: str) -> None:
    assert pipeline_problem(unit[0], unit[1]) == ""
    assert pipeline_problem(unit[0], edited(unit[1], old, new)).startswith(problem)


def test_one_wrong_entry_of_the_table_is_found_with_its_code(folder: Path, unit: Unit) -> None:
    table = np.load(folder / unit[0]["table"]).astype(np.int64)
    assert table_problem(unit[0], unit[1], table) == ""
    table[32 - 5] += 1
    assert table_problem(unit[0], unit[1], table) in {
        f"lane {lane} maps code -5 to another code than the table" for lane in (0, 1)
    }


def test_a_lane_that_is_not_sign_extended_is_found(folder: Path, unit: Unit) -> None:
    table = np.load(folder / unit[0]["table"]).astype(np.int64)
    text = edited(unit[1], RESULT, "assign o__tdata[7:0] = { 3'h0, y };")
    assert table_problem(unit[0], text, table).startswith("lane 0 maps code -")


@pytest.mark.slow
def test_the_command_names_the_unit_and_the_property_that_fails(
    folder: Path, unit: Unit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = np.load(folder / unit[0]["table"])
    table[40] -= 1
    np.save(folder / "wrong.table.npy", table)
    text = edited(unit[1], "\\$2  = valid_q1;", "\\$2  = 1'h0;")
    (folder / "wrong.v").write_text(text)
    body = unit[0] | {"name": "wrong", "table": "wrong.table.npy", "verilog": "wrong.v"}
    write_json(folder / "manifest.json", {"units": [body]})
    assert main(["--unit", str(folder / "manifest.json")]) == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == (
        "normforge: property 'stream' of unit 'wrong' is not proven: rule none_lost is broken (and 1 more)"
    )
    assert not (folder / "wrong.proofs.json").exists()
    assert "lane 0 maps code 8 to another" in shown.out or "lane 1 maps code 8 to another" in shown.out


def test_wide_tables_are_left_to_simulation(
    folder: Path, unit: Unit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("stream_problem", "pipeline_problem"):
        monkeypatch.setattr(formal, name, lambda *_: "")
    proofs = prove([(unit[0] | {"input": "s17.3"}, folder)], tmp_path)
    assert [proof.outcome for proof in proofs] == ["proven", "proven", "simulated"]
    check(proofs)


def test_a_single_failure_is_one_line() -> None:
    proof = Proof(unit="u", property="table", outcome="failed", problem="why", seconds=0.0)
    with pytest.raises(VerificationError, match=r"^property 'table' of unit 'u' is not proven: why$"):
        check([proof])


def test_the_built_in_set_has_all_short_latencies_with_one_lane_and_two(tmp_path: Path) -> None:
    units = [unit for unit, _ in small_units(tmp_path)]
    seen = {(unit["latency_cycles"], unit["lanes"]) for unit in units}
    assert seen >= {(latency, lanes) for latency in (1, 2, 3, 4) for lanes in (1, 2)}


def test_a_table_that_is_none_is_refused(
    folder: Path, unit: Unit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in ("unit.v", "unit.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    (tmp_path / "unit.table.npy").write_bytes(b"")
    assert main(["--unit", str(tmp_path / "unit.json")]) == 2
    wrong = f"'{tmp_path}/unit.table.npy' must be"
    assert capsys.readouterr().err == f"normforge: {wrong} an npy file of numbers, not an empty one\n"
    np.save(tmp_path / "unit.table.npy", np.zeros(4))
    assert main(["--unit", str(tmp_path / "unit.json")]) == 2
    assert f"{wrong} a row of integers, not float64 (4,)\n" in capsys.readouterr().err


@pytest.mark.parametrize("gone", ["unit.v", "unit.table.npy"])
def test_a_file_that_is_not_there_is_told(folder: Path, unit: Unit, tmp_path: Path, gone: str) -> None:
    for file in ("unit.v", "unit.table.npy"):
        if file != gone:
            (tmp_path / file).write_bytes((folder / file).read_bytes())
    with pytest.raises(InputError, match=rf"'.*{gone}' cannot be read: "):
        prove([(unit[0], tmp_path)], tmp_path / "cache")


def test_a_missing_solver_is_one_line(
    unit: Unit, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("Z3", "/nowhere/z3")
    with pytest.raises(ToolError, match=r"^z3 must be 4\.8 or later, not missing \(Z3=/nowhere/z3\); pip "):
        prove([(unit[0], folder)], tmp_path)


def test_verilog_that_is_none_fails_in_one_line(unit: Unit) -> None:
    with pytest.raises(ToolError, match=r"^SymbiYosys must succeed, not end with an error: .*ERROR"):
        stream_problem(unit[0], "module broken(")
