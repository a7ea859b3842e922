"""A row's radicand and its reciprocal square root, as a pipeline: the fast variant's."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layernorm.pieces import delayed, held, multiples, root_entry, root_of
from hw.layernorm.shapes import Shapes

_SQUARE_CYCLES = 2
"""Partial products, their sum."""
_ROOT_CYCLES = 3
"""Table, product, difference."""
_LEVELS = 2
"""Levels of the normalising shifter between two registers."""


def solver_cycles(shapes: Shapes) -> int:
    """Cycles from sums to root."""
    return _radicand_cycles(shapes) + -(-shapes.shift.width // _LEVELS) + _ROOT_CYCLES


def _radicand_cycles(shapes: Shapes) -> int:
    if shapes.norm.rms:
        return 1
    return max(_SQUARE_CYCLES, len(_terms(shapes, C(0))) - 1) + 1


def _terms(shapes: Shapes, squares: Value) -> list[tuple[int, Value]]:
    """Signed terms of N Q, and E if there is one."""
    eps_raw = shapes.norm.eps_raw
    return multiples(squares, shapes.norm.channels) + ([(1, C(eps_raw))] if eps_raw else [])


class Solver(wiring.Component):
    """Latency ``solver_cycles(shapes)`` cycles; accepts a row in each.

    LayerNorm's S^2 is put together from three products of halves of S, so that no multiplication is
    wider than a DSP; N Q + E is a shift-and-add, one addition a cycle.

    Members:
        start: Sums of a row are there.
        sum, squares: The sums.
        done: The row's numbers are there.
        shift: Pairs of zeros that its radicand begins with.
        root: Its reciprocal square root.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        super().__init__(
            {
                **{"start": In(1), "sum": In(shapes.sum), "squares": In(shapes.squares)},
                **{"done": Out(1), "shift": Out(shapes.shift), "root": Out(shapes.root)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid: Value = self.start
        for cycle in range(1, solver_cycles(self.shapes) + 1):
            valid_reg = Signal(name=f"valid_q{cycle}")
            m.d.sync += valid_reg.eq(valid)
            valid = valid_reg
        m.d.comb += self.done.eq(valid)
        normalised, shift = self._normalise(m, self._radicand(m))
        root = self.shapes.norm.root
        offset, slope, rest = (
            held(m, value, name)
            for value, name in zip(root_entry(m, root, normalised), ("offset", "slope", "rest"), strict=True)
        )
        product = held(m, slope * rest, "product")
        result = root_of(root, delayed(m, offset, 1, "offset"), product)
        m.d.comb += [
            self.root.eq(held(m, result, "root_reg")),
            self.shift.eq(delayed(m, shift, _ROOT_CYCLES, "shift")),
        ]
        return m

    def _radicand(self, m: Module) -> Value:
        """N Q - S^2 + E, or Q + E, in a register."""
        radicand = Signal(self.shapes.radicand)
        if self.shapes.norm.rms:
            m.d.comb += radicand.eq(self.squares + C(self.shapes.norm.eps_raw))
            return held(m, radicand, "radicand_reg")
        at = _radicand_cycles(self.shapes) - 1
        square = delayed(m, self._square(m), at - _SQUARE_CYCLES, "square")
        m.d.comb += radicand.eq(self._weighted(m, at) - square)
        return held(m, radicand, "radicand_reg")

    def _weighted(self, m: Module, cycles: int) -> Value:
        """N Q + E after some cycles: the first two terms in the first, then one more in each.

        The squares of the next row may come a cycle after these, so they move along.
        """
        squares: Value = self.squares
        value: Value = C(0, 1)
        first = 0
        for cycle in range(cycles):
            for sign, term in _terms(self.shapes, squares)[first : cycle + 2]:
                value = value + term if sign > 0 else value - term
            first = cycle + 2
            narrow = Signal(self.shapes.radicand, name=f"weighted{cycle}")
            m.d.comb += narrow.eq(value)
            value = held(m, narrow, f"weighted_q{cycle + 1}")
            squares = held(m, squares, f"squares_q{cycle + 1}")
        return value

    def _square(self, m: Module) -> Value:
        """S^2 from halves of S: high^2, low^2 and twice their product, each no wider than a DSP."""
        half = len(self.sum) // 2
        lower, upper = self.sum[:half], self.sum[half:]
        upper = upper.as_signed() if self.shapes.sum.signed else upper
        low_square = held(m, lower * lower, "low_square")
        cross = held(m, lower * upper, "cross")
        high_square = held(m, upper * upper, "high_square")
        return held(m, Cat(low_square, high_square.as_unsigned()) + cross.shift_left(half + 1), "square_reg")

    def _normalise(self, m: Module, radicand: Value) -> tuple[Value, Value]:
        """The radicand without its leading pairs of zeros, and their number; 0 stays 0."""
        value: Value = radicand
        found: list[Value] = []
        levels = list(reversed(range(self.shapes.shift.width)))
        for start in range(0, len(levels), _LEVELS):
            for level in levels[start : start + _LEVELS]:
                size = 2 << level
                is_zero = Signal(name=f"zero{level}")
                m.d.comb += is_zero.eq(~value[-size:].any())
                shifted = Signal(self.shapes.radicand, name=f"shifted{level}")
                m.d.comb += shifted.eq(Mux(is_zero, Cat(C(0, size), value[:-size]), value))
                value = shifted
                found.insert(0, is_zero)
            value = held(m, value, f"normalised{start}")
            found = [held(m, bit, f"zero_q{start}_{k}") for k, bit in enumerate(found)]
        return value, Cat(found)
