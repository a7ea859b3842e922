"""The stage ``verify``: every unit of a run in Verilator, on every input code and on real activations.

``python -m sim_tb.verify CONFIG`` does it for a run; ``python -m sim_tb.verify out/tanh.json ...`` for
units and norms that stand alone, such as ``normforge compile`` and ``normforge norm`` write, or for a
``manifest.json``. A norm is given rows that are hard on it and random ones. ``WAVES=1`` in
the environment records a waveform of each unit, whether or not anything changed. The exit status is 1
where a check does not hold. A unit that passes gets a certificate (``sim_tb.certificate``);
``python -m sim_tb.verify --certificate FILE`` checks one from scratch (``sim_tb.recheck``).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hw.formal_results import results_path
from sim_tb.certificate import certificate_path, keep_certificates, leave_certificate
from sim_tb.contract import Replay
from sim_tb.job import waves_path
from sim_tb.norm import NormFiles, read_tokens
from sim_tb.request import RANDOM_ROWS, NormRequest, Request, Settings, UnitRequest, waves_asked
from sim_tb.results import Report, write_junit
from sim_tb.unit import UnitFiles, manifest_units, read_manifest
from sim_tb.verification import verify
from sw.arguments import ArgumentParser, add_debug, guarded
from sw.arrays import opened_npz
from sw.files import read_json, write_json
from sw.ir.errors import InputError, VerificationError
from sw.programs import read_program
from sw.run_dir import RunDir
from sw.stage import Stage
from sw.terminal import progress


def verify_run(run: RunDir) -> None:
    """Verify all units of a run; results go to its folder ``sim``.

    Raises:
        InputError: A file of the run cannot be used, or a tool is missing.
        VerificationError: A check does not hold.
    """
    config = run.config.verify
    settings = Settings(
        folder=run.sim, stall_beats=config.stall_beats, jobs=config.jobs, seed=run.config.seed
    )
    requests = read_requests(run.manifest)
    keep_certificates(run.sim, [request.name for request in requests])
    verify_and_report(requests, settings)


def read_requests(path: Path, tokens: Path | None = None) -> list[Request]:
    """What to verify by a unit's or norm's ``<name>.json`` or a ``manifest.json``.

    Where that file lies in the folder ``hdl`` of a run, the run's ``programs/<site>.json`` and
    ``replay.npz`` speak for units, too.

    Args:
        path: The JSON file.
        tokens: Tokens for a norm, as ``sim_tb.norm.read_tokens`` reads them.

    Raises:
        InputError: One of the files cannot be used.
    """
    body = read_json(path)
    if NormFiles.is_description(body):
        norm = NormFiles.from_entry(body, path)
        return [
            NormRequest(norm=norm, tokens_raw=None if tokens is None else read_tokens(tokens, norm.model))
        ]
    if tokens is not None:
        raise InputError(f"--tokens must come with the JSON of a norm, not with '{path}'")
    return [*_unit_requests(body, path)]


def _unit_requests(body: Any, path: Path) -> list[UnitRequest]:
    is_manifest = isinstance(body, dict) and "units" in body
    units = manifest_units(body, path) if is_manifest else [UnitFiles.from_entry(body, path)]
    root = _run_of(path)
    if root is None:
        return [UnitRequest(unit=unit) for unit in units]
    programs = {unit.site: _existing(root / "programs" / f"{unit.site}.json") for unit in units}
    read = {site: None if file is None else read_program(file) for site, file in programs.items()}
    recorded = root / "replay.npz"
    with opened_npz(recorded, "activations") if recorded.exists() else contextlib.nullcontext() as stored:
        return [
            UnitRequest(
                unit=unit,
                program=read[unit.site],
                program_path=programs[unit.site],
                replay=None if stored is None else read_replay(stored, unit.site, recorded),
                replay_path=_existing(recorded),
            )
            for unit in units
        ]


def _run_of(path: Path) -> Path | None:
    """The run in whose folder ``hdl`` a description lies; None: it stands alone, whatever is near it."""
    folder = path.resolve().parent
    return folder.parent if folder.name == "hdl" and (folder.parent / "programs").is_dir() else None


def results_folder(path: Path) -> Path:
    """Where results go by default: ``sim`` beside the JSON file; the stage alone writes a run's ``sim``."""
    return path.resolve().parent / "sim"


def verify_and_report(requests: Sequence[Request], settings: Settings) -> list[Report]:
    """Verify, print a line a unit; leave ``summary.json``, ``junit.xml``, certificates in settings' folder.

    Where a waveform is recorded, its path follows the unit's line.

    Raises:
        InputError: A file of a unit cannot be used, two units have one name, or a tool is missing.
        VerificationError: A check does not hold; the files are there all the same.
    """
    names = [request.name for request in requests]
    if len(set(names)) < len(names):
        raise InputError(f"names of units must differ, not be {', '.join(names)}")
    width = max(len(request.site) for request in requests)
    reports = []
    with progress("verify", len(requests)) as done:
        for request, report in zip(requests, verify(requests, settings), strict=True):
            print(report.line(width), flush=True)
            for check in report.failures():
                print(f"    {check.name}: {check.message}", flush=True)
            waves = waves_path(settings.folder / report.name)
            if waves.exists():
                print(f"    waveform: {waves}", flush=True)
            if isinstance(request, UnitRequest):  # a certificate says what a table is
                leave_certificate(request, report, settings)
            reports.append(report)
            done(report.site)
    passed = all(report.passed for report in reports)
    body = {"passed": passed, "seed": settings.seed, "units": [report.to_dict() for report in reports]}
    write_json(settings.folder / "summary.json", body)
    write_junit(settings.folder / "junit.xml", reports)
    failed = [f"'{report.site}' ({report.failures()[0].name})" for report in reports if not report.passed]
    if failed:
        raise VerificationError(f"{len(failed)} of {len(reports)} units do not verify: {', '.join(failed)}")
    for line in _totals(reports):
        print(line)
    return reports


def _totals(reports: Sequence[Report]) -> list[str]:
    """A line for all units, and one for all norms."""
    lines = []
    for kind in dict.fromkeys(type(report) for report in reports):
        alike = [report for report in reports if type(report) is kind]
        checked = f"{sum(report.num_checked for report in alike)} {kind.checked_things} checked"
        lines.append(f"{len(alike)} {kind.things} verified: {checked}, 0 mismatches")
    return lines


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def read_replay(stored: np.lib.npyio.NpzFile, site: str, path: Path) -> Replay:
    """A site's recorded activations from the open file ``path``.

    Raises:
        InputError: They are missing or of different shapes.
    """
    keys = f"{site}_raw", f"{site}_out_raw"
    if any(key not in stored for key in keys):
        raise InputError(f"'{path}' must hold the activations '{keys[0]}' and '{keys[1]}'")
    rows = [stored[key] for key in keys]
    if rows[0].ndim != 2 or rows[0].shape != rows[1].shape:
        raise InputError(
            f"activations '{keys[0]}' and '{keys[1]}' in '{path}' must have the same shape "
            f"(rows, channels), not {rows[0].shape} and {rows[1].shape}"
        )
    return Replay(rows[0].astype(np.int64), rows[1].astype(np.int64))


def _inputs(run: RunDir) -> list[Path]:
    units = read_manifest(run.manifest) if run.manifest.exists() else []
    files = [path for unit in units for path in (unit.verilog, unit.table, run.program(unit.site))]
    proofs = [results_path(unit.name, unit.verilog) for unit in units]
    return [run.manifest, run.replay, *files, *(path for path in proofs if path.exists())]


def _outputs(run: RunDir) -> list[Path]:
    units = read_manifest(run.manifest) if run.manifest.exists() else []
    certificates = [certificate_path(run.sim, unit.name) for unit in units]
    return [run.sim / "summary.json", run.sim / "junit.xml", *certificates]


STAGE = Stage(
    name="verify",
    help="every unit in Verilator: all input codes, stalls, latency, real activations",
    sections=("verify",),
    code=("hw", "sw.model"),
    inputs=_inputs,
    outputs=_outputs,
    body=verify_run,
)


def main(argv: Sequence[str]) -> int:
    """As the module says; the exit status."""
    if any(arg.split("=")[0] == "--certificate" for arg in argv):
        from sim_tb.recheck import main as recheck

        return recheck(argv)
    if not any(arg.endswith(".json") for arg in argv):
        return STAGE.main([*argv, *(["--force"] if waves_asked() else [])])
    args = _parser().parse_args(argv)

    def action() -> int:
        for option, least in (("rows", 1), ("seed", 0), ("stall_beats", 0), ("jobs", 0)):
            value = getattr(args, option)
            if value is not None and value < least:
                raise InputError(f"--{option.replace('_', '-')} must be at least {least}, not {value}")
        requests = [request for path in args.units for request in read_requests(path, args.tokens)]
        if args.rows is not None and not any(isinstance(request, NormRequest) for request in requests):
            raise InputError(f"--rows must come with the JSON of a norm, not with '{args.units[0]}'")
        verify_and_report(requests, _settings(args))
        return 0

    return guarded(action, debug=args.debug)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="sim_tb.verify", description="Verify units and norms by their JSON files.")
    parser.add_argument(
        "units", metavar="UNIT.json", nargs="+", type=Path, help="a unit, a norm or a manifest.json"
    )
    parser.add_argument("-o", dest="folder", type=Path, help="folder of the results (default: sim, near it)")
    parser.add_argument("--stall-beats", type=int, default=4096, help="beats sent under random stalls")
    parser.add_argument(
        "--rows",
        type=int,
        metavar="N",
        help=f"random rows for each norm (default: {RANDOM_ROWS})",
    )
    parser.add_argument(
        "--tokens", type=Path, metavar="FILE.npy", help="rows of a norm's input, real ones: codes or values"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of codes, rows and stalls")
    parser.add_argument("--jobs", type=int, default=0, help="simulations at a time; 0: one a core")
    parser.add_argument("--waves", action="store_true", help="record a waveform of each unit")
    add_debug(parser)
    return parser


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(
        folder=args.folder or results_folder(args.units[0]),
        stall_beats=args.stall_beats,
        rows=RANDOM_ROWS if args.rows is None else args.rows,
        seed=args.seed,
        jobs=args.jobs,
        waves=args.waves or waves_asked(),
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
