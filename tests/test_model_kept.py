import copy

import pytest
import timm
import torch

from sw.model.data import TensorImages
from sw.model.kept import site_costs
from sw.model.sites import find_sites
from sw.model.swap import swap


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    options = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "in_chans": 1}
    original = timm.create_model("vit_tiny_patch16_224", num_classes=4, **options).eval()
    swapped = copy.deepcopy(original)
    poor = {"expression": "clip(x, -0.1, 0.1)", "scale": 3.0, "offset": 0.5}
    good = {"expression": "x", "scale": 1.0, "offset": 0.0}
    sites = list(find_sites(original))
    swap(swapped, {site: poor if site == "blocks.1.norm1" else good for site in sites})
    return original, swapped, sites


def images():
    generator = torch.Generator().manual_seed(1)
    return TensorImages(torch.randn(24, 1, 8, 8, generator=generator), torch.zeros(24, dtype=torch.long), 10)


def test_costs_are_divergences_from_the_original(models):
    original, swapped, sites = models
    before = list(swapped.state_dict())
    body = site_costs(swapped, original, sites, images(), 20)
    assert body["images"] == 20
    assert list(body["kept"]) == sites
    assert list(swapped.state_dict()) == before
    x = images().images[:20]
    with torch.no_grad():
        p, q = original(x).softmax(1), swapped(x).softmax(1)
    assert body["swapped"]["kl"] == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-4)
    own = original.get_submodule("blocks.1.norm1")
    mixed = copy.deepcopy(swapped)
    mixed.blocks[1].norm1 = own
    with torch.no_grad():
        kept = mixed(x).softmax(1)
    expected = float((p * (p / kept).log()).sum(1).mean())
    assert body["kept"]["blocks.1.norm1"]["kl"] == pytest.approx(expected, rel=1e-3)
    assert body["swapped"]["agreement"] == float((p.argmax(1) == q.argmax(1)).double().mean())


def test_a_site_alone_swapped_and_kept_leaves_no_cost():
    torch.manual_seed(0)
    options = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "in_chans": 1}
    original = timm.create_model("vit_tiny_patch16_224", num_classes=4, **options).eval()
    swapped = copy.deepcopy(original)
    swap(swapped, {"norm": {"expression": "clip(x, -0.1, 0.1)", "scale": 3.0, "offset": 0.5}})
    body = site_costs(swapped, original, ["norm"], images(), 24)
    assert body["swapped"]["kl"] > 1e-4
    assert body["kept"]["norm"] == {"kl": pytest.approx(0.0, abs=1e-9), "agreement": 1.0}
