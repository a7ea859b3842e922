"""From text to formula: Python arithmetic over ``x``, with exact decimal literals."""

from __future__ import annotations

import ast
from fractions import Fraction

from sw.ir.errors import InputError
from sw.ir.expr import UNARY, Expr, X, clip, const, node

FUNCTIONS = (*(name for name in UNARY if name != "neg"), "min", "max", "clip")
_BINARY_SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
}
MAX_LENGTH = 10_000
MAX_POWER = 64
MAX_NUMBER = 10**30
MAX_LITERAL = 135
"""Letters of a number: 30 digits, the point, and what a denominator of at most ``MAX_NUMBER`` may need."""
MAX_DEPTH = 100
"""Operations inside operations."""


def parse(text: str) -> Expr:
    """Read a formula; ``parse(str(e)) == e`` for every formula e.

    A decimal literal denotes exactly the number that it spells. Names: ``x``, the functions of
    ``FUNCTIONS``; ``/``, and ``**`` with an integer exponent; ``clip(e)`` is ``clip(e, -5, 5)``.

    Raises:
        InputError: The text is not such a formula; the message shows the position, counted from 1.

    >>> str(parse("0.54*clip(2.98*x) + -(x)**2"))
    '0.54*clip(2.98*x) + -x**2'
    """
    source = text.strip()
    if not source or len(source) > MAX_LENGTH:
        raise InputError(f"formula must have 1..{MAX_LENGTH} characters, not {len(source)}")
    try:
        tree = ast.parse(source, mode="eval").body
        if _depth(tree) > MAX_DEPTH:
            raise InputError(f"formula {source[:40]!r}... must nest at most {MAX_DEPTH} operations")
        return _convert(tree, source)
    except SyntaxError as error:
        raise InputError(
            f"formula {source!r} has a syntax error at position {error.offset or 1}: {error.msg}"
        ) from error
    except (RecursionError, MemoryError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"formula {source[:40]!r}... cannot be read: {error or 'nested too deeply'}"
        ) from error


def _depth(tree: ast.expr) -> int:
    """How deep a tree is, without recursion."""
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        level = [c for node_ in level for c in ast.iter_child_nodes(node_) if isinstance(c, ast.expr)]
    return deepest


def _convert(tree: ast.expr, source: str) -> Expr:
    match tree:
        case ast.Constant():
            return _number(tree, source)
        case ast.Name():
            return _variable(tree, source)
        case ast.UnaryOp(op=ast.USub()):
            return node("neg", _convert(tree.operand, source))
        case ast.UnaryOp(op=ast.UAdd()):
            return _convert(tree.operand, source)
        case ast.BinOp(op=ast.Pow()):
            return _power(tree, source)
        case ast.BinOp() if type(tree.op) in _BINARY_SIGNS:
            left, right = _convert(tree.left, source), _convert(tree.right, source)
            return node(_BINARY_SIGNS[type(tree.op)], left, right)
        case ast.Call(func=ast.Name()):
            return _call(tree, source)
    raise _error(tree, source, "must be arithmetic over x")


def _variable(tree: ast.Name, source: str) -> Expr:
    if tree.id != "x":
        raise _error(tree, source, f"may use x and {', '.join(FUNCTIONS)}")
    return X


def _number(tree: ast.Constant, source: str) -> Expr:
    literal = ast.get_source_segment(source, tree) or ""
    if isinstance(tree.value, int | float) and not isinstance(tree.value, bool):
        exponent = literal.lower().partition("e")[2]
        if len(literal) > MAX_LITERAL or len(exponent.lstrip("+-0")) > 2:
            raise _error(tree, source, "must hold numbers of at most 30 digits on either side of the point")
        try:
            exact = Fraction(literal)
        except ValueError:
            raise _error(tree, source, "must hold decimal numbers") from None
        if abs(exact) <= MAX_NUMBER and exact.denominator <= MAX_NUMBER:
            return const(exact)
        raise _error(tree, source, "must hold numbers of at most 30 digits on either side of the point")
    raise _error(tree, source, "must hold decimal numbers")


def _power(tree: ast.BinOp, source: str) -> Expr:
    exponent = _convert(tree.right, source)
    if exponent.op != "const" or exponent.value is None or exponent.value.denominator != 1:
        raise _error(tree.right, source, "must have an integer after **")
    power = int(exponent.value)
    if abs(power) > MAX_POWER:
        raise _error(tree.right, source, f"must have an exponent of -{MAX_POWER}..{MAX_POWER}")
    return node("pow", _convert(tree.left, source), power=power)


def _call(tree: ast.Call, source: str) -> Expr:
    assert isinstance(tree.func, ast.Name)
    name = tree.func.id
    if name not in FUNCTIONS:
        raise _error(tree.func, source, f"may use x and {', '.join(FUNCTIONS)}")
    counts = {"clip": (1, 3), "min": (2,), "max": (2,)}.get(name, (1,))
    if tree.keywords or len(tree.args) not in counts:
        wanted = " or ".join(str(c) for c in counts)
        raise _error(tree, source, f"must give {name} {wanted} argument{'s' if counts != (1,) else ''}")
    args = [_convert(a, source) for a in tree.args]
    if name != "clip":
        return node(name, *args)
    if len(args) == 1:
        return clip(args[0])
    low, high = args[1].value, args[2].value
    if low is None or high is None or not low < high:
        raise _error(tree, source, "must give clip rising constant limits")
    return clip(*args)


def _error(tree: ast.expr, source: str, rule: str) -> InputError:
    piece = ast.get_source_segment(source, tree) or source
    return InputError(f"formula {rule}, not {piece!r} at position {tree.col_offset + 1}")
