"""One training loop for all stages: AdamW, a schedule, resumable after every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from sw.model.data import Batch, Images
from sw.model.runtime import device, seed_all
from sw.run_dir import atomic
from sw.terminal import progress

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, images, labels) -> scalar loss."""
WARM_UP = 0.05
"""Share of all steps over which a ``warm`` schedule rises to the full learning rate."""
CLIP_NORM = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How long and how fast a model is trained.

    Args:
        epochs: 0 leaves the model as it is.
        lr: Largest learning rate.
        weight_decay: For matrices; vectors (gamma, beta, biases) get none.
        schedule: ``warm``, ``cosine`` or ``constant``, as in ``AlignConfig``.
        layer_decay: Learning rate of a block over that of the next one.
    """

    epochs: int
    lr: float
    weight_decay: float = 0.0
    schedule: str = "warm"
    layer_decay: float = 1.0


def fit(
    model: nn.Module,
    images: Images,
    loss: Loss,
    recipe: Recipe,
    *,
    batch_size: int,
    seed: int,
    label: str,
    checkpoint: Path | None = None,
    key: str = "",
    after_epoch: Callable[[nn.Module], None] = lambda model: None,
) -> None:
    """Train in place; the model is left in eval mode.

    Every epoch draws from generators seeded by (seed, epoch), so a run that was killed and started again
    ends with the weights of an undisturbed one.

    Args:
        model: On its device; parameters that require no gradient stay.
        images: Shuffled and augmented anew in every epoch.
        loss: What to minimise.
        recipe: Epochs, learning rate and the like.
        batch_size: Of ``images``, for the length of the schedule.
        seed: The run's seed.
        label: Shown beside the progress bar.
        checkpoint: Where the state after each epoch is kept; removed at the end. None: it is not kept.
        key: What the result depends on; a checkpoint with another key is not continued.
        after_epoch: Called with the model, which it may leave in either mode.
    """
    if not recipe.epochs:
        return
    optimizer = torch.optim.AdamW(_groups(model, recipe), lr=recipe.lr)
    steps = math.ceil(len(images) / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _shape(step, steps, recipe))
    first = _resume(checkpoint, key, model, optimizer, schedule)
    with progress(label, recipe.epochs) as step_done:
        for epoch in range(recipe.epochs):
            if epoch < first:
                step_done()
                continue
            batches = images.batches(seed=seed_all(seed, epoch))
            total = _epoch(model, batches, loss, optimizer, schedule)
            if checkpoint is not None:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                _save(checkpoint, state | {"schedule": schedule.state_dict(), "epoch": epoch + 1, "key": key})
            after_epoch(model)
            step_done(f"loss {total:.4f}")
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    model.eval()


def _epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
) -> float:
    """One pass over the images; the mean loss."""
    model.train()
    losses: list[float] = []
    for images, labels in batches:
        value = loss(model, images.to(device()), labels.to(device()))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        schedule.step()
        losses.append(value.item())
    return sum(losses) / len(losses)


def _shape(step: int, steps: int, recipe: Recipe) -> float:
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


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
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


def _resume(checkpoint: Path | None, key: str, model: nn.Module, optimizer: Any, schedule: Any) -> int:
    """Load the state that a killed run left, if it is of this very run; the epoch to go on with."""
    if checkpoint is None or not checkpoint.exists():
        return 0
    try:
        state = torch.load(checkpoint, map_location=device(), weights_only=True)
    except (EOFError, RuntimeError, ValueError, KeyError):
        return 0
    if state.get("key") != key:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["epoch"])


def _save(path: Path, state: dict[str, Any]) -> None:
    with atomic(path) as scratch:
        torch.save(state, scratch)
