import numpy as np
import pytest
import timm
import torch

from sw.config import CaptureConfig, ModelConfig, RunConfig
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.model.capture import choose_sites, describe, record
from sw.model.data import TensorImages
from sw.model.fold import FoldPlan
from sw.model.sites import find_sites

SMALL = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 16, "depth": 1, "num_heads": 2}


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", num_classes=3, **SMALL).eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return TensorImages(torch.randn(10, 1, 8, 8, generator=generator), torch.zeros(10, dtype=torch.long), 4)


def config(**model):
    return RunConfig(model=ModelConfig(name="vit_tiny_patch16_224", kwargs=SMALL, **model))


def test_every_pair_is_kept_and_right_where_room_is(vit, images):
    with torch.no_grad():
        vit.norm.weight.fill_(0)  # the output says nothing any more: y must not come from dividing by gamma
        inputs = []
        handle = vit.norm.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
        vit(images.images)
        handle.remove()
    expected = torch.nn.functional.layer_norm(inputs[0].double(), (16,), eps=vit.norm.eps)
    seen = record(vit, ["norm"], images, limit=10, pairs=10_000)["norm"]
    order = np.argsort(np.concatenate(seen.x))
    x, y = np.concatenate(seen.x)[order], np.concatenate(seen.y)[order]
    assert len(x) == 10 * 5 * 16 == seen.count
    right = torch.argsort(inputs[0].flatten())
    np.testing.assert_allclose(x, inputs[0].flatten()[right], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y, expected.flatten()[right], rtol=1e-4, atol=1e-5)
    assert seen.absmax == pytest.approx(float(inputs[0].abs().max()), rel=1e-5)
    assert seen.statistics()["std"] == pytest.approx(float(inputs[0].double().std(correction=0)), rel=1e-5)


def test_sample_has_the_wanted_size_and_follows_the_seed(vit, images):
    samples = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        samples.append(record(vit, ["norm"], images, limit=10, pairs=101)["norm"].x)
    assert [len(part) for part in samples[0]] == [40, 40, 21]  # batches of 4, 4 and 2 images
    first, again, other = (np.concatenate(s) for s in samples)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_non_finite_activations_name_the_site(vit, images):
    with torch.no_grad():
        vit.blocks[0].attn.proj.bias[3] = float("inf")
    with pytest.raises(
        InputError, match=r"^activations at site 'blocks.0.norm2' must be finite, and some are NaN"
    ):
        record(vit, list(find_sites(vit)), images, limit=10, pairs=100)
    assert not vit.norm._forward_pre_hooks


def test_description_gives_the_input_format(vit, images):
    seen = record(vit, ["norm"], images, limit=10, pairs=500)["norm"]
    body = describe(seen, FoldPlan(("head",)), vit.norm, config())
    form = FixedFormat.parse(body["input"])
    assert form.width == 16
    assert form.max_raw * form.step >= 2 * seen.absmax - form.step > form.max_raw * form.step / 2 - form.step
    assert (body["consumers"], body["foldable"], body["channels"], body["eps"]) == (("head",), True, 16, 1e-6)


def test_headroom_is_a_power_of_two(vit, images):
    seen = record(vit, ["norm"], images, limit=10, pairs=500)["norm"]
    fracs = []
    for bits in (0.0, 1.0, 3.0):
        wanted = RunConfig(model=ModelConfig(name="m"), capture=CaptureConfig(headroom_bits=bits))
        fracs.append(FixedFormat.parse(describe(seen, FoldPlan(("head",)), vit.norm, wanted)["input"]).frac)
    assert fracs == [fracs[0], fracs[0] - 1, fracs[0] - 3]


def test_unfoldable_site_is_a_stage_or_is_kept_with_a_line(capsys):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, qk_norm=True, **SMALL).eval()
    q_norm = "blocks.0.attn.q_norm"
    chosen, kept = choose_sites(model, config())
    assert q_norm in chosen
    assert kept == {}
    reason = "it feeds scaled_dot_product_attention"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{q_norm}: the affine stays an explicit stage, because {reason}"
    chosen, kept = choose_sites(model, config(unfoldable="keep"))
    assert list(chosen) == ["blocks.0.norm1", "blocks.0.norm2", "norm"]
    assert kept == {q_norm.replace("q_", n): f"its affine cannot fold, for {reason}" for n in ("q_", "k_")}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{q_norm}: the LayerNorm is left alone, because {kept[q_norm]}"


def test_norm_that_never_runs_is_left_alone(vit):
    vit.spare = torch.nn.LayerNorm(16)
    chosen, kept = choose_sites(vit, config())
    assert "spare" not in chosen
    assert kept == {"spare": "it never ran"}


def test_kept_sites_are_not_chosen(vit):
    chosen, kept = choose_sites(vit, config(keep_layernorm=("blocks.*",)))
    assert list(chosen) == ["norm"]
    assert kept == {f"blocks.0.norm{i}": "model.keep_layernorm lists it" for i in (1, 2)}
