"""Programs: a realisation as a short list of integer operations, the one arithmetic truth.

A Program maps a code of its input format to a code of its output format by operations on exact
integers. The interpreter, the PyTorch module, the price and the hardware all read this list.
``docs/ir.md`` is its specification.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat

VERSION = 1
MAX_WIRE_BITS = 62
"""int64 must hold every wire and every sum of two of them."""


class Op(enum.StrEnum):
    """What an instruction computes from its arguments a, b, c and its integer parameters."""

    INPUT = "input"  # the input code
    CONST = "const"  # the parameter
    ADD = "add"  # a + b
    SUB = "sub"  # a - b
    MUL = "mul"  # a * b
    ABS = "abs"  # |a|
    SHL = "shl"  # a * 2^parameter
    SHR = "shr"  # floor(a / 2^parameter)
    LOW = "low"  # a mod 2^parameter, never negative
    MIN = "min"  # the smaller of a and b
    MAX = "max"  # the larger of a and b
    CLAMP = "clamp"  # a limited to [parameter 0, parameter 1]
    LT = "lt"  # 1 if a < b, else 0
    EQ = "eq"  # 1 if a == b, else 0
    NEGATE = "negate"  # -b if a is not 0, else b
    SELECT = "select"  # b if a is not 0, else c
    LOOKUP = "lookup"  # table[parameter][a]


ARITY: dict[Op, tuple[int, int]] = {
    Op.INPUT: (0, 0),
    Op.CONST: (0, 1),
    Op.ADD: (2, 0),
    Op.SUB: (2, 0),
    Op.MUL: (2, 0),
    Op.ABS: (1, 0),
    Op.SHL: (1, 1),
    Op.SHR: (1, 1),
    Op.LOW: (1, 1),
    Op.MIN: (2, 0),
    Op.MAX: (2, 0),
    Op.CLAMP: (1, 2),
    Op.LT: (2, 0),
    Op.EQ: (2, 0),
    Op.NEGATE: (2, 0),
    Op.SELECT: (3, 0),
    Op.LOOKUP: (1, 1),
}
"""Number of arguments and of parameters of each operation."""


@dataclass(frozen=True, slots=True)
class Instr:
    """One wire: its operation, the earlier wires it reads, and the range that it never leaves."""

    op: Op
    args: tuple[int, ...]
    params: tuple[int, ...]
    lo: int
    hi: int

    @property
    def signed(self) -> bool:
        """Whether the wire needs a sign bit."""
        return self.lo < 0

    @property
    def width(self) -> int:
        """Bits of the narrowest two's complement (or, if never negative, unsigned) wire; at least 1."""
        if self.signed:
            return max(self.hi.bit_length(), (-self.lo - 1).bit_length()) + 1
        return max(self.hi.bit_length(), 1)


@dataclass(frozen=True, slots=True)
class Program:
    """An immutable integer program; the last instruction is the output code.

    Args:
        input: Format of the input code.
        output: Format of the output code; the last instruction's range lies within it.
        instrs: SSA list, every argument index lower than the instruction's own.
        tables: Constant tables that ``lookup`` reads, by index.

    Raises:
        InputError: The list breaks one of these rules.
    """

    input: FixedFormat
    output: FixedFormat
    instrs: tuple[Instr, ...]
    tables: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.instrs:
            raise InputError("a program must have at least one instruction, not 0")
        for index, instr in enumerate(self.instrs):
            self._check(index, instr)
        for index, entries in enumerate(self.tables):
            if any(entry.bit_length() >= MAX_WIRE_BITS for entry in entries):
                raise InputError(f"entries of table {index} must be within {MAX_WIRE_BITS} bits")
        result = self.instrs[-1]
        if result.lo < self.output.min_raw or result.hi > self.output.max_raw:
            raise InputError(
                f"a program's result must fit its output {self.output}, not reach [{result.lo}, {result.hi}]"
            )

    def _check(self, index: int, instr: Instr) -> None:
        num_args, num_params = ARITY[instr.op]
        if (len(instr.args), len(instr.params)) != (num_args, num_params):
            raise InputError(
                f"instruction {index} ({instr.op}) must have {num_args} arguments and {num_params} "
                f"parameters, not {len(instr.args)} and {len(instr.params)}"
            )
        if any(not 0 <= arg < index for arg in instr.args):
            raise InputError(
                f"instruction {index} ({instr.op}) must read earlier wires only, not {instr.args}"
            )
        if instr.lo > instr.hi or instr.width > MAX_WIRE_BITS:
            raise InputError(
                f"range of instruction {index} ({instr.op}) must be rising and within {MAX_WIRE_BITS} bits, "
                f"not [{instr.lo}, {instr.hi}]"
            )
        if (instr.op is Op.INPUT) and index > 0:
            raise InputError(f"instruction {index} must not be an input; only the first may be")
        if instr.op is Op.INPUT and (instr.lo, instr.hi) != (self.input.min_raw, self.input.max_raw):
            raise InputError(f"range of the input must be that of {self.input}, not [{instr.lo}, {instr.hi}]")
        if instr.op is Op.CONST and not instr.lo == instr.hi == instr.params[0]:
            raise InputError(
                f"range of instruction {index} (const) must be its parameter {instr.params[0]} alone, "
                f"not [{instr.lo}, {instr.hi}]"
            )
        if instr.op is Op.CLAMP and instr.params[0] > instr.params[1]:
            raise InputError(f"limits of instruction {index} (clamp) must be rising, not {instr.params}")
        if instr.op in (Op.SHL, Op.SHR, Op.LOW) and not 0 <= instr.params[0] <= MAX_WIRE_BITS:
            raise InputError(
                f"shift of instruction {index} ({instr.op}) must be 0..{MAX_WIRE_BITS}, not {instr.params[0]}"
            )
        if instr.op is Op.LOOKUP:
            self._check_lookup(index, instr)

    def _check_lookup(self, index: int, instr: Instr) -> None:
        table = instr.params[0]
        if not 0 <= table < len(self.tables):
            raise InputError(
                f"instruction {index} must look up one of {len(self.tables)} tables, not {table}"
            )
        address, size = self.instrs[instr.args[0]], len(self.tables[table])
        if address.lo < 0 or address.hi >= size:
            raise InputError(
                f"address of instruction {index} must lie in table {table} [0, {size - 1}], "
                f"not [{address.lo}, {address.hi}]"
            )

    def to_json(self) -> str:
        """The program as JSON text; ``from_json`` of it gives an equal program."""
        instrs = [
            {"op": i.op.value, "args": list(i.args), "params": list(i.params), "range": [i.lo, i.hi]}
            for i in self.instrs
        ]
        body: dict[str, Any] = {
            "version": VERSION,
            "input": str(self.input),
            "output": str(self.output),
            "instructions": instrs,
            "tables": [list(table) for table in self.tables],
        }
        return json.dumps(body) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Program:
        """Read what ``to_json`` wrote.

        Raises:
            InputError: Not such a text, another version, or a broken program.
        """
        try:
            body = json.loads(text)
            version = body["version"]
            if type(version) is not int or version != VERSION:
                raise InputError(f"program version must be {VERSION}, not {version!r}")
            instrs = tuple(_instr(item) for item in body["instructions"])
            tables = tuple(_integers(table) for table in body["tables"])
            formats = FixedFormat.parse(body["input"]), FixedFormat.parse(body["output"])
        except InputError:
            raise
        except RecursionError as error:
            raise InputError("program must be JSON as docs/ir.md describes, not nested so deeply") from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"program must be JSON as docs/ir.md describes, not this: {error}") from error
        return cls(*formats, instrs, tables)


def dropping(program: Program, input: FixedFormat, bits: int) -> Program:
    """The program behind a wider input, whose lowest ``bits`` are dropped: P'(c) = P(floor(c / 2^bits)).

    Raises:
        InputError: The program's input is not what is left of ``input``.

    >>> s = FixedFormat.parse
    >>> code = Instr(Op.INPUT, (), (), -8, 7)
    >>> [i.op.value for i in dropping(Program(s("s4.1"), s("s4.1"), (code,)), s("s6.3"), 2).instrs]
    ['input', 'shr']
    """
    narrow = input.without(bits)
    if program.input != narrow:
        raise InputError(
            f"a program behind {input} without {bits} bits must read {narrow}, not {program.input}"
        )
    if program.instrs[0].op is not Op.INPUT:
        return replace(program, input=input)
    whole = Instr(Op.INPUT, (), (), input.min_raw, input.max_raw)
    kept = Instr(Op.SHR, (0,), (bits,), narrow.min_raw, narrow.max_raw)
    rest = [replace(i, args=tuple(a + 1 for a in i.args)) for i in program.instrs[1:]]
    return replace(program, input=input, instrs=(whole, kept, *rest))


def _instr(item: dict[str, Any]) -> Instr:
    lo, hi = _integers(item["range"])
    return Instr(Op(item["op"]), _integers(item["args"]), _integers(item["params"]), lo, hi)


def _integers(values: Sequence[Any]) -> tuple[int, ...]:
    """As they are: JSON may hold any number, text or null in their place."""
    for value in values:
        if type(value) is not int:
            raise ValueError(f"{value!r} is no integer")
    return tuple(values)
