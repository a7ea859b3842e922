import math
import pickle

import numpy as np
import pytest

from sw.ir.expr import evaluate, interpret_expr
from sw.ir.parse import parse


@pytest.mark.parametrize(
    ("text", "x", "expected"),
    [
        ("2.5*tanh(clip(x)) + 0.135", 0.3, 2.5 * math.tanh(0.3) + 0.135),
        ("sigmoid(x)", -2.0, 1 / (1 + math.exp(2))),
        ("erf(x)/x", 0.7, math.erf(0.7) / 0.7),
        ("min(x, 1) + max(x, 2)*relu(-x)", -3.0, -3 + 2 * 3),
        ("square(x) - x**3 + x**-1", 2.0, 4 - 8 + 0.5),
        ("exp(log(abs(x))) + sqrt(4) + atan(x) + sin(x)", -1.0, 1 + 2 + math.atan(-1) + math.sin(-1)),
        ("clip(x)", 99.0, 5.0),
    ],
)
def test_evaluate_is_what_math_computes(text, x, expected):
    assert evaluate(parse(text), x) == pytest.approx(expected, rel=1e-14)


def test_evaluate_keeps_shape_and_marks_undefined_values():
    values = evaluate(parse("log(x)"), [[-1.0, 1.0]])
    assert values.shape == (1, 2)
    assert np.isnan(values[0, 0])
    assert values[0, 1] == 0


def test_a_constant_has_the_shape_of_its_argument():
    assert evaluate(parse("0.25"), np.zeros((2, 3))).tolist() == [[0.25] * 3] * 2


def test_equal_sub_formulas_are_computed_once():
    calls = []
    ops = {"tanh": lambda v: calls.append(v) or v, "add": lambda a, b: a + b}
    assert interpret_expr(parse("tanh(x) + tanh(x)"), 1, float, ops) == 2
    assert len(calls) == 1


def test_formulas_survive_pickling_with_a_hash_of_the_new_process():
    e = parse("0.5*clip(2.5*x) - tanh(x)**2")
    again = pickle.loads(pickle.dumps(e))
    assert again == e
    assert hash(again) == hash(e)
    assert {e: 1}[again] == 1
