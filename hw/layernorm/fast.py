"""The fast norm: a row streams in while the one before it is solved and the one before that leaves."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.layernorm.entry import ENTRY_CYCLES, Entry
from hw.layernorm.intake import Intake, intake_cycles
from hw.layernorm.pieces import held, row_memory
from hw.layernorm.sender import Sender, sender_cycles
from hw.layernorm.shapes import Shapes, Timing
from hw.layernorm.solver import Solver, solver_cycles
from hw.streams import AxiStream
from sw.ir.layernorm import LayerNorm


def fast_timing(shapes: Shapes) -> Timing:
    """Cycles and memory of the fast variant.

    The ring's size is a power of two, in which a row and what comes until it leaves have room.
    """
    waiting = shapes.beats + _solving_cycles(shapes)
    return Timing(
        latency_cycles=waiting + sender_cycles(shapes.norm),
        interval_cycles=shapes.beats,
        row_memory_words=1 << waiting.bit_length(),
    )


def _solving_cycles(shapes: Shapes) -> int:
    """Cycles from the last beat of a row to its root."""
    return ENTRY_CYCLES + intake_cycles(shapes) + solver_cycles(shapes)


class FastLayerNorm(wiring.Component):
    """A norm that takes one beat a cycle, without a gap between rows, and gives one beat a cycle.

    Latency ``timing.latency_cycles`` cycles from the first beat of a row to the cycle in which its first
    result is offered, if nothing stalls; accepts one beat per cycle. ``tlast`` is understood as ``Entry``
    says; at the output it ends every row. No combinational path leads from port to port.

    Rows wait in a ring of words. A word's place is free as soon as it was read, so room for a row and for
    the cycles that its numbers take is all that is needed, not for two rows. Multipliers: two in each lane,
    three with an affine; three for the square of the sum and one for the root in a unit.

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
        self.timing = fast_timing(self.shapes)
        super().__init__({"i": In(AxiStream(norm.input, lanes)), "o": Out(AxiStream(norm.output, lanes))})

    @property
    def _rows(self) -> int:
        """Rows that may wait to leave, a power of two; enough never to hold up a row that follows at once."""
        return 1 << (-(-(_solving_cycles(self.shapes) + 2) // self.shapes.beats)).bit_length()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.entry = entry = Entry(self.shapes)
        m.submodules.intake = intake = Intake(self.shapes)
        m.submodules.solver = solver = Solver(self.shapes)
        m.submodules.sender = sender = Sender(self.shapes, is_overlapped=True)
        wiring.connect(m, wiring.flipped(self.i), entry.i)
        wiring.connect(m, sender.o, wiring.flipped(self.o))
        ring_words = self.timing.row_memory_words
        words = self._level(m, entry.take, sender.reads, ring_words, "words")
        waiting = self._level(m, entry.take & entry.ends, sender.opens, self._rows, "waiting")
        solved = self._level(m, solver.done, sender.starts, self._rows, "solved")
        m.d.comb += [
            entry.room.eq((words != ring_words) & (waiting != self._rows)),
            *(intake.valid.eq(entry.valid), intake.last.eq(entry.last), intake.word.eq(entry.word)),
            *(solver.sum.eq(intake.sum), solver.squares.eq(intake.squares)),
            solver.start.eq(intake.done),
            sender.ready.eq(solved != 0),
        ]
        self._ring(m, entry, sender)
        row_sum = self._queue(m, "sums", intake.done, intake.sum, sender.opens)
        found = Cat(solver.shift, solver.root)
        numbers = self._queue(m, "roots", solver.done, found, sender.opens)
        m.d.comb += [
            sender.sum.eq(row_sum.as_signed() if self.shapes.sum.signed else row_sum),
            Cat(sender.shift, sender.root).eq(numbers),
        ]
        return m

    def _ring(self, m: Module, entry: Entry, sender: Sender) -> None:
        """The memory of rows that wait."""
        write, read = row_memory(m, len(entry.word), self.timing.row_memory_words)
        m.d.comb += [
            *(write.en.eq(entry.valid), write.data.eq(entry.word)),
            *(read.en.eq(sender.advance), sender.word.eq(read.data)),
        ]
        with m.If(entry.valid):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(sender.reads):
            m.d.sync += read.addr.eq(read.addr + 1)

    def _queue(self, m: Module, name: str, put: Value, item: Value, take: Value) -> Value:
        """Numbers of rows that wait; those of a row are there from the cycle after it was taken."""
        memory = Memory(shape=len(item), depth=self._rows, init=[])
        m.submodules[name] = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [write.en.eq(put), write.data.eq(item)]
        with m.If(put):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(take):
            m.d.sync += read.addr.eq(read.addr + 1)
        return held(m, read.data, f"{name}_now", take)

    @staticmethod
    def _level(m: Module, more: Value, less: Value, limit: int, name: str) -> Signal:
        """How many came and have not gone yet."""
        level = Signal(range(limit + 1), name=name)
        m.d.sync += level.eq(level + more - less)
        return level
