"""Who writes what a norm reads: the last Linear before it whose output reaches it by addition alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sw.model.taps import Tap, seen

TOLERANCE = 1e-3
"""Of a gain, from token to token, as a share of itself: room for float32."""
PROBE = 1e3
"""What is added over the largest value that is there: so small gains rise above float32's rounding."""


@dataclass(frozen=True, slots=True)
class Writer:
    """A Linear that adds to what a site reads.

    Args:
        layer: Its dotted name.
        gain: (C,): what is added to a channel of its output arrives at the site so many times larger;
            LayerScale's factors, or ones. 0 where nothing arrives.
    """

    layer: str
    gain: Tensor


def find_writers(model: nn.Module, sites: Iterable[str], images: Tensor) -> dict[str, Writer | None]:
    """Who writes what each site reads; None where nobody does by addition alone.

    The candidate is the last Linear that runs before the site and after the one before it. It is proven by
    trial: random amounts are added to its output, and every channel of the site's input must change by one
    and the same multiple of them in all tokens.

    Args:
        model: In eval mode.
        sites: Names of norm modules.
        images: A batch that the model takes.

    Returns:
        Site -> its writer, in the order in which the sites run; sites that do not run are left out.
    """
    with torch.no_grad():
        candidates = _candidates(model, set(sites), images)
        return {
            site: None if layer is None else _prove(model, layer, site, images)
            for site, layer in candidates.items()
        }


def _candidates(model: nn.Module, sites: set[str], images: Tensor) -> dict[str, str | None]:
    """The last Linear that ran before each site; one that runs more than once is none."""
    ran: list[str] = []
    handles = [
        module.register_forward_pre_hook(_appender(ran, name))
        for name, module in model.named_modules()
        if name in sites or isinstance(module, nn.Linear)
    ]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    before = dict(zip(ran, [None, *ran], strict=False))
    return {
        site: None
        if layer is None or layer in sites or ran.count(layer) > 1 or ran.count(site) > 1
        else layer
        for site, layer in before.items()
        if site in sites
    }


def _appender(ran: list[str], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        ran.append(name)

    return hook


def _prove(model: nn.Module, layer: str, site: str, images: Tensor) -> Writer | None:
    """The candidate, if what is added to its output arrives at the site unmixed."""
    made, goal = Tap(layer, "output"), Tap(site, "input")
    found = seen(model, [made, goal], images)
    before, output = found[goal], found[made]
    if before.numel() != output.numel() or before.shape[-1] != output.shape[-1]:
        return None
    noise = torch.rand(output.shape, generator=torch.Generator().manual_seed(0))
    more = PROBE * before.abs().max() * (0.5 + noise.to(output))
    handle = model.get_submodule(layer).register_forward_hook(lambda module, args, output: output + more)
    try:
        change = seen(model, [goal], images)[goal] - before
    finally:
        handle.remove()
    gains = change.flatten(0, -2) / more.flatten(0, -2)
    gain = gains.mean(0)
    rounding = 10 * torch.finfo(before.dtype).eps / PROBE
    constant = bool(((gains - gain).abs() <= TOLERANCE * gain.abs() + rounding).all())
    gain = torch.where(gain.abs() * TOLERANCE > rounding, gain, 0.0)
    return Writer(layer, gain) if constant and bool(gain.any()) else None
