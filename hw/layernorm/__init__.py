"""LayerNorm and RMSNorm as hardware, the thing to beat: a small and a fast variant of one integer model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hw.layernorm.fast import FastLayerNorm, fast_timing
from hw.layernorm.shapes import Shapes, Timing
from hw.layernorm.small import SmallLayerNorm, small_timing
from hw.streams import check_lanes
from sw.ir.errors import InputError
from sw.ir.layernorm import LayerNorm


class Variant(NamedTuple):
    """A way to build a norm; each computes ``sw.ir.layernorm.LayerNorm`` bit by bit."""

    component: type[FastLayerNorm] | type[SmallLayerNorm]
    timing: Callable[[Shapes], Timing]


VARIANTS: dict[str, Variant] = {
    "small": Variant(SmallLayerNorm, small_timing),
    "fast": Variant(FastLayerNorm, fast_timing),
}


def build(norm: LayerNorm, variant: str, *, lanes: int = 1) -> FastLayerNorm | SmallLayerNorm:
    """The component of a norm.

    Raises:
        InputError: There is no such variant, or ``lanes`` is out of range.
    """
    return _variant(variant).component(norm, lanes=lanes)


def timing(norm: LayerNorm, variant: str, *, lanes: int = 1) -> Timing:
    """Cycles and memory of a norm, without building it.

    Raises:
        InputError: As ``build``.
    """
    check_lanes(lanes)
    return _variant(variant).timing(Shapes(norm, lanes))


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise InputError(f"variant of a norm must be one of {', '.join(VARIANTS)}, not '{name}'")
    return VARIANTS[name]
