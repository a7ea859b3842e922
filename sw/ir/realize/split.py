"""A line, or two that meet at 0, plus what the function is beside them: little, and constant far away."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from sw.ir.csd import signed_digits
from sw.ir.price import lut6
from sw.ir.program import Program
from sw.ir.realize.bipartite import two_tables
from sw.ir.realize.domain import Line, domains
from sw.ir.realize.target import NotApplicableError, Target

MAX_DIGITS = 2
_FINENESS = 3
"""Fraction bits of the line beyond those that make one input code a step of it."""


def plan(target: Target) -> Program:
    """(line + values + offsets) >> s within ``max_ulp`` at every code, the latter two from tables.

    The line has a slope of at most 2 signed digits; it goes straight through 0, or bends there: then one
    side is 0, or both are alike. Functions such as x * sigmoid(x) leave a narrow even bump beside it.

    Raises:
        NotApplicableError: The map's ends are level, or there are no such tables.
    """
    best: Program | None = None
    limit = target.budget
    for line in _lines(target):
        made = two_tables(domains(target, line), limit)
        if made is not None:
            best, limit = made, lut6(made)
    if best is None:
        raise NotApplicableError(f"map of '{target.expr}' must be a line far from 0, but for little")
    return best


def _lines(target: Target) -> Iterator[Line]:
    left, right = _slope(target, negative=True), _slope(target, negative=False)
    steepest = max(abs(left), abs(right))
    if steepest == 0:
        return
    shift = max(0, _FINENESS - int(np.floor(np.log2(steepest))))
    for digits in range(1, MAX_DIGITS + 1):
        sides = {_rounded(slope * 2.0**shift, digits) for slope in (left, right)}
        for low, high in product(sides | {0}, repeat=2):
            near = abs(low * 2.0**-shift - left) + abs(high * 2.0**-shift - right) < steepest / 2
            if near and (abs(low) == abs(high) or 0 in (low, high)):
                yield Line(low, high, shift)


def _slope(target: Target, *, negative: bool) -> float:
    """Output codes an input code over the outer half of one side, as far as the output does not saturate."""
    codes = target.input.codes()
    side = codes < 0 if negative else codes >= 0
    inside = side & (target.map > target.output.min_raw) & (target.map < target.output.max_raw)
    index = np.flatnonzero(inside)
    if index.size < 4:
        return 0.0
    outer, inner = (index[0], index[index.size // 2]) if negative else (index[-1], index[index.size // 2])
    return float(target.map[outer] - target.map[inner]) / float(outer - inner)


def _rounded(value: float, digits: int) -> int:
    """The nearest integer of at most so many signed digits."""
    found = 0
    for _ in range(digits):
        rest = round(value) - found
        if rest:
            _, shift = signed_digits(rest)[-1]
            found += (1 << shift) if rest > 0 else -(1 << shift)
    return found
