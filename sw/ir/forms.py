"""Which instructions of a Program are wires rather than logic, and what each one really reads."""

from __future__ import annotations

from collections.abc import Sequence

from sw.ir.program import Instr, Op


def is_constant(instr: Instr) -> bool:
    """Whether a wire only ever has one value: it needs no logic and no register."""
    return instr.lo == instr.hi


def complements(instrs: Sequence[Instr], index: int) -> bool:
    """Whether an instruction is -1 - a: all bits of a inverted, which the logic behind it absorbs."""
    instr = instrs[index]
    return instr.op is Op.SUB and (instrs[instr.args[0]].lo, instrs[instr.args[0]].hi) == (-1, -1)


def reads_sign(instr: Instr, args: Sequence[Instr]) -> bool:
    """Whether an instruction is ``a < 0``: one bit of a."""
    return instr.op is Op.LT and (args[1].lo, args[1].hi) == (0, 0)


def limits_to_bits(clamp: Instr) -> bool:
    """Whether a clamp's limits are those of so many bits: the upper bits decide, without a comparison."""
    return clamp.hi & (clamp.hi + 1) == 0 and clamp.lo in (0, ~clamp.hi)


def joined(instrs: Sequence[Instr], index: int) -> tuple[int, int] | None:
    """(upper, lower) where ``add(shl(a, n), b)``, n > 0, b in [0, 2^n), only puts bits side by side.

    None elsewhere.
    Synthesis tools see an adder there and spend its carry chain.
    """
    instr = instrs[index]
    if instr.op is Op.ADD and not is_constant(instr):
        for upper, lower in (instr.args, instr.args[::-1]):
            shifted, low = instrs[upper], instrs[lower]
            if shifted.op is Op.SHL and low.lo >= 0 and low.hi < 1 << shifted.params[0] != 1:
                return upper, lower
    return None


def reads(instrs: Sequence[Instr]) -> list[tuple[int, ...]]:
    """The wires, constants left out, that each instruction reads; none for one that nobody needs."""
    found: list[tuple[int, ...]] = [()] * len(instrs)
    needed = {len(instrs) - 1}
    for index in range(len(instrs) - 1, -1, -1):
        if index in needed and not is_constant(instrs[index]):
            found[index] = tuple(a for a in instrs[index].args if not is_constant(instrs[a]))
            needed.update(found[index])
    return found
