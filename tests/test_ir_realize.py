import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw.ir import interpret
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.price import lut6
from sw.ir.program import Op
from sw.ir.realize import KINDS, candidates, realize
from sw.ir.realize.target import Target
from sw.ir.refmap import reference_map
from tests.ir_formulas import total_formulas

S = FixedFormat.parse

FITTED = {"pwl", "octaves", "bipartite", "split", "quadratic"}
"""Kinds that apply wherever a map is smooth enough."""
EVERY = set(KINDS) - {"exceptions", "shift_add"}
APPLIES = {
    ("clip(1.5*x, -3.96875, 3.96875)", "s16.11", "s8.5"): EVERY,
    ("0.5*clip(2.5*x) - 0.1*tanh(x)", "s16.11", "s8.5"): EVERY - {"requant"},
    ("tanh(x)", "s8.5", "s8.7"): EVERY - {"requant"},  # saturates one-sidedly: -128 but +127
    ("x*sigmoid(x)", "s12.8", "s8.4"): {"operator", "pwl", "table"},
    ("x*x", "s10.5", "u8.4"): {"operator", "half_table", "pwl", "table"},
    ("-clip(x, -1, 2)", "s10.7", "s8.5"): {"operator", "requant", "threshold", "pwl", "table"},
    ("exp(-x)", "u8.5", "u8.8"): {"operator", "threshold", "pwl", "table"},
    ("abs(x)", "s4.0", "s4.0"): {"operator", "shift_add", "half_table", "pwl", "table"},
    ("max(x, 0.375*x)", "s10.6", "s8.4"): {"operator", "shift_add", "threshold", "pwl", "table"},
    ("-x", "s4.0", "s4.0"): EVERY,  # -(-8) saturates to 7
    ("0.25", "s8.0", "s8.5"): EVERY,
    ("floor(x)", "s8.-3", "s8.-3"): EVERY - {"requant"},
    ("2*tanh(0.25*(clip(floor(4*x), -16, 15) + 0.5))", "s16.11", "s8.5"): {
        *("operator", "threshold", "pwl", "table"),
    },
    ("floor(4*x) + 2*relu(1 - abs(floor(64*x + 0.5) - 21))", "s10.6", "s8.2"): {
        *("operator", "exceptions", "table", "pwl"),
    },
}


@pytest.mark.parametrize("case", APPLIES)
def test_every_kind_that_applies_equals_the_reference_map(case):
    text, input, output = case
    expected = reference_map(parse(text), S(input), S(output))
    applied = set()
    for kind in KINDS:
        try:
            made = realize(parse(text), S(input), S(output), kind=kind)
        except InputError:
            continue
        applied.add(kind)
        got = interpret.table(made.program)
        assert made.max_ulp == np.abs(got - expected).max()
        assert kind == "operator" or made.max_ulp == 0
        assert made.lut6 == lut6(made.program) >= 0
    assert applied - FITTED == APPLIES[case] - FITTED


@pytest.mark.parametrize("case", APPLIES)
def test_the_cheapest_exact_kind_is_chosen(case):
    text, input, output = case
    chosen = realize(parse(text), S(input), S(output))
    assert chosen.max_ulp == 0
    everything = candidates(Target.of(parse(text), S(input), S(output)))
    assert chosen.lut6 == min(r.lut6 for r in everything if r.max_ulp == 0)


@settings(max_examples=60)
@given(total_formulas, st.integers(3, 9), st.integers(0, 7), st.integers(3, 10), st.integers(0, 6))
def test_any_formula_at_any_formats_is_realised_exactly(expr, wi, fi, wo, fo):
    input, output = FixedFormat(wi, fi), FixedFormat(wo, fo)
    expected = reference_map(expr, input, output)
    for made in candidates(Target.of(expr, input, output)):
        got = interpret.table(made.program)
        assert np.abs(got - expected).max() == made.max_ulp
        assert made.kind == "operator" or made.max_ulp == 0
    assert np.array_equal(interpret.table(realize(expr, input, output).program), expected)


@pytest.mark.parametrize("bits", [4, 5, 6])
def test_few_cells_of_x_cost_a_clamp_and_a_lut_a_bit(bits):
    last = (1 << (bits - 1)) - 1
    text = f"tanh({2.0 / (last + 1)}*(clip(floor(8*x), {-last - 1}, {last}) + 0.5))"
    made = realize(parse(text), S("s16.11"), S("s8.6"))
    assert made.kind == "table"
    assert [i.op for i in made.program.instrs] == [Op.INPUT, Op.SHR, Op.CLAMP, Op.LOW, Op.LOOKUP]
    assert len(made.program.tables[0]) == 1 << bits
    assert made.lut6 <= 1 + bits + 2 + 8


@pytest.mark.parametrize("text", ["0.5*x", "clip(0.5*x, -1, 1)"])
def test_a_line_of_few_steps_is_no_list_of_exceptions(text):
    made = realize(parse(text), S("s16.4"), S("s6.4"))
    assert made.kind != "exceptions"
    assert made.lut6 < 1 + min(c.lut6 for c in candidates(Target.of(parse(text), S("s16.4"), S("s6.4"))))


def with_spikes(*codes):
    text = "2*tanh(0.125*(clip(floor(8*x), -16, 15) + 0.5))"
    return text + "".join(f" + 0.5*relu(1 - abs(floor(2048*x + 0.5) - {code}))" for code in codes)


@pytest.mark.parametrize("codes", [[100], [100, 101], [256, -7, 1023], [0, 255, 511, -512, -513, 9, 77]])
def test_exceptions_cost_a_comparison_each_and_little_more(codes):
    made = realize(parse(with_spikes(*codes)), S("s16.11"), S("s8.5"))
    if codes != [100, 101]:  # neighbours are no single codes
        assert made.kind == "exceptions"
        plain = realize(parse(with_spikes()), S("s16.11"), S("s8.5"))
        assert made.lut6 <= plain.lut6 + 6 * len(codes) + 8 * -(-len(codes) // 4)
    assert np.array_equal(
        interpret.table(made.program), reference_map(parse(with_spikes(*codes)), S("s16.11"), S("s8.5"))
    )


def test_bits_that_a_map_ignores_are_dropped_before_it_is_planned():
    target = Target.of(parse("floor(2*x)"), S("s10.6"), S("s8.2"))
    assert target.idle_bits() == 5
    coarse = target.coarser(5)
    assert coarse.input == S("s5.1")
    assert coarse.map.tolist() == target.map[::32].tolist()
    constant = Target.of(parse("1"), S("s10.6"), S("s8.2"))
    assert constant.idle_bits() == 8, "two bits are kept, as a signed format needs"
    assert Target.of(parse("x"), S("s10.2"), S("s10.2")).idle_bits() == 0


@pytest.mark.parametrize("max_ulp", [0, 1])
def test_no_more_bits_are_dropped_than_a_format_can_say(max_ulp):
    made = realize(parse("0*x"), S("s16.-60"), S("s8.0"), max_ulp=max_ulp)
    assert np.all(interpret.table(made.program) == 0)


@settings(max_examples=60)
@given(total_formulas, st.integers(3, 9), st.integers(0, 7), st.integers(3, 12), st.integers(0, 6))
def test_any_formula_at_any_formats_is_realised_faithfully(expr, wi, fi, wo, fo):
    input, output = FixedFormat(wi, fi), FixedFormat(wo, fo)
    expected = reference_map(expr, input, output)
    for made in candidates(Target.of(expr, input, output, max_ulp=1)):
        got = interpret.table(made.program)
        assert np.abs(got - expected).max() == made.max_ulp
        assert made.kind == "operator" or made.max_ulp <= 1


SEARCHED = [
    "tanh(x)", "0.5*clip(2.5*x) - 0.1*tanh(x)", "clip(1.54*x)", "x*sigmoid(x)", "exp(-abs(x))",
    "relu(x) - 0.1*x", "sin(x)", "-0.488*x + clip(2.85*x) + 0.217",
]  # fmt: skip


@pytest.mark.parametrize("formats", [("s12.8", "s8.6"), ("s10.7", "s12.9"), ("u10.7", "u8.6")])
@pytest.mark.parametrize("max_ulp", [0, 1])
@pytest.mark.parametrize("text", SEARCHED)
def test_giving_up_early_costs_less_than_a_lut(text, max_ulp, formats):
    expr, input, output = parse(text), *map(S, formats)
    everything = candidates(Target.of(expr, input, output, max_ulp))
    made = realize(expr, input, output, max_ulp=max_ulp)
    assert made.lut6 < min(r.lut6 for r in everything if r.max_ulp <= max_ulp) + 1.0


@pytest.mark.parametrize("text", ["tanh(x)", "0.5*clip(2.5*x) - 0.1*tanh(x)", "clip(1.54*x)"])
def test_faithful_is_within_one_code_and_not_dearer(text):
    expr, input, output = parse(text), S("s16.11"), S("s8.4")
    faithful = realize(expr, input, output, max_ulp=1)
    off = np.abs(interpret.table(faithful.program) - reference_map(expr, input, output)).max()
    assert off <= 1
    assert faithful.max_ulp == off
    assert faithful.lut6 <= realize(expr, input, output).lut6


def test_faithful_results_stay_within_the_output_format():
    expr = parse("-0.488*x + clip(2.85*x) + 0.217")  # saturates: one code further would not fit
    made = realize(expr, S("s16.11"), S("s8.5"), kind="pwl", max_ulp=1)
    expected = reference_map(expr, S("s16.11"), S("s8.5"))
    assert np.abs(interpret.table(made.program) - expected).max() <= 1


def test_a_power_of_two_slope_needs_no_multiplication_at_all():
    made = realize(parse("clip(0.5*x, -1.5, 1.5)"), S("s16.11"), S("s8.6"), kind="requant")
    assert {i.op for i in made.program.instrs} <= {
        Op.INPUT, Op.SHR, Op.LOW, Op.LOOKUP, Op.ADD, Op.CLAMP,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["pwl", "octaves"])
@pytest.mark.parametrize(("text", "op"), [("exp(-0.5*x)", Op.SUB), ("1 - exp(-0.5*x)", Op.ADD)])
def test_slopes_of_one_sign_are_stored_without_it(kind, text, op):
    program = realize(parse(text), S("u12.8"), S("u10.10"), kind=kind, max_ulp=1).program
    tables = [i for i in program.instrs if i.op is Op.LOOKUP]
    assert all(i.lo >= 0 for i in tables)
    last_sum = [i.op for i in program.instrs if i.op in (Op.ADD, Op.SUB)][-1]
    assert last_sum is op


def test_published_examples_are_realised_exactly():
    for text in (
        "2.5*tanh(clip(x)) + 0.135",
        "tanh(x) + tanh(x + 0.27)",
        "-0.488*x + clip(2.85*x) + 0.217",
        "0.961*x*sigmoid(-0.000302*x**2 + 0.0052*x)",
        "clip(x*tanh(sigmoid(-0.0401*x*tanh(x))))",
        "clip(1.54*x)",
        "0.54*clip(2.98*x)",
    ):
        expected = reference_map(parse(text), S("s16.11"), S("s8.4"))
        made = realize(parse(text), S("s16.11"), S("s8.4"))
        assert np.array_equal(interpret.table(made.program), expected), text


@pytest.mark.parametrize(
    ("text", "input", "output"),
    [
        ("clip(1000000000000000*x)", "s16.11", "s8.5"),
        ("min(x, 100000000000000000000000000000)", "s16.11", "s8.5"),
        ("1000000*x", "s16.0", "s8.-16"),
        ("x", "s8.5", "s8.60"),
        ("x*x*x*x*x*x*x*x", "s16.11", "s8.5"),
    ],
)
def test_wild_constants_and_formats_are_realised_all_the_same(text, input, output):
    made = realize(parse(text), S(input), S(output))
    expected = reference_map(parse(text), S(input), S(output))
    assert np.array_equal(interpret.table(made.program), expected)


@pytest.mark.parametrize(("text", "input", "output"), [("x**2", "u8.0", "u16.0"), ("100*x", "s8.0", "s16.0")])
def test_operators_reach_as_far_as_the_output(text, input, output):
    assert realize(parse(text), S(input), S(output), kind="operator").max_ulp == 0


def test_what_nothing_can_realise_is_said():
    with pytest.raises(
        InputError, match=r"has no realisation from s20\.10 to s8\.5 that is at most 0 ulp off"
    ):
        realize(parse("sin(2000*x)"), S("s20.10"), S("s8.5"))


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("x", "magic", "kind of realisation must be auto or one of operator, requant, .*, not 'magic'"),
        ("tanh(x)", "requant", r"function must be a line between two clips, not 'tanh\(x\)'"),
        ("x*x", "threshold", r"map of 'x\*x' must be monotone"),
        ("sigmoid(x)", "half_table", r"map of 'sigmoid\(x\)' must be odd or even"),
        ("1/3*x", "requant", r"slope 0\.0833333 of '1/3\*x' needs too many bits"),
        ("abs(x)/3", "shift_add", r"slope -0\.0833333 of 'abs\(x\)/3' needs too many bits"),
        ("sin(99*x)", "octaves", r"map of 'sin\(99\*x\)' must be of magnitudes and smooth enough for lines"),
        (
            "tanh(x)",
            "exceptions",
            r"map of 'tanh\(x\)' must be one of few cells but for 1\.\.24 single codes",
        ),
    ],
)
def test_realize_wrong(text, kind, message):
    with pytest.raises(InputError, match=message):
        realize(parse(text), S("s12.8"), S("s8.6"), kind=kind)


def test_a_sum_of_clips_is_cheapest_by_shifts_and_additions():
    expr, formats = parse("-0.488*x + clip(2.85*x) + 0.217"), (S("s16.11"), S("s8.4"))
    made = {r.kind: r.lut6 for r in candidates(Target.of(expr, *formats)) if r.max_ulp == 0}
    assert realize(expr, *formats).kind == "shift_add"
    assert made["shift_add"] < 0.7 * min(cost for kind, cost in made.items() if kind != "shift_add")


@pytest.mark.parametrize("text", ["sqrt(x)", "log(x + 0.00390625)", "1/(x + 0.0625)"])
def test_segments_that_widen_serve_functions_steep_near_zero(text):
    expr, formats = parse(text), (S("u12.8"), S("s12.7"))
    made = {r.kind: r.lut6 for r in candidates(Target.of(expr, *formats, 1))}
    assert made["octaves"] < made.get("pwl", np.inf)
