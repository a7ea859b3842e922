"""One unit or norm in Verilator, as a process of its own (``python -m sim_tb.simulation FOLDER``).

cocotb's runner takes its tools from the environment and ends the process when a simulation crashes, so
the launcher starts this script with an environment of its own for every unit. ``FOLDER`` holds a job
(``sim_tb.job``); the build goes to ``FOLDER/build``, JUnit XML to ``FOLDER/results.xml``, and with
``WAVES=1`` in the environment a waveform to ``FOLDER/dump.vcd``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cocotb_tools.runner import get_runner

from sim_tb import objects
from sim_tb.job import FOLDER_VARIABLE, Job, read_expected, read_job, results_path
from sw.files import file_digest, read_json, write_json


def main(argv: Sequence[str]) -> int:
    """Build what changed, and unless ``--build-only`` is given, run the tests; 0 when the simulator ran."""
    folder = Path(argv[0]).resolve()
    job = read_job(folder)
    runner = get_runner("verilator")
    _build(runner, job, folder / "build")
    if "--build-only" not in argv:
        runner.test(
            test_module=job.testbench,
            hdl_toplevel=job.top,
            hdl_toplevel_lang="verilog",
            build_dir=folder / "build",
            test_dir=folder,
            testcase=applicable_tests(job, len(read_expected(folder).replay_raw)),
            results_xml=str(results_path(folder)),
            seed=job.seed,
            waves=job.waves,
            extra_env={FOLDER_VARIABLE: str(folder)},
        )
    return 0


def applicable_tests(job: Job, replay_rows: int) -> list[str]:
    """The tests that a job has something for."""
    without = {"random_stalls"} if job.stall_beats == 0 else set()
    without |= {"replay"} if replay_rows == 0 else set()
    return [test for test in job.tests if test not in without]


def _build(runner: Any, job: Job, folder: Path) -> None:
    stamp = folder.parent / objects.BUILT
    tools = os.environ.get(objects.FOLDER_VARIABLE, "")  # one folder for one set of tools
    wanted = {"verilog": file_digest(Path(job.verilog)), "top": job.top, "waves": job.waves, "tools": tools}
    if stamp.exists() and read_json(stamp) == wanted and (folder / job.top).exists():
        return
    stamp.unlink(missing_ok=True)
    runner.build(
        sources=[Path(job.verilog)],
        hdl_toplevel=job.top,
        build_dir=folder,
        clean=True,  # make would keep objects that were compiled without waves
        waves=job.waves,
        timescale=("1ns", "1ps"),
        # What lint says about generated Verilog goes to the log. Where a large model is split, the wheel's
        # makefile names a precompiled header without the option that includes it.
        build_args=["-Wno-fatal", "--output-split", "0"],
    )
    write_json(stamp, wanted)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
