"""Random functions at random formats, and the Programs that realise them: food for the cost model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sw.ir.errors import InputError
from sw.ir.expr import evaluate
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import Realization, candidates
from sw.ir.realize.target import Target

SHAPES = (
    "{a}*tanh({b}*x)",
    "{a}*tanh({b}*x + {c})",
    "{a}*erf({b}*x + {c})",
    "{a}*sigmoid({b}*x + {c})",
    "{a}*atan({b}*x)",
    "{a}*x*sigmoid({b}*x)",
    "{a}*x*(1 + erf({b}*x))",
    "{a}*exp(-abs({b}*x))",
    "{a}*exp(-square({b}*x))",
    "clip({b}*x, -{a}, {a})",
    "clip({b}*x + {c}, -{a}, {a})",
    "{a}*clip({b}*x, -{d}, {d}) - {c}*x",
    "clip({b}*x, -{a}, {a}) + clip({c}*x, -{d}, {d})",
    "{a}*tanh({b}*x) + {c}*x",
    "{a}*tanh({b}*x) + {d}*tanh({c}*x + 0.27)",
    "{a}*x/sqrt(1 + square({b}*x))",
    "{a}*x/(1 + abs({b}*x))",
    "{a}*log(1 + square({b}*x))",
    "{a}*sin(clip({b}*x, -1.57, 1.57))",
    "{a}*square(clip({b}*x, -{d}, {d}))",
    "{a}*relu({b}*x + {c})",
    "{a}*sqrt(abs({b}*x))",
    "{a}*tanh({b}*(clip(floor({e}*x), -32, 31) + 0.5)/{e})",
    "{a}*clip({b}*(floor({e}*x) + 0.5)/{e} + {c}, -{d}, {d})",
)
MOST_LUT6 = 140.0
"""Realisations that are predicted to cost more are of no interest."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A function at its formats, in one kind of realisation."""

    text: str
    input: FixedFormat
    output: FixedFormat
    realization: Realization
    number: int
    """Of the function: a function's realisations all serve for the fit, or all for its test."""


def draw(num: int, seed: int) -> Iterator[tuple[str, FixedFormat, FixedFormat]]:
    """Functions in rising number; the output format is the finest that holds nearly all values."""
    rng = np.random.default_rng(seed)
    made = 0
    while made < num:
        shape = SHAPES[made % len(SHAPES)]
        step = (1e-3, 2.0**-4)[int(rng.integers(2))]  # half of them have few binary digits
        drawn = {name: float(np.exp(rng.uniform(*ends))) for name, ends in _RANGES.items()}
        constants = {name: round(max(1, round(value / step)) * step, 6) for name, value in drawn.items()}
        text = shape.format(**constants, e=int(2 ** rng.integers(1, 5)))
        width, reach = int(rng.integers(6, 17)), int(rng.integers(1, 4))
        input = FixedFormat(width, width - 1 - reach)
        x = input.to_real(input.codes())
        y = np.broadcast_to(evaluate(parse(text), x), x.shape)
        most = float(np.quantile(np.abs(y), 0.98))
        if not np.isfinite(most) or most == 0:
            continue
        out_width = int(rng.integers(5, min(width, 12) + 1))
        output = FixedFormat(out_width, out_width - 1 - int(np.ceil(np.log2(most))))
        yield text, input, output
        made += 1


_RANGES = {"a": (-1.0, 1.0), "b": (-1.2, 1.2), "c": (-2.0, 0.5), "d": (-0.5, 1.0)}
"""Of the logarithms of the constants."""


def samples(num: int, seed: int, *, max_ulp: int) -> Iterator[Sample]:
    """For every function the cheapest realisation, for every third one also another, in turn."""
    for number, (text, input, output) in enumerate(draw(num, seed)):
        try:
            found = candidates(Target.of(parse(text), input, output, max_ulp))
        except InputError:
            continue
        usable = sorted((r for r in found if 0 < r.lut6 <= MOST_LUT6), key=lambda r: r.lut6)
        if not usable:
            continue
        others = usable[1:] if number % 3 == 0 else []
        chosen = [usable[0], *([others[number % len(others)]] if others else [])]
        for realization in chosen:
            yield Sample(text, input, output, realization, number)
