"""``units.md`` from the summary."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.markdown import table
from benchmarks.units.measure import Results, tools
from benchmarks.units.peer import LATENCY_CUTOFF
from benchmarks.units.plan import CLIP_FORMATS, Case, Plan
from benchmarks.units.summary import Check, best_peer, checks
from hw.measure import FLOWS

FAMILIES = tuple(FLOWS)


def document(results: Results, plan: Plan) -> str:
    """The whole text."""
    units = {case: found for case, found in results.of.items() if not case.is_clip_check}
    clips = {case: found for case, found in results.of.items() if case.is_clip_check}
    parts = [
        "# Scalar-function units",
        introduction(results, plan),
        "## Claims\n\n" + claims(checks(results)),
    ]
    parts += ["## Units\n\n" + own(units), "## Beside da4ml\n\n" + beside(units)]
    if clips:
        parts.append("## Clips\n\n" + clip_table(clips))
    return "\n\n".join(parts) + "\n"


def introduction(results: Results, plan: Plan) -> str:
    earlier = len(results.of) - results.num_new
    kept = f", and {earlier} from earlier runs" if earlier else ""
    return (
        f"Written by `make bench-units`: {', '.join(tools())}, Python {platform.python_version()}. It took "
        f"{results.wall_s / 60:.1f} minutes, {plan.jobs} at a time, for {results.num_new} cases{kept} "
        f"({results.seconds / 60:.0f} minutes of work in all). "
        "Answers of the tools that were kept took none.\n\n"
        "LUTs are of the whole unit, stream control included, and in brackets of its data path alone "
        "(synthesized by itself, so it may need more than within the unit); FF of the whole unit on xc7; "
        "all without DSP and block RAM. DSP and BRAM are what Yosys takes on ECP5 if "
        "it may. These are of the smallest unit with one or two registers. *Fast* is the unit that is made "
        "for a clock (`--fmax`), for which slow operations are cut: 250 MHz up to 10 input bits and 200 MHz "
        "beyond (for ECP5; iCE40 is shown without a claim). "
        f"MHz: nextpnr, median of {plan.seeds} seeds on LFE5U-25F-6, one seed on iCE40 HX8K, registers on "
        "all ports. Our Verilog was simulated in Verilator on every input code, flowing and with stalls, "
        "against program, PyTorch and rounded function. Every netlist was simulated after synthesis on every "
        "input code, ours for all three families, flowing and with stalls, da4ml's for xc7, flowing; cells "
        "are as Yosys models them."
    )


def claims(rows: Sequence[Check]) -> str:
    head = ("claim", "measured", "holds")
    return table(head, [[claim, text, "yes" if holds else "**no**"] for claim, text, holds in rows])


def own(units: Mapping[Case, Any]) -> str:
    """Our units."""
    head = ("function", "formats", "ulp", "kind", *(f"LUT {f}" for f in FAMILIES), "FF", "DSP", "BRAM")
    head += ("cycles", "fast: kind", "LUT xc7", "LUT ecp5", "cycles", "MHz ecp5", "MHz ice40")
    return table(head, [_own_row(case, unit) for case, f in units.items() for unit in _distinct(f)])


def _distinct(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The exact unit and the faithful one, which is left out where it is the same."""
    return [unit for n, unit in enumerate(list(found["units"].values())) if n == 0 or unit["max_ulp"]]


def _own_row(case: Case, unit: Mapping[str, Any]) -> list[str]:
    counts = [f"{unit['top'][f]['lut']} ({unit['datapath'][f]['lut']})" for f in FAMILIES]
    return [
        *(f"`{case.formula}`", f"{case.input} -> {case.output}", str(unit["max_ulp"]), unit["kind"], *counts),
        *(str(unit["top"]["xc7"]["ff"]), str(unit["hard_blocks"]["dsp"]), str(unit["hard_blocks"]["bram"])),
        *(
            str(unit["latency_cycles"]),
            *_fast_cells(unit["fast"]),
            _clock(unit, "ecp5"),
            _clock(unit, "ice40"),
        ),
    ]


def _fast_cells(fast: Mapping[str, Any]) -> list[str]:
    counts = [str(fast["top"][family]["lut"]) for family in ("xc7", "ecp5")]
    return [fast["kind"], *counts, str(fast["latency_cycles"])]


def _clock(unit: Mapping[str, Any], family: str) -> str:
    return f"{unit['fmax_mhz'][family]['median']:.0f}"


def beside(units: Mapping[Case, Any]) -> str:
    """Data paths only: da4ml has no stream control."""
    text = (
        "Bare data paths, FF of xc7: da4ml's has a register at its input, ours has not. da4ml's is the "
        "smaller of two: its table of the whole map, and the formula in its operations (the shortest "
        f"constants that give the map, ties up, a register every {LATENCY_CUTOFF:g} adders). Its Verilog is "
        "edited before Yosys reads it: tables by assignments instead of from a file, no `rom_style`.\n\n"
    )
    sides = [f"{who} {what}" for what in (*FAMILIES, "FF", "MHz ecp5") for who in ("ours", "da4ml")]
    head = ("function", "formats", "ulp", "da4ml's way", *sides, "da4ml lacks")
    rows = []
    for case, found in units.items():
        for unit in _distinct(found):
            peer = best_peer(found, unit["max_ulp"])
            pair = [unit, peer]
            cells = [_cell(side, family, "lut") for family in FAMILIES for side in pair]
            cells += [_cell(side, "xc7", "ff") for side in pair]
            cells += ["-" if side is None else _clock(side, "ecp5") for side in pair]
            way = "-" if peer is None else f"{peer['way']} ({peer['max_ulp']} ulp)"
            formats = f"{case.input} -> {case.output}"
            why = "; ".join(found["reasons"])
            rows.append([f"`{case.formula}`", formats, str(unit["max_ulp"]), way, *cells, why])
    return text + table(head, rows)


def _cell(side: Mapping[str, Any] | None, family: str, kind: str) -> str:
    return "-" if side is None else str(side["datapath"][family][kind])


def clip_table(clips: Mapping[Case, Any]) -> str:
    text = f"Exact, {CLIP_FORMATS[0]} -> {CLIP_FORMATS[1]}, LUTs on xc7 of the whole unit (data path).\n\n"
    rows = []
    for case, found in clips.items():
        for unit in found["units"].values():
            cells = (unit["kind"], f"{unit['top']['xc7']['lut']} ({unit['datapath']['xc7']['lut']})")
            rows.append([f"`{case.formula}`", *cells, str(unit["latency_cycles"])])
    return text + table(("function", "kind", "LUT xc7", "cycles"), rows)
