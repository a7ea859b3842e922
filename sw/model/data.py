"""Images and their fixed division into training, calibration and test, which never mix."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset

from sw.config import DataConfig
from sw.ir.errors import InputError
from sw.model.messages import first_line
from sw.model.runtime import seed_all

Batch = tuple[Tensor, Tensor]

DIGITS_TEST = 450
ITERABLE = ("tfds", "wds", "hfids")
"""Prefixes of timm's data sets that are streams: what has no order cannot be divided by index."""
SHIFT_PIXELS, ROTATION_DEG, ZOOM = 1.0, 10.0, 0.1
"""Largest augmentation of a digit; none of them turns one digit into another."""


class Images(Protocol):
    """A set of labelled images, read in batches."""

    def __len__(self) -> int: ...

    def batches(self, seed: int | None = None, limit: int | None = None) -> Iterator[Batch]:
        """Batches of (images (B, C, H, W) float32 normalised, labels (B,) int64).

        Args:
            seed: None: in order and as they are. Else shuffled and augmented, the same for the same seed.
            limit: Stop after this many images.
        """
        ...


@dataclass(frozen=True, slots=True)
class Splits:
    """Three disjoint sets of images."""

    train: Images
    calibration: Images
    test: Images


class TensorImages:
    """Images that fit in memory, augmented by small shifts, rotations and zooms.

    Args:
        images: (N, 1, H, W), normalised.
        labels: (N,).
        batch_size: Of every batch but the last.
        background: What lies beyond an image's edge.
    """

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, background: float = 0.0) -> None:
        self.images, self.labels = images, labels
        self.batch_size, self.background = batch_size, background

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, seed: int | None = None, limit: int | None = None) -> Iterator[Batch]:
        num = len(self) if limit is None else min(limit, len(self))
        generator = torch.Generator().manual_seed(seed or 0)
        order = torch.arange(len(self)) if seed is None else torch.randperm(len(self), generator=generator)
        for start in range(0, num, self.batch_size):
            picked = order[start : min(start + self.batch_size, num)]
            images = self.images[picked]
            if seed is not None:
                images = jitter(images, generator, self.background)
            yield images, self.labels[picked]


class FolderImages:
    """Images read from files, with one transform to train on and one to judge with."""

    def __init__(
        self, plain: Dataset[Any], augmented: Dataset[Any], indices: Sequence[int], config: DataConfig
    ) -> None:
        self.plain, self.augmented, self.indices, self.config = plain, augmented, list(indices), config

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, seed: int | None = None, limit: int | None = None) -> Iterator[Batch]:
        order = self.indices
        if seed is not None:
            seed_all(seed)  # the training transforms draw from the global generators
            order = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]
        source = self.plain if seed is None else self.augmented
        generator = torch.Generator().manual_seed(seed or 0)
        yield from DataLoader(
            Subset(source, order[:limit]),
            batch_size=self.config.batch_size,
            num_workers=self.config.workers,
            generator=generator,
        )


def jitter(images: Tensor, generator: torch.Generator, background: float) -> Tensor:
    """Shift by up to a pixel, rotate by up to 10 degrees, zoom by up to 10 %; shape (B, 1, H, W) is kept.

    What comes in from beyond the edge is ``background``.
    """
    size = len(images)
    angle, zoom, *shift = (2 * torch.rand(4, size, generator=generator) - 1).unbind(0)
    angle, scale = angle * math.radians(ROTATION_DEG), 1 + ZOOM * zoom
    across, down = (2 * SHIFT_PIXELS / images.shape[-1] * s for s in shift)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images - background, grid, align_corners=False) + background


def load_splits(config: DataConfig, model: nn.Module) -> Splits:
    """The images of a run; which image is in which split depends on ``split_seed`` alone.

    Digits are normalised by the pixels' mean and standard deviation outside the test split. All other
    images get the preprocessing that this very model was trained with (``timm.data.resolve_data_config``).

    Raises:
        InputError: The image folder or data set is missing or a stream, or the training split too small.
    """
    if config.dataset == "digits":
        return _digits(config)
    return _timm_dataset(config, model)


def _digits(config: DataConfig) -> Splits:
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = torch.from_numpy(digits.target).long()
    train, test = _stratified(np.arange(len(labels)), digits.target, DIGITS_TEST, config.split_seed)
    _check_calibration(config, len(train))
    mean, std = float(digits.images[train].mean()), float(digits.images[train].std())
    images = torch.from_numpy((digits.images - mean) / std).float().unsqueeze(1)
    train, calibration = _stratified(train, digits.target, config.calibration_images, config.split_seed)

    def part(indices: np.ndarray[Any, Any]) -> TensorImages:
        return TensorImages(images[indices], labels[indices], config.batch_size, background=-mean / std)

    return Splits(part(train), part(calibration), part(test))


def _stratified(indices: Any, labels: Any, num_second: int, seed: int) -> tuple[Any, Any]:
    """Two parts of ``indices`` with equal shares of every label, in rising order."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(indices)
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    picked = np.linspace(0, len(grouped), num_second, endpoint=False).astype(np.int64)
    second = grouped[picked]
    return np.setdiff1d(indices, second), np.sort(second)


def _timm_dataset(config: DataConfig, model: nn.Module) -> Splits:
    from timm.data import create_transform

    preprocessing = preprocessing_of(model)
    judge = create_transform(**preprocessing)
    preprocessing.pop("crop_pct", None)
    preprocessing.pop("crop_mode", None)
    learn = create_transform(**preprocessing, is_training=True)
    plain = _open(config, config.train_split)
    augmented = _open(config, config.train_split)
    test = _open(config, config.test_split)
    _check_classes(config, plain, test)
    plain.transform, augmented.transform, test.transform = judge, learn, judge
    _check_calibration(config, len(plain))
    order = np.random.default_rng(config.split_seed).permutation(len(plain))
    # In shuffled order: files lie class by class, and whoever takes the first few must meet every class.
    calibration, train = np.split(order, [config.calibration_images])
    return Splits(
        FolderImages(plain, augmented, train.tolist(), config),
        FolderImages(plain, augmented, calibration.tolist(), config),
        FolderImages(test, test, range(len(test)), config),
    )


def preprocessing_of(model: nn.Module) -> dict[str, Any]:
    """The model's own preprocessing: mean, std, interpolation, crop, and the size that it was built for."""
    from timm.data import resolve_data_config

    resolved: dict[str, Any] = resolve_data_config({}, model=model)
    resolved["input_size"] = input_size(model)
    return resolved


def input_size(model: nn.Module) -> tuple[int, int, int]:
    """Channels, height and width of the images that a model takes."""
    from timm.data import resolve_data_config

    channels, height, width = resolve_data_config({}, model=model)["input_size"]
    embed = getattr(model, "patch_embed", None)
    built_for = getattr(embed, "img_size", None)
    if built_for is not None:
        height, width = built_for
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return (channels if first is None else first.in_channels), height, width


def _open(config: DataConfig, split: str) -> Any:
    """A timm data set, or the image folder ``root/split/<class>/*``."""
    from timm.data import create_dataset
    from torchvision.datasets import ImageFolder

    if config.dataset != "imagefolder":
        _check_kind(config)
        try:
            return create_dataset(config.dataset, root=config.root or None, split=split)
        except (AssertionError, ImportError, OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"data set '{config.dataset}' ({split}) cannot be opened: {first_line(error)}"
            ) from error
    folder = Path(config.root) / split
    if not config.root or not folder.is_dir():
        raise InputError(f"image folder '{folder}' does not exist (data.root and its split)")
    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise InputError(
            f"image folder '{folder}' must hold <class>/<image> files: {first_line(error)}"
        ) from error


def _check_kind(config: DataConfig) -> None:
    """Refuse what timm would open, or trip over, without an image to be had by its index."""
    kind = config.dataset.partition("/")[0].lower()
    if kind in ITERABLE:
        raise InputError(
            f"data.dataset must be digits, imagefolder or a timm data set with an index (torch/cifar10, "
            f"hfds/...), not the stream '{config.dataset}'"
        )
    if kind == "torch" and not config.root:
        raise InputError(f"data.root must be the folder of data set '{config.dataset}', not ''")


def _check_classes(config: DataConfig, train: Any, test: Any) -> None:
    """Labels count the class folders, so both splits must have the same ones."""
    if config.dataset != "imagefolder":
        return
    odd = sorted(set(train.class_to_idx) ^ set(test.class_to_idx))
    if odd:
        raise InputError(
            f"image folders '{config.train_split}' and '{config.test_split}' of '{config.root}' must have "
            f"the same classes, and '{odd[0]}' is in one only"
        )


def _check_calibration(config: DataConfig, available: int) -> None:
    if config.calibration_images >= available:
        raise InputError(
            f"data.calibration_images must be less than the {available} images of the training split, "
            f"not {config.calibration_images}"
        )


def limit_to(images: Images, wanted: int, who: str) -> int:
    """How many of the calibration images are used: those wanted, or all; if fewer, a line says so.

    Args:
        images: The calibration split.
        wanted: What the configuration asks for.
        who: Who wants them, for the line.
    """
    if wanted <= len(images):
        return wanted
    print(f"{who} uses {len(images)} images: all that data.calibration_images sets aside", flush=True)
    return len(images)
