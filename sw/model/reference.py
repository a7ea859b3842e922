"""The PyTorch side of the contract: a unit as a module, and the independent float path."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sw.ir import interpret
from sw.ir.expr import Expr
from sw.ir.program import Program
from sw.model.scalar_norm import evaluate

TIE_TOLERANCE = 1e-9
"""How near to half a code, relatively, a value must be for float64 not to be trusted with its rounding."""


class UnitModule(nn.Module):
    """A unit: quantize to the input format, look the code up, scale. Exact by construction.

    The input is rounded half to even and saturates; the output is the program's code times its step, which
    float32 holds exactly. In training the gradient is that of the float expression at the saturated input.

    Args:
        program: The unit's realisation.
        expr: Its expression, for the gradient; without one, no gradient passes.
    """

    table: Tensor

    def __init__(self, program: Program, expr: Expr | None = None) -> None:
        super().__init__()
        self.input, self.output, self.expr = program.input, program.output, expr
        self.register_buffer("table", torch.from_numpy(interpret.table(program)).to(torch.int32))

    def quantize(self, x: Tensor) -> Tensor:
        """Codes of real values: int64, shape kept, half to even, saturating."""
        scaled = torch.round(x * 2.0**self.input.frac)
        return scaled.clamp(self.input.min_raw, self.input.max_raw).long()

    def codes(self, x_raw: Tensor) -> Tensor:
        """Output codes of input codes: int64 to int64, shape kept."""
        return self.table[x_raw - self.input.min_raw].long()

    def forward(self, x: Tensor) -> Tensor:
        y = self.codes(self.quantize(x)).to(x.dtype) * self.output.step
        if self.expr is None or not (torch.is_grad_enabled() and x.requires_grad):
            return y
        lowest, highest = (raw * self.input.step for raw in (self.input.min_raw, self.input.max_raw))
        smooth = evaluate(self.expr, x.clamp(lowest, highest))
        return y + (smooth - smooth.detach())  # the difference is exactly 0, its gradient is not

    def extra_repr(self) -> str:
        return f"{self.input} -> {self.output}"


@dataclass(frozen=True, slots=True)
class FloatPath:
    """Where the float path and the integer map disagree, as input codes."""

    codes: int
    """Input codes compared."""
    ties: tuple[int, ...]
    """Differences that are ties: the exact value lies so near to half a code that float64 cannot decide."""
    differences: tuple[int, ...]
    """All other differences; the contract allows none."""


def float_path_differences(expr: Expr, program: Program, *, max_ulp: int = 0) -> FloatPath:
    """Compare a program with the torch float64 expression between Brevitas's quantizers, on every code.

    It shares neither code nor arithmetic with the reference map, so an error in that would show here.

    Args:
        expr: What the program realises.
        program: At most 20 bits of input.
        max_ulp: Output codes that the program may be off (0: exact; 1: faithful).
    """
    from sw.model.quantizers import quantize_real

    x_raw = torch.from_numpy(program.input.codes())
    x = quantize_real(x_raw.double() * program.input.step, program.input)
    exact = evaluate(expr, x)
    float_raw = torch.round(quantize_real(exact, program.output) / program.output.step).long()
    map_raw = torch.from_numpy(interpret.table(program))
    off = (float_raw - map_raw).abs()
    scaled = exact / program.output.step
    to_tie = (scaled - torch.floor(scaled) - 0.5).abs()
    near_tie = to_tie <= TIE_TOLERANCE * scaled.abs().clamp(min=1.0)
    tie = near_tie & (off == max_ulp + 1)
    wrong = (off > max_ulp) & ~tie | ~torch.isfinite(exact)
    return FloatPath(len(x_raw), tuple(x_raw[tie].tolist()), tuple(x_raw[wrong].tolist()))
