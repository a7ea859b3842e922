"""How long a step of each training stage takes, for projections: without checkpoints, once it runs evenly."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import time
from collections.abc import Callable

from torch import nn

from sw.model.align import recipe, swapped, train_only
from sw.model.data import load_splits
from sw.model.distil import Distillation, blocks_of
from sw.model.original import cross_entropy, load_original, train_recipe
from sw.model.quantize import integer_model, quantize_recipe
from sw.model.recipe import Recipe
from sw.model.swap import read_plans
from sw.model.training import Loss, fit
from sw.run_dir import RunDir

EPOCHS = 3
"""Of the run's images; in the first one kernels are chosen, and it does not count."""


def train_step(run: RunDir) -> float:
    """Seconds of a step of ``train``."""
    return _seconds(run, load_original(run), cross_entropy, train_recipe(run.config.train))


def align_step(run: RunDir) -> float:
    """Seconds of a step of ``align``; the functions must be there."""
    config = run.config.align
    model = swapped(run, drop_path=config.drop_path)
    train_only(model, config.trained)
    loss = Distillation(load_original(run), config, blocks_of(list(read_plans(run))))
    return _seconds(run, model, loss, recipe(config))


def quantize_step(run: RunDir) -> float:
    """Seconds of a step of ``quantize``; the re-aligned weights must be there."""
    teacher = load_original(run)
    model = integer_model(run, load_splits(run.config.data, teacher).calibration)
    return _seconds(run, model, Distillation(teacher, run.config.align), quantize_recipe(run.config.quantize))


STEPS_OF: dict[str, Callable[[RunDir], float]] = {
    "train": train_step,
    "align": align_step,
    "quantize": quantize_step,
}
"""Stage -> seconds of a step on a run's images."""


def _seconds(run: RunDir, model: nn.Module, loss: Loss, how: Recipe) -> float:
    config, ends = run.config, list[float]()
    images = load_splits(config.data, model).train
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        fit(
            model,
            images,
            loss,
            dataclasses.replace(how, epochs=EPOCHS),
            batch_size=config.data.batch_size,
            seed=config.seed,
            label="",
            compute=config.compute,
            after_epoch=lambda _: ends.append(time.monotonic()),
        )
    steps = -(-len(images) // config.data.batch_size)
    return (ends[-1] - ends[0]) / (steps * (EPOCHS - 1))
