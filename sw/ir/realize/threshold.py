"""Monotone maps by binary search among the codes where the output changes."""

from __future__ import annotations

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.formats import IntArray
from sw.ir.program import Program
from sw.ir.realize.target import NotApplicableError, Target

MAX_LEVEL_BITS = 10


def plan(target: Target) -> Program:
    """One comparison a bit of the result, each against a threshold from a table; always exact.

    Raises:
        NotApplicableError: The map is not monotone, or has more than 1024 steps.
    """
    steps = np.diff(target.map)
    if not (np.all(steps >= 0) or np.all(steps <= 0)):
        raise NotApplicableError(f"map of '{target.expr}' must be monotone")
    changes = np.flatnonzero(steps)
    bits = max(1, len(changes).bit_length())
    if bits > MAX_LEVEL_BITS:
        raise NotApplicableError(
            f"map of '{target.expr}' must have fewer than {1 << MAX_LEVEL_BITS} steps, not {len(changes)}"
        )
    b = Builder(target.input)
    if changes.size == 0:
        return b.build(b.const(int(target.map[0])), target.output)
    last_below = np.full((1 << bits) - 1, target.input.max_raw, dtype=np.int64)
    last_below[: len(changes)] = changes + target.input.min_raw
    passed = _search(b, last_below, bits)
    return b.build(_level(b, passed, target.map[np.append(changes, len(target.map) - 1)]), target.output)


def _search(b: Builder, last_below: IntArray, bits: int) -> Wire:
    """How many steps x is beyond: the bits of the number, highest first.

    ``last_below`` holds the last code before each step, so one comparison says "beyond".
    """
    passed: Wire = b.const(0)
    for bit in range(bits - 1, -1, -1):
        # With the upper bits known to be p, the next step to ask for is number (2p + 1) * 2^bit.
        beyond = b.lt(b.lookup(passed, last_below[(1 << bit) - 1 :: 2 << bit]), b.x)
        passed = b.add(b.shl(passed, 1), beyond)
    return passed


def _level(b: Builder, passed: Wire, levels: IntArray) -> Wire:
    """The output after so many steps: an addition where every step is one, else a table."""
    count = np.arange(len(levels))
    if np.array_equal(levels, levels[0] + count):
        return b.add(passed, b.const(int(levels[0])))
    if np.array_equal(levels, levels[0] - count):
        return b.sub(b.const(int(levels[0])), passed)
    return b.lookup(passed, levels)
