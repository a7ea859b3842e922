import numpy as np
import pytest
import timm
import torch
from PIL import Image

from sw.config import DataConfig, ModelConfig
from sw.ir.errors import InputError
from sw.model.data import load_splits
from sw.model.original import create
from sw.model.preprocessing import input_size

SMALL = {"depth": 1, "embed_dim": 16, "num_heads": 2, "num_classes": 2}
GREY = {"mean": (0.5,), "std": (0.25,)}

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torchvision.*", "ignore::DeprecationWarning:timm.*"
)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    return DataConfig(dataset="imagefolder", root=str(tmp_path), calibration_images=2, batch_size=6)


def grey(channels=1, **cfg):
    size = {"img_size": 32, "in_chans": channels}
    return timm.create_model("vit_tiny_patch16_224", **SMALL, **size, pretrained_cfg_overlay=cfg)


def test_input_size_is_what_the_model_was_built_for():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, **SMALL)
    assert input_size(model) == (3, 32, 32)
    assert input_size(timm.create_model("vit_tiny_patch16_224", depth=1, in_chans=1)) == (1, 224, 224)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("mixer_s32_224", 64, (3, 64, 64)),  # without a patch_embed.img_size
        ("twins_svt_small", 64, (3, 64, 64)),
        ("vit_tiny_patch16_224", (32, 48), (3, 32, 48)),
    ],
)
def test_the_size_of_the_configuration_counts(name, size, expected):
    model = create(ModelConfig(name=name, kwargs={"img_size": size})).eval()
    assert input_size(model) == expected
    with torch.no_grad():
        assert model(torch.zeros(1, *expected)).shape == (1, 1000)


def test_pictures_are_grey_where_the_model_reads_one_channel(folder, tmp_path):
    splits = load_splits(folder, grey(**GREY))
    images, _ = next(splits.test.batches())
    assert images.shape == (6, 1, 32, 32)
    with Image.open(tmp_path / "val" / "ant" / "0.png") as picture:
        short = int(32 / 0.9)  # timm's crop of vit_tiny_patch16_224
        scaled = picture.convert("L").resize((short, short), Image.Resampling.BICUBIC)
    at = round((short - 32) / 2)
    cropped = np.asarray(scaled.crop((at, at, at + 32, at + 32)), dtype=np.float32) / 255
    np.testing.assert_allclose(images[0, 0].numpy(), (cropped - 0.5) / 0.25, atol=1e-5)
    learned, _ = next(splits.train.batches(seed=0))
    assert learned.shape[1:] == (1, 32, 32)


@pytest.mark.parametrize(
    ("channels", "cfg", "message"),
    [
        (1, {}, r"a mean of 1 numbers for 1 channels, not \(0.5, 0.5, 0.5\); pretrained_cfg_overlay below "),
        (3, GREY | {"mean": (0.5,) * 3}, r"a std of 3 numbers for 3 channels, not \(0.25,\)"),
        (4, {}, r"^model must read pictures of 1 or 3 channels, not of 4$"),
    ],
)
def test_colours_that_do_not_fit_the_model_wrong(folder, channels, cfg, message):
    with pytest.raises(InputError, match=message):
        load_splits(folder, grey(channels, **cfg))
