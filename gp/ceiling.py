"""What any scalar function of x could reach at a site: an estimate of E[y|x], scored on held-out pairs.

The learning pairs are summed up in bins, and every smoother is fitted to the bins alone: to all of them, and
without each of five random parts of the pairs, on which it is then judged (cross-validation). The function
that is scored is the mean of those that the judgement cannot tell from the best, drawn as a line through the
bins. The held-out pairs choose nothing here, so the estimate is biased down, by the error of the smoother,
and never up; where a known form does better on them, ``gp.task`` takes that, the best of two dozen. Measured
against known E[y|x]: the mean beats the single best smoother where few pairs decide, and local linear
regression added to these smoothers gains nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gp.fitness import Split, r2, weighted_quantiles
from sw.ir.formats import FloatArray, IntArray

NUM_BINS = 2048
NUM_FOLDS = 5
PIECES = (4, 8, 16, 32, 64, 128)
"""Of the linear splines."""
CUBIC_PIECES = 64
ROUGHNESS = tuple(10.0**k for k in range(-3, 4))
"""Weights of the squared second differences of the cubic splines' coefficients."""
LEAVES = (2, 3, 4, 6, 8, 12, 16, 24, 32)
MAX_BLENDED = 10
_SAMPLE = 1 << 17
"""Pairs whose quantiles place the bins; it need not be exact."""
_SCALES = (0.02, 0.5, 0.95)
"""Shares of the weight below s in the axes asinh(x/s), which are linear below s and logarithmic above."""
_RIDGE, _TRIFLE = 1e-7, 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class _Bins:
    """Mean x of every bin, rising; the weight and the weighted sum of y of every fold's pairs in it."""

    x: FloatArray
    weight: FloatArray
    sum_y: FloatArray

    def training(self) -> tuple[FloatArray, FloatArray]:
        """Weights and sums without each fold, and at last of all pairs: (folds + 1, bins)."""
        weight, sum_y = self.weight.sum(axis=0), self.sum_y.sum(axis=0)
        return np.vstack([weight - self.weight, weight]), np.vstack([sum_y - self.sum_y, sum_y])

    def errors(self, heights: FloatArray) -> FloatArray:
        """Squared error of every fold under the heights found without it, less the sum of y^2."""
        return (heights[:-1] * (self.weight * heights[:-1] - 2.0 * self.sum_y)).sum(axis=1)


def estimate_ceiling(split: Split) -> float:
    """The R^2 on held-out pairs of the best function of x that smoothers of the learning pairs can find.

    It tends to the R^2 of E[y|x] from below; a function that does better on the same pairs raises it.
    Smoothers: linear splines of 4 to 128 pieces and cubic splines with a roughness penalty (P-splines,
    Eilers and Marx 1996), with knots even in x, in the rank of x and in asinh(x/s) for three s; rising and
    falling functions (pool adjacent violators); and steps, of 2 to 32 values.
    """
    level = float(np.average(split.y, weights=split.w))  # far from 0 the errors would drown in rounding
    bins = _bin(split, level)
    heights = _blend(bins)
    return r2(split.held_y - level, np.interp(split.held_x, bins.x, heights), split.held_w)


def _bin(split: Split, level: float) -> _Bins:
    """The learning pairs (x, y - level).

    Three quarters of the edges are quantiles, the others even in x and in asinh(x / median|x|).
    """
    x = split.x
    stride = max(1, len(x) // _SAMPLE)
    quantiles = weighted_quantiles(x[::stride], split.w[::stride], np.linspace(0, 1, 3 * NUM_BINS // 4 + 1))
    low, high = float(x.min()), float(x.max())
    unit = float(np.median(np.abs(quantiles))) or high - low or 1.0
    warped = np.linspace(np.arcsinh(low / unit), np.arcsinh(high / unit), NUM_BINS // 8 + 1)[1:-1]
    even = np.linspace(low, high, NUM_BINS // 8 + 1)
    edges = np.unique(np.concatenate([quantiles, even, unit * np.sinh(warped)]))
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(len(edges) - 2, 0))
    shape = NUM_FOLDS, int(place.max()) + 1
    cell = np.random.default_rng(0).integers(0, NUM_FOLDS, len(x), dtype=np.int32) * shape[1] + place
    weight, sum_y, sum_x = (
        np.asarray(np.bincount(cell, v, shape[0] * shape[1]), dtype=np.float64).reshape(shape)
        for v in (split.w, split.w * (split.y - level), split.w * x)
    )
    used = weight.sum(axis=0) > 0
    mean_x = sum_x.sum(axis=0)[used] / weight.sum(axis=0)[used]
    return _Bins(mean_x, weight[:, used], sum_y[:, used])


def _blend(bins: _Bins) -> FloatArray:
    """Heights at the bins: the mean of the best smoothers.

    Those count whose excess over the best, summed over the folds, is within its standard error.
    """
    found = [h for smoother in (_splines, _monotone, _steps) for h in smoother(bins)]
    errors = np.array([bins.errors(h) for h in found])
    errors = np.where(np.isfinite(errors), errors, np.inf)
    order = np.argsort(errors.sum(axis=1), kind="stable")
    with np.errstate(invalid="ignore"):
        excess = errors - errors[order[0]]
        doubt = np.sqrt(NUM_FOLDS) * excess.std(axis=1, ddof=1)
        close = [i for i in order if excess[i].sum() <= doubt[i]][:MAX_BLENDED]
    return np.mean([found[i][-1] for i in close], axis=0)


def _axes(bins: _Bins) -> Iterator[FloatArray]:
    """Positions of the bins from 0 to 1 in several measures of x."""
    weight = bins.weight.sum(axis=0)
    magnitudes = np.abs(bins.x)
    order = np.argsort(magnitudes)
    below = np.cumsum(weight[order])
    yield _unit(bins.x)
    yield _unit(np.cumsum(weight) - 0.5 * weight)
    for share in _SCALES:
        scale = float(magnitudes[order[np.searchsorted(below, share * below[-1])]])
        yield _unit(np.arcsinh(bins.x / (max(scale, 1e-12 * float(magnitudes.max())) or 1.0)))


def _unit(position: FloatArray) -> FloatArray:
    span = position[-1] - position[0]
    return (position - position[0]) / (span if span > 0 else 1.0)


def _splines(bins: _Bins) -> Iterator[FloatArray]:
    """Linear and cubic splines, their knots even in every axis."""
    for axis in _axes(bins):
        for pieces in PIECES:
            knots = np.interp(np.linspace(0, 1, pieces + 1), axis, bins.x)
            cell = np.clip(np.searchsorted(knots, bins.x, side="right") - 1, 0, pieces - 1)
            width = knots[cell + 1] - knots[cell]
            t = np.clip((bins.x - knots[cell]) / np.where(width > 0, width, 1.0), 0.0, 1.0)
            yield from _least_squares(bins, cell, np.stack([1 - t, t]), pieces, (0.0,))
        cell = np.minimum((axis * CUBIC_PIECES).astype(np.int64), CUBIC_PIECES - 1)
        t = axis * CUBIC_PIECES - cell
        cubic = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t + t**2 - t**3) + 1, t**3]) / 6
        yield from _least_squares(bins, cell, cubic, CUBIC_PIECES, ROUGHNESS)


def _least_squares(
    bins: _Bins, cell: IntArray, basis: FloatArray, pieces: int, roughness: tuple[float, ...]
) -> Iterator[FloatArray]:
    """Fits of sum_a coefficient[cell + a] * basis[a], one for every roughness.

    A basis function meets only its neighbours, so the normal equations are a band: ``band[m, i]`` stands
    for the coefficients i and i + m. A tiny penalty of first differences carries the coefficients on where
    there are no pairs.
    """
    weight, sum_y = bins.training()
    order, size = len(basis), pieces + len(basis) - 1
    band, right = np.zeros((order, size, len(weight))), np.zeros((size, len(weight)))
    for a, first in enumerate(basis):
        right += _by_row(sum_y * first, cell + a, size)
        for b, second in enumerate(basis[a:]):
            band[b] += _by_row(weight * (first * second), cell + a, size)
    unit = weight[-1].sum() / size
    for rough in roughness:
        penalty = _RIDGE * _penalty(size, (1.0, -1.0), order)
        penalty[0] += _TRIFLE * _RIDGE
        if rough:
            penalty += rough * _penalty(size, (1.0, -2.0, 1.0), order)
        solution = _solve_band(band + unit * penalty[..., None], right)
        yield sum((solution[cell + a].T * row for a, row in enumerate(basis)), np.zeros(weight.shape))


def _by_row(values: FloatArray, row: IntArray, size: int) -> FloatArray:
    """Sums over the bins of every row: (parts, bins) to (size, parts)."""
    return np.stack([np.bincount(row, part, size) for part in values], axis=1)


def _penalty(size: int, differences: tuple[float, ...], order: int) -> FloatArray:
    """The upper band, ``order`` diagonals, of the sum of squares of all differences of coefficients."""
    band = np.zeros((order, size))
    num = size - len(differences) + 1
    for a, first in enumerate(differences):
        for m, second in enumerate(differences[a:]):
            band[m, a : a + num] += first * second
    return band


def _solve_band(band: FloatArray, right: FloatArray) -> FloatArray:
    """Solve symmetric positive definite systems given by their upper bands, many at once.

    ``numpy.linalg`` would start threads for such small systems, which is a disaster on busy cores.
    """
    band, solution = band.copy(), right.copy()
    order, size = band.shape[:2]
    for i in range(size):
        for m in range(1, min(order, size - i)):
            factor = band[m, i] / band[0, i]
            band[: order - m, i + m] -= factor * band[m:, i]
            solution[i + m] -= factor * solution[i]
    for i in reversed(range(size)):
        for m in range(1, min(order, size - i)):
            solution[i] -= band[m, i] * solution[i + m]
        solution[i] /= band[0, i]
    return solution


def _monotone(bins: _Bins) -> Iterator[FloatArray]:
    """The best rising and the best falling functions."""
    index = np.arange(len(bins.x))
    for sign in (1.0, -1.0):
        heights = []
        for weight, sum_y in zip(*bins.training(), strict=True):
            used = weight > 0
            rising = _pool(sign * sum_y[used] / weight[used], weight[used])
            heights.append(np.interp(index, index[used], sign * rising))
        yield np.array(heights)


def _pool(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Least squares rising sequence (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []
    for block in zip(values.tolist(), weights.tolist(), itertools.repeat(1)):  # value, weight, length
        blocks.append(block)
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (low, light, short), (high, heavy, long) = blocks.pop(), blocks.pop()
            both = light + heavy
            blocks.append(((low * light + high * heavy) / both, both, short + long))
    return np.repeat([b[0] for b in blocks], [b[2] for b in blocks])


def _steps(bins: _Bins) -> Iterator[FloatArray]:
    """Functions of few values, from the cut that gains most to the one that then gains most, and so on."""
    grown = [_grow(weight, sum_y) for weight, sum_y in zip(*bins.training(), strict=True)]
    for heights in zip(*grown, strict=True):
        yield np.array(heights)


def _grow(weight: FloatArray, sum_y: FloatArray) -> Iterator[FloatArray]:
    """A regression tree's heights whenever it has a number of leaves of ``LEAVES``."""
    weights, sums = (np.concatenate([[0.0], np.cumsum(v)]) for v in (weight, sum_y))
    leaves = [_cut(weights, sums, 0, len(weight))]
    while len(leaves) < LEAVES[-1]:
        _, start, middle, end = leaves.pop(leaves.index(max(leaves)))
        leaves += [_cut(weights, sums, start, middle), _cut(weights, sums, middle, end)]
        if len(leaves) in LEAVES:
            heights = np.zeros(len(weight))
            for _, start, _, end in leaves:
                total = weights[end] - weights[start]
                heights[start:end] = (sums[end] - sums[start]) / total if total > 0 else 0.0
            yield heights


def _cut(weights: FloatArray, sums: FloatArray, start: int, end: int) -> tuple[float, int, int, int]:
    """Gain, start, place and end of the best cut of a leaf; of a leaf of one bin, an empty cut."""
    if end - start < 2:
        return -1.0, start, end, end
    left, left_sum = weights[start + 1 : end] - weights[start], sums[start + 1 : end] - sums[start]
    right, right_sum = weights[end] - weights[start + 1 : end], sums[end] - sums[start + 1 : end]
    both = left * right
    with np.errstate(all="ignore"):
        means_apart = left_sum / left - right_sum / right
        gain = np.where(both > 0, both / (left + right) * means_apart**2, 0.0)
    best = int(np.argmax(gain))
    return float(gain[best]), start, start + 1 + best, end
