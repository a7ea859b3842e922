"""The small norm: one multiplier a lane, which squares, then finds the root, then scales."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layernorm.entry import ENTRY_CYCLES, Entry, codes_of
from hw.layernorm.pieces import row_memory, total
from hw.layernorm.sender import Sender, sender_cycles
from hw.layernorm.serial import SerialSolver, serial_cycles
from hw.layernorm.shapes import Shapes, Timing
from hw.streams import AxiStream
from sw.ir.layernorm import LayerNorm

_DRAIN_CYCLES = ENTRY_CYCLES + 2
"""From the last beat of a row until its squares are summed."""


def small_timing(shapes: Shapes) -> Timing:
    """Cycles and memory of the small variant."""
    solving = _DRAIN_CYCLES + serial_cycles(shapes)
    latency = shapes.beats + solving + sender_cycles(shapes.norm)
    return Timing(
        latency_cycles=latency,
        interval_cycles=latency + shapes.beats,
        row_memory_words=shapes.beats,
    )


class SmallLayerNorm(wiring.Component):
    """A norm of few resources: a row comes in, its root is found bit by bit, the row leaves.

    Latency ``timing.latency_cycles`` cycles from the first beat of a row to the cycle in which its first
    result is offered, if nothing stalls; accepts a row every ``timing.interval_cycles`` cycles. ``tlast``
    is understood as ``Entry`` says; at the output it ends every row. No combinational path leads from port
    to port. One multiplier in each lane, two with an affine, and no other.

    Args:
        norm: What to compute.
        lanes: Codes a beat, 1..64.

    Members:
        i: Stream of input codes.
        o: Stream of output codes.

    Raises:
        InputError: ``lanes`` is out of range.
    """

    def __init__(self, norm: LayerNorm, *, lanes: int = 1) -> None:
        self.norm = norm
        self.lanes = lanes
        self.shapes = Shapes(norm, lanes)
        self.timing = small_timing(self.shapes)
        super().__init__({"i": In(AxiStream(norm.input, lanes)), "o": Out(AxiStream(norm.output, lanes))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.entry = entry = Entry(self.shapes)
        m.submodules.solver = solver = SerialSolver(self.shapes)
        m.submodules.sender = sender = Sender(self.shapes, is_overlapped=False)
        wiring.connect(m, wiring.flipped(self.i), entry.i)
        wiring.connect(m, sender.o, wiring.flipped(self.o))
        self._row_memory(m, entry, sender)
        is_sending, is_over = Signal(), Signal()
        row_sum, squares = self._sums(m, entry, sender, is_over)
        self._claim(m, entry, solver, sender, is_sending)
        m.d.comb += [
            *(solver.sum.eq(row_sum), solver.squares.eq(squares)),
            *(sender.sum.eq(row_sum), sender.shift.eq(solver.shift), sender.root.eq(solver.root)),
        ]
        count = Signal(range(_DRAIN_CYCLES))
        with m.FSM():
            with m.State("LOAD"):
                m.d.comb += entry.room.eq(1)
                m.d.sync += count.eq(_DRAIN_CYCLES - 1)
                with m.If(entry.take & entry.ends):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.sync += count.eq(count - 1)
                with m.If(count == 0):
                    m.d.comb += solver.start.eq(1)
                    m.next = "SOLVE"
            with m.State("SOLVE"), m.If(solver.done):
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [sender.ready.eq(1), is_sending.eq(1)]
                with m.If(sender.reads & (sender.index == self.shapes.beats - 1)):
                    m.next = "LEAVE"
            with m.State("LEAVE"):
                m.d.comb += is_sending.eq(1)
                with m.If(sender.o.tvalid & sender.o.tready & sender.o.tlast):
                    m.d.comb += is_over.eq(1)
                    m.next = "LOAD"
        return m

    def _row_memory(self, m: Module, entry: Entry, sender: Sender) -> None:
        write, read = row_memory(m, len(entry.word), self.timing.row_memory_words)
        m.d.comb += [
            *(write.en.eq(entry.valid), write.addr.eq(entry.index), write.data.eq(entry.word)),
            *(read.en.eq(sender.advance), read.addr.eq(sender.index), sender.word.eq(read.data)),
        ]

    def _sums(self, m: Module, entry: Entry, sender: Sender, clears: Value) -> tuple[Signal, Signal]:
        """S and Q, from words and from their squares two cycles later."""
        row_sum, squares = Signal(self.shapes.sum), Signal(self.shapes.squares)
        is_squaring, is_squared = Signal(), Signal()
        m.d.sync += [is_squaring.eq(entry.valid), is_squared.eq(is_squaring)]
        with m.If(entry.valid):
            m.d.sync += row_sum.eq(row_sum + total(codes_of(entry.word, self.shapes)))
        with m.If(is_squared):
            m.d.sync += squares.eq(squares + total([lane.product for lane in sender.units]))
        with m.If(clears):
            m.d.sync += [row_sum.eq(0), squares.eq(0)]
        return row_sum, squares

    def _claim(
        self, m: Module, entry: Entry, solver: SerialSolver, sender: Sender, is_sending: Value
    ) -> None:
        """Give the lanes' multipliers codes to square, or the first one the factors of the root."""
        factors = solver.rest, solver.slope
        m.d.comb += solver.product.eq(sender.units[0].product)
        codes = codes_of(entry.word, self.shapes)
        for number, (lane, code) in enumerate(zip(sender.units, codes, strict=True)):
            a, b = (Mux(solver.claims, factor, code) if number == 0 else code for factor in factors)
            m.d.comb += [lane.claim.eq(~is_sending), lane.claim_a.eq(a), lane.claim_b.eq(b)]
