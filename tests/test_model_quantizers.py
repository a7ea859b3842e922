import numpy as np
import pytest
import torch
from timm.layers import StdConv2d
from torch import nn
from torch.nn import functional

from sw.model.quantizers import calibrate, quantizable_layers, quantize_layers


class Mixed(nn.Module):
    """One layer called as a layer, one whose weight a function reads, one not in use."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.called, self.read, self.spare = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, images):
        x = self.conv(images).mean(dim=(2, 3))
        return self.called(functional.linear(x, self.read.weight))


def images():
    return torch.randn(16, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def run(model):
    with torch.no_grad():
        model(images())


def test_layers_that_are_called_and_layers_that_are_not():
    reason = "is not called as a layer"
    assert quantizable_layers(Mixed(), run) == (["conv", "called"], {"read": reason, "spare": reason})


def test_layers_that_compute_in_ways_of_their_own_stay(capsys):
    model = Mixed().eval()
    model.conv = StdConv2d(2, 4, 3, stride=2, padding=1)
    model.called = nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 1, padding_mode="reflect"))
    names, reasons = quantizable_layers(model, run)
    assert names == []
    assert reasons["conv"] == "is a StdConv2d, which may compute otherwise"
    assert reasons["called.1"] == "pads with 'reflect'"


@pytest.mark.parametrize("bits", [8, 4])
def test_layers_compute_on_integers_with_power_of_two_scales(bits):
    model, reference = Mixed().eval(), Mixed().eval()
    quantize_layers(model, ["conv", "called"], ["called"], weight_bits=bits, act_bits=bits)
    calibrate(model, run)
    weight = model.conv.quant_weight()
    assert weight.scale.numel() == 4
    assert float(weight.bit_width) == bits
    step = model.conv.input_quant.scale().detach()
    assert float(step.log2()).is_integer()
    # by hand: integer weights, integer inputs, one product of scales
    x_raw = torch.clamp(torch.round(images() / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    product = functional.conv2d(x_raw, weight.int().float(), stride=2, padding=1)
    expected = product * step * weight.scale.view(1, -1, 1, 1) + reference.conv.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(model.conv(images()), expected)
    # the coded layer takes its input as it is
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    scaled = model.called.quant_weight().value
    torch.testing.assert_close(model.called(x), functional.linear(x, scaled, reference.called.bias))


def test_weights_keep_within_half_a_step_and_the_largest_within_one():
    model, reference = Mixed().eval(), Mixed().eval()
    quantize_layers(model, ["called"], [], weight_bits=8, act_bits=8)
    weight = model.called.quant_weight()
    off = (weight.value - reference.called.weight).abs() / weight.scale.view(-1, 1)
    off = off.detach().numpy()
    saturated = np.abs(weight.int().numpy()) == 127
    assert off[~saturated].max() <= 0.5 + 1e-6
    assert off.max() <= 1
    assert np.abs(weight.int().numpy()).max() <= 127
