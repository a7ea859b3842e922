"""The units of a run side by side: one module with an AXI4-Stream in and out for every site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.fusesoc_core import core_id, core_text
from hw.verilog_text import Port, instance, module_head, stream_ports, with_lint_exceptions
from sw.files import write_json, write_text
from sw.ir.errors import InputError

NAME = "top"
TOP_FILES = tuple(f"{NAME}{end}" for end in (".v", ".json", ".core"))
CLOCK_AND_RESET = (Port("clk", "input"), Port("rst", "input"))
_DESCRIBED = ("site", "name", "expression", "input", "output", "lanes", "latency_cycles")


def write_top(
    folder: Path, units: Sequence[Mapping[str, Any]], library: str, prefix: str = "normforge"
) -> dict[str, Any]:
    """Write ``top.v``, ``top.core`` and ``top.json`` beside the units that they put together.

    Args:
        folder: Where the units' files are.
        units: Entries of a manifest.
        library: FuseSoC's library of the units.
        prefix: The module is ``<prefix>_top``.

    Returns:
        What ``top.json`` says: ``name top verilog sources units``; ``sources`` is all Verilog that the
        module needs, each of ``units`` has the ``prefix`` of its ports.

    Raises:
        InputError: As ``check_names``.
    """
    check_names([unit["name"] for unit in units])
    module = f"{prefix}_{NAME}"
    body = {
        "name": NAME,
        "top": module,
        "verilog": f"{NAME}.v",
        "sources": [*(unit["verilog"] for unit in units), f"{NAME}.v"],
        "units": [{key: unit[key] for key in _DESCRIBED} | {"prefix": port_prefix(unit)} for unit in units],
    }
    core = core_text(
        core_id(library, NAME),
        description=f"{len(units)} scalar functions side by side",
        files=[f"{NAME}.v"],
        top=module,
        depend=[core_id(library, unit["name"]) for unit in units],
    )
    write_text(folder / f"{NAME}.v", top_verilog(units, module))
    write_text(folder / f"{NAME}.core", core)
    write_json(folder / f"{NAME}.json", body)
    return body


def check_names(names: Sequence[str]) -> None:
    """Let through only units whose files and modules do not meet those of the top.

    Raises:
        InputError: A unit has the top's name.
    """
    if NAME in names:
        raise InputError(f"name of a unit of a run must be any but '{NAME}', which puts the units together")


def port_prefix(unit: Mapping[str, Any]) -> str:
    """What stands before the stream ports of a unit in the top, such as ``blocks_0_norm1_``."""
    name: str = unit["name"]
    return f"{'_' if name[0].isdigit() else ''}{name}_"


def top_verilog(units: Sequence[Mapping[str, Any]], module: str) -> str:
    """Verilog of a module: every unit with ports of its own, one clock and one reset for all."""
    ports = list(CLOCK_AND_RESET)
    instances = []
    for unit in units:
        outer, inner = stream_ports(unit, port_prefix(unit)), stream_ports(unit)
        ports += outer
        wired = [(port.name, port.name) for port in CLOCK_AND_RESET]
        wired += [(port.name, wire.name) for port, wire in zip(inner, outer, strict=True)]
        instances.append(instance(unit["top"], f"u_{unit['name']}", wired))
    body = "\n".join(instances)
    return with_lint_exceptions(f"{module_head(module, ports, {})}\n{body}endmodule\n")
