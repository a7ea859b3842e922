"""Certificates: what is written, that it holds, and that every lie is found."""

import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import hw.formal
from hw.compile import Order, compile_formula
from hw.formal import Proof
from hw.formal_results import leave_results, read_results
from sim_tb import recheck
from sim_tb.certificate import (
    KEYS,
    certificate,
    certificate_path,
    keep_certificates,
    leave_certificate,
    read_certificate,
)
from sim_tb.contract import NO_TORCH, examine
from sim_tb.request import Settings, UnitRequest
from sim_tb.results import Check, UnitReport
from sim_tb.unit import UnitFiles
from sim_tb.verify import main, read_requests
from sw import cli
from sw.arrays import codes_digest
from sw.files import file_digest, read_json, write_json
from sw.ir.errors import InputError

PAGE = (Path(__file__).parents[1] / "docs/verification.md").read_text()
COMMANDS = re.search(r"```sh\n(normforge compile.*?)```", PAGE, re.DOTALL)[1].strip().splitlines()
FAITHFUL = Order(formula="tanh(x)", input="s8.5", output="s8.6", faithful=True)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The unit that the page compiles and verifies, 1 ulp off at some codes."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WAVES", "0")
        for command in COMMANDS[:2]:
            assert cli.main(shlex.split(command)[1:]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def sim(out):
    """The folder of builds for all tests, so that the runtime is compiled once."""
    return out / "sim"


@pytest.fixture(scope="module")
def certified(sim):
    return certificate_path(sim, "unit")


@pytest.fixture(scope="module")
def report(sim):
    """What verification found about the unit."""
    (found,) = read_json(sim / "summary.json")["units"]
    del found["passed"]
    return UnitReport(**found | {"checks": tuple(Check(**check) for check in found["checks"])})


@pytest.fixture
def copy(out, certified, tmp_path):
    """The unit and its certificate somewhere else; its path."""
    moved = tmp_path / "moved" / "out"
    shutil.copytree(out, moved, ignore=shutil.ignore_patterns("sim"))
    (moved / "sim").mkdir()
    return Path(shutil.copy(certified, moved / "sim"))


def change(path, **values):
    write_json(path, read_json(path) | values)


def check(path, sim):
    return recheck.main(["--certificate", str(path), "-o", str(sim)])


def refusal(path, sim, capsys):
    """The one line of a certificate that does not hold."""
    assert check(path, sim) == 1
    shown = capsys.readouterr()
    assert "certificate holds" not in shown.out
    (line,) = [line for line in shown.err.splitlines() if line.startswith("normforge:")]
    start = f"normforge: certificate '{path}' does not hold: "
    assert line.startswith(start)
    return line.removeprefix(start)


@pytest.fixture
def simulated(monkeypatch, report):
    """Nothing is simulated any more: the report is the one of before."""
    monkeypatch.setattr(recheck, "verify", lambda requests, settings: [report])


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.xdist_group("simulated")
class TestSimulated:
    def test_it_states_what_was_measured(self, certified, out):
        body = read_certificate(certified)
        assert list(body) == list(KEYS)
        assert (body["policy"], body["max_ulp"], body["codes_compared"]) == ("faithful", 1, 256)
        assert (body["codes_checked"], body["mismatches"], body["stall_beats"]) == (256, 0, 4096)
        assert body["verilog"] == "../unit.v"
        assert body["verilog_sha256"] == file_digest(out / "unit.v")
        assert body["table_sha256"] == codes_digest(np.load(out / "unit.table.npy"))
        assert body["checks"]["every_code"] == body["checks"]["random_stalls"] == "passed"
        assert body["proofs"] == []
        assert {"verilator", "cocotb", "normforge", "amaranth", "numpy", "python"} == set(body["versions"])

    def test_it_holds_wherever_the_folder_lies_as_the_page_shows(self, copy, sim, capsys, monkeypatch):
        monkeypatch.chdir(copy.parents[2])
        args = cli._parser().parse_args(shlex.split(COMMANDS[2])[1:])
        assert recheck.main(["--certificate", *args.certificate, "-o", str(sim)]) == 0
        shown = re.search(r"```\n(out/sim/unit.*?)```", PAGE, re.DOTALL)[1]
        assert without_versions(capsys.readouterr().out) == without_versions(shown)

    def test_the_same_unit_and_seed_give_the_same_bytes(self, certified, out):
        before = certified.read_bytes()
        certified.unlink()
        assert main([str(out / "unit.json"), "--jobs", "1"]) == 0
        assert certified.read_bytes() == before

    def test_a_unit_that_fails_has_none(self, copy, report):
        (request,) = read_requests(copy.parents[1] / "unit.json")
        bad = dataclasses.replace(report, checks=(*report.checks, Check("replay", "failed", "why")))
        leave_certificate(request, bad, Settings(folder=copy.parent))
        assert not copy.exists()
        leave_certificate(request, report, Settings(folder=copy.parent))
        assert copy.exists()

    def test_changed_verilog_with_its_digest_is_found(self, copy, sim, capsys):
        source = copy.parents[1] / "unit.v"
        text = source.read_text()
        wrong = re.sub(r"(\] = 7'h)(\w\w);", lambda m: f"{m[1]}{int(m[2], 16) ^ 4:02x};", text, count=1)
        assert wrong != text
        source.write_text(wrong)
        assert refusal(copy, sim, capsys).startswith(
            f"sha256 of '{copy.parent / '../unit.v'}' is {file_digest(source)}, not "
        )
        change(copy, verilog_sha256=file_digest(source))
        assert re.match(
            r"check 'every_code' is failed \(.*stored table: code .*\), not passed$",
            refusal(copy, sim, capsys),
        )

    def test_every_altered_figure_is_found(self, copy, sim, capsys, simulated):
        stated = read_json(copy)
        for key, value in {
            "codes_checked": 255,
            "mismatches": 1,
            "replay_beats": 7,
            "policy": "exact",
        }.items():
            write_json(copy, stated | {key: value})
            found = {"policy": "faithful"}.get(key, stated[key])
            assert refusal(copy, sim, capsys) == f"{key} is {found}, not {value}"

    def test_altered_checks_are_found(self, copy, sim, capsys, simulated):
        stated = read_json(copy)
        write_json(copy, stated | {"checks": stated["checks"] | {"replay": "passed"}})
        assert refusal(copy, sim, capsys) == "check 'replay' is skipped, not passed"
        write_json(copy, stated | {"checks": {"every_code": "passed"}})
        assert refusal(copy, sim, capsys).startswith("list of checks is ['stored_table', ")
        more = stated["checks"] | {"formula": "skipped"}
        write_json(copy, stated | {"checks": more})
        assert check(copy, sim) == 0, "a check that could not be done then and passes now"

    def test_another_version_is_said_and_does_no_harm(self, copy, sim, capsys, simulated):
        change(copy, versions=read_json(copy)["versions"] | {"verilator": "4.0"})
        assert check(copy, sim) == 0
        assert "versions: written with verilator 4.0, here " in capsys.readouterr().out

    def test_stated_proofs_are_made_again(self, copy, sim, capsys, simulated, monkeypatch):
        tools = "Yosys 1, z3 2"
        change(copy, proofs=[{"property": "table", "outcome": "proven", "tools": tools}])
        outcome = ["proven"]

        def prove(units, cache):
            ((unit, folder),) = units
            assert (folder / unit["verilog"]).is_file()
            assert not list(cache.iterdir()), "no earlier answers"
            return [Proof(unit="unit", property="table", outcome=outcome[0], problem="", seconds=0)]

        monkeypatch.setattr(hw.formal, "prove", prove)
        assert check(copy, sim) == 0
        assert "proofs: table proven, as stated" in capsys.readouterr().out
        outcome[0] = "failed"
        assert refusal(copy, sim, capsys) == "property 'table' is failed, not proven"

    def test_the_command_passes_it_on(self, copy, sim, monkeypatch, capsys):
        change(copy, max_ulp=0)
        assert cli.main(["verify", "--certificate", str(copy)]) == 1
        assert "max_ulp of" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"max_ulp": 0}, r"max_ulp of '.*' from 'tanh\(x\)' is 1, not 0$"),
            ({"max_ulp": 2}, r"max_ulp of '.*' from 'tanh\(x\)' is 1, not 2$"),
            ({"expression": "sin(x)"}, r"max_ulp of '.*' from 'sin\(x\)' is \d+, not 1$"),
            ({"output": "s8.5"}, r"max_ulp of '.*' from 'tanh\(x\)' is 32, not 1$"),
            ({"codes_compared": 255}, "codes_compared is 256, not 255$"),
            ({"verilog_sha256": "0"}, r"sha256 of '.*unit\.v' is \w{64}, not 0$"),
            ({"table_sha256": "0"}, r"sha256 of the codes in '.*unit\.table\.npy' is \w{64}, not 0$"),
        ],
    )
    def test_what_needs_no_simulation_is_found_before(self, copy, sim, capsys, values, message):
        change(copy, **values)
        assert re.match(message, refusal(copy, sim, capsys))

    def test_a_changed_table_is_found_with_its_digest_and_without(self, copy, sim, capsys):
        path = copy.parents[1] / "unit.table.npy"
        table_raw = np.load(path)
        table_raw[5] += 9
        np.save(path, table_raw)
        assert "sha256 of the codes in" in refusal(copy, sim, capsys)
        change(copy, table_sha256=codes_digest(table_raw))
        assert re.match(r"max_ulp of '.*' from 'tanh\(x\)' is \d+, not 1$", refusal(copy, sim, capsys))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"certificate": 2}, r"version of certificate '.*' must be 1, not 2"),
            ({"extra": 1}, r"certificate '.*' must not have the key 'extra'"),
            ({"lanes": "1"}, r"'lanes' of certificate '.*' must not be '1'"),
            ({"stall_beats": -1}, r"'stall_beats' of certificate '.*' must not be -1"),
            ({"name": "../unit"}, r"'name' of certificate '.*' must not be '../unit'"),
            ({"proofs": [1]}, r"'proofs' of certificate '.*' must not be \[1\]"),
            (
                {"proofs": [{"property": [], "outcome": "proven"}]},
                r"'proofs' of certificate '.*' must not be \[.*\]",
            ),
            ({"seed": -1}, r"'seed' of certificate '.*' must not be -1"),
            ({"reachable": {"file": 1}}, r"'reachable' of certificate '.*' must not be \{'file': 1\}"),
            ({"verilog": "no.v"}, r"unit 'unit' needs '.*no\.v', which is missing"),
            ({"program": "no.json"}, r"certificate '.*' needs '.*no\.json', which is missing"),
            ({"replay": "no.npz"}, r"certificate '.*' needs '.*no\.npz', which is missing"),
        ],
    )
    def test_what_cannot_be_used_is_one_line_and_status_2(self, copy, sim, capsys, values, message):
        change(copy, **values)
        assert check(copy, sim) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.fullmatch(f"normforge: {message}", line)

    def test_without_torch_a_check_cannot_be_repeated(self, copy, sim, capsys, monkeypatch, report):
        skipped = [Check(c.name, "skipped", NO_TORCH) if c.name == "float_path" else c for c in report.checks]
        found = dataclasses.replace(report, checks=tuple(skipped))
        monkeypatch.setattr(recheck, "verify", lambda requests, settings: [found])
        assert check(copy, sim) == 0
        change(copy, checks=read_json(copy)["checks"] | {"float_path": "passed"})
        assert check(copy, sim) == 2
        line = f"normforge: check 'float_path' cannot be repeated here: {NO_TORCH}\n"
        assert capsys.readouterr().err.endswith(line)


def without_versions(text):
    return re.sub(r"^versions: .*$", "versions", text, flags=re.MULTILINE).strip()


def test_what_is_no_certificate_is_refused(tmp_path):
    for body in ([], {"name": "unit"}):
        write_json(tmp_path / "c.json", body)
        with pytest.raises(InputError, match="must be a certificate of 'normforge verify', which has a key"):
            read_certificate(tmp_path / "c.json")


def test_verify_is_given_one_thing(capsys):
    for words in ([], ["run.toml", "--certificate", "c.json"]):
        assert cli.main(["verify", *words]) == 2
        assert "must be given either a CONFIG, a unit's JSON or --certificate FILE" in capsys.readouterr().err


def test_certificates_of_other_units_are_removed(tmp_path):
    for name in ("a", "b"):
        certificate_path(tmp_path, name).touch()
    keep_certificates(tmp_path, ["b", "c"])
    assert list(tmp_path.iterdir()) == [certificate_path(tmp_path, "b")]


def test_proofs_count_for_exactly_the_unit_that_was_proved(tmp_path):
    unit, _ = compile_formula(FAITHFUL, tmp_path)
    outcomes = {"stream": "proven", "table": "proven"}
    leave_results(unit, tmp_path, outcomes, ["Yosys 1", "z3 2"])
    assert read_results(unit, tmp_path) == [
        {"property": name, "outcome": "proven", "tools": "Yosys 1, z3 2"} for name in outcomes
    ]
    assert read_results(unit | {"latency_cycles": 9}, tmp_path) == []
    left = read_json(tmp_path / "unit.proofs.json")
    for damage in ({"tools": None}, {"outcomes": [1]}, {"outcomes": {"table": 1}}):
        write_json(tmp_path / "unit.proofs.json", left | damage)
        with pytest.raises(InputError, match=r"proofs\.json' must hold 'outcomes' and 'tools', in words$"):
            read_results(unit, tmp_path)
    write_json(tmp_path / "unit.proofs.json", left)
    with (tmp_path / "unit.v").open("a") as source:
        source.write("// another\n")
    assert read_results(unit, tmp_path) == []
    leave_results(unit, tmp_path, outcomes | {"table": "failed"}, ["Yosys 1"])
    assert not (tmp_path / "unit.proofs.json").exists()


class TestReachable:
    """A unit that is its function at even codes only."""

    @pytest.fixture
    def unit(self, tmp_path):
        codes_raw = np.arange(-128, 128, 2)
        compile_formula(
            dataclasses.replace(FAITHFUL, faithful=False, kind="table", reachable=codes_raw), tmp_path
        )
        return tmp_path / "unit.json"

    def test_without_its_codes_all_count(self, unit):
        (unit.parent / "unit.reachable.npy").unlink()
        contract = examine(UnitFiles.read(unit), None, None, seed=0)
        (problem,) = [c.message for c in contract.checks if c.name == "formula"]
        assert problem.startswith("more than 0 ulp from 'tanh(x)': code -57 gives -61, not -60; ")
        assert problem.endswith("(its reachable codes are wanted as 'unit.reachable.npy' beside it)")

    def test_with_its_codes_they_count(self, unit, report):
        contract = examine(UnitFiles.read(unit), None, None, seed=0)
        assert {c.name for c in contract.checks if c.status == "failed"} == set()
        assert (contract.max_ulp, contract.codes_compared) == (0, 128)
        found = dataclasses.replace(report, max_ulp=0, codes_compared=128)
        path = unit.parent / "sim/unit.certificate.json"
        body = certificate(UnitRequest(unit=UnitFiles.read(unit)), found, 0, path)
        assert body["reachable"]["file"] == "../unit.reachable.npy"
        write_json(path, body)
        assert UnitFiles.from_entry(read_certificate(path), path).promised_codes().size == 128

    def test_other_codes_are_refused(self, unit):
        np.save(unit.parent / "unit.reachable.npy", np.arange(5))
        with pytest.raises(
            InputError, match=r"must be those that unit 'unit' was made for, sha256 \w{12}\.\.\., "
        ):
            examine(UnitFiles.read(unit), None, None, seed=0)


def test_the_page_explains_every_key():
    rows = re.findall(r"^\| (`.*?) \|", PAGE[PAGE.index("## Certificates") :], re.MULTILINE)
    assert sorted(key for row in rows for key in re.findall(r"`(\w+)`", row)) == sorted(KEYS)
