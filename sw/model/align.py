"""Stage ``align``: swap LayerNorm for the evolved functions, refit in closed form, then distil."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sw.config import AlignConfig, digest
from sw.files import file_digest, write_json, write_text
from sw.model.data import Splits, load_splits, read_once
from sw.model.distil import Distillation, blocks_of
from sw.model.evaluate import report_accuracy
from sw.model.kept import site_costs
from sw.model.original import load_original
from sw.model.recipe import Recipe
from sw.model.refit import refit
from sw.model.runtime import prepare
from sw.model.scalar_norm import ScalarNorm
from sw.model.settle import learn_inner_scales, settle
from sw.model.sites import is_site
from sw.model.swap import read_chosen, read_plans, read_settled, swap
from sw.model.training import checkpoint, fit, keeping
from sw.model.weights import load_weights, save_weights
from sw.run_dir import RunDir
from sw.stage import Stage

REFITTED = {"affine": "rescaled", "readers": "refitted", "writers": "corrected"}
"""How far a refit goes, and what the accuracy after it is called."""
CLOSED_FORM = ("swapped", *REFITTED.values())
"""Right after the swap; with per-channel affines refitted; with their readers, too; with the writers of what
the norms read, too."""

KEPT_IMAGES = 512
"""Calibration images on which it is measured what keeping one LayerNorm brings."""


def load_realigned(run: RunDir) -> nn.Module:
    """The re-aligned model, a ScalarNorm at every site, in eval mode on its device."""
    model = swapped(run, read_settled(run))
    load_weights(model, run.realigned)
    return model.eval()


def swapped(
    run: RunDir, functions: Mapping[str, Mapping[str, Any]] | None = None, *, drop_path: float = 0.0
) -> nn.Module:
    """The original model right after the swap; every consumer of a folding site has a bias.

    Args:
        run: With captures.
        functions: As ``swap`` takes them; None: those that evolution has chosen.
        drop_path: As ``load_original`` takes it.

    Raises:
        InputError: Captured sites and functions are not the same.
    """
    model = load_original(run, drop_path=drop_path)
    swap(model, read_chosen(run) if functions is None else functions)
    for plan in read_plans(run).values():
        for name in plan.consumers:
            layer = model.get_submodule(name)
            if getattr(layer, "bias", None) is None:
                weight = layer.get_parameter("weight")
                layer.register_parameter("bias", nn.Parameter(torch.zeros_like(weight.flatten(1)[:, 0])))
    return prepare(model).eval()


def recipe(config: AlignConfig) -> Recipe:
    """How long and how fast a re-alignment trains."""
    return Recipe(
        epochs=config.epochs,
        lr=config.lr,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        layer_decay=config.layer_decay,
        clip_norm=config.clip_norm,
    )


def train_only(model: nn.Module, what: str) -> None:
    """Freeze all but the norm sites' affines if ``what`` is ``affine``; ``all`` changes nothing."""
    if what == "affine":
        model.requires_grad_(False)
        for module in model.modules():
            if isinstance(module, ScalarNorm):
                module.weight.requires_grad_(True)
                module.bias.requires_grad_(True)
            elif is_site(module):
                module.requires_grad_(True)


def _align(run: RunDir) -> None:
    config = run.config
    teacher = load_original(run)
    model = swapped(run, drop_path=config.align.drop_path)
    splits = load_splits(config.data, model)
    kept = keeping(run, "align", _key(run))
    measured = [run.site_costs, *_reports(run, CLOSED_FORM)]
    if kept.read() is None or not all(path.exists() for path in measured):
        model.load_state_dict(_closed_form(run, model, teacher, splits))
    if config.align.inner_scale:
        learn_inner_scales(model, run.read_evolved())
    train_only(model, config.align.trained)
    fit(
        model,
        splits.train,
        Distillation(teacher, config.align, blocks_of(list(read_plans(run)))),
        recipe(config.align),
        batch_size=config.data.batch_size,
        seed=config.seed,
        label="align",
        compute=config.compute,
        kept=kept,
    )
    if config.align.inner_scale:
        _keep_settled(run, model)
    save_weights(run.realigned, model)
    report_accuracy(run, "realigned", model, splits.test)
    kept.discard()


def _keep_settled(run: RunDir, model: nn.Module) -> None:
    """Turn learned inner scales into constants, and leave functions and programs with them."""
    functions, programs = settle(model, run.read_evolved(), run.config)
    for site, program in programs.items():
        write_text(run.program(site), program.to_json())
    write_json(run.functions, {"sites": functions})


def _closed_form(run: RunDir, model: nn.Module, teacher: nn.Module, splits: Splits) -> dict[str, Tensor]:
    """Report the model right after the swap and after each refit; the weights that the epochs start from."""
    weights, plans = {"none": _weights(model)}, read_plans(run)
    calibration = read_once(splits.calibration)  # they are looked at for every site
    report_accuracy(run, "swapped", model, splits.test)
    costs = site_costs(model, teacher, list(plans), calibration, KEPT_IMAGES)
    write_json(run.site_costs, costs)
    for upto, name in REFITTED.items():
        model.load_state_dict(weights["none"])
        refit(model, teacher, plans, calibration, upto=upto)
        report_accuracy(run, name, model, splits.test)
        weights[upto] = _weights(model)
    return weights[run.config.align.refit]


def _reports(run: RunDir, stages: Sequence[str]) -> list[Path]:
    """Accuracies and predictions at some points."""
    return [path(stage) for path in (run.accuracy, run.predictions) for stage in stages]


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.to("cpu", copy=True) for name, value in model.state_dict().items()}


def _outputs(run: RunDir) -> list[Path]:
    learned = [run.functions, *run.programs()] if run.config.align.inner_scale else []
    return [run.realigned, run.site_costs, *_reports(run, (*CLOSED_FORM, "realigned")), *learned]


def _key(run: RunDir) -> str:
    parts = [digest(run.config, "seed", "model", "data", "align", "compute.precision")]
    return ":".join(parts + [file_digest(p) for p in (run.original, run.evolved, run.capture_stats)])


STAGE = Stage(
    name="align",
    help="swap LayerNorm for the evolved functions and re-align by distillation",
    sections=("model", "data", "align", "compute.precision"),
    inputs=lambda run: [run.original, run.capture_stats, run.evolved],
    outputs=_outputs,
    body=_align,
    parallel=True,
    forget=lambda run: checkpoint(run, "align").unlink(missing_ok=True),
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
