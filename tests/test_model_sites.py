import pytest
import timm
import torch
from timm.layers import LayerNorm2d, LayerNormAct
from torch import nn

from sw.ir.errors import InputError
from sw.model.sites import affine, channel_dim, find_sites, pre_affine

TINY = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def vit():
    return timm.create_model("vit_tiny_patch16_224", num_classes=3, **TINY).eval()


def test_sites_have_timm_names_in_model_order(vit):
    blocks = [f"blocks.{i}.norm{j}" for i in range(2) for j in (1, 2)]
    assert list(find_sites(vit)) == [*blocks, "norm"]


def test_patterns_leave_sites_out(vit):
    assert list(find_sites(vit, ("blocks.*.norm1", "norm"))) == ["blocks.0.norm2", "blocks.1.norm2"]


def test_unknown_site_wrong(vit):
    with pytest.raises(
        InputError, match=r"^site 'blocks.9.norm1' is not in the model; it has: blocks\.\d.norm1"
    ):
        find_sites(vit, ("blocks.9.norm1",))


def test_sites_in_the_message_are_in_model_order(vit):
    with pytest.raises(InputError) as caught:
        find_sites(vit, ("blocks.1.norm3",))
    shown = str(caught.value).partition("it has: ")[2].partition(" and ")[0].split(", ")
    assert len(shown) == 4
    assert shown == [site for site in find_sites(vit) if site in shown]


def test_model_without_layernorm_wrong():
    with pytest.raises(InputError, match=r"^model must have LayerNorm modules, and 'ResNet' has none$"):
        find_sites(timm.create_model("resnet10t", num_classes=2))


def test_norms_fused_with_an_activation_or_over_several_dimensions_are_no_sites():
    model = nn.ModuleDict({"a": LayerNormAct(4), "b": nn.LayerNorm((2, 3)), "c": nn.LayerNorm(4)})
    assert list(find_sites(model)) == ["c"]


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.LayerNorm(6, eps=1e-3), (2, 5, 6)),
        (LayerNorm2d(6), (2, 6, 3, 3)),
        (nn.LayerNorm(6, bias=False), (4, 6)),
    ],
)
def test_pre_affine_and_affine_make_the_norm_again(norm, shape):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, 6))
    weight, bias = affine(norm, norm.weight)
    y = pre_affine(x, norm).movedim(channel_dim(norm), -1) * weight + bias
    torch.testing.assert_close(y.movedim(-1, channel_dim(norm)), norm(x))


def test_norm_without_affine_has_ones_and_zeros():
    like = nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    weight, bias = affine(nn.LayerNorm(3, elementwise_affine=False), like)
    assert weight.tolist() == [1, 1, 1]
    assert bias.tolist() == [0, 0, 0]
    assert weight.dtype == bias.dtype == torch.float64
    assert not weight.requires_grad


def test_norm_without_bias_has_zeros_of_its_weights_type():
    weight, bias = affine(nn.LayerNorm(3, bias=False).double(), torch.zeros(1))
    assert weight.dtype == bias.dtype == torch.float64
