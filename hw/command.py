"""``normforge compile`` and ``python -m hw.compile``: the arguments, and what they start."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw import vendor
from sw.arguments import ArgumentParser, add_debug, guarded
from sw.files import read_npy
from sw.ir.delays import DELAYS
from sw.ir.design import OBJECTIVES, Design
from sw.ir.formats import EXHAUSTIVE_BITS, FixedFormat
from sw.ir.parse import FUNCTIONS, parse
from sw.ir.pipelining import DEFAULT_MHZ, Pipelining
from sw.ir.realize import KINDS
from sw.ir.refmap import saturated_share
from sw.terminal import table_console

if TYPE_CHECKING:
    from hw.compile import Order

DESCRIPTION = "a hardware unit from a formula"
EPILOG = f"""A formula is arithmetic over x with + - * / ** and {", ".join(FUNCTIONS)}; clip(e) limits to
[-5, 5], clip(e, lo, hi) to constants. Formats: s16.11 is signed, 16 bits, 11 after the binary point.
Kinds: {", ".join(KINDS)}."""
MISSED_CLOCK = 3
"""Exit status."""
MOSTLY = 0.9
"""A share of saturated codes that is seldom meant."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``compile``."""
    parser.epilog = EPILOG
    parser.add_argument("formula", metavar="FORMULA", help="such as '0.54*clip(2.98*x)'")
    parser.add_argument("--in", dest="input", required=True, metavar="FORMAT", help="such as s16.11")
    parser.add_argument("--out", dest="output", required=True, metavar="FORMAT", help="such as s8.5")
    parser.add_argument(
        "--realize",
        default="auto",
        metavar="KIND",
        help="kind of realisation (default: auto, the best of them), or all: synthesize every one",
    )
    parser.add_argument(
        "--objective",
        default="lut",
        metavar="AIM",
        help=f"what is to be best: {', '.join(OBJECTIVES)} (default: lut)",
    )
    parser.add_argument("--faithful", action="store_true", help="allow one unit in the last place")
    parser.add_argument(
        "--reachable", type=Path, metavar="FILE.npy", help="input codes, or values of x, that occur at all"
    )
    parser.add_argument("--lanes", type=int, default=1, metavar="N", help="elements a beat (default: 1)")
    parser.add_argument(
        "--fmax",
        type=float,
        metavar="MHZ",
        help=f"target clock (default: {DEFAULT_MHZ:g}); one asked for and missed ends with status 3",
    )
    parser.add_argument(
        "--latency", type=int, metavar="CYCLES", help="register stages; with --fmax both are kept"
    )
    parser.add_argument(
        "--family",
        default="ecp5",
        help=f"whose delays count (LUTs are xc7's): {', '.join(DELAYS)} (default: ecp5)",
    )
    parser.add_argument("--name", default="unit", help="name of the unit and of its files (default: unit)")
    vendor.add_arguments(parser)
    parser.add_argument(
        "-o", dest="folder", type=Path, required=True, metavar="DIR", help="where its files go"
    )
    add_debug(parser)


def compile_unit(args: argparse.Namespace) -> int:
    """Write the unit and print every realisation that there was to choose from, the best first."""
    from hw.compare import comparison_table, measure_designs
    from hw.compile import compile_formula

    order = _order(args)
    fmax_mhz = order.pipelining.clock_mhz
    vendor.check_arguments(args, fmax_mhz)
    unit, found = compile_formula(order, args.folder)
    if args.realize == "all":
        measured = measure_designs(order, found, args.folder)
        table_console().print(comparison_table(found, measured))
    else:
        for number, design in enumerate(found):
            print(("   " if number else "-> ") + _line(design))
    _remark(args, unit)
    vendor.write_asked(args, args.folder, unit, fmax_mhz)
    is_aim = args.fmax is not None or (args.latency is None and args.objective != "fmax")
    return _judge_clock(args, 1000 / found[0].schedule.period_ns, fmax_mhz) if is_aim else 0


def _judge_clock(args: argparse.Namespace, predicted_mhz: float, fmax_mhz: float) -> int:
    """The exit status: a clock that was asked for and is missed is a failure, though the unit is there."""
    if predicted_mhz >= fmax_mhz:
        return 0
    text = f"the delay model of {args.family} gives {predicted_mhz:.0f} MHz, not "
    if args.fmax is None:
        print(f"note: {text}{fmax_mhz:g} MHz", file=sys.stderr)
        return 0
    print(f"normforge: {text}the {fmax_mhz:g} MHz asked for; the unit was written", file=sys.stderr)
    return MISSED_CLOCK


def _order(args: argparse.Namespace) -> Order:
    from hw.compile import Order

    return Order(
        formula=args.formula,
        input=args.input,
        output=args.output,
        name=args.name,
        kind=args.realize,
        objective=args.objective,
        faithful=args.faithful,
        reachable=None if args.reachable is None else read_npy(args.reachable),
        lanes=args.lanes,
        pipelining=Pipelining(args.fmax, args.latency, args.family),
    )


def _line(design: Design) -> str:
    off = design.realization.max_ulp
    exact = "exact" if off == 0 else f"{off} ulp off"
    blocks = f", {design.num_blocks} block memories" if design.num_blocks else ""
    clock = 1000 / design.schedule.period_ns
    return (
        f"{design.realization.kind:<11} {exact:<12} about {design.lut6:4.0f} LUT6 a lane{blocks}, "
        f"{design.schedule.latency_cycles} cycles, {clock:.0f} MHz"
    )


def _remark(args: argparse.Namespace, unit: dict[str, Any]) -> None:
    """What the unit is, where it is not equal to the function, and what its formats do to it."""
    input, output = FixedFormat.parse(unit["input"]), FixedFormat.parse(unit["output"])
    share = saturated_share(parse(args.formula), input, output)
    if share >= MOSTLY:
        print(
            f"note: the function is beyond the range of {output} at {100 * share:.1f} % of the input codes, "
            "where the unit saturates; fewer bits after the point hold larger values",
            file=sys.stderr,
        )
    if input.width > EXHAUSTIVE_BITS:
        print(
            f"note: of {1 << input.width} input codes verify simulates {1 << EXHAUSTIVE_BITS} at random and "
            "the corners; the program was compared with the function at all of them",
            file=sys.stderr,
        )
    if unit["max_ulp"] > int(args.faithful):
        print(f"note: this unit is up to {unit['max_ulp']} output codes off the function", file=sys.stderr)
    if "reachable" in unit:
        codes = unit["reachable"]
        print(
            f"note: this holds at the {codes['codes']} reachable of {codes['of']} input codes; elsewhere the "
            "unit gives other values",
            file=sys.stderr,
        )
    latency = unit["latency_cycles"]
    print(f"{args.folder / unit['verilog']}: top {unit['top']}, latency {latency} cycles, one beat a cycle")


def main(argv: Sequence[str] | None = None) -> int:
    """The script: what ``normforge compile`` does."""
    parser = ArgumentParser(description=DESCRIPTION)
    add_arguments(parser)
    args = parser.parse_args(argv)
    return guarded(lambda: compile_unit(args), debug=args.debug)
