"""What a benchmark's process does: one job, pinned to one core.

``python -m benchmarks.gp_bench.measure JOB RESULT CORE`` with the job as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gp_bench import published, variants
from benchmarks.gp_bench.jobs import Job
from benchmarks.gp_bench.scoring import Judge, best_formulas, mark_json, paired, short
from benchmarks.gp_bench.sites import load_site
from benchmarks.gp_engines.engines import load
from gp.baselines import fit_forms
from gp.ceiling import estimate_ceiling
from gp.exceptions import ceiling_beside
from gp.task import evolve_site, run_task
from sw.config import EvolveConfig
from sw.config import load as load_config
from sw.files import read_json, write_json
from sw.ir.parse import parse

RESERVE_S = 12.0
"""Of our seconds, for all that is done before and after the search itself."""
SEARCH_SHARE = 0.5
"""The search gets so much of few seconds."""
CONFIG = "configs/digits.toml"


def ours(job: Job) -> dict[str, Any]:
    """A task as ``run_task`` does it, cut off by the benchmark's reader where it took too long.

    An ablation's variant searches for the whole of the job's seconds.
    """
    site = load_site(job.site, Path(job.run))
    is_main = not job.variant
    variant = job.variant or variants.FULL
    search_s = max(job.seconds * SEARCH_SHARE, job.seconds - RESERVE_S) if is_main else job.seconds
    endless = {"generations": 10**6, "stop_ratio": 2.0, "patience": 0, "seeds": 1}
    settings = EvolveConfig(**endless, budget_s=search_s, **variants.SETTINGS.get(variant, {}))
    task = site.task(settings, index=job.seed, run=Path(job.run))
    judge = Judge(site)
    with variants.applied(variant):
        wall, cpu = time.monotonic(), time.process_time()
        lowering = judge.lowering()
        lowering.offer_clamps()
        known = {} if variant in variants.NO_FORMS else fit_forms(site.split)
        found = evolve_site(task, site.split, lowering, [form.expr for form in known.values()])
        lowering.front()
        seconds, cpu_s = time.monotonic() - wall, time.process_time() - cpu
    limit = job.seconds if is_main else math.inf
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "search_s": search_s,
        "evaluations": found.evaluations,
        "distinct": found.evaluations,
        "repeats": found.repeats,
        "generations": found.generations,
        "front": [asdict(p) for p in judge.exact(m.priced for m in lowering.history if m.seconds <= limit)],
        "marks": [mark_json(m.seconds, judge.point(m.priced)) for m in lowering.history],
    }


def compete(job: Job) -> dict[str, Any]:
    """Another engine's run: its formulas, as it found them."""
    split = load_site(job.site, Path(job.run)).split
    engine = load(job.engine)
    cpu = time.process_time()
    result = engine(split.x, split.y, seconds=job.seconds, seed=job.seed)
    return {
        "seconds": result.seconds,
        "cpu_s": time.process_time() - cpu,
        "evaluations": result.evaluations,
        "distinct": result.distinct,
        "steps": [{"seconds": s.seconds, "expr": str(short(s.expr))} for s in result.steps],
    }


def score(job: Job) -> dict[str, Any]:
    """Hardware of the formulas of a run; where the variant says so, also in the order of time."""
    judge = Judge(load_site(job.site, Path(job.run)))
    steps = [(s["seconds"], parse(s["expr"])) for s in read_json(Path(job.detail[0]))["result"]["steps"]]
    chosen = best_formulas(judge, [expr for _, expr in steps])
    exprs = [expr for expr, _ in chosen]
    usable = [(t, e) for t, e in steps if np.isfinite(judge.float_r2(e)[0])]
    body: dict[str, Any] = {
        "float_r2": [held for _, held in chosen],
        "as written": [asdict(p) for p in judge.as_written(exprs)],
        "our lowering": [asdict(p) for p in judge.lowered(exprs)],
        "marks": judge.in_time(usable) if job.variant == "in time" else [],
    }
    return body | {"given_up": judge.given_up}


def baselines(job: Job) -> dict[str, Any]:
    """The known forms, fitted: their R^2 in float64, and their hardware. And the site's ceiling."""
    site = load_site(job.site, Path(job.run))
    judge = Judge(site)
    forms = {
        name: {
            "r2": form.r2,
            "as written": [asdict(p) for p in judge.as_written([form.expr])],
            "our lowering": [asdict(p) for p in judge.lowered([form.expr])],
        }
        for name, form in fit_forms(site.split, job.detail or None).items()
    }
    ceiling = max(estimate_ceiling(site.split), ceiling_beside(site.split, site.input))
    return {"ceiling": ceiling, "forms": forms, "given_up": judge.given_up}


def compare(job: Job) -> list[tuple[float, float]]:
    """R^2 difference and its standard error for pairs of formulas: ours, other, ours, other..."""
    judge = Judge(load_site(job.site, Path(job.run)))
    return [paired(judge, *pair) for pair in zip(job.detail[::2], job.detail[1::2], strict=True)]


def default(job: Job) -> dict[str, Any]:
    """The seconds of a task with the settings of the digits run."""
    site = load_site(job.site, Path(job.run))
    task = site.task(load_config(CONFIG).evolve, index=0, run=Path(job.run))
    start = time.monotonic()
    result = run_task(task)
    seconds = time.monotonic() - start
    return {"seconds": seconds, "generations": result["generations"], "stopped_by": result["stopped_by"]}


def describe_published(job: Job) -> dict[str, Any]:
    return published.describe(job.detail[0])


KINDS: dict[str, Callable[[Job], Any]] = {
    "ours": ours,
    "compete": compete,
    "score": score,
    "baselines": baselines,
    "compare": compare,
    "default": default,
    "published": describe_published,
}


def main() -> None:
    fields, result, core = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    body = json.loads(fields)
    job = Job(**body | {"detail": tuple(body["detail"])})
    write_json(Path(result), {"job": dataclasses.asdict(job), "result": KINDS[job.kind](job)})


if __name__ == "__main__":
    main()
