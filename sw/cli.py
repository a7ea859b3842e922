"""The command line: ``normforge``, one sub-command a stage, and those that need no run."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import gp.command
import hw.command
import hw.norm_command
import hw.vendor
from sw.config import without_run
from sw.ir.errors import InputError
from sw.run_dir import RunDir, read_json
from sw.stage import ArgumentParser, Stage, add_run_arguments, guarded, open_run, read_config, report_run

STAGES: dict[str, str] = {
    "train": "sw.model.original",
    "capture": "sw.model.capture",
    "evolve": "gp.evolve",
    "align": "sw.model.align",
    "quantize": "sw.model.quantize",
    "export": "sw.model.export",
    "hdl": "hw.emit",
    "verify": "sim_tb.verify",
    "synth": "hw.synth",
    "rivals": "hw.rivals",
    "report": "sw.report.summary",
}
"""Every stage's module, in the order of a run. A module is imported when its stage is."""

LAST_ACCURACY_STAGE = "export"
"""A further seed of a run repeats everything up to here: all that an accuracy depends on."""


def stage(name: str) -> Stage:
    """The stage object of a sub-command."""
    found: Stage = importlib.import_module(STAGES[name]).STAGE
    return found


_FORMULA = re.compile(r"-[\d.(]|-x\b|-[a-z]+\(")
"""An argument that starts like a negative formula, not like an option."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0: done; 1: a verification failed; 2: bad input, said in one line; 3: done, but a clock that was asked
    for is missed; 130: interrupted; 141: the reader of the output went away. Arguments that argparse
    refuses end the process, with status 2 and one line, too.
    """
    words = sys.argv[1:] if argv is None else argv
    # argparse takes a word with a space in it for an argument, whatever it starts with.
    args = _parser().parse_args([f" {word}" if _FORMULA.match(word) else word for word in words])
    return guarded(lambda: int(args.action(args)), debug=args.debug)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="normforge",
        description="From a pre-trained Vision Transformer to verified Verilog without LayerNorm.",
    )
    parser.add_argument("--version", action="version", version=f"normforge {metadata.version('normforge')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_run(commands)
    for name in STAGES:
        command = commands.add_parser(name, help=f"run the stage '{name}' of CONFIG")
        if name == "evolve":
            gp.command.add_arguments(command)
            command.set_defaults(action=lambda args: gp.command.evolve(args, _one_stage))
        else:
            add_run_arguments(command, config_optional=name == "verify")
            command.set_defaults(
                action={"hdl": _hdl, "verify": _verify, "synth": _synth}.get(name, _one_stage)
            )
        if name == "synth":
            command.description = "CONFIG may also be the JSON of a unit or of a manifest."
        if name == "hdl":
            hw.vendor.add_arguments(command)
        if name == "verify":
            _add_verify(command)
        command.add_argument(
            "--missing", action="store_true", help="first run earlier stages that are missing or out of date"
        )
    compiling = commands.add_parser("compile", help=hw.command.DESCRIPTION)
    hw.command.add_arguments(compiling)
    compiling.set_defaults(action=hw.command.compile_unit)
    comparing = commands.add_parser("compare", help="two finished runs next to each other")
    comparing.add_argument("runs", nargs=2, metavar="RUN", type=Path, help="folder of a finished run")
    comparing.add_argument("-o", dest="page", metavar="FILE.html", type=Path, help="write a page, too")
    comparing.set_defaults(action=_compare, debug=False)
    norm = commands.add_parser("norm", help=hw.norm_command.DESCRIPTION)
    hw.norm_command.add_arguments(norm)
    norm.set_defaults(action=hw.norm_command.emit)
    doctor = commands.add_parser("doctor", help="what is installed, what is missing, and how to get it")
    doctor.set_defaults(action=_doctor, debug=False)
    return parser


def _add_run(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    command = commands.add_parser("run", help="run all stages of CONFIG")
    add_run_arguments(command)
    command.add_argument("--until", choices=list(STAGES), default="report", help="last stage to run")
    command.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="repeat the accuracy stages with N seeds"
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="two steps of every stage with random weights on noise, and the hours that the run would take",
    )
    command.add_argument(
        "--images",
        nargs=2,
        type=int,
        metavar=("TRAIN", "TEST"),
        help="images of the whole run for --dry-run (default: ImageNet's 1281167 and 50000)",
    )
    command.set_defaults(action=_run)


def _add_verify(command: argparse.ArgumentParser) -> None:
    command.description = "CONFIG may also be the JSON of a unit, of a norm or of a manifest."
    command.add_argument("--waves", action="store_true", help="record a waveform of each unit")
    command.add_argument(
        "--certificate", metavar="FILE", nargs="+", help="check certificates from scratch, no CONFIG"
    )
    command.add_argument("--rows", type=int, metavar="N", help="random rows for a norm (default: 1000)")
    command.add_argument(
        "--tokens", metavar="FILE.npy", help="rows of a norm's input, real ones: codes or values"
    )


def _hdl(args: argparse.Namespace) -> int:
    """The stage, and the vendor's project of the run's top where one is asked for."""
    run = open_run(args)
    hw.vendor.check_arguments(args, run.config.unit.fmax_mhz)
    status = _one_stage(args)
    if args.vendor is not None:
        hw.vendor.write_asked(args, run.hdl, read_json(run.hdl / "top.json"), run.config.unit.fmax_mhz)
    return status


def _verify(args: argparse.Namespace) -> int:
    """The stage, or units of a manifest, of ``compile`` or of ``norm`` by their JSON, or certificates."""
    from sim_tb.request import waves_asked
    from sim_tb.verify import main as verify_units

    debug = ["--debug"] if args.debug else []
    if (args.config is None) == (args.certificate is None):
        raise InputError("verify must be given either a CONFIG, a unit's JSON or --certificate FILE")
    if args.certificate:
        _refuse(args, (*_OF_RUNS, *_OF_NORMS, "seed", "waves"), "be left out beside --certificate")
        return verify_units(["--certificate", *args.certificate, *debug])
    if args.waves:
        os.environ["WAVES"] = "1"  # as the simulator wants it
    options = {name: getattr(args, name) for name in ("rows", "tokens", "seed")}
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    if Path(args.config).suffix == ".json":
        _refuse(args, _OF_RUNS, f"come with the CONFIG of a run, not with '{args.config}'")
        return verify_units([args.config, *given, *debug])
    _refuse(args, _OF_NORMS, f"come with the JSON of a norm, not with '{args.config}'")
    args.force |= waves_asked()
    return _one_stage(args)


def _synth(args: argparse.Namespace) -> int:
    """The stage, or units of a manifest or of ``compile`` by their JSON."""
    if Path(args.config).suffix != ".json":
        return _one_stage(args)
    from hw.synth import synthesize_files

    _refuse(args, ("seed", "force", "missing"), f"come with the CONFIG of a run, not with '{args.config}'")
    synthesize_files(Path(args.config), without_run(tuple(args.overrides)))
    return 0


_OF_RUNS, _OF_NORMS = ("overrides", "force", "missing"), ("rows", "tokens")
"""Arguments of ``verify`` that only a run's verification takes, and only a norm's."""


def _refuse(args: argparse.Namespace, names: Sequence[str], rule: str) -> None:
    """Refuse options that would do nothing."""
    for name in names:
        value = getattr(args, name)
        if not (value is None or value is False or value == []):  # 0 is a value
            option = "set" if name == "overrides" else name
            raise InputError(f"--{option} must {rule}")


def _one_stage(args: argparse.Namespace) -> int:
    asked, run = stage(args.command), open_run(args)
    if args.missing:
        for name in _before(args.command):
            # A generated file that somebody changed must reach the stage as it is.
            if stage(name).is_stale(run):
                report_run(stage(name), run)
    return report_run(asked, run, force=args.force)


def _before(name: str) -> list[str]:
    """The stages that a stage builds on; nothing needs an export, and synthesis no simulation."""
    earlier = list(STAGES)[: list(STAGES).index(name)]
    return [e for e in earlier if e != "export" and not (name in ("synth", "rivals") and e == "verify")]


def _run(args: argparse.Namespace) -> int:
    if args.dry_run:
        return _dry_run(args)
    if args.images:
        raise InputError("--images is for --dry-run only")
    run = open_run(args)
    if args.seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {args.seeds}")
    with run.locked():
        _further_seeds(run, args.seeds, force=args.force)
        _run_until(args.until, run, force=args.force)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from sw.report.compare import print_comparison

    first, second = args.runs
    return print_comparison(first, second, args.page)


def _doctor(args: argparse.Namespace) -> int:
    from sw.doctor import doctor

    return doctor()


def _dry_run(args: argparse.Namespace) -> int:
    from sw.dry_run import IMAGENET, dry_run

    images = IMAGENET if args.images is None else tuple(args.images)
    if min(images) < 1:
        raise InputError(f"--images must be at least 1 each, not {' '.join(map(str, images))}")
    dry_run(read_config(args), stage, images)
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


if __name__ == "__main__":
    sys.exit(main())
