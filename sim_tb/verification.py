"""Verification of units and norms: the contract in this process, simulations in processes of their own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hw.tools import VERILATOR, ToolError, require_simulator
from sim_tb import objects
from sim_tb.contract import Contract
from sim_tb.job import figures_path, read_job, results_path, waves_path, write_expected, write_job
from sim_tb.objects import BUILT
from sim_tb.request import Request, Settings
from sim_tb.results import Check, Report, read_cocotb_results
from sw.files import make_folder, read_json
from sw.ir.errors import InputError

LOG = "simulation.log"
_UNBUILDABLE = re.compile(r"[\s:;*?$#]")
"""What is not to be in the path of a folder in which make is to build."""
_MISSING_COCOTB = "cocotb must be 2.0 or later, not missing; pip install '.[sim]' in the clone"


def verify(requests: Sequence[Request], settings: Settings) -> Iterator[Report]:
    """Verify units and norms, a few at a time; reports come in the order of the requests.

    Raises:
        ToolError: cocotb, Verilator or what it calls is missing.
        InputError: A file of a unit cannot be read, or the folder cannot be written or built in.
    """
    environment = _environment(settings)
    for request in requests:
        write_job(make_folder(settings.folder / request.name), request.job(settings))
    with ThreadPoolExecutor(settings.jobs or os.cpu_count() or 1) as pool:
        # The first build leaves the objects that all others share; torch loads meanwhile.
        first = settings.folder / requests[0].name
        warm = pool.submit(_simulate, first, environment, "--build-only")
        contracts = [request.examine(settings) for request in requests]
        warm.result()
        pairs = zip(requests, contracts, strict=True)
        yield from pool.map(lambda pair: _report(pair[0], pair[1], settings, environment), pairs)


def _check_place(folder: Path) -> None:
    """Make builds nothing below some folders."""
    bad = _UNBUILDABLE.search(str(folder))
    if bad:
        raise InputError(
            f"folder '{folder}' must have no '{bad.group()}' in its path: make, which builds simulations, "
            "cannot work there"
        )


def _environment(settings: Settings) -> dict[str, str]:
    """The environment in which simulations run."""
    if not importlib.util.find_spec("cocotb_tools"):
        raise ToolError(_MISSING_COCOTB)
    _check_place(settings.folder.absolute())
    verilator = require_simulator()
    cocotb = f"cocotb {importlib.metadata.version('cocotb')}"
    # Verilator's makefiles call "python": ours, whatever else is on the PATH.
    named = verilator.folder_as(VERILATOR.command, settings.folder.absolute() / "tools")  # as cocotb calls it
    path = [str(named), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    # Under pytest cocotb's runner would do more than run.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}
    return {
        **inherited,
        **verilator.environment,
        **objects.install(make_folder(settings.folder / "objects"), verilator.identifier, cocotb),
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "WAVES": str(int(settings.waves)),
        "COCOTB_ANSI_OUTPUT": "0",
        "COCOTB_REWRITE_ASSERTION_FILES": "",
    }


def _simulate(folder: Path, environment: Mapping[str, str], *options: str) -> int:
    """Build and run the job in a folder; the exit status, output in ``simulation.log`` there."""
    command = [sys.executable, "-m", "sim_tb.simulation", str(folder), *options]
    with (folder / LOG).open("w") as log:
        return subprocess.run(
            command, env=dict(environment), stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode


def _report(
    request: Request, contract: Contract, settings: Settings, environment: Mapping[str, str]
) -> Report:
    """Simulate a unit or norm and put together what is known about it."""
    started = time.monotonic()
    folder = settings.folder / request.name
    write_expected(folder, contract.expected)
    for stale in (results_path(folder), figures_path(folder), waves_path(folder)):
        stale.unlink(missing_ok=True)
    status = _simulate(folder, environment)
    simulated = _simulation_checks(folder, status, contract, settings)
    seconds = time.monotonic() - started + sum(check.seconds for check in contract.checks)
    figures = read_json(figures_path(folder)) if figures_path(folder).exists() else {}
    return request.report(contract, (*contract.checks, *simulated), figures, round(seconds, 2))


def _simulation_checks(folder: Path, status: int, contract: Contract, settings: Settings) -> list[Check]:
    """Results of the simulated tests, and for every test without one the reason."""
    found = {check.name: check for check in read_cocotb_results(results_path(folder))}
    reasons = {}
    if settings.stall_beats == 0:
        reasons["random_stalls"] = "verify.stall_beats is 0"
    if not contract.expected.replay_raw.size:
        reasons["replay"] = "no recorded activations"
    if status and not (folder / BUILT).exists() and not _errors(folder / LOG):
        # Verilator has nothing against the unit's Verilog; it is what it calls that failed.
        raise ToolError(f"simulation of '{folder.name}' must be built: {_log_excerpt(folder / LOG)}")
    lost = f"the simulation ended with status {status}: {_log_excerpt(folder / LOG)}"
    checks = []
    for test in read_job(folder).tests:
        if test in reasons:
            checks.append(Check(test, "skipped", reasons[test]))
        else:
            checks.append(found.get(test, Check(test, "failed", lost)))
    return checks


def _log_excerpt(log: Path) -> str:
    """The first error in a log, or its last line, and where to read on."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it wrote nothing"]
    of_make = [line for line in lines if "***" in line or "error:" in line]
    return f"{(_errors(log) or of_make or lines[-1:])[0].strip()} (see '{log}')"


def _errors(log: Path) -> list[str]:
    """What Verilator calls errors."""
    return [line for line in log.read_text(errors="replace").splitlines() if line.startswith("%Error")]
