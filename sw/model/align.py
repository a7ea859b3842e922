"""Stage ``align``: swap LayerNorm for the evolved functions, then re-align by distillation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sw.config import AlignConfig, digest
from sw.model.data import load_splits
from sw.model.evaluate import report_accuracy
from sw.model.original import load_original
from sw.model.refit import refit
from sw.model.runtime import prepare
from sw.model.swap import read_chosen, read_plans, swap
from sw.model.training import Loss, fit
from sw.model.weights import load_weights, save_weights
from sw.run_dir import RunDir, file_digest
from sw.stage import Stage

REFIT_IMAGES = 2048
"""Training images that the closed-form start uses at most."""


def distillation(teacher: nn.Module, config: AlignConfig) -> Loss:
    """The loss kd T^2 KL(teacher || student) at temperature T plus (1 - kd) cross-entropy with the labels.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (arXiv 1503.02531). With two heads,
    each learns from its own.
    """
    temperature, kd_weight = config.temperature, config.kd_weight

    def one(student: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
        soft = functional.kl_div(
            functional.log_softmax(student / temperature, dim=1),
            functional.log_softmax(taught / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return kd_weight * temperature**2 * soft + (1 - kd_weight) * functional.cross_entropy(student, labels)

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            taught = _heads(teacher(images))
        students = _heads(model(images))
        if len(students) != len(taught):  # a distilled DeiT averages its heads in eval mode
            taught = taught * len(students)
        return torch.stack([one(s, t, labels) for s, t in zip(students, taught, strict=True)]).mean()

    return loss


def load_realigned(run: RunDir) -> nn.Module:
    """The re-aligned model, a ScalarNorm at every site, in eval mode on its device."""
    model = swapped(run)
    load_weights(model, run.realigned)
    return model.eval()


def swapped(run: RunDir) -> nn.Module:
    """The original model right after the swap; every consumer of a folding site has a bias.

    Raises:
        InputError: Captured sites and functions are not the same.
    """
    model = load_original(run)
    swap(model, read_chosen(run))
    for plan in read_plans(run).values():
        for name in plan.consumers:
            layer = model.get_submodule(name)
            if getattr(layer, "bias", None) is None:
                weight = layer.get_parameter("weight")
                layer.register_parameter("bias", nn.Parameter(torch.zeros_like(weight.flatten(1)[:, 0])))
    return prepare(model).eval()


def _heads(output: Tensor | tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    return list(output) if isinstance(output, (tuple, list)) else [output]


def _align(run: RunDir) -> None:
    config = run.config
    teacher = load_original(run)
    model = swapped(run)
    splits = load_splits(config.data, model)
    report_accuracy(run, "swapped", model, splits.test)
    if config.align.epochs:
        refit(model, teacher, read_plans(run), splits.train, REFIT_IMAGES)
        fit(
            model,
            splits.train,
            distillation(teacher, config.align),
            epochs=config.align.epochs,
            lr=config.align.lr,
            weight_decay=config.align.weight_decay,
            batch_size=config.data.batch_size,
            seed=config.seed,
            checkpoint=run.original.with_name("align.ckpt"),
            key=_key(run),
            label="align",
        )
    save_weights(run.realigned, model)
    report_accuracy(run, "realigned", model, splits.test)


def _key(run: RunDir) -> str:
    parts = [digest(run.config, "seed", "model", "data", "align")]
    return ":".join(parts + [file_digest(p) for p in (run.original, run.functions, run.capture_stats)])


STAGE = Stage(
    name="align",
    help="swap LayerNorm for the evolved functions and re-align by distillation",
    sections=("model", "data", "align"),
    inputs=lambda run: [run.original, run.capture_stats, run.functions],
    outputs=lambda run: [
        run.realigned,
        *(path(s) for path in (run.accuracy, run.predictions) for s in ("swapped", "realigned")),
    ],
    body=_align,
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
