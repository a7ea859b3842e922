"""Certificates: what was verified about one unit, so that anybody can check it again (``sim_tb.recheck``).

A unit that passes gets ``<name>.certificate.json`` in the folder of the results; one that fails gets none.
Its paths are relative to it, it holds neither time nor place, and the same unit, seed and versions give
the same bytes. ``docs/verification.md`` says what each key means.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hw.formal_results import read_results
from hw.tools import require_simulator
from sim_tb.contract import Replay
from sim_tb.request import Settings, UnitRequest
from sim_tb.results import Report, UnitReport
from sim_tb.unit import UnitFiles
from sw.descriptions import is_name
from sw.files import file_digest, read_json, write_json
from sw.ir.errors import InputError

VERSION = 1
SUFFIX = ".certificate.json"
POLICIES = {0: "exact", 1: "faithful"}
"""``max_ulp`` -> how near a unit is to its function; ``approximate`` beyond."""

KEYS: dict[str, tuple[type, ...]] = {
    "certificate": (int,),
    **dict.fromkeys(("site", "name", "expression", "input", "output", "realization", "policy"), (str,)),
    **dict.fromkeys(("max_ulp", "codes_compared"), (int,)),
    "reachable": (dict, type(None)),
    **dict.fromkeys(("table", "table_sha256", "verilog", "verilog_sha256", "top"), (str,)),
    **dict.fromkeys(("program", "program_sha256", "replay", "replay_sha256"), (str, type(None))),
    **dict.fromkeys(("seed", "lanes", "latency_cycles", "ii"), (int,)),
    **dict.fromkeys(("codes_checked", "mismatches", "stall_beats", "replay_beats"), (int,)),
    "checks": (dict,),
    "proofs": (list,),
    "versions": (dict,),
}
"""What a certificate holds, in its order, and of which JSON type."""
LABELS = ("certificate", "proofs", "versions")
"""Keys that are no result of a simulation."""


def certificate_path(folder: Path, name: str) -> Path:
    """The certificate of a unit in a folder of results."""
    return folder / f"{name}{SUFFIX}"


def leave_certificate(request: UnitRequest, report: Report, settings: Settings) -> None:
    """Write the certificate of a unit that passed; remove the one of a unit that did not."""
    path = certificate_path(settings.folder, request.unit.name)
    if report.passed:
        assert isinstance(report, UnitReport), request.name
        write_json(path, certificate(request, report, settings.seed, path))
    else:
        path.unlink(missing_ok=True)


def keep_certificates(folder: Path, names: Iterable[str]) -> None:
    """Remove certificates of other units than these, such as an earlier run with other sites left."""
    wanted = {certificate_path(folder, name) for name in names}
    for path in set(folder.glob(f"*{SUFFIX}")) - wanted:
        path.unlink()


def certificate(request: UnitRequest, report: UnitReport, seed: int, path: Path) -> dict[str, Any]:
    """What the certificate at ``path`` says about a unit that passed, in the order of ``KEYS``."""
    unit = request.unit
    assert report.max_ulp is not None, "a unit without a measured table does not pass"
    body: dict[str, Any] = {
        "certificate": VERSION,
        "site": unit.site,
        "name": unit.name,
        "expression": unit.expression,
        "input": str(unit.input),
        "output": str(unit.output),
        "realization": unit.realization,
        "policy": POLICIES.get(report.max_ulp, "approximate"),
        "max_ulp": report.max_ulp,
        "codes_compared": report.codes_compared,
        "reachable": _reachable(unit, path),
        "table": _relative(unit.table, path),
        "table_sha256": unit.table_sha256,
        "verilog": _relative(unit.verilog, path),
        "verilog_sha256": file_digest(unit.verilog),
        "top": unit.top,
        "program": _relative(request.program_path, path),
        "program_sha256": file_digest(request.program_path) if request.program_path else None,
        "replay": _relative(request.replay_path, path),
        "replay_sha256": digest_of_replay(request.replay),
        "seed": seed,
        "lanes": report.lanes,
        "latency_cycles": report.latency_cycles,
        "ii": 1,
        "codes_checked": report.codes_checked,
        "mismatches": report.mismatches,
        "stall_beats": report.stall_beats,
        "replay_beats": report.replay_beats,
        "checks": {check.name: check.status for check in report.checks},
    }
    return body | {"proofs": read_results(body, path.parent), "versions": versions()}


def versions() -> dict[str, str]:
    """What verifies here, and its versions."""
    packages = {name: importlib.metadata.version(name) for name in ("cocotb", "normforge", "amaranth")}
    simulator = {"verilator": require_simulator().version}
    return {**simulator, **packages, "numpy": np.__version__, "python": platform.python_version()}


def digest_of_replay(replay: Replay | None) -> str | None:
    """sha256 of the shape and both arrays as little-endian int64."""
    if replay is None:
        return None
    arrays = [np.array(replay.rows_raw.shape), replay.rows_raw, replay.rows_out_raw]
    return hashlib.sha256(b"".join(array.astype("<i8").tobytes() for array in arrays)).hexdigest()


def read_certificate(path: Path) -> dict[str, Any]:
    """The certificate in a file, every key there and of its type, every file that it names in its place.

    Raises:
        InputError: It is none, one of another version, or a file is missing.
    """
    body = read_json(path)
    if not isinstance(body, dict) or "certificate" not in body:
        raise InputError(
            f"'{path}' must be a certificate of 'normforge verify', which has a key 'certificate'"
        )
    if body["certificate"] != VERSION:
        raise InputError(f"version of certificate '{path}' must be {VERSION}, not {body['certificate']!r}")
    odd = [key for key in (*KEYS, *body) if (key in KEYS) != (key in body)]
    if odd:
        rule = "have the key" if odd[0] in KEYS else "not have the key"
        raise InputError(f"certificate '{path}' must {rule} '{odd[0]}'")
    for key, types in KEYS.items():
        if type(body[key]) not in types or not _is_sound(key, body[key]):
            raise InputError(f"'{key}' of certificate '{path}' must not be {body[key]!r}")
    for file in (body["program"], body["replay"], (body["reachable"] or {}).get("file")):
        if file is not None and not (path.parent / file).is_file():
            raise InputError(f"certificate '{path}' needs '{path.parent / file}', which is missing")
    return body


def _is_sound(key: str, value: Any) -> bool:
    """Whether a value of the right type can be used at all."""
    match key:
        case "name":
            return is_name(value)  # it names a folder
        case "reachable":
            return value is None or {type(value.get(k)) for k in ("file", "sha256")} == {str}
        case "proofs":
            words = [p.get(key) for p in value for key in ("property", "outcome") if type(p) is dict]
            return len(words) == 2 * len(value) and all(type(word) is str for word in words)
        case _:
            return type(value) is not int or value >= 0


def _relative(file: Path | None, path: Path) -> str | None:
    """A file's path from the folder of the certificate, with slashes."""
    if file is None:
        return None
    return Path(os.path.relpath(file.resolve(), path.resolve().parent)).as_posix()


def _reachable(unit: UnitFiles, path: Path) -> dict[str, Any] | None:
    if unit.reachable is None:
        return None
    return {"file": _relative(unit.reachable, path), "sha256": unit.reachable_sha256}
