"""Training regimes by name."""

from __future__ import annotations

from typing import Any

_PUBLISHED: dict[str, Any] = {
    "refit": "none",
    "inner_scale": False,
    "weight_decay": 0.0,
    "drop_path": 0.0,
    "kd_weight": 0.0,
    "clip_norm": 0.0,
}
REGIMES: dict[str, dict[str, Any]] = {
    "A": {**_PUBLISHED, "trained": "affine", "lr": 1e-3, "schedule": "constant"},
    "F": {**_PUBLISHED, "lr": 1e-5, "schedule": "cosine"},
    "D": {**_PUBLISHED, "lr": 1e-5, "schedule": "cosine",
          "weight_decay": 0.05, "drop_path": 0.2, "kd_weight": 0.5},
    "D+": {},
}  # fmt: skip
"""The settings that arXiv 2605.14047 (second version) publishes for ViT-B on ImageNet, and our own, which are
the defaults of ``AlignConfig``: affine alone, full, distilled. For ViT-L it publishes other rates and decays
of A and F (docs/realign.md)."""
