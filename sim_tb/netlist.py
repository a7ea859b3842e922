"""Gate level: the netlist after synthesis, cycle by cycle, in many independent sequences side by side.

Yosys replaces the cells of a family by its own simulation models of them and takes those apart into single
gates; numpy evaluates the gates, one byte a net and sequence. Registers start at random, whatever they
were initialised with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.measure import after_yosys, cached, luts_only
from hw.tools import YOSYS, ToolError
from sw.files import read_json
from sw.ir.formats import IntArray

Bits = npt.NDArray[np.uint8]
Net = int | str
"""A net's number, or the constant "0", "1" or "x"."""

MODELS: dict[str, str] = {
    "xc7": "+/xilinx/cells_sim.v",
    "ecp5": "+/lattice/cells_sim_ecp5.v",
    "ice40": "-D ICE40_HX +/ice40/cells_sim.v",
}
"""Family -> Yosys' simulation models of its cells."""

# -defer: a model is read when a cell wants it; as a whole the files take a minute.
_SCRIPT = r"""
read_verilog unit.v
{flow} -top \{top}
write_verilog -noattr netlist.v
design -reset
read_verilog netlist.v
read_verilog -defer -nooverwrite {models}
hierarchy -check -top \{top}
proc
flatten
simplemap
techmap
setattr -unset init w:*
dfflegalize -cell $_DFF_P_ x
simplemap
opt_clean -purge
delete t:$scopeinfo
write_json gates.json
"""

GATES: dict[str, tuple[str, Callable[..., Bits]]] = {
    "$_BUF_": ("A", lambda a: a),
    "$_NOT_": ("A", lambda a: a ^ 1),
    "$_AND_": ("AB", lambda a, b: a & b),
    "$_NAND_": ("AB", lambda a, b: (a & b) ^ 1),
    "$_OR_": ("AB", lambda a, b: a | b),
    "$_NOR_": ("AB", lambda a, b: (a | b) ^ 1),
    "$_XOR_": ("AB", lambda a, b: a ^ b),
    "$_XNOR_": ("AB", lambda a, b: a ^ b ^ 1),
    "$_ANDNOT_": ("AB", lambda a, b: a & (b ^ 1)),
    "$_ORNOT_": ("AB", lambda a, b: a | (b ^ 1)),
    "$_MUX_": ("ABS", lambda a, b, s: a ^ (s & (a ^ b))),
}
"""Yosys' gates: names of the inputs, and the output Y of them."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate; ``inputs`` in the order of ``GATES``."""

    kind: str
    inputs: tuple[Net, ...]
    output: int


@dataclass(frozen=True, slots=True)
class Netlist:
    """A module as gates in the order in which they can be evaluated, and rising-edge registers.

    Args:
        ports: Input ports but the clock, name -> nets, lowest bit first.
        results: Output ports.
        registers: (D, Q) of each.
        num_nets: One more than the largest number of a net.
    """

    ports: Mapping[str, Sequence[Net]]
    results: Mapping[str, Sequence[Net]]
    gates: Sequence[Gate]
    registers: Sequence[tuple[Net, int]]
    num_nets: int


def synthesised(verilog: str, top: str, family: str, cache: Path) -> Netlist:
    """The gates of a module after synthesis for a family, LUTs and flip-flops only.

    Args:
        verilog: Text with the module.
        top: Its name; one clock, the port ``clk``.
        family: A key of ``MODELS``.
        cache: Folder of earlier answers, as for ``hw.measure.resources``.

    Raises:
        ToolError: Yosys is missing, too old or fails, or the netlist is none of gates and registers.
    """
    yosys = YOSYS.require()
    script = _SCRIPT.format(flow=luts_only(family), top=top, models=MODELS[family])

    def compute() -> Any:
        with after_yosys(verilog, script) as folder:
            module = read_json(folder / "gates.json")["modules"][top]
        cells = [(cell["type"], cell["connections"]) for cell in module["cells"].values()]
        return {"ports": {k: [p["direction"], p["bits"]] for k, p in module["ports"].items()}, "cells": cells}

    body = cached(cache, ["gates", verilog, script, yosys.identifier], compute)
    return read_netlist(body["ports"], body["cells"])


def read_netlist(
    ports: Mapping[str, tuple[str, Sequence[Net]]],
    cells: Sequence[tuple[str, Mapping[str, Sequence[Net]]]],
) -> Netlist:
    """A netlist from ports (direction and nets) and cells (type and nets) as Yosys' JSON has them.

    Raises:
        ToolError: A cell is no gate of ``GATES``, a register has another clock than ``clk``, or gates form
            a loop.
    """
    clock = ports["clk"][1][0]
    gates: list[Gate] = []
    registers: list[tuple[Net, int]] = []
    for kind, nets in cells:
        if kind == "$_DFF_P_" and nets["C"][0] == clock:
            registers.append((nets["D"][0], _driven(nets["Q"])))
        elif kind in GATES:
            gates.append(Gate(kind, tuple(nets[name][0] for name in GATES[kind][0]), _driven(nets["Y"])))
        else:
            raise ToolError(f"cells of a netlist must be gates and registers of the clock, not {kind}")
    used = [clock, *(n for _, nets in ports.values() for n in nets), *(g.output for g in gates)]
    used += [n for pair in registers for n in pair] + [n for g in gates for n in g.inputs]
    return Netlist(
        {name: nets for name, (way, nets) in ports.items() if way == "input" and name != "clk"},
        {name: nets for name, (way, nets) in ports.items() if way == "output"},
        _in_order(gates),
        registers,
        1 + max(net for net in used if isinstance(net, int)),
    )


def _driven(nets: Sequence[Net]) -> int:
    assert isinstance(nets[0], int), nets
    return nets[0]


def _in_order(gates: Sequence[Gate]) -> list[Gate]:
    """Every gate after those that drive its inputs."""
    drivers = {gate.output: gate for gate in gates}
    graph = {gate.output: [n for n in gate.inputs if n in drivers] for gate in gates}
    try:
        return [drivers[int(net)] for net in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        raise ToolError(f"netlist must have no loop of gates, not {error.args[1]}") from error


class Simulation:
    """Independent sequences of a netlist, all in the same cycle.

    Args:
        netlist: What is simulated.
        num_sequences: How many at a time.
        rng: Where the registers' first contents come from, and the value of nets that nothing drives.
    """

    def __init__(self, netlist: Netlist, num_sequences: int, rng: np.random.Generator) -> None:
        self.netlist = netlist
        self._nets: list[Bits] = list(rng.integers(0, 2, (netlist.num_nets, num_sequences), dtype=np.uint8))
        self._constants = {
            "0": np.zeros(num_sequences, dtype=np.uint8),
            "1": np.ones(num_sequences, dtype=np.uint8),
            "x": rng.integers(0, 2, num_sequences, dtype=np.uint8),
        }

    def settle(self, inputs: Mapping[str, IntArray]) -> dict[str, IntArray]:
        """Unsigned values of all outputs, an entry a sequence, for the inputs' (whole or negative) values."""
        for name, value in inputs.items():
            for place, net in enumerate(self.netlist.ports[name]):
                assert isinstance(net, int)
                self._nets[net] = ((value >> place) & 1).astype(np.uint8)
        for gate in self.netlist.gates:
            self._nets[gate.output] = GATES[gate.kind][1](*map(self._at, gate.inputs))
        return {name: self._number(nets) for name, nets in self.netlist.results.items()}

    def clock(self) -> None:
        """A rising edge after the nets have settled."""
        held = [self._at(d) for d, _ in self.netlist.registers]
        for (_, q), value in zip(self.netlist.registers, held, strict=True):
            self._nets[q] = value

    def _at(self, net: Net) -> Bits:
        return self._nets[net] if isinstance(net, int) else self._constants[net]

    def _number(self, nets: Sequence[Net]) -> IntArray:
        number = np.zeros(len(self._constants["0"]), dtype=np.int64)
        for place, net in enumerate(nets):
            number |= self._at(net).astype(np.int64) << place
        return number
