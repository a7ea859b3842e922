"""Piecewise quadratic: few segments, three coefficients each, two multiplications (DSPs, where there are)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from sw.ir.build import Builder, Wire
from sw.ir.formats import FloatArray, IntArray
from sw.ir.price import lut6
from sw.ir.program import Program
from sw.ir.realize.domain import Domain, domains
from sw.ir.realize.target import NotApplicableError, Target

MIN_OUTPUT_BITS = 12
_LEAST_LUTS = 150
"""Without DSPs the multiplications alone take about as many."""
_MIN_SEGMENT_BITS = 3
_MAX_SEGMENT_BITS = 13
_GUARD_BITS = (1, 2, 3, 4)
_STEPS = sorted(product(range(-1, 2), range(-2, 3)), key=lambda step: (abs(step[0]), abs(step[1])))
"""How far from the fitted coefficients of dx^2 and dx repaired ones are looked for."""


@dataclass(frozen=True, slots=True)
class Parabolas:
    """y = ((((c2 * dx) >> inner) + c1) * dx + c0) >> shift, one triple a segment of 2^bits codes."""

    bits: int
    inner: int
    shift: int
    c2: IntArray
    c1: IntArray
    c0: IntArray

    def core(self, b: Builder, argument: Wire) -> Wire:
        """The result at an argument, as a wire."""
        segment, dx = b.shr(argument, self.bits), b.low(argument, self.bits)
        c2, c1, c0 = (b.lookup(segment, column) for column in (self.c2, self.c1, self.c0))
        slope = b.add(b.shr(b.mul(c2, dx), self.inner), c1)
        return b.shr(b.add(b.mul(slope, dx), c0), self.shift)


def plan(target: Target) -> Program:
    """The longest equal segments whose parabolas, truncated, hit every code within ``max_ulp``.

    Coefficients are fitted by least squares, then the ones of dx^2 and dx are moved by single units until
    every code of the segment leaves room for one c0.

    Raises:
        NotApplicableError: The output has fewer than 12 bits (lines or tables are smaller there), or no
            segments of at least 8 codes serve.
    """
    if target.output.width < MIN_OUTPUT_BITS:
        raise NotApplicableError(
            f"output of parabolas must have at least {MIN_OUTPUT_BITS} bits, not {target.output.width}"
        )
    found = []
    if target.budget < _LEAST_LUTS:
        raise NotApplicableError(f"parabolas must be allowed {_LEAST_LUTS} LUTs, not {target.budget:g}")
    for domain in domains(target):
        parabolas = _longest(domain)
        if parabolas is not None:
            found.append(domain.program(parabolas.core))
    if not found:
        raise NotApplicableError(f"map of '{target.expr}' must be smooth enough for piecewise parabolas")
    return min(found, key=lut6)


def _longest(domain: Domain) -> Parabolas | None:
    for bits in range(min(_MAX_SEGMENT_BITS, domain.bits - 1), _MIN_SEGMENT_BITS - 1, -1):
        fitted = _fitted(domain, bits)
        for guard in _GUARD_BITS:
            parabolas = _repaired(domain, bits, guard, fitted)
            if parabolas is not None:
                return parabolas
    return None


def _fitted(domain: Domain, bits: int) -> FloatArray:
    """Least-squares coefficients of 1, dx, dx^2 for the middles of the intervals, one column a segment."""
    dx = np.arange(1 << bits, dtype=np.float64)
    middles = (domain.lower + domain.upper + 1).reshape(-1, 1 << bits) / 2
    return np.asarray(np.linalg.lstsq(np.vander(dx, 3, increasing=True), middles.T, rcond=None)[0])


def _repaired(domain: Domain, bits: int, guard: int, fitted: FloatArray) -> Parabolas | None:
    """Integer coefficients that serve at every code, or None."""
    shift = inner = bits + guard
    dx = np.arange(1 << bits)
    lower = (domain.lower << shift).reshape(-1, 1 << bits)
    upper = (((domain.upper + 1) << shift) - 1).reshape(-1, 1 << bits)
    near2 = np.rint(fitted[2] * 2.0 ** (shift + inner)).astype(np.int64)
    near1 = np.rint(fitted[1] * 2.0**shift).astype(np.int64)
    columns = near2.copy(), near1.copy(), np.zeros_like(near1)
    pending = np.arange(len(lower))
    for step2, step1 in _STEPS:
        c2, c1 = near2[pending] + step2, near1[pending] + step1
        rise = (((c2[:, None] * dx) >> inner) + c1[:, None]) * dx
        least, most = (lower[pending] - rise).max(axis=1), (upper[pending] - rise).min(axis=1)
        serves = least <= most
        for column, value in zip(columns, (c2, c1, (least + most) >> 1), strict=True):
            column[pending[serves]] = value[serves]
        pending = pending[~serves]
        if not pending.size:
            return Parabolas(bits, inner, shift, *columns)
    return None
