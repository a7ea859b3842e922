"""Bounds of rounding against mpmath: they hold, and they are not loose."""

import mpmath
import numpy as np
import pytest

from sw.ir.bounded import FLOAT64, Arithmetic, enclosure, multiprecision

DIGITS = 60
OPS = FLOAT64.ops()
UNARY = {
    "exp": (mpmath.exp, -20, 20),
    "log": (mpmath.log, 0.01, 50),
    "sqrt": (mpmath.sqrt, 0.01, 50),
    "tanh": (mpmath.tanh, -4, 4),
    "erf": (mpmath.erf, -3, 3),
    "atan": (mpmath.atan, -9, 9),
    "sin": (mpmath.sin, -9, 9),
    "sigmoid": (lambda t: 1 / (1 + mpmath.exp(-t)), -9, 9),
    "square": (lambda t: t * t, -9, 9),
    "abs": (abs, -9, 9),
    "relu": (lambda t: max(t, mpmath.mpf(0)), -9, 9),
    "neg": (lambda t: -t, -9, 9),
}
BINARY = {
    "add": lambda s, t: s + t,
    "sub": lambda s, t: s - t,
    "mul": lambda s, t: s * t,
    "div": lambda s, t: s / t,
    "min": min,
    "max": max,
}
SPREADS = (0.0, 1e-9, 1e-3)
ROUNDED = 1 + 1e-12
"""Bounds are computed in float64 themselves, which is why an enclosure takes twice as much."""


def drawn(low, high, num=60, seed=0):
    return np.random.default_rng(seed).uniform(low, high, num)


def truths(function, *sides):
    """The true results at the ends of the arguments' intervals, exact numbers."""
    with mpmath.workdps(DIGITS):
        corners = [[mpmath.mpf(float(v)) + sign * mpmath.mpf(e) for sign in (-1, 0, 1)] for v, e in sides]
        grid = (
            [(s,) for s in corners[0]]
            if len(corners) == 1
            else [(s, t) for s in corners[0] for t in corners[1]]
        )
        return [function(*point) for point in grid]


def distance(results, value):
    with mpmath.workdps(DIGITS):
        return float(max(abs(result - mpmath.mpf(float(value))) for result in results))


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", UNARY)
def test_bounds_of_functions_hold_and_are_not_loose(name, spread):
    function, low, high = UNARY[name]
    x = drawn(low, high)
    values, errors = OPS[name]((x, np.full_like(x, spread)))
    for v, value, error in zip(x, values, errors, strict=True):
        apart = distance(truths(function, (v, spread)), value)
        assert apart <= error * ROUNDED
        slope = (
            1.2 if name in ("tanh", "erf", "atan", "sin", "sigmoid", "relu") else 0.0
        )  # the steepest counts
        assert error <= 4 * apart + slope * spread + 10 * np.spacing(max(abs(value), 1.0))


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", BINARY)
def test_bounds_of_operations_hold_and_are_not_loose(name, spread):
    x, y = drawn(-9, 9, seed=1), drawn(0.5, 9, seed=2) * np.where(np.arange(60) % 2, 1, -1)
    values, errors = OPS[name]((x, np.full_like(x, spread)), (y, np.full_like(y, spread / 2)))
    for s, t, value, error in zip(x, y, values, errors, strict=True):
        apart = distance(truths(BINARY[name], (s, spread), (t, spread / 2)), value)
        assert apart <= error * ROUNDED
        assert error <= 2 * apart + 4 * np.spacing(abs(value)) + spread * (name in ("min", "max"))


@pytest.mark.parametrize("power", [-3, -1, 0, 1, 2, 5])
def test_powers_are_products_or_one_over_them(power):
    x = drawn(0.5, 3)
    values, errors = OPS["pow"]((x, np.full_like(x, 1e-6)), power)
    for v, value, error in np.broadcast(x, values, errors):
        apart = distance(truths(lambda t: t**power, (v, 1e-6)), value)
        assert apart <= error * ROUNDED <= 2 * apart + 1e-12


EXACT = [
    ("div", (6.0, 3.0), 2.0),
    ("mul", (1.5, -0.25), -0.375),
    ("add", (1e16, 2.0), 1e16 + 2),
    ("sub", (0.75, 0.5), 0.25),
    ("sqrt", (0.0,), 0.0),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), EXACT)
def test_what_needs_no_rounding_has_no_error(name, arguments, expected):
    value, error = OPS[name](*((np.float64(a), np.float64(0)) for a in arguments))
    assert float(value) == expected
    assert float(error) == 0.0


UNSAFE = [
    ("div", [(1.0, 0.0), (0.5, 0.5)]),
    ("div", [(1.0, 0.0), (-0.25, 0.3)]),
    ("log", [(1.0, 0.5)]),
    ("log", [(-1.0, 0.0)]),
    ("sqrt", [(1.0, 0.5)]),
    ("sqrt", [(0.0, 0.1)]),
    ("sqrt", [(-1.0, 0.0)]),
]


@pytest.mark.parametrize(("name", "arguments"), UNSAFE)
def test_what_may_be_undefined_is_said_to_be_unknown(name, arguments):
    value, error = OPS[name](*((np.float64(v), np.float64(e)) for v, e in arguments))
    assert np.isnan(value)
    assert error == np.inf


def test_an_exponent_that_is_hardly_known_says_nothing():
    value, error = OPS["exp"]((np.array([0.0, 0.0]), np.array([0.5, 1.0])))
    assert value.tolist() == [1.0, 1.0]
    assert 1.0 <= error[0] < 1.001
    assert error[1] == np.inf


def test_clips_forget_what_lies_outside():
    one = (np.float64(1.0), np.float64(0.0))
    values, errors = OPS["clip"]((np.array([5.0, 0.5, 1.05, -4.0]), np.full(4, 0.1)), _minus(one), one)
    assert values.tolist() == [1.0, 0.5, 1.0, -1.0]
    assert errors.tolist() == [0.0, 0.1, 0.1, 0.0]


def test_clips_keep_what_lies_half_outside():
    one = (np.float64(1.0), np.float64(0.0))
    values, errors = OPS["clip"]((np.array([-1.05, -0.95, 0.95]), np.full(3, 0.1)), _minus(one), one)
    assert values.tolist() == [-1.0, -0.95, 0.95]
    assert errors.tolist() == [0.1, 0.1, 0.1]


@pytest.mark.parametrize("sides", [(1.1e-120, -1.3e-90), (1.1e-160, 1.3e-160), (1.1e-200, 1.3e-200)])
def test_products_too_small_for_their_rounding_keep_a_bound(sides):
    value, error = OPS["mul"](*((np.float64(s), np.float64(0)) for s in sides))
    with mpmath.workdps(DIGITS):
        apart = abs(mpmath.mpf(sides[0]) * mpmath.mpf(sides[1]) - mpmath.mpf(float(value)))
    assert 0 < apart <= error < 1e-225


def _minus(a):
    return -a[0], a[1]


def test_floors_are_known_but_near_integers():
    values, errors = OPS["floor"]((np.array([2.5, 3.0, 2.999]), np.array([0.1, 0.0, 0.01])))
    assert values.tolist() == [2.0, 3.0, 2.0]
    assert errors[0] == 0
    assert errors[1] == 0
    assert errors[2] == 1


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "sigmoid", "atan"])
def test_mpmath_s_bounds_hold_against_more_digits(name):
    function, low, high = UNARY[name]
    with mpmath.workprec(80):
        arithmetic: Arithmetic = multiprecision(80)
        x = np.array([mpmath.mpf(v) for v in drawn(low, high, 20)], dtype=object)
        values, errors = arithmetic.ops()[name]((x, 0 * x))
    for v, value, error in zip(x, values, errors, strict=True):
        with mpmath.workdps(DIGITS):
            assert (
                abs(function(v) - value) <= error <= abs(value) * mpmath.mpf(2) ** -70 + mpmath.mpf(2) ** -75
            )


def test_erf_is_one_where_it_is_to_all_bits():
    erf = multiprecision(120).functions["erf"]
    for v in (9.3, 9.42, 9.43, -9.43, 40.0, -1e9):
        with mpmath.workprec(120):
            found = erf(mpmath.mpf(v))
        with mpmath.workprec(2000):
            assert abs(found - mpmath.erf(mpmath.mpf(v))) < mpmath.mpf(2) ** -119, v


def test_huge_exponents_are_infinite():
    with mpmath.workprec(80):
        number = np.array([mpmath.mpf(10) ** 7], dtype=object)
        value, _ = multiprecision(80).ops()["exp"]((number, 0 * number))
        assert value[0] == mpmath.inf
        least, _ = multiprecision(80).ops()["sigmoid"]((-number, 0 * number))
        assert least[0] == 0


def test_enclosures_round_outwards_but_keep_what_is_exact():
    low, high = enclosure((np.array([1.0, 1.0]), np.array([0.0, 1e-20])))
    assert (low[0], high[0]) == (1.0, 1.0)
    assert low[1] < 1.0 < high[1]
