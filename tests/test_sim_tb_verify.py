"""The testbench on hand-made units: it passes the good one and has teeth for every kind of broken one."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sim_tb.certificate import certificate_path
from sim_tb.request import Settings
from sim_tb.verify import STAGE, main, read_requests, results_folder, verify_and_report
from sw import cli
from sw.arrays import codes_digest
from sw.config import from_dict
from sw.files import write_npz
from sw.ir.build import Builder
from sw.ir.errors import InputError, VerificationError
from sw.ir.formats import FixedFormat
from sw.run_dir import RunDir

ROOT = Path(__file__).parent.parent
SITE = "blocks.0.norm1"
CHECKS = (
    *("stored_table", "formula", "pytorch_module", "float_path"),
    *("every_code", "stated_latency", "random_stalls", "replay"),
)
FORMAT = FixedFormat.parse("s6.2")
LATENCY = 2

# -x in two stages. Names in capitals are replaced; the tests break one of them at a time.
TEMPLATE = """\
module NAME(
  input clk, input rst,
  input [LANE_MSB:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready, input s_axis_tlast,
  output [LANE_MSB:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready, output m_axis_tlast
);
  reg v0 = 0, v1 = 0, l0 = 0, l1 = 0;
  reg [LANE_MSB:0] d0 = 0, d1 = 0;
  reg [7:0] count = 0;
  wire move = MOVE;
  assign s_axis_tready = READY;
  assign m_axis_tvalid = VALID;
  assign m_axis_tlast = LAST;
  assign m_axis_tdata = DATA;
  function [7:0] negated(input [7:0] x);
    reg signed [5:0] y;
    begin
      y = (x[5:0] == 6'h20) ? 6'h1f : -x[5:0];
      negated = EXTENDED;
    end
  endfunction
  always @(posedge clk) begin
    count <= count + 1;
    if (move) begin
      v0 <= s_axis_tvalid & s_axis_tready; l0 <= s_axis_tlast; d0 <= s_axis_tdata;
      v1 <= v0; l1 <= l0;
      NEXT
    end
    if (rst) begin RESET end
  end
endmodule
"""
GOOD = {
    "MOVE": "!v1 | m_axis_tready",
    "READY": "move",
    "VALID": "v1",
    "LAST": "l1",
    "DATA": "d1",
    "EXTENDED": "{{2{y[5]}}, y}",
    "RESET": "v0 <= 0; v1 <= 0;",
}
BROKEN = {
    "drops_under_stall": ({"MOVE": "1"}, "random_stalls", "came out"),
    "doubles_under_stall": (
        {"NEXT": "d1 <= negated(d0); if (v1 & count[3]) v1 <= 1;"},
        "random_stalls",
        "came out",
    ),
    "loses_throughput": ({"READY": "move & count[0]"}, "stated_latency", "must be taken every cycle"),
    "waits_for_ready": ({"VALID": "v1 & m_axis_tready"}, "stated_latency", "tready or not"),
    "early_last": ({"LAST": "l0"}, "random_stalls", "tlast is wrong on"),
    "wrong_entry": (
        {"EXTENDED": "(y == 17) ? 8'd16 : {{2{y[5]}}, y}"},
        "every_code",
        r"differs from the stored table: code -17 gives 16, not 17",
    ),
    "zero_extended": ({"EXTENDED": "{2'b0, y}"}, "every_code", "code 1 gives 63, not -1"),
    "restless_payload": (
        {"DATA": "d1 ^ (!m_axis_tready & count[0])"},
        "random_stalls",
        "a waiting beat changed",
    ),
    "restless_valid": ({"VALID": "v1 & (m_axis_tready | count[1])"}, "random_stalls", "tvalid fell in cycle"),
    "survives_reset": ({"RESET": ""}, "stated_latency", "must be low after a reset"),
    "gets_stuck": (
        {"READY": "move & (count < 40)", "NEXT": "d1 <= negated(d0); if (&count) count <= 255;"},
        "every_code",
        "came out",
    ),
    "not_verilog": ({"RESET": "v0 <= ;"}, "every_code", "simulation ended with status 1: %Error"),
}


def make_unit(
    folder: Path, name: str, change: Mapping[str, str] = GOOD, *, lanes: int = 1, latency: int = LATENCY
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    stage = " ".join(f"d1[{8 * n} +: 8] <= negated(d0[{8 * n} +: 8]);" for n in range(lanes))
    text = TEMPLATE
    for key, value in (
        GOOD | {"NEXT": stage} | dict(change) | {"NAME": name, "LANE_MSB": str(8 * lanes - 1)}
    ).items():
        text = text.replace(key, value)
    (folder / f"{name}.v").write_text(text)
    table_raw = np.minimum(-FORMAT.codes(), FORMAT.max_raw)
    np.save(folder / f"{name}.table.npy", table_raw.astype(np.int8))
    body = {
        "name": name,
        "expression": "-x",
        "input": str(FORMAT),
        "output": str(FORMAT),
        "lanes": lanes,
        "latency_cycles": latency,
        "ii": 1,
        "realization": "hand",
        "max_ulp": 0,
        "table_sha256": codes_digest(table_raw),
        "table": f"{name}.table.npy",
        "verilog": f"{name}.v",
        "top": name,
    }
    (folder / f"{name}.json").write_text(json.dumps(body))
    return folder / f"{name}.json"


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """One results folder for all tests, so that the runtime is compiled once."""
    return tmp_path_factory.mktemp("sim")


def share_objects(shared: Path, folder: Path) -> None:
    """Spare a results folder of its own the compilation of the runtime."""
    if (shared / "objects").exists():
        shutil.copytree(shared / "objects", folder / "objects")


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.xdist_group("simulated")
class TestSimulated:
    def test_good_units_pass(self, tmp_path, shared, capsys):
        paths = [make_unit(tmp_path, "good"), make_unit(tmp_path, "wide", lanes=3)]
        settings = Settings(folder=shared, stall_beats=512)
        reports = verify_and_report([r for path in paths for r in read_requests(path)], settings)
        assert [report.codes_checked for report in reports] == [64, 64]
        assert [report.mismatches for report in reports] == [0, 0]
        assert [report.stall_beats for report in reports] == [512, 512]
        out = capsys.readouterr().out
        assert "good  codes checked 64  mismatches 0  stalls 512 beats ok  replay skipped  latency 2" in out
        assert "2 units verified: 128 codes checked, 0 mismatches" in out
        summary = json.loads((shared / "summary.json").read_text())
        assert summary["passed"]
        assert [unit["site"] for unit in summary["units"]] == ["good", "wide"]
        suites = ElementTree.parse(shared / "junit.xml").getroot().findall("testsuite")
        assert [suite.get("failures") for suite in suites] == ["0", "0"]

    def test_broken_units_fail(self, tmp_path, shared, capsys):
        paths = [make_unit(tmp_path, name, change) for name, (change, _, _) in BROKEN.items()]
        paths.append(make_unit(tmp_path, "late", latency=LATENCY + 1))
        requests = [r for path in paths for r in read_requests(path)]
        with pytest.raises(VerificationError, match=f"{len(paths)} of {len(paths)} units do not verify"):
            verify_and_report(requests, Settings(folder=shared, stall_beats=1024))
        units = {unit["name"]: unit for unit in json.loads((shared / "summary.json").read_text())["units"]}
        for name, (_, check, message) in BROKEN.items():
            found = {c["name"]: c["message"] for c in units[name]["checks"] if c["status"] == "failed"}
            assert check in found, (name, found)
            assert message in found[check], (name, found)
        late = {c["name"]: c["message"] for c in units["late"]["checks"] if c["status"] == "failed"}
        assert late == {"stated_latency": late["stated_latency"]}
        assert "latency must be the stated 3 cycles, not [2]" in late["stated_latency"]

    def test_one_changed_bit_fails_and_names_the_site(self, tmp_path, shared, capsys):
        path = make_unit(tmp_path, "planted")
        arguments = [str(path), "-o", str(shared), "--stall-beats", "64"]
        assert main(arguments) == 0
        stored = np.load(tmp_path / "planted.table.npy")
        stored[5] ^= 1
        np.save(tmp_path / "planted.table.npy", stored)
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert (
            captured.err.splitlines()[-1] == "normforge: 1 of 1 units do not verify: 'planted' (stored_table)"
        )
        assert "table 'planted.table.npy' has another sha256 than the one stated" in captured.out

        make_unit(tmp_path, "planted")
        source = tmp_path / "planted.v"
        source.write_text(source.read_text().replace("6'h1f", "6'h1e"))
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert (
            captured.err.splitlines()[-1] == "normforge: 1 of 1 units do not verify: 'planted' (every_code)"
        )
        assert "differs from the stored table: code -32 gives 30, not 31" in captured.out

    def test_pytest_runs_the_regression(self, tmp_path, shared):
        share_objects(shared, tmp_path / "sim")
        make_unit(tmp_path, "regress")
        late = make_unit(tmp_path, "late", latency=LATENCY + 1)
        units = [
            {**json.loads((tmp_path / f"{n}.json").read_text()), "site": f"site.{n}"}
            for n in ("regress", "late")
        ]
        (tmp_path / "manifest.json").write_text(json.dumps({"units": units}))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "sim_tb/test_units.py"]
        done = subprocess.run(
            [*command, "--manifest", str(tmp_path / "manifest.json")],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 1
        assert "1 failed, 1 passed" in done.stdout
        assert "test_unit[site.late]" in done.stdout
        assert (tmp_path / "sim" / late.stem / "results.xml").exists()

    def test_waves_are_recorded_and_their_path_is_printed(self, tmp_path, shared, capsys):
        arguments = [str(make_unit(tmp_path, "waved")), "-o", str(shared), "--stall-beats", "16"]
        assert main([*arguments, "--waves"]) == 0
        waves = shared / "waved" / "dump.vcd"
        assert f"    waveform: {waves}\n" in capsys.readouterr().out
        assert "s_axis_tvalid" in waves.read_text()
        assert main(arguments) == 0
        assert "waveform" not in capsys.readouterr().out
        assert not waves.exists(), "one of an earlier simulation"

    def test_unchanged_verilog_is_not_built_again(self, tmp_path, shared):
        path = make_unit(tmp_path, "stable")
        binary = shared / "stable" / "build" / "stable"
        settings = Settings(folder=shared, stall_beats=16)
        verify_and_report(read_requests(path), settings)
        built = binary.stat().st_mtime_ns
        verify_and_report(read_requests(path), settings)
        assert binary.stat().st_mtime_ns == built


def make_run(runs: Path) -> RunDir:
    """A run of one site, its unit made by hand."""
    config = from_dict(
        {"model": {"name": "vit_tiny_patch16_224"}, "runs_dir": str(runs), "verify": {"stall_beats": 64}}
    )
    run = RunDir.create(config)
    unit = json.loads(make_unit(run.hdl, "blocks_0_norm1").read_text())
    run.manifest.write_text(json.dumps({"units": [unit | {"site": SITE}]}))
    b = Builder(FORMAT)
    run.program(SITE).parent.mkdir()
    run.program(SITE).write_text(b.build(b.clamp(b.neg(b.x), -32, 31), FORMAT).to_json())
    raw = np.random.default_rng(0).choice(FORMAT.codes(), size=(5, 7))
    write_npz(run.replay, {f"{SITE}_raw": raw, f"{SITE}_out_raw": np.minimum(-raw, FORMAT.max_raw)})
    return run


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.xdist_group("simulated")
def test_stage_verifies_a_run_on_its_real_activations(tmp_path, shared, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = make_run(Path("runs"))
    share_objects(shared, run.sim)
    assert STAGE.run(run)
    out = capsys.readouterr().out
    assert f"{SITE}  codes checked 64  mismatches 0  stalls 64 beats ok  replay 35 beats ok  latency 2" in out
    assert "float path 0 differences" in out
    (unit,) = json.loads((run.sim / "summary.json").read_text())["units"]
    assert {check["name"]: check["status"] for check in unit["checks"]} == dict.fromkeys(CHECKS, "passed")
    assert not STAGE.run(run), "nothing changed"
    certificate = certificate_path(run.sim, unit["name"])
    assert certificate in STAGE.outputs(run)
    assert main(["--certificate", str(certificate), "-o", str(run.sim)]) == 0
    out = capsys.readouterr().out
    assert "64 stalled beats, 35 of activations, latency 2, as stated" in out
    assert out.splitlines()[-1] == "certificate holds"

    with np.load(run.replay) as stored:
        arrays = dict(stored)
    arrays[f"{SITE}_out_raw"][3, 2] ^= 1
    write_npz(run.replay, arrays)
    with pytest.raises(VerificationError, match=r"1 of 1 units do not verify: 'blocks.0.norm1' \(replay\)"):
        STAGE.run(run)
    assert "differs from the quantized model: code" in capsys.readouterr().out
    assert not certificate.exists()


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.xdist_group("simulated")
def test_waves_of_a_run_are_recorded_though_it_is_up_to_date(tmp_path, shared, monkeypatch, capsys):
    monkeypatch.setenv("WAVES", "0")  # what the command sets ends with the test
    run = make_run(tmp_path)
    run.keep_config()
    share_objects(shared, run.sim)
    arguments = ["verify", str(run.root / "config.toml")]
    assert cli.main(arguments) == 0
    assert "waveform" not in capsys.readouterr().out
    assert cli.main([*arguments, "--waves"]) == 0
    waves = run.sim / "blocks_0_norm1" / "dump.vcd"
    assert f"    waveform: {waves}\n" in capsys.readouterr().out
    assert waves.stat().st_size > 0


def test_replay_without_the_site_is_refused(tmp_path):
    run = make_run(tmp_path)
    write_npz(run.replay, {"head_raw": np.zeros((1, 1))})
    with pytest.raises(
        InputError, match=r"must hold the activations 'blocks.0.norm1_raw' and 'blocks.0.norm1_out_raw'"
    ):
        read_requests(run.manifest)


def test_a_unit_that_stands_alone_reads_nothing_beside_its_folder(tmp_path):
    run = make_run(tmp_path)
    (request,) = read_requests(run.manifest)
    assert (request.program_path, request.replay_path) == (run.program(SITE), run.replay)
    alone = make_unit(run.root / "out", "unit")
    run.replay.write_text("somebody's")
    (run.root / "programs/unit.json").write_text("somebody's")
    (request,) = read_requests(alone)
    assert (request.program, request.program_path, request.replay, request.replay_path) == (None,) * 4
    assert results_folder(alone) == run.root / "out/sim"


def test_a_replay_that_is_none_is_refused(tmp_path):
    run = make_run(tmp_path)
    run.replay.write_text("text")
    message = r"^activations '.*replay\.npz' must be an npz file of numbers, not a file of another kind$"
    with pytest.raises(InputError, match=message):
        read_requests(run.manifest)


def test_replay_of_another_shape_is_refused(tmp_path):
    run = make_run(tmp_path)
    write_npz(run.replay, {f"{SITE}_raw": np.zeros((2, 3)), f"{SITE}_out_raw": np.zeros((3, 2))})
    with pytest.raises(InputError, match=r"same shape \(rows, channels\), not \(2, 3\) and \(3, 2\)"):
        read_requests(run.manifest)


def test_units_of_one_name_are_refused(tmp_path):
    paths = [make_unit(tmp_path / side, "same") for side in ("a", "b")]
    with pytest.raises(InputError, match="names of units must differ, not be same, same"):
        verify_and_report(
            [r for path in paths for r in read_requests(path)], Settings(folder=tmp_path / "sim")
        )


def test_missing_verilator_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VERILATOR", "/nowhere/verilator")
    assert main([str(make_unit(tmp_path, "unit"))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "normforge: Verilator must be 5.036 or later, not missing (VERILATOR=/nowhere/verilator)"
    )


@pytest.mark.parametrize(("folder", "letter"), [("a b", " "), ("a;b", ";")])
def test_a_folder_that_make_cannot_build_in_is_refused(tmp_path, capsys, folder, letter):
    assert main([str(make_unit(tmp_path / folder, "unit"))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"normforge: folder '{tmp_path / folder}")
    assert f"must have no '{letter}' in its path: make, which builds simulations" in line


@pytest.mark.tools
def test_a_build_that_fails_by_itself_is_no_fault_of_the_unit(tmp_path, monkeypatch, capsys):
    make = tmp_path / "bin/make"
    make.parent.mkdir()
    make.write_text("#!/bin/sh\necho 'make: *** no space left on this planet'\nexit 2\n")
    make.chmod(0o755)
    for name in ("CXX", "MAKE"):
        monkeypatch.setenv(name, str(make))
    monkeypatch.setenv("PATH", str(make.parent), prepend=":")
    path = make_unit(tmp_path, "unit")
    assert main([str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("normforge: simulation of 'unit' must be built: make: *** no space left")


def test_missing_cocotb_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cocotb_tools", None)
    assert main([str(make_unit(tmp_path, "unit"))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "normforge: cocotb must be 2.0 or later, not missing; pip install '.[sim]' in the clone"


def test_results_lie_beside_the_file_and_leave_a_runs_own_alone(tmp_path):
    run = make_run(tmp_path)
    assert results_folder(run.manifest) == run.hdl / "sim"
    assert results_folder(make_unit(tmp_path / "out", "unit")) == tmp_path / "out" / "sim"


def test_a_unit_of_a_run_is_known_by_its_own_json(tmp_path):
    run = make_run(tmp_path)
    path = run.hdl / "blocks_0_norm1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"site": SITE}))
    (alone,), (listed,) = read_requests(path), read_requests(run.manifest)
    assert (alone.unit, alone.program_path, alone.replay_path) == (
        listed.unit,
        run.program(SITE),
        run.replay,
    )


def test_a_manifest_is_known_by_what_it_holds(tmp_path):
    run = make_run(tmp_path)
    copy = run.manifest.rename(run.hdl / "mine.json")
    assert [request.site for request in read_requests(copy)] == [SITE]
    unit = make_unit(tmp_path / "out", "manifest")
    assert [request.site for request in read_requests(unit)] == ["manifest"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", r"^'.*norm1\.json' cannot be read: no text$"),
        (b"{}", r"^'.*norm1\.json': program must be JSON as docs/ir\.md describes"),
    ],
)
def test_a_program_that_is_none_is_named(tmp_path, content, message):
    run = make_run(tmp_path)
    run.program(SITE).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_requests(run.manifest)


@pytest.mark.parametrize(
    ("option", "least"), [("--rows", 1), ("--seed", 0), ("--stall-beats", 0), ("--jobs", 0)]
)
def test_numbers_that_are_too_small_are_one_line(tmp_path, capsys, option, least):
    assert main([str(make_unit(tmp_path, "unit")), f"{option}={least - 1}"]) == 2
    assert capsys.readouterr().err == f"normforge: {option} must be at least {least}, not {least - 1}\n"
