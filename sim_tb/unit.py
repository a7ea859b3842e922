"""A generated unit as its files describe it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, IntArray
from sw.run_dir import read_json

KEYS = (
    *("name", "expression", "input", "output", "lanes", "latency_cycles", "ii", "realization", "max_ulp"),
    *("table_sha256", "table", "verilog", "top"),
)
"""What a unit's JSON must say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitFiles:
    """One unit: what its JSON says, the paths joined to the JSON's folder."""

    site: str
    """The site, or the unit's own name where it stands alone."""
    name: str
    expression: str
    input: FixedFormat
    output: FixedFormat
    lanes: int
    latency_cycles: int
    max_ulp: int
    table_sha256: str
    table: Path
    verilog: Path
    top: str

    @classmethod
    def read(cls, path: Path) -> UnitFiles:
        """The unit that ``<name>.json`` describes.

        Raises:
            InputError: The file is missing, no unit's description, or names files that are not there.
        """
        return cls.from_entry(read_json(path), path)

    @classmethod
    def from_entry(cls, entry: Any, path: Path) -> UnitFiles:
        """A unit from an object of ``path``, the JSON file to whose folder its paths are relative.

        Raises:
            InputError: As ``read``.
        """
        missing = [key for key in KEYS if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise InputError(f"description of a unit in '{path}' must have the key '{missing[0]}'")
        if entry["ii"] != 1:
            raise InputError(f"ii of unit '{entry['name']}' in '{path}' must be 1, not {entry['ii']}")
        files = {key: path.parent / entry[key] for key in ("table", "verilog")}
        for file in files.values():
            if not file.is_file():
                raise InputError(f"unit '{entry['name']}' needs '{file}', which is missing")
        return cls(
            site=entry.get("site", entry["name"]),
            name=entry["name"],
            expression=entry["expression"],
            input=FixedFormat.parse(entry["input"]),
            output=FixedFormat.parse(entry["output"]),
            lanes=entry["lanes"],
            latency_cycles=entry["latency_cycles"],
            max_ulp=entry["max_ulp"],
            table_sha256=entry["table_sha256"],
            table=files["table"],
            verilog=files["verilog"],
            top=entry["top"],
        )

    def read_table(self) -> IntArray:
        """The stored table, int64, index 0 = most negative input code.

        Raises:
            InputError: It is no one-dimensional array of integers.
        """
        try:
            table = np.load(self.table, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"table '{self.table}' cannot be read: {error}") from error
        if table.ndim != 1 or table.dtype.kind not in "iu":
            raise InputError(
                f"table '{self.table}' must be a row of integers, not {table.dtype} {table.shape}"
            )
        return table.astype(np.int64)


def read_manifest(path: Path) -> list[UnitFiles]:
    """The units of ``manifest.json``.

    Raises:
        InputError: The file is missing or no manifest, or a unit lacks something.
    """
    body = read_json(path)
    if not isinstance(body, dict) or not isinstance(body.get("units"), list) or not body["units"]:
        raise InputError(f"manifest '{path}' must hold a list 'units' with at least one unit")
    return [UnitFiles.from_entry(entry, path) for entry in body["units"]]


def digest_of_table(table_raw: IntArray) -> str:
    """sha256 of the codes as little-endian int64, as ``table_sha256`` states it."""
    return hashlib.sha256(table_raw.astype("<i8").tobytes()).hexdigest()
