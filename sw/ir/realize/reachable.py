"""Input codes that never occur: maps that agree where it matters, and are easier elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.realize.target import Target


def reachable_codes(values: np.ndarray, input: FixedFormat) -> IntArray:
    """The different codes of an array of codes (integers) or of values of x (floats), in rising order.

    Raises:
        InputError: There are none, or some are not codes of the format or not finite.
    """
    flat = np.asarray(values).ravel()
    if flat.size == 0 or flat.dtype.kind not in "iuf":
        raise InputError(f"reachable codes must be numbers, one at least, not {flat.size} of {flat.dtype}")
    if flat.dtype.kind == "f":
        if not np.isfinite(flat).all():
            raise InputError("reachable values must be finite, not NaN or infinite")
        flat = input.quantize(flat.astype(np.float64))
    low, high = int(flat.min()), int(flat.max())
    if low < input.min_raw or high > input.max_raw:
        raise InputError(
            f"reachable codes must be within {input.min_raw}..{input.max_raw} ({input}), not {low}..{high}"
        )
    return np.unique(flat).astype(np.int64)


def easier(target: Target, codes: IntArray) -> list[Target]:
    """The target, and others whose maps agree with it at ``codes``.

    Between and beyond the codes the second one holds the value of the nearest code below (above the last
    and below the first one it is constant); the third and fourth complete it to an odd and an even
    function first, where the codes allow that.
    """
    index = codes - target.input.min_raw
    known = np.zeros(len(target.map), dtype=bool)
    known[index] = True
    found = [target, replace(target, map=_held(target.map, known), is_formula=False)]
    if target.input.signed:
        for sign in (-1, 1):
            mirrored = _mirrored(target, known, sign)
            if mirrored is not None:
                found.append(replace(target, map=mirrored, is_formula=False))
    return found


def _held(map: IntArray, known: np.ndarray) -> IntArray:
    """The map with every unknown entry taken from the nearest known one below, else above."""
    at = np.where(known, np.arange(len(map)), -1)
    at = np.maximum.accumulate(at)
    at[at < 0] = int(np.flatnonzero(known)[0])
    return map[at]


def _mirrored(target: Target, known: np.ndarray, sign: int) -> IntArray | None:
    """The map held on, where unknown entries come from the other side of 0 if that is known.

    None if the known entries of both sides do not allow it.
    """
    output, middle = target.output, -target.input.min_raw
    map, is_known = target.map.copy(), known.copy()
    size = np.arange(1, middle)
    right, left = middle + size, middle - size
    image = np.clip(sign * map[right], output.min_raw, output.max_raw)
    both = known[right] & known[left]
    if np.any(map[left][both] != image[both]):
        return None
    only_right, only_left = known[right] & ~known[left], known[left] & ~known[right]
    map[left[only_right]] = image[only_right]
    map[right[only_left]] = np.clip(sign * map[left[only_left]], output.min_raw, output.max_raw)
    is_known[left] |= is_known[right]
    is_known[right] |= is_known[left]
    if sign < 0 and not known[middle]:
        map[middle], is_known[middle] = 0, True
    held = _held(map, is_known)
    positive = held[right]  # what is held on the right decides both sides
    held[left] = np.where(
        is_known[left], held[left], np.clip(sign * positive, output.min_raw, output.max_raw)
    )
    held[0] = held[1] if not known[0] else held[0]
    return held
