"""Single codes of x with an output of their own: what a token gives that is the same in every image.

The class token in front of the first block does not depend on the image, so its values of x come up again
and again, each with one y. No smooth function follows them, and a function of x may have exceptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gp.ceiling import estimate_ceiling
from gp.cells import Draft
from gp.fitness import MIN_PAIRS, CodeStats, Split
from gp.normalise import OutputRange
from sw.ir.expr import Expr, X, const, evaluate, node
from sw.ir.formats import FixedFormat, FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]
NUM_TRIED = (1, 2, 3, 4, 6, 8, 12)
"""So many exceptions, those that gain the most, are tried."""
MIN_SHARE = 5e-4
"""Share of the pairs that a code must have to become an exception."""
MIN_DENSITY = 8.0
"""How many times as many pairs as the codes around it."""
MOST_EXCEPTIONAL = 0.5
"""Share of the pairs that exceptions may take."""
_AROUND = 16
MIN_AROUND = 4
"""Pairs around a code; where there are none, cells follow it as well."""
MIN_GAIN = 2e-4
"""R^2 that an exception must gain."""
LUTS_EACH, LUTS_ONCE = 2.8, 4.0
"""What exceptions cost at least."""


@dataclass(frozen=True, slots=True)
class Exceptions:
    """The exceptional codes of a site, those that gain the most first.

    ``index`` counts from 0 = the most negative code; ``mean_y`` belongs to it.
    """

    input: FixedFormat
    index: IntArray
    mean_y: FloatArray
    all: CodeStats
    regular: CodeStats
    """The pairs without them."""

    @classmethod
    def of(cls, stats: CodeStats, input: FixedFormat) -> Exceptions:
        """Codes that come up far more often than those around them, and whose y is not that of those."""
        num = 1 << input.width
        count, sum_y = np.zeros(num), np.zeros(num)
        count[stats.index], sum_y[stats.index] = stats.count, stats.sum_y
        around_count, around_y = (_moving_sum(v) - v for v in (count, sum_y))
        often = _is_frequent(count, around_count)
        mean_y = sum_y / np.maximum(count, 1)
        usual = around_y / np.maximum(around_count, 1)
        variance = stats.sum_yy / count.sum() - (sum_y.sum() / count.sum()) ** 2
        gain = count / count.sum() * (mean_y - usual) ** 2 / variance
        found = np.flatnonzero(often & (around_count >= MIN_AROUND) & (gain > MIN_GAIN))
        found = found[np.argsort(-gain[found], kind="stable")][: max(NUM_TRIED)]
        if np.sum(count[found]) > MOST_EXCEPTIONAL * count.sum():
            found = found[:0]  # where few values are all there are, none is an exception
        return cls(input, found, mean_y[found], stats, without(stats, found))

    def is_regular(self, x: FloatArray) -> BoolArray:
        """Which values have none of the exceptional codes."""
        return ~np.isin(self.input.quantize(x) - self.input.min_raw, self.index)

    def drafts(self, base: Draft, output: FixedFormat) -> Iterator[Draft]:
        """A function of the regular pairs with one exception, two, and so on."""
        codes = output.quantize(evaluate(base.expr, self.input.to_real(self.input.codes())))
        scale, offset = self.regular.fit(output.to_real(codes))
        if scale == 0:
            return
        wanted = OutputRange(output).codes((self.mean_y - offset) / scale)
        for num in (n for n in NUM_TRIED if n <= len(self.index)):
            index = self.index[:num]
            expr = base.expr
            for at, height in zip(index.tolist(), (wanted[:num] - codes[index]).tolist(), strict=True):
                if height:
                    expr = _with_exception(expr, self.input, at + self.input.min_raw, height, output)
            values = codes.copy()
            values[index] = wanted[:num]
            real = output.to_real(values)
            error = 1.0 - self.all.r2(real, *self.all.fit(real))
            yield Draft(expr, base.bound + LUTS_ONCE + LUTS_EACH * num, error, "exceptions", values)


def ceiling_beside(split: Split, input: FixedFormat) -> float:
    """The ceiling of functions that may have an exception wherever a code comes up that often.

    The other pairs have the ceiling of ``gp.ceiling``; at the frequent codes the mean of their y is all that
    a function can say. R^2 of the held-out pairs.
    """
    stats = CodeStats.of(split.x, split.y, input, split.w)
    count, sum_y = np.zeros(1 << input.width), np.zeros(1 << input.width)
    count[stats.index], sum_y[stats.index] = stats.count, stats.sum_y
    frequent = _is_frequent(count, _moving_sum(count) - count)
    code, held_code = (input.quantize(x) - input.min_raw for x in (split.x, split.held_x))
    rest, held_rest = ~frequent[code], ~frequent[held_code]
    if rest.all() or min(rest.sum(), held_rest.sum()) < MIN_PAIRS or np.ptp(split.y[rest]) == 0:
        return estimate_ceiling(split)
    regular = Split(
        split.x[rest],
        split.y[rest],
        split.held_x[held_rest],
        split.held_y[held_rest],
        split.w[rest],
        split.held_w[held_rest],
    )
    predicted = sum_y[held_code] / np.maximum(count[held_code], 1e-300)
    error = np.where(held_rest, 0.0, split.held_w * (split.held_y - predicted) ** 2).sum()
    error += (1.0 - estimate_ceiling(regular)) * _spread(regular.held_y, regular.held_w)
    total = _spread(split.held_y, split.held_w)
    return 1.0 - float(error) / total if total > 0 else 0.0


def _spread(y: FloatArray, w: FloatArray) -> float:
    return float(np.sum(w * (y - np.sum(w * y) / w.sum()) ** 2))


def _is_frequent(count: FloatArray, around: FloatArray) -> BoolArray:
    """Codes with far more of the pairs than those around them."""
    frequent: BoolArray = count > np.maximum(MIN_SHARE * count.sum(), MIN_DENSITY * around / (2 * _AROUND))
    return frequent


def without(stats: CodeStats, index: IntArray) -> CodeStats:
    """The pairs of all other codes."""
    kept = ~np.isin(stats.index, index)
    gone = ~kept
    # A code's own sum of squares is not known; of exceptions y hardly varies.
    squares = float(np.sum(stats.sum_y[gone] ** 2 / stats.count[gone]))
    return CodeStats(stats.index[kept], stats.count[kept], stats.sum_y[kept], stats.sum_yy - squares)


def count_exceptions(expr: Expr, input: FixedFormat) -> int:
    """How many exceptions a formula of ``Exceptions.drafts`` has."""
    raw = _raw(input)
    return sum(part.op == "abs" and raw in (part.args[0], *part.args[0].args) for part in expr.walk())


def _raw(input: FixedFormat) -> Expr:
    """The code of x, as a formula."""
    scaled = node("mul", const(2.0**input.frac), X) if input.frac else X
    return node("floor", node("add", scaled, const("0.5")))


def _with_exception(expr: Expr, input: FixedFormat, code: int, height: int, output: FixedFormat) -> Expr:
    """The formula plus ``height`` output steps where x's code is ``code``."""
    raw = _raw(input)
    distance = node("abs", node("sub", raw, const(code)) if code >= 0 else node("add", raw, const(-code)))
    spike = node("relu", node("sub", const(1), distance))
    size = node("mul", const(abs(height) * 2.0**-output.frac), spike)
    return node("add" if height >= 0 else "sub", expr, size)


def _moving_sum(values: FloatArray) -> FloatArray:
    """Sums over the entries at most ``_AROUND`` away."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    return total[np.minimum(at + _AROUND + 1, len(values))] - total[np.maximum(at - _AROUND, 0)]
