from fractions import Fraction

import numpy as np
import pytest
import timm
import torch
from timm.layers import LayerNorm2d
from torch import nn

from sw.ir.errors import InputError
from sw.ir.expr import evaluate as evaluate_numpy
from sw.ir.parse import parse
from sw.model.scalar_norm import ScalarNorm, constants_of, evaluate
from sw.model.swap import swap

FORMULAS = [
    "0.5*clip(2.5*x) - 0.1*tanh(x)",
    "clip(x, -1.5, 2)/(1 + x**2)",
    "max(x, -x) - min(x, 0.25)",
    "relu(x) + abs(x) + square(x) + sigmoid(x)",
    "erf(x) + atan(x) + sin(x) + exp(-x)",
    "log(1 + x**2) + sqrt(abs(x))",
    "1.25",
    "tanh(0.25*(clip(floor(8*x), -16, 15) + 0.5)) + 2*relu(1 - abs(floor(25*x + 0.5) - 21))",
]


def test_a_staircase_is_trained_as_the_line_that_it_follows():
    x = torch.linspace(-3, 3, 61, dtype=torch.float64, requires_grad=True)
    evaluate(parse("0.125*floor(8*x) + 0.0625"), x).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_an_exception_has_no_gradient():
    x = torch.arange(-4, 5, dtype=torch.float64).div(16).requires_grad_()
    evaluate(parse("x + 3*relu(1 - abs(floor(16*x + 0.5) - 2))"), x).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("text", FORMULAS)
def test_torch_agrees_with_numpy(text):
    x = np.linspace(-4, 4, 201)
    expected = evaluate_numpy(parse(text), x)
    np.testing.assert_allclose(
        evaluate(parse(text), torch.from_numpy(x)).numpy(), expected, rtol=1e-13, atol=1e-13
    )


def test_layer_is_function_then_affine_along_channels():
    weight, bias = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 2.0])
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    first = ScalarNorm(parse("tanh(2*x)"), weight, bias, dim=1)(x)
    last = ScalarNorm(parse("tanh(2*x)"), weight, bias)(x.movedim(1, -1))
    torch.testing.assert_close(first.movedim(1, -1), last)
    torch.testing.assert_close(last, torch.tanh(2 * x.movedim(1, -1)) * weight + bias)


def test_constants_are_learned_where_that_is_asked_for():
    layer = ScalarNorm(parse("0.5*tanh(0.5*x) - 2"), torch.ones(2), torch.zeros(2))
    x = torch.tensor([[0.25, 3.0]])
    before = layer(x)
    assert constants_of(layer.expr) == [Fraction(1, 2), Fraction(2)]
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    layer.learn_constants()
    assert torch.equal(layer(x), before)
    layer(x).sum().backward()
    t = torch.tanh(0.5 * x)
    by_hand = (t + 0.5 * x * (1 - t**2)).sum()
    torch.testing.assert_close(layer.constants.grad, torch.stack([by_hand, torch.tensor(-2.0)]))
    with torch.no_grad():
        layer.constants += torch.tensor([0.5, 1.0])
    torch.testing.assert_close(layer(x), torch.tanh(x) - 3)


def test_limits_of_a_clip_are_learned_where_they_hold():
    layer = ScalarNorm(parse("clip(x, -1, 2)"), torch.ones(3), torch.zeros(3))
    layer.learn_constants()
    layer(torch.tensor([[-5.0, 0.0, 9.0]])).sum().backward()
    assert layer.constants.grad.tolist() == [1, 1]


def test_gradient_reaches_input_and_affine():
    layer = ScalarNorm(parse("clip(2*x, -1, 1)"), torch.ones(2), torch.zeros(2))
    x = torch.tensor([[0.25, 3.0]], requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[2.0, 0.0]]
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [0.5, 1.0]


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), LayerNorm2d(4)])
def test_swap_folds_scale_and_offset_into_gamma_and_beta(norm):
    model = nn.Sequential(norm)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 3.0]))
    gamma, beta = norm.weight.detach().clone(), norm.bias.detach().clone()
    swap(model, {"0": {"expression": "tanh(x)", "scale": 1.5, "offset": 0.25}})
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    x = x if isinstance(norm, LayerNorm2d) else x.movedim(1, -1)
    dim = 1 if isinstance(norm, LayerNorm2d) else -1
    y = 1.5 * torch.tanh(x) + 0.25
    torch.testing.assert_close(model(x).movedim(dim, -1), gamma * y.movedim(dim, -1) + beta)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_functions_are_evaluated_in_full_precision_whatever_comes_in(dtype):
    norm = ScalarNorm(parse("x/sqrt(x*x + 1)"), torch.ones(2), torch.zeros(2))
    x = torch.tensor([[300.0, -0.5]], dtype=dtype)  # 300 squared is beyond float16
    torch.testing.assert_close(norm(x), x.float() / torch.sqrt(x.float() ** 2 + 1))


def test_swap_of_an_unknown_site_wrong():
    model = nn.Sequential(nn.LayerNorm(4))
    with pytest.raises(InputError, match=r"^site 'norm7' is not in the model; it has: 0$"):
        swap(model, {"norm7": {"expression": "x", "scale": 1, "offset": 0}})


@pytest.mark.parametrize("kind", ["exceptions", "table"])
@pytest.mark.parametrize("exceptions", [0, 3])
def test_tokens_that_functions_have_exceptions_for_are_kept(kind, exceptions):
    model = timm.create_model("vit_tiny_patch16_224", img_size=16, embed_dim=16, depth=1, num_heads=2)
    entry = {"expression": "tanh(x)", "scale": 1.0, "offset": 0.0, "realization": kind}
    entry["exceptions"] = exceptions
    swap(model, {"blocks.0.norm1": entry})
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert ({"cls_token", "pos_embed"} <= trained) == (exceptions == 0)
    assert "blocks.0.attn.qkv.weight" in trained
