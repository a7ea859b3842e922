"""What runs and arms are, and the figures that they give."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from benchmarks.accuracy.plan import (
    BENCHMARKS,
    FITTED,
    LAYERNORM,
    OURS,
    PUBLISHED_DYT,
    Arm,
    Plan,
)
from benchmarks.accuracy.tasks import hashed, measure_tasks
from gp.task import IRRELEVANT
from sw.config import REGIMES, AlignConfig
from sw.files import read_json
from sw.model.align import recipe, swapped, train_only
from sw.model.data import Images, Splits, load_splits
from sw.model.distil import Distillation, blocks_of
from sw.model.evaluate import accuracy
from sw.model.original import load_original
from sw.model.quantize import quantize_layernorms
from sw.model.refit import STEPS as REFIT_STEPS
from sw.model.refit import refit
from sw.model.settle import learn_inner_scales, settle
from sw.model.swap import read_chosen, read_plans
from sw.model.training import fit
from sw.run_dir import RunDir
from sw.stage import code_digest
from sw.stages import stage

STAGES = ("train", "capture", "evolve", "align", "quantize", "export")
OWN_ACCURACIES = ("original", "quantized", "integer")
KINDS = ("runs", "arms")
"""Of entries in ``accuracy.json``."""
REFITS = ("none", *REFIT_STEPS)


@dataclass(frozen=True, slots=True)
class Results:
    """What all runs and arms of a plan gave."""

    plan: Plan
    runs: dict[tuple[str, int], dict[str, Any]]
    arms: dict[Arm, dict[str, Any]]
    wall_s: float
    """Of this call; what was done before counts nothing."""


def measure(plan: Plan) -> Results:
    """All of a plan, ``plan.jobs`` at a time; an interrupted call is continued by the next.

    What an earlier call wrote into ``plan.kept`` is taken from there where configuration and code are still
    the same, so that seeds may be measured on different days.
    """
    start = time.monotonic()
    earlier = read_json(plan.kept) if plan.kept is not None and plan.kept.exists() else {}
    found = {body["key"]: body for kind in KINDS for body in earlier.get(kind, ())}
    finished = _finished(plan, found)
    runs = measure_tasks(plan, plan.runs(), measure_run, "accuracy bench: runs", finished, _run_key)
    arms = measure_tasks(plan, plan.arms(), measure_arm, "accuracy bench: arms", found, arm_key)
    return Results(plan, runs, arms, time.monotonic() - start)


def measure_run(plan: Plan, task: tuple[str, int]) -> dict[str, Any]:
    """A run's own stages, and every function set with no epoch at all.

    Returns:
        JSON: ``original``, ``quantized`` and ``integer`` (ours, the latter in integers alone) and
        ``quantized_layernorm``, accuracies; ``zero_shot``, function set -> accuracies after each of
        ``REFITS``; ``lut6``, function set -> predicted LUT6 of all sites.
    """
    run = run_dir(plan, *task)
    start = time.monotonic()
    for name in STAGES:
        stage(name).run(run)
    layernorm = load_original(run)
    splits = load_splits(run.config.data, layernorm)
    quantize_layernorms(run, layernorm, splits.calibration)
    body: dict[str, Any] = {
        **{which: read_json(run.accuracy(which))["accuracy"] for which in OWN_ACCURACIES},
        "quantized_layernorm": accuracy(layernorm, splits.test),
        "zero_shot": {},
        "lut6": {},
    }
    for functions in plan.functions:
        if functions != LAYERNORM:
            entries = function_set(run, functions)
            body["zero_shot"][functions] = _zero_shot(run, entries, splits)
            body["lut6"][functions] = _lut6(entries)
    return body | {"seconds": time.monotonic() - start}


def measure_arm(plan: Plan, arm: Arm) -> dict[str, Any]:
    """One training: accuracy after each epoch; for LayerNorm also as int8 in the end, for ours the LUT6.

    Where all weights are trained, so are the constants of the rivals' functions, and inner scales of ours if
    the configuration says so.
    """
    run = run_dir(plan, arm.benchmark, arm.seed)
    splits = load_splits(run.config.data, load_original(run))
    start = time.monotonic()
    config = align_config(run.config.align, arm)
    learn = arm.functions != OURS and config.trained == "all"
    model, entries, (_, *reached) = trained(
        run, arm.functions, config, splits, splits.test, learn_constants=learn, label=str(arm)
    )
    body: dict[str, Any] = {"epochs": reached, "seconds": time.monotonic() - start}
    if arm.functions == OURS:
        body["lut6"] = _lut6(entries)
    if arm.functions == LAYERNORM:
        quantize_layernorms(run, model, splits.calibration)
        body["quantized"] = accuracy(model, splits.test)
    return body


def run_dir(plan: Plan, benchmark: str, seed: int) -> RunDir:
    """Where the run of a seed is done: another configuration or other code has another folder."""
    config = plan.config(benchmark, seed)
    folder = f"{benchmark}-{base_key(plan, (benchmark, seed))[:8]}"
    return RunDir.create(dataclasses.replace(config, runs_dir=str(plan.cache / folder)))


def trained(
    run: RunDir,
    functions: str,
    config: AlignConfig,
    splits: Splits,
    judging: Images,
    *,
    learn_constants: bool,
    label: str,
) -> tuple[nn.Module, dict[str, dict[str, Any]], list[float]]:
    """A run's model with a set of functions, re-aligned; these; its accuracy before and after each epoch.

    Learned inner scales are settled in the end, so that the last accuracy is that of functions with a price.

    Args:
        run: Of the original model and the chosen functions.
        functions: One of ``FUNCTION_SETS``.
        config: How it is re-aligned.
        splits: Images to calibrate and train on.
        judging: Images of which the accuracies are.
        learn_constants: Whether the functions' constants are trained, too, as alpha of DyT is where it was
            published; LayerNorm has none.
        label: For the line of progress.
    """
    teacher, plans = load_original(run), read_plans(run)
    entries = {} if functions == LAYERNORM else function_set(run, functions)
    if functions == LAYERNORM:
        model = load_original(run, drop_path=config.drop_path)
    else:
        model = swapped(run, entries, drop_path=config.drop_path)
        if config.refit != "none":
            refit(model, teacher, plans, splits.calibration, upto=config.refit)
        if learn_constants:
            for site in plans:
                model.get_submodule(site).learn_constants()
    is_scaled = functions == OURS and config.inner_scale
    if is_scaled:
        learn_inner_scales(model, entries)
    train_only(model, config.trained)
    reached = [accuracy(model, judging)]

    def after_epoch(net: nn.Module) -> None:
        reached.append(accuracy(net, judging))

    fit(
        model,
        splits.train,
        Distillation(teacher, config, blocks_of(list(plans))),
        recipe(config),
        batch_size=run.config.data.batch_size,
        seed=run.config.seed,
        after_epoch=after_epoch,
        label=label,
    )
    if is_scaled:
        entries, _ = settle(model, entries, run.config)
        reached[-1] = accuracy(model, judging)
    return model, entries, reached


def align_config(own: AlignConfig, arm: Arm) -> AlignConfig:
    """A regime's settings, its learning rate as the benchmark has it; for our own those of the run.

    Where all weights are trained, functions of ours get inner scales if the run's own regime gives them any.
    """
    config = own
    if REGIMES[arm.regime]:
        settings = {**REGIMES[arm.regime], "lr": BENCHMARKS[arm.benchmark].rates[arm.regime]}
        config = dataclasses.replace(AlignConfig(), regime=arm.regime, epochs=own.epochs, **settings)
    is_scaled = own.inner_scale and arm.functions == OURS and config.trained == "all"
    return dataclasses.replace(config, inner_scale=is_scaled)


def _lut6(entries: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Predicted LUT6 of all sites; None where a function has no hardware."""
    prices = [entry.get("price_lut6") for entry in entries.values()]
    return sum(prices) if None not in prices else None


def function_set(run: RunDir, name: str) -> dict[str, dict[str, Any]]:
    """The functions of every site, as ``swap`` takes them."""
    chosen = read_chosen(run)
    if name == OURS:
        return chosen
    if name == PUBLISHED_DYT:
        return {site: {"expression": "tanh(0.5*x)", "scale": 1.0, "offset": 0.0} for site in chosen}
    return {site: entry["baselines"][FITTED[name]] for site, entry in chosen.items()}


def _zero_shot(run: RunDir, entries: Mapping[str, Mapping[str, Any]], splits: Splits) -> dict[str, float]:
    teacher, plans, found = load_original(run), read_plans(run), {}
    for name in REFITS:
        model = swapped(run, entries)
        if name != "none":
            refit(model, teacher, plans, splits.calibration, upto=name)
        found[name] = accuracy(model, splits.test)
    return found


def _finished(plan: Plan, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Of earlier results those of runs from which no arm has to start any more."""
    waiting = {(arm.benchmark, arm.seed) for arm in plan.arms() if arm_key(plan, arm) not in earlier}
    keys = {_run_key(plan, task) for task in plan.runs() if task not in waiting}
    return {key: body for key, body in earlier.items() if key in keys}


def base_key(plan: Plan, task: tuple[str, int], *, but: Sequence[str] = ()) -> str:
    """What a run and all that starts from it depend on: its configuration, and the code.

    Args:
        plan: The plan.
        task: Benchmark and seed.
        but: Settings of the search that do not count.
    """
    settings = plan.config(*task).to_dict()
    del settings["runs_dir"]
    for name in but:
        del settings["evolve"][name]
    return hashed(settings, code_digest("sw.model", "sw.ir", "gp"))


def _run_key(plan: Plan, task: tuple[str, int]) -> str:
    return hashed(base_key(plan, task), plan.functions)


def arm_key(plan: Plan, arm: Arm) -> str:
    """What an arm's figures depend on; which function of a front is taken counts for our own alone."""
    config = align_config(plan.config(arm.benchmark, arm.seed).align, arm)
    chosen_alike = () if arm.functions == OURS else IRRELEVANT
    base = base_key(plan, (arm.benchmark, arm.seed), but=chosen_alike)
    return hashed(dataclasses.asdict(arm), dataclasses.asdict(config), base)
