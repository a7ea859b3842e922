"""The scoreboard's verdicts."""

import numpy as np
import pytest

from sim_tb.beats import Beats, to_words
from sim_tb.scoreboard import BrokenRuleError, RowScoreboard, Scoreboard
from sw.ir.formats import FixedFormat

FORMAT = FixedFormat.parse("s8.0")
BEATS = Beats(
    np.array([[1, 2], [3, 4], [5, 6]]),
    np.array([False, False, True]),
    np.array([[True, True], [True, True], [True, False]]),
)
OUT = np.array([[10, 20], [30, 40], [50, 60]])


def board(out=OUT, last=(False, False, True), faults=()):
    return Scoreboard(FORMAT, BEATS, to_words(out, FORMAT), list(last), list(faults))


def test_right_output_passes():
    scoreboard = board()
    assert not scoreboard.compare("model", OUT).any()
    scoreboard.verdict()


def test_padding_lanes_do_not_count():
    out = OUT.copy()
    out[2, 1] = 0
    scoreboard = board(out)
    assert not scoreboard.compare("model", OUT).any()
    scoreboard.verdict()


def test_wrong_codes_are_spelt_out():
    scoreboard = board(OUT + 1)
    wrong = scoreboard.compare("model", OUT)
    assert wrong.tolist() == BEATS.care.tolist()
    with pytest.raises(
        BrokenRuleError, match=r"differs from the model: code 1 in lane 0 gives 11, not 10; .*; 1 more"
    ):
        scoreboard.verdict()


def test_wrong_results_of_rows_name_row_and_channel():
    rows = Beats(np.zeros((4, 2), dtype=int), np.array([False, True] * 2), np.ones((4, 2), dtype=bool))
    out = np.arange(8).reshape(4, 2)
    scoreboard = RowScoreboard(FORMAT, rows, to_words(out, FORMAT), rows.last.tolist(), [])
    scoreboard.compare("integer model", out + (out == 7))
    with pytest.raises(BrokenRuleError, match=r"integer model: row 1 at channel 3 gives 7, not 8$"):
        scoreboard.verdict()


def test_missing_beats_count_as_wrong():
    scoreboard = board(OUT[:1], (False,))
    assert scoreboard.compare("model", OUT).tolist() == [[False, False], [True, True], [True, False]]
    with pytest.raises(BrokenRuleError, match="3 beats went in and 1 came out"):
        scoreboard.verdict()


def test_beats_too_many_are_noticed():
    with pytest.raises(BrokenRuleError, match="3 beats went in and 6 came out"):
        board(np.concatenate([OUT, OUT]), (False, False, True) * 2).verdict()


def test_wrong_last_is_noticed():
    with pytest.raises(BrokenRuleError, match="tlast is wrong on 2 beats, the first is beat 1"):
        board(last=(False, True, False)).verdict()


def test_faults_of_the_stream_are_passed_on():
    with pytest.raises(BrokenRuleError, match="tvalid fell in cycle 3"):
        board(faults=["tvalid fell in cycle 3"]).verdict()
