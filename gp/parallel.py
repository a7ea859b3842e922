"""Tasks over processes: results arrive as they finish, are kept at once, and do not depend on the workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from sw.terminal import progress

Job = TypeVar("Job")
Result = TypeVar("Result")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""A worker a core: threads of its linear algebra would only wait for each other."""
ATTEMPTS = 3
"""Pools that are tried when workers die; what is done stays done."""


def run_all(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    keep: Callable[[Job, Result], None],
    *,
    workers: int,
    label: str,
    name_of: Callable[[Job], str],
    scheduler: str = "",
) -> None:
    """Do all jobs and hand every result to ``keep`` as soon as it is there, in this process.

    ``work`` must be a function of a module, so that a fresh process can import it. ``workers`` 0 means one
    process a core, and 1 means none but this one. The dask cluster of ``scheduler``, an address such as
    ``tcp://host:8786``, does all of it in their place where one is given.
    """
    if scheduler:
        from gp.cluster import run_on_cluster

        run_on_cluster(work, jobs, keep, address=scheduler, label=label, name_of=name_of)
        return
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    with progress(label, len(jobs)) as advance:
        if workers <= 1:
            for job in jobs:
                keep(job, work(job))
                advance(name_of(job))
            return
        rest = list(jobs)
        for attempt in range(ATTEMPTS):
            rest = _pooled(work, rest, keep, workers, lambda job: advance(name_of(job)))
            if not rest:
                return
            print(f"{label}: a worker died (attempt {attempt + 1} of {ATTEMPTS})", file=sys.stderr)
    raise RuntimeError(f"{label}: workers keep dying; {len(rest)} tasks are left, such as {name_of(rest[0])}")


def _pooled(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    keep: Callable[[Job, Result], None],
    workers: int,
    advance: Callable[[Job], None],
) -> list[Job]:
    """Do the jobs in one pool; the jobs that are left where a worker died."""
    left = dict(enumerate(jobs))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    before = {name: os.environ.get(name) for name in THREADS}
    others = multiprocessing.active_children()
    try:
        os.environ.update(dict.fromkeys(THREADS, "1"))  # read when a worker first imports numpy
        futures: dict[Future[Result], int] = {pool.submit(work, job): i for i, job in left.items()}
        for future in as_completed(futures):
            index = futures[future]
            keep(left[index], future.result())
            advance(left.pop(index))
    except BrokenProcessPool:
        return list(left.values())
    except BaseException:
        # Leaving would wait for the tasks that run; they are done anew when the run goes on.
        for worker in set(multiprocessing.active_children()) - set(others):
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return []


def _start_worker() -> None:
    """Ctrl-C ends a worker without a traceback, and so does the end of its parent, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)
