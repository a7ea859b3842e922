"""The contract, checked without hardware: table, program, formula, PyTorch module and float path agree.

Everything that needs torch happens here, in the launcher; the simulator gets numbers in a file. On a
machine without torch its checks are skipped, and say so.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sim_tb.job import Expected
from sim_tb.results import Check
from sim_tb.unit import UnitFiles
from sw.arrays import codes_digest
from sw.ir import interpret
from sw.ir.formats import EXHAUSTIVE_BITS, FixedFormat, IntArray
from sw.ir.parse import parse
from sw.ir.program import Program
from sw.ir.refmap import reference_map

SAMPLES = 1 << 16
NO_TORCH = "torch is not installed"
SHOWN = 4
"""Codes that a message spells out."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Codes of real activations at a site, int64 (rows, channels), and what the model made of them."""

    rows_raw: IntArray
    rows_out_raw: IntArray


@dataclass(slots=True)
class Contract:
    """What a unit or a norm must give, and whether everybody who says so agrees."""

    expected: Expected
    checks: list[Check] = field(default_factory=list)
    max_ulp: int | None = None
    """Largest distance of the stored table from the correctly rounded formula; None: sizes differ."""
    codes_compared: int = 0
    """Codes at which it was measured: those that the unit promises something for."""
    float_path_ties: int = 0
    float_path_differences: int = 0
    error_lsb: float = 0.0
    """Of a norm: largest error against float64."""

    def check(self, name: str, problem: Callable[[], str]) -> bool:
        """Add a check that passes when ``problem`` has nothing to say."""
        started = time.monotonic()
        message = problem()
        seconds = time.monotonic() - started
        self.checks.append(Check(name, "failed" if message else "passed", message, seconds))
        return not message


def examine(unit: UnitFiles, program: Program | None, replay: Replay | None, *, seed: int) -> Contract:
    """Compare all readers of a unit's map, on every code, and collect what the hardware must give.

    Args:
        unit: The unit's files.
        program: The integer program of its site; without one the stored table speaks for it, and is
            itself held against the formula.
        replay: Real activations.
        seed: Draws the codes of inputs wider than 16 bits.

    Raises:
        InputError: The table or the formula cannot be read.
    """
    codes_raw = codes_to_check(unit.input, seed)
    table_raw = unit.read_table()
    models: dict[str, IntArray] = {}
    none = np.zeros((0, 0), dtype=np.int64)
    rows = (replay.rows_raw, replay.rows_out_raw) if replay else (none, none)
    contract = Contract(Expected(codes_raw, models, *rows))
    formula_raw = reference_map(parse(unit.expression), unit.input, unit.output)
    whole = contract.check("stored_table", lambda: _table_problem(unit, table_raw, program))
    promised_raw = unit.promised_codes()
    contract.check("formula", lambda: _formula_problem(unit, table_raw, formula_raw, promised_raw))
    contract.max_ulp = distance(unit, table_raw, formula_raw, promised_raw)
    contract.codes_compared = len(promised_raw)
    if program is not None and (program.input, program.output) != (unit.input, unit.output):
        program = None  # noted by the check of the table; it has nothing to say about these codes
    if program is not None:
        models["interpreter"] = np.broadcast_to(interpret.run(program, codes_raw), codes_raw.shape).copy()
    elif whole:
        models["stored table"] = table_raw[codes_raw - unit.input.min_raw]
    if unit.max_ulp == 0 and unit.reachable is None:
        models["rounded formula"] = formula_raw[codes_raw - unit.input.min_raw]
    _examine_pytorch(contract, unit, program)
    return contract


def codes_to_check(format: FixedFormat, seed: int) -> IntArray:
    """Every code of a format of at most 16 bits; above, the corners and 2^16 drawn at random. Rising."""
    if format.width <= EXHAUSTIVE_BITS:
        return format.codes()
    drawn = np.random.default_rng(seed).integers(format.min_raw, format.max_raw + 1, SAMPLES)
    corners = [format.min_raw, format.min_raw + 1, max(format.min_raw, -1), 0, 1, format.max_raw]
    return np.unique(np.concatenate([drawn, corners]))


def _table_problem(unit: UnitFiles, table_raw: IntArray, program: Program | None) -> str:
    """The stored table against its digest, its size and range, and the interpreter."""
    if len(table_raw) != 1 << unit.input.width:
        return f"table '{unit.table.name}' has {len(table_raw)} entries, not {1 << unit.input.width}"
    if program is not None:
        if (program.input, program.output) != (unit.input, unit.output):
            return f"program maps {program.input} to {program.output}, not {unit.input} to {unit.output}"
        wanted_raw = interpret.table(program)
        difference = describe_difference(unit.input.codes(), table_raw, wanted_raw)
        if difference:
            return f"table '{unit.table.name}' differs from the interpreter: {difference}"
    if codes_digest(table_raw) != unit.table_sha256:
        return f"table '{unit.table.name}' has another sha256 than the one stated"
    return ""


def _formula_problem(
    unit: UnitFiles, table_raw: IntArray, wanted_raw: IntArray, promised_raw: IntArray
) -> str:
    """The stored table against the correctly rounded formula, within the stated ``max_ulp``."""
    if len(table_raw) != len(wanted_raw):
        return f"table '{unit.table.name}' has {len(table_raw)} entries, not {len(wanted_raw)}"
    got_raw, wanted_raw = (map_raw[promised_raw - unit.input.min_raw] for map_raw in (table_raw, wanted_raw))
    near = np.where(np.abs(got_raw - wanted_raw) <= unit.max_ulp, wanted_raw, got_raw)
    difference = describe_difference(promised_raw, near, wanted_raw)
    if not difference:
        return ""
    unknown = bool(unit.reachable_sha256) and unit.reachable is None
    hint = f" (its reachable codes are wanted as '{unit.name}.reachable.npy' beside it)" if unknown else ""
    return f"more than {unit.max_ulp} ulp from '{unit.expression}': {difference}{hint}"


def distance(
    unit: UnitFiles, table_raw: IntArray, formula_raw: IntArray, promised_raw: IntArray
) -> int | None:
    """Largest distance of a table from the correctly rounded formula in output codes; None: sizes differ."""
    if len(table_raw) != len(formula_raw):
        return None
    return int(np.abs(table_raw - formula_raw)[promised_raw - unit.input.min_raw].max())


def _examine_pytorch(contract: Contract, unit: UnitFiles, program: Program | None) -> None:
    reason = "" if program is not None else "no program beside the unit"
    if not importlib.util.find_spec("torch"):
        reason = NO_TORCH
    if reason or program is None:
        contract.checks += [Check(name, "skipped", reason) for name in ("pytorch_module", "float_path")]
        return
    from sim_tb import pytorch

    expected = contract.expected
    module_raw = pytorch.module_codes(program, expected.codes_raw)
    expected.models_raw["PyTorch module"] = module_raw
    contract.check(
        "pytorch_module",
        lambda: describe_difference(expected.codes_raw, module_raw, expected.models_raw["interpreter"]),
    )
    path = pytorch.float_path(unit.expression, program, max_ulp=unit.max_ulp)
    contract.float_path_ties, contract.float_path_differences = len(path.ties), len(path.differences)
    contract.check("float_path", lambda: pytorch.float_path_problem(path))


def describe_difference(codes_raw: IntArray, got_raw: IntArray, wanted_raw: IntArray) -> str:
    """Where two maps differ, the first few codes spelt out; empty where they agree."""
    places = np.flatnonzero(got_raw != wanted_raw)
    if not len(places):
        return ""
    shown = "; ".join(f"code {codes_raw[i]} gives {got_raw[i]}, not {wanted_raw[i]}" for i in places[:SHOWN])
    return shown + (f"; {len(places) - SHOWN} more" if len(places) > SHOWN else "")
