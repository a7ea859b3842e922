from __future__ import annotations

from pathlib import Path

import pytest

import hw.synth
from hw.measure import resources
from hw.synth import STAGE
from sw import cli
from sw.config import ModelConfig, RunConfig
from sw.files import read_json, write_json
from sw.run_dir import RunDir


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The JSON of a unit that ``compile`` wrote."""
    assert cli.main(["compile", "tanh(x)", "--in", "s6.3", "--out", "s6.5", "-o", "out"]) == 0
    return tmp_path / "out/unit.json"


@pytest.mark.tools
def test_a_unit_that_stands_alone_is_synthesized(unit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--set", "synth.pnr_seeds=1", "--set", "synth.families=['xc7']", "--set", "unit.fmax_mhz=150")
    assert cli.main(["synth", str(unit), *few]) == 0
    report = read_json(unit.with_suffix(".synth.json"))
    found, text = report["units"]["unit"], (unit.parent / "unit.v").read_text()
    counts = resources(text, ["normforge_unit"], "xc7", unit.parent / "other")["normforge_unit"]
    assert found["families"]["xc7"]["top"] == counts
    assert found["fmax_mhz"]["target"] == 150
    assert f"{found['fmax_mhz']['median']:.0f}" in capsys.readouterr().out


def test_an_operator_pipeline_that_is_off_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compile", "tanh(1.3*x) + 0.01*sin(9*x)*exp(-x*x)", "--in", "s10.6", "--out", "s10.8")
    assert cli.main([*words, "--realize", "table", "-o", "out"]) == 0
    assert cli.main([*words, "--realize", "operator", "-o", "out/operator"]) == 0
    off = read_json(tmp_path / "out/operator/unit.json")["max_ulp"]
    assert off > 0
    counts = {"lut": 7, "ff": 1, "dsp": 0, "bram": 0, "carry": 0, "mux": 0, "lutram": 0}
    tops = ("normforge_unit", "normforge_unit.lane0")
    monkeypatch.setattr(hw.synth, "resources", lambda *_, **__: dict.fromkeys(tops, counts))
    few = ("--set", "synth.pnr_seeds=0", "--set", "synth.families=['xc7']")
    assert cli.main(["synth", "out/unit.json", *few]) == 0
    report = read_json(tmp_path / "out/unit.synth.json")
    assert report["units"]["unit"]["operator"]["max_ulp"] == off
    assert f"+-{off} ulp" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--force",), "--force must come with the CONFIG of a run, not with "),
        (("--seed", "1"), "--seed must come with the CONFIG of a run, not with "),
        (("--set", "synth.families=['max10']"), "configuration key 'synth.families' must hold only xc7, "),
        (("--set", "synth.speed=1"), "unknown configuration key 'synth.speed'"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    unit: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    capsys.readouterr()
    assert cli.main(["synth", str(unit), *options]) == 2
    assert capsys.readouterr().err.startswith(f"normforge: {message}")
    assert not unit.with_suffix(".synth.json").exists()


def test_the_stage_asks_only_for_operator_pipelines_that_there_are(tmp_path: Path) -> None:
    config = RunConfig(model=ModelConfig(name="none"), name="r", runs_dir=str(tmp_path))
    run = RunDir.create(config)
    units = [
        {"verilog": f"{name}.v", "operator": operator} for name, operator in (("a", None), ("b", {"x": 1}))
    ]
    write_json(run.manifest, {"units": units})
    for path in (run.hdl / "a.v", run.hdl / "b.v"):
        path.touch()
    assert STAGE.missing(run) == [run.operators / "b.v"]


def test_what_describes_no_unit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "u.json").write_text("{}")
    assert cli.main(["synth", "u.json"]) == 2
    assert (
        capsys.readouterr().err == "normforge: description of a unit in 'u.json' must have the key 'name'\n"
    )
