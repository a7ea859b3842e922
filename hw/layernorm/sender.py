"""The second pass: words from the row memory through the lanes to the output stream."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layernorm.affine_table import affine_codes
from hw.layernorm.entry import codes_of
from hw.layernorm.lane import Lane, affine_stage, lane_cycles, operand_stage
from hw.layernorm.pieces import covering, delayed, held
from hw.layernorm.shapes import Shapes
from hw.streams import AxiStream, lane_bits
from sw.ir.layernorm import LayerNorm


def sender_cycles(norm: LayerNorm) -> int:
    """Enabled cycles from a read to the offered beat: memory, a register behind it, lane."""
    return 2 + lane_cycles(norm)


class Sender(wiring.Component):
    """Lanes side by side, with the stream control of ``hw.pipeline.Unit``: one enable moves everything.

    Latency ``sender_cycles(norm)`` enabled cycles from ``reads`` to the offered beat; accepts one beat in
    each of them. What a memory gave is registered before anything is done with it: block RAM is slow.

    Args:
        shapes: Widths of the norm.
        is_overlapped: A row may follow another at once, so that each beat carries its row's numbers along;
            else they stand still at the ports while a row leaves, and the multipliers of ``units``, the
            lanes, can be claimed.

    Members:
        o: The stream; ``tlast`` at the end of every row.
        advance: Everything moves on: no beat is waiting at the end.
        ready: A row may leave; it counts where a row would begin.
        reads: The next word is being read.
        starts: It is the first of a row.
        index: Its number in the row.
        opens: A row's first word, read before, moves on; its numbers are wanted from the next cycle.
        word: What was read, a cycle later.
        sum, shift, root: The row's numbers, a cycle after that.
    """

    def __init__(self, shapes: Shapes, *, is_overlapped: bool) -> None:
        self.shapes = shapes
        self.is_overlapped = is_overlapped
        norm, lanes = shapes.norm, shapes.lanes
        self.units = [Lane(norm, shapes, is_shared=not is_overlapped) for _ in range(lanes)]
        super().__init__(
            {
                **{"o": Out(AxiStream(norm.output, lanes)), "advance": Out(1)},
                **{"ready": In(1), "reads": Out(1), "starts": Out(1), "opens": Out(1)},
                "index": Out(covering(0, shapes.beats - 1)),
                "word": In(lanes * shapes.code.width),
                **{"sum": In(shapes.sum), "shift": In(shapes.shift), "root": In(shapes.root)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        norm, enable = self.shapes.norm, self.advance
        is_last, is_opening = Signal(), Signal()
        m.d.comb += [
            enable.eq(~self.o.tvalid | self.o.tready),
            self.reads.eq(enable & ((self.index != 0) | self.ready)),
            self.starts.eq(self.reads & (self.index == 0)),
            self.opens.eq(enable & is_opening),
            is_last.eq(self.index == self.shapes.beats - 1),
        ]
        with m.If(self.reads):
            m.d.sync += self.index.eq(Mux(is_last, 0, self.index + 1))
        with m.If(enable):
            m.d.sync += is_opening.eq(self.starts)
        valid, last = self._control(m, is_last)
        m.d.comb += [self.o.tvalid.eq(valid[-1]), self.o.tlast.eq(last[-1])]
        row_sum, coarse, fine, root = self._numbers(m)
        step = lane_bits(norm.output)
        codes = codes_of(held(m, self.word, "word_q", enable), self.shapes)
        for number, (lane, code) in enumerate(zip(self.units, codes, strict=True)):
            m.submodules[f"lane{number}"] = lane
            byte_wide = Signal(Shape(step, norm.output.signed), name=f"y{number}")
            m.d.comb += [
                *(lane.enable.eq(enable), lane.x.eq(code), lane.sum.eq(row_sum)),
                *(lane.shift_coarse.eq(coarse), lane.shift_fine.eq(fine), lane.root.eq(root)),
                *(byte_wide.eq(lane.y), self.o.tdata.word_select(number, step).eq(byte_wide)),
            ]
        if norm.affine is not None:
            # Stage k of a lane is stage k + 1 here; two registers lie between index and lane.
            stage = affine_stage(norm) + 1 - 2
            index = Signal.like(self.index, name="affine_index")
            with m.If(enable & valid[stage]):
                m.d.sync += index.eq(Mux(last[stage], 0, index + 1))
            pairs = affine_codes(m, norm.affine, self.shapes, index, enable)
            for lane, (gamma, beta) in zip(self.units, pairs, strict=True):
                m.d.comb += [lane.gamma.eq(gamma), lane.beta.eq(beta)]
        return m

    def _control(self, m: Module, is_last: Value) -> tuple[list[Value], list[Value]]:
        """Valid and last of every stage, from that of ``word`` on; only valid needs a reset."""
        stages = range(sender_cycles(self.shapes.norm))
        valid = [Signal(name=f"valid_q{stage}") for stage in stages]
        last = [Signal(name=f"last_q{stage}", reset_less=True) for stage in stages]
        with m.If(self.advance):
            m.d.sync += [Cat(valid).eq(Cat(self.reads, valid)), Cat(last).eq(Cat(is_last, last))]
        return valid, last

    def _numbers(self, m: Module) -> tuple[Value, Value, Value, Value]:
        """Sum, shift twice, and root in the stages in which the lanes want them."""
        if not self.is_overlapped:
            return self.sum, self.shift, self.shift, self.root
        enable, at = self.advance, operand_stage(self.shapes.norm)
        row_sum = delayed(m, self.sum, 1, "sum", enable)
        coarse = delayed(m, self.shift, at - 2, "shift", enable)
        fine = held(m, coarse, "shift_fine", enable)
        return row_sum, coarse, fine, delayed(m, self.root, at - 1, "root", enable)
