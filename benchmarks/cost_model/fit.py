"""From counts of features and of LUTs to a cost a feature: non-negative least absolute relative errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from sw.ir.features import FEATURES

ROUNDS = 30
"""Of reweighting, until least squares are least absolute errors."""
SMALL = 20.0
"""LUTs from which errors count as shares."""
PER_FAMILY = {"xc7": "lut6", "ecp5": "lut4"}
"""Each family pays for tables by its own LUT size."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions are off."""

    num: int
    median_share: float
    """Of what is counted, where that is at least ``SMALL``."""
    median_luts: float
    """In LUTs, below."""
    worst_share: float
    """The 90th percentile of shares."""


def fit(features: np.ndarray, luts: Sequence[float], family: str) -> dict[str, float]:
    """LUTs a unit of each feature, none of them negative; features without a cost are left out.

    Errors count relative to the LUTs, below ``SMALL`` to that; the sum of their magnitudes is minimised
    by iteratively reweighted least squares.
    """
    counted = np.asarray(luts, dtype=np.float64)
    scale = 1.0 / np.maximum(counted, SMALL)
    used = [at for at, name in enumerate(FEATURES) if _belongs(name, family)]
    rows = features[:, used]
    weight = np.ones(len(counted))
    for _ in range(ROUNDS):
        factor = np.sqrt(weight) * scale
        costs, _ = nnls(rows * factor[:, None], counted * factor)
        weight = 1.0 / np.maximum(np.abs(rows @ costs - counted) * scale, 1e-2)
    return {FEATURES[at]: round(float(c), 3) for at, c in zip(used, costs, strict=True) if c >= 5e-4}


def _belongs(name: str, family: str) -> bool:
    return not name.startswith("lut") or name.startswith(PER_FAMILY[family])


def predict(features: np.ndarray, costs: dict[str, float]) -> np.ndarray:
    """LUTs of bare data paths."""
    return features @ np.array([costs.get(name, 0.0) for name in FEATURES])


def errors(predicted: np.ndarray, luts: Sequence[float]) -> Errors:
    """Errors of predictions, apart for small and large data paths."""
    counted = np.asarray(luts, dtype=np.float64)
    off = np.abs(predicted - counted)
    large = counted >= SMALL
    share = off[large] / counted[large]
    return Errors(
        len(counted),
        float(np.median(share)) if large.any() else 0.0,
        float(np.median(off[~large])) if (~large).any() else 0.0,
        float(np.quantile(share, 0.9)) if large.any() else 0.0,
    )
