"""A hardware unit from a formula: what ``normforge compile`` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hw.emit import emit_unit
from sw.ir import interpret
from sw.ir.design import Design, designs
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.parse import parse
from sw.ir.pipelining import DEFAULT, Pipelining
from sw.ir.realize import no_realization
from sw.ir.realize.reachable import easier, reachable_codes
from sw.ir.realize.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What unit is wanted.

    Args:
        formula: In ``x``, as ``sw.ir.parse`` reads it.
        input: Format of the input code, such as ``s16.11``.
        output: Format of the output code.
        name: Name of the unit.
        kind: Kind of realisation, or ``auto`` for the best by the objective.
        objective: A key of ``sw.ir.design.OBJECTIVES``.
        faithful: Allow one output code of difference from the correctly rounded function.
        reachable: Input codes (integers) or values (floats) that occur; None: all do.
        lanes: Elements a beat.
        pipelining: Where registers go.
    """

    formula: str
    input: str
    output: str
    name: str = "unit"
    kind: str = "auto"
    objective: str = "lut"
    faithful: bool = False
    reachable: np.ndarray | None = None
    lanes: int = 1
    pipelining: Pipelining = DEFAULT

    def target(self) -> Target:
        """The function at its formats.

        Raises:
            InputError: Bad formula or format.
        """
        formats = FixedFormat.parse(self.input), FixedFormat.parse(self.output)
        return Target.of(parse(self.formula), *formats, max_ulp=int(self.faithful))

    def codes(self, target: Target) -> IntArray | None:
        """The reachable codes; None: all.

        Raises:
            InputError: They are none of the input's.
        """
        return None if self.reachable is None else reachable_codes(self.reachable, target.input)


def compile_formula(order: Order, folder: Path) -> tuple[dict[str, Any], list[Design]]:
    """Write a unit into ``folder``; nothing is written if anything is wrong.

    Returns:
        What ``<name>.json`` says, and every design that applies, the written one first.

    Raises:
        InputError: Bad formula, format, kind, objective, codes, lanes, clock, latency, name or folder.
    """
    target = order.target()
    codes = order.codes(target)
    found = all_designs(order, target, codes)
    if not found or (order.kind == "auto" and found[0].realization.max_ulp > target.max_ulp):
        raise InputError(no_realization(target))
    return write_design(order, target, codes, found[0], folder), found


def all_designs(order: Order, target: Target, codes: IntArray | None) -> list[Design]:
    """Every design for an order, the best first; of a kind of realisation the best one only."""
    targets = [target] if codes is None else easier(target, codes)
    kind = "auto" if order.kind == "all" else order.kind
    found: dict[str, Design] = {}
    for design in designs(targets, order.pipelining, objective=order.objective, kind=kind):
        found.setdefault(design.realization.kind, design)
    return list(found.values())


def write_design(
    order: Order, target: Target, codes: IntArray | None, design: Design, folder: Path
) -> dict[str, Any]:
    """Write a design as a unit.

    ``max_ulp`` of its JSON is that on the reachable codes, which ``reachable`` then describes.
    """
    table = interpret.table(design.program)
    checked = slice(None) if codes is None else codes - target.input.min_raw
    max_ulp = int(np.abs(table - target.map)[checked].max())
    return emit_unit(
        design.program,
        name=order.name,
        folder=folder,
        expression=str(target.expr),
        realization=design.realization.kind,
        max_ulp=max_ulp,
        lanes=order.lanes,
        schedule=design.schedule,
        reachable=codes,
    )


if __name__ == "__main__":
    from hw.command import main

    raise SystemExit(main())
