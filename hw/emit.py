"""Units as files: Verilog, the table it must compute, and what a user of the unit has to know."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import verilog
from amaranth.lib import wiring

from hw import top
from hw.formal_results import results_path
from hw.fusesoc_core import core_id, core_text
from hw.pipeline import Unit
from hw.streams import PORTS, check_lanes
from hw.verilog_text import with_lint_exceptions
from sw.arrays import codes_digest
from sw.descriptions import is_name
from sw.files import atomic, keep_only, make_folder, read_json, write_json, write_text
from sw.ir import interpret
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.parse import parse
from sw.ir.pipelining import DEFAULT, Pipelining, pipelined
from sw.ir.program import Program
from sw.ir.realize import realize
from sw.ir.realize.target import NotApplicableError
from sw.ir.schedule import Schedule
from sw.programs import read_program
from sw.run_dir import RunDir, unit_name
from sw.stage import Stage
from sw.terminal import progress

TOP_PREFIX = "normforge_"
UNIT_FILES = (".v", ".json", ".table.npy", ".core")
MAX_NAME = 128
"""Letters: names of files have at most 255, and some go before and behind."""


def emit_unit(
    program: Program,
    *,
    name: str,
    folder: Path,
    expression: str,
    realization: str,
    max_ulp: int,
    site: str = "",
    lanes: int = 1,
    pipelining: Pipelining = DEFAULT,
    schedule: Schedule | None = None,
    library: str = "units",
    reachable: IntArray | None = None,
    prefix: str = "normforge",
) -> dict[str, Any]:
    """Write ``<name>.v``, ``.table.npy``, ``.core`` and ``.json`` into a folder that may exist already.

    The table holds the output code of every input code, index 0 = the most negative one, in the
    smallest integer dtype that holds the output format. The same program gives the same bytes.

    Args:
        program: What the unit computes.
        name: Stem of the files; the top module is ``<prefix>_<name>``.
        folder: Where the files go.
        expression: The function that the program realises, for the reader.
        realization: Kind of realisation.
        max_ulp: Largest distance of the table from the correctly rounded function.
        site: The norm of a model that it replaces; the files of a run know it by that.
        lanes: Codes a beat.
        pipelining: Where registers go; tables may be cut for it, the map stays.
        schedule: Where they are already: the program is taken as it is, and ``pipelining`` says nothing.
        library: FuseSoC's library of the unit: ``normforge:<library>:<name>:0.1.0``.
        reachable: The only input codes at which the unit promises anything, also written; None: all.
        prefix: Of the module's name.

    Returns:
        What the JSON file says: ``name expression input output lanes latency_cycles ii realization
        max_ulp table_sha256 table verilog top``, paths relative to the folder, and ``site`` and
        ``reachable`` if given.

    Raises:
        InputError: The name is no Verilog identifier, the folder cannot be written, or ``lanes``, the
            clock or the latency is out of range.
    """
    check_name(name)
    check_lanes(lanes)
    if schedule is None:
        program, schedule = pipelined(program, pipelining)
    make_unit_folder(folder, name)
    unit = Unit(program, schedule, lanes=lanes)
    table = interpret.table(program)
    body: dict[str, Any] = {
        "name": name,
        "expression": expression,
        "input": str(program.input),
        "output": str(program.output),
        "lanes": lanes,
        "latency_cycles": unit.latency_cycles,
        "ii": 1,
        "realization": realization,
        "max_ulp": max_ulp,
        "table_sha256": codes_digest(table),
        "table": f"{name}.table.npy",
        "verilog": f"{name}.v",
        "top": f"{prefix}_{name}",
    }
    if site:
        body["site"] = site
    if reachable is not None:
        body["reachable"] = _write_reachable(folder / f"{name}.reachable.npy", reachable, len(table))
    write_text(folder / body["verilog"], _heading(body) + unit_verilog(unit, body["top"]))
    _write_npy(folder / body["table"], table.astype(_smallest_dtype(program.output)))
    write_text(folder / f"{name}.core", _core_of(body, library))
    write_json(folder / f"{name}.json", body)
    return body


def make_unit_folder(folder: Path, name: str) -> None:
    """Make the folder of a unit's files.

    Raises:
        InputError: It cannot be made, or a folder is where a file would go: nothing is written then.
    """
    make_folder(folder)
    for path in (folder / f"{name}{suffix}" for suffix in UNIT_FILES):
        if path.is_dir():
            raise InputError(f"'{path}' must be a file that can be replaced, not a folder")


def _heading(body: Mapping[str, Any]) -> str:
    """What a reader of the Verilog has to know, in comments whatever the expression holds."""
    expression = " ".join(body["expression"].split())
    equal = "exact" if body["max_ulp"] == 0 else f"within {body['max_ulp']} output codes"
    if "reachable" in body:
        equal += " at {codes} reachable of {of} input codes".format(**body["reachable"])
    lanes = "1 lane" if body["lanes"] == 1 else f"{body['lanes']} lanes"
    return (
        f"// {body['top']}: {expression}, {body['input']} to {body['output']}, {equal}.\n"
        f"// AXI4-Stream, {lanes}, a beat a cycle, latency {body['latency_cycles']}, synchronous reset.\n"
        f"// sha256 of its table: {body['table_sha256']}\n"
    )


def check_name(name: str) -> None:
    """Let through only what can be part of a Verilog identifier and of a file's name.

    Raises:
        InputError: It cannot.
    """
    if len(name) > MAX_NAME:
        raise InputError(f"name of a unit must have at most {MAX_NAME} letters, not {len(name)}")
    if not is_name(name):
        raise InputError(f"name of a unit must be letters, digits and underscores, not {name!r}")


def unit_verilog(unit: wiring.Component, module: str) -> str:
    """Verilog of a component with streams ``i`` and ``o``, as ``clk rst s_axis_* m_axis_*``.

    The same component gives the same text.
    """
    ports: dict[str, Any] = {}
    for prefix, stream in (("s_axis", unit.i), ("m_axis", unit.o)):
        ports |= {f"{prefix}_{port}": (getattr(stream, port), None) for port in PORTS}
    # Another Yosys on the PATH would write other text; the one that comes with Amaranth is pinned.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    text: str = verilog.convert(unit, name=module, ports=ports, emit_src=False, strip_internal_attrs=True)
    return with_lint_exceptions(text, generated=True)


def _core_of(body: Mapping[str, Any], library: str) -> str:
    description = "{expression}, {input} to {output}, latency {latency_cycles}".format(**body)
    identifier = core_id(library, body["name"])
    return core_text(identifier, description=description, files=[body["verilog"]], top=body["top"])


def _write_reachable(path: Path, codes: IntArray, num_codes: int) -> dict[str, Any]:
    """Keep the codes at which a unit is its function; what its JSON says of them."""
    _write_npy(path, codes.astype(np.int64))
    return {"codes": len(codes), "of": num_codes, "file": path.name, "sha256": codes_digest(codes)}


def _write_npy(path: Path, values: IntArray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    with atomic(path) as scratch:
        scratch.write_bytes(buffer.getvalue())


def _smallest_dtype(format: FixedFormat) -> np.dtype[Any]:
    size = next(size for size in (1, 2, 4) if format.width <= 8 * size)
    return np.dtype(f"{'i' if format.signed else 'u'}{size}")


def _emit_run(run: RunDir) -> None:
    functions = run.read_functions()
    top.check_names([unit_name(site) for site in functions])
    captured = read_json(run.capture_stats)
    with progress("hdl", len(functions)) as done:
        units = []
        for site, entry in functions.items():
            norm = captured["sites"][site]
            affine = {"folds": norm["foldable"], "reason": norm["reason"]}
            units.append(_emit_site(run, site, entry) | {"affine": affine})
            done(site)
    top.write_top(run.hdl, units, run.config.name, run.config.unit.prefix)
    write_json(run.manifest, {"units": units, "kept": captured.get("kept", {})})
    proofs = [results_path(unit["name"], run.hdl / unit["verilog"]) for unit in units]
    for folder in (run.hdl, run.operators):
        keep_only(folder, [*_outputs(run), *proofs])  # an earlier run may have had other sites


def _emit_site(run: RunDir, site: str, entry: dict[str, Any]) -> dict[str, Any]:
    """A site's unit and, beside it, its operator pipeline."""
    unit = run.config.unit
    program = read_program(run.program(site))
    shared = {"name": unit_name(site), "expression": entry["expression"], "site": site}
    shared |= {
        "prefix": unit.prefix,
        "lanes": unit.lanes,
        "pipelining": Pipelining(unit.fmax_mhz),
        "library": run.config.name,
    }
    body = emit_unit(
        program, folder=run.hdl, realization=entry["realization"], max_ulp=entry["max_ulp"], **shared
    )
    try:
        plain = realize(parse(entry["expression"]), program.input, program.output, kind="operator")
    except NotApplicableError:
        return body | {"operator": None}
    for key in ("library", "prefix"):  # both may come into one design
        shared[key] += "_operator"
    beside = emit_unit(
        plain.program, folder=run.operators, realization=plain.kind, max_ulp=plain.max_ulp, **shared
    )
    picked = {key: beside[key] for key in ("realization", "max_ulp", "latency_cycles")}
    return body | {"operator": picked | {"price_lut6": plain.lut6}}


def _inputs(run: RunDir) -> list[Path]:
    return [run.functions, run.capture_stats, *run.programs()]


def _outputs(run: RunDir) -> list[Path]:
    tops = [run.hdl / name for name in top.TOP_FILES]
    try:
        return [run.manifest, *tops, *_unit_files(run, read_json(run.manifest)["units"])]
    except (InputError, LookupError, TypeError):  # not there, or damaged: this stage writes it
        return [run.manifest, *tops]


def _unit_files(run: RunDir, units: Sequence[Mapping[str, Any]]) -> list[Path]:
    stems = [run.hdl / unit["name"] for unit in units]
    stems += [run.operators / unit["name"] for unit in units if unit["operator"]]
    return [stem.with_name(stem.name + end) for stem in stems for end in UNIT_FILES]


STAGE = Stage(
    name="hdl",
    help="Verilog, table and description of every site's unit",
    sections=("unit", "name"),  # cores bear the run's name
    inputs=_inputs,
    outputs=_outputs,
    body=_emit_run,
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
