"""Ports of units as Verilog text: what tops and wrappers around units declare and connect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hw.streams import PORTS, buses
from sw.ir.formats import FixedFormat

_MODULE_NAME = "DECLFILENAME"
"""Modules are called ``normforge_<name>``, files ``<name>.v``."""

_GENERATED = (
    "CASEINCOMPLETE",  # every register keeps its value where a case says nothing of it
    "PROCASSINIT",  # registers have a start value beside their reset
    "UNUSEDSIGNAL",  # Yosys keeps every named wire
    "WIDTHEXPAND",  # Verilog extends operands by itself, as Amaranth expects
    "WIDTHTRUNC",  # "!" is how it compares with 0
)
"""What Verilator says about every Verilog that Yosys wrote."""


_TRIGGER = re.compile(r"^( *reg (\\\S*dump_module\S* )) *= 0;$", re.MULTILINE)
"""What Yosys wakes ``always @*`` with, once at the start. In SystemVerilog an initial value of a declaration
is there before any process runs, and nothing wakes; an ``initial`` is an event in all versions."""


class Port(NamedTuple):
    """One port of a module."""

    name: str
    direction: str
    """``input`` or ``output``."""
    width: int = 1

    @property
    def declaration(self) -> str:
        size = f"[{self.width - 1}:0] " if self.width > 1 else ""
        return f"{self.direction:<6} wire {size}{self.name}"


def stream_widths(unit: Mapping[str, Any]) -> dict[str, int]:
    """Bits of ``tdata`` of a unit's two streams, ``s_axis`` and ``m_axis``, from its description."""
    input, output = (FixedFormat.parse(unit[key]) for key in ("input", "output"))
    return {port.removesuffix("_tdata"): bits for port, bits in buses(input, output, unit["lanes"]).items()}


def stream_ports(unit: Mapping[str, Any], prefix: str = "") -> list[Port]:
    """The eight stream ports of a unit, their names behind a prefix."""
    ports = []
    for end, width in stream_widths(unit).items():
        forward, backward = ("input", "output") if end == "s_axis" else ("output", "input")
        for port in PORTS:
            direction = backward if port == "tready" else forward
            ports.append(Port(f"{prefix}{end}_{port}", direction, width if port == "tdata" else 1))
    return ports


def module_head(name: str, ports: Sequence[Port], attributes: Mapping[str, Sequence[str]]) -> str:
    """The head of a module; ``attributes`` are lines that stand before the port of that name."""
    entries = []
    for port in ports:
        entries.append("".join(f"  {line}\n" for line in attributes.get(port.name, ())))
        entries[-1] += f"  {port.declaration}"
    return f"module {name} (\n" + ",\n".join(entries) + "\n);\n"


def instance(module: str, name: str, connections: Iterable[tuple[str, str]], indent: str = "  ") -> str:
    """An instance of a module; each connection is a port and what it is connected to."""
    pairs = list(connections)
    width = max(len(port) for port, _ in pairs)
    lines = ",\n".join(f"{indent}  .{port:<{width}} ({signal})" for port, signal in pairs)
    return f"{indent}{module} {name} (\n{lines}\n{indent});\n"


def with_lint_exceptions(text: str, *, generated: bool = False) -> str:
    """The text, such that Verilator's ``-Wall`` finds nothing in it that is meant to be so.

    Args:
        text: Verilog of a whole file.
        generated: Yosys wrote it.
    """
    rules = (_MODULE_NAME, *(_GENERATED if generated else ()))
    if generated:
        text = _TRIGGER.sub(r"\1; initial \2 = 0;", text)
    off = "".join(f"// verilator lint_off {rule}\n" for rule in rules)
    return f"// verilator lint_save\n{off}{text.rstrip()}\n// verilator lint_restore\n"
