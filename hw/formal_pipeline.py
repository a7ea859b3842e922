"""Registers of a unit, checked in its netlist: on every way from input to output as many as it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hw.measure import after_yosys

_SCRIPT = """read_verilog unit.v
hierarchy -top {top}
proc
flatten
opt_expr
opt_dff -nosdff
opt_clean
write_json unit.json
"""

_STATELESS = """
not pos neg and or xor xnor reduce_and reduce_or reduce_xor reduce_xnor reduce_bool shl shr sshl sshr shift
shiftx lt le eq ne eqx nex ge gt add sub mul logic_not logic_and logic_or mux pmux bmux
"""
COMBINATIONAL = frozenset(f"${name}" for name in _STATELESS.split())
"""Yosys's cells without state. Anything else on the way from input to output is a problem, but a register
and the reading of a table."""

_INPUTS = ("s_axis_tdata", "s_axis_tvalid", "s_axis_tlast", "m_axis_tready", "rst", "clk")

Bit = int | str
"""A wire of the netlist, or a constant."""


class PipelineError(Exception):
    """The data path is not the pipeline that it should be."""


def pipeline_problem(unit: Mapping[str, Any], verilog: str) -> str:
    """Check that the data path of a unit is a plain pipeline; empty, or what is wrong.

    Every way from ``s_axis_tdata`` to ``m_axis_tdata`` passes ``latency_cycles`` registers, all of which
    load in exactly the cycles in which ``s_axis_tready`` is high; nothing else reaches ``m_axis_tdata``,
    and no port but ``m_axis_tready`` has a way without register to an output, and that only to
    ``s_axis_tready``. So a code leaves ``latency_cycles`` such cycles after it came, changed by
    combinational logic alone, whatever went before or after it, and is held in all other cycles.

    Args:
        unit: An entry of a manifest.
        verilog: Its text.

    Raises:
        ToolError: Yosys is missing, too old or fails.
    """
    with after_yosys(verilog, _SCRIPT.format(top=unit["top"])) as folder:
        module = json.loads((folder / "unit.json").read_text())["modules"][unit["top"]]
    netlist = _Netlist(module)
    try:
        netlist.check_data(int(unit["latency_cycles"]))
        netlist.check_ports()
    except PipelineError as error:
        return str(error)
    return ""


class _Netlist:
    """A flat module: which cell drives each wire, and which port it comes from."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        self.ports: dict[str, list[Bit]] = {name: port["bits"] for name, port in module["ports"].items()}
        self.origin = {bit: name for name in _INPUTS for bit in self.ports.get(name, [])}
        self.cells: dict[str, Mapping[str, Any]] = module["cells"]
        self.driver: dict[Bit, tuple[str, str, int]] = {}
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "output":
                    self.driver |= {bit: (name, port, place) for place, bit in enumerate(bits)}
        self.depths: dict[Bit, int | None] = {}

    def check_data(self, latency: int) -> None:
        """The registers between the data ports."""
        for bit in self.ports["m_axis_tdata"]:
            depth = self._depth(bit)
            if depth not in (latency, None):
                raise PipelineError(f"m_axis_tdata is {depth} registers from s_axis_tdata, not {latency}")

    def check_ports(self) -> None:
        """The ways without register between ports."""
        allowed = {"s_axis_tready": {"m_axis_tready"}}
        for name in ("m_axis_tvalid", "m_axis_tdata", "m_axis_tlast", "s_axis_tready"):
            for source in sorted(self._direct(self.ports[name]) - allowed.get(name, set())):
                raise PipelineError(f"{name} depends on {source} without a register")

    def _depth(self, bit: Bit) -> int | None:
        """Registers from s_axis_tdata to a wire, the same on every way; None for a constant."""
        entered: set[Bit] = set()  # met again before its depth is known: a loop
        waiting = [bit]
        while waiting:
            at = waiting[-1]
            if isinstance(at, str) or at in self.depths:
                waiting.pop()
                continue
            registers, below = self._step(at)
            unknown = [b for b in below if not isinstance(b, str) and b not in self.depths]
            if unknown:
                if at in entered or not entered.isdisjoint(unknown):
                    raise PipelineError("the data path feeds back into itself")
                entered.add(at)
                waiting += unknown
                continue
            depths = (self.depths[b] for b in below if not isinstance(b, str))
            found = {0} if at in self.origin else {depth for depth in depths if depth is not None}
            if len(found) > 1:
                name, _, _ = self.driver[at]
                raise PipelineError(f"codes of different beats meet in {self.cells[name]['type']} '{name}'")
            self.depths[at] = registers + found.pop() if found else None
            entered.discard(at)
        return None if isinstance(bit, str) else self.depths[bit]

    def _step(self, bit: Bit) -> tuple[int, list[Bit]]:
        """Registers (0 or 1) between a wire and the wires that it comes from, and those."""
        if bit in self.origin:
            if self.origin[bit] != "s_axis_tdata":
                raise PipelineError(f"m_axis_tdata depends on {self.origin[bit]}")
            return 0, []
        name, _, place = self.driver.get(bit, ("", "", 0))
        if not name:
            raise PipelineError("m_axis_tdata depends on a wire that nothing drives")
        cell = self.cells[name]
        if cell["type"] == "$dffe" and self._moves_with_the_stream(cell):
            return 1, [cell["connections"]["D"][place]]
        return 0, self._sources(name)

    def _moves_with_the_stream(self, cell: Mapping[str, Any]) -> bool:
        pins = cell["connections"]
        signs = [int(str(cell["parameters"][f"{pin}_POLARITY"]), 2) for pin in ("CLK", "EN")]
        ready, clock = self.ports["s_axis_tready"], self.ports["clk"]
        return signs == [1, 1] and pins["EN"] == ready and pins["CLK"] == clock

    def _sources(self, name: str) -> list[Bit]:
        """What a cell without state reads."""
        cell = self.cells[name]
        pins: dict[str, list[Bit]] = cell["connections"]
        is_table = cell["type"].startswith("$memrd") and int(str(cell["parameters"]["CLK_ENABLE"]), 2) == 0
        if is_table and not any(c["type"].startswith("$memwr") for c in self.cells.values()):
            return pins["ADDR"]
        if cell["type"] not in COMBINATIONAL:
            raise PipelineError(f"a register that does not move with the stream: {cell['type']} '{name}'")
        return [b for p, bits in pins.items() if cell["port_directions"][p] == "input" for b in bits]

    def _direct(self, bits: list[Bit]) -> set[str]:
        """Input ports that reach wires without a register."""
        seen: set[Bit] = set()
        found: set[str] = set()
        waiting = list(bits)
        while waiting:
            bit = waiting.pop()
            if bit in seen or isinstance(bit, str):
                continue
            seen.add(bit)
            if bit in self.origin:
                found.add(self.origin[bit])
            elif bit in self.driver and "dff" not in self.cells[self.driver[bit][0]]["type"]:
                waiting += self._sources(self.driver[bit][0])
        return found
