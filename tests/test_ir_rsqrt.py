from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from sw.ir.errors import InputError
from sw.ir.rsqrt import leading_ones, root_table


@pytest.fixture(autouse=True)
def _made_anew() -> None:
    """Tables are kept for the whole process, which may have made them with other code (mutation testing)."""
    root_table.cache_clear()


@pytest.mark.parametrize("frac", [2, 4, 7, 12, 16])
@pytest.mark.parametrize("scale", [1.0, 1.25, 1.9999])
def test_no_value_is_further_off_than_the_table_says(frac: int, scale: float) -> None:
    """In exact arithmetic: root^2 * w against scale^2 * 4^exponent, of small, large and random values."""
    table = root_table(scale, frac)
    rng = np.random.default_rng(frac)
    powers = np.array([(1 << k) + d for k in range(2, 62) for d in (-1, 0, 1)])
    drawn = rng.integers(1, 1 << 61, 500) >> rng.integers(0, 60, 500)
    values = np.concatenate([np.arange(1, 300), powers, np.maximum(drawn, 1)])
    exponents, roots = table.of(values)
    for value, exponent, root in zip(values.tolist(), exponents.tolist(), roots.tolist(), strict=True):
        square = Fraction(root * root * value, 4 ** (frac + exponent)) / Fraction(scale) ** 2
        low, high = (1 - table.relative_error) ** 2, (1 + table.relative_error) ** 2
        assert low * (1 - 1e-12) <= square <= high * (1 + 1e-12), (value, exponent, root)
    assert roots.max() <= table.max_raw
    assert table.relative_error < 2.0 ** -(frac - 1)


def test_the_table_s_error_is_of_the_size_of_its_last_bit() -> None:
    for frac in range(6, 18):
        assert root_table(1.0, frac).relative_error < 1.6 * 2.0**-frac


def test_leading_ones_are_exact_where_float64_is_not() -> None:
    values = [(1 << k) + d for k in range(1, 62) for d in (-1, 0, 1)]
    assert leading_ones(np.array(values)).tolist() == [v.bit_length() - 1 for v in values]


@pytest.mark.parametrize("frac", [1, 23])
def test_bits_out_of_range_are_refused(frac: int) -> None:
    message = (
        rf"^bits of a reciprocal square root must be 2\.\.22, not {frac}; "
        "a narrower output or fewer guard bits would help$"
    )
    with pytest.raises(InputError, match=message):
        root_table(1.0, frac)
