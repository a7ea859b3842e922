"""What proofs leave beside a unit, ``<name>.proofs.json``: it counts for exactly the unit that was proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sw.files import file_digest, make_folder, read_json, write_json
from sw.ir.errors import InputError

VERSION = 1
STATED = ("name", "input", "output", "lanes", "latency_cycles", "top", "table_sha256")
"""What of a unit's description the proofs are about, beside its Verilog."""


def results_path(name: str, verilog: Path) -> Path:
    """Where the results of a unit lie: beside its Verilog."""
    return verilog.with_name(f"{name}.proofs.json")


def leave_results(
    unit: Mapping[str, Any], folder: Path, outcomes: Mapping[str, str], tools: Sequence[str]
) -> None:
    """Write the results of a unit none of whose properties failed; otherwise remove those of before.

    Args:
        unit: The unit's description, with the digest of the table that was proved.
        folder: To which its paths are relative.
        outcomes: Property -> ``proven``, ``simulated`` or ``failed``.
        tools: Names and versions.
    """
    path = results_path(unit["name"], folder / unit["verilog"])
    if "failed" in outcomes.values():
        path.unlink(missing_ok=True)
        return
    make_folder(path.parent)
    about = {key: unit[key] for key in STATED} | {"verilog_sha256": file_digest(folder / unit["verilog"])}
    write_json(path, {"version": VERSION, **about, "tools": list(tools), "outcomes": dict(outcomes)})


def read_results(unit: Mapping[str, Any], folder: Path) -> list[dict[str, str]]:
    """``property``, ``outcome`` and ``tools`` of every proof of exactly this unit; none where it has none.

    Raises:
        InputError: The file of the results is not JSON, or names no tools or outcomes.
    """
    path = results_path(unit["name"], folder / unit["verilog"])
    if not path.is_file():
        return []
    body = read_json(path)
    about = {key: unit[key] for key in STATED} | {"verilog_sha256": file_digest(folder / unit["verilog"])}
    if not isinstance(body, dict) or body.get("version") != VERSION:
        return []
    if any(body.get(key) != value for key, value in about.items()):
        return []
    outcomes, tools = body.get("outcomes"), body.get("tools")
    if not (isinstance(outcomes, dict) and isinstance(tools, list)) or not all(
        isinstance(text, str) for text in (*outcomes.values(), *tools)
    ):
        raise InputError(f"'{path}' must hold 'outcomes' and 'tools', in words")
    return [{"property": p, "outcome": o, "tools": ", ".join(tools)} for p, o in outcomes.items()]
