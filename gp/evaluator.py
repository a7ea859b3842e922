"""Fast evaluation of trees: one compilation a skeleton, values and derivatives by numpy.

A skeleton is compiled once into a list of steps that any constants can run through. The derivative by
every constant comes from one backward sweep; a tree uses each node once, so nothing accumulates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gp.primitives import ARITY, CONSTANT
from sw.ir.expr import CLIP_LIMIT, NUMPY_OPS
from sw.ir.formats import FloatArray

LIMIT = float(CLIP_LIMIT)


def _clip(v: Any) -> Any:
    return np.minimum(np.maximum(v, -LIMIT), LIMIT)


FORWARD: dict[str, Callable[..., Any]] = {
    **{name: NUMPY_OPS[name] for name in ("add", "mul", "min", "max", "neg", "tanh", "sigmoid", "abs")},
    "clip": _clip,
    "double": lambda v: 2.0 * v,
    "half": lambda v: 0.5 * v,
}
"""The value of a primitive from the values of its arguments."""

BACKWARD: dict[str, Callable[..., tuple[Any, ...]]] = {
    "add": lambda g, v, a, b: (g, g),
    "mul": lambda g, v, a, b: (g * b, g * a),
    "min": lambda g, v, a, b: (g * (a <= b), g * (a > b)),
    "max": lambda g, v, a, b: (g * (a >= b), g * (a < b)),
    "neg": lambda g, v, a: (-g,),
    "tanh": lambda g, v, a: (g * (1.0 - v * v),),
    "sigmoid": lambda g, v, a: (g * v * (1.0 - v),),
    "clip": lambda g, v, a: (g * (np.abs(a) < LIMIT),),
    "abs": lambda g, v, a: (g * np.sign(a),),
    "double": lambda g, v, a: (2.0 * g,),
    "half": lambda g, v, a: (0.5 * g,),
}
"""The derivatives by the arguments from that by the value, the value and the arguments."""

_Step = tuple[int, str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Code:
    """A compiled skeleton: where x and the constants go, and the primitives, children first."""

    size: int
    constants: tuple[int, ...]
    steps: tuple[_Step, ...]
    sweep: tuple[_Step, ...]
    """The steps that lie above a constant, parents first."""

    def value(self, x: FloatArray, constants: Sequence[float]) -> Any:
        """f(x): a float64 array like x, or one number where the tree does not use x."""
        return self._values(x, constants)[0]

    def jacobian(self, x: FloatArray, constants: Sequence[float]) -> tuple[Any, list[Any]]:
        """f(x) and its derivative by each constant, each an array like x or one number."""
        values = self._values(x, constants)
        slopes: list[Any] = [0.0] * self.size
        slopes[0] = 1.0
        for index, name, args in self.sweep:
            parts = BACKWARD[name](slopes[index], values[index], *[values[a] for a in args])
            for arg, part in zip(args, parts, strict=True):
                slopes[arg] = part
        return values[0], [slopes[c] for c in self.constants]

    def _values(self, x: FloatArray, constants: Sequence[float]) -> list[Any]:
        values: list[Any] = [x] * self.size
        for index, number in zip(self.constants, constants, strict=True):
            values[index] = number
        for index, name, args in self.steps:
            values[index] = FORWARD[name](*[values[a] for a in args])
        return values


@functools.lru_cache(maxsize=50_000)
def compile_skeleton(names: tuple[str, ...]) -> Code:
    """Find the children of every node of a prefix list."""
    starts: list[int] = []
    children: dict[int, tuple[int, ...]] = {}
    for index in range(len(names) - 1, -1, -1):
        children[index] = tuple(starts.pop() for _ in range(ARITY[names[index]]))
        starts.append(index)
    assert starts == [0], "a tree must be complete"
    leads: set[int] = set()
    for index in range(len(names) - 1, -1, -1):
        if names[index] == CONSTANT or any(c in leads for c in children[index]):
            leads.add(index)
    steps = [(i, names[i], children[i]) for i in range(len(names)) if children[i]]
    return Code(
        size=len(names),
        constants=tuple(i for i, n in enumerate(names) if n == CONSTANT),
        steps=tuple(reversed(steps)),
        sweep=tuple(s for s in steps if s[0] in leads),
    )
