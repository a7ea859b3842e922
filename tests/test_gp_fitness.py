"""Scores against straightforward computation on the pairs, and the published known answers."""

import numpy as np
import pytest

import gp.fitness
from gp.fitness import UNUSABLE, CodeStats, bin_pairs, check_pairs, r2, split_pairs, weighted_quantiles
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat

RNG = np.random.default_rng(0)
SCALE = np.exp(0.4 * RNG.normal(size=3000))
Z = RNG.normal(size=3000)
PAIRS = SCALE * Z, Z
COPIES = RNG.integers(0, 4, size=3000)
REPEATED = tuple(np.repeat(v, COPIES) for v in PAIRS)
"""The pairs, each as often as its weight in COPIES says."""


def test_split_holds_out_a_share_and_loses_nothing():
    x, y = np.arange(1000.0), np.arange(1000.0) + 0.5
    split = split_pairs(x, y, share=0.1, seed=3)
    assert len(split.held_x) == 100
    assert sorted([*split.x, *split.held_x]) == list(x)
    np.testing.assert_array_equal(split.held_y - split.held_x, 0.5)
    again, other = split_pairs(x, y, share=0.1, seed=3), split_pairs(x, y, share=0.1, seed=4)
    np.testing.assert_array_equal(again.held_x, split.held_x)
    assert not np.array_equal(other.held_x, split.held_x)


def test_split_leaves_something_on_both_sides():
    split = split_pairs(np.arange(16.0), np.arange(16.0), share=0.01, seed=0)
    assert (len(split.x), len(split.held_x)) == (12, 4)
    assert len(split_pairs(np.arange(16.0), np.arange(16.0), share=0.9, seed=0).held_x) == 8


@pytest.mark.parametrize(
    ("x", "y", "w", "message"),
    [
        (
            np.zeros(50),
            np.zeros(40),
            None,
            r"^'pairs_x' and 'pairs_y' must be vectors of equal length, not of s",
        ),
        (np.zeros(15), np.zeros(15), None, r"^pairs must be at least 16, not 15$"),
        (np.zeros(50), np.zeros(50), np.eye(50)[0], r"^pairs must be at least 16, not 1$"),
        (
            np.zeros(50),
            np.full(50, np.nan),
            None,
            r"^'pairs_y' must be finite, not NaN or infinite at 50 places$",
        ),
    ],
)
def test_pairs_that_cannot_be_split(x, y, w, message):
    with pytest.raises(InputError, match=message):
        split_pairs(x, y, w, share=0.1, seed=0)


def test_split_takes_the_weights_along():
    x = np.arange(1000.0)
    split = split_pairs(x, x, x, share=0.1, seed=3)
    assert len(split.x) + len(split.held_x) == 999  # x = 0 weighs nothing
    np.testing.assert_allclose(split.held_w, split.held_x / 500)
    np.testing.assert_allclose(split.w, split.x / 500)
    equal, without = (split_pairs(x, x, w, share=0.1, seed=3) for w in (np.full(1000, 0.3), None))
    for name in ("x", "y", "w", "held_x", "held_y", "held_w"):
        np.testing.assert_array_equal(getattr(equal, name), getattr(without, name))
    np.testing.assert_array_equal(without.w, np.ones(900))


def test_split_survives_huge_and_tiny_weights():
    x = np.arange(32.0)
    for factor in (1e308, 1e-300):
        w = split_pairs(x, x, np.linspace(0.5, 1, 32) * factor, share=0.5, seed=0).w
        np.testing.assert_allclose(w.max() / w.min(), 2, rtol=0.1)


def test_split_draws_from_too_many_pairs(monkeypatch):
    monkeypatch.setattr(gp.fitness, "MAX_PAIRS", 600)
    x = np.arange(1000, dtype=np.float32)
    split = split_pairs(x, x + 0.5, x + 1, share=0.1, seed=3)
    assert (len(split.x), len(split.held_x)) == (540, 60)
    drawn = np.concatenate([split.x, split.held_x])
    assert len(np.unique(drawn)) == 600
    assert abs(drawn.mean() - 500) < 5 * 289 / np.sqrt(600)
    np.testing.assert_array_equal(split.y, split.x + 0.5)
    np.testing.assert_array_equal(split.held_y, split.held_x + 0.5)
    assert np.ptp(split.w / (split.x + 1)) < 1e-9
    np.testing.assert_array_equal(split_pairs(x, x, x + 1, share=0.1, seed=3).held_x, split.held_x)


def test_quantiles_of_whole_weights_are_those_of_copies():
    x, shares = RNG.normal(size=50), np.linspace(0, 1, 11)
    weights = 1.0 + RNG.integers(0, 3, size=50)
    ours = weighted_quantiles(x, weights, shares)
    copies = np.quantile(np.repeat(x, (100 * weights).astype(int)), shares)
    assert ours[[0, -1]].tolist() == [x.min(), x.max()]
    assert np.all(np.abs(ours - copies) < 0.6)  # within a neighbour
    np.testing.assert_array_equal(weighted_quantiles(x, np.full(50, 2.0), shares), np.quantile(x, shares))


def test_weighted_bins_are_those_of_repeated_pairs():
    weighted = bin_pairs(*PAIRS, COPIES.astype(float), growth_penalty=0.0, num_bins=12_000)
    repeated = bin_pairs(*REPEATED, growth_penalty=0.0, num_bins=12_000)
    assert weighted.weight.sum() == pytest.approx(1.0)
    assert weighted.variance == pytest.approx(repeated.variance)
    f, g = (np.tanh(target.x) for target in (weighted, repeated))
    assert weighted.fit(f).loss == pytest.approx(repeated.fit(g).loss, rel=1e-9)
    assert weighted.fit(f).scale == pytest.approx(repeated.fit(g).scale, rel=1e-9)
    coarse = bin_pairs(*PAIRS, COPIES.astype(float), growth_penalty=0.0)
    assert coarse.fit(np.tanh(coarse.x)).loss == pytest.approx(weighted.fit(f).loss, rel=2e-3)
    assert coarse.noise + coarse.weight @ coarse.y**2 == pytest.approx(np.mean(REPEATED[1] ** 2))


def test_equal_weights_give_the_numbers_of_none():
    x, y = PAIRS
    fixed, equal = FixedFormat.parse("s10.6"), np.full(3000, 0.7)
    with_weights, without = (bin_pairs(x, y, w, growth_penalty=0.1) for w in (equal, None))
    np.testing.assert_array_equal(with_weights.y, without.y)
    assert with_weights.noise == without.noise == np.mean(y * y) - without.weight @ without.y**2
    assert with_weights.variance == without.variance == np.var(y)
    stats = CodeStats.of(x, y, fixed, equal)
    np.testing.assert_array_equal(stats.count, CodeStats.of(x, y, fixed).count)
    assert r2(y, np.tanh(x), equal) == r2(y, np.tanh(x)) == 1 - np.mean((y - np.tanh(x)) ** 2) / np.var(y)


def test_weighted_r2_is_that_of_repeated_pairs():
    (x, y), (many_x, many_y) = PAIRS, REPEATED
    assert r2(y, np.tanh(x), COPIES) == pytest.approx(r2(many_y, np.tanh(many_x)))
    assert r2(np.ones(4), np.zeros(4)) == 0.0


def test_bins_are_a_sufficient_statistic_for_functions_constant_in_them():
    x, y = PAIRS
    target = bin_pairs(x, y, growth_penalty=0.0, num_bins=len(x) * 4)  # a bin a pair
    f = np.tanh(target.x)
    fit = target.fit(f)
    slope, intercept = np.polyfit(np.tanh(x), y, 1)
    assert fit.scale == pytest.approx(slope, rel=1e-9)
    assert fit.offset == pytest.approx(intercept, abs=1e-9)
    assert fit.loss == pytest.approx(np.mean((y - slope * np.tanh(x) - intercept) ** 2), rel=1e-9)


def test_256_bins_lose_next_to_nothing():
    x, y = PAIRS
    target = bin_pairs(x, y, growth_penalty=0.0)
    slope, intercept = np.polyfit(np.tanh(x), y, 1)
    exact = np.mean((y - slope * np.tanh(x) - intercept) ** 2)
    assert len(target.x) <= 258
    assert target.weight.sum() == pytest.approx(1.0)
    assert target.fit(np.tanh(target.x)).loss == pytest.approx(exact, rel=2e-3)


def test_zero_has_loss_of_the_mean_square_and_no_penalty():
    x, y = PAIRS
    target = bin_pairs(x, y, growth_penalty=0.005, allowance=0.0)
    loss = float(target.weight @ target.y**2) + target.noise
    assert loss == pytest.approx(np.mean(y**2))
    assert target.penalty(np.zeros_like(target.x)) == 0.0


def test_penalty_of_the_identity_is_the_square_of_twice_the_largest_x():
    x, y = PAIRS
    reach = 2 * np.max(np.abs(x))
    target = bin_pairs(x, y, growth_penalty=0.005, allowance=0.0)
    assert target.penalty(target.x) == pytest.approx(reach**2)
    doubled = bin_pairs(2 * x, y, growth_penalty=0.005, allowance=0.0)
    assert doubled.penalty(doubled.x) == pytest.approx(4 * reach**2)


def test_penalty_counts_only_what_exceeds_the_allowance():
    x, y = PAIRS
    target = bin_pairs(x, y, growth_penalty=1.0)
    assert target.allowance == np.max(np.abs(target.y))
    saturating = np.clip(target.x, -1, 1)
    assert target.fit(saturating).loss == bin_pairs(x, y, growth_penalty=0.0).fit(saturating).loss
    assert target.fit(target.x).loss > bin_pairs(x, y, growth_penalty=0.0).fit(target.x).loss


@pytest.mark.parametrize("f", [np.ones(258), 3.0, np.full(258, np.nan), np.full(258, np.inf)])
def test_functions_without_a_finite_scale_are_unusable(f):
    x, y = PAIRS
    target = bin_pairs(x, y, growth_penalty=0.005)
    f = f[: len(target.x)] if isinstance(f, np.ndarray) else f
    with np.errstate(invalid="ignore"):
        assert target.fit(f) is UNUSABLE


def test_code_statistics_give_the_exact_error_of_an_integer_map():
    x, y = PAIRS
    fixed = FixedFormat.parse("s10.6")
    table = np.tanh(fixed.to_real(fixed.codes()))
    stats = CodeStats.of(x, y, fixed)
    scale, offset = stats.fit(table)
    values = table[fixed.quantize(x) - fixed.min_raw]
    slope, intercept = np.polyfit(values, y, 1)
    assert (scale, offset) == (pytest.approx(slope), pytest.approx(intercept, abs=1e-12))
    assert stats.r2(table, scale, offset) == pytest.approx(r2(y, slope * values + intercept))


def test_weighted_code_statistics_are_those_of_repeated_pairs():
    fixed = FixedFormat.parse("s10.6")
    table = np.tanh(fixed.to_real(fixed.codes()))
    weighted, repeated = CodeStats.of(*PAIRS, fixed, COPIES), CodeStats.of(*REPEATED, fixed)
    assert weighted.fit(table) == pytest.approx(repeated.fit(table))
    assert weighted.count.sum() == pytest.approx(3000)
    for affine in (weighted.fit(table), (1.3, -0.2)):
        assert weighted.r2(table, *affine) == pytest.approx(repeated.r2(table, *affine))


def test_code_statistics_of_a_constant_map():
    x, y = PAIRS
    stats = CodeStats.of(x, y, FixedFormat.parse("s4.0"))
    assert stats.fit(np.ones(16)) == (0.0, pytest.approx(y.mean()))


GOOD = np.linspace(0.0, 1.0, 32)


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (
            GOOD,
            GOOD[1:],
            r"'s_x' and 's_y' must be vectors of equal length, not of shapes \(32,\) and \(31,\)",
        ),
        (GOOD.reshape(4, 8), GOOD.reshape(4, 8), r"must be vectors of equal length"),
        (GOOD[:3], GOOD[:3], "pairs of site 's' must be at least 16, not 3"),
        (np.where(GOOD == 1, np.nan, GOOD), GOOD, "'s_x' must be finite, not NaN or infinite at 1 places"),
        (GOOD, np.where(GOOD > 0.9, np.inf, GOOD), "'s_y' must be finite, not NaN or infinite at 4 places"),
        (np.full(32, 2.5), GOOD, r"'s_x' must vary, not be 2\.5 everywhere"),
        (GOOD, np.full(32, -1.0), "'s_y' must vary, not be -1 everywhere"),
        (GOOD.astype(complex), GOOD, "'s_x' must be real numbers, not complex128"),
        (GOOD.astype(str), GOOD, "'s_x' must be real numbers, not <U"),
    ],
)
def test_pairs_that_cannot_be_used(x, y, text):
    with pytest.raises(InputError, match=text):
        check_pairs("s", x, y)


def test_pairs_that_can():
    check_pairs("s", GOOD, GOOD**2)
