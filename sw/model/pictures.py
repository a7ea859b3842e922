"""Data sets of picture files: which there are, how they are opened, and what is said of a broken file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from sw.config import DataConfig
from sw.ir.errors import InputError
from sw.model.messages import first_line
from sw.model.runtime import device, seed_all

INDEXED = ("torch", "hfds")
"""Prefixes of timm's data sets that have an index."""
ITERABLE = ("tfds", "wds", "hfids")
"""Prefixes of timm's data sets that are streams: what has no order cannot be divided by index."""

MOST_AT_ONCE = 128
"""Pictures that are read at a time where nothing is learned: steps are divided to fit, passes not."""

Part = tuple[int, int]
"""(k, n): every n-th image of a batch from the k-th on, as the k-th of n processes reads them."""
WHOLE: Part = (0, 1)


def part_of(batch: range, part: Part) -> range:
    """A part of a batch; its first image where the batch is too small for this part."""
    return batch[part[0] :: part[1]] or batch[:1]


class FolderImages:
    """Images read from files, with one transform to train on and one to judge with."""

    def __init__(
        self, plain: Dataset[Any], augmented: Dataset[Any], indices: Sequence[int], config: DataConfig
    ) -> None:
        self.plain, self.augmented, self.indices, self.config = plain, augmented, list(indices), config

    def __len__(self) -> int:
        return len(self.indices)

    def batches(
        self, seed: int | None = None, limit: int | None = None, *, skip: int = 0, part: Part = WHOLE
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As ``sw.model.data.Images`` has it, whatever the number of loader processes.

        Raises:
            InputError: A file is no image, or a broken one.
        """
        order = self.indices
        if seed is not None:
            order = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]
        source = self.plain if seed is None else self.augmented
        places = range(len(order[:limit]))
        size = self.config.batch_size if seed is not None else min(self.config.batch_size, MOST_AT_ONCE)
        wanted = [list(part_of(places[i : i + size], part)) for i in range(0, len(places), size)]
        loader: DataLoader[Any] = DataLoader(
            _Readable(source, order, seed),
            batch_sampler=wanted[skip:],
            num_workers=self.config.workers,
            generator=torch.Generator().manual_seed(seed or 0),
            collate_fn=_collate,
            pin_memory=device().type == "cuda",
        )
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch


class _Readable(Dataset[Any]):
    """Some images of a data set; the error in place of one that cannot be read.

    An error that is raised in a loader process arrives with that process's traceback in its text.

    Args:
        source: The data set.
        indices: Of the images.
        seed: What the transforms draw depends on it and on an image's position alone.
    """

    def __init__(self, source: Dataset[Any], indices: Sequence[int], seed: int | None) -> None:
        self.source, self.indices, self.seed = source, indices, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Any:
        if self.seed is not None:
            seed_all(self.seed, position)  # the training transforms draw from the global generators
        try:
            return self.source[self.indices[position]]
        except InputError as error:
            return error


def _collate(samples: list[Any]) -> Any:
    errors = [sample for sample in samples if isinstance(sample, InputError)]
    return errors[0] if errors else default_collate(samples)


class ReaderImages(Dataset[Any]):
    """What one of timm's readers finds; of a broken image timm itself would give the neighbour's pixels.

    Args:
        reader: A reader with an index.
        name: Of the data set, for messages.
    """

    def __init__(self, reader: Any, name: str) -> None:
        self.reader, self.name = reader, name
        self.transform: Callable[[Image.Image], Any] | None = None

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        file, label = self.reader[index]
        with file:
            picture = read_picture(file, f"{self.name}[{index}]")
        return picture if self.transform is None else self.transform(picture), label


def open_split(config: DataConfig, split: str) -> Any:
    """A timm data set, or the image folder ``root/split/<class>/*``.

    Raises:
        InputError: No such data set or folder, or a stream.
    """
    from timm.data import create_dataset
    from torchvision.datasets import ImageFolder

    if config.dataset != "imagefolder":
        _check_kind(config)
        try:
            data = create_dataset(config.dataset, root=config.root or None, split=split, **_columns(config))
        except (AssertionError, ImportError, OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"data set '{config.dataset}' ({split}) cannot be opened: {first_line(error)}"
            ) from error
        if hasattr(data, "loader"):  # torchvision's data sets of files
            data.loader = read_picture
        if not hasattr(data, "reader"):
            return data
        _check_columns(data.reader, config)
        return ReaderImages(data.reader, config.dataset)
    folder = Path(config.root) / split
    if not config.root or not folder.is_dir():
        raise InputError(f"image folder '{folder}' does not exist (data.root and its split)")
    try:
        return ImageFolder(str(folder), loader=read_picture)
    except FileNotFoundError as error:
        raise InputError(
            f"image folder '{folder}' must hold <class>/<image> files: {first_line(error)}"
        ) from error


def _columns(config: DataConfig) -> dict[str, str]:
    """What timm must be told of a Hugging Face data set."""
    if not config.dataset.lower().startswith("hfds/"):
        return {}
    return {"input_key": config.image_column, "target_key": config.label_column}


def _check_columns(reader: Any, config: DataConfig) -> None:
    """Refuse columns that are not there; timm makes an empty one."""
    row = reader.dataset[0] if len(reader) else {}
    there = [name for name, value in row.items() if value is not None]
    for key in ("image_column", "label_column"):
        if getattr(config, key) not in there:
            raise InputError(
                f"data.{key} must be a column of '{config.dataset}' ({', '.join(there)}), "
                f"not '{getattr(config, key)}'"
            )


def read_picture(file: str | BinaryIO, name: str = "") -> Image.Image:
    """The RGB image in a file.

    Args:
        file: Its path, or what is open.
        name: For messages, where there is no path.

    Raises:
        InputError: It is no image, or a broken one.
    """
    what = f"image '{name or file}' cannot be read"
    try:
        with Image.open(file) as picture:
            return picture.convert("RGB")
    except UnidentifiedImageError as error:
        raise InputError(f"{what}: it is of no known image format") from error
    except OSError as error:
        raise InputError(f"{what}: {error.strerror or error}") from error
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's for broken content
        raise InputError(f"{what}: {first_line(error)}") from error


def class_numbers(data: Any) -> dict[str, int]:
    """The label of every class of a data set; empty where it does not say."""
    of_reader = getattr(getattr(data, "reader", None), "class_to_idx", None)
    return dict(getattr(data, "class_to_idx", None) or of_reader or {})


def _check_kind(config: DataConfig) -> None:
    """Refuse what timm would open, or trip over, without an image to be had by its index."""
    prefix, slash, _ = config.dataset.partition("/")
    kind = prefix.lower() if slash else ""
    if kind not in INDEXED:
        stream = "the stream " if kind in ITERABLE else ""
        raise InputError(
            f"data.dataset must be digits, glyphs, noise, imagefolder or a timm data set with an index "
            f"(torch/cifar10, hfds/...), not {stream}'{config.dataset}'"
        )
    if kind == "torch" and not config.root:
        raise InputError(f"data.root must be the folder of data set '{config.dataset}', not ''")
