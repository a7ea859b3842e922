"""The first pass of the fast variant: a row's sum and sum of squares, a beat a cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layernorm.entry import codes_of
from hw.layernorm.pieces import held, total
from hw.layernorm.shapes import Shapes


def intake_cycles(shapes: Shapes) -> int:
    """Cycles from the last word of a row to its sums: squares, their sum over lanes, accumulators."""
    return 2 + (shapes.lanes > 1)


class Intake(wiring.Component):
    """Latency ``intake_cycles(shapes)`` cycles from the row's last word to ``done``; accepts one a cycle.

    Members:
        valid: A word is there.
        last: It is its row's last.
        word: Its codes.
        done: A row's sums are there, for this cycle only.
        sum: S; RMSNorm does not use it.
        squares: Q.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        super().__init__(
            {
                **{"valid": In(1), "last": In(1), "word": In(shapes.lanes * shapes.code.width)},
                **{"done": Out(1), "sum": Out(shapes.sum), "squares": Out(shapes.squares)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        codes = codes_of(self.word, self.shapes)
        squares = [held(m, code * code, f"square{k}") for k, code in enumerate(codes)]
        beat_sum, beat_squares = held(m, total(codes), "beat_sum"), squares[0]
        if self.shapes.lanes > 1:
            beat_sum, beat_squares = held(m, beat_sum, "beat_sum_q"), held(m, total(squares), "beat_squares")
        valid, last = self._arrivals(m)
        is_first = Signal(init=1)
        m.d.sync += self.done.eq(valid & last)
        with m.If(valid):
            m.d.sync += [
                is_first.eq(last),
                self.sum.eq(beat_sum + Mux(is_first, 0, self.sum)),
                self.squares.eq(beat_squares + Mux(is_first, 0, self.squares)),
            ]
        return m

    def _arrivals(self, m: Module) -> tuple[Value, Value]:
        """Valid and last of the word whose sums are ready to be added."""
        valid, last = self.valid, self.last
        for cycle in range(1, intake_cycles(self.shapes)):
            valid_reg = Signal(name=f"valid_q{cycle}")
            m.d.sync += valid_reg.eq(valid)
            valid, last = valid_reg, held(m, last, f"last_q{cycle}")
        return valid, last
