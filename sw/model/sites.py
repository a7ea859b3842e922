"""Norm sites: which modules they are, what they are called, and what they compute before the affine."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from timm import layers
from torch import Tensor, nn

from sw.ir.errors import InputError

CHANNELS_FIRST = tuple(
    getattr(layers, name)
    for name in ("LayerNorm2d", "LayerNorm2dFp32", "LayerNormExp2d")
    if hasattr(layers, name)
)
WITH_ACTIVATION = tuple(
    getattr(layers, name)
    for name in ("LayerNormAct", "LayerNormAct2d", "LayerNormActFp32", "LayerNormAct2dFp32")
    if hasattr(layers, name)
)
"""Fused with a non-linearity: not a norm site, for the affine is not what follows the normalisation."""


def find_sites(model: nn.Module, keep_layernorm: Sequence[str] = ()) -> dict[str, nn.LayerNorm]:
    """Every LayerNorm over channels, by its dotted name, in the model's own order.

    Args:
        model: A timm model.
        keep_layernorm: Names or shell patterns of sites that are left out.

    Raises:
        InputError: The model has no LayerNorm, or a pattern matches none of its sites.
    """
    sites = {name: m for name, m in model.named_modules() if is_site(m)}
    if not sites:
        raise InputError(f"model must have LayerNorm modules, and '{type(model).__name__}' has none")
    for pattern in keep_layernorm:
        matched = [name for name in sites if fnmatchcase(name, pattern)]
        if not matched:
            raise InputError(unknown_site(pattern, list(sites)))
    return {
        name: m
        for name, m in sites.items()
        if not any(fnmatchcase(name, pattern) for pattern in keep_layernorm)
    }


def is_site(module: nn.Module) -> bool:
    """Whether a module is a LayerNorm over the channels alone, timm's subclasses included."""
    return (
        isinstance(module, nn.LayerNorm)
        and not isinstance(module, WITH_ACTIVATION)
        and len(module.normalized_shape) == 1
    )


def unknown_site(name: str, sites: Sequence[str]) -> str:
    """One line that names the nearest sites and a few more, in the order of ``sites``."""
    near = difflib.get_close_matches(name, sites, n=3, cutoff=0.3)
    named = near + [s for s in sites if s not in near][: 4 - len(near)]
    shown = [s for s in sites if s in named]
    more = f" and {len(sites) - len(shown)} more" if len(sites) > len(shown) else ""
    return f"site '{name}' is not in the model; it has: {', '.join(shown)}{more}"


def channel_dim(norm: nn.Module) -> int:
    """The dimension of a site's input that holds the channels."""
    return 1 if isinstance(norm, CHANNELS_FIRST) else -1


def affine(norm: nn.LayerNorm, like: Tensor) -> tuple[Tensor, Tensor]:
    """Copies of gamma and beta, shape (C,); ones and zeros where the norm has none.

    Args:
        norm: A site.
        like: Any parameter of the same model: a norm without gamma has no dtype and device of its own.
    """
    size = norm.normalized_shape[0]
    weight = like.new_ones(size) if norm.weight is None else norm.weight.detach().clone()
    bias = torch.zeros_like(weight) if norm.bias is None else norm.bias.detach().clone()
    return weight, bias


def along_channels(vector: Tensor, ndim: int, dim: int) -> Tensor:
    """A (C,) vector shaped so that it broadcasts along dimension ``dim`` of an ``ndim`` tensor."""
    shape = [1] * ndim
    shape[dim] = -1
    return vector.view(shape)


def pre_affine(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """(x - mean) / sqrt(var + eps) over the channels, before gamma and beta; shape of ``x``.

    Computed directly: dividing the norm's output by gamma is ill-conditioned where gamma is near 0.
    """
    dim = channel_dim(norm)
    var, mean = torch.var_mean(x, dim=dim, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(var + norm.eps)


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` where the dotted name points."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
