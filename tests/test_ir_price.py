import json
import time
from pathlib import Path

import numpy as np
import pytest

from sw.ir.build import Builder
from sw.ir.delays import terms
from sw.ir.features import FEATURES, features
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.price import COSTS, STREAM_CONTROL, lut6, table_lut6
from sw.ir.program import ARITY, Instr, Op, Program
from sw.ir.realize import realize
from sw.ir.schedule import block_tables

S = FixedFormat.parse
ROOT = Path(__file__).parents[1]

MEASURED = [
    ("clip(x, -2.25, 2.25)", "s16.11", "s8.5", "requant", 0, 14),
    ("clip(1.5*x, -3.96875, 3.96875)", "s16.11", "s8.5", "requant", 0, 31),
    ("tanh(x)", "s16.12", "s8.7", "threshold", 0, 179),
    ("0.5*clip(2.5*x) - 0.1*tanh(x)", "s16.11", "s8.5", "half_table", 0, 176),
    ("tanh(x)", "s10.7", "s8.7", "half_table", 0, 65),
    ("0.5*clip(2.5*x) - 0.1*tanh(x)", "s16.11", "s8.5", "pwl", 0, 58),
    ("tanh(x)", "s16.12", "s8.7", "pwl", 0, 151),
    ("x*sigmoid(x)", "s16.11", "s8.4", "pwl", 0, 174),
    ("0.5*clip(2.5*x) - 0.1*tanh(x)", "s16.11", "s8.5", "bipartite", 0, 64),
    ("exp(-abs(x))", "s16.11", "s8.5", "bipartite", 0, 78),
    ("tanh(x)", "s16.12", "s8.7", "bipartite", 1, 37),
    ("x*sigmoid(x)", "s16.11", "s8.5", "bipartite", 1, 26),
    ("x*sigmoid(x)", "s12.8", "s12.8", "split", 0, 122),
]
"""6-input LUTs of whole units as Yosys counts them for xc7."""


@pytest.mark.parametrize(("text", "input", "output", "kind", "max_ulp", "measured"), MEASURED)
def test_price_is_near_what_synthesis_counts(text, input, output, kind, max_ulp, measured):
    predicted = realize(parse(text), S(input), S(output), kind=kind, max_ulp=max_ulp).lut6
    assert abs(predicted - measured) <= max(8, 0.35 * measured)


def test_price_orders_kinds_as_synthesis_does():
    by_kind = {
        kind: realize(parse("tanh(x)"), S("s16.12"), S("s8.7"), kind=kind).lut6
        for kind in ("pwl", "threshold", "half_table")
    }
    assert by_kind["pwl"] < by_kind["threshold"] < by_kind["half_table"]


@pytest.mark.parametrize(("bits", "luts"), [(4, 8), (6, 8), (7, 16), (8, 32)])
def test_random_tables_cost_a_lut_for_64_entries_and_output_bit(bits, luts):
    values = np.random.default_rng(0).integers(-128, 128, 1 << bits)
    assert table_lut6(tuple(values.tolist()), bits) == pytest.approx(luts, rel=0.4)


def test_only_output_bits_that_change_and_differ_cost():
    assert table_lut6((6, 7, 7, 6), 2) == table_lut6((0, 1, 1, 0), 2) > 0
    assert table_lut6((127, 128), 1) == table_lut6((0, 1), 1)
    assert table_lut6((0, 1, 2, 0), 2) == 2 * table_lut6((0, 1, 1, 0), 2)


def test_the_costs_are_those_of_the_benchmark():
    measured = json.loads((ROOT / "benchmarks/cost_model.json").read_text())
    assert measured["fitted_on"] >= 400
    for family, costs in COSTS.items():
        found = measured["families"][family]
        assert costs == found["costs"]
        assert found["test"]["median_share"] <= 0.15
        assert found["test"]["median_luts"] <= 4


def test_a_prediction_takes_less_than_a_millisecond():
    program = realize(parse("tanh(x)"), S("s12.9"), S("s8.7"), kind="pwl").program
    start = time.process_time()
    for _ in range(50):
        lut6(program)
    assert (time.process_time() - start) / 50 < 3e-3  # on a machine that does other things, too


def test_a_table_in_block_memory_costs_no_luts():
    program = realize(parse("tanh(x)"), S("s10.7"), S("s8.7"), kind="table").program
    assert lut6(program, blocks=block_tables(program)) < 12 < lut6(program)


def test_wiring_is_free():
    b = Builder(S("s8.0"))
    joined = b.add(b.shl(b.low(b.x, 4), 3), b.low(b.x, 3))
    assert lut6(b.build(b.shr(b.shl(b.low(joined, 6), 2), 1), S("u8.0"))) == STREAM_CONTROL


COUNTED = [
    (lambda b, a, c: b.add(a, c), {"adder_bit": 9}),
    (lambda b, a, c: b.add(b.shl(a, 3), c), {"adder_bit": 9}),
    (lambda b, a, c: b.add(a, b.const(5)), {"constant_adder": 1, "constant_adder_bit": 9}),
    (lambda b, a, c: b.add(a, b.low(c, 1)), {"constant_adder": 1, "constant_adder_bit": 9}),
    (lambda b, a, c: b.sub(a, c), {"subtractor_bit": 9}),
    (lambda b, a, c: b.sub(b.const(0), a), {"sign_bit": 9}),
    (lambda b, a, c: b.sub(b.const(5), a), {"constant_adder": 1, "constant_adder_bit": 9}),
    (lambda b, a, c: b.mul(a, c), {"product_bit": 64, "product_edge": 16}),
    (lambda b, a, c: b.mul(a, b.low(c, 1)), {"multiplexer_bit": 8}),
    (lambda b, a, c: b.abs(b.sub(a, c)), {"subtractor_bit": 9, "sign_bit": 9}),
    (lambda b, a, c: b.min(a, c), {"compare_bit": 8, "multiplexer_bit": 8}),
    (lambda b, a, c: b.lt(a, b.const(5)), {"compare_constant_bit": 8}),
    (lambda b, a, c: b.eq(a, b.const(5)), {"equal_constant_bit": 8}),
    (lambda b, a, c: b.clamp(b.sub(a, c), -8, 7), {"subtractor_bit": 9, "clamp_bit": 4}),
]
"""Operations on two wires of eight bits, and what of them costs."""


@pytest.mark.parametrize(("operation", "expected"), COUNTED)
def test_what_counts_is_what_carries_multiplies_compares_or_chooses(operation, expected):
    b = Builder(S("u16.0"))
    made = features(b.build(operation(b, b.low(b.x, 8), b.shr(b.x, 8)), S("s20.0")))
    assert made.keys() <= set(FEATURES)
    assert {name: made[name] for name in expected} == expected
    assert made.keys() - expected.keys() <= {"clamp_beyond_bit", "clamp_odd"}


WIRING = {Op.SHL, Op.SHR, Op.LOW}


@pytest.mark.parametrize("op", [op for op in Op if op not in (Op.INPUT, Op.CONST)])
def test_every_operation_but_wiring_has_a_price_and_a_delay(op):
    num_args, num_params = ARITY[op]
    low, high, name = (0, 15, "u4.0") if op is Op.LOOKUP else (-8, 7, "s4.0")
    arguments = [Instr(Op.INPUT, (), (), low, high), *[Instr(Op.SHR, (0,), (k,), low, high) for k in (1, 2)]]
    instr = Instr(op, tuple(range(num_args)), tuple(range(num_params)), 0, 5)
    program = Program(S(name), S("s8.0"), (*arguments, instr), ((0, 5, 2, 1) * 4,))
    assert bool(terms(program.instrs, 3)) == (op not in WIRING)
    assert bool(features(program)) == (op not in WIRING)
