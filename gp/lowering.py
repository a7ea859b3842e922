"""From evolved cores to a front of hardware functions: exact price against error in fixed point."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gp.cells import Cells, Draft
from gp.clamps import clamp_drafts
from gp.cost import Pricer
from gp.exceptions import Exceptions
from gp.fitness import CodeStats, Split, bin_pairs
from gp.front import Archive, Item, significant
from gp.normalise import Normaliser
from gp.rewrite import negated
from sw.ir.errors import InputError
from sw.ir.expr import Expr, const, evaluate, node
from sw.ir.interpret import table
from sw.ir.realize import Realization

MAX_PRICED = 48
"""Functions of a front that are kept."""
MIN_GAIN = 2e-5
"""R^2 that a function must gain over the next cheaper one to be kept."""
EQUAL = 1e-4
"""R^2 that are not told apart when a core's form is chosen for all bits of x."""
HOPEFUL_GAIN = 2e-4
"""R^2 that a function of few cells must promise while a search goes on, when time is short."""
NEAR = 0.8
"""Exceptions are tried beside a function that is on the front at so much of its price."""
GUESS_SHARE = 0.4
"""No map costs less than this share of the guess at its formula's price, but for bare lines."""
HORIZON = 64.0
"""LUTs up to which a front's area is measured: whether it still moves shows there."""


@dataclass(frozen=True, slots=True)
class Priced:
    """A function as hardware has it."""

    expr: Expr
    realization: Realization
    scale: float
    offset: float
    price: float
    error: float
    """1 - R^2 of the integer map on the learning pairs."""
    is_constant: bool
    """At all codes that occur."""


@dataclass(frozen=True, slots=True)
class Mark:
    """When a function came on the front, in seconds since the lowering began."""

    seconds: float
    priced: Priced


class Lowering:
    """The front of realised functions of one site, which grows while a search goes on.

    A core is a formula in x whose outer affine is free. Of each one many functions are drafted (bare
    clamps, a few cells of x, all of x); a cheap bound of the price decides which are realised, and the
    exact price and error of those decide what is on the front.
    """

    def __init__(self, pricer: Pricer, split: Split, *, csd_digits: int, affine: str = "free") -> None:
        input, output = pricer.input, pricer.output
        self._pricer = pricer
        self._digits = csd_digits
        self._affine = affine
        self._output = output
        self._target = bin_pairs(split.x, split.y, split.w, growth_penalty=0.0)
        self._stats = CodeStats.of(split.x, split.y, input, split.w)
        self._reals = input.to_real(input.codes())
        self._cells = Cells(input, output, self._stats, affine)
        self.exceptions = Exceptions.of(self._stats, input)
        self._regular = Cells(input, output, self.exceptions.regular, affine)
        self._regular_front: Archive[None] = Archive()
        self._normaliser = Normaliser(input, output, self._target, affine)
        self._front: Archive[Priced] = Archive()
        self._start = time.monotonic()
        self.history: list[Mark] = []

    def offer_clamps(self) -> None:
        """Try the bare clamps; where scale and offset cannot fold there are none."""
        if self._affine == "free":
            self._admit(clamp_drafts(self._pricer.input, self._output, self._stats), MIN_GAIN)

    def offer(self, core: Expr) -> None:
        """Try a core in a few cells of x."""
        placed = self._placed(core)
        if placed is not None:
            self._admit(self._cells.drafts(placed, self._is_hopeful), HOPEFUL_GAIN)
            if len(self.exceptions.index) and self._affine == "free":
                self._admit(list(self._exceptional(placed)), HOPEFUL_GAIN)

    def offer_whole(self, cores: Iterable[Expr]) -> None:
        """Try cores on all bits of x, with constants of few signed digits.

        Tried are the forms that none beats in guessed price and error, and of every core the cheapest of
        its most accurate ones, since guesses hardly tell which of two cores costs less.
        """
        front: Archive[Draft] = Archive()
        found: list[Draft] = []
        for placed in filter(None, map(self._placed, cores)):
            drafts = [self._whole(form) for form in self._normaliser.forms(placed, self._digits)]
            for draft in drafts:
                front.add(draft.bound, draft.error, draft)
            least = min((d.error for d in drafts), default=0.0)
            near = [d for d in drafts if d.error <= least + EQUAL]
            found += [min(near, key=lambda d: d.bound)] if near else []
        self._admit(dict.fromkeys([*_thinned(front), *found]), MIN_GAIN)

    def _whole(self, form: Expr) -> Draft:
        codes = self._output.to_real(self._output.quantize(evaluate(form, self._reals)))
        error = 1.0 - self._stats.r2(codes, *self._stats.fit(codes, self._affine))
        return Draft(form, GUESS_SHARE * self._pricer.bound(form), error)

    def front(self) -> list[Priced]:
        """The functions that each gain enough over the next cheaper one, in their cheapest realisation.

        In rising price, ``MAX_PRICED`` at most; one that is a constant only where nothing else is there.
        """
        final: Archive[Priced] = Archive()
        for priced in _thinned(self._front):
            try:
                made = self._priced(priced.expr, self._pricer.realize(priced.expr))
            except InputError:
                continue  # only sketched so far, and undefined at some code
            final.add(made.price, made.error, made)
        return [priced for priced in final.items if not priced.is_constant] or final.items

    @property
    def variance(self) -> float:
        """Of y, over the learning pairs."""
        num = float(self._stats.count.sum())
        return self._stats.sum_yy / num - (float(self._stats.sum_y.sum()) / num) ** 2

    @property
    def best_error(self) -> float:
        """The smallest 1 - R^2 so far; 1 where there is nothing yet."""
        return min((error for _, error in self._front.points), default=1.0)

    @property
    def area(self) -> float:
        """Mean error of the front over all prices up to ``HORIZON``; it falls while the front moves."""
        total, error, price = 0.0, 1.0, 0.0
        for next_price, next_error in self._front.points:
            if next_price >= HORIZON:
                break
            total += error * (next_price - price)
            price, error = next_price, next_error
        return (total + error * (HORIZON - price)) / HORIZON

    def _placed(self, core: Expr) -> Expr | None:
        """The core with what of its outer affine cannot fold, else rising; None if it is flat."""
        fit = self._target.fit(evaluate(core, self._target.x))
        if not np.isfinite(fit.loss):
            return None
        if self._affine == "free":
            return negated(core) if fit.scale < 0 else core
        if self._affine == "scale":
            shifted = node("add", core, const(fit.offset / fit.scale))
            return negated(shifted) if self._is_turned(fit.scale) else shifted
        return node("add", node("mul", const(fit.scale), core), const(fit.offset))

    def _is_turned(self, scale: float) -> bool:
        """Whether a core changes its sign: to rise with y, or so that an unsigned output can hold it."""
        mostly_negative = not self._output.signed and float(self._stats.sum_y.sum()) < 0
        return (scale < 0) != mostly_negative

    def _exceptional(self, core: Expr) -> Iterator[Draft]:
        """Functions that follow a core but for exceptions, if it is among the best at the other pairs."""
        for base in self._regular.drafts(core, self._is_near):
            if self._is_near(base.bound, base.error):
                self._regular_front.add(base.bound, base.error, None)
                yield from self.exceptions.drafts(base, self._output)

    def _is_near(self, price: float, error: float) -> bool:
        return self._regular_front.accepts(NEAR * price, error)

    def _is_hopeful(self, price: float, error: float) -> bool:
        return self._pricer.by != "lut6" or self._front.accepts(price, error + HOPEFUL_GAIN / 10)

    def _admit(self, drafts: Iterable[Draft], gain: float) -> None:
        """Realise the drafts that would come on the front at their bound, half of ``gain`` allowed for.

        The most accurate come first.
        """
        by_formula = self._pricer.by != "lut6"
        for draft in sorted(drafts, key=lambda d: (d.error, d.bound)):
            bound = self._pricer.bound(draft.expr) if by_formula else draft.bound
            if not self._front.accepts(bound, draft.error + gain / 2):
                continue
            try:
                self._add(draft.expr, self._realized(draft))
            except InputError:
                continue  # undefined at some code, or a forced kind that cannot do this map

    def _realized(self, draft: Draft) -> Realization:
        if draft.map is None:
            return self._pricer.realize(draft.expr, draft.kind)
        return self._pricer.sketch(draft.expr, draft.map, draft.kind)

    def _add(self, expr: Expr, realization: Realization) -> None:
        priced = self._priced(expr, realization)
        if self._front.add(priced.price, priced.error, priced):
            self.history.append(Mark(time.monotonic() - self._start, priced))

    def _priced(self, expr: Expr, realization: Realization) -> Priced:
        codes = self._output.to_real(table(realization.program))
        scale, offset = self._stats.fit(codes, self._affine)
        error = 1.0 - self._stats.r2(codes, scale, offset)
        price = self._pricer.price(expr, realization)
        is_constant = scale == 0 or bool(np.ptp(codes[self._stats.index]) == 0)
        return Priced(expr, realization, scale, offset, price, error, is_constant)


def _thinned(archive: Archive[Item]) -> list[Item]:
    """The items that gain enough over the next cheaper one; of too many the ends, and evenly between."""
    kept = [archive.items[i] for i in significant(archive.points, MIN_GAIN)]
    if len(kept) <= MAX_PRICED:
        return kept
    return [kept[round(i)] for i in np.linspace(0, len(kept) - 1, MAX_PRICED)]
