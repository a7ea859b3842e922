"""How much the loss depends on a norm's output: squared gradients at the positions of captured pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.ir.errors import InputError
from sw.ir.formats import FloatArray
from sw.model.evaluate import logits
from sw.model.sites import affine, along_channels, channel_dim


def squared_gradients(
    model: nn.Module, positions: Mapping[str, Sequence[Tensor]], images: Tensor, labels: Tensor
) -> dict[str, list[FloatArray]]:
    """(dL/dy)^2 at some positions of every site's pre-affine output y; 0 where L does not depend on y.

    L is the sum of the images' cross-entropies, so an image's gradients do not depend on its batch. No
    parameter gets a gradient; the memory needed is that of a training step in float32 on all images at once.

    Args:
        model: In eval mode.
        positions: Site -> for each of its calls in a forward pass, int64 indices into the flattened output.
        images: (B, C, H, W), on the model's device, as are positions and labels.
        labels: (B,) int64.

    Returns:
        Site -> for each of its calls, float64 in the order of the positions.

    Raises:
        InputError: A label is none of the model's classes, or a gradient at a site is not finite.
    """
    probe = images.new_zeros(()).requires_grad_()
    squares = {site: [np.zeros(len(p)) for p in calls] for site, calls in positions.items()}
    handles = [
        model.get_submodule(site).register_forward_hook(_listener(site, probe, calls, squares[site]))
        for site, calls in positions.items()
    ]
    try:
        loss = _summed_cross_entropy(logits(model, images), labels)
        if loss.requires_grad:
            torch.autograd.grad(loss, probe, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return squares


def to_weights(site: str, squares: FloatArray) -> FloatArray:
    """Weights of mean 1 in proportion to ``squares``; all 1, and a line that says so, where all are 0."""
    if not squares.any():
        print(f"{site}: every pair weighs 1, because the loss has gradient 0 at all of them", flush=True)
        return np.ones_like(squares)
    return squares / squares.mean()


def _listener(
    site: str, probe: Tensor, positions: Sequence[Tensor], squares: list[FloatArray]
) -> Callable[..., Tensor]:
    """A forward hook that adds 0 to a norm's y; backward, that 0 receives dL/dy and fills ``squares``.

    Unlike the norm's output itself, the 0 has a gradient whatever is frozen before the norm, and whatever
    is changed in place behind it.
    """
    calls = iter(range(len(positions)))

    def hook(norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(norm, nn.LayerNorm), site
        call = next(calls)

        def collect(gradient: Tensor) -> None:
            if not bool(torch.isfinite(gradient).all()):
                raise InputError(f"gradients at site '{site}' must be finite, and some are NaN or infinite")
            squares[call] = gradient.flatten()[positions[call]].double().square().cpu().numpy()

        nothing = probe.expand_as(output)
        nothing.register_hook(collect)
        gamma, _ = affine(norm, output)
        return output + along_channels(gamma, output.ndim, channel_dim(norm)) * nothing

    return hook


def _summed_cross_entropy(output: Tensor, labels: Tensor) -> Tensor:
    classes = output.shape[1]
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):  # a GPU would stop the process
        raise InputError(f"labels must be 0..{classes - 1}, the model's classes, not {int(wrong[0])}")
    # float32 would round away the gradient of an image that the model is sure of
    return functional.cross_entropy(output.double(), labels, reduction="sum")
