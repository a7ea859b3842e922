"""How far the integer norm is from the real one, and rows that are hard on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sw.ir.formats import FloatArray, IntArray
from sw.ir.layernorm import LayerNorm


class ErrorLsb(NamedTuple):
    """Distance of codes from real results, in steps of the output."""

    max: float
    rms: float


def error_lsb(norm: LayerNorm, rows_raw: npt.ArrayLike) -> ErrorLsb:
    """Error of rows (rows, channels) against the norm in float64, where that saturates as the output does.

    >>> from sw.ir.formats import FixedFormat
    >>> rows_raw = np.random.default_rng(0).normal(0, 500, (100, 48)).astype(int)
    >>> norm = LayerNorm(input=FixedFormat(16, 11), output=FixedFormat(8, 5), channels=48)
    >>> error = error_lsb(norm, rows_raw)
    >>> 0.49 < error.max <= norm.bound_lsb < 0.6, round(error.rms, 2)  # rounding alone: 1/sqrt(12)
    (True, 0.29)
    """
    wanted = np.ldexp(reference(norm, rows_raw), norm.output.frac)
    wanted = np.clip(wanted, norm.output.min_raw, norm.output.max_raw)
    error = norm.run(rows_raw) - wanted
    return ErrorLsb(float(np.abs(error).max()), float(np.sqrt((error**2).mean())))


def reference(norm: LayerNorm, rows_raw: npt.ArrayLike) -> FloatArray:
    """The norm in float64, from its definition: two passes, a division and a square root.

    >>> from sw.ir.formats import FixedFormat
    >>> norm = LayerNorm(input=FixedFormat(8, 0), output=FixedFormat(8, 5), channels=2, eps=0.0)
    >>> reference(norm, [[3, 5], [4, 4]]).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """
    x = norm.input.to_real(rows_raw)
    centred = x if norm.rms else x - x.mean(axis=1, keepdims=True)
    power = (centred**2).mean(axis=1, keepdims=True) + norm.eps
    y: FloatArray = centred / np.sqrt(np.where(power > 0, power, 1.0))  # nothing but 0 and eps 0: 0
    if norm.affine is None:
        return y
    gamma = norm.affine.gamma.to_real(norm.affine.gamma_raw)
    beta = norm.affine.beta.to_real(norm.affine.beta_raw)
    return np.asarray(gamma * y + beta)


def corner_rows(norm: LayerNorm) -> IntArray:
    """Rows that are hard on a norm, (rows, channels): equal codes, one outlier, extremes, alternating.

    >>> from sw.ir.formats import FixedFormat
    >>> norm = LayerNorm(input=FixedFormat(8, 0), output=FixedFormat(8, 5), channels=3)
    >>> corner_rows(norm)[[0, 4, 5]].tolist()
    [[-128, -128, -128], [127, -128, -128], [-128, -128, 127]]
    """
    low, high, size = norm.input.min_raw, norm.input.max_raw, norm.channels
    middle = max(low, 0)
    rows: list[Sequence[int]] = [[code] * size for code in (low, middle, middle + 1, high)]
    for code, outlier in ((low, high), (high, low), (middle, high), (middle, middle + 1), (high, high - 1)):
        rows += [[outlier] + [code] * (size - 1), [code] * (size - 1) + [outlier]]
    rows += [[(low, high)[k % 2] for k in range(size)], [(high, low)[2 * k // size] for k in range(size)]]
    rows += [[middle + k % 2 for k in range(size)], [low + k % (high - low + 1) for k in range(size)]]
    return np.array(rows, dtype=np.int64)
