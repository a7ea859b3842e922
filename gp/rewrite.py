"""Formulas in the shape that hardware likes: factors at the leaves, constants short, clamps explicit."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from gp.grid import snap
from sw.ir.expr import Expr, X, clip, const, node, replaced
from sw.ir.formats import round_bits

TERM_BITS = 6
"""Significant bits of an added constant, none of them below ``TERM_FINEST``."""
TERM_FINEST = Fraction(1, 256)

Move = Callable[[str, Fraction], Fraction]
"""A new value for a constant, from its role and its value. Roles: ``factor``, ``limit``, ``term``."""


def substitute(expr: Expr, inner: Expr) -> Expr:
    """The formula with ``inner`` in the place of x."""
    return replaced(expr, X, inner)


def scaled(expr: Expr, factor: Fraction) -> Expr:
    """A multiple of the formula, the factor (> 0) pushed through everything linear down to the leaves.

    A product with a constant becomes part of the factor, so afterwards constants multiply only x, a
    non-linear function, or a product of two formulas in x.
    """
    assert factor > 0, "a negative factor would turn minimum into maximum"
    args = expr.args
    if expr.op == "const":
        return const(factor * _value(expr))
    if expr.op == "mul" and "const" in (args[0].op, args[1].op):
        number, rest = (args[0], args[1]) if args[0].op == "const" else (args[1], args[0])
        return _times(rest, factor * _value(number))
    if expr.op == "neg":
        return negated(scaled(args[0], factor))
    if expr.op in ("add", "sub"):
        return _sum(expr.op, scaled(args[0], factor), scaled(args[1], factor))
    if expr.op in ("min", "max", "abs", "relu"):
        return node(expr.op, *(scaled(a, factor) for a in args))
    if expr.op == "clip":
        low, high = factor * _value(args[1]), factor * _value(args[2])
        return clip(scaled(args[0], factor), const(low), const(high))
    if expr.op == "mul":
        return node("mul", scaled(args[0], factor), scaled(args[1], Fraction(1)))
    if expr.op == "x":
        return X if factor == 1 else node("mul", const(factor), X)
    inner = tuple(scaled(a, Fraction(1)) for a in args)
    if expr.op == "tanh" and _is_negative(inner[0]):
        return negated(scaled(node("tanh", negated(inner[0])), factor))
    plain = Expr(expr.op, inner, power=expr.power)
    return plain if factor == 1 else node("mul", const(factor), plain)


def clamped(expr: Expr, low: Fraction, high: Fraction) -> Expr:
    """The formula limited to [low, high]; an outermost clip is narrowed instead of wrapped."""
    if expr.op == "clip":
        inner_low, inner_high = _value(expr.args[1]), _value(expr.args[2])
        if inner_low < high and low < inner_high:
            return clip(expr.args[0], const(max(low, inner_low)), const(min(high, inner_high)))
    return clip(expr, const(low), const(high))


def snapped(expr: Expr, digits: int, step: Fraction) -> Expr:
    """Factors of at most ``digits`` signed digits, limits that are multiples of ``step``, short terms."""

    def move(role: str, value: Fraction) -> Fraction:
        if role == "factor":
            return snap(value, digits)
        return round(value / step) * step if role == "limit" else round_bits(value, TERM_BITS, TERM_FINEST)

    return moved(expr, move)


def moved(expr: Expr, move: Move) -> Expr:
    """The formula with every constant replaced; symmetric limits of a clip are one constant.

    Constants are visited in a fixed order. A factor of 1 or -1 and a term of 0 disappear.
    """
    if expr.op == "x":
        return X
    if expr.op == "const":
        return const(move("term", _value(expr)))
    if expr.op == "clip":
        inner = moved(expr.args[0], move)
        low, high = _value(expr.args[1]), _value(expr.args[2])
        new_high = move("limit", high)
        new_low = -new_high if low == -high else move("limit", low)
        return clip(inner, const(new_low), const(new_high))
    if expr.op == "mul" and expr.args[0].op == "const":
        factor = move("factor", _value(expr.args[0]))
        rest = moved(expr.args[1], move)
        return rest if factor == 1 else negated(rest) if factor == -1 else node("mul", const(factor), rest)
    args = [moved(a, move) for a in expr.args]
    if expr.op in ("add", "sub"):
        return _sum(expr.op, args[0], args[1])
    return Expr(expr.op, tuple(args), power=expr.power)


def constants_of(expr: Expr) -> list[tuple[str, Fraction]]:
    """Role and value of every constant, in the order in which ``moved`` visits them."""
    found: list[tuple[str, Fraction]] = []

    def note(role: str, value: Fraction) -> Fraction:
        found.append((role, value))
        return value

    moved(expr, note)
    return found


def is_sound(expr: Expr) -> bool:
    """Whether every clip has rising limits; rounding may have brought them together."""
    return all(e.op != "clip" or _value(e.args[1]) < _value(e.args[2]) for e in expr.walk())


def negated(expr: Expr) -> Expr:
    """-expr, with the sign taken in where that costs nothing."""
    args = expr.args
    match expr.op:
        case "const":
            return const(-_value(expr))
        case "neg":
            return args[0]
        case "mul" if args[0].op == "const":
            return node("mul", const(-_value(args[0])), args[1])
        case "sub":
            return node("sub", args[1], args[0])
        case "add":
            return _sum("sub", negated(args[0]), args[1])
        case "min" | "max":
            return node("max" if expr.op == "min" else "min", negated(args[0]), negated(args[1]))
        case "clip":
            return clip(negated(args[0]), const(-_value(args[2])), const(-_value(args[1])))
        case _:
            return node("neg", expr)


def _times(expr: Expr, factor: Fraction) -> Expr:
    if factor == 0:
        return const(0)
    return scaled(expr, factor) if factor > 0 else negated(scaled(expr, -factor))


def _is_negative(expr: Expr) -> bool:
    """Whether a formula is written as the negative of another."""
    return expr.op == "neg" or (expr.op == "mul" and expr.args[0].op == "const" and _value(expr.args[0]) < 0)


def _sum(op: str, left: Expr, right: Expr) -> Expr:
    """The sum or difference, without zeros and without adding a negative."""
    if right.op == "neg":
        op, right = ("sub" if op == "add" else "add"), right.args[0]
    if left.op == "const" and op == "add":
        left, right = right, left
    if left.op == "neg" and op == "add":
        op, left, right = "sub", right, left.args[0]
    if right.op == "const":
        if left.op == "const":
            return const(_value(left) + (_value(right) if op == "add" else -_value(right)))
        if right.value == 0:
            return left
        if _value(right) < 0:
            op, right = ("sub" if op == "add" else "add"), const(-_value(right))
    if left.value == 0:
        return right if op == "add" else negated(right)
    return node(op, left, right)


def _value(expr: Expr) -> Fraction:
    assert expr.value is not None, f"a constant was expected, not {expr}"
    return expr.value
