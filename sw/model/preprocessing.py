"""What pictures become before a model reads them: its own size, colours, mean and standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import nn

from sw.config import DataConfig
from sw.ir.errors import InputError

MODES = {1: "L", 3: "RGB"}
"""Pillow's names of what so many channels hold."""
_REQUESTED = "requested_size"
"""Attribute of a model that was built for a size of the configuration."""


def request_size(model: nn.Module, size: Any) -> None:
    """Note that a model was built for images of a size: a number, or (height, width)."""
    setattr(model, _REQUESTED, (size, size) if isinstance(size, int) else tuple(size))


def input_size(model: nn.Module) -> tuple[int, int, int]:
    """Channels, height and width of the images that a model takes."""
    from timm.data import resolve_data_config

    channels, *usual = resolve_data_config({}, model=model)["input_size"]
    embedded = getattr(getattr(model, "patch_embed", None), "img_size", None)
    height, width = getattr(model, _REQUESTED, None) or embedded or usual
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return (channels if first is None else first.in_channels), height, width


def preprocessing_of(model: nn.Module) -> dict[str, Any]:
    """The model's own preprocessing: mean, std, interpolation, crop, and the size that it was built for."""
    from timm.data import resolve_data_config

    resolved: dict[str, Any] = resolve_data_config({}, model=model)
    resolved["input_size"] = input_size(model)
    return resolved


@dataclass(frozen=True, slots=True)
class Transform:
    """A transform of timm's, of pictures with as many channels as the model reads."""

    mode: str
    own: Any

    def __call__(self, picture: Image.Image) -> Any:
        return self.own(picture if picture.mode == self.mode else picture.convert(self.mode))


def transforms(config: DataConfig, model: nn.Module) -> tuple[Transform, Transform]:
    """The transform to judge with, and the one to train on.

    Raises:
        InputError: ``data.augment`` is no policy that timm knows, or the model reads neither grey nor colour
            pictures, or has a mean and a deviation for another number of channels.
    """
    from timm.data import create_transform

    preprocessing = preprocessing_of(model)
    channels = preprocessing["input_size"][0]
    if channels not in MODES:
        raise InputError(f"model must read pictures of 1 or 3 channels, not of {channels}")
    for key in ("mean", "std"):
        if len(preprocessing[key]) != channels:
            raise InputError(
                f"model must have a {key} of {channels} numbers for {channels} channels, not "
                f"{preprocessing[key]}; pretrained_cfg_overlay below [model.kwargs] sets it"
            )
    judge = create_transform(**preprocessing)
    for key in ("crop_pct", "crop_mode"):
        preprocessing.pop(key, None)
    options = {"re_prob": config.erase, "re_mode": "pixel", "color_jitter": None}
    options["auto_augment"] = config.augment or None
    try:
        learn = create_transform(**preprocessing, is_training=True, **options)
    except (AssertionError, ValueError, KeyError) as error:
        raise InputError(
            f"data.augment must be a policy of timm's, such as rand-m9-mstd0.5-inc1, not '{config.augment}'"
        ) from error
    return Transform(MODES[channels], judge), Transform(MODES[channels], learn)
