from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from hw.emit import STAGE, emit_unit
from sw import cli
from sw.arrays import codes_digest
from sw.config import ModelConfig, RunConfig, UnitConfig
from sw.files import read_json, write_json, write_text
from sw.ir import interpret
from sw.ir.build import Builder
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining
from sw.ir.program import Program
from sw.ir.realize import realize
from sw.ir.schedule import plan_latency
from sw.run_dir import RunDir

KEYS = (
    "name expression input output lanes latency_cycles ii realization max_ulp table_sha256 table verilog top"
)
PORTS = {
    "clk": "input",
    "rst": "input",
    "s_axis_tdata": "input",
    "s_axis_tvalid": "input",
    "s_axis_tready": "output",
    "s_axis_tlast": "input",
    "m_axis_tdata": "output",
    "m_axis_tvalid": "output",
    "m_axis_tready": "input",
    "m_axis_tlast": "output",
}


def small_program() -> Program:
    builder = Builder(FixedFormat(7, 3))
    return builder.build(builder.clamp(builder.mul(builder.x, builder.x), 0, 500), FixedFormat(10, 4))


def emitted(folder: Path, program: Program, name: str = "square", **changes: object) -> dict[str, object]:
    arguments = {"expression": "x*x", "realization": "operator", "max_ulp": 0} | changes
    return emit_unit(program, name=name, folder=folder, **arguments)


def ports_of(verilog: str, top: str) -> dict[str, str]:
    module = verilog[verilog.index(f"module {top}(") :]
    module = module[: module.index("endmodule")]
    return {name: way for way, name in re.findall(r"^  (input|output) (?:\[.*?\] )?(\w+);", module, re.M)}


def test_the_description_has_every_key_and_is_what_the_json_says(tmp_path: Path) -> None:
    body = emitted(tmp_path, small_program(), lanes=2)
    assert list(body) == KEYS.split()
    assert json.loads((tmp_path / "square.json").read_text()) == body
    assert (body["input"], body["output"], body["lanes"], body["ii"]) == ("s7.3", "s10.4", 2, 1)
    assert (body["verilog"], body["table"], body["top"]) == (
        "square.v",
        "square.table.npy",
        "normforge_square",
    )
    made = ["square.core", "square.json", "square.table.npy", "square.v"]
    assert sorted(p.name for p in tmp_path.iterdir()) == made


def test_the_table_is_the_whole_map_in_the_smallest_dtype(tmp_path: Path) -> None:
    program = small_program()
    body = emitted(tmp_path, program)
    table = np.load(tmp_path / "square.table.npy")
    assert table.dtype == np.int16
    assert [int(v) for v in table] == [min(c * c, 500) for c in range(-64, 64)]
    little_endian = b"".join(int(v).to_bytes(8, "little", signed=True) for v in table)
    assert body["table_sha256"] == hashlib.sha256(little_endian).hexdigest()


@pytest.mark.parametrize(
    ("output", "dtype"), [("s8.0", np.int8), ("u8.0", np.uint8), ("u9.0", np.uint16), ("s17.0", np.int32)]
)
def test_the_dtype_holds_the_output_format(tmp_path: Path, output: str, dtype: type) -> None:
    builder = Builder(FixedFormat(4, 0, signed=False))
    emitted(tmp_path, builder.build(builder.x, FixedFormat.parse(output)))
    assert np.load(tmp_path / "square.table.npy").dtype == dtype


def test_the_digest_does_not_depend_on_the_stored_dtype() -> None:
    table = np.arange(-4, 4)
    assert codes_digest(table) == codes_digest(table.astype(np.int8))


def test_ports_are_exactly_those_of_the_contract_even_where_unused(tmp_path: Path) -> None:
    builder = Builder(FixedFormat(8, 0))
    constant = builder.build(builder.const(5), FixedFormat(8, 0))
    for name, program in (("square", small_program()), ("five", constant)):
        body = emitted(tmp_path, program, name)
        text = (tmp_path / f"{name}.v").read_text()
        assert ports_of(text, str(body["top"])) == PORTS
        assert body["latency_cycles"] >= 1


def test_lanes_take_whole_bytes_on_the_ports(tmp_path: Path) -> None:
    emitted(tmp_path, small_program(), lanes=3)
    text = (tmp_path / "square.v").read_text()
    assert "input [23:0] s_axis_tdata;" in text
    assert "output [47:0] m_axis_tdata;" in text


def test_the_same_program_gives_the_same_bytes_without_paths(tmp_path: Path) -> None:
    emitted(tmp_path / "a", small_program())
    emitted(tmp_path / "b", Program.from_json(small_program().to_json()))
    for name in ("square.v", "square.json", "square.table.npy", "square.core"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    text = (tmp_path / "a" / "square.v").read_text()
    assert "src =" not in text
    assert ".py" not in text
    assert str(Path(__file__).parents[1]) not in text


@pytest.mark.parametrize("name", ["", "a.b", "a-b", "größe", "a b"])
def test_a_name_that_is_no_identifier_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"^name of a unit must be letters, digits and underscores, not "):
        emitted(tmp_path / "out", small_program(), name)
    assert not (tmp_path / "out").exists()


def test_a_name_longer_than_a_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^name of a unit must have at most 128 letters, not 129$"):
        emitted(tmp_path / "out", small_program(), 129 * "a")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".v", ".json", ".table.npy", ".core"])
def test_a_folder_where_a_file_would_go_leaves_no_half_unit(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"square{suffix}").mkdir()
    with pytest.raises(InputError, match=r"/square\.\S+' must be a file that can be replaced, not a folder$"):
        emitted(tmp_path, small_program())
    assert [path.name for path in tmp_path.iterdir()] == [f"square{suffix}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 0}, r"^lanes must be 1\.\.64, not 0$"),
        ({"pipelining": Pipelining(0.0)}, "^fmax must be above 0"),
    ],
)
def test_bad_arguments_leave_no_file(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        emitted(tmp_path / "out", small_program(), **change)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run directory as evolve leaves it, with two sites."""
    config = RunConfig(
        model=ModelConfig(name="none"), name="r", runs_dir=str(tmp_path), unit=UnitConfig(lanes=2)
    )
    run = RunDir.create(config)
    formats = FixedFormat.parse("s9.5"), FixedFormat.parse("s6.3")
    sites = {}
    for site, text in (("blocks.0.norm1", "clip(1.5*x, -3, 3)"), ("norm", "3*tanh(x)")):
        chosen = realize(parse(text), *formats)
        write_text(run.program(site), chosen.program.to_json())
        sites[site] = {"expression": text, "realization": chosen.kind, "max_ulp": chosen.max_ulp}
    write_json(run.functions, {"sites": sites})
    norms = {"norm": {"foldable": True, "reason": ""}}
    norms["blocks.0.norm1"] = {"foldable": False, "reason": "a window"}
    write_json(run.capture_stats, {"sites": norms, "kept": {"norm_pre": "it was asked for"}})
    return run


def test_the_stage_emits_every_site_and_the_operator_pipeline_beside_it(run: RunDir) -> None:
    assert STAGE.run(run)
    units = read_json(run.manifest)["units"]
    assert [unit["site"] for unit in units] == ["blocks.0.norm1", "norm"]
    for unit in units:
        assert list(unit) == [*KEYS.split(), "site", "operator", "affine"]
        assert unit["lanes"] == 2
        assert set(unit["operator"]) == {"realization", "max_ulp", "latency_cycles", "price_lut6"}
        table = np.load(run.hdl / unit["table"])
        program = Program.from_json(run.program(unit["site"]).read_text())
        assert np.array_equal(table, interpret.table(program))
        beside = read_json(run.hdl / "operator" / f"{unit['name']}.json")
        assert beside["realization"] == "operator"
        off = np.abs(np.load(run.hdl / "operator" / beside["table"]).astype(int) - table)
        assert off.max() <= beside["max_ulp"] + unit["max_ulp"]
        assert read_json(run.hdl / f"{unit['name']}.json")["site"] == unit["site"], "found by that in the run"
    assert {p.name for p in run.hdl.glob("*.v")} == {"blocks_0_norm1.v", "norm.v", "top.v"}


def test_the_stage_pipelines_for_the_clock_of_the_configuration(run: RunDir) -> None:
    stages = []
    for fmax_mhz in (50.0, 400.0):
        unit = dataclasses.replace(run.config.unit, fmax_mhz=fmax_mhz)
        STAGE.run(RunDir(run.root, dataclasses.replace(run.config, unit=unit)))
        stages.append(sum(unit["latency_cycles"] for unit in read_json(run.manifest)["units"]))
    assert stages[0] < stages[1]


def test_the_manifest_says_whose_affine_does_not_fold_and_which_norms_were_kept(run: RunDir) -> None:
    STAGE.run(run)
    manifest = read_json(run.manifest)
    assert [unit["affine"] for unit in manifest["units"]] == [
        {"folds": False, "reason": "a window"},
        {"folds": True, "reason": ""},
    ]
    assert manifest["kept"] == {"norm_pre": "it was asked for"}


def test_the_command_writes_a_vendors_project_of_all_units(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    run.keep_config()
    words = ["hdl", str(run.root / "config.toml"), "--vendor", "quartus", "--part"]
    assert cli.main([*words, "wrong"]) == 2
    assert "part must be one such as 5CSEMA5F31C6, not 'wrong'" in capsys.readouterr().err
    assert not run.hdl.exists()
    assert cli.main([*words, "5CEBA4F23C7"]) == 0
    text = (run.hdl / "vendor/quartus/top.tcl").read_text()
    assert "TOP_LEVEL_ENTITY normforge_top_axis" in text
    for name in ("blocks_0_norm1.v", "norm.v", "top.v", "top_axis.v"):
        assert f"VERILOG_FILE rtl/{name}\n" in text
        assert (run.hdl / "vendor/quartus/rtl" / name).exists()
    wrapper = (run.hdl / "vendor/quartus/rtl/top_axis.v").read_text()
    assert "xilinx.com:interface:axis:1.0 blocks_0_norm1_m_axis TREADY" in wrapper
    assert not STAGE.run(run), "nothing changed"


def test_modules_of_two_runs_and_of_operators_have_names_of_their_own(run: RunDir) -> None:
    other = dataclasses.replace(run.config.unit, prefix="second")
    modules = []
    for config in (run.config, dataclasses.replace(run.config, unit=other)):
        STAGE.run(RunDir(run.root, config))
        for path in (*run.hdl.glob("*.v"), *run.operators.glob("*.v")):
            found = re.findall(r"^module (\\?[\w.]+)", path.read_text(), re.MULTILINE)
            assert read_json(path.with_suffix(".json"))["top"] in found
            modules += found
        top = (run.hdl / "top.v").read_text()
        assert all(unit["top"] in top for unit in read_json(run.manifest)["units"])
    assert len(modules) == len(set(modules))
    assert "second_top" in modules
    assert "second_operator_norm" in modules


def test_a_text_is_awake_in_systemverilog_too(tmp_path: Path) -> None:
    """There a declaration's initial value is no event, and always @* would wait for one."""
    emitted(tmp_path, small_program())
    text = (tmp_path / "square.v").read_text()
    triggers = re.findall(r"reg (\\\S*dump_module\S*) ; initial (\S+)  ?= 0;", text)
    assert triggers
    assert all(declared == started for declared, started in triggers)
    assert not re.search(r"^ *reg \\\S*dump_module\S* += 0;", text, re.MULTILINE)


def test_cores_bear_the_name_of_the_run(run: RunDir) -> None:
    STAGE.run(run)
    other = RunDir(run.root, dataclasses.replace(run.config, name="other"))
    assert STAGE.run(other)
    assert "normforge:other:" in (run.hdl / "top.core").read_text()


def test_units_of_sites_that_are_gone_are_removed(run: RunDir) -> None:
    STAGE.run(run)
    functions = run.read_functions()
    del functions["norm"]
    write_json(run.functions, {"sites": functions})
    STAGE.run(run)
    for folder, tops in ((run.hdl, {"top"}), (run.operators, set())):
        assert {p.stem for p in folder.glob("*.v")} == {"blocks_0_norm1"} | tops
    assert run.manifest.exists()


def test_proofs_of_units_that_are_still_there_stay(run: RunDir) -> None:
    STAGE.run(run)
    for name in ("norm", "gone"):
        write_json(run.hdl / f"{name}.proofs.json", {})
    assert STAGE.run(run, force=True)
    assert {p.name for p in run.hdl.glob("*.proofs.json")} == {"norm.proofs.json"}


@pytest.mark.parametrize("damage", ["{}", "[]", '{"units": [{}]}', '{"units": 3}', "torn"])
def test_a_damaged_manifest_is_written_again(run: RunDir, damage: str) -> None:
    STAGE.run(run)
    whole = run.manifest.read_bytes()
    run.manifest.write_text(damage)
    assert STAGE.run(run)
    assert run.manifest.read_bytes() == whole


def test_the_stage_is_skipped_until_something_changed(run: RunDir) -> None:
    assert STAGE.run(run)
    assert not STAGE.run(run)
    verilog = run.hdl / "norm.v"
    verilog.write_text(verilog.read_text().replace("1'h0", "1'h1", 1))
    assert STAGE.run(run)


def test_the_stage_says_what_it_needs(tmp_path: Path) -> None:
    run = RunDir.create(RunConfig(model=ModelConfig(name="none"), name="r", runs_dir=str(tmp_path)))
    with pytest.raises(InputError, match=r"stage 'hdl' needs '.*functions\.json', which is not there"):
        STAGE.run(run)


def test_the_verilog_says_what_it_is(tmp_path: Path) -> None:
    body = emitted(tmp_path, small_program(), lanes=2)
    head = (tmp_path / body["verilog"]).read_text().splitlines()[:3]
    assert head == [
        f"// {body['top']}: {body['expression']}, {body['input']} to {body['output']}, exact.",
        f"// AXI4-Stream, 2 lanes, a beat a cycle, latency {body['latency_cycles']}, synchronous reset.",
        f"// sha256 of its table: {body['table_sha256']}",
    ]


def test_an_expression_of_several_lines_stays_a_comment(tmp_path: Path) -> None:
    body = emitted(tmp_path, small_program(), expression="x*x\nmodule other; endmodule")
    lines = (tmp_path / str(body["verilog"])).read_text().splitlines()
    assert lines[0].startswith("// normforge_square: x*x module other; endmodule, s7.3")
    assert not any(line.startswith("module other") for line in lines)


def test_a_schedule_is_kept_as_it_is(tmp_path: Path) -> None:
    program = small_program()
    schedule = plan_latency(program, 5)
    assert emitted(tmp_path, program, schedule=schedule)["latency_cycles"] == 5
