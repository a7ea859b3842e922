"""The PyTorch side of the contract, as numbers; importing this module loads torch."""

from __future__ import annotations

import numpy as np
import torch

from sw.ir.formats import IntArray
from sw.ir.parse import parse
from sw.ir.program import Program
from sw.model.reference import FloatPath, UnitModule, float_path_differences

SHOWN = 8


def module_codes(program: Program, codes_raw: IntArray) -> IntArray:
    """What the PyTorch module of a unit makes of input codes, int64."""
    out_raw = UnitModule(program).codes(torch.from_numpy(codes_raw))
    return np.asarray(out_raw.numpy(), dtype=np.int64)


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
