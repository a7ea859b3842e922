"""Where rows come in: beats are counted, rows of a wrong length set right, padding lanes cleared."""

from __future__ import annotations

from amaranth.hdl import C, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layernorm.pieces import covering
from hw.layernorm.shapes import Shapes
from hw.streams import AxiStream, split_lanes

ENTRY_CYCLES = 1
"""From an accepted beat to its word."""


class Entry(wiring.Component):
    """Makes rows of exactly ``shapes.beats`` beats of a stream.

    Latency 1 cycle; accepts one beat per cycle.

    A row ends at ``tlast``. One that ends early is filled up with beats of code 0, a cycle each, in which
    nothing is accepted; one that does not end in time is cut, and what follows is a row of its own. So
    after a wrong ``tlast`` the rows behind the next one are right again. Lanes beyond the channels read 0.

    Members:
        i: The stream.
        room: A beat may come.
        take: A beat is there, accepted or filled up.
        ends: Together with ``take``: it is its row's last.
        valid: A word is there, the cycle after its beat.
        last: It is its row's last.
        index: Its number in the row.
        word: Its codes, lane 0 in the lowest bits, without extension to whole bytes.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        super().__init__(
            {
                "i": In(AxiStream(shapes.norm.input, shapes.lanes)),
                **{"room": In(1), "take": Out(1), "ends": Out(1), "valid": Out(1), "last": Out(1)},
                "index": Out(covering(0, shapes.beats - 1)),
                "word": Out(shapes.lanes * shapes.code.width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shapes = self.shapes
        is_filling, place = Signal(), Signal.like(self.index)
        m.d.comb += [
            self.i.tready.eq(self.room & ~is_filling),
            self.take.eq(self.room & (self.i.tvalid | is_filling)),
            self.ends.eq(place == shapes.beats - 1),
        ]
        m.d.sync += [self.valid.eq(self.take), self.last.eq(self.ends), self.index.eq(place)]
        with m.If(self.take):
            m.d.sync += [
                place.eq(Mux(self.ends, 0, place + 1)),
                is_filling.eq(~self.ends & (is_filling | self.i.tlast)),
            ]
        used = shapes.norm.channels - (shapes.beats - 1) * shapes.lanes
        for lane, code in enumerate(split_lanes(self.i.tdata, shapes.norm.input)):
            is_padding: Value = self.ends if lane >= used else C(0, 1)
            target = self.word.word_select(lane, shapes.code.width)
            m.d.sync += target.eq(Mux(is_filling | is_padding, 0, code))
        return m


def codes_of(word: Value, shapes: Shapes) -> list[Value]:
    """The codes of a word, lane 0 first."""
    width = shapes.code.width
    codes = [word.word_select(lane, width) for lane in range(shapes.lanes)]
    return [code.as_signed() if shapes.code.signed else code for code in codes]
