"""What a run would take: every stage in little, nothing left behind."""

import itertools

import pytest

import sw.dry_run
from sw.cli import main
from sw.config import from_dict
from sw.dry_run import NAMES
from sw.model.runtime import device_name

SMALL = """
[model]
name = "vit_tiny_patch16_224"
pretrained = true
[model.kwargs]
img_size = 8
patch_size = 4
in_chans = 1
num_classes = 10
embed_dim = 16
depth = 2
num_heads = 2
[data]
dataset = "imagefolder"
root = "nowhere"
batch_size = 16
calibration_images = 32
[unit]
in_width = 8
[evolve]
population = 10
generations = 20
[align]
epochs = 20
inner_scale = true
[quantize]
calibration_images = 32
[synth]
families = ["ecp5"]
pnr_seeds = 0
"""


@pytest.mark.slow
@pytest.mark.tools
def test_every_stage_is_tried_without_images_and_weights(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text(SMALL)
    assert main(["run", "mine.toml", "--dry-run", "--images", "1000", "200"]) == 0
    text = capsys.readouterr().out
    assert "mine: projected for 1000 training and 200 test images" in text
    assert f"On {device_name()}, memory at 8 images a step; the run has 16." in text
    rows = [line.split() for line in text.splitlines() if line.strip()]
    found = {row[0]: [float(v) for v in row[1:]] for row in rows if row[0] in (*NAMES, "all")}
    assert list(found) == [*NAMES, "all"]
    assert all(found[name][2] > 0 for name in NAMES)
    assert all(found[name][0] > 0 for name in ("align", "evolve", "hdl", "verify", "synth"))
    assert found["all"][1] == pytest.approx(sum(found[name][1] for name in NAMES), abs=0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


WHOLE = "--seeds, --until and --force must be left out beside --dry-run: it is of a whole run"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dry-run", "--images", "0", "5"], "--images must be at least 1 each, not 0 5"),
        (["--images", "10", "5"], "--images is for --dry-run only"),
        *((["--dry-run", *words], WHOLE) for words in (["--seeds", "3"], ["--until", "hdl"], ["--force"])),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, capsys, words, message):
    (tmp_path / "mine.toml").write_text(SMALL)
    assert main(["run", "mine.toml", *words]) == 2
    assert capsys.readouterr().err == f"normforge: {message}\n"


class Recorded:
    """In place of a stage: takes a second a call and notes with which configuration it was done."""

    def __init__(self, name, runs):
        self.name, self.runs = name, runs

    def run(self, run, *, force):
        self.runs.append((self.name, run.config))


@pytest.mark.parametrize(("sites", "divisor"), [(["a", "b", "c", "d"], 2), (["a"], 1)])
def test_few_sites_stand_for_all_and_kept_norms_stay_kept(tmp_path, monkeypatch, sites, divisor):
    clock = itertools.count()
    monkeypatch.setattr(sw.dry_run.time, "monotonic", lambda: float(next(clock)))
    config = from_dict({"model": {"name": "none", "keep_layernorm": ["blocks.*"]}, "evolve": {"jobs": 1}})
    runs = []
    found = sw.dry_run._of_few_sites(
        sw.dry_run._Small.of(config, tmp_path), config, lambda name: Recorded(name, runs), sites
    )
    projected = {name: hours for name, _, hours in found}
    assert {run.model.keep_layernorm for _, run in runs} == {("blocks.*", *sites[2:])}
    assert projected["hdl"] == len(sites) / divisor


@pytest.mark.parametrize(
    ("evolve", "rounds"),
    [({"jobs": 1}, 8), ({"jobs": 3}, 3), ({"jobs": 96}, 1), ({"jobs": 1, "budget_s": 0.5}, 4)],
)
def test_searches_are_counted_whole(tmp_path, monkeypatch, evolve, rounds):
    clock = itertools.count()
    monkeypatch.setattr(sw.dry_run.time, "monotonic", lambda: float(next(clock)))
    body = {"seeds": 2, "generations": 0, **evolve}
    config = from_dict({"model": {"name": "none"}, "evolve": body})
    small = sw.dry_run._Small.of(config, tmp_path)
    found = sw.dry_run._of_few_sites(small, config, lambda name: Recorded(name, []), ["a", "b", "c", "d"])
    projected = {name: hours for name, _, hours in found}
    assert projected["evolve"] == 0.5 * rounds, "two sites take a second"


def test_hours_grow_with_the_images_of_the_run(tmp_path, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(sw.dry_run.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(sw.dry_run, "_plain_functions", lambda run: ["a"])
    monkeypatch.setattr(sw.dry_run, "_of_few_sites", lambda *_: ())
    for name in ("_test_seconds", "_integer_test_seconds"):
        monkeypatch.setattr(sw.dry_run, name, lambda run: 1.0)

    monkeypatch.setattr(sw.dry_run, "STEPS_OF", dict.fromkeys(("train", "align", "quantize"), lambda _: 0.5))
    config = from_dict({"model": {"name": "none"}, "train": {"epochs": 3}, "quantize": {"epochs": 2}})
    small = sw.dry_run._Small.of(config, tmp_path)
    few, many, tested = (
        {
            name: hours
            for name, _, hours in sw.dry_run._measured(small, config, lambda name: Recorded(name, []), images)
        }
        for images in ((1000, 200), (5000, 200), (1000, 400))
    )
    for name, epochs in (("train", 3), ("align", config.align.epochs), ("quantize", 2)):
        steps = 4000 / small.config.data.batch_size
        assert many[name] - few[name] == pytest.approx(0.5 * steps * epochs), name
    assert many["test"] == few["test"]
    assert tested["test"] == 2 * few["test"]
    assert tested["align"] == few["align"]
