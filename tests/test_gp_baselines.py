"""Fitted forms find known parameters; the ceiling is near a known E[y|x]."""

import numpy as np
import pytest

from gp.baselines import estimate_ceiling, fit_baselines
from gp.fitness import split_pairs
from sw.ir.expr import NUMPY_OPS

RNG = np.random.default_rng(8)
X = RNG.normal(size=20_000) * 3
NOISE = RNG.normal(size=20_000)


def split(y, x=X):
    return split_pairs(x, y, share=0.1, seed=0)


@pytest.mark.parametrize(
    ("name", "truth", "parameters"),
    [
        ("linear", lambda x: 3 * x - 1, []),
        ("clip", lambda x: 2 * np.clip(0.7 * x, -1, 1) + 0.5, [0.7]),
        ("scaled_dyt", lambda x: -1.5 * np.tanh(0.4 * x) + 1, [0.4]),
        ("dyt", lambda x: np.tanh(1.3 * x), [1.3]),
        ("derf", lambda x: 2 * NUMPY_OPS["erf"](0.5 * x + 0.25), [0.5, 0.25]),
    ],
)
def test_fit_of_a_form_to_itself(name, truth, parameters):
    fit = fit_baselines(split(truth(X)))[name]
    assert fit["r2"] > 0.9995
    assert fit["parameters"] == pytest.approx(parameters, rel=0.02)


def test_a_free_affine_is_never_worse_than_none():
    fits = fit_baselines(split(0.8 * np.tanh(X) + 0.1 * NOISE))
    assert list(fits) == ["linear", "clip", "scaled_dyt", "dyt", "derf"]
    assert fits["scaled_dyt"]["r2"] > fits["dyt"]["r2"] > 0
    assert fits["derf"]["r2"] > fits["linear"]["r2"]


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("shape", [np.tanh, np.sin, np.abs, lambda x: np.clip(x, -1, 1)])
def test_ceiling_is_near_that_of_a_known_conditional_mean(shape, sigma):
    y = shape(X) + sigma * NOISE
    parts = split(y)
    known = 1 - np.mean((parts.held_y - shape(parts.held_x)) ** 2) / np.var(parts.held_y)
    assert estimate_ceiling(parts) == pytest.approx(known, abs=0.004)


def test_ceiling_with_few_pairs_and_with_outliers():
    assert np.isfinite(estimate_ceiling(split(X[:16] * 2, X[:16])))
    spread = X * 10.0 ** RNG.uniform(-6, 6, size=len(X))
    assert estimate_ceiling(split(np.sign(spread), spread)) > 0.9
