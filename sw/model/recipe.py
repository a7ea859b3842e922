"""How long and how fast a model is trained: epochs, learning rates, weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from timm.optim import param_groups_layer_decay
from torch import nn

WARM_UP = 0.05
"""Share of all steps over which a ``warm`` schedule rises to the full learning rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How long and how fast a model is trained.

    Args:
        epochs: 0 leaves the model as it is.
        lr: Largest learning rate.
        weight_decay: For matrices and tokens; vectors (gamma, beta, biases) get none.
        schedule: ``warm``, ``cosine`` or ``constant``, as in ``AlignConfig``.
        layer_decay: Learning rate of a block over that of the next one.
        clip_norm: Largest norm of a step's gradient; 0: any.
    """

    epochs: int
    lr: float
    weight_decay: float = 0.0
    schedule: str = "warm"
    layer_decay: float = 1.0
    clip_norm: float = 1.0


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """The share of the largest learning rate at a step, given the steps of an epoch."""
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step // steps) / recipe.epochs))
    total = steps * recipe.epochs
    warm_up = max(1, round(total * WARM_UP))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Matrices and vectors apart, and blocks too where their learning rates differ."""
    if recipe.layer_decay < 1:
        decays = {"weight_decay": recipe.weight_decay, "layer_decay": recipe.layer_decay}
        groups: list[dict[str, Any]] = param_groups_layer_decay(model, **decays)
        return [
            {"params": g["params"], "weight_decay": g["weight_decay"], "lr": recipe.lr * g["lr_scale"]}
            for g in groups
        ]
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
