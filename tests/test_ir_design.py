from __future__ import annotations

import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.design import OBJECTIVES, designs
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining
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


def test_a_forced_kind_is_the_only_one() -> None:
    assert [d.realization.kind for d in designs([TANH], Pipelining(), kind="pwl")] == ["pwl"]


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(InputError, match="objective must be one of lut, fmax, latency, bram, not 'speed'"):
        designs([TANH], Pipelining(), objective="speed")


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(InputError, match="family must be one of ecp5, ice40, not 'max10'"):
        designs([TANH], Pipelining(family="max10"))
