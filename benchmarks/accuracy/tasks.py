"""Tasks that take minutes, each in a process of its own; what is done stays done."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import platform
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.accuracy.plan import Plan
from sw.files import file_digest, read_json, write_json
from sw.report.provenance import commit
from sw.terminal import progress

PACKAGES = ("torch", "timm", "brevitas")
MEASURING = ("measure.py", "plan.py")
"""Modules of this folder whose code decides what a figure is."""
Task = TypeVar("Task", bound=Hashable)


def measure_tasks(
    plan: Plan,
    tasks: Sequence[Task],
    do: Callable[[Plan, Task], dict[str, Any]],
    label: str,
    earlier: Mapping[str, dict[str, Any]],
    key: Callable[[Plan, Task], str],
) -> dict[Task, dict[str, Any]]:
    """Every task's figures: those of earlier calls where its key is the same; the others are measured.

    Args:
        plan: Where files go, and how many tasks are done at a time.
        tasks: In the order of the result.
        do: What a task gives, JSON; runs in a process of its own.
        label: Shown beside the progress bar.
        earlier: Figures by key.
        key: What a task's figures depend on.
    """
    keys = {task: key(plan, task) for task in tasks}
    files = {task: plan.cache / f"{do.__name__}-{keys[task]}.json" for task in tasks}
    missing = [task for task in tasks if keys[task] not in earlier and not files[task].exists()]
    plan.cache.mkdir(parents=True, exist_ok=True)
    by = made_by() | {"overrides": list(plan.overrides)}
    with (
        progress(label, len(missing)) as step,
        ProcessPoolExecutor(plan.jobs, multiprocessing.get_context("spawn")) as pool,
    ):
        futures = {
            pool.submit(_keep, do, plan, task, files[task], by | {"key": keys[task]}): task
            for task in missing
        }
        try:
            for future in as_completed(futures):
                future.result()
                step(str(futures[future]))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {task: earlier.get(keys[task]) or read_json(path) for task, path in files.items()}


def made_by() -> dict[str, Any]:
    """Commit and versions that figures come from."""
    versions = {name: metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()}
    return {"commit": commit(), "versions": versions}


def _keep(
    do: Callable[[Plan, Task], dict[str, Any]], plan: Plan, task: Task, path: Path, more: dict[str, Any]
) -> None:
    """Do a task and keep its figures, whatever becomes of others."""
    write_json(path, do(plan, task) | more)


def hashed(*parts: Any) -> str:
    """A key of what figures depend on, the code of ``MEASURING`` included."""
    own = [file_digest(Path(__file__).with_name(name)) for name in MEASURING]
    return hashlib.sha256(json.dumps([*parts, *own], sort_keys=True).encode()).hexdigest()[:20]
