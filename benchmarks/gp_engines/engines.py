"""What every engine of ``make bench-gp`` takes and gives, so that one loop can time and judge them all.

An engine learns from float64 pairs, uses one thread, and ends within 5 % of the seconds that it is given.
Importing it, and turning its formulas into ``Expr``, are not counted. The caller limits the threads of
OpenMP and BLAS.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sw.ir.expr import Expr
from sw.ir.formats import FloatArray

SUBSAMPLE = 4096
MAX_NODES = 20
"""The paper's limit, for every engine."""


@dataclass(frozen=True, slots=True)
class Step:
    """A formula that entered an engine's own front."""

    seconds: float
    """Since the start, when the engine knew it."""
    expr: Expr


@dataclass(frozen=True, slots=True)
class Result:
    """What a run leaves; None where the engine does not tell."""

    steps: tuple[Step, ...]
    seconds: float
    """Wall-clock that the run really took."""
    evaluations: int | None = None
    """Passes of one formula over the engine's points, those of its local search included."""
    distinct: int | None = None
    """Different formulas among them."""


class Engine(Protocol):
    def __call__(self, x: FloatArray, y: FloatArray, *, seconds: float, seed: int) -> Result: ...


ENGINES = {
    "plain DEAP": "plain_deap:run",
    "pyoperon": "operon:run",
    "gplearn": "gplearn_engine:run",
    "gplearn, Pearson": "gplearn_engine:run_pearson",
}
"""Where each engine's function is; its module imports packages of the extra ``bench``."""


def load(name: str) -> Engine:
    """The engine of this name, its packages imported."""
    module, _, function = ENGINES[name].partition(":")
    return getattr(importlib.import_module(f"benchmarks.gp_engines.{module}"), function)


def subsample(x: FloatArray, y: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """At most ``SUBSAMPLE`` random ones of the pairs."""
    drawn = np.random.default_rng(seed).permutation(len(x))[:SUBSAMPLE]
    return x[drawn], y[drawn]
