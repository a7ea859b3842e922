"""Fixed-point formats: how many bits, where the binary point is, signed or not; and short constants."""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sw.ir.errors import InputError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

MAX_WIDTH = 32
"""Widest code at a unit's boundary; wires inside a Program may be wider (up to 62 bits)."""
EXHAUSTIVE_BITS = 16
"""Widest input of which every code is simulated."""
MAX_FRAC = 64
_SYNTAX = re.compile(r"([su])(\d{1,3})\.(-?\d{1,3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class FixedFormat:
    """A fixed-point format: value = raw * 2^-frac.

    Written ``s16.11`` (signed, 16 bits in all, 11 of them after the binary point) or ``u8.0``.
    A negative ``frac`` means a step larger than one.

    Raises:
        InputError: width is not 1..32 (signed: 2..32), or frac not -64..64.

    >>> f = FixedFormat.parse("s8.5")
    >>> f.min_raw, f.max_raw, f.step
    (-128, 127, 0.03125)
    >>> f.quantize([0.046875, 0.078125, 9.0]).tolist()  # two ties, to even, and a saturation
    [2, 2, 127]
    """

    width: int
    frac: int
    signed: bool = True

    def __post_init__(self) -> None:
        smallest = 2 if self.signed else 1
        if not smallest <= self.width <= MAX_WIDTH:
            kind = "a signed format" if self.signed else "an unsigned format"
            raise InputError(
                f"width of {kind} must be {smallest}..{MAX_WIDTH} bits, not {self.width} (in '{self}')"
            )
        if not -MAX_FRAC <= self.frac <= MAX_FRAC:
            raise InputError(
                f"frac of a format must be {-MAX_FRAC}..{MAX_FRAC}, not {self.frac} (in '{self}')"
            )

    @classmethod
    def parse(cls, text: str) -> FixedFormat:
        """Read ``s16.11`` or ``u8.0``; ``str`` of the result gives the same text back."""
        match = _SYNTAX.fullmatch(text)
        if match is None:
            raise InputError(f"format must look like 's16.11' or 'u8.0', not {reprlib.repr(text)}")
        sign, width, frac = match.groups()
        return cls(int(width), int(frac), sign == "s")

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.width}.{self.frac}"

    @property
    def min_raw(self) -> int:
        """Most negative code."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def max_raw(self) -> int:
        """Most positive code."""
        return (1 << (self.width - int(self.signed))) - 1

    @property
    def step(self) -> float:
        """The real distance between neighbouring codes, 2^-frac."""
        return 2.0**-self.frac

    @property
    def droppable(self) -> int:
        """How many of the lowest bits a format can lose; two are kept."""
        return max(0, min(self.width - 2, self.frac + MAX_FRAC))

    def without(self, bits: int) -> FixedFormat:
        """The format of codes whose lowest ``bits`` are dropped.

        >>> str(FixedFormat.parse("s16.11").without(3))
        's13.8'
        """
        return FixedFormat(self.width - bits, self.frac - bits, self.signed)

    def codes(self) -> IntArray:
        """All 2^width codes in rising order, int64; index 0 is the most negative one."""
        return np.arange(self.min_raw, self.max_raw + 1, dtype=np.int64)

    def quantize(self, values: npt.ArrayLike) -> IntArray:
        """Round real values to codes: half to even, then saturate. Shape is kept; dtype int64."""
        scaled = np.rint(np.ldexp(np.asarray(values, dtype=np.float64), self.frac))
        return np.clip(scaled, self.min_raw, self.max_raw).astype(np.int64)

    def to_real(self, raw: npt.ArrayLike) -> FloatArray:
        """The real values of codes, float64, exact."""
        return np.ldexp(np.asarray(raw, dtype=np.float64), -self.frac)

    @classmethod
    def covering(cls, largest: float, width: int) -> FixedFormat:
        """The finest signed format of ``width`` bits whose range holds +-``largest``.

        Where that would need a binary point beyond +-``MAX_FRAC``, the format with the nearest one.

        >>> str(FixedFormat.covering(5.0, 8))
        's8.4'
        """
        if not (np.isfinite(largest) and largest >= 0):
            raise InputError(f"largest value must be finite and not negative, not {largest!r}")
        if largest == 0:
            return cls(width, width - 1)
        exponent = int(np.frexp(largest)[1])  # largest < 2^exponent
        frac = width - 1 - exponent
        frac -= int(
            np.ldexp(largest, frac) > 2 ** (width - 1) - 1
        )  # the top code is one step short of 2^exponent
        return cls(width, max(-MAX_FRAC, min(MAX_FRAC, frac)))


def round_bits(value: float | Fraction, bits: int, finest: Fraction = Fraction(0)) -> Fraction:
    """The nearest number with at most ``bits`` significant bits and no bit below ``finest``; ties to even.

    >>> round_bits(0.1, 4), round_bits(0.1, 4, Fraction(1, 16))
    (Fraction(13, 128), Fraction(1, 8))
    """
    exact = Fraction(value)
    if exact == 0:
        return exact
    unit = max(Fraction(2) ** (_exponent(exact) - bits + 1), finest)
    return round(exact / unit) * unit


def _exponent(value: Fraction) -> int:
    """floor(log2 |value|), exact."""
    magnitude = abs(value)
    guess = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return guess if Fraction(2) ** guess <= magnitude else guess - 1
