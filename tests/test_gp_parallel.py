"""Tasks over processes: every result once, whatever the workers do."""

import math
import os
import time

import pytest

from gp.parallel import run_all


def collect(work, jobs, workers):
    kept = {}
    run_all(work, jobs, kept.__setitem__, workers=workers, label="test", name_of=str)
    return kept


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once(workers):
    assert collect(math.sqrt, [1.0, 4.0, 9.0], workers) == {1.0: 1.0, 4.0: 2.0, 9.0: 3.0}


def test_no_jobs_is_no_work():
    assert collect(math.sqrt, [], 2) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_job_raises_comes_out(workers):
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        collect(math.sqrt, [-1.0, 4.0], workers)


@pytest.fixture
def dying_once(tmp_path, monkeypatch):
    """A module whose function ends its process the first time that it sees the job 3."""
    (tmp_path / "dying_once.py").write_text(
        "import os, pathlib\n"
        "def work(job):\n"
        f"    mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "    if job == 3 and not mark.exists():\n"
        "        mark.touch()\n"
        "        os._exit(1)\n"
        "    return job * job\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import dying_once

    return dying_once.work


def test_a_lost_workers_jobs_are_done_again(dying_once, capsys):
    assert collect(dying_once, [1, 2, 3, 4, 5], 2) == {n: n * n for n in range(1, 6)}
    assert "a worker died (attempt 1 of 3)" in capsys.readouterr().err


def test_workers_that_keep_dying_are_given_up():
    with pytest.raises(RuntimeError, match="test: workers keep dying; 2 tasks are left, such as 7"):
        collect(os._exit, [7, 8], 2)


def test_workers_end_with_their_parent(tmp_path):
    import signal
    import subprocess
    import sys

    (tmp_path / "slow_job.py").write_text(
        "import os, pathlib, time\n"
        "def work(job):\n"
        f"    (pathlib.Path({str(tmp_path)!r}) / f'pid{{job}}').write_text(str(os.getpid()))\n"
        "    time.sleep(60)\n"
    )
    (tmp_path / "main.py").write_text(
        "from gp.parallel import run_all\n"
        "from slow_job import work\n"
        "if __name__ == '__main__':\n"
        "    run_all(work, [0, 1], print, workers=2, label='test', name_of=str)\n"
    )
    parent = subprocess.Popen([sys.executable, "main.py"], cwd=tmp_path)
    pids = [tmp_path / "pid0", tmp_path / "pid1"]
    wait_for(lambda: all(p.exists() and p.read_text() for p in pids))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not any(is_running(int(p.read_text())) for p in pids))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
