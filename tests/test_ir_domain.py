import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.program import Op
from sw.ir.realize.domain import Line, coarsest, domains
from sw.ir.realize.target import Target

S = FixedFormat.parse

VIEWS = [
    ("tanh(x)", "s10.6", "s8.7", 0, None),
    ("tanh(x)", "s10.6", "s8.7", 1, None),
    ("exp(-x*x)", "s10.6", "s8.6", 0, None),
    ("exp(-x)", "u10.6", "u8.7", 1, None),
    ("sigmoid(x) - 0.25", "s11.6", "s8.6", 0, None),
    ("clip(x + 1, -3, 2)", "s10.5", "s8.4", 1, None),
    ("0.25", "s6.2", "s8.6", 0, None),
    ("x*sigmoid(x)", "s10.6", "s8.3", 0, Line(0, 4, 5)),
    ("abs(x) + exp(-abs(x))", "s10.6", "s8.3", 1, Line(-1, 1, 3)),
    ("x - 0.2*tanh(x)", "s10.6", "s8.3", 1, Line(3, 3, 5)),
    ("min(x, 0) + 0.1*sin(x)", "s10.6", "s8.3", 0, Line(1, 0, 3)),
]


@pytest.mark.parametrize("side", ["lower", "upper"])
@pytest.mark.parametrize("case", VIEWS)
def test_any_core_within_its_intervals_gives_a_program_within_the_tolerance(case, side):
    text, input, output, max_ulp, line = case
    target = Target.of(parse(text), S(input), S(output), max_ulp)
    seen = list(domains(target, line))
    for domain in seen:
        assert len(domain.lower) == len(domain.upper) == 1 << domain.bits
        values = getattr(domain, side)
        program = domain.program(lambda b, argument, values=values: b.lookup(argument, values))
        off = np.abs(interpret.table(program) - target.map).max()
        assert off <= max_ulp, (domain.symmetry, domain.drop, domain.bits)
    assert any(domain.symmetry == "none" for domain in seen)


@pytest.mark.parametrize(
    ("text", "input", "output", "symmetry", "bits"),
    [
        ("tanh(x)", "s16.11", "s8.7", "odd", 13),  # constant from 3.1 on
        ("exp(-x*x)", "s12.8", "s8.6", "even", 10),
        ("-x", "s4.0", "s4.0", "odd", 3),
        ("sigmoid(x)", "s12.8", "s8.6", "none", 12),
    ],
)
def test_symmetry_and_level_ends_shrink_the_argument(text, input, output, symmetry, bits):
    first = next(domains(Target.of(parse(text), S(input), S(output))))
    assert (first.symmetry, first.bits) == (symmetry, bits)


def test_a_saturated_magnitude_costs_no_comparison():
    domain = next(domains(Target.of(parse("tanh(x)"), S("s12.7"), S("s8.6"))))
    program = domain.program(lambda b, argument: b.lookup(argument, domain.lower))
    ops = {i.op for i in program.instrs}
    assert not ops & {Op.MIN, Op.MAX, Op.CLAMP}


def test_faithful_maps_drop_input_bits():
    target = Target.of(parse("tanh(x)"), S("s16.12"), S("s8.7"), max_ulp=1)
    assert sorted({domain.drop for domain in domains(target)}) == [3, 4, 5, 6]
    exact = Target.of(parse("tanh(x)"), S("s16.12"), S("s8.7"))
    assert {domain.drop for domain in domains(exact)} == {0}


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        ([0, 3, 7], [4, 5, 9], [0, 4, 8]),
        ([1, 1], [3, 3], [2, 2]),
        ([5, -6], [5, -4], [5, -5]),
        ([0, 0], [0, 0], [0, 0]),
    ],
)
def test_coarsest_values_share_their_lowest_zeros(lower, upper, expected):
    assert coarsest(np.array(lower), np.array(upper)).tolist() == expected
