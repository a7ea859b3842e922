"""Stage ``quantize``: the integer model, int8 weights and activations, every norm site its integer map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sw.config import QuantizeConfig, digest
from sw.files import file_digest, write_npz
from sw.ir.errors import InputError
from sw.ir.formats import IntArray
from sw.ir.parse import parse
from sw.ir.program import Program
from sw.model.align import load_realigned
from sw.model.codes import codes_of
from sw.model.data import Images, limit_to, load_splits
from sw.model.distil import Distillation
from sw.model.evaluate import accuracy, report_accuracy
from sw.model.fold import FoldPlan, fold
from sw.model.original import load_original
from sw.model.quantizers import calibrate, quantizable_layers, quantize_layers
from sw.model.recipe import Recipe
from sw.model.reference import UnitModule
from sw.model.runtime import device
from sw.model.scalar_norm import ScalarNorm
from sw.model.sites import along_channels, replace_module
from sw.model.swap import read_plans
from sw.model.training import checkpoint, fit, keeping
from sw.model.weights import load_weights, save_weights
from sw.programs import read_program
from sw.run_dir import RunDir
from sw.stage import Stage


class UnitSite(nn.Module):
    """A norm site of the integer model: the unit, and its affine where that could not fold.

    Args:
        unit: The site's integer map.
        norm: The layer that it replaces.
        folded: Whether the affine has moved into the consumers; then there is nothing after the unit.
    """

    def __init__(self, unit: UnitModule, norm: ScalarNorm, folded: bool) -> None:
        super().__init__()
        self.unit, self.dim = unit, norm.dim
        self.weight = None if folded else nn.Parameter(norm.weight.detach().clone())
        self.bias = None if folded else nn.Parameter(norm.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.unit(x)
        if self.weight is None or self.bias is None:
            return y
        weight, bias = (along_channels(v, x.ndim, self.dim) for v in (self.weight, self.bias))
        return y * weight + bias


def integer_model(run: RunDir, calibration: Images, *, folding: bool = True) -> nn.Module:
    """The re-aligned model with integer layers and units, calibrated, not fine-tuned.

    Args:
        run: With ``realigned.safetensors``, ``functions.json`` and the programs.
        calibration: Images that set the activation scales.
        folding: Whether affines move into their consumers; without, every site keeps its own.

    Raises:
        InputError: A program does not fit the formats in ``functions.json``.
    """
    model = load_realigned(run)
    coded = _install_units(run, model, read_plans(run), folding)
    _make_integer(run, model, calibration, coded)
    return model


def quantize_layernorms(run: RunDir, model: nn.Module, calibration: Images) -> None:
    """Put integer layers around a model's LayerNorms, in place, and calibrate: what ours compares with."""
    _make_integer(run, model, calibration, set())


def _make_integer(run: RunDir, model: nn.Module, calibration: Images, coded: set[str]) -> None:
    """Put integer layers in, and calibrate them."""
    config = run.config.quantize

    def pass_through(limit: int) -> Callable[[nn.Module], None]:
        def run_images(net: nn.Module) -> None:
            with torch.no_grad():
                for images, _ in calibration.batches(limit=limit):
                    net(images.to(device()))

        return run_images

    for module in model.modules():  # one way to compute, whatever kernels the machine has
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", False)  # noqa: B010  (mypy takes it for a submodule)
    called, passed_by = quantizable_layers(model, pass_through(1))
    for name, reason in passed_by.items():
        print(f"layer {name} {reason} and stays in floating point")
    quantize_layers(model, called, coded, weight_bits=config.weight_bits, act_bits=config.act_bits)
    calibrate(model, pass_through(config.calibration_images))


def load_quantized(run: RunDir) -> nn.Module:
    """The integer model that the stage left, in eval mode on its device; ``export`` goes on from it.

    Raises:
        InputError: The stage left none, or one that does not fit.
    """
    splits = load_splits(run.config.data, load_original(run))
    model = integer_model(run, splits.calibration)
    load_weights(model, run.quantized)
    return model.to(device()).eval()


def record_replay(model: nn.Module, sites: Iterable[str], images: Images, limit: int) -> dict[str, IntArray]:
    """What every unit really computed: ``<site>_raw``, ``<site>_out_raw``, int64, (rows, C), a row a token.

    Args:
        model: An integer model in eval mode.
        sites: Names of its ``UnitSite`` modules.
        images: Read in order.
        limit: Images used at most.
    """
    seen: dict[str, list[Tensor]] = {}
    handles = []

    def keep(site: str, dim: int) -> Callable[..., None]:
        def hook(unit: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(unit, UnitModule), site
            out_raw = codes_of(output, unit.output)
            for key, raw in ((f"{site}_raw", unit.quantize(args[0])), (f"{site}_out_raw", out_raw)):
                rows = raw.movedim(dim, -1)
                seen.setdefault(key, []).append(rows.reshape(-1, rows.shape[-1]).cpu())

        return hook

    for site in sites:
        module = model.get_submodule(site)
        assert isinstance(module, UnitSite), site
        handles.append(module.unit.register_forward_hook(keep(site, module.dim)))
    try:
        with torch.no_grad():
            for batch, _ in images.batches(limit=limit):
                model(batch.to(device()))
    finally:
        for handle in handles:
            handle.remove()
    return {key: torch.cat(parts).numpy() for key, parts in seen.items()}


def _install_units(run: RunDir, model: nn.Module, plans: Mapping[str, FoldPlan], folding: bool) -> set[str]:
    """Put the units in; the names of the layers that now read output codes directly."""
    coded: set[str] = set()
    for site, entry in run.read_functions().items():
        plan = plans[site]
        norm = model.get_submodule(site)
        assert isinstance(norm, ScalarNorm), site
        folded = folding and plan.foldable
        if folded:
            fold(model, site, plan.consumers)
            coded |= set(plan.consumers) - set(plan.averaged)
        unit = UnitModule(_program(run, site, entry), parse(str(entry["expression"])))
        replace_module(model, site, UnitSite(unit, norm, folded).to(device()).eval())
    return coded


def _program(run: RunDir, site: str, entry: Mapping[str, Any]) -> Program:
    path = run.program(site)
    program = read_program(path)
    for what, form in (("input", program.input), ("output", program.output)):
        if str(form) != entry[what]:
            raise InputError(
                f"{what} format of program '{path}' must be that of functions.json, {entry[what]}, not {form}"
            )
    return program


def quantize_recipe(config: QuantizeConfig) -> Recipe:
    """How long and how fast quantization-aware epochs train."""
    return Recipe(epochs=config.epochs, lr=config.lr)


def _quantize(run: RunDir) -> None:
    config = run.config
    teacher = load_original(run)
    splits = load_splits(config.data, teacher)
    limit_to(splits.calibration, config.quantize.calibration_images, "quantize")
    model = integer_model(run, splits.calibration)
    extra: dict[str, float] = {
        "calibrated": accuracy(model, splits.test),
        "calibrated_unfolded": accuracy(integer_model(run, splits.calibration, folding=False), splits.test),
    }
    kept = keeping(run, "quantize", _key(run))
    if config.quantize.epochs:
        fit(
            model,
            splits.train,
            Distillation(teacher, config.align),
            quantize_recipe(config.quantize),
            batch_size=config.data.batch_size,
            seed=config.seed,
            label="quantize",
            compute=config.compute,
            kept=kept,
        )
    save_weights(run.quantized, model)
    sites = list(run.read_functions())
    write_npz(run.replay, dict(record_replay(model, sites, splits.test, config.verify.replay_images)))
    recorded = min(config.verify.replay_images, len(splits.test))
    report_accuracy(run, "quantized", model, splits.test, recorded_images=recorded, **extra)
    kept.discard()


def _key(run: RunDir) -> str:
    parts = [digest(run.config, "seed", "model", "data", "align", "quantize", "compute.precision")]
    return ":".join(parts + [file_digest(p) for p in _inputs(run)])


def _inputs(run: RunDir) -> list[Path]:
    return [run.original, run.capture_stats, run.functions, run.realigned, *run.programs()]


STAGE = Stage(
    name="quantize",
    help="int8 weights and activations, and the integer map at every norm site",
    sections=("model", "data", "align", "quantize", "compute.precision", "verify.replay_images"),
    inputs=_inputs,
    outputs=lambda run: [run.quantized, run.replay, run.accuracy("quantized"), run.predictions("quantized")],
    body=_quantize,
    parallel=True,
    forget=lambda run: checkpoint(run, "quantize").unlink(missing_ok=True),
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
