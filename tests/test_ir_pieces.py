"""Functions made of lines: recognised, and right at every x."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from sw.ir.expr import evaluate
from sw.ir.parse import parse
from sw.ir.realize.pieces import MAX_PIECES, pieces_of
from tests.ir_formulas import line_formulas


def value(pieces, x):
    piece = next(p for p in pieces if p.end is None or x <= p.end)
    return piece.slope * x + piece.offset


@pytest.mark.parametrize(
    ("text", "slopes", "ends"),
    [
        ("3 - 1", [0], []),
        ("0.5*clip(3*x, -1, 1) + 0.25", [0, 1.5, 0], [-1 / 3, 1 / 3]),
        ("-min(2*x, 3)", [-2, 0], [1.5]),
        ("relu(x/4 - 1)", [0, 0.25], [4]),
        ("max(clip(x), 6)", [0], []),
        ("abs(x) - abs(x)", [0], []),
        ("clip(x, -1, 1) + clip(2*x, -1, 1)", [0, 1, 3, 1, 0], [-1, -0.5, 0.5, 1]),
        ("min(max(x, 0.5*x), 8)", [0.5, 1, 0], [0, 8]),
    ],
)
def test_pieces_are_lines_between_their_ends(text, slopes, ends):
    pieces = pieces_of(parse(text))
    assert [p.slope for p in pieces] == slopes
    assert [float(p.end) for p in pieces[:-1]] == pytest.approx(ends)


@pytest.mark.parametrize("text", ["tanh(x)", "x*x", "1/x", "x/0", "floor(x)", "x*clip(x)", "exp(abs(x))"])
def test_curved_functions_have_none(text):
    assert pieces_of(parse(text)) is None


def test_many_pieces_count_as_curved():
    saw = "+".join(f"abs(x - {k})" for k in range(MAX_PIECES))
    assert pieces_of(parse(saw)) is None
    assert len(pieces_of(parse("+".join(f"abs(x - {k})" for k in range(MAX_PIECES - 1))))) == MAX_PIECES


@settings(max_examples=200, deadline=None)
@given(line_formulas)
def test_pieces_equal_the_formula(expr):
    pieces = pieces_of(expr)
    if pieces is None:
        return
    ends = [p.end for p in pieces[:-1]]
    assert ends == sorted(set(ends))
    for here, following in itertools.pairwise(pieces):
        assert here.slope * here.end + here.offset == following.slope * here.end + following.offset
    places = [*np.linspace(-9, 9, 37), *map(float, ends)]
    got = [float(value(pieces, Fraction(x))) for x in places]
    np.testing.assert_allclose(got, evaluate(expr, places), rtol=1e-9, atol=1e-9)
