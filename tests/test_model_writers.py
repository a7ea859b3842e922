import pytest
import timm
import torch
from torch import nn

from sw.model.sites import find_sites
from sw.model.writers import find_writers


def writers_of(name, size=32, **kwargs):
    torch.manual_seed(0)
    model = timm.create_model(name, **kwargs).eval()
    found = find_writers(model, find_sites(model), torch.randn(2, 3, size, size))
    return model, found


def test_in_a_vit_they_are_the_last_layers_of_the_branches():
    kwargs = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    _, found = writers_of("vit_tiny_patch16_224", **kwargs)
    assert {site: w and w.layer for site, w in found.items()} == {
        "blocks.0.norm1": None,
        "blocks.0.norm2": "blocks.0.attn.proj",
        "blocks.1.norm1": "blocks.0.mlp.fc2",
        "blocks.1.norm2": "blocks.1.attn.proj",
        "norm": "blocks.1.mlp.fc2",
    }
    for writer in filter(None, found.values()):
        torch.testing.assert_close(writer.gain, torch.ones(24), rtol=1e-3, atol=0)


def test_gains_are_the_factors_of_layer_scale():
    kwargs = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 1,
        "num_heads": 2,
        "init_values": 0.5,
    }
    model, _ = writers_of("vit_tiny_patch16_224", **kwargs)
    block = model.blocks[0]
    with torch.no_grad():
        block.ls1.gamma.copy_(torch.logspace(-5, 1, 24))
        block.ls2.gamma[3] = 0  # nothing that is written there arrives
    found = find_writers(model, ["blocks.0.norm2", "norm"], torch.randn(2, 3, 32, 32))
    for site, gamma in (("blocks.0.norm2", block.ls1.gamma), ("norm", block.ls2.gamma)):
        torch.testing.assert_close(found[site].gain, gamma.detach(), rtol=1e-3, atol=0)


class Branch(nn.Module):
    """A Linear, something behind it, and a norm."""

    def __init__(self, behind, times=1):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)
        self.behind, self.times = behind, times

    def forward(self, x):
        for _ in range(self.times):
            x = x + self.behind(self.linear(x))
        return self.norm(x)


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(-1, keepdim=True)


@pytest.mark.parametrize(
    ("behind", "times", "found"),
    [(nn.Identity(), 1, True), (nn.Tanh(), 1, False), (Centred(), 1, False), (nn.Identity(), 2, False)],
    ids=["sum", "non-linear", "channels mixed", "runs twice"],
)
def test_only_what_arrives_by_addition_counts(behind, times, found):
    model = Branch(behind, times)
    assert (find_writers(model, ["norm"], torch.randn(4, 5, 6))["norm"] is not None) == found


def test_a_norm_after_other_widths_or_no_linear_has_none():
    assert find_writers(nn.Sequential(nn.LayerNorm(6)), ["0"], torch.randn(4, 6)) == {"0": None}
    wide = nn.Sequential(
        nn.Linear(6, 3), nn.Unflatten(1, (1, 3)), nn.Flatten(1), nn.ZeroPad1d((0, 3)), nn.LayerNorm(6)
    )
    assert find_writers(wide, ["4"], torch.randn(4, 6)) == {"4": None}


def test_hierarchies_with_windows_are_followed_where_they_add():
    model, found = writers_of(
        "swin_tiny_patch4_window7_224",
        size=64,
        img_size=64,
        embed_dim=24,
        depths=(2, 2),
        num_heads=(2, 2),
        window_size=4,
    )
    assert set(found) == set(find_sites(model))
    assert found["layers.0.blocks.1.norm1"].layer == "layers.0.blocks.0.mlp.fc2"
    assert found["layers.0.blocks.0.norm2"] is None, "its rows are in another order"
