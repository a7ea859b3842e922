"""What a re-aligned model is trained to do: what the labels say, and what the original model does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.config import AlignConfig
from sw.model.training import bare


class Distillation:
    """The loss kd T^2 KL(teacher || student) at temperature T plus (1 - kd) cross-entropy with the labels.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (arXiv 1503.02531). A
    student that returns two heads while it trains learns with both: each from the teacher's same one if that
    returns them, too, else from its answer. ``feature_weight`` adds so many times the mean over blocks of
    |student - teacher|^2 / var(teacher) at their outputs.

    Args:
        teacher: In eval mode.
        config: Its weights and temperature.
        blocks: Dotted names of modules that both models have, for the features.
    """

    def __init__(self, teacher: nn.Module, config: AlignConfig, blocks: Sequence[str] = ()) -> None:
        self.teacher, self.config = teacher, config
        self.blocks = tuple(blocks) if config.feature_weight else ()

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar."""
        with outputs_of(bare(model), self.blocks) as made:
            students = _heads(model(images))
        if not self.config.kd_weight and not self.blocks:
            return torch.stack([functional.cross_entropy(s, labels) for s in students]).mean()
        with torch.no_grad(), outputs_of(self.teacher, self.blocks) as wanted:
            taught = _heads(self.teacher(images))
        if len(students) != len(taught):  # a distilled DeiT averages its heads in eval mode
            taught = taught * len(students)
        total = torch.stack([self._one(s, t, labels) for s, t in zip(students, taught, strict=True)]).mean()
        if self.blocks:
            pairs = [(made[b], wanted[b]) for b in self.blocks if b in made and b in wanted]
            if not pairs:
                return total
            apart = torch.stack([functional.mse_loss(a, b) / b.var() for a, b in pairs])
            total = total + self.config.feature_weight * apart.mean()
        return total

    def _one(self, student: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
        temperature, kd_weight = self.config.temperature, self.config.kd_weight
        soft = functional.kl_div(
            functional.log_softmax(student / temperature, dim=1),
            functional.log_softmax(taught / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return kd_weight * temperature**2 * soft + (1 - kd_weight) * functional.cross_entropy(student, labels)


def blocks_of(sites: Sequence[str]) -> list[str]:
    """The modules around norm sites, in order: ``blocks.0`` of ``blocks.0.norm1``; not the model itself."""
    return [name for name in dict.fromkeys(site.rpartition(".")[0] for site in sites) if name]


@contextlib.contextmanager
def outputs_of(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the named modules returned last, while the context lasts; of those that return a tensor."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
            if isinstance(output, Tensor):
                found[name] = output

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _heads(output: Tensor | tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    return list(output) if isinstance(output, (tuple, list)) else [output]
