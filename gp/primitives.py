"""The language of the search: DEAP trees over x, and their translation to and from formulas."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator, Sequence
from typing import Any

from deap import gp as deap_gp

from sw.ir.expr import Expr, X, clip, const, node

Tree = list[Any]
"""Nodes in prefix order, as DEAP's PrimitiveTree holds them."""

VARIABLE = "x"
CONSTANT = "c"
UNARY = ("neg", "tanh", "sigmoid", "clip", "abs", "double", "half")
BINARY = ("add", "mul", "min", "max")
ARITY = dict.fromkeys(UNARY, 1) | dict.fromkeys(BINARY, 2) | {VARIABLE: 0, CONSTANT: 0}

_WEIGHTS = {"add": 3, "mul": 3, "neg": 1, "tanh": 2, "sigmoid": 1, "clip": 1}
"""Roughly the paper's sampling probabilities 28:26:8:20:10:8; the primitives that it lacks weigh 1."""


@functools.lru_cache(maxsize=1)
def primitive_set() -> Any:
    """DEAP's primitive set; constants are drawn from N(0, 1) and as likely as x.

    DEAP chooses evenly from a list, so a primitive that is to come up more often is listed more often.
    """
    primitives = deap_gp.PrimitiveSet("scalar", 1)
    primitives.renameArguments(ARG0=VARIABLE)
    for name in (*UNARY, *BINARY):
        for _ in range(_WEIGHTS.get(name, 1)):
            primitives.addPrimitive(_never_called, ARITY[name], name=name)
    primitives.addEphemeralConstant("normal", functools.partial(random.gauss, 0.0, 1.0))
    return primitives


def _never_called() -> None:
    """DEAP wants a callable with each name; trees are evaluated by ``gp.evaluator`` instead."""


def constant(value: float) -> Any:
    """A constant leaf."""
    return deap_gp.Terminal(float(value), False, deap_gp.__type__)


def variable() -> Any:
    """The leaf x."""
    return primitive_set().mapping[VARIABLE]


def kind(leaf_or_primitive: Any) -> str:
    """A node's name: a primitive's, ``x`` or ``c``."""
    if leaf_or_primitive.arity:
        return str(leaf_or_primitive.name)
    return VARIABLE if leaf_or_primitive.value == VARIABLE else CONSTANT


def skeleton(tree: Sequence[Any]) -> tuple[str, ...]:
    """The names of a tree's nodes in prefix order; what is left of it without its constants."""
    return tuple([kind(n) for n in tree])


def constants(tree: Sequence[Any]) -> tuple[float, ...]:
    """The values of a tree's constants in prefix order."""
    return tuple([n.value for n in tree if not n.arity and n.value != VARIABLE])


def build(names: Sequence[str], values: Sequence[float]) -> Tree:
    """The tree of a skeleton and its constants; the inverse of ``skeleton`` and ``constants``."""
    mapping, rest = primitive_set().mapping, iter(values)
    return deap_gp.PrimitiveTree([constant(next(rest)) if n == CONSTANT else mapping[n] for n in names])


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the block with the global ``random`` seeded, which DEAP draws from, and put it back after."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def to_expr(tree: Sequence[Any]) -> Expr:
    """The formula of a tree; constants become exactly the doubles that they are."""
    stack: list[Expr] = []
    for n in reversed(tree):
        name = kind(n)
        if name == VARIABLE:
            stack.append(X)
        elif name == CONSTANT:
            stack.append(const(n.value))
        elif name == "clip":
            stack.append(clip(stack.pop()))
        elif name in ("double", "half"):
            stack.append(node("mul", const(2 if name == "double" else 0.5), stack.pop()))
        else:
            stack.append(node(name, *(stack.pop() for _ in range(ARITY[name]))))
    assert len(stack) == 1, "a tree must be complete"
    return stack[0]


def from_expr(expr: Expr) -> Tree:
    """The tree of a formula made of the search's primitives (and subtraction, and clip to [-5, 5])."""
    names, values = _prefix(expr)
    return build(names, values)


def _prefix(expr: Expr) -> tuple[list[str], list[float]]:
    if expr.op == "x":
        return [VARIABLE], []
    if expr.op == "const":
        assert expr.value is not None
        return [CONSTANT], [float(expr.value)]
    assert expr.op != "clip" or expr == clip(expr.args[0]), "the search's clip is to [-5, 5]"
    args = [_prefix(a) for a in (expr.args[:1] if expr.op == "clip" else expr.args)]
    if expr.op == "sub":
        (a, ca), (b, cb) = args
        return ["add", *a, "neg", *b], ca + cb
    assert ARITY.get(expr.op) == len(args), f"the search has no {expr.op}"
    return [expr.op, *(n for a in args for n in a[0])], [c for a in args for c in a[1]]
