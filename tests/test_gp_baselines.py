"""Fitted forms find known parameters, are the published functions, and are never worse than a scan."""

import itertools

import numpy as np
import pytest

from gp.baselines import BASELINES, FORMS, fit_forms, fit_homogeneous, score_form
from gp.fitness import bin_pairs, r2, split_pairs
from sw.ir.errors import InputError
from sw.ir.expr import NUMPY_OPS, X, evaluate
from sw.ir.parse import parse

RNG = np.random.default_rng(8)
X_PAIRS = RNG.normal(size=20_000) * 3
NOISE = RNG.normal(size=20_000)
erf = NUMPY_OPS["erf"]


def split(y, x=X_PAIRS, w=None):
    return split_pairs(x, y, w, share=0.1, seed=0)


@pytest.mark.parametrize(
    ("name", "truth", "parameters"),
    [
        ("linear", lambda x: 3 * x - 1, []),
        ("clip", lambda x: 2 * np.clip(0.7 * x, -1, 1) + 0.5, [0.7]),
        ("scaled_dyt", lambda x: -1.5 * np.tanh(0.4 * x) + 1, [0.4]),
        ("dyt", lambda x: np.tanh(1.3 * x), [1.3]),
        ("derf", lambda x: 2 * erf(0.5 * x + 0.25), [0.5, 0.25]),
        ("softsign", lambda x: 2 * (x - 1) / (1 + np.abs(x - 1)), [1, -1]),
        ("asinh", lambda x: np.arcsinh(2 * x - 3), [2, -3]),
        ("line_tanh", lambda x: 0.3 * x + np.tanh(x), [1, 0.3]),
    ],
)
def test_fit_of_a_form_to_itself(name, truth, parameters):
    fit = fit_forms(split(truth(X_PAIRS)), [name])[name]
    assert fit.r2 > 0.9999
    assert fit.parameters == pytest.approx(parameters, rel=0.02)
    np.testing.assert_allclose(
        fit.scale * evaluate(fit.expr, X_PAIRS) + fit.offset, truth(X_PAIRS), atol=0.05
    )


def test_two_clips_with_their_own_places():
    truth = np.clip(2 * X_PAIRS, -1, 1) + 2 * np.clip(0.5 * X_PAIRS - 2, -1, 1)
    assert fit_forms(split(truth), ["two_clips"])["two_clips"].r2 > 0.999


@pytest.mark.parametrize("name", FORMS)
def test_any_form_is_found_with_an_r2_near_1(name):
    form = FORMS[name]
    constants = [0.8 if i in form.slopes else 0.4 for i in range(len(form.starts[0]))]
    split_ = split(evaluate(form.build(*constants), X_PAIRS))
    assert fit_forms(split_, [name])[name].r2 > 0.9995


def test_a_free_affine_is_never_worse_than_none():
    fits = fit_forms(split(0.8 * np.tanh(X_PAIRS) + 0.1 * NOISE), BASELINES)
    assert tuple(fits) == BASELINES == ("linear", "clip", "scaled_dyt", "dyt", "derf")
    assert fits["scaled_dyt"].r2 > fits["dyt"].r2 > 0
    assert fits["derf"].r2 > fits["linear"].r2
    assert (fits["dyt"].scale, fits["dyt"].offset) == (1.0, 0.0)


def test_scores_are_those_of_the_pairs():
    parts = split(np.tanh(X_PAIRS) + 0.3 * NOISE)
    for name, fit in fit_forms(parts, ["linear", "derf", "two_clips"]).items():
        slope, intercept = np.polyfit(evaluate(fit.expr, parts.x), parts.y, 1)
        assert (fit.name, fit.scale, fit.offset) == (
            name,
            pytest.approx(slope, rel=1e-3),
            pytest.approx(intercept, abs=1e-3),
        )
        held = fit.scale * evaluate(fit.expr, parts.held_x) + fit.offset
        assert fit.r2 == pytest.approx(1 - np.mean((parts.held_y - held) ** 2) / np.var(parts.held_y))


@pytest.mark.parametrize(
    "shape",
    [np.tanh, np.sin, lambda x: np.tanh(x) + np.tanh(4 * x - 9), lambda x: np.where(x > 0.3, 1.0, -1)],
)
@pytest.mark.parametrize("name", ["clip", "derf", "cubic", "softsign", "line_tanh"])
def test_no_scan_of_the_constants_does_better(shape, name):
    target = bin_pairs(X_PAIRS, shape(X_PAIRS) + 0.3 * NOISE, growth_penalty=0.0)
    fit = fit_forms(split(shape(X_PAIRS) + 0.3 * NOISE), [name])[name]
    scan = itertools.product(
        np.geomspace(0.03, 30, 40), *[np.linspace(-4, 4, 41)] * (len(FORMS[name].starts[0]) - 1)
    )
    best = min(target.fit(evaluate(FORMS[name].build(*c), target.x)).loss for c in scan)
    assert target.fit(evaluate(fit.expr, target.x)).loss < best + 2e-3 * target.variance


LOG, SIGN, POWER = np.log1p, np.sign, np.power
PUBLISHED = {
    "derf": erf,
    "atan": np.arctan,
    "cubic": lambda u: u**3 / (np.abs(u) ** 3 + 1),
    "exp_root": lambda u: SIGN(u) * (1 - np.exp(-np.sqrt(np.abs(u)))),
    "exp": lambda u: SIGN(u) * (1 - np.exp(-np.abs(u))),
    "inverse_root": lambda u: u / np.sqrt(1 + u * u),
    "clip_shifted": lambda u: np.clip(u, -1, 1),
    "clip_log_square": lambda u: np.clip(SIGN(u) * LOG(u * u), -1, 1),
    "clip_log": lambda u: np.clip(SIGN(u) * LOG(np.abs(u)), -1, 1),
    "clip_power": lambda u: np.clip(SIGN(u) * POWER(np.abs(u), 2 / 3), -1, 1),
    "root_sigmoid": lambda u: u / (np.sqrt(u * u + 1) + 1),
    "log_ratio": lambda u: SIGN(u) * LOG(np.abs(u)) / (LOG(np.abs(u)) + 1),
    "sin_clip": lambda u: np.sin(np.clip(u, -np.pi / 2, np.pi / 2)),
    "softsign": lambda u: u / (1 + np.abs(u)),
    "asinh": np.arcsinh,
    "silu": lambda u: u / (1 + np.exp(-np.clip(u, -700, 700))),
    "line_tanh": np.tanh,
}
POINTS = np.concatenate(
    [[0.0], *(sign * 10.0 ** np.arange(-12, 31) for sign in (1, -1)), np.linspace(-9, 9, 999)]
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_are_the_published_functions_everywhere(name):
    ours = evaluate(FORMS[name].build(1.0, 0.0), POINTS)
    near_zero = 0.025 if name == "clip_power" else 2e-13  # its slope at 0 is infinite
    np.testing.assert_allclose(ours, PUBLISHED[name](POINTS), rtol=1e-12, atol=near_zero)
    assert ours[0] == 0.0
    shifted = evaluate(FORMS[name].build(0.5, 0.25), POINTS)
    if name not in ("silu", "line_tanh"):
        np.testing.assert_allclose(shifted, PUBLISHED[name](0.5 * POINTS + 0.25), rtol=1e-12, atol=near_zero)


@pytest.mark.parametrize("name", FORMS)
def test_formulas_can_be_printed_and_read_and_are_finite(name):
    for slope in (3e-12, 0.1234567891, 3e9):
        for other in (0.1234567891, -15.99):
            form = FORMS[name]
            expr = form.build(*[slope if i in form.slopes else other for i in range(len(form.starts[0]))])
            assert parse(str(expr)) == expr
            assert np.all(np.isfinite(evaluate(expr, np.array([0.0, 1e-300, -1e-9, 1e9, -1e9]))))


def test_one_alpha_for_all_sites_is_the_best_of_a_scan():
    sites = [(X_PAIRS, np.tanh(X_PAIRS)), (X_PAIRS, 2 * np.tanh(0.3 * X_PAIRS) + 1 + 0.1 * NOISE)]
    targets = [bin_pairs(x, y, growth_penalty=0.0) for x, y in sites]
    scan = np.geomspace(0.1, 3, 600)
    scaled = [sum(t.fit(np.tanh(a * t.x)).loss for t in targets) for a in scan]
    plain = [sum(np.mean((y - np.tanh(a * x)) ** 2) for x, y in sites) for a in scan]
    assert fit_homogeneous(targets) == pytest.approx(scan[np.argmin(scaled)], rel=0.01)
    assert fit_homogeneous(targets, is_scaled=False) == pytest.approx(scan[np.argmin(plain)], rel=0.02)
    assert fit_homogeneous(targets[:1]) == pytest.approx(1.0, rel=0.01)


def test_a_given_function_is_scored_with_and_without_an_affine():
    parts = split(2 * np.tanh(0.5 * X_PAIRS) + 1 + 0.1 * NOISE)
    free = score_form(parts, parse("tanh(0.5*x)"), is_scaled=True)
    fixed = score_form(parts, parse("tanh(0.5*x)"), is_scaled=False, name="dyt of all")
    assert (free.scale, free.offset) == (pytest.approx(2, rel=0.01), pytest.approx(1, rel=0.01))
    assert (free.name, fixed.name, fixed.scale, fixed.offset) == ("tanh(0.5*x)", "dyt of all", 1.0, 0.0)
    assert free.r2 > 0.98
    assert fixed.r2 == pytest.approx(r2(parts.held_y, np.tanh(0.5 * parts.held_x)))
    flat = score_form(parts, parse("0*x + 3"), is_scaled=True)
    assert flat.scale == 0.0
    assert flat.offset == pytest.approx(parts.y.mean())
    assert abs(flat.r2) < 0.01


def test_weights_decide_what_is_fitted():
    right = X_PAIRS > 0
    y = np.where(right, np.tanh(X_PAIRS), 5 * np.tanh(0.2 * X_PAIRS))
    fit = fit_forms(split(y, w=np.where(right, 1.0, 1e-9)), ["scaled_dyt"])["scaled_dyt"]
    assert fit.parameters[0] == pytest.approx(1.0, rel=0.02)
    assert fit.r2 > 0.999
    assert fit_forms(split(y), ["scaled_dyt"])["scaled_dyt"].r2 < 0.9


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_units_of_x_do_not_matter(factor):
    y = np.tanh(X_PAIRS - 0.5) + 0.3 * NOISE
    plain, scaled = (fit_forms(split(y, x)) for x in (X_PAIRS, factor * X_PAIRS))
    for name in FORMS:
        if name != "dyt":
            assert scaled[name].r2 == pytest.approx(plain[name].r2, abs=2e-4), name


def test_pairs_that_say_nothing_give_numbers():
    for seed in range(2):
        x, y = 1.0 * (np.arange(16) == 3), 1.0 * (np.arange(16) == 5)
        fits = fit_forms(split_pairs(x, y, share=0.1, seed=seed))
        assert all(np.isfinite([f.r2, f.scale, f.offset]).all() for f in fits.values())


def test_the_line_is_x_itself():
    assert fit_forms(split(np.tanh(X_PAIRS)), ["linear"])["linear"].expr == X


def test_an_unknown_form_is_refused():
    with pytest.raises(InputError, match=r"^form must be one of .*scaled_dyt.*, not 'tanh'$"):
        fit_forms(split(NOISE), ["clip", "tanh"])
