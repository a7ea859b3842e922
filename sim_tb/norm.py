"""A generated norm as its files describe it, the rows that it is given, and what it must make of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim_tb.contract import Contract
from sim_tb.job import Expected
from sw.descriptions import MOST, check_keys, check_numbers, check_words, is_file
from sw.files import read_npy
from sw.ir.affine import Affine
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.layernorm import MAX_CHANNELS, MAX_CODE_BITS, LayerNorm
from sw.ir.layernorm_error import corner_rows, error_lsb

KEYS = (
    *("name", "expression", "input", "output", "channels", "lanes", "variant", "latency_cycles"),
    *("interval_cycles", "eps", "guard_bits", "affine", "bound_lsb", "verilog", "top"),
)
"""What a norm's JSON must say."""
AFFINE_KEYS = ("gamma", "beta", "gamma_raw", "beta_raw")
_EXPRESSIONS = ("LayerNorm", "RMSNorm")
_WORDS = ("name", "expression", "input", "output", "variant", "verilog", "top")
_NUMBERS = {
    **{"channels": (1, MAX_CHANNELS), "lanes": (1, MOST), "guard_bits": (1, MAX_CODE_BITS)},
    **{"latency_cycles": (1, MOST), "interval_cycles": (1, MOST)},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NormFiles:
    """One norm: what its JSON says, paths joined to the JSON's folder."""

    site: str
    """The site, or the norm's own name where it stands alone."""
    name: str
    model: LayerNorm
    """What it must compute, made from the JSON alone."""
    lanes: int
    latency_cycles: int
    interval_cycles: int
    bound_lsb: float
    """As it is stated."""
    verilog: Path
    top: str

    @property
    def input(self) -> FixedFormat:
        return self.model.input

    @property
    def output(self) -> FixedFormat:
        return self.model.output

    @staticmethod
    def is_description(body: Any) -> bool:
        """Whether a JSON object describes a norm, and not a unit."""
        return isinstance(body, dict) and "channels" in body and "variant" in body

    @classmethod
    def from_entry(cls, entry: Any, path: Path) -> NormFiles:
        """A norm from an object of ``path``, the JSON file to whose folder its paths are relative.

        Raises:
            InputError: It is no norm's description, or names a file that is not there.
        """
        check_keys(entry, KEYS, "norm", path)
        _check_entry(entry, path)
        verilog = path.parent / entry["verilog"]
        if not is_file(verilog):
            raise InputError(f"norm '{entry['name']}' needs '{verilog}', which is missing")
        return cls(
            site=entry.get("site", entry["name"]),
            name=entry["name"],
            model=_model(entry, path),
            lanes=entry["lanes"],
            latency_cycles=entry["latency_cycles"],
            interval_cycles=entry["interval_cycles"],
            bound_lsb=entry["bound_lsb"],
            verilog=verilog,
            top=entry["top"],
        )


def _check_entry(entry: Mapping[str, Any], path: Path) -> None:
    """Refuse what is no description of a norm, before any of it names a folder or a length."""
    check_words(entry, _WORDS, "norm", path)
    check_numbers(entry, _NUMBERS, "norm", path)
    for key in ("eps", "bound_lsb"):
        number = entry[key]
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not (is_number and abs(number) <= sys.float_info.max):  # a long integer is no float
            raise InputError(
                f"'{key}' of norm '{entry['name']}' in '{path}' must be a finite number, not {number!r}"
            )


def _model(entry: Mapping[str, Any], path: Path) -> LayerNorm:
    if entry["expression"] not in _EXPRESSIONS:
        known = " or ".join(_EXPRESSIONS)
        raise InputError(
            f"expression of norm '{entry['name']}' in '{path}' must be {known}, not {entry['expression']!r}"
        )
    return LayerNorm(
        input=FixedFormat.parse(entry["input"]),
        output=FixedFormat.parse(entry["output"]),
        channels=entry["channels"],
        eps=entry["eps"],
        rms=entry["expression"] == "RMSNorm",
        affine=None if entry["affine"] is None else _affine(entry["affine"], path),
        guard_bits=entry["guard_bits"],
    )


def _affine(entry: Any, path: Path) -> Affine:
    check_keys(entry, AFFINE_KEYS, "norm's affine", path)
    for key in ("gamma", "beta"):
        if not isinstance(entry[key], str):
            raise InputError(f"'{key}' of a norm's affine in '{path}' must be a text, not {entry[key]!r}")
        codes = entry[f"{key}_raw"]
        if not isinstance(codes, list) or not all(type(code) is int for code in codes):
            raise InputError(f"'{key}_raw' of a norm's affine in '{path}' must be a list of integers")
    return Affine(
        gamma=FixedFormat.parse(entry["gamma"]),
        beta=FixedFormat.parse(entry["beta"]),
        gamma_raw=tuple(entry["gamma_raw"]),
        beta_raw=tuple(entry["beta_raw"]),
    )


def read_tokens(path: Path, norm: LayerNorm) -> IntArray:
    """Codes of real tokens, int64 (tokens, channels): integers are codes, other numbers are rounded to them.

    Raises:
        InputError: The file cannot be read, or holds no rows of so many channels or no such codes.
    """
    stored = read_npy(path)
    if stored.dtype.kind not in "iuf" or stored.ndim != 2 or not stored.size:
        raise InputError(f"tokens '{path}' must be rows of numbers, not {stored.dtype} {stored.shape}")
    if stored.dtype.kind == "f":
        if not np.isfinite(stored).all():
            raise InputError(f"tokens '{path}' must be finite, not {stored[~np.isfinite(stored)][0]}")
        stored = norm.input.quantize(stored)
    tokens_raw = stored.astype(np.int64)
    norm.run(tokens_raw)  # refuses what are no rows of its input, before anything is simulated
    return tokens_raw


def random_rows(norm: LayerNorm, count: int, seed: int) -> IntArray:
    """Rows of every size of spread and mean, (count, channels): half of them about 0."""
    low, high = norm.input.min_raw, norm.input.max_raw
    rng = np.random.default_rng(seed)
    spread = np.exp2(rng.uniform(-1, norm.input.width, (count, 1)))
    mean = rng.uniform(low, high, (count, 1)) * rng.integers(0, 2, (count, 1))
    drawn = np.rint(mean + spread * rng.normal(0, 1, (count, norm.channels)))
    return np.clip(drawn, low, high).astype(np.int64)


def examine_norm(files: NormFiles, tokens_raw: IntArray | None, *, rows: int, seed: int) -> Contract:
    """What the hardware must make of corner rows, ``rows`` random ones and tokens, held against float64."""
    norm = files.model
    rows_raw = np.concatenate([corner_rows(norm), random_rows(norm, rows, seed)])
    replay_raw = np.zeros((0, norm.channels), dtype=np.int64) if tokens_raw is None else tokens_raw
    models = {"integer model": norm.run(rows_raw)}
    contract = Contract(Expected(rows_raw, models, replay_raw, norm.run(replay_raw)))
    contract.error_lsb = error_lsb(norm, np.concatenate([rows_raw, replay_raw])).max
    contract.check("error_bound", lambda: _bound_problem(files, contract.error_lsb))
    return contract


def _bound_problem(files: NormFiles, error: float) -> str:
    """The stated bound against the model's, and the largest error against the bound."""
    bound = files.model.bound_lsb
    if abs(files.bound_lsb - bound) > 1e-9 * bound:
        return f"bound_lsb must be {bound:.6g}, not {files.bound_lsb:.6g}"
    return "" if error <= bound else f"error must be at most {bound:.6g} LSB, not {error:.6g}"
