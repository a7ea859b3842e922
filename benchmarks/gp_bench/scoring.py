"""The same hardware and the same judge for every engine's formulas."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from benchmarks.gp_bench.sites import OUTPUT, Site
from gp.cost import Pricer, nodes
from gp.fitness import CodeStats, r2
from gp.front import Archive, significant
from gp.lowering import MIN_GAIN, Lowering, Priced
from sw.config import EvolveConfig
from sw.ir.errors import InputError
from sw.ir.expr import Expr, const, evaluate
from sw.ir.formats import FloatArray
from sw.ir.interpret import table
from sw.ir.parse import parse
from sw.ir.refmap import reference_map

DIGITS = EvolveConfig().csd_digits
MAX_FORMULAS = 8
"""Of an engine's front that are scored."""
PATIENCE_S = 10.0
"""CPU time after which a formula is given up: beside a pole the compiler may compute for minutes."""
SMALLEST = 1e-25
"""A constant below is 0; formulas are kept as text, which has no smaller ones."""


class TooSlowError(Exception):
    """A formula took too long to become hardware."""


def _give_up(number: int, frame: object) -> None:
    raise TooSlowError


@dataclass(frozen=True, slots=True)
class Point:
    """A function in hardware."""

    price: float
    r2: float
    """Of the integer map on the held-out pairs, outer scale and offset fitted to the learning pairs."""
    train_r2: float
    kind: str
    expr: str


class Judge:
    """Turns formulas into hardware for one site, and scores it on the site's held-out pairs."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.given_up = 0
        split = site.split
        self._held = CodeStats.of(split.held_x, split.held_y, site.input)
        self._learn = CodeStats.of(split.x, split.y, site.input)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Give up on a formula that cannot be realised, or not within ``PATIENCE_S``; it is counted."""
        signal.signal(signal.SIGVTALRM, _give_up)
        signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE_S)
        try:
            yield
        except (InputError, TooSlowError):
            self.given_up += 1
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def lowering(self) -> Lowering:
        """A fresh one."""
        return Lowering(self.pricer(), self.site.split, csd_digits=DIGITS)

    def pricer(self) -> Pricer:
        return Pricer(self.site.input, OUTPUT, "auto", 0)

    def point(self, priced: Priced) -> Point:
        codes = OUTPUT.to_real(table(priced.realization.program))
        score = self._held.r2(codes, priced.scale, priced.offset)
        return Point(priced.price, score, 1 - priced.error, priced.realization.kind, str(priced.expr))

    def exact(self, found: Iterable[Priced]) -> list[Point]:
        """The front of what a lowering found, each function in its cheapest realisation."""
        rough: Archive[Priced] = Archive()
        for priced in found:
            rough.add(priced.price, priced.error, priced)
        kept = [rough.items[i] for i in significant(rough.points, MIN_GAIN)]
        pricer, front = self.pricer(), Archive[Point]()
        for priced in kept:
            made = pricer.realize(priced.expr)
            codes = OUTPUT.to_real(table(made.program))
            scale, offset = self._learn.fit(codes)
            train = self._learn.r2(codes, scale, offset)
            held = self._held.r2(codes, scale, offset)
            front.add(made.lut6, 1 - train, Point(made.lut6, held, train, made.kind, str(priced.expr)))
        return front.items

    def as_written(self, exprs: Sequence[Expr]) -> list[Point]:
        """Every formula compiled alone and whole, outer affine free; those that cannot be are left out."""
        found = []
        for expr in exprs:
            with self.guarded():
                lowering = self.lowering()
                lowering.offer_whole([expr])
                found += [self.point(p) for p in lowering.front()]
        return found

    def lowered(self, exprs: Sequence[Expr]) -> list[Point]:
        """What the formulas together give: whole ones and those of few cells."""
        lowering = self.lowering()
        for expr in exprs:
            with self.guarded():
                lowering.offer(expr)
        for expr in exprs:
            with self.guarded():
                lowering.offer_whole([expr])
        return [self.point(p) for p in lowering.front()]

    def in_time(self, steps: Sequence[tuple[float, Expr]]) -> list[dict[str, Any]]:
        """``lowered`` after every step: what came on the front, with the step's seconds."""
        lowering, marks, done = self.lowering(), [], 0
        for seconds, expr in steps:
            with self.guarded():
                lowering.offer(expr)
                lowering.offer_whole([expr])
            marks += [mark_json(seconds, self.point(m.priced)) for m in lowering.history[done:]]
            done = len(lowering.history)
        return marks

    def float_r2(self, expr: Expr) -> tuple[float, float]:
        """R^2 of a formula in float64 with the best outer affine: on learning and on held-out pairs.

        Minus infinity where it is not finite on every pair and every input code.
        """
        split, codes = self.site.split, self.site.input.codes()
        with np.errstate(all="ignore"):
            f = _finite(expr, split.x)
            held = _finite(expr, split.held_x)
            if f is None or held is None or _finite(expr, self.site.input.to_real(codes)) is None:
                return -math.inf, -math.inf
            spread = f - f.mean()
            square = float(spread @ spread)
            if not 0 < square < math.inf:
                return -math.inf, -math.inf
            scale = float(spread @ (split.y - split.y.mean())) / square
            offset = float(split.y.mean() - scale * f.mean())
            return r2(split.y, scale * f + offset), r2(split.held_y, scale * held + offset)

    def squared_errors(self, expr: Expr) -> FloatArray:
        """Of a formula's exact integer map on each held-out pair; their mean is 1 - R^2."""
        codes = OUTPUT.to_real(reference_map(expr, self.site.input, OUTPUT))
        scale, offset = self._learn.fit(codes)
        split = self.site.split
        index = self.site.input.quantize(split.held_x) - self.site.input.min_raw
        return (scale * codes[index] + offset - split.held_y) ** 2 / split.held_y.var()


def _finite(expr: Expr, x: FloatArray) -> FloatArray | None:
    value = np.broadcast_to(evaluate(expr, x), x.shape)
    return value if np.all(np.isfinite(value)) else None


def best_formulas(judge: Judge, exprs: Sequence[Expr]) -> list[tuple[Expr, float]]:
    """The formulas that none beats in nodes and learning error at once, with their held-out R^2.

    Of more than ``MAX_FORMULAS`` those are taken that lie evenly on the front, its ends included.
    """
    front: Archive[tuple[Expr, float]] = Archive()
    for expr in dict.fromkeys(exprs):
        train, held = judge.float_r2(expr)
        front.add(nodes(expr), 1 - train, (expr, held))
    items = front.items
    if len(items) > MAX_FORMULAS:
        items = [items[round(i)] for i in np.linspace(0, len(items) - 1, MAX_FORMULAS)]
    return items


def paired(judge: Judge, ours: str, other: str) -> tuple[float, float]:
    """How much higher R^2 of our map is than that of another, and the paired standard error of that."""
    gain = judge.squared_errors(parse(other)) - judge.squared_errors(parse(ours))
    return float(gain.mean()), float(gain.std(ddof=1) / math.sqrt(len(gain)))


def short(expr: Expr) -> Expr:
    """The formula with each constant as the shortest decimal of its double, so that its text can be read."""
    if expr.op == "const":
        value = float(expr.value or 0)
        return const(Fraction(repr(value)) if abs(value) > SMALLEST else Fraction(0))
    return Expr(expr.op, tuple(short(a) for a in expr.args), power=expr.power)


def mark_json(seconds: float, point: Point) -> dict[str, Any]:
    return {"seconds": seconds, **asdict(point)}
