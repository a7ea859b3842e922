"""Realisations: from a function at its formats to a Program, in several kinds, the cheapest chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sw.ir import interpret
from sw.ir.errors import InputError
from sw.ir.expr import Expr
from sw.ir.formats import FixedFormat
from sw.ir.price import lut6
from sw.ir.program import Program, dropping
from sw.ir.realize import (
    bipartite,
    dataflow,
    exceptions,
    octaves,
    pwl,
    quadratic,
    requant,
    shift_add,
    split,
    table,
    threshold,
)
from sw.ir.realize.target import NotApplicableError, Target

KINDS: dict[str, Callable[[Target], Program]] = {
    "operator": dataflow.plan,
    "requant": requant.plan,
    "shift_add": shift_add.plan,
    "half_table": table.plan_half,
    "threshold": threshold.plan,
    "pwl": pwl.plan,
    "octaves": octaves.plan,
    "bipartite": bipartite.plan,
    "split": split.plan,
    "quadratic": quadratic.plan,
    "exceptions": exceptions.plan,
    "table": table.plan,
}
"""Every kind; a new one is a file with a ``plan`` and a line here."""

_OF_FORMULA = ("operator", "requant", "shift_add")
"""Kinds that are made from the formula; all others see the map alone, so the bits that it ignores are
dropped before they are planned."""

_TINY_BITS = 6
_TINY_KINDS = ("requant", "half_table", "threshold", "pwl", "bipartite", "table")
"""All that is tried where so few bits decide: a table is then one LUT an output bit."""

_WIDE_CELL_BITS = 3
"""Exceptions among cells this wide are made by nothing else; a line has them among short steps."""

_ROOM = 1.35
"""A kind is tried while its first estimate is below so much of the cheapest so far."""

_TABLE_LIMIT = 1 << 12
"""Entries beyond which a plain table is never the cheapest and is only made when asked for."""

_LEAST_OUTPUT_BITS = {
    "octaves": octaves.MIN_OUTPUT_BITS,
    "split": 10,
    "quadratic": quadratic.MIN_OUTPUT_BITS,
}
"""Output bits below which a kind is not the cheapest and is only made when asked for."""


@dataclass(frozen=True, slots=True)
class Realization:
    """A Program for a function, how far it is from the reference map, and what it should cost.

    Args:
        kind: A key of ``KINDS``.
        max_ulp: Largest difference from the reference map in output codes, measured on every code.
        lut6: Predicted 6-input LUTs of one lane.
    """

    kind: str
    program: Program
    max_ulp: int
    lut6: float


def realize(
    expr: Expr, input: FixedFormat, output: FixedFormat, *, kind: str = "auto", max_ulp: int = 0
) -> Realization:
    """The cheapest realisation that is at most ``max_ulp`` codes from the reference map, or a forced kind.

    A forced ``operator`` may be further away; it says how far.

    Raises:
        InputError: An unknown kind, a kind that cannot do this map, or a function that is undefined
            somewhere in the input range.

    >>> from sw.ir.parse import parse
    >>> s = FixedFormat.parse
    >>> r = realize(parse("clip(1.5*x, -3.96875, 3.96875)"), s("s16.11"), s("s8.5"))
    >>> r.kind, r.max_ulp
    ('requant', 0)
    """
    if kind != "auto" and kind not in KINDS:
        raise InputError(f"kind of realisation must be auto or one of {', '.join(KINDS)}, not '{kind}'")
    target = Target.of(expr, input, output, max_ulp)
    if kind != "auto":
        return plan_kind(kind, target)
    found = candidates(target, _hopeful(target), pruned=True)
    return cheapest(found or candidates(target, pruned=True), target)


def _hopeful(target: Target) -> Sequence[str]:
    """The kinds of which one may be the cheapest, where that is plain from the map."""
    codes, plain = exceptions.without_exceptions(target)
    if len(target.map) > _TABLE_LIMIT and len(codes) and plain.idle_bits() >= _WIDE_CELL_BITS:
        return ("requant", "exceptions")
    lo, hi = target.coarser(target.idle_bits()).active_range()
    return _TINY_KINDS if hi - lo < 1 << _TINY_BITS else tuple(KINDS)


def cheapest(found: list[Realization], target: Target) -> Realization:
    """The one of least predicted cost among those close enough to the map.

    Raises:
        InputError: None is; up to 16 input bits there always is one.
    """
    near = [r for r in found if r.max_ulp <= target.max_ulp]
    if not near:
        raise InputError(no_realization(target))
    return min(near, key=lambda r: r.lut6)


def no_realization(target: Target) -> str:
    """What to say where no kind is close enough."""
    return (
        f"function '{target.expr}' has no realisation from {target.input} to {target.output} that is at "
        f"most {target.max_ulp} ulp off; a smaller range or fewer input bits would help"
    )


def candidates(
    target: Target, kinds: Sequence[str] = tuple(KINDS), *, pruned: bool = False
) -> list[Realization]:
    """Every kind that applies, in the order of ``KINDS``.

    What is never the cheapest is left out: large plain tables, kinds for wider outputs and, where
    ``pruned``, what cannot beat the cheapest before it.
    """
    coarse = target.coarser(target.idle_bits())
    lo, hi = coarse.active_range()
    found: list[Realization] = []
    for kind in kinds:
        if kind == "table" and hi - lo >= _TABLE_LIMIT and any(r.max_ulp <= target.max_ulp for r in found):
            continue
        if target.output.width < _LEAST_OUTPUT_BITS.get(kind, 0):
            continue
        if kind == "half_table" and (hi - lo) // 2 >= _TABLE_LIMIT:
            continue
        try:
            found.append(plan_kind(kind, target))
        except NotApplicableError:
            continue
        if pruned and found[-1].max_ulp <= target.max_ulp:
            target = replace(target, budget=min(target.budget, _ROOM * found[-1].lut6))
    return found


def plan_kind(kind: str, target: Target) -> Realization:
    """One kind of a map, its distance from it measured on every code.

    Raises:
        NotApplicableError: The kind cannot do this map.
    """
    program = _planned(kind, target)
    off = int(np.abs(interpret.table(program) - target.map).max())
    if off > target.max_ulp and kind != "operator":
        raise AssertionError(f"{kind} of '{target.expr}' is {off} codes off its map")
    return Realization(kind, program, off, lut6(program))


def _planned(kind: str, target: Target) -> Program:
    if kind in _OF_FORMULA and not target.is_formula:
        raise NotApplicableError(f"map must be that of '{target.expr}' at every code for kind {kind}")
    idle = 0 if kind in _OF_FORMULA else target.idle_bits()
    if not idle:
        return KINDS[kind](target)
    return dropping(KINDS[kind](target.coarser(idle)), target.input, idle)
