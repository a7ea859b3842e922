"""The ceiling is near the R^2 of a known E[y|x]: a closed form, or an integral over what is not seen."""

import subprocess
import sys

import numpy as np
import pytest

from gp.ceiling import _pool, _solve_band, estimate_ceiling
from gp.fitness import r2, split_pairs


class Mixture:
    """x = s * y, log s ~ N(0, spread), y ~ N(offset, width) of a channel: tokens of unequal scale.

    Channels (share, offset, width) far from 0 are the massive activations of a few channels.
    """

    def __init__(self, spread, *channels):
        self.spread = spread
        self.share, self.offset, self.width = np.array([(1 - sum(c[0] for c in channels), 0, 1), *channels]).T
        self.log_s = np.linspace(-7 * spread, 7 * spread, 401)

    def draw(self, num, seed):
        rng = np.random.default_rng(seed)
        channel = rng.choice(len(self.share), size=num, p=self.share)
        y = self.offset[channel] + self.width[channel] * rng.normal(size=num)
        return np.exp(self.spread * rng.normal(size=num)) * y, y

    def _densities(self, x):
        """p(x, s) up to a factor that depends on x, and y = x / s; the factor's logarithm."""
        y = x[:, None] * np.exp(-self.log_s)
        parts = [
            np.log(p / w) - 0.5 * ((y - o) / w) ** 2
            for p, o, w in zip(self.share, self.offset, self.width, strict=True)
        ]
        log = np.logaddexp.reduce(parts) - 0.5 * (self.log_s / self.spread) ** 2 - self.log_s
        top = log.max(axis=1, keepdims=True)
        return np.exp(log - top), y, top[:, 0]

    def mean(self, x):
        """E[y|x], by integration over s on a grid of x."""
        grid = np.linspace(*np.arcsinh([20 * x.min(), 20 * x.max()]), 3001)
        density, y, _ = self._densities(np.sinh(grid) / 20)
        return np.interp(np.arcsinh(20 * x), grid, (density * y).sum(axis=1) / density.sum(axis=1))

    def population(self):
        """The R^2 of E[y|x]: its variance over that of y, by integration over x and s."""
        reach = np.arcsinh(20 * 150 * np.exp(6 * self.spread))
        grid = np.linspace(-reach, reach, 6001)
        density, y, log = self._densities(np.sinh(grid) / 20)
        weight = density.sum(axis=1) * np.exp(log) * np.cosh(grid)
        weight /= weight.sum()
        mean = (density * y).sum(axis=1) / density.sum(axis=1)
        mean_y = self.share @ self.offset
        variance = self.share @ (self.width**2 + self.offset**2) - mean_y**2
        return (weight @ mean**2 - mean_y**2) / variance


class Noisy:
    """y = f(x) + noise."""

    def __init__(self, f, sigma, width=3.0):
        self.mean, self.sigma, self.width = f, sigma, width

    def draw(self, num, seed):
        rng = np.random.default_rng(seed)
        x = self.width * rng.normal(size=num)
        return x, self.mean(x) + self.sigma * rng.normal(size=num)


class Decades(Noisy):
    """|x| log-uniform over 12 decades, f(x) smooth in log|x| but for its sign."""

    def __init__(self, sigma):
        super().__init__(lambda x: np.sign(x) * (1 + np.tanh(np.log(np.abs(x)) / 3)), sigma)

    def draw(self, num, seed):
        rng = np.random.default_rng(seed)
        x = 10.0 ** rng.uniform(-6, 6, num) * rng.choice([-1, 1], num)
        return x, self.mean(x) + self.sigma * rng.normal(size=num)


FAMILIES = {
    "tokens 0.2": Mixture(0.2),
    "tokens 0.5": Mixture(0.5),
    "tokens 1.0": Mixture(1.0),
    "outliers at -20": Mixture(0.2, (0.01, -20, 1)),
    "outliers at 60": Mixture(0.2, (0.01, 60, 1)),
    "tanh": Noisy(np.tanh, 0.4),
    "clip": Noisy(lambda x: np.clip(x, -1, 1), 0.4),
    "wave": Noisy(lambda x: x * np.exp(-x * x / 4), 0.3, 2.0),
    "step": Noisy(lambda x: np.where(x > 0.3, 1.0, -1.0), 0.4, 2.0),
    "box": Noisy(lambda x: np.where(abs(x - 0.2) < 0.7, 1.0, -1.0), 0.4, 2.0),
    "12 decades": Decades(0.3),
    "12 decades, exact": Decades(0.0),
}


def compare(family, num, seed):
    """The estimate, and the R^2 of E[y|x] on the same held-out pairs."""
    split = split_pairs(*family.draw(num, seed), share=0.1, seed=seed)
    return estimate_ceiling(split), r2(split.held_y, family.mean(split.held_x))


@pytest.mark.parametrize(("num", "seed"), [(50_000, 1), (50_000, 2), (200_000, 3)])
@pytest.mark.parametrize("name", FAMILIES)
def test_ceiling_is_near_that_of_a_known_conditional_mean(name, num, seed):
    ours, truth = compare(FAMILIES[name], num, seed)
    assert ours == pytest.approx(truth, abs=0.002)
    assert truth / ours < 1.002


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "abs"),
    [
        (Mixture(1.0), 1e-3),
        (Mixture(0.5, (0.01, 60, 1)), 2e-3),
        (Mixture(1.0, (0.01, -20, 1)), 2e-3),
        (Mixture(0.2, (0.004, -20, 1), (0.003, 40, 1), (0.003, 100, 2)), 2e-3),
    ],
)
def test_ceiling_of_many_pairs_is_near_that_of_the_population(family, abs):
    x, y = family.draw(2_000_000, 5)
    split = split_pairs(x, y, share=0.5, seed=0)
    ours = estimate_ceiling(split)
    assert ours == pytest.approx(r2(split.held_y, family.mean(split.held_x)), abs=1e-3)
    assert ours == pytest.approx(family.population(), abs=abs)


def test_the_integral_over_the_population_is_right():
    family = Mixture(0.5, (0.01, 60, 1))
    x, y = family.draw(1_000_000, 3)
    assert family.population() == pytest.approx(r2(y, family.mean(x)), abs=1e-3)


def test_choosing_among_smoothers_does_not_flatter():
    gains = [np.subtract(*compare(FAMILIES["tokens 0.5"], 50_000, seed)) for seed in range(6)]
    assert -5e-4 < np.mean(gains) < 2e-4
    idle = Noisy(np.zeros_like, 1.0)
    chance = [estimate_ceiling(split_pairs(*idle.draw(50_000, s), share=0.1, seed=s)) for s in range(6)]
    assert -2e-3 < np.mean(chance) < 5e-4


def test_ceiling_does_not_depend_on_units():
    x, y = FAMILIES["tokens 0.5"].draw(20_000, 0)
    plain = estimate_ceiling(split_pairs(x, y, share=0.1, seed=0))
    for moved in ((1e-6 * x, y), (1e6 * x, -1e4 * y), (x, y + 1e6)):
        assert estimate_ceiling(split_pairs(*moved, share=0.1, seed=0)) == pytest.approx(plain, abs=2e-5)


def test_weights_decide_which_pairs_count():
    x, y = FAMILIES["tokens 0.5"].draw(40_000, 0)
    is_other = np.random.default_rng(1).random(len(x)) < 0.5
    mixed = np.where(is_other, -y, y)
    weights = np.where(is_other, 1e-6, 3.0)
    plain = estimate_ceiling(split_pairs(x[~is_other], y[~is_other], share=0.1, seed=0))
    assert estimate_ceiling(split_pairs(x, mixed, weights, share=0.1, seed=0)) == pytest.approx(
        plain, abs=0.01
    )
    assert estimate_ceiling(split_pairs(x, mixed, share=0.1, seed=0)) < 0.01
    whole = np.random.default_rng(2).integers(1, 4, len(x))
    repeated = split_pairs(np.repeat(x, whole), np.repeat(y, whole), share=0.5, seed=0)
    weighted = split_pairs(x, y, whole, share=0.5, seed=0)
    assert estimate_ceiling(weighted) == pytest.approx(estimate_ceiling(repeated), abs=0.01)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.arange(16.0), np.arange(16.0) ** 2),
        (np.arange(16) == 3, np.arange(16) == 5),
        (np.repeat([0.0, 1.0], 50), np.tile([0.0, 1.0], 50)),
        (np.r_[np.zeros(500), np.linspace(-3, 3, 100)], np.r_[np.ones(500), np.linspace(3, -3, 100)]),
        (np.r_[np.linspace(-1, 1, 998), 1e9, -1e9], np.r_[np.linspace(-1, 1, 998), 5, -5]),
    ],
)
def test_ceiling_of_hardly_any_information_is_a_number(x, y):
    for seed in range(3):
        split = split_pairs(1.0 * x, 1.0 * y, share=0.1, seed=seed)
        assert np.isfinite(estimate_ceiling(split))
        assert estimate_ceiling(split) <= 1


def test_few_values_of_x_are_found_exactly():
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, 5000).astype(float)
    y = np.array([3, -1, 4, -1, 5, -9, 2, -6, 5.0])[x.astype(int) + 4]
    assert estimate_ceiling(split_pairs(x, y, share=0.1, seed=0)) > 0.999


def test_pooling_is_the_least_squares_rising_sequence():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=40), rng.uniform(0.5, 2, size=40)
    means = np.array(
        [[np.average(values[a : b + 1], weights=weights[a : b + 1]) if a <= b else np.nan for b in range(40)]
         for a in range(40)]
    )  # fmt: skip
    expected = [max(min(means[a, b] for b in range(i, 40)) for a in range(i + 1)) for i in range(40)]
    np.testing.assert_allclose(_pool(values, weights), expected)


def test_band_systems_are_solved():
    rng = np.random.default_rng(0)
    band = rng.normal(size=(4, 12, 3))
    band[0] += 20
    right = rng.normal(size=(12, 3))
    for part in range(3):
        upper = sum(np.diag(band[m, : 12 - m, part], m) for m in range(4))
        whole = upper + upper.T - np.diag(np.diag(upper))
        np.testing.assert_allclose(
            _solve_band(band, right)[:, part], np.linalg.solve(whole, right[:, part]), rtol=1e-9
        )


MEMORY = """
import re, sys
from pathlib import Path
from gp.baselines import BASELINES, fit_forms
from gp.ceiling import estimate_ceiling
from gp.fitness import bin_pairs, split_pairs
from gp.pairs import load_pairs, read_sites
path = Path(sys.argv[1])
read_sites(path)
split = split_pairs(*load_pairs(path, "s"), share=0.1, seed=0)
bin_pairs(split.x, split.y, split.w, growth_penalty=0.0)
assert estimate_ceiling(split) > 0.99
assert fit_forms(split, BASELINES)["linear"].r2 > 0.99
# not getrusage, whose peak a process inherits from the one that started it
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


@pytest.mark.slow
def test_ten_million_pairs_need_less_than_a_gigabyte(tmp_path):
    x = np.linspace(-1, 1, 10_000_000)
    np.savez(tmp_path / "pairs.npz", s_x=x, s_y=x, s_w=2 + x)
    command = [sys.executable, "-c", MEMORY, tmp_path / "pairs.npz"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1000  # MB
