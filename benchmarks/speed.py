"""Where people wait, and what that time was cut by: ``make bench-speed``, into ``speed.md``.

Every line is measured with what makes it fast switched off and on, one after the other on one machine, since
machines differ more than the two ways do. The stages are those of ``make hdl`` and ``make report`` on digits.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.tools import YOSYS
from sw.files import read_json, write_json, write_text
from sw.stages import STAGES

PATH = Path(__file__).with_suffix(".json")
FORMULA = ("tanh(x)", "--in", "s8.5", "--out", "s8.7")
NORMFORGE = (str(Path(sys.executable).with_name("normforge")),)
_PLAIN = """\
import sys
from sim_tb import objects
from sw.cli import main
objects.install = lambda *_: {}
sys.exit(main(sys.argv[1:]))
"""
_EAGER = """\
import sys
import gp.command, hw.command, hw.norm_command, hw.vendor, sw.actions
from sw.cli import _parser, main
_parser()
sys.exit(main(sys.argv[1:]))
"""
EAGER = (sys.executable, "-c", _EAGER)
"""The command line that imports for every command what any of them needs."""
PLAIN_VERIFY = (sys.executable, "-c", _PLAIN)
"""The command line without shared objects of Verilator."""


def seconds(command: Sequence[str], cwd: Path, **environment: str) -> dict[str, float]:
    """Wall and processor seconds of a command that must succeed."""
    before, start = os.times(), time.monotonic()
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    wall, after = time.monotonic() - start, os.times()
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": round(wall, 2), "cpu": round(used, 2)}


def median(number: int, command: Sequence[str], cwd: Path) -> dict[str, float]:
    """Of so many calls."""
    found = [seconds(command, cwd) for _ in range(number)]
    return {key: statistics.median(one[key] for one in found) for key in ("wall", "cpu")}


def commands(folder: Path) -> dict[str, Any]:
    """Single commands."""
    compile = (*NORMFORGE, "compile", *FORMULA, "-o", "unit")
    kept = folder / "webassembly"
    return {
        "`normforge --help`": {
            "before": median(5, (*EAGER, "--help"), folder),
            "after": median(5, (*NORMFORGE, "--help"), folder),
        },
        "`normforge compile`, 8 bits": {
            "before": median(5, (*EAGER, *compile[1:]), folder),
            "after": median(5, compile, folder),
        },
        "Yosys, first call and next": {
            "before": seconds(_yosys(), folder, YOWASP_CACHE_DIR=str(kept)),
            "after": seconds(_yosys(), folder, YOWASP_CACHE_DIR=str(kept)),
        },
    }


def _yosys() -> tuple[str, ...]:
    return (str(YOSYS.require().path), "-q", "-p", "synth_ecp5")


def stages(folder: Path, config: Path) -> dict[str, Any]:
    """Every stage of the default run, once."""
    return {
        f"`normforge {name}`, digits": {
            "after": seconds((*NORMFORGE, name, str(config), "--set", f"runs_dir={folder}/runs"), folder)
        }
        for name in STAGES
    }


def both_ways(folder: Path, config: Path) -> dict[str, Any]:
    """Stages again, with one worker and without what units share."""
    run = (str(config), "--force", "--set", f"runs_dir={folder}/runs")

    def plain(command: Sequence[str], *clear: str, jobs: str) -> dict[str, float]:
        for name in clear:
            shutil.rmtree(folder / "runs" / "digits" / name, ignore_errors=True)
        return seconds((*command, *run, "--set", f"{jobs}=1"), folder)

    return {
        "verify": plain((*PLAIN_VERIFY, "verify"), "sim", jobs="verify.jobs"),
        "synth": plain((*NORMFORGE, "synth"), "synth", jobs="synth.jobs"),
        "evolve": plain((*NORMFORGE, "evolve"), "evolve", jobs="evolve.jobs"),
    }


def page(found: Mapping[str, Any]) -> str:
    """The table."""
    head = ("", "before: wall, s", "after: wall, s", "after: processor, s")
    rows = [head, ("---", "---:", "---:", "---:")]
    for name, way in found["waits"].items():
        before = f"{way['before']['wall']:.2f}" if "before" in way else ""
        rows.append((name, before, f"{way['after']['wall']:.2f}", f"{way['after']['cpu']:.2f}"))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        "# Where people wait\n\n"
        f"Written by `make bench-speed` on {found['machine']}.\n\n{table}\n\n"
        "*Before*: every command imports what any of them needs; Yosys' WebAssembly is compiled at every "
        "call; `verify` builds Verilator's runtime for every unit, one unit at a time; `synth` and `evolve` "
        "have one worker. *After*: as it is. The stages of a run are those of the embedded default, from an "
        "empty folder; single commands are medians of five calls.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/digits.toml"))
    parser.add_argument("--commands", action="store_true", help="only these again, not the stages of a run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        waits = commands(folder)
        if args.commands:
            waits = read_json(PATH)["waits"] | waits
        else:
            waits |= stages(folder, args.config.resolve())
            for stage, before in both_ways(folder, args.config.resolve()).items():
                waits[f"`normforge {stage}`, digits"]["before"] = before
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    write_json(PATH, {"machine": machine, "waits": waits})
    write_text(PATH.with_suffix(".md"), page(read_json(PATH)))


if __name__ == "__main__":
    main()
