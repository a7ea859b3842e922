"""Few cells of x: what the formula says is what a small table holds, and the error is that of its map."""

import numpy as np
import pytest

from gp.cells import Cells, coarser
from gp.fitness import CodeStats
from gp.rewrite import constants_of
from sw.ir.formats import FixedFormat
from sw.ir.interpret import table
from sw.ir.parse import parse
from sw.ir.realize import realize
from sw.ir.refmap import reference_map

RNG = np.random.default_rng(5)
Y = RNG.normal(size=20_000)
X = np.exp(0.4 * RNG.normal(size=20_000)) * Y
INPUT = FixedFormat.parse("s12.7")


def cells(output="s8.5", input=INPUT):
    return Cells(input, FixedFormat.parse(output), CodeStats.of(X, Y, input))


def drafts(core, **formats):
    return list(cells(**formats).drafts(parse(core), lambda price, error: True))


@pytest.mark.parametrize("output", ["s8.5", "s6.3", "u8.5"])
@pytest.mark.parametrize("core", ["tanh(x)", "clip(2*x) + x", "x*(4 - abs(x))", "x + 0.7*abs(x)"])
def test_error_and_levels_are_those_of_the_reference_map(core, output):
    fixed = FixedFormat.parse(output)
    stats = CodeStats.of(X, Y, INPUT)
    made = drafts(core, output=output)
    assert made
    for draft in made[::5]:
        codes = reference_map(draft.expr, INPUT, fixed)
        values = fixed.to_real(codes)
        assert draft.error == pytest.approx(1 - stats.r2(values, *stats.fit(values)), abs=1e-9)
        tops = {fixed.max_raw >> h for h in range(3)}
        ends = (codes.max(), -codes.min()) if fixed.signed else (codes.max(),)
        assert min(abs(end - top) for end in ends for top in tops) <= 1, "an end of the range is used"
        assert codes.max() <= max(tops)
        assert codes.min() >= (-max(tops) if fixed.signed else 0)
        assert parse(str(draft.expr)) == draft.expr


def test_the_bound_is_a_lower_price_than_the_realisation_by_little():
    for draft in drafts("tanh(x)")[::4]:
        made = realize(draft.expr, INPUT, FixedFormat.parse("s8.5"), kind=draft.kind)
        assert made.lut6 - 8 <= draft.bound <= made.lut6


def test_a_map_of_cells_is_a_small_table():
    for draft in drafts("tanh(x)"):
        program = realize(draft.expr, INPUT, FixedFormat.parse("s8.5"), kind="table").program
        assert len(program.tables[0]) <= 256
        np.testing.assert_array_equal(
            table(program), reference_map(draft.expr, INPUT, FixedFormat.parse("s8.5"))
        )


def test_more_cells_follow_a_core_closer():
    best = {}
    for draft in drafts("tanh(x)"):
        size = len(np.unique(reference_map(draft.expr, INPUT, FixedFormat.parse("s8.5"))))
        best[size] = min(draft.error, best.get(size, 1.0))
    assert best[max(best)] < best[min(best)] - 0.005


def test_only_hopeful_cells_are_made():
    seen = []

    def none(price, error):
        seen.append((price, error))
        return False

    assert list(cells().drafts(parse("tanh(x)"), none)) == []
    assert len(seen) == 5 * 2 * 3
    assert min(price for price, _ in seen) == 3 + 6


@pytest.mark.parametrize("core", ["1", "log(x)", "x*0"])
def test_cores_without_a_usable_range_give_nothing(core):
    assert drafts(core) == []


def test_narrow_inputs_have_fewer_cells():
    made = drafts("tanh(x)", input=FixedFormat.parse("s5.2"))
    assert {str(d.expr).count("clip") for d in made} == {0, 1}, "five bits are all there are"


def test_coarser_sums_are_sums():
    stats = CodeStats.of(X, Y, INPUT)
    coarse = coarser(stats, 3)
    direct = CodeStats.of(np.floor(X * 16) / 16, Y, FixedFormat.parse("s9.4"))
    inside = np.abs(X) < 7.9  # where neither format saturates
    assert inside.mean() > 0.999
    np.testing.assert_allclose(coarse.count.sum(), len(X))
    common = np.isin(direct.index, coarse.index)
    assert common.mean() > 0.95
    assert coarse.sum_yy == stats.sum_yy


def test_constants_are_short():
    for draft in drafts("1.23456789*tanh(0.987654321*x) + 0.111111*x")[:6]:
        assert all(len(str(float(v))) < 20 for _, v in constants_of(draft.expr))
