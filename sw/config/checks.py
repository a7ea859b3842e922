"""Which values the keys of a configuration may have."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from sw.config.regimes import REGIMES
from sw.descriptions import is_name
from sw.ir.errors import InputError
from sw.ir.realize import KINDS

if TYPE_CHECKING:
    from sw.config.sections import RunConfig

RANGES: dict[str, tuple[float, float]] = {
    "data.split_seed": (0, 2**63),
    "data.calibration_images": (5, 1e9),
    "data.batch_size": (1, 1e6),
    "data.workers": (0, 1024),
    "data.erase": (0, 1),
    "train.epochs": (0, 1e6),
    "train.weight_decay": (0, 1e3),
    "capture.images": (1, 1e9),
    "capture.pairs": (16, 1e9),
    "capture.headroom_bits": (0, 8),
    "unit.in_width": (2, 16),
    "unit.out_width": (2, 16),
    "unit.lanes": (1, 64),
    "unit.fmax_mhz": (1, 2000),
    "evolve.population": (4, 1e6),
    "evolve.generations": (0, 1e6),
    "evolve.max_nodes": (3, 80),
    "evolve.tournament": (1, 1e6),
    "evolve.seeds": (1, 1000),
    "evolve.held_out": (0.01, 0.5),
    "evolve.growth_penalty": (0, 1e6),
    "evolve.csd_digits": (1, 16),
    "evolve.islands": (1, 1000),
    "evolve.stop_ratio": (0, 2),
    "evolve.patience": (0, 1e6),
    "evolve.price_budget": (0, 1e9),
    "evolve.ratio": (0, 1),
    "evolve.budget_s": (0, 1e9),
    "evolve.jobs": (0, 4096),
    "align.epochs": (0, 1e6),
    "align.weight_decay": (0, 1e3),
    "align.temperature": (0.01, 1000),
    "align.kd_weight": (0, 1),
    "align.layer_decay": (0.01, 1),
    "align.drop_path": (0, 0.99),
    "align.feature_weight": (0, 1e6),
    "align.clip_norm": (0, 1e9),
    "quantize.weight_bits": (2, 8),
    "quantize.act_bits": (2, 8),
    "quantize.calibration_images": (1, 1e9),
    "quantize.epochs": (0, 1e6),
    "export.images": (1, 1e9),
    "compute.accumulate": (1, 1e6),
    "compute.checkpoint_minutes": (0, 1e6),
    "verify.replay_images": (1, 1e6),
    "verify.stall_beats": (0, 1e9),
    "verify.jobs": (0, 1024),
    "synth.pnr_seeds": (0, 100),
    "synth.jobs": (0, 1024),
    "report.bandwidth_gb_s": (1e-3, 1e6),
    "report.compute_gop_s": (1e-3, 1e9),
    "report.buffer_kib": (0, 1e9),
}
"""Smallest and largest value."""
RATES = ("train.lr", "align.lr", "quantize.lr")
"""Keys that must be above 0."""
CHOICES: dict[str, tuple[str, ...]] = {
    "model.unfoldable": ("stage", "keep"),
    "unit.realize": ("auto", *KINDS),
    "evolve.choose": ("knee", "best", "cheapest", "budget", "ratio"),
    "evolve.affine": ("free", "scale", "none"),
    "evolve.price": ("lut6", "nodes", "flops"),
    "evolve.weights": ("none", "sensitivity"),
    "export.outputs": ("logits", "all"),
    "align.regime": tuple(REGIMES),
    "align.refit": ("none", "affine", "readers", "writers"),
    "align.trained": ("all", "affine"),
    "align.schedule": ("constant", "cosine", "warm"),
    "compute.precision": ("fp32", "bf16", "fp16"),
}
FAMILIES = ("xc7", "ecp5", "ice40")


def check(config: RunConfig) -> None:
    """Refuse values out of range.

    Raises:
        InputError: A value is not legal; the message names its key.
    """
    for key, (low, high) in RANGES.items():
        section, name = key.split(".")
        value = getattr(getattr(config, section), name)
        if not low <= value <= high:
            raise InputError(f"configuration key '{key}' must be {low:g}..{high:g}, not {value!r}")
    for key, choices in CHOICES.items():
        section, name = key.split(".")
        value = getattr(getattr(config, section), name)
        if value not in choices:
            raise InputError(f"configuration key '{key}' must be one of {', '.join(choices)}, not {value!r}")
    for key in RATES:
        section, name = key.split(".")
        value = getattr(getattr(config, section), name)
        if not 0 < value < math.inf:
            raise InputError(f"configuration key '{key}' must be above 0 and finite, not {value!r}")
    if config.seed < 0:
        raise InputError(f"configuration key 'seed' must not be negative, not {config.seed}")
    if not config.synth.families:
        raise InputError(
            f"configuration key 'synth.families' must hold some of {', '.join(FAMILIES)}, not none"
        )
    for family in config.synth.families:
        if family not in FAMILIES:
            raise InputError(
                f"configuration key 'synth.families' must hold only {', '.join(FAMILIES)}, not {family!r}"
            )
    _check_names(config)


def _check_names(config: RunConfig) -> None:
    """What names files, and what a model is built with."""
    if "\0" in config.runs_dir:
        raise InputError(f"configuration key 'runs_dir' must be a path, not {config.runs_dir!r}")
    try:
        json.dumps(config.model.kwargs)
    except TypeError as error:
        what = f"numbers, texts, lists and tables, not {config.model.kwargs!r}"
        raise InputError(f"configuration key 'model.kwargs' must hold {what}") from error
    if not (is_name(config.unit.prefix) and config.unit.prefix.isidentifier()):
        rule = f"letters, digits and underscores, no digit first, not {config.unit.prefix!r}"
        raise InputError(f"configuration key 'unit.prefix' must be {rule}")
    if not config.name or config.name in (".", "..") or {"/", "\0"} & set(config.name):
        raise InputError(f"configuration key 'name' must be a plain folder name, not {config.name!r}")
