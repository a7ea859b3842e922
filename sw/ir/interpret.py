"""The meaning of Programs: an interpreter on exact integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sw.ir.errors import InputError
from sw.ir.formats import IntArray
from sw.ir.program import Instr, Op, Program

MAX_TABLE_BITS = 20
"""Widest input for which the whole map is ever enumerated."""


def run(program: Program, x_raw: Any) -> Any:
    """The program's output codes for input codes.

    Args:
        x_raw: A Python int or an int64 array of any shape, codes of ``program.input``.

    Returns:
        The same kind and shape; Python ints and int64 give the same answer.
    """
    result = wires(program, x_raw)[-1]
    return np.broadcast_to(result, x_raw.shape).copy() if isinstance(x_raw, np.ndarray) else result


def wires(program: Program, x_raw: Any) -> list[Any]:
    """The value of every instruction, in order, for input codes as in ``run``."""
    tables = [np.asarray(table, dtype=np.int64) for table in program.tables]
    return values_of(program.instrs, tables, x_raw)


def values_of(instrs: Sequence[Instr], tables: Sequence[IntArray], x_raw: Any) -> list[Any]:
    """The value of every instruction of a list that is not yet a Program."""
    values: list[Any] = []
    for instr in instrs:
        if instr.op is Op.INPUT:
            values.append(x_raw)
        else:
            values.append(apply(instr, [values[a] for a in instr.args], tables))
    return values


def table(program: Program) -> IntArray:
    """The program's whole map: int64, index 0 = the most negative input code.

    Raises:
        InputError: The input has more than 20 bits.
    """
    if program.input.width > MAX_TABLE_BITS:
        raise InputError(
            f"input of a whole map must have at most {MAX_TABLE_BITS} bits, not {program.input.width}"
        )
    codes: IntArray = run(program, program.input.codes())
    return codes


def apply(instr: Instr, args: Sequence[Any], tables: Sequence[Sequence[int] | IntArray]) -> Any:
    """One operation (not ``input``) on the values of its arguments: Python ints or int64 arrays."""
    op, params = instr.op, instr.params
    match op:
        case Op.CONST:
            return params[0]
        case Op.ADD:
            return args[0] + args[1]
        case Op.SUB:
            return args[0] - args[1]
        case Op.MUL:
            return args[0] * args[1]
        case Op.ABS:
            return abs(args[0])
        case Op.SHL:
            return args[0] << params[0]
        case Op.SHR:
            return args[0] >> params[0]
        case Op.LOW:
            return args[0] & ((1 << params[0]) - 1)
        case _:
            return _choose(op, args, params, tables)


def _choose(
    op: Op, args: Sequence[Any], params: Sequence[int], tables: Sequence[Sequence[int] | IntArray]
) -> Any:
    """The operations that pick one of several values."""
    a = args[0]
    match op:
        case Op.MIN:
            picked = np.minimum(a, args[1])
        case Op.MAX:
            picked = np.maximum(a, args[1])
        case Op.CLAMP:
            picked = np.clip(a, params[0], params[1])
        case Op.LT:
            picked = np.less(a, args[1]).astype(np.int64)
        case Op.EQ:
            picked = np.equal(a, args[1]).astype(np.int64)
        case Op.NEGATE:
            picked = np.where(np.not_equal(a, 0), -args[1], args[1])
        case Op.SELECT:
            picked = np.where(np.not_equal(a, 0), args[1], args[2])
        case _:
            assert op is Op.LOOKUP, op
            picked = tables[params[0]][a]
    scalar = all(isinstance(arg, int) for arg in args)
    return int(picked) if scalar else picked
