"""Resources and clock of every unit of a run: what the generated Verilog costs on three FPGA families."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from hw.measure import fmax_mhz, resources
from hw.streams import buses
from hw.tools import NEXTPNR_ECP5, YOSYS
from hw.units import read_units, read_verilog
from sw.config import RunConfig, SynthConfig
from sw.files import read_json, read_text, write_json
from sw.ir.formats import FixedFormat
from sw.run_dir import RunDir
from sw.stage import Stage
from sw.terminal import progress, table_console

OPERATOR_FAMILY = "xc7"
"""The family in which the operator pipeline is measured beside the chosen realisation."""

HARD_BLOCK_FAMILY = "ecp5"
"""The family in which DSP and block RAM are counted that Yosys takes when it may."""


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement: where its answer belongs (unit, then keys), and how it is made."""

    unit: str
    place: tuple[str, ...]
    measure: Callable[[], Any]


def synthesize(
    units: Sequence[Mapping[str, Any]], folder: Path, config: SynthConfig, target_mhz: float, cache: Path
) -> dict[str, Any]:
    """Measure units; answers that the cache holds are not measured again.

    Args:
        units: Entries of a manifest.
        folder: The manifest's folder; operator pipelines are looked for in its folder ``operator``.
        config: Families, seeds, jobs.
        target_mhz: Clock that place and route aims at.
        cache: Folder of earlier answers.

    Returns:
        ``{"tools", "units": {name: {"families": {family: {"top", "datapath", "lut_per_lane"}},
        "hard_blocks", "fmax_mhz", "operator"}}, "total": {family: {"lut_per_lane", "lut", "ff", ...}}}``;
        ``top`` and ``datapath`` (of one lane, no stream control) hold counts as ``hw.measure.resources``
        gives them, of LUTs and flip-flops alone; totals are over the tops. ``hard_blocks`` of a unit are
        the DSPs and block RAMs that Yosys takes on ECP5 when it may.

    Raises:
        ToolError: Yosys or nextpnr is missing, too old or fails.
    """
    used = [YOSYS.require()] + ([NEXTPNR_ECP5.require()] if config.pnr_seeds else [])
    jobs = [job for unit in units for job in _jobs(unit, folder, config, target_mhz, cache)]
    found: dict[str, Any] = {unit["name"]: {} for unit in units}
    for job, answer in _answers(jobs, config.jobs or os.cpu_count() or 1):
        place = found[job.unit]
        for key in job.place[:-1]:
            place = place.setdefault(key, {})
        place[job.place[-1]] = answer
    ordered = {unit["name"]: _summed_up(unit, found[unit["name"]], config, folder) for unit in units}
    return {
        "tools": {tool.name: tool.version for tool in used},
        "units": ordered,
        "total": {family: _total(list(ordered.values()), family) for family in config.families},
    }


def synthesize_files(path: Path, config: RunConfig) -> dict[str, Any]:
    """Measure the units of ``compile``'s JSON or a manifest; the report goes to ``<stem>.synth.json``.

    Args:
        path: The JSON file; answers are kept in a folder ``synth`` beside it.
        config: Its section ``synth``, and the clock that place and route aims at.

    Raises:
        InputError: The file describes no unit, or the Verilog cannot be read.
        ToolError: As ``synthesize``.
    """
    units = [{"site": unit["name"], "realization": "", **unit} for unit, _ in read_units(path)]
    folder = path.parent
    report = synthesize(units, folder, config.synth, config.unit.fmax_mhz, folder / "synth")
    write_json(path.with_suffix(".synth.json"), report)
    table_console().print(resource_table(report, config.synth.families))
    return report


def resource_table(report: Mapping[str, Any], families: Sequence[str]) -> Table:
    """The report of ``synthesize`` for the terminal: LUTs a lane, data path alone in brackets.

    DSP and BRAM are what Yosys takes on ECP5 when it may; the LUT counts are without any.
    """
    table = Table(title="LUTs a lane of the whole unit (of its data path alone); MHz on ECP5-25F-6")
    for heading in ("site", "kind"):
        table.add_column(heading, no_wrap=True)
    for heading in (*families, "FF", "operator", "DSP", "BRAM", "cycles", "MHz"):
        table.add_column(heading, justify="right", no_wrap=True)
    for unit in report["units"].values():
        counts = [unit["families"][family] for family in families]
        luts = [f"{c['lut_per_lane']:g} ({c['datapath']['lut']})" for c in counts]
        operator = _operator_text(unit.get("operator"))
        clock = _clock_text(unit.get("fmax_mhz"))
        spent = [str(unit["hard_blocks"][kind]) for kind in ("dsp", "bram")]
        row = [*luts, str(counts[0]["top"]["ff"]), operator, *spent, str(unit["latency_cycles"]), clock]
        table.add_row(unit["site"], unit["realization"], *row)
    table.add_section()
    totals = [report["total"][family] for family in families]
    sums = [f"{total['lut_per_lane']:g}" for total in totals]
    spent = [str(sum(u["hard_blocks"][kind] for u in report["units"].values())) for kind in ("dsp", "bram")]
    table.add_row("total", "", *sums, str(totals[0]["ff"]), "", *spent, "", "")
    return table


def _clock_text(fmax: Mapping[str, Any] | None) -> str:
    """The clock, and the target where it is missed."""
    if fmax is None:
        return "-"
    missed = fmax["median"] < fmax["target"]
    return f"{fmax['median']:.0f}" + (f" (< {fmax['target']:.0f})" if missed else "")


def _operator_text(counts: Mapping[str, Any] | None) -> str:
    """LUTs a lane of an operator pipeline, and how far it is from the function where it is not exact."""
    if counts is None:
        return "-"
    return f"{counts['lut_per_lane']:g}" + (f" (+-{counts['max_ulp']} ulp)" if counts["max_ulp"] else "")


def _jobs(
    unit: Mapping[str, Any], folder: Path, config: SynthConfig, target_mhz: float, cache: Path
) -> list[Job]:
    text = read_verilog(unit, folder)
    top = unit["top"]
    lane = f"{top}.lane0"
    counted = partial(resources, text, [top, lane], cache=cache)
    jobs = [Job(unit["name"], ("families", family), partial(counted, family)) for family in config.families]
    if config.pnr_seeds:
        input, output = (FixedFormat.parse(unit[key]) for key in ("input", "output"))
        ports = buses(input, output, int(unit["lanes"]))
        timed = partial(
            fmax_mhz, text, top, ports, target_mhz=target_mhz, seeds=config.pnr_seeds, cache=cache
        )
        jobs.append(Job(unit["name"], ("fmax_mhz",), timed))
    allowed = partial(resources, text, [top], HARD_BLOCK_FAMILY, cache=cache, hard_blocks=True)
    jobs.append(Job(unit["name"], ("hard_blocks",), allowed))
    beside = _operator_verilog(unit, folder)
    if beside.exists() and OPERATOR_FAMILY in config.families:
        its_top = read_json(beside.with_suffix(".json"))["top"]
        tops = [its_top, f"{its_top}.lane0"]
        plain = partial(resources, read_text(beside), tops, OPERATOR_FAMILY, cache=cache)
        jobs.append(Job(unit["name"], ("operator",), plain))
    return jobs


def _operator_verilog(unit: Mapping[str, Any], folder: Path) -> Path:
    """Where the operator pipeline of a unit is, if there is one."""
    return folder / "operator" / str(unit["verilog"])


def _answers(jobs: Sequence[Job], workers: int) -> list[tuple[Job, Any]]:
    """Run jobs side by side; the first failure ends the rest."""
    with ThreadPoolExecutor(workers) as pool, progress("synth", len(jobs)) as done:
        futures: dict[Future[Any], Job] = {pool.submit(job.measure): job for job in jobs}
        answers = []
        try:
            for future in as_completed(futures):
                answers.append((futures[future], future.result()))
                done(futures[future].unit)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return answers


def _summed_up(
    unit: Mapping[str, Any], found: Mapping[str, Any], config: SynthConfig, folder: Path
) -> dict[str, Any]:
    lanes = int(unit["lanes"])

    def named(counts: Mapping[str, Any], module: str = unit["top"]) -> dict[str, Any]:
        top, lane = counts[module], counts[f"{module}.lane0"]
        return {"top": top, "datapath": lane, "lut_per_lane": top["lut"] / lanes}

    body: dict[str, Any] = {
        "site": unit.get("site", unit["name"]),
        "realization": unit["realization"],
        "latency_cycles": unit["latency_cycles"],
        "lanes": lanes,
        "families": {family: named(found["families"][family]) for family in config.families},
        "hard_blocks": {kind: found["hard_blocks"][unit["top"]][kind] for kind in ("dsp", "bram")},
    }
    if "fmax_mhz" in found:
        body["fmax_mhz"] = found["fmax_mhz"]
    if "operator" in found:
        described = read_json(_operator_verilog(unit, folder).with_suffix(".json"))
        body["operator"] = {"family": OPERATOR_FAMILY, "max_ulp": described["max_ulp"]}
        body["operator"] |= named(found["operator"], described["top"])
    return body


def _total(units: Sequence[Mapping[str, Any]], family: str) -> dict[str, Any]:
    tops = [unit["families"][family]["top"] for unit in units]
    kinds = ("lut", "ff", "carry", "mux", "lutram", "dsp", "bram")
    total: dict[str, Any] = {kind: sum(top[kind] for top in tops) for kind in kinds}
    return total | {"lut_per_lane": sum(unit["families"][family]["lut_per_lane"] for unit in units)}


def _measure_run(run: RunDir) -> None:
    config = run.config.synth
    units = read_json(run.manifest)["units"]
    report = synthesize(units, run.hdl, config, run.config.unit.fmax_mhz, run.synth / "cache")
    write_json(run.synth / "synth.json", report)
    table_console().print(resource_table(report, config.families))


def _inputs(run: RunDir) -> list[Path]:
    if not run.manifest.exists():
        return [run.manifest]
    units = read_json(run.manifest)["units"]
    own = [run.hdl / unit["verilog"] for unit in units]
    return [run.manifest, *own, *(run.operators / unit["verilog"] for unit in units if unit["operator"])]


STAGE = Stage(
    name="synth",
    help="LUTs and flip-flops on three FPGA families, clock on ECP5",
    sections=("unit.fmax_mhz", "synth"),
    inputs=_inputs,
    outputs=lambda run: [run.synth / "synth.json"],
    body=_measure_run,
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
