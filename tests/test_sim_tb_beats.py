"""Packing of codes into words, against arithmetic on single bits, and what each traffic holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_tb.beats import code_sweep, from_words, lane_bytes, random_rows, to_words, token_rows
from sw.ir.formats import FixedFormat

FORMATS = [
    FixedFormat.parse(text) for text in ("s16.11", "s8.5", "u8.0", "s6.2", "u1.0", "s12.3", "u32.0", "s24.0")
]


@given(st.data())
def test_words_hold_every_lane_in_whole_bytes_lane_0_lowest(data):
    format = data.draw(st.sampled_from(FORMATS))
    lanes = data.draw(st.integers(1, 9))
    code = st.integers(format.min_raw, format.max_raw)
    rows = data.draw(st.lists(st.lists(code, min_size=lanes, max_size=lanes), min_size=1, max_size=4))
    words = to_words(np.array(rows, dtype=np.int64), format)
    bits = 8 * lane_bytes(format)
    for row, word in zip(rows, words, strict=True):
        assert word == sum((raw % (1 << bits)) << (bits * lane) for lane, raw in enumerate(row))
    assert from_words(words, format, lanes).tolist() == rows


@pytest.mark.parametrize(
    ("text", "size"), [("s16.11", 2), ("s17.0", 3), ("u1.0", 1), ("s8.5", 1), ("u32.0", 4)]
)
def test_a_lane_is_whole_bytes(text, size):
    assert lane_bytes(FixedFormat.parse(text)) == size


def test_wrong_extension_bits_read_as_no_code():
    got = from_words([0x3F, 0x40], FixedFormat.parse("s6.0"), 1)
    assert got.tolist() == [[63], [64]]


def test_no_words_read_as_no_beats():
    assert from_words([], FixedFormat.parse("s16.0"), 3).shape == (0, 3)


@pytest.mark.parametrize("lanes", [1, 2, 3, 8, 64])
def test_sweep_gives_every_code_to_every_lane_once(lanes):
    codes_raw = FixedFormat.parse("s7.0").codes()
    beats = code_sweep(codes_raw, lanes)
    assert len(beats) == len(codes_raw)
    for lane in range(lanes):
        assert sorted(beats.codes_raw[:, lane]) == codes_raw.tolist()


def test_lanes_of_a_sweep_carry_different_codes():
    beats = code_sweep(FixedFormat.parse("s7.0").codes(), 4)
    assert all(len(set(row)) == 4 for row in beats.codes_raw.tolist())


def test_random_rows_follow_their_seed():
    codes_raw = FixedFormat.parse("s7.0").codes()
    one, two = (random_rows(codes_raw, 2, 300, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one.codes_raw, two.codes_raw)
    assert np.array_equal(one.last, two.last)
    assert 0 < one.last.sum() < 300


def test_token_rows_are_padded_and_closed():
    rows_raw = np.arange(10).reshape(2, 5)
    beats = token_rows(rows_raw, 2, -7)
    assert beats.codes_raw.tolist() == [[0, 1], [2, 3], [4, -7], [5, 6], [7, 8], [9, -7]]
    assert beats.last.tolist() == [False, False, True] * 2
    assert beats.care.tolist() == [[True, True], [True, True], [True, False]] * 2
