"""A hardware unit from a formula: what ``normforge compile`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hw.emit import emit_unit
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import Realization, candidates, cheapest, realize
from sw.ir.realize.target import Target


def compile_formula(
    formula: str,
    *,
    input: str,
    output: str,
    folder: Path,
    name: str = "unit",
    kind: str = "auto",
    faithful: bool = False,
    lanes: int = 1,
    fmax_mhz: float = 200.0,
) -> tuple[dict[str, Any], list[Realization]]:
    """Write a unit for ``formula`` into ``folder``; nothing is written if anything is wrong.

    Args:
        formula: In ``x``, as ``sw.ir.parse`` reads it.
        input: Format of the input code, such as ``s16.11``.
        output: Format of the output code.
        folder: Where ``<name>.v``, ``<name>.json`` and ``<name>.table.npy`` go.
        name: Name of the unit.
        kind: Kind of realisation, or ``auto`` for the cheapest.
        faithful: Allow one output code of difference from the correctly rounded function.
        lanes: Elements a beat.
        fmax_mhz: Clock for which registers are placed.

    Returns:
        What ``<name>.json`` says, and every realisation that applies, the written one first.

    Raises:
        InputError: Bad formula, format, kind, lanes, clock, name or folder.
    """
    expr = parse(formula)
    formats = FixedFormat.parse(input), FixedFormat.parse(output)
    target = Target.of(expr, *formats, max_ulp=int(faithful))
    found = candidates(target)
    chosen = (
        cheapest(found, target)
        if kind == "auto"
        else realize(expr, *formats, kind=kind, max_ulp=int(faithful))
    )
    body = emit_unit(
        chosen.program,
        name=name,
        folder=folder,
        expression=str(expr),
        realization=chosen.kind,
        max_ulp=chosen.max_ulp,
        lanes=lanes,
        fmax_mhz=fmax_mhz,
    )
    return body, [chosen, *(r for r in found if r.kind != chosen.kind)]


if __name__ == "__main__":
    from hw.command import main

    raise SystemExit(main())
