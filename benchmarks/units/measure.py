"""One case measured: our units, da4ml's, through the same scripts; answers stay in a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.units.peer import CORE, TOP, Peer, peers
from benchmarks.units.plan import Case, Plan
from benchmarks.units.simulate import simulated
from hw.emit import unit_verilog
from hw.measure import fmax_mhz, resources
from hw.pipeline import Unit
from hw.streams import lane_bits
from hw.tools import NEXTPNR_ECP5, NEXTPNR_ICE40, YOSYS
from sim_tb.gate_level import flowing, sequences, simulate_unit
from sim_tb.netlist import synthesised
from sw.files import file_digest, read_json, write_json
from sw.ir import interpret
from sw.ir.design import Design, designs
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining
from sw.ir.realize.target import Target
from sw.ir.refmap import reference_map
from sw.stage import code_digest
from sw.terminal import progress

UNIT = "normforge_unit"
FEW_STAGES = (1, 2)
"""Of units with so many registers the smallest on xc7 is the smallest unit: a register between an adder and
a table may save LUTs, since Yosys then keeps them apart, or cost some."""
PEER_TABLE_BITS = 12
"""Yosys takes more than nine minutes for da4ml's table of 16 input bits, so it gets none of over these."""
_OWN = ("measure", "peer", "simulate")
"""Modules of this package that decide what a case gives."""


def measure_case(case: Case, cache: Path) -> dict[str, Any]:
    """Our exact and faithful unit, da4ml's units, and the seconds that took (earlier answers count as 0)."""
    start = time.monotonic()
    formats = FixedFormat.parse(case.input), FixedFormat.parse(case.output)
    expr = parse(case.formula)
    map = reference_map(expr, *formats)
    body: dict[str, Any] = {"units": {}, "peers": [], "reasons": []}
    for max_ulp in (0,) if case.is_clip_check else (0, 1):
        target = Target(expr, *formats, map, max_ulp)
        body["units"][str(max_ulp)] = _own(case, target, cache)
    if not case.is_clip_check:
        found, reasons = _peers(case, formats, map)
        body["peers"] = [_other(case, formats, peer, cache) for peer in found]
        body["reasons"] += reasons
    return body | {"seconds": round(time.monotonic() - start, 1)}


def _own(case: Case, target: Target, cache: Path) -> dict[str, Any]:
    """The smallest unit, and what one costs that reaches the clock."""
    small = _smallest(target, cache)
    text = unit_verilog(Unit(small.program, small.schedule), UNIT)
    lane = f"{UNIT}.lane0"
    entry: dict[str, Any] = {
        "kind": small.realization.kind,
        "max_ulp": small.realization.max_ulp,
        "price_lut6": small.lut6,
        "latency_cycles": small.schedule.latency_cycles,
        "top": {},
        "datapath": {},
        "simulation": simulated(small, target, text, UNIT, cache),
        "gates": {},
    }
    for family in case.families:
        counts = resources(text, [UNIT, lane], family, cache)
        entry["top"][family], entry["datapath"][family] = counts[UNIT], counts[lane]
        entry["gates"][family] = _gate_level(small, text, family, cache)
    if case.seeds:
        allowed = resources(text, [UNIT], "ecp5", cache, hard_blocks=True)[UNIT]
        entry["hard_blocks"] = {kind: allowed[kind] for kind in ("dsp", "bram")}
        entry["fast"] = _fast(case, target, cache)
        entry["fmax_mhz"] = entry["fast"]["fmax_mhz"]
    return entry


def _smallest(target: Target, cache: Path) -> Design:
    def lut(design: Design) -> int:
        text = unit_verilog(Unit(design.program, design.schedule), UNIT)
        return resources(text, [UNIT, f"{UNIT}.lane0"], "xc7", cache)[UNIT]["lut"]

    return min((designs([target], Pipelining(latency=stages))[0] for stages in FEW_STAGES), key=lut)


def _fast(case: Case, target: Target, cache: Path) -> dict[str, Any]:
    """The unit that ``normforge compile --fmax`` makes for the case's clock."""
    fast = designs([target], Pipelining(case.fmax_mhz))[0]
    text = unit_verilog(Unit(fast.program, fast.schedule), UNIT)
    counts = {family: resources(text, [UNIT], family, cache)[UNIT] for family in ("xc7", "ecp5")}
    return {
        "kind": fast.realization.kind,
        "latency_cycles": fast.schedule.latency_cycles,
        "top": counts,
        "simulation": simulated(fast, target, text, UNIT, cache),
        "gates": {"ecp5": _gate_level(fast, text, "ecp5", cache)},
        "fmax_mhz": _clocks(case, text, UNIT, {"ecp5": case.seeds, "ice40": 1}, cache),
    }


def _gate_level(design: Design, text: str, family: str, cache: Path) -> Any:
    """What is wrong with the netlist; empty: nothing, on any code."""
    return simulate_unit(
        *(text, UNIT, family),
        input=design.program.input,
        output=design.program.output,
        table=interpret.table(design.program),
        latency_cycles=design.schedule.latency_cycles,
        cache=cache,
    ).failure


def _peers(
    case: Case, formats: tuple[FixedFormat, FixedFormat], map: IntArray
) -> tuple[list[Peer], list[str]]:
    if find_spec("da4ml") is None:
        return [], ["da4ml is not installed"]
    found, reasons = peers(parse(case.formula), *formats, map)
    if formats[0].width > PEER_TABLE_BITS:
        found = [p for p in found if p.way != "table"]
        reasons.append(f"table: Yosys takes over 9 minutes for {1 << formats[0].width} entries")
    return found, reasons


def _other(case: Case, formats: tuple[FixedFormat, FixedFormat], peer: Peer, cache: Path) -> dict[str, Any]:
    input, output = formats
    counted = {family: resources(peer.verilog, [CORE], family, cache)[CORE] for family in case.families}
    rng = np.random.default_rng(0)
    codes = sequences(input, rng)
    netlist = synthesised(peer.verilog, TOP, "xc7", cache)
    expected = peer.table[codes - input.min_raw]
    failure = flowing(netlist, codes, expected, output, peer.latency_cycles, rng)
    return {
        "way": peer.way,
        "max_ulp": peer.max_ulp,
        "latency_cycles": peer.latency_cycles,
        "datapath": counted,
        "gates": {"xc7": failure},
        "fmax_mhz": _clocks(case, peer.verilog, TOP, {"ecp5": case.seeds}, cache),
    }


def _clocks(case: Case, text: str, top: str, seeds: Mapping[str, int], cache: Path) -> dict[str, Any]:
    """Every seed's clock; iCE40's place and route is slow and nothing is claimed of it, so it gets one."""
    ends = (("s_axis_tdata", case.input), ("m_axis_tdata", case.output))
    buses = {port: lane_bits(FixedFormat.parse(format)) for port, format in ends}
    return {
        family: fmax_mhz(text, top, buses, family=family, target_mhz=case.fmax_mhz, seeds=number, cache=cache)
        for family, number in seeds.items()
    }


@dataclass(frozen=True, slots=True)
class Results:
    """What all cases of a plan gave, and how long that took."""

    of: dict[Case, dict[str, Any]]
    wall_s: float
    """Of this run."""
    num_new: int
    """Cases that were measured in this run; the others are from earlier ones."""

    @property
    def seconds(self) -> float:
        """Of all cases, whenever they were measured."""
        return sum(found["seconds"] for found in self.of.values())


def measure(plan: Plan) -> Results:
    """All cases of a plan, ``plan.jobs`` at a time; a case that is done stays done if a run is cut short."""
    start = time.monotonic()
    cases = plan.cases()
    code = _code()
    files = {case: plan.cache / f"case-{_digest(case, code)}.json" for case in cases}
    missing = [case for case in cases if not files[case].exists()]
    with progress("unit bench", len(missing)) as step:
        for case, found in _measured(missing, plan):
            write_json(files[case], found)
            step(str(case))
    done = {case: read_json(path) for case, path in files.items()}
    return Results(done, time.monotonic() - start, len(missing))


def _measured(cases: Sequence[Case], plan: Plan) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Cases as they are done; the first failure ends the rest."""
    if plan.jobs == 1:
        yield from ((case, measure_case(case, plan.cache)) for case in cases)
        return
    with ProcessPoolExecutor(plan.jobs, multiprocessing.get_context("spawn")) as pool:
        futures: dict[Future[dict[str, Any]], Case] = {
            pool.submit(measure_case, case, plan.cache): case for case in cases
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def tools() -> list[str]:
    """What measured, with versions."""
    found = [tool.require().identifier for tool in (YOSYS, NEXTPNR_ECP5, NEXTPNR_ICE40)]
    return [*found, f"da4ml {metadata.version('da4ml')}" if find_spec("da4ml") else "da4ml (absent)"]


def _code() -> str:
    own = "".join(file_digest(Path(__file__).with_name(f"{name}.py")) for name in _OWN)
    return code_digest("sw.ir", "hw", "sim_tb") + own + "".join(tools())


def _digest(case: Case, code: str) -> str:
    return hashlib.sha256((json.dumps(dataclasses.asdict(case)) + code).encode()).hexdigest()[:20]
