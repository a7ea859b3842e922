"""Rewriting keeps what a formula computes."""

from fractions import Fraction

import numpy as np
import pytest

from gp.grid import num_digits
from gp.primitives import seeded, to_expr
from gp.rewrite import clamped, constants_of, is_sound, moved, negated, scaled, snapped, substitute
from gp.trees import KNOWN_FORMS, random_tree
from sw.ir.expr import evaluate
from sw.ir.parse import parse

X = np.linspace(-3, 3, 101)


def formulas():
    with seeded(4):
        return [*map(parse, KNOWN_FORMS), *(to_expr(random_tree()) for _ in range(60))]


def close(a, b):
    return np.allclose(a, b, rtol=1e-9, atol=1e-9 * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize("expr", formulas(), ids=lambda e: str(e)[:30])
def test_rewriting_keeps_the_values(expr):
    value = evaluate(expr, X)
    assert close(evaluate(scaled(expr, Fraction(3, 4)), X), 0.75 * value)
    assert close(evaluate(negated(scaled(expr, Fraction(1))), X), -value)
    assert close(evaluate(moved(scaled(expr, Fraction(1)), lambda role, v: v), X), value)
    assert close(evaluate(substitute(expr, parse("2*x")), X), evaluate(expr, 2 * X))
    assert close(evaluate(clamped(expr, Fraction(-1), Fraction(1, 2)), X), np.clip(value, -1, 0.5))


@pytest.mark.parametrize(
    ("text", "factor", "result"),
    [
        ("clip(3*x)", "0.5", "clip(1.5*x, -2.5, 2.5)"),
        ("0.5*clip(2*x) - 0.25*x", "2", "clip(2*x, -5, 5) - 0.5*x"),
        ("-2*clip(x)", "1", "clip(-2*x, -10, 10)"),
        ("tanh(-x)", "2", "-2*tanh(x)"),
        ("min(x, 1) + -1", "4", "min(4*x, 4) - 4"),
    ],
)
def test_factors_end_up_at_the_leaves(text, factor, result):
    assert str(scaled(parse(text), Fraction(factor))) == str(parse(result))


def test_snapping_shortens_every_constant():
    form = snapped(parse("clip(1.37*x, -3.97, 3.97) + 0.333*tanh(0.71*x + 0.123)"), 2, Fraction(1, 32))
    roles = dict.fromkeys(role for role, _ in constants_of(form))
    assert list(roles) == ["factor", "limit", "term"] or set(roles) == {"factor", "limit", "term"}
    for role, value in constants_of(form):
        if role == "factor":
            assert num_digits(value) <= 2
        elif role == "limit":
            assert value * 32 == int(value * 32)
        else:
            assert value * 256 == int(value * 256)


def test_symmetric_limits_move_together():
    expr = parse("clip(2*x, -3, 3)")
    assert constants_of(expr) == [("factor", 2), ("limit", 3)]
    assert str(moved(expr, lambda role, v: v + 1)) == "clip(3*x, -4, 4)"
    assert len(constants_of(parse("clip(2*x, -3, 4)"))) == 3


def test_soundness_is_about_limits():
    assert is_sound(parse("clip(x, -1, 1) + 2"))
    assert not is_sound(snapped(parse("clip(x, -0.001, 0.001)"), 1, Fraction(1, 32)))
