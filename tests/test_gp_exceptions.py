"""Exceptions: found where a token repeats, worth what they gain, and a ceiling that knows of them."""

import numpy as np
import pytest

from gp.ceiling import estimate_ceiling
from gp.cells import Cells
from gp.exceptions import Exceptions, ceiling_beside, count_exceptions
from gp.fitness import CodeStats, split_pairs
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import realize
from sw.ir.refmap import reference_map

INPUT, OUTPUT = FixedFormat.parse("s12.8"), FixedFormat.parse("s8.5")
CODES = np.array([300, -211, 77, 505])
Y = np.array([-3.0, 2.5, -1.5, 0.25])


def pairs(num=20_000, share=0.1, noise=0.3, seed=1):
    """tanh with noise, and a token whose four values of x have outputs of their own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=num)
    y = 2 * np.tanh(x) + noise * rng.normal(size=num)
    repeated = rng.random(num) < share
    which = rng.integers(0, 4, num)
    return np.where(repeated, CODES[which] / 256, x), np.where(repeated, Y[which], y), repeated


def stats(x, y):
    return CodeStats.of(x, y, INPUT)


def test_the_repeated_values_are_found_and_those_that_gain_most_come_first():
    x, y, _ = pairs()
    found = Exceptions.of(stats(x, y), INPUT)
    assert set(found.index + INPUT.min_raw) == set(CODES)
    gains = np.abs(found.mean_y - 2 * np.tanh((found.index + INPUT.min_raw) / 256))
    assert list(gains) == sorted(gains, reverse=True)
    np.testing.assert_allclose(found.mean_y[0], Y[0], atol=0.05)


@pytest.mark.parametrize("data", ["smooth", "few values"])
def test_other_pairs_have_none(data):
    x, y, repeated = pairs()
    if data == "smooth":
        x, y = x[~repeated], y[~repeated]
    else:
        x = np.rint(4 * x) / 4  # every value repeats, so none stands out by its y
        y = 2 * np.tanh(x) + 0.1 * y
    found = Exceptions.of(stats(x, y), INPUT)
    assert len(found.index) == 0
    assert found.is_regular(x).all()


def test_regular_pairs_are_all_others():
    x, y, repeated = pairs()
    found = Exceptions.of(stats(x, y), INPUT)
    hit = np.isin(INPUT.quantize(x), CODES)
    np.testing.assert_array_equal(found.is_regular(x), ~hit)
    direct = stats(x[~hit], y[~hit])
    np.testing.assert_array_equal(found.regular.index, direct.index)
    np.testing.assert_allclose(found.regular.sum_y, direct.sum_y)
    assert found.regular.sum_yy == pytest.approx(direct.sum_yy, rel=0.03)
    assert repeated.mean() == pytest.approx(0.1, abs=0.01)


def test_drafts_have_the_error_of_their_map_and_more_exceptions_less_of_it():
    x, y, _ = pairs()
    data = stats(x, y)
    found = Exceptions.of(data, INPUT)
    base = next(
        d
        for d in Cells(INPUT, OUTPUT, found.regular).drafts(parse("tanh(x)"), lambda price, error: True)
        if "floor(8*x)" in str(d.expr)
    )
    drafts = list(found.drafts(base, OUTPUT))
    assert len(drafts) == 4
    assert [count_exceptions(d.expr, INPUT) for d in (base, *drafts)] == [0, 1, 2, 3, 4]
    assert count_exceptions(parse("relu(1 - abs(floor(8*x)))"), INPUT) == 0, "cells of a core of that shape"
    errors = [d.error for d in drafts]
    assert errors == sorted(errors, reverse=True)
    for draft in drafts:
        codes = OUTPUT.to_real(reference_map(draft.expr, INPUT, OUTPUT))
        assert draft.error == pytest.approx(1 - data.r2(codes, *data.fit(codes)), abs=1e-9)
        made = realize(draft.expr, INPUT, OUTPUT, kind="exceptions")
        assert made.max_ulp == 0
        assert draft.bound <= made.lut6
        assert parse(str(draft.expr)) == draft.expr


def test_the_ceiling_with_exceptions_is_that_of_the_truth():
    x, y, _ = pairs(num=100_000)
    split = split_pairs(x, y, share=0.2, seed=0)
    truth = 2 * np.tanh(split.held_x)
    codes = INPUT.quantize(split.held_x)
    for code, value in zip(CODES, Y, strict=True):
        truth[codes == code] = value
    expected = 1 - np.sum((split.held_y - truth) ** 2) / np.sum((split.held_y - split.held_y.mean()) ** 2)
    assert ceiling_beside(split, INPUT) == pytest.approx(expected, abs=0.003)
    assert max(estimate_ceiling(split), ceiling_beside(split, INPUT)) <= expected + 0.006


def test_without_repeated_values_the_ceiling_is_the_same():
    x, y, repeated = pairs()
    split = split_pairs(x[~repeated], y[~repeated], share=0.2, seed=0)
    assert ceiling_beside(split, INPUT) == estimate_ceiling(split)
