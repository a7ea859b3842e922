"""Bare clamps: exact errors, limits within the output, and the best limits against trying all."""

import itertools

import numpy as np
import pytest

from gp.clamps import MIN_LIMIT, clamp_drafts
from gp.fitness import CodeStats
from sw.ir.formats import FixedFormat
from sw.ir.program import Op
from sw.ir.realize import realize
from sw.ir.refmap import reference_map

RNG = np.random.default_rng(7)
Y = RNG.normal(size=20_000)
X = np.exp(0.5 * RNG.normal(size=20_000)) * Y + 0.1
INPUT, OUTPUT = FixedFormat.parse("s10.5"), FixedFormat.parse("s6.3")


def error(codes, output=OUTPUT):
    stats = CodeStats.of(X, Y, INPUT)
    values = output.to_real(codes)
    return 1 - stats.r2(values, *stats.fit(values))


@pytest.mark.parametrize("output", [OUTPUT, FixedFormat.parse("u6.3")])
def test_a_clamp_is_dropped_bits_and_limits_and_its_error_is_exact(output):
    made = list(clamp_drafts(INPUT, output, CodeStats.of(X, Y, INPUT)))
    assert len(made) > 15
    for draft in made:
        codes = reference_map(draft.expr, INPUT, output)
        assert draft.error == pytest.approx(error(codes, output), abs=1e-9)
        assert np.all(np.diff(codes) >= 0)
        if output.signed:
            program = realize(draft.expr, INPUT, output, kind="requant").program
            assert {i.op for i in program.instrs} <= {Op.INPUT, Op.SHR, Op.CLAMP}


def test_limits_are_as_good_as_any():
    codes = INPUT.codes() >> 2
    best = min(
        error(np.clip(codes, low, high))
        for low, high in itertools.product(range(-32, -MIN_LIMIT, 3), range(MIN_LIMIT, 32, 3))
    )
    made = min(d.error for d in clamp_drafts(INPUT, OUTPUT, CodeStats.of(X, Y, INPUT)))
    assert made <= best + 1e-4


def test_bounds_are_below_the_price_by_little():
    for output in (OUTPUT, FixedFormat.parse("u6.3")):
        for draft in clamp_drafts(INPUT, output, CodeStats.of(X, Y, INPUT)):
            price = realize(draft.expr, INPUT, output, kind="requant").lut6
            assert price - 10 <= draft.bound <= price, draft
