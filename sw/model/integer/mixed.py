"""Models without an integer-only form, as ONNX: units as table look-ups, layers rounded in floating point."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.model.codes import rounded
from sw.model.evaluate import logits
from sw.model.integer.graph import narrowest
from sw.model.quantize import UnitSite
from sw.model.quantizers import QuantConv2d, QuantLinear, input_format, weight_codes
from sw.model.runtime import device
from sw.model.sites import replace_module

OPSET = 17


class FixedPointLayer(nn.Module):
    """A quantized layer as plain operations on real values: what tools without Brevitas can read.

    Args:
        layer: A layer of the integer model.
    """

    weight: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()
        weight, frac = weight_codes(layer)
        exact = torch.from_numpy(np.ldexp(weight.astype(np.float64), -frac[:, None]))
        self.input = input_format(layer)
        self.register_buffer("weight", exact.to(layer.weight).view_as(layer.weight))
        self.bias = layer.bias
        self.product: Callable[..., Tensor] = functional.linear
        if isinstance(layer, nn.Conv2d):
            how = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "groups")}
            self.product = functools.partial(functional.conv2d, **how)

    def forward(self, x: Tensor) -> Tensor:
        if self.input is not None:
            x = rounded(x, self.input) * self.input.step
        return self.product(x, self.weight, self.bias)


class WithSites(nn.Module):
    """A model whose outputs are its logits and what each of its norm units gives."""

    def __init__(self, model: nn.Module, sites: Iterable[str]) -> None:
        super().__init__()
        self.model, self.sites = model, tuple(sites)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        seen: dict[str, Tensor] = {}

        def keep(site: str) -> Callable[..., None]:
            return lambda _, __, output: seen.__setitem__(site, output)

        units = [(site, self.model.get_submodule(site).get_submodule("unit")) for site in self.sites]
        handles = [unit.register_forward_hook(keep(site)) for site, unit in units]
        try:
            result = logits(self.model, images)
        finally:
            for handle in handles:
                handle.remove()
        return (result, *(seen[site] for site in self.sites))


def output_steps(model: nn.Module) -> dict[str, float]:
    """The norm sites of an integer model that are units, and the step of their output codes."""
    return {
        name: module.unit.output.step
        for name, module in model.named_modules()
        if isinstance(module, UnitSite)
    }


def replace_layers(model: nn.Module) -> list[str]:
    """Put plain operations where the quantized layers were, in place; their names."""
    names = [n for n, m in model.named_modules() if isinstance(m, (QuantLinear, QuantConv2d))]
    for name in names:
        replace_module(model, name, FixedPointLayer(model.get_submodule(name)).eval())
    return names


def describe_model(model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Formats of layers and sites for the JSON, and every number of the model as arrays.

    Returns:
        ``{"layers": {name: {"input", "weight_bits"}}, "sites": {name: {"input", "output", "expression"}}}``
        and ``<layer>/weight`` (integers), ``<layer>/frac``, ``<layer>/bias``, ``<site>/table``; everything
        else under its name in the state dict.
    """
    layers: dict[str, Any] = {}
    sites: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, (QuantLinear, QuantConv2d)):
            codes, frac = weight_codes(module)
            read = input_format(module)
            layers[name] = {
                "input": read and str(read),
                "weight_bits": int(np.abs(codes).max()).bit_length() + 1,
            }
            arrays |= {f"{name}/weight": narrowest(codes), f"{name}/frac": narrowest(frac)}
            if module.bias is not None:
                arrays[f"{name}/bias"] = module.bias.detach().cpu().numpy()
        elif isinstance(module, UnitSite):
            unit = module.unit
            sites[name] = {
                "input": str(unit.input),
                "output": str(unit.output),
                "expression": str(unit.expr),
                "affine": "folded" if module.weight is None else "per channel",
            }
            arrays[f"{name}/table"] = narrowest(unit.table.cpu().numpy())
    inside = tuple(f"{name}." for name in (*layers, *(f"{site}.unit" for site in sites)))
    for name, value in model.state_dict().items():
        if not name.startswith(inside):
            arrays[name] = value.detach().cpu().numpy()
    return {"layers": layers, "sites": sites}, arrays


def write_onnx(path: Path, model: WithSites, images: Tensor) -> list[Path]:
    """Trace a model of plain operations to an ONNX file; input ``image``, outputs ``logits`` and the sites.

    Args:
        path: The file, alone in its folder.
        model: Without Brevitas's layers.
        images: A batch; the file takes any number.

    Returns:
        The files: where weights take more than ONNX's 2 GB a file, they are in one beside it.
    """
    names = ["logits", *model.sites]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the older one
        torch.onnx.export(
            model,
            (images.to(device()),),
            str(path),
            input_names=["image"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
            opset_version=OPSET,
            dynamo=False,
        )
    return gather_weights(path)


def gather_weights(path: Path) -> list[Path]:
    """Put what an ONNX file keeps in files beside it, alone in their folder, into one of them.

    Returns:
        The ONNX file, and ``<name>.data`` beside it if there is one.
    """
    parts = [part for part in path.parent.iterdir() if part != path]
    if not parts:
        return [path]
    model = onnx.load(path)
    for part in parts:
        part.unlink()
    data = path.with_name(f"{path.name}.data")
    onnx.save_model(model, path, save_as_external_data=True, location=data.name)
    return [path, data]
