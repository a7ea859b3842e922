import itertools
from dataclasses import replace

import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.price import lut6
from sw.ir.realize import bipartite, plan_kind, realize
from sw.ir.realize.bipartite import Split
from sw.ir.realize.domain import Domain
from sw.ir.realize.target import NotApplicableError, Target

S = FixedFormat.parse


def domain_of(lower, upper):
    bits = (len(lower) - 1).bit_length()
    target = Target.of(parse("0"), FixedFormat(bits, 0, False), S("s8.0"))
    return Domain(target, 0, "none", bits, np.array(lower), np.array(upper), (0, 0))


def exists(lower, upper, low, high, largest):
    """By trying every pair of tables whether one serves without guard bits."""
    bits = (len(lower) - 1).bit_length()
    codes = np.arange(len(lower))
    cells, group = codes >> low, codes >> (bits - high)
    columns = codes & ((1 << low) - 1)
    reach = range(-largest, largest + 1)
    for offsets in itertools.product(reach, repeat=(1 << low + high) - (1 << high)):
        table = np.zeros((1 << high, 1 << low), dtype=int)
        table[:, 1:] = np.reshape(offsets, (1 << high, -1))
        rest = table[group, columns]
        least, most = (lower - rest), (upper - rest)
        if all(least[cells == c].max() <= most[cells == c].min() for c in range(cells[-1] + 1)):
            return True
    return False


def test_tables_are_found_exactly_where_there_are_any():
    rng = np.random.default_rng(5)
    outcomes = []
    for _ in range(120):
        lower = rng.integers(0, 4, 8)
        upper = lower + rng.integers(0, 3, 8)
        for low, high in ((1, 0), (1, 1), (2, 0)):
            found = Split(0.0, low, high, domain_of(lower, upper)).solve(0)
            assert (found is not None) == exists(lower, upper, low, high, 6)
            outcomes.append(found is not None)
    assert 0.2 < np.mean(outcomes) < 0.8, "both outcomes are tested"


@pytest.mark.parametrize("guard", range(4))
def test_sums_of_found_tables_lie_within_their_intervals(guard):
    values = np.rint(90 * np.tanh(np.arange(256) / 80)).astype(np.int64)
    domain = domain_of(values - 1, values + 1)
    served = 0
    for low, high in itertools.product((2, 3, 4), (0, 1, 2, 3)):
        tables = Split(0.0, low, high, domain).solve(guard)
        if tables is None:
            continue
        served += 1
        codes = np.arange(256)
        offset = tables.offsets[((codes >> (8 - high)) << low) + (codes & ((1 << low) - 1))]
        result = (tables.values[codes >> low] + offset) >> guard
        assert np.all((domain.lower <= result) & (result <= domain.upper))
        assert tables.offsets.min() == 0
    assert served


def test_more_guard_bits_never_hurt():
    values = np.rint(30 * np.tanh(np.arange(128) / 50)).astype(np.int64)
    domain = domain_of(values, values)
    for low, high in itertools.product((1, 2, 3), (0, 1, 2)):
        serve = [Split(0.0, low, high, domain).solve(guard) is not None for guard in range(6)]
        assert serve == sorted(serve)


@pytest.mark.parametrize(
    ("input", "output", "max_ulp", "published"),
    [
        ("s10.7", "s8.7", 0, 54),
        ("s10.7", "s8.7", 1, 45),
        ("s12.9", "s8.7", 0, 122),
        ("s12.9", "s8.7", 1, 50),
        ("s12.9", "s12.11", 0, 291),
        ("s12.9", "s12.11", 1, 130),
        ("s16.13", "s8.7", 1, 48),
    ],
)
def test_tanh_costs_less_than_hand_written_tables(input, output, max_ulp, published):
    codes = 2 ** S(output).frac
    target = Target.of(parse(f"tanh(x)*{codes - 1}/{codes}"), S(input), S(output), max_ulp)
    made = plan_kind("bipartite", target)
    assert made.max_ulp <= max_ulp
    assert made.lut6 < published
    assert np.abs(interpret.table(made.program) - target.map).max() == made.max_ulp


def test_a_budget_only_ends_the_search():
    target = Target.of(parse("tanh(x)"), S("s12.9"), S("s8.7"))
    whole = lut6(bipartite.plan(target))
    assert lut6(bipartite.plan(replace(target, budget=whole + 1))) == whole
    with pytest.raises(NotApplicableError):
        bipartite.plan(replace(target, budget=20.0))


def test_bipartite_wrong():
    noise = "sin(1000000*x*x)"
    with pytest.raises(InputError, match="must be smooth enough for two small tables"):
        realize(parse(noise), S("s8.5"), S("s12.11"), kind="bipartite")
