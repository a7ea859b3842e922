"""Constants of a tree by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gp.evaluator import Code
from gp.fitness import Scaled, Target
from sw.ir.formats import FloatArray

MAX_CONSTANT = 64.0
"""A tuned constant stays within +-64; x comes in units of its own size, so more is never useful."""
ENOUGH = 1e-7
"""Tuning ends with a step that gains less than this share of the loss."""


def tune(
    code: Code, constants: Sequence[float], target: Target, steps: int
) -> tuple[tuple[float, ...], Scaled]:
    """Improve a tree's constants by Levenberg-Marquardt steps.

    The outer scale and offset are variables of each step too, and then replaced by their closed-form
    best (variable projection, Golub and Pereyra 1973, in Ruhe and Wedin's simplified form).

    ``constants`` is where to start, in the order of ``code.constants``; that many ``steps`` are tried.

    Returns:
        The best constants seen and their affine and loss; never worse than the start.
    """
    theta = np.asarray(constants, dtype=np.float64)
    value, slopes = code.jacobian(target.x, theta.tolist())
    best = target.fit(value)
    if not theta.size or not np.isfinite(best.loss):
        return tuple(constants), best
    damping = 1e-2
    for _ in range(steps):
        step = _step(target, value, slopes, best, damping)
        if step is None:
            break
        trial = np.clip(theta + step, -MAX_CONSTANT, MAX_CONSTANT)
        trial_value, trial_slopes = code.jacobian(target.x, trial.tolist())
        fit = target.fit(trial_value)
        if fit.loss < best.loss:
            gain = best.loss - fit.loss
            theta, value, slopes, best = trial, trial_value, trial_slopes, fit
            damping *= 0.2
            if gain < ENOUGH * best.loss:
                break
        else:
            damping *= 8.0
    return tuple(theta.tolist()), best


def _step(target: Target, value: Any, slopes: list[Any], fit: Scaled, damping: float) -> FloatArray | None:
    """The damped Gauss-Newton step of the constants; None where the equations have no finite solution."""
    num = len(slopes)
    matrix = np.empty((num + 2, len(target.x)))
    for row, slope in enumerate(slopes):
        matrix[row] = slope
    matrix[:num] *= fit.scale
    matrix[num], matrix[num + 1] = value, 1.0
    matrix *= target.root_weight
    residual = target.root_weight * (target.y - fit.scale * value - fit.offset)
    normal = matrix @ matrix.T
    normal.flat[:: num + 3] = normal.diagonal() * (1.0 + damping) + 1e-12
    try:
        step = np.linalg.solve(normal, matrix @ residual)[:num]
    except np.linalg.LinAlgError:
        return None
    return step if np.all(np.isfinite(step)) else None
