"""Numbers from points: what a front is worth, when it got there, and what is usual over seeds and sites."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gp_bench.scoring import Point

RATIOS = (0.98, 0.99, 0.995)
TIME_RATIO = 0.99
"""Share of the ceiling whose time is taken."""
ROUND_TO = 1e-4
"""R^2 that are not told apart when a baseline's cheapest best hardware is looked for."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What a front is worth at a site, as shares of the site's ceiling; a price is infinite where none is."""

    ratio: float
    """Of the function that is best on the learning pairs, as it does on the held-out ones."""
    lut6: float
    """Its price."""
    gap: float
    """0 is the line, 1 the ceiling."""
    prices: tuple[float, ...]
    """The cheapest functions that reach ``RATIOS``."""


@dataclass(frozen=True, slots=True)
class Mean:
    """``Worth`` over sites."""

    ratio: float
    worst: float
    worst_site: str
    lut6: float
    gap: float
    prices: tuple[float, ...]
    """Of the sites that get there; not a number where none does."""
    reached: tuple[int, ...]
    """How many do."""
    num_sites: int


def to_points(body: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Points from JSON."""
    return [Point(**{key: value for key, value in entry.items() if key != "seconds"}) for entry in body]


def best(points: Sequence[Point]) -> Point:
    """The best on the learning pairs; of equals the cheapest."""
    return max(points, key=lambda p: (p.train_r2, -p.price))


def cheapest(points: Iterable[Point], r2: float) -> float:
    """The price of the cheapest function that reaches this R^2 on the held-out pairs."""
    return min((p.price for p in points if p.r2 >= r2), default=math.inf)


def worth(points: Sequence[Point], ceiling: float, line: float) -> Worth:
    """What a front is worth; nothing where it is empty."""
    if not points:
        return Worth(0.0, math.inf, -math.inf, (math.inf,) * len(RATIOS))
    top = best(points)
    prices = tuple(cheapest(points, ratio * ceiling) for ratio in RATIOS)
    return Worth(top.r2 / ceiling, top.price, (top.r2 - line) / (ceiling - line), prices)


def median(found: Sequence[Worth]) -> Worth:
    """The usual one of several seeds, number by number."""
    columns = zip(*(w.prices for w in found), strict=True)
    return Worth(
        statistics.median(w.ratio for w in found),
        statistics.median(w.lut6 for w in found),
        statistics.median(w.gap for w in found),
        tuple(statistics.median(column) for column in columns),
    )


def over_sites(by_site: Mapping[str, Worth]) -> Mean:
    """Means, and the worst site."""
    found = list(by_site.values())
    worst = min(by_site, key=lambda site: by_site[site].ratio)
    columns = [[p for p in column if p < math.inf] for column in zip(*(w.prices for w in found), strict=True)]
    return Mean(
        statistics.fmean(w.ratio for w in found),
        by_site[worst].ratio,
        worst,
        statistics.fmean(w.lut6 for w in found),
        statistics.fmean(w.gap for w in found),
        tuple(statistics.fmean(column) if column else math.nan for column in columns),
        tuple(len(column) for column in columns),
        len(found),
    )


def opponents(points: Sequence[Point], others: Sequence[Point]) -> tuple[Point | None, Point]:
    """A baseline's cheapest hardware of its best R^2, and our best function at no higher price.

    Both are chosen on the learning pairs.
    """
    top = max(p.train_r2 for p in others)
    other = min((p for p in others if p.train_r2 >= top - ROUND_TO), key=lambda p: p.price)
    affordable = [p for p in points if p.price <= other.price]
    return (best(affordable) if affordable else None), other


def first_time(
    marks: Iterable[Mapping[str, Any]], r2: float, limit: float, price: float = math.inf
) -> tuple[float, float] | None:
    """Seconds and price of the first mark that reaches an R^2 for at most a price; None if not in time."""
    for mark in sorted(marks, key=lambda m: m["seconds"]):
        if mark["seconds"] <= limit and mark["r2"] >= r2 and mark["price"] <= price:
            return mark["seconds"], mark["price"]
    return None


@dataclass(frozen=True, slots=True)
class Race:
    """Seconds to a share of the ceiling at the same price; None: not within the time."""

    price: float
    ours: float | None
    other: float | None

    def factor(self, limit: float) -> float | None:
        """How many times longer the other took; where it never arrived, the limit is its time."""
        if self.ours is None and self.other is None:
            return None
        own = limit if self.ours is None else self.ours
        other = limit if self.other is None else self.other
        return other / max(own, 1e-3)


def race(
    ours: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], r2: float, limit: float
) -> dict[str, Race]:
    """Two races: at the price that we have when we first get there, and at our last price.

    Where we never get there, the other may at any price.
    """
    races = {}
    for name, price in (
        ("first", first_time(ours, r2, limit)),
        ("last", _last(ours, r2, limit)),
    ):
        most = math.inf if price is None else price[1]
        theirs = first_time(other, r2, limit, most)
        races[name] = Race(most, price and price[0], theirs and theirs[0])
    return races


def _last(marks: Sequence[Mapping[str, Any]], r2: float, limit: float) -> tuple[float, float] | None:
    least = min((m["price"] for m in marks if m["seconds"] <= limit and m["r2"] >= r2), default=math.inf)
    return first_time(marks, r2, limit, least)
