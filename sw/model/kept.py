"""What each site costs: how near the swapped model is to the original where one site keeps its LayerNorm."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.model.data import Images
from sw.model.evaluate import logits
from sw.model.runtime import device
from sw.model.sites import replace_module
from sw.terminal import progress


def site_costs(
    swapped: nn.Module, original: nn.Module, sites: Sequence[str], images: Images, limit: int
) -> dict[str, Any]:
    """Measure the swapped model, and the same with each of its norms put back, one at a time.

    No labels are looked at, and no test image.

    Args:
        swapped: Right after the swap; it is left as it is.
        original: With a LayerNorm at every site.
        sites: In the order of the network.
        images: Of the calibration split.
        limit: Images used at most.

    Returns:
        JSON: ``images``; ``swapped`` and, site by site, ``kept``: ``kl``, the mean KL divergence of the
        original's class probabilities from the model's in nats, and ``agreement``, the share of images that
        both put in the same class.
    """
    wanted = _logits(original, images, limit)
    with progress("sites kept", len(sites) + 1) as step:
        body: dict[str, Any] = {"images": len(wanted), "swapped": _near(swapped, wanted, images, limit)}
        step()
        kept = {}
        for site in sites:
            function = swapped.get_submodule(site)
            replace_module(swapped, site, copy.deepcopy(original.get_submodule(site)))
            try:
                kept[site] = _near(swapped, wanted, images, limit)
            finally:
                replace_module(swapped, site, function)
            step(site)
    return body | {"kept": kept}


def _near(model: nn.Module, wanted: Tensor, images: Images, limit: int) -> dict[str, float]:
    made = _logits(model, images, limit)
    log_p, log_q = (functional.log_softmax(v.double(), dim=1) for v in (wanted, made))
    divergence = functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    same = wanted.argmax(dim=1) == made.argmax(dim=1)
    return {"kl": max(float(divergence), 0.0), "agreement": float(same.double().mean())}


def _logits(model: nn.Module, images: Images, limit: int) -> Tensor:
    model.eval()
    with torch.no_grad():
        found = [logits(model, batch.to(device())).cpu() for batch, _ in images.batches(limit=limit)]
    return torch.cat(found)
