"""Functions of a few cells of x: its code's upper bits, clamped, so that one small table is all there is.

Any curve over 2^n cells costs the same few LUTs (about one an output bit for n <= 6), whatever its formula.
What is lost is the curve's rise within a cell; how much that is, the pairs tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from gp.fitness import CodeStats
from gp.normalise import OutputRange, centre
from gp.rewrite import clamped, is_sound, scaled, snapped, substitute
from sw.ir.expr import Expr, X, clip, const, evaluate, node
from sw.ir.formats import FixedFormat, FloatArray, IntArray
from sw.ir.price import table_lut6

CELL_BITS = (4, 5, 6, 7, 8)
HALVINGS = (0, 1, 2)
"""How often the largest output code is halved: an output bit less is a LUT less."""
DROPS_KEPT = 2
"""Of the cell sizes for one number of cells, so many of the best are turned into formulas."""
DIGITS = 3
"""Signed digits of constants: inside a table they cost nothing, but a formula should be short to read."""
COVERED = 0.9
"""The cells must reach beyond this share of the pairs."""
_FILL_ATTEMPTS = 4
_FREE_BITS = 7
"""A table of so many address bits may, if it is smooth, still cost one LUT an output bit."""
_ROOM = 0.4
"""Of an output step: the largest value may lie so far beyond the largest code and still be rounded to it."""


Hopeful = Callable[[float, float], bool]
"""Whether a function of this price and error would be of use."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A formula with a lower guess at its LUT6 and its error (1 - R^2) on the learning pairs."""

    expr: Expr
    bound: float
    error: float
    kind: str = "auto"
    """The kind of realisation that it is made for, or ``auto``."""
    map: IntArray | None = None
    """Its reference map but for ties, if that is known already."""


@dataclass(slots=True)
class Cells:
    """Turns cores into formulas of a few cells, for the formats and learning pairs of one site."""

    input: FixedFormat
    output: FixedFormat
    stats: CodeStats
    affine: str = "free"
    """What of the outer affine can fold, as in ``CodeStats.fit``."""
    _coarse: dict[int, CodeStats] = field(default_factory=dict)

    def drafts(self, core: Expr, is_hopeful: Hopeful) -> Iterator[Draft]:
        """Formulas that follow a core in 16 to 256 cells, with all output bits or fewer.

        Each one fills its number of output levels. Only those are made whose least price and error are
        hopeful.
        """
        for bits in CELL_BITS:
            if bits > self.input.width:
                return
            tried = [(self._error(core, bits, drop), drop) for drop in self._drops(bits)]
            for error, drop in sorted(tried)[:DROPS_KEPT]:
                for halvings in self._halvings():
                    output_bits = self.output.width - halvings
                    least = self._clamp(bits, drop) + output_bits * max(1.0, 2.0 ** (bits - _FREE_BITS))
                    draft = self._draft(core, bits, drop, halvings) if is_hopeful(least, error) else None
                    if draft is not None:
                        yield draft

    def _halvings(self) -> list[int]:
        """How often the largest code may be halved: while one is left, and not where the affine is fixed."""
        return [h for h in HALVINGS if h == 0 or (self.affine != "none" and self.output.max_raw >> h)]

    def _clamp(self, bits: int, drop: int) -> int:
        """LUTs of a clamp to so many bits at least; none where no upper bit is left to look at."""
        return 0 if bits == self.input.width - drop else bits - 1

    def _drops(self, bits: int) -> range:
        """The numbers of dropped bits for which 2^bits cells hold most pairs, up to all codes."""
        size = np.abs(self.stats.index + self.input.min_raw)
        order = np.argsort(size)
        share = np.cumsum(self.stats.count[order]) / self.stats.count.sum()
        inner = int(size[order][min(len(order) - 1, int(np.searchsorted(share, COVERED)))])
        least = max(0, inner.bit_length() + int(self.input.signed) - bits)
        return range(min(least, self.input.width - bits), self.input.width - bits + 1)

    def _error(self, core: Expr, bits: int, drop: int) -> float:
        """1 - R^2 of the core at the cells' centres, not rounded; infinite where it cannot be used."""
        values = evaluate(core, self._centres(bits, drop))
        return self._loss(values, bits, drop) if np.all(np.isfinite(values)) else np.inf

    def _draft(self, core: Expr, bits: int, drop: int, halvings: int) -> Draft | None:
        full = OutputRange(self.output, halvings)
        centres = self._centres(bits, drop)
        form = self._filled(core, centres, full)
        if form is None:
            return None
        codes = full.codes(evaluate(form, centres))
        inner = _without_level_ends(codes, self.input.signed)
        table = tuple(np.roll(inner, -(len(inner) // 2)).tolist())
        inner_bits = len(inner).bit_length() - 1
        bound = 0.9 * table_lut6(table, inner_bits) + self._clamp(inner_bits, drop)
        error = self._loss(self.output.to_real(codes), bits, drop)
        return Draft(self._in_cells(form, bits, drop), bound, error, "table")

    def _filled(self, core: Expr, centres: FloatArray, full: OutputRange) -> Expr | None:
        """The core scaled and snapped so that its largest value at the centres is the largest code."""
        values = evaluate(core, centres)
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)) or high - low < 1e-9:
            return None
        if self.affine == "none":
            form = clamped(snapped(scaled(core, Fraction(1)), DIGITS, full.step), full.low, full.high)
            return form if is_sound(form) else None
        middle, half = centre(low, high, full, self.affine)
        gain = float(full.reach + Fraction(_ROOM) * full.step) / half
        for _ in range(_FILL_ATTEMPTS):
            offset = full.middle - Fraction(gain) * Fraction(middle) if self.affine == "free" else Fraction(0)
            form = scaled(node("add", scaled(core, Fraction(gain)), const(offset)), Fraction(1))
            form = snapped(form, DIGITS, full.step)
            if not is_sound(form):
                return None
            reached = evaluate(form, centres)
            if full.is_filled(reached):
                return form
            top = float(np.abs(reached - float(full.middle)).max())
            if top <= 0:
                return None
            gain *= float(full.reach) / top
        return None

    def _in_cells(self, form: Expr, bits: int, drop: int) -> Expr:
        """The formula of the centre of x's cell instead of x."""
        power = self.input.frac - drop
        inner = X if power == 0 else node("mul", const(Fraction(2) ** power), X)
        low, high = self._ends(bits)
        cell = node("floor", inner)
        if bits < self.input.width - drop:
            cell = clip(cell, const(low), const(high))
        middle = node("add", cell, const(Fraction(1, 2)))
        per_cell = scaled(substitute(form, node("mul", const(Fraction(2) ** -power), X)), Fraction(1))
        return substitute(per_cell, middle)

    def _ends(self, bits: int) -> tuple[int, int]:
        return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if self.input.signed else (0, (1 << bits) - 1)

    def _centres(self, bits: int, drop: int) -> FloatArray:
        low, high = self._ends(bits)
        return np.ldexp(np.arange(low, high + 1) + 0.5, drop - self.input.frac)

    def _loss(self, values: FloatArray, bits: int, drop: int) -> float:
        """1 - R^2 of one value a cell, after the best outer affine."""
        stats = self._stats(drop)
        low, high = self._ends(bits)
        wide = np.concatenate([
            np.repeat(values[:1], low - (self.input.min_raw >> drop)),
            values,
            np.repeat(values[-1:], (self.input.max_raw >> drop) - high),
        ])  # fmt: skip
        return 1.0 - stats.r2(wide, *stats.fit(wide, self.affine))

    def _stats(self, drop: int) -> CodeStats:
        if drop not in self._coarse:
            self._coarse[drop] = coarser(self.stats, drop)
        return self._coarse[drop]


def coarser(stats: CodeStats, drop: int) -> CodeStats:
    """The same pairs by the codes without their ``drop`` lowest bits."""
    index, place = np.unique(stats.index >> drop, return_inverse=True)
    count, sum_y = (np.asarray(np.bincount(place, of), dtype=np.float64) for of in (stats.count, stats.sum_y))
    return CodeStats(index, count, sum_y, stats.sum_yy)


def _without_level_ends(codes: IntArray, signed: bool) -> IntArray:
    """The map of cells that a clamp to fewer bits leaves, where the outer half of the cells is level."""
    while len(codes) > 4:
        top = len(codes) - len(codes) // (4 if signed else 2)
        bottom = len(codes) // 4 if signed else 0
        if np.ptp(codes[: bottom + 1]) or np.ptp(codes[top - 1 :]):
            break
        codes = codes[bottom:top]
    return codes
