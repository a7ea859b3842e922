"""Projects for vendors' tools, written by edalize; the tools themselves are not needed for that."""

from __future__ import annotations

import copy
import importlib
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw.axi_wrapper import Units, template_text, wrapper_module, wrapper_verilog
from hw.parts import VENDORS, vendor_options
from hw.verilog_text import stream_ports
from sw.files import make_folder

SOURCES = "rtl"
OUT_OF_CONTEXT = """\
# A unit is part of a larger design: it gets no pads.
set_property -name {STEPS.SYNTH_DESIGN.ARGS.MORE OPTIONS} -value {-mode out_of_context} \\
  -objects [get_runs synth_1]
"""


def write_project(
    folder: Path, body: Mapping[str, Any], *, tool: str, part: str = "", fmax_mhz: float
) -> Path:
    """Write a vendor's project of a unit, or of a run's top, into ``<folder>/vendor/<tool>/``.

    The project holds a copy of the Verilog in ``rtl``, so that it can be moved to where the tool is.
    There lie also the wrapper ``<name>_axis.v``, which is the project's top, and ``<name>.vh``, a
    template that instantiates it. Files of the same names are replaced; others, such as the tool's
    results, stay. Nothing is written where anything is wrong.

    Args:
        folder: Where the Verilog is.
        body: The unit's JSON, or ``top.json``.
        tool: One of ``hw.parts.VENDORS``.
        part: FPGA; empty for the vendor's default.
        fmax_mhz: Clock that the project asks for.

    Returns:
        The project's folder.

    Raises:
        InputError: No such vendor or part, or the folder cannot be written.
    """
    options = vendor_options(tool, part, fmax_mhz)
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".vendor-") as scratch:
        files = _write_sources(Path(scratch), folder, body, fmax_mhz)
        if tool == "vivado":
            files |= {"out_of_context.tcl": "tclSource"}
            (Path(scratch) / "out_of_context.tcl").write_text(OUT_OF_CONTEXT)
        _configure(Path(scratch), _edam(body, files, tool, options), tool)
        project = make_folder(folder / "vendor" / tool)
        for path in sorted(Path(scratch).rglob("*")):
            target = project / path.relative_to(scratch)
            if path.is_dir():
                make_folder(target)
            else:
                os.replace(path, target)
    return project


def _write_sources(root: Path, folder: Path, body: Mapping[str, Any], fmax_mhz: float) -> dict[str, str]:
    """Verilog, wrapper, template and clock of a project; edalize's type of each file that it reads."""
    name, top = body["name"], body["top"]
    units = [(unit["prefix"], unit) for unit in body["units"]] if "units" in body else [("", body)]
    (root / SOURCES).mkdir()
    files = {}
    for verilog in body.get("sources", [body["verilog"]]):
        shutil.copyfile(folder / verilog, root / SOURCES / verilog)
        files[f"{SOURCES}/{verilog}"] = "verilogSource"
    (root / SOURCES / f"{name}_axis.v").write_text(wrapper_verilog(top, units))
    (root / SOURCES / f"{name}.vh").write_text(template_text(name, top, units))
    (root / f"{name}.sdc").write_text(_constraints(units, fmax_mhz))
    return files | {f"{SOURCES}/{name}_axis.v": "verilogSource", f"{name}.sdc": "SDC"}


def _constraints(units: Units, fmax_mhz: float) -> str:
    """The clock, and that ports have all of its period: a unit's inputs have no registers of their own."""
    lines = [f"create_clock -name aclk -period {1000 / fmax_mhz:.3f} [get_ports aclk]"]
    for port in (port for prefix, unit in units for port in stream_ports(unit, prefix)):
        name = f"{port.name}[*]" if port.width > 1 else port.name
        lines.append(f"set_{port.direction}_delay -clock aclk 0 [get_ports {{{name}}}]")
    return "\n".join([*lines, "set_input_delay -clock aclk 0 [get_ports {aresetn}]", ""])


def _edam(
    body: Mapping[str, Any], files: Mapping[str, str], tool: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Edalize's description of a design."""
    described = {
        "name": body["name"],
        "toplevel": wrapper_module(body["top"]),
        "files": [{"name": path, "file_type": kind} for path, kind in files.items()],
    }
    if VENDORS[tool].is_flow:
        return described | {"flow_options": dict(options)}
    return described | {"tool_options": {tool: dict(options)}}


def _configure(root: Path, edam: dict[str, Any], tool: str) -> None:
    """Let edalize write the project's files."""
    # edalize warns where it does not find the vendor's tool, which is the normal case here.
    logging.getLogger("edalize").addHandler(logging.NullHandler())
    if not VENDORS[tool].is_flow:
        found = getattr(importlib.import_module(f"edalize.{tool}"), tool.capitalize())
        found(edam=edam, work_root=str(root), verbose=False).configure()
        return
    flow = getattr(importlib.import_module(f"edalize.flows.{tool}"), tool.capitalize())
    # A flow adds a design's options to a table of its class, where the next design would find them.
    own = type(flow.__name__, (flow,), {"_flow": copy.deepcopy(getattr(flow, "_flow", {}))})
    own(edam=edam, work_root=str(root)).configure()
