"""The cheapest of many ways to realise a map, the most hopeful ones first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from sw.ir.price import lut6
from sw.ir.program import Program


class Option(Protocol):
    """A way to realise a map; options compare by the fewest LUTs to hope for."""

    @property
    def estimate(self) -> float:
        """LUT6 below which its program cannot be."""

    def __lt__(self, other: Any, /) -> bool: ...

    def program(self, limit: float) -> Program | None:
        """The program; None if there is none, or plainly none that costs less than ``limit`` LUT6."""


def cheapest(options: Iterable[Option], limit: float) -> Program | None:
    """The cheapest program of all options; None if none costs less than ``limit`` LUT6."""
    best: Program | None = None
    for option in sorted(options):
        if option.estimate >= limit:
            break
        program = option.program(limit)
        if program is not None and lut6(program) < limit:
            best, limit = program, lut6(program)
    return best
