import numpy as np
import pytest
import timm
import torch

from sw.config import DataConfig
from sw.ir.errors import InputError
from sw.model import data
from sw.model.data import load_splits
from sw.model.glyphs import CHARACTERS, FACES, SIZE, _masks, draw


def test_images_and_labels_are_what_the_seed_says():
    images, labels = draw(270, 3, 1)
    again, other = draw(270, 3, 1), draw(270, 3, 2)
    assert images.shape == (270, 1, SIZE, SIZE)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert torch.equal(images, again[0])
    assert torch.equal(labels, again[1])
    assert not torch.equal(images, other[0])
    assert 0 <= float(images.min()) < float(images.max()) <= 1


def test_every_class_is_drawn_equally_often():
    assert len(CHARACTERS) == len(set(CHARACTERS)) == 90
    assert np.bincount(draw(270, 0)[1].numpy()).tolist() == [3] * 90


def test_every_face_has_every_character_and_draws_them_differently():
    masks = _masks()
    assert masks.shape[:2] == (len(FACES), 90)
    for face, drawn in zip(FACES, masks, strict=True):
        assert float(drawn.sum(dim=(1, 2)).min()) > 10, face
        assert len({m.numpy().tobytes() for m in drawn}) == 90, face


def test_characters_stand_on_a_baseline_inside_the_picture():
    masks = _masks()[0]
    rows = torch.arange(masks.shape[-1])
    height = {c: float((m.sum(1) * rows).sum() / m.sum()) for c, m in zip(CHARACTERS, masks, strict=True)}
    assert height["'"] < height["o"] < height[","]
    assert float(_masks()[:, :, [0, -1], :].max()) == 0


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(data, "GLYPHS_TRAIN", 200)
    monkeypatch.setattr(data, "GLYPHS_TEST", 90)
    options = {"img_size": 32, "patch_size": 8, "in_chans": 1, "depth": 1, "embed_dim": 16, "num_heads": 2}
    return lambda classes: timm.create_model("vit_tiny_patch16_224", num_classes=classes, **options)


def test_splits_are_disjoint_normalised_and_augmented_without_a_seam(few):
    splits = load_splits(DataConfig(dataset="glyphs", calibration_images=50), few(90))
    assert [len(s) for s in (splits.train, splits.calibration, splits.test)] == [150, 50, 90]
    seen = torch.cat([splits.train.images, splits.calibration.images])
    assert abs(float(seen.mean())) < 1e-5
    assert float(seen.std()) == pytest.approx(1, abs=1e-5)
    pictures = {tuple(p.flatten().tolist()) for s in (seen, splits.test.images) for p in s}
    assert len(pictures) == 290
    bright = data.jitter(torch.full((8, 1, 32, 32), 0.7), torch.Generator().manual_seed(0), None)
    torch.testing.assert_close(bright, torch.full_like(bright, 0.7))


def test_a_model_for_other_classes_is_refused(few):
    with pytest.raises(InputError, match=r"has 10 \(model.kwargs.num_classes\), data set 'glyphs' has 90"):
        load_splits(DataConfig(dataset="glyphs"), few(10))


def test_mean_images_tell_classes_apart():
    """Without a first-order signal a small ViT stays at chance for many epochs."""
    (images, labels), (others, wanted) = draw(2700, 0), draw(900, 1)
    means = torch.stack([images[labels == c].mean(0).flatten() for c in range(90)])
    means = torch.nn.functional.normalize(means - means.mean(1, keepdim=True))
    flat = others.flatten(1)
    found = ((flat - flat.mean(1, keepdim=True)) @ means.T).argmax(1)
    assert float((found == wanted).float().mean()) > 0.25
