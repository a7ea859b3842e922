"""The stage ``rivals``: what else could stand where a run's dearest unit stands, on the same streams.

The site is the one whose unit costs most, which is the fairest to the rivals. Beside its unit come the norm
that it replaces, LayerNorm in both variants of ``hw.layernorm``, the fast RMSNorm, the fitted DyT and Derf
through the same compiler, and the bare saturating requantizer, which a pre-norm site needs in any case.
Nobody has an affine: gamma and beta fold into the next Linear whatever the norm is.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hw import measure
from hw.emit import TOP_PREFIX, unit_verilog
from hw.layernorm import VARIANTS, build, timing
from hw.pipeline import Unit
from hw.streams import buses
from hw.tools import NEXTPNR_ECP5, YOSYS
from hw.units import read_verilog
from sw.config import SynthConfig
from sw.files import read_json, write_json
from sw.ir.design import designs
from sw.ir.expr import X
from sw.ir.formats import FixedFormat
from sw.ir.layernorm import LayerNorm
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining
from sw.ir.realize.target import Target
from sw.run_dir import RunDir
from sw.stage import Stage
from sw.terminal import progress

NORM_OUTPUT_RANGE = 4.0
"""A normalised value seldom exceeds it; so a norm's output format is the finest that holds it."""
FITTED = {"DyT, fitted": "scaled_dyt", "Derf, fitted": "derf"}
"""Rivals of a scalar function, and which baseline of ``functions.json`` they are."""
EVOLVED, REQUANTIZER = "evolved", "requantizer"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """A unit with streams, ready to be measured."""

    name: str
    what: str
    """A formula, or the kind of norm and its channels."""
    verilog: str
    top: str
    buses: dict[str, int]
    stated: dict[str, Any]
    """What is known without a tool: ``latency_cycles``, ``row_cycles`` from row to row,
    ``row_memory_bits``, ``realization``, ``r2_fixed``."""


def dearest(synth: Mapping[str, Any], family: str) -> Mapping[str, Any]:
    """The unit of ``synth.json`` with the most LUTs a lane."""
    return max(synth["units"].values(), key=lambda unit: unit["families"][family]["lut_per_lane"])


def rivals(run: RunDir, site: str) -> Iterator[Rival]:
    """The site's own unit first, then the functions, then the norms."""
    unit = next(u for u in read_json(run.manifest)["units"] if u["site"] == site)
    entry = run.read_functions()[site]
    captured = read_json(run.capture_stats)["sites"][site]
    channels, lanes = int(captured["channels"]), int(unit["lanes"])
    row = {"row_cycles": -(-channels // lanes), "row_memory_bits": 0}
    input, output = FixedFormat.parse(unit["input"]), FixedFormat.parse(unit["output"])
    yield Rival(
        name=EVOLVED,
        what=entry["expression"],
        verilog=read_verilog(unit, run.hdl),
        top=unit["top"],
        buses=buses(input, output, lanes),
        stated={
            "realization": unit["realization"],
            "latency_cycles": unit["latency_cycles"],
            "r2_fixed": entry["r2_fixed"],
            **row,
        },
    )
    clock = Pipelining(run.config.unit.fmax_mhz)
    allowed = int(run.config.unit.faithful)  # as the evolved functions are
    formulas = {name: entry["baselines"][key] for name, key in FITTED.items()}
    for name, form in formulas.items():
        if "fixed" in form:
            stated = {"r2_fixed": form["r2_fixed"], **row}
            yield _function(
                name, Target.of(parse(form["fixed"]), input, output, allowed), clock, lanes, stated
            )
    yield _function(
        REQUANTIZER, Target.of(X, input, output, allowed), clock, lanes, {"r2_fixed": None, **row}
    )
    layernorm = LayerNorm(
        input=input,
        output=FixedFormat.covering(NORM_OUTPUT_RANGE, output.width),
        channels=channels,
        eps=float(captured["eps"]),
    )
    for variant in VARIANTS:
        yield _norm(layernorm, variant, lanes)
    yield _norm(dataclasses.replace(layernorm, rms=True), "fast", lanes)


def _function(name: str, target: Target, clock: Pipelining, lanes: int, stated: dict[str, Any]) -> Rival:
    """The cheapest unit of a function that is as near to it as the target asks."""
    near = [d for d in designs([target], clock) if d.realization.max_ulp <= target.max_ulp]
    best = min(near, key=lambda design: design.lut6)  # as ours were chosen: whatever its clock
    top = f"{TOP_PREFIX}rival"
    return Rival(
        name=name,
        what=str(target.expr),
        verilog=unit_verilog(Unit(best.program, best.schedule, lanes=lanes), top),
        top=top,
        buses=buses(target.input, target.output, lanes),
        stated={
            "realization": best.realization.kind,
            "latency_cycles": best.schedule.latency_cycles,
            **stated,
        },
    )


def _norm(norm: LayerNorm, variant: str, lanes: int) -> Rival:
    kind = "RMSNorm" if norm.rms else "LayerNorm"
    cycles = timing(norm, variant, lanes=lanes)
    top = f"{TOP_PREFIX}rival"
    return Rival(
        name=f"{kind}, {variant}",
        what=f"{kind} of {norm.channels} channels, {norm.input} to {norm.output}",
        verilog=unit_verilog(build(norm, variant, lanes=lanes), top),
        top=top,
        buses=buses(norm.input, norm.output, lanes),
        stated={
            "realization": variant,
            "latency_cycles": cycles.latency_cycles,
            "row_cycles": cycles.interval_cycles,
            "row_memory_bits": cycles.row_memory_bits(norm, lanes),
            "bound_lsb": norm.bound_lsb,
            "r2_fixed": None,
        },
    )


def measured(rival: Rival, config: SynthConfig, target_mhz: float, cache: Path) -> dict[str, Any]:
    """What a rival costs.

    Returns:
        ``{"what", "families": {family: counts with DSP and block RAM where Yosys takes them}, "luts_only":
        {the first family: counts without}}``, what is stated, and ``"fmax_mhz"`` on ECP5 if the configuration
        asks for seeds.
    """
    first = config.families[0]
    plain = measure.resources(rival.verilog, [rival.top], first, cache)[rival.top]
    cost = measure.cost(
        rival.verilog,
        rival.top,
        rival.buses,
        cache,
        families=config.families,
        target_mhz=target_mhz,
        seeds=config.pnr_seeds,
    )
    return {"what": rival.what, **rival.stated, **cost, "luts_only": {first: plain}}


def _measure_run(run: RunDir) -> None:
    config = run.config.synth
    tools = [YOSYS.require()] + ([NEXTPNR_ECP5.require()] if config.pnr_seeds else [])
    unit = dearest(read_json(run.synth / "synth.json"), config.families[0])
    found = list(rivals(run, unit["site"]))
    ask = partial(measured, config=config, target_mhz=run.config.unit.fmax_mhz, cache=run.synth / "cache")
    body: dict[str, Any] = {}
    with (
        ThreadPoolExecutor(config.jobs or os.cpu_count() or 1) as pool,
        progress("rivals", len(found)) as done,
    ):
        for rival, answer in zip(found, pool.map(ask, found), strict=True):
            body[rival.name] = answer
            done(rival.name)
    captured = read_json(run.capture_stats)["sites"][unit["site"]]
    write_json(
        run.rivals,
        {
            "site": unit["site"],
            "channels": captured["channels"],
            "lanes": unit["lanes"],
            "tools": {tool.name: tool.version for tool in tools},
            "units": body,
        },
    )


def _inputs(run: RunDir) -> list[Path]:
    files = [run.synth / "synth.json", run.manifest, run.functions, run.capture_stats]
    if not run.manifest.exists():
        return files
    return [*files, *(run.hdl / unit["verilog"] for unit in read_json(run.manifest)["units"])]


STAGE = Stage(
    name="rivals",
    help="LayerNorm, RMSNorm, DyT, Derf and a bare requantizer in place of the dearest unit",
    sections=("unit.fmax_mhz", "unit.faithful", "synth"),
    inputs=_inputs,
    outputs=lambda run: [run.rivals],
    body=_measure_run,
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
