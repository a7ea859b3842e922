"""The product as its users meet it: make targets on a tiny run, from training to the report."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sw.cli import main
from sw.config import load
from sw.report.page import render
from sw.report.tables import ACCURACIES
from sw.report.traffic import TWO_PASSES, UNFUSED
from sw.run_dir import RunDir
from sw.stages import BUILDS_ON, STAGES, before, stage
from tests.test_report_page import check_page

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
[quantize]
epochs = 1
[synth]
families = ["xc7", "ecp5"]
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


def test_tests_of_one_run_share_a_worker(request):
    """Without the group in its name every worker would make a run of its own."""
    assert "PYTEST_XDIST_WORKER" not in os.environ or request.node.nodeid.endswith("@run")


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


def test_a_stage_builds_on_what_makes_its_inputs(run):
    """The order that is written down, against the files that stages read and leave."""
    finished = RunDir(run[0], load(run[0] / "config.toml"))
    made = {name: set(stage(name).outputs(finished)) for name in STAGES if name != "report"}
    for name in made:
        read = set(stage(name).inputs(finished))
        makers = {other for other, files in made.items() if files & read}
        assert set(BUILDS_ON[name]) <= makers <= set(before(name)), name


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
        "corrected",
        "realigned",
        "quantized",
        "integer",
    }
    with np.load(run[0] / "report/predictions.npz") as stored:
        for which, body in summary["accuracy"].items():
            labels, predicted = (stored[f"{which}.seed0.{key}"] for key in ("labels", "predicted"))
            assert body["mean"] == np.mean(labels == predicted)
            assert len(labels) == body["images"]
    assert [site["site"] for site in summary["sites"]] == SITES
    blocks = {family: (total["dsp"], total["bram"]) for family, total in summary["total"].items()}
    assert blocks == {"xc7": (0, 0), "ecp5": (0, 0)}
    assert all(site["mismatches"] == 0 for site in summary["sites"])
    assert all(site["hard_blocks"] == {"dsp": 0, "bram": 0} for site in summary["sites"])
    assert (run[0] / "report/figures/sites.png").read_bytes().startswith(b"\x89PNG")
    check_page((run[0] / "report/index.html").read_text(), summary)
    for words in ("accuracy on the test split", "R² of the integer map", "LUTs a lane", "0 of 65536", "MHz"):
        assert words in done.stdout


def test_the_page_claims_nothing_that_a_run_lacks(run):
    assert make(run[0].parents[1], "report").returncode == 0
    folder = RunDir(run[0], load(run[0] / "config.toml"))
    summary = json.loads((run[0] / "report/summary.json").read_text())

    def page(change):
        changed = copy.deepcopy(summary)
        change(changed)
        text = render(folder, changed, ACCURACIES)
        check_page(text, changed)
        return re.sub(r"<[^>]*>", "", text)

    def other(changed):
        changed["headline"] |= {"unverified": 2, "explicit_affines": 1}
        changed["kept"] = {"blocks.1.norm1": "so"}
        changed["config"]["evolve"]["weights"] = "sensitivity"
        changed["bits"]["weights"] = 4
        changed["sites"][0]["stall_beats"] = 0
        changed["sites"][0]["operator"]["max_ulp"] = 7
        for site in changed["sites"]:
            site["fmax_mhz"] = None  # synth.pnr_seeds = 0
        for unit in changed["comparison"]["units"].values():
            del unit["fmax_mhz"]

    words = {
        "2 NOT VERIFIED": False,
        "behind 1 of them": False,
        "1 stayed": False,
        "weights of 4 and": False,
        "weighted by the sensitivity of the loss": False,
        "with one more LayerNorm kept": False,
        "with those alone that the run keeps": False,
        "with none kept": True,
        "(±7 ulp)": False,
        "(gamma and beta fold": True,
        "random stalls": True,
        "MHz: nextpnr": True,
        "the clock is nextpnr": True,
        "MHz, ECP5": True,
    }
    own, others = page(lambda changed: None), page(other)
    assert {word: word in own for word in words} == words
    assert {word: word in others for word in words} == {word: not said for word, said in words.items()}


def test_report_puts_the_norm_and_its_rivals_beside_the_dearest_unit(run):
    assert make(run[0].parents[1], "report").returncode == 0
    summary = json.loads((run[0] / "report/summary.json").read_text())
    beside, dearest = (
        summary["comparison"],
        max(summary["sites"], key=lambda site: site["resources"]["xc7"]["lut_per_lane"]),
    )
    units = beside["units"]
    assert list(units) == [
        *("evolved", "DyT, fitted", "Derf, fitted", "requantizer"),
        *("LayerNorm, small", "LayerNorm, fast", "RMSNorm, fast"),
    ]
    assert beside["site"] == dearest["site"]
    assert beside["channels"] == 16
    own = units["evolved"]
    assert own["what"] == dearest["expression"]
    assert own["luts_only"]["xc7"] == dearest["resources"]["xc7"]["top"]
    for name, unit in units.items():
        is_norm = "Norm" in name
        assert (unit["row_memory_bits"] > 0) == is_norm
        assert unit["families"]["xc7"]["dsp"] > 0 or not is_norm
        assert unit["luts_only"]["xc7"]["dsp"] == unit["luts_only"]["xc7"]["bram"] == 0
        assert unit["fmax_mhz"]["median"] > 50
        rate = 16 / unit["row_cycles"]
        assert unit["per_element_per_cycle"]["ecp5"] == unit["families"]["ecp5"]["lut"] / rate
    assert units["requantizer"]["luts_only"]["xc7"]["lut"] <= own["luts_only"]["xc7"]["lut"]
    assert units["LayerNorm, fast"]["elements_per_cycle"] == 1
    assert 0 < units["DyT, fitted"]["r2_fixed"] < dearest["ceiling"] + 0.01


def test_report_counts_the_bytes_and_cycles_of_the_networks_norms(run):
    assert make(run[0].parents[1], "report").returncode == 0
    summary = json.loads((run[0] / "report/summary.json").read_text())
    tokens, channels = 5, 16  # four patches and the class token
    elements = len(SITES) * tokens * channels
    ways = summary["traffic"]["ways"]
    assert ways[UNFUSED.name]["bytes"] == elements * (16 + 8) / 8
    assert ways[TWO_PASSES.name]["bytes"] == elements * (2 * 16 + 8) / 8
    assert summary["headline"]["traffic"] == 3 / 5
    assert summary["traffic"]["row_bits"] == 16 * channels
    assert summary["cycles"]["tokens"] == tokens
    own = summary["cycles"]["units"]["evolved"]
    assert own["image"] == own["first"] + tokens * channels
    small = summary["cycles"]["units"]["LayerNorm, small"]
    assert small["row"] == small["first"] + channels, "no row goes in while one leaves"
    assert small["image"] == tokens * small["row"]
    assert summary["cycles"]["hg_pipe"]["block_with_norm"] == 56_449


def test_further_seeds_are_in_the_mean_of_every_accuracy(run, capsys):
    tiny = str(run[0].parents[1] / "tiny.toml")
    where = ["--set", f"runs_dir={run[0].parent}"]
    assert main(["run", tiny, *where, "--seeds", "2"]) == 0
    assert "seed 1\n" in capsys.readouterr().out
    summary = json.loads((run[0] / "report/summary.json").read_text())
    for which, body in summary["accuracy"].items():
        assert (body["n"], body["seeds"]) == (2, [0, 1]), which
        other = json.loads((run[0] / f"seeds/seed1/accuracy/{which}.json").read_text())["accuracy"]
        assert body["values"][1] == other
    assert not (run[0] / "seeds/seed1/hdl").exists(), "hardware is that of the first seed alone"
