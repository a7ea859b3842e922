"""Which models have an integer-only form: plain timm Vision Transformers of integer layers and units."""

from __future__ import annotations

from collections.abc import Iterator

from timm.layers import Attention, Mlp, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from sw.ir.errors import InputError
from sw.model.integer.maps import ACTIVATIONS, activation_formula
from sw.model.quantize import UnitSite
from sw.model.quantizers import QuantConv2d, QuantLinear


class UncoveredError(InputError):
    """A model that has no integer-only form here; the text names the module and the rule."""


def check_covered(model: nn.Module) -> None:
    """Refuse a model of which some part has no integer form.

    Covered is a pre-norm ``VisionTransformer`` with a class token that is read by the head, whose every norm
    is a unit with a folded affine, and whose every layer is an integer one. Layer scale, query and key norms,
    gates and other kinds of blocks, attention, pooling or activation are not.

    Raises:
        UncoveredError: It has such a part.
    """
    if type(model) is not VisionTransformer:
        raise UncoveredError(
            f"model must be a plain timm VisionTransformer to have an integer-only form, "
            f"not '{type(model).__name__}'"
        )
    for name, kind in _expected(model):
        found = _find(model, name)
        if type(found) is not kind and not (kind is nn.Identity and found is None):
            raise UncoveredError(
                f"module '{name}' must be {kind.__name__} in an integer-only form, not {type(found).__name__}"
            )
    for name, value in (("global_pool", "token"), ("dynamic_img_size", False)):
        found = getattr(model, name)
        if found != value:
            raise UncoveredError(
                f"'{name}' of the model must be {value!r} in an integer-only form, not {found!r}"
            )
    _check_patches(model)
    for name, module in model.named_modules():
        if isinstance(module, UnitSite) and module.weight is not None:
            raise UncoveredError(f"affine of site '{name}' must be folded in an integer-only form")
        if isinstance(module, Mlp) and activation_formula(module.act) is None:
            known = ", ".join(dict.fromkeys(kind.__name__ for kind in ACTIVATIONS))
            raise UncoveredError(
                f"module '{name}.act' must be one of {known} in an integer-only form, "
                f"not {type(module.act).__name__}"
            )


def _expected(model: VisionTransformer) -> Iterator[tuple[str, type[nn.Module]]]:
    """Names of modules and what each must be; an Identity may also be missing."""
    yield from (("patch_embed", PatchEmbed), ("patch_embed.proj", QuantConv2d))
    yield from ((name, nn.Identity) for name in ("patch_embed.norm", "norm_pre", "fc_norm", "attn_pool"))
    yield from (("norm", UnitSite), ("head", QuantLinear))
    for index in range(len(model.blocks)):
        block = f"blocks.{index}"
        yield from ((block, Block), (f"{block}.attn", Attention), (f"{block}.mlp", Mlp))
        yield from ((f"{block}.{name}", UnitSite) for name in ("norm1", "norm2"))
        yield from ((f"{block}.{name}", QuantLinear) for name in LAYERS)
        yield from ((f"{block}.{name}", nn.Identity) for name in ABSENT)


LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
ABSENT = ("ls1", "ls2", "attn.q_norm", "attn.k_norm", "attn.norm", "attn.gate", "mlp.norm")


def _find(model: nn.Module, name: str) -> object:
    """The attribute that a dotted name points to, or None."""
    found: object = model
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _check_patches(model: VisionTransformer) -> None:
    embed = model.patch_embed
    size = embed.patch_size
    if size[0] != size[1] or embed.img_size[0] % size[0] or embed.img_size[1] % size[1]:
        raise UncoveredError(
            f"patches of 'patch_embed' must be squares that fill the image in an integer-only form, "
            f"not {size[0]}x{size[1]} in {embed.img_size[0]}x{embed.img_size[1]}"
        )
