"""Gamma and beta of a norm as codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class Affine:
    """Gamma and beta of every channel, as codes.

    Raises:
        InputError: They differ in number, or a code lies outside its format.

    >>> a = Affine.of([1.0, -0.5], [0.25, 0.0], width=8)
    >>> str(a.gamma), a.gamma_raw, str(a.beta), a.beta_raw
    ('s8.6', (64, -32), 's8.8', (64, 0))
    """

    gamma: FixedFormat
    beta: FixedFormat
    gamma_raw: tuple[int, ...]
    beta_raw: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.gamma_raw) != len(self.beta_raw):
            raise InputError(
                f"beta must have as many values as gamma, {len(self.gamma_raw)}, not {len(self.beta_raw)}"
            )
        for name, format, codes in (
            ("gamma", self.gamma, self.gamma_raw),
            ("beta", self.beta, self.beta_raw),
        ):
            for code in codes:
                if not format.min_raw <= code <= format.max_raw:
                    raise InputError(f"{name} must lie in {format}, not have the code {code}")

    @classmethod
    def of(cls, gamma: npt.ArrayLike, beta: npt.ArrayLike, *, width: int = 8) -> Affine:
        """Real values (channels,), rounded to the finest formats of ``width`` bits that hold them.

        Raises:
            InputError: No format does.
        """
        formats, codes = [], []
        for name, given in (("gamma", gamma), ("beta", beta)):
            values = np.asarray(given, dtype=np.float64)
            largest = float(np.abs(values).max(initial=0.0))
            formats.append(FixedFormat.covering(largest, width))
            most = formats[-1].max_raw * formats[-1].step
            if largest > most:
                raise InputError(f"{name} must reach at most {most:g}, not {largest:g}")
            codes.append(tuple(formats[-1].quantize(values).tolist()))
        return cls(gamma=formats[0], beta=formats[1], gamma_raw=codes[0], beta_raw=codes[1])

    def __str__(self) -> str:
        each = (("gamma", self.gamma, self.gamma_raw), ("beta", self.beta, self.beta_raw))
        return ", ".join(f"{n} up to {max(map(abs, c)) * f.step:g} as {f}" for n, f, c in each)
