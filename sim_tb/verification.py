"""Verification of units: the contract in this process, the simulations in processes of their own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from hw.tools import ToolError, require_simulator
from sim_tb import objects
from sim_tb.contract import Contract, Replay, examine
from sim_tb.job import TESTS, Job, figures_path, results_path, waves_path, write_expected, write_job
from sim_tb.results import Check, UnitReport, read_cocotb_results
from sim_tb.unit import UnitFiles
from sw.ir.program import Program
from sw.run_dir import make_folder, read_json

LOG = "simulation.log"
_MISSING_COCOTB = "cocotb must be 2.0 or later, not missing; pip install 'normforge[sim]'"


def waves_asked() -> bool:
    """Whether the environment asks for waveforms, ``WAVES=1``."""
    return os.environ.get("WAVES", "0") not in ("", "0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A unit to verify, and what is known about it beside its own files."""

    unit: UnitFiles
    program: Program | None = None
    program_path: Path | None = None
    """Where the program comes from."""
    replay: Replay | None = None
    replay_path: Path | None = None
    """Where the activations come from, under the site's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How units are verified."""

    folder: Path
    """Where builds, logs and results go, a sub-folder a unit."""
    stall_beats: int = 4096
    seed: int = 0
    jobs: int = 0
    """Simulations at a time; 0: one a core."""
    waves: bool = field(default_factory=waves_asked)
    """Record ``dump.vcd`` beside each unit's results; the environment's ``WAVES=1`` asks for it."""


def verify(requests: Sequence[Request], settings: Settings) -> Iterator[UnitReport]:
    """Verify units, a few at a time; reports come in the order of the requests.

    Raises:
        ToolError: cocotb, Verilator or what it calls is missing.
        InputError: A file of a unit cannot be read, or the folder cannot be written.
    """
    environment = _environment(settings)
    for request in requests:
        folder = make_folder(settings.folder / request.unit.name)
        write_job(folder, _job(request.unit, settings))
    with ThreadPoolExecutor(settings.jobs or os.cpu_count() or 1) as pool:
        # The first build leaves the objects that all others share; torch loads meanwhile.
        first = settings.folder / requests[0].unit.name
        warm = pool.submit(_simulate, first, environment, "--build-only")
        contracts = [examine(r.unit, r.program, r.replay, seed=settings.seed) for r in requests]
        warm.result()
        pairs = zip(requests, contracts, strict=True)
        yield from pool.map(lambda pair: _report(pair[0].unit, pair[1], settings, environment), pairs)


def _environment(settings: Settings) -> dict[str, str]:
    """The environment in which simulations run."""
    if not importlib.util.find_spec("cocotb_tools"):
        raise ToolError(_MISSING_COCOTB)
    verilator = require_simulator()
    cocotb = f"cocotb {importlib.metadata.version('cocotb')}"
    # Verilator's makefiles call "python": ours, whatever else is on the PATH.
    path = [str(verilator.path.parent), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
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


def _job(unit: UnitFiles, settings: Settings) -> Job:
    return Job(
        name=unit.name,
        verilog=str(unit.verilog.resolve()),
        top=unit.top,
        input=str(unit.input),
        output=str(unit.output),
        lanes=unit.lanes,
        latency_cycles=unit.latency_cycles,
        stall_beats=settings.stall_beats,
        seed=zlib.crc32(f"{settings.seed} {unit.name}".encode()),
        waves=settings.waves,
    )


def _simulate(folder: Path, environment: Mapping[str, str], *options: str) -> int:
    """Build and run the job in a folder; the exit status, output in ``simulation.log`` there."""
    command = [sys.executable, "-m", "sim_tb.simulation", str(folder), *options]
    with (folder / LOG).open("w") as log:
        return subprocess.run(
            command, env=dict(environment), stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode


def _report(
    unit: UnitFiles, contract: Contract, settings: Settings, environment: Mapping[str, str]
) -> UnitReport:
    """Simulate a unit and put together what is known about it."""
    started = time.monotonic()
    folder = settings.folder / unit.name
    write_expected(folder, contract.expected)
    for stale in (results_path(folder), figures_path(folder), waves_path(folder)):
        stale.unlink(missing_ok=True)
    status = _simulate(folder, environment)
    simulated = _simulation_checks(folder, status, contract, settings)
    seconds = time.monotonic() - started + sum(check.seconds for check in contract.checks)
    figures = read_json(figures_path(folder)) if figures_path(folder).exists() else {}
    return UnitReport(
        site=unit.site,
        name=unit.name,
        lanes=unit.lanes,
        latency_cycles=unit.latency_cycles,
        codes_checked=figures.get("every_code", {}).get("codes", 0),
        mismatches=figures.get("every_code", {}).get("mismatches", 0),
        stall_beats=figures.get("random_stalls", {}).get("beats", 0),
        replay_beats=figures.get("replay", {}).get("beats", 0),
        float_path_ties=contract.float_path_ties,
        float_path_differences=contract.float_path_differences,
        seconds=round(seconds, 2),
        checks=(*contract.checks, *simulated),
        max_ulp=contract.max_ulp,
        codes_compared=contract.codes_compared,
    )


def _simulation_checks(folder: Path, status: int, contract: Contract, settings: Settings) -> list[Check]:
    """Results of the simulated tests, and for every test without one the reason."""
    found = {check.name: check for check in read_cocotb_results(results_path(folder))}
    reasons = {}
    if settings.stall_beats == 0:
        reasons["random_stalls"] = "verify.stall_beats is 0"
    if not contract.expected.replay_raw.size:
        reasons["replay"] = "no recorded activations"
    lost = f"the simulation ended with status {status}: {_log_excerpt(folder / LOG)}"
    checks = []
    for test in TESTS:
        if test in reasons:
            checks.append(Check(test, "skipped", reasons[test]))
        else:
            checks.append(found.get(test, Check(test, "failed", lost)))
    return checks


def _log_excerpt(log: Path) -> str:
    """The first error in a log, or its last line, and where to read on."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it wrote nothing"]
    errors = [line for line in lines if line.startswith("%Error")]
    return f"{(errors or lines[-1:])[0].strip()} (see '{log}')"
