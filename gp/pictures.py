"""Pictures of an evolution: what every norm did, what its function does instead, what else was on offer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from gp.pairs import load_pairs
from sw.files import atomic
from sw.ir import interpret
from sw.ir.expr import evaluate
from sw.ir.formats import FloatArray
from sw.ir.parse import parse
from sw.programs import read_program
from sw.run_dir import RunDir

COLUMNS = 3
_SHOWN = 0.999
"""Share of the pairs that a panel's axes hold."""
_MOST_PAIRS = 200_000
"""Pairs that a density is drawn from."""
_LEAST_GAP = 1e-4
"""Where the axis of distances from the ceiling ends."""
_MARKS = {"clip": "s", "scaled_dyt": "^", "derf": "v", "linear": "x", "dyt": "d"}
"""Baselines in the picture of a front, and how they are marked."""

Entry = Mapping[str, Any]


def draw_sites(run: RunDir, pairs: Path, path: Path) -> None:
    """One panel a site: density of (x, y), mean of y at x, and scale * f(x) + offset.

    f is drawn from the integer program, so the picture shows the codes that the hardware gives.
    """
    functions = run.read_functions()
    rows = math.ceil(len(functions) / COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 3.0 * rows), layout="constrained", dpi=110)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for panel, (site, entry) in zip(panels, functions.items(), strict=False):
        draw_pairs(panel, run, pairs, site, entry, run.program(site))
        panel.set(xlabel="x", ylabel="y")
        luts, ratio = entry["price_lut6"], 100 * entry["ratio"]
        panel.set_title(f"{site}: about {luts:.0f} LUT6, {ratio:.1f} % of the ceiling", fontsize=9)
    for panel in list(figure.axes)[len(functions) :]:
        panel.set_axis_off()
    figure.axes[0].legend(loc="upper left", fontsize=8, framealpha=0.9)
    _save(figure, path)


def draw_site(run: RunDir, pairs: Path, site: str, entry: Entry, path: Path) -> None:
    """Two panels: a site's pairs with its function and DyT; its front, distance from the ceiling by LUTs."""
    figure = Figure(figsize=(11.0, 4.2), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    draw_pairs(left, run, pairs, site, entry, run.evolved_program(site), show_dyt=True)
    text = str(entry["expression"])
    left.set_title(f"{site}: {text[:70]}{' ...' if len(text) > 70 else ''}", fontsize=8)
    left.set(xlabel="x", ylabel="y")
    left.legend(loc="upper left", fontsize=8, framealpha=0.9)
    draw_front(right, entry)
    _save(figure, path)


def draw_pairs(
    panel: Axes,
    run: RunDir,
    pairs: Path,
    site: str,
    entry: Entry,
    program: Path,
    *,
    show_dyt: bool = False,
    cmap: Colormap | str = "Greys",
) -> None:
    """Density of (x, y), mean of y at x, and scale * f(x) + offset of the integer program in a file."""
    x, y, stored = load_pairs(pairs, site)
    thinned = slice(None, None, max(1, len(x) // _MOST_PAIRS))
    x, y = x[thinned].astype(np.float64), y[thinned].astype(np.float64)
    is_weighted = run.config.evolve.weights == "sensitivity" and stored is not None
    w = stored[thinned].astype(np.float64) if is_weighted and stored is not None else np.ones(len(x))
    reach_x, reach_y = np.quantile(np.abs(x), _SHOWN) or 1.0, np.quantile(np.abs(y), _SHOWN) or 1.0
    extent = (-reach_x, reach_x, -reach_y, reach_y)
    panel.hexbin(x, y, gridsize=70, bins="log", extent=extent, cmap=cmap, linewidths=0.1, rasterized=True)
    label = "weighted mean of y at x" if is_weighted else "mean of y at x"
    panel.plot(*_conditional_mean(x, y, w), color="tab:orange", lw=2, label=label)
    grid = np.linspace(-reach_x, reach_x, 400)
    if show_dyt:
        dyt = evaluate(parse(entry["baselines"]["dyt"]["expression"]), grid)
        panel.plot(grid, dyt, color="tab:green", lw=1.2, ls="--", label="DyT, tanh(a x)")
    unit = read_program(program)
    reals = unit.input.to_real(unit.input.codes())
    shown = np.abs(reals) <= reach_x
    f = unit.output.to_real(interpret.table(unit))
    outputs = entry["scale"] * f + entry["offset"]
    panel.plot(reals[shown], outputs[shown], color="tab:blue", lw=1.2, label="the unit, every code")
    panel.set_xlim(-reach_x, reach_x)
    panel.set_ylim(-reach_y, reach_y)
    panel.tick_params(labelsize=7)


def draw_front(panel: Axes, entry: Entry) -> None:
    """The front and the baselines that have hardware: LUT6 against 1 - R^2 / ceiling, on log axes."""

    def gap(item: Entry) -> float:
        ceiling = float(entry["ceiling"])
        return max(1.0 - float(item["r2_fixed"]) / ceiling, _LEAST_GAP) if ceiling > 0 else 1.0

    front = sorted(entry["front"], key=lambda e: float(e["price_lut6"]))
    panel.step(
        [e["price_lut6"] for e in front],
        [gap(e) for e in front],
        where="post",
        color="tab:blue",
        lw=1,
        marker=".",
        label="front",
    )
    for name, mark in _MARKS.items():
        item = entry["baselines"].get(name, {})
        if "r2_fixed" in item:
            panel.plot(item["price_lut6"], gap(item), mark, color="tab:gray", label=f"{name}, fitted")
    evolved = entry.get("evolved", entry["expression"])  # re-alignment may have changed it
    chosen = next(e for e in front if e["expression"] == evolved)
    panel.plot(chosen["price_lut6"], gap(chosen), "o", mfc="none", mec="tab:red", ms=11, label="chosen")
    panel.set(xscale="log", xlabel="LUT6 a lane, predicted")
    panel.set(yscale="log", ylabel="1 - R² / ceiling (integer map, held-out pairs)")
    panel.grid(visible=True, which="both", lw=0.3)
    panel.legend(loc="lower left", fontsize=8, framealpha=0.9)


def _save(figure: Figure, path: Path) -> None:
    with atomic(path) as scratch:
        figure.savefig(scratch, format="png", metadata={"Software": None})


def _conditional_mean(
    x: FloatArray, y: FloatArray, w: FloatArray, bins: int = 80
) -> tuple[FloatArray, FloatArray]:
    """Weighted means of x and y in bins of equally many pairs that count."""
    order = np.argsort(x, kind="stable")
    order = order[w[order] > 0]
    parts = [part for part in np.array_split(order, bins) if part.size]
    x_mean, y_mean = (np.array([np.average(v[p], weights=w[p]) for p in parts]) for v in (x, y))
    return x_mean, y_mean
