"""The command line: ``normforge``, one sub-command a stage and two that stand alone."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from sw.ir.errors import InputError
from sw.run_dir import RunDir
from sw.stage import Stage, add_run_arguments, guarded, open_run, report_run

STAGES: dict[str, str] = {
    "train": "sw.model.original",
    "capture": "sw.model.capture",
    "evolve": "gp.evolve",
    "align": "sw.model.align",
    "quantize": "sw.model.quantize",
    "hdl": "hw.emit",
    "verify": "sim_tb.verify",
    "synth": "hw.synth",
    "report": "sw.report.summary",
}
"""Every stage's module, in the order of a run. A module is imported when its stage is."""

LAST_ACCURACY_STAGE = "quantize"
"""A further seed of a run repeats everything up to here: all that an accuracy depends on."""


def stage(name: str) -> Stage:
    """The stage object of a sub-command."""
    found: Stage = importlib.import_module(STAGES[name]).STAGE
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0: done; 1: a verification failed; 2: bad input, said in one line; 130: interrupted.
    """
    args = _parser().parse_args(argv)
    return guarded(lambda: int(args.action(args)), debug=args.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="normforge",
        description="From a pre-trained Vision Transformer to verified Verilog without LayerNorm.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_run(commands)
    for name in STAGES:
        if name == "evolve":
            command = _add_evolve(commands)
        else:
            command = commands.add_parser(name, help=f"run the stage '{name}' of CONFIG")
            add_run_arguments(command)
            command.set_defaults(action=_one_stage)
        command.add_argument(
            "--missing", action="store_true", help="first run earlier stages that are missing or out of date"
        )
    _add_compile(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("run", help="run all stages of CONFIG")
    add_run_arguments(command)
    command.add_argument("--until", choices=list(STAGES), default="report", help="last stage to run")
    command.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="repeat the accuracy stages with N seeds"
    )
    command.set_defaults(action=_run)


def _add_evolve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    command = commands.add_parser("evolve", help="evolve functions for CONFIG, or for anybody's pairs")
    add_run_arguments(command, config_optional=True)
    command.add_argument("--pairs", type=Path, metavar="FILE.npz", help="<site>_x and <site>_y arrays")
    command.add_argument(
        "-o", dest="folder", type=Path, metavar="DIR", help="where results go (with --pairs)"
    )
    command.add_argument("--in", dest="input", metavar="FORMAT", help="input format, such as s16.11")
    command.add_argument("--out", dest="output", metavar="FORMAT", help="output format, such as s8.5")
    command.add_argument("--in-width", type=int, default=16, metavar="BITS")
    command.add_argument("--out-width", type=int, default=8, metavar="BITS")
    command.add_argument("--generations", type=int, metavar="N", help="generations a site")
    command.add_argument("--budget", type=float, metavar="SECONDS", help="wall-clock cap a site")
    command.add_argument("--jobs", type=int, metavar="N", help="worker processes; 0: one a core")
    command.set_defaults(action=_evolve)
    return command


def _add_compile(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("compile", help="a hardware unit from a formula")
    command.add_argument("formula", metavar="FORMULA", help="such as '0.54*clip(2.98*x)'")
    command.add_argument("--in", dest="input", required=True, metavar="FORMAT", help="such as s16.11")
    command.add_argument("--out", dest="output", required=True, metavar="FORMAT", help="such as s8.5")
    command.add_argument("--realize", default="auto", metavar="KIND", help="kind of realisation")
    command.add_argument("--faithful", action="store_true", help="allow one unit in the last place")
    command.add_argument("--lanes", type=int, default=1, metavar="N", help="elements a beat")
    command.add_argument("--fmax", type=float, default=200.0, metavar="MHZ", help="target clock")
    command.add_argument("--name", default="unit", help="name of the unit and of its files")
    command.add_argument("-o", dest="folder", type=Path, required=True, metavar="DIR")
    command.add_argument("--debug", action="store_true", help="show a traceback with an error")
    command.set_defaults(action=_compile)


def _one_stage(args: argparse.Namespace) -> int:
    asked, run = stage(args.command), open_run(args)
    if args.missing:
        for name in _before(args.command):
            # A generated file that somebody changed must reach the stage as it is.
            if stage(name).is_stale(run):
                report_run(stage(name), run)
    return report_run(asked, run, force=args.force)


def _before(name: str) -> list[str]:
    """The stages that a stage builds on; synthesis needs no simulation."""
    earlier = list(STAGES)[: list(STAGES).index(name)]
    return [e for e in earlier if not (name == "synth" and e == "verify")]


def _run(args: argparse.Namespace) -> int:
    run = open_run(args)
    if args.seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {args.seeds}")
    _further_seeds(run, args.seeds, force=args.force)
    _run_until(args.until, run, force=args.force)
    return 0


def _run_until(last: str, run: RunDir, *, force: bool) -> None:
    for name in list(STAGES)[: list(STAGES).index(last) + 1]:
        report_run(stage(name), run, force=force)


def _further_seeds(run: RunDir, count: int, *, force: bool) -> None:
    """Repeat what accuracy depends on with seeds seed + 1, ... in folders of their own below the run."""
    for extra in range(1, count):
        seed = run.config.seed + extra
        config = dataclasses.replace(run.config, seed=seed, runs_dir=str(run.seeds), name=f"seed{seed}")
        print(f"seed {seed}", flush=True)
        _run_until(LAST_ACCURACY_STAGE, RunDir.create(config), force=force)


def _evolve(args: argparse.Namespace) -> int:
    if (args.pairs is None) == (args.config is None):
        raise InputError("evolve must be given either a CONFIG or --pairs FILE.npz")
    if args.pairs is None:
        alone = {"-o": args.folder, "--in": args.input, "--out": args.output}
        for option, value in alone.items():
            if value is not None:
                raise InputError(
                    f"{option} must come with --pairs; a run takes formats from its configuration"
                )
        settings = {"generations": args.generations, "budget_s": args.budget, "jobs": args.jobs}
        args.overrides += [f"evolve.{k}={v}" for k, v in settings.items() if v is not None]
        return _one_stage(args)
    if args.folder is None:
        raise InputError("evolve --pairs must be given a folder for its results, -o DIR")
    from gp.evolve import evolve_pairs

    run = evolve_pairs(
        args.pairs,
        args.folder,
        input=args.input,
        output=args.output,
        in_width=args.in_width,
        out_width=args.out_width,
        generations=args.generations,
        budget_s=args.budget or 0.0,
        seed=args.seed or 0,
        jobs=args.jobs or 0,
    )
    for site, entry in run.read_functions().items():
        share = entry["r2_fixed"] / entry["ceiling"]
        print(
            f"{site}: {entry['expression']}  R2 {entry['r2_fixed']:.4f} ({100 * share:.1f} % of the "
            f"ceiling)  {entry['realization']}, about {entry['price_lut6']:.0f} LUT6"
        )
    print(f"functions: {run.functions}")
    return 0


def _compile(args: argparse.Namespace) -> int:
    from hw.compile import compile_formula

    unit, realizations = compile_formula(
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
    for index, r in enumerate(realizations):
        mark = "->" if index == 0 else "  "
        off = "exact" if r.max_ulp == 0 else f"{r.max_ulp} ulp off"
        print(f"{mark} {r.kind:<11} {off:<12} about {r.lut6:4.0f} LUT6 a lane")
    latency = unit["latency_cycles"]
    print(f"{args.folder / unit['verilog']}: top {unit['top']}, latency {latency} cycles, one beat a cycle")
    return 0


if __name__ == "__main__":
    sys.exit(main())
