"""Grids of constants against enumeration."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gp.grid import num_digits, snap


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_snap_is_the_nearest_of_all_sums_of_signed_powers(digits):
    powers = [Fraction(0), *(s * Fraction(2) ** e for e in range(-9, 4) for s in (1, -1))]
    sums = sorted({sum(c) for c in itertools.combinations_with_replacement(powers, digits)})
    for k in range(-300, 300, 7):
        value = Fraction(k, 97)
        best = min(abs(s - value) for s in sums)
        assert abs(snap(value, digits) - value) <= best + Fraction(1, 1 << 9), value


@given(st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-9), st.integers(1, 5))
def test_snap_needs_no_more_digits_and_is_idempotent(value, digits):
    near = snap(value, digits)
    assert num_digits(near) <= digits
    assert snap(near, digits) == near
    assert snap(-value, digits) == -near


@given(st.integers(-5000, 5000))
def test_num_digits_is_the_weight_of_the_non_adjacent_form(value):
    assert num_digits(Fraction(value)) == (abs(value) ^ (3 * abs(value))).bit_count()
