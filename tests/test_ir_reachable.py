from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw.ir import interpret
from sw.ir.design import designs
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining
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
        (np.array([np.nan]), "^reachable values must be finite, not NaN or infinite$"),
        (np.array([True]), "must be numbers, one at least, not 1 of bool"),
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


@pytest.mark.parametrize("text", ["x", "clip(0.75*x)", "abs(x)", "relu(x)", "tanh(x)"])
def test_designs_of_easier_maps_are_right_at_the_reachable_codes(text: str) -> None:
    full = Target.of(parse(text), S("s8.4"), S("s8.4"))
    codes = np.array([-100, -60, -3, 0, 2, 7, 50, 120])
    found = designs(easier(full, codes), Pipelining())
    assert found
    for design in found:
        table = interpret.table(design.program)
        off = np.abs(table[codes + 128] - full.at(codes)).max()
        assert off <= design.realization.max_ulp
    kinds = [design.realization.kind for design in designs([full], Pipelining())]
    assert set(kinds) <= {design.realization.kind for design in found}, "the whole map is one of them"


def held(values: dict[int, int], low: int, high: int) -> list[int]:
    """Code by code: the nearest value below, else the first above."""
    found, last = [], values[min(values)]
    for code in range(low, high + 1):
        last = values.get(code, last)
        found.append(last)
    return found


def completed(values: dict[int, int], form: FixedFormat, output: FixedFormat, sign: int) -> list[int] | None:
    """Code by code: what is known of one side goes to the other, then the right side is held and mirrored."""

    def image(value: int) -> int:
        return min(max(sign * value, output.min_raw), output.max_raw)

    known = dict(values)
    for code in range(1, form.max_raw + 1):
        if code in values and -code in values and values[-code] != image(values[code]):
            return None
        if code in values and -code not in values:
            known[-code] = image(values[code])
        if -code in values and code not in values:
            known[code] = image(values[-code])
    if sign < 0:
        known.setdefault(0, 0)
    full = dict(
        zip(range(form.min_raw, form.max_raw + 1), held(known, form.min_raw, form.max_raw), strict=True)
    )
    for code in range(1, form.max_raw + 1):
        if -code not in known:
            full[-code] = image(full[code])
    if form.min_raw not in values:
        full[form.min_raw] = full[form.min_raw + 1]
    return [full[code] for code in sorted(full)]


@given(st.dictionaries(st.integers(-8, 7), st.integers(-128, 127), min_size=1), st.sampled_from([-1, 0, 1]))
def test_easier_maps_are_those_made_code_by_code(values: dict[int, int], symmetric: int) -> None:
    if symmetric:
        values = values | {-c: max(-128, min(127, symmetric * v)) for c, v in values.items() if 0 < c < 8}
    form, output, codes = S("s4.0"), S("s8.0"), np.array(sorted(values))
    map = np.random.default_rng(0).integers(-128, 128, 16)
    map[codes + 8] = [values[c] for c in sorted(values)]
    full = replace(target("x", "s4.0", "s8.0"), map=map)
    expected = [map.tolist(), held(values, -8, 7)]
    expected += [found for sign in (-1, 1) if (found := completed(values, form, output, sign)) is not None]
    assert [other.map.tolist() for other in easier(full, codes)] == expected


def test_unsigned_inputs_have_no_other_side() -> None:
    full = target("sqrt(x)", "u6.3", "u8.5")
    assert [other.map[10] for other in easier(full, np.array([9, 12]))] == [full.map[10], full.map[9]]
