from dataclasses import replace

import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.program import Op
from sw.ir.realize import plan_kind, quadratic, realize
from sw.ir.realize.target import NotApplicableError, Target

S = FixedFormat.parse


@pytest.mark.parametrize(
    ("text", "input", "output", "max_ulp", "segments"),
    [
        ("tanh(x)", "s12.9", "s12.11", 0, 128),
        ("tanh(x)", "s12.9", "s12.11", 1, 32),
        ("tanh(x)", "s16.13", "s16.15", 1, 64),
        ("exp(-x)", "u12.9", "u14.13", 1, 32),
        ("x*x", "s10.8", "s14.8", 0, 64),
    ],
)
def test_parabolas_hit_every_code_with_few_segments(text, input, output, max_ulp, segments):
    target = Target.of(parse(text), S(input), S(output), max_ulp)
    made = plan_kind("quadratic", target)
    assert np.abs(interpret.table(made.program) - target.map).max() == made.max_ulp <= max_ulp
    assert max(map(len, made.program.tables)) <= segments


def test_two_multiplications_fit_a_dsp_each():
    made = realize(parse("tanh(x)*32767/32768"), S("s16.13"), S("s16.15"), kind="quadratic", max_ulp=1)
    products = [i for i in made.program.instrs if i.op is Op.MUL]
    assert len(products) == 2
    for product in products:
        widths = sorted(made.program.instrs[a].width for a in product.args)
        assert widths[0] <= 18
        assert widths[1] <= 18


def test_quadratic_wrong():
    with pytest.raises(InputError, match="output of parabolas must have at least 12 bits, not 8"):
        realize(parse("tanh(x)"), S("s12.9"), S("s8.7"), kind="quadratic")
    with pytest.raises(InputError, match="must be smooth enough for piecewise parabolas"):
        realize(parse("sin(1000000*x*x)"), S("s8.5"), S("s12.11"), kind="quadratic")
    target = Target.of(parse("tanh(x)"), S("s12.9"), S("s12.11"))
    with pytest.raises(NotApplicableError, match="parabolas must be allowed 150 LUTs, not 90"):
        quadratic.plan(replace(target, budget=90.0))
