"""What a function is worth at a site: squared error after a free outer scale and offset.

For a squared error, bins that hold the mean of y and a count are a sufficient statistic but for their
width, so the search never looks at the pairs themselves.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, FloatArray, IntArray

NUM_BINS = 256
MIN_PAIRS = 16
_EVEN_SHARE = 0.25
"""Share of the bin edges that are even in x; the rest are quantiles. Tails need edges of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Pairs divided into those that the search learns from and those that only judge; float64 vectors."""

    x: FloatArray
    y: FloatArray
    held_x: FloatArray
    held_y: FloatArray


def split_pairs(x: FloatArray, y: FloatArray, *, share: float, seed: int) -> Split:
    """Hold out a share of the pairs (at least 4, at most half), the same ones for the same seed."""
    num = len(x)
    num_held = max(4, min(num // 2, round(share * num)))
    order = np.random.default_rng(seed).permutation(num)
    held, kept = np.sort(order[:num_held]), np.sort(order[num_held:])
    return Split(
        x[kept].astype(np.float64),
        y[kept].astype(np.float64),
        x[held].astype(np.float64),
        y[held].astype(np.float64),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """An outer affine and its loss: y ~ scale * f(x) + offset."""

    scale: float
    offset: float
    loss: float


UNUSABLE = Scaled(0.0, 0.0, float("inf"))
"""A function that is constant, or not finite, on the data."""


@dataclass(frozen=True, eq=False)
class Target:
    """Weighted points that a function is fitted to, and two points where its growth is looked at.

    The last two points have no weight: they are -a and a with a = 2 max|x|, where the paper's penalty
    (arXiv 2605.14047) takes weight * (F(-a)^2 + F(a)^2) / 2 of the scaled function F. Here only what
    exceeds ``allowance`` counts. With an allowance of 0 a plain clip pays a third of its error for
    saturating, and shapes win that fall back to zero where nobody looks; since every function is
    clamped to what it reaches before it becomes hardware, growth alone is to be discouraged.
    """

    x: FloatArray
    y: FloatArray
    weight: FloatArray
    noise: float
    """Mean square of y within bins: no function of the bin can explain it."""
    variance: float
    """Variance of all y."""
    growth_penalty: float
    allowance: float

    @functools.cached_property
    def root_weight(self) -> FloatArray:
        return np.sqrt(self.weight)

    def fit(self, f: Any) -> Scaled:
        """The least squares outer affine of the values f at ``x``, and its penalised loss.

        A function whose scale would be zero or not finite is UNUSABLE.
        """
        f = np.asarray(f)
        if f.shape != self.x.shape:
            return UNUSABLE
        mean_f, mean_y = float(self.weight @ f), float(self.weight @ self.y)
        centred_f, centred_y = f - mean_f, self.y - mean_y
        weighted = self.weight * centred_f
        square, product = float(weighted @ centred_f), float(weighted @ centred_y)
        if not (1e-18 < square < 1e18) or abs(product) < 1e-12 * square:
            return UNUSABLE
        scale = product / square
        offset = mean_y - scale * mean_f
        mse = max(float(self.weight @ (centred_y * centred_y)) - scale * product, 0.0) + self.noise
        loss = mse + self.growth_penalty * self.penalty(scale * f + offset)
        return Scaled(scale, offset, loss) if np.isfinite(loss) else UNUSABLE

    def penalty(self, scaled: FloatArray) -> float:
        """Half the sum of squares of what a scaled function exceeds the allowance by at -a and a."""
        low, high = (max(abs(float(v)) - self.allowance, 0.0) for v in scaled[-2:])
        return 0.5 * (low * low + high * high)


def bin_pairs(
    x: FloatArray,
    y: FloatArray,
    *,
    growth_penalty: float,
    allowance: float | None = None,
    num_bins: int = NUM_BINS,
) -> Target:
    """Sum pairs up in at most ``num_bins`` weighted points (weights sum to 1), and the two to look at.

    By default the allowance, what F may reach for nothing, is the largest |mean y| of a bin.
    """
    quantiles = np.quantile(x, np.linspace(0, 1, int(num_bins * (1 - _EVEN_SHARE)) + 1))
    even = np.linspace(x.min(), x.max(), int(num_bins * _EVEN_SHARE) + 1)
    edges = np.unique(np.concatenate([quantiles, even[1:-1]]))
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(len(edges) - 2, 0))
    count = np.bincount(place)
    used = count > 0
    mean_x = np.bincount(place, x)[used] / count[used]
    mean_y = np.bincount(place, y)[used] / count[used]
    weight = count[used] / len(x)
    reach = 2.0 * float(np.max(np.abs(x)))
    return Target(
        x=np.concatenate([mean_x, [-reach, reach]]),
        y=np.concatenate([mean_y, [0.0, 0.0]]),
        weight=np.concatenate([weight, [0.0, 0.0]]),
        noise=max(float(np.mean(y * y) - weight @ (mean_y * mean_y)), 0.0),
        variance=float(np.var(y)),
        growth_penalty=growth_penalty,
        allowance=float(np.max(np.abs(mean_y))) if allowance is None else allowance,
    )


@dataclass(frozen=True, slots=True, eq=False)
class CodeStats:
    """Pairs summed up by input code: enough for the exact squared error of any integer map.

    ``index`` counts from 0 = the most negative code; ``count`` and ``sum_y`` belong to ``index``.
    """

    index: IntArray
    count: FloatArray
    sum_y: FloatArray
    sum_yy: float

    @classmethod
    def of(cls, x: FloatArray, y: FloatArray, input: FixedFormat) -> CodeStats:
        """Quantize x to the input format and sum up."""
        index, place = np.unique(input.quantize(x) - input.min_raw, return_inverse=True)
        count, sum_y = np.bincount(place).astype(np.float64), np.bincount(place, y)
        return cls(index, count, np.asarray(sum_y, dtype=np.float64), float(y @ y))

    def fit(self, table: FloatArray) -> tuple[float, float]:
        """Least squares scale and offset of y against a table of every input code's value."""
        v = table[self.index]
        num = self.count.sum()
        mean_v, mean_y = self.count @ v / num, self.sum_y.sum() / num
        square = float(self.count @ (v - mean_v) ** 2)
        if square <= 0:
            return 0.0, float(mean_y)
        scale = float((v - mean_v) @ (self.sum_y - self.count * mean_y)) / square
        return scale, float(mean_y - scale * mean_v)

    def r2(self, table: FloatArray, scale: float, offset: float) -> float:
        """R^2 of scale * table + offset."""
        v = scale * table[self.index] + offset
        error = self.sum_yy - 2 * float(v @ self.sum_y) + float(self.count @ (v * v))
        total = self.sum_yy - float(self.sum_y.sum()) ** 2 / float(self.count.sum())
        return 1.0 - error / total


def r2(y: FloatArray, predicted: FloatArray) -> float:
    """1 - squared error / squared deviation from the mean, of these pairs."""
    return 1.0 - float(np.sum((y - predicted) ** 2)) / float(np.sum((y - y.mean()) ** 2))


def check_pairs(site: str, x: FloatArray, y: FloatArray) -> None:
    """Refuse pairs that no function can be fitted to.

    Raises:
        InputError: Different lengths, fewer than 16 pairs, non-finite values, constant x or y.
    """
    if x.ndim != 1 or y.ndim != 1 or len(x) != len(y):
        raise InputError(
            f"'{site}_x' and '{site}_y' must be vectors of equal length, "
            f"not of shapes {x.shape} and {y.shape}"
        )
    if len(x) < MIN_PAIRS:
        raise InputError(f"pairs of site '{site}' must be at least {MIN_PAIRS}, not {len(x)}")
    for name, values in (("x", x), ("y", y)):
        if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
            raise InputError(f"'{site}_{name}' must be real numbers, not {values.dtype}")
        num_bad = int(np.count_nonzero(~np.isfinite(values)))
        if num_bad:
            raise InputError(f"'{site}_{name}' must be finite, not NaN or infinite at {num_bad} places")
        if values.min() == values.max():
            raise InputError(f"'{site}_{name}' must vary, not be {values[0]:g} everywhere")
