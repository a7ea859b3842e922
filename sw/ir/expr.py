"""Formulas in one variable: what evolution prints, people type, and the compiler reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sw.ir.formats import FloatArray

T = TypeVar("T")

UNARY = (
    *("neg", "abs", "relu", "square", "floor"),
    *("tanh", "sigmoid", "erf", "exp", "log", "sqrt", "atan", "sin"),
)
BINARY = ("add", "sub", "mul", "div", "min", "max")
CLIP_LIMIT = Fraction(5)
"""``clip(e)`` means clip to [-5, 5], as in the paper."""


@dataclass(frozen=True, slots=True)
class Expr:
    """One node of a formula; immutable, comparable and hashable.

    Args:
        op: ``x``, ``const``, ``pow``, ``clip``, or a name of ``UNARY`` or ``BINARY``.
        args: Sub-formulas; ``clip`` has three, the limits being constants.
        value: The exact number of a ``const``; its decimal expansion is finite.
        power: The integer exponent of a ``pow``.
    """

    op: str
    args: tuple[Expr, ...] = ()
    value: Fraction | None = None
    power: int = 0
    _hash: int = field(init=False, repr=False, compare=False)
    """Kept, since formulas are looked up again and again and a tree's hash asks all its nodes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.op, self.args, self.value, self.power)))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Expr], tuple[Any, ...]]:
        return Expr, (self.op, self.args, self.value, self.power)  # hashes differ between processes

    def __str__(self) -> str:
        return _text(self)[0]

    def walk(self) -> Iterator[Expr]:
        """All nodes, children before parents, repeated sub-formulas repeatedly."""
        for arg in self.args:
            yield from arg.walk()
        yield self


X = Expr("x")


def const(value: float | Fraction | str) -> Expr:
    """A constant node; a string is the decimal that it spells, a float the dyadic number that it is.

    >>> str(const("1.37")), const(0.5) == const("0.5")
    ('1.37', True)
    """
    exact = Fraction(value)
    odd = exact.denominator >> _twos(exact.denominator)
    while odd % 5 == 0:
        odd //= 5
    assert odd == 1, f"constant must be a finite decimal, not {exact}"
    return Expr("const", value=exact)


def node(op: str, *args: Expr, power: int = 0) -> Expr:
    """An operation node; the negative of a constant is a constant.

    >>> str(node("mul", node("neg", const(2)), X))
    '-2*x'
    """
    if op == "neg" and args[0].op == "const":
        assert args[0].value is not None
        return Expr("const", value=-args[0].value)
    return Expr(op, args, power=power)


def clip(e: Expr, lo: Expr | None = None, hi: Expr | None = None) -> Expr:
    """E limited to [lo, hi], by default [-5, 5]."""
    return Expr("clip", (e, lo or const(-CLIP_LIMIT), hi or const(CLIP_LIMIT)))


def replaced(expr: Expr, part: Expr, by: Expr) -> Expr:
    """The formula with another in the place of one of its parts, wherever that occurs.

    >>> str(replaced(node("add", node("square", X), const(1)), X, node("abs", X)))
    'square(abs(x)) + 1'
    """
    if expr == part:
        return by
    args = tuple(replaced(arg, part, by) for arg in expr.args)
    return Expr(expr.op, args, expr.value, expr.power)


def interpret_expr(
    expr: Expr,
    x: T,
    const: Callable[[Fraction], T],
    ops: Mapping[str, Callable[..., T]],
) -> T:
    """Evaluate a formula in any arithmetic; equal sub-formulas are computed once.

    Args:
        x: The variable's value.
        const: Makes a value of an exact number.
        ops: A function for every operation that occurs; ``pow`` gets (base, exponent: int).
    """
    known: dict[Expr, T] = {}
    for e in expr.walk():
        if e in known:
            continue
        if e.op == "x":
            known[e] = x
        elif e.op == "const":
            assert e.value is not None
            known[e] = const(e.value)
        elif e.op == "pow":
            known[e] = ops["pow"](known[e.args[0]], e.power)
        else:
            known[e] = ops[e.op](*(known[a] for a in e.args))
    return known[expr]


def _sigmoid(v: npt.ArrayLike) -> FloatArray:
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(v))


NUMPY_OPS: dict[str, Callable[..., FloatArray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
    "pow": lambda base, power: np.power(np.asarray(base, dtype=np.float64), power),
    "neg": np.negative,
    "abs": np.abs,
    "relu": lambda v: np.maximum(v, 0.0),
    "square": np.square,
    "floor": np.floor,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "atan": np.arctan,
    "sin": np.sin,
    "clip": np.clip,
}
"""Every operation in float64."""


def evaluate(expr: Expr, x: npt.ArrayLike) -> FloatArray:
    """The formula in float64, elementwise; NaN or infinity where it is undefined or overflows.

    >>> from sw.ir.parse import parse
    >>> evaluate(parse("0.5*clip(2.5*x) - 0.25"), [0.0, 1.0, 9.0]).tolist()
    [-0.25, 1.0, 2.25]
    """
    values = np.asarray(x, dtype=np.float64)
    with np.errstate(all="ignore"):
        result = interpret_expr(expr, values, lambda c: np.asarray(c.numerator / c.denominator), NUMPY_OPS)
    return np.broadcast_to(result, values.shape).astype(np.float64)


_PRECEDENCE = {"add": 1, "sub": 1, "mul": 2, "div": 2, "neg": 3, "pow": 4}
_SIGN = {"add": " + ", "sub": " - ", "mul": "*", "div": "/"}
_ATOM = 5


def _text(e: Expr) -> tuple[str, int]:
    """A formula's text and how tightly its outermost operation binds."""
    if e.op == "x":
        return "x", _ATOM
    if e.op == "const":
        assert e.value is not None
        return _decimal(e.value), 3 if e.value < 0 else _ATOM
    rank = _PRECEDENCE.get(e.op, _ATOM)
    if e.op in _SIGN:
        left, right = _bracketed(e.args[0], rank), _bracketed(e.args[1], rank + 1)
        return left + _SIGN[e.op] + right, rank
    if e.op == "neg":
        return "-" + _bracketed(e.args[0], rank), rank
    if e.op == "pow":
        return f"{_bracketed(e.args[0], rank + 1)}**{e.power}", rank
    shown = e.args[:1] if e == clip(e.args[0]) else e.args
    return f"{e.op}({', '.join(str(a) for a in shown)})", _ATOM


def _bracketed(e: Expr, rank: int) -> str:
    text, own = _text(e)
    return text if own >= rank else f"({text})"


def _decimal(value: Fraction) -> str:
    """The finite decimal expansion of a number, exact."""
    digits = 0
    while (value * 10**digits).denominator != 1:
        digits += 1
    whole = abs(value.numerator) * 10**digits // value.denominator
    text = str(whole).rjust(digits + 1, "0")
    sign = "-" if value < 0 else ""
    return sign + (f"{text[:-digits]}.{text[-digits:]}" if digits else text)


def _twos(n: int) -> int:
    return (n & -n).bit_length() - 1
