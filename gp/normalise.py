"""From an evolved core to what hardware computes: scaled to the output format, clamped, short constants."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gp.fitness import Target
from gp.grid import snap
from gp.rewrite import Move, clamped, constants_of, is_sound, moved, negated, scaled, snapped
from sw.ir.expr import Expr, X, clip, const, evaluate, node
from sw.ir.formats import MAX_WIDTH, FixedFormat, FloatArray, IntArray

SATURATION_STEPS = 24
"""How many gains are tried beyond the one that uses the output range without saturating."""
STEPS_PER_OCTAVE = 4
CENTRED = 0.125
"""A core whose middle is farther than this share of its half range from zero is centred first."""
NUDGES = (0.03, 0.1, 0.25)
CLIMB_ROUNDS = 2
MIN_GAIN = 1e-5
"""Share of the loss that a moved constant must gain."""
FILL_ATTEMPTS = 6


def input_exponent(x: FloatArray) -> int:
    """The power of two nearest to the mean |x|: the unit in which the search sees x."""
    return round(math.log2(float(np.mean(np.abs(x))) or 1.0))


@dataclass(frozen=True, slots=True)
class OutputRange:
    """The real values of an output format that a function uses: all of it but -2^(w-1), or a half of that."""

    output: FixedFormat
    halvings: int = 0
    """How often the largest code is halved."""

    @property
    def step(self) -> Fraction:
        return Fraction(2) ** -self.output.frac

    @property
    def low(self) -> Fraction:
        return -self.high if self.output.signed else Fraction(0)

    @property
    def high(self) -> Fraction:
        return (self.output.max_raw >> self.halvings) * self.step

    @property
    def middle(self) -> Fraction:
        return (self.low + self.high) / 2

    @property
    def reach(self) -> Fraction:
        """Half the range."""
        return (self.high - self.low) / 2

    def round(self, values: FloatArray) -> FloatArray:
        """Values as the output format holds them, saturated in this range."""
        return self.output.to_real(self.codes(values))

    def codes(self, values: FloatArray) -> IntArray:
        """The output codes of values, saturated in this range."""
        low, high = int(self.low / self.step), int(self.high / self.step)
        return np.clip(self.output.quantize(values), low, high)

    def holds(self, values: FloatArray) -> bool:
        """Whether values, rounded to steps, never leave the range."""
        lowest, highest = self._extent(values)
        return lowest >= self.low and highest <= self.high

    def is_filled(self, values: FloatArray) -> bool:
        """Whether values, rounded to steps, never leave the range and reach an end of it."""
        lowest, highest = self._extent(values)
        return self.holds(values) and (lowest == self.low or highest == self.high)

    def _extent(self, values: FloatArray) -> tuple[float, float]:
        """The smallest and the largest value, rounded to steps, in a format wide enough not to saturate."""
        wide = FixedFormat(MAX_WIDTH, self.output.frac)
        lowest, highest = wide.to_real(wide.quantize([values.min(), values.max()]))
        return float(lowest), float(highest)


def centre(low: float, high: float, full: OutputRange, affine: str = "free") -> tuple[float, float]:
    """What to subtract from a function of this range, and how far it then reaches.

    Where the output is symmetric and the function nearly so, nothing is subtracted; nor is it where the
    offset cannot fold.
    """
    is_odd = full.middle == 0
    middle, half = (high + low) / 2, (high - low) / 2
    if affine != "free":
        return 0.0, max(high, -low)
    return (0.0, max(high, -low)) if is_odd and abs(middle) <= CENTRED * half else (middle, half)


class Normaliser:
    """Finds what hardware could compute in the place of evolved cores, for one site's formats and pairs."""

    def __init__(self, input: FixedFormat, output: FixedFormat, target: Target, affine: str = "free") -> None:
        """``target`` holds the binned pairs of x itself; ``affine`` as in ``CodeStats.fit``."""
        self.range = OutputRange(output)
        self.affine = affine
        self.target = target
        self._input = input
        self._x = input.to_real(input.codes())

    def forms(self, core: Expr, max_digits: int) -> Iterator[Expr]:
        """One formula f(x) for each number of signed digits, 1 to ``max_digits``; some may be missing.

        Each f is affine in the core but for saturation. Where the affine is free, its largest |f| over the
        input format rounds to the largest output code. It never leaves the output range; its factors have
        at most so many digits, and its constants are where f fits best.
        """
        inner = scaled(core, Fraction(1))
        if self.target.fit(evaluate(inner, self.target.x)).scale < 0:
            inner = negated(inner)
        values = evaluate(inner, self._x)
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)) or high - low < 1e-9:
            return
        middle, half = centre(low, high, self.range, self.affine)
        gain = 1.0 if self.affine == "none" else self._best_gain(inner, middle, half)
        for digits in range(1, max_digits + 1):
            form = self._filled(inner, middle, gain, digits)
            if form is not None:
                form = self._climbed(form, digits)
                form = self._without_idle_clamp(form)
                shifted = truncating(form, self._input, self.range.step) if self.affine == "free" else None
                yield shifted or form

    def _best_gain(self, inner: Expr, middle: float, half: float) -> float:
        """The gain from core to output, from no saturation upwards, after which the core fits best."""
        values = evaluate(inner, self.target.x) - middle
        least = float(self.range.reach) / half
        best_gain, best_loss = least, math.inf
        for index in range(SATURATION_STEPS + 1):
            gain = least * 2.0 ** (index / STEPS_PER_OCTAVE)
            loss = self.target.fit(self.range.round(gain * values + float(self.range.middle))).loss
            if loss < best_loss * (1 - 1e-4):
                best_gain, best_loss = gain, loss
        return best_gain

    def _filled(self, inner: Expr, middle: float, gain: float, digits: int) -> Expr | None:
        """The snapped, clamped formula; the gain grows until what is snapped uses the whole range."""
        full = self.range
        for _ in range(FILL_ATTEMPTS):
            form = scaled(inner, Fraction(gain))
            offset = full.middle - Fraction(gain) * Fraction(middle) if self.affine == "free" else 0
            if offset:
                form = scaled(node("add", form, const(offset)), Fraction(1))
            form = snapped(form, digits, full.step)
            if not is_sound(form):
                return None
            form = clamped(form, full.low, full.high)
            if self._fills(form):
                return form
            top = float(np.abs(evaluate(form, self._x) - float(full.middle)).max())
            if top <= 0:
                return None
            gain *= max(float(full.reach) / top, 1.01)
        return None

    def _climbed(self, form: Expr, digits: int) -> Expr:
        """Move one constant at a time to a neighbour of as many digits while that improves the fit."""
        best = self._loss(form)
        for _ in range(CLIMB_ROUNDS):
            start = best
            for index in range(len(constants_of(form))):
                for trial in self._neighbours(form, index, digits):
                    loss = self._loss(trial)
                    if loss < best * (1 - MIN_GAIN) and is_sound(trial) and self._fills(trial):
                        form, best = trial, loss
                        break
            if best == start:
                break
        return form

    def _without_idle_clamp(self, form: Expr) -> Expr:
        """The formula without its outermost clip, if what is inside never leaves the range."""
        return form.args[0] if form.op == "clip" and self._fills(form.args[0]) else form

    def _fills(self, form: Expr) -> bool:
        values = evaluate(form, self._x)
        return self.range.holds(values) if self.affine == "none" else self.range.is_filled(values)

    def _loss(self, form: Expr) -> float:
        values = self.range.round(evaluate(form, self.target.x))
        if self.affine == "free":
            return self.target.fit(values).loss
        scale = 1.0
        if self.affine == "scale":
            square = float(self.target.weight @ values**2)
            scale = float(self.target.weight @ (values * self.target.y)) / square if square > 0 else 0.0
        return float(self.target.weight @ (scale * values - self.target.y) ** 2)

    def _neighbours(self, form: Expr, index: int, digits: int) -> Iterator[Expr]:
        """The formula with its constant number ``index`` moved; the ends of the output range stay."""
        found = constants_of(form)
        if index >= len(found):
            return
        role, value = found[index]
        if role == "limit" and value in (self.range.low, self.range.high):
            return
        for nudge in (sign * size for size in NUDGES for sign in (1, -1)):
            new = value * Fraction(1 + nudge)
            step = self.range.step
            new = snap(new, digits) if role == "factor" else round(new / step) * step
            if new not in (value, 0):
                yield moved(form, _replacing(index, new))


def truncating(form: Expr, input: FixedFormat, step: Fraction) -> Expr | None:
    """``clip(c*x)`` shifted by nearly half an output step, so that its rounding is a truncation.

    The outer offset is free, so the shift costs no accuracy, but hardware then drops bits where it would
    round half to even. The shift is the shortest decimal that no code's fraction reaches. None where the
    formula is not of this form, or has nothing to round.
    """
    if form.op != "clip" or form.args[0].op not in ("x", "mul"):
        return None
    line = form.args[0]
    slope = Fraction(1) if line.op == "x" else line.args[0].value
    if slope is None or line not in (X, node("mul", const(slope), X)):
        return None
    grain = Fraction(1, (slope * Fraction(2) ** -input.frac / step).denominator)
    if grain == 1:
        return None
    shift = _shortest_decimal((Fraction(1, 2) - grain) * step, step / 2)
    return clip(node("sub", line, const(shift)), *form.args[1:])


def _shortest_decimal(low: Fraction, high: Fraction) -> Fraction:
    """The largest of the shortest decimals strictly between two positive numbers."""
    for digits in itertools.count():
        units = math.ceil(high * 10**digits) - 1
        if low * 10**digits < units:
            return Fraction(units, 10**digits)
    raise AssertionError("there is a decimal between any two numbers")


def _replacing(index: int, new: Fraction) -> Move:
    count = itertools.count()
    return lambda role, value: new if next(count) == index else value
