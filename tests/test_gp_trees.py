"""Variation keeps trees whole and within their size; simplification keeps their shape."""

import numpy as np
import pytest

from gp.evaluator import compile_skeleton
from gp.primitives import constants, from_expr, seeded, skeleton, to_expr
from gp.trees import crossed, known_trees, mutated, random_tree, simplify
from sw.ir.parse import parse

X = np.linspace(-4, 4, 57)


def values(tree):
    return np.broadcast_to(compile_skeleton(skeleton(tree)).value(X, constants(tree)), X.shape)


@pytest.mark.parametrize("seed", range(60))
def test_simplification_changes_a_tree_by_an_affine_at_most(seed):
    with seeded(seed):
        tree = random_tree()
    with np.errstate(all="ignore"):
        before, after = values(tree), values(simplify(tree))
    assert len(simplify(tree)) <= len(tree)
    assert simplify(simplify(tree)) == simplify(tree)
    if np.ptp(after) > 1e-9 and np.ptp(before) > 1e-9:
        slope, offset = np.polyfit(after, before, 1)
        np.testing.assert_allclose(slope * after + offset, before, atol=1e-7 * max(1, np.abs(before).max()))


@pytest.mark.parametrize(
    ("text", "simple"),
    [
        ("2*tanh(x) + 0.5", "tanh(x)"),
        ("0.5 + tanh(x)*2", "tanh(x)"),
        ("-clip(clip(x))", "clip(x)"),
        ("tanh(x*(1 + 2))", "tanh(x*3)"),
        ("x*tanh(x)", "x*tanh(x)"),
        ("tanh(--x)", "tanh(x)"),
    ],
)
def test_simplification_by_example(text, simple):
    assert to_expr(simplify(from_expr(parse(text)))) == parse(simple)


def test_variation_keeps_trees_complete_and_small():
    with seeded(7):
        pool = [*known_trees(), *(random_tree() for _ in range(40))]
        for first, second in zip(pool, reversed(pool), strict=True):
            for tree in [*crossed(first, second, 20), mutated(first, 20), mutated(second, 20)]:
                assert len(tree) <= max(20, len(first), len(second))
                assert np.shape(values(tree)) == X.shape


def test_variation_leaves_the_parents_alone():
    tree = from_expr(parse("clip(2*x) + tanh(0.5*x)"))
    kept = list(tree)
    with seeded(9):
        for _ in range(50):
            mutated(tree, 20)
            crossed(tree, tree, 20)
    assert list(tree) == kept
