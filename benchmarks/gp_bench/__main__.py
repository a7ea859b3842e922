"""``make bench-gp``: our search against the fitted baselines and other engines, into ``gp.md``."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gp_bench.plan import PARTS, Plan, measure
from benchmarks.gp_bench.sites import FAMILIES, captured_sites
from benchmarks.gp_bench.summary import checks, summarise
from benchmarks.gp_bench.tables import document
from benchmarks.gp_engines.engines import ENGINES
from gp.baselines import FORMS
from sw.files import write_json, write_text
from sw.ir.errors import InputError

DEFAULT = tuple(name for name in ENGINES if name != "gplearn")
"""gplearn is better with Pearson's correlation as its fitness, which leaves scale and offset free."""


def write(plan: Plan, out: Path) -> None:
    """Measure, and write ``gp.md`` and ``gp.json`` into a folder."""
    body = summarise(measure(plan))
    planned = {field: value for field, value in dataclasses.asdict(plan).items() if field != "cache"}
    raw = {"plan": planned, **body, "checks": checks(body)}
    write_json(out / "gp.json", to_json(raw))
    write_text(out / "gp.md", document(body, plan))


def to_json(value: Any) -> Any:
    """Plain JSON: dataclasses as objects, tuples in keys joined, what is not finite as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {_key(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _key(key: Any) -> str:
    return ", ".join(filter(None, key)) if isinstance(key, tuple) else str(key)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/digits"), help="run directory with captures")
    parser.add_argument("--seconds", type=float, default=20.0, help="wall-clock of every engine's run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on a core of its own")
    parser.add_argument("--ablation-seconds", type=float, default=5.0, help="of search, for every variant")
    parser.add_argument("--sites", type=_names, help="comma-separated; all by default")
    parser.add_argument(
        "--engines", type=_names, default=DEFAULT, metavar="A;B", help=f"of {', '.join(ENGINES)}"
    )
    parser.add_argument("--forms", type=_names, default=(), help=f"known forms among {', '.join(FORMS)}")
    parser.add_argument(
        "--parts", type=_names, default=PARTS, help=f"beside engines and baselines, of {', '.join(PARTS)}"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    parser.add_argument("--cache", type=Path, default=Path("build/gp_bench"))
    args = parser.parse_args(argv)
    try:
        plan = Plan(
            sites=args.sites or (*captured_sites(args.run), *FAMILIES),
            run=str(args.run),
            seconds=args.seconds,
            seeds=args.seeds,
            workers=args.jobs,
            engines=args.engines,
            forms=args.forms,
            parts=args.parts,
            ablation_seconds=args.ablation_seconds,
            cache=args.cache.resolve(),
        )
        write(plan, args.out)
    except InputError as error:
        print(f"gp bench: {error}", file=sys.stderr)
        return 2
    print((args.out / "gp.md").read_text())
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.replace(";", ",").split(",") if name.strip())


if __name__ == "__main__":
    raise SystemExit(main())
