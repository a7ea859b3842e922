"""The Verilog of a unit in Verilator, on every input code, against its table and the rounded function."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from hw.emit import emit_unit
from hw.measure import cached
from hw.tools import require_simulator
from sim_tb.request import Settings, UnitRequest
from sim_tb.unit import UnitFiles
from sim_tb.verification import verify
from sw.ir.design import Design
from sw.ir.realize.target import Target

STALL_BEATS = 256


def simulated(design: Design, target: Target, text: str, top: str, cache: Path) -> str:
    """What is wrong with a unit of one lane: its results, latency or handshake; empty if nothing is.

    Args:
        design: The unit.
        target: Its function, formats, and how far it may be off.
        text: The Verilog that was measured; the simulated one must be the same.
        top: The name of its top module.
        cache: Folder of earlier answers.
    """
    name = f"u{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    facts = [str(target.expr), str(target.input), str(target.output), target.max_ulp]

    def compute() -> str:
        place = cache / f"simulations-{os.getpid()}"
        with tempfile.TemporaryDirectory() as folder:
            body = emit_unit(
                design.program,
                name=name,
                folder=Path(folder),
                expression=str(target.expr),
                realization=design.realization.kind,
                max_ulp=design.realization.max_ulp,
                schedule=design.schedule,
            )
            emitted = (Path(folder) / body["verilog"]).read_text().replace(body["top"], top)
            if not emitted.endswith(text):  # below the unit's own heading
                raise AssertionError(f"{target.expr}: another unit than the one that was measured")
            request = UnitRequest(unit=UnitFiles.read(Path(folder) / f"{name}.json"))
            (report,) = verify([request], Settings(folder=place, stall_beats=STALL_BEATS, jobs=1))
        shutil.rmtree(place / name)
        failed = [f"{check.name}: {check.message}" for check in report.failures()]
        if report.mismatches or report.codes_checked != 1 << target.input.width:
            failed.append(f"{report.mismatches} of {report.codes_checked} codes differ")
        return "; ".join(failed)

    return str(
        cached(cache, ["simulated", text, facts, STALL_BEATS, require_simulator().identifier], compute)
    )
