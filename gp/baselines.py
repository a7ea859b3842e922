"""What any scalar function could reach at a site, and what the known forms reach there when fitted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gp.fitness import Split, Target, bin_pairs, r2
from sw.ir.expr import NUMPY_OPS
from sw.ir.formats import FloatArray

Shape = Callable[[FloatArray, Sequence[float]], FloatArray]


@dataclass(frozen=True, slots=True)
class Form:
    """A known form: its shape of (x, parameters), how many parameters, and whether its affine is free.

    The first parameter is the logarithm of the factor before x; the others start at 0.
    """

    shape: Shape
    num_parameters: int = 1
    is_scaled: bool = True


def _slope(x: FloatArray, p: Sequence[float]) -> FloatArray:
    return math.exp(p[0]) * x


FORMS: dict[str, Form] = {
    "linear": Form(lambda x, p: x, num_parameters=0),
    "clip": Form(lambda x, p: np.clip(_slope(x, p), -1.0, 1.0)),
    "scaled_dyt": Form(lambda x, p: np.tanh(_slope(x, p))),
    "dyt": Form(lambda x, p: np.tanh(_slope(x, p)), is_scaled=False),
    "derf": Form(lambda x, p: NUMPY_OPS["erf"](_slope(x, p) + p[1]), num_parameters=2),
}
"""a x + b; a hardtanh(c x) + b; a tanh(c x) + b; tanh(c x) (DyT, arXiv 2503.10622); a erf(c x + s) + b
(Derf, arXiv 2512.10938)."""

_GRID = np.arange(-8.0, 8.1, 0.5)
_HALVINGS = 14
KNOTS = (4, 8, 16, 32, 64, 128)


def fit_baselines(split: Split) -> dict[str, dict[str, Any]]:
    """Each known form fitted to the learning pairs: ``r2`` on held-out pairs, and its parameters."""
    target = bin_pairs(split.x, split.y, growth_penalty=0.0)
    return {name: _fit(form, target, split) for name, form in FORMS.items()}


def _fit(form: Form, target: Target, split: Split) -> dict[str, Any]:
    def loss(parameters: Sequence[float]) -> float:
        value = form.shape(target.x, parameters)
        if form.is_scaled:
            return target.fit(value).loss
        return float(target.weight @ (value - target.y) ** 2)

    unit = -math.log(float(np.mean(np.abs(split.x))))
    starts = [[unit + g, *[0.0] * (form.num_parameters - 1)] for g in _GRID] if form.num_parameters else [[]]
    best = _pattern_search(loss, min(starts, key=loss))
    value, held = form.shape(split.x, best), form.shape(split.held_x, best)
    scale, offset = np.polyfit(value, split.y, 1) if form.is_scaled else (1.0, 0.0)
    return {
        "r2": r2(split.held_y, scale * held + offset),
        "scale": float(scale),
        "offset": float(offset),
        "parameters": [math.exp(p) if i == 0 else p for i, p in enumerate(best)],
    }


def _pattern_search(loss: Callable[[Sequence[float]], float], start: list[float]) -> list[float]:
    """Coordinate steps of halving size from 0.5 (Hooke and Jeeves 1961)."""
    best, best_loss, step, halvings = list(start), loss(start), 0.5, 0
    while halvings < _HALVINGS and best:
        trials = [
            [*best[:i], best[i] + sign * step, *best[i + 1 :]] for i in range(len(best)) for sign in (1, -1)
        ]
        losses = [loss(t) for t in trials]
        lowest = min(range(len(trials)), key=losses.__getitem__)
        if losses[lowest] < best_loss:
            best, best_loss = trials[lowest], losses[lowest]
        else:
            step, halvings = step / 2, halvings + 1
    return best


def estimate_ceiling(split: Split) -> float:
    """The best held-out R^2 of smoothers of E[y|x]: least squares linear splines of 4 to 128 pieces.

    Knots are quantiles of x, or half of them quantiles and half even in x, so that a spline of many pieces
    follows any curve where there are pairs. It is an estimate from below: a function that does better on
    the held-out pairs raises it.
    """
    points = bin_pairs(split.x, split.y, growth_penalty=0.0, num_bins=1024)
    root = np.sqrt(points.weight)
    scores = []
    for pieces, num_even in itertools.product(KNOTS, (0, 1)):
        quantiles = np.quantile(split.x, np.linspace(0, 1, (pieces >> num_even) + 1))
        even = np.linspace(split.x.min(), split.x.max(), num_even * pieces // 2 + 1)
        knots = np.unique(np.concatenate([quantiles, even]))
        basis = np.stack([np.interp(points.x, knots, unit) for unit in np.eye(len(knots))], axis=1)
        heights = np.linalg.lstsq(basis * root[:, None], points.y * root, rcond=1e-8)[0]
        scores.append(r2(split.held_y, np.interp(split.held_x, knots, heights)))
    return max(scores)
