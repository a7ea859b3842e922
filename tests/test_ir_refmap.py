import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given

from sw.ir import refmap
from sw.ir.bounded import FLOAT64
from sw.ir.errors import InputError
from sw.ir.expr import evaluate, interpret_expr
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.refmap import reference_map
from tests.ir_formulas import total_formulas

S = FixedFormat.parse

FRACTIONS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": abs,
    "relu": lambda a: max(a, Fraction(0)),
    "square": lambda a: a * a,
    "floor": lambda a: Fraction(math.floor(a)),
    "min": min,
    "max": max,
    "clip": lambda a, lo, hi: min(max(a, lo), hi),
    "pow": lambda a, n: a**n,
}
"""Exact rational arithmetic, written anew for these tests."""


def exact_map(text, input, output):
    scale = Fraction(2) ** output.frac
    codes = []
    for raw in input.codes().tolist():
        value = interpret_expr(parse(text), Fraction(raw) / 2**input.frac, Fraction, FRACTIONS)
        codes.append(min(max(round(value * scale), output.min_raw), output.max_raw))  # round: half to even
    return codes


@pytest.mark.parametrize(
    ("text", "input", "output"),
    [
        ("0.5*x", "s8.0", "s8.0"),  # half of the codes are ties
        ("1.25*x + 0.125", "s10.4", "s8.2"),
        ("0.1*x", "s10.0", "s8.0"),  # decimal ties, where 0.1 is not the nearest double
        ("1.37*x - 0.05*x*abs(x)", "s10.5", "s8.4"),
        ("clip(2.98*x)*0.54", "s12.8", "s8.5"),
        ("x/3", "s10.2", "s12.4"),
        ("1/(x*x + 0.3)", "s9.4", "s8.4"),
        ("min(x, 0.35) + max(-x, 1.7)", "s9.4", "u7.4"),
        ("x**3 - 2*x", "s8.4", "s8.2"),
        ("0.3*floor(4*x) + 0.1", "s10.5", "s8.4"),  # depends on x >> 3 alone
        ("floor(1.1*x) - floor(x/3)", "s10.3", "s8.0"),  # whole multiples of 10 and 3 are exact
        ("floor(2*x) + floor(16*x)", "u9.3", "s10.1"),
        ("x - floor(x)", "s9.5", "s8.4"),
        ("floor(512*x)*0.01", "s9.5", "s8.4"),
        ("floor(0.0009765625*x)", "s8.0", "s8.0"),  # drops more bits than there are
    ],
)
def test_rational_functions_are_rounded_exactly(text, input, output):
    assert reference_map(parse(text), S(input), S(output)).tolist() == exact_map(text, S(input), S(output))


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("tanh(x)", mpmath.tanh),
        ("erf(x)", mpmath.erf),
        ("sigmoid(x)", lambda v: 1 / (1 + mpmath.exp(-v))),
        ("exp(-abs(x))", lambda v: mpmath.exp(-abs(v))),
        ("atan(3*x)", lambda v: mpmath.atan(3 * v)),
        ("sin(x)", mpmath.sin),
        ("sqrt(abs(x))", lambda v: mpmath.sqrt(abs(v))),
        ("log(1 + x*x)", lambda v: mpmath.log(1 + v * v)),
    ],
)
def test_transcendental_functions_are_what_mpmath_rounds(text, function):
    input, output = S("s9.5"), S("s16.13")
    with mpmath.workdps(60):
        expected = [
            min(max(int(mpmath.nint(function(mpmath.mpf(c) / 32) * 2**13)), -(2**15)), 2**15 - 1)
            for c in input.codes().tolist()
        ]
    assert reference_map(parse(text), input, output).tolist() == expected


def test_a_tie_of_a_transcendental_function_goes_to_even():
    # sigmoid(0) = 1/2 exactly; the difference cancels but no precision can prove it.
    assert reference_map(parse("sigmoid(x)"), S("s4.0"), S("s4.0"))[8] == 0
    assert reference_map(parse("tanh(x) - tanh(x) + 1.5"), S("s3.0"), S("s4.0")).tolist() == [2] * 8


@given(total_formulas)
def test_float_enclosures_hold_the_true_value(expr):
    x = np.array([-3.0, -0.7, 0.0, 0.3, 2.0])
    v, e = interpret_expr(expr, (x, 0 * x), FLOAT64.number, FLOAT64.ops())
    v, e = np.broadcast_to(v, 5), np.broadcast_to(e, 5)
    plain = {name: getattr(mpmath, name) for name in ("tanh", "erf", "atan", "sin")}
    plain["sigmoid"] = lambda u: 1 / (1 + mpmath.exp(-u))
    ops = FRACTIONS | plain | {"relu": lambda a: max(a, 0), "floor": mpmath.floor}
    with mpmath.workdps(400):
        for index, point in enumerate(x.tolist()):
            true = interpret_expr(
                expr, mpmath.mpf(point), lambda c: mpmath.mpf(c.numerator) / c.denominator, ops
            )
            assert abs(true - mpmath.mpf(float(v[index]))) <= e[index] * 1.001 + mpmath.mpf(10) ** -290


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1/x", r"function '1/x' is undefined or infinite at x = 0, inside the input format s8\.4, or too"),
        ("log(x)", r"function 'log\(x\)' is undefined or infinite at x = -8, "),
        ("sqrt(x - 1)", r"at x = -8, "),
        ("exp(exp(exp(x)))", r"is undefined or infinite at x = "),
    ],
)
def test_undefined_functions_name_the_first_bad_input(text, message):
    with pytest.raises(InputError, match=message):
        reference_map(parse(text), S("s8.4"), S("s8.4"))


@pytest.mark.parametrize(
    "text",
    [
        *("sqrt(relu(0.1*x))", "sqrt(max(0.1*x, 0))", "sqrt(relu(x/3))", "sqrt(relu(sin(x)))"),
        *("sqrt(0 - min(0.1*x, 0))", "sqrt(abs(0.3*x - 0.3))", "sqrt(max(0.3*x, 0.3) - 0.3)"),
    ],
)
def test_roots_of_what_is_exactly_zero(text):
    """Against mpmath with 60 digits, which these are far from ties for."""
    formula, input, output = parse(text), S("s8.4"), S("s8.5")
    found = reference_map(formula, input, output)
    functions = {"sqrt": lambda v: mpmath.sqrt(v if abs(v) > 1e-50 else 0), "sin": mpmath.sin}
    ops = FRACTIONS | functions | {"relu": lambda a: max(a, 0)}
    with mpmath.workdps(60):
        for code, entry in zip(input.codes().tolist(), found.tolist(), strict=True):
            value = interpret_expr(
                formula, mpmath.mpf(code) / 16, lambda c: mpmath.mpf(c.numerator) / c.denominator, ops
            )
            assert entry == min(max(int(mpmath.nint(value * 32)), -128), 127)


@pytest.mark.parametrize("text", ["exp(-exp(exp(x)))", "x*exp(-exp(exp(x)))"])
def test_what_is_too_small_to_be_written_is_zero(text):
    """exp(exp(8)) has 1,300 digits before the point."""
    with np.errstate(over="ignore"):
        expected = S("s8.6").quantize(evaluate(parse(text), S("s8.4").to_real(S("s8.4").codes())))
    found = reference_map(parse(text), S("s8.4"), S("s8.6"))
    assert np.abs(found - expected).max() <= 1
    assert found[-20:].tolist() == [0] * 20


@pytest.mark.parametrize(
    ("text", "input"),
    [("sin(exp(x))", "s6.-14"), ("exp(-exp(exp(x)))", "s8.3"), ("sin(exp(exp(x)))", "s8.4")],
)
def test_what_would_take_forever_is_refused_at_once(text, input):
    with pytest.raises(InputError, match="or too large to be computed"):
        reference_map(parse(text), S(input), S("s8.6"))


def test_floor_of_what_only_seems_to_reach_an_integer():
    # 0.99999999999999999999*x is below x for x > 0, in float64 it is x.
    expected = [math.floor(Fraction(99999999999999999999, 10**20) * c) for c in range(-8, 8)]
    assert reference_map(parse("floor(0.99999999999999999999*x)"), S("s4.0"), S("s5.0")).tolist() == expected
    half = parse("floor(2*sigmoid(x))")  # exactly 1 at x = 0, which no precision can prove
    assert reference_map(half, S("s3.0"), S("s4.0")).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "input", "far", "expected"),
    [
        ("floor(erf(x))", "u5.0", 19, 0),  # below 1 by less than 2^-500, which 1920 bits tell from 1
        ("floor(1 - exp(-x*x))", "u5.0", 19, 0),
        ("floor(4*tanh(x))", "u8.0", 166, 3),
        ("0.5 + sqrt(exp(-x*x))", "u5.0", 26, 1),  # just above a tie
    ],
)
def test_what_lies_near_an_integer_is_not_taken_for_it(text, input, far, expected):
    output = S("u3.0")
    assert set(reference_map(parse(text), S(input), output)[far:].tolist()) == {expected}


def test_open_codes_are_decided_in_parts(monkeypatch):
    formula, formats = parse("0.578125*erf(3*x)"), (S("s7.4"), S("s8.5"))
    whole = reference_map(formula, *formats)
    monkeypatch.setattr(refmap, "_OPEN_CHUNK", 5)
    np.testing.assert_array_equal(reference_map(formula, *formats), whole)


@pytest.mark.parametrize(
    "text",
    ["x + 0.00000000000000000001", "1.00000000000000000001*x", "0.99999999999999999999*x", "x/3*3", "x/2"],
)
def test_what_float64_cannot_tell_from_a_tie_is_decided_exactly(text):
    input, output = S("s8.1"), S("s8.0")
    assert reference_map(parse(text), input, output).tolist() == exact_map(text, input, output)


def test_a_cancellation_beyond_all_precision_is_refused():
    huge = "*".join(["1000000000000000000000000000000"] * 40)
    with pytest.raises(InputError, match="or too large to be computed"):
        reference_map(parse(f"({huge} + 1.2*x) - {huge}"), S("s6.1"), S("s8.2"))


def test_too_wide_an_input_is_refused():
    with pytest.raises(InputError, match="input of a reference map must have at most 20 bits, not 24"):
        reference_map(parse("x"), S("s24.0"), S("s8.0"))
