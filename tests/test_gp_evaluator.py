"""Derivatives of trees against finite differences."""

import numpy as np
import pytest

from gp.evaluator import compile_skeleton
from gp.primitives import constants, from_expr, seeded, skeleton
from gp.trees import KNOWN_FORMS, random_tree
from sw.ir.parse import parse

X = np.linspace(-3.03, 3.07, 61)


def trees():
    yield from (from_expr(parse(text)) for text in KNOWN_FORMS)
    with seeded(1):
        yield from [random_tree() for _ in range(60)]


@pytest.mark.parametrize("tree", list(trees()), ids=str)
def test_jacobian_is_the_limit_of_differences(tree):
    code, values = compile_skeleton(skeleton(tree)), constants(tree)
    value, slopes = code.jacobian(X, values)
    np.testing.assert_array_equal(value, code.value(X, values))
    assert len(slopes) == len(values)
    for index, slope in enumerate(slopes):
        step = 1e-6
        up, down = list(values), list(values)
        up[index] += step
        down[index] -= step
        above = np.broadcast_to(code.value(X, up), X.shape)
        below = np.broadcast_to(code.value(X, down), X.shape)
        centre = np.broadcast_to(value, X.shape)
        smooth = np.abs(above - 2 * centre + below) < 1e-9 * np.maximum(1, np.abs(centre))  # off the corners
        expected = (above - below) / (2 * step)
        np.testing.assert_allclose(
            np.broadcast_to(slope, X.shape)[smooth], expected[smooth], rtol=1e-4, atol=1e-4
        )


def test_compilation_is_shared_between_trees_of_one_skeleton():
    assert compile_skeleton(("mul", "c", "x")) is compile_skeleton(("mul", "c", "x"))
