"""Checking certificates from scratch: ``normforge verify --certificate FILE``, ``python -m sim_tb.recheck``.

Nothing that the certificate says is believed but which files it is about and what a check needs to be
repeated: formula, formats, seed, how many beats. The reference map is computed from the formula, the
simulator is built from the Verilog, proofs are made again, and every figure must come out as stated.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sim_tb.certificate import LABELS, certificate, digest_of_replay, read_certificate, versions
from sim_tb.contract import NO_TORCH, Replay, distance
from sim_tb.request import Settings, UnitRequest
from sim_tb.results import UnitReport
from sim_tb.unit import UnitFiles
from sim_tb.verification import verify
from sim_tb.verify import read_replay
from sw.arguments import ArgumentParser, add_debug, guarded
from sw.arrays import codes_digest, opened_npz
from sw.files import file_digest
from sw.ir.errors import InputError, VerificationError
from sw.ir.parse import parse
from sw.ir.refmap import reference_map
from sw.programs import read_program

Stated = dict[str, Any]
Require = Callable[[str, object, object], None]

say = functools.partial(print, flush=True)


def recheck(path: Path, folder: Path) -> None:
    """Check a certificate, with a printed line for each thing that holds.

    Args:
        path: The certificate.
        folder: Where the simulation is built.

    Raises:
        InputError: It is no certificate, a file or a tool is missing, or a check cannot be repeated here.
        VerificationError: Something is not as it says; the text names the first such thing.
    """
    stated = read_certificate(path)

    def require(what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise VerificationError(f"certificate '{path}' does not hold: {what} is {found}, not {wanted}")

    request = _request(stated, path)
    say(f"{path}: '{stated['expression']}' from {stated['input']} to {stated['output']}")
    _check_files(request, stated, require)
    _check_table(request.unit, stated, require)
    settings = Settings(
        folder=folder, stall_beats=stated["stall_beats"], seed=stated["seed"], jobs=1, waves=False
    )
    (folder / request.unit.name / "build" / "built.json").unlink(missing_ok=True)  # whatever was built before
    (report,) = verify([request], settings)
    assert isinstance(report, UnitReport), path
    _check_report(report, stated, require)
    found = certificate(request, report, stated["seed"], path)
    for key in (key for key in found if key not in (*LABELS, "checks")):
        require(key, found[key], stated[key])
    say(
        f"simulation: {report.codes_checked} codes, {report.mismatches} mismatches, {report.stall_beats} "
        f"stalled beats, {report.replay_beats} of activations, latency {report.latency_cycles}, as stated"
    )
    _check_proofs(stated, path, require)
    say(_versions_line(stated["versions"]))
    say("certificate holds")


def _request(stated: Stated, path: Path) -> UnitRequest:
    """What to verify, by the certificate alone."""
    unit = UnitFiles.from_entry(stated, path)
    program, replay = (path.parent / stated[k] if stated[k] else None for k in ("program", "replay"))
    return UnitRequest(
        unit=unit,
        program=None if program is None else read_program(program),
        program_path=program,
        replay=None if replay is None else _stored_replay(replay, unit.site),
        replay_path=replay,
    )


def _stored_replay(path: Path, site: str) -> Replay:
    with opened_npz(path, "activations") as stored:
        return read_replay(stored, site, path)


def _check_files(request: UnitRequest, stated: Stated, require: Require) -> None:
    unit, program = request.unit, request.program_path
    require(f"sha256 of '{unit.verilog}'", file_digest(unit.verilog), stated["verilog_sha256"])
    say(f"Verilog: {unit.verilog.name}, digest as stated")
    if program is not None:
        require(f"sha256 of '{program}'", file_digest(program), stated["program_sha256"])
        say(f"program: {program.name}, digest as stated")
    if request.replay is not None:
        what = f"sha256 of '{unit.site}' in '{request.replay_path}'"
        require(what, digest_of_replay(request.replay), stated["replay_sha256"])
        say(f"activations: {request.replay.rows_raw.size} codes, digest as stated")


def _check_table(unit: UnitFiles, stated: Stated, require: Require) -> None:
    """The stored table against its digest and against the reference map of the stated formula."""
    table_raw = unit.read_table()
    require(f"sha256 of the codes in '{unit.table}'", codes_digest(table_raw), stated["table_sha256"])
    formula_raw = reference_map(parse(unit.expression), unit.input, unit.output)
    promised_raw = unit.promised_codes()
    found = distance(unit, table_raw, formula_raw, promised_raw)
    require(f"max_ulp of '{unit.table}' from '{unit.expression}'", found, stated["max_ulp"])
    require("codes_compared", len(promised_raw), stated["codes_compared"])
    say(f"table: {len(promised_raw)} codes, {found} ulp from T, digest as stated")


def _check_report(report: UnitReport, stated: Stated, require: Require) -> None:
    for check in report.failures():
        require(f"check '{check.name}'", f"failed ({check.message})", stated["checks"].get(check.name))
    require("list of checks", [check.name for check in report.checks], list(stated["checks"]))
    for check in report.checks:
        before = stated["checks"][check.name]
        if before == "passed" and check.message == NO_TORCH:
            raise InputError(f"check '{check.name}' cannot be repeated here: {check.message}")
        if (check.status, before) != ("passed", "skipped"):  # more than is stated does no harm
            require(f"check '{check.name}'", check.status, before)
    passed = [check.name for check in report.checks if check.status == "passed"]
    say(f"checks: {', '.join(passed)} passed")


def _check_proofs(stated: Stated, path: Path, require: Require) -> None:
    """Every stated proof, made again without earlier answers."""
    if not stated["proofs"]:
        say("proofs: none stated")
        return
    from hw.formal import prove

    with tempfile.TemporaryDirectory() as cache:
        proofs = prove([(stated, path.parent)], Path(cache))
    found = {proof.property: proof.outcome for proof in proofs}
    for proof in stated["proofs"]:
        name = proof["property"]
        require(f"property '{name}'", found.get(name, "unknown"), proof["outcome"])
    say(f"proofs: {', '.join(f'{name} {outcome}' for name, outcome in found.items())}, as stated")


def _versions_line(stated: Stated) -> str:
    """What verified here, and what else had verified when the certificate was written."""
    here = versions()
    other = [
        f"{name} {stated.get(name)}, here {here[name]}" for name in here if stated.get(name) != here[name]
    ]
    named = ", ".join(f"{name} {here[name]}" for name in ("verilator", "cocotb", "normforge"))
    return f"versions: written with {'; '.join(other)}" if other else f"versions: {named}, as stated"


def main(argv: Sequence[str]) -> int:
    """As the module says; the exit status."""
    parser = ArgumentParser(prog="sim_tb.recheck", description="Check certificates from scratch.")
    parser.add_argument("--certificate", dest="files", metavar="FILE", nargs="+", type=Path, required=True)
    parser.add_argument(
        "-o", dest="folder", type=Path, help="folder of the builds (default: a temporary one)"
    )
    add_debug(parser)
    args = parser.parse_args(argv)

    def action() -> int:
        with tempfile.TemporaryDirectory() as scratch:
            for path in args.files:
                recheck(path, args.folder or Path(scratch))
        return 0

    return guarded(action, debug=args.debug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
