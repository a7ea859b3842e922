"""``normforge compile`` and ``python -m hw.compile``: the arguments, and what they start."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sw.ir.parse import FUNCTIONS
from sw.ir.realize import KINDS
from sw.stage import guarded

DESCRIPTION = "a hardware unit from a formula"
EPILOG = f"""A formula is arithmetic over x with + - * / ** and {", ".join(FUNCTIONS)}; clip(e) limits to
[-5, 5], clip(e, lo, hi) to constants. Formats: s16.11 is signed, 16 bits, 11 after the binary point.
Kinds: {", ".join(KINDS)}."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``compile``."""
    parser.epilog = EPILOG
    parser.add_argument("formula", metavar="FORMULA", help="such as '0.54*clip(2.98*x)'")
    parser.add_argument("--in", dest="input", required=True, metavar="FORMAT", help="such as s16.11")
    parser.add_argument("--out", dest="output", required=True, metavar="FORMAT", help="such as s8.5")
    parser.add_argument("--realize", default="auto", metavar="KIND", help="kind of realisation")
    parser.add_argument("--faithful", action="store_true", help="allow one unit in the last place")
    parser.add_argument("--lanes", type=int, default=1, metavar="N", help="elements a beat")
    parser.add_argument("--fmax", type=float, default=200.0, metavar="MHZ", help="target clock")
    parser.add_argument("--name", default="unit", help="name of the unit and of its files")
    parser.add_argument("-o", dest="folder", type=Path, required=True, metavar="DIR")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")


def compile_unit(args: argparse.Namespace) -> int:
    """Write the unit and print every realisation that there was to choose from, in rising price."""
    from hw.compile import compile_formula

    unit, (chosen, *others) = compile_formula(
        args.formula,
        input=args.input,
        output=args.output,
        folder=args.folder,
        name=args.name,
        kind=args.realize,
        faithful=args.faithful,
        lanes=args.lanes,
        fmax_mhz=args.fmax,
    )
    for r in sorted([chosen, *others], key=lambda r: r.lut6):
        mark = "->" if r is chosen else "  "
        off = "exact" if r.max_ulp == 0 else f"{r.max_ulp} ulp off"
        print(f"{mark} {r.kind:<11} {off:<12} about {r.lut6:4.0f} LUT6 a lane")
    if chosen.max_ulp > int(args.faithful):
        print(f"note: this unit is up to {chosen.max_ulp} output codes off the function", file=sys.stderr)
    latency = unit["latency_cycles"]
    print(f"{args.folder / unit['verilog']}: top {unit['top']}, latency {latency} cycles, one beat a cycle")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The script: what ``normforge compile`` does."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    add_arguments(parser)
    args = parser.parse_args(argv)
    return guarded(lambda: compile_unit(args), debug=args.debug)
