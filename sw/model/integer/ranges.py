"""Formats of the tensors between layers, chosen from the activations of the calibration images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from timm.layers import Attention
from torch import Tensor, nn

from sw.ir.formats import FixedFormat
from sw.model.data import Images
from sw.model.quantize import UnitSite
from sw.model.runtime import device

STREAM_BITS = 16
"""Bits of the residual stream."""
STREAM_HEADROOM = 2.0
"""Room between the residual stream's largest value and its range: all blocks see what saturates."""
FINER = 3
"""Formats tried for queries, keys and values: that of the largest value, and those that saturate it."""
SAMPLE = 1 << 16
"""Values of one batch that a choice of format looks at."""


@dataclass(slots=True)
class Seen:
    """What was seen of one tensor."""

    largest: float = 0.0
    """Largest absolute value."""
    sample: list[Tensor] = field(default_factory=list)
    """Every k-th value, float32."""

    def add(self, values: Tensor) -> None:
        """Take a batch in."""
        flat = values.detach().flatten()
        self.largest = max(self.largest, float(flat.abs().max()))
        self.sample.append(flat[:: -(-flat.numel() // SAMPLE)].float().cpu())

    def stream_format(self) -> FixedFormat:
        """16 bits that hold twice the largest value."""
        return FixedFormat.covering(STREAM_HEADROOM * self.largest, STREAM_BITS)

    def code_format(self, width: int) -> FixedFormat:
        """The format of least squared error on the sample; it may saturate the largest values."""
        values = torch.cat(self.sample).double().numpy()

        def error(form: FixedFormat) -> float:
            return float(np.sum((form.to_real(form.quantize(values)) - values) ** 2))

        formats = [FixedFormat.covering(self.largest / 2**finer, width) for finer in range(FINER)]
        return min(formats, key=error)


def observe(model: nn.Module, images: Images, limit: int) -> dict[str, Seen]:
    """What passes through a quantized model whose Linear and norm layers are replaced already.

    Returns:
        By the name of a site, its input; by ``<attention>.q``, ``.k`` and ``.v``, what its qkv gives.
    """
    seen: dict[str, Seen] = {}
    handles = []

    def keep_input(name: str) -> Callable[..., None]:
        return lambda _, args: seen.setdefault(name, Seen()).add(args[0])

    def keep_qkv(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            for part, values in zip("qkv", output.chunk(3, dim=-1), strict=True):
                seen.setdefault(f"{name}.{part}", Seen()).add(values)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, UnitSite):
            handles.append(module.register_forward_pre_hook(keep_input(name)))
        elif isinstance(module, Attention):
            handles.append(module.qkv.register_forward_hook(keep_qkv(name)))
    try:
        with torch.no_grad():
            for batch, _ in images.batches(limit=limit):
                model(batch.to(device()))
    finally:
        for handle in handles:
            handle.remove()
    return seen
