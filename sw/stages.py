"""The stages of a run, in their order."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sw.stage import Stage

STAGES: dict[str, str] = {
    "train": "sw.model.original",
    "capture": "sw.model.capture",
    "evolve": "gp.evolve",
    "align": "sw.model.align",
    "quantize": "sw.model.quantize",
    "export": "sw.model.export",
    "hdl": "hw.emit",
    "verify": "sim_tb.verify",
    "synth": "hw.synth",
    "rivals": "hw.rivals",
    "report": "sw.report.summary",
}
"""Every stage's module, in the order of a run. A module is imported when its stage is."""

BUILDS_ON: dict[str, tuple[str, ...]] = {
    "train": (),
    "capture": ("train",),
    "evolve": ("capture",),
    "align": ("evolve",),
    "quantize": ("align",),
    "export": ("quantize",),
    "hdl": ("evolve",),
    "verify": ("hdl", "quantize"),
    "synth": ("hdl",),
    "rivals": ("synth",),
    "report": ("export", "verify", "rivals"),
}
"""The stages whose files a stage reads, but for those that these build on."""
BUILDS_ON_SETTLED = BUILDS_ON | {"hdl": ("align",)}
"""The same where ``align`` leaves functions and programs (``align.inner_scale``)."""

LAST_ACCURACY_STAGE = "export"
"""A further seed of a run repeats everything up to here: all that an accuracy depends on."""


def before(name: str, *, settled: bool = False) -> list[str]:
    """All stages that a stage builds on, in the order of a run.

    Args:
        name: The stage.
        settled: By ``BUILDS_ON_SETTLED``.
    """
    builds_on = BUILDS_ON_SETTLED if settled else BUILDS_ON
    needed = {needed for direct in builds_on[name] for needed in (direct, *before(direct, settled=settled))}
    return [other for other in STAGES if other in needed]


def stage(name: str) -> Stage:
    """The stage object of a sub-command."""
    found: Stage = importlib.import_module(STAGES[name]).STAGE
    return found
