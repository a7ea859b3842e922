"""Every realisation of a function, synthesized: what ``normforge compile --realize all`` shows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.table import Table

from hw.compile import Order
from hw.emit import unit_verilog
from hw.measure import FLOWS, resources
from hw.pipeline import Unit
from hw.tools import YOSYS
from sw.files import write_json
from sw.ir.design import Design

FAMILIES = tuple(FLOWS)
COUNTED = ("lut", "ff", "dsp", "bram")


def measure_designs(order: Order, found: Sequence[Design], folder: Path) -> list[dict[str, Any]]:
    """Cells of every design as a whole unit, in the order given; also in ``<name>.kinds.json``.

    DSP and block memory are used where the synthesis likes them if the objective is ``bram``, else not.

    Raises:
        ToolError: Yosys is missing, too old or fails.
    """
    YOSYS.require()
    jobs = [(design, family) for design in found for family in FAMILIES]
    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        cells = list(pool.map(lambda job: _cells(order, job[0], job[1], Path(cache)), jobs))
    measured = []
    for number, design in enumerate(found):
        own = cells[number * len(FAMILIES) :][: len(FAMILIES)]
        measured.append(
            {
                "kind": design.realization.kind,
                "max_ulp": design.realization.max_ulp,
                "predicted_lut6": round(design.lut6, 2),
                "latency_cycles": design.schedule.latency_cycles,
                "predicted_mhz": round(1000 / design.schedule.period_ns, 1),
                "families": dict(zip(FAMILIES, own, strict=True)),
            }
        )
    write_json(folder / f"{order.name}.kinds.json", {"expression": order.formula, "kinds": measured})
    return measured


def comparison_table(found: Sequence[Design], measured: Sequence[dict[str, Any]]) -> Table:
    """The measured designs for the terminal."""
    table = Table(title="every realisation, synthesized; LUTs of the whole unit")
    table.add_column("kind")
    for heading in ("ulp", "LUT6 predicted", *FAMILIES, "FF", "DSP", "BRAM", "cycles", "MHz predicted"):
        table.add_column(heading, justify="right")
    for design, entry in zip(found, measured, strict=True):
        counts = [entry["families"][family] for family in FAMILIES]
        row = [str(design.realization.max_ulp), f"{design.lut6:.0f}", *(str(c["lut"]) for c in counts)]
        row += [str(counts[0][kind]) for kind in COUNTED[1:]]
        row += [str(design.schedule.latency_cycles), f"{entry['predicted_mhz']:.0f}"]
        table.add_row(design.realization.kind, *row)
    return table


def _cells(order: Order, design: Design, family: str, cache: Path) -> dict[str, int]:
    text = unit_verilog(Unit(design.program, design.schedule, lanes=order.lanes), "unit")
    counts = resources(text, ["unit"], family, cache, hard_blocks=order.objective == "bram")["unit"]
    return {kind: counts[kind] for kind in COUNTED}
