"""Recognising functions that are made of straight lines, exactly, from their structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sw.ir.expr import Expr, interpret_expr

MAX_PIECES = 16
"""Beyond it a function counts as curved."""


@dataclass(frozen=True, slots=True)
class Piece:
    """slope * x + offset from the end of the piece before it up to ``end``; None: without end."""

    slope: Fraction
    offset: Fraction
    end: Fraction | None = None

    def __neg__(self) -> Piece:
        return Piece(-self.slope, -self.offset, self.end)


Pieces = tuple[Piece, ...]
"""A continuous function; neighbours are different lines."""


def pieces_of(expr: Expr) -> Pieces | None:
    """The function as lines in rising order of x, if it is made of few lines by its structure, else None.

    >>> from sw.ir.parse import parse
    >>> [(str(p.slope), str(p.end)) for p in pieces_of(parse("max(x, 0.5*x) - 2*relu(x - 1)"))]
    [('1/2', '0'), ('1', '1'), ('-1', 'None')]
    """
    x: Pieces | None = (Piece(Fraction(1), Fraction(0)),)
    return interpret_expr(expr, x, _constant, _Ops())


def _constant(value: Fraction) -> Pieces:
    return (Piece(Fraction(0), value),)


class _Ops(dict[str, Callable[..., Any]]):
    """Operations on pieces; those that leave the family, and any on a None, give None."""

    def __missing__(self, op: str) -> Callable[..., Pieces | None]:
        rule = _RULES.get(op)

        def apply(*args: Any) -> Pieces | None:
            found = None if rule is None or any(a is None for a in args) else rule(*args)
            return None if found is None or len(found) > MAX_PIECES else found

        return apply


def _overlaps(a: Pieces, b: Pieces) -> Iterator[tuple[Fraction | None, Piece, Piece]]:
    """The pieces of both between any two ends of either, with the upper end."""
    i = j = 0
    while True:
        ends = [p.end for p in (a[i], b[j]) if p.end is not None]
        end = min(ends, default=None)
        yield end, a[i], b[j]
        if end is None:
            return
        i, j = i + (a[i].end == end), j + (b[j].end == end)


def _joined(pieces: Iterator[Piece]) -> Pieces:
    """Neighbours on the same line made one."""
    found: list[Piece] = []
    for piece in pieces:
        if found and (found[-1].slope, found[-1].offset) == (piece.slope, piece.offset):
            found.pop()
        found.append(piece)
    return tuple(found)


def _add(a: Pieces, b: Pieces) -> Pieces:
    return _joined(Piece(p.slope + q.slope, p.offset + q.offset, end) for end, p, q in _overlaps(a, b))


def _neg(a: Pieces) -> Pieces:
    return tuple(-p for p in a)


def _mul(a: Pieces, b: Pieces) -> Pieces | None:
    for function, other in ((a, b), (b, a)):
        if len(other) == 1 and not other[0].slope:
            factor = other[0].offset
            return _joined(Piece(factor * p.slope, factor * p.offset, p.end) for p in function)
    return None


def _div(a: Pieces, b: Pieces) -> Pieces | None:
    if len(b) > 1 or b[0].slope or not b[0].offset:
        return None
    return _mul(a, _constant(1 / b[0].offset))


def _max(a: Pieces, b: Pieces) -> Pieces:
    return _joined(_larger(a, b))


def _larger(a: Pieces, b: Pieces) -> Iterator[Piece]:
    start: Fraction | None = None
    for end, p, q in _overlaps(a, b):
        slope, offset = p.slope - q.slope, p.offset - q.offset
        if slope:
            crossing = -offset / slope
            left, right = (q, p) if slope > 0 else (p, q)
            if (start is None or start < crossing) and (end is None or crossing < end):
                yield Piece(left.slope, left.offset, crossing)
                larger = right
            else:
                larger = left if end is not None and end <= crossing else right
        else:
            larger = p if offset >= 0 else q
        yield Piece(larger.slope, larger.offset, end)
        start = end


def _min(a: Pieces, b: Pieces) -> Pieces:
    return _neg(_max(_neg(a), _neg(b)))


_RULES: dict[str, Callable[..., Pieces | None]] = {
    "add": _add,
    "sub": lambda a, b: _add(a, _neg(b)),
    "neg": _neg,
    "mul": _mul,
    "div": _div,
    "min": _min,
    "max": _max,
    "abs": lambda a: _max(a, _neg(a)),
    "relu": lambda a: _max(a, _constant(Fraction(0))),
    "clip": lambda a, lo, hi: _min(_max(a, lo), hi),
}
