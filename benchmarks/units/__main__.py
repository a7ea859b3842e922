"""``make bench-units``: our units beside published figures and da4ml, into ``units.md``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.units.measure import measure
from benchmarks.units.plan import (
    FUNCTIONS,
    QUICK_FUNCTIONS,
    QUICK_WIDTHS,
    WIDTHS,
    Plan,
    read_widths,
    two_digit_constants,
)
from benchmarks.units.summary import checks, summarise
from benchmarks.units.tables import document
from sw.files import write_json, write_text
from sw.ir.errors import InputError


def write(plan: Plan, out: Path) -> None:
    """Measure, and write ``units.md`` and ``units.json`` into a folder."""
    results = measure(plan)
    write_json(out / "units.json", summarise(results) | {"checks": checks(results)})
    write_text(out / "units.md", document(results, plan))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", type=_names, metavar="A,B", help=f"of {', '.join(FUNCTIONS)}")
    parser.add_argument("--widths", metavar="I->O,...", help="input and output bits, such as '6->6,12->8'")
    parser.add_argument("--seeds", type=int, default=5, help="of place and route, the median counts")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time, each in a process of its own")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    parser.add_argument("--cache", type=Path, default=Path("build/units_bench"))
    parser.add_argument("--quick", action="store_true", help="two functions, two widths, a few clips")
    args = parser.parse_args(argv)
    constants = tuple(two_digit_constants())
    try:
        plan = Plan(
            functions=args.functions or (QUICK_FUNCTIONS if args.quick else tuple(FUNCTIONS)),
            widths=read_widths(args.widths) if args.widths else QUICK_WIDTHS if args.quick else WIDTHS,
            seeds=args.seeds,
            jobs=args.jobs,
            clip_constants=constants[::10] if args.quick else constants,
            cache=args.cache.resolve(),
        )
        write(plan, args.out)
    except InputError as error:
        print(f"unit bench: {error}", file=sys.stderr)
        return 2
    print((args.out / "units.md").read_text())
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    raise SystemExit(main())
