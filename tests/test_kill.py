"""A run that is killed twenty times ends as one that is left alone: ``make test-slow``."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_run import TINY

KILLS = 20
pytestmark = [pytest.mark.robust, pytest.mark.tools]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """``normforge run`` in a session of its own, so that all its processes can be killed together."""
    text = TINY.replace('"xc7", "ecp5"', '"xc7"').replace("pnr_seeds = 1", "pnr_seeds = 0")
    (folder / "tiny.toml").write_text(text + "\n[compute]\ncheckpoint_minutes = 0\n")
    command = [sys.executable, "-m", "sw.cli", "run", "tiny.toml"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )


def killed_after(run: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill everything after a while, if it is still there; say whether it was."""
    try:
        run.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        return True
    return False


def files_of(run: Path) -> dict[str, bytes]:
    kept = (
        *("report/index.html", "report/summary.json", "functions.json", "hdl/manifest.json"),
        *("model/original.safetensors", "realigned.safetensors", "quantized.safetensors"),
    )
    return {name: (run / name).read_bytes() for name in kept}


def test_a_run_that_is_killed_at_random_moments_ends_like_one_that_is_not(tmp_path):
    alone, harried = tmp_path / "alone", tmp_path / "harried"
    for folder in (alone, harried):
        folder.mkdir()
    begin = time.monotonic()
    assert start(alone).wait() == 0, (alone / "log").read_text()[-2000:]
    longest_s = (time.monotonic() - begin) / 5
    moments = random.Random(0)
    kills = sum(killed_after(start(harried), moments.uniform(0.3, longest_s)) for _ in range(KILLS))
    assert kills > KILLS / 2, "most of them came before the end"
    assert start(harried).wait() == 0, (harried / "log").read_text()[-2000:]
    run = harried / "runs/tiny"
    assert "Traceback" not in (harried / "log").read_text()
    assert files_of(run) == files_of(alone / "runs/tiny")
    assert not list(run.rglob(".*.part"))
    assert json.loads((run / "report/summary.json").read_text())["headline"]["mismatches"] == 0
