"""A formula with its argument stretched: f(x) becomes f(s x), where hardware still reads x as it did.

Where a formula sees x only in coarse cells, ``clip(floor(8*x), -128, 127) + 0.5``, the cells stay as they are
and what is computed of them is stretched: dropping bits is free, and a table of as many cells costs as much.
"""

from __future__ import annotations

from fractions import Fraction

from sw.ir.expr import Expr, X, const, node, replaced


def reading(expr: Expr) -> Expr:
    """Through what alone a formula sees x: a cell of its code, or x itself.

    >>> from sw.ir.parse import parse
    >>> str(reading(parse("tanh(0.25*(clip(floor(8*x), -4, 3) + 0.5))"))), str(reading(parse("x + floor(x)")))
    ('clip(floor(8*x), -4, 3) + 0.5', 'x')
    """
    read = next((part for part in expr.walk() if part.op == "floor" and _is_all(expr, part)), X)
    for op in ("clip", "add"):  # the clamp around it, then the half that is added
        around = (p for p in expr.walk() if p.op == op and p.args[0] == read and read != X)
        read = next((p for p in around if not any(map(_reads_x, p.args[1:])) and _is_all(expr, p)), read)
    return read


def stretched(expr: Expr, scale: Fraction) -> Expr:
    """F of ``scale`` times what it reads; a factor that is there already takes the scale in.

    >>> from sw.ir.parse import parse
    >>> str(stretched(parse("tanh(0.5*x) - x"), Fraction(3, 4)))
    'tanh(0.375*x) - 0.75*x'
    """
    return _stretched(expr, reading(expr), scale)


def _stretched(expr: Expr, read: Expr, scale: Fraction) -> Expr:
    if expr == read:
        return node("mul", const(scale), read)
    if expr.op == "mul" and expr.args[1] == read and expr.args[0].value is not None:
        return node("mul", const(scale * expr.args[0].value), read)
    args = tuple(_stretched(arg, read, scale) for arg in expr.args)
    return Expr(expr.op, args, expr.value, expr.power)


def _is_all(expr: Expr, part: Expr) -> bool:
    """Whether a formula sees x through one of its parts alone."""
    return not _reads_x(replaced(expr, part, const(0)))


def _reads_x(expr: Expr) -> bool:
    return any(part.op == "x" for part in expr.walk())
