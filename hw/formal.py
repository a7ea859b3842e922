"""Proofs about generated units: ``make formal``, ``python -m hw.formal``.

Without ``--unit`` a small set of units is compiled and proved, of latencies from 1 to 6 cycles, with one lane
and with two, and after it the units of CONFIG's run if there are any. Three properties together
say that every accepted beat leaves once, in order, with what its table holds for its codes:

- ``stream``: the handshake, by k-induction (``hw.formal_stream``);
- ``pipeline``: registers, in the netlist (``hw.formal_pipeline``);
- ``table``: the logic on every code, by SAT (``hw.formal_table``), up to 16 input bits; wider units are
  simulated instead (``sim_tb``).

A unit of which none failed gets ``<name>.proofs.json`` beside its Verilog (``hw.formal_results``).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from hw.emit import emit_unit
from hw.formal_pipeline import pipeline_problem
from hw.formal_results import leave_results
from hw.formal_stream import stream_problem
from hw.formal_table import table_problem
from hw.measure import cached
from hw.tools import SBY, SMTBMC, YOSYS, Z3
from hw.units import KEYS, read_table, read_units, read_verilog
from sw.arguments import ArgumentParser, add_debug, guarded
from sw.arrays import codes_digest
from sw.config import load
from sw.ir.errors import VerificationError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining
from sw.ir.realize import realize
from sw.run_dir import RunDir
from sw.stage import code_digest
from sw.terminal import progress, table_console

PROPERTIES = ("stream", "pipeline", "table")
TABLE_BITS = 16
"""Widest input of which the table is proved."""
FOLDER = Path("build/formal")

SMALL_UNITS: tuple[tuple[str, str, str, str, str, int], ...] = (
    ("requant", "clip(1.5*x, -2, 2)", "s8.4", "s8.5", "requant", 1),
    ("half_table", "tanh(x)", "s8.5", "s8.6", "half_table", 2),
    ("threshold", "sigmoid(2*x)", "u10.8", "u5.4", "threshold", 3),
    ("operator", "0.5*x*x - x", "s8.4", "s10.5", "operator", 4),
    ("pwl", "tanh(x)", "s12.8", "s8.6", "pwl", 6),
)
"""Name, formula, formats, kind and latency in cycles."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """What became of one property of one unit."""

    unit: str
    property: str
    outcome: str
    """``proven``, ``failed`` or ``simulated``: too wide, left to simulation."""
    problem: str
    """Why it failed; empty otherwise."""
    seconds: float
    """How long it took, when it was not yet cached."""


def prove(units: Sequence[tuple[Mapping[str, Any], Path]], cache: Path) -> list[Proof]:
    """Prove the properties of units, several at a time, in the order of ``PROPERTIES`` for each unit.

    Args:
        units: Descriptions of units, each with the folder of its files.
        cache: Folder of earlier answers, keyed by Verilog, table, properties and versions of the tools.

    Raises:
        InputError: A file of a unit cannot be read.
        ToolError: A tool is missing, too old or fails.
    """
    versions = [*tool_versions(), code_digest("hw", "sw.ir")]
    jobs = [(unit, folder, property) for unit, folder in units for property in PROPERTIES]
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("formal", len(jobs)) as done:

        def one(job: tuple[Mapping[str, Any], Path, str]) -> Proof:
            proof = _prove(*job, versions, cache)
            done(f"{proof.unit} {proof.property}")
            return proof

        return list(pool.map(one, jobs))


def tool_versions() -> list[str]:
    """Names and versions of the tools that prove.

    Raises:
        ToolError: One is missing or too old.
    """
    return [tool.require().identifier for tool in (YOSYS, SBY, SMTBMC, Z3)]


def proof_table(proofs: Sequence[Proof]) -> Table:
    """The proofs for the terminal."""
    table = Table(title="Proofs about the generated Verilog")
    for heading in ("unit", "property", "outcome"):
        table.add_column(heading, no_wrap=True)
    table.add_column("s", justify="right")
    table.add_column("problem")
    for proof in proofs:
        seconds = "-" if proof.outcome == "simulated" else f"{proof.seconds:.1f}"
        table.add_row(proof.unit, proof.property, proof.outcome, seconds, proof.problem)
    return table


def check(proofs: Sequence[Proof]) -> None:
    """Let through only proofs none of which failed.

    Raises:
        VerificationError: One did; the text names the first one.
    """
    failed = [proof for proof in proofs if proof.outcome == "failed"]
    if failed:
        first = failed[0]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise VerificationError(
            f"property '{first.property}' of unit '{first.unit}' is not proven: {first.problem}{more}"
        )


def small_units(folder: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """The built-in set, compiled into a folder."""
    for name, formula, input, output, kind, latency in SMALL_UNITS:
        made = realize(parse(formula), FixedFormat.parse(input), FixedFormat.parse(output), kind=kind)
        for lanes in (1, 2):
            unit = emit_unit(
                made.program,
                name=f"{name}_{lanes}",
                folder=folder,
                expression=formula,
                realization=kind,
                max_ulp=made.max_ulp,
                lanes=lanes,
                pipelining=Pipelining(latency=latency),
            )
            yield unit, folder


def _prove(
    unit: Mapping[str, Any], folder: Path, property: str, versions: Sequence[str], cache: Path
) -> Proof:
    table = read_table(folder / unit["table"])
    verilog = read_verilog(unit, folder)
    if property == "table" and FixedFormat.parse(unit["input"]).width > TABLE_BITS:
        return Proof(unit=unit["name"], property=property, outcome="simulated", problem="", seconds=0.0)
    problems: dict[str, Callable[[], str]] = {
        "stream": lambda: stream_problem(unit, verilog),
        "pipeline": lambda: pipeline_problem(unit, verilog),
        "table": lambda: table_problem(unit, verilog, table),
    }

    def compute() -> dict[str, Any]:
        started = time.monotonic()
        problem = problems[property]()
        return {"problem": problem, "seconds": round(time.monotonic() - started, 1)}

    key = [property, *(unit[key] for key in KEYS), verilog, codes_digest(table), *versions]
    answer = cached(cache, key, compute)
    outcome = "failed" if answer["problem"] else "proven"
    return Proof(unit=unit["name"], property=property, outcome=outcome, **answer)


def _leave(units: Sequence[tuple[Mapping[str, Any], Path]], proofs: Sequence[Proof]) -> None:
    """Leave the results beside every unit."""
    tools = tool_versions()
    for number, (unit, folder) in enumerate(units):
        of_unit = proofs[number * len(PROPERTIES) : (number + 1) * len(PROPERTIES)]
        proved = {**unit, "table_sha256": codes_digest(read_table(folder / unit["table"]))}
        leave_results(proved, folder, {proof.property: proof.outcome for proof in of_unit}, tools)


def _asked_units(args: argparse.Namespace) -> list[tuple[dict[str, Any], Path]]:
    if args.units:
        return [unit for path in args.units for unit in read_units(path)]
    units = list(small_units(FOLDER))
    if args.config:
        config = load(args.config)
        manifest = RunDir(Path(config.runs_dir) / config.name, config).manifest
        units += read_units(manifest) if manifest.exists() else []
    return units


def main(argv: Sequence[str] | None = None) -> int:
    """The script; its exit status is 1 where a property is not proven."""
    parser = ArgumentParser(description="prove generated units: handshake, registers, table")
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="also prove the units of this run")
    parser.add_argument(
        "--unit",
        dest="units",
        metavar="FILE",
        type=Path,
        action="append",
        help="prove this <name>.json or manifest.json, and nothing else",
    )
    add_debug(parser)
    args = parser.parse_args(argv)

    def action() -> int:
        units = _asked_units(args)
        proofs = prove(units, FOLDER / "cache")
        _leave(units, proofs)
        table_console().print(proof_table(proofs))
        check(proofs)
        return 0

    return guarded(action, debug=args.debug)


if __name__ == "__main__":
    raise SystemExit(main())
