"""A wrapper with the names that Vivado and IP packagers expect, and a template that instantiates it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hw.streams import PORTS
from hw.verilog_text import (
    Port,
    instance,
    module_head,
    stream_ports,
    stream_widths,
    with_lint_exceptions,
)

Units = Sequence[tuple[str, Mapping[str, Any]]]
"""Prefix of the stream ports and description of every unit behind a module."""


def wrapper_module(top: str) -> str:
    """Name of the wrapper of a module."""
    return f"{top}_axis"


def wrapper_verilog(top: str, units: Units) -> str:
    """Verilog of ``<top>_axis``: a module with ``aclk``, ``aresetn`` (active low) and X_INTERFACE attributes.

    The attributes are those of Vivado's guide UG994; other tools skip them.

    Args:
        top: Module with ``clk``, ``rst`` and stream ports.
        units: Its streams.
    """
    streams = [port for prefix, unit in units for port in stream_ports(unit, prefix)]
    ports = [Port("aclk", "input"), Port("aresetn", "input"), *streams]
    inner = [("clk", "aclk"), ("rst", "~aresetn"), *((port.name, port.name) for port in streams)]
    head = module_head(wrapper_module(top), ports, _attributes(units))
    return with_lint_exceptions(f"{head}\n{instance(top, 'unit', inner)}endmodule\n")


def template_text(name: str, top: str, units: Units) -> str:
    """Verilog to copy: an instance of the wrapper, every port connected to a wire of its own name."""
    comments = [f"// Template: copy it, and connect the signals. The module is in {name}_axis.v."]
    comments += ["// aclk: all signals are synchronous to it.  aresetn: synchronous reset, active low."]
    for prefix, unit in units:
        comments.append(f"// {prefix}s_axis, {prefix}m_axis: {summary(unit)}")
    ports = ["aclk", "aresetn"]
    ports += [port.name for prefix, unit in units for port in stream_ports(unit, prefix)]
    made = instance(wrapper_module(top), f"u_{name}", [(port, port) for port in ports], indent="")
    return "\n".join([*comments, made])


def summary(unit: Mapping[str, Any]) -> str:
    """Formats, lanes and latency of a unit in one line."""
    lanes = f"{unit['lanes']} lane{'s' if unit['lanes'] > 1 else ''}"
    return f"{unit['input']} to {unit['output']}, {lanes} a beat, latency {unit['latency_cycles']}"


def _attributes(units: Units) -> dict[str, list[str]]:
    buses = ":".join(f"{prefix}{end}" for prefix, unit in units for end in stream_widths(unit))
    clock = f"XIL_INTERFACENAME aclk, ASSOCIATED_BUSIF {buses}, ASSOCIATED_RESET aresetn"
    found = {
        "aclk": _pair("xilinx.com:signal:clock:1.0 aclk CLK", clock),
        "aresetn": _pair(
            "xilinx.com:signal:reset:1.0 aresetn RST", "XIL_INTERFACENAME aresetn, POLARITY ACTIVE_LOW"
        ),
    }
    for prefix, unit in units:
        for end, width in stream_widths(unit).items():
            bus = f"{prefix}{end}"
            for port in PORTS:
                found[f"{bus}_{port}"] = _pair(f"xilinx.com:interface:axis:1.0 {bus} {port.upper()}")
            found[f"{bus}_tdata"] += _pair(parameter=f"XIL_INTERFACENAME {bus}, {_axis_parameters(width)}")
    return found


def _pair(info: str = "", parameter: str = "") -> list[str]:
    named = {"X_INTERFACE_INFO": info, "X_INTERFACE_PARAMETER": parameter}
    return [f'(* {name} = "{text}" *)' for name, text in named.items() if text]


def _axis_parameters(width: int) -> str:
    values = {"TDATA_NUM_BYTES": width // 8, "HAS_TREADY": 1, "HAS_TLAST": 1, "HAS_TKEEP": 0, "HAS_TSTRB": 0}
    values |= {"TID_WIDTH": 0, "TDEST_WIDTH": 0, "TUSER_WIDTH": 0}
    return ", ".join(f"{name} {value}" for name, value in values.items())
