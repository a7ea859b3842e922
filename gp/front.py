"""Pareto fronts of error against price, and which of their points to take."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Generic, TypeVar

from sw.config.checks import CHOICES
from sw.ir.errors import InputError

Item = TypeVar("Item")
Point = tuple[float, float]
"""(price, error); both are better the smaller they are."""

MIN_DIFFERENCE = 5e-4
"""Of functions whose R^2 differs by less, the dearer ones do not count when a knee is looked for."""
TOLERANCE = 1e-3
"""R^2 that is given up for LUTs: the cheapest function so close to the knee is taken instead of it."""


class Archive(Generic[Item]):
    """The items that no other item beats in price and error at once; of equals the first stays."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._items: list[Item] = []

    def __len__(self) -> int:
        return len(self._items)

    @property
    def points(self) -> list[Point]:
        """(price, error) in rising price and falling error."""
        return list(self._points)

    @property
    def items(self) -> list[Item]:
        """The items in the order of ``points``."""
        return list(self._items)

    def accepts(self, price: float, error: float) -> bool:
        """Whether a new item at this point would stay."""
        if not (math.isfinite(price) and math.isfinite(error)):
            return False
        at = bisect.bisect_right(self._points, (price, math.inf))
        return at == 0 or self._points[at - 1][1] > error

    def add(self, price: float, error: float, item: Item) -> bool:
        """Keep the item if nothing beats it, and drop what it beats; say whether it stays."""
        if not self.accepts(price, error):
            return False
        at = bisect.bisect_left(self._points, (price, -math.inf))
        end = at
        while end < len(self._points) and self._points[end][1] >= error:
            end += 1
        self._points[at:end] = [(price, error)]
        self._items[at:end] = [item]
        return True


def ranks(points: Sequence[Point]) -> list[int]:
    """The non-dominated sorting rank of each point, 0 = the front; a repeated point ranks one lower.

    In two objectives a point's rank is found by bisection over the fronts so far (Jensen 2003).
    """
    result = [0] * len(points)
    lowest: list[float] = []  # the smallest error of each front so far, rising with the rank
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        error = points[index][1]
        rank = bisect.bisect_right(lowest, error)
        result[index] = rank
        lowest[rank : rank + 1] = [error]
    return result


def knee(points: Sequence[Point]) -> int:
    """The index of the point farthest below the chord between the cheapest and the most accurate one.

    This is the "kneedle" rule of the second version of arXiv 2605.14047: the best error of each price,
    strictly improving, both axes scaled to [0, 1]; with at most two such points the most accurate one. The
    published rule takes the farthest point on either side; above the chord lie bad bargains, so where no
    point is below, the most accurate one is taken as well.

    >>> knee([(0, 1), (1, 0.2), (10, 0)])
    1
    """
    kept: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        if not kept or points[index][1] < points[kept[-1]][1]:
            kept.append(index)
    if len(kept) <= 2:
        return kept[-1]
    (first_price, first_error), (last_price, last_error) = points[kept[0]], points[kept[-1]]
    distances = [
        1.0
        - (points[i][0] - first_price) / (last_price - first_price)
        - (points[i][1] - last_error) / (first_error - last_error)
        for i in kept[1:]
    ]
    return kept[1 + max(range(len(distances)), key=distances.__getitem__)]


def significant(points: Sequence[Point], min_gain: float) -> list[int]:
    """The indices of a front's points that each gain at least ``min_gain`` over the next cheaper one kept."""
    kept: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        if not kept or points[index][1] <= points[kept[-1]][1] - min_gain:
            kept.append(index)
    return kept


def choose(
    points: Sequence[Point],
    rule: str,
    *,
    budget: float = math.inf,
    shares: Sequence[float] = (),
    ratio: float = 1.0,
) -> int:
    """The index of the point that a rule takes.

    ``knee``: the cheapest that is within ``TOLERANCE`` of the front's knee; ``best``: the most accurate;
    ``cheapest``; ``budget``: the most accurate whose price is at most ``budget``; ``ratio``: the cheapest
    whose share of the ceiling, in ``shares``, is at least ``ratio``, or the one with the largest share.

    Raises:
        InputError: There is no such rule, or nothing within the budget.
    """
    indices = range(len(points))
    if rule == "knee":
        return _near_knee(points)
    if rule == "best":
        return min(indices, key=lambda i: (points[i][1], points[i][0]))
    if rule == "cheapest":
        return min(indices, key=lambda i: points[i])
    if rule == "budget":
        affordable = [i for i in indices if points[i][0] <= budget]
        if not affordable:
            raise InputError(f"price budget must be at least {min(points)[0]:g}, not {budget:g}")
        return min(affordable, key=lambda i: (points[i][1], points[i][0]))
    if rule == "ratio":
        enough = [i for i in indices if shares[i] >= ratio]
        return min(enough, key=lambda i: points[i]) if enough else max(indices, key=lambda i: shares[i])
    known = ", ".join(CHOICES["evolve.choose"])
    raise InputError(f"choice from a front must be one of {known}, not {rule!r}")


def _near_knee(points: Sequence[Point]) -> int:
    different = significant(points, MIN_DIFFERENCE)
    chosen = different[knee([points[i] for i in different])]
    good_enough = [i for i, (_, error) in enumerate(points) if error <= points[chosen][1] + TOLERANCE]
    return min(good_enough, key=lambda i: points[i])
