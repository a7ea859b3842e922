"""What hardware computes: fills its output range, keeps inside it, has short constants."""

from fractions import Fraction

import numpy as np
import pytest

from gp.fitness import bin_pairs
from gp.grid import num_digits
from gp.normalise import Normaliser, OutputRange, input_exponent, truncating
from gp.rewrite import constants_of
from sw.ir.expr import evaluate
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.refmap import reference_map

RNG = np.random.default_rng(5)
Z = RNG.normal(size=20_000)
SCALES = np.exp(0.4 * RNG.normal(size=20_000))
INPUT = FixedFormat.parse("s12.6")


def normaliser(output, scale=1.0):
    return Normaliser(INPUT, output, bin_pairs(scale * SCALES * Z, Z, growth_penalty=0.0))


CORES = [
    "clip(2*x)",
    "tanh(x)",
    "sigmoid(x)",
    "x",
    "x + tanh(x)",
    "-0.2*x + clip(3*x)",
    "x*(4 - abs(x))",
    "-tanh(x)",
]


@pytest.mark.parametrize("output", ["s8.5", "s6.4", "u8.0"])
@pytest.mark.parametrize("core", CORES)
def test_forms_use_the_whole_output_range_and_never_leave_it(core, output):
    fixed = FixedFormat.parse(output)
    forms = list(normaliser(fixed).forms(parse(core), 3))
    assert forms
    for digits, form in enumerate(forms, start=4 - len(forms)):
        codes = reference_map(form, INPUT, fixed)
        lowest = -fixed.max_raw if fixed.signed else 0
        assert codes.min() >= lowest
        assert codes.max() == fixed.max_raw or codes.min() == lowest
        real = evaluate(form, INPUT.to_real(INPUT.codes())) * 2.0**fixed.frac
        assert real.max() < fixed.max_raw + 0.5, "a clamp of its own, not the format's saturation"
        assert real.min() > lowest - 0.5
        assert all(num_digits(v) <= digits for role, v in constants_of(form) if role == "factor")
        assert parse(str(form)) == form


def test_forms_correlate_positively():
    for form in normaliser(FixedFormat.parse("s8.5")).forms(parse("-tanh(x)"), 3):
        assert evaluate(form, [2.0])[0] > 0


def test_clip_is_recognised_and_its_level_fills_the_range():
    forms = [str(f) for f in normaliser(FixedFormat.parse("s8.5")).forms(parse("clip(2*x)"), 1)]
    assert len(forms) == 1
    assert forms[0].endswith(", -3.96875, 3.96875)")


def test_exponent_is_the_unit_in_which_a_search_sees_x():
    assert input_exponent(np.array([8.0, -8.0])) == 3
    assert input_exponent(np.zeros(3)) == 0


def test_a_constant_has_no_forms():
    assert list(normaliser(FixedFormat.parse("s8.5")).forms(parse("x*0 + 1"), 2)) == []


def test_forms_of_a_steep_core_are_clips():
    forms = list(normaliser(FixedFormat.parse("s8.5")).forms(parse("x*1000000000000"), 2))
    assert forms
    assert all(str(form).startswith("clip(") for form in forms)


@pytest.mark.parametrize("slope", ["2", "0.5", "0.375", "1.25"])
def test_truncation_replaces_rounding(slope):
    input, output = FixedFormat.parse("s12.8"), FixedFormat.parse("s6.3")
    step = Fraction(1, 8)
    form = parse(f"clip({slope}*x, -3.875, 3.875)")
    shifted = truncating(form, input, step)
    floor = np.floor(input.codes() * float(Fraction(slope)) * 2.0**-8 * 8)
    np.testing.assert_array_equal(reference_map(shifted, input, output), np.clip(floor, -31, 31))


@pytest.mark.parametrize(
    "text", ["tanh(x)", "clip(2*x + 1, -3, 3)", "clip(tanh(x), -1, 1)", "clip(32*x, -3, 3)"]
)
def test_truncation_is_for_lines_through_zero_with_something_to_round(text):
    assert truncating(parse(text), FixedFormat.parse("s12.8"), Fraction(1, 8)) is None


@pytest.mark.parametrize("affine", ["scale", "none"])
def test_without_a_free_offset_nothing_is_subtracted(affine):
    x, truth = SCALES * Z, 2 * np.tanh(SCALES * Z) + 0.9
    n = Normaliser(INPUT, FixedFormat.parse("s8.5"), bin_pairs(x, truth, growth_penalty=0.0), affine)
    forms = list(n.forms(parse("2*tanh(x) + 0.9"), 3))
    assert forms
    for form in forms:
        f = evaluate(form, x)
        scale = float(f @ truth) / float(f @ f) if affine == "scale" else 1.0
        assert np.mean((scale * f - truth) ** 2) < 0.05 * np.var(truth)


def test_a_halved_range_uses_half_of_the_codes():
    half = OutputRange(FixedFormat.parse("s8.5"), 1)
    assert (half.low, half.high) == (-Fraction(63, 32), Fraction(63, 32))
    np.testing.assert_array_equal(half.codes(np.array([0.1, 5.0, -5.0])), [3, 63, -63])
    np.testing.assert_array_equal(half.round(np.array([0.1, 5.0, -5.0])), [3 / 32, 63 / 32, -63 / 32])
    assert half.holds(np.array([-1.97, 1.97]))
    assert not half.holds(np.array([1.99]))
    assert OutputRange(FixedFormat.parse("u8.0"), 2).high == 63


def test_output_range_leaves_the_most_negative_code_out():
    full = OutputRange(FixedFormat.parse("s8.5"))
    assert (full.low, full.high, full.middle) == (-Fraction(127, 32), Fraction(127, 32), 0)
    assert OutputRange(FixedFormat.parse("u4.0")).middle == Fraction(15, 2)
    np.testing.assert_array_equal(full.round(np.array([0.046875, 9.0, -9.0])), [0.0625, 3.96875, -3.96875])
