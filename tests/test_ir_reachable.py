from __future__ import annotations

import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import candidates, realize
from sw.ir.realize.reachable import easier, reachable_codes
from sw.ir.realize.target import Target

S = FixedFormat.parse


def target(text: str, input: str = "s10.7", output: str = "s8.7") -> Target:
    return Target.of(parse(text), S(input), S(output))


def test_codes_come_as_codes_or_as_values() -> None:
    assert reachable_codes(np.array([[3, -1], [3, 7]]), S("s8.5")).tolist() == [-1, 3, 7]
    assert reachable_codes(np.array([0.5, -0.25, 0.5]), S("s8.5")).tolist() == [-8, 16]
    assert reachable_codes(np.array([9.0, -9.0]), S("s8.5")).tolist() == [-128, 127]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([]), "must be numbers, one at least, not 0"),
        (np.array(["a"]), "must be numbers"),
        (np.array([200]), r"must be within -128..127 \(s8.5\), not 200..200"),
        (np.array([np.nan]), "must be finite"),
    ],
)
def test_what_are_no_codes_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reachable_codes(values, S("s8.5"))


FORMULAS = ["tanh(x)", "exp(-abs(x))", "x*sigmoid(x)", "clip(1.5*x, -0.5, 0.25)", "x + 0.3"]


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("seed", range(4))
def test_every_easier_map_agrees_at_the_reachable_codes(text: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    full = target(text)
    codes = np.unique(rng.integers(-512, 512, (5, 60, 700, 2000)[seed]))
    for other in easier(full, codes):
        assert np.array_equal(other.at(codes), full.at(codes))
        assert other.map.min() >= full.output.min_raw
        assert other.map.max() <= full.output.max_raw


def test_one_side_of_an_odd_function_is_completed_to_it() -> None:
    full = target("tanh(x) + 0.01")
    codes = np.arange(1, 512)
    odd = easier(full, codes)[2]
    index = np.arange(1, 512)
    assert np.array_equal(odd.map[512 + index], -odd.map[512 - index])


def test_codes_that_never_occur_make_units_cheaper() -> None:
    full = target("tanh(x) + 0.25*exp(-x*x)", "s12.9")
    codes = np.arange(-300, 200)
    plain = realize(parse("tanh(x) + 0.25*exp(-x*x)"), S("s12.9"), S("s8.7"))
    cheapest = min((r for t in easier(full, codes) for r in candidates(t)), key=lambda r: r.lut6)
    assert cheapest.lut6 < 0.7 * plain.lut6
    table = interpret.table(cheapest.program)
    assert np.array_equal(table[codes + 2048], full.at(codes))
