"""Beats: codes in lanes to the words of a stream's ``tdata`` and back; numpy only.

A beat carries ``lanes`` codes, lane 0 in the lowest bits, each in whole bytes: a signed code is
sign-extended to them, an unsigned one zero-extended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sw.ir.formats import FixedFormat, IntArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Beats:
    """Beats in the order in which they are sent.

    Args:
        codes_raw: int64 (beats, lanes), what every lane carries.
        last: bool (beats,), whether a beat ends a token row.
        care: bool (beats, lanes), false in the padding lanes at the end of a row.
    """

    codes_raw: IntArray
    last: BoolArray
    care: BoolArray

    def __len__(self) -> int:
        return len(self.last)


def lane_bytes(format: FixedFormat) -> int:
    """Bytes that one lane of a format takes on ``tdata``."""
    return -(-format.width // 8)


def to_words(codes_raw: IntArray, format: FixedFormat) -> list[int]:
    """The words on ``tdata`` of codes (beats, lanes).

    >>> [hex(w) for w in to_words(np.array([[-1, 2]]), FixedFormat.parse("s12.0"))]
    ['0x2ffff']
    """
    num_beats, lanes = codes_raw.shape
    octets = np.ascontiguousarray(codes_raw, dtype="<i8").view(np.uint8).reshape(num_beats, lanes, 8)
    size = lanes * lane_bytes(format)
    stream = np.ascontiguousarray(octets[:, :, : lane_bytes(format)]).tobytes()
    return [int.from_bytes(stream[i : i + size], "little") for i in range(0, len(stream), size)]


def from_words(words: list[int], format: FixedFormat, lanes: int) -> IntArray:
    """What the lanes of ``tdata`` words hold, int64 (beats, lanes), extension bits included.

    A lane whose extension bits are wrong gives a number that is no code of the format.

    >>> from_words([0x02_FFFF, 0x02_0FFF], FixedFormat.parse("s12.0"), 2).tolist()
    [[-1, 2], [4095, 2]]
    """
    step = lane_bytes(format)
    stream = b"".join(word.to_bytes(lanes * step, "little") for word in words)
    octets = np.frombuffer(stream, dtype=np.uint8).reshape(len(words), lanes, step)
    fill = np.where(octets[:, :, -1:] >= 128, 255, 0) if format.signed else np.zeros((len(words), lanes, 1))
    wide = np.concatenate([octets, np.repeat(fill, 8 - step, axis=2).astype(np.uint8)], axis=2)
    return np.ascontiguousarray(wide).view("<i8").reshape(len(words), lanes).astype(np.int64)


def code_sweep(codes_raw: IntArray, lanes: int) -> Beats:
    """As many beats as codes, in which *every lane* carries each code once."""
    count = len(codes_raw)
    offsets = np.arange(lanes) * (count // lanes + 1)
    picked = codes_raw[(np.arange(count)[:, None] + offsets) % count]
    return Beats(picked, np.arange(count) % 64 == 63, np.ones(picked.shape, dtype=np.bool_))


def random_rows(codes_raw: IntArray, lanes: int, beats: int, rng: np.random.Generator) -> Beats:
    """Codes drawn at random, in rows of random length (one beat rows among them)."""
    picked = rng.choice(codes_raw, size=(beats, lanes))
    return Beats(picked, rng.random(beats) < 0.2, np.ones(picked.shape, dtype=np.bool_))


def token_rows(rows_raw: IntArray, lanes: int, filler: int) -> Beats:
    """Rows of codes (rows, channels), each padded with ``filler`` to whole beats and closed by ``tlast``."""
    rows, channels = rows_raw.shape
    beats = -(-channels // lanes)
    codes = np.full((rows, beats * lanes), filler, dtype=np.int64)
    codes[:, :channels] = rows_raw
    care = np.broadcast_to(np.arange(beats * lanes) < channels, codes.shape)
    last = np.tile(np.arange(beats) == beats - 1, rows)
    return Beats(codes.reshape(-1, lanes), last, care.reshape(-1, lanes))
