"""``normforge evolve`` and ``python -m gp.evolve``: the arguments, and what they start."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sw.arguments import ArgumentParser, add_run_arguments, guarded
from sw.config import EvolveConfig, UnitConfig
from sw.config.checks import CHOICES
from sw.ir.errors import InputError
from sw.stage import open_run, report_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run's arguments, and those of ``--pairs``, which needs no run."""
    add_run_arguments(parser, config_optional=True)
    default, unit = EvolveConfig(), UnitConfig()
    parser.epilog = "Defaults are those without a CONFIG, with --pairs."
    parser.add_argument("--pairs", type=Path, metavar="FILE.npz", help="<site>_x and <site>_y arrays")
    parser.add_argument("-o", dest="folder", type=Path, metavar="DIR", help="where results go (with --pairs)")
    parser.add_argument("--in", dest="input", metavar="FORMAT", help="input format, such as s16.11")
    parser.add_argument("--out", dest="output", metavar="FORMAT", help="output format, such as s8.5")
    parser.add_argument(
        "--in-width", type=int, metavar="BITS", help=f"instead of --in (default: {unit.in_width})"
    )
    parser.add_argument(
        "--out-width", type=int, metavar="BITS", help=f"instead of --out (default: {unit.out_width})"
    )
    parser.add_argument(
        "--generations", type=int, metavar="N", help=f"of a search, at most (default: {default.generations})"
    )
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="wall-clock cap of a site (default: none)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="worker processes (default: 0, one a core)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="dask scheduler whose workers do the tasks")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help=f"independent searches a site (default: {default.seeds})"
    )
    for name, text in (
        ("price", "what functions are charged for"),
        ("weights", "count pairs by <site>_w"),
        ("affine", "what can fold behind f"),
    ):
        stated = f"{text} (default: {getattr(default, name)})"
        parser.add_argument(f"--{name}", choices=CHOICES[f"evolve.{name}"], help=stated)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--choose",
        choices=[rule for rule in CHOICES["evolve.choose"] if rule not in ("budget", "ratio")],
        help=f"which point of the front (default: {default.choose})",
    )
    choice.add_argument(
        "--price-budget",
        type=float,
        metavar="PRICE",
        help="the most accurate function within a price, in LUT6 or what --price counts",
    )
    choice.add_argument(
        "--ratio",
        type=float,
        metavar="SHARE",
        help="the cheapest function at a share of the ceiling, such as 0.99",
    )


def evolve(args: argparse.Namespace, run_stage: Callable[[argparse.Namespace], int]) -> int:
    """Evolve for a run, by ``run_stage``, or for pairs.

    Raises:
        InputError: Not exactly one of CONFIG and ``--pairs``, or options that do not go with it.
    """
    if (args.pairs is None) == (args.config is None):
        raise InputError("evolve must be given either a CONFIG or --pairs FILE.npz")
    if args.pairs is not None:
        return _evolve_pairs(args)
    alone = {
        **{"-o": args.folder, "--in": args.input, "--out": args.output},
        **{"--in-width": args.in_width, "--out-width": args.out_width},
    }
    for option, value in alone.items():
        if value is not None:
            raise InputError(f"{option} must come with --pairs; a run takes formats from its configuration")
    args.overrides += [f"evolve.{key}={value}" for key, value in _settings(args).items()]
    return run_stage(args)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The keys of the section ``evolve`` that options set."""
    given = {
        "generations": args.generations,
        "budget_s": args.budget,
        "jobs": args.jobs,
        "scheduler": args.scheduler,
        "seeds": args.seeds,
        "price": args.price,
        "weights": args.weights,
        "affine": args.affine,
        "choose": args.choose,
        "price_budget": args.price_budget,
        "ratio": args.ratio,
    }
    if args.price_budget is not None:
        given["choose"] = "budget"
    if args.ratio is not None:
        given["choose"] = "ratio"
    return {key: value for key, value in given.items() if value is not None}


def _evolve_pairs(args: argparse.Namespace) -> int:
    from gp.evolve import evolve_pairs

    if args.folder is None:
        raise InputError("evolve --pairs must be given a folder for its results, -o DIR")
    if args.overrides:
        raise InputError("--set must come with a CONFIG; evolve --pairs has options of its own")
    for side, format, width in (("in", args.input, args.in_width), ("out", args.output, args.out_width)):
        if format is not None and width is not None:
            raise InputError(
                f"--{side}-width {width} must not come with --{side} {format}, which has a width"
            )
    run = evolve_pairs(
        args.pairs,
        args.folder,
        input=args.input,
        output=args.output,
        in_width=args.in_width,
        out_width=args.out_width,
        seed=args.seed or 0,
        force=args.force,
        **_settings(args),
    )
    for site, entry in run.read_functions().items():
        fit = f"R2 {entry['r2_fixed']:.4f} ({100 * entry['ratio']:.1f} % of the ceiling)"
        cost = f"{entry['realization']}, about {entry['price_lut6']:.0f} LUT6"
        print(f"{site}: {entry['expression']}  {fit}  {cost}")
    print(f"functions: {run.functions}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The script: what ``normforge evolve`` does, without its ``--missing``."""
    from gp.evolve import STAGE

    parser = ArgumentParser(description=STAGE.help)
    add_arguments(parser)
    args = parser.parse_args(argv)

    def run_stage(args: argparse.Namespace) -> int:
        return report_run(STAGE, open_run(args), force=args.force)

    return guarded(lambda: evolve(args, run_stage), debug=args.debug)
