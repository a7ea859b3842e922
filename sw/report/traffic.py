"""Bytes that norms move off chip, and the time that they take at least, on paper.

A norm reads an activation and writes another one, element by element. LayerNorm must know its row before it
writes the first element: with room for a row on chip it reads once, without it reads again for every pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sw.ir.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """What is normalised in one forward pass of one image.

    Args:
        tokens: Rows of a norm's input.
        channels: Elements of a row.
        norms: How many there are.
        in_bits: Of an element that is read.
        out_bits: Of one that is written.
    """

    tokens: int
    channels: int
    norms: int
    in_bits: int = 16
    out_bits: int = 8

    def __post_init__(self) -> None:
        for name in ("tokens", "channels", "norms", "in_bits", "out_bits"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of a network must be at least 1, not {getattr(self, name)}")

    @property
    def elements(self) -> int:
        """Of all norms together."""
        return self.tokens * self.channels * self.norms

    @property
    def row_bits(self) -> int:
        """Room that a row of a norm's input takes."""
        return self.channels * self.in_bits


VITS = {
    "ViT-Ti": Network(tokens=197, channels=192, norms=25),
    "ViT-S": Network(tokens=197, channels=384, norms=25),
    "ViT-B": Network(tokens=197, channels=768, norms=25),
    "ViT-L": Network(tokens=197, channels=1024, norms=49),
    "ViT-H/14": Network(tokens=257, channels=1280, norms=65),
    "ViT-g/14": Network(tokens=257, channels=1408, norms=81),
    "ViT-B, 384 px": Network(tokens=577, channels=768, norms=25),
    "ViT-g/14, 518 px": Network(tokens=1370, channels=1408, norms=81),
}
"""Published sizes: tokens at 224 pixels unless the name says otherwise; two norms a block, one at the end."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a norm is computed.

    Args:
        name: As tables call it.
        reads: Times that every input element is read.
        writes: Times that every output element is written.
        operations: Arithmetic operations an element, a look-up being one.
    """

    name: str
    reads: int
    writes: int
    operations: float

    def bytes(self, network: Network) -> int:
        """Moved for an image."""
        bits = network.elements * (self.reads * network.in_bits + self.writes * network.out_bits)
        return math.ceil(bits / 8)


THREE_PASSES = Way("LayerNorm, three passes", 3, 1, 5)
TWO_PASSES = Way("LayerNorm, two passes", 2, 1, 5)
ROW_BUFFER = Way("LayerNorm, row buffer", 1, 1, 5)
UNFUSED = Way("function, unfused", 1, 1, 1)
FUSED = Way("function, fused", 0, 0, 1)
WAYS = (THREE_PASSES, TWO_PASSES, ROW_BUFFER, UNFUSED, FUSED)
"""LayerNorm with a pass each for mean, variance and result; with one for both sums; with the row kept on
chip. A scalar function as a kernel of its own; or as the last step of what makes its input, or the first of
what reads its output, which moves those anyway. LayerNorm takes two sums, a square, a difference
and a product an element; affines fold, whatever the norm is."""


def layernorm(network: Network, buffer_bits: int) -> Way:
    """The way that a LayerNorm with so much memory on chip is computed: a row is kept if it fits."""
    return ROW_BUFFER if buffer_bits >= network.row_bits else TWO_PASSES


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What memory and arithmetic can do: bytes a second, operations a second."""

    bandwidth: float
    compute: float

    @property
    def ridge(self) -> float:
        """Operations a byte beyond which arithmetic is the limit (Williams et al. 2009)."""
        return self.compute / self.bandwidth

    def seconds(self, way: Way, network: Network) -> float:
        """The least time for an image: of memory or of arithmetic, whichever takes longer."""
        return max(way.bytes(network) / self.bandwidth, way.operations * network.elements / self.compute)

    def operations_a_second(self, intensity: float) -> float:
        """The roof over so many operations a byte."""
        return min(self.compute, self.bandwidth * intensity)
