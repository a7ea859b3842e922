"""gplearn: its SymbolicRegressor, one generation after the other until the time is over.

Its division is protected, which no ``Expr`` is, so there is none. It learns from 4,096 random pairs.

Tried: held-out R^2 at 20 s and 20 nodes on tokens_0.5, two seeds, with the mean square error and with the
correlation. These settings: .8725, .8482 and .8733, .8735. Its defaults (1,000 programs, tournament 20,
crossover 0.9, constants to 1, parsimony 0.001): .8726, .8373 and .8730, .8729. Parsimony 0.0001: .8413,
.8482 and .8733, .8735. 1,000 programs, tournament 20: .8579 with the error.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from gplearn.fitness import _fitness_map, make_fitness
from gplearn.functions import make_function
from gplearn.genetic import SymbolicRegressor

from benchmarks.gp_engines.engines import MAX_NODES, Result, Step, subsample
from gp.front import Archive
from sw.ir.expr import Expr, X, const, node
from sw.ir.formats import FloatArray

POPULATION = 500
TOURNAMENT = 10
CONSTANTS = (-5.0, 5.0)
PARSIMONY = 0.0003
PROBABILITIES = {
    "p_crossover": 0.7,
    "p_subtree_mutation": 0.1,
    "p_hoist_mutation": 0.05,
    "p_point_mutation": 0.1,
}
INIT_DEPTH = (1, 4)
HUGE = 1e30
STOP = {False: -1.0, True: 2.0}
"""By greater_is_better: out of reach."""
FUNCTIONS = (
    "add",
    "sub",
    "mul",
    "abs",
    "max",
    "min",
    make_function(function=np.tanh, name="tanh", arity=1, wrap=False),
)


class OutOfTimeError(Exception):
    """Raised inside a generation; what it had made so far is lost."""


def run(x: FloatArray, y: FloatArray, *, seconds: float, seed: int) -> Result:
    """Mean square error, no affine: what gplearn does by default but for the absolute value."""
    return _run(*subsample(x, y, seed), seconds, seed, "mse")


def run_pearson(x: FloatArray, y: FloatArray, *, seconds: float, seed: int) -> Result:
    """Correlation, so that outer scale and offset are free; the formulas lack them."""
    return _run(*subsample(x, y, seed), seconds, seed, "pearson")


def _run(x: FloatArray, y: FloatArray, seconds: float, seed: int, metric: str) -> Result:
    start = time.monotonic()
    model = regressor(timed(metric, start + seconds), seed)
    archive, found, generations = Archive[None](), [], 0
    with np.errstate(all="ignore"), contextlib.suppress(OutOfTimeError):
        while True:
            model.set_params(generations=generations + 1).fit(x[:, None], y)
            generations += 1
            now = time.monotonic() - start
            for program in model._programs[-1]:
                error = -model.metric.sign * program.raw_fitness_
                if program.length_ <= MAX_NODES and archive.add(program.length_, error, None):
                    found.append((now, program.program))
    took = time.monotonic() - start
    return Result(tuple(Step(t, to_expr(p)) for t, p in found), took, generations * POPULATION)


def regressor(metric: Any, seed: int) -> SymbolicRegressor:
    return SymbolicRegressor(
        population_size=POPULATION,
        tournament_size=TOURNAMENT,
        function_set=FUNCTIONS,
        metric=metric,
        const_range=CONSTANTS,
        init_depth=INIT_DEPTH,
        parsimony_coefficient=PARSIMONY,
        stopping_criteria=STOP[metric.greater_is_better],
        warm_start=True,
        low_memory=True,
        random_state=seed,
        **PROBABILITIES,
    )


def timed(name: str, deadline: float) -> Any:
    """One of gplearn's metrics that raises ``OutOfTimeError`` from the deadline on.

    Not a number would win every tournament, as numpy's argmin lets it; it becomes a huge error instead.
    """
    metric = _fitness_map[name]

    def measure(y: FloatArray, predicted: FloatArray, weight: FloatArray) -> float:
        if time.monotonic() >= deadline:
            raise OutOfTimeError
        value = float(metric.function(y, predicted, weight))
        return value if np.isfinite(value) else HUGE

    return make_fitness(function=measure, greater_is_better=metric.greater_is_better, wrap=False)


def to_expr(program: Sequence[Any]) -> Expr:
    """The formula of a program: functions, constants and numbers of inputs in prefix order."""
    stack: list[Expr] = []
    for item in reversed(program):
        if isinstance(item, int):
            stack.append(X)
        elif isinstance(item, float):
            stack.append(const(float(item)))
        else:
            stack.append(node(item.name, *(stack.pop() for _ in range(item.arity))))
    return stack.pop()
