"""The scalar functions between layers, activation and exponential, compiled as norm units are."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from timm import layers
from torch import nn

from sw.ir import interpret
from sw.ir.expr import evaluate
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.parse import parse
from sw.ir.realize import realize

INPUT_BITS = 12
"""Bits of the codes that an activation or the exponential reads."""
EXP_OUTPUT = FixedFormat(8, 8, signed=False)
"""Format of softmax's numerators: the largest of a row is 255/256."""

_GELU = "0.5*x*(1 + erf(x/sqrt(2)))"
_GELU_TANH = "0.5*x*(1 + tanh(0.7978845608028654*(x + 0.044715*x**3)))"
ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.GELU: _GELU,
    layers.GELU: _GELU,
    layers.GELUTanh: _GELU_TANH,
    layers.QuickGELU: "x*sigmoid(1.702*x)",
    nn.SiLU: "x*sigmoid(x)",
    nn.ReLU: "relu(x)",
}
"""Formulas of the activations that have an integer form."""
_TAIL = np.exp2(np.linspace(-16, 16, 2049))
"""Where the ends of a function's range are looked for: 64 places an octave."""


@dataclass(frozen=True, slots=True, eq=False)
class ScalarMap:
    """A function at its formats: the exact integer map, and what realises it in hardware."""

    formula: str
    input: FixedFormat
    output: FixedFormat
    table: IntArray
    """int64, 2^width entries, index 0 = the most negative code."""
    realization: str
    price_lut6: float

    def about(self) -> dict[str, Any]:
        """What the JSON says of it."""
        return {
            "expression": self.formula,
            "realization": self.realization,
            "price_lut6": round(self.price_lut6, 1),
        }


def activation_formula(module: nn.Module) -> str | None:
    """What an activation module computes, as a formula; None where it has no integer form."""
    if isinstance(module, nn.GELU) and module.approximate == "tanh":
        return _GELU_TANH
    return ACTIVATIONS.get(type(module))


def softmax_formula(width: int) -> str:
    """What becomes of the distance x >= 0 of a score below its row's largest: exp, scaled to 255/256 at most.

    Scores are products of queries and keys of ``width`` channels, not yet divided by its square root.
    """
    return f"0.99609375*exp(-x/sqrt({width}))"


@functools.cache
def compile_map(formula: str, output: FixedFormat, *, signed: bool = True) -> ScalarMap:
    """The exact map of a formula to an output format, from 12 bits over the range on which it changes.

    Args:
        formula: Constant, at that output format, far away from 0.
        output: Format of its result.
        signed: Whether x may be negative.
    """
    expr = parse(formula)
    input = _active_format(formula, output, signed)
    found = realize(expr, input, output)
    return ScalarMap(formula, input, output, interpret.table(found.program), found.kind, found.lut6)


def _active_format(formula: str, output: FixedFormat, signed: bool) -> FixedFormat:
    """The finest format of 12 bits beyond whose ends the rounded function is constant."""
    largest = 0.0
    for side in (_TAIL, -_TAIL) if signed else (_TAIL,):
        codes = output.quantize(evaluate(parse(formula), side))
        changing = np.flatnonzero(codes != codes[-1])
        if changing.size:
            largest = max(largest, float(_TAIL[changing[-1] + 1]))
    covering = FixedFormat.covering(largest, INPUT_BITS + int(not signed))
    return FixedFormat(INPUT_BITS, covering.frac, signed)
