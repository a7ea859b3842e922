import numpy as np
import pytest

from sw.ir import interpret
from sw.ir.build import Builder
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.program import Op
from sw.ir.realize import realize
from sw.ir.realize.domain import Line
from sw.ir.realize.split import _rounded
from sw.ir.refmap import reference_map

S = FixedFormat.parse


@pytest.mark.parametrize(
    ("text", "max_ulp"),
    [
        ("x*sigmoid(x)", 0),
        ("0.5*x*(1 + erf(0.70710678*x))", 0),
        ("log(1 + exp(x))", 0),
        ("x - 0.2*tanh(x)", 0),
        ("x - 0.2*tanh(x)", 1),
        ("0.5*x + 0.3*tanh(x)", 1),
    ],
)
def test_nearly_linear_functions_of_many_output_bits_are_cheapest_split(text, max_ulp):
    made = realize(parse(text), S("s12.8"), S("s12.8"), max_ulp=max_ulp)
    assert made.kind == "split"
    expected = reference_map(parse(text), S("s12.8"), S("s12.8"))
    assert np.abs(interpret.table(made.program) - expected).max() <= max_ulp
    assert Op.MUL not in {i.op for i in made.program.instrs}


@pytest.mark.parametrize("text", ["x*sigmoid(-x)", "-x*sigmoid(x)", "abs(x) + exp(-abs(x))", "x*tanh(x) - 1"])
@pytest.mark.parametrize("max_ulp", [0, 1])
def test_lines_of_either_side_and_of_both_serve(text, max_ulp):
    made = realize(parse(text), S("s10.6"), S("s10.6"), kind="split", max_ulp=max_ulp)
    expected = reference_map(parse(text), S("s10.6"), S("s10.6"))
    assert np.abs(interpret.table(made.program) - expected).max() == made.max_ulp <= max_ulp


@pytest.mark.parametrize("line", [Line(3, 3, 2), Line(0, 5, 1), Line(-3, 0, 1), Line(-6, 6, 0)])
def test_a_line_is_the_same_in_numbers_and_in_wires(line):
    b = Builder(S("s6.0"))
    assert np.array_equal(b.values(line.wire(b)), line.of(S("s6.0").codes()))


@pytest.mark.parametrize(
    ("value", "one", "two"), [(7.2, 8, 7), (0.3, 0, 0), (-11.9, -16, -12), (96.0, 128, 96)]
)
def test_slopes_are_rounded_to_few_digits(value, one, two):
    assert (_rounded(value, 1), _rounded(value, 2)) == (one, two)


@pytest.mark.parametrize("text", ["tanh(x)", "exp(-abs(x))"])
def test_split_wrong(text):
    with pytest.raises(InputError, match="must be a line far from 0, but for little"):
        realize(parse(text), S("s16.11"), S("s12.9"), kind="split")
