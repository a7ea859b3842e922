"""Jobs, each in a fresh process on one core; their results stay in a folder, so what was done stays done."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import queue
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sw.files import file_digest, read_json
from sw.ir.errors import InputError
from sw.stage import code_digest
from sw.terminal import progress

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
_CODE_OF = {"compete": ("benchmarks.gp_engines",)}
"""The packages whose code decides a kind of job; of all others it is that of gp, sw.ir and this one."""
_OWN = ("measure", "sites", "scoring", "variants", "published")
"""Modules of this package that decide what a job gives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Something to measure; every field decides the result."""

    kind: str
    """A key of ``measure.KINDS``."""
    site: str = ""
    run: str = "runs/digits"
    engine: str = ""
    variant: str = ""
    seed: int = 0
    seconds: float = 0.0
    detail: tuple[str, ...] = ()
    """Formulas, names of forms, or the file of the run that is scored; what they are the kind says."""

    def key(self) -> str:
        """A short digest of the job, its data and its code."""
        body = {**dataclasses.asdict(self), "code": _code(self.kind), "data": _data(self.run)}
        return f"{self.kind}-{hashlib.sha256(json.dumps(body).encode()).hexdigest()[:20]}"

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.engine, self.variant, self.site, f"seed {self.seed}")))


@functools.cache
def _code(kind: str) -> str:
    if kind in _CODE_OF:
        return code_digest(*_CODE_OF[kind])
    own = "".join(file_digest(Path(__file__).with_name(f"{name}.py")) for name in _OWN)
    return code_digest("gp", "sw.ir", "benchmarks.gp_engines") + own


@functools.cache
def _data(run: str) -> str:
    return file_digest(Path(run) / "captures.npz") + file_digest(Path(run) / "captures.json")


def result_file(job: Job, cache: Path) -> Path:
    """Where a job's result is."""
    return cache / f"{job.key()}.json"


def do_all(jobs: Sequence[Job], cache: Path, *, workers: int, label: str) -> dict[Job, Any]:
    """The results of all jobs; those that are not there yet are made, ``workers`` at a time."""
    cache.mkdir(parents=True, exist_ok=True)
    jobs = list(dict.fromkeys(jobs))
    missing = [job for job in jobs if not result_file(job, cache).exists()]
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    available = sorted(os.sched_getaffinity(0))
    if not 1 <= workers <= len(available):
        raise InputError(f"number of jobs must be 1..{len(available)} (cores of this machine), not {workers}")
    for core in available[-workers:]:
        cores.put(core)
    with progress(label, len(missing)) as step, ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(_do, job, cache, cores): job for job in missing}
        try:
            for future in as_completed(futures):
                future.result()
                step(str(futures[future]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {job: read_json(result_file(job, cache))["result"] for job in jobs}


def _do(job: Job, cache: Path, cores: queue.SimpleQueue[int]) -> None:
    core = cores.get()
    try:
        made = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.gp_bench.measure"),
                *(json.dumps(dataclasses.asdict(job)), str(result_file(job, cache)), str(core)),
            ],
            env=os.environ | ONE_THREAD,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        cores.put(core)
    if made.returncode:
        raise RuntimeError(f"'{job}' failed:\n{made.stderr[-3000:]}")
