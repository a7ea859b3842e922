"""sw.model.inner_scale: what formulas read, and the formula of a multiple."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw.ir.expr import evaluate
from sw.ir.parse import parse
from sw.model.inner_scale import reading, stretched

CELL = "(clip(floor(8*x), -64, 63) + 0.5)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tanh(0.5*x) - x", "x"),
        (f"tanh(0.125*{CELL})", CELL[1:-1]),
        (f"0.25*{CELL} + sin({CELL})", CELL[1:-1]),
        ("tanh(floor(4*x) + 0.5)", "floor(4*x) + 0.5"),
        ("tanh(floor(4*x))", "floor(4*x)"),
        ("clip(floor(4*x), -8, 7)*floor(4*x)", "floor(4*x)"),
        ("clip(floor(4*x), -8, 7) + x", "x"),
        ("floor(4*x) + floor(2*x)", "x"),
        ("min(floor(4*x), 3) + 0.5", "floor(4*x)"),
    ],
)
def test_a_formula_reads_x_or_a_cell_of_its_code(text, expected):
    assert str(reading(parse(text))) == expected


@pytest.mark.parametrize("text", ["tanh(0.5*x) - x", "clip(3*x, -1, 2)", "x/sqrt(x*x + 1)"])
@given(scale=st.fractions("1/8", 8, max_denominator=64).filter(lambda s: 64 % s.denominator == 0))
def test_a_stretched_formula_is_the_formula_of_a_multiple(text, scale):
    x = np.linspace(-3, 3, 61)
    found = evaluate(stretched(parse(text), scale), x)
    np.testing.assert_allclose(found, evaluate(parse(text), float(scale) * x), rtol=1e-12, atol=1e-12)


def test_cells_stay_and_what_is_computed_of_them_is_stretched():
    assert str(stretched(parse(f"tanh(0.125*{CELL})"), Fraction(3, 4))) == f"tanh(0.09375*{CELL})"
