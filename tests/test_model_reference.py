import numpy as np
import pytest
import torch

from sim_tb import pytorch
from sw.ir import interpret
from sw.ir.build import Builder
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import realize
from sw.ir.refmap import reference_map
from sw.model.quantizers import quantize_real
from sw.model.reference import UnitModule, float_path_differences, module_codes
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


def halfway(form):
    """Values between all codes and beyond both ends, in codes, and the codes that they round to."""
    values = np.arange(form.min_raw - 2, form.max_raw + 2, 0.25)
    return values, form.quantize(values * form.step)


def is_sound(unit, program):
    """Whether a module gives the program's codes for every code, and for what lies between and beyond."""
    values, codes = halfway(program.input)
    every = program.input.codes()
    return np.array_equal(module_codes(unit, every), interpret.run(program, every)) and np.array_equal(
        module_codes(unit, values), interpret.run(program, codes)
    )


def test_module_run_as_in_a_model_gives_the_programs_codes(program):
    assert is_sound(UnitModule(program), program)
    assert is_sound(UnitModule(program, FORMULA), program)


def test_module_with_a_shifted_table_is_caught(program):
    unit = UnitModule(program)
    unit.table = unit.table.roll(1)
    assert not np.array_equal(module_codes(unit, INPUT.codes()), interpret.run(program, INPUT.codes()))


def test_module_with_a_wrong_output_step_is_caught(program):
    class Halved(UnitModule):
        def forward(self, x):
            return super().forward(x) / 2

    assert not is_sound(Halved(program), program)


@pytest.mark.parametrize(
    "rounding", [lambda v: torch.floor(v + 0.5), torch.trunc, lambda v: torch.ceil(v - 0.5)]
)
def test_module_with_another_rounding_is_caught(rounding, monkeypatch, program):
    def quantize(self, x):
        scaled = rounding(x * 2.0**self.input.frac)
        return scaled.clamp(self.input.min_raw, self.input.max_raw).long()

    monkeypatch.setattr(UnitModule, "quantize", quantize)
    assert not is_sound(UnitModule(program), program)
    # what the check of a generated unit calls finds it too
    assert not np.array_equal(pytorch.module_codes(program, INPUT.codes()), interpret.table(program))


@pytest.mark.parametrize("wide", ["s30.11", "u24.3"])
def test_codes_too_wide_for_float32_come_back_whole(wide):
    form = FixedFormat.parse(wide)
    narrow = FixedFormat.parse("s8.0")
    values = np.linspace(form.min_raw, form.max_raw, 256).astype(np.int64)
    program = table_program(values, narrow, form)
    assert np.array_equal(module_codes(UnitModule(program), narrow.codes()), values)


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


def planted(text, error):
    """The float path of a program x -> half of it that is off by ``error`` at every odd code, a near tie."""
    fine, coarse = FixedFormat.parse("s8.1"), FixedFormat.parse("s8.0")
    expr = parse(text)
    values = reference_map(expr, fine, coarse)
    odd = fine.codes() % 2 == 1
    values[odd] = np.clip(values[odd] + error, coarse.min_raw, coarse.max_raw)
    return float_path_differences(expr, table_program(values, fine, coarse))


@pytest.mark.parametrize("text", ["x + 4e-10", "x - 4e-10", "x + 1e-13"])
@pytest.mark.parametrize("error", [1, -1])
def test_what_float64_can_tell_from_a_tie_is_no_tie(text, error):
    path = planted(text, error)
    assert len(path.differences) == 128
    assert path.ties == ()


@pytest.mark.parametrize("error", [1, -1])
def test_tie_excuses_only_the_code_on_its_other_side(error):
    path = planted("x", error)
    odd = np.arange(-127, 128, 2)
    even_below = np.floor(odd / 2) % 2 == 0  # the tie rounds down, and only up is its other side
    allowed = even_below if error == 1 else ~even_below
    assert path.ties == tuple(odd[allowed])
    assert path.differences == tuple(odd[~allowed])


def test_tie_that_float64_misses_by_cancellation_is_excused():
    # exactly x, but float64 loses 1e9 * 2^-53, far more than a rounding of x
    path = planted("(x/3 + 1e9) - 1e9 - x/3 + x", 0)
    assert path.differences == ()
    assert len(path.ties) > 0


def test_bound_that_says_nothing_excuses_nothing():
    path = planted("(x/3 + 1e17) - 1e17 - x/3 + x", 0)
    assert path.ties == ()
    assert len(path.differences) > 0


def test_two_codes_off_is_no_tie():
    form = FixedFormat.parse("s6.0")
    wrong = [int(np.clip(np.rint(v / 2) + 2, -32, 31)) for v in form.codes()]
    assert float_path_differences(parse("x/2"), table_program(wrong, form, form)).ties == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_saturates_like_any_other_and_gives_float32(dtype):
    expr = parse("clip(x, -2, 2)")
    module = UnitModule(realize(expr, FixedFormat(16, 11), FixedFormat(8, 5)).program, expr)
    x = torch.tensor([40.0, -40.0, 15.9375, 0.4375], dtype=dtype, requires_grad=True)
    y = module(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, module(x.detach().float()))
    y.sum().backward()
    assert torch.equal(x.grad, torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=dtype))
