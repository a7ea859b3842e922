"""Widths and stage numbers that follow from a norm and are shared by its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from amaranth.hdl import Shape, signed, unsigned

from hw.layernorm.pieces import covering
from sw.ir.layernorm import LayerNorm


class Timing(NamedTuple):
    """Cycles of a variant while nothing stalls, and what it stores."""

    latency_cycles: int
    """From the first beat of a row to the cycle in which its first result is offered."""
    interval_cycles: int
    """From a row to the next one."""
    row_memory_words: int
    """Words of a beat each."""

    def row_memory_bits(self, norm: LayerNorm, lanes: int) -> int:
        """Bits that the row memory holds."""
        return self.row_memory_words * lanes * norm.input.width


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes of a norm's wires.

    The radicand's width is even, so that leading zeros are counted in pairs: ``shift`` pairs are what it
    was shifted left by, and what the numerator has to be.
    """

    norm: LayerNorm
    lanes: int

    @property
    def beats(self) -> int:
        """Beats of a row."""
        return -(-self.norm.channels // self.lanes)

    @property
    def code(self) -> Shape:
        """An input code."""
        return Shape(self.norm.input.width, self.norm.input.signed)

    @property
    def sum(self) -> Shape:
        return covering(*self.norm.sum_range)

    @property
    def squares(self) -> Shape:
        return covering(0, self.norm.squares_max)

    @property
    def radicand(self) -> Shape:
        return unsigned(2 * max(1, -(-self.norm.radicand_max.bit_length() // 2)))

    @property
    def max_shift(self) -> int:
        """Most pairs of zeros that a radicand begins with."""
        return self.radicand.width // 2 - 1 - (self.norm.radicand_min.bit_length() - 1) // 2

    @property
    def shift(self) -> Shape:
        return unsigned(max(self.max_shift.bit_length(), 1))

    @property
    def root(self) -> Shape:
        return unsigned(self.norm.root.max_raw.bit_length())

    @property
    def numerator(self) -> Shape:
        return covering(*self.norm.numerator_range)

    @property
    def scaled(self) -> Shape:
        """The numerator over 2^exponent, and the normalised element."""
        return signed(self.norm.scaled_bits)

    @property
    def lowest_place(self) -> int:
        """Left shift of a numerator whose radicand was not shifted at all; mostly negative."""
        return self.norm.frac + self.norm.lift - (self.radicand.width // 2 - 1)
