import mpmath
import numpy as np
import pytest
import torch
from timm import layers
from torch import nn

from sw.ir.formats import FixedFormat
from sw.model.integer.maps import (
    ACTIVATIONS,
    EXP_OUTPUT,
    activation_formula,
    compile_map,
    softmax_formula,
)


def nearest(values, output):
    """Codes of mpmath numbers: nint rounds half to even."""
    return [min(max(int(mpmath.nint(v * 2**output.frac)), output.min_raw), output.max_raw) for v in values]


@pytest.mark.parametrize("width", [16, 32])
def test_exponential_is_correctly_rounded_and_reaches_0(width):
    scalar = compile_map(softmax_formula(width), EXP_OUTPUT, signed=False)
    assert (scalar.input.width, scalar.input.signed) == (12, False)
    with mpmath.workprec(200):
        x = [mpmath.mpf(code) * 2**-scalar.input.frac for code in range(4096)]
        expected = nearest([255 * mpmath.exp(-v / mpmath.sqrt(width)) / 256 for v in x], EXP_OUTPUT)
    assert scalar.table.tolist() == expected
    assert (expected[0], expected[-1]) == (255, 0)


@pytest.mark.parametrize("output", ["s8.4", "s8.7"])
def test_gelu_is_correctly_rounded(output):
    scalar = compile_map(activation_formula(nn.GELU()), FixedFormat.parse(output))
    with mpmath.workprec(200):
        x = [mpmath.mpf(code) * 2**-scalar.input.frac for code in range(-2048, 2048)]
        values = [v * (1 + mpmath.erf(v / mpmath.sqrt(2))) / 2 for v in x]
        assert scalar.table.tolist() == nearest(values, scalar.output)
    assert scalar.table[0] == 0
    assert scalar.table[-1] == 127


MODULES = [nn.GELU("tanh"), layers.GELU(), layers.GELUTanh(), layers.QuickGELU(), nn.SiLU(), nn.ReLU()]


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_activations_are_what_torch_computes_within_half_a_code(module):
    output = FixedFormat.parse("s8.4")
    scalar = compile_map(activation_formula(module), output)
    x = torch.from_numpy(scalar.input.to_real(scalar.input.codes()))
    expected = module(x).numpy().clip(output.min_raw * output.step, output.max_raw * output.step)
    assert np.abs(output.to_real(scalar.table) - expected).max() <= output.step / 2 + 1e-12


@pytest.mark.parametrize("module", [nn.GELU(), nn.SiLU()], ids=repr)
@pytest.mark.parametrize("output", ["s8.2", "s8.6"])
def test_beyond_the_input_format_nothing_changes(module, output):
    scalar = compile_map(activation_formula(module), FixedFormat.parse(output))
    for sign, code in ((-1, scalar.table[0]), (1, scalar.table[-1])):
        far = torch.logspace(0, 3, 1000, dtype=torch.float64) * sign * 2048 * scalar.input.step
        assert set(scalar.output.quantize(module(far).numpy()).tolist()) == {int(code)}


def test_activations_without_a_formula():
    assert activation_formula(nn.Mish()) is None
    assert {type(module) for module in MODULES} <= set(ACTIVATIONS)
