"""Images and their fixed division into training, calibration and test, which never mix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.config import DataConfig
from sw.ir.errors import InputError
from sw.model import glyphs
from sw.model.pictures import WHOLE, FolderImages, Part, class_numbers, open_split, part_of
from sw.model.preprocessing import input_size, transforms

Batch = tuple[Tensor, Tensor]

DIGITS_TEST, DIGITS_CLASSES = 450, 10
GLYPHS_TRAIN, GLYPHS_TEST = 20_000, 5_000
MOST_KEPT = 4096
"""Pictures that are kept in memory: 0.6 MB each at 224 x 224 pixels."""
SHIFT_PIXELS, ROTATION_DEG, ZOOM = 1.0, 10.0, 0.1
"""Largest augmentation of a digit or glyph; none of them turns one into another."""


class Images(Protocol):
    """A set of labelled images, read in batches."""

    def __len__(self) -> int: ...

    def batches(
        self, seed: int | None = None, limit: int | None = None, *, skip: int = 0, part: Part = WHOLE
    ) -> Iterator[Batch]:
        """Batches of (images (B, C, H, W) float32 normalised, labels (B,) int64).

        Args:
            seed: None: in order and as they are. Else shuffled and augmented, the same for the same seed.
            limit: Stop after this many images.
            skip: Leave out so many batches; those that follow are what they would have been.
            part: (k, n): of every batch only the images k, k + n, k + 2n, ...; or its first.
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
        background: What lies beyond an image's edge; None: the edge goes on.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, batch_size: int, background: float | None = 0.0
    ) -> None:
        self.images, self.labels = images, labels
        self.batch_size, self.background = batch_size, background

    def __len__(self) -> int:
        return len(self.images)

    def batches(
        self, seed: int | None = None, limit: int | None = None, *, skip: int = 0, part: Part = WHOLE
    ) -> Iterator[Batch]:
        num = len(self) if limit is None else min(limit, len(self))
        generator = torch.Generator().manual_seed(seed or 0)
        order = torch.arange(len(self)) if seed is None else torch.randperm(len(self), generator=generator)
        for index, start in enumerate(range(0, num, self.batch_size)):
            picked = order[start : min(start + self.batch_size, num)]
            images = self.images[picked]
            if seed is not None:
                images = jitter(images, generator, self.background)  # skipped ones, too: it draws numbers
            if index >= skip:
                own = list(part_of(range(len(picked)), part))
                yield images[own], self.labels[picked][own]


class ReadOnce:
    """Images that were read once and are kept in memory, as they are."""

    def __init__(self, images: Images) -> None:
        # Copies: what loader processes give is shared memory, and may be pinned.
        self.kept = [(batch.clone(), labels.clone()) for batch, labels in images.batches()]

    def __len__(self) -> int:
        return sum(len(labels) for _, labels in self.kept)

    def batches(
        self, seed: int | None = None, limit: int | None = None, *, skip: int = 0, part: Part = WHOLE
    ) -> Iterator[Batch]:
        assert (seed, skip, part) == (None, 0, WHOLE), "they are not to be trained on"
        left = len(self) if limit is None else limit
        for images, labels in self.kept:
            if left <= 0:
                return
            yield images[:left], labels[:left]
            left -= len(labels)


def read_once(images: Images) -> Images:
    """The images for many passes: kept in memory if they are files, and not too many."""
    return ReadOnce(images) if isinstance(images, FolderImages) and len(images) <= MOST_KEPT else images


def jitter(images: Tensor, generator: torch.Generator, background: float | None) -> Tensor:
    """Shift by up to a pixel, rotate by up to 10 degrees, zoom by up to 10 %; shape (B, 1, H, W) is kept.

    What comes in from beyond the edge is ``background``, or without one what is on the edge.
    """
    size = len(images)
    angle, zoom, *shift = (2 * torch.rand(4, size, generator=generator) - 1).unbind(0)
    angle, scale = angle * math.radians(ROTATION_DEG), 1 + ZOOM * zoom
    across, down = (2 * SHIFT_PIXELS / images.shape[-1] * s for s in shift)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    if background is None:
        return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return functional.grid_sample(images - background, grid, align_corners=False) + background


def load_splits(config: DataConfig, model: nn.Module) -> Splits:
    """The images of a run; which image is in which split depends on ``split_seed`` alone.

    Digits and glyphs are normalised by the pixels' mean and standard deviation outside the test split. All
    other images get the preprocessing that this very model was trained with
    (``timm.data.resolve_data_config``).

    Raises:
        InputError: The image folder or data set is missing or a stream, the training split too small, or the
            model made for another number of classes.
    """
    if config.dataset == "digits":
        _check_head(config, model, DIGITS_CLASSES)
        return _digits(config)
    if config.dataset == "glyphs":
        _check_head(config, model, len(glyphs.CHARACTERS))
        return _glyphs(config)
    if config.dataset == "noise":
        return _noise(config, model)
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


def _glyphs(config: DataConfig) -> Splits:
    _check_calibration(config, GLYPHS_TRAIN)
    train = glyphs.draw(GLYPHS_TRAIN, config.split_seed, 0)
    test = glyphs.draw(GLYPHS_TEST, config.split_seed, 1)
    std, mean = torch.std_mean(train[0])
    num = config.calibration_images

    def part(images: Tensor, labels: Tensor) -> TensorImages:
        return TensorImages((images - mean) / std, labels, config.batch_size, background=None)

    return Splits(part(train[0][num:], train[1][num:]), part(train[0][:num], train[1][:num]), part(*test))


def _noise(config: DataConfig, model: nn.Module) -> Splits:
    """Two batches to train on, and as many images as calibrate to calibrate and to test."""
    generator = torch.Generator().manual_seed(config.split_seed)
    classes = getattr(model, "num_classes", 1) or 1

    def part(num: int) -> TensorImages:
        images = torch.randn(num, *input_size(model), generator=generator)
        return TensorImages(images, torch.arange(num) % classes, config.batch_size)

    return Splits(*(part(n) for n in (2 * config.batch_size, *2 * (config.calibration_images,))))


def _stratified(indices: Any, labels: Any, num_second: int, seed: int) -> tuple[Any, Any]:
    """Two parts of ``indices`` with equal shares of every label, in rising order."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(indices)
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    picked = np.linspace(0, len(grouped), num_second, endpoint=False).astype(np.int64)
    second = grouped[picked]
    return np.setdiff1d(indices, second), np.sort(second)


def _timm_dataset(config: DataConfig, model: nn.Module) -> Splits:
    judge, learn = transforms(config, model)
    if config.train_split == config.test_split:
        raise InputError(f"data.train_split must not be data.test_split, and both are '{config.test_split}'")
    _check_slices(config)
    plain = open_split(config, config.train_split)
    augmented = open_split(config, config.train_split)
    test = open_split(config, config.test_split)
    _check_apart(config, plain, test)
    _check_disjoint(config, plain, test)
    _check_classes(config, plain, test)
    classes = class_numbers(plain)
    _check_head(config, model, 1 + max(classes.values()) if classes else None)
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


def _check_slices(config: DataConfig) -> None:
    """Hugging Face takes ``train[:5%]`` for a split; the whole of ``train`` has those images, too."""
    if not config.dataset.lower().startswith("hfds/"):
        return
    (own, _, piece), (other, _, rest) = (s.partition("[") for s in (config.train_split, config.test_split))
    if own == other and not (piece and rest):
        raise InputError(
            f"splits '{config.train_split}' and '{config.test_split}' of '{config.dataset}' must have no "
            "image in common, and one is a slice of the other"
        )


def _check_apart(config: DataConfig, train: Any, test: Any) -> None:
    """Timm takes every name but a few for the test part of a torchvision data set."""
    for key, name, part, wanted in (
        ("train_split", config.train_split, train, True),
        ("test_split", config.test_split, test, False),
    ):
        if getattr(part, "train", wanted) is not wanted:
            kind = "training" if wanted else "test"
            raise InputError(f"data.{key} of '{config.dataset}' must name its {kind} part, not '{name}'")


def _check_classes(config: DataConfig, train: Any, test: Any) -> None:
    """Labels count the classes, so both splits must have the same ones."""
    own, other = class_numbers(train), class_numbers(test)
    if own and other and own != other:
        odd = sorted(set(own) ^ set(other))
        why = f"'{odd[0]}' is in one only" if odd else "they number them differently"
        place = config.root or config.dataset
        raise InputError(
            f"splits '{config.train_split}' and '{config.test_split}' of '{place}' must have the same "
            f"classes, and {why}"
        )


def _check_disjoint(config: DataConfig, train: Any, test: Any) -> None:
    """Where timm finds no folder of a split it takes all that is there."""
    if not (hasattr(train, "samples") and hasattr(test, "samples")):
        return
    shared = {str(path) for path, *_ in train.samples} & {str(path) for path, *_ in test.samples}
    if shared:
        raise InputError(
            f"splits '{config.train_split}' and '{config.test_split}' of '{config.root}' must have no image "
            f"in common, and '{min(shared)}' is in both"
        )


def _check_head(config: DataConfig, model: nn.Module, classes: int | None) -> None:
    own = getattr(model, "num_classes", None)
    if None not in (own, classes) and own != classes:
        place = f" in '{config.root}'" if config.root else ""
        raise InputError(
            f"model must have as many classes as the data: '{type(model).__name__}' has {own} "
            f"(model.kwargs.num_classes), data set '{config.dataset}'{place} has {classes}"
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
