"""The published functions that are printed in the sources we read (arXiv 2605.14047, both versions)."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gp_bench.sites import Site
from gp.cost import Pricer, flops, nodes
from gp.fitness import split_pairs
from gp.lowering import Lowering
from sw.ir.expr import evaluate
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse

FUNCTIONS: dict[str, int | None] = {
    "clip(1.54*x)": 1,
    "0.545*clip(2.98*x)": 2,
    "-0.2*x + 1.11*clip(x)": None,
    "2.5*tanh(clip(x)) + 0.135": 25,
    "tanh(x) + tanh(x + 0.27)": None,
    "-0.488*x + clip(2.85*x) + 0.217": None,
    "0.961*x*sigmoid(-0.000302*x**2 + 0.0052*x)": None,
    "clip(x*tanh(sigmoid(-0.0401*x*tanh(x))))": None,
    "-x": 0,
    "x**3": 2,
}
"""Formula -> FLOPs that are stated for it."""
INPUT = FixedFormat(16, 11)
OUTPUT_FRAC = 5
"""Of the 8-bit output where the function's range allows it."""
NUM_PAIRS, SPREAD = 20_000, 2.0
SAME = 0.999
"""R^2 from which a function with a free affine counts as the published one."""


def describe(formula: str) -> dict[str, Any]:
    """Prices of a published function: as it is, and where its outer affine may be folded away."""
    expr = parse(formula)
    largest = float(np.abs(evaluate(expr, INPUT.to_real(INPUT.codes()))).max())
    output = FixedFormat(8, min(OUTPUT_FRAC, FixedFormat.covering(largest, 8).frac))
    pricer = Pricer(INPUT, output, "auto", 0)
    exact = pricer.realize(expr)
    lowering = Lowering(pricer, _own_pairs(formula).split, csd_digits=3)
    lowering.offer_whole([expr])
    front = lowering.front()
    same = [p for p in front if 1 - p.error >= SAME]
    folded = min(same, key=lambda p: p.price) if same else min(front, key=lambda p: p.error)
    return {
        "formula": formula,
        "stated_flops": FUNCTIONS[formula],
        "flops": flops(expr),
        "nodes": nodes(expr),
        "output": str(output),
        "price": exact.lut6,
        "kind": exact.kind,
        "folded_price": folded.price,
        "folded_kind": folded.realization.kind,
        "folded_r2": 1 - folded.error,
    }


def _own_pairs(formula: str) -> Site:
    """Pairs of the function itself, x ~ N(0, 2^2)."""
    x = np.clip(SPREAD * np.random.default_rng(0).standard_normal(NUM_PAIRS), -15.9, 15.9)
    return Site(formula, INPUT, split_pairs(x, evaluate(parse(formula), x), share=0.1, seed=0))
