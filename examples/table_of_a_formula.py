"""A formula becomes an exact integer program; its cost, and its whole table."""

import numpy as np

from sw.ir import interpret
from sw.ir.expr import evaluate
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import realize

formula = parse("0.5*clip(2.5*x) - 0.1*tanh(x)")
x_format, y_format = FixedFormat.parse("s16.11"), FixedFormat.parse("s8.5")

unit = realize(formula, x_format, y_format)
print(f"{unit.kind}, {unit.max_ulp} ulp from the rounded function, about {unit.lut6:.0f} LUT6")

codes = x_format.codes()
table = interpret.table(unit.program)
error = np.abs(y_format.to_real(table) - evaluate(formula, x_format.to_real(codes)))
print(f"largest error {error.max():.4f}, half a step is {y_format.step / 2:.4f}")
