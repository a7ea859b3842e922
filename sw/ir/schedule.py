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
BLOCK_NS = 4.5
"""Clock to output of a block memory, beyond that of a register."""
BLOCK_SETUP_NS = 0.4
MIN_BLOCK_ENTRIES = 512
"""Smaller tables stay in LUTs."""
MAX_MHZ = 2000.0
MAX_LATENCY = 64
RESOLUTION_NS = 0.005
"""To which the period of a schedule of given latency is found."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The stage of every instruction; a register follows each stage.

    Args:
        stages: One stage for each instruction, 0 = between the input and the first register; no
            instruction is before one that it reads.
        latency_cycles: Number of register stages, at least 1; the last one holds the result.
        register_bits: Flip-flops of one lane's data path, without stream control.
        period_ns: What the delay model says of the slowest stage, its register included.
        blocks: Look-ups from block memory, whose register after their stage is inside the memory.
    """

    stages: tuple[int, ...]
    latency_cycles: int
    register_bits: int
    period_ns: float
    blocks: frozenset[int] = frozenset()


def plan(program: Program, fmax_mhz: float, *, block_memory: bool = False) -> Schedule:
    """Schedule a program so that, by the delay model, every stage fits one period of the clock.

    An operation that exceeds a period by itself gets a stage of its own: the model then promises less
    than ``fmax_mhz``, and synthesis tells what is reached. ``block_memory`` takes large tables from block
    memory, which answers in the stage after.

    Raises:
        InputError: ``fmax_mhz`` is not within (0, 2000].
    """
    if not 0 < fmax_mhz <= MAX_MHZ:
        raise InputError(f"fmax must be above 0 and at most {MAX_MHZ:g} MHz, not {fmax_mhz!r}")
    blocks = block_tables(program) if block_memory else frozenset()
    graph = _Graph(program.instrs, 1000.0 / fmax_mhz - REGISTER_NS, blocks)
    return graph.schedule(graph.earliest()[-1] + 1)


def plan_latency(program: Program, latency_cycles: int, *, block_memory: bool = False) -> Schedule:
    """Schedule a program in a given number of stages, the slowest one as fast as the delay model allows.

    Raises:
        InputError: ``latency_cycles`` is not within 1..64.
    """
    if not 1 <= latency_cycles <= MAX_LATENCY:
        raise InputError(f"latency must be 1..{MAX_LATENCY} cycles, not {latency_cycles!r}")
    blocks = block_tables(program) if block_memory else frozenset()
    graph = _Graph(program.instrs, math.inf, blocks)
    if graph.earliest()[-1] >= latency_cycles:
        raise InputError(f"latency must be {graph.earliest()[-1] + 1} or more with block memory")
    low, high = max(graph.costs), sum(graph.costs)
    while high - low > RESOLUTION_NS:
        graph.budget_ns = (low + high) / 2
        fits = graph.earliest()[-1] < latency_cycles
        low, high = (low, graph.budget_ns) if fits else (graph.budget_ns, high)
    graph.budget_ns = high
    return graph.schedule(latency_cycles)


def block_tables(program: Program) -> frozenset[int]:
    """The look-ups whose tables are large enough for a block memory."""
    return frozenset(
        index
        for index, instr in enumerate(program.instrs)
        if instr.op is Op.LOOKUP
        and not is_constant(instr)
        and len(program.tables[instr.params[0]]) >= MIN_BLOCK_ENTRIES
    )


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

    def __init__(self, instrs: Sequence[Instr], budget_ns: float, blocks: frozenset[int]) -> None:
        self.instrs = instrs
        self.reads = reads(instrs)
        self.blocks = blocks
        self.costs = [
            BLOCK_SETUP_NS if index in blocks else delay_ns(instrs, index) for index in range(len(instrs))
        ]
        self.budget_ns = budget_ns

    def schedule(self, latency: int) -> Schedule:
        """The earliest stages, moved within a latency that they fit to where registers are fewest."""
        stages = self.fewer_registers(self.earliest(), latency)
        bits, slowest = self.register_bits(stages, latency), max(self.arrivals(stages))
        return Schedule(tuple(stages), latency, bits, slowest + REGISTER_NS, self.blocks)

    def arrivals(self, stages: Sequence[int]) -> list[float]:
        """How long after its stage's register each operation is done."""
        done: list[float] = []
        for index, cost in enumerate(self.costs):
            done.append(self._start(index, stages[index], stages, done) + cost)
        return done

    def earliest(self) -> list[int]:
        """Every operation in the first stage that has room for it."""
        stages: list[int] = []
        done: list[float] = []
        for index, cost in enumerate(self.costs):
            stage = self._least(index, stages)
            start = self._start(index, stage, stages, done)
            if start > 0 and cost > 0 and start + cost > self.budget_ns:
                stage += 1
                start = self._start(index, stage, stages, done)
            stages.append(stage)
            done.append(start + cost)
        return stages

    def fits(self, stages: Sequence[int]) -> bool:
        """Whether every stage keeps within the period, or starts with one operation that cannot."""
        done: list[float] = []
        for index, cost in enumerate(self.costs):
            if stages[index] < self._least(index, stages):
                return False
            start = self._start(index, stages[index], stages, done)
            if start > 0 and cost > 0 and start + cost > self.budget_ns:
                return False
            done.append(start + cost)
        return True

    def _least(self, index: int, stages: Sequence[int]) -> int:
        """The first stage that has all that an operation reads."""
        return max((stages[a] + (a in self.blocks) for a in self.reads[index]), default=0)

    def _start(self, index: int, stage: int, stages: Sequence[int], done: Sequence[float]) -> float:
        """When, after its stage's register, an operation has all that it reads."""
        at_once = [done[a] for a in self.reads[index] if stages[a] == stage and a not in self.blocks]
        from_blocks = [BLOCK_NS for a in self.reads[index] if a in self.blocks and stages[a] + 1 == stage]
        return max(at_once + from_blocks, default=0.0)

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
