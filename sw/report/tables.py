"""The report in the terminal: accuracy, functions, units side by side, hardware."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from hw.synth import resource_table

ACCURACIES = {
    "original": "original",
    "swapped": "right after the swap",
    "rescaled": "affines refitted, no epoch",
    "refitted": "and their readers, no epoch",
    "corrected": "and their writers, no epoch",
    "realigned": "re-aligned",
    "quantized": "quantized, with units",
    "integer": "integers alone",
}
"""Stages at which test accuracy is measured, and what tables call them."""
OPTIONAL = "integer"
"""Of models with an integer-only form, where ``export.accuracy`` asks for it."""


def show(summary: dict[str, Any], synth: dict[str, Any], console: Console) -> None:
    """Print the report as tables: accuracy, functions, units side by side, hardware."""
    accuracy = _table(f"{summary['name']}: accuracy on the test split", ["model"], ["mean", "std", "seeds"])
    for which, a in summary["accuracy"].items():
        spread = "-" if a["std"] is None else f"{100 * a['std']:.2f}"
        accuracy.add_row(ACCURACIES.get(which, which), f"{100 * a['mean']:.2f} %", spread, str(a["n"]))
    console.print(accuracy)
    console.print(_dearest_sites(summary["site_costs"], summary["kept"]))
    console.print(_function_table(summary))
    for line in _remarks(summary):
        console.print(line)
    console.print(comparison_table(summary["comparison"]))
    console.print(resource_table(synth, list(synth["total"])))


def _table(title: str, left: list[str], right: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in left:
        table.add_column(heading, overflow="fold", no_wrap=heading == "site")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _remarks(summary: dict[str, Any]) -> list[str]:
    """What the tables do not say: norms that kept their affine or themselves, units that do not verify."""
    lines = [
        f"{s['site']}: the affine stays an explicit stage, because it {s['affine']['reason']}"
        for s in summary["sites"]
        if not s["affine"]["folds"]
    ]
    lines += [f"{site}: LayerNorm was kept, because {reason}" for site, reason in summary["kept"].items()]
    failed = [s["site"] for s in summary["sites"] if not s["verified"]]
    if failed:
        lines.append(f"NOT VERIFIED: {', '.join(failed)}; see sim/summary.json")
    return lines


def _dearest_sites(costs: dict[str, Any], kept: Collection[str], shown: int = 3) -> str:
    """Which LayerNorms would bring most right after the swap, kept beside those that the run keeps."""
    swapped = costs["swapped"]["kl"]
    left = sorted((found["kl"], site) for site, found in costs["kept"].items())[:shown]
    named = ", ".join(f"{site} {kl:.4f}" for kl, site in left)
    return (
        f"KL divergence from the original right after the swap, {costs['images']} calibration images: "
        f"{swapped:.4f}; with one {'more ' if kept else ''}LayerNorm kept: {named} "
        "(all: site_costs in summary.json)"
    )


def _function_table(summary: dict[str, Any]) -> Table:
    table = _table("functions, R² of the integer map on held-out pairs", ["site", "function"], [])
    for heading in ("formats", "R²", "of ceiling", "mismatches"):
        table.add_column(heading, justify="right", no_wrap=True)
    for s in summary["sites"]:
        share = f"{100 * s['ratio']:.1f} %"
        checked = f"{s['mismatches']} of {s['codes_checked']}" + ("" if s["verified"] else " FAILED")
        formats = f"{s['input']} {s['output']}"
        table.add_row(s["site"], s["expression"], formats, f"{s['r2_fixed']:.4f}", share, checked)
    return table


def comparison_table(comparison: dict[str, Any]) -> Table:
    """What could stand at the dearest site, in the first family; LUTs are of whole units."""
    family = next(iter(next(iter(comparison["units"].values()))["families"]))
    title = f"at {comparison['site']}, {comparison['channels']} channels, {family}"
    right = ["LUT", "FF", "DSP", "BRAM", "elements/cycle", "LUT at 1/cycle", "x evolved", "buffer bits"]
    table = _table(title, ["unit"], [*right, "latency"])
    for name, unit in comparison["units"].items():
        counts = unit["families"][family]
        table.add_row(
            name,
            *(str(counts[kind]) for kind in ("lut", "ff", "dsp", "bram")),
            f"{unit['elements_per_cycle']:.2f}",
            f"{unit['per_element_per_cycle'][family]:.0f}",
            f"{unit['times_evolved'][family]:.1f}",
            str(unit["row_memory_bits"]),
            str(unit["latency_cycles"]),
        )
    return table
