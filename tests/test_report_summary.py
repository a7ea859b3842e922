import dataclasses
import io
import json
import subprocess

import pytest
from rich.console import Console

from sw.config import ReportConfig, digest, from_dict
from sw.files import file_digest, read_json, write_json
from sw.ir.errors import InputError
from sw.report import provenance
from sw.report.norms import Site, traffic
from sw.report.provenance import TRAINING_STAGES, commit, outdated
from sw.report.summary import _accuracy, _further_seeds, _headline, _measured, _report, _say_left_out
from sw.report.tables import show
from sw.report.traffic import Network
from sw.run_dir import RunDir
from sw.stages import STAGES

SITE = {
    "site": "norm",
    "expression": "clip(x)",
    "input": "s16.11",
    "output": "s8.5",
    "r2_fixed": 0.9,
    "ratio": 0.9474,
    "mismatches": 0,
    "codes_checked": 65536,
    "verified": True,
    "affine": {"folds": True, "reason": ""},
}
ACCURACY = {"mean": 0.9, "std": 0.01, "n": 3}
COSTS = {
    "images": 9,
    "swapped": {"kl": 0.5, "agreement": 0.8},
    "kept": {"a": {"kl": 0.4, "agreement": 0.8}, "norm": {"kl": 0.25, "agreement": 0.9}},
}
COUNTS = {"lut": 11, "lutram": 4, "ff": 22, "dsp": 0, "bram": 3}
UNIT = {
    "families": {"xc7": COUNTS},
    "elements_per_cycle": 0.5,
    "per_element_per_cycle": {"xc7": 22.0},
    "times_evolved": {"xc7": 17.04},
    "row_memory_bits": 3072,
    "latency_cycles": 270,
}
COMPARISON = {"site": "norm", "channels": 192, "units": {"LayerNorm, small": UNIT}}
SUMMARY = {
    "name": "r",
    "accuracy": {"original": ACCURACY},
    "sites": [SITE],
    "kept": {},
    "site_costs": COSTS,
    "comparison": COMPARISON,
}
SYNTH = {"units": {}, "total": {"xc7": {"lut_per_lane": 0.0, "ff": 0}}}


def shown(summary):
    console = Console(width=120, record=True, file=io.StringIO())
    show(summary, SYNTH, console)
    return console.export_text()


def test_a_verified_run_has_no_remarks():
    text = shown(SUMMARY)
    assert "90.00 %" in text
    assert "0 of 65536" in text
    assert "94.7 %" in text
    assert "NOT VERIFIED" not in text
    assert "because" not in text


def test_one_seed_has_no_spread():
    lines = shown(SUMMARY | {"accuracy": {"original": {"mean": 0.9, "std": None, "n": 1}}}).splitlines()
    assert [line.split() for line in lines if "90.00" in line] == [["original", "90.00", "%", "-", "1"]]


def test_the_sites_that_cost_most_are_named():
    text = shown(SUMMARY)
    assert "right after the swap, 9 calibration images: 0.5000" in text
    assert "with one LayerNorm kept: norm 0.2500, a 0.4000" in " ".join(text.split())


def test_units_stand_side_by_side():
    lines = [line.split() for line in shown(SUMMARY).splitlines() if "LayerNorm, small" in line]
    assert lines == [["LayerNorm,", "small", *["11", "22", "0", "3", "0.50", "22", "17.0", "3072", "270"]]]


def test_a_failed_verification_stands_out():
    text = shown(SUMMARY | {"sites": [SITE | {"verified": False}]})
    assert "0 of 65536 FAILED" in text
    assert "NOT VERIFIED: norm" in text


def test_norms_that_kept_something_are_named_with_the_reason():
    site = SITE | {"affine": {"folds": False, "reason": "feeds a window"}}
    text = shown(SUMMARY | {"sites": [site], "kept": {"norm_pre": "the configuration says so"}})
    assert "norm: the affine stays an explicit stage, because it feeds a window" in text
    assert "norm_pre: LayerNorm was kept, because the configuration says so" in text
    assert "with one more LayerNorm kept" in " ".join(text.split())


@pytest.mark.parametrize(("lanes", "times"), [(1, 10.0), (4, 10.0), (48, 15.0)])
def test_luts_are_compared_at_an_element_a_cycle(lanes, times):
    """64 channels leave room in the last of two beats of 48."""
    network = Network(tokens=5, channels=64, norms=1)
    rate = 64 / -(-64 // lanes)
    evolved = {"families": {"xc7": {"lut": 40.0 * lanes}}}
    norm = {"families": {"xc7": {"dsp": 6, "bram": 0}}}
    norm["per_element_per_cycle"] = {"xc7": times * 40 * lanes / rate}
    site = SITE | {
        "resources": {"xc7": {"top": {"lut": 40.0 * lanes}, "lut_per_lane": 40.0}},
        "hard_blocks": {"dsp": 0, "bram": 0},
    }
    beside = {"site": "norm", "lanes": lanes, "units": {"evolved": evolved, "LayerNorm, fast": norm}}
    moved = traffic([Site("norm", 5, network)], ReportConfig())
    found = _headline([site], beside, moved, {"norm": network})
    assert found["times_fewer_luts"] == found["times_at_dearest"] == pytest.approx(times)
    assert found["row_bits"] == 64 * 16


def seeded(seed, share, *, runs_dir="runs", name="mine", epochs=3):
    body = {"name": name, "seed": seed, "runs_dir": runs_dir, "model": {"name": "vit"}}
    run = RunDir.create(from_dict(body | {"align": {"epochs": epochs}}))
    for which in ("original", "swapped", "rescaled", "refitted", "corrected", "realigned", "quantized"):
        write_json(run.accuracy(which), {"accuracy": share, "images": 100, "seed": seed})
    run.keep_config()
    stamp(run)
    return run


def stamp(run, code="c", sections=("align",)):
    """As the stages leave their stamps; the files are whatever is there now."""
    for stage in STAGES:
        inputs = {"accuracy/quantized.json": file_digest(run.accuracy("quantized"))}
        files = [path for path in (run.accuracy("integer"),) if stage == "export" and path.exists()]
        body = {
            "code": code,
            "sections": list(sections),
            "settings": digest(run.config, "seed", *sections, places=False),
            "inputs": inputs if stage in (*TRAINING_STAGES, "export") else {},
            "outputs": {str(path.relative_to(run.root)): file_digest(path) for path in files},
        }
        write_json(run.stamp(stage), body)


def test_accuracy_is_over_the_seeds_of_the_same_configuration_only():
    run = seeded(0, 0.90)
    below = str(run.seeds)
    seeded(1, 0.92, runs_dir=below, name="seed1")
    seeded(2, 0.10, runs_dir=below, name="seed2", epochs=99)  # left by another configuration
    assert [seed.config.seed for seed in _further_seeds(run)] == [1]
    found = _accuracy(run, "realigned")
    assert found["mean"] == pytest.approx(0.91)
    assert found["std"] == pytest.approx(0.02 / 2**0.5)
    assert (found["n"], found["seeds"]) == (2, [0, 1])
    assert json.dumps(found)
    assert _accuracy(seeded(7, 0.5, name="alone"), "realigned")["std"] is None


def test_integers_alone_count_where_they_were_measured():
    run = seeded(0, 0.90)
    assert "integer" not in _measured(run)
    write_json(run.accuracy("integer"), {"accuracy": 0.8, "images": 100, "seed": 0})
    assert "integer" not in _measured(run), "a file that no stage left"
    stamp(run)
    below = {"runs_dir": str(run.seeds)}
    seeded(1, 0.92, name="seed1", **below)
    other = seeded(2, 0.94, name="seed2", **below)
    write_json(other.accuracy("integer"), {"accuracy": 0.7, "images": 100, "seed": 2})
    stamp(other)
    assert _measured(run)[-1] == "integer"
    assert _accuracy(run, "integer")["values"] == [0.8, 0.7]
    assert _accuracy(run, "quantized")["values"] == [0.90, 0.92, 0.94]
    write_json(run.accuracy("quantized"), {"accuracy": 0.1, "images": 100, "seed": 0})
    assert "integer" not in _measured(run), "the quantized model is another one now"


def test_seeds_of_other_code_or_half_made_ones_do_not_count():
    run = seeded(0, 0.90)
    seeds = [seeded(n, 0.92, runs_dir=str(run.seeds), name=f"seed{n}") for n in (1, 2, 3, 4, 5)]
    stamp(seeds[0], code="other")
    seeds[1].stamp("align").unlink()
    write_json(seeds[2].accuracy("quantized"), {"accuracy": 0.5, "images": 100, "seed": 3})
    (seeds[3].root / "config.toml").write_text("[align]\nold_key = 3")
    assert [seed.config.seed for seed in _further_seeds(run)] == [5]


def test_seeds_count_whatever_else_the_configuration_says_since(capsys):
    run = seeded(0, 0.90)
    seeded(1, 0.92, runs_dir=str(run.seeds), name="seed1")
    for name in ("seed0", "seed2"):  # the run's own was made when another one was
        (run.seeds / name).mkdir()
    config = dataclasses.replace(
        run.config,
        synth=dataclasses.replace(run.config.synth, pnr_seeds=9),
        evolve=dataclasses.replace(run.config.evolve, jobs=3),
    )
    changed = RunDir(run.root, config)
    assert [seed.config.seed for seed in _further_seeds(changed)] == [1]
    _say_left_out(changed)
    assert capsys.readouterr().out == (
        "left out, since not finished or made otherwise than this run: seed2; "
        "'normforge run CONFIG --seeds N' makes them again\n"
    )
    longer = dataclasses.replace(run.config, align=dataclasses.replace(run.config.align, epochs=9))
    assert _further_seeds(RunDir(run.root, longer)) == []


def test_a_report_is_of_what_the_configuration_says():
    run = seeded(0, 0.90)
    shorter = dataclasses.replace(run.config, align=dataclasses.replace(run.config.align, epochs=1))
    assert outdated(RunDir(run.root, shorter)) == [name for name in STAGES if name != "report"]
    unread = dataclasses.replace(run.config, quantize=dataclasses.replace(run.config.quantize, lr=1.0))
    assert outdated(RunDir(run.root, unread)) == []


def test_what_did_not_end_is_not_reported_but_for_what_is_optional():
    run = seeded(0, 0.90)
    for name in ("align", "export", "verify", "synth"):
        run.stamp(name).unlink()
    assert outdated(run) == ["align", "verify", "synth"]


def test_a_stage_of_a_version_with_other_keys_is_outdated():
    run = seeded(0, 0.90)
    write_json(run.stamp("synth"), read_json(run.stamp("synth")) | {"sections": ["synth.wings"]})
    assert outdated(run) == ["synth"]


def test_a_project_that_moved_can_be_reported():
    run = seeded(0, 0.90)
    stamp(run, sections=("model", "data"))
    data = dataclasses.replace(run.config.data, root="/elsewhere/images")
    model = dataclasses.replace(run.config.model, checkpoint="/elsewhere/weights.pth")
    assert outdated(RunDir(run.root, dataclasses.replace(run.config, data=data, model=model))) == []
    data = dataclasses.replace(data, batch_size=3)
    assert outdated(RunDir(run.root, dataclasses.replace(run.config, data=data))) != []


def test_files_of_different_generations_are_not_reported_together():
    run = seeded(0, 0.90)
    assert outdated(run) == []
    images = run.root.absolute() / "images.npz"
    write_json(run.functions, {"sites": {}})
    inputs = {"functions.json": file_digest(run.functions), str(images): "gone"}
    write_json(run.stamp("hdl"), read_json(run.stamp("hdl")) | {"inputs": inputs})
    assert outdated(run) == [], "what lies outside need not be there any more"
    write_json(run.functions, {"sites": {"norm": {}}})
    assert outdated(run) == ["hdl"]
    write_json(run.accuracy("quantized"), {"accuracy": 0.1, "images": 100, "seed": 0})
    assert outdated(run) == [*TRAINING_STAGES, "export", "hdl"]
    message = (
        r"^stage 'report' needs stages that are up to date, not train, .*, hdl; "
        r"'normforge report CONFIG --missing' runs them again$"
    )
    with pytest.raises(InputError, match=message):
        _report(run)
    assert not run.report.exists()


def test_the_commit_is_that_of_the_source_tree_or_none(tmp_path, monkeypatch):
    def git(*words):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    own, other = tmp_path / "sw/report/provenance.py", tmp_path / "lib/sw/report/provenance.py"
    for path in (own, other):
        path.parent.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(own))
    assert commit() == git("rev-parse", "HEAD")
    monkeypatch.setattr(provenance, "__file__", str(other))
    assert commit() is None, "another project's"
    monkeypatch.setattr(provenance, "__file__", str(own))
    monkeypatch.setenv("PATH", "")
    assert commit() is None, "no git"


def test_a_seed_does_not_count_twice():
    run = seeded(1, 0.90)
    seeded(1, 0.50, runs_dir=str(run.seeds), name="seed1")
    assert _accuracy(run, "original")["values"] == [0.90]
