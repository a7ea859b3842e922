from fractions import Fraction

import pytest
from hypothesis import given

from sw.ir.errors import InputError
from sw.ir.expr import X, clip, const, node
from sw.ir.parse import parse
from tests.ir_formulas import formulas


@given(formulas)
def test_printed_form_parses_back(expr):
    assert parse(str(expr)) == expr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.37", const(Fraction(137, 100))),
        ("-0.5", const(Fraction(-1, 2))),
        ("1e-3*x", node("mul", const(Fraction(1, 1000)), X)),
        ("-x**2", node("neg", node("pow", X, power=2))),
        ("(-x)**2", node("pow", node("neg", X), power=2)),
        ("x - (1 - x)", node("sub", X, node("sub", const(1), X))),
        ("clip(x)", clip(X, const(-5), const(5))),
        ("clip(x, -1.5, 2)", clip(X, const("-1.5"), const(2))),
        ("+x", X),
    ],
)
def test_parse(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"formula must have 1\.\.10000 characters, not 0"),
        ("tanh(x", r"formula 'tanh\(x' has a syntax error at position 5: "),
        ("x + y", r"formula may use x and abs, relu, .*clip, not 'y' at position 5$"),
        ("2*foo(x)", r"may use x and .*, not 'foo' at position 3$"),
        ("x**0.5", r"formula must have an integer after \*\*, not '0\.5' at position 4"),
        ("x**99", r"must have an exponent of -64\.\.64, not '99'"),
        ("x if x else 1", r"formula must be arithmetic over x, not 'x if x else 1' at position 1"),
        ("clip(x, 1, -1)", r"formula must give clip rising constant limits"),
        ("clip(x, x, 1)", r"formula must give clip rising constant limits"),
        ("min(x)", r"formula must give min 2 arguments, not 'min\(x\)' at position 1"),
        ("clip(x, 1)", r"formula must give clip 1 or 3 arguments, not 'clip\(x, 1\)'"),
        ("tanh()", r"formula must give tanh 1 argument, not 'tanh\(\)'"),
        ("0x10*x", r"formula must hold decimal numbers, not '0x10' at position 1"),
        ("1j*x", r"formula must hold decimal numbers, not '1j'"),
        ("1e99*x", r"formula must hold numbers of at most 30 digits"),
        ("1e99999999*x", r"formula must hold numbers of at most 30 digits"),
        ("+".join(["x"] * 700), r"must nest at most 100 operations"),
        ("True", r"formula must hold decimal numbers, not 'True'"),
        ("(" * 500 + "x" + ")" * 500, r"formula '\(+.*"),
    ],
)
def test_parse_wrong(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
