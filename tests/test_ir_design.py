from __future__ import annotations

import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.design import OBJECTIVES, designs
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining
from sw.ir.realize import KINDS
from sw.ir.realize.target import Target

S = FixedFormat.parse
TANH = Target.of(parse("tanh(x)"), S("s12.9"), S("s8.7"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_design_is_the_same_map(objective: str) -> None:
    found = designs([TANH], Pipelining(), objective=objective)
    assert len(found) >= 4
    for design in found:
        off = np.abs(interpret.table(design.program) - TANH.map).max()
        assert off == design.realization.max_ulp
    assert found[0].realization.max_ulp == 0


def test_each_objective_is_best_at_its_own_aim() -> None:
    best = {name: designs([TANH], Pipelining(150.0), objective=name)[0] for name in OBJECTIVES}
    assert best["lut"].lut6 == min(d.lut6 for name, d in best.items() if name != "bram")
    assert best["fmax"].schedule.period_ns <= 1.05 * min(d.schedule.period_ns for d in best.values())
    assert best["latency"].schedule.latency_cycles <= best["lut"].schedule.latency_cycles
    assert best["latency"].schedule.period_ns <= 1000 / 150
    assert best["bram"].num_blocks >= 1
    assert best["bram"].lut6 < best["lut"].lut6


@pytest.mark.parametrize("objective", ["lut", "bram"])
def test_a_clock_that_was_asked_for_comes_before_what_it_costs(objective: str) -> None:
    target = Target.of(parse("sigmoid(x)"), S("s10.6"), S("u8.8"))
    for fmax_mhz in (270.0, 1000.0):
        periods = [d.schedule.period_ns for d in designs([target], Pipelining(fmax_mhz), objective=objective)]
        reached = [period <= 1000 / fmax_mhz for period in periods]
        assert reached == sorted(reached, reverse=True)
        assert any(reached) or periods[0] <= 1.05 * min(periods)
    assert not reached[0]


def test_what_a_latency_has_no_room_for_is_left_out() -> None:
    target = Target.of(parse("tanh(x)"), S("s10.7"), S("s8.6"))
    found = designs([target], Pipelining(latency=1), objective="bram")
    assert found
    assert all(design.schedule.latency_cycles == 1 for design in found)
    with pytest.raises(InputError, match="latency must be 2 or more with block memory, not 1"):
        designs([target], Pipelining(latency=1), objective="bram", kind="table")


def test_a_forced_kind_is_the_only_one() -> None:
    assert [d.realization.kind for d in designs([TANH], Pipelining(), kind="pwl")] == ["pwl"]


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(InputError, match="objective must be one of lut, fmax, latency, bram, not 'speed'"):
        designs([TANH], Pipelining(), objective="speed")


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(InputError, match="family must be one of ecp5, ice40, not 'max10'"):
        designs([TANH], Pipelining(family="max10"))


def test_an_unknown_kind_is_refused() -> None:
    kinds = ", ".join(KINDS)
    with pytest.raises(
        InputError, match=f"^kind of realisation must be auto, all or one of {kinds}, not 'cordic'$"
    ):
        designs([TANH], Pipelining(), kind="cordic")


def test_a_forced_kind_that_cannot_do_the_map_says_why() -> None:
    with pytest.raises(InputError, match=r"^function must be a line between two clips, not 'tanh"):
        designs([TANH], Pipelining(), kind="requant")


def test_a_forced_kind_that_can_do_one_of_the_maps_is_taken() -> None:
    line = Target.of(parse("0.5*x"), S("s12.9"), S("s8.7"))
    assert {d.realization.kind for d in designs([TANH, line], Pipelining(), kind="requant")} == {"requant"}


def test_the_clock_as_an_aim_is_faster_than_any_that_is_asked_for() -> None:
    asked, aimed = (designs([TANH], Pipelining(100.0), objective=o)[0] for o in ("lut", "fmax"))
    assert aimed.schedule.period_ns < 0.7 * asked.schedule.period_ns
    assert aimed.schedule.latency_cycles > asked.schedule.latency_cycles
    for fmax_mhz in (200.0, 400.0, 800.0):
        beside = designs([TANH], Pipelining(fmax_mhz))
        assert aimed.schedule.period_ns <= 1.05 * min(d.schedule.period_ns for d in beside)


def test_those_further_off_than_allowed_come_last() -> None:
    faithful = Target.of(parse("tanh(x)"), S("s12.9"), S("s8.7"), max_ulp=1)
    for target in (TANH, faithful):
        found = designs([target], Pipelining())
        too_far = [d.realization.max_ulp > target.max_ulp for d in found]
        assert too_far == sorted(too_far)
        within = [d.lut6 for d, far in zip(found, too_far, strict=True) if not far]
        assert within == sorted(within)
    assert designs([faithful], Pipelining())[0].realization.max_ulp == 1
