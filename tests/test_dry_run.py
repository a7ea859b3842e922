"""What a run would take: every stage in little, nothing left behind."""

import pytest

from sw.cli import main
from sw.dry_run import NAMES

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
    rows = [line.split() for line in text.splitlines() if line.strip()]
    found = {row[0]: [float(v) for v in row[1:]] for row in rows if row[0] in (*NAMES, "all")}
    assert list(found) == [*NAMES, "all"]
    assert all(found[name][2] > 0 for name in NAMES)
    assert all(found[name][0] > 0 for name in ("align", "evolve", "hdl", "verify", "synth"))
    assert found["all"][1] == pytest.approx(sum(found[name][1] for name in NAMES), abs=0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dry-run", "--images", "0", "5"], "--images must be at least 1 each, not 0 5"),
        (["--images", "10", "5"], "--images is for --dry-run only"),
    ],
)
def test_wrong_numbers_of_images(tmp_path, capsys, words, message):
    (tmp_path / "mine.toml").write_text(SMALL)
    assert main(["run", "mine.toml", *words]) == 2
    assert capsys.readouterr().err == f"normforge: {message}\n"
