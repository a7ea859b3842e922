"""Which realisation of a function becomes a unit, and how it is pipelined: by an objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sw.ir.errors import InputError
from sw.ir.pipelining import Pipelining, pipelined
from sw.ir.price import lut6
from sw.ir.program import Program
from sw.ir.realize import KINDS, Realization, candidates, plan_kind
from sw.ir.realize.target import NotApplicableError, Target
from sw.ir.schedule import MAX_MHZ, Schedule, check_clock

_PERIOD_STEP = 0.05
"""Periods whose ratio differs from 1 by less count as equal."""


@dataclass(frozen=True, slots=True)
class Design:
    """A realisation, pipelined.

    Args:
        realization: What it is made from.
        program: Its program, perhaps with its tables cut; the same map.
        schedule: Where that program's registers are.
        lut6: Predicted 6-input LUTs of one lane, without the tables that are in block memory.
    """

    realization: Realization
    program: Program
    schedule: Schedule
    lut6: float

    @property
    def num_blocks(self) -> int:
        """Tables in block memory."""
        return len(self.schedule.blocks)


Merit = Callable[[Design, float], tuple[float, ...]]

OBJECTIVES: dict[str, Merit] = {
    "lut": lambda design, period_ns: (design.lut6, design.schedule.register_bits),
    "fmax": lambda design, period_ns: (_rounded(design.schedule.period_ns), design.lut6),
    "latency": lambda design, period_ns: (
        design.schedule.period_ns > period_ns,
        design.schedule.latency_cycles,
        design.lut6,
    ),
    "bram": lambda design, period_ns: (design.lut6, design.num_blocks),
}
"""What is smallest in the best design, given the period that is asked for: LUTs; the period, at as many
registers as that takes; cycles among designs that reach the period; LUTs where large tables may be in block
memory. Designs that miss a clock that was asked for come after those that do not, the fastest first."""


def designs(
    targets: Sequence[Target], wanted: Pipelining, *, objective: str = "lut", kind: str = "auto"
) -> list[Design]:
    """Every realisation of any of the targets, pipelined, the best by the objective first.

    Those further than the targets' ``max_ulp`` from the map come last; a forced kind is the only one.

    Raises:
        InputError: An unknown objective, a clock or latency out of range, or a forced kind that cannot do
            the map.
    """
    if objective not in OBJECTIVES:
        raise InputError(f"objective must be one of {', '.join(OBJECTIVES)}, not '{objective}'")
    check_clock(wanted.clock_mhz)
    asked_ns = math.inf if wanted.fmax_mhz is None else 1000.0 / wanted.fmax_mhz
    if objective == "fmax":
        wanted = replace(wanted, fmax_mhz=MAX_MHZ)
    wanted = replace(wanted, block_memory=objective == "bram")
    found = [
        r for target in targets for r in (candidates(target) if kind == "auto" else _forced(kind, target))
    ]
    if kind != "auto" and not found:
        found = [plan_kind(kind, targets[0])]  # says why it cannot be
    merit, period_ns = OBJECTIVES[objective], 1000.0 / wanted.clock_mhz
    made, refusals = list[Design](), list[InputError]()
    for realization in found:
        try:
            made.append(_designed(realization, wanted))
        except InputError as error:  # a latency that this one cannot have; another may
            refusals.append(error)
    if not made:
        raise refusals[0]
    allowed = targets[0].max_ulp
    return sorted(
        made,
        key=lambda d: (
            d.realization.max_ulp > allowed,
            *_missed(d.schedule.period_ns, asked_ns),
            *merit(d, period_ns),
        ),
    )


def _forced(kind: str, target: Target) -> list[Realization]:
    if kind not in KINDS:
        raise InputError(f"kind of realisation must be auto, all or one of {', '.join(KINDS)}, not '{kind}'")
    try:
        return [plan_kind(kind, target)]
    except NotApplicableError:
        return []


def _designed(realization: Realization, wanted: Pipelining) -> Design:
    program, schedule = pipelined(realization.program, wanted)
    return Design(realization, program, schedule, lut6(program, blocks=schedule.blocks))


def _missed(period_ns: float, asked_ns: float) -> tuple[bool, float]:
    """Whether a clock that was asked for is missed, and if so how slow it is."""
    return (True, _rounded(period_ns)) if period_ns > asked_ns else (False, 0.0)


def _rounded(period_ns: float) -> float:
    return round(math.log(period_ns) / _PERIOD_STEP)
