"""Synthetic LayerNorm pairs that are harder than those of a small model trained from scratch.

A token's scale is log-normal, so one scalar function cannot serve all tokens; and 3 % of the tokens
carry massive activations, the same few channels at nearly the same value whatever the token's scale, as
large pre-trained transformers have them (arXiv 2402.17762, 2309.16588). In all tokens they would make
the task trivial: four huge constants set every row's variance, and a straight line reaches an R^2 of
0.991 at sigma 0.5. With 3 % of them, R^2 of the straight line and of E[y|x], which no function of x beats:
0.877 and 0.956 at sigma 0.2, 0.752 and 0.874 at 0.5, 0.414 and 0.771 at 1.0.

Only one pair in 6,000 is an outlier, but its y^2 is near 200: judge on some 100,000 pairs.
"""

from __future__ import annotations

import numpy as np

from sw.ir.errors import InputError
from sw.ir.formats import FloatArray

SIGMAS = {"tokens_0.2": 0.2, "tokens_0.5": 0.5, "tokens_1.0": 1.0}
"""The standard deviation of the logarithm of a token's scale."""
NUM_TOKENS = 4096
NUM_CHANNELS = 768
NUM_OUTLIERS = 4
OUTLIER_RANGE = (20.0, 100.0)
"""Magnitudes, in typical standard deviations of a token."""
OUTLIER_SPREAD = 0.05
MASSIVE_SHARE = 0.03
EPSILON = 1e-6


def family(name: str, num_pairs: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Pairs of a norm's input and its output before the affine; float32 vectors.

    The positions are drawn uniformly with replacement; the same arguments give the same pairs.
    """
    x, y = tokens(name, seed)
    drawn = np.random.default_rng([seed, 1]).integers(0, x.size, num_pairs)
    return x.ravel()[drawn].astype(np.float32), y.ravel()[drawn].astype(np.float32)


def tokens(name: str, seed: int) -> tuple[FloatArray, FloatArray]:
    """All tokens before and after the norm; float64, tokens x channels."""
    if name not in SIGMAS:
        raise InputError(f"family must be one of {', '.join(SIGMAS)}, not {name!r}")
    rng = np.random.default_rng([seed, 0])
    scale = np.exp(SIGMAS[name] * rng.standard_normal((NUM_TOKENS, 1)))
    x = scale * rng.standard_normal((NUM_TOKENS, NUM_CHANNELS))
    channels = rng.choice(NUM_CHANNELS, NUM_OUTLIERS, replace=False)
    values = np.exp(rng.uniform(*np.log(OUTLIER_RANGE), NUM_OUTLIERS)) * rng.choice([-1, 1], NUM_OUTLIERS)
    massive = np.flatnonzero(rng.random(NUM_TOKENS) < MASSIVE_SHARE)
    spread = 1 + OUTLIER_SPREAD * rng.standard_normal((len(massive), NUM_OUTLIERS))
    x[np.ix_(massive, channels)] = values * spread
    return x, layer_norm(x)


def layer_norm(x: FloatArray) -> FloatArray:
    """Each row with mean 0 and variance 1, as LayerNorm leaves it before its affine."""
    mean, var = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    return (x - mean) / np.sqrt(var + EPSILON)
