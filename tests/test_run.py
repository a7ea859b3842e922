"""The product as its users meet it: make targets on a tiny run, from training to the report."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SITES = ["blocks.0.norm1", "blocks.0.norm2", "norm"]

TINY = """
name = "tiny"
[model]
name = "vit_tiny_patch16_224"
[model.kwargs]
img_size = 8
patch_size = 4
in_chans = 1
num_classes = 10
embed_dim = 16
depth = 1
num_heads = 2
[train]
epochs = 8
[capture]
pairs = 4000
[evolve]
population = 20
generations = 2
seeds = 1
[align]
epochs = 2
[synth]
families = ["xc7", "ecp5", "ice40"]
pnr_seeds = 1
"""

pytestmark = [pytest.mark.slow, pytest.mark.tools, pytest.mark.xdist_group("run")]


def make(folder, *targets):
    """A make target of the project, in a folder of its own, with the environment that runs the tests."""
    places = [f"BIN={Path(sys.executable).parent}", "READY=", "CONFIG=tiny.toml"]
    command = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), *places, *targets]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, made by ``make hdl`` and ``make sim``."""
    folder = tmp_path_factory.mktemp("product")
    (folder / "tiny.toml").write_text(TINY)
    for target in ("hdl", "sim"):
        done = make(folder, target)
        assert done.returncode == 0, done.stderr
    return folder / "runs/tiny", done.stdout


def test_hdl_leaves_a_unit_for_every_site(run):
    hdl = run[0] / "hdl"
    units = json.loads((hdl / "manifest.json").read_text())["units"]
    assert [unit["site"] for unit in units] == SITES
    for unit in units:
        assert json.loads((hdl / f"{unit['name']}.json").read_text()).items() <= unit.items()
        assert f"module {unit['top']}" in (hdl / unit["verilog"]).read_text()
        assert len(np.load(hdl / unit["table"])) == 65536
        assert str(ROOT) not in (hdl / unit["verilog"]).read_text()


def test_sim_checks_every_code_of_every_site(run):
    lines = [line for line in run[1].splitlines() if "codes checked" in line and "mismatches 0" in line]
    assert sorted(line.split()[0] for line in lines[:3]) == sorted(SITES)
    assert "3 units verified: 196608 codes checked, 0 mismatches" in run[1]
    body = json.loads((run[0] / "sim/summary.json").read_text())
    assert all(unit["replay_beats"] > 0 and unit["stall_beats"] > 0 for unit in body["units"])
    assert (run[0] / "sim/junit.xml").exists()


def test_what_is_up_to_date_is_not_done_again(run):
    before = {p: p.stat().st_mtime_ns for p in run[0].rglob("*.v")}
    done = make(run[0].parents[1], "hdl", "sim")
    assert done.returncode == 0
    assert done.stdout.count("up to date") == 8
    assert {p: p.stat().st_mtime_ns for p in run[0].rglob("*.v")} == before


@pytest.mark.parametrize("name", ["norm.table.npy", "norm.v"])
def test_a_planted_bit_makes_sim_fail(run, name):
    path = run[0] / "hdl" / name
    healthy = path.read_bytes()
    planted = bytearray(healthy)
    if name.endswith(".npy"):
        planted[-30_000] ^= 1
    else:
        place = healthy.index(b"'h", healthy.index(b"endmodule") // 2)
        digit = next(i for i in range(place + 2, len(healthy)) if healthy[i : i + 1] in b"02468ace")
        planted[digit] += 1
    path.write_bytes(planted)
    try:
        done = make(run[0].parents[1], "sim")
    finally:
        path.write_bytes(healthy)
    assert done.returncode != 0
    assert "1 of 3 units do not verify: 'norm'" in done.stderr
    assert make(run[0].parents[1], "sim").returncode == 0


def test_report_shows_accuracy_functions_and_hardware(run):
    done = make(run[0].parents[1], "report")
    assert done.returncode == 0, done.stderr
    summary = json.loads((run[0] / "report/summary.json").read_text())
    assert set(summary["accuracy"]) == {
        "original",
        "swapped",
        "rescaled",
        "refitted",
        "realigned",
        "quantized",
    }
    with np.load(run[0] / "report/predictions.npz") as stored:
        for which, body in summary["accuracy"].items():
            labels, predicted = (stored[f"{which}.seed0.{key}"] for key in ("labels", "predicted"))
            assert body["mean"] == np.mean(labels == predicted)
            assert len(labels) == body["images"]
    assert [site["site"] for site in summary["sites"]] == SITES
    assert {family: (t["dsp"], t["bram"]) for family, t in summary["total"].items()} == {
        "xc7": (0, 0), "ecp5": (0, 0), "ice40": (0, 0),
    }  # fmt: skip
    assert all(site["mismatches"] == 0 for site in summary["sites"])
    assert all(site["hard_blocks"] == {"dsp": 0, "bram": 0} for site in summary["sites"])
    assert (run[0] / "report/figures/sites.png").read_bytes().startswith(b"\x89PNG")
    for words in ("accuracy on the test split", "R² of the integer map", "LUTs a lane", "0 of 65536", "MHz"):
        assert words in done.stdout
