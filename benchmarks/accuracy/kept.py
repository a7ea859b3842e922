"""What an earlier call left in ``accuracy.json``, beside what this one measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.measure import KINDS, Results
from benchmarks.accuracy.plan import BENCHMARKS, FUNCTION_SETS, LAYERNORM, REGIME_NAMES, Arm, Plan


def with_kept(results: Results, earlier: Mapping[str, Any]) -> Results:
    """Results, and from an earlier call's ``accuracy.json`` what this one did not measure.

    That is taken as it is, whatever code it was measured with, if it is complete, of as many epochs, with the
    same overrides, and of the same models and functions: other benchmarks, and, where all is complete then,
    other function sets and regimes.
    """
    earlier = {k: [body for body in earlier.get(k, ()) if _is_alike(body, results.plan)] for k in KINDS}
    runs = {(body["benchmark"], body["seed"]): body for body in earlier["runs"]}
    other = {task for task, run in results.runs.items() if not _is_of_one_model(runs.get(task, run), run)}
    arms = {Arm.of(body): body for body in earlier["arms"] if (body["benchmark"], body["seed"]) not in other}
    joined = runs | {
        task: run if task in other or task not in runs else _joined(runs[task], run)
        for task, run in results.runs.items()
    }
    whole = dataclasses.replace(results, runs=joined, arms=arms | results.arms)
    plan = dataclasses.replace(results.plan, functions=FUNCTION_SETS, regimes=REGIME_NAMES)
    if not all(_is_complete(whole, plan, name) for name in plan.benchmarks):
        plan = results.plan
    shown = [n for n in BENCHMARKS if n in plan.benchmarks or _is_complete(whole, plan, n)]
    plan = dataclasses.replace(plan, benchmarks=tuple(shown))
    return dataclasses.replace(
        whole,
        plan=plan,
        runs={task: whole.runs[task] for task in plan.runs()},
        arms={arm: whole.arms[arm] for arm in plan.arms()},
    )


def _is_of_one_model(earlier: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Whether two entries of a run show the same original model and, where both have them, functions."""
    return earlier.get("original") == run["original"] and all(
        earlier[key].get(functions, found) == found
        for key in ("zero_shot", "lut6")
        for functions, found in run[key].items()
    )


def _joined(earlier: Mapping[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """A run's entry, with the function sets of an earlier one of the same original model."""
    return run | {key: earlier[key] | run[key] for key in ("zero_shot", "lut6")}


def _is_complete(results: Results, plan: Plan, name: str) -> bool:
    """Whether there is all of a benchmark that a plan wants."""
    alone = dataclasses.replace(plan, benchmarks=(name,))
    shown = {functions for functions in plan.functions if functions != LAYERNORM}
    runs = [results.runs.get(task, {}) for task in alone.runs()]
    arms = [results.arms.get(arm, {}) for arm in alone.arms()]
    return all("integer" in run and shown <= set(run["zero_shot"]) for run in runs) and all(
        len(arm.get("epochs", ())) == alone.epochs_of(name) for arm in arms
    )


def _is_alike(body: Mapping[str, Any], plan: Plan) -> bool:
    """Whether an entry is of the same configuration."""
    return tuple(body.get("overrides", ())) == plan.overrides
