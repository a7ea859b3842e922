"""``make bench-accuracy``: what swap, refit, regimes and integers do to accuracy, into ``accuracy.md``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.kept import with_kept
from benchmarks.accuracy.measure import KINDS, measure
from benchmarks.accuracy.plan import BENCHMARKS, FUNCTION_SETS, REGIME_NAMES, Plan
from benchmarks.accuracy.summary import checks, identity, is_current, summarise
from benchmarks.accuracy.tables import document
from sw.files import read_json, write_json, write_text
from sw.ir.errors import InputError


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmarks", nargs="+", default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--functions", nargs="+", default=list(FUNCTION_SETS), metavar="SET")
    parser.add_argument("--regimes", nargs="+", default=list(REGIME_NAMES), metavar="REGIME")
    parser.add_argument("--seeds", type=int, default=0, help="0: as many as each benchmark says")
    parser.add_argument("--epochs", type=int, default=0, help="0: as many as each benchmark says")
    parser.add_argument("--jobs", type=int, default=2, help="runs and trainings at a time")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    parser.add_argument("--cache", type=Path, default=Path("build/accuracy_bench"))
    return parser.parse_args(argv)


def plan_of(args: argparse.Namespace) -> Plan:
    """What they ask for.

    Raises:
        InputError: As ``Plan``.
    """
    return Plan(
        benchmarks=tuple(args.benchmarks),
        functions=tuple(args.functions),
        regimes=tuple(args.regimes),
        seeds=args.seeds,
        epochs=args.epochs,
        jobs=args.jobs,
        cache=args.cache.resolve(),
        kept=args.out / "accuracy.json",
        overrides=tuple(args.overrides),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write ``accuracy.md`` and ``accuracy.json``; returns the exit status."""
    args = parsed(argv)
    try:
        plan, kept = plan_of(args), args.out / "accuracy.json"
        earlier = read_json(kept) if kept.exists() else {}
        results = measure(plan)
    except InputError as error:
        print(f"accuracy bench: {error}", file=sys.stderr)
        return 2
    whole = with_kept(results, earlier)
    body = summarise(whole)
    for kind in KINDS:  # another call may want them
        measured = {identity(entry) for entry in body[kind]}
        others = [entry for entry in earlier.get(kind, ()) if identity(entry) not in measured]
        body[kind] += [entry for entry in others if is_current(entry)]
    write_json(args.out / "accuracy.json", body | {"checks": checks(whole)})
    write_text(args.out / "accuracy.md", document(whole))
    print((args.out / "accuracy.md").read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
