"""What the sub-commands of a run do."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import hw.vendor
from sw.config import without_run
from sw.files import read_json
from sw.ir.errors import InputError
from sw.run_dir import RunDir
from sw.stage import open_run, read_config, report_run
from sw.stages import LAST_ACCURACY_STAGE, STAGES, before, stage


def hdl(args: argparse.Namespace) -> int:
    """The stage, and the vendor's project of the run's top where one is asked for."""
    run = open_run(args)
    hw.vendor.check_arguments(args, run.config.unit.fmax_mhz)
    status = one_stage(args)
    if args.vendor is not None:
        hw.vendor.write_asked(args, run.hdl, read_json(run.hdl / "top.json"), run.config.unit.fmax_mhz)
    return status


def verify(args: argparse.Namespace) -> int:
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
    return one_stage(args)


def synth(args: argparse.Namespace) -> int:
    """The stage, or units of a manifest or of ``compile`` by their JSON."""
    if Path(args.config).suffix != ".json":
        return one_stage(args)
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


def one_stage(args: argparse.Namespace) -> int:
    """The stage that the sub-command names, and what it builds on where ``--missing`` asks for it."""
    asked, run = stage(args.command), open_run(args)
    if args.missing:
        for name in before(args.command, settled=run.config.align.inner_scale):
            # A generated file that somebody changed must reach the stage as it is.
            if stage(name).is_stale(run):
                report_run(stage(name), run)
    return report_run(asked, run, force=args.force)


def run(args: argparse.Namespace) -> int:
    """All stages, of one seed or several."""
    if args.dry_run:
        return _dry_run(args)
    if args.images:
        raise InputError("--images is for --dry-run only")
    run = open_run(args)
    if args.seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {args.seeds}")
    with run.locked():
        _further_seeds(run, args.seeds, args.until, force=args.force)
        _run_until(args.until, run, force=args.force)
    return 0


def compare(args: argparse.Namespace) -> int:
    """Two finished runs."""
    from sw.report.compare import print_comparison

    first, second = args.runs
    return print_comparison(first, second, args.page)


def doctor(args: argparse.Namespace) -> int:
    """What is installed."""
    from sw.doctor import doctor

    return doctor()


def _dry_run(args: argparse.Namespace) -> int:
    from sw.dry_run import IMAGENET, dry_run

    if args.seeds != 1 or args.until != list(STAGES)[-1] or args.force:
        raise InputError(
            "--seeds, --until and --force must be left out beside --dry-run: it is of a whole run"
        )
    images = IMAGENET if args.images is None else tuple(args.images)
    if min(images) < 1:
        raise InputError(f"--images must be at least 1 each, not {' '.join(map(str, images))}")
    dry_run(read_config(args), stage, images)
    return 0


def _run_until(last: str, run: RunDir, *, force: bool) -> None:
    for name in list(STAGES)[: list(STAGES).index(last) + 1]:
        report_run(stage(name), run, force=force)


def _further_seeds(run: RunDir, count: int, until: str, *, force: bool) -> None:
    """Repeat what accuracy depends on with seeds seed + 1, ... in folders of their own below the run."""
    last = min(until, LAST_ACCURACY_STAGE, key=list(STAGES).index)
    for extra in range(1, count):
        seed = run.config.seed + extra
        config = dataclasses.replace(run.config, seed=seed, runs_dir=str(run.seeds), name=f"seed{seed}")
        print(f"seed {seed}", flush=True)
        _run_until(last, RunDir.create(config), force=force)
