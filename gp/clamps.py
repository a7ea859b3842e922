"""Bare clamps, the cheapest functions there are: some lowest bits dropped, the rest saturated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from gp.cells import Draft, coarser
from gp.fitness import CodeStats
from gp.normalise import truncating
from sw.ir.expr import Expr, X, clip, const, node
from sw.ir.formats import FixedFormat, IntArray

SHARES = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
"""Limits are first looked for at these quantiles of |x|."""
MIN_LIMIT = 7
"""Clamps to fewer than about 15 output codes are not tried."""


def clamp_drafts(input: FixedFormat, output: FixedFormat, stats: CodeStats) -> Iterator[Draft]:
    """For every number of dropped bits the clamp that fits best, and those whose limits are powers of two.

    The outer scale and offset must be free, so that a clamp need neither fill the output nor be centred.
    """
    for drop in range(input.width - 1):
        coarse = coarser(stats, drop)
        codes = coarse.index + (input.min_raw >> drop)
        bits = range(MIN_LIMIT.bit_length(), output.width - int(output.signed) + 1)
        powers = [(-(1 << b) if output.signed else 0, (1 << b) - 1) for b in bits]
        for low, high in dict.fromkeys([*_best_limits(codes, coarse, output), *powers]):
            form = _form(input, output, drop, low, high)
            bound = _bound(codes, low, min(high, input.max_raw >> drop))
            yield Draft(form, bound, _loss(codes, coarse, low, high), "requant")


def _best_limits(codes: IntArray, stats: CodeStats, output: FixedFormat) -> list[tuple[int, int]]:
    """The limits within the output's codes that fit best: from symmetric quantiles, then both by steps.

    None where the codes hardly differ.
    """
    size = np.abs(codes)
    order = np.argsort(size)
    share = np.cumsum(stats.count[order]) / stats.count.sum()
    last = len(order) - 1
    quantiles = {int(size[order[min(last, int(np.searchsorted(share, s)))]]) for s in SHARES}
    starts = sorted({min(s, output.max_raw) for s in quantiles if s >= MIN_LIMIT})
    if not starts:
        return []

    def loss(ends: tuple[int, int]) -> float:
        return _loss(codes, stats, *ends)

    best = min((((-s if output.signed else 0), s) for s in starts), key=loss)
    step = max(1, best[1] // 4)
    while step:
        nearest = min([best, *_neighbours(best, step, output)], key=loss)
        if nearest == best:
            step //= 2
        best = nearest
    return [best]


def _neighbours(ends: tuple[int, int], step: int, output: FixedFormat) -> list[tuple[int, int]]:
    """The limits a step away that are a clamp within the output; an unsigned one starts at 0."""
    moves = itertools.product((-step, 0, step) if output.signed else (0,), (-step, 0, step))
    moved = [(ends[0] + low, ends[1] + high) for low, high in moves if low or high]
    least, most = (output.min_raw, -1) if output.signed else (0, 0)
    return [(low, high) for low, high in moved if least <= low <= most and 0 < high <= output.max_raw]


def _bound(codes: IntArray, low: int, high: int) -> float:
    """LUTs of a clamp at least: a multiplexer a bit, and more if its limits are no powers of two."""
    if low <= codes[0] and codes[-1] <= high:
        return 0.0
    is_power = high & (high + 1) == 0 and low in (0, ~high)
    width = max(high.bit_length(), (-low - 1).bit_length()) + int(low < 0)
    return width + (0.0 if is_power else 1.0)


def _loss(codes: IntArray, stats: CodeStats, low: int, high: int) -> float:
    values = np.zeros(int(stats.index[-1]) + 1)
    values[stats.index] = np.clip(codes, low, high)
    return 1.0 - stats.r2(values, *stats.fit(values))


def _form(input: FixedFormat, output: FixedFormat, drop: int, low: int, high: int) -> Expr:
    step = Fraction(2) ** -output.frac
    slope = Fraction(2) ** (input.frac - output.frac - drop)
    line = X if slope == 1 else node("mul", const(slope), X)
    form = clip(line, const(low * step), const(high * step))
    return truncating(form, input, step) or form
