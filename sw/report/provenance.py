"""What a run was made from: its code's commit, and by the stamps that stages leave which of its files match.

No stage is imported for it, so nobody needs torch to make a report.
"""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sw.config import RunConfig, digest
from sw.files import file_digest
from sw.run_dir import RunDir
from sw.stage import file_name, read_stamp
from sw.stages import LAST_ACCURACY_STAGE, STAGES

TRAINING_STAGES = tuple(STAGES)[: list(STAGES).index(LAST_ACCURACY_STAGE)]
"""What every accuracy depends on, but for that in integers alone."""


def commit() -> str | None:
    """That of the source tree; None where it is no checkout of its own, or without git."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    except FileNotFoundError:
        return None
    return found[1] if len(found) == 2 and Path(found[0]) == root else None


def is_current(run: RunDir, stage: str, path: Path) -> bool:
    """Whether a stage left a file of a run, from inputs that still are what they were then."""
    stamp = read_stamp(run, stage)
    made = stamp.get("outputs", {}).get(file_name(path, run))
    return made is not None and made == _digest(path) and _inputs_are_as_stamped(run, stamp)


OPTIONAL = ("export",)
"""Stages that need not have ended: what is not exported is not reported."""


def outdated(run: RunDir) -> list[str]:
    """The stages whose files a report of the run cannot use.

    They did not end, or they worked with another configuration, or on other files of the run than there are
    now. Files outside (images, weights) need not be there any more.
    """
    stamps = {name: read_stamp(run, name) for name in STAGES if name != "report"}
    return [name for name, stamp in stamps.items() if not _is_of(run, name, stamp)]


def _is_of(run: RunDir, stage: str, stamp: Mapping[str, Any]) -> bool:
    if not stamp:
        return stage in OPTIONAL
    return _is_configured(run.config, stamp) and _inputs_are_as_stamped(run, stamp, outside=False)


def _is_configured(config: RunConfig, stamp: Mapping[str, Any]) -> bool:
    """Whether a stage worked with what a configuration says; where files lay does not matter."""
    try:
        return bool(stamp.get("settings") == digest(config, "seed", *stamp.get("sections", ()), places=False))
    except KeyError:  # of another version, whose keys had other names
        return False


def is_like(seed: RunDir, run: RunDir) -> bool:
    """Whether a further seed's accuracies may be averaged with a run's.

    They may where every stage that they depend on ended, each from what the others left, with the
    configuration (as far as it counts for the stage), the code and the outside files (images, weights) of the
    run.
    """
    for name in TRAINING_STAGES:
        theirs, ours = read_stamp(seed, name), read_stamp(run, name)
        alike = all(theirs.get(key) == ours.get(key) for key in ("code", "sections"))
        if not theirs or not alike or _outside(theirs) != _outside(ours):
            return False
        expected = dataclasses.replace(run.config, seed=seed.config.seed)
        if not _is_configured(expected, theirs) or not _inputs_are_as_stamped(seed, theirs):
            return False
    return True


def _inputs_are_as_stamped(run: RunDir, stamp: Mapping[str, Any], *, outside: bool = True) -> bool:
    inputs = {name: digest for name, digest in stamp.get("inputs", {}).items() if outside or _is_inside(name)}
    return all(_digest(run.root / name) == digest for name, digest in inputs.items())


def _outside(stamp: Mapping[str, Any]) -> dict[str, str]:
    """Inputs that no stage made."""
    return {name: digest for name, digest in stamp.get("inputs", {}).items() if not _is_inside(name)}


def _is_inside(name: str) -> bool:
    return not Path(name).is_absolute()


def _digest(path: Path) -> str:
    return file_digest(path) if path.is_file() else "missing"
