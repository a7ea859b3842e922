"""Where registers go: the pipeline stage of every instruction of a Program, for a target clock.

Pure Python on Programs. Operations are packed as early as the clock allows (list scheduling in program
order), then single operations move between neighbouring stages while that saves register bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sw.ir.delays import delay_ns, register_ns
from sw.ir.errors import InputError
from sw.ir.forms import is_constant, reads
from sw.ir.program import Instr, Op, Program

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


def plan(program: Program, fmax_mhz: float, *, family: str = "ecp5", block_memory: bool = False) -> Schedule:
    """Schedule a program so that, by the delay model, every stage fits one period of the clock.

    An operation that exceeds a period by itself gets a stage of its own: the model then promises less
    than ``fmax_mhz``, and synthesis tells what is reached. ``block_memory`` takes large tables from block
    memory, which answers in the stage after.

    Raises:
        InputError: ``fmax_mhz`` is not within (0, 2000].
    """
    check_clock(fmax_mhz)
    blocks = block_tables(program) if block_memory else frozenset()
    graph = _Graph(program.instrs, math.inf, blocks, family)
    graph.budget_ns = 1000.0 / fmax_mhz - graph.register_ns
    return graph.schedule(graph.least_latency())


def plan_latency(
    program: Program, latency_cycles: int, *, family: str = "ecp5", block_memory: bool = False
) -> Schedule:
    """Schedule a program in a given number of stages, the slowest one as fast as the delay model allows.

    Raises:
        InputError: ``latency_cycles`` is not within 1..64.
    """
    if not 1 <= latency_cycles <= MAX_LATENCY:
        raise InputError(f"latency must be 1..{MAX_LATENCY} cycles, not {latency_cycles!r}")
    blocks = block_tables(program) if block_memory else frozenset()
    graph = _Graph(program.instrs, math.inf, blocks, family)
    least = graph.least_latency()
    if least > latency_cycles:
        raise InputError(f"latency must be {least} or more with block memory, not {latency_cycles}")
    low, high = max(graph.costs), sum(graph.costs) + (BLOCK_NS if blocks else 0.0)
    while high - low > RESOLUTION_NS:
        graph.budget_ns = (low + high) / 2
        fits = graph.least_latency() <= latency_cycles
        low, high = (low, graph.budget_ns) if fits else (graph.budget_ns, high)
    graph.budget_ns = high
    return graph.schedule(latency_cycles)


def check_clock(fmax_mhz: float) -> None:
    """Refuse clocks that make no sense.

    Raises:
        InputError: ``fmax_mhz`` is not within (0, 2000].
    """
    if not 0 < fmax_mhz <= MAX_MHZ:
        raise InputError(f"fmax must be above 0 and at most {MAX_MHZ:g} MHz, not {fmax_mhz!r}")


def block_tables(program: Program) -> frozenset[int]:
    """The look-ups whose tables are large enough for a block memory."""
    return frozenset(
        index
        for index, instr in enumerate(program.instrs)
        if instr.op is Op.LOOKUP
        and not is_constant(instr)
        and len(program.tables[instr.params[0]]) >= MIN_BLOCK_ENTRIES
    )


class _Graph:
    """The instructions with what they read and how long they take, against one period's budget."""

    def __init__(
        self, instrs: Sequence[Instr], budget_ns: float, blocks: frozenset[int], family: str
    ) -> None:
        self.instrs = instrs
        self.reads = reads(instrs)
        self.blocks = blocks
        self.costs = [
            BLOCK_SETUP_NS if index in blocks else delay_ns(instrs, index, family)
            for index in range(len(instrs))
        ]
        self.register_ns = register_ns(family)
        self.budget_ns = budget_ns
        self._behind_block = int(len(instrs) - 1 in blocks)
        self._readers: list[list[int]] = [[] for _ in instrs]
        for index, arguments in enumerate(self.reads):
            for arg in arguments:
                self._readers[arg].append(index)

    def schedule(self, latency: int) -> Schedule:
        """The earliest stages, moved within a latency that they fit to where registers are fewest."""
        stages = self.fewer_registers(self.earliest(), latency)
        assert stages[-1] + self._behind_block < latency, "a result must come from a register"
        bits = self.register_bits(stages, latency)
        slowest = max(*self.arrivals(stages), BLOCK_NS if self.blocks else 0.0)
        return Schedule(tuple(stages), latency, bits, slowest + self.register_ns, self.blocks)

    def least_latency(self) -> int:
        """Registers of the earliest stages; a block memory at the end has one more behind its own."""
        return self.earliest()[-1] + 1 + self._behind_block

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
        return sum(self._bits_of(index, stages, latency) for index in range(len(self.instrs)))

    def _bits_of(self, index: int, stages: Sequence[int], latency: int) -> int:
        """Flip-flops that carry one wire."""
        instr, own = self.instrs[index], stages[index]
        if is_constant(instr):
            return 0
        is_result = index == len(self.instrs) - 1
        last = latency if is_result else max((stages[r] for r in self._readers[index]), default=own)
        return instr.width * (last - own - (index in self.blocks)) if last > own else 0

    def fewer_registers(self, stages: list[int], latency: int) -> list[int]:
        """Move single operations by whole stages, last to first and back, while register bits fall."""
        best, end = list(stages), len(self.instrs) - 1
        improved = latency > 1
        while improved:
            improved = False
            order = range(end, 0, -1)
            for index, step in [(i, 1) for i in order] + [(i, -1) for i in reversed(order)]:
                latest = latency - 1 - (self._behind_block if index == end else 0)
                if not 0 <= best[index] + step <= latest:
                    continue
                touched = {index, *self.reads[index]}  # whose registers a move changes
                before = sum(self._bits_of(i, best, latency) for i in touched)
                best[index] += step
                if sum(self._bits_of(i, best, latency) for i in touched) < before and self.fits(best):
                    improved = True
                else:
                    best[index] -= step
        return best
