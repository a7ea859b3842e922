"""The PyTorch side of the contract, as numbers; importing this module loads torch."""

from __future__ import annotations

import numpy as np

from sw.ir import interpret
from sw.ir.formats import IntArray
from sw.ir.parse import parse
from sw.ir.program import Program
from sw.model import reference
from sw.model.reference import FloatPath, UnitModule, float_path_differences

SHOWN = 8


def module_codes(program: Program, codes_raw: IntArray) -> IntArray:
    """What the PyTorch module of a unit makes of input codes, int64, given as real values as in the model.

    Besides the code's own value it gets one on either side that rounds to it: half a code away, a tie,
    where the code is even, a quarter of a code where it is odd. If any of the three comes out as something
    else than the interpreter's code, that is what is returned.
    """
    module = UnitModule(program)
    wanted_raw = interpret.run(program, codes_raw)
    out_raw = reference.module_codes(module, codes_raw)
    reach = np.where(codes_raw % 2 == 0, 0.5, 0.25)
    for values in (codes_raw - reach, codes_raw + reach):
        out_raw = np.where(out_raw == wanted_raw, reference.module_codes(module, values), out_raw)
    return out_raw


def float_path(expression: str, program: Program, *, max_ulp: int) -> FloatPath:
    """The float64 expression between Brevitas's quantizers against the program, on every code."""
    return float_path_differences(parse(expression), program, max_ulp=max_ulp)


def float_path_problem(path: FloatPath) -> str:
    """The codes at which the float path differs without being a tie; empty where there is none."""
    if not path.differences:
        return ""
    shown = ", ".join(str(code) for code in path.differences[:SHOWN])
    more = f" and {len(path.differences) - SHOWN} more" if len(path.differences) > SHOWN else ""
    return f"differs from the program, without a tie, at code {shown}{more}"
