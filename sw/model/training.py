"""One training loop for all stages: AdamW, a schedule, any number of processes, resumable at any step."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from sw.config import ComputeConfig
from sw.files import atomic, process_rank
from sw.model.data import Batch, Images
from sw.model.recipe import Recipe, parameter_groups, rate_at
from sw.model.runtime import device, device_name, seed_all
from sw.model.weights import disk_trouble
from sw.run_dir import RunDir
from sw.stage import code_digest
from sw.terminal import progress

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, images, labels) -> scalar loss, a mean over the images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeping:
    """What a training leaves while it goes on.

    Args:
        checkpoint: File for the state after every epoch and now and then within one.
        key: What the result depends on; a checkpoint with another key is not continued.
        scalars: Folder for TensorBoard; None: nothing is written.
    """

    checkpoint: Path
    key: str = ""
    scalars: Path | None = None

    def read(self) -> dict[str, Any] | None:
        """The state that a killed training left; None where there is none of this key that can be read."""
        if not self.checkpoint.exists():
            return None
        try:
            state = torch.load(self.checkpoint, map_location=device(), weights_only=True)
        except Exception:  # a torn file may raise anything
            return None
        return state if isinstance(state, dict) and state.get("key") == self.key else None

    def discard(self) -> None:
        """Remove the checkpoint: what was trained is safe elsewhere."""
        if process_rank()[0] == 0:
            self.checkpoint.unlink(missing_ok=True)


def checkpoint(run: RunDir, stage: str) -> Path:
    """Where the training of a stage of a run keeps its state."""
    return run.original.with_name(f"{stage}.ckpt")


def keeping(run: RunDir, stage: str, key: str) -> Keeping:
    """What the training of a stage of a run leaves; no other code and no other precision goes on with it."""
    key = f"{key}:{code_digest('sw.model', 'sw.ir')}:{_precision(run.config.compute.precision)}"
    return Keeping(checkpoint=checkpoint(run, stage), key=key, scalars=run.tensorboard(stage))


def fit(
    model: nn.Module,
    images: Images,
    loss: Loss,
    recipe: Recipe,
    *,
    batch_size: int,
    seed: int,
    label: str,
    compute: ComputeConfig | None = None,
    kept: Keeping | None = None,
    after_epoch: Callable[[nn.Module], None] = lambda model: None,
) -> None:
    """Train in place; the model is left in eval mode.

    Every step draws from generators seeded by (seed, epoch, step), so a run that was killed and started again
    ends with the weights of an undisturbed one. Processes that torchrun or accelerate started divide each
    batch among themselves, and sum their gradients.

    Args:
        model: On its device; parameters that require no gradient stay.
        images: Shuffled and augmented anew in every epoch.
        loss: What to minimise.
        recipe: Epochs, learning rate and the like.
        batch_size: Of ``images``.
        seed: The run's seed.
        label: Shown beside the progress bar.
        compute: Precision and memory; None: float32.
        kept: Checkpoints and scalars; None: there are none. The last checkpoint stays, until whoever called
            has saved the model and discards it.
        after_epoch: Called with the model, which it may leave in either mode.
    """
    if not recipe.epochs:
        return
    steps = math.ceil(len(images) / batch_size)
    training = _Training(model, loss, recipe, steps, seed, compute or ComputeConfig(), kept)
    first = training.resume()
    if kept is not None and training.rank == 0:
        together = f", one of {training.number} processes" if training.number > 1 else ""
        print(f"{label}: on {device_name()}{together}", flush=True)
    with progress(label, steps * recipe.epochs, done=first) as step_done, training.scalars(first) as write:
        for epoch in range(first // steps, recipe.epochs):
            for step, batch in training.batches(images, epoch, first):
                size = min(batch_size, len(images) - step % steps * batch_size)
                note, values = training.step(batch, step, size)
                step_done(f"epoch {epoch + 1}/{recipe.epochs}, {note}")
                write(step, values)
            training.save((epoch + 1) * steps)
            after_epoch(model)
    training.finish()


def _keep_frozen_statistics(model: nn.Module) -> None:
    """Batch norms whose weights are frozen keep their statistics, too."""
    for module in model.modules():
        trained = [parameter.requires_grad for parameter in module.parameters()]
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and trained and not any(trained):
            module.eval()


class _Training:
    """A model, its optimizer and schedule, and how a step is made of a batch."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        recipe: Recipe,
        steps: int,
        seed: int,
        compute: ComputeConfig,
        kept: Keeping | None,
    ) -> None:
        AcceleratorState._reset_state()  # an earlier training may have had another precision
        if compute.precision == "fp16" and _precision("fp16") == "no":
            print("compute.precision fp16 needs a GPU; this training takes fp32", flush=True)
        self._accelerator = Accelerator(
            mixed_precision=_precision(compute.precision),
            cpu=device().type == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.rank, self.number = self._accelerator.process_index, self._accelerator.num_processes
        self._bare, self._loss, self._kept = model, loss, kept
        self._seed, self._steps, self._compute = seed, steps, compute
        self._clip_norm = recipe.clip_norm
        optimizer = torch.optim.AdamW(parameter_groups(model, recipe), lr=recipe.lr, fused=True)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: rate_at(s, steps, recipe))
        self._model, self._optimizer = self._accelerator.prepare(model, optimizer)
        self._saved = self._ended = time.monotonic()

    def batches(self, images: Images, epoch: int, first: int) -> Iterator[tuple[int, Batch]]:
        """This process's parts of an epoch's batches from step ``first`` on, each with its step."""
        start = max(first - epoch * self._steps, 0)
        self._bare.train()
        _keep_frozen_statistics(self._bare)
        parts = images.batches(seed=seed_all(self._seed, epoch), skip=start, part=(self.rank, self.number))
        return enumerate(parts, start=epoch * self._steps + start)

    def step(self, batch: Batch, step: int, size: int) -> tuple[str, dict[str, float]]:
        """Learn from this process's part of a batch of ``size`` images.

        Returns:
            What to show, and what to record: loss (of this part), learning rate, images a second.
        """
        seed_all(self._seed, step // self._steps, step % self._steps, self.rank)
        images, labels = (t.to(device(), non_blocking=True) for t in batch)
        own = len(range(self.rank, size, self.number))
        # On the device, and read once, so that a GPU does not wait for every part.
        total = torch.zeros((), dtype=torch.float64, device=device())
        number = -(-self._compute.accumulate // self.number)  # processes share the parts
        pieces = list(zip(images.chunk(number), labels.chunk(number), strict=True))
        for index, (some, theirs) in enumerate(pieces):
            last = index == len(pieces) - 1
            with contextlib.nullcontext() if last else self._accelerator.no_sync(self._model):
                with self._accelerator.autocast():
                    value = self._loss(self._model, some, theirs)
                # Gradients of processes are averaged, so that each part counts by its share of the batch.
                self._accelerator.backward(value * (len(some) * self.number / size if own else 0.0))
                total += value.detach() * (len(some) / len(images))
        if self._clip_norm:
            self._accelerator.clip_grad_norm_(self._model.parameters(), self._clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        shown = float(total)
        rate = float(self._schedule.get_last_lr()[-1])
        self._schedule.step()
        began, self._ended = self._ended, time.monotonic()
        speed = size / max(self._ended - began, 1e-9)
        if self._ended - self._saved >= 60 * self._compute.checkpoint_minutes:
            self.save(step + 1)
        return f"loss {shown:.4f}, {speed:.0f} images/s", {
            "loss": shown,
            "lr": rate,
            "images_a_second": speed,
        }

    def resume(self) -> int:
        """Load the state that a killed run left, if it is of this very run; the step to go on with."""
        state = None if self._kept is None else self._kept.read()
        if state is None:
            return 0
        self._bare.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        return int(state["step"])

    def save(self, step: int) -> None:
        """Keep the state before a step."""
        self._saved = time.monotonic()
        if self._kept is None or self.rank:
            return
        scaler = self._accelerator.scaler
        state = {
            "key": self._kept.key,
            "step": step,
            "model": self._bare.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": {} if scaler is None else scaler.state_dict(),
        }
        with atomic(self._kept.checkpoint) as scratch, disk_trouble(self._kept.checkpoint):
            torch.save(state, scratch)

    @contextlib.contextmanager
    def scalars(self, first: int) -> Any:
        """What to call with a step and its values; those of an earlier process from ``first`` on are void."""
        if self._kept is None or self._kept.scalars is None or self.rank:
            yield lambda step, values: None
            return
        from tensorboardX import SummaryWriter

        with SummaryWriter(str(self._kept.scalars), purge_step=first) as writer:

            def write(step: int, values: dict[str, float]) -> None:
                for name, value in values.items():
                    writer.add_scalar(name, value, step)

            yield write

    def finish(self) -> None:
        """Leave the bare model in eval mode."""
        self._accelerator.wait_for_everyone()
        self._accelerator.unwrap_model(self._model, keep_fp32_wrapper=False)
        self._bare.eval()


def _precision(wanted: str) -> str:
    """What accelerate calls a precision; fp16 is for GPUs alone, elsewhere it is float32."""
    return "no" if wanted == "fp32" or (wanted == "fp16" and device().type == "cpu") else wanted


def bare(model: nn.Module) -> nn.Module:
    """The model itself, where it is wrapped for several processes."""
    inner = getattr(model, "module", None)
    return inner if isinstance(model, nn.parallel.DistributedDataParallel) and inner is not None else model
