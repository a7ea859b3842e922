"""Brevitas, and nothing else of the project touches it: int8 layers, their calibration, and its rounding.

All scales are powers of two (fixed point): weights symmetric with one scale per output channel, activations
with one scale per tensor.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sw.ir.formats import FixedFormat, IntArray

torch.cuda.is_available()  # torch says once why it cannot use a GPU, and is to say it where it is heard
with warnings.catch_warnings():  # about optional kernels and a missing CUDA, as it is imported
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import brevitas.config
    from brevitas.core.function_wrapper import Identity, RoundSte, TensorClamp
    from brevitas.core.quant import IntQuant
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.nn import QuantConv2d, QuantLinear
    from brevitas.quant.fixed_point import Int8ActPerTensorFixedPoint, Int8WeightPerChannelFixedPoint

    logging.disable(logging.NOTSET)

# Else a quantizer makes new parameters when weights are loaded, and an optimizer that goes on from a
# checkpoint would train the old ones.
brevitas.config.REINIT_ON_STATE_DICT_LOAD = False


def quantizable_layers(
    model: nn.Module, run_once: Callable[[nn.Module], None]
) -> tuple[list[str], dict[str, str]]:
    """The Linear and convolution layers that can be quantized as layers, and those that cannot.

    Args:
        model: Any model.
        run_once: Runs one batch through it.

    Returns:
        Names; name -> why not: a forward pass does not call it (a function reads its weights, or nobody), or
        it computes something of its own (a subclass that standardises its weights, other padding).
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    called: set[str] = set()

    def note(name: str) -> Callable[..., None]:
        return lambda *_: called.add(name)

    handles = [m.register_forward_hook(note(name)) for name, m in layers.items()]
    try:
        run_once(model)
    finally:
        for handle in handles:
            handle.remove()
    reasons = {
        name: _own_ways(layer) if name in called else "is not called as a layer"
        for name, layer in layers.items()
    }
    return [n for n in layers if not reasons[n]], {n: why for n, why in reasons.items() if why}


def _own_ways(layer: nn.Module) -> str:
    """What a layer does that Brevitas's layers do not; empty if nothing."""
    if type(layer) not in (nn.Linear, nn.Conv2d):
        return f"is a {type(layer).__name__}, which may compute otherwise"
    padding = getattr(layer, "padding_mode", "zeros")
    return "" if padding == "zeros" else f"pads with '{padding}'"


def quantize_layers(
    model: nn.Module, names: Iterable[str], coded: Iterable[str], *, weight_bits: int, act_bits: int
) -> None:
    """Replace layers by integer ones of the same weights, in place.

    Args:
        model: In eval mode.
        names: Linear and convolution layers.
        coded: Those whose input are output codes of a norm unit already: they get no quantizer of their own.
        weight_bits: Bits of a weight.
        act_bits: Bits of an input.
    """
    without_input = set(coded)
    for name in names:
        parent, _, leaf = name.rpartition(".")
        layer = model.get_submodule(name)
        quantized = _quantized(layer, name not in without_input, weight_bits, act_bits)
        setattr(model.get_submodule(parent), leaf, quantized.to(layer.get_parameter("weight").device).eval())


def _quantized(layer: nn.Module, input_too: bool, weight_bits: int, act_bits: int) -> nn.Module:
    options = {
        "bias": layer.bias is not None,
        "weight_quant": Int8WeightPerChannelFixedPoint,
        "weight_bit_width": weight_bits,
        "input_quant": Int8ActPerTensorFixedPoint if input_too else None,
    }
    if input_too:
        options["input_bit_width"] = act_bits
    if isinstance(layer, nn.Conv2d):
        quantized: nn.Module = QuantConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            **options,
        )
    else:
        assert isinstance(layer, nn.Linear), type(layer)
        quantized = QuantLinear(layer.in_features, layer.out_features, **options)
    with torch.no_grad():
        quantized.get_parameter("weight").copy_(layer.weight)
        if layer.bias is not None:
            quantized.get_parameter("bias").copy_(layer.bias)
    return quantized


def calibrate(model: nn.Module, run_all: Callable[[nn.Module], None]) -> None:
    """Set every activation scale from the activations that ``run_all`` makes."""
    model.eval()
    with torch.no_grad(), calibration_mode(model):
        run_all(model)
    model.eval()


def weight_codes(layer: nn.Module) -> tuple[IntArray, IntArray]:
    """Integer weights of a quantized layer, and how many bits of them lie after the binary point.

    Returns:
        Codes, int64, (out, in), a convolution's kernels laid out flat; bits, int64, (out,).
    """
    assert isinstance(layer, (QuantLinear, QuantConv2d)), type(layer)
    with torch.no_grad():
        weight = layer.quant_weight()
        codes, step = weight.int().flatten(1), weight.scale.flatten().double()
    frac = torch.round(-torch.log2(step)).expand(len(codes))
    return codes.cpu().numpy().astype(np.int64), frac.cpu().numpy().astype(np.int64)


def input_format(layer: nn.Module) -> FixedFormat | None:
    """The format to which a quantized layer rounds its input; None: it takes codes as they are."""
    assert isinstance(layer, (QuantLinear, QuantConv2d)), type(layer)
    quantizer = layer.input_quant
    if not quantizer.is_quant_enabled:
        return None
    return FixedFormat(int(quantizer.bit_width()), -round(math.log2(quantizer.scale().item())))


def quantize_real(values: Tensor, form: FixedFormat) -> Tensor:
    """Real values rounded to a format by Brevitas's integer quantizer, as real values; dtype is kept.

    Half to even, saturating, not narrow: what Brevitas does between two fixed-point layers.
    """
    quantizer: Any = IntQuant(
        narrow_range=False,
        signed=form.signed,
        input_view_impl=Identity(),
        float_to_int_impl=RoundSte(),
        tensor_clamp_impl=TensorClamp(),
    )

    def number(value: float) -> Tensor:
        return torch.tensor(value, dtype=values.dtype, device=values.device)

    rounded: Tensor = quantizer(number(form.step), number(0.0), number(float(form.width)), values)
    return rounded
