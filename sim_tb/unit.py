"""A generated unit as its files describe it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.streams import MAX_LANES
from hw.units import read_table
from sw.arrays import codes_digest
from sw.descriptions import MOST, check_keys, check_numbers, check_words, is_file
from sw.files import read_json, read_npy
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.realize.reachable import reachable_codes

KEYS = (
    *("name", "expression", "input", "output", "lanes", "latency_cycles", "ii", "realization", "max_ulp"),
    *("table_sha256", "table", "verilog", "top"),
)
"""What a unit's JSON must say."""
_WORDS = ("name", "expression", "input", "output", "table_sha256", "table", "verilog", "top", "realization")
_NUMBERS = {"lanes": (1, MAX_LANES), "latency_cycles": (1, MOST), "max_ulp": (0, MOST)}


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
    realization: str = ""
    reachable_sha256: str = ""
    """Digest of the only input codes at which the unit promises anything; empty: at all."""
    reachable: Path | None = None
    """Those codes, where their file is there."""

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
        check_keys(entry, KEYS, "unit", path)
        _check_entry(entry, path)
        stated = entry.get("reachable") or {}
        reachable = path.parent / stated.get("file", f"{entry['name']}.reachable.npy")
        files = {key: path.parent / entry[key] for key in ("table", "verilog")}
        for file in files.values():
            if not is_file(file):
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
            realization=entry["realization"],
            reachable_sha256=stated.get("sha256", ""),
            reachable=reachable if stated and is_file(reachable) else None,
        )

    def read_table(self) -> IntArray:
        """The stored table, int64, index 0 = most negative input code.

        Raises:
            InputError: It is no one-dimensional array of integers.
        """
        return read_table(self.table)

    def promised_codes(self) -> IntArray:
        """The codes at which the unit is to be its function: the reachable ones if it has such, else all.

        Raises:
            InputError: The file of the reachable codes holds other ones than the unit was made for.
        """
        if self.reachable is None:
            return self.input.codes()
        codes_raw = reachable_codes(read_npy(self.reachable), self.input)
        if codes_digest(codes_raw) != self.reachable_sha256:
            raise InputError(
                f"reachable codes in '{self.reachable}' must be those that unit '{self.name}' was made for, "
                f"sha256 {self.reachable_sha256[:12]}..., not {codes_digest(codes_raw)[:12]}..."
            )
        return codes_raw


def _check_entry(entry: Any, path: Path) -> None:
    """Refuse what is no description of a unit, before any of it names a folder or a length."""
    check_words(entry, _WORDS, "unit", path)
    if entry["ii"] != 1:
        raise InputError(f"ii of unit '{entry['name']}' in '{path}' must be 1, not {entry['ii']}")
    check_numbers(entry, _NUMBERS, "unit", path)
    stated = entry.get("reachable") or {}
    texts = [stated.get(key, "") for key in ("file", "sha256")] if isinstance(stated, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"'reachable' of unit '{entry['name']}' in '{path}' must have 'file' and 'sha256'")


def read_manifest(path: Path) -> list[UnitFiles]:
    """The units of ``manifest.json``.

    Raises:
        InputError: The file is missing or no manifest, or a unit lacks something.
    """
    return manifest_units(read_json(path), path)


def manifest_units(body: Any, path: Path) -> list[UnitFiles]:
    """The units of what ``path`` holds, a manifest.

    Raises:
        InputError: As ``read_manifest``.
    """
    if not isinstance(body, dict) or not isinstance(body.get("units"), list) or not body["units"]:
        raise InputError(f"manifest '{path}' must hold a list 'units' with at least one unit")
    return [UnitFiles.from_entry(entry, path) for entry in body["units"]]
