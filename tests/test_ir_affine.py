import numpy as np
import pytest

from sw.ir.affine import Affine
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat


@pytest.mark.parametrize("width", [4, 8, 12])
def test_values_are_in_the_finest_formats_that_hold_them(width):
    rng = np.random.default_rng(width)
    gamma, beta = 3 * rng.normal(size=20), 0.1 * rng.normal(size=20)
    made = Affine.of(gamma, beta, width=width)
    for values, form, codes in ((gamma, made.gamma, made.gamma_raw), (beta, made.beta, made.beta_raw)):
        assert form == FixedFormat.covering(float(np.abs(values).max()), width)
        assert codes == tuple(form.quantize(values))
        assert np.abs(form.to_real(codes) - values).max() <= form.step / 2


def test_eight_bits_unless_told_and_no_channels_are_none():
    assert Affine.of([1.0], [0.5]).gamma.width == 8
    empty = Affine.of([], [])
    assert (empty.gamma_raw, empty.beta_raw) == ((), ())
    assert str(empty.gamma) == "s8.7"


def test_it_says_how_far_it_reaches():
    assert str(Affine.of([1.0, -1.5], [0.25, 0.0])) == "gamma up to 1.5 as s8.6, beta up to 0.25 as s8.8"


def test_the_largest_value_a_format_holds_is_taken_and_no_larger():
    largest = 127 * 2.0**64
    assert Affine.of([largest], [0.0]).gamma_raw == (127,)
    for name, values in (("gamma", ([2 * largest], [0.0])), ("beta", ([0.0], [2 * largest]))):
        with pytest.raises(InputError, match=f"^{name} must reach at most 2.34.*e.21, not 4.68.*e.21$"):
            Affine.of(*values)


@pytest.mark.parametrize(
    ("gamma", "beta", "message"),
    [
        ((1, 2), (3,), "^beta must have as many values as gamma, 2, not 1$"),
        ((128,), (0,), "^gamma must lie in s8.6, not have the code 128$"),
        ((0,), (-129,), "^beta must lie in s8.7, not have the code -129$"),
    ],
)
def test_codes_that_do_not_fit_are_refused(gamma, beta, message):
    with pytest.raises(InputError, match=message):
        Affine(gamma=FixedFormat(8, 6), beta=FixedFormat(8, 7), gamma_raw=gamma, beta_raw=beta)


def test_all_codes_of_a_format_are_allowed():
    ends = (-128, 127)
    made = Affine(gamma=FixedFormat(8, 6), beta=FixedFormat(8, 7), gamma_raw=ends, beta_raw=ends)
    assert made.gamma_raw == ends
