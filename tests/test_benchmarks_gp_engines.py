"""The engines that ``make bench-gp`` compares with, and the families that it runs them on."""

import random

import numpy as np
import pytest

from benchmarks.gp_engines import plain_deap
from benchmarks.gp_engines.engines import ENGINES, MAX_NODES, SUBSAMPLE, load, subsample
from benchmarks.gp_engines.families import MASSIVE_SHARE, NUM_OUTLIERS, SIGMAS, family, tokens
from gp.primitives import seeded, to_expr
from sw.ir.errors import InputError
from sw.ir.expr import evaluate
from sw.ir.parse import parse

POINTS = np.concatenate([np.linspace(-4, 4, 201), [-60.0, 0.0, 60.0]])


@pytest.fixture(scope="module")
def s_curve():
    rng = np.random.default_rng(5)
    x = 2 * rng.standard_normal(6000)
    return x, np.tanh(1.3 * x) + 0.1 * rng.standard_normal(len(x))


def free_affine_r2(f, y):
    return np.corrcoef(f, y)[0, 1] ** 2 if np.ptp(f) else 0.0


# families


@pytest.mark.parametrize("name", SIGMAS)
def test_a_family_is_deterministic_and_float32(name):
    first, again, other = family(name, 1000, 3), family(name, 1000, 3), family(name, 1000, 4)
    assert [v.dtype for v in first] == [np.float32, np.float32]
    assert [v.shape for v in first] == [(1000,), (1000,)]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pairs_come_from_the_tokens():
    all_x, all_y = (v.astype(np.float32).ravel().tolist() for v in tokens("tokens_0.5", 3))
    x, y = family("tokens_0.5", 200, 3)
    assert set(zip(x.tolist(), y.tolist(), strict=True)) <= set(zip(all_x, all_y, strict=True))


@pytest.mark.parametrize(("name", "sigma"), SIGMAS.items())
def test_tokens_are_what_layer_norm_makes_of_them(name, sigma):
    x, y = tokens(name, 7)
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=1), 1, atol=5e-3)
    slope = np.ptp(y, axis=1) / np.ptp(x, axis=1)
    np.testing.assert_allclose(y, slope[:, None] * (x - x.mean(axis=1, keepdims=True)), atol=1e-9)
    scale = np.median(np.abs(x), axis=1) / 0.6745
    assert np.std(np.log(scale)) == pytest.approx(sigma, abs=0.05)


def test_few_tokens_carry_the_same_massive_channels():
    x, _ = tokens("tokens_0.2", 7)
    large = np.abs(x) > 15
    channels = np.flatnonzero(large.any(axis=0))
    assert len(channels) == NUM_OUTLIERS
    assert large.any(axis=1).mean() == pytest.approx(MASSIVE_SHARE, rel=0.3)
    for channel in channels:
        values = x[large[:, channel], channel]
        assert np.std(values) == pytest.approx(0.05 * abs(np.mean(values)), rel=0.5)


def test_an_unknown_family():
    with pytest.raises(InputError, match=r"family must be one of tokens_0\.2, .*, not 'tokens_2'"):
        family("tokens_2", 10, 0)


def test_the_subsample_keeps_pairs_together():
    x = np.arange(9000.0)
    xs, ys = subsample(x, x + 0.5, 1)
    assert len(np.unique(xs)) == SUBSAMPLE
    np.testing.assert_array_equal(ys, xs + 0.5)


# translation: a formula says what the engine's own program says


def test_deap_trees_as_formulas():
    toolbox = plain_deap.make_toolbox()
    with seeded(1), np.errstate(all="ignore"):
        for tree in toolbox.population(n=200):
            ref = np.broadcast_to(toolbox.compile(tree)(POINTS), POINTS.shape)
            np.testing.assert_allclose(evaluate(to_expr(tree), POINTS), ref, rtol=1e-6, atol=1e-12)


def test_deap_trees_stay_within_the_limit():
    toolbox = plain_deap.make_toolbox()
    with seeded(2):
        trees = toolbox.population(n=50)
        for _ in range(20):
            trees = plain_deap.varied(random.sample(trees, len(trees)), toolbox)
    assert max(len(t) for t in trees) <= MAX_NODES


def test_gplearn_programs_as_formulas():
    genetic = pytest.importorskip("gplearn.genetic", reason="gplearn is in the extra bench")
    engine = pytest.importorskip("benchmarks.gp_engines.gplearn_engine")
    model = engine.regressor(engine.timed("mse", np.inf), 1).set_params(generations=1, low_memory=False)
    with np.errstate(all="ignore"):
        model.fit(POINTS[:, None], np.tanh(POINTS))
        assert isinstance(model, genetic.SymbolicRegressor)
        for program in model._programs[0]:
            ref = program.execute(POINTS[:, None])
            np.testing.assert_allclose(evaluate(engine.to_expr(program.program), POINTS), ref, rtol=1e-6)


@pytest.mark.parametrize(
    ("operon", "formula"),
    [
        ("(1.5 + (-2.0 * tanh((0.25 * x))))", "1.5 + -2*tanh(0.25*x)"),
        ("(min(x, 1.0) - (max(x, ((-3.0) * x))))", "min(x, 1) - max(x, -3*x)"),
        ("((0.5 + x) ^ 2)", "square(0.5 + x)"),
        ("(abs(x) / (1.0 + abs(x)))", "abs(x)/(1 + abs(x))"),
    ],
)
def test_operon_syntax(operon, formula):
    pytest.importorskip("pyoperon", reason="pyoperon is in the extra bench")
    engine = pytest.importorskip("benchmarks.gp_engines.operon")
    np.testing.assert_allclose(
        evaluate(engine.to_expr(operon), POINTS), evaluate(parse(formula), POINTS), rtol=1e-12
    )


def test_operon_trees_as_formulas(s_curve):
    pytest.importorskip("pyoperon", reason="pyoperon is in the extra bench")
    engine = pytest.importorskip("benchmarks.gp_engines.operon")
    x, y = s_curve
    model = engine.regressor(1, seed=1).set_params(generations=3, population_size=100).fit(x[:, None], y)
    trees = [*(m["tree"] for m in model.pareto_front_), *(i.Genotype for i in model.individuals_)]
    pairs = [(tree, expr) for tree in trees if (expr := engine.expression(model, tree))]
    assert len(pairs) > 50
    for tree, expr in pairs:
        ref = model.evaluate_model(tree, POINTS[:, None])
        atol = 1e-6 * max(1, np.abs(ref).max())  # Operon computes in float32
        np.testing.assert_allclose(evaluate(expr, POINTS), ref, rtol=1e-6, atol=atol)


# runs


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_finds_an_s_curve_in_time(name, s_curve):
    if "DEAP" not in name:
        package = name.partition(",")[0]
        pytest.importorskip(package, reason=f"{package} is in the extra bench")
    x, y = s_curve
    result = load(name)(x, y, seconds=1, seed=1)
    assert result.seconds > 0.9
    assert result.evaluations > 100
    times = [s.seconds for s in result.steps]
    assert times == sorted(times)
    assert 0 < times[0] <= times[-1] <= result.seconds
    values = [evaluate(s.expr, x) for s in result.steps]
    assert np.isfinite(values).all()
    assert max(free_affine_r2(f, y) for f in values) > 0.5
