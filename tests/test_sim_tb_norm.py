"""Norms in Verilator: good ones pass, planted faults are found, what moves is what the traffic model says."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest

from hw.compile import Order, compile_formula
from hw.layernorm import timing
from hw.layernorm.emit import emit_norm
from sim_tb.contract import Replay
from sim_tb.norm import NormFiles, examine_norm, random_rows, read_tokens
from sim_tb.request import NormRequest, Settings, UnitRequest
from sim_tb.unit import UnitFiles
from sim_tb.verify import main, read_requests, verify_and_report
from sw import cli
from sw.ir.affine import Affine
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.layernorm import LayerNorm
from sw.ir.layernorm_error import corner_rows
from sw.report.traffic import ROW_BUFFER, UNFUSED, Network

ROOT = Path(__file__).parents[1]
TOKENS = 20


class Case(NamedTuple):
    norm: LayerNorm
    variant: str
    lanes: int = 1


def norm_of(channels, input="s16.11", output="s8.5", *, affine=False, **more):
    rng = np.random.default_rng(channels)
    drawn = Affine.of(rng.uniform(-1.3, 1.3, channels), rng.normal(0, 0.3, channels)) if affine else None
    formats = {"input": FixedFormat.parse(input), "output": FixedFormat.parse(output)}
    return LayerNorm(**formats, channels=channels, affine=drawn, **more)


WHOLE = {
    "sixteen": Case(norm_of(16, "s8.4", "s16.11", affine=True), "fast"),
    "twelve": Case(norm_of(12, "s8.4", rms=True, eps=0.01), "small", 2),
    "wide": Case(norm_of(16), "fast", 4),
}
"""Codes fill bytes and channels lanes, so all that moves on a bus are elements of rows."""
CASES = WHOLE | {
    "one": Case(norm_of(1), "fast", 4),
    "ragged": Case(norm_of(13, affine=True), "small", 4),
}
AFFINE = {"gamma": "s8.6", "beta": "s8.6", "gamma_raw": [1], "beta_raw": [0]}
FAULTS = {
    "sums_run_on": (r"is_first \? \d+'h0+ : sum;", "sum;", "every_row", "row 3 at channel 0 gives 32, not 0"),
    "lost": (r"advance = \S+  \| o__tready;", "advance = 1;", "random_stalls", "a waiting beat changed"),
}
"""Pattern and text that replaces it in the Verilog, which check fails, and what it says."""


def changed(path, **keys):
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return path


def copied(path, folder):
    """A description and its Verilog in a folder where they may be changed."""
    for end in (".json", ".v"):
        shutil.copy(path.with_suffix(end), folder)
    return folder / path.name


def failures(folder, name):
    units = {unit["name"]: unit for unit in json.loads((folder / "summary.json").read_text())["units"]}
    return {c["name"]: c["message"] for c in units[name]["checks"] if c["status"] == "failed"}


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """One results folder for all tests, so that the runtime is compiled once."""
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="session")
def hdl(tmp_path_factory):
    """A folder with all cases as ``norm`` writes them."""
    folder = tmp_path_factory.mktemp("hdl")
    for name, case in CASES.items():
        emit_norm(case.norm, case.variant, name=name, folder=folder, lanes=case.lanes)
    return folder


@pytest.fixture(scope="session")
def verified(shared, hdl, tmp_path_factory):
    """Reports of all cases and, on the same tokens, of scalar units at the formats and lanes of some."""
    folder = tmp_path_factory.mktemp("units")
    requests = []
    for name, case in CASES.items():
        (request,) = read_requests(hdl / f"{name}.json")
        requests.append(replace(request, tokens_raw=random_rows(case.norm, TOKENS, seed=9)))
        if name in WHOLE:
            formats = {"input": str(case.norm.input), "output": str(case.norm.output)}
            order = Order(formula="x/2", **formats, name=f"unit_{name}", lanes=case.lanes)
            body, _ = compile_formula(order, folder)
            unit = UnitFiles.read(folder / f"{body['name']}.json")
            tokens_raw = requests[-1].tokens_raw
            replay = Replay(tokens_raw, unit.read_table()[tokens_raw - unit.input.min_raw])
            requests.append(UnitRequest(unit=unit, replay=replay))
    settings = Settings(folder=shared, stall_beats=400, rows=150)
    return {report.name: report for report in verify_and_report(requests, settings)}


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.xdist_group("simulated")
class TestSimulated:
    @pytest.mark.parametrize("name", CASES)
    def test_norms_equal_the_model_in_the_stated_cycles(self, verified, name):
        norm, variant, lanes = CASES[name]
        report = verified[name]
        assert {check.name: check.status for check in report.checks} == dict.fromkeys(
            ("error_bound", "every_row", "stated_latency", "random_stalls", "replay"), "passed"
        )
        assert report.rows_checked == len(corner_rows(norm)) + 150
        assert 0.45 < report.error_lsb <= report.bound_lsb == norm.bound_lsb or norm.channels == 1
        latency, interval, _ = timing(norm, variant, lanes=lanes)
        assert (report.latency_cycles, report.interval_cycles, report.mismatches) == (latency, interval, 0)
        beats = -(-norm.channels // lanes)
        assert report.moved["replay"]["beats_in"] == report.moved["replay"]["beats_out"] == beats * TOKENS
        # the last row leaves a beat a cycle in the fast variant, and behind its first result in both
        assert report.moved["replay"]["cycles"] >= (TOKENS - 1) * interval + latency + beats
        if variant == "fast":
            assert report.moved["replay"]["cycles"] == TOKENS * beats + latency

    @pytest.mark.parametrize("name", WHOLE)
    def test_bytes_at_the_ports_are_those_of_the_traffic_model(self, verified, name):
        """The norm keeps its row on chip, so it reads every element once, as a function on its own does.

        The model counts elements; here every lane is whole bytes and carries one. Both ends are counted by
        the simulation, beat by beat, and stalls must not change them.
        """
        norm = CASES[name].norm
        bits = {"in_bits": norm.input.width, "out_bits": norm.output.width}
        for way, report in ((ROW_BUFFER, verified[name]), (UNFUSED, verified[f"unit_{name}"])):
            moved = report.moved["replay"]
            network = Network(tokens=TOKENS, channels=norm.channels, norms=1, **bits)
            assert moved["bytes_in"] + moved["bytes_out"] == way.bytes(network)
            assert moved["bytes_in"] == network.elements * norm.input.width // 8
        stalled = verified[name].moved["random_stalls"]
        rows = stalled["beats_in"] * CASES[name].lanes // norm.channels
        network = Network(tokens=rows, channels=norm.channels, norms=1, **bits)
        assert stalled["bytes_in"] + stalled["bytes_out"] == ROW_BUFFER.bytes(network)

    def test_faults_in_the_verilog_are_found(self, tmp_path, shared, capsys):
        paths = []
        for name, (pattern, text, _, _) in FAULTS.items():
            emit_norm(norm_of(4), "fast", name=name, folder=tmp_path)
            paths.append(tmp_path / f"{name}.json")
            verilog = tmp_path / f"{name}.v"
            broken, count = re.subn(pattern, text, verilog.read_text())
            assert count == 1, name
            verilog.write_text(broken)
        assert main([*map(str, paths), "-o", str(shared), "--rows", "150", "--stall-beats", "400"]) == 1
        assert "normforge: 2 of 2 units do not verify: 'sums_run_on' (every_row)" in capsys.readouterr().err
        for name, (_, _, check, message) in FAULTS.items():
            assert message in failures(shared, name)[check], name

    @pytest.mark.usefixtures("verified")  # and built
    def test_faults_in_the_description_are_found(self, tmp_path, shared, hdl, capsys):
        path = copied(hdl / "ragged.json", tmp_path)
        body = json.loads(path.read_text())
        arguments = [str(path), "-o", str(shared), "--rows", "30", "--stall-beats", "0"]
        latency, interval = body["latency_cycles"], body["interval_cycles"]
        changed(path, latency_cycles=latency + 1)
        assert main(arguments) == 1
        wanted = f"latency must be the stated {latency + 1} cycles, not [{latency}]"
        assert wanted in failures(shared, "ragged")["stated_latency"]
        assert f"latency {latency + 1} FAILED" in capsys.readouterr().out

        gamma_raw = [body["affine"]["gamma_raw"][0] ^ 8, *body["affine"]["gamma_raw"][1:]]
        affine = body["affine"] | {"gamma_raw": gamma_raw}
        changed(path, latency_cycles=latency, interval_cycles=interval + 2, affine=affine, bound_lsb=0.5)
        assert main(arguments) == 1
        found = failures(shared, "ragged")
        assert re.search(r"differs from the integer model: row \d+ at channel 0 gives", found["every_row"])
        assert re.search(r"bound_lsb must be 0\.5\d+, not 0\.5$", found["error_bound"])
        assert "(bound 0.5" in capsys.readouterr().out

        changed(path, interval_cycles=interval + 2, affine=body["affine"])
        assert main(arguments) == 1
        wanted = f"a row must be taken every {interval + 2} cycles as stated, not every [{interval}]"
        assert wanted in failures(shared, "ragged")["stated_latency"]
        suite = ElementTree.parse(shared / "junit.xml").getroot()[0]
        assert (suite.get("name"), suite.get("tests"), suite.get("skipped")) == ("ragged", "5", "2")

    def test_the_page_s_commands_print_what_it_says(self, tmp_path, shared, capsys):
        page = (ROOT / "docs/layernorm.md").read_text()
        found = re.search(r"```sh\n(normforge norm .*?)```\n+```\n(.*?)```", page, re.DOTALL)
        commands, said = found.groups()
        shutil.copytree(shared / "objects", tmp_path / "out/sim/objects")
        for command in commands.splitlines():
            assert cli.main(shlex.split(command)[1:]) == 0
        assert capsys.readouterr().out == said


def test_a_norm_is_read_from_its_json_alone(hdl):
    for name, case in CASES.items():
        (request,) = read_requests(hdl / f"{name}.json")
        assert isinstance(request, NormRequest)
        assert request.norm.model == case.norm
        assert (request.site, request.norm.lanes) == (name, case.lanes)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"expression": "Max"},
            r"of norm 'ragged' in '.*ragged.json' must be LayerNorm or RMSNorm, not 'Max'$",
        ),
        ({"affine": {"gamma": "s8.6"}}, r"a norm's affine in '.*ragged.json' must have the key 'beta'$"),
        ({"verilog": "m.v"}, r"^norm 'ragged' needs '.*m.v', which is missing$"),
        ({"input": "s17.2"}, "input of a norm must have at most 16 bits, not s17.2"),
        ({"channels": "x"}, r"^'channels' of norm 'ragged' in '.*' must be 1\.\.8192, not 'x'$"),
        ({"channels": True}, r"^'channels' of norm 'ragged' in '.*' must be 1\.\.8192, not True$"),
        ({"lanes": 0}, r"^'lanes' of norm 'ragged' in '.*' must be 1\.\.65536, not 0$"),
        ({"guard_bits": 2.5}, r"'guard_bits' of norm 'ragged' in '.*' must be 1\.\.16, not 2\.5$"),
        (
            {"latency_cycles": None},
            r"'latency_cycles' of norm 'ragged' in '.*' must be 1\.\.65536, not None$",
        ),
        ({"interval_cycles": -1}, r"'interval_cycles' of norm 'ragged' in '.*' must be 1\.\.65536, not -1$"),
        ({"eps": "0"}, r"^'eps' of norm 'ragged' in '.*' must be a finite number, not '0'$"),
        (
            {"bound_lsb": float("nan")},
            r"^'bound_lsb' of norm 'ragged' in '.*' must be a finite number, not nan$",
        ),
        ({"eps": 10**400}, r"^'eps' of norm 'ragged' in '.*' must be a finite number, not 1000"),
        ({"input": 8}, r"^'input' of a norm in '.*ragged\.json' must be a text, not 8$"),
        ({"site": "../x"}, r"^site of a norm in '.*ragged\.json' must be a name, not '\.\./x'$"),
        ({"verilog": "a" * 300}, r"^norm 'ragged' needs '.*/a{300}', which is missing$"),
        ({"affine": AFFINE | {"gamma": 8}}, r"^'gamma' of a norm's affine in '.*' must be a text, not 8$"),
        (
            {"affine": AFFINE | {"beta_raw": 3}},
            r"^'beta_raw' of a norm's affine in '.*' must be a list of integers$",
        ),
        (
            {"affine": AFFINE | {"gamma_raw": [0.5]}},
            r"^'gamma_raw' of a norm's affine in '.*' must be a list of",
        ),
        ({"affine": AFFINE | {"beta_raw": []}}, r"^beta must have as many values as gamma, 1, not 0$"),
    ],
)
def test_a_description_that_is_wrong_is_refused(tmp_path, hdl, keys, message):
    path = changed(copied(hdl / "ragged.json", tmp_path), **keys)
    with pytest.raises(InputError, match=message):
        read_requests(path)


def test_a_missing_key_is_named(hdl):
    body = json.loads((hdl / "one.json").read_text())
    del body["guard_bits"]
    with pytest.raises(
        InputError, match=r"description of a norm in 'n.json' must have the key 'guard_bits'$"
    ):
        NormFiles.from_entry(body, Path("n.json"))


def test_rows_have_every_spread_and_mean():
    norm = norm_of(64)
    rows_raw = random_rows(norm, 500, seed=0)
    assert rows_raw.shape == (500, 64)
    assert (rows_raw.min(), rows_raw.max()) == (norm.input.min_raw, norm.input.max_raw)
    spread = rows_raw.std(axis=1)
    assert spread.min() < 2
    assert spread.max() > 20_000
    assert 150 < (np.abs(rows_raw.mean(axis=1)) > 2000).sum() < 350
    assert np.array_equal(rows_raw, random_rows(norm, 500, seed=0))
    assert not np.array_equal(rows_raw, random_rows(norm, 500, seed=1))


def test_an_error_beyond_the_bound_is_said(hdl, monkeypatch):
    (request,) = read_requests(hdl / "wide.json")
    good = examine_norm(request.norm, None, rows=50, seed=0)
    assert [check.status for check in good.checks] == ["passed"]
    assert 0.5 < good.error_lsb < request.norm.bound_lsb
    assert good.expected.replay_raw.shape == (0, 16)
    monkeypatch.setattr(LayerNorm, "run", lambda norm, rows_raw: np.zeros_like(rows_raw))
    bad = examine_norm(request.norm, None, rows=50, seed=0)
    assert re.match(r"error must be at most 0\.5\d+ LSB, not 1\d\d\.?\d*$", bad.checks[0].message)


def test_tokens_are_codes_or_values(tmp_path):
    norm = norm_of(3)
    np.save(tmp_path / "values.npy", np.array([[0.5, -1.0, 99.0]], dtype=np.float32))
    assert read_tokens(tmp_path / "values.npy", norm).tolist() == [[1024, -2048, 32767]]
    np.save(tmp_path / "codes.npy", np.array([[5, -6, 7]], dtype=np.int16))
    assert read_tokens(tmp_path / "codes.npy", norm).tolist() == [[5, -6, 7]]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.zeros((0, 3)), r"^tokens '.*t.npy' must be rows of numbers, not float64 \(0, 3\)$"),
        (np.zeros(3), r"must be rows of numbers, not float64 \(3,\)$"),
        (np.array([["a"]]), r"must be rows of numbers, not <U1 \(1, 1\)$"),
        (np.array([[1.0, np.nan, 2.0]]), r"^tokens '.*t.npy' must be finite, not nan$"),
        (np.zeros((2, 4)), r"^rows must have the shape \(rows, 3\), not \(2, 4\)$"),
        (np.array([[0, 0, 0], [40_000, 0, 0]]), r"^codes of rows must lie in s16\.11, not in \[0, 40000\]$"),
    ],
)
def test_tokens_that_are_none_are_refused(tmp_path, tokens, message):
    np.save(tmp_path / "t.npy", tokens)
    with pytest.raises(InputError, match=message):
        read_tokens(tmp_path / "t.npy", norm_of(3))


def test_options_of_norms_want_a_norm(tmp_path, capsys):
    np.save(tmp_path / "t.npy", np.zeros((1, 3)))
    order = Order(formula="x/2", input="s4.2", output="s4.2")
    compile_formula(order, tmp_path)
    alone = "must come with the JSON of a norm, not with"
    for arguments, message in (
        (["unit.json", "--tokens", "t.npy"], f"--tokens {alone} 'unit.json'"),
        (["unit.json", "--rows", "5"], f"--rows {alone} 'unit.json'"),
        (["run.toml", "--tokens", "t.npy"], f"--tokens {alone} 'run.toml'"),
        (["run.toml", "--rows", "5"], f"--rows {alone} 'run.toml'"),
        (["n.json", "--rows", "0"], "--rows must be at least 1, not 0"),
        (["n.json", "--rows", "9"], "'n.json' cannot be read: No such file or directory"),
    ):
        assert cli.main(["verify", *arguments]) == 2
        assert capsys.readouterr().err == f"normforge: {message}\n"
