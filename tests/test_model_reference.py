import numpy as np
import pytest
import torch

from sw.ir import interpret
from sw.ir.build import Builder
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import realize
from sw.model.quantizers import quantize_real
from sw.model.reference import UnitModule, float_path_differences
from sw.model.scalar_norm import evaluate

INPUT, OUTPUT = FixedFormat.parse("s12.8"), FixedFormat.parse("s8.5")
FORMULA = parse("0.5*clip(2.5*x) - 0.1*tanh(x)")


def table_program(values, input=INPUT, output=OUTPUT):
    builder = Builder(input)
    address = builder.sub(builder.x, builder.const(input.min_raw))
    return builder.build(builder.lookup(address, [int(v) for v in values]), output)


@pytest.fixture(scope="module")
def program():
    return realize(FORMULA, INPUT, OUTPUT).program


def test_codes_are_the_programs_on_every_code(program):
    codes = INPUT.codes()
    expected = interpret.run(program, codes)
    assert np.array_equal(UnitModule(program).codes(torch.from_numpy(codes)).numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_module_quantizes_half_to_even_and_saturates(program, dtype):
    unit = UnitModule(program)
    step = INPUT.step
    x = torch.tensor(
        [0.5 * step, 1.5 * step, -0.5 * step, 2.49 * step, 99.0, -99.0, float("inf")], dtype=dtype
    )
    assert unit.quantize(x).tolist() == [0, 2, 0, 2, 2047, -2048, 2047]
    assert unit(x).dtype == dtype
    expected = OUTPUT.to_real(interpret.run(program, INPUT.quantize(x.numpy())))
    assert np.array_equal(unit(x).detach().double().numpy(), expected)


def test_gradient_is_the_expressions_and_value_stays_the_maps(program):
    unit = UnitModule(program, FORMULA)
    x = torch.linspace(-3, 3, 31, requires_grad=True)
    y = unit(x)
    assert torch.equal(y.detach(), unit(x.detach()))
    y.sum().backward()
    smooth = x.detach().clone().requires_grad_()
    evaluate(FORMULA, smooth).sum().backward()
    assert torch.equal(x.grad, smooth.grad)


def test_beyond_the_input_range_no_gradient_passes(program):
    x = torch.tensor([100.0], requires_grad=True)
    UnitModule(program, parse("x"))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == 0


@pytest.mark.parametrize("text", ["s8.5", "u6.2", "s5.-1", "s12.11"])
def test_brevitas_rounds_as_formats_do(text):
    form = FixedFormat.parse(text)
    values = np.arange(-400, 400) * form.step / 4 + form.step * (form.max_raw // 2)
    rounded = quantize_real(torch.from_numpy(values), form)
    assert np.array_equal(rounded.numpy(), form.to_real(form.quantize(values)))


@pytest.mark.parametrize(
    "text", ["0.5*clip(2.5*x) - 0.1*tanh(x)", "2.5*sigmoid(x)", "clip(1.54*x)", "-x/(1 + x**2)"]
)
def test_float_path_agrees_with_realised_programs(text):
    expr = parse(text)
    path = float_path_differences(expr, realize(expr, INPUT, OUTPUT).program)
    assert (path.codes, path.differences) == (4096, ())


def test_float_path_finds_one_wrong_code(program):
    values = interpret.table(program)
    values[1234] += 1
    path = float_path_differences(FORMULA, table_program(values))
    assert path.differences == (1234 + INPUT.min_raw,)
    assert float_path_differences(FORMULA, table_program(values), max_ulp=1).differences == ()


def test_ties_are_listed_and_not_counted_as_differences():
    expr, fine = parse("x/2"), FixedFormat.parse("s10.0")
    coarse = FixedFormat.parse("s10.0")
    up = [int(np.floor(v / 2 + 0.5)) for v in fine.codes()]  # half up, where the contract says half to even
    path = float_path_differences(expr, table_program(up, fine, coarse))
    assert path.differences == ()
    assert len(path.ties) == 256
    assert all(code % 4 == 1 for code in path.ties)


def test_two_codes_off_is_no_tie():
    form = FixedFormat.parse("s6.0")
    wrong = [int(np.clip(np.rint(v / 2) + 2, -32, 31)) for v in form.codes()]
    assert float_path_differences(parse("x/2"), table_program(wrong, form, form)).ties == ()
