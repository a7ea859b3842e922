"""Which affines fold, into what, and that folding leaves the logits as they were."""

import copy
from functools import partial

import pytest
import timm
import torch
from torch import nn

from sw.model.fold import FoldPlan, fold, plan_folds
from sw.model.original import merge_separate_biases
from sw.model.readers import trace_readers

SMALL = {"img_size": 32, "depth": 1, "embed_dim": 16, "num_heads": 2, "num_classes": 5}


def build(name, **kwargs):
    torch.manual_seed(0)
    model = timm.create_model(name, **(SMALL | kwargs)).eval()
    merge_separate_biases(model)
    return model


FAMILIES = [
    ("vit_tiny_patch16_224", {}, {"norm": ("head",)}),
    ("vit_tiny_patch16_224", {"qkv_bias": False}, {"blocks.0.norm1": ("blocks.0.attn.qkv",)}),
    (
        "vit_tiny_patch16_224",
        {"global_pool": "avg", "class_token": False, "fc_norm": False},
        {"norm": ("head",)},
    ),
    ("vit_tiny_patch16_224", {"global_pool": "avg", "fc_norm": True}, {"fc_norm": ("head",)}),
    ("deit_tiny_distilled_patch16_224", {}, {"norm": ("head", "head_dist")}),
    ("beit_base_patch16_224", {}, {"blocks.0.norm1": ("blocks.0.attn.qkv",), "fc_norm": ("head",)}),
    ("eva02_tiny_patch14_224", {"img_size": 28}, {"blocks.0.norm2": ("blocks.0.mlp.fc1",)}),
    (
        "cait_xxs24_224",
        {},
        {"blocks_token_only.0.norm1": tuple(f"blocks_token_only.0.attn.{n}" for n in "qkv")},
    ),
]


@pytest.mark.parametrize(("name", "kwargs", "expected"), FAMILIES)
def test_folds_exactly_into_every_consumer(name, kwargs, expected):
    model = build(name, **kwargs)
    plans = plan_folds(model)
    assert all(plan.foldable for plan in plans.values()), plans
    assert {site: plans[site].consumers for site in expected} == expected

    reference = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for site in plans:
            norm = reference.get_submodule(site)
            norm.weight.copy_(torch.randn(norm.weight.shape, generator=generator))
            norm.bias.copy_(torch.randn(norm.weight.shape, generator=generator))
        folded = copy.deepcopy(reference)
        for site, plan in plans.items():
            fold(folded, site, plan.consumers)
        images = torch.randn(3, 3, *[SMALL["img_size"] if "eva" not in name else 28] * 2, generator=generator)
        expected_logits, logits = (m(images.double()) for m in (reference, folded))
    assert (logits - expected_logits).abs().max() <= 1e-9 * expected_logits.abs().max()
    assert all((folded.get_submodule(s).weight == 1).all() for s in plans)


@pytest.mark.parametrize("parts", [{"bias": False}, {"elementwise_affine": False}])
def test_norms_without_affine_or_bias_fold_too(parts):
    plans = plan_folds(build("vit_tiny_patch16_224", norm_layer=partial(nn.LayerNorm, **parts)))
    assert list(plans) == ["blocks.0.norm1", "blocks.0.norm2", "norm"]
    assert all(plan.foldable for plan in plans.values()), plans


REFUSALS = [
    ("vit_base_patch16_clip_224", {}, "norm_pre", "feeds add"),
    ("vit_tiny_patch16_224", {"qk_norm": True}, "blocks.0.attn.q_norm", "feeds scaled_dot_product_attention"),
    ("vit_tiny_patch16_224", {"num_classes": 0}, "norm", "feeds the model's output, for there is no head"),
    ("xcit_nano_12_p16_224", {}, "blocks.0.norm3", "feeds a convolution with a window"),
    (
        "swin_tiny_patch4_window7_224",
        {"img_size": 56, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2)},
        "layers.0.blocks.0.norm1",
        "feeds pad",
    ),
]


@pytest.mark.parametrize(("name", "kwargs", "site", "reason"), REFUSALS)
def test_says_why_an_affine_cannot_fold(name, kwargs, site, reason):
    if name.startswith("swin"):
        model = timm.create_model(name, num_classes=5, **kwargs).eval()
    else:
        model = build(name, **kwargs)
    plan = plan_folds(model)[site]
    assert (plan.foldable, plan.consumers, plan.reason) == (False, (), reason)


class Sandwich(nn.Module):
    """A norm, then whatever the test wants, then a Linear."""

    def __init__(self, between):
        super().__init__()
        self.between, self.pretrained_cfg = between, {"input_size": (1, 4, 6)}
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, images):
        return self.between(self, self.norm(images[:, 0]))


BETWEEN = {
    "token selection": (lambda m, x: m.head(x[:, 0]), ""),
    "mean": (lambda m, x: m.head(x.mean(dim=1)), ""),
    "permutation": (lambda m, x: m.head(x.flip(1)).mean(1), ""),
    "maximum": (lambda m, x: m.head(x.amax(dim=1)), "feeds amax"),
    "two readers": (lambda m, x: m.head(x).mean(1) + x.mean(1)[:, :3], "feeds add"),
    "shared reader": (lambda m, x: m.head(x) + m.head(x * 2), "feeds mul"),
    "shuffled channels": (lambda m, x: m.head(x.roll(1, 2)), "changes the logits when folded"),
    "other dimension": (
        lambda m, x: nn.functional.linear(x.transpose(1, 2), torch.eye(4, dtype=torch.float64)),
        "feeds a product that no Linear makes",
    ),
}


@pytest.mark.parametrize("case", BETWEEN)
def test_what_may_stand_between_norm_and_consumer(case):
    between, reason = BETWEEN[case]
    plan = plan_folds(Sandwich(between))["norm"]
    assert plan.reason == reason
    assert plan.averaged == (("head",) if case == "mean" else ())


def test_norm_that_never_runs_is_said():
    model = Sandwich(lambda m, x: m.head(x))
    model.spare = nn.LayerNorm(6)
    assert plan_folds(model)["spare"].reason == "never ran"


def test_plan_survives_json():
    plan = FoldPlan(("a", "b"), ("b",), "")
    assert FoldPlan.from_json(plan.to_json()) == plan


def test_trace_leaves_no_hooks_behind():
    model = build("vit_tiny_patch16_224")
    trace_readers(model, ["norm"], torch.zeros(1, 3, 32, 32))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
