"""``glyphs``: printable characters of the text fonts that matplotlib ships, distorted, on noisy backgrounds.

A data set that needs no download: 90 classes, 16 faces, 32 x 32 grey pixels. Every image is drawn from a
seed: a face, an affine distortion, a contrast, a background, pixel noise. Ink is always lighter than paper:
with either at random, the mean image of every class is flat, and a ViT of this size learns nothing for many
epochs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sw.ir.formats import FloatArray

LOOKALIKES = "|lO`"
"""Characters that another one equals in some face, once distorted: I, I, 0 and '."""
CHARACTERS = "".join(c for c in map(chr, range(33, 127)) if c not in LOOKALIKES)
FACES = tuple(
    [f"DejaVu{family}{style}" for family in ("Sans", "SansMono") for style in
     ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")]
    + [f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")]
)  # fmt: skip
"""Files of matplotlib's that have every printable character."""
SIZE = 32
"""Pixels of an image's side."""
OVERSAMPLING = 2
"""Characters are drawn and distorted on so many times more pixels a side, then averaged."""
FONT_SHARE = 0.66
"""Of the side, the height of the font."""
ROTATION_DEG, SHEAR, ZOOM, SHIFT = 15.0, 0.25, 0.2, 0.1
"""Largest distortions; the shift is a share of half the side."""
CONTRAST = (0.35, 1.0)
NOISE = (0.02, 0.15)
"""Standard deviation of the pixels' noise, white being 1."""
CLUTTER = 0.15
"""Largest amplitude of the background's slow changes."""
CLUTTER_CELLS = 4
BATCH = 1000


def draw(num: int, *seed: int) -> tuple[Tensor, Tensor]:
    """Images (num, 1, 32, 32) float32 in [0, 1] and their classes (num,) int64, as often each as it goes.

    The same number and seed, which may have several parts, give the same images.
    """
    joint = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(joint) >> 1)
    masks = _masks()
    labels = (torch.arange(num) % len(CHARACTERS))[torch.randperm(num, generator=generator)]
    faces = torch.randint(len(FACES), (num,), generator=generator)
    parts = torch.arange(num).split(BATCH)
    images = [_batch(masks[faces[part], labels[part]].unsqueeze(1), generator) for part in parts]
    return torch.cat(images), labels


@functools.cache
def _masks() -> Tensor:
    """Every character in every face, (faces, classes, side, side), 0 = paper and 1 = ink."""
    side = SIZE * OVERSAMPLING
    drawn = np.stack([mask for face in FACES for mask in _face(face, side)])
    return torch.from_numpy(drawn).float().view(len(FACES), len(CHARACTERS), side, side)


def _face(face: str, side: int) -> Iterator[FloatArray]:
    """One face's characters on a common baseline: a comma stays low and small."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    font = ImageFont.truetype(str(path), round(FONT_SHARE * side))
    for character in CHARACTERS:
        picture = Image.new("L", (side, side))
        ImageDraw.Draw(picture).text((side / 2, 0.72 * side), character, fill=255, font=font, anchor="ms")
        yield np.asarray(picture, dtype=np.float64) / 255


def _batch(masks: Tensor, generator: torch.Generator) -> Tensor:
    num = len(masks)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(num, *shape, generator=generator)

    ink = functional.avg_pool2d(_distorted(masks, between), OVERSAMPLING)
    slow = functional.interpolate(
        between(-CLUTTER, CLUTTER, 1, CLUTTER_CELLS, CLUTTER_CELLS),
        size=(SIZE, SIZE), mode="bicubic", align_corners=False,
    )  # fmt: skip
    contrast = between(*CONTRAST, 1, 1, 1)
    paper = between(0.0, 1.0, 1, 1, 1) * (1 - contrast)
    noise = torch.randn(num, 1, SIZE, SIZE, generator=generator) * between(*NOISE, 1, 1, 1)
    return (paper + contrast * ink + slow + noise).clamp(0, 1)


def _distorted(masks: Tensor, between: Callable[..., Tensor]) -> Tensor:
    """Rotated, sheared, zoomed and shifted, each by its own random amounts."""
    angle = between(-math.radians(ROTATION_DEG), math.radians(ROTATION_DEG))
    shear = between(-SHEAR, SHEAR)
    across, down = between(1 - ZOOM, 1 + ZOOM), between(1 - ZOOM, 1 + ZOOM)
    shift_x, shift_y = between(-SHIFT, SHIFT), between(-SHIFT, SHIFT)
    cos, sin = angle.cos(), angle.sin()
    first = torch.stack([across * cos, down * (shear * cos - sin), shift_x], 1)
    second = torch.stack([across * sin, down * (shear * sin + cos), shift_y], 1)
    grid = functional.affine_grid(torch.stack([first, second], 1), list(masks.shape), align_corners=False)
    return functional.grid_sample(masks, grid, align_corners=False)
