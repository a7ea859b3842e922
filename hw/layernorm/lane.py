"""One lane of the second pass: an element from its code and its row's three numbers."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layernorm.pieces import half_to_even, held, times
from hw.layernorm.shapes import Shapes
from hw.pipeline import OPERATIONS, format_shape
from sw.ir.layernorm import LayerNorm
from sw.ir.program import Op


def operand_stage(norm: LayerNorm) -> int:
    """Stage in which the operands of the multiplication are in their registers."""
    return 2 if norm.rms else 4


def affine_stage(norm: LayerNorm) -> int:
    """Stage in which gamma is wanted; beta is one stage later."""
    return operand_stage(norm) + 1


def lane_cycles(norm: LayerNorm) -> int:
    """Stages from a code to its result."""
    return operand_stage(norm) + 3 + (0 if norm.affine is None else 2)


class Lane(wiring.Component):
    """Numerator, shift by the exponent, times root, affine, rounding, saturation: one register after each.

    Latency ``lane_cycles(norm)`` enabled cycles; accepts one code in each of them. Stage 0 is that of ``x``.
    Its multiplier may be claimed: then it multiplies ``claim_a`` and ``claim_b`` instead, and the product
    is there two cycles later.

    Args:
        norm: What to compute.
        shapes: Its widths.
        is_shared: Have the ports of a claim.

    Members:
        enable: Registers move on.
        x: Input code.
        sum: S of its row, wanted in stage 1.
        shift_coarse: Pairs of leading zeros of its radicand, wanted in the numerator's stage.
        shift_fine: The same, a stage later.
        root: Root, wanted together with ``shift_fine``.
        gamma, beta: Codes of its channel, wanted in ``affine_stage`` and one later.
        y: Output code, from a register.
        claim: Multiply these instead.
        claim_a, claim_b: Signed operands.
        product: The multiplier's register.
    """

    def __init__(self, norm: LayerNorm, shapes: Shapes, *, is_shared: bool) -> None:
        self.norm = norm
        self.shapes = shapes
        self.is_shared = is_shared
        code, root = shapes.code, shapes.root
        self.a_bits, self.b_bits = shapes.scaled.width, root.width + 1
        if is_shared:
            self.a_bits = max(self.a_bits, code.width + 1, norm.root.rest_bits + 1)
            self.b_bits = max(self.b_bits, code.width + 1, max(norm.root.slopes).bit_length() + 1)
        members = {
            **{"enable": In(1), "x": In(code), "sum": In(shapes.sum), "root": In(root)},
            **{"shift_coarse": In(shapes.shift), "shift_fine": In(shapes.shift)},
            "y": Out(format_shape(norm.output)),
            "product": Out(signed(self.a_bits + self.b_bits)),
        }
        if norm.affine is not None:
            members |= {"gamma": In(format_shape(norm.affine.gamma))}
            members |= {"beta": In(format_shape(norm.affine.beta))}
        if is_shared:
            members |= {
                "claim": In(1),
                "claim_a": In(signed(self.a_bits)),
                "claim_b": In(signed(self.b_bits)),
            }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        scaled = self._scaled(m)
        operand_a = Signal(signed(self.a_bits))
        operand_b = Signal(signed(self.b_bits))
        m.d.comb += [operand_a.eq(scaled), operand_b.eq(self.root)]
        if self.is_shared:
            with m.If(self.claim):
                m.d.comb += [operand_a.eq(self.claim_a), operand_b.eq(self.claim_b)]
        a, b = held(m, operand_a, "a", self.enable), held(m, operand_b, "b", self.enable)
        product = held(m, a * b, "product", self.enable)
        m.d.comb += self.product.eq(product)
        result = self._with_affine(
            m, product[: self.shapes.scaled.width + self.shapes.root.width].as_signed()
        )
        rounded = held(m, half_to_even(result, self.norm.rounded_bits), "rounded", self.enable)
        output = self.norm.output
        limited = OPERATIONS[Op.CLAMP]((rounded,), (output.min_raw, output.max_raw))
        m.d.comb += self.y.eq(held(m, limited, "limited", self.enable))
        return m

    def _numerator(self, m: Module) -> Value:
        """N x - S, two registers; RMSNorm's x has none."""
        if self.norm.rms:
            return self.x
        times_n = held(m, times(self.x, self.norm.channels), "times_n", self.enable)
        numerator = Signal(self.shapes.numerator)
        m.d.comb += numerator.eq(times_n - self.sum)
        return held(m, numerator, "numerator", self.enable)

    def _scaled(self, m: Module) -> Value:
        """The numerator over 2^exponent: a shift to the left in two steps, of which the top bits count.

        The result fits, so the bits that leave at the top say nothing.
        """
        place = self.shapes.lowest_place
        numerator = self._numerator(m)
        below = max(-place, 0)
        work = signed(self.shapes.scaled.width + below)
        fine_bits = self.shapes.shift.width // 2
        start, coarse, fine = (Signal(work, name=f"shifted{k}") for k in range(3))
        m.d.comb += start.eq(numerator.shift_left(max(place, 0)))
        m.d.comb += coarse.eq(start << self.shift_coarse[fine_bits:].shift_left(fine_bits))
        held_coarse = held(m, coarse, "coarse", self.enable)
        m.d.comb += fine.eq(held_coarse << self.shift_fine[:fine_bits] if fine_bits else held_coarse)
        return fine[below:].as_signed()

    def _with_affine(self, m: Module, product: Value) -> Value:
        if self.norm.affine is None:
            return product
        low = self.norm.root.frac
        element = product[low : low + self.shapes.scaled.width].as_signed()
        scaled = held(m, element * self.gamma, "scaled", self.enable)
        raised = scaled.shift_left(self.norm.product_shift)
        return held(m, raised + self.beta.shift_left(self.norm.beta_shift), "moved", self.enable)
