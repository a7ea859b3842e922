"""Tables: the whole map, or the half of it that symmetry leaves."""

from __future__ import annotations

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.formats import FixedFormat
from sw.ir.price import lut6
from sw.ir.program import Program
from sw.ir.realize.domain import Domain, coarsest, domains
from sw.ir.realize.target import NotApplicableError, Target, address

MAX_ADDRESS_BITS = 16


def plan(target: Target) -> Program:
    """The map as one table over the codes between its saturated ends, within ``max_ulp``.

    Raises:
        NotApplicableError: More than 16 address bits would be needed.
    """
    lo, hi = target.active_range()
    _check(hi - lo + 1)
    plans = [_plan(target, *ends) for ends in {(lo, hi), _aligned(target.input, lo, hi)}]
    if target.max_ulp:
        plans += [_tabulated(domain) for domain in domains(target) if domain.symmetry == "none"]
    return min(plans, key=lut6)


def _aligned(input: FixedFormat, lo: int, hi: int) -> tuple[int, int]:
    """The codes around lo..hi that a signed number of fewest bits spells: what is cheapest to clamp to."""
    if not input.signed:
        return input.min_raw, min(input.max_raw, (1 << hi.bit_length()) - 1)
    bits = max((-lo - 1).bit_length() if lo < 0 else 0, hi.bit_length() if hi > 0 else 0)
    return -(1 << bits), (1 << bits) - 1


def _plan(target: Target, lo: int, hi: int) -> Program:
    b = Builder(target.input)
    inside = b.clamp(b.x, lo, hi)
    index, table = address(b, inside, target.at(np.arange(lo, hi + 1)), lo)
    return b.build(b.lookup(index, table), target.output)


def plan_half(target: Target) -> Program:
    """A table over |x| and a negation for odd maps, within ``max_ulp`` at every code.

    Raises:
        NotApplicableError: The map is neither odd nor even, or needs more than 16 address bits.
    """
    halves = [domain for domain in domains(target) if domain.symmetry != "none"]
    if not halves:
        raise NotApplicableError(f"map of '{target.expr}' must be odd or even")
    _check(min(len(domain.lower) for domain in halves))
    return min((_tabulated(domain) for domain in halves), key=lut6)


def _tabulated(domain: Domain) -> Program:
    values = coarsest(domain.lower, domain.upper)

    def core(b: Builder, argument: Wire) -> Wire:
        return b.lookup(argument, values)

    return domain.program(core)


def _check(entries: int) -> None:
    if entries > 1 << MAX_ADDRESS_BITS:
        raise NotApplicableError(f"table must have at most {1 << MAX_ADDRESS_BITS} entries, not {entries}")
