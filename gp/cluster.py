"""Tasks over a dask cluster: what ``gp.parallel`` does with processes of this machine, on many machines.

Every task runs in a process of its own, which the dask worker that got the task starts. Evolution draws
from the one ``random`` of its process, so tasks in the threads of a worker would mix their streams; and a
process, unlike a thread, can be ended when nobody waits for its result any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import pickle
import pkgutil
import signal
import subprocess
import sys
import threading
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gp.parallel import ATTEMPTS, THREADS
from sw.ir.errors import InputError
from sw.stage import code_digest
from sw.terminal import progress

Job = TypeVar("Job")
Result = TypeVar("Result")

CODE = ("gp", "sw.ir")
"""What must be the same on all machines: results depend on it."""
ANSWER_WITHIN_S = 5.0
"""A scheduler that has not answered by then counts as unreachable."""
LOOK_EVERY_S = 0.5
"""How soon a worker notices that a task is no longer wanted."""
LOGGERS = ("distributed", "tornado", "asyncio")
"""What distributed says to a log, it also raises."""


class TaskDiedError(Exception):
    """The process of a task ended without a result."""


def run_on_cluster(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    keep: Callable[[Job, Result], None],
    *,
    address: str,
    label: str,
    name_of: Callable[[Job], str],
) -> None:
    """Do all jobs on a cluster and hand every result to ``keep`` as soon as it is there, in this process.

    ``work`` must be a function of a module that the workers can import. Relative paths mean what they mean
    here. A lost worker's tasks are done again by others. However this ends, the cluster lives on and does
    no more for it.

    Args:
        address: Of the dask scheduler, such as ``tcp://host:8786``.

    Raises:
        InputError: No scheduler there, or its workers lack a file or a package; and what ``work`` raises.
        RuntimeError: Tasks keep killing their processes.
    """
    if not jobs:
        return
    calls = [_call(work, job) for job in jobs]
    with _quiet(), _connected(address, label) as client, progress(label, len(jobs)) as advance:
        # Nothing else holds a future: the cluster forgets a result when the last one goes.
        left = dict(zip(_submit(client, calls, label), jobs, strict=True))
        for future in _distributed().as_completed(list(left), loop=client.loop):
            try:
                result = _result(future, address)
            except TaskDiedError as error:
                raise RuntimeError(
                    f"{label}: workers keep dying; {len(left)} tasks are left, such as "
                    f"{name_of(left[future])}: {error}"
                ) from error
            job = left.pop(future)
            keep(job, result)
            advance(name_of(job))


def _submit(client: Any, calls: Sequence[bytes], label: str) -> Any:
    # Fresh keys: a result that the cluster still remembers may be of other code.
    keys = [f"{label}-{uuid.uuid4().hex}" for _ in calls]
    return client.map(run_alone, calls, key=keys, retries=ATTEMPTS - 1)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            f"a scheduler must have dask.distributed: pip install '.[cluster]' in the clone ({error})"
        ) from error
    return distributed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Of what goes wrong with a cluster, the user hears from us, in one line."""
    distributed = _distributed()
    # Every one of them: a logger with a level of its own does not ask its parent.
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in LOGGERS]
    loud = [logging.getLogger(name) for name in names]
    levels = [log.level for log in loud]
    for log in loud:
        log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", distributed.versions.VersionMismatchWarning)
            yield
    finally:
        for log, level in zip(loud, levels, strict=True):
            log.setLevel(level)


@contextlib.contextmanager
def _connected(address: str, label: str) -> Iterator[Any]:
    """A client of the scheduler; leaving withdraws what is not done."""
    distributed = _distributed()
    try:
        _check(address)
        client = distributed.Client(address, timeout=ANSWER_WITHIN_S, set_as_default=False)
    except (OSError, ImportError, TypeError, ValueError) as error:
        raise InputError(f"scheduler '{address}' cannot be reached: {_reason(error)}") from error
    with client:
        try:
            _inspect(client, address, label)
        except OSError as error:
            raise _lost(address) from error
        yield client


def _check(address: str) -> None:
    """See that a scheduler is at the address: a client of anything else may wait for ever."""
    from distributed.security import Security
    from distributed.utils import LoopRunner

    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or not parts.port:
        raise ValueError("it must be an address such as 'tcp://host:8786'")
    kind = LoopRunner().run_sync(_kind, address, Security().get_connection_args("client"))
    if kind != "Scheduler":
        raise ValueError(f"there is a dask {kind.lower()}")


async def _kind(address: str, connection_args: dict[str, Any]) -> str:
    from distributed.core import rpc

    async with rpc(address, timeout=ANSWER_WITHIN_S, connection_args=connection_args) as remote:
        try:
            # The rpc's own timeout does not cover a peer that accepts and stays silent.
            identity = await asyncio.wait_for(remote.identity(), ANSWER_WITHIN_S + 1)
        except (TimeoutError, MemoryError):  # dask takes the first words of another protocol for a length
            raise ConnectionError("what answers there is no dask scheduler") from None
    return str(identity["type"])


def _inspect(client: Any, address: str, label: str) -> None:
    """See that the cluster can do our tasks, and mention what else a user may want to know of it."""
    # A function of the standard library: a worker of dask ends when a task's own cannot be imported.
    question = (pkgutil.resolve_name, f"{__name__}:__name__")
    try:
        client.run_on_scheduler(*question)
        for answer in client.run(*question, on_error="return").values():
            if isinstance(answer, ImportError):
                raise answer
    except ImportError as error:
        raise InputError(f"scheduler and workers of '{address}' must have normforge: {error}") from error
    others = _other_versions(client.get_versions())
    if others:
        print(f"{label}: '{address}' has other versions of {', '.join(others)}", file=sys.stderr)
    if not client.nthreads():
        print(f"{label}: '{address}' has no workers now, waiting for them", file=sys.stderr)


def _lost(address: str) -> InputError:
    return InputError(f"scheduler '{address}' was lost or dropped the tasks; run again to go on")


def _reason(error: BaseException) -> str:
    """The first line of the deepest cause that says something."""
    said = str(error)
    while error.__cause__ is not None:
        error = error.__cause__
        said = str(error) or said
    return said.splitlines()[0] if said else type(error).__name__


def _other_versions(versions: dict[str, Any]) -> list[str]:
    """The packages of which scheduler or workers have other versions than this process."""
    here = versions["client"]["packages"]
    nodes = [versions["scheduler"], *versions["workers"].values()]
    return sorted({p for n in nodes for p, version in n["packages"].items() if version != here.get(p)})


def _result(future: Any, address: str) -> Any:
    """What the task returned; or raises what it raised, in the words of a user where it is his to mend."""
    distributed = _distributed()
    try:
        result, error = pickle.loads(future.result())
    except distributed.scheduler.KilledWorker as killed:
        raise TaskDiedError(f"{killed.allowed_failures + 1} workers died of it") from killed
    except (distributed.CancelledError, OSError) as lost:
        raise _lost(address) from lost
    if isinstance(error, ImportError):
        raise InputError(f"the workers of '{address}' must have what is installed here: {error}") from error
    if isinstance(error, OSError) and error.filename is not None:
        path = os.path.join(os.getcwd(), error.filename)
        raise InputError(
            f"the workers of '{address}' cannot read '{path}': the cluster must share that folder"
        ) from error
    if error is not None:
        raise error
    return result


def _call(work: Callable[[Job], Result], job: Job) -> bytes:
    """All that a fresh process needs; other code may fail to read the inner part."""
    return pickle.dumps((code_digest(*CODE), os.getcwd(), pickle.dumps((work, job))))


def run_alone(call: bytes) -> bytes:
    """Make a pickled call in a fresh process; its pickled outcome. Runs in a dask worker.

    Raises:
        TaskDiedError: The process ended without an outcome.
    """
    from distributed import Reschedule, get_worker

    worker = get_worker()
    key = worker.get_current_task()
    link, far_end = multiprocessing.Pipe()
    with link:
        with far_end:
            child = _start(far_end.fileno())
        try:
            link.send_bytes(call)
            while not link.poll(LOOK_EVERY_S):
                task = worker.state.tasks.get(key)
                if task is None or task.state == "cancelled":
                    raise Reschedule  # heeded only if somebody wants it after all
            return link.recv_bytes()
        except (EOFError, ConnectionError) as error:
            raise TaskDiedError(f"its process ended with status {child.wait()}") from error
        finally:
            child.kill()
            child.wait()


def _start(end: int) -> subprocess.Popen[bytes]:
    """A process that answers the call it reads from a file descriptor.

    Not of multiprocessing: dask's workers are daemons, which must not have children there.
    """
    code = f"from gp.cluster import _answer; _answer({end})"
    variables = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-P", "-c", code], pass_fds=[end], env=variables)


def _answer(end: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    link = Connection(end)
    call = link.recv_bytes()
    threading.Thread(target=_follow_worker, args=(link,), daemon=True).start()
    link.send_bytes(_outcome(call))


def _follow_worker(link: Connection) -> None:
    """End with the worker, however it ends: it sends no more, so reading ends when its side is closed."""
    with contextlib.suppress(EOFError, OSError):
        link.recv_bytes()
    os._exit(1)


def _outcome(call: bytes) -> bytes:
    """The pickled pair of what the call returned and what it raised."""
    try:
        code, folder, task = pickle.loads(call)
        if code != code_digest(*CODE):
            raise ImportError("their code of normforge is not the code here")
        work, job = pickle.loads(task)
        # Where that folder is missing, a relative path must not find another file of that name.
        os.chdir(folder if os.path.isdir(folder) else os.sep)
        return pickle.dumps((work(job), None))
    except Exception as error:
        if not isinstance(error, InputError):
            error.add_note(traceback.format_exc())  # which no pickle carries
        return pickle.dumps((None, error))
