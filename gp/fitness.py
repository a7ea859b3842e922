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
MAX_PAIRS = 2**21
"""Of a site with more pairs, that many are drawn; beyond it R^2 changes in the fourth digit only."""
_EVEN_SHARE = 0.25
"""Share of the bin edges that are even in x; the rest are quantiles. Tails need edges of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Pairs divided into those that the search learns from and those that only judge; float64 vectors.

    ``w`` and ``held_w`` weigh the squared error, with a mean of 1 over both: ones where a site has none.
    """

    x: FloatArray
    y: FloatArray
    held_x: FloatArray
    held_y: FloatArray
    w: FloatArray
    held_w: FloatArray


def split_pairs(
    x: FloatArray, y: FloatArray, w: FloatArray | None = None, *, share: float, seed: int
) -> Split:
    """Hold out a share of the pairs (at least 4, at most half), the same ones for the same seed.

    Pairs of weight 0 are left out, and of more than ``MAX_PAIRS`` so many are drawn.

    Args:
        x: Inputs of a norm, vector of floats.
        y: Its outputs, as many.
        w: Weights of the squared error, as many, not negative; None: equal ones.
        share: Of the pairs, within (0, 1); these only judge.
        seed: Of the choice.

    Raises:
        InputError: Fewer than ``MIN_PAIRS`` pairs count, or vectors are not of equal length and finite.
    """
    _check_vectors("pairs", {"x": x, "y": y} | ({} if w is None else {"w": w}))
    rng = np.random.default_rng(seed)
    if w is not None and not np.all(w):
        weighted = np.flatnonzero(w)
        x, y, w = x[weighted], y[weighted], w[weighted]
    if len(x) > MAX_PAIRS:
        drawn = np.sort(rng.choice(len(x), MAX_PAIRS, replace=False, shuffle=False))
        x, y, w = x[drawn], y[drawn], None if w is None else w[drawn]
    num = len(x)
    if num < MIN_PAIRS:
        raise InputError(f"pairs must be at least {MIN_PAIRS}, not {num}")
    num_held = max(4, min(num // 2, round(share * num)))
    order = rng.permutation(num)
    held, kept = np.sort(order[:num_held]), np.sort(order[num_held:])
    w = unit_weights(w, num)
    return Split(
        x[kept].astype(np.float64),
        y[kept].astype(np.float64),
        x[held].astype(np.float64),
        y[held].astype(np.float64),
        w[kept],
        w[held],
    )


def unit_weights(w: FloatArray | None, num: int) -> FloatArray:
    """Weights scaled to a mean of 1, float64; exactly 1 where all are equal or there are none."""
    if w is None or np.all(w == w[0]):
        return np.ones(num)
    shares = w / np.float64(w.max())  # first, so that no sum overflows
    return shares / shares.mean()


def weighted_quantiles(x: FloatArray, w: FloatArray, shares: FloatArray) -> FloatArray:
    """Where a share of the weight lies below; between pairs a line, so equal weights give numpy's."""
    if np.all(w == w[0]):
        return np.quantile(x, shares)
    order = np.argsort(x)
    sorted_x, sorted_w = x[order], w[order]
    below = np.concatenate([[0.0], np.cumsum(0.5 * (sorted_w[1:] + sorted_w[:-1]))])
    return np.interp(shares * below[-1], below, sorted_x)


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
    """Weighted mean square of y within bins: no function of the bin can explain it."""
    variance: float
    """Weighted variance of all y."""
    growth_penalty: float
    allowance: float

    def explained(self, input: FixedFormat) -> float:
        """How much of y's variance a function of x's code explains: the variance between codes."""
        _, code = np.unique(input.quantize(self.x[:-2]), return_inverse=True)
        weight = np.bincount(code, self.weight[:-2])
        mean = np.bincount(code, self.weight[:-2] * self.y[:-2]) / weight
        return float(weight @ mean**2 - (weight @ mean) ** 2)

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
    w: FloatArray | None = None,
    *,
    growth_penalty: float,
    allowance: float | None = None,
    num_bins: int = NUM_BINS,
) -> Target:
    """Sum pairs up in at most ``num_bins`` weighted points (weights sum to 1), and the two to look at.

    ``w`` weighs the pairs' squared errors, whatever its sum; without it all count the same. By default
    the allowance, what F may reach for nothing, is the largest |mean y| of a bin.
    """
    w = unit_weights(w, len(x))
    quantiles = weighted_quantiles(x, w, np.linspace(0, 1, int(num_bins * (1 - _EVEN_SHARE)) + 1))
    even = np.linspace(x.min(), x.max(), int(num_bins * _EVEN_SHARE) + 1)
    edges = np.unique(np.concatenate([quantiles, even[1:-1]]))
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(len(edges) - 2, 0))
    total = np.bincount(place, w)
    used = total > 0
    mean_x = np.bincount(place, w * x)[used] / total[used]
    mean_y = np.bincount(place, w * y)[used] / total[used]
    weight = total[used] / total.sum()
    reach = 2.0 * float(np.max(np.abs(x)))
    return Target(
        x=np.concatenate([mean_x, [-reach, reach]]),
        y=np.concatenate([mean_y, [0.0, 0.0]]),
        weight=np.concatenate([weight, [0.0, 0.0]]),
        noise=max(float(np.mean(w * y * y) - weight @ (mean_y * mean_y)), 0.0),
        variance=float(np.mean(w * (y - np.mean(w * y)) ** 2)),
        growth_penalty=growth_penalty,
        allowance=float(np.max(np.abs(mean_y))) if allowance is None else allowance,
    )


@dataclass(frozen=True, slots=True, eq=False)
class CodeStats:
    """Pairs summed up by input code: enough for the exact squared error of any integer map.

    ``index`` counts from 0 = the most negative code; ``count`` and ``sum_y`` belong to ``index``. With
    weights ``count`` and the sums are weighted, the weights having a mean of 1.
    """

    index: IntArray
    count: FloatArray
    sum_y: FloatArray
    sum_yy: float

    @classmethod
    def of(cls, x: FloatArray, y: FloatArray, input: FixedFormat, w: FloatArray | None = None) -> CodeStats:
        """Quantize x to the input format and sum up."""
        w = unit_weights(w, len(x))
        index, place = np.unique(input.quantize(x) - input.min_raw, return_inverse=True)
        count, sum_y = (np.asarray(np.bincount(place, v), dtype=np.float64) for v in (w, w * y))
        return cls(index, count, sum_y, _dot(w * y, y))

    def fit(self, table: FloatArray, affine: str = "free") -> tuple[float, float]:
        """Least squares scale and offset of y against a table of every input code's value.

        ``affine`` says what of it can fold: ``free`` both, ``scale`` only the scale (the offset is 0),
        ``none`` neither (they are 1 and 0).
        """
        if affine == "none":
            return 1.0, 0.0
        v = table[self.index]
        if affine == "scale":
            square = _dot(self.count, v * v)
            return (_dot(v, self.sum_y) / square if square > 0 else 0.0), 0.0
        num = self.count.sum()
        mean_v, mean_y = _dot(self.count, v) / num, self.sum_y.sum() / num
        square = _dot(self.count, (v - mean_v) ** 2)
        if square <= 0:
            return 0.0, float(mean_y)
        scale = _dot(v - mean_v, self.sum_y - self.count * mean_y) / square
        return scale, float(mean_y - scale * mean_v)

    def r2(self, table: FloatArray, scale: float, offset: float) -> float:
        """R^2 of scale * table + offset; 0 where y is constant."""
        v = scale * table[self.index] + offset
        error = self.sum_yy - 2 * _dot(v, self.sum_y) + _dot(self.count, v * v)
        total = self.sum_yy - float(self.sum_y.sum()) ** 2 / float(self.count.sum())
        return 1.0 - error / total if total > 0 else 0.0


def _dot(a: FloatArray, b: FloatArray) -> float:
    """Not BLAS, whose sums of long vectors depend on how many threads it has."""
    return float(np.sum(a * b))


def r2(y: FloatArray, predicted: FloatArray, weight: FloatArray | None = None) -> float:
    """1 - squared error / squared deviation from the mean, of these pairs; 0 where y is constant."""
    w = unit_weights(weight, len(y))
    total = float(np.sum(w * (y - np.mean(w * y)) ** 2))
    return 1.0 - float(np.sum(w * (y - predicted) ** 2)) / total if total > 0 else 0.0


def check_pairs(site: str, x: FloatArray, y: FloatArray, w: FloatArray | None = None) -> None:
    """Refuse pairs that no function can be fitted to.

    Raises:
        InputError: Different lengths, fewer than 16 pairs, non-finite values, constant x or y,
            negative weights; with weights the pairs of weight 0 do not count.
    """
    _check_vectors(site, {"x": x, "y": y} | ({} if w is None else {"w": w}))
    if w is not None and len(w):
        if w.min() < 0:
            raise InputError(f"'{site}_w' must not be negative, not {w.min():g}")
        if not w.max() > 0:
            raise InputError(f"'{site}_w' must not be zero everywhere")
        if not np.all(w):
            x, y = x[w > 0], y[w > 0]
    if len(x) < MIN_PAIRS:
        of_weight = "" if w is None else " of positive weight"
        raise InputError(f"pairs{of_weight} of site '{site}' must be at least {MIN_PAIRS}, not {len(x)}")
    for name, values in (("x", x), ("y", y)):
        if values.min() == values.max():
            raise InputError(f"'{site}_{name}' must vary, not be {values[0]:g} everywhere")


def _check_vectors(site: str, vectors: dict[str, FloatArray]) -> None:
    """Refuse what are no vectors of equal length of real, finite numbers."""
    *first, last = (f"'{site}_{name}'" for name in vectors)
    shapes = [values.shape for values in vectors.values()]
    if len(shapes[0]) != 1 or len(set(shapes)) > 1:
        *first_shapes, last_shape = map(str, shapes)
        raise InputError(
            f"{', '.join(first)} and {last} must be vectors of equal length, "
            f"not of shapes {', '.join(first_shapes)} and {last_shape}"
        )
    for name, values in vectors.items():
        if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
            raise InputError(f"'{site}_{name}' must be real numbers, not {values.dtype}")
        num_bad = int(np.count_nonzero(~np.isfinite(values)))
        if num_bad:
            raise InputError(f"'{site}_{name}' must be finite, not NaN or infinite at {num_bad} places")
