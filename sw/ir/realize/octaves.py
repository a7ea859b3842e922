"""Piecewise linear with segments that widen with every octave of the argument, told apart by leading bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.formats import IntArray
from sw.ir.program import Program
from sw.ir.realize.domain import Domain, domains, luts_a_bit
from sw.ir.realize.pwl import coarsest_fit, line, near_chords
from sw.ir.realize.search import cheapest
from sw.ir.realize.target import NotApplicableError, Target

MIN_OUTPUT_BITS = 10
"""Narrower outputs need so few segments that equal ones cost less."""
_MAX_MANTISSA_BITS = 6
_MAX_OCTAVES = 12


@dataclass(frozen=True, slots=True)
class Octaves:
    """2^mantissa segments an octave: of 2^bits values below 2^(bits + mantissa + 1), then twice as wide each.

    This is how floating point divides its numbers; below the first octave lies one more of equal width.
    """

    argument: int
    """Bits of what is divided."""
    bits: int
    mantissa: int

    @property
    def first(self) -> int:
        """The first octave begins at 2^first."""
        return self.bits + self.mantissa

    @property
    def number(self) -> int:
        return self.argument - self.first

    def zones(self) -> Iterator[tuple[slice, int]]:
        """The values of an octave, and the bits of its segments; the lowest ones and the first are one."""
        yield slice(0, 2 << self.first), self.bits
        for octave in range(1, self.number):
            yield slice(1 << (self.first + octave), 2 << (self.first + octave)), self.bits + octave

    def split(self, b: Builder, argument: Wire) -> tuple[Wire, Wire]:
        """(number of the segment, place in it) of an argument."""
        top = b.shr(argument, self.first)
        exponent = b.lookup(top, [int(v).bit_length() for v in range(1 << self.number)])
        place = b.low(argument, self.bits)
        mantissa = b.low(b.shr(argument, self.bits), self.mantissa)
        for octave in range(1, self.number):
            reached = b.shr(argument, self.first + octave)
            bits = self.bits + octave
            place = b.select(reached, b.low(argument, bits), place)
            mantissa = b.select(reached, b.low(b.shr(argument, bits), self.mantissa), mantissa)
        return b.add(b.shl(exponent, self.mantissa), mantissa), place


@dataclass(frozen=True, slots=True)
class Lines:
    """y = (slope * place + intercept) >> shift, a line a segment."""

    octaves: Octaves
    shift: int
    slopes: IntArray
    intercepts: IntArray

    def core(self, b: Builder, argument: Wire) -> Wire:
        """The result at an argument, as a wire."""
        segment, place = self.octaves.split(b, argument)
        return b.shr(line(b, segment, place, self.slopes, self.intercepts), self.shift)


@dataclass(frozen=True, slots=True, order=True)
class Segmentation:
    """A domain in octaves; they compare by the fewest LUTs to hope for."""

    estimate: float
    bits: int
    mantissa: int
    domain: Domain = field(compare=False)

    @property
    def octaves(self) -> Octaves:
        return Octaves(self.domain.bits, self.bits, self.mantissa)

    def program(self, limit: float) -> Program | None:
        """That of the coarsest lines that serve, if any do."""
        lines = coarsest_fit(self.fit, self.bits)
        return None if lines is None else self.domain.program(lines.core)

    def fit(self, shift: int) -> Lines | None:
        """Lines of this shift, or None if a segment has none near its chord."""
        slopes, intercepts = [], []
        for zone, bits in self.octaves.zones():
            found = near_chords(self.domain.lower[zone], self.domain.upper[zone], bits, shift)
            if found is None:
                return None
            slopes.append(found[0])
            intercepts.append(found[1])
        return Lines(self.octaves, shift, np.concatenate(slopes), np.concatenate(intercepts))


def plan(target: Target) -> Program:
    """Lines that, truncated, hit every code of the map within ``max_ulp``, on fewer segments far from 0.

    For functions that bend most near 0, such as sqrt and log, of unsigned or symmetric inputs.

    Raises:
        NotApplicableError: The map is of a signed input and not symmetric, or there are no such lines, or
            none that could beat the target's ``budget``.
    """
    best = cheapest((s for domain in domains(target) for s in _segmentations(domain)), target.budget)
    if best is None:
        raise NotApplicableError(
            f"map of '{target.expr}' must be of magnitudes and smooth enough for lines that widen"
        )
    return best


def _segmentations(domain: Domain) -> Iterator[Segmentation]:
    if domain.symmetry == "none" and domain.target.input.signed:
        return
    for mantissa in range(1, _MAX_MANTISSA_BITS + 1):
        for bits in range(domain.bits - mantissa - 1):
            number = domain.bits - bits - mantissa
            if number > _MAX_OCTAVES:
                continue
            address = mantissa + number.bit_length()
            choices = (number - 1) * (0.5 * (bits + number) + mantissa)
            tables = domain.span * luts_a_bit(address)
            yield Segmentation(domain.overhead + tables + choices, bits, mantissa, domain)
