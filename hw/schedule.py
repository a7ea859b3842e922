"""Where registers go: the pipeline stage of every instruction of a Program, for a target clock.

Pure Python on Programs. Operations are packed as early as the clock allows (list scheduling in program
order), then single operations move between neighbouring stages while that saves register bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sw.ir.errors import InputError
from sw.ir.forms import is_constant, joined, reads
from sw.ir.program import Instr, Op, Program

LUT_NS = 0.9
"""One LUT4 with the wire to it, Lattice ECP5, speed grade 6."""
CARRY_NS = 0.7
"""Getting on and off a carry chain, beyond one LUT."""
CARRY_BIT_NS = 0.04
"""One more bit of a carry chain."""
COMPARE_NS = 1.8
"""Getting the last carry back into logic, which ECP5 does through one more carry cell."""
TABLE_BIT_NS = 0.68
"""One more address bit of a table, beyond the four of a LUT."""
REGISTER_NS = 1.2
"""Clock to output, set-up, and the wire to the first LUT."""
MAX_MHZ = 2000.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """The stage of every instruction; a register follows each stage.

    Args:
        stages: One stage for each instruction, 0 = between the input and the first register; no
            instruction is before one that it reads.
        latency_cycles: Number of register stages, at least 1; the last one holds the result.
        register_bits: Flip-flops of one lane's data path, without stream control.
    """

    stages: tuple[int, ...]
    latency_cycles: int
    register_bits: int


def plan(program: Program, fmax_mhz: float) -> Schedule:
    """Schedule a program so that, by the delay model, every stage fits one period of the clock.

    An operation that exceeds a period by itself gets a stage of its own: the model then promises less
    than ``fmax_mhz``, and synthesis tells what is reached.

    Raises:
        InputError: ``fmax_mhz`` is not within (0, 2000].
    """
    if not 0 < fmax_mhz <= MAX_MHZ:
        raise InputError(f"fmax must be above 0 and at most {MAX_MHZ:g} MHz, not {fmax_mhz!r}")
    graph = _Graph(program.instrs, 1000.0 / fmax_mhz - REGISTER_NS)
    stages = graph.earliest()
    latency = stages[-1] + 1
    stages = graph.fewer_registers(stages, latency)
    return Schedule(tuple(stages), latency, graph.register_bits(stages, latency))


def delay_ns(instrs: Sequence[Instr], index: int) -> float:
    """Estimated delay of one instruction on ECP5-6, wires included; 0 for what is only wiring."""
    instr = instrs[index]
    if is_constant(instr) or joined(instrs, index):
        return 0.0
    args = [instrs[a] for a in instr.args]
    widest = max((a.width for a in args), default=1)
    match instr.op:
        case Op.ADD | Op.SUB | Op.ABS | Op.NEGATE:
            return _carry(instr.width)
        case Op.MUL:
            return _multiply(args[0].width, args[1].width)
        case Op.LT:
            is_sign = (args[1].lo, args[1].hi) == (0, 0)
            return 0.0 if is_sign else _compare(args)
        case Op.MIN | Op.MAX | Op.CLAMP:
            return _compare(args) + LUT_NS
        case Op.EQ:
            return LUT_NS * _tree(2 * widest)
        case Op.SELECT:
            return LUT_NS * (1 + _tree(args[0].width) - (args[0].width == 1))
        case Op.LOOKUP:
            return LUT_NS + TABLE_BIT_NS * max(0, args[0].width - 4)
        case _:
            return 0.0


def _carry(width: int) -> float:
    return LUT_NS + CARRY_NS + CARRY_BIT_NS * width


def _compare(args: Sequence[Instr]) -> float:
    """A carry chain, or a tree that halves the width where all but one operand are constants."""
    moving = [a.width for a in args if not is_constant(a)]
    width = max(moving, default=1)
    tree = LUT_NS * (1 + max(0, math.ceil(math.log2(width / 4))))
    return tree if len(moving) < 2 else _carry(width) + COMPARE_NS


def _multiply(a: int, b: int) -> float:
    """Rows of partial products, compressed three to two by full adders, then one addition."""
    rows = min(a, b)
    levels = max(0, math.ceil(math.log(max(rows, 2) / 2, 1.5)))
    return LUT_NS * (1 + levels) + _carry(a + b)


def _tree(inputs: int) -> int:
    """Levels of LUT4 that reduce so many inputs to one."""
    return max(1, math.ceil(math.log(max(inputs, 1), 4) - 1e-9))


class _Graph:
    """The instructions with what they read and how long they take, against one period's budget."""

    def __init__(self, instrs: Sequence[Instr], budget_ns: float) -> None:
        self.instrs = instrs
        self.reads = reads(instrs)
        self.costs = [delay_ns(instrs, index) for index in range(len(instrs))]
        self.budget_ns = budget_ns

    def earliest(self) -> list[int]:
        """Every operation in the first stage that has room for it."""
        stages: list[int] = []
        arrivals: list[float] = []
        for index, cost in enumerate(self.costs):
            stage = max((stages[a] for a in self.reads[index]), default=0)
            start = max((arrivals[a] for a in self.reads[index] if stages[a] == stage), default=0.0)
            if start > 0 and cost > 0 and start + cost > self.budget_ns:
                stage, start = stage + 1, 0.0
            stages.append(stage)
            arrivals.append(start + cost)
        return stages

    def fits(self, stages: Sequence[int]) -> bool:
        """Whether every stage keeps within the period, or starts with one operation that cannot."""
        arrivals: list[float] = []
        for index, cost in enumerate(self.costs):
            if any(stages[a] > stages[index] for a in self.reads[index]):
                return False
            start = max((arrivals[a] for a in self.reads[index] if stages[a] == stages[index]), default=0.0)
            if start > 0 and cost > 0 and start + cost > self.budget_ns:
                return False
            arrivals.append(start + cost)
        return True

    def register_bits(self, stages: Sequence[int], latency: int) -> int:
        """Flip-flops that carry wires across stage borders to their last reader."""
        last = list(stages)
        for index, arguments in enumerate(self.reads):
            for arg in arguments:
                last[arg] = max(last[arg], stages[index])
        last[-1] = latency
        return sum(
            instr.width * (last[index] - stages[index])
            for index, instr in enumerate(self.instrs)
            if not is_constant(instr)
        )

    def fewer_registers(self, stages: list[int], latency: int) -> list[int]:
        """Move single operations by whole stages, last to first and back, while register bits fall."""
        best, fewest = list(stages), self.register_bits(stages, latency)
        improved = latency > 1
        while improved:
            improved = False
            order = range(len(self.instrs) - 1, 0, -1)
            for index, step in [(i, 1) for i in order] + [(i, -1) for i in reversed(order)]:
                trial = list(best)
                trial[index] += step
                if not 0 <= trial[index] < latency:
                    continue
                bits = self.register_bits(trial, latency)
                if bits < fewest and self.fits(trial):
                    best, fewest, improved = trial, bits, True
        return best
