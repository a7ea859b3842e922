from fractions import Fraction

import apytypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, round_bits


@pytest.mark.parametrize("text", ["s16.11", "u8.0", "s2.1", "u1.0", "s8.-3", "s32.40"])
def test_parse_print_round_trip(text):
    assert str(FixedFormat.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s0.3", r"width of a signed format must be 2\.\.32 bits, not 0 \(in 's0\.3'\)"),
        ("s99.2", r"width of a signed format must be 2\.\.32 bits, not 99 \(in 's99\.2'\)"),
        ("u0.0", r"width of an unsigned format must be 1\.\.32 bits, not 0"),
        ("s8.65", r"frac of a format must be -64\.\.64, not 65"),
        ("16.11", r"format must look like 's16\.11' or 'u8\.0', not '16\.11'"),
        ("s16", r"format must look like"),
        (
            "s" + "1" * 5000 + ".1",
            r"^format must look like 's16\.11' or 'u8\.0', not 's1{11}\.\.\.1{11}\.1'$",
        ),
        ("s\N{ARABIC-INDIC DIGIT EIGHT}.5", r"format must look like"),
        ("s16.11 ", r"format must look like"),
    ],
)
def test_parse_wrong(text, message):
    with pytest.raises(InputError, match=message):
        FixedFormat.parse(text)


@given(
    st.integers(2, 20),
    st.integers(-4, 16),
    st.booleans(),
    st.lists(st.integers(-(2**30), 2**30), min_size=1, max_size=20),
)
def test_quantize_is_what_apytypes_rounds(width, frac, signed, numerators):
    values = np.array(numerators) * 2.0**-14  # many ties
    fixed = FixedFormat(width, frac, signed)
    exact = apytypes.APyFixedArray(numerators, int_bits=64, frac_bits=14)
    cast = exact.cast(
        int_bits=width - frac + (0 if signed else 1),
        frac_bits=frac,
        quantization=apytypes.QuantizationMode.RND_CONV,
        overflow=apytypes.OverflowMode.SAT,
    )
    expected = np.ldexp(cast.to_numpy(), frac).astype(np.int64)
    if not signed:
        expected = np.maximum(expected, 0)
    assert fixed.quantize(values).tolist() == expected.tolist()


def test_codes_and_real_values():
    fixed = FixedFormat.parse("s3.1")
    assert fixed.codes().tolist() == [-4, -3, -2, -1, 0, 1, 2, 3]
    assert fixed.to_real(fixed.codes()).tolist() == [-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5]


@given(st.floats(1e-6, 1e6), st.integers(2, 16))
def test_covering_is_the_finest_that_holds_the_value(largest, width):
    fixed = FixedFormat.covering(largest, width)
    assert fixed.max_raw * fixed.step >= largest
    assert fixed.max_raw * fixed.step / 2 < largest


def test_covering_wrong():
    with pytest.raises(InputError, match="largest value must be finite and not negative, not nan"):
        FixedFormat.covering(float("nan"), 8)


@pytest.mark.parametrize("width", [2, 8])
def test_zero_alone_is_covered_by_the_finest_format_below_one(width):
    assert FixedFormat.covering(0.0, width) == FixedFormat(width, width - 1)


@pytest.mark.parametrize("largest", [-1.0, float("inf"), float("nan")])
def test_covering_refuses_what_is_no_size(largest):
    with pytest.raises(InputError, match=f"^largest value must be finite and not negative, not {largest}$"):
        FixedFormat.covering(largest, 8)


def test_the_top_code_itself_is_covered():
    assert FixedFormat.covering(127 / 16, 8) == FixedFormat(8, 4)
    assert FixedFormat.covering(1.0, 8) == FixedFormat(8, 6)


def test_values_of_any_type_are_real_ones():
    assert FixedFormat(8, 4).quantize(np.array([1, 2], dtype=np.int8)).tolist() == [16, 32]
    assert FixedFormat(8, 4).quantize(np.array([0.1], dtype=np.float16)).tolist() == [2]
    assert FixedFormat(24, 20).quantize(np.array([0.1], dtype=np.float16)).tolist() == [104832]


def test_round_bits_keeps_significant_bits_and_the_finest_grid():
    assert round_bits(Fraction(181, 16), 4, Fraction(1, 256)) == Fraction(11)
    assert round_bits(0.001, 6, Fraction(1, 256)) == 0
    assert round_bits(0, 6, Fraction(1, 256)) == 0


@given(st.floats(1e-3, 1e3), st.integers(1, 12))
def test_rounded_bits_are_few_and_nearest(value, bits):
    short = round_bits(value, bits)
    assert abs(float(short) / value - 1) <= 2.0**-bits
    odd = short.numerator >> max(0, short.numerator.bit_length() - bits)
    assert short.numerator == odd << max(0, short.numerator.bit_length() - bits)
