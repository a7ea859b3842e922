"""Inner scales, from what training left to hardware: short constants of formulas that are realised again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from torch import nn

from sw.config import RunConfig
from sw.ir.errors import InputError
from sw.ir.expr import Expr, X, const, evaluate, node
from sw.ir.formats import FixedFormat, round_bits
from sw.ir.parse import parse
from sw.ir.program import Program
from sw.ir.realize import realize
from sw.model.inner_scale import reading, stretched
from sw.model.scalar_norm import ScalarNorm

SIGNIFICANT_BITS = 7
"""Of an inner scale, and of what fills the output format again: they are rounded by less than 1 %."""

Entry = Mapping[str, Any]


def learn_inner_scales(model: nn.Module, functions: Mapping[str, Entry]) -> None:
    """Every site's function gets an inner scale, a parameter, in place.

    Those that see x itself, not cells of its code, get none, for a slope that is a shift would become a
    product; nor do those with exceptions at single codes, which another scale would move to other codes.

    Args:
        model: With a ScalarNorm at every site.
        functions: Site -> its entry of ``functions.json``.
    """
    for site, entry in functions.items():
        if not entry.get("exceptions") and reading(parse(str(entry["expression"]))) != X:
            _norm(model, site).learn_inner_scale()


def settle(
    model: nn.Module, functions: Mapping[str, Entry], config: RunConfig
) -> tuple[dict[str, dict[str, Any]], dict[str, Program]]:
    """Make every learned inner scale a constant of its formula, in place, and realise that.

    A stretched function no longer covers the output codes as it did, so it is multiplied and shifted back;
    the layer's affine makes up for that, as far as affines fold (``evolve.affine``). Scales that round to 1
    leave the function as it was.

    Args:
        model: After ``learn_inner_scales`` and training.
        functions: As they were then.
        config: Of the run.

    Raises:
        InputError: A scale is not a finite number: training diverged.

    Returns:
        The functions that the model has now, as ``functions.json`` holds them, each with its ``inner_scale``
        and, as ``evolved``, the formula without it, of which R^2 and front still are; their programs.
    """
    entries, programs = {}, {}
    for site, entry in functions.items():
        norm = _norm(model, site)
        scale = float(norm.inner_scale.detach())
        if not 0 < scale < math.inf:
            raise InputError(
                f"the inner scale of site '{site}' must be a number above 0, not {scale:g}; re-align with a "
                "smaller align.lr"
            )
        entries[site], programs[site] = _settled(norm, entry, config)
    return entries, programs


def _settled(norm: ScalarNorm, entry: Entry, config: RunConfig) -> tuple[dict[str, Any], Program]:
    scale = round_bits(float(norm.inner_scale.detach()), SIGNIFICANT_BITS)
    former, input, output = (
        parse(str(entry["expression"])),
        FixedFormat.parse(entry["input"]),
        FixedFormat.parse(entry["output"]),
    )
    expr, gain, offset = former, Fraction(1), Fraction(0)
    if scale != 1:
        expr = stretched(former, scale)
        gain, offset = _refilling(former, expr, input, output, config.evolve.affine)
        expr = _with_affine(expr, gain, offset)
    norm.settle(expr, float(gain), float(offset))
    unit = config.unit
    made = realize(expr, input, output, kind=unit.realize, max_ulp=int(unit.faithful))
    outer = float(entry["scale"]) / float(gain)
    changed = {
        "expression": str(expr),
        "scale": outer,
        "offset": float(entry["offset"]) - outer * float(offset),
        "inner_scale": float(scale),
        "evolved": entry["expression"],
        "price_lut6": made.lut6,
        "realization": made.kind,
        "max_ulp": made.max_ulp,
    }
    return {**entry, **changed}, made.program


def _refilling(
    former: Expr, expr: Expr, input: FixedFormat, output: FixedFormat, affine: str
) -> tuple[Fraction, Fraction]:
    """What makes the stretched formula's values span what the former's did: a gain, and then an offset."""
    reals = input.to_real(input.codes())
    (low, high), (now_low, now_high) = (_ends(evaluate(e, reals)) for e in (former, expr))
    if affine == "scale":
        low, now_low = -max(-low, high), -max(-now_low, now_high)
        high, now_high = -low, -now_low
    if affine == "none" or not 0 < now_high - now_low < math.inf or not 0 < high - low < math.inf:
        return Fraction(1), Fraction(0)
    gain = round_bits((high - low) / (now_high - now_low), SIGNIFICANT_BITS)
    steps = ((low + high) - float(gain) * (now_low + now_high)) / 2 / output.step
    return gain, round(steps) * Fraction(output.step)


def _ends(values: Any) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))


def _with_affine(expr: Expr, gain: Fraction, offset: Fraction) -> Expr:
    scaled = expr if gain == 1 else node("mul", const(gain), expr)
    return scaled if offset == 0 else node("add", scaled, const(offset))


def _norm(model: nn.Module, site: str) -> ScalarNorm:
    norm = model.get_submodule(site)
    assert isinstance(norm, ScalarNorm), site
    return norm
