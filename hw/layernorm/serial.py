"""A row's radicand and its reciprocal square root, digit by digit: the small variant's."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layernorm.pieces import root_entry, root_of
from hw.layernorm.shapes import Shapes

_ROOT_CYCLES = 3
"""Operands, product, difference."""


def serial_cycles(shapes: Shapes) -> int:
    """Cycles from sums to root."""
    phases = 1 if shapes.norm.rms else 2
    return 1 + phases * _places(shapes) + shapes.max_shift + _ROOT_CYCLES


def _places(shapes: Shapes) -> int:
    """Bits of S, or pairs of bits of Q or E, whichever are most; RMSNorm has no S."""
    pairs = -(-max(shapes.squares.width, shapes.norm.eps_raw.bit_length()) // 2)
    return pairs if shapes.norm.rms else max(pairs, shapes.sum.width)


class SerialSolver(wiring.Component):
    """Latency ``serial_cycles(shapes)`` cycles from the one after ``start`` to the one after ``done``.

    One row at a time. The radicand w = N Q - S^2 + E grows by one adder from the highest digits down: with
    q, e the next base-4 digits of Q and E, s the next bit of S, and p the bits of S before it,

        w <- 4 w + N q + e,    w <- w - s (4 p + 1)

    since (2 p + s)^2 = 4 p^2 + s (4 p + 1). RMSNorm has only the first, with N = 1. Then zeros go from the
    top of w, two a cycle, by the same multiplication by 4. The root's product is made by somebody else.

    Members:
        start: Sums are there from the next cycle, and stay until ``done``.
        sum, squares: The sums.
        done: The numbers are there from the next cycle, until the next ``start``.
        shift: Pairs of zeros that the radicand began with.
        root: Its reciprocal square root.
        claims: A multiplier is wanted that has ``rest * slope`` in ``product`` two cycles later.
        rest, slope: Its factors.
        product: Its result.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        root = shapes.norm.root
        self.factors = root.rest_bits, max(root.slopes).bit_length()
        super().__init__(
            {
                **{"start": In(1), "sum": In(shapes.sum), "squares": In(shapes.squares)},
                **{"done": Out(1), "shift": Out(shapes.shift), "root": Out(shapes.root)},
                **{"claims": Out(1), "rest": Out(self.factors[0]), "slope": Out(self.factors[1])},
                "product": In(signed(sum(self.factors) + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        norm, max_shift, places = self.shapes.norm, self.shapes.max_shift, _places(self.shapes)
        radicand = Signal(self.shapes.radicand)
        offset, slope, rest = root_entry(m, norm.root, radicand)
        m.d.comb += [self.slope.eq(slope), self.rest.eq(rest)]
        begins, gains, loses, shifts = Signal(), Signal(), Signal(), Signal()
        count, is_lowest = Signal(range(max(places, max_shift, _ROOT_CYCLES))), Signal()
        m.d.sync += [count.eq(count - 1), is_lowest.eq(count == 0)]
        change, carry = self._change(m, count, begins, gains, loses)
        start = Mux(gains | shifts, radicand << 2, radicand)[: len(radicand)]
        # The lowest bit makes the carry.
        m.d.sync += radicand.eq((Cat(carry, change) + Cat(C(1, 1), start))[1:])
        with m.If(begins):
            m.d.sync += [radicand.eq(0), self.shift.eq(0)]
        with m.If(shifts):
            m.d.sync += self.shift.eq(self.shift + 1)

        self._states(m, count, is_lowest, radicand, (begins, gains, loses, shifts))
        with m.If(self.claims):
            m.d.sync += self.root.eq(root_of(norm.root, offset, self.product))
        return m

    def _states(
        self, m: Module, count: Signal, is_lowest: Value, radicand: Value, steps: tuple[Signal, ...]
    ) -> None:
        """What happens when: ``begins``, ``gains``, ``loses``, ``shifts``, then the root."""
        begins, gains, loses, shifts = steps
        rms, max_shift = self.shapes.norm.rms, self.shapes.max_shift

        def normalise() -> None:
            m.d.sync += count.eq((max_shift or _ROOT_CYCLES) - 1)
            m.next = "NORMALISE" if max_shift else "ROOT"

        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += count.eq(_places(self.shapes) - 1)
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += begins.eq(1)
                if not rms:
                    m.d.sync += count.eq(count)
                m.next = "GAIN"
            with m.State("GAIN"):
                m.d.comb += gains.eq(1)
                if rms:
                    with m.If(is_lowest):
                        normalise()
                else:
                    m.next = "LOSE"
            if not rms:
                with m.State("LOSE"):
                    m.d.comb += loses.eq(1)
                    m.d.sync += count.eq(count)
                    m.next = "GAIN"
                    with m.If(is_lowest):
                        normalise()
            if max_shift:
                with m.State("NORMALISE"):
                    m.d.comb += shifts.eq(radicand[-2:] == 0)
                    with m.If(count == 0):
                        m.d.sync += count.eq(_ROOT_CYCLES - 1)
                        m.next = "ROOT"
            with m.State("ROOT"):
                m.d.comb += self.claims.eq(1)
                with m.If(count == 0):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"

    def _change(
        self, m: Module, count: Value, begins: Value, gains: Value, loses: Value
    ) -> tuple[Value, Value]:
        """What the radicand changes by, and a carry. The digits are those of ``count`` a cycle ago."""
        norm, places = self.shapes.norm, _places(self.shapes)
        q_digit, e_digit = Signal(2, name="q_digit"), Signal(2, name="e_digit")
        m.d.sync += [
            q_digit.eq(self.squares.word_select(count, 2)),
            e_digit.eq(C(norm.eps_raw, 2 * places).word_select(count, 2)),
        ]
        factor = 1 if norm.rms else norm.channels
        gain = Signal(range(3 * factor + 4))
        with m.Switch(Cat(e_digit, q_digit)):  # a table: no tool may see a multiplication
            for digits in range(16):
                with m.Case(digits):
                    m.d.comb += gain.eq((digits >> 2) * factor + (digits & 3))
        if norm.rms:
            return Mux(gains, gain, 0), C(0, 1)
        # The bits of a negative sum are kept inverted: what comes before its sign bit is 0, too.
        size = len(self.sum)
        sign = self.sum[-1] if self.shapes.sum.signed else C(0, 1)
        s_bit, kept_bit, is_plain = (Signal(name=name) for name in ("s_bit", "kept_bit", "is_plain"))
        selected = Cat(self.sum, C(0, places - size)).bit_select(count, 1)
        m.d.sync += [
            *(s_bit.eq(selected), kept_bit.eq(selected ^ (sign & (count < size)))),
            is_plain.eq(~sign | (count >= size - 1)),
        ]
        prefix = Signal(size)
        with m.If(loses):
            m.d.sync += prefix.eq(Cat(kept_bit, prefix))
        with m.If(begins):
            m.d.sync += prefix.eq(0)
        change = Signal(self.shapes.radicand.width)
        with m.If(gains):
            m.d.comb += change.eq(gain)
        with m.Elif(loses & s_bit):
            # -(4 p + 1), the complement of which needs a carry.
            inverse = Cat(C(0, 1), C(1, 1), prefix ^ is_plain.replicate(len(prefix)), is_plain)
            m.d.comb += change.eq(inverse.as_signed())
        return change, loses & s_bit
