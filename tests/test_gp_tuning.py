"""Least squares finds constants that are known."""

import numpy as np
import pytest

from gp.evaluator import compile_skeleton
from gp.fitness import bin_pairs
from gp.primitives import constants, from_expr, skeleton
from gp.tuning import MAX_CONSTANT, tune
from sw.ir.parse import parse

X = np.random.default_rng(2).normal(size=4000) * 2


@pytest.mark.parametrize(
    ("start", "truth"),
    [
        ("tanh(x*0.5)", lambda x: 3 * np.tanh(1.7 * x) - 2),
        ("tanh(0.4*x + 0.1)", lambda x: np.tanh(0.9 * x - 0.6)),
        ("clip(3*x)", lambda x: -np.clip(4.5 * x, -5, 5)),
        ("tanh(1*x) + tanh(0.3*x)*0.5", lambda x: np.tanh(2 * x) + 2 * np.tanh(0.5 * x)),
    ],
)
def test_constants_of_a_known_function_are_found(start, truth):
    target = bin_pairs(X, truth(X), growth_penalty=0.0)
    tree = from_expr(parse(start))
    _, fit = tune(compile_skeleton(skeleton(tree)), constants(tree), target, 60)
    assert fit.loss < target.noise + 3e-4 * target.variance


def test_tuning_never_makes_it_worse():
    target = bin_pairs(X, np.sin(X), growth_penalty=0.005)
    tree = from_expr(parse("x*(3 - abs(x)) + min(x, 0.5)"))
    code = compile_skeleton(skeleton(tree))
    before = target.fit(code.value(target.x, constants(tree))).loss
    losses = [tune(code, constants(tree), target, steps)[1].loss for steps in range(8)]
    assert losses[0] == before
    assert losses == sorted(losses, reverse=True)


def test_constants_stay_within_bounds():
    target = bin_pairs(X, np.sign(X), growth_penalty=0.0)
    tree = from_expr(parse("tanh(40*x)"))
    tuned, _ = tune(compile_skeleton(skeleton(tree)), constants(tree), target, 50)
    assert abs(tuned[0]) <= MAX_CONSTANT


def test_a_tree_without_constants_is_scored_as_it_is():
    target = bin_pairs(X, 3 * X + 1, growth_penalty=0.0)
    tuned, fit = tune(compile_skeleton(("x",)), (), target, 5)
    assert tuned == ()
    assert (fit.scale, fit.offset) == (pytest.approx(3), pytest.approx(1))
