"""Pictures of the report as SVG text that takes its colours from the page: light, dark, on paper."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from gp.pictures import draw_front, draw_pairs
from sw.run_dir import RunDir

INK = "#010203"
"""Stands for the page's text colour while matplotlib draws."""
_HAZE = LinearSegmentedColormap.from_list("haze", [(0.5, 0.5, 0.5, 0.05), (0.5, 0.5, 0.5, 1.0)])
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    **{f"{part}.color": INK for part in ("xtick", "ytick", "text")},
    **{f"axes.{part}": INK for part in ("labelcolor", "edgecolor", "titlecolor")},
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "legend.facecolor": "none",
    "legend.edgecolor": "none",
    "legend.labelcolor": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
}
BLUE, ORANGE, GREY = "tab:blue", "tab:orange", "tab:gray"


@contextlib.contextmanager
def _figure(name: str, width: float, height: float) -> Iterator[Figure]:
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        yield Figure(figsize=(width, height), layout="constrained", dpi=110)


def svg(figure: Figure, title: str) -> Markup:
    """A figure as an inline SVG element, as wide as its place, with a title for those who cannot see it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    body = text.getvalue()
    body = body[body.index("<svg") :].replace(INK, "currentColor")
    used = set(re.findall(r'(?:xlink:href="|url\()#([\w-]+)', body))
    body = re.sub(r' id="([\w.-]+)"', lambda m: m[0] if m[1] in used else "", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # Sizes in points would not shrink on a phone; the viewBox holds the proportions.
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    label = Markup.escape(title)
    return Markup(body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


def site(run: RunDir, name: str, entry: Mapping[str, Any]) -> list[Markup]:
    """A site's pairs with its function and DyT; its front, distance from the ceiling by LUTs."""
    with _figure(f"{name} pairs", 4.8, 3.4) as figure:
        panel = figure.subplots()
        draw_pairs(panel, run, run.captures, name, entry, run.program(name), show_dyt=True, cmap=_HAZE)
        panel.set(xlabel="x, input of the norm", ylabel="y, its output before the affine")
        panel.legend(loc="upper left", fontsize=8)
        pairs = svg(figure, f"{name}: pairs and function")
    with _figure(f"{name} front", 4.8, 3.4) as figure:
        draw_front(figure.subplots(), entry)
        return [pairs, svg(figure, f"{name}: front of functions")]


def accuracies(accuracy: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> Markup:
    """A point a stage, every seed beside it."""
    with _figure("accuracy", 7.0, 2.6) as figure:
        panel = figure.subplots()
        for place, (which, body) in enumerate(accuracy.items()):
            values = 100 * np.array(body["values"])
            panel.plot(values, np.full(len(values), place), "o", ms=4, color=GREY, alpha=0.6)
            panel.plot(100 * body["mean"], place, "D", ms=7, color=ORANGE if which == "original" else BLUE)
        panel.set_yticks(range(len(accuracy)), [names[which] for which in accuracy])
        panel.invert_yaxis()
        panel.set_xlabel("test accuracy in %; grey: every seed")
        panel.grid(axis="x")
        return svg(figure, "accuracy through the stages")


def luts(units: Mapping[str, Mapping[str, Any]], family: str) -> Markup:
    """LUTs for an element a cycle, one bar a unit, on a log axis."""
    with _figure("luts", 7.0, 0.6 + 0.34 * len(units)) as figure:
        panel = figure.subplots()
        values = [unit["per_element_per_cycle"][family] for unit in units.values()]
        colours = [BLUE if place == 0 else GREY for place in range(len(units))]
        bars = panel.barh(range(len(units)), values, color=colours, height=0.62)
        panel.bar_label(bars, [_with_blocks(u, family) for u in units.values()], padding=4, fontsize=8)
        panel.set_yticks(range(len(units)), list(units))
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.set_xlim(right=max(values) * 6)
        panel.set_xlabel(f"LUTs for an element a cycle, {family}")
        return svg(figure, "LUTs of the units that could stand at one site")


def _with_blocks(unit: Mapping[str, Any], family: str) -> str:
    counts = unit["families"][family]
    blocks = [f"{counts[kind]} {kind.upper()}" for kind in ("dsp", "bram") if counts[kind]]
    return " + ".join([f"{unit['per_element_per_cycle'][family]:.0f}", *blocks])


def roofline(traffic: Mapping[str, Any]) -> Markup:
    """The roof of the stated machine, and where each way of computing the norms stands under it."""
    with _figure("roofline", 7.0, 3.2) as figure:
        panel = figure.subplots()
        reach = np.geomspace(traffic["ridge"] / 64, traffic["ridge"] * 16, 200)
        roof = np.minimum(traffic["compute_gop_s"], traffic["bandwidth_gb_s"] * reach)
        panel.plot(reach, roof, color=INK, lw=1.2)
        marks = iter("osD^v")
        for name, way in traffic["ways"].items():
            if way["intensity"] is not None:
                panel.plot(way["intensity"], way["gop_s"], next(marks), ms=7, label=name)
        panel.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="10⁹ operations a second")
        panel.grid(which="both")
        panel.legend(loc="lower right", fontsize=8)
        return svg(figure, "roofline of the norms")


def moved(traffic: Mapping[str, Any]) -> Markup:
    """Bytes an image, a bar for each way."""
    with _figure("moved", 7.0, 2.2) as figure:
        panel = figure.subplots()
        ways = traffic["ways"]
        values = [way["bytes"] / 1e3 for way in ways.values()]
        bars = panel.barh(range(len(ways)), values, color=[GREY, GREY, GREY, BLUE, BLUE], height=0.62)
        panel.bar_label(bars, [f"{value:.1f}" for value in values], padding=4, fontsize=8)
        panel.set_yticks(range(len(ways)), list(ways))
        panel.invert_yaxis()
        panel.set_xlabel("kB to and from memory for the norms of an image")
        return svg(figure, "bytes moved by the norms")
