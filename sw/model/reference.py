"""The PyTorch side of the contract: a unit as a module, and the independent float path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sw.ir import interpret
from sw.ir.bounded import FLOAT64
from sw.ir.expr import Expr, interpret_expr
from sw.ir.formats import FloatArray, IntArray
from sw.ir.program import Program
from sw.model.codes import codes_of, rounded
from sw.model.scalar_norm import evaluate

TIE_TOLERANCE = 8 * 2.0**-53
"""Float64's own share of the doubt about a rounding, in codes and relative to codes beyond 1."""
MAX_DOUBT = 0.25
"""Largest doubt, in codes, that excuses a difference; a bound beyond it says nothing about a tie."""
FLOAT32_BITS = 24
"""Float32's significand, which must hold a code and half a code."""


class UnitModule(nn.Module):
    """A unit: quantize to the input format, look the code up, scale. Exact by construction.

    The input is rounded half to even and saturates; the output is the program's code times its step, which
    float32 holds exactly: half precision in, float32 out. In training the gradient is that of the float
    expression at the saturated input.

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
        return rounded(_wide(x), self.input).long()

    def codes(self, x_raw: Tensor) -> Tensor:
        """Output codes of input codes: int64 to int64, shape kept."""
        return self.table[x_raw - self.input.min_raw].long()

    def forward(self, x: Tensor) -> Tensor:
        x = _wide(x)
        y = self.codes(self.quantize(x)).to(x.dtype) * self.output.step
        if self.expr is None or not (torch.is_grad_enabled() and x.requires_grad):
            return y
        lowest, highest = (raw * self.input.step for raw in (self.input.min_raw, self.input.max_raw))
        smooth = evaluate(self.expr, x.clamp(lowest, highest))
        return y + (smooth - smooth.detach())  # the difference is exactly 0, its gradient is not

    def extra_repr(self) -> str:
        return f"{self.input} -> {self.output}"


def _wide(x: Tensor) -> Tensor:
    """At least float32: half precision holds neither 16-bit codes nor their limits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def module_codes(module: UnitModule, codes: IntArray | FloatArray) -> IntArray:
    """Output codes of a unit run as the model runs it: real values in, quantized, looked up, real values out.

    Args:
        module: A unit, on any device.
        codes: Input codes as they are, or real values in units of one (0.5 is the tie between 0 and 1).

    Returns:
        int64, shape of ``codes``.
    """
    narrow = max(module.input.width, module.output.width) < FLOAT32_BITS
    x = torch.from_numpy(np.asarray(codes, dtype=np.float64) * module.input.step)
    with torch.no_grad():
        y = module(x.to(module.table.device, torch.float32 if narrow else torch.float64))
    return np.asarray(codes_of(y, module.output).cpu().numpy(), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class FloatPath:
    """Where the float path and the integer map disagree, as input codes."""

    codes: int
    """Input codes compared."""
    ties: tuple[int, ...]
    """Differences that are ties: float64 cannot tell the exact value from half a code, and the map has the
    code on the other side of it."""
    differences: tuple[int, ...]
    """All other differences; the contract allows none."""


def float_path_differences(expr: Expr, program: Program, *, max_ulp: int = 0) -> FloatPath:
    """Compare a program with the torch float64 expression between Brevitas's quantizers, on every code.

    Arithmetic (torch), rounding and saturation (Brevitas) are not the reference map's, so an error in those
    shows here. The parsed expression and the walk over it are shared, and so are the bounds of float64's
    error, which decide what counts as a tie: an error in those would not show.

    Args:
        expr: What the program realises.
        program: At most 20 bits of input.
        max_ulp: Output codes that the program may be off (0: exact; 1: faithful).
    """
    from sw.model.quantizers import quantize_real

    x_raw = torch.from_numpy(program.input.codes())
    x = quantize_real(x_raw.double() * program.input.step, program.input)
    exact = evaluate(expr, x)
    float_raw = codes_of(quantize_real(exact, program.output), program.output)
    map_raw = torch.from_numpy(interpret.table(program))
    different = (float_raw - map_raw).abs() > max_ulp
    different |= ~torch.isfinite(exact)
    suspects = x_raw[different].numpy()
    ties = _are_ties(expr, program, suspects, map_raw[different].numpy(), max_ulp)
    return FloatPath(len(x_raw), tuple(suspects[ties].tolist()), tuple(suspects[~ties].tolist()))


def _are_ties(
    expr: Expr, program: Program, x_raw: IntArray, map_raw: IntArray, max_ulp: int
) -> npt.NDArray[np.bool_]:
    """Which codes' exact value is half a code for all that float64 can tell, the map beside that half."""
    x = program.input.to_real(x_raw)
    with np.errstate(all="ignore"):
        v, e = interpret_expr(expr, (x, 0 * x), FLOAT64.number, FLOAT64.ops())
        scaled, bound = np.broadcast_arrays(v / program.output.step, 2 * e / program.output.step, x)[:2]
        below = np.floor(scaled)
        doubt = np.maximum(bound, TIE_TOLERANCE * np.maximum(1.0, np.abs(scaled)))
        undecided = (np.abs(scaled - below - 0.5) <= doubt) & (doubt < MAX_DOUBT)
    beside = (map_raw >= below - max_ulp) & (map_raw <= below + 1 + max_ulp)
    return np.asarray(undecided & beside)
