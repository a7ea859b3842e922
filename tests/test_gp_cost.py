"""The paper's two prices on its own examples, and the exact price."""

import pytest

from gp.cost import _GUESS, FLOPS, FREE, Pricer, flops, guess, guess_expr, nodes, skeleton_flops
from gp.primitives import ARITY, BINARY, UNARY
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import realize


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("clip(1.54*x)", 1),
        ("0.545*clip(2.98*x)", 2),
        ("2.5*tanh(clip(x)) + 0.135", 25),
        ("-x", 0),
        ("-1*x", 0),
        ("x**3", 2),
        ("x + x + x", 2),
        ("sigmoid(x)", 22),
        ("-0.488*x + clip(2.85*x) + 0.217", 4),
        ("tanh(x) + tanh(x + 0.27)", 48),
        ("min(x, 1) - abs(x)", 2),
        ("erf(x)", 23),
    ],
)
def test_flops_of_published_functions(text, count):
    assert flops(parse(text)) == count


@pytest.mark.parametrize(
    ("text", "count"), [("x", 1), ("clip(1.54*x)", 4), ("tanh(x) + 1", 4), ("clip(x, -2, 3)", 2), ("-x", 2)]
)
def test_nodes_count_operations_and_leaves_but_no_limits(text, count):
    assert nodes(parse(text)) == count


def test_exact_price_is_that_of_the_realised_map():
    formats = FixedFormat.parse("s8.4"), FixedFormat.parse("s6.3")
    pricer = Pricer(*formats)
    expr = parse("clip(1.5*x, -3.875, 3.875)")
    assert pricer.realize(expr).lut6 == realize(expr, *formats).lut6
    assert pricer.realize(expr) is pricer.realize(expr), "each formula is realised once"


def test_guesses_order_what_differs_much():
    clip, two_clips, tanh = ("clip(2*x)", "clip(2*x) + clip(x + 0.5)", "tanh(x) + tanh(3*x)")
    assert guess_expr(parse(clip)) < guess_expr(parse(two_clips)) < guess_expr(parse(tanh))
    assert guess(("clip", "x")) < guess(("clip", "mul", "c", "x")) < guess(("mul", "x", "x"))


WIRING = {"double", "half"}


def test_every_primitive_has_its_prices():
    names = {*UNARY, *BINARY}
    assert {*_GUESS, "mul"} == names - WIRING, "a name that is missing costs nothing"
    assert names - WIRING <= {*FLOPS, *FREE}
    for name in names - WIRING:
        assert guess((name, *["x"] * ARITY[name])) > 0
        assert (skeleton_flops((name,)) == 0) == (name in FREE and name != "clip")
    assert {skeleton_flops((name,)) for name in WIRING} == {1}
