import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sw.config import from_dict
from sw.files import write_json
from sw.ir.errors import InputError
from sw.run_dir import RunDir, unit_name

ROOT = Path(__file__).parents[1]
CONFIG = from_dict({"name": "mine", "model": {"name": "vit"}})


def test_a_configuration_that_is_kept_reads_back():
    run = RunDir.create(CONFIG)
    assert not list(run.root.iterdir())
    run.keep_config()
    assert from_dict(tomllib.loads((run.root / "config.toml").read_text())) == CONFIG


def test_an_unwritable_run_directory_is_named(tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(InputError, match=r"folder 'runs/mine' cannot be written: "):
        RunDir.create(CONFIG)


@pytest.mark.parametrize("body", [{}, [], {"sites": 3}])
def test_functions_without_sites(body):
    run = RunDir.create(CONFIG)
    write_json(run.functions, body)
    with pytest.raises(InputError, match=r"'runs/mine/functions\.json' must hold an object 'sites'"):
        run.read_functions()


def test_unit_name():
    assert unit_name("blocks.0.norm1") == "blocks_0_norm1"


HOLD = """
import sys, time
from sw.config import from_dict
from sw.run_dir import RunDir
with RunDir.create(from_dict({"name": "mine", "model": {"name": "vit"}})).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_is_worked_on_by_one_process_at_a_time():
    run = RunDir.create(CONFIG)
    with run.locked(), run.locked():  # the same process may go on
        pass
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, env=environment) as other:
        assert other.stdout.readline() == b"held\n"
        message = (
            f"^run 'runs/mine' is being worked on by process {other.pid}; wait for it, or give this run "
        )
        with pytest.raises(InputError, match=message), run.locked():
            pass
        other.kill()
        other.wait()
    (run.root / "programs").mkdir()
    half, own = (run.root / f"programs/.norm.json.{pid}.2.part" for pid in (other.pid, os.getpid()))
    begun, foreign = (run.root / f"programs/{name}" for name in (".norm.json.1.2.part", ".movie.iso.part"))
    for path in (half, own, begun, foreign):
        path.write_text("{")
    with run.locked():  # the lock went with the process
        assert not half.exists()
        assert not own.exists(), "of a process that had our number"
        assert begun.exists(), "process 1 is alive"
        assert foreign.exists(), "it is not of this project"
