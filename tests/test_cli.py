import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import hw.command
import hw.norm_command
import sw.actions
import sw.model
from sim_tb.unit import UnitFiles
from sw import cli
from sw.arguments import guarded
from sw.ir import interpret
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.refmap import reference_map
from sw.stages import LAST_ACCURACY_STAGE, STAGES, stage

FORMULA = "0.5*clip(2.5*x) - 0.1*tanh(x)"


def compiled(*options):
    return cli.main(["compile", *options, "-o", "out"])


def test_compile_writes_an_exact_unit(tmp_path, capsys):
    assert compiled(FORMULA, "--in", "s16.11", "--out", "s8.5", "--name", "mixed") == 0
    said = capsys.readouterr().out
    body = json.loads((tmp_path / "out/mixed.json").read_text())
    assert body["expression"] == FORMULA
    assert (body["input"], body["output"], body["max_ulp"], body["ii"]) == ("s16.11", "s8.5", 0, 1)
    table = np.load(tmp_path / "out" / body["table"])
    expected = reference_map(parse(FORMULA), FixedFormat.parse("s16.11"), FixedFormat.parse("s8.5"))
    assert np.array_equal(table, expected)
    assert f"module {body['top']}" in (tmp_path / "out" / body["verilog"]).read_text()
    assert f"-> {body['realization']}" in said
    assert "operator" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("tanh(x", "--in", "s8.5", "--out", "s8.5"), "has a syntax error at position 5"),
        (("foo(x)", "--in", "s8.5", "--out", "s8.5"), "not 'foo' at position 1"),
        (("x", "--in", "s0.3", "--out", "s8.5"), "width of a signed format must be 2..32 bits, not 0"),
        (("x", "--in", "s8.5", "--out", "s99.2"), "width of a signed format must be 2..32 bits, not 99"),
        (("x", "--in", "s24.2", "--out", "s8.2"), "must have at most 20 bits, not 24"),
        (("1/x", "--in", "s8.5", "--out", "s8.5"), "is undefined or infinite at x = 0"),
        (("x", "--in", "s8.5", "--out", "s8.5", "--realize", "magic"), "must be auto, all or one of"),
        (("x*x", "--in", "s8.5", "--out", "s8.5", "--realize", "threshold"), "must be monotone"),
        (("x", "--in", "s8.5", "--out", "s8.5", "--lanes", "0"), "lanes"),
        (("x", "--in", "s8.5", "--out", "s8.5", "--fmax", "0"), "fmax must be"),
        (("x", "--in", "s8.5", "--out", "s8.5", "--name", "a b"), "not 'a b'"),
        (
            ("x", "--in", "s8.5", "--out", "s8.5", "--objective", "watts"),
            "objective must be one of lut, fmax",
        ),
        (("x", "--in", "s8.5", "--out", "s8.5", "--family", "max10"), "family must be one of ecp5, ice40"),
        (("x", "--in", "s8.5", "--out", "s8.5", "--latency", "99"), "latency must be 1..64 cycles, not 99"),
        (
            ("x", "--in", f"s{'1' * 5000}.1", "--out", "s8.5"),
            "format must look like 's16.11' or 'u8.0', not 's1",
        ),
        (("x", "--in", "s8.5", "--out", "s8.5", "--reachable", "no.npy"), "'no.npy' cannot be read: No such"),
    ],
)
def test_compile_wrong(tmp_path, capsys, options, message):
    assert compiled(*options) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["-0.5*tanh(x)", "-x", "-(x + 1)", "-tanh(x)", "-.5*x"])
def test_a_formula_may_begin_with_a_minus(tmp_path, text):
    assert compiled(text, "--in", "s8.5", "--out", "s8.5") == 0
    body = json.loads((tmp_path / "out/unit.json").read_text())
    assert parse(body["expression"]) == parse(text)


def test_a_forced_operator_says_how_far_it_is_off(capsys):
    assert compiled("tanh(x)", "--in", "s12.9", "--out", "s12.10", "--realize", "operator") == 0
    assert "output codes off the function" in capsys.readouterr().err


def test_compile_faithful_may_differ_by_one_code(tmp_path):
    assert compiled("tanh(x)", "--in", "s12.9", "--out", "s8.7", "--faithful") == 0
    body = json.loads((tmp_path / "out/unit.json").read_text())
    expected = reference_map(parse("tanh(x)"), FixedFormat.parse("s12.9"), FixedFormat.parse("s8.7"))
    off = np.abs(np.load(tmp_path / "out/unit.table.npy").astype(int) - expected).max()
    assert off == body["max_ulp"] <= 1


def test_a_given_latency_and_an_objective(tmp_path):
    options = ("tanh(x)", "--in", "s12.9", "--out", "s8.7")
    assert compiled(*options, "--latency", "7", "--objective", "latency") == 0
    assert json.loads((tmp_path / "out/unit.json").read_text())["latency_cycles"] == 7


def test_a_missed_clock_is_said(tmp_path, capsys):
    options = ("tanh(x)", "--in", "s8.5", "--out", "s8.7")
    assert compiled(*options, "--fmax", "2000") == 3
    said = capsys.readouterr().err
    assert said.startswith("normforge: the delay model of ecp5 gives ")
    assert said.endswith(" MHz, not the 2000 MHz asked for; the unit was written\n")
    assert (tmp_path / "out/unit.v").exists()
    assert compiled(*options, "--fmax", "400", "--latency", "1") == 3
    assert json.loads((tmp_path / "out/unit.json").read_text())["latency_cycles"] == 1
    capsys.readouterr()
    for fine in (("--fmax", "100"), ("--objective", "fmax"), ("--latency", "1")):
        assert compiled(*options, *fine) == 0
        assert "MHz" not in capsys.readouterr().err


def test_a_clock_that_nobody_asked_for_is_only_noted(capsys):
    assert compiled("x*x*x", "--in", "s16.12", "--out", "s16.10", "--realize", "operator") == 0
    said = capsys.readouterr()
    assert "note: the delay model of ecp5 gives " in said.err
    assert said.err.splitlines()[-1].endswith(" MHz, not 200 MHz")


def test_an_output_that_mostly_saturates_is_noted(capsys):
    assert compiled("100 + x", "--in", "s8.5", "--out", "s8.5") == 0
    assert "beyond the range of s8.5 at 100.0 % of the input codes, where the unit" in capsys.readouterr().err
    assert compiled("2*x", "--in", "s8.5", "--out", "s8.5") == 0
    assert "beyond the range" not in capsys.readouterr().err


def test_what_is_not_simulated_of_a_wide_input_is_noted(capsys):
    assert compiled("x", "--in", "s18.12", "--out", "s8.2") == 0
    assert "note: of 262144 input codes verify simulates 65536 at random" in capsys.readouterr().err
    assert compiled("x", "--in", "s16.12", "--out", "s8.4") == 0
    assert "verify simulates" not in capsys.readouterr().err


def test_codes_that_never_occur_are_stated(tmp_path, capsys):
    np.save(tmp_path / "seen.npy", np.arange(-300, 200))
    formula = "tanh(x) + 0.25*exp(-x*x)"
    assert compiled(formula, "--in", "s12.9", "--out", "s8.7", "--reachable", "seen.npy") == 0
    assert "holds at the 500 reachable of 4096 input codes" in capsys.readouterr().err
    body = json.loads((tmp_path / "out/unit.json").read_text())
    assert (body["reachable"]["codes"], body["reachable"]["of"], body["max_ulp"]) == (500, 4096, 0)
    table = np.load(tmp_path / "out/unit.table.npy").astype(int)
    expected = reference_map(parse(formula), FixedFormat.parse("s12.9"), FixedFormat.parse("s8.7"))
    assert np.array_equal(table[2048 - 300 : 2048 + 200], expected[2048 - 300 : 2048 + 200])
    assert np.array_equal(UnitFiles.read(tmp_path / "out/unit.json").promised_codes(), np.arange(-300, 200))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no array", "must be an npy file of numbers"),
        (b"", "must be an npy file of numbers"),
    ],
)
def test_a_file_of_codes_that_is_none_is_refused(tmp_path, capsys, content, message):
    (tmp_path / "seen.npy").write_bytes(content)
    assert compiled("x", "--in", "s8.5", "--out", "s8.5", "--reachable", "seen.npy") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.tools
@pytest.mark.slow
def test_every_kind_is_synthesized_and_compared(tmp_path, capsys):
    assert compiled("0.99*tanh(x)", "--in", "s6.3", "--out", "s6.5", "--realize", "all") == 0
    said = capsys.readouterr().out
    kinds = json.loads((tmp_path / "out/unit.kinds.json").read_text())["kinds"]
    assert {"table", "pwl", "operator"} <= {entry["kind"] for entry in kinds}
    for entry in kinds:
        assert entry["kind"] in said
        assert all(entry["families"][family]["lut"] > 0 for family in ("xc7", "ecp5", "ice40"))
    exact = [entry for entry in kinds if entry["max_ulp"] == 0]
    assert exact[0]["families"]["xc7"]["lut"] <= min(e["families"]["xc7"]["lut"] for e in exact) + 4


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert compiled("x", "--in", "s8.5", "--out", "s8.5") == 2
    assert "folder 'out' cannot be written" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "out/unit.v").mkdir(parents=True)
    assert compiled("x", "--in", "s8.5", "--out", "s8.5") == 2
    message = "'out/unit.v' must be a file that can be replaced, not a folder"
    assert capsys.readouterr().err == f"normforge: {message}\n"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["unit.v"]
    long = "a" * 300
    assert compiled("x", "--in", "s8.5", "--out", "s8.5", "--name", long) == 2
    assert capsys.readouterr().err == "normforge: name of a unit must have at most 128 letters, not 300\n"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["unit.v"]


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_is_a_module_and_a_sub_command(name):
    found = stage(name)
    assert found.name == name
    assert found.help


def test_stages_are_scripts(tmp_path):
    for module in ("gp.evolve", "hw.emit", "sim_tb.verify"):
        done = subprocess.run(
            [sys.executable, "-m", module, "none.toml"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert (
            done.stderr == "normforge: configuration 'none.toml' cannot be read: No such file or directory\n"
        )


def test_the_stand_alone_commands_are_scripts(tmp_path):
    np.savez(tmp_path / "p.npz", a_x=np.linspace(-3, 3, 500), a_y=np.tanh(np.linspace(-3, 3, 500)))
    for words in (
        ["hw.compile", "tanh(x)", "--in", "s8.5", "--out", "s8.6", "-o", "o"],
        ["gp.evolve", "--pairs", "p.npz", "-o", "e", "--generations", "1", "--in-width", "10"],
    ):
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "o/unit.v").exists()
    assert (tmp_path / "e/functions.json").exists()


def test_evolve_of_pairs_with_nothing_but_defaults(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    np.savez(tmp_path / "p.npz", a_x=x, a_y=np.tanh(x))
    words = [
        "evolve",
        "--pairs",
        "p.npz",
        "-o",
        "e",
        "--in-width",
        "8",
        "--out-width",
        "4",
        "--generations",
        "0",
    ]
    assert cli.main(words) == 0
    assert "of the ceiling" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("normforge 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evolve", "--pairs", "x.npz", "-o", "e", "--set", "a=1"], "--set must come with a CONFIG"),
        (["evolve"], "evolve must be given either a CONFIG or --pairs FILE.npz"),
        (
            ["evolve", "a.toml", "--pairs", "x.npz"],
            "evolve must be given either a CONFIG or --pairs FILE.npz",
        ),
        (["evolve", "a.toml", "--in", "s8.5"], "--in must come with --pairs"),
        (["evolve", "a.toml", "--in-width", "9"], "--in-width must come with --pairs"),
        (
            ["evolve", "--pairs", "x.npz", "-o", "e", "--in", "s8.5", "--in-width", "9"],
            "--in-width 9 must not come with --in s8.5, which has a width",
        ),
        (
            ["evolve", "--pairs", "x.npz", "-o", "e", "--out", "s8.5", "--out-width", "8"],
            "--out-width 8 must not come with --out s8.5, which has a width",
        ),
        (["evolve", "--pairs", "x.npz"], "evolve --pairs must be given a folder for its results, -o DIR"),
        (["run", "none.toml"], "configuration 'none.toml' cannot be read"),
    ],
)
def test_wrong_arguments_are_one_line(capsys, arguments, message):
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["compile", "x", "--in", "s8.5"],
            "normforge compile: the following arguments are required: --out, -o",
        ),
        (["run", "a.toml", "--bo\ngus"], "normforge: unrecognized arguments: --bo gus"),
        (["norm", "--channels", "x"], "normforge norm: argument --channels: invalid int value: 'x'"),
        (
            ["evolve", "--choose", "x"],
            "normforge evolve: argument --choose: invalid choice: 'x' (choose from ",
        ),
        (["bogus"], "normforge: argument COMMAND: invalid choice: 'bogus' (choose from "),
    ],
)
def test_arguments_that_are_none_are_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.endswith(f"; '{message.split(':')[0]} --help' says what it takes\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["u.json", "--set", "verify.stall_beats=9"],
            "--set must come with the CONFIG of a run, not with 'u.json'",
        ),
        (["u.json", "--force"], "--force must come with the CONFIG of a run, not with 'u.json'"),
        (["u.json", "--missing"], "--missing must come with the CONFIG of a run, not with 'u.json'"),
        (["--certificate", "c.json", "--force"], "--force must be left out beside --certificate"),
        (["--certificate", "c.json", "--rows", "3"], "--rows must be left out beside --certificate"),
        (["--certificate", "c.json", "--seed", "0"], "--seed must be left out beside --certificate"),
        (["--certificate", "c.json", "--waves"], "--waves must be left out beside --certificate"),
    ],
)
def test_options_that_would_do_nothing_are_refused(capsys, arguments, message):
    assert cli.main(["verify", *arguments]) == 2
    assert capsys.readouterr().err == f"normforge: {message}\n"


def test_a_package_that_is_missing_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sw, "model", sw.model)  # imported anew, it takes the place of this one
    for name in [n for n in sys.modules if n.partition(".")[0] == "torch" or n.startswith("sw.model")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    (tmp_path / "mine.toml").write_text('name = "mine"\nmodel.name = "vit_tiny_patch16_224"')
    assert cli.main(["train", "mine.toml"]) == 2
    message = "package 'torch' must be installed, not missing; 'normforge doctor' says how"
    assert capsys.readouterr().err == f"normforge: {message}\n"


def test_a_package_without_a_module_is_of_another_version(capsys):
    assert guarded(lambda: importlib.import_module("numpy.moved"), debug=False) == 2
    message = "package 'numpy' must be of another version: it has no 'numpy.moved'"
    assert capsys.readouterr().err == f"normforge: {message}\n"
    with pytest.raises(ModuleNotFoundError):
        guarded(lambda: importlib.import_module("sw.moved"), debug=False)


@pytest.mark.parametrize(
    ("until", "done"),
    [("capture", ["train", "capture"]), ("hdl", list(STAGES)[: list(STAGES).index(LAST_ACCURACY_STAGE) + 1])],
)
def test_further_seeds_go_no_further_than_the_run(tmp_path, monkeypatch, until, done):
    (tmp_path / "mine.toml").write_text('name = "mine"\nmodel.name = "vit_tiny_patch16_224"')
    ran = []
    monkeypatch.setattr(
        sw.actions, "report_run", lambda stage, run, *, force: ran.append((stage.name, run.config.seed))
    )
    assert cli.main(["run", "mine.toml", "--until", until, "--seeds", "2"]) == 0
    assert [name for name, seed in ran if seed == 1] == done
    assert [name for name, seed in ran if seed == 0][-1] == until


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "sw.cli", "compile", "x", "--in", "s8.5", "--out", "s8.5", "-o", "out"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_program_of_a_unit_is_its_table():
    expr = parse(FORMULA)
    from sw.ir.realize import realize

    made = realize(expr, FixedFormat.parse("s16.11"), FixedFormat.parse("s8.5"))
    assert np.array_equal(
        interpret.table(made.program),
        reference_map(expr, made.program.input, made.program.output),
    )


def test_help_needs_no_numpy_and_a_command_only_its_own_imports():
    script = (
        "import sys\nfrom sw.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print([m for m in ('numpy', 'gp.command', 'hw.command', 'hw.vendor') if m in sys.modules])"
    )

    def imported(*words):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()[-1]

    assert imported("--help") == imported("--version") == imported("run", "--help") == "[]"
    assert imported("evolve", "--help") == "['numpy', 'gp.command']"


def test_descriptions_are_those_of_the_commands():
    assert cli.HELP["compile"] == hw.command.DESCRIPTION
    assert cli.HELP["norm"] == hw.norm_command.DESCRIPTION
    assert {name: cli.HELP[name] for name in STAGES} == {name: stage(name).help for name in STAGES}
