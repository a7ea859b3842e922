"""A site's input and output format, from its pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gp.fitness import bin_pairs, split_pairs
from gp.pairs import SitePairs, load_pairs
from sw.config import RunConfig, UnitConfig
from sw.ir.errors import InputError
from sw.ir.formats import MAX_FRAC, FixedFormat, FloatArray

Formats = tuple[FixedFormat, FixedFormat]
"""Of a unit's input and output."""
INTEGER_BITS = 2
"""Bits between sign and binary point of an output format: s8.5 holds +-3.97, and y is about +-3."""
MIN_WIDTH, MAX_WIDTH = 2, 16
"""Widest formats whose map is enumerated again and again."""
MAX_FINER = 40
"""Bits that a format from data may be finer than one that covers everything."""
UNEXPLAINED = 0.002
"""R^2 that a covering input format may lose against a finer one that saturates."""


def site_formats(
    pairs: Path,
    site: SitePairs,
    config: RunConfig,
    covering: FixedFormat | None = None,
    input: FixedFormat | None = None,
    output: FixedFormat | None = None,
) -> Formats:
    """A site's formats: those that are given, or from its pairs.

    The input format covers every x with room to spare, unless the values near 0 would then be too coarse.
    The output's is a convention, since f is scaled to fill it; where no scale folds
    (``affine="none"``), it is the one that rounds y with the least error.

    Args:
        pairs: An npz file with the site.
        site: What ``read_sites`` says of it.
        config: Widths, and how pairs are divided and weighted.
        covering: An input format with room above every x, where it is known better than from the pairs.
        input: Taken as it is.
        output: Likewise.
    """
    x, y, w = load_pairs(pairs, site.site)
    w = w if config.evolve.weights == "sensitivity" else None
    if input is None:
        largest = site.absmax * 2.0**config.capture.headroom_bits
        wide = covering or FixedFormat.covering(largest, config.unit.in_width)
        input = _fine_enough(wide, x, y, w, config)
    if output is None:
        is_filled = config.evolve.affine != "none"
        output = output_format(config.unit) if is_filled else _rounding_least(y, w, config.unit.out_width)
    return input, output


def output_format(unit: UnitConfig) -> FixedFormat:
    """The output format of a unit's width, where f is scaled to fill it: its binary point is a convention."""
    return FixedFormat(unit.out_width, unit.out_width - 1 - INTEGER_BITS)


def checked_format(name: str, text: str) -> FixedFormat:
    """A format that a user gave.

    Raises:
        InputError: It is none, or of a width that cannot be searched.
    """
    fixed = FixedFormat.parse(text)
    if not MIN_WIDTH <= fixed.width <= MAX_WIDTH:
        raise InputError(
            f"{name} format must have {MIN_WIDTH}..{MAX_WIDTH} bits, not {fixed.width} ('{fixed}')"
        )
    return fixed


def _fine_enough(
    wide: FixedFormat, x: FloatArray, y: FloatArray, w: FloatArray | None, config: RunConfig
) -> FixedFormat:
    """The coarsest input format that explains nearly all that x explains; finer ones saturate."""
    split = split_pairs(x, y, w, share=config.evolve.held_out, seed=config.seed)  # as the tasks do it
    target = bin_pairs(split.x, split.y, split.w, growth_penalty=0.0)
    tried = _finer(wide)
    explained = [target.explained(f) for f in tried]
    good = max(explained) - UNEXPLAINED * target.variance
    return next(f for f, e in zip(tried, explained, strict=True) if e >= good)


def _rounding_least(y: FloatArray, w: FloatArray | None, width: int) -> FixedFormat:
    """The format of least squared error; a few large y may saturate."""
    values = y.astype(np.float64)

    def error(format: FixedFormat) -> float:
        return float(np.average((format.to_real(format.quantize(values)) - values) ** 2, weights=w))

    return min(_finer(FixedFormat.covering(float(np.abs(values).max()), width)), key=error)


def _finer(coarsest: FixedFormat) -> list[FixedFormat]:
    fracs = range(coarsest.frac, min(MAX_FRAC, coarsest.frac + MAX_FINER) + 1)
    return [replace(coarsest, frac=frac) for frac in fracs]
