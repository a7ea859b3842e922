"""What Yosys makes of the samples: bare data paths, many in one call."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from amaranth.back import verilog

from benchmarks.cost_model.functions import Sample
from hw.measure import FLOWS, LUTS_ONLY, cached, count_cells
from hw.pipeline import Datapath
from hw.tools import YOSYS
from sw.ir.schedule import plan
from sw.terminal import progress

BATCH = 24
FMAX_MHZ = 200.0
"""Registers stand between operations, and mapping does not reach across them."""


def measure(found: Sequence[Sample], family: str, cache: Path, *, jobs: int) -> list[dict[str, int]]:
    """Cells of each sample."""
    batches = list(_batched(range(len(found)), BATCH))
    counts: list[dict[str, int]] = [{} for _ in found]
    with progress(f"synthesis for {family}", len(batches)) as done, ThreadPoolExecutor(jobs) as pool:
        made = pool.map(lambda batch: _cells(found, batch, family, cache), batches)
        for batch, cells in zip(batches, made, strict=True):
            for number in batch:
                counts[number] = cells[f"lane{number}"]
            done("")
    return counts


def _cells(
    found: Sequence[Sample], batch: Sequence[int], family: str, cache: Path
) -> dict[str, dict[str, int]]:
    """Cells of a batch, mapped in one go: most of a call's time goes to reading the cell library."""
    yosys = YOSYS.require()
    flow = FLOWS[family].replace("-flatten", "")
    names = [f"lane{number}" for number in batch]
    text = "\n".join(_verilog(found[number], name) for number, name in zip(batch, names, strict=True))
    script = "\n".join(
        [
            "read_verilog unit.v",
            *(f"setattr -mod -set keep_hierarchy 1 {name}" for name in names),
            f"{flow} {LUTS_ONLY[family]} -top batch",
            "tee -q -o stat.json stat -json",
        ]
    )
    text += _batch_of(found, batch)

    def compute() -> dict[str, dict[str, int]]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "unit.v").write_text(text)
            (folder / "unit.ys").write_text(script)
            yosys.run("-q", "unit.ys", cwd=folder)
            modules = json.loads((folder / "stat.json").read_text())["modules"]
        cells = {module.lstrip("\\"): stat["num_cells_by_type"] for module, stat in modules.items()}
        return {name: count_cells(cells[name], family) for name in names}

    found: dict[str, dict[str, int]] = cached(cache, [text, script, yosys.identifier], compute)
    return found


def _verilog(sample: Sample, name: str) -> str:
    program = sample.realization.program
    lane = Datapath(program, plan(program, FMAX_MHZ))
    return verilog.convert(lane, name=name, emit_src=False, strip_internal_attrs=True)


def _batch_of(found: Sequence[Sample], batch: Sequence[int]) -> str:
    """A module that holds all lanes."""
    ports, lanes = ["input clk", "input rst", "input enable"], []
    for number in batch:
        program = found[number].realization.program
        ports += [
            f"input [{program.input.width - 1}:0] x{number}",
            f"output [{program.output.width - 1}:0] y{number}",
        ]
        pins = f".clk(clk), .rst(rst), .enable(enable), .x(x{number}), .y(y{number})"
        lanes.append(f"lane{number} l{number}({pins});")
    return f"module batch({', '.join(ports)});\n" + "\n".join(lanes) + "\nendmodule\n"


def _batched(numbers: Iterable[int], size: int) -> Iterable[list[int]]:
    rest = iter(numbers)
    while batch := list(itertools.islice(rest, size)):
        yield batch
