"""Tasks over a dask cluster: what local processes give, whatever scheduler and workers do."""

import logging
import math
import os
import signal
import socket
import sys
import threading

import numpy as np
import pytest
from distributed import Client, LocalCluster

import gp.cluster
from gp.evolve import evolve_pairs
from gp.parallel import run_all
from sw.ir.errors import InputError
from sw.stage import code_digest
from tests.test_gp_parallel import is_running, wait_for

pytestmark = pytest.mark.xdist_group("cluster")

WORK = '''
import os, pathlib, random, signal, time
from sw.ir.errors import InputError

def draw(seed):
    """Draws of the one random of a process, with time for others to draw between."""
    random.seed(seed)
    return [(time.sleep(0.01), random.random())[1] for _ in range(20)]

def nap(seconds):
    pathlib.Path(f"pid{seconds}").write_text(str(os.getpid()))
    time.sleep(seconds)

def square_odd(number):
    if number % 2 == 0:
        raise InputError(f"number must be odd, not {number}")
    return number * number

def square_killing_itself_once(number):
    return _square_killing_once(number, os.getpid())

def square_killing_its_worker_once(number):
    return _square_killing_once(number, os.getppid())

def _square_killing_once(number, process):
    mark = pathlib.Path("mark")
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(process, signal.SIGKILL)
        time.sleep(60)
    return number * number

def kill_its_worker(number):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
'''


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A module that a cluster started after it can import."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "cluster_work.py").write_text(WORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        import cluster_work

        yield cluster_work


@pytest.fixture(scope="module")
def cluster(work):
    options = {"dashboard_address": ":0", "scheduler_kwargs": {"allowed_failures": 1}}
    with LocalCluster(n_workers=2, threads_per_worker=2, processes=True, **options) as cluster:
        yield cluster


@pytest.fixture
def address(cluster, monkeypatch):
    # Without its cache: somebody may edit a file while the tests run, and each test is for itself.
    monkeypatch.setattr(gp.cluster, "code_digest", code_digest.__wrapped__)
    return cluster.scheduler_address


@pytest.fixture
def _hasty(monkeypatch):
    monkeypatch.setattr(gp.cluster, "ANSWER_WITHIN_S", 0.5)


def collect(work, jobs, scheduler="", workers=1):
    kept = {}
    settings = {"workers": workers, "label": "test", "name_of": str}
    run_all(work, jobs, kept.__setitem__, scheduler=scheduler, **settings)
    return kept


def test_results_are_those_of_local_processes(work, address):
    here = collect(work.draw, range(4))
    assert collect(work.draw, range(4), workers=2) == here
    # All at once, two in every worker: a shared random would mix their draws.
    assert collect(work.draw, range(4), address) == here


def kill_a_worker(cluster, after, done):
    """SIGKILL to a worker's process as soon as a folder holds a file; notes how many it held then."""
    wait_for(lambda: list(after.glob("*.json")), seconds=90)
    done.append(len(list(after.glob("*.json"))))
    os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)


def test_evolution_is_the_same_here_and_on_a_cluster_that_loses_a_worker(cluster, address, tmp_path):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(2, 1500))
    x = np.exp(0.4 * rng.normal(size=y.shape)) * y
    np.savez(tmp_path / "pairs.npz", a_x=x[0], a_y=y[0], b_x=x[1], b_y=y[1])
    quick = {"in_width": 10, "out_width": 5, "generations": 1, "population": 20}
    here = evolve_pairs(tmp_path / "pairs.npz", tmp_path / "here", jobs=1, **quick)
    done = []
    killer = threading.Thread(target=kill_a_worker, args=(cluster, tmp_path / "far" / "evolve", done))
    killer.start()
    far = evolve_pairs(tmp_path / "pairs.npz", tmp_path / "far", scheduler=address, **quick)
    killer.join()
    assert done[0] < 4, "two sites, two seeds: the worker had something left to do"
    assert far.functions.read_bytes() == here.functions.read_bytes()
    for site in ("a", "b"):
        assert far.program(site).read_bytes() == here.program(site).read_bytes()


def test_no_jobs_is_no_work():
    assert collect(math.sqrt, [], "tcp://nobody:1") == {}


def test_a_result_is_kept_at_once_and_an_interrupt_withdraws_the_rest(work, address, tmp_path):
    jobs = [0, 60, 61, 62, 63]

    def pids():
        return [int(text) for path in tmp_path.glob("pid6?") if (text := path.read_text())]

    def keep(job, result):
        assert (job, result) == (0, None)
        wait_for(lambda: len(pids()) >= 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(work.nap, jobs, keep, workers=1, label="test", name_of=str, scheduler=address)
    wait_for(lambda: not any(map(is_running, pids())))
    assert collect(math.sqrt, [4.0], address) == {4.0: 2.0}


@pytest.mark.parametrize("name", ["square_killing_itself_once", "square_killing_its_worker_once"])
def test_a_lost_task_is_done_again(work, address, tmp_path, name):
    assert collect(getattr(work, name), [1, 2, 3, 4], address) == {1: 1, 2: 4, 3: 9, 4: 16}
    assert (tmp_path / "mark").exists()


def test_tasks_that_keep_dying_are_given_up(address):
    message = "test: workers keep dying; 1 tasks are left, such as 7: its process ended with status 7"
    with pytest.raises(RuntimeError, match=message):
        collect(os._exit, [7], address)


def test_tasks_that_keep_killing_workers_are_given_up(work, address):
    message = "test: workers keep dying; 1 tasks are left, such as 7: 2 workers died of it"
    with pytest.raises(RuntimeError, match=message):
        collect(work.kill_its_worker, [7], address)


def test_what_a_job_raises_comes_out(work, address):
    with pytest.raises(InputError, match=r"^number must be odd, not 4$"):
        collect(work.square_odd, [1, 4], address)
    with pytest.raises(ValueError, match=r"math domain error|nonnegative") as raised:
        collect(math.sqrt, [-1.0, 4.0], address)
    assert "in _outcome" in raised.value.__notes__[0]


def test_relative_paths_mean_what_they_mean_here(address, tmp_path, monkeypatch):
    assert collect(os.path.abspath, ["x"], address) == {"x": str(tmp_path / "x")}
    monkeypatch.setattr(os, "getcwd", lambda: "/folder/of/this/machine")
    assert collect(os.path.abspath, ["x"], address) == {"x": "/x"}


def test_a_file_that_workers_cannot_read(address, tmp_path):
    path = tmp_path / "pairs.npz"
    message = f"^the workers of '{address}' cannot read '{path}': the cluster must share that folder$"
    for job in ("pairs.npz", path):
        with pytest.raises(InputError, match=message):
            collect(np.load, [job], address)


def test_a_package_that_workers_lack(address, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def work(job): ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here

    message = f"^the workers of '{address}' must have what is installed here: No module named 'only_here'$"
    with pytest.raises(InputError, match=message):
        collect(only_here.work, [1], address)


def test_a_cluster_without_this_package(address, monkeypatch):
    monkeypatch.setattr(gp.cluster, "__name__", "gp.of_another_version")
    message = f"^scheduler and workers of '{address}' must have normforge: No module .*of_another_version'$"
    with pytest.raises(InputError, match=message):
        collect(math.sqrt, [1.0], address)
    monkeypatch.setattr(Client, "run_on_scheduler", lambda *question: None)
    with pytest.raises(InputError, match=message):
        collect(math.sqrt, [1.0], address)


def test_workers_with_other_code(address, monkeypatch):
    monkeypatch.setattr(gp.cluster, "code_digest", lambda *packages: "another")
    with pytest.raises(InputError, match=r"installed here: their code of normforge is not the code here$"):
        collect(math.sqrt, [1.0], address)


def test_other_versions_are_mentioned(address, monkeypatch, capsys):
    import distributed.versions

    versions = distributed.versions.get_versions()
    versions["packages"]["toolz"] = "0"
    # The scheduler is in this process and says the same; the workers are not.
    monkeypatch.setattr(distributed.versions, "get_versions", lambda packages=None: versions)
    assert collect(math.sqrt, [4.0], address) == {4.0: 2.0}
    assert f"test: '{address}' has other versions of toolz\n" in capsys.readouterr().err


def test_a_scheduler_that_ends(capsys):
    with LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address

        def end():
            wait_for(lambda: cluster.scheduler.tasks)
            cluster.close()

        ending = threading.Thread(target=end)
        ending.start()
        with pytest.raises(
            InputError, match=f"^scheduler '{address}' was lost or dropped the tasks; run again"
        ):
            collect(math.sqrt, [1.0], address)
        ending.join()
    assert capsys.readouterr().err == f"test: '{address}' has no workers now, waiting for them\n"


def test_the_logs_of_dask_are_quiet_meanwhile(address):
    log = logging.getLogger("distributed.client")
    heard = []

    def keep(job, result):
        heard.append(log.isEnabledFor(logging.CRITICAL))

    run_all(math.sqrt, [4.0], keep, workers=1, label="test", name_of=str, scheduler=address)
    assert [*heard, log.isEnabledFor(logging.CRITICAL)] == [False, True]


@pytest.mark.parametrize(
    "address", ["head", "head:8786", "tcp://", "tcp://head", "http://head:8786", "tcp://:1"]
)
def test_an_address_that_is_none(address):
    message = f"^scheduler '{address}' cannot be reached: it must be an address such as 'tcp://host:8786'$"
    with pytest.raises(InputError, match=message):
        collect(math.sqrt, [1.0], address)


def test_an_address_with_a_port_that_is_none():
    with pytest.raises(InputError, match="tcp://head:99999' cannot be reached: Port out of range"):
        collect(math.sqrt, [1.0], "tcp://head:99999")


@pytest.mark.usefixtures("_hasty")
def test_nobody_at_the_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    # Dask tries until the time is over, which may cut the last refusal short.
    message = f"^scheduler '{address}' cannot be reached: .*(Connection refused|Timed out)"
    with pytest.raises(InputError, match=message):
        collect(math.sqrt, [1.0], address)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.9\r\n"])
def test_another_server_at_the_address(greeting):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        accepted = []

        def greet():
            accepted.append(server.accept()[0])
            accepted[0].sendall(greeting)

        greeting_thread = threading.Thread(target=greet)
        greeting_thread.start()
        message = f"^scheduler '{address}' cannot be reached: what answers there is no dask scheduler$"
        with pytest.raises(InputError, match=message):
            collect(math.sqrt, [1.0], address)
        greeting_thread.join()
        accepted[0].close()


def test_a_worker_at_the_address(cluster):
    address = next(iter(cluster.workers.values())).worker_address  # a worker that died has another key
    with pytest.raises(
        InputError, match=f"^scheduler '{address}' cannot be reached: there is a dask worker$"
    ):
        collect(math.sqrt, [1.0], address)


def test_dask_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"^a scheduler must have .*: pip install '\.\[cluster\]' in the "):
        collect(math.sqrt, [1.0], "tcp://head:8786")
