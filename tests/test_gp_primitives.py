"""Trees and formulas say the same."""

import random

import numpy as np
import pytest

from gp.evaluator import compile_skeleton
from gp.grid import snap_float
from gp.primitives import ARITY, build, constants, from_expr, primitive_set, seeded, skeleton, to_expr
from gp.trees import KNOWN_FORMS, random_tree
from sw.ir.expr import evaluate
from sw.ir.parse import parse

X = np.linspace(-7.0, 7.0, 113)


def test_primitive_set_is_the_issues_one():
    names = set(primitive_set().mapping) - {"x", "normal"}
    assert names == {"add", "mul", "neg", "tanh", "sigmoid", "clip", "abs", "min", "max", "double", "half"}
    assert names == {n for n, arity in ARITY.items() if arity}


@pytest.mark.parametrize("seed", range(40))
def test_tree_and_its_formula_have_the_same_values(seed):
    with seeded(seed):
        tree = random_tree()
    value = compile_skeleton(skeleton(tree)).value(X, constants(tree))
    np.testing.assert_allclose(
        np.broadcast_to(value, X.shape), evaluate(to_expr(tree), X), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("text", [*KNOWN_FORMS, "0.5*x - 0.25", "min(x, 1) - max(-x, 2)"])
def test_formula_to_tree_to_formula_keeps_the_values(text):
    expr = parse(text)
    np.testing.assert_allclose(evaluate(to_expr(from_expr(expr)), X), evaluate(expr, X), rtol=1e-15)


def test_parts_make_the_tree_again():
    tree = from_expr(parse("0.5*clip(2.5*x) + tanh(-0.25*x)"))
    assert build(skeleton(tree), constants(tree)) == tree


def test_formulas_of_trees_parse_back():
    with seeded(3):
        for _ in range(30):
            tree = random_tree()
            snapped = [snap_float(v, 3) for v in constants(tree)]  # a formula holds 30 digits at most
            expr = to_expr(build(skeleton(tree), snapped))
            assert parse(str(expr)) == expr


def test_seeding_leaves_the_global_generator_as_it_was():
    random.seed(11)
    expected = [random.random() for _ in range(3)]
    random.seed(11)
    with seeded(5):
        inside = random.random()
    with seeded(5):
        assert random.random() == inside
    assert [random.random() for _ in range(3)] == expected
