import dataclasses
import struct

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from sw.config import DataConfig
from sw.ir.errors import InputError
from sw.model import data, pictures
from sw.model.data import (
    DIGITS_TEST,
    TensorImages,
    jitter,
    limit_to,
    load_splits,
    read_once,
)
from sw.model.preprocessing import preprocessing_of

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torchvision.*", "ignore::DeprecationWarning:timm.*"
)


@pytest.fixture(scope="module")
def vit():
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=16, num_heads=2, num_classes=2
    )


@pytest.fixture(scope="module")
def digit_vit():
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=16, num_heads=2, num_classes=10
    )


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def everything(images):
    batches = list(images.batches())
    return torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])


def rows(images):
    return {tuple(image.flatten().tolist()) for image in everything(images)[0]}


def test_digits_splits_are_disjoint_stratified_and_complete(digit_vit):
    splits = load_splits(DataConfig(calibration_images=200), digit_vit)
    sizes = [len(s) for s in (splits.train, splits.calibration, splits.test)]
    assert sizes == [1797 - DIGITS_TEST - 200, 200, DIGITS_TEST]
    train, calibration, test = (rows(s) for s in (splits.train, splits.calibration, splits.test))
    assert not train & calibration
    assert not train & test
    assert not calibration & test
    counts = np.bincount(everything(splits.test)[1].numpy())
    assert counts.min() >= 42
    assert counts.max() <= 48


def test_digits_are_normalised(digit_vit):
    images, labels = everything(load_splits(DataConfig(), digit_vit).train)
    assert images.shape[1:] == (1, 8, 8)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("split_seed", [0, 1])
def test_digits_are_normalised_without_a_look_at_the_test_split(digit_vit, split_seed):
    splits = load_splits(DataConfig(split_seed=split_seed), digit_vit)
    seen = torch.cat([everything(part)[0] for part in (splits.train, splits.calibration)]).double()
    assert abs(float(seen.mean())) < 1e-7
    assert abs(float(seen.std(correction=0)) - 1) < 1e-7
    assert splits.train.background == pytest.approx(float(seen.min()))


def test_division_depends_on_split_seed_alone(digit_vit):
    first, again, other = (load_splits(DataConfig(split_seed=s), digit_vit).test for s in (0, 0, 1))
    assert torch.equal(everything(first)[0], everything(again)[0])
    assert not torch.equal(everything(first)[0], everything(other)[0])


def test_seeded_batches_are_shuffled_augmented_and_repeatable(digit_vit):
    train = load_splits(DataConfig(), digit_vit).train
    first, again, other = (torch.cat([b for b, _ in train.batches(seed=s)]) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert sum(len(b) for b, _ in train.batches(limit=70)) == 70


def test_jitter_keeps_a_centred_blob_near_its_place():
    images = torch.zeros(64, 1, 8, 8)
    images[:, :, 3:5, 3:5] = 1.0
    moved = jitter(images, torch.Generator().manual_seed(0), 0.0)
    mass = (moved - moved.amin(dim=(1, 2, 3), keepdim=True))[:, 0]
    across = (mass * torch.arange(8.0)).sum(dim=(1, 2)) / mass.sum(dim=(1, 2))
    assert moved.shape == images.shape
    assert (across - 3.5).abs().max() <= 1.5


def test_what_comes_in_from_beyond_the_edge_is_background():
    flat = TensorImages(torch.full((64, 1, 8, 8), -3.0), torch.zeros(64).long(), 64, background=-3.0)
    images, _ = next(flat.batches(seed=0))
    torch.testing.assert_close(images, flat.images)


def test_asking_for_more_calibration_images_than_there_are_says_so(digit_vit, capsys):
    calibration = load_splits(DataConfig(calibration_images=60), digit_vit).calibration
    assert limit_to(calibration, 60, "capture") == 60
    assert capsys.readouterr().out == ""
    assert limit_to(calibration, 61, "capture") == 60
    expected = "capture uses 60 images: all that data.calibration_images sets aside\n"
    assert capsys.readouterr().out == expected


def test_too_many_calibration_images_wrong(digit_vit):
    rule = r"^data.calibration_images must be less than the 1347 images of the training split, not 1347$"
    with pytest.raises(InputError, match=rule):
        load_splits(DataConfig(calibration_images=1347), digit_vit)


def test_folder_gets_the_models_own_preprocessing(vit, folder):
    config = DataConfig(dataset="imagefolder", root=str(folder), calibration_images=4, batch_size=3)
    splits = load_splits(config, vit)
    assert [len(s) for s in (splits.train, splits.calibration, splits.test)] == [8, 4, 4]
    images, labels = everything(splits.test)
    assert images.shape == (4, 3, 32, 32)
    assert labels.tolist() == [0, 0, 1, 1]
    used = preprocessing_of(vit)
    assert (used["mean"], used["std"]) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # not ImageNet's: see paper.md
    assert used["interpolation"] == "bicubic"
    # independent: resize, crop and normalise by hand
    with Image.open(folder / "val" / "ant" / "0.png") as picture:
        short = int(32 / used["crop_pct"])
        scaled = picture.resize((int(short * 48 / 40), short), Image.Resampling.BICUBIC)
    left, top = round((scaled.width - 32) / 2), round((scaled.height - 32) / 2)
    cropped = np.asarray(scaled.crop((left, top, left + 32, top + 32)), dtype=np.float32) / 255
    np.testing.assert_allclose(images[0].permute(1, 2, 0).numpy(), (cropped - 0.5) / 0.5, atol=1e-5)


def test_folder_batches_repeat_with_the_seed(vit, folder):
    config = DataConfig(dataset="imagefolder", root=str(folder), calibration_images=4)
    train = load_splits(config, vit).train
    first, again, other = (next(train.batches(seed=s))[0] for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_folder_batches_are_the_same_skipped_divided_and_loaded_apart(vit, folder, workers):
    def of(workers):
        return DataConfig(
            dataset="imagefolder", root=str(folder), calibration_images=4, batch_size=3, workers=workers
        )

    whole = list(load_splits(of(0), vit).train.batches(seed=5))
    train = load_splits(of(workers), vit).train
    same(list(train.batches(seed=5, skip=1)), whole[1:])
    for k in (0, 1):
        wanted = [(x[k::2], y[k::2]) for x, y in whole[:-1]] + [tuple(v[k::2] for v in whole[-1])]
        same(list(train.batches(seed=5, part=(k, 2))), wanted)


def test_skipped_and_divided_batches_of_tensors_are_parts_of_the_whole():
    x, y = torch.randn(10, 1, 8, 8), torch.arange(10)
    images = TensorImages(x, y, 4)
    whole = list(images.batches(seed=2))
    same(list(images.batches(seed=2, skip=2)), whole[2:])
    same(list(images.batches(seed=2, part=(1, 2))), [(a[1::2], b[1::2]) for a, b in whole])
    last = list(images.batches(seed=2, part=(2, 3)))[-1]  # of two images there is no third
    same([last], [(whole[-1][0][:1], whole[-1][1][:1])])


def same(found, wanted):
    assert len(found) == len(wanted)
    assert all(torch.equal(a, b) for got, want in zip(found, wanted, strict=True)
               for a, b in zip(got, want, strict=True))  # fmt: skip


def test_pictures_are_judged_a_few_at_a_time_and_learned_from_in_whole_batches(vit, folder, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_AT_ONCE", 3)
    config = DataConfig(dataset="imagefolder", root=str(folder), calibration_images=4, batch_size=8)
    splits = load_splits(config, vit)
    assert [len(labels) for _, labels in splits.test.batches()] == [3, 1]
    assert [len(labels) for _, labels in splits.train.batches(seed=1)] == [8]


def test_what_is_read_once_is_the_same(vit, folder, monkeypatch):
    config = DataConfig(dataset="imagefolder", root=str(folder), calibration_images=5, batch_size=2)
    images = load_splits(config, vit).calibration
    kept = read_once(images)
    assert len(kept) == 5
    for limit in (None, 1, 3, 5, 9):
        both = zip(images.batches(limit=limit), kept.batches(limit=limit), strict=True)
        assert all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in both), limit
    monkeypatch.setattr(data, "MOST_KEPT", 4)
    assert read_once(images) is images


def test_first_few_of_a_folder_hold_every_class(vit, folder):
    """Files lie class by class; a refit on the first images must not see the first class alone."""
    config = DataConfig(dataset="imagefolder", root=str(folder), calibration_images=4)
    splits = load_splits(config, vit)
    labels = torch.cat([labels for _, labels in splits.train.batches()])
    assert labels.tolist() != sorted(labels.tolist())
    assert set(torch.cat([labels for _, labels in splits.train.batches(limit=4)]).tolist()) == {0, 1}
    again = torch.cat([labels for _, labels in load_splits(config, vit).train.batches()])
    assert torch.equal(labels, again)


@pytest.mark.parametrize("policy", ["nonsense", "rand-q7"])
def test_unknown_augmentation_wrong(vit, folder, policy):
    config = DataConfig(dataset="imagefolder", root=str(folder), calibration_images=4, augment=policy)
    message = rf"^data.augment must be a policy of timm's, such as rand-m9-mstd0.5-inc1, not '{policy}'$"
    with pytest.raises(InputError, match=message):
        load_splits(config, vit)


def test_published_augmentation_is_timms(vit, folder):
    options = {"augment": "rand-m9-mstd0.5-inc1", "erase": 0.25}
    config = DataConfig(dataset="imagefolder", root=str(folder), calibration_images=4, **options)
    steps = [
        type(step).__name__ for step in load_splits(config, vit).train.augmented.transform.own.transforms
    ]
    assert {"RandAugment", "RandomErasing"} < set(steps)


def test_missing_folder_wrong(vit, tmp_path):
    config = DataConfig(dataset="imagefolder", root=str(tmp_path / "nowhere"))
    with pytest.raises(
        InputError, match=r"^image folder '.*nowhere/train' does not exist \(data.root and its split\)$"
    ):
        load_splits(config, vit)


def test_empty_folder_wrong(vit, tmp_path):
    (tmp_path / "train").mkdir()
    config = DataConfig(dataset="imagefolder", root=str(tmp_path))
    with pytest.raises(InputError, match=r"^image folder '.*/train' must hold <class>/<image> files: "):
        load_splits(config, vit)


def test_differing_classes_wrong(vit, folder):
    (folder / "val" / "bee").rename(folder / "val" / "wasp")
    config = DataConfig(dataset="imagefolder", root=str(folder), calibration_images=4)
    with pytest.raises(InputError, match=r"must have the same classes, and 'bee' is in one only$"):
        load_splits(config, vit)


@pytest.mark.parametrize("dataset", ["torch/image_folder", "torch/folder"])
def test_timms_image_folders_are_checked_like_ours(vit, folder, dataset):
    config = DataConfig(dataset=dataset, root=str(folder), calibration_images=4, test_split="val")
    assert len(load_splits(config, vit).test) == 4
    with pytest.raises(
        InputError, match=r"'trian' and 'val' of '.*' must have no image in common, and '.*val"
    ):
        load_splits(dataclasses.replace(config, train_split="trian"), vit)
    (folder / "val" / "bee").rename(folder / "val" / "wasp")
    with pytest.raises(InputError, match=r"must have the same classes, and 'bee' is in one only$"):
        load_splits(config, vit)


def test_images_to_train_and_to_test_on_are_not_the_same(vit, folder):
    config = DataConfig(dataset="imagefolder", root=str(folder), train_split="val", test_split="val")
    with pytest.raises(
        InputError, match=r"^data.train_split must not be data.test_split, and both are 'val'$"
    ):
        load_splits(config, vit)


@pytest.mark.parametrize(
    ("key", "splits", "kind"),
    [("train_split", ("trainval", "val"), "training"), ("test_split", ("train", "training"), "test")],
)
def test_a_split_that_timm_takes_for_the_other_one_wrong(vit, tmp_path, key, splits, kind):
    write_mnist(tmp_path)
    train, test = splits
    config = DataConfig(dataset="torch/mnist", root=str(tmp_path), train_split=train, test_split=test)
    name = dict(zip(("train_split", "test_split"), splits, strict=True))[key]
    with pytest.raises(
        InputError, match=rf"^data\.{key} of 'torch/mnist' must name its {kind} part, not '{name}'$"
    ):
        load_splits(config, vit)


def write_mnist(folder):
    """Two images and labels a part, in MNIST's own files."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = struct.pack(">4i", 0x803, 2, 28, 28) + bytes(2 * 28 * 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, 2) + bytes([0, 1]))


def test_unknown_data_set_wrong(vit):
    with pytest.raises(InputError, match=r"^data set 'torch/no_such_set' \(train\) cannot be opened: "):
        load_splits(DataConfig(dataset="torch/no_such_set", root="."), vit)


@pytest.mark.parametrize(("train", "test"), [("train", "train[:5%]"), ("train[5%:]", "train")])
def test_a_slice_beside_the_whole_is_refused(vit, train, test):
    config = DataConfig(dataset="hfds/some/pictures", train_split=train, test_split=test)
    rule = r"^splits 'train.*' and 'train.*' of 'hfds/some/pictures' must have no image in common, and one is"
    with pytest.raises(InputError, match=rule):
        load_splits(config, vit)


@pytest.mark.parametrize("name", ["torch/cifar10", "torch/imagenet", "torch/folder", "hfds/cifar10"])
def test_data_set_that_is_not_there_wrong(vit, name, tmp_path):
    with pytest.raises(InputError, match=rf"^data set '{name}' \(train\) cannot be opened: "):
        load_splits(DataConfig(dataset=name, root=str(tmp_path / "nowhere")), vit)


def test_torchvision_data_set_without_a_folder_wrong(vit):
    with pytest.raises(
        InputError, match=r"^data.root must be the folder of data set 'torch/cifar10', not ''$"
    ):
        load_splits(DataConfig(dataset="torch/cifar10"), vit)


KINDS = (
    r"^data.dataset must be digits, glyphs, noise, imagefolder or a timm data set with an index "
    r"\(torch/cifar10, hfds/...\)"
)


@pytest.mark.parametrize("name", ["tfds/cifar10", "wds/pictures", "hfids/cifar10", "TFDS/cifar10"])
def test_stream_wrong(vit, name):
    with pytest.raises(InputError, match=rf"{KINDS}, not the stream '{name}'$"):
        load_splits(DataConfig(dataset=name), vit)


@pytest.mark.parametrize("name", ["imagefoldr", "Digits", "", "hfds", "folder/cats", "torchh/cifar10"])
def test_data_set_of_no_known_kind_wrong(vit, folder, name):
    with pytest.raises(InputError, match=rf"{KINDS}, not '{name}'$"):
        load_splits(DataConfig(dataset=name, root=str(folder), calibration_images=4), vit)


def test_data_set_with_an_index_is_divided(vit, folder):
    (folder / "val").rename(folder / "validation")
    config = DataConfig(dataset="torch/folder", root=str(folder), calibration_images=4)
    splits = load_splits(config, vit)
    assert [len(s) for s in (splits.train, splits.calibration, splits.test)] == [8, 4, 4]
    assert everything(splits.train)[0].shape == (8, 3, 32, 32)


@pytest.fixture
def hub(folder, monkeypatch):
    """The folder as Hugging Face's library reads it, cached nowhere else."""
    (folder / "val").rename(folder / "validation")
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder.parent / "cache")
    return DataConfig(
        dataset=f"hfds/{folder}", root="", test_split="validation", calibration_images=4, workers=0
    )


def test_hugging_face_data_set_is_divided(vit, hub):
    splits = load_splits(hub, vit)
    assert [len(s) for s in (splits.train, splits.calibration, splits.test)] == [8, 4, 4]
    images, labels = everything(splits.test)
    assert images.shape == (4, 3, 32, 32)
    assert labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_columns_of_a_hugging_face_data_set_have_any_names(vit, hub, folder, workers):
    from datasets import Dataset, Features, Image, Value

    (folder / "table").mkdir()
    pictures = sorted(map(str, (folder / "train").rglob("*.png")))
    columns = {"img": pictures, "fine_label": [int("bee" in p) for p in pictures]}
    features = Features({"img": Image(), "fine_label": Value("int64")})
    for part in ("train", "validation"):
        Dataset.from_dict(columns, features=features).to_parquet(folder / "table" / f"{part}.parquet")
    there = dataclasses.replace(hub, dataset=f"hfds/{folder / 'table'}", workers=workers)
    for key, column, other in (("image_column", "img", "image"), ("label_column", "fine_label", "label")):
        rule = rf"^data.{key} must be a column of 'hfds/.*' \(img, fine_label\), not '{other}'$"
        with pytest.raises(InputError, match=rule):
            load_splits(there, vit)
        there = dataclasses.replace(there, **{key: column})
    assert len(everything(load_splits(there, vit).test)[1]) == len(pictures)


def test_broken_image_of_a_hugging_face_data_set_is_named(vit, hub, folder):
    broken = folder / "validation" / "bee" / "1.png"
    broken.write_bytes(broken.read_bytes()[:2000])
    splits = load_splits(hub, vit)
    rule = rf"^image 'hfds/{folder}\[\d\]' cannot be read: image file is truncated[^\n]*$"
    with pytest.raises(InputError, match=rule):
        everything(splits.test)


@pytest.mark.parametrize(("kind", "workers"), [("imagefolder", 0), ("imagefolder", 1), ("torch/folder", 0)])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is text", "it is of no known image format"),
        (b"", "it is of no known image format"),
        (None, "image file is truncated"),
    ],
)
def test_broken_image_names_its_file(vit, folder, kind, workers, content, reason):
    broken = folder / "val" / "bee" / "1.png"
    broken.write_bytes(broken.read_bytes()[:2000] if content is None else content)
    config = DataConfig(dataset=kind, root=str(folder), calibration_images=4, workers=workers)
    splits = load_splits(config, vit)
    with pytest.raises(InputError, match=rf"^image '{broken}' cannot be read: {reason}[^\n]*$"):
        everything(splits.test)
    assert len(everything(splits.train)[1]) == 8


@pytest.mark.parametrize("dataset", ["digits", "imagefolder"])
def test_model_of_another_number_of_classes_wrong(folder, dataset):
    model = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=16, num_heads=2, num_classes=3)
    config = DataConfig(dataset=dataset, root=str(folder), calibration_images=4)
    classes = {"digits": 10, "imagefolder": 2}[dataset]
    with pytest.raises(InputError, match=rf"'VisionTransformer' has 3 .* '{dataset}' in '.*' has {classes}$"):
        load_splits(config, model)
