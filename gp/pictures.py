"""The picture of a run: what every norm did, and what its unit does instead."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sw.ir import interpret
from sw.ir.formats import FloatArray
from sw.ir.program import Program
from sw.run_dir import RunDir, atomic

COLUMNS = 3
_SHOWN = 0.999
"""Share of the pairs that a panel's axes hold."""


def draw_sites(run: RunDir, path: Path) -> None:
    """One panel a site: density of the captured (x, y), mean of y at x, and scale * f(x) + offset.

    f is drawn from the integer program, so the picture shows the codes that the hardware gives.
    """
    functions = run.read_functions()
    rows = math.ceil(len(functions) / COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 3.0 * rows), layout="constrained", dpi=110)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    with np.load(run.captures) as captures:
        for panel, (site, entry) in zip(panels, functions.items(), strict=False):
            program = Program.from_json(run.program(site).read_text())
            _draw(panel, site, entry, program, captures[f"{site}_x"], captures[f"{site}_y"])
    for panel in list(figure.axes)[len(functions) :]:
        panel.set_axis_off()
    figure.axes[0].legend(loc="upper left", fontsize=8, framealpha=0.9)
    with atomic(path) as scratch:
        figure.savefig(scratch, format="png", metadata={"Software": None})


def _draw(
    panel: Axes, site: str, entry: dict[str, Any], program: Program, x: FloatArray, y: FloatArray
) -> None:
    reach_x, reach_y = np.quantile(np.abs(x), _SHOWN), np.quantile(np.abs(y), _SHOWN)
    extent = (-reach_x, reach_x, -reach_y, reach_y)
    panel.hexbin(x, y, gridsize=70, bins="log", extent=extent, cmap="Greys", linewidths=0.1)
    panel.plot(*_conditional_mean(x, y), color="tab:orange", lw=2, label="mean of LayerNorm's y at x")
    codes = program.input.codes()
    shown = np.abs(program.input.to_real(codes)) <= reach_x
    f = program.output.to_real(interpret.table(program))
    unit = entry["scale"] * f + entry["offset"]
    panel.plot(
        program.input.to_real(codes)[shown],
        unit[shown],
        color="tab:blue",
        lw=1.2,
        label="the unit, every code",
    )
    panel.set_xlim(-reach_x, reach_x)
    panel.set_ylim(-reach_y, reach_y)
    share = entry["r2_fixed"] / entry["ceiling"]
    panel.set_title(f"{site}: {entry['price_lut6']:.0f} LUT6, {100 * share:.1f} % of the ceiling", fontsize=9)
    panel.tick_params(labelsize=7)


def _conditional_mean(x: FloatArray, y: FloatArray, bins: int = 80) -> tuple[FloatArray, FloatArray]:
    """Means of x and y in bins of equally many pairs."""
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])
