"""Why D+ is what it is: variants of it on glyphs.

``python -m benchmarks.accuracy.variants`` writes ``benchmarks/variants.md``. They are judged by images that
are neither trained on nor in the test split; the run is that of the first seed of ``make bench-accuracy``.
Whoever chooses by them takes another run (``--seed 0 --set data.split_seed=0``), for claims are measured on
that one.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.measure import STAGES, base_key, run_dir, trained
from benchmarks.accuracy.plan import BENCHMARKS, LAYERNORM, OURS, Plan
from benchmarks.accuracy.tasks import hashed, measure_tasks
from benchmarks.markdown import table
from sw.config import REGIMES, DataConfig
from sw.files import file_digest, write_text
from sw.ir.errors import InputError
from sw.model import glyphs
from sw.model.data import GLYPHS_TRAIN, TensorImages, load_splits
from sw.model.evaluate import accuracy
from sw.model.original import load_original
from sw.model.quantize import load_quantized
from sw.run_dir import RunDir
from sw.stages import stage

_F = {**REGIMES["F"], "lr": BENCHMARKS["glyphs"].rates["F"]}
_FOUND = {"inner_scale": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "D+": {},
    "functions as found": _FOUND,
    "all constants learned": _FOUND,
    "F": {**_F, "inner_scale": True},
    "F, functions as found": _F,
    "F, all constants learned": _F,
    "starts from the swap": {"refit": "none"},
    "rate 5e-4": {"lr": 5e-4},
    "rate 2e-3": {"lr": 2e-3},
    "no distillation": {"kd_weight": 0.0},
    "features of blocks": {"feature_weight": 0.3},
    "earlier blocks slower": {"layer_decay": 0.8},
}
"""What differs from the run's own ``[align]``."""
LEARNED = ("all constants learned", "F, all constants learned")
"""Variants that train the functions' constants one by one."""
QUANTIZED: dict[str, dict[str, dict[str, Any]]] = {
    "D+, then calibrated": {},
    "D+, calibrated, an epoch": {"quantize": {"epochs": 1}},
    "quantization-aware from the refit on": {"align": {"epochs": 0}},
}
"""Ways to int8: what differs from the run's own sections; the last one is quantization-aware as long and as
fast as D+ trains."""
JUDGES, THIRD = 10_000, 2
"""How many images judge; the test split is the second part of its seed, they are the third."""
Task = tuple[int, str, str]
"""Seed, function set, variant; or seed, ``OURS``, way to int8."""


def tasks(seed: int) -> list[Task]:
    """All trainings: every variant of ours, and LayerNorm as D+ trains."""
    return [(seed, LAYERNORM, "D+"), *((seed, OURS, variant) for variant in VARIANTS)]


def judges(config: DataConfig) -> TensorImages:
    """Images that no other split has, normalised alike."""
    std, mean = torch.std_mean(glyphs.draw(GLYPHS_TRAIN, config.split_seed, 0)[0])
    images, labels = glyphs.draw(JUDGES, config.split_seed, THIRD)
    return TensorImages((images - mean) / std, labels, config.batch_size, background=None)


def measure_variant(plan: Plan, task: Task) -> dict[str, Any]:
    """One training: ``accuracy`` before it and after each epoch."""
    seed, functions, variant = task
    run = run_dir(plan, "glyphs", seed)
    config = dataclasses.replace(run.config.align, **VARIANTS[variant])
    splits, judging = load_splits(run.config.data, load_original(run)), judges(run.config.data)
    learn, label = variant in LEARNED, f"{functions}, {variant}"
    *_, reached = trained(run, functions, config, splits, judging, learn_constants=learn, label=label)
    return {"accuracy": reached}


def measure_quantized(plan: Plan, task: Task) -> dict[str, Any]:
    """One way to int8: ``accuracy``."""
    seed, _, way = task
    first = run_dir(plan, "glyphs", seed)
    root = first.root.with_name(f"{first.root.name}-int8-{list(QUANTIZED).index(way)}")
    if not root.exists():
        shutil.copytree(first.root, root)
    changes = dict(QUANTIZED[way])
    if "align" in changes:
        changes["quantize"] = {"epochs": first.config.align.epochs, "lr": first.config.align.lr}
    sections = {s: dataclasses.replace(getattr(first.config, s), **v) for s, v in changes.items()}
    run = RunDir(root, dataclasses.replace(first.config, name=root.name, **sections))
    for name in STAGES[: STAGES.index("quantize") + 1]:
        stage(name).run(run)
    return {"accuracy": accuracy(load_quantized(run), judges(run.config.data))}


def measure_all(plan: Plan, seed: int) -> dict[Task, dict[str, Any]]:
    """All trainings and all ways to int8, ``plan.jobs`` at a time; those of an earlier call are kept."""
    run = run_dir(plan, "glyphs", seed)
    for name in STAGES:
        stage(name).run(run)
    ways = [(seed, OURS, way) for way in QUANTIZED]
    found = measure_tasks(plan, tasks(seed), measure_variant, "variants", {}, _key)
    return found | measure_tasks(plan, ways, measure_quantized, "int8", {}, _key)


def document(seed: int, found: dict[Task, dict[str, Any]]) -> str:
    """The whole file."""
    rows = []
    for variant, settings in VARIANTS.items():
        reached = found[seed, OURS, variant]["accuracy"]
        changed = ", ".join(f"{key} {value}" for key, value in settings.items())
        figures = [f"{100 * value:.2f}" for value in (reached[0], reached[1], reached[-1])]
        rows.append((variant, changed or "as configured", *figures))
    head = ("variant", "align", "no epoch", "1 epoch", "all epochs")
    layernorm = found[seed, LAYERNORM, "D+"]["accuracy"]
    commits = ", ".join(sorted({(body["commit"] or "unknown")[:7] for body in found.values()}))
    integers = [(way, f"{100 * found[seed, OURS, way]['accuracy']:.2f}") for way in QUANTIZED]
    return (
        "# Variants of D+\n\n"
        f"Written by `python -m benchmarks.accuracy.variants`: `configs/glyphs.toml`, seed {seed}, "
        f"accuracy in % on {JUDGES:,} images of their own, one standard error about 0.3 points. Original: "
        f"{100 * layernorm[0]:.2f} %, with LayerNorm after D+: {100 * layernorm[-1]:.2f} %. Measured at "
        f"commit {commits}.\n\n"
        f"{table(head, rows)}\n\n{table(('as int8, ours', 'accuracy'), integers)}\n"
    )


def _key(plan: Plan, task: Task) -> str:
    seed, functions, what = task
    settings = VARIANTS[what] if what in VARIANTS else QUANTIZED[what]
    return hashed(functions, what, settings, base_key(plan, ("glyphs", seed)), file_digest(Path(__file__)))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=BENCHMARKS["glyphs"].first_seed, help="of the run")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--epochs", type=int, default=0, help="0: as many as the benchmark says")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    parser.add_argument("--cache", type=Path, default=Path("build/accuracy_bench"))
    args = parser.parse_args(argv)
    try:
        plan = Plan(
            benchmarks=("glyphs",),
            jobs=args.jobs,
            epochs=args.epochs,
            cache=args.cache.resolve(),
            overrides=tuple(args.overrides),
        )
        text = document(args.seed, measure_all(plan, args.seed))
    except InputError as error:
        print(f"variants: {error}", file=sys.stderr)
        return 2
    write_text(args.out / "variants.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
