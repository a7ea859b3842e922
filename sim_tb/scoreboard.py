"""The scoreboard: what came out of a unit against what had to; numpy only."""

from __future__ import annotations

import numpy as np

from sim_tb.beats import Beats, BoolArray, from_words
from sw.ir.formats import FixedFormat, IntArray

SHOWN = 4
"""Mismatches that a message spells out."""


class BrokenRuleError(AssertionError):
    """A unit breaks a rule; the text says which and where."""


def require(holds: object, rule: str) -> None:
    """Raise ``BrokenRuleError`` with the text of a rule unless it holds."""
    if not holds:
        raise BrokenRuleError(rule)


class Scoreboard:
    """Collects everything that is wrong with one run and says it in one line.

    Args:
        format: Format of the output codes.
        beats: What was sent.
        words: The ``tdata`` words that came out, in order.
        last: The ``tlast`` of each of them.
        faults: Broken stream rules that the monitor saw.
    """

    def __init__(
        self, format: FixedFormat, beats: Beats, words: list[int], last: list[bool], faults: list[str]
    ) -> None:
        self._beats = beats
        self.problems = list(faults[:SHOWN])
        if len(words) != len(beats):
            self.problems.append(f"{len(beats)} beats went in and {len(words)} came out")
        common = min(len(words), len(beats))
        self._got = from_words(words[:common], format, beats.codes_raw.shape[1])
        moved = np.flatnonzero(np.asarray(last[:common], dtype=np.bool_) != beats.last[:common])
        if len(moved):
            self.problems.append(f"tlast is wrong on {len(moved)} beats, the first is beat {moved[0]}")

    def compare(self, name: str, wanted_raw: IntArray) -> BoolArray:
        """Note where the output differs from a model's codes (beats, lanes).

        Returns:
            bool (beats, lanes): true where a lane that counts is wrong or never came out.
        """
        wrong = self._beats.care.copy()
        common = len(self._got)
        wrong[:common] &= self._got != wanted_raw[:common]
        places = np.argwhere(wrong[:common])
        if len(places):
            shown = "; ".join(self._describe(beat, lane, wanted_raw) for beat, lane in places[:SHOWN])
            more = f"; {len(places) - SHOWN} more" if len(places) > SHOWN else ""
            self.problems.append(f"differs from the {name}: {shown}{more}")
        return wrong

    def verdict(self) -> None:
        """Fail, naming every problem, unless there is none."""
        require(not self.problems, " | ".join(self.problems))

    def _describe(self, beat: int, lane: int, wanted_raw: IntArray) -> str:
        """One mismatch in words."""
        code, got, wanted = self._beats.codes_raw[beat, lane], self._got[beat, lane], wanted_raw[beat, lane]
        where = f" in lane {lane}" if wanted_raw.shape[1] > 1 else ""
        return f"code {code}{where} gives {got}, not {wanted}"


class RowScoreboard(Scoreboard):
    """One whose beats are rows of equal length: a result depends on its whole row, so it names the row."""

    def _describe(self, beat: int, lane: int, wanted_raw: IntArray) -> str:
        row_beats = int(np.flatnonzero(self._beats.last)[0]) + 1
        row, place = divmod(beat, row_beats)
        channel = place * wanted_raw.shape[1] + lane
        return f"row {row} at channel {channel} gives {self._got[beat, lane]}, not {wanted_raw[beat, lane]}"
