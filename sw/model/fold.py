"""Folding a norm's per-channel affine into the layers that read it: W' = W diag(gamma), b' = b + W beta.

What multiplies x inside the function stays there: x is the residual stream, which later layers read, too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sw.model.preprocessing import input_size
from sw.model.readers import Readers, trace_readers
from sw.model.sites import affine, along_channels, channel_dim, find_sites, pre_affine, replace_module

TOLERANCE = 1e-9
"""Largest difference of logits that a fold may make in float64, relative to the largest logit."""
PROOF_SEED = 20
NEVER_RAN = "never ran"
"""The reason of a norm that the forward pass does not use."""


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """What becomes of one site's affine."""

    consumers: tuple[str, ...]
    """Every layer that the affine moves into; empty where it cannot."""
    averaged: tuple[str, ...] = ()
    """Those consumers that read an average over tokens."""
    reason: str = ""
    """Why it cannot fold, such as ``feeds add``; empty where it can."""

    @property
    def foldable(self) -> bool:
        return not self.reason

    def to_json(self) -> dict[str, Any]:
        """The plan as ``captures.json`` holds it."""
        return asdict(self) | {"foldable": self.foldable}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> FoldPlan:
        """The inverse of ``to_json``; other keys are ignored."""
        return cls(tuple(body["consumers"]), tuple(body["averaged"]), str(body["reason"]))


class _Affine(nn.Module):
    """A normalisation with its affine apart, as the proof moves it about."""

    def __init__(self, norm: nn.LayerNorm, like: Tensor) -> None:
        super().__init__()
        weight, bias = affine(norm, like)
        self.norm, self.dim = norm, channel_dim(norm)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (along_channels(v, x.ndim, self.dim) for v in (self.weight, self.bias))
        return pre_affine(x, self.norm) * weight + bias


def plan_folds(model: nn.Module) -> dict[str, FoldPlan]:
    """For every LayerNorm of a model, in the order in which they run, whether its affine folds and into what.

    A trace of one forward pass proposes the consumers; then the fold is carried out on a float64 copy whose
    parameters were made generic (random, so that no gamma is 1 and no layer 0) and must leave the logits as
    they were, within 1e-9 of the largest. What fails the proof is not folded.
    """
    sites = list(find_sites(model))
    proof = _generic_copy(model, sites)
    images = torch.randn(
        2, *input_size(model), dtype=torch.float64, generator=torch.Generator().manual_seed(PROOF_SEED)
    ).to(next(model.parameters()).device)
    plans = {site: _propose(proof, site, r) for site, r in trace_readers(proof, sites, images).items()}
    proposed = [site for site, plan in plans.items() if plan.foldable]
    for site in _refuted(proof, plans, proposed, images):
        plans[site] = FoldPlan((), reason="changes the logits when folded")
    return plans


def fold(model: nn.Module, site: str, consumers: Iterable[str]) -> None:
    """Move a site's ``weight`` and ``bias`` into its consumers and leave 1 and 0 behind, in place.

    A consumer without a bias gets one.
    """
    norm = model.get_submodule(site)
    weight, bias = norm.weight, norm.bias
    assert isinstance(weight, Tensor), site
    assert isinstance(bias, Tensor), site
    with torch.no_grad():
        for name in consumers:
            layer = model.get_submodule(name)
            assert isinstance(layer, (nn.Linear, nn.Conv2d)), name
            matrix = layer.weight.flatten(1)
            shift = matrix @ bias
            if layer.bias is None:
                layer.bias = nn.Parameter(torch.zeros_like(shift))
            layer.bias += shift
            layer.weight.copy_((matrix * weight).view_as(layer.weight))
        weight.fill_(1)
        bias.zero_()


def _propose(model: nn.Module, site: str, readers: Readers) -> FoldPlan:
    channels = len(model.get_submodule(site).get_parameter("weight"))
    for name in readers.consumers:
        layer = model.get_submodule(name)
        if layer.get_parameter("weight").shape[1] != channels:
            return FoldPlan((), reason=f"feeds '{name}' along another dimension than the channels")
    if readers.other:
        return FoldPlan((), reason=f"feeds {readers.other[0]}")
    if not readers.consumers:
        return FoldPlan((), reason=NEVER_RAN if not readers.calls else "feeds no Linear or 1x1 convolution")
    averaged = tuple(name for name, is_averaged in readers.consumers.items() if is_averaged)
    return FoldPlan(tuple(readers.consumers), averaged)


def _generic_copy(model: nn.Module, sites: Iterable[str]) -> nn.Module:
    """A float64 copy with every parameter moved to a random place near its own."""
    proof = copy.deepcopy(model).eval().double()
    for site in sites:
        norm = proof.get_submodule(site)
        assert isinstance(norm, nn.LayerNorm), site
        replace_module(proof, site, _Affine(norm, next(proof.parameters())))
    generator = torch.Generator().manual_seed(PROOF_SEED)
    with torch.no_grad():
        for parameter in proof.parameters():
            spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise.to(parameter.device), alpha=0.5 * max(spread, 0.1))
    return proof


def _refuted(
    model: nn.Module, plans: Mapping[str, FoldPlan], proposed: list[str], images: Tensor
) -> list[str]:
    """The proposed sites whose fold does not leave the logits as they were."""
    with torch.no_grad():
        expected = _logits(model, images)
        if not proposed or _holds(model, plans, proposed, images, expected):
            return []
        return [site for site in proposed if not _holds(model, plans, [site], images, expected)]


def _holds(
    model: nn.Module, plans: Mapping[str, FoldPlan], sites: list[str], images: Tensor, expected: Tensor
) -> bool:
    folded = copy.deepcopy(model)
    for site in sites:
        fold(folded, site, plans[site].consumers)
    difference = (_logits(folded, images) - expected).abs().max()
    return bool(difference <= TOLERANCE * expected.abs().max())


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    """A model's output; the two heads of a distilled DeiT side by side."""
    output = model(images)
    return torch.cat(output, dim=-1) if isinstance(output, (list, tuple)) else output
