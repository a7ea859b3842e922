"""What Verilog costs: cells by Yosys for three FPGA families, clock by nextpnr for two of them."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hw.tools import NEXTPNR_ECP5, NEXTPNR_ICE40, YOSYS, Tool
from sw.files import read_json, write_json

FLOWS: dict[str, str] = {
    "xc7": "synth_xilinx -family xc7 -flatten -nosrl -noiopad -noclkbuf",
    "ecp5": "synth_ecp5",
    "ice40": "synth_ice40 -dsp",
}
LUTS_ONLY: dict[str, str] = {
    "xc7": "-nobram -nolutram -nodsp",
    "ecp5": "-nobram -nolutram -nodsp",
    "ice40": "-nobram",
}
"""What to add so that nothing but LUTs and flip-flops is used and every cost shows."""

CELLS: dict[str, dict[str, tuple[str, ...]]] = {
    "xc7": {
        "lut": ("LUT[1-6]", "INV"),
        "ff": ("FD[RSCP]E*",),
        "carry": ("CARRY4",),
        "mux": ("MUXF[78]",),
        "lutram": ("RAM[0-9]*", "SRL*"),
        "dsp": ("DSP*",),
        "bram": ("RAMB*",),
    },
    "ecp5": {
        "lut": ("LUT4",),
        "ff": ("TRELLIS_FF",),
        "carry": ("CCU2C",),
        "mux": ("PFUMX", "L6MUX21"),
        "lutram": ("TRELLIS_DPR16X4",),
        "dsp": ("MULT*", "ALU*"),
        "bram": ("DP16KD", "PDPW16KD"),
    },
    "ice40": {
        "lut": ("SB_LUT4",),
        "ff": ("SB_DFF*",),
        "carry": ("SB_CARRY",),
        "mux": (),
        "lutram": (),
        "dsp": ("SB_MAC16",),
        "bram": ("SB_RAM*", "SB_SPRAM*"),
    },
}
"""Kind of resource -> names of its cells, as shell patterns, first match counts; of ``lutram`` their LUTs."""

MEMORY_LUTS = {
    **{"RAM32X1S": 1, "RAM64X1S": 1, "RAM32X1D": 2, "RAM64X1D": 2, "RAM32X2S": 2, "RAM128X1S": 2},
    **{"RAM128X1D": 4, "RAM256X1S": 4, "RAM32M": 4, "RAM64M": 4, "TRELLIS_DPR16X4": 4},
}
"""LUTs that a cell of LUT memory takes (UG953, Lattice TN1264; without the slice that writes on ECP5)."""

DEVICES: dict[str, tuple[Tool, tuple[str, ...]]] = {
    "ecp5": (NEXTPNR_ECP5, ("--25k", "--package", "CABGA381", "--speed", "6", "--out-of-context")),
    "ice40": (NEXTPNR_ICE40, ("--hx8k", "--package", "ct256")),
}
"""Family -> place and route, and the device: LFE5U-25F of speed grade 6, iCE40 HX8K.

Nothing free knows the timing of xc7 well enough.
"""


def resources(
    verilog: str, tops: Sequence[str], family: str, cache: Path, *, hard_blocks: bool = False
) -> dict[str, dict[str, int]]:
    """Cells of modules of a Verilog text, each synthesised by itself with everything below it.

    Args:
        verilog: The text.
        tops: Names of the modules.
        family: A key of ``FLOWS``.
        cache: Folder of earlier answers, keyed by text, flow and version of the tool.
        hard_blocks: Let Yosys use DSP and block RAM where it likes; else LUTs and flip-flops only.

    Returns:
        Module -> ``{"lut", "ff", "carry", "mux", "lutram", "dsp", "bram"}``, counted in the netlist.
        ``lut`` includes ``lutram``, the LUTs that are memory, and on ECP5 the two that each carry cell
        occupies.

    Raises:
        ToolError: Yosys is missing, too old or fails.
    """
    yosys = YOSYS.require()
    flow = FLOWS[family] if hard_blocks else luts_only(family)
    lines = ["read_verilog unit.v", "design -save source"]
    for number, top in enumerate(tops):
        lines += ["design -load source", f"{flow} -top {_escaped(top)}"]
        lines += [f"tee -q -o {number}.json stat -json"]
    script = "\n".join(lines) + "\n"

    def compute() -> dict[str, dict[str, int]]:
        with after_yosys(verilog, script) as folder:
            stats = [json.loads((folder / f"{number}.json").read_text()) for number in range(len(tops))]
        return {
            top: count_cells(stat["design"]["num_cells_by_type"], family)
            for top, stat in zip(tops, stats, strict=True)
        }

    key = [CELLS[family], MEMORY_LUTS] if hard_blocks else [CELLS[family]]
    return cached(cache, ["resources", verilog, script, yosys.identifier, *key], compute)


def cost(
    verilog: str,
    top: str,
    buses: Mapping[str, int],
    cache: Path,
    *,
    families: Sequence[str],
    target_mhz: float,
    seeds: int,
) -> dict[str, Any]:
    """What a module costs where DSP and block RAM are allowed.

    Args:
        verilog: Text with the module.
        top: The module.
        buses: Its streams' widths, as ``fmax_mhz`` takes them.
        cache: Folder of earlier answers.
        families: Keys of ``FLOWS``.
        target_mhz: Clock that place and route aims at.
        seeds: Seeds of place and route on ECP5; 0: none.

    Returns:
        ``{"families": {family: counts as resources gives them}}``, and ``"fmax_mhz"`` where there are seeds.

    Raises:
        ToolError: A tool is missing, too old or fails.
    """
    counted = {name: resources(verilog, [top], name, cache, hard_blocks=True)[top] for name in families}
    if not seeds:
        return {"families": counted}
    clock = fmax_mhz(verilog, top, buses, target_mhz=target_mhz, seeds=seeds, cache=cache, hard_blocks=True)
    return {"families": counted, "fmax_mhz": clock}


def fmax_mhz(
    verilog: str,
    top: str,
    buses: Mapping[str, int],
    *,
    target_mhz: float,
    seeds: int,
    cache: Path,
    family: str = "ecp5",
    hard_blocks: bool = False,
) -> dict[str, Any]:
    """Clock that place and route reaches, register to register.

    All ports get a register outside the unit, so that paths from and to them count.

    Args:
        verilog: Text with the unit.
        top: Its top module, with the ports of ``hw.streams``.
        buses: Width in bits of ``s_axis_tdata`` and ``m_axis_tdata``; on iCE40, which has a pin for every
            bit, both together must stay below 200.
        target_mhz: Clock that the tool aims at.
        seeds: How many seeds, 1, 2, ...; the median counts.
        cache: As for ``resources``.
        family: A key of ``DEVICES``.
        hard_blocks: As for ``resources``; the device must have them.

    Returns:
        ``{"median", "seeds": [MHz, ...], "target", "limit"}``; the limit is the longest path of the median
        seed (the slower one of two), as in ``"w10_q1 to w13_q2: 4 cells, 1.5 ns in cells, 4.4 ns between"``.

    Raises:
        ToolError: Yosys or nextpnr is missing, too old or fails.
    """
    tool, device = DEVICES[family]
    yosys, nextpnr = YOSYS.require(), tool.require()
    text = verilog + _registered(top, buses)
    flow = FLOWS[family] if hard_blocks else luts_only(family)
    script = f"read_verilog unit.v\n{flow} -top registered\nwrite_json unit.json\n"
    arguments = (*device, "--freq", f"{target_mhz:g}", "--json", "unit.json")

    def compute() -> dict[str, Any]:
        reached: list[tuple[float, str]] = []
        with after_yosys(text, script) as folder:
            for seed in range(1, seeds + 1):
                options = ("--seed", str(seed), "--report", "report.json", "--quiet", "--timing-allow-fail")
                nextpnr.run(*arguments, *options, cwd=folder)
                report = json.loads((folder / "report.json").read_text())
                clock = round(min(clock["achieved"] for clock in report["fmax"].values()), 2)
                reached.append((clock, longest_path(report["critical_paths"])))
        clocks = [clock for clock, _ in reached]
        limit = sorted(reached)[(len(reached) - 1) // 2][1]
        return {"median": statistics.median(clocks), "seeds": clocks, "target": target_mhz, "limit": limit}

    key = ["fmax with limit", text, script, arguments, seeds, yosys.identifier, nextpnr.identifier]
    return cached(cache, key, compute)


def longest_path(paths: Sequence[Mapping[str, Any]]) -> str:
    """The longest path between registers of nextpnr's report, in one line; empty without one."""
    inside = [p["path"] for p in paths if p["from"] == p["to"] and p["path"]]
    if not inside:
        return ""
    steps = max(inside, key=lambda path: sum(step["delay"] for step in path))
    between = sum(step["delay"] for step in steps if step["type"] == "routing")
    within = sum(step["delay"] for step in steps) - between
    cells = sum(step["type"] == "logic" for step in steps)
    ends = " to ".join(_register(steps[n]["from"]["cell"]) for n in (0, -1))
    return f"{ends}: {cells} cells, {within:.1f} ns in cells, {between:.1f} ns between"


def _register(cell: str) -> str:
    """The wire that a register was made for: Yosys appends the cell's type, its pin and numbers."""
    return re.split(r"_(?:TRELLIS_FF|SB_DFF)", cell)[0]


@contextmanager
def after_yosys(verilog: str, script: str) -> Iterator[Path]:
    """A folder with what Yosys wrote when it ran a script beside ``unit.v``, there for as long as it is used.

    Raises:
        ToolError: Yosys is missing, too old or fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "unit.v").write_text(verilog)
        (folder / "unit.ys").write_text(script)
        YOSYS.require().run("-q", "unit.ys", cwd=folder)
        yield folder


def cached(cache: Path, key: Sequence[Any], compute: Callable[[], Any]) -> Any:
    """A JSON value that a folder keeps under the hash of a key, computed if it is not there."""
    path = cache / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()}.json"
    if not path.exists():
        write_json(path, compute())
    return read_json(path)


def count_cells(cells: Mapping[str, int], family: str) -> dict[str, int]:
    """Cells of a netlist by kind of resource."""
    counts = dict.fromkeys(CELLS[family], 0)
    for cell, number in cells.items():
        for kind, patterns in CELLS[family].items():
            if any(fnmatch.fnmatchcase(cell, pattern) for pattern in patterns):
                counts[kind] += number * (MEMORY_LUTS.get(cell, 1) if kind == "lutram" else 1)
                break
    counts["lut"] += counts["lutram"]
    if family == "ecp5":
        counts["lut"] += 2 * counts["carry"]
    return counts


def luts_only(family: str) -> str:
    """The family's synthesis command without DSP and memory blocks."""
    return f"{FLOWS[family].removesuffix(' -dsp')} {LUTS_ONLY[family]}"


def _escaped(module: str) -> str:
    return f"\\{module}"


def _registered(top: str, buses: Mapping[str, int]) -> str:
    """A module that puts a register on every port of a unit.

    Registers in front have an initial value: without one Yosys moves them behind a table that they address,
    and the table's delay would count for nobody.
    """
    widths = {
        "s_axis_tdata": buses["s_axis_tdata"],
        "s_axis_tvalid": 1,
        "s_axis_tlast": 1,
        "m_axis_tready": 1,
    }
    results = {
        "m_axis_tdata": buses["m_axis_tdata"],
        "m_axis_tvalid": 1,
        "m_axis_tlast": 1,
        "s_axis_tready": 1,
    }
    ports = [f"input [{width - 1}:0] {name}" for name, width in widths.items()]
    ports += [f"output reg [{width - 1}:0] {name}" for name, width in results.items()]
    inner = [f"reg [{width - 1}:0] {name}_q = 0;" for name, width in widths.items()]
    inner += [f"wire [{width - 1}:0] {name}_d;" for name, width in results.items()]
    moves = [f"{name}_q <= {name};" for name in widths] + [f"{name} <= {name}_d;" for name in results]
    pins = [f".{name}({name}_q)" for name in widths] + [f".{name}({name}_d)" for name in results]
    return "\n".join(
        [
            f"module registered(input clk, input rst, {', '.join(ports)});",
            *inner,
            f"{top} unit(.clk(clk), .rst(rst), {', '.join(pins)});",
            f"always @(posedge clk) begin {' '.join(moves)} end",
            "endmodule\n",
        ]
    )
