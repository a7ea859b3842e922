"""LayerNorm and RMSNorm in integers: what ``hw.layernorm`` computes, bit by bit.

Of a row of N codes x come the exact sums S = sum x and Q = sum x^2, in one pass. With them

    LayerNorm: y = (N x - S) / sqrt(N Q - S^2 + E),   E = N^2 eps  in squared input steps
    RMSNorm:   y = sqrt(N) x / sqrt(Q + E),           E = N eps

are the textbook's (x - mean) / sqrt(var + eps) and x / sqrt(mean(x^2) + eps), free of any division by N:
numerator and radicand are exact integers, whatever the row. A row of equal codes gives exactly 0. The
only approximations are one reciprocal square root a row, with a relative error that is known, the bits
that an element drops before it is multiplied with it, and the rounding at the output. Their sum is
bounded for *every* row by ``LayerNorm.bound_lsb``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sw.ir.affine import Affine
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.program import MAX_WIRE_BITS
from sw.ir.rsqrt import RootTable, root_table

MAX_CHANNELS = 8192
MAX_CODE_BITS = 16
GUARD_BITS = 5
"""Default; each halves what the error exceeds 0.5 LSB by."""
_SMALLEST_ROOT_FRAC = 4


@dataclass(frozen=True, kw_only=True)
class LayerNorm:
    """One LayerNorm (or RMSNorm) at given formats; all else about it follows from these fields.

    Args:
        input: Format of a channel's code, at most 16 bits.
        output: Format of the result, at most 16 bits, rounded half to even and saturated. A unit without
            requantisation is one with a wide output.
        channels: N, 1..8192.
        eps: Added to the variance, in squared input values.
        rms: RMSNorm: no mean.
        affine: ``gamma * y + beta`` before the only rounding to the output; None: y itself.
        guard_bits: Bits kept below the output's last one.

    Raises:
        InputError: A field is out of range, or wires would need more than 62 bits.

    >>> norm = LayerNorm(input=FixedFormat(16, 11), output=FixedFormat(8, 5), channels=4)
    >>> norm.run(np.array([[100, 200, 300, 400], [7, 7, 7, 7]])).tolist()
    [[-43, -14, 14, 43], [0, 0, 0, 0]]
    """

    input: FixedFormat
    output: FixedFormat
    channels: int
    eps: float = 1e-6
    rms: bool = False
    affine: Affine | None = None
    guard_bits: int = GUARD_BITS

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise InputError(f"channels must be 1..{MAX_CHANNELS}, not {self.channels}")
        for name, format in (("input", self.input), ("output", self.output)):
            if format.width > MAX_CODE_BITS:
                raise InputError(f"{name} of a norm must have at most {MAX_CODE_BITS} bits, not {format}")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise InputError(f"eps must be finite and not negative, not {self.eps!r}")
        if not 1 <= self.guard_bits <= MAX_CODE_BITS:
            raise InputError(f"guard bits must be 1..{MAX_CODE_BITS}, not {self.guard_bits}")
        if self.affine is not None and len(self.affine.gamma_raw) != self.channels:
            raise InputError(
                f"gamma must have one value for each of {self.channels} channels, "
                f"not {len(self.affine.gamma_raw)}"
            )
        self._check_wires()

    @cached_property
    def eps_raw(self) -> int:
        """E, rounded half to even."""
        return round(self._exact_eps)

    @property
    def sum_range(self) -> tuple[int, int]:
        """Smallest and largest S."""
        return self.channels * self.input.min_raw, self.channels * self.input.max_raw

    @property
    def squares_max(self) -> int:
        """Largest Q."""
        return self.channels * max(-self.input.min_raw, self.input.max_raw) ** 2

    @property
    def radicand_max(self) -> int:
        """Largest number below the root."""
        spread = self.channels**2 * (self.input.max_raw - self.input.min_raw) ** 2 // 4  # Popoviciu
        return (self.squares_max if self.rms else spread) + self.eps_raw

    @property
    def radicand_min(self) -> int:
        """Smallest number below the root of a row that is not all 0 after its numerator."""
        return max(self.eps_raw, 1)

    @property
    def numerator_range(self) -> tuple[int, int]:
        """Smallest and largest N x - S, or x of RMSNorm."""
        low, high = self.input.min_raw, self.input.max_raw
        reach = (self.channels - 1) * (high - low)
        return (low, high) if self.rms else (-reach, reach)

    @property
    def frac(self) -> int:
        """Bits after the binary point of the normalised element, before the affine."""
        return self.output.frac + self.guard_bits + max(0, _ceil_log2(self._largest_gamma))

    @property
    def lift(self) -> int:
        """The numerator is multiplied by 2^lift; with the root's scale that is sqrt(N) of RMSNorm, else 0."""
        return _floor_log2(math.sqrt(self.channels)) if self.rms else 0

    @property
    def scaled_bits(self) -> int:
        """Bits of the numerator once it is divided by 2^exponent: |y| <= sqrt(N), and 1/2 < root."""
        return max(self.frac + 2 + _ceil_log2(math.sqrt(self.channels)), 2)

    @property
    def result_bits(self) -> int:
        """Bits of the widest wire behind the numerator."""
        product = self.scaled_bits + self.root.frac + 1
        if self.affine is None:
            return product
        before = max(self.affine.beta.frac - self.frac - self.affine.gamma.frac, 0)
        scaled = self.scaled_bits + self.affine.gamma.width + before
        return max(product, scaled + 1, self.affine.beta.width + self.beta_shift + 1)

    @cached_property
    def root(self) -> RootTable:
        """The reciprocal square root, fine enough for the output."""
        reach = self._reach * 2.0 ** (self.output.frac + self.guard_bits)
        scale = math.sqrt(self.channels) / 2**self.lift if self.rms else 1.0
        return root_table(scale, max(_ceil_log2(reach), _SMALLEST_ROOT_FRAC))

    @property
    def result_frac(self) -> int:
        """Bits after the binary point of what is rounded to the output."""
        if self.affine is None:
            return self.frac + self.root.frac
        return max(self.frac + self.affine.gamma.frac, self.affine.beta.frac)

    @property
    def product_shift(self) -> int:
        """Left shift that brings gamma times an element to ``result_frac``; 0 without affine."""
        return 0 if self.affine is None else self.result_frac - self.frac - self.affine.gamma.frac

    @property
    def beta_shift(self) -> int:
        """Left shift that brings beta to ``result_frac``; 0 without affine."""
        return 0 if self.affine is None else self.result_frac - self.affine.beta.frac

    @property
    def rounded_bits(self) -> int:
        """Bits that the output drops from the result."""
        return self.result_frac - self.output.frac

    @property
    def bound_lsb(self) -> float:
        """No row's error against the real norm exceeds this, in steps of the output.

        It is 1/2 for the rounding, what the dropped bits of an element can do, and the relative errors of
        the root and of E at the largest result that is not saturated.
        """
        spread = 1 if self.rms else max(self.channels - 1, 1)  # a radicand without E, if it is not 0
        rounding = abs(float(self._exact_eps) - self.eps_raw) / 2 / (spread + max(self.eps_raw - 1, 0))
        relative = (1 + self.root.relative_error) * (1 + rounding) - 1
        dropped = self.root.max_raw * 2.0**-self.root.frac + (self.affine is not None)
        steps = 2.0**self.output.frac
        return 0.5 + steps * (self._largest_gamma * dropped * 2.0**-self.frac + self._reach * relative)

    def run(self, rows_raw: npt.ArrayLike) -> IntArray:
        """Output codes of rows of input codes, (rows, channels), int64.

        Raises:
            InputError: Another number of channels, or a code outside the input format.
        """
        x_raw = self._checked(rows_raw)
        sums, radicand = self.statistics(x_raw)
        exponent, root_raw = self.root.of(np.maximum(radicand, 1))  # of 0, the numerator is 0 as well
        numerator = x_raw if self.rms else self.channels * x_raw - sums
        scaled = _shifted(numerator, self.frac + self.lift - exponent)
        result = scaled * root_raw
        if self.affine is not None:
            gamma_raw, beta_raw = (np.asarray(c) for c in (self.affine.gamma_raw, self.affine.beta_raw))
            product = (result >> self.root.frac) * gamma_raw
            result = (product << self.product_shift) + (beta_raw << self.beta_shift)
        return np.clip(half_to_even(result, self.rounded_bits), self.output.min_raw, self.output.max_raw)

    def statistics(self, x_raw: IntArray) -> tuple[IntArray, IntArray]:
        """S and the radicand of every row, (rows, 1) each, exact."""
        sums = x_raw.sum(axis=1, keepdims=True)
        squares = (x_raw * x_raw).sum(axis=1, keepdims=True)
        spread = squares if self.rms else self.channels * squares - sums * sums
        return sums, spread + self.eps_raw

    def _checked(self, rows_raw: npt.ArrayLike) -> IntArray:
        x_raw = np.asarray(rows_raw, dtype=np.int64)
        if x_raw.ndim != 2 or x_raw.shape[1] != self.channels:
            raise InputError(f"rows must have the shape (rows, {self.channels}), not {x_raw.shape}")
        if x_raw.size and (x_raw.min() < self.input.min_raw or x_raw.max() > self.input.max_raw):
            raise InputError(f"codes of rows must lie in {self.input}, not in [{x_raw.min()}, {x_raw.max()}]")
        return x_raw

    @cached_property
    def _exact_eps(self) -> Fraction:
        factor = self.channels if self.rms else self.channels**2
        return factor * Fraction(self.eps) * Fraction(4) ** self.input.frac

    def _check_wires(self) -> None:
        """Refuse wires that are too wide, and say what makes them so."""
        bits, of = self.radicand_max.bit_length(), f"input {self.input}, eps {self.eps:g}"
        if bits <= MAX_WIRE_BITS:
            of = "" if self.affine is None else f"{self.affine}, "
            try:
                bits, of = self.result_bits, f"{of}output {self.output}"
            except InputError as error:  # no root is so fine
                raise InputError(f"{error} ({of}output {self.output})") from error
        if bits > MAX_WIRE_BITS:
            raise InputError(f"every wire of a norm must fit {MAX_WIRE_BITS} bits, not {bits} ({of})")

    @property
    def _largest_gamma(self) -> float:
        """Of the channels, and no less than a step."""
        if self.affine is None:
            return 1.0
        return max(1, *map(abs, self.affine.gamma_raw)) * self.affine.gamma.step

    @property
    def _reach(self) -> float:
        """Largest |gamma y| of a result that is not saturated."""
        beta = 0.0 if self.affine is None else max(map(abs, self.affine.beta_raw)) * self.affine.beta.step
        kept = max(-self.output.min_raw, self.output.max_raw) * self.output.step + beta
        return min(self._largest_gamma * math.sqrt(self.channels), kept)


def half_to_even(values: IntArray, bits: int) -> IntArray:
    """Round values / 2^bits to the nearest integer, ties to the even one; ``bits`` at least 1.

    >>> half_to_even(np.array([-6, -3, -2, 2, 3, 6]), 2).tolist()
    [-2, -1, 0, 0, 1, 2]
    """
    return (values + (1 << (bits - 1)) - 1 + ((values >> bits) & 1)) >> bits


def _shifted(values: IntArray, places: IntArray) -> IntArray:
    """Floor of values * 2^places."""
    left, right = np.clip(places, 0, MAX_WIRE_BITS), np.clip(-places, 0, MAX_WIRE_BITS)
    return (values << left) >> right


def _ceil_log2(value: float) -> int:
    """Smallest n with value <= 2^n; 0 of 0."""
    mantissa, exponent = math.frexp(value)
    return exponent - (mantissa == 0.5)


def _floor_log2(value: float) -> int:
    return math.frexp(value)[1] - 1
