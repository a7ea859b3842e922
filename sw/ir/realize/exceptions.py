"""A coarse map but for a few single codes: a table, and a comparison for each of those codes.

That is what a token gives that is the same in every image (the class token in front of the first block):
its few values of x have outputs of their own, wherever the others lie.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.formats import IntArray
from sw.ir.program import Program, dropping
from sw.ir.realize import table
from sw.ir.realize.target import NotApplicableError, Target

MAX_EXCEPTIONS = 24
_GROUP = 4
"""Comparisons that fit, with what they override, the inputs of one LUT."""


def plan(target: Target) -> Program:
    """The table of the map without its exceptions, and what to put in its place at those; always exact.

    Raises:
        NotApplicableError: No single codes differ from their surroundings, or too many, or the rest of the
            map has no lowest bits that it ignores.
    """
    codes, plain = without_exceptions(target)
    idle = plain.idle_bits()
    if not (len(codes) and idle):
        raise NotApplicableError(
            f"map of '{target.expr}' must be one of few cells but for 1..{MAX_EXCEPTIONS} single codes"
        )
    b = Builder(target.input)
    result = b.include(dropping(table.plan(plain.coarser(idle)), target.input, idle))
    for start in range(0, len(codes), _GROUP):
        result = _overridden(b, result, target, codes[start : start + _GROUP])
    return b.build(result, target.output)


def without_exceptions(target: Target) -> tuple[IntArray, Target]:
    """Indices of the few codes that differ from both neighbours, and the map as if they did not.

    None and the map itself where there are more than ``MAX_EXCEPTIONS``.
    """
    differs = np.diff(target.map) != 0
    codes = 1 + np.flatnonzero(differs[:-1] & differs[1:])
    if len(codes) > MAX_EXCEPTIONS:
        return codes[:0], target
    base = target.map.copy()
    base[codes] = base[codes ^ 1]  # the other half of the pair, which is in the same cell
    return codes, replace(target, map=base)


def _overridden(b: Builder, base: Wire, target: Target, codes: IntArray) -> Wire:
    """The wire, but the map's own value at each of a few codes."""
    hits = [b.eq(b.x, b.const(int(code) + target.input.min_raw)) for code in codes]
    address = reduce(lambda number, hit: b.add(b.shl(number, 1), hit), hits[::-1])
    values = np.zeros(1 << len(hits), dtype=np.int64)
    values[1 << np.arange(len(hits))] = target.map[codes]
    return b.select(address, b.lookup(address, values), base)
