"""Integer layers: weights, bias and accumulator of a Linear or convolution as integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from sw.ir.formats import FixedFormat, FloatArray, IntArray
from sw.model.quantizers import weight_codes

ACCUMULATOR_BITS = 32
MAX_FRAC = 32
"""Most bits after the binary point that an accumulator gets: a channel of tiny weights needs no more."""


@dataclass(frozen=True, slots=True, eq=False)
class IntegerLayer:
    """``x weight^T + bias`` on codes x; the accumulator of channel c has ``frac[c]`` bits after the point."""

    weight: IntArray
    """(out, in)."""
    bias: IntArray
    """(out,), at the accumulator's scale, rounded half to even."""
    frac: IntArray
    """(out,)."""
    largest: FloatArray
    """(out,): a bound of the accumulator's real value, whatever the input."""

    @property
    def formats(self) -> tuple[FixedFormat, ...]:
        """The accumulators' format of every channel."""
        return tuple(FixedFormat(ACCUMULATOR_BITS, int(frac)) for frac in self.frac)


def integer_layer(layer: nn.Module, input: FixedFormat) -> IntegerLayer:
    """A quantized layer as integers, for codes of a format.

    Where a channel's weights are so small, beside its bias, that 32 bits would not hold the accumulator at
    their scale, they are rounded to a coarser one.
    """
    weight, weight_frac = weight_codes(layer)
    bias = np.zeros(len(weight))
    if isinstance(layer.bias, Tensor):
        bias = layer.bias.detach().cpu().double().numpy()
    frac = weight_frac + input.frac
    reach = np.abs(weight).sum(1) * float(max(-input.min_raw, input.max_raw))
    bound = reach + np.abs(np.ldexp(bias, frac)) + 1
    excess = np.maximum(np.ceil(np.log2(bound)).astype(np.int64) - (ACCUMULATOR_BITS - 2), frac - MAX_FRAC)
    excess = np.maximum(excess, 0)
    frac = frac - excess
    return IntegerLayer(
        np.rint(np.ldexp(weight.astype(np.float64), -excess[:, None])).astype(np.int64),
        np.rint(np.ldexp(bias, frac)).astype(np.int64),
        frac,
        np.ldexp(bound, -(frac + excess)),
    )
