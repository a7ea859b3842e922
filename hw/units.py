"""Units that were written before: their JSON read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hw.streams import MAX_LANES
from sw.descriptions import MOST, check_keys, check_numbers, check_words
from sw.files import read_json, read_npy, read_text
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, IntArray

KEYS = ("name", "input", "output", "lanes", "latency_cycles", "table", "verilog", "top")
_NUMBERS = {"lanes": (1, MAX_LANES), "latency_cycles": (1, MOST)}


def read_units(path: Path) -> list[tuple[dict[str, Any], Path]]:
    """The units of a unit's JSON or of a ``manifest.json``, with the folder of their files.

    Raises:
        InputError: It cannot be read or describes no unit.
    """
    body = read_json(path)
    units = body["units"] if isinstance(body, dict) and "units" in body else [body]
    if not isinstance(units, list) or not units:
        raise InputError(f"manifest '{path}' must hold a list 'units' with at least one unit")
    for unit in units:
        _check(unit, path)
    return [(unit, path.parent) for unit in units]


def _check(unit: Any, path: Path) -> None:
    if isinstance(unit, dict) and "channels" in unit:
        raise InputError(f"'{path}' must describe a unit, not a norm")
    check_keys(unit, KEYS, "unit", path)
    check_words(unit, [key for key in KEYS if key not in _NUMBERS], "unit", path)
    check_numbers(unit, _NUMBERS, "unit", path)
    for key in ("input", "output"):
        FixedFormat.parse(unit[key])


def read_verilog(unit: Mapping[str, Any], folder: Path) -> str:
    """A unit's Verilog.

    Raises:
        InputError: It cannot be read.
    """
    return read_text(folder / unit["verilog"])


def read_table(path: Path) -> IntArray:
    """A unit's stored table, int64, index 0 = the most negative input code.

    Raises:
        InputError: It is no one-dimensional array of integers.
    """
    table = read_npy(path)
    if table.ndim != 1 or table.dtype.kind not in "iu":
        raise InputError(f"table '{path}' must be a row of integers, not {table.dtype} {table.shape}")
    return table.astype(np.int64)
